//! The picture in a page, with the numbers below it.

use std::fmt::Write as _;

use super::escaped;
use super::scale::duration;
use super::svg::{summary, svg, title};
use super::timeline::{BUILT_FIELDS, Phase, Row, Timeline};

/// Draws a timeline as a self-contained HTML page: the picture, then a table of all durations.
pub fn html(timeline: &Timeline) -> String {
    let (title, summary) = (escaped(&title(timeline)), escaped(&summary(timeline)));
    let picture = svg(timeline);
    let table = table(timeline);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<meta name=\"description\" content=\"{summary}\">\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n<div class=\"picture\">\n{picture}</div>\n{table}</body>\n</html>\n"
    )
}

const COLUMNS: [(&str, &[Phase]); 8] = [
    ("create", &[Phase::Create]),
    ("populate", &[Phase::Populate]),
    ("load", &[Phase::Load]),
    ("seal", &[Phase::Seal]),
    ("built, paused", &[Phase::Paused]),
    ("ran", &[Phase::Running]),
    ("taken apart", &[Phase::Ending]),
    ("waited", &[Phase::Waiting]),
];

/// A row for each VM with its durations; those of a VM that was started several times are added up.
fn table(timeline: &Timeline) -> String {
    let shown = |time: Option<u64>| time.map(duration).unwrap_or_default();
    let fields: Vec<&str> = BUILT_FIELDS
        .into_iter()
        .filter(|field| timeline.vms.iter().any(|row| row.built.contains_key(field)))
        .collect();
    let mut out = String::from("<div class=\"table\"><table>\n<thead><tr><th>VM</th><th>domain</th>");
    for field in &fields {
        let _ = write!(out, "<th>{field}</th>");
    }
    out += "<th>building</th>";
    for (name, _) in COLUMNS {
        let _ = write!(out, "<th>{name}</th>");
    }
    out += "<th class=\"text\">at the end</th></tr></thead>\n<tbody>\n";
    for row in &timeline.vms {
        let domid = row.domid.as_deref().unwrap_or("");
        let _ = write!(out, "<tr><th>{}</th><td>{}</td>", escaped(&row.name), escaped(domid));
        for field in &fields {
            let _ = write!(out, "<td>{}</td>", escaped(&built(row, field)));
        }
        let _ = write!(out, "<td>{}</td>", shown(row.total(|stretch| stretch.phase.is_step())));
        for (_, phases) in COLUMNS {
            let _ = write!(out, "<td>{}</td>", shown(row.total(|stretch| phases.contains(&stretch.phase))));
        }
        let class = if row.bad { "text bad" } else { "text" };
        let _ = writeln!(out, "<td class=\"{class}\">{}</td></tr>", escaped(&row.verdict));
    }
    out + "</tbody>\n</table></div>\n"
}

/// What `event=built` has said: memory in MiB where it is a whole number of them, else as it stands there.
fn built(row: &Row, field: &str) -> String {
    let Some(value) = row.built.get(field) else { return String::new() };
    let kib = value.strip_suffix("KiB").and_then(|kib| kib.parse::<u64>().ok());
    match kib {
        Some(kib) if kib.is_multiple_of(1024) => format!("{} MiB", kib / 1024),
        Some(kib) => format!("{kib} KiB"),
        None => value.clone(),
    }
}

const STYLE: &str = "\
body{margin:0;font:13px system-ui,sans-serif;background:#fff;color:#1b1b1b}
.picture{overflow-x:auto}.picture svg{display:block;margin:auto;max-width:100%;min-width:900px;height:auto}
.table{overflow-x:auto}table{margin:8px auto 32px;border-collapse:collapse}
th,td{padding:3px 9px;text-align:right;white-space:nowrap;border-bottom:1px solid #ddd}
thead th{background:#fff}tbody th,th:first-child,.text{text-align:left;font-weight:600}
td.text{font-weight:400}.bad{color:#b02c00}
@media(prefers-color-scheme:dark){body,thead th{background:#161616;color:#e8e8e8}th,td{border-color:#3c3c3c}
.bad{color:#ff8a5c}}
";
