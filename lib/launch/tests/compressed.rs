//! RAM disks that are compressed as a whole.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

mod support;

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use launch::Options;
use protocols::archive::spec_entry;
use protocols::{BootSpec, ExitAction, Life, MachineStatus};
use ramdisk::{Archive, Writer};
use support::{end_when_running, kernel, logged, run_archive, run_within, spec, then_end};
use trust::SigningKey;
use xen_abi::PageCount;
use xen_abi::sched::{SHUTDOWN_CRASH, SHUTDOWN_POWEROFF};
use xen_sim::{Machine, Release};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A RAM disk with one VM, whose RAM disk makes it 8 MiB and a bit.
fn archive(spec: &BootSpec) -> Vec<u8> {
    let mut writer = Writer::new();
    let spec = BootSpec { ramdisk: Some("images/disk".into()), memory_kib: 16 << 10, ..spec.clone() };
    let spec = BootSpec { max_memory_kib: spec.memory_kib, ..spec };
    writer.file(&spec_entry(&spec.name), &spec.encode().unwrap()).unwrap();
    writer.file("images/kernel", &kernel()).unwrap();
    writer.file("images/disk", &vec![b'd'; 8 << 20]).unwrap();
    writer.finish()
}

/// Fails to start `bytes` with so much memory; what the log says.
fn refused(bytes: &[u8], spare: usize) -> String {
    let machine = Machine::builder().build();
    let status = run_within(&machine, bytes, &Options::parse(""), spare);
    assert_eq!(status, MachineStatus::BuildFailed, "{}", logged());
    machine.assert_clean();
    logged()
}

#[test]
fn it_is_unpacked_and_its_memory_goes_back_before_any_vm_is_built() {
    for release in Release::ALL {
        let machine = Machine::with_release(release);
        let free = machine.free_memory();
        let unpacked = archive(&spec("a"));
        let packed = gzip(&unpacked);
        then_end(&machine, 1, SHUTDOWN_POWEROFF);
        assert_eq!(run_archive(&machine, &packed, ""), MachineStatus::Success, "{}", logged());
        let pages = PageCount::for_bytes(packed.len() as u64);
        assert_eq!(machine.free_memory(), PageCount::new(free.raw() + pages.raw()));
        let log = logged();
        let sizes = format!("packed={}KiB unpacked={}KiB", packed.len() / 1024, unpacked.len() / 1024);
        assert!(log.contains(&format!("event=ramdisk-unpacked compression=gzip {sizes}")), "{log}");
        let line = format!("event=ramdisk-released memory={}KiB kept=0KiB", pages.kib());
        assert_eq!(log.matches("event=ramdisk-released").count(), log.matches(&line).count(), "{log}");
        assert!(log.find(&line).unwrap() < log.find("step=create").unwrap(), "{log}");
        assert!(log.contains(&format!(" released={}KiB", pages.kib())), "{log}");
        machine.assert_clean();
    }
}

#[test]
fn a_vm_is_restarted_from_the_copy() {
    let machine = Machine::builder().build();
    let life = Life { restart_delay_ms: 0, restart_limit: 1, ..Life::default() };
    let again = BootSpec { on_crash: ExitAction::Restart, life, ..spec("again") };
    then_end(&machine, 1, SHUTDOWN_CRASH);
    machine.when_idle(|machine| machine.advance(1_000_000));
    end_when_running(&machine, 2, SHUTDOWN_POWEROFF);
    assert_eq!(run_archive(&machine, &gzip(&archive(&again)), ""), MachineStatus::Success, "{}", logged());
    assert!(logged().contains("vm=again domid=2 event=ended reason=poweroff"), "{}", logged());
    machine.assert_clean();
}

#[test]
fn zeros_behind_it_do_not_matter_and_anything_else_does() {
    let packed = gzip(&archive(&spec("a")));
    let machine = Machine::builder().build();
    then_end(&machine, 1, SHUTDOWN_POWEROFF);
    let mut padded = packed.clone();
    padded.resize((640 << 10) + 1, 0);
    assert_eq!(run_archive(&machine, &padded, ""), MachineStatus::Success, "{}", logged());
    machine.assert_clean();
    let log = refused(&[&packed, &b"PK"[..]].concat(), 64 << 20);
    assert!(log.contains("step=ramdisk the RAM disk cannot be unpacked: "), "{log}");
    let log = refused(&packed[..packed.len() - 100], 64 << 20);
    assert!(log.contains("step=ramdisk the RAM disk cannot be unpacked: "), "{log}");
    padded.resize(2 << 20, 0);
    let log = refused(&padded, 64 << 20);
    let count = padded.len() - packed.len();
    assert!(log.contains(&format!("{count} bytes follow its gzip data")), "{log}");
}

#[test]
fn too_little_memory_is_refused_with_what_it_takes() {
    let unpacked = archive(&spec("a"));
    let packed = gzip(&unpacked);
    let kib = unpacked.len().div_ceil(1024);
    let log = refused(&packed, 8 << 20);
    let words = format!(
        "step=ramdisk the RAM disk unpacks (gzip) to at least {kib} KiB, which takes {} KiB of memory, and the builder has 8192 KiB \
         left: raise dom0_mem by at least 3 MiB",
        (unpacked.len() + (2 << 20)).div_ceil(1024)
    );
    assert!(log.contains(&words), "{log}");
    // As much as it says is enough.
    let machine = Machine::builder().build();
    then_end(&machine, 1, SHUTDOWN_POWEROFF);
    let status = run_within(&machine, &packed, &Options::parse(""), 11 << 20);
    assert_eq!(status, MachineStatus::Success, "{}", logged());
}

#[test]
fn a_bomb_is_refused() {
    // A stream that does not say how much comes out: 8 MiB of zeros.
    let xz = include_bytes!("../../kernel-image/tests/data/zeros-8mib.xz");
    let log = refused(xz, 16 << 20);
    assert!(log.contains("the RAM disk unpacks (xz) to at least "), "{log}");
    assert!(log.contains(", or compress it with gzip, which takes less"), "{log}");
    let log = refused(xz, 64 << 20);
    assert!(log.contains("step=ramdisk "), "{log}");
    let bomb = gzip(&vec![0; 100 << 20]);
    let log = refused(&bomb, 64 << 20);
    assert!(log.contains("the RAM disk unpacks (gzip) to at least 102400 KiB, "), "{log}");
}

#[test]
fn what_is_signed_are_the_unpacked_bytes() {
    let key = SigningKey::from_seed([3; 32]).unwrap();
    let plain = archive(&spec("a"));
    let signed = trust::sign(&Archive::parse(&plain).unwrap(), "shop", 1, &key).unwrap();
    let require = format!("trust=require:{}", key.public().unwrap());
    let machine = Machine::builder().build();
    then_end(&machine, 1, SHUTDOWN_POWEROFF);
    let options = Options::parse(&require);
    let status = run_within(&machine, &gzip(&signed), &options, 64 << 20);
    assert_eq!(status, MachineStatus::Success, "{}", logged());
    assert!(logged().contains("trust=verified"), "{}", logged());
    let mut changed = signed;
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    for unsigned in [changed, plain] {
        let machine = Machine::builder().build();
        let status = run_within(&machine, &gzip(&unsigned), &options, 64 << 20);
        assert_eq!(status, MachineStatus::BuildFailed, "{}", logged());
        assert!(logged().contains("step=trust "), "{}", logged());
        machine.assert_clean();
    }
}
