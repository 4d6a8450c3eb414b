//! Xen's glossary as types.

use core::fmt;

use crate::PAGE_SHIFT;

/// Declares a newtype over an integer with explicit construction and extraction, and no implicit conversion.
macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident($repr:ty), $format:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name($repr);

        impl $name {
            /// Wraps a raw value that the caller knows to be of this kind.
            pub const fn new(raw: $repr) -> Self {
                Self(raw)
            }

            /// The raw value, for an interface structure or for arithmetic that the caller checks.
            pub const fn raw(self) -> $repr {
                self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "(", $format, ")"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }
    };
}

quantity! {
    /// Pseudo-physical frame number: a guest's own, contiguous numbering of its memory, from 0.
    Pfn(u64), "{:#x}"
}
quantity! {
    /// Machine frame number: a 4 KiB frame of real memory, as page-table entries of PV guests hold it.
    Mfn(u64), "{:#x}"
}
quantity! {
    /// Address in machine memory, in bytes.
    MachineAddr(u64), "{:#x}"
}
quantity! {
    /// Virtual address as a guest sees it, in bytes; canonical for x86-64.
    GuestVirt(u64), "{:#x}"
}
quantity! {
    /// Domain identifier: 0..0x7ff0 for domains, above that Xen's special identifiers.
    DomId(u16), "{}"
}
quantity! {
    /// Event-channel port of one domain; 0 is never valid.
    Port(u32), "{}"
}
quantity! {
    /// Index into a domain's grant table.
    GrantRef(u32), "{}"
}
quantity! {
    /// Number of a virtual CPU within its domain, from 0.
    VcpuId(u32), "{}"
}
quantity! {
    /// A number of 4 KiB pages.
    PageCount(u64), "{}"
}

impl Pfn {
    /// The frame `pages` further on, unless that overflows.
    pub const fn checked_add(self, pages: PageCount) -> Option<Self> {
        match self.0.checked_add(pages.0) {
            Some(raw) => Some(Self(raw)),
            None => None,
        }
    }
}

impl Mfn {
    /// What Xen and its guests write for "no frame here" in a p2m table.
    pub const INVALID: Self = Self(u64::MAX);

    /// The frame `pages` further on, unless that overflows.
    pub const fn checked_add(self, pages: PageCount) -> Option<Self> {
        match self.0.checked_add(pages.0) {
            Some(raw) => Some(Self(raw)),
            None => None,
        }
    }

    /// The address of this frame's first byte, unless the frame number is beyond 52 bits.
    pub const fn address(self) -> Option<MachineAddr> {
        if self.0 >> (64 - PAGE_SHIFT) == 0 { Some(MachineAddr(self.0 << PAGE_SHIFT)) } else { None }
    }
}

impl GuestVirt {
    /// The address `bytes` further on, unless that overflows.
    pub const fn checked_add(self, bytes: u64) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(raw) => Some(Self(raw)),
            None => None,
        }
    }
}

impl DomId {
    /// The first identifier that no ordinary domain has (`DOMID_FIRST_RESERVED` of xen.h).
    pub const FIRST_RESERVED: Self = Self(0x7ff0);
    /// The hardware domain that Xen starts first.
    pub const DOM0: Self = Self(0);
    /// The caller itself (`DOMID_SELF`).
    pub const SELF: Self = Self(0x7ff0);
    /// Owner of I/O memory (`DOMID_IO`).
    pub const IO: Self = Self(0x7ff1);
    /// Owner of Xen's own memory (`DOMID_XEN`).
    pub const XEN: Self = Self(0x7ff2);
    /// No particular domain (`DOMID_ANY`, named so since Xen 4.21; `DOMID_INVALID` - 1 before).
    pub const ANY: Self = Self(0x7ff5);
    /// An identifier that is never valid (`DOMID_INVALID`).
    pub const INVALID: Self = Self(0x7ff4);

    /// Whether this identifier can belong to an ordinary domain.
    pub const fn is_ordinary(self) -> bool {
        self.0 < Self::FIRST_RESERVED.0
    }
}

impl PageCount {
    /// No pages.
    pub const ZERO: Self = Self(0);

    /// As many pages as hold `bytes` bytes.
    pub const fn for_bytes(bytes: u64) -> Self {
        Self(bytes.div_ceil(1 << PAGE_SHIFT))
    }

    /// The size in bytes, unless that overflows 64 bits.
    pub const fn bytes(self) -> Option<u64> {
        self.0.checked_mul(1 << PAGE_SHIFT)
    }

    /// The size in KiB, saturating.
    pub const fn kib(self) -> u64 {
        self.0.saturating_mul(4)
    }

    /// The sum, unless that overflows.
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(raw) => Some(Self(raw)),
            None => None,
        }
    }

    /// The difference, unless `other` is larger.
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(raw) => Some(Self(raw)),
            None => None,
        }
    }
}

impl VcpuId {
    /// The virtual CPU that a domain starts on.
    pub const BOOT: Self = Self(0);
}
