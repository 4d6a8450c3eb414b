//! One VM file for each mistake, with the whole message beside it; and files that are right, with what they mean.
//!
//! `UPDATE_EXPECTED=1 cargo test -p image --test config` writes the messages anew: read the difference.
#![allow(missing_docs, reason = "a test's name says what it checks")]
#![allow(clippy::unwrap_used, reason = "a helper of a test may stop it at the first surprise")]

use std::fs;
use std::path::{Path, PathBuf};

use image::config::VmFile;

fn corpus(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(folder);
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "cfg"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

/// Compares what a file gives with the `.expected` beside it; gives the difference as text.
fn compare(path: &Path, actual: &str) -> Option<String> {
    let expected_path = path.with_extension("expected");
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&expected_path, actual).unwrap();
    }
    let expected = fs::read_to_string(&expected_path).unwrap_or_default();
    (expected != actual).then(|| format!("--- {}\nexpected:\n{expected}\nactual:\n{actual}", path.display()))
}

/// Messages must not depend on where the checkout is.
fn without_folder(text: &str, path: &Path) -> String {
    let folder = format!("{}/", path.parent().unwrap().display());
    text.replace(&folder, "") + "\n"
}

#[test]
fn every_mistake_has_its_message() {
    let differences: Vec<_> = corpus("config")
        .iter()
        .filter_map(|path| match VmFile::read(path) {
            Ok(_) => Some(format!("--- {} is accepted", path.display())),
            Err(error) => {
                let messages = error.messages().into_iter();
                let messages: Vec<_> =
                    messages.map(|(severity, text)| format!("{severity}: {text}")).collect();
                compare(path, &without_folder(&messages.join("\n"), path))
            }
        })
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn good_files_mean_what_they_say() {
    let differences: Vec<_> = corpus("config-good")
        .iter()
        .filter_map(|path| match VmFile::read(path) {
            Ok(file) => {
                let spec = image::platform::compile(&file).unwrap();
                let kernel = file.config.kernel.value.display();
                let ramdisks = file.config.ramdisks.iter().map(|path| path.value.display().to_string());
                let ramdisk = ramdisks.reduce(|all, path| all + ", " + &path);
                let warnings: String = file.warning_texts().map(|text| text + "\n").collect();
                let spec = image::inspect::describe(&spec.encode().unwrap()).unwrap();
                let text = format!("{warnings}{spec}kernel is {kernel}, ramdisk is {ramdisk:?}");
                compare(path, &without_folder(&text, path))
            }
            Err(error) => Some(format!("--- {} is refused:\n{error}", path.display())),
        })
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Whatever bytes a file holds: a VM or messages, never a panic; and every message can be shown.
#[test]
fn no_damage_to_a_file_panics() {
    let good = fs::read_to_string(corpus("config-good").pop().unwrap()).unwrap();
    let everything = fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/config-good/everything.cfg"),
    );
    for text in [good, everything.unwrap()] {
        for at in (0..=text.len()).filter(|at| text.is_char_boundary(*at)) {
            for inserted in ["", "\"", "'", "[", "]", "=", "\n", ";", "\\", "#", "é", "0", "-", "\0", "["] {
                let damaged = format!("{}{inserted}{}", &text[..at], &text[at..]);
                read(&damaged);
            }
            read(&text[..at]);
            if let Some(c) = text[at..].chars().next() {
                read(&format!("{}{}", &text[..at], &text[at + c.len_utf8()..]));
            }
        }
    }
}

fn read(text: &str) {
    let source = image::source::SourceFile::new("damaged.cfg", text);
    if let Err(error) = VmFile::parse(source, Path::new("")) {
        assert!(error.to_string().contains("damaged.cfg:"), "{error}");
    }
}
