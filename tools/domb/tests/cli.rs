//! domb as its users meet it: arguments in; messages, files and exit codes out.
#![allow(missing_docs, reason = "a test's name says what it checks")]
#![allow(clippy::unwrap_used, reason = "a helper of a test may stop it at the first surprise")]

mod support;

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::{Workshop, entries, stderr, stdout};

#[test]
fn a_good_file_is_fine() {
    let shop = Workshop::new();
    shop.vm("web", "");
    let output = shop.domb(&["check", "web.cfg"]);
    assert_eq!(stdout(&output), "web: fine (PV, 1 vCPU, 16 MiB, kernel: ELF)\n", "{}", stderr(&output));
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stderr(&output), "");
    let plan = stdout(&shop.domb(&["check", "--plan", "web.cfg"]));
    assert!(plan.contains("page tables"), "{plan}");
}

#[test]
fn the_mistakes_of_all_files_are_shown_and_counted() {
    let shop = Workshop::new();
    shop.vm("web", "memroy = 1\n");
    shop.vm("db", "vcpus = 0\n");
    let output = shop.domb(&["check", "web.cfg", "db.cfg", "absent.cfg"]);
    let expected = "\
domb: error: web.cfg:4:1: unknown key \"memroy\"
  |
4 | memroy = 1
  | ^^^^^^
  = help: did you mean \"memory\"?
domb: error: db.cfg:4:9: \"vcpus\" is 0, must be 1 to 512
  |
4 | vcpus = 0
  |         ^
domb: error: cannot read absent.cfg: No such file or directory (os error 2)
domb: error: 3 errors
";
    assert_eq!(stderr(&output), expected);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), ""));
}

#[test]
fn a_kernel_that_cannot_start_is_found_before_anything_runs() {
    let shop = Workshop::new();
    shop.write("kernel", b"#!/bin/sh\n");
    shop.vm("web", "");
    shop.qemu("touch started");
    let run = ["run", "web.cfg"];
    let pack = ["pack", "web.cfg", "-o", "disk.img"];
    for arguments in [&["check", "web.cfg"][..], &run, &pack] {
        let output = shop.domb(arguments);
        assert_eq!(output.status.code(), Some(1));
        let message = stderr(&output);
        assert!(message.starts_with("domb: error: web.cfg:2:10: VM \"web\": kernel kernel: "), "{message}");
    }
    assert!(!shop.path("started").exists() && !shop.path("disk.img").exists());
    assert_eq!(shop.domb(&["run", "web.cfg", "--no-check"]).status.code(), Some(4));
    assert!(shop.path("started").exists());
}

#[test]
fn too_little_memory_is_shown_at_the_line_to_change() {
    let shop = Workshop::new();
    shop.write("kernel", &support::kernel(&vec![1; 2 << 20]));
    shop.write("web.cfg", b"name = 'web'\nkernel = 'kernel'\nmemory = 2\n");
    let message = stderr(&shop.domb(&["check", "web.cfg"]));
    assert!(message.starts_with("domb: error: web.cfg:3:10: VM \"web\": "), "{message}");
    assert!(message.contains("`memory = "), "{message}");
}

#[test]
fn warnings_do_not_fail() {
    let shop = Workshop::new();
    shop.vm("web", "cmdline = 'a'\nroot = 'b'\n");
    let output = shop.domb(&["check", "web.cfg"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stderr(&output).starts_with("domb: warning: web.cfg:5:8: this has no effect\n"));
}

#[test]
fn wrong_usage_is_status_1_and_help_is_0() {
    let shop = Workshop::new();
    for arguments in
        [&[][..], &["frobnicate"], &["check"], &["pack", "a.cfg"], &["run", "--timeout", "x", "a"]]
    {
        assert_eq!(shop.domb(arguments).status.code(), Some(1), "{arguments:?}");
    }
    for arguments in [&["--help"][..], &["run", "--help"], &["pack", "--help"], &["--version"]] {
        let output = shop.domb(arguments);
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""), "{arguments:?}");
    }
    assert!(stdout(&shop.domb(&["--help"])).contains("domb run hello.cfg"));
}

#[test]
fn a_compiled_spec_can_be_inspected() {
    let shop = Workshop::new();
    shop.vm("web", "domid = 7\n");
    assert_eq!(shop.domb(&["compile", "web.cfg"]).status.code(), Some(0));
    assert_eq!(shop.domb(&["compile", "web.cfg", "-o", "other"]).status.code(), Some(0));
    assert_eq!(shop.read("web.spec"), shop.read("other"));
    let shown = stdout(&shop.domb(&["inspect", "web.spec"]));
    assert!(shown.starts_with("web.spec: boot spec, "), "{shown}");
    assert!(shown.contains("domid         7\n"), "{shown}");
}

#[test]
fn a_full_disk_is_an_error_and_leaves_nothing() {
    let shop = Workshop::new();
    shop.vm("web", "");
    symlink("/dev/full", shop.path("full")).unwrap();
    for arguments in [&["compile", "web.cfg", "-o", "full"][..], &["pack", "web.cfg", "-o", "full"]] {
        let output = shop.domb(arguments);
        assert_eq!(output.status.code(), Some(1));
        assert!(
            stderr(&output).starts_with("domb: error: cannot write full: No space left"),
            "{}",
            stderr(&output)
        );
    }
    let before = entries(&shop.path("")).len();
    let output = shop.domb(&["pack", "web.cfg", "-o", "absent/disk.img"]);
    assert!(
        stderr(&output).starts_with(
            "domb: error: cannot write absent/disk.img: there is no folder absent: make it first"
        ),
        "{}",
        stderr(&output)
    );
    assert_eq!(entries(&shop.path("")).len(), before);
}

#[test]
fn controllers_are_served_by_db_server_and_by_nothing_else() {
    let shop = Workshop::new();
    shop.vm("web", "domid = 1\n");
    shop.write("p.toml", b"[[controller]]\nvm = 'web'\nmemory = 64\nvms = 2\n[[vm]]\nfile = 'web.cfg'\n");
    shop.write("plain.toml", b"[[vm]]\nfile = 'web.cfg'\n");
    for (arguments, expected) in [
        (
            ["pack", "p.toml", "-o", "disk.img", "--db-boot", "kernel"],
            "db-boot serves nobody; give --db-server",
        ),
        (["pack", "plain.toml", "-o", "disk.img", "--db-server", "kernel"], "nobody would be served"),
        (["pack", "p.toml", "-o", "disk.img", "--db-server", "absent"], "absent"),
    ] {
        let output = shop.domb(&arguments);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
    let output = shop.domb(&["pack", "p.toml", "-o", "disk.img", "--db-server", "kernel"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let output = shop.domb(&["inspect", "--json", "disk.img"]);
    assert!(stdout(&output).contains("\"first_domid\": null"), "{}", stdout(&output));
}

#[test]
fn equal_inputs_give_equal_disks_wherever_and_whenever_they_are_packed() {
    let pack = |umask: &str, date: &str| {
        let shop = Workshop::new();
        shop.vm("web", "ramdisk = 'ram'\n");
        shop.vm("db", "extra = 'x'\n");
        shop.write("ram", &[7; 3000]);
        let script = format!("umask {umask}; touch -d {date} kernel ram *.cfg; exec \"$0\" \"$@\"");
        let domb = shop.command(&[]);
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &script]).arg(domb.get_program());
        command.args(["pack", "web.cfg", "db.cfg", "-o", "disk.img", "--archive-only", "ram.cpio"]);
        command
            .current_dir(shop.path(""))
            .envs(domb.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        (shop.read("disk.img"), shop.read("ram.cpio"))
    };
    let (first, second) = (pack("022", "2001-01-01"), pack("077", "2031-12-31"));
    assert!(first.0 == second.0, "the disks differ");
    assert!(first.1 == second.1, "the archives differ");
}

#[test]
fn a_disk_has_everything_in_its_place() {
    let shop = Workshop::new();
    shop.vm("web", "ramdisk = 'ram'\n");
    shop.write("ram", &vec![7; 5 << 20]);
    let pack =
        ["pack", "web.cfg", "-o", "disk.img", "--archive-only", "ram.cpio", "--xen-args", "loglvl=all"];
    let output = shop.domb(&pack);
    assert!(output.status.success(), "{}", stderr(&output));
    let disk = shop.read("disk.img");

    assert_eq!(disk[510..512], [0x55, 0xaa]);
    assert_eq!(disk[0x1c2], 0xee, "the protective partition");
    assert_eq!(&disk[512..520], b"EFI PART");
    assert_eq!(&disk[disk.len() - 512..][..8], b"EFI PART");
    let core = usize::try_from(u64::from_le_bytes(disk[0x5c..0x64].try_into().unwrap())).unwrap();
    let extent = &disk[core * 512..][500..512];
    assert_eq!(u64::from_le_bytes(extent[..8].try_into().unwrap()), u64::try_from(core).unwrap() + 1);
    assert_eq!(extent[8..], [3, 0, 0x20, 8]);

    let contents = image::disk::read(&disk).unwrap();
    assert_eq!(contents.archive, shop.read("ram.cpio"));
    let partition = &contents.partitions[0];
    assert_eq!(partition.bytes.start, core * 512, "the core is where the partition for it is");
    let names: Vec<_> = contents.files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["EFI/BOOT/BOOTX64.EFI", "boot/db-boot", "boot/grub/grub.cfg", "boot/ramdisk.cpio", "boot/xen"]
    );
    assert!(contents.menu.contains("'dom0_mem=18M,max:18M' 'loglvl=all'\n"), "{}", contents.menu);
    assert!(contents.menu.contains("/boot/db-boot 'exit-port=0xf4'\n"), "{}", contents.menu);

    let shown = stdout(&shop.domb(&["inspect", "disk.img"]));
    for line in
        ["  partition BIOS boot  ", "  /boot/xen (", "    vms/web.spec ", "      VM web: PV, 1 vCPU, 16 MiB"]
    {
        assert!(shown.lines().any(|shown| shown.starts_with(line)), "{line}\n{shown}");
    }
}

#[test]
fn a_disk_image_without_its_end_says_so() {
    let shop = Workshop::new();
    shop.vm("web", "");
    shop.domb(&["pack", "web.cfg", "-o", "disk.img"]);
    let disk = shop.read("disk.img");
    let size = disk.len();
    for length in [1 << 20, size - 1] {
        shop.write("cut.img", &disk[..length]);
        for command in ["inspect", "run"] {
            let output = shop.domb(&[command, "cut.img"]);
            let expected = format!(
                "domb: error: cut.img: the disk image ends after {length} of its {size} bytes: it was cut off; copy it again\n"
            );
            assert_eq!(stderr(&output), expected);
            assert_eq!(output.status.code(), Some(1));
        }
    }
}

#[test]
fn a_disk_for_real_machines_has_no_exit_port() {
    let shop = Workshop::new();
    shop.vm("web", "");
    shop.domb(&["pack", "web.cfg", "-o", "disk.img", "--no-exit-port"]);
    let contents = image::disk::read(&shop.read("disk.img")).unwrap();
    assert!(!contents.menu.contains("exit-port"), "{}", contents.menu);
}

#[test]
fn the_exit_status_says_how_the_machine_ended() {
    let shop = Workshop::new();
    shop.vm("web", "");
    for (qemu, domb, words) in [
        (33, 0, "domb: every VM ended well\n"),
        (35, 2, "domb: error: a VM ended badly"),
        (37, 3, "domb: error: a VM could not be built"),
        (39, 4, "domb: error: db-boot itself failed"),
        (0, 4, "domb: error: QEMU ended (exit status: 0) without a status of db-boot"),
        (1, 4, "domb: error: QEMU ended (exit status: 1) without a status of db-boot"),
    ] {
        shop.qemu(&format!("echo the console; exit {qemu}"));
        let output = shop.domb(&["run", "web.cfg", "--log", "log"]);
        assert_eq!(output.status.code(), Some(domb), "{}", stderr(&output));
        assert!(stderr(&output).starts_with(words), "{}", stderr(&output));
        assert_eq!(
            (stdout(&output).as_str(), shop.read("log").as_slice()),
            ("the console\n", &b"the console\n"[..])
        );
    }
    assert_eq!(shop.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_machine_that_runs_too_long_is_stopped() {
    let shop = Workshop::new();
    shop.vm("web", "");
    shop.qemu("echo started; exec sleep 60");
    let start = Instant::now();
    let output = shop.domb(&["run", "web.cfg", "--timeout", "1"]);
    assert_eq!(output.status.code(), Some(5));
    assert_eq!(stdout(&output), "started\n");
    assert!(start.elapsed() < Duration::from_secs(30));
    assert_eq!(shop.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn an_interrupt_ends_the_machine_and_removes_its_files() {
    let shop = Workshop::new();
    shop.vm("web", "");
    shop.qemu("echo $$ > pid; exec sleep 60");
    let mut domb =
        shop.command(&["run", "web.cfg"]).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    let pid = loop {
        match fs::read_to_string(shop.path("pid")) {
            Ok(pid) if pid.ends_with('\n') => break pid.trim().to_owned(),
            _ => std::thread::sleep(Duration::from_millis(10)),
        }
        assert!(start.elapsed() < Duration::from_secs(30), "QEMU was not started");
    };
    // The shell's own `kill`: the program of that name is not on every machine.
    let kill = |signal: &str, pid: &str| {
        let command = format!("kill -{signal} {pid}");
        Command::new("sh").args(["-c", &command]).stderr(Stdio::null()).status().unwrap()
    };
    assert!(kill("INT", &domb.id().to_string()).success());
    assert_eq!(domb.wait().unwrap().code(), Some(130));
    assert!(!kill("0", &pid).success(), "QEMU is still running");
    assert_eq!(shop.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_wrong_command_line_is_told_as_any_other_mistake() {
    let shop = Workshop::new();
    let output = shop.domb(&["check", "--frob", "web.cfg"]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), ""));
    assert!(stderr(&output).starts_with("domb: error: unexpected argument '--frob'"), "{}", stderr(&output));
}

#[test]
fn a_result_that_cannot_be_written_is_an_error() {
    let shop = Workshop::new();
    shop.vm("web", "");
    for arguments in [&["check", "web.cfg"][..], &["report", "web.cfg"], &["completions", "bash"], &["man"]] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = shop.command(arguments).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains("cannot write the result to standard output: No space left"), "{error}");
    }
}

#[test]
fn a_console_that_cannot_be_written_is_told_and_the_machine_goes_on() {
    let shop = Workshop::new();
    shop.vm("web", "");
    shop.qemu("echo one; echo two; exit 33");
    let output = shop.domb(&["run", "web.cfg", "--log", "/dev/full"]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), "one\ntwo\n"));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(error.matches("cannot write the console to /dev/full: No space left").count(), 1, "{error}");
}

#[test]
fn an_interrupt_of_what_is_no_machine_is_told_as_one() {
    let shop = Workshop::new();
    fs::write(shop.path("large"), vec![1; 4 << 20]).unwrap();
    shop.vm("web", "ramdisk = \"large\"\n");
    let pipe = shop.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut domb = shop.command(&["pack", "web.cfg", "--archive-only", "pipe"]);
    let mut domb = domb.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    // A pipe holds less than what is to come: domb waits with the first megabyte.
    let mut reader = File::open(&pipe).unwrap();
    reader.read_exact(&mut [0]).unwrap();
    let kill = format!("kill -INT {}", domb.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    std::thread::sleep(Duration::from_millis(200));
    let (mut error, mut rest) = (String::new(), Vec::new());
    reader.read_to_end(&mut rest).unwrap();
    domb.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    assert_eq!(domb.wait().unwrap().code(), Some(130), "{error}");
    assert_eq!(error, "domb: error: interrupted\n");
    assert!(rest.len() < 4 << 20, "all was written");
}

#[test]
fn the_command_can_be_shown_and_its_files_kept() {
    let shop = Workshop::new();
    shop.vm("web", "");
    shop.qemu("touch started");
    let run = ["run", "web.cfg", "--print-command", "--keep", "kept", "--dom0-args", "policy=each"];
    let output = shop.domb(&run);
    let command = stdout(&output);
    let folder = shop.path("kept").canonicalize().unwrap();
    assert!(command.starts_with("qemu-system-x86_64 -accel tcg "), "{command}");
    let modules =
        format!("-initrd '{0}/db-boot exit-port=0xf4 policy=each,{0}/ramdisk.cpio'", folder.display());
    assert!(command.contains(&modules), "{command}");
    assert!(!shop.path("started").exists());
    assert_eq!(entries(&folder).len(), 3);
}

#[test]
fn a_disk_image_runs_with_the_memory_that_it_needs() {
    let shop = Workshop::new();
    shop.write("big.cfg", b"name = 'big'\nkernel = 'kernel'\nmemory = 1000\n");
    shop.domb(&["pack", "big.cfg", "-o", "disk.img"]);
    shop.qemu("echo \"$*\"; exit 33");
    let shown = stdout(&shop.domb(&["run", "disk.img"]));
    assert!(shown.contains("-m 1152M") && shown.contains("format=raw,readonly=on,file=disk.img"), "{shown}");
    let output = shop.domb(&["run", "disk.img", "big.cfg"]);
    assert!(stderr(&output).contains("a disk image is run alone"), "{}", stderr(&output));
}

#[test]
fn a_plain_machine_ends_by_switching_itself_off() {
    let shop = Workshop::new();
    shop.vm("web", "");
    shop.qemu("echo \"$*\"; exit 0");
    let output = shop.domb(&["run", "web.cfg", "--no-exit-port"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("switched itself off"), "{}", stderr(&output));
    assert!(!stdout(&output).contains("exit"), "{}", stdout(&output));
    assert_eq!(shop.domb(&["run", "web.cfg"]).status.code(), Some(4), "with the device, 0 is no status");
}

#[test]
fn a_missing_part_names_the_target_that_makes_it() {
    let shop = Workshop::new();
    shop.vm("web", "");
    // The checkout that the test runs in may have been built; then the file is there and the VM runs.
    let output = shop.command(&["run", "web.cfg"]).env_remove("DOMB_XEN").output().unwrap();
    let message = stderr(&output);
    assert!(
        output.status.success() || message.contains("`make build/xen/4.17/xen.gz` makes it"),
        "{message}"
    );

    fs::remove_file(shop.path("bin/qemu-system-x86_64")).unwrap();
    let output = shop.command(&["run", "web.cfg"]).env("PATH", shop.path("bin")).output().unwrap();
    assert!(stderr(&output).contains("apt-get install qemu-system-x86"), "{}", stderr(&output));

    fs::remove_file(shop.path("grub/lib/i386-pc/boot.img")).unwrap();
    let output = shop.domb(&["pack", "web.cfg", "-o", "disk.img"]);
    assert!(stderr(&output).contains("`make build/grub`") || output.status.success(), "{}", stderr(&output));
}

#[test]
fn what_does_not_fit_the_machine_is_found_on_the_host() {
    let shop = Workshop::new();
    shop.vm("small", "");
    shop.write("large.cfg", b"name = 'large'\nkernel = 'kernel'\nmemory = 900\n");
    let check = |mib: &str| shop.domb(&["check", "small.cfg", "large.cfg", "--machine-memory", mib]);
    let output = check("4096");
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    let output = check("1000");
    assert_eq!(output.status.code(), Some(0));
    assert!(stderr(&output).contains("warning: the VMs may not fit the machine: "), "{}", stderr(&output));
    let output = check("800");
    assert_eq!(output.status.code(), Some(1));
    let words = "the 2 VMs start with 916 MiB, 900 MiB of them in \"large\", and db-boot";
    assert!(stderr(&output).contains(words), "{}", stderr(&output));
    let pack = ["pack", "small.cfg", "large.cfg", "-o", "d.img", "--machine-memory"];
    let output = shop.domb(&[&pack[..], &["800"]].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("the VMs do not fit the machine: "), "{}", stderr(&output));
    assert!(!shop.path("d.img").exists());
    assert_eq!(shop.domb(&[&pack[..], &["4096"]].concat()).status.code(), Some(0));
}

#[test]
fn two_vms_of_one_uuid_are_refused() {
    let shop = Workshop::new();
    let uuid = "uuid = '5a3c6f8e-1b2d-4c3e-8f90-a1b2c3d4e5f6'\n";
    shop.vm("one", uuid);
    shop.vm("two", uuid);
    let output = shop.domb(&["check", "one.cfg", "two.cfg"]);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains("two.cfg:4:8: VM \"two\" has the UUID of \"one\" in one.cfg"), "{text}");
}

#[test]
fn a_ram_disk_that_linux_cannot_unpack_is_found_on_the_host() {
    let shop = Workshop::new();
    // Linux's table of what it unpacks: gzip by two magic numbers, then xz, which was not built in.
    let entry = |magic: [u8; 2], function: u8| {
        [&magic[..], &[0; 6], &[0, 0x10, 0, 0, 0, 0, 0, 0], &[0, function, 0, 0, 0, 0, 0, 0]].concat()
    };
    let table =
        [entry([0x1f, 0x8b], 1), entry([0x1f, 0x9e], 1), entry([0xfd, b'7'], 0), entry([0, 0], 0)].concat();
    shop.write("linux", &support::linux_kernel(&table));
    let check = |ramdisk: &[u8]| {
        shop.write("ram", ramdisk);
        shop.write("l.cfg", b"name = 'l'\nkernel = 'linux'\nmemory = 16\nramdisk = 'ram'\n");
        let output = shop.domb(&["check", "l.cfg"]);
        (output.status.code(), stderr(&output))
    };
    assert_eq!(check(&[0x1f, 0x8b, 8, 0]), (Some(0), String::new()));
    let (code, text) = check(b"\xfd7zXZ\0\0\x01");
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("l.cfg:4:11: VM \"l\": RAM disk ram: it is compressed with xz"), "{text}");
    assert!(text.contains("the kernel unpacks gzip") && text.contains("CONFIG_RD_XZ"), "{text}");
    let (code, text) = check(b"no RAM disk at all");
    assert_eq!(code, Some(0));
    assert!(text.contains("warning: ") && text.contains("neither a CPIO archive"), "{text}");
    let mut archive = ramdisk::Writer::new();
    archive.file("first", b"12345678").unwrap();
    archive.file("second", &[1; 5000]).unwrap();
    let (code, text) = check(&archive.finish()[..3000]);
    assert_eq!(code, Some(0));
    assert!(text.contains("cut off, or is damaged: the entry at offset 0x7c does not end"), "{text}");
}

#[test]
fn a_machine_has_at_least_one_cpu_and_some_memory() {
    let shop = Workshop::new();
    shop.vm("web", "");
    for (option, command) in [("--cpus", "run"), ("--machine-memory", "run"), ("--machine-memory", "check")] {
        let output = shop.domb(&[command, "web.cfg", option, "0"]);
        assert_eq!(output.status.code(), Some(1), "{command} {option}");
        assert!(stderr(&output).contains("0 is not in 1.."), "{}", stderr(&output));
    }
}

#[test]
fn no_output_takes_the_place_of_an_input() {
    let shop = Workshop::new();
    shop.vm("web", "");
    for arguments in [
        &["pack", "web.cfg", "-o", "web.cfg"][..],
        &["pack", "web.cfg", "-o", "kernel"],
        &["pack", "web.cfg", "--archive-only", "./web.cfg"],
        &["compile", "web.cfg", "-o", "web.cfg"],
        &["run", "web.cfg", "--log", "web.cfg"],
        &["run", "web.cfg", "--log", "xen"],
    ] {
        let before = [shop.read("web.cfg"), shop.read("kernel"), shop.read("xen")];
        let output = shop.domb(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(stderr(&output).contains("this command reads it"), "{}", stderr(&output));
        assert_eq!(before, [shop.read("web.cfg"), shop.read("kernel"), shop.read("xen")]);
    }
}

#[test]
fn what_others_wrote_cannot_steer_the_terminal_by_a_message() {
    let shop = Workshop::new();
    shop.write("p.toml", b"[[vm]]\nfile = \"a\\u001b[31m.cfg\"\n");
    for name in ["p.toml", "a\x1b[2J.cfg"] {
        let output = shop.domb(&["check", name]);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("cannot read a\u{fffd}["), "{}", stderr(&output));
    }
}
