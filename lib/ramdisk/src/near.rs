//! Which names of the archive a wrong name may have meant.
use alloc::{string::String, vec::Vec};

/// Names listed in an error.
const MAX_LISTED: usize = 5;
/// Names longer than this are not compared: the comparison's cost is the product of both lengths, and an archive is
/// hostile input also when something is looked for in it.
const MAX_COMPARED: usize = 64;
/// Names of an archive that are compared. A platform may look for as many names as the archive has entries, so that without
/// this bound an archive of wrong names would cost the square of its size.
const MAX_CANDIDATES: usize = 256;

/// The names nearest to `wanted`, best first; when none is near, the first names of the archive.
pub(crate) fn near<'a>(wanted: &str, names: impl Iterator<Item = &'a str> + Clone) -> Vec<String> {
    let mut ranked: Vec<(usize, &str)> =
        names.clone().take(MAX_CANDIDATES).filter_map(|name| Some((distance(wanted, name)?, name))).collect();
    ranked.sort_unstable();
    let found: Vec<String> = ranked.into_iter().take(MAX_LISTED).map(|(_, name)| name.into()).collect();
    if found.is_empty() { names.take(MAX_LISTED).map(shorten).collect() } else { found }
}

/// How far `name` is from `wanted`, or nothing if it is too far to be a suggestion.
fn distance(wanted: &str, name: &str) -> Option<usize> {
    if wanted.len() > MAX_COMPARED || name.len() > MAX_COMPARED {
        return None;
    }
    if base(wanted) == base(name) {
        return Some(0);
    }
    let far_enough = wanted.len().checked_div(3)?.max(1);
    if wanted.len().abs_diff(name.len()) > far_enough.saturating_mul(4) {
        return None; // a character has at most four bytes, so this many edits are needed at least
    }
    Some(edits(wanted, name)).filter(|edits| *edits <= far_enough)
}

/// The last component of a path.
fn base(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// A name cut for an error text.
fn shorten(name: &str) -> String {
    name.chars().take(MAX_COMPARED).collect()
}

/// Levenshtein's distance in characters: one row of the table at a time.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i.saturating_add(1);
        let mut cells = row.iter_mut();
        if let Some(first) = cells.next() {
            *first = left;
        }
        for (cell, to) in cells.zip(b.chars()) {
            let replaced = diagonal.saturating_add(usize::from(from != to));
            diagonal = *cell;
            left = replaced.min(diagonal.saturating_add(1)).min(left.saturating_add(1));
            *cell = left;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_edits() {
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("abc", ""), 3);
        assert_eq!(edits("same", "same"), 0);
    }

    #[test]
    fn prefers_the_same_file_elsewhere() {
        let names = ["images/vmlinux", "vms/a.spec", "images/vmlinuz"];
        assert_eq!(near("vmlinuz", names.into_iter()), ["images/vmlinuz"]);
        assert_eq!(near("images/vmlinus", names.into_iter()), ["images/vmlinux", "images/vmlinuz"]);
    }

    #[test]
    fn compares_no_more_names_than_its_bound() {
        let names = |count: usize| core::iter::repeat_n("other", count).chain(["wanted"]);
        assert_eq!(near("wanter", names(MAX_CANDIDATES - 1)), ["wanted"]);
        assert_eq!(near("wanter", names(MAX_CANDIDATES)), ["other"; MAX_LISTED]);
    }

    #[test]
    fn lists_what_is_there_when_nothing_is_near() {
        assert_eq!(near("something else entirely", ["a", "b"].into_iter()), ["a", "b"]);
    }
}
