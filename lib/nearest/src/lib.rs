//! The known word closest to one that is not known: what "did you mean" says, in `domb` and at db-boot's prompt.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;
use core::mem;

/// The longest word in bytes that is compared at all: nothing that has a name here is longer, and the time goes with the square.
const MAX_LEN: usize = 256;

/// The candidate closest to `word`, if any is close enough to be what was meant.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > MAX_LEN {
        return None;
    }
    // What is known is written in ASCII; the tables for all other letters would be part of every kernel.
    let word = word.to_ascii_lowercase();
    let close_enough = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= MAX_LEN)
        .map(|candidate| (edit_distance(&word, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= close_enough)
        .min()
        .map(|(_, candidate)| candidate)
}

/// How many characters must be inserted, removed, replaced or swapped with their neighbour to get from `a` to `b`.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    // Rows of the table of distances between beginnings of the two: this one, the one before, and the one before that.
    let mut row: Vec<usize> = (0..=b.len()).collect();
    let mut before = Vec::new();
    let mut last = None;
    for (index, here) in a.chars().enumerate() {
        let earlier = mem::replace(&mut before, mem::take(&mut row));
        row.push(index + 1);
        for (at, there) in b.iter().copied().enumerate() {
            let replaced = before[at] + usize::from(here != there);
            let mut distance = replaced.min(before[at + 1] + 1).min(row[at] + 1);
            if at > 0 && last == Some(there) && b[at - 1] == here {
                distance = distance.min(earlier[at - 1] + 1);
            }
            row.push(distance);
        }
        last = Some(here);
    }
    row.last().copied().unwrap_or(0)
}

/// The ending of a message about `word`: ` (did you mean "memory"?)`, or nothing.
pub fn suggestion<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, candidates).map_or_else(String::new, |near| alloc::format!(" (did you mean {near:?}?)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_close_or_absent() {
        let known = ["memory", "maxmem", "vcpus"];
        assert_eq!(nearest("memroy", known), Some("memory"));
        assert_eq!(nearest("VCPUS", known), Some("vcpus"));
        assert_eq!(nearest("bootloader", known), None);
        assert_eq!(nearest("x", known), None);
        assert_eq!(suggestion("vcpu", known), " (did you mean \"vcpus\"?)");
        assert_eq!(suggestion("x", known), "");
    }

    #[test]
    fn each_kind_of_slip_counts_as_one() {
        for (a, b, distance) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("destroy", "destory", 1),
            ("pause", "paus", 1),
            ("list", "lisst", 1),
            ("help", "hemp", 1),
            ("quit", "list", 3),
        ] {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
        }
    }

    #[test]
    fn a_word_of_any_length_is_no_work() {
        assert_eq!(nearest(&"x".repeat(1 << 20), ["x"]), None);
    }
}
