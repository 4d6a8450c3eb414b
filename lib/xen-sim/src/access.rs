//! Access of domains to the machine's devices.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use xen_abi::device_access::{
    IO_PORTS, IomemPermission, IoportMapping, IoportPermission, IrqPermission, MemoryMapping,
};
use xen_abi::physdev::{MAP_PIRQ_TYPE_GSI, MapPirq, UnmapPirq};
use xen_abi::{DomId, Errno};

use crate::DOM0;
use crate::events::resolve;
use crate::hypervisor::Outcome;
use crate::state::State;

/// Interrupt lines of the machine.
const LINES: u32 = 24;
/// Names for interrupts that a domain may have (`nr_pirqs`).
const PIRQS: u32 = 256;
/// Frames that Xen keeps to itself: the local APIC and the I/O APIC.
const XEN_FRAMES: [u64; 2] = [0xfec00, 0xfee00];
/// Ports that Xen keeps to itself: interrupt controllers, timer, speaker control.
const XEN_PORTS: [RangeInclusive<u64>; 4] = [0x20..=0x21, 0x40..=0x43, 0x61..=0x61, 0xa0..=0xa1];
/// Frames that Xen maps in one call.
const MAPPED_AT_ONCE: u64 = 64;
/// The interrupt that Xen keeps to itself: that of its console.
const XEN_LINE: u32 = 4;

/// What a domain was given. Of Dom0, what it has besides all that Xen does not keep.
#[derive(Clone, Debug, Default)]
pub(crate) struct Devices {
    frames: Vec<RangeInclusive<u64>>,
    ports: Vec<RangeInclusive<u64>>,
    lines: Vec<u32>,
    /// Guest frames and the machine frames of devices that a hardware-assisted domain has there.
    mapped_frames: BTreeMap<u64, u64>,
    /// Ports that such a domain reaches by their own numbers.
    mapped_ports: Vec<RangeInclusive<u64>>,
    /// Interrupts that it has a name for: none from the start, on a machine with an I/O APIC.
    names: Vec<u32>,
}

impl Devices {
    /// Whether the domain may map a frame of I/O memory.
    pub(crate) fn has_frame(&self, frame: u64) -> bool {
        self.frames.iter().any(|range| range.contains(&frame))
    }

    /// Whether it may use an I/O port.
    pub(crate) fn has_port(&self, port: u64) -> bool {
        self.ports.iter().any(|range| range.contains(&port))
    }

    /// The frame of a device that a hardware-assisted domain has at a guest frame.
    pub(crate) fn frame_at(&self, guest: u64) -> Option<u64> {
        self.mapped_frames.get(&guest).copied()
    }

    /// Whether a hardware-assisted domain reaches a port.
    pub(crate) fn reaches_port(&self, port: u64) -> bool {
        self.mapped_ports.iter().any(|range| range.contains(&port))
    }

    /// Interrupts that it has a name for.
    pub(crate) fn names(&self) -> &[u32] {
        &self.names
    }

    /// Whether it may use an interrupt line, by that number.
    pub(crate) fn has_line(&self, line: u32) -> bool {
        self.lines.contains(&line) && self.names.contains(&line)
    }
}

/// The range that a first number and a count make, without wrapping.
fn range(first: u64, count: u64) -> Result<RangeInclusive<u64>, Errno> {
    let last = count.checked_sub(1).and_then(|more| first.checked_add(more)).ok_or(Errno::EINVAL)?;
    Ok(first..=last)
}

impl State {
    /// `XEN_DOMCTL_iomem_permission`.
    pub(crate) fn permit_io_memory(
        &mut self,
        caller: DomId,
        domid: DomId,
        request: &IomemPermission,
    ) -> Result<(), Errno> {
        let frames = range(request.first_mfn, request.nr_mfns)?;
        let kept = XEN_FRAMES.iter().any(|frame| frames.contains(frame));
        self.domain(domid)?;
        if kept || !self.is_privileged(caller) {
            return Err(Errno::EPERM);
        }
        let devices = &mut self.domain(domid)?.devices;
        if request.allow_access != 0 {
            devices.frames.push(frames);
        } else {
            devices.frames.retain(|range| *range != frames);
        }
        Ok(())
    }

    /// `XEN_DOMCTL_ioport_permission`.
    pub(crate) fn permit_io_ports(
        &mut self,
        caller: DomId,
        domid: DomId,
        request: &IoportPermission,
    ) -> Result<(), Errno> {
        self.domain(domid)?;
        let ports = range(u64::from(request.first_port), u64::from(request.nr_ports))?;
        if *ports.end() >= u64::from(IO_PORTS) {
            return Err(Errno::EINVAL);
        }
        let kept = |xen: &RangeInclusive<u64>| xen.start() <= ports.end() && ports.start() <= xen.end();
        if XEN_PORTS.iter().any(kept) || !self.is_privileged(caller) {
            return Err(Errno::EPERM);
        }
        let devices = &mut self.domain(domid)?.devices;
        if request.allow_access != 0 {
            devices.ports.push(ports);
        } else {
            devices.ports.retain(|range| *range != ports);
        }
        Ok(())
    }

    /// `XEN_DOMCTL_memory_mapping`: gives how many frames were mapped if it was not all.
    pub(crate) fn map_io_memory(
        &mut self,
        caller: DomId,
        domid: DomId,
        request: &MemoryMapping,
    ) -> Result<u64, Errno> {
        let frames = range(request.first_mfn, request.nr_mfns)?;
        range(request.first_gfn, request.nr_mfns)?;
        let privileged = self.is_privileged(caller);
        let domain = self.domain(domid)?;
        let permitted =
            |range: &RangeInclusive<u64>| range.start() <= frames.start() && frames.end() <= range.end();
        if !privileged || !domain.devices.frames.iter().any(permitted) {
            return Err(Errno::EPERM);
        }
        let Some(hvm) = &domain.hvm else { return Ok(0) };
        let count = request.nr_mfns.min(MAPPED_AT_ONCE);
        for offset in 0..count {
            let guest = request.first_gfn + offset;
            // Real Xen would take the memory away; nobody asks for that here.
            if hvm.frames.contains_key(&guest) {
                return Err(Errno::EBUSY);
            }
            domain.devices.mapped_frames.insert(guest, request.first_mfn + offset);
        }
        Ok(if count == request.nr_mfns { 0 } else { count })
    }

    /// `XEN_DOMCTL_ioport_mapping`, by the ports' own numbers.
    pub(crate) fn map_io_ports(
        &mut self,
        caller: DomId,
        domid: DomId,
        request: &IoportMapping,
    ) -> Result<(), Errno> {
        let privileged = self.is_privileged(caller);
        let domain = self.domain(domid)?;
        if domain.hvm.is_none() {
            return Err(Errno::EOPNOTSUPP);
        }
        let ports = range(u64::from(request.first_mport), u64::from(request.nr_ports))?;
        if *ports.end() >= u64::from(IO_PORTS) || request.first_gport != request.first_mport {
            return Err(Errno::EINVAL);
        }
        let kept = |xen: &RangeInclusive<u64>| xen.start() <= ports.end() && ports.start() <= xen.end();
        if XEN_PORTS.iter().any(kept) || !privileged {
            return Err(Errno::EPERM);
        }
        domain.devices.mapped_ports.push(ports);
        Ok(())
    }

    /// `XEN_DOMCTL_irq_permission`: the caller's own name for the interrupt counts.
    pub(crate) fn permit_interrupt(
        &mut self,
        caller: DomId,
        domid: DomId,
        request: IrqPermission,
    ) -> Result<(), Errno> {
        self.domain(domid)?;
        if request.pirq >= PIRQS {
            return Err(Errno::EINVAL);
        }
        if !self.has_interrupt(caller, request.pirq)? {
            return Err(Errno::EPERM);
        }
        let devices = &mut self.domain(domid)?.devices;
        devices.lines.retain(|line| *line != request.pirq);
        if request.allow {
            devices.lines.push(request.pirq);
        }
        Ok(())
    }

    /// Whether `domain` may use an interrupt, and has a name for it.
    fn has_interrupt(&mut self, domain: DomId, line: u32) -> Result<bool, Errno> {
        let devices = &self.domain(domain)?.devices;
        let named = devices.names.contains(&line);
        let allowed = if domain == DOM0 {
            (1..LINES).contains(&line) && line != XEN_LINE
        } else {
            devices.lines.contains(&line)
        };
        Ok(named && allowed)
    }

    /// `PHYSDEVOP_map_pirq` of an interrupt line.
    pub(crate) fn map_pirq(&mut self, caller: DomId, request: &mut MapPirq) -> Outcome {
        let domid = resolve(DomId::new(request.domid), caller);
        self.controlled(caller, domid)?;
        let line = u32::try_from(request.index).ok().filter(|line| (1..LINES).contains(line));
        let line = line.filter(|_| request.kind == MAP_PIRQ_TYPE_GSI).ok_or(Errno::EINVAL)?;
        if line == XEN_LINE {
            return Err(Errno::EPERM);
        }
        // Another name than the line's own number is for callers that let Xen choose; nobody does here.
        if request.pirq >= 0 && request.pirq != request.index {
            return Err(Errno::EINVAL);
        }
        let names = &mut self.domain(domid)?.devices.names;
        if !names.contains(&line) {
            names.push(line);
        }
        request.pirq = request.index;
        Ok(0)
    }

    /// `PHYSDEVOP_unmap_pirq`.
    pub(crate) fn unmap_pirq(&mut self, caller: DomId, request: UnmapPirq) -> Outcome {
        let domid = resolve(DomId::new(request.domid), caller);
        self.controlled(caller, domid)?;
        let names = &mut self.domain(domid)?.devices.names;
        let known = names.iter().position(|name| i64::from(*name) == i64::from(request.pirq));
        names.remove(known.ok_or(Errno::EINVAL)?);
        Ok(0)
    }
}
