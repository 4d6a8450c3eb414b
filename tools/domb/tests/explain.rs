//! `domb explain`, as it is called.
#![allow(clippy::unwrap_used, reason = "a helper of a test may stop it at the first surprise")]
#![allow(missing_docs, reason = "a test's name says what it checks")]

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

fn explain(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_domb")).arg("explain").args(words).output().unwrap()
}

#[test]
fn a_line_of_the_log_is_explained() {
    let line = "[    2.478091] db-boot: error: vm=given step=access: XEN_DOMCTL_iomem_permission for domain 1: EPERM (operation not \
                permitted): Xen keeps this device to itself";
    let output = explain(&[line]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    for part in [
        "XEN_DOMCTL_iomem_permission: EPERM",
        "lets a domain map memory of a device",
        "Leave these pages out of `iomem`",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn what_has_no_explanation_of_its_own_says_so() {
    let text = String::from_utf8(explain(&["XEN_DOMCTL_max_mem", "ESRCH"]).stdout).unwrap();
    assert!(text.contains("what it means everywhere") && text.contains("no domain of that number"), "{text}");
}

#[test]
fn a_text_without_a_call_is_an_error_with_an_example() {
    let output = explain(&["hello"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("domb explain XEN_DOMCTL_createdomain EINVAL"), "{text}");
}

#[test]
fn a_log_need_not_be_text_everywhere() {
    let mut domb = Command::new(env!("CARGO_BIN_EXE_domb"));
    let mut domb = domb.arg("explain").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let log = b"[vm] \xff\xfe\n[    2.478091] db-boot: error: vm=a step=create: XEN_DOMCTL_createdomain for domain 1: EINVAL\n";
    domb.stdin.take().unwrap().write_all(log).unwrap();
    let output = domb.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("XEN_DOMCTL_createdomain: EINVAL"));
}
