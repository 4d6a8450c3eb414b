//! docs/protocols.md and the formats in docs/manual.md say what the code does, as far as a program can tell.
#![allow(missing_docs, reason = "a test's name says what it checks")]
#![allow(clippy::unwrap_used, reason = "a helper of a test may stop it at the first surprise")]

mod samples;

use std::fmt::Debug;
use std::path::Path;

use protocols::channel::MAX_CHANNELS;
use protocols::life::{MAX_AFTER, MAX_READY_LEN, MAX_RESTART_DELAY_MS, MAX_RESTART_LIMIT};
use protocols::message::{
    HEADER_LEN, MAX_BODY_LEN, MAX_CHUNK_LEN, MAX_ENTRIES, MAX_JOURNAL_ENTRIES, MAX_PLATFORM_VMS,
    MAX_SPEC_LEN, MAX_TEXT_LEN,
};
use protocols::module::{MAX_MODULE_LINE_LEN, MAX_MODULES};
use protocols::settings::{
    MAX_CAP, MAX_CPU, MAX_CPU_RANGES, MAX_CPUID_CHANGES, MAX_EVENT_CHANNELS, MAX_FRAME, MAX_INTERRUPT,
    MAX_LABEL_LEN, MAX_RANGES, MAX_TABLE_FRAMES, MAX_WEIGHT,
};
use protocols::spec::{
    FIRST_RESERVED_DOMID, MAX_COMMAND_LINE_LEN, MAX_IMAGE_NAME_LEN, MAX_MEMORY_KIB, MAX_NAME_LEN, MAX_VCPUS,
    NAME_PUNCTUATION,
};
use protocols::{control, platform, server, spec};

fn specification() -> String {
    document("protocols.md")
}

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
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

/// What a row of a format's table in the manual says about a field's range, with the numbers of the code.
fn spec_bounds() -> Vec<(&'static str, &'static str, String)> {
    let memory = format!("to {} TiB", MAX_MEMORY_KIB >> 30);
    let table_frames = MAX_TABLE_FRAMES.ilog2();
    let log_of_frames = (MAX_FRAME + 1).ilog2();
    let domid = format!("1 to {:#x}", FIRST_RESERVED_DOMID - 1);
    vec![
        ("Boot spec", "12", format!("at most {}", spec::MAX_BODY_LEN)),
        ("Boot spec", "domid", domid.clone()),
        ("Boot spec", "vcpus", format!("1 to {MAX_VCPUS}")),
        ("Boot spec", "memory", memory.clone()),
        ("Boot spec", "maximum memory", memory.clone()),
        ("Boot spec", "kernel", format!("1 to {MAX_IMAGE_NAME_LEN} bytes")),
        ("Boot spec", "command line", format!("at most {MAX_COMMAND_LINE_LEN} bytes")),
        ("Boot spec", "restart limit", format!("1 to {MAX_RESTART_LIMIT}")),
        ("Boot spec", "restart delay", format!("at most {MAX_RESTART_DELAY_MS}")),
        ("Boot spec", "after", format!("at most {MAX_AFTER}")),
        ("Boot spec", "ready", format!("1 to {MAX_READY_LEN} bytes")),
        ("Boot spec", "channels", format!("at most {MAX_CHANNELS} domain ids")),
        (
            "Boot spec",
            "I/O memory",
            format!("at most {MAX_RANGES}. Count 1 at least, all frames below 2^{log_of_frames}"),
        ),
        ("Boot spec", "I/O ports", format!("at most {MAX_RANGES}")),
        ("Boot spec", "interrupts", format!("1 to {MAX_INTERRUPT}; at most {MAX_RANGES}")),
        (
            "Boot spec",
            "event channels, grant frames, maptrack frames",
            format!("1 to {MAX_EVENT_CHANNELS}, 1 to 2^{table_frames}, 0 to 2^{table_frames}"),
        ),
        ("Boot spec", "hard affinity, soft affinity", format!("CPUs up to {MAX_CPU}.")),
        ("Boot spec", "hard affinity, soft affinity", format!("At most {MAX_CPU_RANGES} pairs")),
        ("Boot spec", "weight, cap", format!("1 to {MAX_WEIGHT}; 0 to {MAX_CAP}")),
        ("Boot spec", "label, label to build with", format!("up to {MAX_LABEL_LEN} characters")),
        ("Boot spec", "changes of CPUID", format!("At most {MAX_CPUID_CHANGES}")),
        ("Boot spec", "store", domid),
        ("Boot spec", "modules", format!("at most {MAX_MODULE_LINE_LEN} bytes")),
        ("Boot spec", "modules", format!("At most {MAX_MODULES}")),
        ("Platform spec", "ends", format!("1 to {} names", platform::MAX_ENDS)),
        ("Platform spec", "memory limit", memory.clone()),
        ("Platform spec", "VM limit", format!("1 to {}", platform::MAX_VMS)),
        ("Platform spec", "readiness", format!("1 to {}", platform::MAX_READY_TIMEOUT_MS)),
        ("Platform spec", "shutdown", format!("up to {}", control::MAX_SHUTDOWN_MS)),
        ("Platform spec", "memory", memory),
        ("Platform spec", "VMs", format!("1 to {}", platform::MAX_VMS)),
        ("Platform spec", "requests", format!("1 to {}", server::MAX_REQUESTS)),
        ("Platform spec", "images", format!("1 to {} entries", server::MAX_LISTED_IMAGES)),
        ("Platform spec", "labels", format!("at most {}", server::MAX_LISTED_LABELS)),
        ("Control spec", "shutdown", format!("up to {}", control::MAX_SHUTDOWN_MS)),
        ("Control spec", "clients", format!("up to {}", control::MAX_CLIENTS)),
    ]
}

#[test]
fn the_bounds_of_specs_in_the_manual_are_those_of_the_code() {
    let manual = document("manual.md");
    for (heading, field, bound) in spec_bounds() {
        let (_, below) = manual.split_once(&format!("\n### {heading}\n")).unwrap();
        let section = below.split("\n### ").next().unwrap();
        let row = section.lines().find(|line| line.starts_with(&format!("| {field} |")));
        assert!(row.is_some_and(|row| row.contains(&bound)), "{heading}, {field}: {bound} is not in {row:?}");
    }
    for length in [platform::MAX_BODY_LEN, control::MAX_BODY_LEN] {
        assert!(manual.contains(&format!("a body of at most {length} bytes")), "{length}");
    }
}
