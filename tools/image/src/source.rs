//! Text files that people write, and messages that point into them.
//!
//! A [`Diagnostic`] knows the bytes it is about. Rendered, it shows `file:line:column`, the line with the
//! spot underlined, and what to do:
//!
//! ```text
//! web.cfg:3:1: unknown key "memroy"
//!   |
//! 3 | memroy = 64
//!   | ^^^^^^
//!   = help: did you mean "memory"?
//! ```

use std::fmt::{self, Write as _};
use std::ops::Range;

pub use nearest::nearest;

/// A half-open range of byte offsets in a [`SourceFile`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

impl Span {
    /// The span of `range`.
    pub fn new(range: Range<usize>) -> Self {
        Self { start: range.start, end: range.end }
    }

    /// From the start of `self` to the end of `other`.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        Self { start: self.start, end: other.end }
    }
}

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// Pairs a value with its place.
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

/// A text with the name under which messages speak of it.
#[derive(Clone, Debug)]
pub struct SourceFile {
    name: String,
    text: String,
    line_starts: Vec<usize>,
}

impl SourceFile {
    /// Takes a text; `name` is what messages call it, normally its path as the user gave it.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        let text = text.into();
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { name: name.into(), text, line_starts }
    }

    /// The name that messages use.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Line and column of a byte offset, both counted from 1; columns count characters.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let line = self.line_starts.partition_point(|&start| start <= offset).max(1);
        let start = self.line_starts[line - 1];
        let before = self.text.get(start..offset).unwrap_or_default();
        (line, before.chars().count() + 1)
    }

    /// The text of a line (counted from 1) without its end.
    fn line(&self, line: usize) -> &str {
        let start = self.line_starts[line - 1];
        let rest = &self.text[start..];
        rest.split('\n').next().unwrap_or_default().trim_end_matches('\r')
    }
}

/// Whether a diagnostic stops the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It does.
    Error,
    /// It does not.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// One thing that is wrong with a [`SourceFile`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether it stops the command.
    pub severity: Severity,
    /// What it is about; an empty span points between two characters.
    pub span: Span,
    /// What is wrong, without a full stop.
    pub message: String,
    /// A second place that belongs to it, and what is there.
    pub related: Option<(Span, String)>,
    /// What to do about it.
    pub help: Vec<String>,
}

impl Diagnostic {
    /// An error at `span`.
    pub fn error(span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, span, message: message.into(), related: None, help: Vec::new() }
    }

    /// A warning at `span`.
    pub fn warning(span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(span, message) }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// Adds a second place.
    #[must_use]
    pub fn with_related(mut self, span: Span, message: impl Into<String>) -> Self {
        self.related = Some((span, message.into()));
        self
    }

    /// The message for people, several lines, without a severity in front and without a newline at the end.
    pub fn render(&self, source: &SourceFile) -> String {
        let mut out = String::new();
        snippet(&mut out, source, self.span, &self.message);
        if let Some((span, message)) = &self.related {
            out.push('\n');
            snippet(&mut out, source, *span, message);
        }
        for help in &self.help {
            let _ = write!(out, "\n  = help: {help}");
        }
        out
    }
}

/// The most characters of a line that are shown; of a longer one, the part around the span.
const SHOWN: usize = 100;

/// A character as it may stand on a terminal: a control character (an escape sequence begins with one) is shown as another.
fn shown(character: char) -> char {
    if character.is_control() && character != '\t' { char::REPLACEMENT_CHARACTER } else { character }
}

/// Writes `file:line:column: message` and the line with the span underlined.
fn snippet(out: &mut String, source: &SourceFile, span: Span, message: &str) {
    let (line, column) = source.position(span.start);
    let all: Vec<char> = source.line(line).chars().collect();
    let before = column - 1;
    let start = if all.len() > SHOWN { before.saturating_sub(SHOWN / 4) } else { 0 };
    let end = all.len().min(start + SHOWN);
    let [left, right] = [start > 0, end < all.len()].map(|cut| if cut { "..." } else { "" });
    let text: String = all[start..end].iter().map(|&c| shown(c)).collect();
    let room = end.saturating_sub(before);
    let carets = source.text.get(span.start..span.end).map_or(1, |s| s.chars().count()).min(room).max(1);
    // Tabs stay tabs, so that the carets stand below their text whatever a tab is worth.
    let indent = all[start..before.min(end)].iter().map(|c| if *c == '\t' { '\t' } else { ' ' });
    let indent: String = left.chars().map(|_| ' ').chain(indent).collect();
    let number = line.to_string();
    let margin = " ".repeat(number.len());
    let _ = write!(
        out,
        "{}:{line}:{column}: {message}\n{margin} |\n{number} | {left}{text}{right}\n{margin} | {indent}{}",
        source.name,
        "^".repeat(carets)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        let source = SourceFile::new("f", "aé\nbc\n");
        assert_eq!(source.position(0), (1, 1));
        assert_eq!(source.position(3), (1, 3));
        assert_eq!(source.position(4), (2, 1));
        assert_eq!(source.position(7), (3, 1));
    }

    #[test]
    fn the_carets_stand_below_the_span() {
        let source = SourceFile::new("f.cfg", "x = 1\n\tyé = 22\r\n");
        let at = source.text().find("22").unwrap();
        let shown = Diagnostic::error(Span::new(at..at + 2), "no").with_help("try 23").render(&source);
        assert_eq!(shown, "f.cfg:2:7: no\n  |\n2 | \tyé = 22\n  | \t     ^^\n  = help: try 23");
    }

    #[test]
    fn of_a_long_line_the_part_around_the_span_is_shown() {
        let text = format!("{}WRONG{}", "a".repeat(500), "b".repeat(500));
        let shown = Diagnostic::error(Span::new(500..505), "no").render(&SourceFile::new("f", text));
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines[0], "f:1:501: no");
        assert_eq!(lines[2], format!("1 | ...{}WRONG{}...", "a".repeat(25), "b".repeat(70)));
        assert_eq!(lines[3].find("^^^^^"), lines[2].find("WRONG"));
    }

    #[test]
    fn a_span_over_lines_is_underlined_on_its_first_line_only() {
        let source = SourceFile::new("f", "ab\ncd");
        let shown = Diagnostic::error(Span::new(1..5), "no").render(&source);
        assert!(shown.ends_with("1 | ab\n  |  ^"), "{shown}");
    }

    #[test]
    fn control_characters_of_a_file_do_not_reach_the_terminal() {
        let shown = Diagnostic::error(Span::new(6..7), "no").render(&SourceFile::new("f", "a\x1b[2J\rx"));
        assert!(shown.ends_with("1 | a\u{fffd}[2J\u{fffd}x\n  |       ^"), "{shown}");
    }

    #[test]
    fn the_end_of_the_file_can_be_pointed_at() {
        let source = SourceFile::new("f", "ab");
        assert!(Diagnostic::error(Span::new(2..2), "no").render(&source).ends_with("1 | ab\n  |   ^"));
    }
}
