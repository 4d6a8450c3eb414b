//! What ends a platform.

use protocols::Life;
use protocols::platform::Ends;

/// Whether a platform has nothing left to look after: `left` are the VMs that run or will be started again, `held` those that wait
/// for others before their first start.
///
/// The ends that come at once, of a VM that is named by [`Ends::With`] or of a critical one that is lost, are events: they are
/// seen when they happen.
pub fn is_over<'l>(
    ends: &Ends,
    left: impl Iterator<Item = &'l Life>,
    held: impl Iterator<Item = &'l Life>,
) -> bool {
    let mut left = left;
    match ends {
        Ends::Last | Ends::With(_) => left.next().is_none(),
        Ends::Critical => !left.chain(held).any(|life| life.critical),
        Ends::Never => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_looks_at_those_that_it_is_about() {
        let (plain, critical) = (Life::default(), Life { critical: true, ..Life::default() });
        let over = |ends: &Ends, left: &[&Life], held: &[&Life]| {
            is_over(ends, left.iter().copied(), held.iter().copied())
        };
        let with = Ends::With(alloc::vec!["a".into()]);
        for ends in [&Ends::Last, &with] {
            assert!(over(ends, &[], &[]));
            assert!(!over(ends, &[&plain], &[]));
        }
        assert!(over(&Ends::Critical, &[&plain], &[&plain]));
        assert!(!over(&Ends::Critical, &[&plain, &critical], &[]));
        assert!(!over(&Ends::Critical, &[&plain], &[&critical]));
        assert!(!over(&Ends::Never, &[], &[]));
    }
}
