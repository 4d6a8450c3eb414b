//! What archives made by others look like, and what is read out of them.
#![allow(clippy::unwrap_used, reason = "a test's own helpers may stop the test")]
mod support;

use ramdisk::{Archive, Format, Kind};
use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};
use support::{MAGICS, Raw, archive, small};

#[test]
fn each_format_is_read() {
    for (magic, format) in MAGICS.into_iter().zip([Format::Newc, Format::Crc, Format::Odc]) {
        let bytes = small(magic);
        let archive = Archive::parse(&bytes).unwrap();
        let names: Vec<_> = archive.entries().iter().map(|entry| (entry.name(), entry.kind())).collect();
        assert_eq!(
            names,
            [("vms", Kind::Directory), ("vms/a.spec", Kind::File), ("images/kernel", Kind::File)]
        );
        assert!(archive.entries().iter().all(|entry| entry.format() == format));
        assert_eq!(archive.file("vms/a.spec").unwrap(), b"spec of a");
        assert_eq!(archive.file("./images/kernel").unwrap(), b"\x7fELF and so on");
    }
}

#[test]
fn data_is_borrowed_from_where_the_entry_says() {
    for magic in MAGICS {
        let bytes = small(magic);
        let archive = Archive::parse(&bytes).unwrap();
        for entry in archive.entries() {
            assert!(bytes[entry.offset()..].starts_with(magic.as_bytes()));
            if entry.data().is_empty() {
                continue;
            }
            let range = entry.data_offset()..entry.data_offset() + entry.data().len();
            assert!(std::ptr::eq(entry.data(), &raw const bytes[range]), "{} of {magic}", entry.name());
        }
    }
}

#[test]
fn archives_may_be_joined_with_zeros() {
    let first = archive(&[Raw::newc("a", b"1"), Raw::newc("d", b"").with(|entry| entry.mode = 0o040_755)]);
    let second = archive(&[Raw::crc("b", b"2"), Raw::crc("d", b"").with(|entry| entry.mode = 0o040_755)]);
    for zeros in [0, 4, 388] {
        let bytes = [first.clone(), vec![0; zeros], second.clone(), vec![0; 7]].concat();
        let archive = Archive::parse(&bytes).unwrap();
        assert_eq!(archive.archives(), 2);
        assert_eq!((archive.file("a").unwrap(), archive.file("b").unwrap()), (&b"1"[..], &b"2"[..]));
        assert_eq!(archive.entries().len(), 4);
    }
}

#[test]
fn a_name_may_be_padded_with_nuls() {
    let entry = Raw::newc("a", b"12345").with(|entry| {
        entry.name = b"a\0\0\0\0\0\0\0".to_vec();
        entry.name_size = 8;
    });
    let bytes = archive(&[entry]);
    assert_eq!(Archive::parse(&bytes).unwrap().file("a").unwrap(), b"12345");
}

#[test]
fn all_names_of_a_file_have_its_content() {
    let link = |name: &str, ino, data: &[u8]| {
        Raw::newc(name, data).with(|entry| {
            entry.nlink = 2;
            entry.ino = ino;
        })
    };
    let bytes = archive(&[link("a", 7, b""), link("other", 8, b""), link("b", 7, b"content")]);
    let archive = Archive::parse(&bytes).unwrap();
    assert_eq!(archive.file("a").unwrap(), b"content");
    assert_eq!(archive.file("b").unwrap(), b"content");
    assert_eq!(archive.file("other").unwrap(), b"");
    assert_eq!(archive.entry("a").unwrap().data_offset(), archive.entry("b").unwrap().data_offset());
}

#[test]
fn links_do_not_reach_into_another_archive() {
    let link = |name: &str, data: &[u8]| Raw::newc(name, data).with(|entry| entry.nlink = 2);
    let bytes = [archive(&[link("a", b"")]), archive(&[link("b", b"content")])].concat();
    assert_eq!(Archive::parse(&bytes).unwrap().file("a").unwrap(), b"");
}

#[test]
fn only_files_have_data() {
    let link = Raw::newc("link", b"target").with(|entry| entry.mode = 0o120_777);
    let bytes = archive(&[link]);
    let archive = Archive::parse(&bytes).unwrap();
    let entry = archive.entries()[0];
    assert_eq!((entry.kind(), entry.permissions()), (Kind::Symlink, 0o777));
    assert_eq!((entry.data(), entry.link_target()), (&b""[..], Some(&b"target"[..])));
}

/// Makes an archive of `dir` with the `cpio` program; nothing if there is none.
fn cpio(dir: &Path, format: &str) -> Option<Vec<u8>> {
    let mut child = Command::new("cpio")
        .args(["-o", "--quiet", "-H", format])
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    child.stdin.take()?.write_all(b".\n./sub\n./sub/one\n./sub/two\n./link\n./twin\n").ok()?;
    let output = child.wait_with_output().ok()?;
    output.status.success().then_some(output.stdout)
}

#[test]
fn archives_of_the_cpio_program_are_read() {
    let dir = std::env::temp_dir().join(format!("ramdisk-formats-{}", std::process::id()));
    fs::create_dir_all(dir.join("sub")).unwrap();
    fs::write(dir.join("sub/one"), b"one").unwrap();
    fs::write(dir.join("sub/two"), vec![0xa5; 70_000]).unwrap();
    let _ = std::os::unix::fs::symlink("sub/one", dir.join("link"));
    let _ = fs::hard_link(dir.join("sub/one"), dir.join("twin"));
    for format in ["newc", "crc", "odc"] {
        let Some(bytes) = cpio(&dir, format) else {
            eprintln!("skipped: there is no cpio program");
            continue;
        };
        let archive = Archive::parse(&bytes).unwrap_or_else(|error| panic!("{format}: {error}"));
        assert_eq!(archive.file("sub/one").unwrap(), b"one", "{format}");
        assert_eq!(archive.file("sub/two").unwrap(), vec![0xa5; 70_000], "{format}");
        assert_eq!(archive.file("twin").unwrap(), b"one", "{format}");
        assert_eq!(archive.entry("sub").unwrap().kind(), Kind::Directory, "{format}");
        assert_eq!(archive.entry("link").unwrap().link_target(), Some(&b"sub/one"[..]), "{format}");
        assert_eq!(archive.entries().len(), 6, "{format}");
    }
    fs::remove_dir_all(dir).unwrap();
}
