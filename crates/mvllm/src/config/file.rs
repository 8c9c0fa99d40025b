//! From the text of `servers.toml` to [`Settings`], with every problem on the way.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::kind::{Kind, Url};
use super::knobs::{ServerSettings, Tuning};
use super::report::{Advice, Problem, Report, Source, What};
use super::section::{Findings, Section, known};
use super::settings::Settings;
use super::sighting::{Content, Sighting, Unreadable};
use super::url::ServerUrl;

/// Settings that can be used, and what was odd about their file.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    pub settings: Settings,
    /// Warnings only.
    pub warnings: Report,
    /// What the settings were read from; a watcher takes a file that looks the same as old news.
    pub fingerprint: Content,
}

/// Reads the file once. A file that does not exist is a warning and means no servers, as in
/// mvllm 0.1: a container may start before its configuration is mounted, and the file is loaded
/// when it appears.
pub fn load(path: &Path) -> Result<Loaded, Report> {
    let file: Arc<Path> = path.into();
    match Sighting::take(path).content {
        Content::Bytes(bytes) => parse(&file, &bytes),
        Content::Unreadable(Unreadable::Missing) => Ok(Loaded {
            settings: Settings::default(),
            warnings: Report::of(&file, What::NoFile, Some(Advice::Do(FIRST_FILE))),
            fingerprint: Content::Unreadable(Unreadable::Missing),
        }),
        Content::Unreadable(error) => Err(Report::of(&file, What::Unreadable(error), None)),
    }
}

const FIRST_FILE: &str =
    "servers.example.toml shows what to write; it is read as soon as it exists";

/// Reads the content of a file. The report holds every error and every warning.
pub fn parse(file: &Arc<Path>, bytes: &Arc<[u8]>) -> Result<Loaded, Report> {
    let text = match std::str::from_utf8(bytes) {
        // Editors on Windows put a byte order mark in front; it would shift the first column.
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => return Err(not_utf8(file, bytes, error.valid_up_to())),
    };
    let mut findings = Findings::of(Source::new(Arc::clone(file), text));
    let (document, errors) = DeTable::parse_recoverable(text);
    let settings = read_document(&mut findings, document.get_ref());
    if !errors.is_empty() {
        return Err(with_syntax_errors(findings, &errors));
    }
    let report = findings.into_report();
    match settings {
        Some(settings) if !report.has_errors() => {
            let fingerprint = Content::Bytes(Arc::clone(bytes));
            Ok(Loaded { settings, warnings: report, fingerprint })
        }
        _ => Err(report),
    }
}

fn not_utf8(file: &Arc<Path>, bytes: &[u8], valid: usize) -> Report {
    let text = String::from_utf8_lossy(bytes);
    let source = Source::new(Arc::clone(file), &text);
    // Up to `valid` the lossy text is the file, byte for byte.
    let place = Some(source.place(valid));
    let what = What::NotUtf8 { byte: bytes[valid] };
    let advice = Some(Advice::Do("save the file as UTF-8"));
    let file = Arc::clone(file);
    let problem = Problem { file, place, key: String::new(), what, advice };
    Report { problems: vec![problem], left_out: 0 }
}

/// The parser goes on after an error on a best guess, so what it found behind one is doubtful.
/// Kept is what holds whatever was meant: a wrong value of a known key, on a line without a
/// syntax error.
fn with_syntax_errors(findings: Findings<'_>, errors: &[toml::de::Error]) -> Report {
    let source = Source::new(Arc::clone(&findings.source.file), findings.source.text);
    let mut syntax = Findings::of(source);
    let mut spans: Vec<_> =
        errors.iter().map(|e| (e.span().unwrap_or(0..0), e.message())).collect();
    spans.sort_by_key(|(span, _)| span.start);
    let mut lines: Vec<usize> = Vec::new();
    for (span, message) in spans {
        let line = syntax.source.line_of(span.start);
        // The second error of a line mostly follows from the first.
        if lines.last() == Some(&line) {
            continue;
        }
        lines.push(line);
        let found = syntax.source.quote(span.clone());
        let (what, advice) = explain(syntax.source.line_before(span.start), message, &found);
        syntax.add(span.start, "", What::Syntax(what), advice);
    }
    let certain = |problem: &Problem| {
        let line = problem.place.as_ref().map(|place| place.line);
        matches!(problem.what, What::Wrong { .. })
            && line.is_some_and(|line| lines.binary_search(&line).is_err())
    };
    let mut report = syntax.into_report();
    report.problems.extend(findings.into_report().problems.into_iter().filter(certain));
    report.problems.sort_by_key(|problem| problem.place.as_ref().map(|p| (p.line, p.column)));
    report
}

/// The parser's words for the three slips that people make most are about its grammar; ours are
/// about theirs.
fn explain(line: &str, message: &str, found: &str) -> (String, Option<Advice>) {
    let value_expected = line.trim_end().ends_with('=');
    let bare = |c: char| c.is_alphanumeric() || "-_.:/".contains(c);
    if value_expected && found.is_empty() {
        return ("a value is missing after the '='".into(), None);
    }
    if value_expected && found.starts_with(char::is_alphabetic) && found.chars().all(bare) {
        let before = line.trim_end().trim_end_matches('=').trim_end();
        let key = before.rsplit([' ', '{', ',']).next().unwrap_or_default();
        let value = match (found.to_lowercase().as_str(), known(key)) {
            (word @ ("true" | "false"), _) => word.to_owned(),
            (_, Some(knob)) if !(knob.example)().starts_with('"') => (knob.example)(),
            _ => format!("\"{found}\""),
        };
        let advice = Advice::Write(format!("{key} = {value}"));
        return (format!("{found} is not a value; text needs quotes"), Some(advice));
    }
    if message == "duplicate key" {
        return (format!("{found} is set twice"), Some(Advice::Do("keep one of the two")));
    }
    (message.trim_end_matches(", expected nothing").into(), None)
}

fn read_document(findings: &mut Findings<'_>, document: &DeTable<'_>) -> Option<Settings> {
    let servers = read_servers(findings, document);
    let tuning = read_tuning(findings, document);
    findings.warn_of_unknown(document, "", &["servers", "config"]);
    if servers.as_ref().is_some_and(Vec::is_empty) {
        findings.add_placeless(What::NoServers, Some(Advice::Write(RIGHT_FORM.into())));
    }
    Some(Settings { servers: servers?, tuning: tuning? })
}

fn read_tuning(findings: &mut Findings<'_>, document: &DeTable<'_>) -> Option<Tuning> {
    match document.get("config").map(|found| (found, found.get_ref())) {
        None => Some(Tuning::with_defaults()),
        Some((found, DeValue::Table(table))) => {
            Tuning::read(&mut Section::new(findings, table, "config", found.span()))
        }
        Some((found, _)) => {
            let advice = Advice::Write("[config]\nhealth_check_interval = 30".into());
            findings.wrong(found, "config", "a table", Some(advice));
            None
        }
    }
}

const RIGHT_FORM: &str =
    "[servers]\nservers = [\n  { url = \"http://10.0.0.1:8000\", max_concurrent_requests = 3 },\n]";

const RIGHT_FORM_IN_BLOCKS: &str =
    "[[servers.servers]]\nurl = \"http://10.0.0.1:8000\"\nmax_concurrent_requests = 3";

/// The form that is nearer to what was written.
fn right_form(findings: &Findings<'_>, found: &Spanned<DeValue<'_>>) -> Advice {
    // The span of a table, or of a list of tables, that has a header is that header.
    let text = findings.source.text.get(found.span()).unwrap_or_default();
    let header = text.trim_end_matches(']').ends_with("servers");
    Advice::Write(if header { RIGHT_FORM_IN_BLOCKS } else { RIGHT_FORM }.into())
}

fn read_servers(
    findings: &mut Findings<'_>,
    document: &DeTable<'_>,
) -> Option<Vec<ServerSettings>> {
    let Some(found) = document.get("servers") else { return Some(Vec::new()) };
    match found.get_ref() {
        DeValue::Table(table) => {
            findings.warn_of_unknown(table, "servers", &["servers"]);
            table
                .get("servers")
                .map_or(Some(Vec::new()), |list| read_list(findings, list, "servers.servers"))
        }
        // What most people write first. mvllm 0.1 refused it too; its entries are read all the
        // same, so that their errors show in the same run.
        DeValue::Array(_) => {
            let expected = "the table [servers] with the list `servers` in it";
            findings.wrong(found, "servers", expected, Some(right_form(findings, found)));
            read_list(findings, found, "servers").and(None)
        }
        _ => {
            findings.wrong(found, "servers", "a table", Some(Advice::Write(RIGHT_FORM.into())));
            None
        }
    }
}

/// `None` after a problem in any entry; all entries are read.
fn read_list(
    findings: &mut Findings<'_>,
    list: &Spanned<DeValue<'_>>,
    path: &str,
) -> Option<Vec<ServerSettings>> {
    let DeValue::Array(entries) = list.get_ref() else {
        findings.wrong(list, path, "a list of servers", Some(right_form(findings, list)));
        return None;
    };
    let servers: Vec<_> = entries
        .iter()
        .enumerate()
        .map(|(index, entry)| read_server(findings, entry, &format!("{path}[{index}]")))
        .collect();
    warn_of_odd_urls(findings, entries, &servers, path);
    servers.into_iter().collect()
}

fn read_server(
    findings: &mut Findings<'_>,
    entry: &Spanned<DeValue<'_>>,
    path: &str,
) -> Option<ServerSettings> {
    if let DeValue::Table(table) = entry.get_ref() {
        return ServerSettings::read(&mut Section::new(findings, table, path, entry.span()));
    }
    // Only a good url is repeated: a bad one may hold a password.
    let url = entry.get_ref().as_str().and_then(|text| text.parse::<ServerUrl>().ok());
    let url = url.map_or_else(|| Url.example(), |url| Url.show(&url));
    let advice = Some(Advice::Write(format!("{{ url = {url} }}")));
    findings.wrong(entry, path, "a table with the url of a server", advice);
    None
}

fn warn_of_odd_urls(
    findings: &mut Findings<'_>,
    entries: &DeArray<'_>,
    servers: &[Option<ServerSettings>],
    path: &str,
) {
    let mut seen = BTreeMap::new();
    for (index, server) in servers.iter().enumerate() {
        let Some(ServerSettings { url, .. }) = server else { continue };
        let at = entries[index].get_ref().get("url").map_or(0, |value| value.span().start);
        let key = format!("{path}[{index}].url");
        let first = *seen.entry(url.address()).or_insert(index);
        if first != index {
            findings.add(at, &key, What::Duplicate { first: format!("{path}[{first}]") }, None);
        }
        if url.path_prefix().ends_with("/v1") {
            let without = url.as_str().strip_suffix("/v1").map(|text| format!("url = \"{text}\""));
            findings.add(at, &key, What::EndsInV1, without.map(Advice::Write));
        }
    }
}

#[cfg(test)]
mod tests;
