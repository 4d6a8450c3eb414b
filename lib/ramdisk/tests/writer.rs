//! What the writer writes, and that the reader reads it.
use proptest::prelude::*;
use ramdisk::{Archive, Item, Kind, Writer, WriterError};
use std::collections::BTreeMap;

#[test]
fn golden_bytes() {
    let mut writer = Writer::new();
    writer.directory("vms").unwrap();
    writer.file("vms/a", b"hello").unwrap();
    let expected = [
        "070701",
        "00000001",
        "000041ed",
        "00000000",
        "00000000",
        "00000002",
        "00000000",
        "00000000",
        "00000000",
        "00000000",
        "00000000",
        "00000000",
        "00000004",
        "00000000",
        "vms\0",
        "\0\0", //
        "070701",
        "00000002",
        "000081a4",
        "00000000",
        "00000000",
        "00000001",
        "00000000",
        "00000005",
        "00000000",
        "00000000",
        "00000000",
        "00000000",
        "00000006",
        "00000000",
        "vms/a\0",
        "hello\0\0\0", //
        "070701",
        "00000000",
        "00000000",
        "00000000",
        "00000000",
        "00000001",
        "00000000",
        "00000000",
        "00000000",
        "00000000",
        "00000000",
        "00000000",
        "0000000b",
        "00000000",
        "TRAILER!!!\0",
        "\0\0\0",
    ]
    .concat();
    assert_eq!(writer.finish().escape_ascii().to_string(), expected.as_bytes().escape_ascii().to_string());
}

#[test]
fn a_sink_gets_the_same_bytes() {
    let mut whole = Writer::new();
    whole.file("a", &[1; 1000]).unwrap();
    let mut pieces = Vec::new();
    let mut writer = Writer::into_sink(|bytes: &[u8]| pieces.extend_from_slice(bytes));
    writer.file("a", &[1; 1000]).unwrap();
    let _sink = writer.finish();
    assert_eq!(pieces, whole.finish());
}

#[test]
fn every_kind_comes_back() {
    let kinds = [
        (Kind::File, &b"data"[..]),
        (Kind::Directory, b""),
        (Kind::Symlink, b"target"),
        (Kind::CharDevice { major: 5, minor: 1 }, b""),
        (Kind::BlockDevice { major: 8, minor: 300 }, b""),
        (Kind::Fifo, b""),
        (Kind::Socket, b""),
    ];
    let mut writer = Writer::new();
    for (index, (kind, data)) in kinds.into_iter().enumerate() {
        writer.add(&Item { name: &index.to_string(), kind, permissions: 0o4751, data }).unwrap();
    }
    let bytes = writer.finish();
    let archive = Archive::parse(&bytes).unwrap();
    for (entry, (kind, data)) in archive.entries().iter().zip(kinds) {
        assert_eq!((entry.kind(), entry.permissions()), (kind, 0o4751));
        assert_eq!(entry.link_target().unwrap_or(entry.data()), data);
    }
}

#[test]
fn what_the_reader_would_refuse_is_not_written() {
    let mut writer = Writer::new();
    writer.file("a", b"1").unwrap();
    let item = |name, kind, permissions, data| Item { name, kind, permissions, data };
    let refusals = [
        (
            item("a", Kind::File, 0, b""),
            "cannot pack \"a\": the name is already taken; give each file its own",
        ),
        (
            item("TRAILER!!!", Kind::File, 0, b""),
            "cannot pack \"TRAILER!!!\": the name is already taken; give each file its own",
        ),
        (
            item("../a", Kind::File, 0, b""),
            "cannot pack \"../a\": its name has \"..\" as a component, which points out of the archive; \
             pack it with a plain name",
        ),
        (
            item("d", Kind::Directory, 0, b"12"),
            "cannot pack \"d\": a directory has no data, but 2 bytes were given",
        ),
        (
            item("p", Kind::File, 0o10_000, b""),
            "cannot pack \"p\": its permissions 0o10000 have bits above 0o7777",
        ),
    ];
    for (item, message) in refusals {
        assert_eq!(writer.add(&item).unwrap_err().to_string(), message);
    }
    assert!(matches!(writer.file("", b""), Err(WriterError::BadName { .. })));
    let bytes = writer.finish();
    assert_eq!(Archive::parse(&bytes).unwrap().entries().len(), 1);
}

proptest! {
    #[test]
    fn round_trip(files in prop::collection::btree_map("[a-z]{1,8}(/[a-z.]{1,8}x){0,3}", prop::collection::vec(any::<u8>(), 0..100), 0..20)) {
        let files: BTreeMap<String, Vec<u8>> = files;
        let mut writer = Writer::new();
        for (name, data) in &files {
            writer.file(name, data).unwrap();
        }
        let bytes = writer.finish();
        prop_assert_eq!(bytes.len() % 4, 0);
        let archive = Archive::parse(&bytes).unwrap();
        prop_assert_eq!(archive.entries().len(), files.len());
        for (entry, (name, data)) in archive.entries().iter().zip(&files) {
            prop_assert_eq!(entry.name(), name);
            prop_assert_eq!(entry.data(), &data[..]);
            prop_assert_eq!(entry.data_offset() % 4, 0);
            prop_assert_eq!(archive.file(name).unwrap(), &data[..]);
        }
    }
}
