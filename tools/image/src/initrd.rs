//! Whether a Linux kernel can unpack the RAM disk that it is given.
//!
//! Linux holds a table of the compressions that it may be asked to unpack a RAM disk from: for each the first two bytes of
//! such a file, its name, and the function that unpacks it, which is null where the configuration (CONFIG_RD_GZIP, ...) left it out. The table
//! is recognised by its first entries, which no configuration changes.

use kernel_image::{Compression, KernelImage};

/// Bytes of an entry: two of magic, padding, two pointers.
const ENTRY_LEN: usize = 24;
/// The first two entries: gzip by its two magic numbers.
const FIRST: [[u8; 8]; 2] = [[0x1f, 0x8b, 0, 0, 0, 0, 0, 0], [0x1f, 0x9e, 0, 0, 0, 0, 0, 0]];
/// More entries than Linux will ever have.
const MAX_ENTRIES: usize = 32;

/// The first two bytes of files by compression, as the table has them, and the option that builds its function in.
const KNOWN: [([u8; 2], Compression, &str); 7] = [
    ([0x1f, 0x8b], Compression::Gzip, "CONFIG_RD_GZIP"),
    (*b"BZ", Compression::Bzip2, "CONFIG_RD_BZIP2"),
    ([0x5d, 0], Compression::Lzma, "CONFIG_RD_LZMA"),
    ([0xfd, b'7'], Compression::Xz, "CONFIG_RD_XZ"),
    ([0x89, b'L'], Compression::Lzo, "CONFIG_RD_LZO"),
    ([0x02, 0x21], Compression::Lz4, "CONFIG_RD_LZ4"),
    ([0x28, 0xb5], Compression::Zstd, "CONFIG_RD_ZSTD"),
];

/// What there is to say about a RAM disk for a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// The kernel cannot unpack it.
    Unusable(String),
    /// It may not be able to.
    Doubtful(String),
}

/// Looks at the RAM disk of a VM whose kernel is `kernel`; `None` if it is as it should be, or if that cannot be known.
pub(crate) fn look(kernel: &KernelImage<'_>, ramdisk: &[u8]) -> Option<Finding> {
    if kernel.notes().guest_os != Some("linux") || ramdisk.is_empty() {
        return None;
    }
    let rest = behind_archives(ramdisk);
    if rest.is_empty() {
        return None;
    }
    if rest.starts_with(&[0x04, 0x22, 0x4d, 0x18]) {
        let text =
            "it is compressed with lz4 in the frame format, and Linux reads the legacy format alone: lz4 -l";
        return Some(Finding::Unusable(text.into()));
    }
    match Compression::detect(rest) {
        Some(compression) => compressed(kernel, compression, rest),
        None if is_file_system(ramdisk) => None,
        None if is_entry(rest) => Some(Finding::Doubtful(format!(
            "its CPIO archive was cut off, or is damaged: the entry at offset {:#x} does not end in the file; copy it again",
            ramdisk.len() - rest.len()
        ))),
        None => Some(Finding::Doubtful(
            "it is neither a CPIO archive (newc), nor compressed in a way that Linux knows, nor a file system: \
             Linux may find nothing in it"
                .into(),
        )),
    }
}

fn compressed(kernel: &KernelImage<'_>, compression: Compression, rest: &[u8]) -> Option<Finding> {
    let unpacks = unpacked_by(kernel)?;
    if !unpacks.contains(&compression) {
        let (_, _, option) = KNOWN.iter().find(|(_, known, _)| *known == compression)?;
        let names: Vec<_> = unpacks.iter().map(ToString::to_string).collect();
        let can = if names.is_empty() { "nothing".into() } else { names.join(", ") };
        return Some(Finding::Unusable(format!(
            "it is compressed with {compression}, and the kernel unpacks {can}: compress it so, or build the kernel with {option}"
        )));
    }
    // The stream's flags: the low half of the eighth byte is the kind of its checks.
    let check = rest.get(7).map(|flags| flags & 0xf)?;
    (compression == Compression::Xz && check > 1).then(|| {
        Finding::Doubtful(
            "it is compressed with xz and a check other than CRC32, which Linux's decoder does not know: xz --check=crc32"
                .into(),
        )
    })
}

/// What the kernel can unpack a RAM disk from; `None` if its table is not found.
fn unpacked_by(kernel: &KernelImage<'_>) -> Option<Vec<Compression>> {
    kernel.segments().iter().find_map(|segment| table(segment.file))
}

fn table(segment: &[u8]) -> Option<Vec<Compression>> {
    let words = segment.chunks_exact(8).enumerate().filter(|(_, word)| **word == FIRST[0]);
    let mut starts = words.filter_map(|(index, _)| segment.get(index * 8..));
    let entries =
        starts.find(|rest| rest.get(ENTRY_LEN..).is_some_and(|next| next.starts_with(&FIRST[1])))?;
    let entries = entries.chunks_exact(ENTRY_LEN).take(MAX_ENTRIES);
    let entries = entries.take_while(|entry| entry[..2] != [0, 0]);
    let built_in = entries.filter(|entry| entry[16..] != [0; 8]);
    let known =
        |entry: &[u8]| KNOWN.iter().find(|(magic, _, _)| entry.starts_with(magic)).map(|known| known.1);
    let mut all: Vec<_> = built_in.filter_map(known).collect();
    all.dedup();
    Some(all)
}

/// What follows the archives, and the zeros between and behind them, that the RAM disk begins with.
fn behind_archives(ramdisk: &[u8]) -> &[u8] {
    let mut rest = ramdisk;
    loop {
        let zeros = rest.iter().take_while(|byte| **byte == 0).count();
        rest = &rest[zeros..];
        match behind_entry(rest) {
            Some(next) => rest = next,
            None => return rest,
        }
    }
}

/// What follows a newc entry; `None` if there is none, or if it is cut short.
fn behind_entry(rest: &[u8]) -> Option<&[u8]> {
    const HEADER_LEN: usize = 110;
    if !is_entry(rest) {
        return None;
    }
    let field = |index: usize| {
        let digits = rest.get(6 + 8 * index..14 + 8 * index)?;
        usize::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
    };
    let (file_len, name_len) = (field(6)?, field(11)?);
    let name_end = HEADER_LEN.checked_add(name_len)?.checked_next_multiple_of(4)?;
    let end = name_end.checked_add(file_len)?;
    // The last entry need not be padded.
    rest.get(end..).map(|_| rest.get(end.next_multiple_of(4)..).unwrap_or_default())
}

/// Whether an entry of an archive (newc) begins here.
fn is_entry(rest: &[u8]) -> bool {
    rest.starts_with(b"070701") || rest.starts_with(b"070702")
}

/// Whether Linux would take it for an old kind of RAM disk, a file system: ext2, squashfs, cramfs, romfs, minix.
fn is_file_system(bytes: &[u8]) -> bool {
    let at = |offset: usize, magic: &[u8]| bytes.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    let second_block = |offset: usize, magic: &[u8]| at(1024 + offset, magic);
    at(0, b"hsqs")
        || at(0, &0x28cd_3d45_u32.to_le_bytes())
        || at(0, b"-rom1fs-")
        || second_block(0x38, &0xef53_u16.to_le_bytes())
        || [0x137f_u16, 0x138f].iter().any(|magic| second_block(0x10, &magic.to_le_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::MAX_UNPACKED;

    /// A segment with Linux's table at 16, in which those of `built_in` have functions.
    fn segment(built_in: &[Compression]) -> Vec<u8> {
        let mut bytes = [&[0xff; 8][..], &FIRST[0]].concat();
        let mut entry = |magic: [u8; 2], function: u64| {
            bytes.extend_from_slice(&[magic[0], magic[1], 0, 0, 0, 0, 0, 0]);
            bytes.extend_from_slice(&0x1000_u64.to_le_bytes());
            bytes.extend_from_slice(&function.to_le_bytes());
        };
        for (index, (magic, compression, _)) in KNOWN.into_iter().enumerate() {
            let function = if built_in.contains(&compression) { 0x2000 } else { 0 };
            entry(magic, function);
            if index == 0 {
                entry([0x1f, 0x9e], function);
            }
        }
        entry([0, 0], 0);
        bytes
    }

    #[test]
    fn the_table_tells_what_is_built_in() {
        for built_in in [&[][..], &[Compression::Xz], &[Compression::Gzip, Compression::Zstd]] {
            let found = table(&segment(built_in)).unwrap();
            assert!(built_in.iter().all(|compression| found.contains(compression)), "{built_in:?}");
            assert!(found.iter().all(|compression| built_in.contains(compression)), "{found:?}");
        }
        assert_eq!(table(&[0; 4096]), None);
        let mut cut = segment(&[Compression::Gzip]);
        cut.truncate(70);
        assert_eq!(table(&cut), Some(vec![Compression::Gzip]));
    }

    #[test]
    fn what_is_behind_archives_is_found() {
        let mut writer = ramdisk::Writer::new();
        writer.file("kernel/x86/microcode", b"12345").unwrap();
        let archive = writer.finish();
        assert_eq!(behind_archives(&archive), b"");
        let joined = [&archive[..], &[0; 8], &archive, &[0; 4], &[0x28, 0xb5, 0x2f, 0xfd, 9]].concat();
        assert_eq!(behind_archives(&joined), &[0x28, 0xb5, 0x2f, 0xfd, 9]);
        assert!(behind_archives(&archive[..60]).starts_with(b"070701"));
        for at in 0..archive.len() {
            behind_archives(&archive[..at]);
        }
        let mut absurd = archive;
        absurd[54..62].copy_from_slice(b"ffffffff");
        assert!(behind_archives(&absurd).starts_with(b"070701"));
    }

    #[test]
    fn file_systems_are_known() {
        let mut image = vec![0; 4096];
        assert!(!is_file_system(&image));
        image[1024 + 0x38..][..2].copy_from_slice(&[0x53, 0xef]);
        assert!(is_file_system(&image));
        assert!(is_file_system(b"hsqs..."));
    }

    /// The kernels that `make` fetches: Debian's unpack all seven.
    #[test]
    fn debian_s_kernels_unpack_everything() {
        let Some(folder) = std::env::var_os("LINUX_IMAGES") else {
            println!("LINUX_IMAGES is not set: skipped; `make test-host` sets it");
            return;
        };
        for name in ["debian12", "debian12-cloud", "debian13"] {
            let bytes = std::fs::read(std::path::Path::new(&folder).join(name)).unwrap();
            let unwrapped = kernel_image::unwrap(&bytes, MAX_UNPACKED).unwrap();
            let kernel = KernelImage::parse(&unwrapped.elf).unwrap();
            let found = unpacked_by(&kernel).unwrap();
            assert!(KNOWN.iter().all(|(_, compression, _)| found.contains(compression)), "{name}: {found:?}");
            assert_eq!(look(&kernel, &[0x1f, 0x8b, 8]), None);
            let text = |ramdisk: &[u8]| format!("{:?}", look(&kernel, ramdisk));
            assert!(text(&[0x04, 0x22, 0x4d, 0x18]).contains("lz4 -l"));
            assert!(text(b"hello").contains("neither a CPIO archive"));
            assert!(text(b"\xfd7zXZ\0\0\x04").contains("--check=crc32"));
            assert_eq!(look(&kernel, b"\xfd7zXZ\0\0\x01"), None);
        }
    }
}
