//! Problems of a file, as people read them: where, what was found, what to write instead.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::sighting::Unreadable;

/// All that is wrong with one file, in the order of its lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub problems: Vec<Problem>,
    /// How many more there were beyond [`KEPT_MAX`] errors and as many warnings.
    pub left_out: usize,
}

/// A file of another format has a problem on every line; nobody reads more of them than this.
pub const KEPT_MAX: usize = 100;

/// One thing that is wrong. Its `Display` is a block of lines without a final newline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub file: Arc<Path>,
    /// `None` when the problem is the file as a whole.
    pub place: Option<Place>,
    /// As in `servers.servers[2].url`; empty when the problem is not about a key.
    pub key: String,
    pub what: What,
    pub advice: Option<Advice>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// From 1, as editors count.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// The line itself, cut to [`EXCERPT_MAX`] characters around the column.
    pub excerpt: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file is usable; something in it does not do what it looks like.
    Warning,
    /// The file is not usable.
    Error,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum What {
    #[error("not valid TOML: {0}")]
    Syntax(String),
    #[error("byte 0x{byte:02x} is not UTF-8 text")]
    NotUtf8 { byte: u8 },
    #[error("found {found}, expected {expected}")]
    Wrong { found: String, expected: String },
    #[error("is missing, expected {expected}")]
    Missing { expected: String },
    #[error("is not a known key and has no effect")]
    Unknown,
    #[error("has no effect here: it belongs in {table}")]
    Misplaced { table: &'static str },
    #[error("the same server as {first}: it gets twice the share and twice the limit")]
    Duplicate { first: String },
    #[error("ends in /v1, so requests would go to /v1/v1/...")]
    EndsInV1,
    #[error("no servers are configured: every request will be refused")]
    NoServers,
    #[error("there is no such file: starting without servers")]
    NoFile,
    #[error("{0}")]
    Unreadable(Unreadable),
    #[error(
        "names no server, and {had} {} in use: a file that is cut short looks like this",
        if *.had == 1 { "is" } else { "are" }
    )]
    WouldEmpty { had: usize },
    #[error("has kept changing for {seconds} s; it is read once it stays the same for a moment")]
    NeverStill { seconds: u64 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advice {
    /// A line, or lines, that would be right.
    Write(String),
    /// A known name close to the one found.
    Mean(String),
    /// What to do.
    Do(&'static str),
}

impl Report {
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| problem.what.severity() == Severity::Error)
    }

    /// As in `2 errors, 1 warning`.
    pub fn summary(&self) -> String {
        let errors = self.problems.iter().filter(|p| p.what.severity() == Severity::Error).count();
        let warnings = self.problems.len() - errors;
        let counted = |count: usize, noun: &str| match count {
            0 => None,
            1 => Some(format!("1 {noun}")),
            _ => Some(format!("{count} {noun}s")),
        };
        let more = (self.left_out > 0).then(|| format!("{} more", self.left_out));
        let parts = [counted(errors, "error"), counted(warnings, "warning"), more];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        if parts.is_empty() { "no problems".into() } else { parts.join(", ") }
    }

    pub(super) fn of(file: &Arc<Path>, what: What, advice: Option<Advice>) -> Self {
        let file = Arc::clone(file);
        let problem = Problem { file, place: None, key: String::new(), what, advice };
        Self { problems: vec![problem], left_out: 0 }
    }
}

impl std::error::Error for Report {}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        match self.left_out {
            0 => Ok(()),
            more => write!(f, "\n... and {more} more"),
        }
    }
}

impl What {
    pub fn severity(&self) -> Severity {
        match self {
            Self::Unknown
            | Self::Misplaced { .. }
            | Self::Duplicate { .. }
            | Self::EndsInV1
            | Self::NoServers
            | Self::NoFile => Severity::Warning,
            Self::Syntax(_)
            | Self::NotUtf8 { .. }
            | Self::Wrong { .. }
            | Self::Missing { .. }
            | Self::Unreadable(_)
            | Self::WouldEmpty { .. }
            | Self::NeverStill { .. } => Severity::Error,
        }
    }
}

impl Problem {
    /// The first line of the block alone, for logs.
    pub fn headline(&self) -> String {
        let mut line = self.file.display().to_string();
        if let Some(place) = &self.place {
            line += &format!(":{}:{}", place.line, place.column);
        }
        line += match self.what.severity() {
            Severity::Warning => ": warning: ",
            Severity::Error => ": error: ",
        };
        if !self.key.is_empty() {
            line += &format!("{}: ", self.key);
        }
        line + &self.what.to_string()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.headline())?;
        if let Some(place) = &self.place {
            write!(f, "\n{:>6} | {}", place.line, place.excerpt)?;
        }
        match &self.advice {
            None => Ok(()),
            Some(Advice::Mean(name)) => write!(f, "\n    did you mean: {name}"),
            Some(Advice::Do(what)) => write!(f, "\n    {what}"),
            Some(Advice::Write(lines)) if !lines.contains('\n') => {
                write!(f, "\n    write for example: {lines}")
            }
            Some(Advice::Write(lines)) => {
                write!(f, "\n    write for example:")?;
                lines.lines().try_for_each(|line| write!(f, "\n        {line}"))
            }
        }
    }
}

/// A text with its file name: turns spans into places.
pub(super) struct Source<'a> {
    pub(super) file: Arc<Path>,
    pub(super) text: &'a str,
    /// Where each line begins, so that a file of nothing but errors is not read once per error.
    lines: Vec<usize>,
}

/// Longer lines are shown in part: a fleet may be written as one inline list.
pub const EXCERPT_MAX: usize = 96;

impl<'a> Source<'a> {
    pub(super) fn new(file: Arc<Path>, text: &'a str) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0).chain(newlines.map(|(at, _)| at + 1)).collect();
        Self { file, text, lines }
    }

    /// From 1.
    pub(super) fn line_of(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset)
    }

    /// The line up to the offset.
    pub(super) fn line_before(&self, offset: usize) -> &'a str {
        let start = self.lines[self.line_of(offset) - 1];
        self.text.get(start..offset).unwrap_or_default()
    }

    pub(super) fn place(&self, offset: usize) -> Place {
        let line = self.line_of(offset);
        let start = self.lines[line - 1];
        let end = self.lines.get(line).map_or(self.text.len(), |next| next - 1);
        let column = self.line_before(offset).chars().count();
        Place {
            line,
            column: column + 1,
            excerpt: window(self.text[start..end].trim_end(), offset - start),
        }
    }

    /// A value as it stands in the file, short enough for a message.
    pub(super) fn quote(&self, span: Range<usize>) -> String {
        const MAX: usize = 60;
        let text = printable(self.text.get(span).unwrap_or_default());
        let mut chars = text.chars();
        let head: String = chars.by_ref().take(MAX).collect();
        if chars.next().is_some() { head + "..." } else { head }
    }
}

/// The part of a line around an offset.
fn window(line: &str, offset: usize) -> String {
    // Masked with more around it than is shown, so that no password loses the `://` in front; and
    // not the whole line, which may be the whole file.
    const MASKED: usize = 16 * EXCERPT_MAX;
    let border = |at: usize| (0..=at).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
    let offset = border(offset.min(line.len()));
    let from = border(offset.saturating_sub(MASKED));
    let to = border((offset + MASKED).min(line.len()));
    let column = line[from..offset].chars().count();
    let near = printable(&line[from..to]);
    let length = near.chars().count();
    // A third of the width in front of the column shows which entry of the list it is.
    let start = column.saturating_sub(EXCERPT_MAX / 3).min(length.saturating_sub(EXCERPT_MAX));
    let shown: String = near.chars().skip(start).take(EXCERPT_MAX).collect();
    let left = if from + start > 0 { "..." } else { "" };
    let right = if start + EXCERPT_MAX < length || to < line.len() { "..." } else { "" };
    format!("{left}{shown}{right}")
}

/// Text of the file for a terminal or a log: no control characters, no passwords.
fn printable(text: &str) -> String {
    let text: String = text
        .chars()
        .map(|c| match c {
            '\t' | '\n' | '\r' => ' ',
            c if c.is_control() => char::REPLACEMENT_CHARACTER,
            c => c,
        })
        .collect();
    without_credentials(&text)
}

/// `http://user:secret@host` becomes `http://***********@host`: reports end up in log files. The
/// length stays, and with it the column. A password may hold what a url may not, so all up to the
/// last `@` of the word goes.
fn without_credentials(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (scheme, tail) = rest.split_at(at + 3);
        let (word, after) = tail.split_at(tail.find(['"', '\'', ' ']).unwrap_or(tail.len()));
        let secret = word.rfind('@').unwrap_or(0);
        shown += scheme;
        shown.extend(word[..secret].chars().map(|_| '*'));
        shown += &word[secret..];
        rest = after;
    }
    shown + rest
}
