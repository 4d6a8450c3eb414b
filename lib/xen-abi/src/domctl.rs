//! Control of domains (public/domctl.h): a tools interface whose layout changes between releases.
//!
//! Each call is one 144-byte [`Domctl`]: a header of 16 bytes and a payload of 128. The payloads that differ between
//! interface versions are written and read by functions that take a [`DomctlVersion`].

use bitflags::bitflags;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::{DomId, PageCount, VcpuId, assert_layout};

/// Version of the domctl interface (`XEN_DOMCTL_INTERFACE_VERSION`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomctlVersion(u32);

impl DomctlVersion {
    /// Xen 4.14.
    pub const OLDEST: Self = Self(0x12);
    /// Xen 4.22 and 4.23.
    pub const NEWEST: Self = Self(0x18);
    /// Xen 4.15: adds `vmtrace_size`, and `misc_flags` for the architecture.
    pub const V13: Self = Self(0x13);
    /// Xen 4.16: adds `grant_opts`.
    pub const V14: Self = Self(0x14);
    /// Xen 4.17: adds `cpupool_id`.
    pub const V15: Self = Self(0x15);
    /// Xen 4.19: adds `altp2m_opts`.
    pub const V17: Self = Self(0x17);

    /// Every version that this crate has layouts for, newest first: the order in which to probe.
    pub fn known() -> impl Iterator<Item = Self> {
        (Self::OLDEST.0..=Self::NEWEST.0).rev().map(Self)
    }

    /// The raw number, if this crate has layouts for it.
    pub fn from_raw(raw: u32) -> Option<Self> {
        (Self::OLDEST.0..=Self::NEWEST.0).contains(&raw).then_some(Self(raw))
    }

    /// The raw number for the header of a call.
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// The value of [`Domctl::domain`] that lets Xen choose the identifier in a create call.
    ///
    /// Up to version 0x17 any identifier that no domain can have does, and 0 too; from 0x18 only `DOMID_ANY`.
    pub const fn automatic_domid(self) -> DomId {
        if self.0 >= Self::NEWEST.0 { DomId::ANY } else { DomId::new(0) }
    }

    /// Whether a create call carries flags for the architecture (Xen 4.15).
    pub const fn has_misc_flags(self) -> bool {
        self.0 >= Self::V13.0
    }

    /// Whether a create call carries the highest grant table version, and permissions take interrupts from 256 on (Xen 4.16).
    pub const fn has_grant_options(self) -> bool {
        self.0 >= Self::V14.0
    }

    /// Whether [`Command::SET_PAGING_MEMPOOL_SIZE`] exists; before, [`Command::SHADOW_OP`] sizes the pool.
    pub const fn has_paging_mempool(self) -> bool {
        self.0 >= Self::V15.0
    }

    /// Bytes of `struct xen_domctl_getdomaininfo`, of which [`DomainInfo`] is the first part; Xen 4.16 made it longer.
    pub const fn domain_info_size(self) -> usize {
        if self.0 >= Self::V14.0 { 112 } else { 104 }
    }

    /// The releases of Xen that speak this version.
    pub const fn releases(self) -> &'static str {
        match self.0 {
            0x12 => "4.14",
            0x13 => "4.15",
            0x14 => "4.16",
            0x15 => "4.17",
            0x16 => "4.18",
            0x17 => "4.19 to 4.21",
            0x18 => "4.22 and later",
            _ => "unknown",
        }
    }
}

impl core::fmt::Debug for DomctlVersion {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl core::fmt::Display for DomctlVersion {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Declares the commands with their numbers and names.
macro_rules! commands {
    ($($constant:ident = $number:literal, $name:literal;)*) => {
        /// A `XEN_DOMCTL_*` command.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub struct Command(u32);

        impl Command {
            $(#[doc = concat!("`XEN_DOMCTL_", $name, "`.")] pub const $constant: Self = Self($number);)*

            /// The header's name.
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $($number => concat!("XEN_DOMCTL_", $name),)*
                    _ => "unknown domctl",
                }
            }

            /// The raw number.
            pub const fn raw(self) -> u32 {
                self.0
            }

            /// A raw number as a command.
            pub const fn from_raw(raw: u32) -> Self {
                Self(raw)
            }
        }
    };
}

commands! {
    CREATEDOMAIN = 1, "createdomain";
    DESTROYDOMAIN = 2, "destroydomain";
    PAUSEDOMAIN = 3, "pausedomain";
    UNPAUSEDOMAIN = 4, "unpausedomain";
    GETDOMAININFO = 5, "getdomaininfo";
    SETVCPUAFFINITY = 9, "setvcpuaffinity";
    SHADOW_OP = 10, "shadow_op";
    MAX_MEM = 11, "max_mem";
    SETVCPUCONTEXT = 12, "setvcpucontext";
    MAX_VCPUS = 15, "max_vcpus";
    SCHEDULER_OP = 16, "scheduler_op";
    IRQ_PERMISSION = 19, "irq_permission";
    IOMEM_PERMISSION = 20, "iomem_permission";
    IOPORT_PERMISSION = 21, "ioport_permission";
    HYPERCALL_INIT = 22, "hypercall_init";
    GETHVMCONTEXT = 33, "gethvmcontext";
    SETHVMCONTEXT = 34, "sethvmcontext";
    SET_ADDRESS_SIZE = 35, "set_address_size";
    MEMORY_MAPPING = 39, "memory_mapping";
    IOPORT_MAPPING = 40, "ioport_mapping";
    DISABLE_MIGRATE = 58, "disable_migrate";
    SETTSCINFO = 60, "settscinfo";
    SET_VIRQ_HANDLER = 66, "set_virq_handler";
    GET_CPU_POLICY = 82, "get_cpu_policy";
    SET_CPU_POLICY = 83, "set_cpu_policy";
    SET_PAGING_MEMPOOL_SIZE = 86, "set_paging_mempool_size";
}

/// Bytes of the payload of every domctl.
pub const PAYLOAD: usize = 128;

/// `struct xen_domctl`.
#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct Domctl {
    /// [`Command`] number.
    pub cmd: u32,
    /// [`DomctlVersion`] number.
    pub interface_version: u32,
    /// The domain concerned; OUT for a create call.
    pub domain: u16,
    /// Padding.
    pub pad: [u16; 3],
    /// The command's own structure, zero padded.
    pub payload: [u8; PAYLOAD],
}

assert_layout!(Domctl, size = 144, domain @ 8, payload @ 16);

impl Domctl {
    /// A call with an empty payload.
    pub fn new(command: Command, version: DomctlVersion, domain: DomId) -> Self {
        Self {
            cmd: command.raw(),
            interface_version: version.raw(),
            domain: domain.raw(),
            pad: [0; 3],
            payload: [0; PAYLOAD],
        }
    }

    #[must_use]
    /// The same call with `payload` at the start of its payload; what does not fit in 128 bytes is a programming error
    /// that the compiler finds.
    pub fn with<T: IntoBytes + Immutable>(mut self, payload: &T) -> Self {
        const { assert!(size_of::<T>() <= PAYLOAD) };
        for (to, from) in self.payload.iter_mut().zip(payload.as_bytes()) {
            *to = *from;
        }
        self
    }
}

bitflags! {
    /// `XEN_DOMCTL_CDF_*`: what kind of domain to create.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct CreateFlags: u32 {
        /// Hardware-assisted (PVH, HVM); PV without.
        const HVM = 1 << 0;
        /// Nested paging; needs `HVM`.
        const HAP = 1 << 1;
        /// S3 integrity.
        const S3_INTEGRITY = 1 << 2;
        /// No out-of-sync shadow pages.
        const OOS_OFF = 1 << 3;
        /// The XenStore domain.
        const XS_DOMAIN = 1 << 4;
        /// Uses the IOMMU.
        const IOMMU = 1 << 5;
        /// Nested virtualisation (Xen 4.15).
        const NESTED_VIRT = 1 << 6;
        /// Virtual PMU (Xen 4.16).
        const VPMU = 1 << 7;
        /// Trap accesses to unmapped frames (Xen 4.21, not on x86).
        const TRAP_UNMAPPED = 1 << 8;
    }
}

/// What to ask of `XEN_DOMCTL_createdomain`, free of any version's layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateDomain {
    /// The number of its security label; without meaning on a Xen without FLASK.
    pub ssidref: u32,
    /// The domain's UUID.
    pub handle: [u8; 16],
    /// Kind of domain.
    pub flags: CreateFlags,
    /// vCPUs; 1 at least.
    pub max_vcpus: u32,
    /// Highest event-channel port allowed; a negative number, as unsigned, for no limit.
    pub max_evtchn_port: u32,
    /// Frames the grant table may grow to; -1 for Xen's default (from Xen 4.16 on).
    pub max_grant_frames: i32,
    /// Frames the maptrack table may grow to; -1 for Xen's default.
    pub max_maptrack_frames: i32,
    /// Highest grant table version allowed: 1 or 2. Carried by interface version 0x14 and later.
    pub max_grant_version: u32,
    /// `XEN_X86_EMU_*`; 0 for PV.
    pub emulation_flags: u32,
    /// `XEN_X86_MSR_RELAXED`, or 0. Carried by interface version 0x13 and later.
    pub misc_flags: u32,
}

/// Where the fields of `struct xen_domctl_createdomain` stand that moved.
struct CreateLayout {
    /// Offset of `grant_opts`, from 0x14.
    grant_opts: Option<usize>,
    /// Offset of `arch.emulation_flags`.
    arch: usize,
    /// Size of the whole structure.
    size: usize,
}

const fn create_layout(version: DomctlVersion) -> CreateLayout {
    match version.0 {
        0..=0x12 => CreateLayout { grant_opts: None, arch: 44, size: 48 },
        0x13 => CreateLayout { grant_opts: None, arch: 48, size: 56 },
        0x14 => CreateLayout { grant_opts: Some(44), arch: 52, size: 60 },
        0x15 | 0x16 => CreateLayout { grant_opts: Some(44), arch: 56, size: 64 },
        _ => CreateLayout { grant_opts: Some(44), arch: 60, size: 68 },
    }
}

/// `struct xen_domctl_createdomain` up to the first field that moved.
#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct CreatePrefix {
    ssidref: u32,
    handle: [u8; 16],
    flags: u32,
    iommu_opts: u32,
    max_vcpus: u32,
    max_evtchn_port: u32,
    max_grant_frames: i32,
    max_maptrack_frames: i32,
}

assert_layout!(CreatePrefix, size = 44, handle @ 4, flags @ 20, max_vcpus @ 28, max_grant_frames @ 36);

impl CreateDomain {
    /// Size of the structure in `version`, for comparison with the header.
    pub const fn size(version: DomctlVersion) -> usize {
        create_layout(version).size
    }

    /// Offset of the architecture's part in `version`, for comparison with the header.
    pub const fn arch_offset(version: DomctlVersion) -> usize {
        create_layout(version).arch
    }

    /// The payload of a create call in the layout of `version`.
    pub fn encode(&self, version: DomctlVersion) -> [u8; PAYLOAD] {
        let mut payload = [0; PAYLOAD];
        let prefix = CreatePrefix {
            ssidref: self.ssidref,
            handle: self.handle,
            flags: self.flags.bits(),
            iommu_opts: 0,
            max_vcpus: self.max_vcpus,
            max_evtchn_port: self.max_evtchn_port,
            max_grant_frames: self.max_grant_frames,
            max_maptrack_frames: self.max_maptrack_frames,
        };
        put(&mut payload, 0, prefix.as_bytes());
        let layout = create_layout(version);
        if let Some(offset) = layout.grant_opts {
            put(&mut payload, offset, &self.max_grant_version.to_le_bytes());
        }
        put(&mut payload, layout.arch, &self.emulation_flags.to_le_bytes());
        if version.has_misc_flags() {
            put(&mut payload, layout.arch.saturating_add(4), &self.misc_flags.to_le_bytes());
        }
        payload
    }

    /// The request in a payload of `version`; the other direction of [`encode`](Self::encode), for a simulated Xen.
    pub fn decode(payload: &[u8; PAYLOAD], version: DomctlVersion) -> Option<Self> {
        let (prefix, _) = CreatePrefix::read_from_prefix(payload).ok()?;
        let layout = create_layout(version);
        let max_grant_version = match layout.grant_opts {
            Some(offset) => word(payload, offset)?,
            None => 2,
        };
        Some(Self {
            ssidref: prefix.ssidref,
            handle: prefix.handle,
            flags: CreateFlags::from_bits_retain(prefix.flags),
            max_vcpus: prefix.max_vcpus,
            max_evtchn_port: prefix.max_evtchn_port,
            max_grant_frames: prefix.max_grant_frames,
            max_maptrack_frames: prefix.max_maptrack_frames,
            max_grant_version,
            emulation_flags: word(payload, layout.arch)?,
            misc_flags: if version.has_misc_flags() {
                word(payload, layout.arch.checked_add(4)?)?
            } else {
                0
            },
        })
    }
}

/// Copies `bytes` to `offset`; the constant layouts above keep it within the payload.
fn put(payload: &mut [u8; PAYLOAD], offset: usize, bytes: &[u8]) {
    for (to, from) in payload.iter_mut().skip(offset).zip(bytes) {
        *to = *from;
    }
}

/// The little-endian word at `offset`.
fn word(payload: &[u8; PAYLOAD], offset: usize) -> Option<u32> {
    let bytes = payload.get(offset..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*bytes))
}

bitflags! {
    /// `XEN_DOMINF_*`: state of a domain.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct DomainState: u32 {
        /// Being destroyed.
        const DYING = 1 << 0;
        /// Hardware-assisted.
        const HVM_GUEST = 1 << 1;
        /// Has ended; the reason is in bits 16 to 23.
        const SHUTDOWN = 1 << 2;
        /// Paused by its controller.
        const PAUSED = 1 << 3;
        /// All vCPUs wait.
        const BLOCKED = 1 << 4;
        /// A vCPU runs.
        const RUNNING = 1 << 5;
        /// Paused by a debugger.
        const DEBUGGED = 1 << 6;
        /// The XenStore domain.
        const XS_DOMAIN = 1 << 7;
        /// Uses nested paging.
        const HAP = 1 << 8;
        /// The shutdown reason, and whatever other bits a newer Xen sets.
        const _ = !0;
    }
}

/// The part of `struct xen_domctl_getdomaininfo` that is the same in every version.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DomainInfo {
    /// The domain that the answer is about: the first at or after the one asked for in some releases.
    pub domain: u16,
    /// Padding.
    pub pad: u16,
    /// [`DomainState`] bits and the shutdown reason.
    pub flags: u32,
    /// Pages the domain has.
    pub tot_pages: u64,
    /// Pages it may have.
    pub max_pages: u64,
    /// Pages it has claimed and not got yet.
    pub outstanding_pages: u64,
    /// Pages it shares.
    pub shr_pages: u64,
    /// Pages that are paged out.
    pub paged_pages: u64,
    /// MFN (PV) or GFN of the shared info page.
    pub shared_info_frame: u64,
    /// CPU time used, nanoseconds.
    pub cpu_time: u64,
    /// vCPUs online.
    pub nr_online_vcpus: u32,
    /// Highest vCPU number in use.
    pub max_vcpu_id: u32,
    /// Security label.
    pub ssidref: u32,
    /// UUID.
    pub handle: [u8; 16],
    /// CPU pool.
    pub cpupool: u32,
}

assert_layout!(DomainInfo, size = 96, flags @ 4, tot_pages @ 8, shared_info_frame @ 48, cpu_time @ 56, max_vcpu_id @ 68, handle @ 76, cpupool @ 92);

impl DomainInfo {
    /// The state bits.
    pub fn state(&self) -> DomainState {
        DomainState::from_bits_retain(self.flags)
    }

    /// The reason the domain gave when it ended (`SHUTDOWN_*` of [`crate::sched`]); `None` while it lives.
    pub fn shutdown_reason(&self) -> Option<u8> {
        let [_, _, reason, _] = self.flags.to_le_bytes();
        self.state().contains(DomainState::SHUTDOWN).then_some(reason)
    }

    /// Reads the answer of a getdomaininfo call.
    pub fn decode(payload: &[u8; PAYLOAD]) -> Self {
        Self::read_from_prefix(payload).map_or_else(|_| Self::new_zeroed(), |(info, _)| info)
    }
}

/// `struct xen_domctl_max_mem`: the most memory the domain may have.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MaxMem {
    /// IN: KiB.
    pub max_memkb: u64,
}

impl MaxMem {
    /// The limit that allows `pages` pages.
    pub const fn new(pages: PageCount) -> Self {
        Self { max_memkb: pages.kib() }
    }
}

/// `struct xen_domctl_max_vcpus`: has to repeat what the domain was created with.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MaxVcpus {
    /// IN: number of vCPUs.
    pub max: u32,
}

/// `struct xen_domctl_set_virq_handler`: which domain a global virtual interrupt is raised with.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetVirqHandler {
    /// IN: `VIRQ_*`, a global one.
    pub virq: u32,
}

/// `struct xen_domctl_vcpucontext`: address of a vCPU's state.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuContextArgument {
    /// IN: which vCPU.
    pub vcpu: u32,
    /// Padding.
    pub pad: u32,
    /// IN: address of a [`crate::vcpu::VcpuGuestContext`].
    pub ctxt: u64,
}

impl VcpuContextArgument {
    /// Names `vcpu` and the address of its state in the caller's address space.
    pub const fn new(vcpu: VcpuId, ctxt: u64) -> Self {
        Self { vcpu: vcpu.raw(), pad: 0, ctxt }
    }
}

/// `struct xen_domctl_hypercall_init`: fill a hypercall page.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HypercallInit {
    /// IN: MFN (PV) or GFN of the page.
    pub gmfn: u64,
}

/// `struct xen_domctl_hvmcontext`: state of a hardware-assisted domain, see [`crate::hvm::save`].
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HvmContextArgument {
    /// IN: bytes of the buffer. OUT: bytes that were filled, or that are needed if there is no buffer.
    pub size: u32,
    /// Padding.
    pub pad: u32,
    /// IN: address of the buffer; 0 to ask for the size.
    pub buffer: u64,
}

assert_layout!(HvmContextArgument, size = 16, buffer @ 8);

/// `XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION`.
pub const SHADOW_OP_SET_ALLOCATION: u32 = 31;

/// `struct xen_domctl_shadow_op` up to the fields that only migration uses.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ShadowOp {
    /// IN: operation.
    pub op: u32,
    /// IN: mode; 0 for [`SHADOW_OP_SET_ALLOCATION`].
    pub mode: u32,
    /// IN: MiB of the paging pool. OUT: what it has.
    pub mb: u32,
}

/// `struct xen_domctl_paging_mempool`: memory that Xen keeps for a domain's paging structures.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PagingMempool {
    /// IN: bytes, whole pages.
    pub size: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> CreateDomain {
        CreateDomain {
            ssidref: 0,
            handle: *b"0123456789abcdef",
            flags: CreateFlags::HVM | CreateFlags::HAP,
            max_vcpus: 3,
            max_evtchn_port: 1023,
            max_grant_frames: 64,
            max_maptrack_frames: -1,
            max_grant_version: 2,
            emulation_flags: 1,
            misc_flags: 0,
        }
    }

    #[test]
    fn a_create_request_survives_every_version() {
        for version in DomctlVersion::known() {
            assert_eq!(
                CreateDomain::decode(&request().encode(version), version),
                Some(request()),
                "{version}"
            );
        }
    }

    #[test]
    fn nothing_is_written_past_the_structure() {
        for version in DomctlVersion::known() {
            let payload = request().encode(version);
            assert!(payload[CreateDomain::size(version)..].iter().all(|byte| *byte == 0), "{version}");
        }
    }

    #[test]
    fn xen_chooses_the_domid_by_a_value_that_depends_on_the_version() {
        let values: [u16; 7] = [0x7ff5, 0, 0, 0, 0, 0, 0];
        for (version, value) in DomctlVersion::known().zip(values) {
            assert_eq!(version.automatic_domid().raw(), value, "{version}");
        }
    }

    #[test]
    fn the_shutdown_reason_is_only_told_of_a_domain_that_ended() {
        let mut info = DomainInfo::new_zeroed();
        info.flags = 3 << 16;
        assert_eq!(info.shutdown_reason(), None);
        info.flags |= DomainState::SHUTDOWN.bits();
        assert_eq!(info.shutdown_reason(), Some(3));
    }
}
