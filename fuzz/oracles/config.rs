//! `servers.toml`: every text is either settings, or problems with a place in that text.

use std::path::Path;
use std::sync::Arc;

use mvllm::config::report::{EXCERPT_MAX, KEPT_MAX, Report};
use mvllm::config::{Changes, Loaded, ServerSettings, Settings, parse};

/// A file as it stands, and the file that is written from what it means.
pub fn check(input: &[u8]) {
    let file: Arc<Path> = Path::new("servers.toml").into();
    let bytes: Arc<[u8]> = input.into();
    match parse(&file, &bytes) {
        Ok(Loaded { settings, warnings, .. }) => {
            assert!(!warnings.has_errors(), "{warnings}");
            is_presentable(&warnings, input);
            comes_back(&file, &settings);
        }
        Err(report) => {
            assert!(report.has_errors(), "refused without a reason: {report}");
            is_presentable(&report, input);
        }
    }
}

fn is_presentable(report: &Report, input: &[u8]) {
    // As the reports count: without the mark that some editors put in front.
    let text = String::from_utf8_lossy(input.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(input));
    let lines: Vec<&str> = text.split('\n').collect();
    assert!(report.problems.len() <= 2 * KEPT_MAX);
    for problem in &report.problems {
        let Some(place) = &problem.place else { continue };
        let line = lines.get(place.line - 1).expect("the file has that line");
        assert!((1..=line.chars().count() + 1).contains(&place.column), "{place:?} in {line:?}");
        assert!(place.excerpt.chars().count() <= EXCERPT_MAX + 2 * "...".len());
    }
    // It ends up in terminals and in logs of one line per entry.
    let shown = report.to_string();
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
    for problem in &report.problems {
        assert!(!problem.headline().contains('\n'), "{:?}", problem.headline());
    }
}

/// What a reload would say has changed, compared with an empty file, is the file: written down, it
/// means the same.
fn comes_back(file: &Arc<Path>, settings: &Settings) {
    let changes = Changes::between(&Settings::default(), settings);
    let mut text = String::from("[config]\n");
    for change in &changes.tuning {
        text += &format!("{} = {}\n", change.key, change.new);
    }
    for server in &settings.servers {
        text += &format!("[[servers.servers]]\nurl = \"{}\"\n", server.url);
        for (key, value) in differences(server) {
            text += &format!("{key} = {value}\n");
        }
    }
    let bytes: Arc<[u8]> = text.as_bytes().into();
    let again = parse(file, &bytes).unwrap_or_else(|report| panic!("{text}\n{report}")).settings;
    assert_eq!(shown(&again), shown(settings), "{text}");
}

/// The keys of a server that are not at their defaults.
fn differences(server: &ServerSettings) -> Vec<(&'static str, String)> {
    let plain = Settings {
        servers: vec![ServerSettings::with_defaults(server.url.clone())],
        ..Settings::default()
    };
    let this = Settings { servers: vec![server.clone()], ..Settings::default() };
    let changed = Changes::between(&plain, &this).changed;
    changed.into_iter().flat_map(|(_, knobs)| knobs).map(|knob| (knob.key, knob.new)).collect()
}

/// In full, but for keys: those are never shown, so that they differ does not matter here.
fn shown(settings: &Settings) -> String {
    format!("{settings:?}")
}
