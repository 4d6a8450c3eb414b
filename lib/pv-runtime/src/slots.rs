//! Which pages of an area are taken.

/// A bitmap of `WORDS` times 64 slots.
#[derive(Debug)]
pub(crate) struct Slots<const WORDS: usize> {
    taken: [u64; WORDS],
}

impl<const WORDS: usize> Slots<WORDS> {
    /// Slots in all.
    pub(crate) const COUNT: usize = WORDS * 64;

    /// All free.
    pub(crate) const fn new() -> Self {
        Self { taken: [0; WORDS] }
    }

    fn is_taken(&self, slot: usize) -> bool {
        self.taken.get(slot / 64).is_none_or(|word| word >> (slot % 64) & 1 == 1)
    }

    fn set(&mut self, slot: usize, taken: bool) {
        if let Some(word) = self.taken.get_mut(slot / 64) {
            let bit = 1 << (slot % 64);
            *word = if taken { *word | bit } else { *word & !bit };
        }
    }

    /// Takes `count` slots in a row: the first such run. Gives back its first slot.
    pub(crate) fn take(&mut self, count: usize) -> Option<usize> {
        let mut run = 0;
        for slot in 0..Self::COUNT {
            run = if self.is_taken(slot) { 0 } else { run + 1 };
            if run == count {
                let first = slot + 1 - count;
                (first..=slot).for_each(|slot| self.set(slot, true));
                return Some(first);
            }
        }
        None
    }

    /// Gives slots back.
    pub(crate) fn give_back(&mut self, first: usize, count: usize) {
        (first..first + count).for_each(|slot| self.set(slot, false));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_taken_from_the_front_and_can_be_taken_again() {
        let mut slots = Slots::<2>::new();
        assert_eq!(slots.take(0), None);
        assert_eq!(slots.take(3), Some(0));
        assert_eq!(slots.take(70), Some(3));
        assert_eq!(slots.take(56), None);
        assert_eq!(slots.take(55), Some(73));
        assert_eq!(slots.take(1), None);
        slots.give_back(10, 4);
        assert_eq!(slots.take(5), None);
        assert_eq!(slots.take(4), Some(10));
        assert_eq!(slots.take(129), None);
    }
}
