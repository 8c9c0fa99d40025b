//! What differs between two settings.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::kind::Kind;
use super::knobs::{Applies, Knob, ServerSettings};
use super::settings::Settings;
use super::url::ServerUrl;

/// Which entry of the list this is: its url, and how many entries of the same url stand before
/// it. A server keeps its state through a reload for as long as its id stays in the list, wherever
/// in the list that is; of two entries with one url the first stays when one is taken out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId {
    pub url: ServerUrl,
    /// From 0.
    pub occurrence: usize,
}

/// From old settings to new ones. Its `Display` is one line per change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub added: Vec<ServerId>,
    pub removed: Vec<ServerId>,
    /// Kept, with other settings.
    pub changed: Vec<(ServerId, Vec<KnobChange>)>,
    /// Whether the kept servers stand in another order: no more than displays show.
    pub reordered: bool,
    pub tuning: Vec<KnobChange>,
}

/// A key whose value differs; values as they would stand in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnobChange {
    pub key: &'static str,
    pub old: String,
    pub new: String,
    pub applies: Applies,
}

impl ServerId {
    /// The id of every entry, in the order of the list.
    pub fn of(servers: &[ServerSettings]) -> Vec<Self> {
        let mut seen: BTreeMap<&ServerUrl, usize> = BTreeMap::new();
        let mut next = |url| {
            let count = seen.entry(url).or_default();
            *count += 1;
            *count - 1
        };
        servers.iter().map(|s| Self { url: s.url.clone(), occurrence: next(&s.url) }).collect()
    }
}

impl Changes {
    pub fn between(old: &Settings, new: &Settings) -> Self {
        let (old_ids, new_ids) = (ServerId::of(&old.servers), ServerId::of(&new.servers));
        let old_places: BTreeMap<_, _> = old_ids.iter().cloned().zip(0_usize..).collect();
        let mut changes = Self { tuning: old.tuning.differences(&new.tuning), ..Self::default() };
        let mut kept = BTreeSet::new();
        for (id, server) in new_ids.into_iter().zip(&new.servers) {
            let Some(&place) = old_places.get(&id) else {
                changes.added.push(id);
                continue;
            };
            changes.reordered |= kept.last().is_some_and(|last| *last > place);
            kept.insert(place);
            let differences = old.servers[place].differences(server);
            if !differences.is_empty() {
                changes.changed.push((id, differences));
            }
        }
        let gone = |(place, id)| if kept.contains(&place) { None } else { Some(id) };
        changes.removed = old_ids.into_iter().enumerate().filter_map(gone).collect();
        changes
    }

    /// Nothing differs but perhaps comments and spelling.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The changes that take effect only when mvllm is started again.
    pub fn need_restart(&self) -> impl Iterator<Item = &KnobChange> {
        self.tuning.iter().filter(|change| change.applies == Applies::Restart)
    }
}

impl KnobChange {
    /// `None` when nothing has changed. The knob comes from the iterator that walks the table
    /// beside the fields.
    pub(super) fn between<K: Kind>(
        knob: Option<&'static Knob>,
        kind: &K,
        old: &K::Value,
        new: &K::Value,
    ) -> Option<Self> {
        let Knob { key, applies, .. } = knob.filter(|_| old != new)?;
        Some(Self { key, old: kind.show(old), new: kind.show(new), applies: *applies })
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines: Vec<String> = Vec::new();
        lines.extend(self.added.iter().map(|id| format!("server added: {id}")));
        lines.extend(self.removed.iter().map(|id| format!("server removed: {id}")));
        for (id, knobs) in &self.changed {
            lines.extend(knobs.iter().map(|knob| format!("server changed: {id}: {knob}")));
        }
        if self.reordered {
            lines.push("servers stand in another order".into());
        }
        lines.extend(self.tuning.iter().map(|knob| format!("config changed: {knob}")));
        f.write_str(&lines.join("\n"))
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)?;
        match self.occurrence {
            0 => Ok(()),
            earlier => write!(f, " (entry {} of this url)", earlier + 1),
        }
    }
}

impl fmt::Display for KnobChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {} to {}", self.key, self.old, self.new)?;
        match self.applies {
            Applies::Reload => Ok(()),
            Applies::Restart => f.write_str(" (takes effect when mvllm is started again)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::super::file::parse;
    use super::*;

    fn settings(servers: &[&str], config: &str) -> Settings {
        let servers: String = servers.iter().map(|entry| format!("{{ url = {entry} }},")).collect();
        let text = format!("servers.servers = [{servers}]\n[config]\n{config}");
        let file: Arc<Path> = Path::new("servers.toml").into();
        parse(&file, &text.as_bytes().into()).unwrap_or_else(|report| panic!("{report}")).settings
    }

    fn between(old: (&[&str], &str), new: (&[&str], &str)) -> Changes {
        Changes::between(&settings(old.0, old.1), &settings(new.0, new.1))
    }

    #[test]
    fn every_change_is_one_line() {
        let changes = between(
            (&["'http://a'", "'http://b/'", "'http://c'"], "max_retries = 3"),
            (
                &["'http://c', max_concurrent_requests = 8", "'http://d'", "'http://a'"],
                "data_threads = 4\nrequest_timeout = 120\ncors_origins = []",
            ),
        );
        insta::assert_snapshot!(changes, @r#"
        server added: http://d
        server removed: http://b
        server changed: http://c: max_concurrent_requests from 3 to 8
        servers stand in another order
        config changed: request_timeout from 30 to 120
        config changed: cors_origins from ["*"] to []
        config changed: data_threads from 0 to 4 (takes effect when mvllm is started again)
        "#);
        let restart: Vec<_> = changes.need_restart().map(|change| change.key).collect();
        assert_eq!(restart, ["data_threads"]);
    }

    #[test]
    fn spelling_alone_is_no_change() {
        let old = between((&["'http://a/'"], "max_retries = '3'"), (&["'http://a'"], ""));
        assert!(old.is_empty());
        assert_eq!(old.to_string(), "");
    }

    #[test]
    fn of_two_entries_with_one_url_the_first_stays() {
        let both: &[&str] =
            &["'http://a', max_concurrent_requests = 1", "'http://b'", "'http://a'"];
        let changes =
            between((both, ""), (&["'http://b'", "'http://a', max_concurrent_requests = 1"], ""));
        insta::assert_snapshot!(changes, @"
        server removed: http://a (entry 2 of this url)
        servers stand in another order
        ");
        let back = between((&["'http://a'"], ""), (&["'http://a'", "'http://a'"], ""));
        insta::assert_snapshot!(back, @"server added: http://a (entry 2 of this url)");
    }

    proptest::proptest! {
        #[test]
        fn added_removed_and_kept_account_for_every_server(
            old in proptest::collection::vec(0..4_u8, 0..8),
            new in proptest::collection::vec(0..4_u8, 0..8),
        ) {
            let fleet = |hosts: &[u8]| Settings {
                servers: hosts
                    .iter()
                    .map(|host| ServerSettings::with_defaults(format!("http://h{host}").parse().unwrap()))
                    .collect(),
                ..Settings::default()
            };
            let (old, new) = (fleet(&old), fleet(&new));
            let changes = Changes::between(&old, &new);
            let (mut before, after) = (ServerId::of(&old.servers), ServerId::of(&new.servers));
            before.retain(|id| !changes.removed.contains(id));
            before.extend(changes.added.iter().cloned());
            let sorted = |mut ids: Vec<ServerId>| { ids.sort(); ids };
            assert_eq!(sorted(before), sorted(after));
            assert_eq!(changes.is_empty(), old == new);
        }
    }
}
