//! The fleet as a decision sees it: immutable, shared, replaced as a whole.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::health::{Handicap, Health, HealthFigures};
use crate::ledger::Ledger;
use crate::load::{Capacity, Load, Others, Reading, SAMPLE_LIFETIME, Sample};
use crate::pace::Pace;
use crate::time::Timestamp;

/// Names a server for as long as the process lives; never used again for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerKey(u64);

impl ServerKey {
    /// The key of the `nth` server that this process has met.
    pub const fn nth(nth: u64) -> Self {
        Self(nth)
    }
}

/// What the operator says of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSpec {
    /// Its address as the operator wrote it: the name that people and dashboards know it by.
    pub url: Arc<str>,
    /// `max_concurrent_requests`.
    pub capacity: Capacity,
    /// Models that the operator vouches for, until the server itself has been asked.
    pub declared_models: Option<Models>,
}

/// Models by name, sorted, without duplicates: base models and LoRA adapters alike.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Models(Arc<[Model]>);

/// One model as a server serves it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Model {
    /// What requests call it.
    pub name: Arc<str>,
    /// How many tokens prompt and answer may have together (`max_model_len`), if the server says.
    pub max_len: Option<u32>,
}

impl Models {
    /// The set of `names`, of which no more is known.
    pub fn new(names: impl IntoIterator<Item = Arc<str>>) -> Self {
        Self::of(names.into_iter().map(|name| Model { name, max_len: None }))
    }

    /// The set of `models`.
    pub fn of(models: impl IntoIterator<Item = Model>) -> Self {
        let mut models: Vec<_> = models.into_iter().collect();
        models.sort_unstable();
        models.dedup_by(|a, b| a.name == b.name);
        Self(models.into())
    }

    /// The names in order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.iter().map(|model| &model.name)
    }

    /// How long prompt and answer may be for the model of this name; without a name, for whichever
    /// takes most. `None` if the server does not say.
    pub fn max_len(&self, name: Option<&str>) -> Option<u32> {
        let Some(name) = name else { return self.0.iter().filter_map(|model| model.max_len).max() };
        let at = self.0.binary_search_by(|model| (*model.name).cmp(name)).ok()?;
        self.0[at].max_len
    }
}

/// Whether the operator lets a server have new requests. What it has, it finishes in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Admission {
    /// As a matter of course.
    #[default]
    Open,
    /// No new ones: it is to be spared for a while.
    Cordoned,
    /// No new ones: it is to be emptied, and somebody waits for that.
    Draining,
}

/// One server at one moment.
#[derive(Debug, Clone)]
pub struct ServerView {
    /// Its key.
    pub key: ServerKey,
    /// What the operator says of it.
    pub spec: Arc<ServerSpec>,
    /// Whether it gets requests.
    pub health: Health,
    /// Why.
    pub figures: HealthFigures,
    /// What counts against it among those that get requests.
    pub handicap: Handicap,
    /// Whether the operator lets it have any.
    pub admission: Admission,
    /// What it serves; `None` as long as it has not said.
    pub models: Option<Models>,
    /// When it last said so.
    pub models_updated: Option<Timestamp>,
    /// The latest scrape that held load figures.
    pub reading: Option<Reading>,
    /// What it has from others than this router; as [`Self::others`] it ages.
    pub others: Others,
    /// How fast it has been seen to prefill; until then, what it is taken for.
    pub pace: Pace,
    /// The live account; the only part that changes under the reader.
    pub ledger: Arc<Ledger>,
}

impl ServerView {
    /// Whether requests go there as a matter of course.
    pub fn is_routable(&self) -> bool {
        self.admission == Admission::Open && self.health.is_routable()
    }

    /// The load figures of the latest scrape.
    pub fn sample(&self) -> Option<&Sample> {
        self.reading.as_ref().map(|reading| &reading.sample)
    }

    /// Its load at this very moment, and the count of own requests on which that is based.
    pub fn load(&self, now: Timestamp) -> (Load, u32) {
        let seen = self.ledger.in_flight();
        (Load::estimate(self.sample(), seen, now), seen)
    }

    /// What it has from others than this router, as far as lately told.
    pub fn others(&self, now: Timestamp) -> Others {
        let is_fresh = self.sample().is_some_and(|s| now.since(s.sent_at) <= SAMPLE_LIFETIME);
        if is_fresh { self.others } else { Others::default() }
    }

    /// How full its KV cache will be with a prompt of so many tokens more, 1 being full. What was
    /// sent is counted at once; what others have there is in the latest scrape.
    pub fn kv_fill(&self, unknown_size: u64, prompt: u32, now: Timestamp) -> f64 {
        let size = self.reading.and_then(|reading| reading.kv_tokens).unwrap_or(unknown_size);
        let size = size.max(1) as f64;
        let own = self.ledger.resident_tokens() as f64 / size;
        let sample = self.sample().filter(|s| now.since(s.sent_at) <= SAMPLE_LIFETIME);
        own.max(sample.map_or(0.0, |sample| sample.kv_cache_usage)) + f64::from(prompt) / size
    }

    /// What decides between servers, and the count of own requests on which that is based: its
    /// score, as if it had one request more and that load were multiplied by its handicap. (An idle
    /// server's load can be multiplied by anything.) Without a handicap that is the score itself.
    pub fn score(&self, now: Timestamp) -> (f64, u32) {
        let (load, seen) = self.load(now);
        let one = 1.0 / f64::from(self.spec.capacity.get());
        let score = load.score(self.spec.capacity);
        let factor = self.handicap.factor(now);
        (if factor > 1.0 { (score + one) * factor - one } else { score }, seen)
    }

    /// The longest prompt that it takes for a model; see [`Models::max_len`].
    pub fn max_len(&self, model: Option<&str>) -> Option<u32> {
        self.models.as_ref()?.max_len(model)
    }

    /// Whether it answers scrapes no more, though it used to, and shows no progress on its requests
    /// either: stopped, or too busy to breathe. One whose tokens flow merely has slow metrics.
    pub fn has_fallen_silent(&self, now: Timestamp) -> bool {
        self.sample().is_some_and(|sample| now.since(sample.sent_at) > SAMPLE_LIFETIME)
            && now.since(self.ledger.progress_at()) > SAMPLE_LIFETIME
    }
}

/// What silence of servers is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Judgement {
    /// It is theirs.
    #[default]
    Trusted,
    /// It is that of more than half of the fleet at once, so it may be ours: our network, our
    /// machine. Those servers go on getting their share of requests.
    Doubted,
}

/// The whole fleet at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// All configured servers, in the order of the file.
    pub servers: Arc<[Arc<ServerView>]>,
    /// Who serves what.
    pub models: Arc<ModelTable>,
    /// Whether servers that did not answer in time are taken for the culprits.
    pub judgement: Judgement,
}

impl Snapshot {
    /// Whether requests go to this server of the fleet, judged as it is now.
    pub fn gets_requests(&self, server: &ServerView) -> bool {
        let is_given_the_benefit =
            self.judgement == Judgement::Doubted && server.health.rests_on_silence();
        server.is_routable() || (server.admission == Admission::Open && is_given_the_benefit)
    }
}

/// Which servers (by position in the snapshot) list a model, whatever their health.
#[derive(Debug, Clone, Default)]
pub struct ModelTable {
    by_name: BTreeMap<Arc<str>, Box<[u32]>>,
}

impl ModelTable {
    /// The table of `servers`.
    pub fn of(servers: &[Arc<ServerView>]) -> Self {
        let mut by_name: BTreeMap<Arc<str>, Vec<u32>> = BTreeMap::new();
        for (position, server) in (0..).zip(servers) {
            for name in server.models.iter().flat_map(Models::iter) {
                by_name.entry(Arc::clone(name)).or_default().push(position);
            }
        }
        Self { by_name: by_name.into_iter().map(|(name, at)| (name, at.into())).collect() }
    }

    /// Positions of the servers that list `model`; `None` if none does.
    pub fn servers_of(&self, model: &str) -> Option<&[u32]> {
        self.by_name.get(model).map(AsRef::as_ref)
    }

    /// The name itself, if any server lists it.
    pub fn known(&self, model: &str) -> Option<&Arc<str>> {
        self.by_name.get_key_value(model).map(|(name, _)| name)
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_name.keys()
    }
}
