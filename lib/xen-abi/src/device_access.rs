//! Access of a domain to the machine's devices: the payloads of `XEN_DOMCTL_iomem_permission`, `_ioport_permission`,
//! `_irq_permission`, `_memory_mapping` and `_ioport_mapping` (public/domctl.h).
//!
//! The caller needs the access that it gives.

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::assert_layout;
use crate::domctl::{DomctlVersion, PAYLOAD};

/// I/O ports that an x86 machine has.
pub const IO_PORTS: u32 = 0x1_0000;

/// `struct xen_domctl_iomem_permission`: machine frames that are no memory.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IomemPermission {
    /// IN: the first machine frame.
    pub first_mfn: u64,
    /// IN: how many; 1 at least.
    pub nr_mfns: u64,
    /// IN: 1 to allow, 0 to deny.
    pub allow_access: u8,
    /// Padding.
    pub pad: [u8; 7],
}

assert_layout!(IomemPermission, size = 24, nr_mfns @ 8, allow_access @ 16);

/// `struct xen_domctl_ioport_permission`: I/O ports.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IoportPermission {
    /// IN: the first port.
    pub first_port: u32,
    /// IN: how many; 1 at least.
    pub nr_ports: u32,
    /// IN: 1 to allow, 0 to deny.
    pub allow_access: u8,
    /// Padding.
    pub pad: [u8; 3],
}

assert_layout!(IoportPermission, size = 12, nr_ports @ 4, allow_access @ 8);

/// `struct xen_domctl_memory_mapping`: machine frames that are no memory, in the translation of a domain that has one.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MemoryMapping {
    /// IN: the first guest frame.
    pub first_gfn: u64,
    /// IN: the first machine frame.
    pub first_mfn: u64,
    /// IN: how many; 1 at least.
    pub nr_mfns: u64,
    /// IN: 1 to map, 0 to unmap.
    pub add_mapping: u32,
    /// Padding.
    pub padding: u32,
}

assert_layout!(MemoryMapping, size = 32, first_mfn @ 8, nr_mfns @ 16, add_mapping @ 24);

/// `struct xen_domctl_ioport_mapping`: I/O ports of the machine as ports of a hardware-assisted domain.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IoportMapping {
    /// IN: the first port, as the guest has it.
    pub first_gport: u32,
    /// IN: the first port, as the machine has it.
    pub first_mport: u32,
    /// IN: how many; 1 at least.
    pub nr_ports: u32,
    /// IN: 1 to map, 0 to unmap.
    pub add_mapping: u32,
}

assert_layout!(IoportMapping, size = 16, first_mport @ 4, nr_ports @ 8, add_mapping @ 12);

/// `struct xen_domctl_irq_permission` from interface version 0x14 on: an interrupt that the caller has a name for.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct IrqPermissionWide {
    pirq: u32,
    allow_access: u8,
    pad: [u8; 3],
}

assert_layout!(IrqPermissionWide, size = 8, allow_access @ 4);

/// What to ask of `XEN_DOMCTL_irq_permission`, free of any version's layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IrqPermission {
    /// The caller's name for the interrupt; for a line of the machine, its number.
    pub pirq: u32,
    /// Whether to allow or to deny.
    pub allow: bool,
}

impl IrqPermission {
    /// Size of the structure in `version`, for comparison with the header.
    pub const fn size(version: DomctlVersion) -> usize {
        if version.has_grant_options() { size_of::<IrqPermissionWide>() } else { 2 }
    }

    /// Offset of `allow_access` in `version`, for comparison with the header.
    pub const fn allow_offset(version: DomctlVersion) -> usize {
        if version.has_grant_options() { core::mem::offset_of!(IrqPermissionWide, allow_access) } else { 1 }
    }

    /// The bytes in the layout of `version`; `None` for an interrupt that it has no room for.
    pub fn encode(self, version: DomctlVersion) -> Option<[u8; 8]> {
        let allow_access = u8::from(self.allow);
        if version.has_grant_options() {
            let wide = IrqPermissionWide { pirq: self.pirq, allow_access, pad: [0; 3] };
            return <[u8; 8]>::read_from_bytes(wide.as_bytes()).ok();
        }
        let mut bytes = [0; 8];
        let pirq = u8::try_from(self.pirq).ok()?;
        for (to, from) in bytes.iter_mut().zip([pirq, allow_access]) {
            *to = from;
        }
        Some(bytes)
    }

    /// The request in a payload of `version`; the other direction of [`encode`](Self::encode), for a simulated Xen.
    pub fn decode(payload: &[u8; PAYLOAD], version: DomctlVersion) -> Self {
        if version.has_grant_options() {
            let wide = IrqPermissionWide::read_from_prefix(payload)
                .map_or_else(|_| IrqPermissionWide::new_zeroed(), |(wide, _)| wide);
            return Self { pirq: wide.pirq, allow: wide.allow_access != 0 };
        }
        let [pirq, allow, ..] = *payload;
        Self { pirq: u32::from(pirq), allow: allow != 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupt_survives_every_version() {
        for version in DomctlVersion::known() {
            for pirq in [0, 8, 255] {
                let wanted = IrqPermission { pirq, allow: true };
                let mut payload = [0; PAYLOAD];
                let bytes = wanted.encode(version).unwrap();
                payload[..8].copy_from_slice(&bytes);
                assert_eq!(IrqPermission::decode(&payload, version), wanted, "{version}");
            }
        }
    }

    #[test]
    fn old_versions_have_no_room_for_high_interrupts() {
        let wanted = IrqPermission { pirq: 256, allow: true };
        for version in DomctlVersion::known() {
            assert_eq!(wanted.encode(version).is_some(), version.raw() >= 0x14, "{version}");
        }
    }
}
