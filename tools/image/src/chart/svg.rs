//! The picture.
//!
//! Each VM has a row. Building takes a part of a second and VMs run for as long as they like, so a picture of the whole
//! run alone would show nothing of the building; when the start is short beside the rest, it gets a panel of its own.
//! The colours are those of Okabe and Ito, which people who see colours differently tell apart; what is bad also has its
//! own shape. Without scripts: a browser shows a stretch's `<title>` when the pointer rests on it.

use std::fmt::Write as _;

use super::escaped;
use super::scale::{Scale, Tenths, clock, clock_short, duration, tick_label};
use super::timeline::{Mark, MarkKind, Phase, Row, Stretch, Timeline};

/// The width of the picture in pixels; a browser scales it.
const WIDTH: u64 = 1200;
/// Beside everything.
const MARGIN: u64 = 16;
/// For what stands behind a row.
const RIGHT: u64 = 130;
/// For the ticks' labels, above and below a panel.
const AXIS: u64 = 20;
/// Ticks on an axis, about.
const TICKS: u64 = 10;
/// The most characters of the platform's settings that are shown.
const SETTINGS: usize = 150;
/// The least height of a row whose bars have text in them.
const LABELLED: u64 = 16;
/// The least width of a stretch, in tenths of a pixel: what was too short to see is still there.
const LEAST: u64 = 6;

/// Draws a timeline as a self-contained SVG file.
pub fn svg(timeline: &Timeline) -> String {
    let layout = Layout::of(timeline);
    let mut body = String::new();
    let mut y = header(&mut body, timeline);
    y = legend(&mut body, timeline, y);
    for panel in panels(timeline) {
        y = layout.panel(&mut body, timeline, &panel, y);
    }
    let height = y + MARGIN;
    let title = escaped(&title(timeline));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-size=\"13\" \
         font-family=\"system-ui,'DejaVu Sans',sans-serif\" role=\"img\" aria-labelledby=\"title\">\n<title id=\"title\">{title}</title>\n\
         <style>\n{STYLE}</style>\n<rect class=\"paper\" width=\"{WIDTH}\" height=\"{height}\"/>\n{body}</svg>\n"
    )
}

/// One line that says what the picture shows.
pub(super) fn title(timeline: &Timeline) -> String {
    let vms = match timeline.vms.len() {
        1 => "1 VM".into(),
        count => format!("{count} VMs"),
    };
    let xen = timeline.xen.as_ref().map(|xen| format!(" on Xen {xen}")).unwrap_or_default();
    format!("Boot of {vms}{xen}")
}

/// One line that says how it went.
pub(super) fn summary(timeline: &Timeline) -> String {
    let mut parts = vec![format!("{} from {}", timeline.builder.name, clock_short(timeline.first))];
    if let Some(started) = timeline.started {
        parts.push(format!("VMs started at {}", clock_short(started)));
    }
    parts.push(match &timeline.status {
        Some(status) => format!("ended at {}: {status}", clock_short(timeline.last)),
        None => format!("the log ends at {}", clock_short(timeline.last)),
    });
    if timeline.boots > 1 {
        parts.push(format!("the last of {} boots in the log", timeline.boots));
    }
    parts.join(", ")
}

fn header(out: &mut String, timeline: &Timeline) -> u64 {
    let (title, summary) = (escaped(&title(timeline)), escaped(&summary(timeline)));
    let _ = writeln!(out, "<text class=\"title\" x=\"{MARGIN}\" y=\"34\">{title}</text>");
    let _ = writeln!(
        out,
        "<text class=\"quiet\" x=\"{MARGIN}\" y=\"56\">{summary}; times are those of Xen's clock</text>"
    );
    let Some(settings) = &timeline.settings else { return 74 };
    let settings = escaped(&format!("Platform: {}", shortened(settings, SETTINGS)));
    let _ = writeln!(out, "<text class=\"quiet\" x=\"{MARGIN}\" y=\"74\">{settings}</text>");
    92
}

/// The phases and marks that are in the picture, with their colours and shapes.
fn legend(out: &mut String, timeline: &Timeline, top: u64) -> u64 {
    /// The width of a letter, nearly, in pixels.
    const LETTER: u64 = 8;
    let used = |phase| timeline.rows().flat_map(|row| &row.stretches).any(|stretch| stretch.phase == phase);
    let marked = |kind| timeline.rows().flat_map(|row| &row.marks).any(|mark| mark.kind == kind);
    let (mut x, mut y) = (MARGIN, top);
    let mut place = |name: &str| {
        let width = 22 + length(name) * LETTER + 14;
        if x + width > WIDTH - MARGIN {
            (x, y) = (MARGIN, y + 20);
        }
        x += width;
        (x - width, y)
    };
    for phase in Phase::ALL.into_iter().filter(|phase| used(*phase)) {
        let (x, y) = place(phase.name());
        let _ = writeln!(
            out,
            "<rect class=\"{}\" x=\"{x}\" y=\"{y}\" width=\"16\" height=\"12\"/><text x=\"{}\" y=\"{}\">{}</text>",
            class(phase),
            x + 22,
            y + 11,
            phase.name()
        );
    }
    let marks = [(MarkKind::Good, "ended well"), (MarkKind::Bad, "went wrong"), (MarkKind::Notice, "notice")];
    for (kind, name) in marks.into_iter().filter(|(kind, _)| marked(*kind)) {
        let (x, y) = place(name);
        shape(out, kind, Tenths::pixels(x + 8), y + 6, 5, "");
        let _ = writeln!(out, "<text x=\"{}\" y=\"{}\">{name}</text>", x + 22, y + 11);
    }
    y + 32
}

/// A part of the run, drawn on its own.
struct Panel {
    title: String,
    from: u64,
    to: u64,
    /// Whether the rows end with how the VMs ended, or with how long building them took.
    verdicts: bool,
}

impl Panel {
    /// Whether a row has a place in it: a VM that is built later has none in the start.
    fn shows(&self, row: &Row) -> bool {
        let here = |from: u64, to: u64| from <= self.to && to >= self.from;
        self.verdicts
            || row.stretches.iter().any(|stretch| here(stretch.start, stretch.end))
            || row.marks.iter().any(|mark| here(mark.time, mark.time))
    }
}

/// The start alone, if it would be hard to see in the whole; then the whole, without Xen's own start where that is the most of it.
fn panels(timeline: &Timeline) -> Vec<Panel> {
    /// The start gets its own panel when it takes less than this part of the whole, and Xen's start none when it takes more: half.
    const SMALL: u64 = 2;
    let last = timeline.last.max(1);
    let whole = if timeline.first > last / SMALL && timeline.first < last {
        let title = format!("The whole run after Xen's own start, which took {}", duration(timeline.first));
        Panel { title, from: timeline.first, to: last, verdicts: true }
    } else {
        Panel { title: "The whole run".into(), from: 0, to: last, verdicts: true }
    };
    let length = last - whole.from;
    let begin = timeline.builder.stretches.iter().find(|stretch| stretch.phase == Phase::Plan);
    let begin = begin.map_or(timeline.first, |plan| plan.start);
    match timeline.started {
        Some(started) if started > begin && (started - begin) < length / SMALL => {
            let room = ((started - begin) / 50).max(1);
            let title = format!("Until the VMs were started: {}", duration(started - begin));
            let start =
                Panel { title, from: begin.saturating_sub(room), to: started + room, verdicts: false };
            vec![start, whole]
        }
        _ => vec![whole],
    }
}

/// What all panels have in common.
struct Layout {
    /// From row to row.
    row: u64,
    font: u64,
    /// Where the rows' names end and the bars begin.
    left: u64,
    /// The most characters of a name that are shown.
    letters: usize,
}

impl Layout {
    /// Rows shrink with their number, but never so far that names could not be read when zoomed in.
    fn of(timeline: &Timeline) -> Self {
        /// The most that names may take of the width, in pixels.
        const NAMES: u64 = 280;
        let (row, font) = match timeline.vms.len() {
            0..32 => (24, 13),
            32..100 => (16, 11),
            100..300 => (11, 9),
            _ => (8, 7),
        };
        let longest = timeline.rows().map(|row| length(&row.name)).max().unwrap_or(0);
        let width = |letters: u64| letters * font * 2 / 3;
        let letters = longest.min(NAMES * 3 / (font * 2));
        let left = MARGIN + width(letters).max(60) + 10;
        Self { row, font, left, letters: usize::try_from(letters).unwrap_or(usize::MAX) }
    }

    fn panel(&self, out: &mut String, timeline: &Timeline, panel: &Panel, top: u64) -> u64 {
        let scale = Scale {
            from: panel.from,
            to: panel.to.max(panel.from + 1),
            left: self.left,
            width: WIDTH - RIGHT - self.left,
        };
        let shown: Vec<&Row> = timeline.rows().filter(|row| panel.shows(row)).collect();
        let rows = u64::try_from(shown.len()).unwrap_or(u64::MAX);
        let _ =
            writeln!(out, "<text class=\"heading\" x=\"{MARGIN}\" y=\"{}\">{}</text>", top + 16, panel.title);
        let first = top + 24 + AXIS;
        let end = first + rows * self.row;
        let behind = if panel.verdicts { "at the end" } else { "building took" };
        let _ = writeln!(
            out,
            "<text class=\"quiet\" x=\"{}\" y=\"{}\">{behind}</text>",
            WIDTH - RIGHT + 10,
            first - 6
        );
        self.bands(out, rows, first);
        axis(out, &scale, first, end);
        for (number, row) in (0_u64..).zip(shown) {
            self.row(out, row, &scale, panel.verdicts, first + number * self.row);
        }
        end + AXIS + 12
    }

    /// Every second row has a band behind it, for the eye to follow.
    fn bands(&self, out: &mut String, rows: u64, first: u64) {
        for number in (0..rows).step_by(2) {
            let y = first + number * self.row;
            let width = WIDTH - 2 * MARGIN;
            let _ = writeln!(
                out,
                "<rect class=\"band\" x=\"{MARGIN}\" y=\"{y}\" width=\"{width}\" height=\"{}\"/>",
                self.row
            );
        }
    }

    fn row(&self, out: &mut String, row: &Row, scale: &Scale, verdicts: bool, y: u64) {
        let base = self.baseline(y);
        let font = self.font;
        let domid = row.domid.as_ref().map(|domid| format!(", domain {domid}")).unwrap_or_default();
        let _ = writeln!(
            out,
            "<text font-size=\"{font}\" text-anchor=\"end\" x=\"{}\" y=\"{base}\">{}<title>{}</title></text>",
            self.left - 8,
            escaped(&shortened(&row.name, self.letters)),
            escaped(&format!("{}{domid}", row.name)),
        );
        for stretch in &row.stretches {
            self.stretch(out, row, stretch, scale, y);
        }
        for mark in &row.marks {
            if (scale.from..=scale.to).contains(&mark.time) {
                let title = format!("{}: {} ({})", row.name, mark.text, clock(mark.time));
                shape(out, mark.kind, scale.place(mark.time), y + self.row / 2, self.radius(mark), &title);
            }
        }
        let (text, class) = match verdicts {
            true if row.bad => (row.verdict.clone(), " class=\"bad-text\""),
            true => (row.verdict.clone(), ""),
            false => (
                row.total(|stretch| stretch.phase.is_step() && stretch.end <= scale.to)
                    .map(duration)
                    .unwrap_or_default(),
                "",
            ),
        };
        let _ = writeln!(
            out,
            "<text font-size=\"{font}\"{class} x=\"{}\" y=\"{base}\">{}</text>",
            WIDTH - RIGHT + 10,
            escaped(&shortened(&text, 18)),
        );
    }

    /// The line that a row's text stands on, below the row's top.
    fn baseline(&self, top: u64) -> u64 {
        top + u64::midpoint(self.row, self.font * 7 / 10)
    }

    fn radius(&self, mark: &Mark) -> u64 {
        let most = if mark.kind == MarkKind::Good { 4 } else { 5 };
        (self.row / 3).clamp(2, most)
    }

    /// Draws a stretch, and how long it took if there is room for that and all of it is in the panel.
    fn stretch(&self, out: &mut String, row: &Row, stretch: &Stretch, scale: &Scale, y: u64) {
        if stretch.end < scale.from || stretch.start > scale.to {
            return;
        }
        let (from, to) = (scale.place(stretch.start), scale.place(stretch.end));
        let width = Tenths((to.0 - from.0).max(LEAST));
        let gap = (self.row / 6).max(1);
        let took = duration(stretch.end - stretch.start);
        let note = stretch.note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default();
        let title = format!(
            "{}: {}{note}, {took} ({} to {})",
            row.name,
            stretch.phase.name(),
            clock(stretch.start),
            clock(stretch.end)
        );
        let _ = writeln!(
            out,
            "<rect class=\"{}\" x=\"{from}\" y=\"{}\" width=\"{width}\" height=\"{}\"><title>{}</title></rect>",
            class(stretch.phase),
            y + gap,
            self.row - 2 * gap,
            escaped(&title),
        );
        let room = Tenths::pixels((length(&took) + 2) * self.font * 2 / 3);
        let whole = scale.from <= stretch.start && stretch.end <= scale.to;
        if whole && self.row >= LABELLED && width > room {
            let middle = Tenths(from.0 + width.0 / 2);
            let base = self.baseline(y);
            let _ = writeln!(
                out,
                "<text class=\"in-{}\" font-size=\"{}\" text-anchor=\"middle\" x=\"{middle}\" y=\"{base}\">{took}</text>",
                class(stretch.phase),
                self.font.saturating_sub(2).max(6),
            );
        }
    }
}

fn axis(out: &mut String, scale: &Scale, top: u64, bottom: u64) {
    let step = scale.step(TICKS);
    for tick in scale.ticks(TICKS) {
        let x = scale.place(tick);
        let label = tick_label(tick, step, scale.to);
        let _ = writeln!(
            out,
            "<path class=\"grid\" d=\"M{x} {top}V{bottom}\"/><text class=\"tick\" x=\"{x}\" y=\"{}\">{label}</text>\
             <text class=\"tick\" x=\"{x}\" y=\"{}\">{label}</text>",
            top - 6,
            bottom + 14,
        );
    }
}

/// A disc, a cross or a diamond around a point.
fn shape(out: &mut String, kind: MarkKind, x: Tenths, y: u64, radius: u64, title: &str) {
    let title = if title.is_empty() { String::new() } else { format!("<title>{}</title>", escaped(title)) };
    let (r, twice) = (radius, radius * 2);
    let _ = match kind {
        MarkKind::Good => {
            writeln!(out, "<circle class=\"good\" cx=\"{x}\" cy=\"{y}\" r=\"{r}\">{title}</circle>")
        }
        MarkKind::Bad => writeln!(
            out,
            "<path class=\"bad\" d=\"M{x} {y}m-{r} -{r}l{twice} {twice}m0 -{twice}l-{twice} {twice}\">{title}</path>"
        ),
        MarkKind::Notice => {
            writeln!(
                out,
                "<path class=\"notice\" d=\"M{x} {y}m0 -{r}l{r} {r}l-{r} {r}l-{r} -{r}z\">{title}</path>"
            )
        }
    };
}

fn class(phase: Phase) -> &'static str {
    match phase {
        Phase::Xen => "xen",
        Phase::Plan => "plan",
        Phase::Build => "build",
        Phase::Start => "start",
        Phase::Watch => "watch",
        Phase::Create => "create",
        Phase::Populate => "populate",
        Phase::Load => "load",
        Phase::Seal => "seal",
        Phase::OtherStep => "other",
        Phase::Paused => "paused",
        Phase::Running => "running",
        Phase::Ending => "ending",
        Phase::Waiting => "waiting",
    }
}

fn length(text: &str) -> u64 {
    u64::try_from(text.chars().count()).unwrap_or(u64::MAX)
}

/// At most `letters` characters of a text; of a longer one the end is left out.
fn shortened(text: &str, letters: usize) -> String {
    if text.chars().count() <= letters {
        return text.to_owned();
    }
    text.chars().take(letters.saturating_sub(1)).chain(['…']).collect()
}

/// Light, and dark where the reader wants it dark.
const STYLE: &str = "\
text{fill:#1b1b1b}
.title{font-size:20px;font-weight:600}.heading{font-weight:600}
.quiet{fill:#555}.tick{font-size:11px;fill:#555;text-anchor:middle}
.paper{fill:#fff}.band{fill:#f3f3f3}.grid{stroke:#c8c8c8;stroke-width:1;fill:none}
.xen{fill:#b8b8b8}.plan{fill:#8a7a5c}.build{fill:#b39b6b}.start{fill:#d9c48f}.watch{fill:#e6dfcf}
.create{fill:#0072b2}.populate{fill:#e69f00}.load{fill:#56b4e9}.seal{fill:#cc79a7}.other{fill:#f0e442}
.paused{fill:#d5d5d5}.running{fill:#009e73}.ending{fill:#9a9a9a}.waiting{fill:#fff;stroke:#777;stroke-dasharray:2 2}
.good{fill:#1b1b1b;stroke:#fff;stroke-width:1}
.bad{fill:none;stroke:#c03000;stroke-width:2.5}.bad-text{fill:#b02c00;font-weight:600}
.notice{fill:#f0e442;stroke:#1b1b1b;stroke-width:1}
.in-create,.in-plan{fill:#fff}
@media(prefers-color-scheme:dark){
text{fill:#e8e8e8}.quiet,.tick{fill:#a8a8a8}.paper{fill:#161616}.band{fill:#202020}.grid{stroke:#3c3c3c}
.xen{fill:#6e6e6e}.watch{fill:#55503f}.paused{fill:#4a4a4a}.ending{fill:#7d7d7d}.waiting{fill:#161616}
.good{fill:#fff;stroke:#161616}.bad{stroke:#ff7a45}.bad-text{fill:#ff8a5c}.notice{stroke:#161616}
.in-build,.in-start,.in-populate,.in-load,.in-seal,.in-other,.in-running{fill:#111}
}
";
