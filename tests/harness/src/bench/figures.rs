//! The numbers, and how they are found in what machines print.

use thiserror::Error;

/// Numbers by name, in the order in which they were measured. A name's last word says the unit: times are in
/// nanoseconds of the machine, `memory` is in KiB, `size` in bytes.
#[derive(Debug, Default)]
pub(super) struct Figures(Vec<(String, u64)>);

/// A figure is missing that every run has.
#[derive(Debug, Error)]
#[error("no figure {0}: what the machine printed has no such line")]
pub(super) struct Missing(String);

impl Figures {
    /// Enters a number.
    pub(super) fn enter(&mut self, name: impl Into<String>, value: u64) {
        self.0.push((name.into(), value));
    }

    /// The number of that name.
    pub(super) fn get(&self, name: &str) -> Option<u64> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }

    /// Fails unless all of these are there, and none is 0.
    pub(super) fn check(&self, names: &[String]) -> Result<(), Missing> {
        let missing = names.iter().find(|name| self.get(name).is_none_or(|value| value == 0));
        missing.map_or(Ok(()), |name| Err(Missing(name.clone())))
    }
}

/// The value of `key=` among the words of a line.
pub(super) fn field<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

/// The same, as a number with a unit behind it or without.
pub(crate) fn number(line: &str, key: &str) -> Option<u64> {
    let value = field(line, key)?;
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    value.get(..digits)?.parse().ok()
}

/// The numbers `key` of all lines that contain `what`.
pub(super) fn numbers(console: &str, what: &str, key: &str) -> Vec<u64> {
    console.lines().filter(|line| line.contains(what)).filter_map(|line| number(line, key)).collect()
}

/// The middle one; of an even number the higher of the two.
pub(super) fn median(mut numbers: Vec<u64>) -> Option<u64> {
    numbers.sort_unstable();
    numbers.get(numbers.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_in_lines_of_all_systems() {
        let line =
            "[    0.996759] db-boot: info: vm=m8 domid=1 event=built memory=8192KiB hypercalls=9 took=820us";
        assert_eq!((number(line, "took"), number(line, "memory")), (Some(820), Some(8192)));
        assert_eq!((number(line, "domid"), number(line, "xtook")), (Some(1), None));
        let console =
            "BENCH name=create-8 start=1 took=7 status=0\nBENCH name=create-64 start=1 took=9 status=0\r\n";
        assert_eq!(numbers(console, "name=create-64 ", "took"), [9]);
        assert_eq!(median(vec![9, 1, 5]), Some(5));
        assert_eq!(median(Vec::new()), None);
    }

    #[test]
    fn a_figure_that_is_missing_or_nothing_is_an_error() {
        let mut figures = Figures::default();
        figures.enter("a.time", 1);
        figures.enter("b.time", 0);
        assert!(figures.check(&["a.time".into()]).is_ok());
        assert!(figures.check(&["b.time".into()]).unwrap_err().to_string().contains("b.time"));
        assert!(figures.check(&["c.time".into()]).is_err());
    }
}
