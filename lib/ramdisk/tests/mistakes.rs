//! One archive for each mistake, and the message it must get.
#![allow(clippy::expect_used, reason = "a test's own helpers may stop the test")]
mod support;

use ramdisk::{Archive, MAX_ENTRIES, MAX_NAME_SIZE};
use support::{MAGICS, Raw, archive, small};

/// The message that `Archive::parse` refuses `bytes` with.
fn refusal(bytes: &[u8]) -> String {
    Archive::parse(bytes).expect_err("this archive has a mistake").to_string()
}

/// One test for each line: name, archive, message.
macro_rules! mistakes {
    ($($name:ident: $bytes:expr => $message:expr;)*) => {
        $(#[test]
        fn $name() {
            assert_eq!(refusal(&$bytes), $message);
        })*
    };
}

mistakes! {
    empty: [] =>
        "the RAM disk is empty (0 bytes); give the builder an archive made by `domb pack` or `cpio -o -H newc`";
    all_zero: [0; 512] =>
        "the RAM disk holds nothing but zeros in [0x0..0x200); the loader reserved it and filled in nothing: \
         check the module's path";
    compressed_with_gzip: [0x1f, 0x8b, 8, 0, 0, 0, 0, 0] =>
        "the RAM disk is compressed with gzip; pack it uncompressed";
    compressed_with_xz: *b"\xfd7zXZ\0\0\x04" =>
        "the RAM disk is compressed with xz; pack it uncompressed";
    compressed_with_zstd: [0x28, 0xb5, 0x2f, 0xfd, 4] =>
        "the RAM disk is compressed with zstd; pack it uncompressed";
    compressed_with_lz4: [0x02, 0x21, 0x4c, 0x18, 0] =>
        "the RAM disk is compressed with lz4; pack it uncompressed";
    compressed_with_bzip2: *b"BZh91AY" =>
        "the RAM disk is compressed with bzip2; pack it uncompressed";
    old_binary_format: [0xc7, 0x71, 0, 0] =>
        "the RAM disk is a CPIO archive in the old binary format; make it with `cpio -o -H newc`";
    tar: [&[b'x'; 257][..], b"ustar\0"].concat() =>
        "the RAM disk is a tar archive; make a CPIO archive with `cpio -o -H newc`";
    kernel_instead: *b"\x7fELF\x02\x01\x01" =>
        "the RAM disk is an ELF file, not an archive; check which module is the RAM disk";
    something_else: *b"hello, \"world\"" =>
        "the RAM disk is not a CPIO archive: it starts with \"hello,\" where 070701, 070702 or 070707 is expected; \
         make it with `domb pack` or `cpio -o -H newc`";
    garbage_between_entries:
        [Raw::newc("a", b"1234").bytes(), b"garbage!".to_vec()].concat() =>
        "RAM disk: at offset 0x74, after \"a\", a CPIO header is expected but \"garbag\" is there; \
         the archive is damaged, or its parts were joined without padding to 4 bytes: make it again";
    garbage_behind_trailer:
        [archive(&[]), vec![0; 12], b"x".to_vec()].concat() =>
        "RAM disk: at offset 0x88, after \"TRAILER!!!\", a CPIO header is expected but \"x\" is there; \
         the archive is damaged, or its parts were joined without padding to 4 bytes: make it again";
    second_archive_not_aligned:
        [archive(&[]), vec![0; 2], archive(&[])].concat() =>
        "RAM disk: at offset 0x7e, after \"TRAILER!!!\", a CPIO header is expected but \"070701\" is there; \
         the archive is damaged, or its parts were joined without padding to 4 bytes: make it again";
    no_trailer:
        Raw::newc("a", b"1234").bytes() =>
        "RAM disk: the archive ends at 0x74, after \"a\", without the entry TRAILER!!! that closes it; \
         it was cut off: make or copy it again";
    second_archive_without_trailer:
        [archive(&[]), Raw::newc("b", b"").bytes()].concat() =>
        "RAM disk: the archive ends at 0xec, after \"b\", without the entry TRAILER!!! that closes it; \
         it was cut off: make or copy it again";
    cut_off_in_magic: *b"0707" =>
        "RAM disk: the archive ends at 0x4, after \"\", without the entry TRAILER!!! that closes it; \
         it was cut off: make or copy it again";
    cut_off_in_header: small("070701")[..50] =>
        "RAM disk: the header of the entry at offset 0x0 needs [0x0..0x6e) but the archive ends at 0x32; \
         it was cut off or a size in its header is wrong: make or copy it again";
    cut_off_in_name: Raw::newc("a long name", b"").bytes()[..112] =>
        "RAM disk: the name of the entry at offset 0x0 needs [0x6e..0x7a) but the archive ends at 0x70; \
         it was cut off or a size in its header is wrong: make or copy it again";
    cut_off_in_data: Raw::newc("a", b"12345678").bytes()[..114] =>
        "RAM disk: the data of the entry \"a\" at offset 0x0 needs [0x70..0x78) but the archive ends at 0x72; \
         it was cut off or a size in its header is wrong: make or copy it again";
    size_larger_than_archive:
        archive(&[Raw::newc("big", b"1234").with(|entry| entry.file_size = 0xffff_ffff)]) =>
        "RAM disk: the data of the entry \"big\" at offset 0x0 needs [0x74..0x100000073) \
         but the archive ends at 0xf4; it was cut off or a size in its header is wrong: make or copy it again";
    odc_size_larger_than_32_bits:
        archive(&[Raw::odc("big", b"1234").with(|entry| entry.file_size = 0o77_777_777_777)]) =>
        "RAM disk: the data of the entry \"big\" at offset 0x0 needs [0x50..0x20000004f) \
         but the archive ends at 0xab; it was cut off or a size in its header is wrong: make or copy it again";
    size_too_small:
        archive(&[Raw::newc("a", b"12345678").with(|entry| entry.file_size = 4)]) =>
        "RAM disk: at offset 0x74, after \"a\", a CPIO header is expected but \"567807\" is there; \
         the archive is damaged, or its parts were joined without padding to 4 bytes: make it again";
    size_not_hexadecimal:
        with_bytes(small("070701"), 54, b"0000000g") =>
        "RAM disk: field filesize of the header at offset 0x0 (newc) reads \"0000000g\", which is no \
         hexadecimal number; the archive is damaged: make it again";
    size_with_sign:
        with_bytes(small("070701"), 54, b"+0000000") =>
        "RAM disk: field filesize of the header at offset 0x0 (newc) reads \"+0000000\", which is no \
         hexadecimal number; the archive is damaged: make it again";
    size_with_blanks:
        with_bytes(small("070707"), 65, b"          0") =>
        "RAM disk: field filesize of the header at offset 0x0 (odc) reads \"          0\", which is no \
         octal number; the archive is damaged: make it again";
    unused_field_not_a_number:
        with_bytes(small("070702"), 22, b"uid uid ") =>
        "RAM disk: field uid of the header at offset 0x0 (crc) reads \"uid uid \", which is no \
         hexadecimal number; the archive is damaged: make it again";
    name_size_zero:
        archive(&[Raw::newc("a", b"").with(|entry| { entry.name_size = 0; entry.name.clear(); })]) =>
        "RAM disk: the name \"\" of the entry at offset 0x0 is empty; every entry needs one";
    name_empty:
        archive(&[Raw::newc("", b"")]) =>
        "RAM disk: the name \"\" of the entry at offset 0x0 is empty; every entry needs one";
    name_too_long:
        archive(&[Raw::newc(&"a".repeat(MAX_NAME_SIZE), b"")]) =>
        "RAM disk: the name \"\" of the entry at offset 0x0 has a size of 4097 bytes, more than 4096; shorten it";
    name_size_absurd:
        archive(&[Raw::newc("a", b"").with(|entry| entry.name_size = 0xffff_fff0)]) =>
        "RAM disk: the name \"\" of the entry at offset 0x0 has a size of 4294967280 bytes, more than 4096; \
         shorten it";
    name_with_nul_inside:
        archive(&[Raw::newc("a\0b", b"")]) =>
        "RAM disk: the name \"a\\u{0}b\" of the entry at offset 0x0 goes on behind a NUL; \
         the archive is damaged: make it again";
    name_unterminated:
        archive(&[Raw::newc("abc", b"").with(|entry| entry.name = b"abcd".to_vec())]) =>
        "RAM disk: the name \"abcd\" of the entry at offset 0x0 does not end in a NUL; \
         a size in its header is wrong: make the archive again";
    name_not_utf8:
        archive(&[Raw::newc("abc", b"").with(|entry| entry.name = b"a\xffc\0".to_vec())]) =>
        "RAM disk: the name \"a\u{fffd}c\" of the entry at offset 0x0 is not UTF-8; rename the file";
    name_absolute:
        archive(&[Raw::newc("/etc/passwd", b"")]) =>
        "RAM disk: the name \"/etc/passwd\" of the entry at offset 0x0 is absolute; \
         pack it with a name relative to the archive's root";
    name_points_outside:
        archive(&[Raw::newc("vms/../../a", b"")]) =>
        "RAM disk: the name \"vms/../../a\" of the entry at offset 0x0 has \"..\" as a component, \
         which points out of the archive; pack it with a plain name";
    name_with_double_slash:
        archive(&[Raw::newc("vms//a", b"")]) =>
        "RAM disk: the name \"vms//a\" of the entry at offset 0x0 has an empty component (\"//\" or a \"/\" at its \
         end); pack it with a plain name";
    name_with_dot_inside:
        archive(&[Raw::newc("vms/./a", b"")]) =>
        "RAM disk: the name \"vms/./a\" of the entry at offset 0x0 has \".\" as a component; \
         pack it with a plain name";
    same_file_twice:
        archive(&[Raw::newc("a", b"1"), Raw::newc("b", b"2"), Raw::newc("a", b"3")]) =>
        "RAM disk: the name \"a\" is there twice, at offsets 0x0 and 0xe8; \
         keep one of them: which one is meant must not depend on the reader";
    same_file_twice_with_dot:
        archive(&[Raw::newc("a", b"1"), Raw::newc("./a", b"3")]) =>
        "RAM disk: the name \"a\" is there twice, at offsets 0x0 and 0x74; \
         keep one of them: which one is meant must not depend on the reader";
    same_file_in_two_archives:
        [archive(&[Raw::newc("a", b"1")]), archive(&[Raw::newc("a", b"2")])].concat() =>
        "RAM disk: the name \"a\" is there twice, at offsets 0x0 and 0xf0; \
         keep one of them: which one is meant must not depend on the reader";
    file_and_directory_of_one_name:
        archive(&[Raw::newc("a", b"1"), Raw::newc("a", b"").with(|entry| entry.mode = 0o040_755)]) =>
        "RAM disk: the name \"a\" is there twice, at offsets 0x0 and 0x74; \
         keep one of them: which one is meant must not depend on the reader";
    too_many_entries:
        archive(&(0..=MAX_ENTRIES).map(|i| Raw::newc(&format!("{i:07}"), b"")).collect::<Vec<_>>()) =>
        "RAM disk: more than 16384 entries (the next one is at offset 0x1e0000); \
         pack a guest's root file system as one file, not as its files";
    padding_behind_name:
        archive(&[Raw::newc("abc", b"1234").with(|entry| entry.padding = b'x')]) =>
        "RAM disk: the padding in [0x72..0x74) behind the entry \"abc\" at offset 0x0 is not zero; \
         a size in its header is wrong or the archive is damaged: make it again";
    padding_behind_data:
        archive(&[Raw::newc("a", b"123").with(|entry| entry.padding = b'x')]) =>
        "RAM disk: the padding in [0x73..0x74) behind the entry \"a\" at offset 0x0 is not zero; \
         a size in its header is wrong or the archive is damaged: make it again";
    wrong_checksum:
        archive(&[Raw::crc("a", b"\x01\x02").with(|entry| entry.check = 4)]) =>
        "RAM disk: the data of the entry \"a\" at offset 0x0 sums up to 0x00000003 but its header says 0x00000004; \
         the archive is damaged: make or copy it again";
    mode_without_type:
        archive(&[Raw::newc("a", b"").with(|entry| entry.mode = 0o644)]) =>
        "RAM disk: the entry \"a\" at offset 0x0 has mode 0o644, which is no type of file; \
         the archive is damaged: make it again";
    mode_with_unknown_bits:
        archive(&[Raw::newc("a", b"").with(|entry| entry.mode = 0o1_100_644)]) =>
        "RAM disk: the entry \"a\" at offset 0x0 has mode 0o1100644, which is no type of file; \
         the archive is damaged: make it again";
    directory_with_data:
        archive(&[Raw::newc("a", b"1234").with(|entry| entry.mode = 0o040_755)]) =>
        "RAM disk: the entry \"a\" at offset 0x0 is a directory but has 4 bytes of data; \
         the archive is damaged: make it again";
    trailer_with_data:
        Raw::trailer("070701").with(|entry| { entry.data = b"1234".to_vec(); entry.file_size = 4; }).bytes() =>
        "RAM disk: the entry \"TRAILER!!!\" at offset 0x0 is a trailer but has 4 bytes of data; \
         the archive is damaged: make it again";
}

/// `bytes` with `new` written over them at `offset`.
fn with_bytes(mut bytes: Vec<u8>, offset: usize, new: &[u8]) -> Vec<u8> {
    bytes[offset..offset + new.len()].copy_from_slice(new);
    bytes
}

#[test]
fn a_missing_file_is_named_with_its_neighbours() {
    let bytes = small("070701");
    let archive = Archive::parse(&bytes).unwrap();
    assert_eq!(
        archive.file("images/kernle").unwrap_err().to_string(),
        "the RAM disk has no file \"images/kernle\"; did you mean \"images/kernel\"?"
    );
    assert_eq!(
        archive.file("kernel").unwrap_err().to_string(),
        "the RAM disk has no file \"kernel\"; did you mean \"images/kernel\"?"
    );
}

#[test]
fn a_directory_is_no_file() {
    let bytes = small("070701");
    assert_eq!(
        Archive::parse(&bytes).unwrap().file("vms").unwrap_err().to_string(),
        "\"vms\" in the RAM disk (offset 0x0) is a directory, not a regular file; pack the file itself"
    );
}

#[test]
fn an_archive_without_files_says_so() {
    let bytes = archive(&[]);
    assert_eq!(
        Archive::parse(&bytes).unwrap().file("a").unwrap_err().to_string(),
        "the RAM disk has no file \"a\"; it has no files at all"
    );
}

#[test]
fn every_truncation_is_an_error() {
    for magic in MAGICS {
        let bytes = small(magic);
        for end in 0..bytes.len() {
            assert!(Archive::parse(&bytes[..end]).is_err(), "{magic} cut off at {end} passed");
        }
        assert!(Archive::parse(&bytes).is_ok());
    }
}
