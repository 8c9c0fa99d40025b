//! A table of the file while it is being read.

use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::kind::{Kind, Misfit, Optional};
use super::knobs::{Knob, ServerSettings, Tuning};
use super::report::{Advice, KEPT_MAX, Problem, Report, Severity, Source, What};

/// The file, and what has been found wrong with it so far.
pub(super) struct Findings<'a> {
    pub(super) source: Source<'a>,
    found: Vec<(usize, Problem)>,
    errors: usize,
    warnings: usize,
}

/// One table: reads its keys and notes their problems.
pub(super) struct Section<'f, 'a> {
    findings: &'f mut Findings<'a>,
    table: &'f DeTable<'f>,
    /// In front of its keys: `config`, `servers.servers[2]`.
    path: String,
    span: Range<usize>,
}

impl<'a> Findings<'a> {
    pub(super) fn of(source: Source<'a>) -> Self {
        Self { source, found: Vec::new(), errors: 0, warnings: 0 }
    }

    pub(super) fn add(
        &mut self,
        at: usize,
        key: impl Into<String>,
        what: What,
        advice: Option<Advice>,
    ) {
        let count = match what.severity() {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        *count += 1;
        if *count <= KEPT_MAX {
            let file = Arc::clone(&self.source.file);
            let place = Some(self.source.place(at));
            self.found.push((at, Problem { file, place, key: key.into(), what, advice }));
        }
    }

    /// A problem of no particular line.
    pub(super) fn add_placeless(&mut self, what: What, advice: Option<Advice>) {
        let file = Arc::clone(&self.source.file);
        let problem = Problem { file, place: None, key: String::new(), what, advice };
        self.found.push((usize::MAX, problem));
    }

    pub(super) fn wrong(
        &mut self,
        found: &Spanned<DeValue<'_>>,
        key: impl Into<String>,
        expected: &str,
        advice: Option<Advice>,
    ) {
        let what = What::Wrong { found: self.describe(found), expected: expected.into() };
        self.add(found.span().start, key, what, advice);
    }

    /// Every key of a table that has no meaning there, with the one that was probably meant.
    pub(super) fn warn_of_unknown(&mut self, table: &DeTable<'_>, path: &str, known: &[&str]) {
        for (name, _) in table.iter().filter(|(name, _)| !known.contains(&name.get_ref().as_ref()))
        {
            let (what, advice) = match home_of(name.get_ref()) {
                Some(table) => (What::Misplaced { table }, None),
                None => {
                    let meant = nearest(name.get_ref(), known.iter().copied());
                    (What::Unknown, meant.map(|name| Advice::Mean(name.into())))
                }
            };
            let dot = if path.is_empty() { "" } else { "." };
            // As it stands in the file: a quoted key may hold anything.
            let key = format!("{path}{dot}{}", self.source.quote(name.span()));
            self.add(name.span().start, key, what, advice);
        }
    }

    /// In the order of the file.
    pub(super) fn into_report(mut self) -> Report {
        self.found.sort_by_key(|(at, _)| *at);
        Report {
            problems: self.found.into_iter().map(|(_, problem)| problem).collect(),
            left_out: [self.errors, self.warnings].iter().map(|n| n.saturating_sub(KEPT_MAX)).sum(),
        }
    }

    fn describe(&self, found: &Spanned<DeValue<'_>>) -> String {
        match found.get_ref() {
            // The span of a table with a header of its own is the header, which says less.
            DeValue::Table(_) => "a table".into(),
            DeValue::Array(_) => "a list".into(),
            _ => self.source.quote(found.span()),
        }
    }
}

impl<'f, 'a> Section<'f, 'a> {
    pub(super) fn new(
        findings: &'f mut Findings<'a>,
        table: &'f DeTable<'f>,
        path: impl Into<String>,
        span: Range<usize>,
    ) -> Self {
        Self { findings, table, path: path.into(), span }
    }

    pub(super) fn required<K: Kind>(&mut self, key: &str, kind: &K) -> Option<K::Value> {
        if let Some(found) = self.table.get(key) {
            return self.value(key, found, kind);
        }
        let what = What::Missing { expected: kind.expected() };
        let advice = Advice::Write(format!("{key} = {}", kind.example()));
        self.findings.add(self.span.start, format!("{}.{key}", self.path), what, Some(advice));
        None
    }

    pub(super) fn optional<K: Optional>(&mut self, key: &str, kind: &K) -> Option<K::Value> {
        match self.table.get(key) {
            Some(found) => self.value(key, found, kind),
            None => Some(kind.default()),
        }
    }

    pub(super) fn warn_of_unknown(&mut self, known: &[Knob]) {
        let names: Vec<&str> = known.iter().map(|knob| knob.key).collect();
        self.findings.warn_of_unknown(self.table, &self.path, &names);
    }

    fn value<K: Kind>(
        &mut self,
        key: &str,
        found: &Spanned<DeValue<'_>>,
        kind: &K,
    ) -> Option<K::Value> {
        let misfits = match kind.read(found) {
            Ok(value) => return Some(value),
            Err(misfits) => misfits,
        };
        for Misfit { suffix, span, expected, meant } in misfits {
            let found = if span == found.span() {
                self.findings.describe(found)
            } else {
                self.findings.source.quote(span.clone())
            };
            let value = meant.unwrap_or_else(|| kind.example());
            let advice = Advice::Write(format!("{key} = {value}"));
            let key = format!("{}.{key}{suffix}", self.path);
            self.findings.add(span.start, key, What::Wrong { found, expected }, Some(advice));
        }
        None
    }
}

/// The table that a key belongs in, however it came to stand elsewhere: most often a forgotten
/// `[config]`.
fn home_of(key: &str) -> Option<&'static str> {
    let among = |knobs: &[Knob]| knobs.iter().any(|knob| knob.key == key);
    if among(Tuning::KNOBS) {
        Some("the table [config]")
    } else if among(ServerSettings::KNOBS) {
        Some("an entry of servers.servers")
    } else {
        None
    }
}

/// The knob of this name, of whichever table.
pub(super) fn known(key: &str) -> Option<&'static Knob> {
    ServerSettings::KNOBS.iter().chain(Tuning::KNOBS).find(|knob| knob.key == key)
}

/// The known name that was probably meant.
fn nearest<'n>(typed: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    // Two slips in a short name, or a third of a long one; tried on dropped, doubled and swapped
    // letters, missing words (`check_interval`) and `-` for `_`.
    const LIKENESS_MIN: f64 = 0.6;
    let typed = typed.to_lowercase().replace('-', "_");
    names
        .map(|name| (strsim::normalized_damerau_levenshtein(&typed, name), name))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_name_that_was_meant() {
        let names = || Tuning::KNOBS.iter().map(|knob| knob.key);
        let check = |typed, meant| assert_eq!(nearest(typed, names()), meant, "{typed}");
        check("health_chek_interval", Some("health_check_interval"));
        check("Health-Check-Interval", Some("health_check_interval"));
        check("max_retry", Some("max_retries"));
        check("retries", Some("max_retries"));
        check("datathreads", Some("data_threads"));
        check("timeout", None);
        check("x", None);
    }

    #[test]
    fn every_known_name_is_nearest_to_itself() {
        for knobs in [Tuning::KNOBS, ServerSettings::KNOBS] {
            for knob in knobs {
                let names = knobs.iter().map(|knob| knob.key);
                assert_eq!(nearest(knob.key, names), Some(knob.key));
            }
        }
    }
}
