//! A picture of a boot: what db-boot's log says about the builder and each VM, drawn over time.
//!
//! ```text
//! console log --log--> lines --timeline--> phases and marks --svg--> a picture (--html--> with a table)
//! ```

mod html;
mod log;
mod scale;
mod svg;
mod timeline;

pub use html::html;
pub use svg::svg;
pub use timeline::{BUILT_FIELDS, Mark, MarkKind, Phase, Row, Stretch, Timeline};

/// `text` for XML and HTML: nothing in it is markup, and nothing is a character that XML does not allow.
fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, c| {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn nothing_in_a_text_is_markup() {
        assert_eq!(
            escaped("a<b>&\"c\"\x07\u{1f}\u{ffff}é"),
            "a&lt;b&gt;&amp;&quot;c&quot;\u{fffd}\u{fffd}\u{fffd}é"
        );
    }
}
