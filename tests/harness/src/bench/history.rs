//! What earlier runs have found: a text file in the repository, one figure a line.

use std::error::Error;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use super::figures::Figures;

/// The file, from the top of the checkout.
pub(super) const FILE: &str = "tests/bench/history.txt";

/// Figures of earlier runs.
#[derive(Debug, Default)]
pub(super) struct Past(String);

impl Past {
    /// The last value of a figure on this Xen, and the commit that it was measured at.
    pub(super) fn last(&self, xen: &str, name: &str) -> Option<(u64, &str)> {
        self.0.lines().rev().find_map(|line| match *line.split_whitespace().collect::<Vec<_>>() {
            [_, commit, on, what, value] if on == xen && what == name => Some((value.parse().ok()?, commit)),
            _ => None,
        })
    }
}

/// Reads the file.
pub(super) fn read(top: &Path) -> Result<Past, Box<dyn Error>> {
    let path = top.join(FILE);
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Past(text))
}

/// Adds the figures of a run on Xen `xen`.
pub(super) fn append(top: &Path, xen: &str, figures: &Figures) -> Result<(), Box<dyn Error>> {
    let date = output(Command::new("date").args(["-u", "+%F"]))?;
    let mut commit = output(Command::new("git").current_dir(top).args(["rev-parse", "--short", "HEAD"]))?;
    if !output(Command::new("git").current_dir(top).args(["status", "--porcelain", "--untracked-files=no"]))?
        .is_empty()
    {
        commit += "+";
    }
    let lines = figures.iter().fold(String::new(), |mut lines, (name, value)| {
        let _ = writeln!(lines, "{date} {commit} {xen} {name} {value}");
        lines
    });
    OpenOptions::new().append(true).open(top.join(FILE))?.write_all(lines.as_bytes())?;
    Ok(())
}

/// What a program prints, without the end of the line.
fn output(command: &mut Command) -> Result<String, Box<dyn Error>> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_on_the_same_xen_counts() {
        let past = Past(
            "# date commit xen figure value\n2026-11-20 aaa 4.17 build-8.db-boot.time 1000\n\
             2026-11-21 bbb 4.17 build-8.db-boot.time 900\n2026-11-21 bbb 4.20 build-8.db-boot.time 800\n"
                .into(),
        );
        assert_eq!(past.last("4.17", "build-8.db-boot.time"), Some((900, "bbb")));
        assert_eq!(past.last("4.14", "build-8.db-boot.time"), None);
    }

    #[test]
    fn every_line_of_the_history_can_be_read() {
        for line in include_str!("../../../bench/history.txt").lines().filter(|line| !line.starts_with('#')) {
            let words: Vec<_> = line.split_whitespace().collect();
            assert!(words.len() == 5 && words[4].parse::<u64>().is_ok(), "{line:?}");
        }
    }
}
