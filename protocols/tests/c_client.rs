//! The client in C, written from docs/protocols.md, reads and writes the same bytes.
#![allow(missing_docs, reason = "a test's name says what it checks")]
#![allow(clippy::unwrap_used, reason = "a helper of a test may stop it at the first surprise")]

mod samples;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use samples::{all, golden_folder};

/// Builds the client with the system's C compiler, which Rust's linker needs anyway; every warning is an error.
fn client(name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/c-client/client.c");
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let flags = ["-std=c99", "-O1", "-Wall", "-Wextra", "-pedantic", "-Werror", "-o"];
    let built = Command::new("cc").args(flags).arg(&program).arg(source).status().unwrap();
    assert!(built.success());
    program
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_client_in_c_reads_and_writes_every_golden_message() {
    let names: Vec<_> = all().into_iter().map(|(name, _)| name).collect();
    let paths = names.iter().map(|name| golden_folder().join(name).with_extension("hex"));
    let output = Command::new(client("c-client")).args(paths).output().unwrap();
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains(&format!("{0} of {0} messages are the same in C", names.len())), "{text}");
    // It understands what it reads: names and values are those of the samples.
    let meanings = [
        "ServerRequest 7 Hello { lowest=1 highest=2 name=\"control\" }",
        "ServerRequest 7 Build { spec=444253504543 kernel=Ramdisk { name=\"images/k\" } ramdisk=Store { digest=b2b2",
        "paused=1 console=3 xenstore=none label=\"guest_t\" measured=0 }",
        "{ domid=10 name=\"db\" state=Ended { } memory_kib=8192 vcpus=1 serial=301 } \
         { domid=11 name=\"old\" state=Dying { } memory_kib=8192 vcpus=1 serial=302 } ] more=1 }",
        "ServerRequest 7 Pause { domid=9 serial=300 }",
        "ServerRequest 7 Unpause { domid=9 serial=none }",
        "ServerRequest 7 PutImageCancel { digest=a1a1",
        "ServerReply 7 Failed { reason=3 detail=\"build of web: 8 MiB, 4 MiB are left\" }",
        "ServerNotice 0 Ended { domid=9 name=\"web\" reason=Status { status=3 } serial=300 }",
        "ControlReply 300 Vms { vms=[ { name=\"web\" domid=9 state=Running { } restarts=2 }",
    ];
    for meaning in meanings {
        assert!(text.contains(meaning), "{meaning}\n{text}");
    }
}

#[test]
fn the_client_in_c_refuses_what_is_corrupt() {
    let client = client("c-client-corrupt");
    let good = fs::read_to_string(golden_folder().join("server-request-list.hex")).unwrap();
    let good = good.trim();
    let ended = fs::read_to_string(golden_folder().join("server-notice-ended.hex")).unwrap();
    let corrupt = [
        ("magic", format!("00{}", &good[2..])),
        ("kind", good.replacen("4d4701000100", "4d4701000700", 1)),
        ("longer-form", good.replacen("03000000058001", "0400000005808100", 1)),
        ("bytes-behind", good.replacen("03000000", "04000000", 1) + "00"),
        ("numbered-notice", ended.trim().replacen("0300000000000a00", "0300010000000a00", 1)),
        ("no-variant", good.replacen("03000000058001", "030000000d8001", 1)),
    ];
    for (name, hex) in corrupt {
        assert!(hex != good && hex != ended.trim(), "{name}");
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name).with_extension("hex");
        fs::write(&path, hex).unwrap();
        let output = Command::new(&client).arg(&path).output().unwrap();
        assert!(
            !output.status.success() && text(&output).contains("does not decode"),
            "{name}: {}",
            text(&output)
        );
    }
}
