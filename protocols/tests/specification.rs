//! docs/protocols.md says what the code does, as far as a program can tell.
#![allow(missing_docs, reason = "a test's name says what it checks")]
#![allow(clippy::unwrap_used, reason = "a helper of a test may stop it at the first surprise")]

mod samples;

use std::fmt::Debug;
use std::path::Path;

use protocols::message::{
    HEADER_LEN, MAX_BODY_LEN, MAX_CHUNK_LEN, MAX_ENTRIES, MAX_JOURNAL_ENTRIES, MAX_PLATFORM_VMS,
    MAX_SPEC_LEN, MAX_TEXT_LEN,
};
use protocols::spec::{MAX_NAME_LEN, NAME_PUNCTUATION};

fn specification() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocols.md");
    std::fs::read_to_string(path).unwrap()
}

/// The part of the specification below a heading.
fn section<'t>(text: &'t str, heading: &str) -> &'t str {
    let (_, below) = text.split_once(&format!("\n## {heading}\n")).unwrap();
    below.split("\n## ").next().unwrap()
}

/// Each variant stands in the first table of its type's section, with its number and the names of its fields.
fn each_is_listed<M: Debug>(heading: &str, messages: Vec<(&'static str, M)>) {
    let text = specification();
    let section = section(&text, heading);
    for (number, (_, message)) in messages.into_iter().enumerate() {
        let shown = format!("{message:?}");
        let name: String = shown.chars().take_while(char::is_ascii_alphanumeric).collect();
        let row = section.lines().find(|line| line.starts_with(&format!("| {number} | {name} |")));
        assert!(row.is_some(), "{heading}: no row for {number} = {name}");
        let row = row.unwrap();
        // Fields of a variant of its own; those that are a type by themselves have a table elsewhere.
        if let Some(fields) = shown.strip_prefix(&format!("{name} {{ ")) {
            let first = fields.split(':').next().unwrap();
            assert!(row.contains(&format!("{first}: ")), "{row} lacks {first}");
        }
    }
}

#[test]
fn every_variant_is_in_its_table() {
    each_is_listed("ServerRequest", samples::server_requests());
    each_is_listed("ServerReply", samples::server_replies());
    each_is_listed("ServerNotice", samples::server_notices());
    each_is_listed("ControlRequest", samples::control_requests());
    each_is_listed("ControlReply", samples::control_replies());
    each_is_listed("ControlNotice", samples::control_notices());
}

#[test]
fn the_bounds_are_those_of_the_code() {
    let text = specification();
    let bounds = [
        (format!("{HEADER_LEN} bytes, little endian"), "Header"),
        (format!("at most {MAX_BODY_LEN} |"), "Header"),
        (
            format!("1 to {MAX_NAME_LEN} ASCII letters, digits and characters of `{NAME_PUNCTUATION}`"),
            "Encoding of bodies",
        ),
        (format!("at most {MAX_SPEC_LEN}"), "Encoding of bodies"),
        (format!("(at most {MAX_CHUNK_LEN})"), "ServerRequest"),
        (format!("(at most {MAX_TEXT_LEN} bytes)"), "ServerRequest"),
        (format!("(at most {MAX_ENTRIES})"), "ServerReply"),
        (format!("(at most {MAX_TEXT_LEN} bytes)"), "ServerReply"),
        (format!("(at most {MAX_PLATFORM_VMS})"), "ControlRequest"),
        (format!("(at most {MAX_ENTRIES})"), "ControlReply"),
        (format!("(at most {MAX_JOURNAL_ENTRIES})"), "ControlReply"),
        (format!("(at most {MAX_TEXT_LEN} bytes)"), "ControlReply"),
    ];
    for (bound, heading) in bounds {
        let section = section(&text, heading).replace('\n', " ");
        assert!(section.contains(&bound), "{heading}: {bound}");
    }
}

#[test]
fn the_example_is_a_message() {
    let text = specification();
    let example = text.rsplit("```").nth(1).unwrap();
    // In front of four spaces stand the bytes, behind them what they mean.
    let bytes = example.lines().filter_map(|line| line.split("    ").next());
    let hex: String = bytes.collect::<String>().split_whitespace().collect();
    let (_, hello) = samples::all().remove(0);
    assert_eq!(hex, samples::to_hex(&hello).trim());
}
