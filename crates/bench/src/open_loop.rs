//! Requests at a fixed rate, whether the ones before are answered or not. The latency counts from
//! the moment at which a request was due, so that a router that holds up the next request does not
//! hide it.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::spawn_local;

use crate::load::{Account, Fate, Place};
use crate::script::Ask;
use crate::wire::Wire;

/// Each run has the same arrivals.
const SEED: u64 = 5;

/// Sends `asks` in turn, at times that are as independent of each other as those of many clients
/// are, until the account is closed.
pub(crate) async fn keep_asking(
    asks: Rc<[Rc<Ask>]>,
    per_second: f64,
    place: Rc<Place>,
    account: Rc<Account>,
) {
    let Ok(mut arrivals) = arrivals(per_second) else {
        return account.note(Fate::Refused, Duration::ZERO);
    };
    let idle: Rc<RefCell<Vec<Wire>>> = Rc::default();
    let mut nth = 0;
    while let Some(due) = arrivals.recv().await {
        if account.over.get() {
            return;
        }
        nth += 1;
        let (place, account) = (Rc::clone(&place), Rc::clone(&account));
        let (ask, idle) = (Rc::clone(&asks[nth % asks.len()]), Rc::clone(&idle));
        spawn_local(async move {
            let kept = idle.borrow_mut().pop();
            let connected = match kept {
                Some(wire) => Ok(wire),
                None => place.connect(nth).await,
            };
            let fate = match connected {
                Ok(mut wire) => {
                    let fate = place.request(&mut wire, &ask, &account).await;
                    if matches!(fate, Fate::Answered | Fate::Mismatched) {
                        idle.borrow_mut().push(wire);
                    }
                    fate
                }
                Err(_) => Fate::Refused,
            };
            account.note(fate, due.elapsed());
        });
    }
}

/// The moments at which requests are due. On a thread of its own: tokio's timers ring by the
/// millisecond, which is as long as ten requests take. It ends when nobody listens.
fn arrivals(per_second: f64) -> io::Result<mpsc::UnboundedReceiver<Instant>> {
    let (tell, arrivals) = mpsc::unbounded_channel();
    std::thread::Builder::new().name("arrivals".to_owned()).spawn(move || {
        let mut random = fastrand::Rng::with_seed(SEED);
        let mut due = Instant::now();
        while tell.send(due).is_ok() {
            due += Duration::from_secs_f64(-(1.0 - random.f64()).ln() / per_second);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    })?;
    Ok(arrivals)
}
