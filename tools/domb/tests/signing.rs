//! Keys, signed RAM disks and disks from the command line.
#![allow(missing_docs, reason = "a test's name says what it checks")]
#![allow(clippy::unwrap_used, reason = "a helper of a test may stop it at the first surprise")]

mod support;

use std::fs;
use std::io::{Cursor, Write as _};
use std::os::unix::fs::PermissionsExt as _;

use protocols::trust_note::{BuiltIn, TrustNote};
use serde_json::{Value, json};
use support::{Workshop, entries, kernel_with_own_note, stderr, stdout};

/// A workshop with the keys `shop` and `other`, and the digits of `shop`.
fn with_keys() -> (Workshop, String) {
    let shop = Workshop::new();
    shop.vm("web", "ramdisk = 'ram'\n");
    shop.write("ram", b"some RAM disk");
    let made = shop.domb(&["keygen", "shop"]);
    assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
    assert_eq!(shop.domb(&["keygen", "other"]).status.code(), Some(0));
    (shop, stdout(&made).trim().to_owned())
}

#[test]
fn keys_are_for_their_owner_and_never_overwritten() {
    let (shop, digits) = with_keys();
    assert!(digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()), "{digits}");
    let mode = fs::metadata(shop.path("shop.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = shop.read("shop.key");
    let again = shop.domb(&["keygen", "shop"]);
    assert_eq!(again.status.code(), Some(1));
    let expected = "domb: error: shop.key is there already, and a key that is overwritten is lost";
    assert!(stderr(&again).starts_with(expected), "{}", stderr(&again));
    assert_eq!(shop.read("shop.key"), before);
    let nowhere = shop.domb(&["keygen", "absent/k"]);
    assert!(stderr(&nowhere).starts_with("domb: error: cannot write absent/k.key: "), "{}", stderr(&nowhere));
}

#[test]
fn what_is_signed_verifies_with_its_key_alone() {
    let (shop, _) = with_keys();
    let output = shop.domb(&["pack", "web.cfg", "--archive-only", "ram.cpio"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let sign = ["sign", "ram.cpio", "--key", "shop.key", "-o", "s.cpio", "--platform", "corner-shop"];
    let output = shop.domb(&[&sign[..], &["--platform-version", "7"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));

    let output = shop.domb(&["verify", "s.cpio", "--key", "shop.pub", "--least-version", "7"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.starts_with("platform corner-shop, version 7, 3 files\n"), "{text}");
    assert!(text.contains(" images/ram (13 bytes)\n"), "{text}");

    let output = shop.domb(&["verify", "s.cpio", "--key", "shop.pub", "--json"]);
    let result: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&result["schema"], &result["ok"]), (&json!("domb-verify-1"), &json!(true)));
    assert_eq!((&result["platform"], &result["version"]), (&json!("corner-shop"), &json!(7)));
    let ram = &result["files"][2];
    assert_eq!((&ram["path"], &ram["bytes"]), (&json!("images/ram"), &json!(13)));

    for (arguments, words) in [
        (["s.cpio", "--key", "other.pub"].as_slice(), "is signed with key"),
        (&["ram.cpio", "--key", "shop.pub"], "is not signed"),
        (&["s.cpio", "--key", "shop.pub", "--least-version", "8"], "too old"),
        (&["s.cpio", "--key", "shop.key"], "it looks like a private key"),
        (&["web.cfg", "--key", "shop.pub"], "web.cfg: "),
    ] {
        let output = shop.domb(&[&["verify"], arguments].concat());
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
    }
    let mut bytes = shop.read("s.cpio");
    let place = bytes.windows(4).position(|four| four == b"RAM ").unwrap();
    bytes[place] ^= 1;
    shop.write("s.cpio", &bytes);
    let output = shop.domb(&["verify", "s.cpio", "--key", "shop.pub", "--json"]);
    let result: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((output.status.code(), &result["ok"]), (Some(1), &json!(false)));
    assert!(result["messages"][0]["text"].as_str().unwrap().contains("images/ram"), "{result}");
}

#[test]
fn a_signed_pack_requires_its_key() {
    let (shop, digits) = with_keys();
    let pack = |more: &[&str]| {
        let output =
            shop.domb(&[&["pack", "web.cfg", "-o", "d.img", "--archive-only", "r.cpio"], more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        stdout(&shop.domb(&["inspect", "d.img"]))
    };
    let shown = pack(&["--sign", "shop.key", "--dom0-args", "policy=each"]);
    assert!(shown.contains(&format!("'trust=require:{digits}' 'policy=each'")), "{shown}");
    assert!(shown.contains("Ed25519, by key "), "{shown}");
    for file in ["d.img", "r.cpio"] {
        assert_eq!(shop.domb(&["verify", file, "--key", "shop.pub"]).status.code(), Some(0), "{file}");
    }
    let other = String::from_utf8_lossy(&shop.domb(&["keygen", "third"]).stdout).trim().to_owned();
    let shown = pack(&["--sign", "shop.key", "--trust", "third.pub"]);
    assert!(shown.contains(&format!("'trust=require:{other}'")) && !shown.contains(&digits), "{shown}");
    assert!(!pack(&[]).contains("trust="));
}

#[test]
fn a_key_that_has_not_signed_is_warned_of() {
    let (shop, _) = with_keys();
    for (more, words) in [
        (&["--sign", "shop.key", "--trust", "other.pub"][..], "and db-boot will require key "),
        (&["--trust", "other.pub"], "and this is not signed yet"),
        (&["--sign", "shop.key"], ""),
    ] {
        let output = shop.domb(&[&["pack", "web.cfg", "-o", "d.img"], more].concat());
        assert_eq!(output.status.code(), Some(0));
        let text = stderr(&output);
        assert!(text.contains(words) && text.is_empty() == words.is_empty(), "{more:?}: {text}");
    }
}

/// Makes `db-boot` one that requires the key of these digits, and so has a least version.
fn build_in(shop: &Workshop, digits: &str, least_version: u64) {
    let key = digits.parse::<protocols::Digest>().unwrap().0;
    let note = TrustNote::new(Some(BuiltIn { key, least_version }));
    shop.write("db-boot", &kernel_with_own_note(b"db-boot", note.bytes()));
}

#[test]
fn a_db_boot_that_requires_another_key_is_not_packed() {
    let (shop, digits) = with_keys();
    build_in(&shop, &digits, 3);
    let shown = stdout(&shop.domb(&["inspect", "db-boot"]));
    assert!(shown.contains("db-boot: requires key ") && shown.contains(&digits), "{shown}");
    assert!(shown.contains("version 3 or later"), "{shown}");
    let facts: Value = serde_json::from_str(&stdout(&shop.domb(&["inspect", "db-boot", "--json"]))).unwrap();
    assert_eq!(facts["files"][0]["built_in"]["key"], json!(digits));
    for (arguments, words) in [
        (
            ["--sign", "other.key", "--platform-version", "3"].as_slice(),
            "and would refuse to be asked for key ",
        ),
        (&["--sign", "shop.key"], "accepts version 3 or later, and the platform is signed as version 0"),
        (&["--sign", "shop.key", "--platform-version", "2"], "signed as version 2"),
        (&["--trust", "other.pub"], "and would refuse"),
    ] {
        let output = shop.domb(&[&["pack", "web.cfg", "-o", "d.img"], arguments].concat());
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
        assert!(!shop.path("d.img").exists());
    }
    let unsigned = shop.domb(&["pack", "web.cfg", "-o", "d.img"]);
    assert_eq!(unsigned.status.code(), Some(0), "{}", stderr(&unsigned));
    assert!(stderr(&unsigned).contains("and this is not signed yet"), "{}", stderr(&unsigned));
    let signed =
        shop.domb(&["pack", "web.cfg", "-o", "d.img", "--sign", "shop.key", "--platform-version", "3"]);
    assert_eq!((signed.status.code(), stderr(&signed).as_str()), (Some(0), ""));
}

#[test]
fn a_platform_file_says_what_it_is_signed_with() {
    let (shop, digits) = with_keys();
    let pack = |trust: &str, more: &[&str]| {
        shop.write("keys.toml", format!("[trust]\n{trust}\n[[vm]]\nfile = 'web.cfg'\n").as_bytes());
        shop.domb(&[&["pack", "keys.toml", "-o", "d.img"], more].concat())
    };
    let shown = || stdout(&shop.domb(&["inspect", "d.img"]));
    let key = "key = 'shop.key'\nname = 'shop'\nversion = 4\nevent_log = ['web']";
    let output = pack(key, &[]);
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    assert!(shown().contains(&format!("'trust=require:{digits}' 'event-log=web'")), "{}", shown());
    let verified = stdout(&shop.domb(&["verify", "d.img", "--key", "shop.pub"]));
    assert!(verified.starts_with("platform shop, version 4, 4 files\n"), "{verified}");

    assert_eq!(pack(key, &["--platform-version", "5", "--sign", "other.key"]).status.code(), Some(0));
    let verified = stdout(&shop.domb(&["verify", "d.img", "--key", "other.pub"]));
    assert!(verified.starts_with("platform shop, version 5,"), "{verified}");
    assert!(!shown().contains(&digits));

    assert_eq!(pack("measure = true", &[]).status.code(), Some(0));
    assert!(shown().contains("'trust=measure'") && !shown().contains("manifest"), "{}", shown());

    let output = pack("require = 'shop.pub'\nbuilt_in = true", &[]);
    assert!(stderr(&output).contains("no key is built into this db-boot"), "{}", stderr(&output));
    build_in(&shop, &digits, 0);
    let output = pack("key = 'shop.key'\nbuilt_in = true", &[]);
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    let output = pack("key = 'absent.key'", &[]);
    assert!(stderr(&output).contains("absent.key"), "{}", stderr(&output));
    // Who only checks need not have the keys.
    assert_eq!(shop.domb(&["check", "keys.toml"]).status.code(), Some(0));
}

#[test]
fn what_is_not_signed_on_a_disk_is_shown_and_compared() {
    let (shop, digits) = with_keys();
    let output = shop.domb(&["pack", "web.cfg", "-o", "d.img", "--sign", "shop.key"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let verify = |more: &[&str]| shop.domb(&[&["verify", "d.img", "--key", "shop.pub"], more].concat());
    let text = stdout(&verify(&["--xen", "xen", "--db-boot", "db-boot"]));
    for words in ["not signed, and to be protected", " /boot/xen (", "no key is built in", &digits] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let facts: Value = serde_json::from_str(&stdout(&verify(&["--json"]))).unwrap();
    assert_eq!(facts["unsigned"]["xen"]["bytes"], json!(shop.read("xen").len()));
    build_in(&shop, &digits, 0);
    let output = verify(&["--xen", "xen", "--db-boot", "db-boot"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("/boot/db-boot on it is not db-boot: "), "{}", stderr(&output));
    assert!(!stderr(&output).contains("/boot/xen"), "{}", stderr(&output));

    let output = shop.domb(&["pack", "web.cfg", "--archive-only", "r.cpio", "--sign", "shop.key"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let output = shop.domb(&["verify", "r.cpio", "--key", "shop.pub", "--xen", "xen"]);
    assert!(stderr(&output).contains("there is no Xen and no db-boot in it"), "{}", stderr(&output));
}

#[test]
fn a_disk_that_somebody_has_added_to_is_not_put_together_anew() {
    let (shop, _) = with_keys();
    assert_eq!(shop.domb(&["pack", "web.cfg", "-o", "d.img"]).status.code(), Some(0));
    let mut disk = shop.read("d.img");
    let system = image::disk::read(&disk).unwrap().partitions[1].bytes.clone();
    let files = fatfs::FileSystem::new(Cursor::new(&mut disk[system]), fatfs::FsOptions::new()).unwrap();
    files.root_dir().create_file("EFI/extra.txt").unwrap().write_all(b"mine").unwrap();
    files.unmount().unwrap();
    shop.write("more.img", &disk);
    let output = shop.domb(&["sign", "more.img", "--key", "shop.key", "-o", "s.img"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("the disk has /EFI/extra.txt besides"), "{}", stderr(&output));
    assert!(!shop.path("s.img").exists());
}

#[test]
fn a_vm_is_given_the_event_log_by_name() {
    let (shop, _) = with_keys();
    shop.write("ram", &vec![7; 40 << 20]);
    let pack = |more: &[&str]| shop.domb(&[&["pack", "web.cfg", "-o", "d.img", "--no-check"], more].concat());
    let dom0 = |name: &str| {
        let shown = stdout(&shop.domb(&["inspect", name]));
        let (_, rest) = shown.split_once("dom0_mem=").unwrap();
        (rest.split_once('M').unwrap().0.parse::<u32>().unwrap(), shown)
    };
    assert_eq!(pack(&[]).status.code(), Some(0));
    let (without, _) = dom0("d.img");
    assert_eq!(pack(&["--event-log", "web"]).status.code(), Some(0));
    let (with, shown) = dom0("d.img");
    assert!(shown.contains("'event-log=web'"), "{shown}");
    assert!(with >= without + 40, "db-boot needs room for a copy: {without} MiB, {with} MiB");
    let unknown = pack(&["--event-log", "wep"]);
    assert!(
        stderr(&unknown).contains("--event-log wep: there is no VM of that name"),
        "{}",
        stderr(&unknown)
    );
}

#[test]
fn signing_a_disk_changes_its_ram_disk_alone() {
    let (shop, _) = with_keys();
    let run = |arguments: &[&str]| {
        let output = shop.domb(arguments);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    };
    run(&["pack", "web.cfg", "-o", "plain.img"]);
    run(&["sign", "plain.img", "--key", "shop.key", "-o", "once.img"]);
    run(&["sign", "once.img", "--key", "shop.key", "-o", "twice.img"]);
    assert!(shop.read("once.img") == shop.read("twice.img"), "the same contents make the same disk");
    run(&["verify", "twice.img", "--key", "shop.pub"]);
    let menu = |name: &str| {
        let shown = stdout(&shop.domb(&["inspect", name]));
        shown
            .lines()
            .skip_while(|line| !line.contains("menu"))
            .take(12)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(menu("plain.img"), menu("once.img"));
    // Packed with the key from the start, the disk differs in nothing but db-boot's command line.
    run(&["pack", "web.cfg", "-o", "packed.img", "--sign", "shop.key"]);
    run(&["sign", "packed.img", "--key", "shop.key", "-o", "again.img"]);
    assert!(shop.read("packed.img") == shop.read("again.img"));
}

#[test]
fn a_bad_key_stops_everything_before_it_starts() {
    let (shop, _) = with_keys();
    shop.qemu("touch started; exit 33");
    for arguments in [
        ["run", "web.cfg", "--sign", "absent.key"].as_slice(),
        &["run", "web.cfg", "--sign", "shop.pub"],
        &["run", "web.cfg", "--trust", "web.cfg"],
        &["pack", "web.cfg", "-o", "d.img", "--sign", "ram"],
        &["sign", "ram", "--key", "shop.key", "-o", "out"],
        &["pack", "web.cfg", "-o", "d.img", "--sign", "shop.key", "--platform", "two words"],
    ] {
        let output = shop.domb(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(stderr(&output).starts_with("domb: error: "), "{}", stderr(&output));
    }
    for name in ["started", "d.img", "out"] {
        assert!(!shop.path(name).exists(), "{name}");
    }
    assert!(entries(&shop.path("tmp")).is_empty());
}

#[test]
fn a_compressed_ram_disk_is_inspected_signed_and_verified_inside() {
    let (shop, _) = with_keys();
    let pack = |arguments: &[&str]| {
        let output = shop.domb(&[&["pack", "web.cfg", "--archive-only"], arguments].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    };
    pack(&["plain.cpio"]);
    pack(&["ram.cpio.gz", "--compress"]);
    pack(&["signed.cpio.gz", "--compress", "--sign", "shop.key"]);
    assert!(shop.read("ram.cpio.gz").starts_with(&[0x1f, 0x8b]));
    let output = shop.domb(&["sign", "ram.cpio.gz", "--key", "shop.key", "-o", "s.cpio.gz"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(shop.read("s.cpio.gz") == shop.read("signed.cpio.gz"));
    let output = shop.domb(&["verify", "s.cpio.gz", "--key", "shop.pub"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let output = shop.domb(&["verify", "s.cpio.gz", "--key", "other.pub"]);
    assert_eq!(output.status.code(), Some(1));

    // Zeros behind it are padding; what is cut off is damaged.
    let mut padded = shop.read("ram.cpio.gz");
    let size = padded.len();
    padded.resize(700_000, 0);
    shop.write("padded.gz", &padded);
    let text = stdout(&shop.domb(&["inspect", "padded.gz"]));
    let plain = shop.read("plain.cpio").len();
    let line =
        format!("padded.gz: RAM disk of {plain} bytes, compressed with gzip, 700000 bytes, 3 entries\n");
    assert!(text.starts_with(&line) && text.contains("VM web: "), "{text}");
    let result: Value =
        serde_json::from_str(&stdout(&shop.domb(&["inspect", "padded.gz", "--json"]))).unwrap();
    let file = &result["files"][0];
    assert_eq!((&file["kind"], &file["compression"]), (&json!("archive"), &json!("gzip")));
    shop.write("cut.gz", &padded[..size - 20]);
    let output = shop.domb(&["verify", "cut.gz", "--key", "shop.pub"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cut.gz: the RAM disk cannot be unpacked: "), "{}", stderr(&output));
}
