//! From times to places, and times as text. All in whole numbers, so that equal logs give equal pictures everywhere.

use std::fmt;

/// A length in tenths of a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tenths(pub(super) u64);

impl Tenths {
    pub(super) fn pixels(pixels: u64) -> Self {
        Self(pixels * 10)
    }
}

impl fmt::Display for Tenths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 10, self.0 % 10) {
            (whole, 0) => write!(f, "{whole}"),
            (whole, tenth) => write!(f, "{whole}.{tenth}"),
        }
    }
}

/// A range of times, and where it is drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    /// The first time, in microseconds.
    pub(super) from: u64,
    /// The last time; later than the first.
    pub(super) to: u64,
    /// Where the first is, in pixels.
    pub(super) left: u64,
    /// How far the last is from it, in pixels.
    pub(super) width: u64,
}

impl Scale {
    /// Where a time is; times outside of the range are at its ends.
    pub(super) fn place(&self, time: u64) -> Tenths {
        let time = time.clamp(self.from, self.to);
        let offset = u128::from(time - self.from) * u128::from(self.width) * 10;
        let span = u128::from((self.to - self.from).max(1));
        Tenths(self.left * 10 + u64::try_from(offset / span).unwrap_or(u64::MAX))
    }

    /// Round times for the axis, about `count` of them.
    pub(super) fn ticks(&self, count: u64) -> Vec<u64> {
        let step = self.step(count);
        let first = self.from.div_ceil(step);
        (first..=self.to / step).map(|tick| tick * step).collect()
    }

    /// The distance of two ticks: 1, 2 or 5 times a power of ten.
    pub(super) fn step(&self, count: u64) -> u64 {
        let least = ((self.to - self.from) / count).max(1);
        let mut power = 1_u64;
        loop {
            for factor in [1, 2, 5] {
                if let step @ 1.. = power.saturating_mul(factor)
                    && step >= least
                {
                    return step;
                }
            }
            power = power.saturating_mul(10);
        }
    }
}

const UNITS: [(u64, &str); 3] = [(1_000_000, "s"), (1000, "ms"), (1, "µs")];

/// The unit for times up to `largest` microseconds, and its name.
fn unit(largest: u64) -> (u64, &'static str) {
    UNITS.into_iter().find(|(unit, _)| largest >= *unit).unwrap_or((1, "µs"))
}

/// The label of a tick on an axis that ends at `largest` and whose ticks are `step` apart.
pub(super) fn tick_label(time: u64, step: u64, largest: u64) -> String {
    let (unit, name) = unit(largest);
    let mut decimals = 0;
    let mut part = unit;
    while !step.is_multiple_of(part) && part > 1 {
        part /= 10;
        decimals += 1;
    }
    format!("{} {name}", decimal(time, unit, decimals))
}

/// A duration with three or four digits that mean something: `81.5 ms`.
pub(super) fn duration(micros: u64) -> String {
    let (unit, name) = unit(micros);
    let decimals = match micros / unit {
        _ if unit == 1 => 0,
        0..10 => 2,
        10..100 => 1,
        _ => 0,
    };
    format!("{} {name}", decimal(micros, unit, decimals))
}

/// A time on Xen's clock, in seconds, as exact as the log has it.
pub(super) fn clock(micros: u64) -> String {
    format!("{} s", decimal(micros, 1_000_000, 6))
}

/// A time on Xen's clock for a headline.
pub(super) fn clock_short(micros: u64) -> String {
    format!("{} s", decimal(micros, 1_000_000, 2))
}

/// `value / unit` with `decimals` decimal places, cut off behind them. `unit` is a power of ten.
fn decimal(value: u64, unit: u64, decimals: u32) -> String {
    let whole = value / unit;
    if decimals == 0 {
        return whole.to_string();
    }
    let part = u128::from(value % unit) * 10_u128.pow(decimals) / u128::from(unit);
    format!("{whole}.{part:0width$}", width = decimals as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_few_digits() {
        let shown = [0, 7, 999, 1361, 81_469, 148_165, 2_345_678, 24_700_000, 360_000_000].map(duration);
        let expected =
            ["0 µs", "7 µs", "999 µs", "1.36 ms", "81.4 ms", "148 ms", "2.34 s", "24.7 s", "360 s"];
        assert_eq!(shown, expected);
        assert_eq!((clock(1_019_113), clock_short(1_019_113)), ("1.019113 s".into(), "1.01 s".into()));
    }

    #[test]
    fn ticks_are_round_and_their_labels_tell_them_apart() {
        for (from, to) in [(0, 1), (0, 24_933_174), (1_019_113, 1_528_243), (5, 950), (0, u64::MAX), (7, 8)] {
            let scale = Scale { from, to, left: 0, width: 1000 };
            let ticks = scale.ticks(8);
            assert!(ticks.len() <= 9, "{from}..{to}: {ticks:?}");
            let step = scale.step(8);
            let mut labels: Vec<_> = ticks.iter().map(|tick| tick_label(*tick, step, to)).collect();
            labels.dedup();
            assert_eq!(labels.len(), ticks.len(), "{labels:?}");
        }
        assert_eq!(tick_label(1_100_000, 100_000, 1_528_243), "1.1 s");
        assert_eq!(tick_label(1_150_000, 50_000, 1_528_243), "1.15 s");
        assert_eq!(tick_label(20_000_000, 5_000_000, 24_000_000), "20 s");
    }

    #[test]
    fn places_stay_within_the_picture() {
        let scale = Scale { from: 10, to: 20, left: 100, width: 1000 };
        let places = [0, 10, 15, 20, u64::MAX].map(|time| scale.place(time).to_string());
        assert_eq!(places, ["100", "100", "600", "1100", "1100"]);
        assert_eq!(Tenths(1234).to_string(), "123.4");
    }
}
