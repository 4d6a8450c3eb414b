//! The whole runner over a forged checkout: a shell script in domb's place prints what a machine would have printed.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A checkout with one test `k` and a `domb` that does what the script says. Removed when dropped.
struct Forged {
    top: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

/// One forged checkout at a time: a program that is being written while another thread forks cannot be executed ("text file
/// busy").
static ALONE: Mutex<()> = Mutex::new(());

/// What a well-behaved VM and db-boot print; `$nonce` is the VM's.
const GOOD: &str = "echo \"[k] TEST k $nonce VERDICT SUCCESS: fine\"\n\
                    echo '[    0.100000] db-boot: info: vm=k event=ended reason=poweroff'\n";

impl Forged {
    /// `name` keeps parallel tests apart; `script` is what domb does; `toml` is more for test.toml's VM.
    fn new(name: &str, script: &str, toml: &str) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let top = std::env::temp_dir().join(format!("harness-{name}-{}", std::process::id()));
        let write = |file: &str, text: &str, mode: u32| {
            let file = top.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        };
        write("build/xen/4.17/xen.gz", "", 0o644);
        write("mk/build-kernels", "#!/bin/sh\n", 0o755);
        write("tests/kernels/k/k.cfg", "name = \"k\"\nkernel = \"../../../build/kernels/k\"\n", 0o644);
        let test = format!("description = \"d\"\nkernels = [\"k\"]\n[[vm]]\nconfig = \"k.cfg\"\n{toml}\n");
        write("tests/kernels/k/test.toml", &test, 0o644);
        let nonce = "for cfg; do :; done\nnonce=$(sed -n 's/.*nonce=\\([0-9a-f]*\\).*/\\1/p' \"$cfg\")\n";
        write("bin/domb", &format!("#!/bin/sh\n{nonce}{script}"), 0o755);
        fs::copy(env!("CARGO_BIN_EXE_harness"), top.join("bin/harness")).unwrap();
        Self { top, _alone: alone }
    }

    fn harness(&self, arguments: &[&str]) -> Output {
        Command::new(self.top.join("bin/harness")).args(arguments).current_dir(&self.top).output().unwrap()
    }

    /// The exit code of `run k`, and what it printed.
    fn run(&self) -> (Option<i32>, String) {
        let output = self.harness(&["run", "k"]);
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    }
}

impl Drop for Forged {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.top);
    }
}

#[test]
fn a_success_shows_the_console_and_the_commands() {
    let forged = Forged::new("success", GOOD, "");
    let (code, out) = forged.run();
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("[k] TEST k "), "{out}");
    let again =
        "again: bin/domb run --xen build/xen/4.17/xen.gz --db-boot build/kernels/db-boot --timeout 60 ";
    assert!(out.contains(again), "{out}");
    assert!(out.contains("build/run/k-4.17-direct/k.cfg\n"), "{out}");
    let log = fs::read_to_string(forged.top.join("build/logs/k-4.17-direct.log")).unwrap();
    assert!(log.contains("VERDICT SUCCESS"), "{log}");
}

#[test]
fn every_way_to_fail_has_its_exit_code() {
    for (name, script, code, text) in [
        ("silence", "echo 'db-boot: info: vm=k domid=1 event=started'", 4, "k: ERROR: k: it gave no verdict"),
        (
            "refused",
            "echo 'db-boot: error: vm=k step=image: no kernel'; exit 3",
            4,
            "not started: vm=k step=image: no",
        ),
        ("skip", &GOOD.replace("SUCCESS", "SKIP"), 3, "SKIP"),
        ("failure", &GOOD.replace("SUCCESS: fine", "FAILURE: page 9"), 5, "FAILURE: k: page 9"),
        ("crash", &GOOD.replace("poweroff", "crash"), 6, "it ended by crash"),
        ("timeout", &format!("{GOOD}exit 5"), 7, "still running at the time limit"),
        ("vanished", &format!("{GOOD}exit 4"), 6, "ended without a status"),
        ("vm-failed", &format!("{GOOD}exit 2"), 5, "the machine's status is VmFailed"),
        ("host", "echo 'domb: error: no QEMU' >&2; exit 1", 4, "domb: error: no QEMU"),
    ] {
        let (seen, out) = Forged::new(name, script, "").run();
        assert_eq!(seen, Some(code), "{name}: {out}");
        assert!(out.contains(text), "{name}: {out}");
    }
}

#[test]
fn an_expected_failure_is_a_success() {
    let script = "echo '[    0.100000] db-boot: info: vm=k event=ended reason=exit status=9'\n";
    let forged = Forged::new("expected", script, "verdict = \"none\"\nend = \"exit status=9\"");
    assert_eq!(forged.run().0, Some(0));
}

#[test]
fn all_ends_with_a_table_and_a_sum() {
    let forged = Forged::new("all", GOOD, "");
    let output = forged.harness(&["all", "--xens", "4.17"]);
    let out = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{out}");
    assert!(out.ends_with("   4.17 direct\nk  SUCCESS\n1 passed, 0 failed, 0 skipped\n"), "{out}");
}

#[test]
fn what_cannot_start_is_an_error_with_a_remedy() {
    let forged = Forged::new("remedy", GOOD, "");
    let output = forged.harness(&["run", "kk"]);
    assert_eq!(output.status.code(), Some(4));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("there is no test \"kk\""), "{message}");
    let output = forged.harness(&["run", "k", "--xen", "/no/such/xen.gz"]);
    assert!(String::from_utf8(output.stderr).unwrap().contains("XEN=/no/such/xen.gz: there is no such file"));
    fs::remove_file(Path::new(&forged.top).join("bin/domb")).unwrap();
    let output = forged.harness(&["run", "k"]);
    assert!(String::from_utf8(output.stderr).unwrap().contains("cannot start bin/domb"));
}
