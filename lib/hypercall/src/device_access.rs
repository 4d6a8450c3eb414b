//! Typed calls that give a domain access to the machine's devices. The caller needs the access that it gives.

use xen_abi::device_access::{
    IomemPermission, IoportMapping, IoportPermission, IrqPermission, MemoryMapping,
};
use xen_abi::domctl::{Command, Domctl};
use xen_abi::event_channel::{BindPirq, EVTCHNOP_BIND_PIRQ};
use xen_abi::number::HypercallNumber;
use xen_abi::physdev::{
    self, MAP_PIRQ_TYPE_GSI, MapPirq, PHYSDEVOP_MAP_PIRQ, PHYSDEVOP_UNMAP_PIRQ, UnmapPirq,
};
use xen_abi::{DomId, Errno, Mfn, PageCount, Pfn, Port};

use crate::calls::{address, address_mut};
use crate::{CallError, RawHypercall, Xen};

impl<H: RawHypercall> Xen<H> {
    /// Lets `domain` map `pages` machine frames from `first` on, which are no memory.
    pub fn allow_io_memory(&self, domain: DomId, first: Mfn, pages: PageCount) -> Result<(), CallError> {
        let payload =
            IomemPermission { first_mfn: first.raw(), nr_mfns: pages.raw(), allow_access: 1, pad: [0; 7] };
        self.set(Command::IOMEM_PERMISSION, domain, &payload)
    }

    /// Lets `domain` use the `count` I/O ports from `first` on.
    pub fn allow_io_ports(&self, domain: DomId, first: u32, count: u32) -> Result<(), CallError> {
        let payload = IoportPermission { first_port: first, nr_ports: count, allow_access: 1, pad: [0; 3] };
        self.set(Command::IOPORT_PERMISSION, domain, &payload)
    }

    /// Maps `pages` machine frames from `first` on, which `domain` may map, at its guest frames from `guest` on. The domain is a
    /// hardware-assisted one.
    pub fn map_io_memory(
        &self,
        domain: DomId,
        guest: Pfn,
        first: Mfn,
        pages: PageCount,
    ) -> Result<(), CallError> {
        let (mut done, command) = (0, Command::MEMORY_MAPPING);
        while done < pages.raw() {
            let left = pages.raw().saturating_sub(done);
            let payload = MemoryMapping {
                first_gfn: guest.raw().saturating_add(done),
                first_mfn: first.raw().saturating_add(done),
                nr_mfns: left,
                add_mapping: 1,
                padding: 0,
            };
            let mut call = Domctl::new(command, self.interface().domctl, domain).with(&payload);
            let args = [address_mut(&mut call), 0, 0, 0, 0];
            // SAFETY: a domctl takes the address of one `Domctl`; the payload holds no address.
            let mapped = unsafe { self.call(HypercallNumber::DOMCTL, args, command.name(), domain) }?;
            // Xen does a part at a time and says how much; 0 is all of the rest.
            done = match u64::try_from(mapped) {
                Ok(1..) if mapped.unsigned_abs() < left => done.saturating_add(mapped.unsigned_abs()),
                _ => pages.raw(),
            };
        }
        Ok(())
    }

    /// Gives `domain`, a hardware-assisted one, the `count` I/O ports from `first` on, by their own numbers.
    pub fn map_io_ports(&self, domain: DomId, first: u32, count: u32) -> Result<(), CallError> {
        let payload =
            IoportMapping { first_gport: first, first_mport: first, nr_ports: count, add_mapping: 1 };
        self.set(Command::IOPORT_MAPPING, domain, &payload)
    }

    /// Makes the machine's interrupt line `line` known to `domain` by that number, and lets it be used.
    ///
    /// Xen takes the caller's own name for the interrupt here, so the caller has one meanwhile. Xen before 4.16 takes lines up to
    /// 255 only; a higher one is EINVAL there.
    pub fn allow_interrupt(&self, domain: DomId, line: u32) -> Result<(), CallError> {
        self.map_interrupt(DomId::SELF, line)?;
        let outcome = self.map_interrupt(domain, line).and_then(|()| self.permit_interrupt(domain, line));
        outcome.and(self.unmap_interrupt(DomId::SELF, line))
    }

    fn permit_interrupt(&self, domain: DomId, line: u32) -> Result<(), CallError> {
        let command = Command::IRQ_PERMISSION;
        let refused = CallError { call: command.name(), domain, errno: Errno::EINVAL };
        let permission = IrqPermission { pirq: line, allow: true }.encode(self.interface().domctl);
        self.set(command, domain, &permission.ok_or(refused)?)
    }

    /// Gives `domain` the name `line` for the machine's interrupt line `line`.
    fn map_interrupt(&self, domain: DomId, line: u32) -> Result<(), CallError> {
        let name = physdev::name(PHYSDEVOP_MAP_PIRQ);
        let number = pirq(name, domain, line)?;
        let mut mapping = MapPirq {
            domid: domain.raw(),
            kind: MAP_PIRQ_TYPE_GSI,
            index: number,
            pirq: number,
            ..MapPirq::default()
        };
        let args = [u64::from(PHYSDEVOP_MAP_PIRQ), address_mut(&mut mapping), 0, 0, 0];
        // SAFETY: takes the address of one `MapPirq`, which holds no address of the caller's.
        unsafe { self.call(HypercallNumber::PHYSDEV_OP, args, name, domain) }.map(|_| ())
    }

    /// Takes that name back.
    fn unmap_interrupt(&self, domain: DomId, line: u32) -> Result<(), CallError> {
        let name = physdev::name(PHYSDEVOP_UNMAP_PIRQ);
        let mapping = UnmapPirq { domid: domain.raw(), pad: 0, pirq: pirq(name, domain, line)? };
        let args = [u64::from(PHYSDEVOP_UNMAP_PIRQ), address(&mapping), 0, 0, 0];
        // SAFETY: takes the address of one `UnmapPirq`, which holds no address of the caller's.
        unsafe { self.call(HypercallNumber::PHYSDEV_OP, args, name, domain) }.map(|_| ())
    }

    /// Binds a new port of the caller to an interrupt of the machine, by the caller's name for it.
    pub fn bind_pirq(&self, pirq: u32) -> Result<Port, CallError> {
        let mut argument = BindPirq { pirq, flags: 0, port: 0 };
        self.event_op(EVTCHNOP_BIND_PIRQ, &mut argument, DomId::SELF)?;
        Ok(Port::new(argument.port))
    }
}

/// The number of a line as the interface has it.
fn pirq(call: &'static str, domain: DomId, line: u32) -> Result<i32, CallError> {
    i32::try_from(line).map_err(|_| CallError { call, domain, errno: Errno::EINVAL })
}
