//! `make soak`: thousands of VMs, one after the other, in one boot of Xen. Whatever a build, a life or a destruction costs that is not
//! given back adds up until it shows: free memory, domains, the builder's ports and heap have to be the same after the last
//! tenth of the VMs as after the second, and so has the time of a build. The first tenth is another matter: its VMs get memory that nobody
//! has used, which Xen need not clear.
//!
//! QEMU's time is the number of instructions that were executed, so that a busy host does not matter.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::bench::{ICOUNT, number};
use crate::console::Console;
use crate::machine::{Xen, command_text, fetch, folder_of_tools};
use crate::process::{self, End};
use crate::verdict::Verdict;

/// Into so many parts the VMs are divided, each of which has a line of the table.
const PARTS: u32 = 10;

/// One PVH VM for so many PV ones.
const PVH_SHARE: u32 = 10;

/// KiB that Xen may free a moment later than it says that a domain is gone.
const LATE: u64 = 16;

/// How much more the last part may cost than the second, in thousandths: caches and Xen's own lists are not the same twice.
const SLACK: u64 = 20;

/// Wall-clock limit for each VM, beside that of a boot.
const LIMIT: Duration = Duration::from_secs(1);
const LIMIT_OF_BOOT: Duration = Duration::from_secs(300);

/// What is done.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    /// On which Xen.
    pub(crate) xen: Xen,
    /// How many PV VMs; PVH ones are fewer.
    pub(crate) vms: u32,
}

/// One line of the table: what was in use when so many VMs had been started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    vms: u64,
    /// Xen's free memory in KiB.
    free: u64,
    domains: u64,
    ports: u64,
    /// Bytes that the builder could still allocate.
    spare: u64,
    /// Time of a build in this part, and of everything from one VM to the next, in microseconds.
    build: u64,
    all: u64,
}

/// Builds and destroys, and shows what came out.
pub(crate) fn run(top: &Path, choice: &Choice) -> Result<u8, Box<dyn Error>> {
    let vms = choice.vms.max(PARTS * PVH_SHARE).next_multiple_of(PARTS * PVH_SHARE);
    let xen = choice.xen.file(top)?;
    fetch(top, ["db-boot", "first"], [xen.clone()])?;
    let folder = top.join("build/soak");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("poweroff"), sample_kernel::pvh_poweroff())?;
    let first = top.join("build/kernels/first");
    let mut worst = Verdict::Success;
    for (kind, kernel, vms) in [("pv", first, vms), ("pvh", folder.join("poweroff"), vms / PVH_SHARE)] {
        let config = folder.join(format!("{kind}.cfg"));
        fs::write(&config, vm_file(kind, &kernel, vms))?;
        let log = top.join(format!("build/logs/soak-{kind}-{}.log", choice.xen.label));
        let console = boot(top, &xen, &config, &log, vms)?;
        let verdict = conclude(kind, vms, &console);
        say!("{verdict}: soak: {vms} {kind} VMs on Xen {}; log: {}", choice.xen.label, log.display());
        worst = worst.max(verdict);
    }
    Ok(worst.exit_status())
}

/// A VM that powers off at once, and is built again until there were `vms`.
fn vm_file(kind: &str, kernel: &Path, vms: u32) -> String {
    format!(
        "name = \"{kind}\"\ntype = \"{kind}\"\nkernel = \"{}\"\nmemory = 8\non_poweroff = \"restart\"\nrestart_limit = {}\nrestart_delay = 0\n",
        kernel.display(),
        vms.saturating_sub(1)
    )
}

/// The console of the machine that does it.
fn boot(top: &Path, xen: &Path, config: &PathBuf, log: &Path, vms: u32) -> Result<String, Box<dyn Error>> {
    let limit = LIMIT_OF_BOOT + LIMIT * vms;
    let mut command = Command::new(folder_of_tools().join("domb"));
    command.current_dir(top).arg("run").arg("--xen").arg(xen);
    command.args(["--db-boot", "build/kernels/db-boot", "--timeout", &limit.as_secs().to_string()]);
    command.arg("--dom0-args").arg(format!("usage={}", vms / PARTS));
    command.args(ICOUNT.map(|argument| format!("--qemu-arg={argument}"))).arg(config);
    say!("soak: {}", command_text(top, &command));
    let captured = process::capture(&mut command, log, false, limit, &[])?;
    match captured.end {
        End::Late => {
            Err(format!("the machine was still running at the time limit; see {}", log.display()).into())
        }
        // How it ended is on the console.
        _ => Ok(captured.output),
    }
}

/// Shows the table, and what is wrong with it.
fn conclude(kind: &str, vms: u32, text: &str) -> Verdict {
    let parts = parts(text);
    say!("\n{kind:>8}   free KiB  domains  ports  heap left  us/build  us/VM");
    for part in &parts {
        say!(
            "{:8} {:10} {:8} {:6} {:10} {:9} {:6}",
            part.vms,
            part.free,
            part.domains,
            part.ports,
            part.spare,
            part.build,
            part.all
        );
    }
    let complaints = complaints(kind, vms, text, &parts);
    for complaint in &complaints {
        say!("soak: {complaint}");
    }
    if complaints.is_empty() { Verdict::Success } else { Verdict::Failure }
}

/// What a console says about each part.
fn parts(text: &str) -> Vec<Part> {
    let (mut parts, mut builds, mut begin) = (Vec::<Part>::new(), Vec::new(), 0);
    for line in Console::new(text).of_builder_with_times() {
        if line.text.contains("event=built ") {
            builds.extend(number(line.text, "took"));
        } else if line.text.contains("platform=planned") {
            begin = line.micros;
        } else if line.text.contains("event=usage ") {
            let figure = |key| number(line.text, key).unwrap_or(0);
            let vms = figure("vms");
            let before = parts.last().map_or(0, |part| part.vms);
            // The first line is from before the first VM, the last one from behind the last.
            let Some(count) = vms.checked_sub(before).filter(|count| *count > 0) else { continue };
            parts.push(Part {
                vms,
                free: figure("free"),
                domains: figure("domains"),
                ports: figure("ports"),
                spare: figure("spare"),
                build: builds.iter().sum::<u64>() / builds.len().max(1) as u64,
                all: line.micros.saturating_sub(begin) / count,
            });
            begin = line.micros;
            builds.clear();
        }
    }
    parts
}

/// What is not as it has to be.
fn complaints(kind: &str, vms: u32, text: &str, parts: &[Part]) -> Vec<String> {
    let mut complaints = Vec::new();
    let console = Console::new(text);
    let builder = console.of_builder();
    let built = builder.iter().filter(|line| line.contains("event=built ")).count();
    let destroyed = builder.iter().filter(|line| line.contains("event=destroyed")).count();
    if built != vms as usize || destroyed != built {
        complaints.push(format!("{built} VMs were built and {destroyed} destroyed, not {vms}"));
    }
    // That VMs end is what their kernel is for: the limit is the one thing that goes wrong, once.
    let expected = format!("vm={kind} event=given-up");
    let errors = builder.iter().filter(|line| line.contains(" error: ") && !line.contains(&expected));
    complaints.extend(errors.map(|line| format!("the builder says: {line}")));
    if console.free_memory().is_none_or(|(before, after)| before != after) {
        complaints.push(format!("Xen's free memory, before and after: {:?} KiB", console.free_memory()));
    }
    let [_, second, .., last] = parts else {
        complaints.push("the builder does not say what is in use".into());
        return complaints;
    };
    for (what, before, after, most) in [
        ("KiB of free memory", second.free, last.free, LATE),
        ("domains", second.domains, last.domains, 0),
        ("ports", second.ports, last.ports, 0),
        ("bytes of the builder's heap left", second.spare, last.spare, 0),
    ] {
        if before.abs_diff(after) > most {
            complaints.push(format!("{before} {what} after the second tenth, {after} after the last"));
        }
    }
    for (what, before, after) in [("a build", second.build, last.build), ("a VM", second.all, last.all)] {
        if after > before + before * SLACK / 1000 {
            complaints.push(format!("{what} takes {before} us in the second tenth, {after} us in the last"));
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The console of a soak of 20 VMs, in which `change` has the last word on each line.
    fn console(change: impl Fn(u32, &str) -> String) -> String {
        let line = |micros: u32, text: &str| format!("[{:5}.{micros:06}] db-boot: info: {text}\n", 1);
        let mut text = line(0, "event=usage vms=0 free=900KiB domains=1 ports=0 spare=5000B");
        text += &line(0, "platform=planned vms=1 failed=0 took=1us");
        for vm in 1..=20 {
            text += &line(vm * 100, &change(vm, &format!("vm=pv domid={vm} event=built took=50us")));
            if vm % 2 == 0 {
                let usage = format!("event=usage vms={vm} free=800KiB domains=2 ports=2 spare=4000B");
                text += &line(vm * 100, &change(vm, &usage));
            }
            text += &line(vm * 100, &format!("vm=pv domid={vm} event=destroyed"));
        }
        text + &line(9000, "event=memory free-before=900KiB free-after=900KiB released=0KiB")
            + &line(9000, "event=usage vms=20 free=900KiB domains=1 ports=0 spare=5000B")
    }

    #[test]
    fn what_is_flat_is_no_complaint() {
        let text = console(|_, line| line.to_owned());
        let parts = parts(&text);
        assert_eq!(parts.len(), 10);
        assert_eq!(
            parts[9],
            Part { vms: 20, free: 800, domains: 2, ports: 2, spare: 4000, build: 50, all: 100 }
        );
        assert_eq!(complaints("pv", 20, &text, &parts), Vec::<String>::new());
    }

    #[test]
    fn each_leak_is_a_complaint() {
        for (from, to, expected) in [
            ("free=800", "free=780", "800 KiB of free memory after the second tenth, 780"),
            ("domains=2", "domains=3", "2 domains"),
            ("ports=2", "ports=3", "2 ports"),
            ("spare=4000", "spare=3999", "4000 bytes"),
            ("took=50us", "took=52us", "a build takes 50 us in the second tenth, 52 us"),
        ] {
            let text = console(|vm, line| if vm > 18 { line.replace(from, to) } else { line.to_owned() });
            let found = complaints("pv", 20, &text, &parts(&text)).join("\n");
            assert!(found.contains(expected), "{from}: {found}");
        }
        let text = console(|_, line| line.to_owned());
        assert!(complaints("pv", 21, &text, &parts(&text))[0].contains("20 VMs were built"));
        let lost = text.replace("free-after=900KiB", "free-after=896KiB");
        assert!(complaints("pv", 20, &lost, &parts(&lost))[0].contains("before and after"));
        let said =
            text.replace("info: vm=pv domid=7 event=destroyed", "error: vm=pv domid=7 event=destroyed");
        assert!(complaints("pv", 20, &said, &parts(&said))[0].contains("the builder says"));
        assert!(complaints("pv", 20, "", &[])[0].contains("0 VMs were built"));
    }

    /// What is in use after `vm` of 10,000 lives.
    #[derive(Clone, Copy)]
    struct Use {
        free: u32,
        domains: u32,
        ports: u32,
        spare: u32,
        build: u32,
    }

    /// What is in use while nothing is lost.
    const FLAT: Use = Use { free: 800_000, domains: 2, ports: 2, spare: 40_000_000, build: 1000 };

    /// What the judge finds in the console of a soak of 10,000 lives, of which each changes what is in use.
    fn after_lives(leak: impl Fn(u32, Use) -> Use) -> Vec<String> {
        const VMS: u32 = 10_000;
        let (mut micros, mut text) = (0, String::new());
        let line = |micros: u32, words: &str| {
            format!("[{:5}.{:06}] db-boot: info: {words}\n", micros / 1_000_000, micros % 1_000_000)
        };
        text += &line(micros, "platform=planned vms=1 failed=0 took=1us");
        for vm in 1..=VMS {
            let Use { free, domains, ports, spare, build } = leak(vm, FLAT);
            micros += 2 * build;
            text += &line(micros, &format!("vm=pv domid={vm} event=built took={build}us"));
            text += &line(micros, &format!("vm=pv domid={vm} event=destroyed"));
            if vm % (VMS / PARTS) == 0 {
                let figures = format!("free={free}KiB domains={domains} ports={ports} spare={spare}B");
                text += &line(micros, &format!("event=usage vms={vm} {figures}"));
            }
        }
        let lost = FLAT.free - leak(VMS, FLAT).free;
        let after = 900_000 - lost;
        text +=
            &line(micros, &format!("event=memory free-before=900000KiB free-after={after}KiB released=0KiB"));
        complaints("pv", VMS, &text, &parts(&text))
    }

    #[test]
    fn a_leak_of_every_life_is_found() {
        type Leak = fn(u32, Use) -> Use;
        let leaks: [(&str, Leak); 5] = [
            ("KiB of free memory", |vm, flat| Use { free: flat.free - 4 * vm, ..flat }),
            ("domains", |vm, flat| Use { domains: flat.domains + vm, ..flat }),
            ("ports", |vm, flat| Use { ports: flat.ports + vm, ..flat }),
            ("bytes of the builder's heap", |vm, flat| Use { spare: flat.spare - 2 * vm, ..flat }),
            ("a build takes", |vm, flat| Use { build: flat.build + vm / 100, ..flat }),
        ];
        assert_eq!(after_lives(|_, flat| flat), Vec::<String>::new());
        for (what, leak) in leaks {
            let found = after_lives(leak);
            assert!(found.iter().any(|complaint| complaint.contains(what)), "{what}: {found:?}");
        }
    }

    #[test]
    fn a_leak_of_few_lives_is_found() {
        // One thing in a thousand lives; one page in all, which only the comparison at the end can tell from a late one.
        let every = |vm: u32| vm / 1000;
        assert!(!after_lives(|vm, flat| Use { free: flat.free - 4 * every(vm), ..flat }).is_empty());
        assert!(!after_lives(|vm, flat| Use { ports: flat.ports + every(vm), ..flat }).is_empty());
        assert!(!after_lives(|vm, flat| Use { spare: flat.spare - every(vm), ..flat }).is_empty());
        assert!(
            !after_lives(|vm, flat| Use { free: flat.free - 4 * u32::from(vm >= 9000), ..flat }).is_empty()
        );
    }
}
