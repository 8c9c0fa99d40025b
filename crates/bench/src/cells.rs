//! What is measured: the cells of the report's tables.

use std::rc::Rc;
use std::time::Duration;

use tokio::task::{JoinSet, LocalSet, spawn_local};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::contenders::Started;
use crate::load::{Account, Fate, Place, add};
use crate::open_loop;
use crate::process::Tree;
use crate::script::{Ask, Events, Wanted};

/// Bodies of a cell with whole answers differ in their prompt, this many in turn.
const PROMPTS: u64 = 64;

/// How long the last requests may take when a measurement is over.
const LAST_REQUESTS: Duration = Duration::from_secs(20);

/// One kind of load.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    pub(crate) name: String,
    pub(crate) load: Load,
    /// In the first round only: it takes long.
    pub(crate) once: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Load {
    /// So many connections, each with one request after the other.
    Closed { body: usize, connections: usize },
    /// So many streams at once, one after the other, as fast as they go.
    Unpaced { streams: usize, events: usize },
    /// So many streams at once, each with one event in so long. They begin within `ramp`.
    Paced { streams: usize, pace: Duration, ramp: Duration },
    /// Requests at a rate, whether the ones before are answered or not.
    Open { body: usize, per_second: f64 },
}

/// How long a cell is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spans {
    pub(crate) warm_up: Duration,
    pub(crate) window: Duration,
}

/// What came of one cell with one contender in one round.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample {
    pub(crate) requests: u64,
    pub(crate) events: u64,
    pub(crate) seconds: f64,
    pub(crate) cpu_micros: Option<u64>,
    pub(crate) p50_micros: Option<f64>,
    pub(crate) p99_micros: Option<f64>,
    pub(crate) resident_kb: Option<u64>,
    /// Memory that the streams of this cell have taken, each.
    pub(crate) kb_per_stream: Option<f64>,
    pub(crate) errors: u64,
    pub(crate) truncated: u64,
    pub(crate) mismatched: u64,
}

impl Cell {
    /// Runs the cell in front of `started`.
    pub(crate) fn measure(&self, started: &Started, spans: Spans, events: &Rc<Events>) -> Sample {
        let place = Place { addresses: started.addresses.clone(), events: Rc::clone(events) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return Sample { errors: 1, ..Sample::default() } };
        let account = Rc::new(Account::default());
        LocalSet::new().block_on(&runtime, self.run(started, place, spans, account))
    }

    async fn run(
        &self,
        started: &Started,
        place: Place,
        spans: Spans,
        account: Rc<Account>,
    ) -> Sample {
        let before = started.tree.as_ref().map(Tree::resident_kb);
        let place = Rc::new(place);
        let mut clients = JoinSet::new();
        match self.load {
            Load::Closed { body, connections } => {
                let asks = asks(Wanted::Whole, body);
                for nth in 0..connections {
                    clients.spawn_local(closed(nth, asks.clone(), &place, &account));
                }
            }
            Load::Unpaced { streams, events } => {
                let asks = asks(Wanted::Stream { events, pace_micros: 0 }, 512);
                for nth in 0..streams {
                    clients.spawn_local(closed(nth, asks.clone(), &place, &account));
                }
            }
            Load::Paced { streams, pace, ramp } => {
                let length = ramp + spans.warm_up + spans.window + pace * 2;
                let events = length.as_micros().div_ceil(pace.as_micros()) as usize;
                let pace_micros = pace.as_micros() as u64;
                let asks = asks(Wanted::Stream { events, pace_micros }, 512);
                for nth in 0..streams {
                    let after = ramp * nth as u32 / streams as u32;
                    clients.spawn_local(once(nth, asks.clone(), after, &place, &account));
                }
                sleep(ramp).await;
            }
            Load::Open { body, per_second } => {
                let asks = asks(Wanted::Whole, body);
                let (place, account) = (Rc::clone(&place), Rc::clone(&account));
                clients.spawn_local(open_loop::keep_asking(asks, per_second, place, account));
            }
        }
        sleep(spans.warm_up).await;
        let mut sample = window(started, &account, spans.window).await;
        if let (Load::Paced { .. }, Some(before), Some(now)) =
            (self.load, before, sample.resident_kb)
        {
            let open = account.begun.get().max(1) as f64;
            sample.kb_per_stream = Some(now.saturating_sub(before) as f64 / open);
        }
        account.over.set(true);
        let ended = timeout(LAST_REQUESTS, async { while clients.join_next().await.is_some() {} });
        if ended.await.is_err() {
            add(&account.truncated, clients.len() as u64);
        }
        sample.errors = account.errors.get();
        sample.truncated = account.truncated.get();
        sample.mismatched = account.mismatched.get();
        sample
    }
}

fn asks(wanted: Wanted, body: usize) -> Rc<[Rc<Ask>]> {
    (0..PROMPTS).map(|prompt| Rc::new(Ask::new(wanted, body, prompt))).collect()
}

fn closed(
    nth: usize,
    asks: Rc<[Rc<Ask>]>,
    place: &Rc<Place>,
    account: &Rc<Account>,
) -> impl Future<Output = ()> + 'static {
    let (place, account) = (Rc::clone(place), Rc::clone(account));
    async move {
        let mut next = nth;
        let mut turn = || {
            next += 1;
            Rc::clone(&asks[next % asks.len()])
        };
        place.one_after_the_other(nth, &mut turn, &account).await;
    }
}

fn once(
    nth: usize,
    asks: Rc<[Rc<Ask>]>,
    after: Duration,
    place: &Rc<Place>,
    account: &Rc<Account>,
) -> impl Future<Output = ()> + 'static {
    let (place, account) = (Rc::clone(place), Rc::clone(account));
    async move {
        sleep(after).await;
        let begun = Instant::now();
        let fate = match place.connect(nth).await {
            Ok(mut wire) => place.request(&mut wire, &asks[nth % asks.len()], &account).await,
            Err(_) => Fate::Refused,
        };
        account.note(fate, begun.elapsed());
    }
}

/// Counts what happens within `length` from now on.
async fn window(started: &Started, account: &Rc<Account>, length: Duration) -> Sample {
    account.begin_anew();
    let tree = started.tree.as_ref();
    let cpu_before = tree.map(Tree::cpu_micros);
    let begun = Instant::now();
    sleep_until(begun + length).await;
    let seconds = begun.elapsed().as_secs_f64();
    let cpu_after = tree.map(Tree::cpu_micros);
    // A router that has ended has no memory, and nothing to tell of.
    let resident_kb = tree.map(Tree::resident_kb).filter(|kb| *kb > 0);
    let cpu_after = cpu_after.filter(|_| resident_kb.is_some());
    let mut latencies = account.latencies.borrow().clone();
    latencies.sort_unstable();
    Sample {
        requests: account.requests.get(),
        events: account.events.get(),
        seconds,
        cpu_micros: cpu_before.zip(cpu_after).map(|(before, after)| after.saturating_sub(before)),
        p50_micros: quantile(&latencies, 0.50),
        p99_micros: quantile(&latencies, 0.99),
        resident_kb,
        ..Sample::default()
    }
}

fn quantile(sorted: &[u32], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    Some(f64::from(sorted[(last as f64 * share).round() as usize]))
}

/// Waits until requests pass; why not, if they never do.
pub(crate) fn wait_until_it_answers(
    started: &mut Started,
    patience: Duration,
    events: &Rc<Events>,
) -> Result<(), String> {
    let place = Place { addresses: started.addresses.clone(), events: Rc::clone(events) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let ask = Rc::new(Ask::new(Wanted::Whole, 512, 0));
    LocalSet::new().block_on(&runtime, async {
        let deadline = Instant::now() + patience;
        let mut latest = "no connection".to_owned();
        while Instant::now() < deadline {
            if started.tree.as_mut().is_some_and(|tree| !tree.is_running()) {
                return Err("it ended at once".to_owned());
            }
            if let Ok(mut wire) = place.connect(0).await {
                let (place, ask) = (place.clone(), Rc::clone(&ask));
                let asked = spawn_local(async move {
                    place.request(&mut wire, &ask, &Account::default()).await
                });
                match asked.await {
                    Ok(Fate::Answered | Fate::Mismatched) => return Ok(()),
                    Ok(fate) => latest = format!("a request came to be {fate:?}"),
                    Err(error) => latest = error.to_string(),
                }
            }
            sleep(Duration::from_millis(100)).await;
        }
        Err(latest)
    })
}
