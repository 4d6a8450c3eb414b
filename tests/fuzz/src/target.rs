//! The parsers and decoders, each with what must hold of its answers.

use std::path::Path;
use std::rc::Rc;

use domain_plan::{GuestPlan, GuestRequest};
use faults::Scenario;
use image::config::VmFile;
use image::platform_file::PlatformFile;
use image::source::SourceFile;
use kernel_image::{KernelImage, PackedArchive, Unpacking, unwrap};
use launch::{Command, Options};
use protocols::message::{
    ControlNotice, ControlReply, ControlRequest, Message, ServerNotice, ServerReply, ServerRequest, Stream,
    encode,
};
use protocols::{BootSpec, Manifest, ManifestSignature, PlatformSpec};
use xen_abi::PageCount;

use crate::{disks, firmware, peers, seeds};

/// Bytes that a compressed input may unpack to.
const UNPACKED: usize = 1 << 20;
/// What a parser may take besides a multiple of its input.
const SMALL: usize = 1 << 20;
/// What two domains of a simulated machine take.
const SIMULATED: usize = 64 << 20;
/// What an unpacker may take: the output, and a dictionary that grows with it up to twice its size.
const UNPACKING: usize = 8 << 20;
/// What may be taken by whatever unpacks with a limit of its own: the largest dictionary that is accepted (128 MiB), its tables, and the
/// output.
const UNPACKING_ALL: usize = 132 << 20;

/// What a disk of 160 KiB may take: copies of it, the names in its folders, and the disk that is made anew from it.
const DISKS: usize = 24 << 20;
/// What firmware may take: two tables of the largest size that is believed, and the BIOS area.
const TABLES: usize = 9 << 20;

/// One parser.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Gives it an input; panics when the answer is wrong.
    pub run: fn(&[u8]),
    /// Inputs to start from.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// What its format is made of.
    pub words: &'static [&'static [u8]],
    /// Bytes of memory that it may take, besides 32 for each byte of the input.
    pub memory: usize,
}

/// Every target.
pub fn targets() -> Vec<Target> {
    let small = |name, run, seeds, words| Target { name, run, seeds, words, memory: SMALL };
    let unpack = |name, seeds| Target { name, run: unpack, seeds, words: &[], memory: UNPACKING };
    vec![
        small(
            "archive",
            archive,
            seeds::archives,
            &[b"070701", b"070702", b"070707", b"TRAILER!!!\0", b"\0"],
        ),
        Target { memory: UNPACKING, ..small("kernel", kernel, seeds::kernels, ELF_WORDS) },
        unpack("gzip", || seeds::streams(".gz")),
        unpack("bzip2", || seeds::streams(".bz2")),
        unpack("xz", || seeds::streams(".xz")),
        unpack("lzma", || seeds::streams(".lzma")),
        unpack("lz4", || seeds::streams(".lz4")),
        unpack("lzo", || seeds::streams(".lzo")),
        unpack("zstd", || seeds::streams(".zst")),
        small("boot-spec", boot_spec, seeds::specs, &[]),
        small("platform-spec", platform_spec, seeds::platforms, &[]),
        small("manifest", manifest, seeds::manifests, &[]),
        small("message", message, seeds::messages, &[]),
        small("event-log", event_log, seeds::event_logs, &[b"Spec ID Event03\0"]),
        Target { memory: 8 << 20, ..small("vm-file", vm_file, vm_files, VM_WORDS) },
        Target { memory: 8 << 20, ..small("platform-file", platform_file, platform_files, PLATFORM_WORDS) },
        small("command-line", command_line, command_lines, OPTION_WORDS),
        small("log-line", log_line, log_lines, &[b"EINVAL", b"XEN_DOMCTL_createdomain", b"xen="]),
        Target {
            memory: SIMULATED,
            ..small("vchan", peers::vchan, || peers::page_writes(&[0, 4, 8, 12, 20]), &[])
        },
        small(
            "xenstore",
            peers::xenstore,
            peers::store_requests,
            &[b"/local/domain/7\0", b"@releaseDomain\0", b"n7\0"],
        ),
        small("xenstore-ring", peers::store_ring, || peers::page_writes(&[2048, 2052, 2056, 2060]), &[]),
        Target { memory: DISKS, ..small("disk", disks::disk, disks::writes, &[]) },
        Target { memory: TABLES, ..small("acpi", firmware::acpi, firmware::tables, ACPI_WORDS) },
        Target { memory: UNPACKING_ALL, ..small("inspect", inspect, inspected, &[b"EFI PART", b"070701"]) },
        Target {
            memory: UNPACKING_ALL,
            ..small("launch", launch_any, seeds::archives, &[b"070701", b"specs/"])
        },
    ]
}

const ELF_WORDS: &[&[u8]] = &[
    b"\x7fELF",
    b"Xen\0",
    b"xen-3.0\0",
    b"generic\0",
    b"!writable_page_tables|pae_pgdir_above_4gb\0",
    b"yes\0",
    b"__xen_guest\0",
    b"VIRT_BASE=0x100000,",
    b"HdrS",
];
const VM_WORDS: &[&[u8]] = &[
    b"name = \"a\"\n",
    b"memory = ",
    b"vcpus = 99\n",
    b"[ ",
    b"]",
    b"\"",
    b"'''",
    b"#",
    b"cpus = \"0-3,^1\"\n",
    b"iomem = [ \"a0,20@f\" ]\n",
    b"channels = [ \"a\" ]\n",
];
const PLATFORM_WORDS: &[&[u8]] =
    &[b"[[vm]]\n", b"[limits]\n", b"count = 3\n", b"policy = \"each\"\n", b"\"\"\"", b"{", b"}", b"="];
const ACPI_WORDS: &[&[u8]] = &[
    b"RSD PTR ",
    b"RSDT",
    b"XSDT",
    b"FACP",
    b"DSDT",
    b"SSDT",
    b"\x08_S5_\x12",
    b"\x08\\_S5_\x12",
    b"\x0a",
    b"\x0b",
    b"\x0c",
];
const OPTION_WORDS: &[&[u8]] =
    &[b"policy=", b"loglevel=", b"trust=", b"require:", b"measure", b"trust-version=", b"escape=^", b" "];

fn archive(input: &[u8]) {
    let archive = match ramdisk::Archive::parse(input) {
        Ok(archive) => archive,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    for entry in archive.entries() {
        let place = entry.data_offset();
        assert_eq!(input.get(place..place + entry.data().len()), Some(entry.data()), "data is where it says");
        assert!(archive.entry(entry.name()).is_some(), "an entry is found by its name");
        let _file = archive.file(entry.name());
    }
    let _measured = trust::measure(&archive);
}

fn kernel(input: &[u8]) {
    let Ok(unwrapped) = unwrap(input, UNPACKED) else { return };
    let Ok(image) = KernelImage::parse(&unwrapped.elf) else { return };
    for segment in image.segments() {
        assert!(
            segment.file.len() as u64 <= segment.memory_size,
            "a file's part is not longer than the memory's"
        );
    }
    if let Some(symbols) = image.symbols() {
        let range = symbols.physical_range();
        assert!(range.start >= image.physical_range().end, "symbols are behind the kernel");
        let size: usize = symbols.pieces().iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(size as u64 <= range.end - range.start, "symbols do not overlap");
    }
    let memory = PageCount::new(16 << 8);
    let request = GuestRequest { ramdisk: Some(5000), ..GuestRequest::new(memory, "console=hvc0") };
    let plans = [GuestPlan::pv(&image, &request), GuestPlan::pvh(&image, &request, 2)];
    for plan in plans.into_iter().flatten() {
        assert_eq!(plan.memory(), memory);
        assert!(plan.written().raw() <= memory.raw() + 64, "no more is written than there is");
    }
}

fn unpack(input: &[u8]) {
    if let Ok(Some(packed)) = PackedArchive::detect(input)
        && let Ok(bytes) = packed.unpack(UNPACKED)
    {
        assert!(bytes.len() <= UNPACKED, "{} bytes are above the limit", bytes.len());
    }
    let at_once = unwrap(input, UNPACKED).map(|kernel| kernel.elf.into_owned());
    // Steps of a size that the input chooses.
    let budget =
        input.iter().fold(1, |sum: usize, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte))) % 5000;
    match Unpacking::new(Rc::new(input.to_vec()), UNPACKED) {
        Ok(None) => assert_eq!(at_once.as_deref(), Ok(input), "a file that is not packed stays as it is"),
        Ok(Some(mut unpacking)) => {
            let ended = loop {
                match unpacking.step(budget) {
                    Ok(false) => {}
                    Ok(true) => break unpacking.into_elf(),
                    Err(error) => break Err(error),
                }
            };
            assert_eq!(ended, at_once, "steps come to the same");
        }
        Err(error) => assert_eq!(at_once, Err(error), "steps come to the same"),
    }
}

/// What can be decoded is valid, and is encoded to the same bytes.
fn boot_spec(input: &[u8]) {
    if let Ok(spec) = BootSpec::decode(input) {
        assert_eq!(spec.validate(), Ok(()));
        assert_eq!(spec.encode().as_deref(), Ok(input));
    }
}

fn platform_spec(input: &[u8]) {
    if let Ok(spec) = PlatformSpec::decode(input) {
        assert_eq!(spec.validate(), Ok(()));
        assert_eq!(spec.encode().as_deref(), Ok(input));
    }
}

fn manifest(input: &[u8]) {
    if let Ok(manifest) = Manifest::decode(input) {
        assert_eq!(manifest.encode().as_deref(), Ok(input));
    }
    if let Ok(signature) = ManifestSignature::decode(input) {
        assert_eq!(signature.encode(), input);
    }
}

fn message(mut input: &[u8]) {
    fn again<M: Message>(frame: &protocols::message::Frame) {
        if let Ok(message) = frame.decode::<M>() {
            let bytes = encode(frame.id, &message);
            assert!(bytes.is_ok_and(|bytes| bytes.ends_with(&frame.body)), "a message has one encoding");
        }
    }
    let mut stream = Stream::new();
    while !input.is_empty() {
        match stream.take(&mut input) {
            Ok(Some(frame)) => {
                again::<ServerRequest>(&frame);
                again::<ServerReply>(&frame);
                again::<ServerNotice>(&frame);
                again::<ControlRequest>(&frame);
                again::<ControlReply>(&frame);
                again::<ControlNotice>(&frame);
            }
            Ok(None) => assert!(input.is_empty(), "without a message, all is taken"),
            Err(_) => return,
        }
    }
}

/// What `domb inspect` says of a file that somebody has found.
fn inspect(input: &[u8]) {
    match image::inspect::describe(input) {
        Ok(text) => assert!(!text.is_empty()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Whole RAM disks and what is in them; packed kernels, which `domb inspect` unpacks with a limit of its own, are the target `kernel`.
fn inspected() -> Vec<Vec<u8>> {
    [seeds::archives(), seeds::specs(), seeds::platforms(), seeds::manifests()].concat()
}

fn event_log(input: &[u8]) {
    if let Ok(events) = trust::read_event_log(input) {
        let _registers = trust::replay(&events);
    }
}

fn vm_file(input: &[u8]) {
    let source = SourceFile::new("vm.cfg", String::from_utf8_lossy(input).into_owned());
    match VmFile::parse(source, Path::new("/nowhere")) {
        Ok(file) => assert!(file.warning_texts().all(|text| !text.is_empty())),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn platform_file(input: &[u8]) {
    let source = SourceFile::new("platform.toml", String::from_utf8_lossy(input).into_owned());
    match PlatformFile::parse(source, Path::new("/nowhere")) {
        Ok(file) => assert!(file.warning_texts().all(|text| !text.is_empty())),
        Err(error) => assert!(!format!("{error:?}").is_empty()),
    }
}

fn command_line(input: &[u8]) {
    let options = Options::from_bytes(input);
    assert!(options.complaints.iter().all(|text| !text.is_empty()));
    let _command = Command::parse(&String::from_utf8_lossy(input));
}

fn log_line(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if let Some(question) = refusals::read(&text) {
        let explanation = refusals::explain(question.call, question.errno, question.xen);
        assert!(!explanation.specific || !explanation.checks.is_empty());
    }
    let _timeline = image::chart::Timeline::read(&text);
}

/// A whole launch of a RAM disk that somebody made up, on the simulated Xen.
fn launch_any(input: &[u8]) {
    let scenario = Scenario::of_archive("hostile", input.to_vec());
    let machine = scenario.machine(xen_sim::Release::V4_17);
    if let Err(panic) = scenario.launch(&machine) {
        assert!(panic.is_empty(), "{panic}");
    }
}

fn vm_files() -> Vec<Vec<u8>> {
    let mut files = seeds::files("tools/image/tests/corpus/config-good", ".cfg");
    files.extend(seeds::files("tools/image/tests/corpus/config", ".cfg"));
    files
}

fn platform_files() -> Vec<Vec<u8>> {
    let mut files = seeds::files("tools/image/tests/corpus/platform-good", ".toml");
    files.extend(seeds::files("tools/image/tests/corpus/platform", ".toml"));
    files
}

fn command_lines() -> Vec<Vec<u8>> {
    [
        "policy=each loglevel=debug exit-port=0xf4 interactive escape=^T keyboard=web",
        "trust=measure trust-version=7 event-log=a,b",
        "trust=require:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
        "destroy web",
    ]
    .map(|line| line.as_bytes().to_vec())
    .to_vec()
}

fn log_lines() -> Vec<Vec<u8>> {
    [
        "[    2.676685] db-boot: info: xen=4.17.5 domctl=0x15 memory=13312KiB\n[    2.738539] db-boot: info: vm=a domid=1 step=create \
         took=6138us\n[    2.838539] db-boot: info: vm=a domid=1 event=started\n",
        "vm=a step=create: XEN_DOMCTL_createdomain for domain 7: EEXIST (exists already)",
    ]
    .map(|line| line.as_bytes().to_vec())
    .to_vec()
}
