//! Uses what its VM file gives it, and tries what it was not given: with `has=devices` the real-time clock (ports 0x70 and 0x71,
//! interrupt 8) and a page of the firmware (0xff), without it none of these. `ports=` says how many event channels it may have,
//! `grant-frames=` how far its grant table may grow, `grant-version=` the highest version that this may have, `maptrack-frames=` how many
//! frames Xen may use to keep track of what it maps (it grants a page to itself, whose number is `self=`).
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

use alloc::format;
use alloc::vec::Vec;

use event_channel::{EventWords, LocalPort};
use grant_table::{Access, GrantError, GrantTable, Mapping};
use hypercall::{CallError, FrameWindow, SharedMemory, WindowError, Xen};
use pv_runtime::rtc::{self, Rtc};
use pv_runtime::{Boot, GrantPage, Hypervisor, OwnPage, Window, clock, events, println};
use verdict::{Outcome, Verdict, success};
use xen_abi::grant_table::{MAPPINGS_PER_MAPTRACK_FRAME, STATUS_NO_DEVICE_SPACE, STATUS_NO_SPACE};
use xen_abi::{DomId, Errno, Mfn, VcpuId};

verdict::test!(run);

/// The last page below 1 MiB: the end of a PC's firmware.
const FIRMWARE: Mfn = Mfn::new(0xff);
/// Where in it the processor starts: with a far jump.
const RESET: usize = 0xff0;
const FAR_JUMP: u8 = 0xea;
/// The clock says once a second that it has moved on; how long to wait for that: 10 s, in nanoseconds.
const PATIENCE: u64 = 10_000_000_000;
/// How often a grant is mapped: Xen counts in few bits how often each is.
const MAPPINGS_OF_GRANT: usize = 100;
/// The line of the second serial port, which nobody here is given.
const OTHER_INTERRUPT: u32 = 3;

fn run(boot: &mut Boot) -> Outcome {
    let xen = Xen::unprivileged(Hypervisor).map_err(Verdict::error)?;
    let mut window = boot.window().ok_or_else(|| Verdict::error("no window"))?.map_err(Verdict::error)?;
    let given = boot.argument("has") == Some("devices");
    firmware(&mut window, given)?;
    real_time_clock(&xen, given)?;
    let number = |key| boot.argument(key).map(str::parse::<u32>).transpose().map_err(Verdict::error);
    if let Some(most) = number("ports")? {
        event_channels(&xen, most)?;
    }
    if let Some(most) = number("grant-frames")? {
        grant_table(&xen, most)?;
    }
    if let Some(most) = number("grant-version")? {
        grant_version(&xen, most)?;
    }
    if let (Some(most), Some(me)) = (number("maptrack-frames")?, number("self")?) {
        let me = u16::try_from(me).map_err(Verdict::error)?;
        mappings(&xen, &mut window, most, DomId::new(me))?;
    }
    let what = if given { "devices as given" } else { "no devices, as given" };
    success!("{what}; limits as set")
}

fn firmware(window: &mut Window, given: bool) -> Result<(), Verdict> {
    match (window.map_shared(DomId::IO, &[FIRMWARE]), given) {
        (Ok(page), true) => {
            let mut code = [0; 1];
            page.read(RESET, &mut code);
            if code == [FAR_JUMP] {
                Ok(())
            } else {
                Err(Verdict::Failure(format!("firmware starts with {code:x?}")))
            }
        }
        (Err(WindowError::Refused { errno: Errno::EPERM, .. }), false) => Ok(()),
        (other, _) => {
            Err(Verdict::Failure(format!("given={given}, and mapping the firmware gave {other:?}")))
        }
    }
}

fn real_time_clock(xen: &Xen<Hypervisor>, given: bool) -> Result<(), Verdict> {
    let device = Rtc::open().map_err(Verdict::error)?;
    let validity = device.read(rtc::VALIDITY);
    if validity != if given { 0x80 } else { 0xff } {
        return Err(Verdict::Failure(format!("given={given}, and the clock's register D is {validity:#x}")));
    }
    refused("the interrupt of another device", &xen.bind_pirq(OTHER_INTERRUPT), Errno::EPERM)?;
    if !given {
        return refused("the clock's interrupt", &xen.bind_pirq(rtc::INTERRUPT), Errno::EPERM);
    }
    let port = LocalPort::adopt(xen, xen.bind_pirq(rtc::INTERRUPT).map_err(Verdict::failure)?);
    let words = events::words().ok_or_else(|| Verdict::error("no event bitmaps"))?;
    let control = device.read(rtc::CONTROL);
    device.write(rtc::CONTROL, control | rtc::UPDATE_INTERRUPT);
    device.read(rtc::CAUSES);
    let came = waits(xen, words, &port, &device)?;
    device.write(rtc::CONTROL, control);
    if !came {
        return Err(Verdict::failure("the clock's interrupt did not come"));
    }
    println!("the clock's interrupt came");
    port.close().map_err(Verdict::failure)
}

/// Whether an event comes at `port` for which the clock says that it was the cause.
fn waits(
    xen: &Xen<Hypervisor>,
    words: EventWords<'_>,
    port: &LocalPort<'_, Hypervisor>,
    device: &Rtc,
) -> Result<bool, Verdict> {
    let now = || clock::now().nanos();
    let deadline = now() + PATIENCE;
    while now() < deadline {
        event_channel::wait(xen, words, &[port.port()], Some(deadline), now).map_err(Verdict::failure)?;
        if words.take(port.port()) && device.read(rtc::CAUSES) & rtc::UPDATE_INTERRUPT != 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Takes ports until there are no more: then the highest is `most`.
fn event_channels(xen: &Xen<Hypervisor>, most: u32) -> Result<(), Verdict> {
    let mut ports = Vec::new();
    let error = loop {
        match LocalPort::bind_ipi(xen, VcpuId::BOOT) {
            Ok(port) => ports.push(port),
            Err(error) => break error,
        }
    };
    let highest = ports.iter().map(|port| port.port().raw()).max().unwrap_or(0);
    if highest == most && error.errno == Errno::ENOSPC {
        println!("{} ports up to {highest}, and no more", ports.len());
        return Ok(());
    }
    Err(Verdict::Failure(format!("ports up to {highest} instead of {most}, then {error}")))
}

/// Lets the grant table grow as far as it can.
fn grant_table(xen: &Xen<Hypervisor>, most: u32) -> Result<(), Verdict> {
    xen.set_up_grant_table(most).map_err(Verdict::failure)?;
    refused("one more frame of the grant table", &xen.set_up_grant_table(most + 1), Errno::ENOSPC)
}

/// Asks for the versions that a grant table can have, and ends with the first.
fn grant_version(xen: &Xen<Hypervisor>, most: u32) -> Result<(), Verdict> {
    let second = xen.set_grant_version(2);
    if most < 2 {
        refused("version 2 of the grant table", &second, Errno::ENOSYS)?;
        println!("version 1 of the grant table, and no more");
    } else {
        second.map_err(Verdict::failure)?;
        println!("version 2 of the grant table");
    }
    xen.set_grant_version(1).map_err(Verdict::failure)
}

/// Maps a page that the domain grants to itself until Xen keeps track of no more.
fn mappings(xen: &Xen<Hypervisor>, window: &mut Window, frames: u32, me: DomId) -> Result<(), Verdict> {
    let page = OwnPage::new().ok_or_else(|| Verdict::error("no memory for a page"))?;
    let mut table = GrantTable::open(xen, window, 1).map_err(Verdict::failure)?;
    let most = (frames * MAPPINGS_PER_MAPTRACK_FRAME) as usize;
    let (mut mapped, mut references) = (Vec::new(), Vec::new());
    let status = loop {
        if mapped.len() == references.len() * MAPPINGS_OF_GRANT {
            references.push(table.grant(me, &page, Access::ReadWrite).map_err(Verdict::failure)?);
        }
        let Some(&reference) = references.last() else { return Err(Verdict::error("no reference")) };
        let slot = GrantPage::new().map_err(Verdict::error)?;
        match Mapping::new(xen, slot, me, reference, Access::ReadWrite) {
            Ok(mapping) => mapped.push(mapping),
            Err(GrantError::Refused { status, .. }) => break status,
            Err(error) => return Err(Verdict::failure(error)),
        }
    };
    let count = mapped.len();
    // Of each vCPU's entries one is never used.
    if ![most, most - 1].contains(&count) || ![STATUS_NO_SPACE, STATUS_NO_DEVICE_SPACE].contains(&status) {
        return Err(Verdict::Failure(format!("{count} mappings instead of {most}, then status {status}")));
    }
    println!("mapped grants {count} times, and no more");
    mapped.into_iter().try_for_each(|mapping| mapping.unmap().map(|_slot| ())).map_err(Verdict::failure)?;
    references.into_iter().try_for_each(|reference| table.revoke(reference)).map_err(Verdict::failure)
}

fn refused<T>(what: &str, result: &Result<T, CallError>, wanted: Errno) -> Result<(), Verdict> {
    match result {
        Err(error) if error.errno == wanted => Ok(()),
        Err(error) => Err(Verdict::Failure(format!("{what}: {error} instead of {wanted:?}"))),
        Ok(_) => Err(Verdict::Failure(format!("{what}: was given"))),
    }
}
