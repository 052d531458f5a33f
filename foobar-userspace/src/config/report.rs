//! What is wrong with a configuration file: a list of problems, each with its place, shown to people as
//! snippets of the file and to programs as plain values.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;

/// A position in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where; absent when the file could not be read at all.
    #[serde(flatten)]
    pub place: Option<Place>,
    /// What the place is in, where that is not the file itself: the value of a key in etcd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What, without its place.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The bytes of the text that are meant.
    #[serde(skip)]
    span: Range<usize>,
}

/// Everything that is wrong with one file, in the file's order. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    file: String,
    text: String,
    errors: Vec<Problem>,
}

impl Report {
    /// A file that could not be read.
    pub(super) fn unreadable(file: &str, error: &std::io::Error) -> Self {
        let message = format!("cannot read {file}: {error}");
        let problem = Problem {
            place: None,
            source: None,
            message,
            hint: None,
            span: 0..0,
        };
        Self {
            file: file.to_owned(),
            text: String::new(),
            errors: vec![problem],
        }
    }

    /// The file's name, as it was given.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// All that is wrong, in the file's order.
    #[must_use]
    pub fn errors(&self) -> &[Problem] {
        &self.errors
    }

    /// The whole report for a person: each problem with the line that it is in, then their number.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let renderer = if color {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let mut out = String::new();
        for error in &self.errors {
            out.push_str(&self.render_problem(&renderer, error));
            out.push_str("\n\n");
        }
        match self.errors.len() {
            1 => out.push_str(&format!("{}: 1 error", self.file)),
            count => out.push_str(&format!("{}: {count} errors", self.file)),
        }
        out
    }

    fn render_problem(&self, renderer: &Renderer, problem: &Problem) -> String {
        let mut group = Group::with_title(Level::ERROR.primary_title(problem.message.as_str()));
        if let Some(place) = problem.place {
            let (line, span) = first_line(&self.text, &problem.span);
            group = group.element(
                Snippet::source(line)
                    .path(problem.source.as_deref().unwrap_or(&self.file))
                    .line_start(place.line)
                    .annotation(AnnotationKind::Primary.span(span)),
            );
        }
        if let Some(hint) = &problem.hint {
            group = group.element(Level::HELP.message(hint.as_str()));
        }
        renderer.render(&[group])
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Report {}

/// The line in which the span begins, and what of the span is in it, relative to the line.
fn first_line<'t>(text: &'t str, span: &Range<usize>) -> (&'t str, Range<usize>) {
    let before = &text[..span.start];
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[start..].split('\n').next().unwrap_or_default();
    let line = line.strip_suffix('\r').unwrap_or(line);
    let begin = (span.start - start).min(line.len());
    (line, begin..(span.end - start).clamp(begin, line.len()))
}

/// Collects problems while a file is walked.
#[derive(Debug)]
pub(super) struct Problems<'t> {
    text: &'t str,
    /// Where another text than the file's begins in it, and what that is called.
    second: Option<(usize, &'t str)>,
    errors: Vec<Problem>,
}

impl<'t> Problems<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self {
            text,
            second: None,
            errors: Vec::new(),
        }
    }

    /// Of two texts, the second of which begins there, after the end of a line, and is called so.
    pub(super) fn of_two(text: &'t str, second: usize, name: &'t str) -> Self {
        Self {
            second: Some((second, name)),
            ..Self::new(text)
        }
    }

    /// Adds a problem; a span that is not of this text is moved to the nearest place that is.
    pub(super) fn add(&mut self, span: Range<usize>, message: impl Into<String>, hint: impl Into<String>) {
        let start = self.text.floor_char_boundary(span.start);
        let end = self.text.ceil_char_boundary(span.end).max(start);
        let second = self.second.filter(|(begin, _)| start >= *begin);
        let place = self.place(start);
        let (message, hint) = (message.into(), Some(hint.into()).filter(|hint| !hint.is_empty()));
        self.errors.push(Problem {
            place: Some(place),
            source: second.map(|(_, name)| name.to_owned()),
            message,
            hint,
            span: start..end,
        });
    }

    /// The line of a span, for a hint that points at another place.
    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        self.place(self.text.floor_char_boundary(span.start)).line
    }

    /// Lines are counted from the beginning of the text that it is in.
    fn place(&self, offset: usize) -> Place {
        match self.second {
            Some((begin, _)) if offset >= begin => place(&self.text[begin..], offset - begin),
            _ => place(self.text, offset),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    pub(super) fn into_report(mut self, file: &str) -> Report {
        self.errors.sort_by_key(|error| error.span.start);
        Report {
            file: file.to_owned(),
            text: self.text.to_owned(),
            errors: self.errors,
        }
    }
}

fn place(text: &str, offset: usize) -> Place {
    let before = &text[..offset];
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Place {
        line: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
        column: before[start..].chars().count() + 1,
    }
}
