//! The boots, and which figures each of them gives.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::figures::{Figures, field, median, number, numbers};
use super::machines::{Bench, BenchError, SMALL_DOM0};
use super::{Choice, machines, requests};
use crate::suite::InputSpec;

/// How often xl builds a VM of each size: its time varies with what Linux does besides.
const REPEATS: u32 = 5;
/// The kernels whose sizes are shown.
pub(super) const KERNELS: [&str; 4] = ["db-boot", "db-server", "control-domain", "first"];
/// VMs of the boot that counts from power-on, and their size in MiB.
const TEN: u32 = 10;
const TEN_MIB: u64 = 64;
/// VMs of the boot that looks at the n-th, and their size in MiB: the smallest that the guest runs in.
const MANY: u32 = 1000;
const MANY_MIB: u64 = 4;
/// The VMs that the n-th one is shown for.
pub(super) const NTHS: [usize; 3] = [10, 100, 1000];

type Result<T> = std::result::Result<T, BenchError>;

/// Runs all boots that were chosen.
pub(super) fn all(bench: &Bench, choice: &Choice, figures: &mut Figures) -> Result<()> {
    let firmware = floor(bench, choice, figures)?;
    sizes(bench, choice, figures)?;
    requests::sizes(bench, choice, figures)?;
    ten(bench, firmware, figures)?;
    if !choice.quick {
        linux(bench, figures)?;
        many(bench, figures)?;
    }
    if choice.has_xl() {
        xl_sizes(bench, choice, figures)?;
        xl_ten(bench, firmware, figures)?;
        if !choice.quick {
            xl_linux(bench, figures)?;
        }
    }
    for kernel in KERNELS {
        let size = bench.read(&format!("build/kernels/{kernel}"))?.len();
        figures.enter(format!("{kernel}.size"), size as u64);
    }
    Ok(())
}

/// The floor for every size. Gives back how long after power-on Xen's time begins: what the firmware takes.
fn floor(bench: &Bench, choice: &Choice, figures: &mut Figures) -> Result<u64> {
    /// For the kernel, its module, and the finished image of the largest guest.
    const DOM0_MIB: u64 = 64;
    let sizes: Vec<String> = choice.sizes().iter().map(u64::to_string).collect();
    let words = format!("exit-port=0xf4 memory={}", sizes.join(","));
    let kernels = bench.top.join("build/kernels");
    let (kernel, module) = (kernels.join("floor"), kernels.join("first"));
    let console = bench.kernel("floor", &kernel, &words, &module, DOM0_MIB, machine_mib(choice, DOM0_MIB))?;
    for line in console.lines().filter(|line| line.contains("BENCH name=floor ")) {
        if let (Some(memory), Some(took)) = (field(line, "memory"), number(line, "took")) {
            figures.enter(format!("build-{memory}.floor.time"), took);
        }
    }
    let start = console.lines().find(|line| line.contains("BENCH name=power-on "));
    let start = start.and_then(|line| number(line, "ticks")?.checked_sub(number(line, "at")?));
    let start = start.ok_or_else(|| bench.failed("floor", "does not say when Xen's time began".into()))?;
    figures.enter("firmware.time", start);
    Ok(start)
}

/// A machine with room for a VM of each size, and `dom0_mib` for Dom0.
pub(super) fn machine_mib(choice: &Choice, dom0_mib: u64) -> u64 {
    choice.sizes().iter().sum::<u64>() + dom0_mib + 512
}

/// A VM file for a guest of `mib` MiB that runs the measured kernel.
fn guest(bench: &Bench, name: &str, mib: u64, stay: u64) -> Result<PathBuf> {
    let text = format!(
        "name = \"{name}\"\nkernel = \"{}\"\nmemory = {mib}\nextra = \"stay={stay}\"\n",
        bench.top.join("build/kernels/first").display()
    );
    bench.write(&format!("{name}.cfg"), text.as_bytes())
}

/// What db-boot took for each VM, in the order in which they were built: building, and its share of planning them all.
fn built(bench: &Bench, name: &str, console: &str) -> Result<Vec<u64>> {
    let planned = console.lines().find(|line| line.contains("platform=planned "));
    let share =
        planned.and_then(|line| number(line, "took")?.checked_mul(1000)?.checked_div(number(line, "vms")?));
    let share = share.ok_or_else(|| bench.failed(name, "does not say what planning took".into()))?;
    let took = numbers(console, "event=built ", "took");
    Ok(took.into_iter().map(|micros| micros * 1000 + share).collect())
}

/// db-boot, a VM of each size.
fn sizes(bench: &Bench, choice: &Choice, figures: &mut Figures) -> Result<()> {
    let configs = choice.sizes().iter().map(|mib| guest(bench, &format!("m{mib}"), *mib, 0));
    let console = bench.db_boot("sizes", &configs.collect::<Result<Vec<_>>>()?, &[], &[])?;
    for (mib, took) in choice.sizes().iter().zip(built(bench, "sizes", &console)?) {
        figures.enter(format!("build-{mib}.db-boot.time"), took);
    }
    Ok(())
}

/// db-boot from power-on to ten VMs that run.
fn ten(bench: &Bench, firmware: u64, figures: &mut Figures) -> Result<()> {
    let configs = (1..=TEN).map(|number| guest(bench, &format!("t{number}"), TEN_MIB, 1000));
    let console = bench.db_boot("ten", &configs.collect::<Result<Vec<_>>>()?, &[], &[])?;
    starts(bench, "ten", "db-boot", &console, firmware, figures)?;
    let started = numbers(&console, "db-boot: info: xen=", "memory");
    figures.enter("dom0.db-boot.memory", started.first().copied().unwrap_or(0));
    Ok(())
}

/// When the guests began, from power-on: the first one, and the last of the ten.
fn starts(
    bench: &Bench,
    name: &str,
    system: &str,
    console: &str,
    firmware: u64,
    figures: &mut Figures,
) -> Result<()> {
    let mut times = numbers(console, "BENCH name=first ", "at");
    times.sort_unstable();
    let (Some(first), Some(last), true) = (times.first(), times.last(), times.len() == TEN as usize) else {
        return Err(
            bench.failed(name, format!("has {} guests that say when they began, not {TEN}", times.len()))
        );
    };
    figures.enter(format!("first-guest.{system}.time"), firmware + first);
    figures.enter(format!("tenth-guest.{system}.time"), firmware + last);
    Ok(())
}

/// db-boot builds Debian's Linux, unpacked by domb as usual, and as Debian packs it.
fn linux(bench: &Bench, figures: &mut Figures) -> Result<()> {
    let [kernel, ramdisk] =
        ["build/linux/debian12/vmlinuz", "build/linux/initramfs.cpio.gz"].map(|path| bench.top.join(path));
    let text = format!(
        "name = \"linux\"\nkernel = \"{}\"\nramdisk = \"{}\"\nmemory = 256\nextra = \"console=hvc0\"\n",
        kernel.display(),
        ramdisk.display()
    );
    let config = bench.write("linux.cfg", text.as_bytes())?;
    // What Linux does then is its own business.
    let end = InputSpec { after: "platform=started".into(), send: "\u{1d}poweroff\r".into() };
    for (name, more) in [("linux", &[][..]), ("linux-packed", &["--keep-packed"])] {
        let console = bench.db_boot(name, std::slice::from_ref(&config), more, std::slice::from_ref(&end))?;
        let took = built(bench, name, &console)?.first().copied().unwrap_or(0);
        figures.enter(format!("build-{name}.db-boot.time"), took);
    }
    Ok(())
}

/// db-boot builds a thousand VMs: what the n-th costs.
fn many(bench: &Bench, figures: &mut Figures) -> Result<()> {
    guest(bench, "many", MANY_MIB, 0)?;
    let text = format!("[[vm]]\nfile = \"many.cfg\"\ncount = {MANY}\n");
    let platform = bench.write("many.toml", text.as_bytes())?;
    let console = bench.db_boot("many", &[platform], &[], &[])?;
    let took = built(bench, "many", &console)?;
    for nth in NTHS {
        // The middle one of the ten up to it.
        let last_ten = took.get(nth - 10..nth).map(<[u64]>::to_vec).and_then(median);
        figures.enter(format!("nth-{nth}.db-boot.time"), last_ten.unwrap_or(0));
    }
    Ok(())
}

/// An xl configuration.
fn xl_config(name: &str, mib: u64, rest: &str) -> String {
    format!("name=\"{name}\"\ntype=\"pv\"\nmemory={mib}\n{rest}\n")
}

/// xl, VMs of each size.
fn xl_sizes(bench: &Bench, choice: &Choice, figures: &mut Figures) -> Result<()> {
    /// Enough for xl to work on the largest guest without a shortage.
    const DOM0_MIB: u64 = 512;
    let mut job = String::new();
    let mut configs = Vec::new();
    for mib in choice.sizes() {
        configs.push((format!("{mib}.cfg"), xl_config("guest", *mib, "kernel=\"/job/first\"")));
        // Between two VMs Xen clears the memory of the one before: a second in which nothing else happens is enough.
        let _ = writeln!(
            job,
            "i=0; while [ $i -lt {REPEATS} ]; do i=$((i + 1))\n\
             meter create-{mib} xl create -q -p /job/{mib}.cfg || fail create\n\
             xl destroy guest || fail destroy\nsleep {}\ndone",
            1 + mib / 1024
        );
    }
    let first = bench.read("build/kernels/first")?;
    let mut files: Vec<(&str, &[u8])> =
        configs.iter().map(|(name, text)| (name.as_str(), text.as_bytes())).collect();
    files.push(("first", &first));
    let console = bench.linux("xl-sizes", &job, &files, DOM0_MIB, machine_mib(choice, DOM0_MIB))?;
    for mib in choice.sizes() {
        let took = median(numbers(&console, &format!("name=create-{mib} "), "took"));
        figures.enter(format!("build-{mib}.xl.time"), took.unwrap_or(0));
    }
    Ok(())
}

/// xl from power-on to ten VMs that run.
fn xl_ten(bench: &Bench, firmware: u64, figures: &mut Figures) -> Result<()> {
    let mut job = String::new();
    let configs: Vec<_> = (1..=TEN)
        .map(|number| {
            let _ = writeln!(job, "xl create -q /job/t{number}.cfg || fail create");
            let rest = "kernel=\"/job/first\"\nextra=\"stay=30000\"";
            (format!("t{number}.cfg"), xl_config(&format!("t{number}"), TEN_MIB, rest))
        })
        .collect();
    job += "sleep 1\ncat /var/log/xen/console/guest-*.log\n";
    let first = bench.read("build/kernels/first")?;
    let mut files: Vec<(&str, &[u8])> =
        configs.iter().map(|(name, text)| (name.as_str(), text.as_bytes())).collect();
    files.push(("first", &first));
    let memory = SMALL_DOM0 + u64::from(TEN) * TEN_MIB + 512;
    let console = bench.linux("xl-ten", &job, &files, machines::SMALL_DOM0, memory)?;
    let ready = numbers(&console, "name=ready ", "start").first().copied().unwrap_or(0);
    figures.enter("toolstack.xl.time", ready);
    starts(bench, "xl-ten", "xl", &console, firmware, figures)?;
    figures.enter("dom0.xl.memory", SMALL_DOM0 << 10);
    let (kernel, files) = (bench.read("build/dom0/vmlinuz")?, bench.read("build/dom0/initramfs.cpio.gz")?);
    figures.enter("xl.size", (kernel.len() + files.len()) as u64);
    Ok(())
}

/// xl builds Debian's Linux.
fn xl_linux(bench: &Bench, figures: &mut Figures) -> Result<()> {
    const DOM0_MIB: u64 = 512;
    let config =
        xl_config("linux", 256, "kernel=\"/job/vmlinuz\"\nramdisk=\"/job/initrd\"\nextra=\"console=hvc0\"");
    let (kernel, ramdisk) =
        (bench.read("build/linux/debian12/vmlinuz")?, bench.read("build/linux/initramfs.cpio.gz")?);
    let files: [(&str, &[u8]); 3] =
        [("linux.cfg", config.as_bytes()), ("vmlinuz", &kernel), ("initrd", &ramdisk)];
    // The first time the programs themselves come from the RAM disk: the second counts.
    let job = "for i in 1 2; do\nmeter create-linux xl create -q -p /job/linux.cfg || fail create\n\
               xl destroy linux || fail destroy\nsleep 1\ndone\n";
    let console = bench.linux("xl-linux", job, &files, DOM0_MIB, DOM0_MIB + 1024)?;
    let took = numbers(&console, "name=create-linux ", "took").last().copied();
    figures.enter("build-linux.xl.time", took.unwrap_or(0));
    Ok(())
}
