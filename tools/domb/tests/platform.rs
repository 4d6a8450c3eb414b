//! Platform files wherever VM files are taken.
#![allow(missing_docs, reason = "a test's name says what it checks")]
#![allow(clippy::unwrap_used, reason = "a helper of a test may stop it at the first surprise")]

mod support;

use protocols::archive::PLATFORM_ENTRY;
use protocols::platform::Ends;
use protocols::{BootSpec, PlatformSpec};
use ramdisk::Archive;
use serde_json::Value;
use support::{Workshop, stderr, stdout};

/// A workshop with two VMs and a platform of three.
fn shop() -> Workshop {
    let shop = Workshop::new();
    shop.vm("web", "after = 'db'\n");
    shop.vm("db", "");
    let platform = "ends = ['web-2']\n[limits]\nmemory = 48\n[[vm]]\nfile = '../web.cfg'\ncount = 2\n[[vm]]\nfile = '../db.cfg'\n";
    shop.write("site/platform.toml", platform.as_bytes());
    shop
}

#[test]
fn a_platform_is_checked_and_reported_with_what_holds_for_all() {
    let shop = shop();
    let output = shop.domb(&["check", "site/platform.toml"]);
    let expected = "platform: 3 VMs, 48 MiB, ends: web-2\nweb-1: fine (PV, 1 vCPU, 16 MiB, kernel: ELF)\n";
    assert!(stdout(&output).starts_with(expected), "{}{}", stdout(&output), stderr(&output));
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    let report = stdout(&shop.domb(&["report", "site/platform.toml"]));
    assert!(report.contains("\nplatform\n") && report.contains("  limits        48 MiB\n"), "{report}");
    for command in ["check", "report"] {
        let value = stdout(&shop.domb(&[command, "--json", "site/platform.toml"]));
        let value: Value = serde_json::from_str(&value).unwrap();
        assert_eq!(value["platform"]["ends_with"], serde_json::json!(["web-2"]), "{value}");
        assert_eq!(value["platform"]["memory_limit_kib"], 49152);
        assert_eq!(value["vms"].as_array().unwrap().len(), 3);
        let plain = stdout(&shop.domb(&[command, "--json", "db.cfg"]));
        assert_eq!(serde_json::from_str::<Value>(&plain).unwrap()["platform"], Value::Null);
    }
}

#[test]
fn a_packed_platform_holds_its_spec_and_is_described() {
    let shop = shop();
    let output = shop.domb(&["pack", "site/platform.toml", "--archive-only", "ram.cpio"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let bytes = shop.read("ram.cpio");
    let archive = Archive::parse(&bytes).unwrap();
    let spec = PlatformSpec::decode(archive.file(PLATFORM_ENTRY).unwrap()).unwrap();
    assert_eq!(spec.ends, Ends::With(vec!["web-2".into()]));
    assert_eq!(spec.limits.memory_kib, Some(48 << 10));
    let text = stdout(&shop.domb(&["inspect", "ram.cpio"]));
    assert!(text.contains("    ends          with any of web-2\n"), "{text}");
    let facts: Value = serde_json::from_str(&stdout(&shop.domb(&["inspect", "--json", "ram.cpio"]))).unwrap();
    assert_eq!(facts["files"][0]["entries"][0]["platform"]["ends"], "with", "{facts}");
    // Without a platform file nothing is packed that was not before.
    shop.domb(&["pack", "db.cfg", "--archive-only", "plain.cpio"]);
    assert!(Archive::parse(&shop.read("plain.cpio")).unwrap().entry(PLATFORM_ENTRY).is_none());
}

#[test]
fn a_platform_is_compiled_to_what_is_packed() {
    let shop = shop();
    let output = shop.domb(&["compile", "site/platform.toml", "-o", "out"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    shop.domb(&["pack", "site/platform.toml", "--archive-only", "ram.cpio"]);
    let bytes = shop.read("ram.cpio");
    let archive = Archive::parse(&bytes).unwrap();
    for name in ["platform.spec", "vms/web-1.spec", "vms/web-2.spec", "vms/db.spec"] {
        assert_eq!(shop.read(&format!("out/{name}")), archive.file(name).unwrap(), "{name}");
    }
    let spec = BootSpec::decode(&shop.read("out/vms/web-2.spec")).unwrap();
    assert_eq!((spec.name.as_str(), spec.life.after.as_slice()), ("web-2", &["db".to_owned()][..]));
    let shown = stdout(&shop.domb(&["inspect", "out/platform.spec"]));
    assert!(shown.starts_with("out/platform.spec: platform spec, "), "{shown}");
}

#[test]
fn a_platform_runs_and_becomes_a_disk() {
    let shop = shop();
    let output = shop.domb(&["run", "site/platform.toml"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let output = shop.domb(&["pack", "site/platform.toml", "-o", "disk.img"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let shown = stdout(&shop.domb(&["inspect", "disk.img"]));
    assert!(shown.contains("platform.spec (") && shown.contains("vms/web-2.spec ("), "{shown}");
}

#[test]
fn a_platform_with_mistakes_stops_every_command() {
    let shop = shop();
    shop.write("site/bad.toml", b"end = 'last'\n[limits]\nmemory = 15\n[[vm]]\nfile = '../db.cfg'\n");
    shop.write("site/small.toml", b"[limits]\nmemory = 15\n[[vm]]\nfile = '../db.cfg'\n");
    shop.qemu("touch started");
    for (file, message) in [
        ("site/bad.toml", "domb: error: site/bad.toml:1:1: unknown key \"end\" in a platform file\n"),
        ("site/small.toml", "domb: error: site/small.toml:2:10: there are 16 MiB of memory together"),
    ] {
        for arguments in [&["check"][..], &["report"], &["run"], &["pack", "-o", "disk.img"], &["compile"]] {
            let output = shop.domb(&[arguments, &[file]].concat());
            assert_eq!(output.status.code(), Some(1), "{arguments:?}");
            assert!(stderr(&output).starts_with(message), "{}", stderr(&output));
        }
    }
    for absent in ["started", "disk.img", "platform.spec"] {
        assert!(!shop.path(absent).exists(), "{absent}");
    }
    let output = shop.domb(&["check", "db.cfg", "site/platform.toml"]);
    assert!(stderr(&output).contains("a platform file is given alone"), "{}", stderr(&output));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_new_platform_passes_the_check() {
    let shop = Workshop::new();
    let output = shop.domb(&["new", "mine", "--platform", "--kernel", "kernel"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("domb run mine/platform.toml\n"), "{}", stdout(&output));
    let output = shop.domb(&["check", "mine/platform.toml"]);
    assert!(stdout(&output).starts_with("platform: 2 VMs, 32 MiB, ends: last\n"), "{}", stdout(&output));
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    // Every key that is commented out is one, with a value that it takes.
    let text = String::from_utf8(shop.read("mine/platform.toml")).unwrap();
    let keys = [
        "policy",
        "ends",
        "ready_timeout",
        "on_late",
        "shutdown",
        "loglevel",
        "vcpus",
        "vms",
        "ready",
        "critical",
        "domid",
    ];
    let active = text.lines().map(|line| match line.strip_prefix("# ") {
        Some(rest) if keys.iter().any(|key| rest.starts_with(&format!("{key} = "))) => format!("{rest}\n"),
        _ => format!("{line}\n"),
    });
    let active = active.collect::<String>().replace("# after = [\"first\"] ", "after = [\"first\"] ");
    assert_eq!(active.matches("\n# ").count() + 11, text.matches("\n# ").count() - 1, "{active}");
    shop.write("mine/platform.toml", active.as_bytes());
    // `shutdown` is for VMs that can be asked.
    let first = std::fs::read_to_string(shop.path("mine/first.cfg")).unwrap();
    shop.write("mine/first.cfg", format!("{first}xenstore = 1\n").as_bytes());
    let output = shop.domb(&["check", "mine/platform.toml"]);
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
}
