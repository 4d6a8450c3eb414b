//! What the host wants to know about a kernel before anything runs.

use kernel_image::{Format, UnpackingCost};

/// The largest kernel that is unpacked, in bytes. Debian's has 60 MiB; one with everything built in and its debug
/// information stripped stays below 200 MiB. db-boot has the same limit.
pub const MAX_UNPACKED: usize = 512 << 20;

/// What unpacking a kernel costs db-boot. Of a stream that does not say how large it will be, by unpacking it.
pub fn unpacking_cost(kernel: &[u8]) -> UnpackingCost {
    let measured = || match (Format::detect(kernel), kernel_image::unwrap(kernel, MAX_UNPACKED)) {
        (Ok(Format::Compressed(compression)), Ok(unwrapped)) => {
            UnpackingCost::of(compression, kernel, unwrapped.elf.len())
        }
        _ => UnpackingCost::default(),
    };
    let cost = UnpackingCost::declared(kernel).unwrap_or_else(measured);
    // What declares more is refused.
    if cost.output > MAX_UNPACKED { UnpackingCost::default() } else { cost }
}
