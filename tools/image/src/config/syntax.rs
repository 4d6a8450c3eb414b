//! The grammar of VM files: xl.cfg's, which the predecessor's files share.
//!
//! ```text
//! file       = { [ statement ] ( newline | ";" ) }
//! statement  = name "=" value
//! name       = letter { letter | digit | "_" }
//! value      = number | string | list
//! number     = decimal | "0x" hexadecimal | "0" octal
//! string     = "'" characters "'" | '"' characters '"'        (no raw newline; backslash escapes)
//! list       = "[" [ value { "," value } [ "," ] ] "]"        (newlines allowed between)
//! ```
//! `#` starts a comment that ends with the line. A statement that cannot be read is reported and skipped, so
//! that one mistake does not hide the next.

use crate::source::{Diagnostic, SourceFile, Span, Spanned};

/// What to tell somebody who wrote something else.
const A_LINE: &str = "a line is `key = value`; text values stand in quotes; `#` starts a comment";

/// How deep lists may be nested. xl nests two deep; this bounds the recursion.
const MAX_LIST_DEPTH: usize = 8;

/// A value as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A quoted string, escapes resolved.
    String(String),
    /// A number.
    Number(u64),
    /// A list.
    List(Vec<Spanned<Value>>),
}

impl Value {
    /// What to call it in a message.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::String(_) => "a string",
            Self::Number(_) => "a number",
            Self::List(_) => "a list",
        }
    }
}

/// One `name = value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The name.
    pub key: Spanned<String>,
    /// The value.
    pub value: Spanned<Value>,
}

/// Reads a whole file: the statements that can be read, and what is wrong with the others.
pub fn parse(source: &SourceFile) -> (Vec<Assignment>, Vec<Diagnostic>) {
    let mut parser = Parser { text: source.text(), at: 0 };
    let mut assignments = Vec::new();
    let mut diagnostics = Vec::new();
    loop {
        parser.skip_blanks(true);
        if parser.eat(';') {
            continue;
        }
        if parser.peek().is_none() {
            return (assignments, diagnostics);
        }
        match parser.statement() {
            Ok(assignment) => assignments.push(assignment),
            Err(diagnostic) => {
                diagnostics.push(*diagnostic);
                parser.skip_statement();
            }
        }
    }
}

/// Diagnostics are boxed on their way up: they are rare, and larger than what is usually returned.
type Parsed<T> = Result<T, Box<Diagnostic>>;

fn fail<T>(diagnostic: Diagnostic) -> Parsed<T> {
    Err(Box::new(diagnostic))
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn eat(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.bump();
        }
        found
    }

    /// Eats characters as long as `wanted` holds and returns where they were.
    fn eat_while(&mut self, wanted: impl Fn(char) -> bool) -> Span {
        let start = self.at;
        while self.peek().is_some_and(&wanted) {
            self.bump();
        }
        Span::new(start..self.at)
    }

    /// Skips blanks and comments, and newlines too if `newlines`.
    fn skip_blanks(&mut self, newlines: bool) {
        loop {
            self.eat_while(|c| matches!(c, ' ' | '\t' | '\r') || (newlines && c == '\n'));
            if self.peek() != Some('#') {
                return;
            }
            self.eat_while(|c| c != '\n');
        }
    }

    /// Skips what is left of a broken statement: to the end of its line.
    fn skip_statement(&mut self) {
        self.eat_while(|c| c != '\n');
    }

    /// The span of the next character; empty at the end of the file.
    fn here(&self) -> Span {
        Span::new(self.at..self.at + self.peek().map_or(0, char::len_utf8))
    }

    fn describe_next(&self) -> String {
        match self.peek() {
            None => "the end of the file".into(),
            Some('\n' | '\r') => "the end of the line".into(),
            Some(c) => format!("{c:?}"),
        }
    }

    fn statement(&mut self) -> Parsed<Assignment> {
        let key = self.key()?;
        self.skip_blanks(false);
        if self.rest().starts_with("+=") {
            let span = Span::new(self.at..self.at + 2);
            return fail(
                Diagnostic::error(span, "`+=` is not supported")
                    .with_help(format!("give {:?} its whole value in one place", key.value)),
            );
        }
        if !self.eat('=') {
            let message = format!("expected `=` after {:?}, found {}", key.value, self.describe_next());
            return fail(Diagnostic::error(self.here(), message).with_help(A_LINE));
        }
        self.skip_blanks(false);
        let value = self.value(0)?;
        self.skip_blanks(false);
        if matches!(self.peek(), None | Some('\n' | ';')) {
            return Ok(Assignment { key, value });
        }
        let message = format!("expected the end of the line or `;`, found {}", self.describe_next());
        fail(Diagnostic::error(self.here(), message))
    }

    fn key(&mut self) -> Parsed<Spanned<String>> {
        if !self.peek().is_some_and(|c| c.is_ascii_alphabetic()) {
            let message = format!("expected a key, found {}", self.describe_next());
            return fail(Diagnostic::error(self.here(), message).with_help(A_LINE));
        }
        let span = self.eat_while(|c| c.is_ascii_alphanumeric() || c == '_');
        Ok(Spanned::new(self.text[span.start..span.end].to_owned(), span))
    }

    fn value(&mut self, depth: usize) -> Parsed<Spanned<Value>> {
        match self.peek() {
            Some('\'' | '"') => self.string(),
            Some('[') => self.list(depth),
            Some(c) if c.is_ascii_digit() => self.number(),
            Some('-' | '+') => {
                let start = self.at;
                self.bump();
                let span = Span::new(start..start).to(self.word());
                fail(Diagnostic::error(span, "numbers have no sign here: every value is zero or more"))
            }
            Some(c) if c.is_alphanumeric() || matches!(c, '/' | '.' | '_') => {
                let span = self.word();
                let word = &self.text[span.start..span.end];
                fail(
                    Diagnostic::error(span, format!("{word:?} is neither a number nor in quotes"))
                        .with_help(format!("a number is digits alone; text stands in quotes: \"{word}\"")),
                )
            }
            _ => {
                let message = format!("expected a value, found {}", self.describe_next());
                fail(
                    Diagnostic::error(self.here(), message)
                        .with_help("a value is a number, a string in quotes, or a list in brackets"),
                )
            }
        }
    }

    /// Eats everything up to a blank or a character that ends a value.
    fn word(&mut self) -> Span {
        self.eat_while(|c| !c.is_whitespace() && !matches!(c, ';' | ',' | ']' | '#'))
    }

    fn number(&mut self) -> Parsed<Spanned<Value>> {
        let span = self.word();
        let word = &self.text[span.start..span.end];
        match read_number(word) {
            Ok(number) => Ok(Spanned::new(Value::Number(number), span)),
            Err(reason) => fail(Diagnostic::error(span, format!("{word:?} is not a number: {reason}"))),
        }
    }

    fn list(&mut self, depth: usize) -> Parsed<Spanned<Value>> {
        let open = self.here();
        if depth >= MAX_LIST_DEPTH {
            return fail(Diagnostic::error(open, format!("lists nested more than {MAX_LIST_DEPTH} deep")));
        }
        self.bump();
        let mut items = Vec::new();
        loop {
            self.skip_blanks(true);
            if self.peek() == Some(']') {
                let span = open.to(self.here());
                self.bump();
                return Ok(Spanned::new(Value::List(items), span));
            }
            if self.peek().is_none() {
                return fail(Diagnostic::error(open, "this list is never closed").with_help("add a `]`"));
            }
            items.push(self.value(depth + 1)?);
            self.skip_blanks(true);
            if !self.eat(',') && !matches!(self.peek(), Some(']') | None) {
                let message = format!("expected `,` or `]` in a list, found {}", self.describe_next());
                return fail(Diagnostic::error(self.here(), message));
            }
        }
    }

    fn string(&mut self) -> Parsed<Spanned<Value>> {
        let open = self.here();
        let quote = self.bump();
        let mut bytes = Vec::new();
        loop {
            let at = self.here();
            match self.bump() {
                None | Some('\n') => {
                    return fail(
                        Diagnostic::error(open, "this string is never closed")
                            .with_help("a string ends on the line it starts on; for a line break write \\n"),
                    );
                }
                Some('\\') => bytes.extend(self.escape(at)?),
                c if c == quote => break,
                Some(c) => bytes.extend(c.encode_utf8(&mut [0; 4]).bytes()),
            }
        }
        let span = Span::new(open.start..self.at);
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Spanned::new(Value::String(text), span)),
            Err(_) => fail(Diagnostic::error(span, "the escapes of this string do not give valid UTF-8")),
        }
    }

    /// The bytes that an escape stands for; `start` is its backslash, which has been read.
    fn escape(&mut self, start: Span) -> Parsed<Vec<u8>> {
        let simple = match self.peek() {
            Some('n') => b'\n',
            Some('t') => b'\t',
            Some('a') => 0x07,
            Some('b') => 0x08,
            Some('f') => 0x0c,
            Some('r') => b'\r',
            Some('v') => 0x0b,
            Some('\\') => b'\\',
            Some('\'') => b'\'',
            Some('"') => b'"',
            Some('x') => {
                self.bump();
                return self.numeric_escape(start, 16, 2);
            }
            Some('0'..='7') => return self.numeric_escape(start, 8, 3),
            _ => {
                let span = start.to(self.here());
                return fail(Diagnostic::error(span, "unknown escape").with_help(
                    r#"known: \\ \' \" \n \t \a \b \f \r \v \xHH \OOO; for a backslash write \\"#,
                ));
            }
        };
        self.bump();
        Ok(vec![simple])
    }

    fn numeric_escape(&mut self, start: Span, radix: u32, most_digits: usize) -> Parsed<Vec<u8>> {
        let from = self.at;
        while self.at - from < most_digits && self.peek().is_some_and(|c| c.is_digit(radix)) {
            self.bump();
        }
        let span = Span::new(start.start..self.at);
        match u8::from_str_radix(&self.text[from..self.at], radix) {
            Ok(byte) => Ok(vec![byte]),
            Err(_) => fail(
                Diagnostic::error(span, "this escape is not a byte")
                    .with_help(r"write \xHH with two hexadecimal digits, or up to \377 in octal"),
            ),
        }
    }
}

/// Reads a number as xl does: decimal, `0x` hexadecimal, or octal after a leading `0`.
///
/// The error is the reason, for use in a message.
pub fn read_number(word: &str) -> Result<u64, String> {
    let (digits, radix, name) = match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        Some(digits) => (digits, 16, "a hexadecimal digit"),
        None if word.len() > 1 && word.starts_with('0') => {
            (&word[1..], 8, "an octal digit, and a number that starts with 0 is octal")
        }
        None => (word, 10, "a decimal digit"),
    };
    if digits.is_empty() {
        return Err("its digits are missing".into());
    }
    if let Some(wrong) = digits.chars().find(|c| !c.is_digit(radix)) {
        return Err(format!("{wrong:?} is not {name}"));
    }
    u64::from_str_radix(digits, radix).map_err(|_| "it does not fit into 64 bits".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<(String, Value)> {
        let (assignments, diagnostics) = parse(&SourceFile::new("t", text));
        assert_eq!(diagnostics, []);
        assignments.into_iter().map(|a| (a.key.value, a.value.value)).collect()
    }

    fn string(text: &str) -> Value {
        Value::String(text.into())
    }

    #[test]
    fn statements_end_with_the_line_or_a_semicolon() {
        let expected = vec![
            ("a".into(), Value::Number(1)),
            ("b".into(), string("x;#")),
            ("c_2".into(), Value::Number(3)),
        ];
        assert_eq!(values("\n;a=1; b = 'x;#' # comment; d = 9\r\n  c_2\t=3"), expected);
    }

    #[test]
    fn numbers_come_in_three_bases() {
        let numbers = [("0", 0), ("10", 10), ("0x1F", 31), ("017", 15), ("18446744073709551615", u64::MAX)];
        for (text, number) in numbers {
            assert_eq!(read_number(text), Ok(number), "{text}");
        }
        for text in ["0x", "08", "12k", "18446744073709551616", "0x1_0"] {
            assert!(read_number(text).is_err(), "{text}");
        }
    }

    #[test]
    fn strings_have_escapes_in_both_kinds_of_quotes() {
        let expected = vec![("a".into(), string("\n\t\\'\"A8\u{e9}\u{7}"))];
        assert_eq!(values(r#"a = "\n\t\\\'\"\x41\70\xc3\xa9\a""#), expected);
        assert_eq!(values(r#"a = '"\''"#), vec![("a".into(), string("\"'"))]);
    }

    #[test]
    fn lists_go_over_lines_and_may_end_with_a_comma() {
        let (assignments, diagnostics) =
            parse(&SourceFile::new("t", "a = [ 1, # one\n 'two',\n\n [3, ], ]\nb = []"));
        assert_eq!(diagnostics, []);
        let Value::List(items) = &assignments[0].value.value else { panic!("not a list") };
        assert_eq!(items.len(), 3);
        assert_eq!(assignments[1].value.value, Value::List(Vec::new()));
    }

    #[test]
    fn a_broken_statement_does_not_hide_the_next() {
        let (assignments, diagnostics) = parse(&SourceFile::new("t", "a 1\nb = 2\nc = -3\nd = x\ne = 5"));
        let keys: Vec<_> = assignments.iter().map(|a| a.key.value.as_str()).collect();
        assert_eq!(keys, ["b", "e"]);
        assert_eq!(diagnostics.len(), 3);
    }
}
