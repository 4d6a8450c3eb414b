//! `domb run` and the keyboard: on a terminal, from a pipe, not at all; and the terminal's settings afterwards.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

mod support;

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};

use support::{Workshop, stderr, stdout};

/// A QEMU that says what it was told, that somebody listens, and what it gets up to the end of a line.
const LISTENS: &str =
    "echo \"$*\"; echo 'db-boot: keyboard=vm: type'; read -r line; echo \"got:$line:\"; exit 33";

fn shop() -> Workshop {
    let shop = Workshop::new();
    shop.vm("vm", "");
    shop
}

/// Starts a command with pipes at both ends.
fn start(command: &mut Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Runs domb on a terminal that is like one in every respect (by way of `script`), with what the terminal's settings are before
/// and after; types `keys` when somebody listens. Gives back what the terminal shows.
fn on_a_terminal(shop: &Workshop, domb: &str, keys: &[u8]) -> String {
    let program = env!("CARGO_BIN_EXE_domb");
    let line = format!("stty -a >before; {program} {domb}; echo status=$?; stty -a >after");
    let mut script = shop.command(&[]);
    let environment: Vec<_> =
        script.get_envs().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned()))).collect();
    script = Command::new("script");
    script
        .args(["--quiet", "--flush", "--command", &line, "/dev/null"])
        .current_dir(shop.path(""))
        .envs(environment);
    let mut child = start(&mut script);
    let mut keyboard = child.stdin.take().unwrap();
    let mut screen = child.stdout.take().unwrap();
    let mut shown = Vec::new();
    let mut buffer = [0; 1024];
    let mut typed = false;
    while let Ok(count @ 1..) = screen.read(&mut buffer) {
        shown.extend_from_slice(&buffer[..count]);
        if !typed && String::from_utf8_lossy(&shown).contains("keyboard=vm") {
            typed = true;
            keyboard.write_all(keys).unwrap();
            keyboard.flush().unwrap();
        }
    }
    child.wait().unwrap();
    String::from_utf8_lossy(&shown).into_owned()
}

/// What `stty` said.
fn settings(shop: &Workshop, name: &str) -> String {
    String::from_utf8(shop.read(name)).unwrap()
}

#[test]
fn without_a_terminal_the_machine_has_no_input() {
    let shop = shop();
    shop.qemu(LISTENS);
    let mut child = start(&mut shop.command(&["run", "vm.cfg"]));
    child.stdin.take().unwrap().write_all(b"typed\n").unwrap();
    let shown = stdout(&child.wait_with_output().unwrap());
    assert!(shown.contains("got::") && !shown.contains("interactive"), "{shown}");
}

#[test]
fn a_script_is_typed_when_asked_for_and_when_somebody_listens() {
    let shop = shop();
    shop.qemu(LISTENS);
    let mut child =
        start(&mut shop.command(&["run", "vm.cfg", "--interactive", "--dom0-args", "keyboard=vm"]));
    child.stdin.take().unwrap().write_all(b"typed \x1c\x1c\x1c\x03\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let shown = stdout(&output);
    assert!(shown.contains("got:typed \x1c\x1c\x1c\x03:"), "{shown}");
    assert!(shown.contains("exit-port=0xf4 interactive keyboard=vm,"), "{shown}");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn on_a_terminal_each_key_goes_to_the_machine_as_it_is() {
    let shop = shop();
    shop.qemu(&format!("stty -a </dev/tty >during; {LISTENS}"));
    let shown = on_a_terminal(&shop, "run vm.cfg", b"\x03\x1a\x1d\x7fls\n");
    assert!(shown.contains("got:\x03\x1a\x1d\x7fls:"), "{shown:?}");
    assert!(shown.contains("status=0"), "{shown}");
    assert!(shown.contains("Ctrl-\\ three times stops it"), "{shown}");
    let during = settings(&shop, "during");
    for setting in ["-isig", "-icanon", "-iexten", "-echo ", "-icrnl", "-ixon", "\nopost "] {
        assert!(during.contains(setting), "{setting}: {during}");
    }
    assert_eq!(settings(&shop, "after"), settings(&shop, "before"));
    assert_ne!(settings(&shop, "during"), settings(&shop, "before"));
}

#[test]
fn the_terminal_is_as_before_however_the_run_ends() {
    let wait = "echo 'db-boot: keyboard=vm: type'";
    for (qemu, keys, status) in [
        // Three quit keys.
        (format!("{wait}; exec sleep 60"), &b"\x1c\x1c\x1c"[..], "status=130"),
        // A signal for domb.
        (format!("{wait}; read line; kill -TERM $PPID; exec sleep 60"), b"\n", "status=130"),
        (format!("{wait}; read line; exit 39"), b"\n", "status=4"),
    ] {
        let shop = shop();
        shop.qemu(&qemu);
        let shown = on_a_terminal(&shop, "run vm.cfg", keys);
        assert!(shown.contains(status), "{shown}");
        assert_eq!(settings(&shop, "after"), settings(&shop, "before"), "{qemu}");
        assert!(shop.leftovers().is_empty());
    }
}

#[test]
fn the_keyboard_stays_when_told_so() {
    let shop = shop();
    shop.qemu(&format!("stty -a </dev/tty >during; {LISTENS}"));
    let shown = on_a_terminal(&shop, "run vm.cfg --no-input", b"");
    assert!(shown.contains("got::") && !shown.contains(" interactive"), "{shown}");
    assert_eq!(settings(&shop, "during"), settings(&shop, "before"));
}

#[test]
fn a_disk_image_that_hears_nothing_is_said_to() {
    let shop = shop();
    shop.qemu("exit 33");
    for (pack, deaf) in [
        (&["pack", "vm.cfg", "-o", "d.img"][..], true),
        (&["pack", "vm.cfg", "-o", "d.img", "--interactive"], false),
    ] {
        assert!(shop.domb(pack).status.success());
        let output = shop.domb(&["run", "d.img", "--interactive"]);
        assert_eq!(stderr(&output).contains("packed without --interactive"), deaf, "{}", stderr(&output));
    }
}
