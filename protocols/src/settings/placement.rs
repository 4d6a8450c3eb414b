//! Where a VM's vCPUs run, and what share of the CPUs they get.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{SettingsError, within};

/// The highest number of a CPU: no Xen supports more than 16384.
pub const MAX_CPU: u32 = 16383;
/// The most ranges in all sets of one affinity together.
pub const MAX_CPU_RANGES: usize = 512;
/// The highest weight.
pub const MAX_WEIGHT: u16 = 65535;
/// The highest cap in percent of one CPU. The number above it means "leave it as it is" to Xen.
pub const MAX_CAP: u16 = 65534;

/// Where and how a VM's vCPUs run. The order of the fields is the wire format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// CPUs that its vCPUs run on, and no others.
    pub hard: Affinity,
    /// CPUs that its vCPUs run on rather than on others.
    pub soft: Affinity,
    /// Its share of the CPUs beside that of other domains, 1 to [`MAX_WEIGHT`]; `None` for Xen's default, 256.
    pub weight: Option<u16>,
    /// The most it gets, in percent of one CPU, 0 (no limit) to [`MAX_CAP`]; `None` for Xen's default, no limit.
    pub cap: Option<u16>,
    /// The CPU pool; pool 0, that of Dom0, unless another is named.
    pub pool: u32,
}

/// CPUs for vCPUs. The order of the variants is the wire format: additions go last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Affinity {
    /// Any CPU for every vCPU.
    #[default]
    Any,
    /// One set for every vCPU.
    All(CpuSet),
    /// A set for each vCPU, from the first on; those without one run on any CPU.
    Each(Vec<CpuSet>),
}

/// A set of CPUs: ranges in ascending order, with gaps between; one at least.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuSet(Vec<CpuRange>);

/// CPUs, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuRange {
    /// The first.
    pub first: u32,
    /// The last, at least `first`, at most [`MAX_CPU`].
    pub last: u32,
}

impl CpuSet {
    /// The set of `cpus`; `None` if there are none, or one is above [`MAX_CPU`].
    pub fn new(cpus: impl IntoIterator<Item = u32>) -> Option<Self> {
        let mut cpus: Vec<u32> = cpus.into_iter().collect();
        cpus.sort_unstable();
        cpus.dedup();
        let mut ranges: Vec<CpuRange> = Vec::new();
        for cpu in cpus {
            match ranges.last_mut() {
                Some(range) if range.last.checked_add(1) == Some(cpu) => range.last = cpu,
                _ => ranges.push(CpuRange { first: cpu, last: cpu }),
            }
        }
        let set = Self(ranges);
        set.validate().ok().map(|()| set)
    }

    /// The ranges, in ascending order.
    pub fn ranges(&self) -> &[CpuRange] {
        &self.0
    }

    /// The CPUs, in ascending order.
    pub fn cpus(&self) -> impl Iterator<Item = u32> {
        self.0.iter().flat_map(|range| range.first..=range.last)
    }

    fn validate(&self) -> Result<(), SettingsError> {
        let in_order = |range: &CpuRange| range.first <= range.last && range.last <= MAX_CPU;
        let apart = |pair: &[CpuRange]| match pair {
            [left, right] => left.last.checked_add(1).is_some_and(|next| next < right.first),
            _ => true,
        };
        let valid = !self.0.is_empty() && self.0.iter().all(in_order) && self.0.windows(2).all(apart);
        if valid { Ok(()) } else { Err(SettingsError::BadCpus) }
    }
}

impl core::fmt::Display for CpuSet {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for (index, CpuRange { first, last }) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

impl Affinity {
    /// The set for one vCPU; `None` for any CPU.
    pub fn of(&self, vcpu: u32) -> Option<&CpuSet> {
        match self {
            Self::Any => None,
            Self::All(set) => Some(set),
            Self::Each(sets) => sets.get(usize::try_from(vcpu).ok()?),
        }
    }

    fn validate(&self) -> Result<(), SettingsError> {
        let sets = match self {
            Self::Any => &[],
            Self::All(set) => core::slice::from_ref(set),
            Self::Each(sets) => sets.as_slice(),
        };
        let count = sets.iter().map(|set| set.0.len()).sum();
        if count > MAX_CPU_RANGES {
            return Err(SettingsError::TooMany { what: "ranges of CPUs", count, most: MAX_CPU_RANGES });
        }
        sets.iter().try_for_each(CpuSet::validate)
    }
}

impl Placement {
    /// Whether nothing is asked for.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Checks every field against its range.
    pub(super) fn validate(&self) -> Result<(), SettingsError> {
        self.hard.validate()?;
        self.soft.validate()?;
        within("weight", u32::from(self.weight.unwrap_or(1)), 1, u32::from(MAX_WEIGHT))?;
        within("cap", u32::from(self.cap.unwrap_or(0)), 0, u32::from(MAX_CAP))
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn cpus_are_joined_to_ranges() {
        let set = CpuSet::new([5, 1, 2, 3, 2, 7]).unwrap();
        assert_eq!(set.to_string(), "1-3,5,7");
        assert_eq!(set.cpus().collect::<Vec<_>>(), [1, 2, 3, 5, 7]);
        assert_eq!(CpuSet::new([]), None);
        assert_eq!(CpuSet::new([MAX_CPU + 1]), None);
    }

    #[test]
    fn ranges_that_touch_are_refused() {
        let range = |first, last| CpuRange { first, last };
        for ranges in [
            alloc::vec![],
            alloc::vec![range(2, 1)],
            alloc::vec![range(0, 1), range(2, 3)],
            alloc::vec![range(4, 5), range(0, 1)],
            alloc::vec![range(0, MAX_CPU + 1)],
        ] {
            assert_eq!(CpuSet(ranges.clone()).validate(), Err(SettingsError::BadCpus), "{ranges:?}");
        }
    }
}
