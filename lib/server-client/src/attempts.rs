//! When to try again, and when to give up.

use alloc::string::{String, ToString};
use core::fmt;

/// A conversation that lasted so long (10 s, in nanoseconds) was a good one, whatever ended it.
pub const STEADY: u64 = 10_000_000_000;

/// How long and how often to try. Times are in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// The pause after a first try in vain; each further one is twice as long as the one before.
    pub pause: u64,
    /// The longest pause.
    pub longest: u64,
    /// How long to go on without a conversation.
    pub time: u64,
    /// How many conversations in a row may be lost sooner than [`STEADY`] after they began.
    pub losses: u32,
}

impl Patience {
    /// Goes on for `time` nanoseconds, trying every 5 ms at first, and every quarter of a second later.
    pub const fn of(time: u64) -> Self {
        Self { pause: 5_000_000, longest: 250_000_000, time, losses: 32 }
    }

    /// The pause after so many tries in vain.
    fn pause_after(&self, tries: u32) -> u64 {
        let doubled =
            self.pause.saturating_mul(1_u64.checked_shl(tries.saturating_sub(1)).unwrap_or(u64::MAX));
        doubled.min(self.longest)
    }
}

/// Why nothing more is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenUp {
    /// Nanoseconds since there was a conversation, or since it was first tried.
    pub without: u64,
    /// Tries in vain in that time.
    pub tries: u32,
    /// Conversations in a row that were lost soon after they began.
    pub losses: u32,
    /// What went wrong last; empty if nothing was tried.
    pub last_error: String,
}

impl fmt::Display for GivenUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { without, tries, losses, last_error } = self;
        write!(
            f,
            "no conversation for {} ms, {tries} tries in vain, {losses} conversations lost soon after they began",
            without / 1_000_000
        )?;
        if last_error.is_empty() { Ok(()) } else { write!(f, "; at last: {last_error}") }
    }
}

/// Whether there is a conversation.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Without { since: u64 },
    Within { since: u64 },
}

/// The tries to have a conversation with somebody who may not be there yet, or not any more: a pause between them that grows, and a bound.
///
/// It reads no clock: `now` is a time in nanoseconds that does not go back.
#[derive(Clone, Debug)]
pub struct Attempts {
    patience: Patience,
    phase: Phase,
    tries: u32,
    losses: u32,
    next: u64,
    last_error: String,
}

impl Attempts {
    /// Nothing was tried yet; the first try is due at once.
    pub fn new(patience: Patience, now: u64) -> Self {
        let phase = Phase::Without { since: now };
        Self { patience, phase, tries: 0, losses: 0, next: now, last_error: String::new() }
    }

    /// From when on to try again.
    pub fn due(&self) -> u64 {
        self.next
    }

    /// When [`given_up`](Self::given_up) is to be asked, if nothing happens before; `None` within a conversation.
    pub fn deadline(&self) -> Option<u64> {
        match self.phase {
            Phase::Without { since } => Some(since.saturating_add(self.patience.time)),
            Phase::Within { .. } => None,
        }
    }

    /// What is tried has come to a conversation.
    pub fn began(&mut self, now: u64) {
        self.phase = Phase::Within { since: now };
        self.tries = 0;
    }

    /// A try was in vain, or the conversation is over: the next may begin after a pause.
    pub fn lost(&mut self, why: &impl fmt::Display, now: u64) {
        match self.phase {
            Phase::Without { .. } => self.tries = self.tries.saturating_add(1),
            Phase::Within { since } => {
                let was_short = now.saturating_sub(since) < STEADY;
                self.losses = if was_short { self.losses.saturating_add(1) } else { 0 };
                self.phase = Phase::Without { since: now };
            }
        }
        let pause = self.patience.pause_after(self.tries.saturating_add(self.losses));
        self.next = now.saturating_add(pause);
        self.last_error = why.to_string();
    }

    /// Whether to go on, and if not, what has happened.
    pub fn given_up(&self, now: u64) -> Option<GivenUp> {
        let Phase::Without { since } = self.phase else { return None };
        let without = now.saturating_sub(since);
        let is_over = without >= self.patience.time || self.losses > self.patience.losses;
        let (tries, losses, last_error) = (self.tries, self.losses, self.last_error.clone());
        is_over.then_some(GivenUp { without, tries, losses, last_error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { pause: 10, longest: 70, time: 1000, losses: 3 };

    #[test]
    fn pauses_double_up_to_the_longest_and_time_is_bounded() {
        let mut attempts = Attempts::new(PATIENCE, 5);
        let mut pauses = alloc::vec![];
        let mut now = 5;
        while attempts.given_up(now).is_none() {
            attempts.lost(&"nobody there", now);
            pauses.push(attempts.due() - now);
            now = attempts.due();
        }
        assert_eq!(pauses[..5], [10, 20, 40, 70, 70]);
        assert!(pauses.len() < 20 && attempts.deadline() == Some(1005));
        let given_up = attempts.given_up(now).unwrap();
        assert!(given_up.to_string().ends_with("; at last: nobody there"), "{given_up}");
    }

    #[test]
    fn conversations_that_do_not_last_are_bounded_and_one_that_does_forgives_them() {
        let mut attempts = Attempts::new(PATIENCE, 0);
        let live = |lasting: u64, attempts: &mut Attempts| {
            let begin = attempts.due();
            attempts.began(begin);
            assert_eq!(
                (attempts.given_up(u64::MAX), attempts.deadline()),
                (None, None),
                "while there is one"
            );
            attempts.lost(&"dropped", begin + lasting);
            (attempts.due() - begin - lasting, attempts.given_up(begin + lasting))
        };
        assert_eq!(live(1, &mut attempts), (10, None));
        assert_eq!(live(1, &mut attempts), (20, None));
        assert_eq!(live(STEADY, &mut attempts), (10, None));
        for _ in 0..3 {
            assert_eq!(live(STEADY - 1, &mut attempts).1, None);
        }
        assert_eq!(live(1, &mut attempts).1.map(|given_up| given_up.losses), Some(4));
    }

    #[test]
    fn no_number_of_tries_is_too_many_for_the_pause() {
        let mut attempts = Attempts::new(Patience { time: u64::MAX, ..PATIENCE }, 0);
        for now in 0..200 {
            attempts.lost(&"", now);
        }
        assert_eq!(attempts.due(), 199 + 70);
    }
}
