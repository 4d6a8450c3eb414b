//! Time: nanoseconds since Xen started, and of the day.
//!
//! Xen tells each vCPU how to compute the time from the time stamp counter, and updates that from time to time.

use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use xen_abi::shared_info::{SharedInfo, VcpuInfo, VcpuTimeInfo};

use crate::machine;

/// Address of the shared info page; 0 before it is mapped.
static SHARED_INFO: AtomicU64 = AtomicU64::new(0);

/// Nanoseconds since Xen started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SystemTime(u64);

impl SystemTime {
    /// From nanoseconds since Xen started.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since Xen started.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// Nanoseconds from `earlier` to here; 0 if that is later.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for SystemTime {
    /// Seconds with microseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0 / 1000;
        write!(f, "{:5}.{:06}", micros / 1_000_000, micros % 1_000_000)
    }
}

/// A moment of the calendar: time since 1970 in UTC, as far as Xen knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallClock {
    /// Seconds since 1970.
    pub seconds: u64,
    /// Nanoseconds to add, below one second.
    pub nanos: u32,
}

impl WallClock {
    /// The moment `nanos` after `self`.
    fn after(self, nanos: u64) -> Self {
        const SECOND: u64 = 1_000_000_000;
        let sum = u64::from(self.nanos) + nanos % SECOND;
        let seconds = self.seconds + nanos / SECOND + sum / SECOND;
        Self { seconds, nanos: u32::try_from(sum % SECOND).unwrap_or(0) }
    }
}

/// System time at a value of the counter.
fn system_time(info: &VcpuTimeInfo, tsc: u64) -> SystemTime {
    let ticks = tsc.wrapping_sub(info.tsc_timestamp);
    let shift = u32::from(info.tsc_shift.unsigned_abs());
    let scaled = if info.tsc_shift < 0 {
        ticks.checked_shr(shift).unwrap_or(0)
    } else {
        ticks.checked_shl(shift).unwrap_or(0)
    };
    // The product has up to 96 bits; what is left of it after the shift fits 64 for any plausible span of time.
    let nanos = (u128::from(scaled) * u128::from(info.tsc_to_system_mul)) >> 32;
    SystemTime(info.system_time.wrapping_add(nanos as u64))
}

/// Says where the shared info page is mapped.
pub(crate) fn initialise(shared_info: u64) {
    SHARED_INFO.store(shared_info, Ordering::Release);
}

/// The shared info page; `None` before it is mapped.
fn shared_info() -> Option<*const SharedInfo> {
    let address = SHARED_INFO.load(Ordering::Acquire);
    (address != 0).then(|| core::ptr::with_exposed_provenance(address as usize))
}

/// State of the boot vCPU in the shared info page.
pub(crate) fn vcpu_info() -> Option<*mut VcpuInfo> {
    // The array of vCPUs is the first field.
    shared_info().map(|shared| shared.cast_mut().cast::<VcpuInfo>())
}

/// Reads `what` again and again until a version was even and the same before and after.
///
/// # Safety
///
/// 1. `version` and `what` are aligned and in the shared info page.
/// 2. Any bytes are a `T`: a copy that Xen writes meanwhile is of two halves.
unsafe fn consistent<T: Copy>(version: *const u32, what: *const T) -> (T, u64) {
    loop {
        // SAFETY: by 1 an aligned word of a page that `boot::map_shared_info` has mapped for good; Xen writes it, hence atomic.
        let before = unsafe { AtomicU32::from_ptr(version.cast_mut()) }.load(Ordering::Acquire);
        // SAFETY: by 1 it can be read, and by 2 whatever is read is a value; one that is torn has another version before than after it, and is
        // thrown away below.
        let copy = unsafe { what.read_volatile() };
        let tsc = machine::tsc();
        fence(Ordering::Acquire);
        // SAFETY: as above.
        let after = unsafe { AtomicU32::from_ptr(version.cast_mut()) }.load(Ordering::Acquire);
        if before == after && before % 2 == 0 {
            return (copy, tsc);
        }
        core::hint::spin_loop();
    }
}

/// System time; 0 while the kernel has not mapped Xen's page yet.
pub fn now() -> SystemTime {
    let Some(vcpu) = vcpu_info() else { return SystemTime(0) };
    // SAFETY: `vcpu` is the address of the structure in a mapped page.
    let time = unsafe { &raw const (*vcpu).time };
    // The version is the first field.
    // SAFETY: 1. both are in the shared info page, as fields at their alignment. 2. the structure is of integers.
    let (info, tsc) = unsafe { consistent(time.cast::<u32>(), time) };
    system_time(&info, tsc)
}

/// The processor's time stamp counter, as this domain reads it: for Dom0 it is the machine's own, for others Xen may make it up.
pub fn ticks() -> u64 {
    machine::tsc()
}

/// Time of the day; `None` while the kernel has not mapped Xen's page yet.
pub fn wall_clock() -> Option<WallClock> {
    let shared = shared_info()?;
    // SAFETY: `shared` is the address of the structure in a mapped page.
    let version = unsafe { &raw const (*shared).wc_version };
    // Version, seconds, nanoseconds, high word of the seconds: four words in a row.
    // SAFETY: 1. all four are in the shared info page, at a multiple of 4. 2. they are integers.
    let ([_, low, nanos, high], _) = unsafe { consistent(version, version.cast::<[u32; 4]>()) };
    let start = WallClock { seconds: u64::from(high) << 32 | u64::from(low), nanos };
    Some(start.after(now().nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn info(mul: u32, shift: i8) -> VcpuTimeInfo {
        VcpuTimeInfo {
            tsc_timestamp: 1000,
            system_time: 5_000,
            tsc_to_system_mul: mul,
            tsc_shift: shift,
            ..VcpuTimeInfo::default()
        }
    }

    #[test]
    fn ticks_become_nanoseconds() {
        // Half a nanosecond a tick.
        assert_eq!(system_time(&info(1 << 31, 0), 1000), SystemTime(5_000));
        assert_eq!(system_time(&info(1 << 31, 0), 3000), SystemTime(6_000));
        assert_eq!(system_time(&info(1 << 31, 1), 3000), SystemTime(7_000));
        assert_eq!(system_time(&info(1 << 31, -1), 3000), SystemTime(5_500));
    }

    #[test]
    fn a_long_time_does_not_overflow() {
        // 2.5 GHz for ten years without an update.
        let ticks = 2_500_000_000_u64 * 86_400 * 3650;
        let found = system_time(&info(0xcccc_cccc, -1), 1000 + ticks).nanos();
        let expected = 5_000 + ticks / 5 * 2;
        assert!(expected - found < expected / 1_000_000_000, "{found} {expected}");
    }

    #[test]
    fn nonsense_gives_some_time_but_no_panic() {
        let _ = system_time(&info(u32::MAX, 127), u64::MAX);
        let _ = system_time(&info(u32::MAX, -128), 0);
    }

    #[test]
    fn the_wall_clock_carries() {
        let start = WallClock { seconds: 10, nanos: 999_999_999 };
        assert_eq!(start.after(1), WallClock { seconds: 11, nanos: 0 });
        assert_eq!(start.after(3_000_000_002), WallClock { seconds: 14, nanos: 1 });
    }

    #[test]
    fn a_time_stamp_has_microseconds() {
        assert_eq!(SystemTime(1_234_567_890).to_string(), "    1.234567");
    }
}
