//! The fields of a TOML table, taken one by one; what is left at the end is not known.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use toml::de::{DeInteger, DeTable, DeValue};

use crate::source::{Diagnostic, Span, Spanned, nearest};

/// A value with its place, as the parser gives it.
type TomlValue<'t> = &'t toml::Spanned<DeValue<'t>>;

/// The fields of one table that were not taken yet.
pub(super) struct Fields<'t, 'd> {
    left: BTreeMap<&'t str, (Span, TomlValue<'t>)>,
    /// The keys that were asked for, whether they were there or not.
    known: Vec<&'static str>,
    /// Where what is missing is missing.
    pub(super) place: Span,
    pub(super) diagnostics: &'d mut Vec<Diagnostic>,
}

/// What a value is, for messages.
pub(super) trait Kind {
    /// `a string`, `a table`, ...
    fn kind(&self) -> &'static str;
}

impl Kind for DeValue<'_> {
    fn kind(&self) -> &'static str {
        match self {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a number",
            DeValue::Float(_) => "a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        }
    }
}

/// The place of a value.
pub(super) fn span_of<T>(value: &toml::Spanned<T>) -> Span {
    Span::new(value.span())
}

impl<'t, 'd> Fields<'t, 'd> {
    /// The fields of `table`.
    pub(super) fn new(table: &'t DeTable<'t>, place: Span, diagnostics: &'d mut Vec<Diagnostic>) -> Self {
        let field =
            |(key, value): (&'t toml::Spanned<_>, TomlValue<'t>)| -> (&'t str, (Span, TomlValue<'t>)) {
                let name: &std::borrow::Cow<'t, str> = key.get_ref();
                (name.as_ref(), (span_of(key), value))
            };
        Self { left: table.iter().map(field).collect(), known: Vec::new(), place, diagnostics }
    }

    pub(super) fn error(&mut self, span: Span, message: impl Into<String>) -> &mut Diagnostic {
        self.diagnostics.push(Diagnostic::error(span, message));
        let last = self.diagnostics.len() - 1;
        &mut self.diagnostics[last]
    }

    /// Takes the value of `key`, with the place of the key.
    pub(super) fn take(&mut self, key: &'static str) -> Option<(Span, TomlValue<'t>)> {
        self.known.push(key);
        self.left.remove(key)
    }

    /// Takes those of `keys` that are there: key, its place, value.
    pub(super) fn take_known(
        &mut self,
        keys: impl IntoIterator<Item = &'static str>,
    ) -> Vec<(&'static str, Span, TomlValue<'t>)> {
        keys.into_iter().filter_map(|key| self.take(key).map(|(span, value)| (key, span, value))).collect()
    }

    /// The same for keys that belong elsewhere: they are not among those that [`finish`](Self::finish) names.
    pub(super) fn take_known_silently(&mut self, keys: &[&'static str]) -> Vec<(&'static str, Span)> {
        keys.iter().filter_map(|key| self.left.remove(key).map(|(span, _)| (*key, span))).collect()
    }

    /// Where the value of `key` is, if it is there and not taken.
    pub(super) fn place_of(&self, key: &str) -> Option<Span> {
        self.left.get(key).map(|(_, value)| span_of(value))
    }

    pub(super) fn wrong_type(&mut self, key: &str, wanted: &str, value: TomlValue<'_>) {
        let message = format!("{key:?} must be {wanted}, this is {}", value.get_ref().kind());
        self.error(span_of(value), message);
    }

    /// Takes a text.
    pub(super) fn text(&mut self, key: &'static str) -> Option<Spanned<&'t str>> {
        let (_, value) = self.take(key)?;
        let DeValue::String(text) = value.get_ref() else {
            self.wrong_type(key, "a text in quotes", value);
            return None;
        };
        Some(Spanned::new(text.as_ref(), span_of(value)))
    }

    /// Takes a number within a range. `unit` is what follows it in messages.
    pub(super) fn number(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
        unit: &str,
    ) -> Option<Spanned<u64>> {
        let (_, value) = self.take(key)?;
        let DeValue::Integer(number) = value.get_ref() else {
            self.wrong_type(key, "a number", value);
            return None;
        };
        if let Some(number) = number_of(number).filter(|number| range.contains(number)) {
            return Some(Spanned::new(number, span_of(value)));
        }
        let (low, high) = range.into_inner();
        self.error(span_of(value), format!("{key:?} is {number}, must be {low} to {high}{unit}"));
        None
    }

    /// Takes one of several words.
    pub(super) fn word<T: Copy>(&mut self, key: &'static str, words: &[(&'static str, T)]) -> Option<T> {
        let text = self.text(key)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text.value) {
            return Some(*value);
        }
        let names: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        let help = match nearest(text.value, names.iter().copied()) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("it is one of {}", quoted(&names)),
        };
        self.error(text.span, format!("{key:?} is {:?}, which is not known", text.value)).help.push(help);
        None
    }

    /// Takes `true` or `false`.
    pub(super) fn truth(&mut self, key: &'static str) -> Option<bool> {
        let (_, value) = self.take(key)?;
        let DeValue::Boolean(truth) = value.get_ref() else {
            self.wrong_type(key, "true or false", value);
            return None;
        };
        Some(*truth)
    }

    /// Takes a table; an error about what is missing in it points to `[key]`.
    pub(super) fn table(&mut self, key: &'static str) -> Option<(Span, &'t DeTable<'t>)> {
        let (span, value) = self.take(key)?;
        let DeValue::Table(table) = value.get_ref() else {
            let wanted = format!("a table: a line [{key}], and its settings below");
            self.wrong_type(key, &wanted, value);
            return None;
        };
        Some((span, table))
    }

    /// Reports what was not taken. `whose` says in what there are no such keys.
    pub(super) fn finish(self, whose: &str) {
        for (key, (span, _)) in self.left {
            let mut error = Diagnostic::error(span, format!("unknown key {key:?} in {whose}"));
            let help = match nearest(key, self.known.iter().copied()) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("the keys are: {}", self.known.join(", ")),
            };
            error.help.push(help);
            self.diagnostics.push(error);
        }
    }
}

/// An integer that is not negative and not absurdly large.
pub(super) fn number_of(integer: &DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}
