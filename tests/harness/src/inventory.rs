//! The inventory of unsafe code: counted from the source, committed as docs/unsafe.md, compared by `make check`.
//!
//! A change of the number of unsafe places in a crate is thereby visible in review as a change of a document.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use thiserror::Error;

use crate::floors::{self, FloorsError};

/// The committed table, relative to the top of the checkout.
const DOCUMENT: &str = "docs/unsafe.md";

/// The inventory could not be taken.
#[derive(Debug, Error)]
pub(crate) enum InventoryError {
    /// The crates are not known.
    #[error(transparent)]
    Crates(#[from] FloorsError),
    /// A source file or the document cannot be read or written.
    #[error("{}: {source}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Unsafe places in some source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    blocks: usize,
    functions: usize,
    impls: usize,
    traits: usize,
    attributes: usize,
    asm: usize,
}

impl Count {
    fn add(&mut self, other: Self) {
        self.blocks += other.blocks;
        self.functions += other.functions;
        self.impls += other.impls;
        self.traits += other.traits;
        self.attributes += other.attributes;
        self.asm += other.asm;
    }
}

/// Compares the document with the source at `top`, or writes it; the exit status.
pub(crate) fn check(top: &Path, write: bool) -> Result<u8, InventoryError> {
    let path = top.join(DOCUMENT);
    let at = |source| InventoryError::File { path: path.clone(), source };
    let seen = document(top)?;
    if write {
        fs::create_dir_all(path.parent().unwrap_or(top)).map_err(at)?;
        fs::write(&path, &seen).map_err(at)?;
        say!("unsafe: {DOCUMENT} written");
        return Ok(0);
    }
    let committed = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(at(error)),
    };
    if committed == seen {
        say!("unsafe: {DOCUMENT} agrees with the source");
        return Ok(0);
    }
    for line in seen.lines().filter(|line| !committed.lines().any(|known| known == *line)) {
        say!("unsafe: the source says  {line}");
    }
    for line in committed.lines().filter(|line| !seen.lines().any(|now| now == *line)) {
        say!("unsafe: {DOCUMENT} says {line}");
    }
    say!("unsafe: if the change is meant, `make unsafe-inventory` brings {DOCUMENT} up to date");
    Ok(1)
}

/// The document as it should be.
fn document(top: &Path) -> Result<String, InventoryError> {
    let mut crates = floors::crates(top)?;
    crates.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
    let mut text = String::from(
        "# Unsafe code\n\n\
         Counted from the source of every crate, without its tests; what stands in a comment or a string does not count.\n\
         Written by `make unsafe-inventory`, compared by `make check`.\n\n\
         | floor | crate | blocks | functions | impls | traits | attributes | asm |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    let mut total = Count::default();
    for (name, floor, folder) in crates {
        let mut count = Count::default();
        count_folder(Path::new(&folder), &mut count)?;
        total.add(count);
        let floor = floor.map_or("?".into(), |floor| floor.to_string());
        row(&mut text, &floor, &name, count);
    }
    row(&mut text, "", "all", total);
    Ok(text)
}

fn row(text: &mut String, floor: &str, name: &str, count: Count) {
    let Count { blocks, functions, impls, traits, attributes, asm } = count;
    let _ = writeln!(
        text,
        "| {floor} | {name} | {blocks} | {functions} | {impls} | {traits} | {attributes} | {asm} |"
    );
}

/// Adds what the Rust files below `folder` hold. Nested crates count for themselves, tests not at all.
fn count_folder(folder: &Path, count: &mut Count) -> Result<(), InventoryError> {
    let at = |source| InventoryError::File { path: folder.to_owned(), source };
    for entry in fs::read_dir(folder).map_err(at)? {
        let path = entry.map_err(at)?.path();
        if path.is_dir() {
            let skipped =
                ["target", "tests", "benches", "examples"].into_iter().any(|name| path.ends_with(name));
            if !skipped && !path.join("Cargo.toml").exists() {
                count_folder(&path, count)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            let source = fs::read_to_string(&path).map_err(|source| InventoryError::File { path, source })?;
            count.add(count_source(&source));
        }
    }
    Ok(())
}

/// Counts the unsafe places in a source text.
fn count_source(source: &str) -> Count {
    let words = without_tests(&words(source));
    let mut count = Count::default();
    for (index, word) in words.iter().enumerate() {
        let next = |ahead: usize| words.get(index + ahead).map_or("", String::as_str);
        match (word.as_str(), next(1)) {
            ("unsafe", "{") => count.blocks += 1,
            ("unsafe", "impl") => count.impls += 1,
            ("unsafe", "trait") => count.traits += 1,
            ("unsafe", "(") => count.attributes += 1,
            // `unsafe fn name`, `unsafe extern "C" fn name`; a function's type (`unsafe fn(`) is no function.
            ("unsafe", "fn") if next(2) != "(" => count.functions += 1,
            ("unsafe", "extern") if next(2) != "{" && next(3) != "(" => count.functions += 1,
            ("unsafe", "extern") if next(2) == "{" => count.blocks += 1,
            ("asm" | "global_asm" | "naked_asm", "!") => count.asm += 1,
            _ => {}
        }
    }
    count
}

/// Drops the modules under `#[cfg(test)]`: from the attribute to the brace that ends the module.
fn without_tests(words: &[String]) -> Vec<String> {
    const ATTRIBUTE: [&str; 8] = ["#", "[", "cfg", "(", "test", ")", "]", "mod"];
    let mut kept = Vec::with_capacity(words.len());
    let mut rest = words;
    while let Some((first, after)) = rest.split_first() {
        let starts = rest.iter().take(ATTRIBUTE.len()).map(String::as_str).eq(ATTRIBUTE);
        if starts {
            rest = rest.get(module_length(rest)..).unwrap_or(&[]);
        } else {
            kept.push(first.clone());
            rest = after;
        }
    }
    kept
}

/// The number of words up to the end of the module that starts here: its closing brace, or the semicolon after `mod name`.
fn module_length(words: &[String]) -> usize {
    let mut depth = 0_usize;
    for (index, word) in words.iter().enumerate() {
        match word.as_str() {
            "{" => depth += 1,
            "}" if depth <= 1 => return index + 1,
            "}" => depth -= 1,
            ";" if depth == 0 => return index + 1,
            _ => {}
        }
    }
    words.len()
}

/// The words and punctuation of a source text, without comments, strings and characters.
fn words(source: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = raw_string(rest) {
            length
        } else if first == '"' {
            quoted(rest, '"')
        } else if first == '\'' {
            character(rest)
        } else if first.is_alphanumeric() || first == '_' {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            words.push(rest.get(..end).unwrap_or_default().to_owned());
            end
        } else {
            if !first.is_whitespace() {
                words.push(first.to_string());
            }
            first.len_utf8()
        };
        rest = rest.get(length.max(1)..).unwrap_or("");
    }
    words
}

/// The length of a block comment, nested ones included.
fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    loop {
        let rest = text.get(at..).unwrap_or("");
        let opens = rest.find("/*").unwrap_or(usize::MAX);
        let Some(closes) = rest.find("*/") else { return text.len() };
        if opens < closes {
            depth += 1;
            at += opens + 2;
        } else {
            depth = depth.saturating_sub(1);
            at += closes + 2;
            if depth == 0 {
                return at;
            }
        }
    }
}

/// The length of a raw string (`r"..."`, `br#"..."#`), if one starts here.
fn raw_string(text: &str) -> Option<usize> {
    let body = text.strip_prefix('b').unwrap_or(text).strip_prefix('r')?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    let inner = body.get(hashes..)?.strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let close = inner.find(&end).map_or(inner.len(), |at| at + end.len());
    Some(text.len() - inner.len() + close)
}

/// The length of a quoted text, quotes included.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a character literal, or of the quote of a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.chars().skip(1);
    match (chars.next(), chars.next()) {
        (Some('\\'), _) | (Some(_), Some('\'')) => quoted(text, '\''),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_unsafe_place_is_counted() {
        let source = "unsafe fn a() {} unsafe extern \"C\" fn b() {} unsafe impl T for X {} unsafe trait T {}\n\
                      #[unsafe(no_mangle)] fn c() { unsafe { a() } unsafe { core::arch::asm!(\"nop\") } }\n\
                      unsafe extern \"C\" { fn d(); }";
        let count = count_source(source);
        assert_eq!((count.blocks, count.functions, count.impls), (3, 2, 1), "{count:?}");
        assert_eq!((count.traits, count.attributes, count.asm), (1, 1, 1), "{count:?}");
    }

    #[test]
    fn tests_are_not() {
        let source = "#[cfg(test)] mod tests { fn f() { unsafe { g() } } }\n#[cfg(test)] mod more;\n\
                      fn h() { unsafe { g() } } #[cfg(test)] mod last { fn f() { unsafe { g() } } }";
        assert_eq!(count_source(source).blocks, 1);
    }

    #[test]
    fn comments_strings_types_and_lints_are_not() {
        let source = "// unsafe { }\n/* unsafe { /* unsafe { */ } */ let s = \"unsafe { \\\" unsafe {\";\n\
                      let r = r#\"unsafe { \" unsafe {\"#; let q = '\"'; let l: &'static str = s; let e = '\\'';\n\
                      #![forbid(unsafe_code)] type F = unsafe fn(u8); type G = unsafe extern \"C\" fn(u8);";
        assert_eq!(count_source(source), Count::default());
    }
}
