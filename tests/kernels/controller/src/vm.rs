//! Requests for VMs.

use alloc::vec::Vec;

use protocols::BootSpec;
use protocols::message::{BuildRequest, ImageSource};
use verdict::Verdict;

/// The image that the platform files of these tests have for controllers.
pub(crate) const WORKER: &str = "images/worker";

/// Memory of a VM that is built, in KiB.
pub(crate) const MEMORY_KIB: u64 = 8 << 10;

/// A small VM.
pub(crate) fn spec(name: &str) -> BootSpec {
    BootSpec::new(name, "-", MEMORY_KIB)
}

/// A request for `spec`, with the kernel of the RAM disk that is there for it.
pub(crate) fn build(spec: &BootSpec, paused: bool) -> Result<BuildRequest, Verdict> {
    let spec: Vec<u8> = spec.encode().map_err(Verdict::error)?;
    Ok(BuildRequest {
        spec,
        kernel: ImageSource::Ramdisk(WORKER.into()),
        ramdisk: None,
        paused,
        console: None,
        xenstore: None,
        label: None,
        measured: false,
    })
}
