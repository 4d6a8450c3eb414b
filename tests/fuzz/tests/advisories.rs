//! Mistakes that Xen's own toolstack once made, by the advisory that tells of them: none may be made again here. Those that were made
//! with kernels are in `kernel-image`'s tests.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

use faults::{Scenario, scenarios};
use fuzz::Counting;
use protocols::spec::check_name;
use ramdisk::{Archive, Writer};
use xen_sim::Release;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// XSA-160 (CVE-2015-8341): kernel and RAM disk of a VM whose construction failed stayed mapped in the toolstack, each time anew.
#[test]
fn xsa_160_a_vm_that_cannot_be_built_costs_nothing_afterwards() {
    let whole = &scenarios()[0];
    let archive = whole.archive().to_vec();
    let launch = || {
        let scenario = Scenario::of_archive("refused", archive.clone());
        let machine = scenario.machine(Release::V4_17);
        machine.run_out_of_memory_after(Some(xen_abi::PageCount::new(700)));
        let run = scenario.launch(&machine).unwrap();
        assert_ne!(run.status, Ok(protocols::MachineStatus::Success));
        assert!(run.left.is_empty(), "{:?}", run.left);
    };
    launch();
    let before = Counting::now();
    for _ in 0..20 {
        launch();
    }
    assert_eq!(Counting::now(), before, "bytes that are still allocated");
}

/// XSA-198 (CVE-2016-9379, CVE-2016-9380): a name with a separator in it was taken for several fields by whoever read the helper's output.
#[test]
fn xsa_198_a_name_cannot_bring_fields_of_its_own() {
    for name in ["a domid=0", "a\nvm=b", "a\0b", "a\"b", "a'b", "a=b", "a,b", "a\\b", ""] {
        assert!(check_name(name).is_err(), "{name:?}");
    }
}

/// XSA-198: the same of names of files that a builder opens for a guest: none leads out of the archive.
#[test]
fn xsa_198_names_in_a_ram_disk_lead_nowhere_else() {
    for name in
        ["../images/kernel", "/etc/passwd", "images/../../kernel", "images//kernel", "images/./kernel"]
    {
        let mut writer = Writer::new();
        let written = writer.file(name, b"x").map(|()| writer.finish());
        // Neither written by us, nor found under another name when somebody else has written it.
        let found = written.is_ok_and(|bytes| {
            Archive::parse(&bytes).is_ok_and(|archive| archive.file("images/kernel").is_ok())
        });
        assert!(!found, "{name}");
    }
}

/// XSA-443 (CVE-2023-34325): the toolstack read file systems of guests' disks in Dom0, with parsers made for trust. Here Dom0 reads
/// one format, the archive, and a damaged one ends in an error: each byte of one is spoiled in turn.
#[test]
fn xsa_443_no_damage_to_what_dom0_reads_is_more_than_an_error() {
    let target = fuzz::targets().into_iter().find(|target| target.name == "archive").unwrap();
    let archive = scenarios()[0].archive().to_vec();
    let headers = 1024.min(archive.len());
    for at in 0..headers {
        for value in [0, b'0', b'f', 0xff] {
            let mut spoiled = archive.clone();
            spoiled[at] = value;
            assert_eq!(fuzz::check(&target, &spoiled).err(), None, "byte {at} as {value:#x}");
        }
    }
}
