//! The figures as a picture: a group of bars for each thing that is measured, on a logarithmic scale.

use std::fmt::Write as _;

use super::Choice;
use super::figures::Figures;
use super::report::{rows, shown, title, unpacked};

/// Width of the picture, where the bars begin, and how long the longest can be, in pixels.
const WIDTH: u32 = 1000;
const LEFT: u32 = 340;
const SPAN: f64 = 540.0;
/// Height of a bar, and of the gap between groups.
const BAR: u32 = 15;
const GAP: u32 = 12;
/// Where the groups begin.
const TOP: u32 = 110;
/// The scale, in powers of ten of a microsecond: from 100 µs to 100 s.
const DECADES: [u32; 2] = [2, 8];

/// The systems: what is in figures' names, in the legend, and where a bar's colour comes from.
const SYSTEMS: [(&str, &str); 4] = [
    ("db-boot", "db-boot"),
    ("db-server", "db-server, on request"),
    ("floor", "the floor: what no builder can leave out"),
    ("xl", "Debian's xl in a Linux Dom0"),
];

/// Draws the times of all systems as a self-contained SVG file.
pub(super) fn svg(figures: &Figures, choice: &Choice) -> String {
    let mut body = String::new();
    let bottom = groups(&mut body, figures, choice);
    let mut grid = String::new();
    for decade in DECADES[0]..=DECADES[1] {
        let (x, label) = (place(10_f64.powi(i32::try_from(decade).unwrap_or(0))), decade_label(decade));
        let _ = writeln!(
            grid,
            "<path class=\"grid\" d=\"M{x:.1} {}V{bottom}\"/><text class=\"tick\" x=\"{x:.1}\" y=\"{}\">{label}</text>",
            TOP - 8,
            TOP - 14
        );
    }
    let heading = format!("Building VMs on Xen {}", choice.xen.label);
    let height = bottom + 20;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-size=\"13\" font-family=\"system-ui,'DejaVu Sans',sans-serif\" role=\"img\" aria-labelledby=\"title\">\n\
         <title id=\"title\">{heading}</title>\n<style>\n{STYLE}</style>\n\
         <rect class=\"paper\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
         <text class=\"heading\" x=\"16\" y=\"30\">{heading}</text>\n\
         <text class=\"quiet\" x=\"16\" y=\"50\">Time of the emulated machine, one nanosecond for each instruction; each line is ten \
         times the one before</text>\n{}{grid}{body}</svg>\n",
        legend()
    )
}

/// The most that a letter takes, on average, in pixels.
const LETTER: u32 = 7;

fn legend() -> String {
    let mut x = 16;
    SYSTEMS.iter().fold(String::new(), |mut out, (system, name)| {
        let _ = writeln!(
            out,
            "<rect class=\"{system}\" x=\"{x}\" y=\"62\" width=\"16\" height=\"12\"/><text x=\"{}\" y=\"73\">{name}</text>",
            x + 22
        );
        x += 48 + LETTER * u32::try_from(name.len()).unwrap_or(0);
        out
    })
}

/// Draws all groups; gives back where they end.
fn groups(out: &mut String, figures: &Figures, choice: &Choice) -> u32 {
    let mut y = TOP;
    for row in rows(choice) {
        let bars = SYSTEMS.iter().filter_map(|(system, _)| {
            let what = if *system == "xl" { unpacked(&row) } else { &row };
            figures.get(&format!("{what}.{system}.time")).map(|time| (system, time))
        });
        let start = y;
        for (system, time) in bars {
            let end = place(f64::from(u32::try_from(time / 1000).unwrap_or(u32::MAX)));
            let (width, height) = ((end - f64::from(LEFT)).max(1.0), BAR - 3);
            let _ = writeln!(
                out,
                "<rect class=\"{system}\" x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"{height}\"/>\
                 <text class=\"value\" x=\"{:.1}\" y=\"{}\">{}</text>",
                end + 6.0,
                y + BAR - 5,
                shown(Some(time))
            );
            y += BAR;
        }
        let _ = writeln!(
            out,
            "<text text-anchor=\"end\" x=\"{}\" y=\"{}\">{}</text>",
            LEFT - 10,
            u32::midpoint(start, y) + 3,
            title(&row)
        );
        y += GAP;
    }
    y
}

/// Where a time in microseconds is.
fn place(micros: f64) -> f64 {
    let [first, last] = DECADES.map(f64::from);
    let part = (micros.max(1.0).log10() - first) / (last - first);
    f64::from(LEFT) + SPAN * part.clamp(0.0, 1.0)
}

fn decade_label(decade: u32) -> String {
    match decade {
        0..3 => format!("{} µs", 10_u32.pow(decade)),
        3..6 => format!("{} ms", 10_u32.pow(decade - 3)),
        _ => format!("{} s", 10_u32.pow(decade - 6)),
    }
}

/// Light, and dark where the reader wants it dark. The colours are those of Okabe and Ito.
const STYLE: &str = "\
text{fill:#1b1b1b}.heading{font-size:20px;font-weight:600}.quiet{fill:#555}
.tick{font-size:11px;fill:#555;text-anchor:middle}.value{font-size:11px}
.paper{fill:#fff}.grid{stroke:#d0d0d0;stroke-width:1;fill:none}
.db-boot{fill:#0072b2}.db-server{fill:#56b4e9}.floor{fill:#8f8f8f}.xl{fill:#e69f00}
@media(prefers-color-scheme:dark){
text{fill:#e8e8e8}.quiet,.tick{fill:#a8a8a8}.paper{fill:#161616}.grid{stroke:#3c3c3c}.db-boot{fill:#2f8fd0}
}
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Xen;

    #[test]
    fn every_figure_of_a_row_has_its_bar() {
        let choice = Choice { xen: Xen::new("4.17"), quick: true, record: false };
        let mut figures = Figures::default();
        figures.enter("build-8.db-boot.time", 820_000);
        figures.enter("build-8.floor.time", 732_000);
        figures.enter("build-8.xl.time", 44_500_000);
        let svg = svg(&figures, &choice);
        for text in ["0.820 ms", "0.732 ms", "44.5 ms", "build a VM of 8 MiB", "prefers-color-scheme:dark"] {
            assert!(svg.contains(text), "{text}\n{svg}");
        }
        assert_eq!(svg.matches("<rect class=\"xl\"").count(), 2, "one in the legend, one bar");
    }

    #[test]
    fn the_legend_is_within_the_picture() {
        let names: u32 =
            SYSTEMS.iter().map(|(_, name)| 48 + LETTER * u32::try_from(name.len()).unwrap()).sum();
        assert!(16 + names <= WIDTH, "{names}");
    }

    #[test]
    fn ten_times_as_long_is_one_line_further() {
        let decade = place(1000.0) - place(100.0);
        assert!((place(10_000.0) - place(1000.0) - decade).abs() < 1e-6);
        assert!((place(0.0) - f64::from(LEFT)).abs() < 1e-6, "what is too short begins at the axis");
    }
}
