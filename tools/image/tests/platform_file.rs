//! One platform file for each mistake, with the whole message beside it; and files that are right, with what they mean.
//!
//! `UPDATE_EXPECTED=1 cargo test -p image --test platform_file` writes the messages anew: read the difference.
#![allow(missing_docs, reason = "a test's name says what it checks")]
#![allow(clippy::unwrap_used, reason = "a helper of a test may stop it at the first surprise")]

use std::fs;
use std::path::{Path, PathBuf};

use image::inspect::describe;
use image::platform::Platform;
use image::platform_file::{PlatformFile, is_platform_file};
use image::source::SourceFile;

fn corpus(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(folder);
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| is_platform_file(path)).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

/// What reading a file and its VMs gives: the specs in words, or the messages.
fn outcome(path: &Path) -> Result<String, String> {
    let file = PlatformFile::read(path).map_err(|error| {
        let messages = error.messages.iter().map(|(severity, text)| format!("{severity}: {text}"));
        messages.collect::<Vec<_>>().join("\n")
    })?;
    let platform = Platform::load_file(file);
    let platform = platform.map_err(|error| format!("error: {}", error.problems.join("\nerror: ")))?;
    let mut text = platform.warnings().iter().fold(String::new(), |all, warning| all + warning + "\n");
    text += &describe(&platform.settings().unwrap().encode().unwrap()).unwrap();
    if let Some(control) = platform.control() {
        text += &describe(&control.encode().unwrap()).unwrap();
    }
    for spec in platform.specs() {
        // The first line counts bytes, which change with every field that a boot spec gets.
        let shown = describe(&spec.encode().unwrap()).unwrap();
        text += shown.split_once('\n').unwrap().1;
    }
    Ok(text)
}

/// Compares what a file gives with the `.expected` beside it; gives the difference as text.
fn compare(path: &Path, actual: &str) -> Option<String> {
    let folder = format!("{}/", path.parent().unwrap().display());
    let actual = actual.replace(&folder, "") + "\n";
    let expected_path = path.with_extension("expected");
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&expected_path, &actual).unwrap();
    }
    let expected = fs::read_to_string(&expected_path).unwrap_or_default();
    (expected != actual).then(|| format!("--- {}\nexpected:\n{expected}\nactual:\n{actual}", path.display()))
}

#[test]
fn every_mistake_has_its_message() {
    let differences: Vec<_> = corpus("platform")
        .iter()
        .filter_map(|path| match outcome(path) {
            Ok(_) => Some(format!("--- {} is accepted", path.display())),
            Err(messages) => compare(path, &messages),
        })
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn good_files_mean_what_they_say() {
    let differences: Vec<_> = corpus("platform-good")
        .iter()
        .filter_map(|path| match outcome(path) {
            Ok(text) => compare(path, &text),
            Err(messages) => Some(format!("--- {} is refused:\n{messages}", path.display())),
        })
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Whatever bytes a file holds: a platform or messages, never a panic; and every message can be shown.
#[test]
fn no_damage_to_a_file_panics() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/platform-good/everything.toml");
    let (text, folder) = (fs::read_to_string(&path).unwrap(), path.parent().unwrap());
    let read = |text: &str| {
        if let Err(error) = PlatformFile::parse(SourceFile::new("damaged.toml", text), folder) {
            assert!(error.messages.iter().any(|(_, text)| text.contains("damaged.toml:")), "{error:?}");
        }
    };
    for at in 0..=text.len() {
        for inserted in ["\"", "[", "]", "=", "\n", "#", "é", "0", "-", "\0", "{"] {
            read(&format!("{}{inserted}{}", &text[..at], &text[at..]));
        }
        read(&text[..at]);
        if at < text.len() {
            read(&format!("{}{}", &text[..at], &text[at + 1..]));
        }
    }
}
