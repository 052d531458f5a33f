//! Typed access to a parsed TOML tree that goes on after an error: each getter notes what is wrong and
//! answers `None`, so that one run finds everything. It knows TOML, not what the keys mean.

use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::duration::{DurationError, format_duration, parse_duration};
use super::report::Problems;

/// One table of the file, and where it begins.
pub(super) struct Section<'t, 'i> {
    table: &'t DeTable<'i>,
    /// The table's header, or the table itself where it is inline.
    pub(super) span: Range<usize>,
}

impl<'t, 'i> Section<'t, 'i> {
    /// Takes a table and notes every key in it that is not known.
    pub(super) fn new(
        table: &'t DeTable<'i>,
        span: Range<usize>,
        known: &[&str],
        problems: &mut Problems<'_>,
    ) -> Self {
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if !known.contains(&name) {
                problems.add(key.span(), format!("unknown key `{name}`"), nearest(name, known));
            }
        }
        Self { table, span }
    }

    /// Whether the key is there, and where.
    pub(super) fn key(&self, name: &str) -> Option<Range<usize>> {
        self.table.get_key_value(name).map(|(key, _)| key.span())
    }

    /// Whether the key is there, and has a string.
    pub(super) fn is_string(&self, name: &str) -> bool {
        self.table
            .get(name)
            .is_some_and(|value| as_string(value).is_some())
    }

    /// Notes that a key is missing, at the table's own place.
    pub(super) fn require(&self, name: &str, example: &str, problems: &mut Problems<'_>) {
        if self.key(name).is_none() {
            problems.add(
                self.span.clone(),
                format!("`{name}` is missing"),
                format!("add {name} = {example}"),
            );
        }
    }

    pub(super) fn string(&self, name: &str, problems: &mut Problems<'_>) -> Option<Spanned<&'t str>> {
        let value = self.table.get(name)?;
        let text = as_string(value);
        if text.is_none() {
            wrong_type(name, "a string", value, problems);
        }
        text
    }

    pub(super) fn boolean(&self, name: &str, problems: &mut Problems<'_>) -> Option<Spanned<bool>> {
        let value = self.table.get(name)?;
        if let DeValue::Boolean(flag) = value.get_ref() {
            return Some(Spanned::new(value.span(), *flag));
        }
        wrong_type(name, "true or false", value, problems);
        None
    }

    /// A whole number within the range.
    pub(super) fn integer<T>(
        &self,
        name: &str,
        range: RangeInclusive<T>,
        problems: &mut Problems<'_>,
    ) -> Option<Spanned<T>>
    where
        T: TryFrom<i64> + PartialOrd + fmt::Display,
    {
        let value = self.table.get(name)?;
        let DeValue::Integer(integer) = value.get_ref() else {
            wrong_type(name, "a whole number", value, problems);
            return None;
        };
        let number = i64::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .and_then(|number| T::try_from(number).ok())
            .filter(|number| range.contains(number));
        if number.is_none() {
            let message = format!("{name} is out of range: {integer}");
            problems.add(
                value.span(),
                message,
                format!("from {} to {}", range.start(), range.end()),
            );
        }
        number.map(|number| Spanned::new(value.span(), number))
    }

    /// A duration within the range.
    pub(super) fn duration(
        &self,
        name: &str,
        range: RangeInclusive<Duration>,
        problems: &mut Problems<'_>,
    ) -> Option<Spanned<Duration>> {
        const SHAPE: &str = "write it as \"500ms\", \"2s\", \"15m\" or \"1h\"";
        let value = self.table.get(name)?;
        let Some(text) = as_string(value) else {
            let hint = match value.get_ref() {
                DeValue::Integer(number) => {
                    format!("give the number a unit: \"{number}s\" or \"{number}ms\"")
                }
                _ => SHAPE.to_owned(),
            };
            let found = type_name(value.get_ref());
            problems.add(
                value.span(),
                format!("{name} must be a duration, this is {found}"),
                hint,
            );
            return None;
        };
        match parse_duration(text.get_ref()) {
            Ok(duration) if range.contains(&duration) => Some(Spanned::new(value.span(), duration)),
            Ok(_) | Err(DurationError::TooLong) => {
                let message = format!("{name} is out of range: {:?}", text.get_ref());
                let (low, high) = (format_duration(*range.start()), format_duration(*range.end()));
                problems.add(value.span(), message, format!("from {low} to {high}"));
                None
            }
            Err(error) => {
                problems.add(
                    value.span(),
                    format!("{name}: {:?}: {error}", text.get_ref()),
                    SHAPE,
                );
                None
            }
        }
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(
        &self,
        name: &str,
        words: &[(&str, T)],
        problems: &mut Problems<'_>,
    ) -> Option<T> {
        let text = self.string(name, problems)?;
        let found = words
            .iter()
            .find(|(word, _)| word == text.get_ref())
            .map(|(_, value)| *value);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let message = format!("{name} cannot be {:?}", text.get_ref());
            problems.add(text.span(), message, nearest_of("one of", text.get_ref(), &known));
        }
        found
    }

    /// The strings of an array; elements of another type are noted and left out.
    pub(super) fn strings(&self, name: &str, problems: &mut Problems<'_>) -> Vec<Spanned<&'t str>> {
        let Some(value) = self.table.get(name) else {
            return Vec::new();
        };
        let DeValue::Array(array) = value.get_ref() else {
            wrong_type(name, "an array of strings", value, problems);
            return Vec::new();
        };
        let mut strings = Vec::new();
        for element in array.iter() {
            match as_string(element) {
                Some(text) => strings.push(text),
                None => wrong_type(&format!("an element of {name}"), "a string", element, problems),
            }
        }
        strings
    }

    /// A sub-table.
    pub(super) fn table(
        &self,
        name: &str,
        known: &[&str],
        problems: &mut Problems<'_>,
    ) -> Option<Section<'t, 'i>> {
        let value = self.table.get(name)?;
        if let DeValue::Table(table) = value.get_ref() {
            return Some(Section::new(table, value.span(), known, problems));
        }
        wrong_type(name, "a table", value, problems);
        None
    }

    /// An array of tables; `header` is how one begins in the file.
    pub(super) fn tables(
        &self,
        name: &str,
        header: &str,
        known: &[&str],
        problems: &mut Problems<'_>,
    ) -> Vec<Section<'t, 'i>> {
        let Some(value) = self.table.get(name) else {
            return Vec::new();
        };
        let DeValue::Array(array) = value.get_ref() else {
            let found = type_name(value.get_ref());
            let message = format!("{name} must be an array of tables, this is {found}");
            problems.add(
                value.span(),
                message,
                format!("begin each with {header}, in double brackets"),
            );
            return Vec::new();
        };
        let mut sections = Vec::new();
        for element in array.iter() {
            match element.get_ref() {
                DeValue::Table(table) => sections.push(Section::new(table, element.span(), known, problems)),
                _ => wrong_type(&format!("an element of {name}"), "a table", element, problems),
            }
        }
        sections
    }
}

fn as_string<'t>(value: &'t Spanned<DeValue<'_>>) -> Option<Spanned<&'t str>> {
    match value.get_ref() {
        DeValue::String(text) => Some(Spanned::new(value.span(), text.as_ref())),
        _ => None,
    }
}

fn wrong_type(name: &str, expected: &str, value: &Spanned<DeValue<'_>>, problems: &mut Problems<'_>) {
    let found = type_name(value.get_ref());
    let hint = match (expected, value.get_ref()) {
        (
            "a string",
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_),
        ) => "put it in quotes",
        ("a whole number" | "true or false", DeValue::String(_)) => "leave the quotes out",
        ("an array of strings", DeValue::String(_)) => "put it in brackets: [\"...\"]",
        _ => "",
    };
    problems.add(
        value.span(),
        format!("{name} must be {expected}, this is {found}"),
        hint,
    );
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

fn nearest(name: &str, known: &[&str]) -> String {
    nearest_of("known here:", name, known)
}

/// "did you mean" where a known word is near enough to be a slip, else all of them.
fn nearest_of(all: &str, name: &str, known: &[&str]) -> String {
    let near = known
        .iter()
        .map(|word| (strsim::damerau_levenshtein(name, word), *word))
        .min()
        .filter(|(distance, word)| *distance <= word.len().div_ceil(3));
    match near {
        Some((_, word)) => format!("did you mean `{word}`?"),
        None => format!("{all} {}", known.join(", ")),
    }
}
