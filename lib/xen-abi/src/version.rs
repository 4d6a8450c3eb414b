//! Which Xen this is (public/version.h, public/features.h).

/// `XENVER_version`: result is major << 16 | minor.
pub const XENVER_VERSION: u32 = 0;
/// `XENVER_extraversion`: fills [`EXTRAVERSION_LEN`] bytes.
pub const XENVER_EXTRAVERSION: u32 = 1;
/// `XENVER_capabilities`: fills [`CAPABILITIES_LEN`] bytes.
pub const XENVER_CAPABILITIES: u32 = 3;

/// Bytes of the extra version, padded with NUL.
pub const EXTRAVERSION_LEN: usize = 16;
/// Bytes of the capabilities, padded with NUL.
pub const CAPABILITIES_LEN: usize = 1024;
