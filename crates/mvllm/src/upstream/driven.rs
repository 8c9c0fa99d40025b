//! A connection to a server without a task of its own. Whoever waits for an answer moves it along:
//! so an answer crosses no task on its way to the client, and events that arrive together leave
//! together, in one write.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};

/// Dropped, it is closed at once, so a request that nobody waits for any more is aborted at the
/// server, too.
#[derive(Debug)]
pub(crate) struct Driven {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: Driver,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) struct NoAnswer {
    pub(crate) error: hyper::Error,
    /// Whether nothing of the request can have reached the server.
    pub(crate) unsent: bool,
}

impl Driven {
    pub(super) fn new(sender: http1::SendRequest<Full<Bytes>>, mover: Mover) -> Self {
        Self { sender, driver: Driver::new(mover) }
    }

    /// Sends `request`, and waits for the head of its answer.
    pub(crate) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<IncomingAnswer>, NoAnswer> {
        let ready = self.driver.while_waiting_for(self.sender.ready()).await;
        ready.map_err(|error| NoAnswer { error, unsent: true })?;
        let answer = self.sender.try_send_request(request);
        let answer = self.driver.while_waiting_for(answer).await.map_err(NoAnswer::from)?;
        Ok(answer.map(|body| IncomingAnswer { body, driver: Some(self.driver.clone()) }))
    }

    /// Whether another request may be sent. Nobody watches a connection that is idle, so it takes
    /// this look to see that the server has closed it. Whoever has waited for it is forgotten.
    pub(super) fn is_open(&self) -> bool {
        self.driver.0.bell.listened_to_by(None);
        self.driver.is_under_way() && !self.sender.is_closed()
    }

    /// From here on the connection is moved along by itself, for a protocol that is not HTTP.
    pub(crate) fn becomes_independent(&self) {
        let driver = self.driver.clone();
        tokio::spawn(async move {
            let ended = poll_fn(|_| match driver.is_under_way() {
                true => Poll::Pending,
                false => Poll::Ready(()),
            });
            driver.while_waiting_for(ended).await;
        });
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        self.driver.stop();
    }
}

impl From<TrySendError<Request<Full<Bytes>>>> for NoAnswer {
    fn from(mut failed: TrySendError<Request<Full<Bytes>>>) -> Self {
        let unsent = failed.take_message().is_some();
        Self { error: failed.into_error(), unsent }
    }
}

/// The body of an answer.
#[derive(Debug)]
pub(crate) struct IncomingAnswer {
    body: Incoming,
    /// None once the body has ended: the connection may then be somebody else's.
    driver: Option<Driver>,
}

impl Body for IncomingAnswer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let Self { body, driver } = &mut *self;
        let frame = match driver {
            Some(driver) => driver.poll_with(cx, |cx| Pin::new(&mut *body).poll_frame(cx)),
            None => Pin::new(&mut *body).poll_frame(cx),
        };
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) || body.is_end_stream() {
            *driver = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// hyper's half that reads and writes. Shared by the connection and the body of an answer, which are
/// used on one thread: the locks are there for the compiler and are never waited for.
#[derive(Clone)]
struct Driver(Arc<Moving>);

struct Moving {
    mover: Mutex<Option<Mover>>,
    bell: Arc<Bell>,
    /// Rings the bell.
    waker: Waker,
}

/// Reads and writes. Ends with the connection.
pub(super) type Mover = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Rung when the connection can be moved along. Whoever is just moving it hears it without being
/// woken, and while it has not rung there is nothing to move.
#[derive(Default)]
struct Bell {
    rung: AtomicBool,
    listener: Mutex<Option<Waker>>,
}

impl Driver {
    fn new(mover: Mover) -> Self {
        let bell = Arc::new(Bell { rung: AtomicBool::new(true), listener: Mutex::default() });
        let waker = Waker::from(Arc::clone(&bell));
        Self(Arc::new(Moving { mover: Mutex::new(Some(mover)), bell, waker }))
    }

    /// Moves the connection along while `future`, which depends on it, has not come about.
    async fn while_waiting_for<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| self.poll_with(cx, |cx| future.as_mut().poll(cx))).await
    }

    /// What `poll` gives, which nothing but the connection can bring about.
    fn poll_with<T>(
        &self,
        cx: &mut Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let bell = &self.0.bell;
        bell.listened_to_by(None);
        // Once more if what `poll` did has rung, as taking a chunk does: it makes room for the next.
        for _ in 0..2 {
            self.is_under_way();
            if let Poll::Ready(outcome) = poll(&mut Context::from_waker(&self.0.waker)) {
                return Poll::Ready(outcome);
            }
            if !bell.has_rung() {
                break;
            }
        }
        bell.listened_to_by(Some(cx.waker()));
        if bell.has_rung() {
            // A connection that has used up its share of the thread rings at once: others first.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Moves the connection along as far as it goes; whether it has not ended.
    fn is_under_way(&self) -> bool {
        let Moving { mover, bell, waker } = &*self.0;
        let mut mover = mover.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(future) = &mut *mover else { return false };
        if !bell.rung.swap(false, Ordering::AcqRel) {
            return true;
        }
        let ended = future.as_mut().poll(&mut Context::from_waker(waker)).is_ready();
        if ended {
            *mover = None;
        }
        !ended
    }

    fn stop(&self) {
        *self.0.mover.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Bell {
    fn has_rung(&self) -> bool {
        self.rung.load(Ordering::Acquire)
    }

    fn listened_to_by(&self, listener: Option<&Waker>) {
        let mut latest = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*latest, listener) {
            (Some(latest), Some(listener)) if latest.will_wake(listener) => {}
            (_, listener) => *latest = listener.cloned(),
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(listener) = listener {
            listener.wake();
        }
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Driver")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Woken {
        fn times(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    /// A driver that notes how often it is moved and who is to be told, and ends when told to.
    #[derive(Default)]
    struct Watched {
        moves: AtomicUsize,
        ends: AtomicBool,
        waker: Mutex<Option<Waker>>,
    }

    impl Watched {
        fn driver(self: &Arc<Self>, always_rings: bool) -> Driver {
            let watched = Arc::clone(self);
            Driver::new(Box::pin(poll_fn(move |cx| {
                watched.moves.fetch_add(1, Ordering::Relaxed);
                *watched.waker.lock().unwrap() = Some(cx.waker().clone());
                if always_rings {
                    cx.waker().wake_by_ref();
                }
                if watched.ends.load(Ordering::Relaxed) { Poll::Ready(()) } else { Poll::Pending }
            })))
        }

        fn rings(&self) {
            self.waker.lock().unwrap().as_ref().unwrap().wake_by_ref();
        }

        fn moves(&self) -> usize {
            self.moves.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn a_connection_is_moved_when_it_rings_and_then_only() {
        let (watched, woken) = (Arc::new(Watched::default()), Arc::new(Woken::default()));
        let driver = watched.driver(false);
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        for _ in 0..3 {
            assert!(driver.poll_with(&mut cx, |_| Poll::<()>::Pending).is_pending());
        }
        assert_eq!((watched.moves(), woken.times()), (1, 0));
        watched.rings();
        assert_eq!(woken.times(), 1);
        assert!(driver.poll_with(&mut cx, |_| Poll::Ready(())).is_ready());
        assert_eq!(watched.moves(), 2);
    }

    #[test]
    fn what_rings_while_it_is_moved_wakes_nobody_for_it_is_heard() {
        let (watched, woken) = (Arc::new(Watched::default()), Arc::new(Woken::default()));
        let driver = watched.driver(false);
        let waker = Waker::from(Arc::clone(&woken));
        let mut rings = 1;
        let outcome = driver.poll_with(&mut Context::from_waker(&waker), |_| {
            if rings > 0 {
                rings -= 1;
                watched.rings();
            }
            Poll::<()>::Pending
        });
        assert!(outcome.is_pending());
        assert_eq!((watched.moves(), woken.times()), (2, 0));
    }

    #[test]
    fn a_connection_that_rings_at_once_lets_others_go_first() {
        let (watched, woken) = (Arc::new(Watched::default()), Arc::new(Woken::default()));
        let driver = watched.driver(true);
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        assert!(driver.poll_with(&mut cx, |_| Poll::<()>::Pending).is_pending());
        assert_eq!((watched.moves(), woken.times()), (2, 1));
    }

    #[test]
    fn a_connection_that_has_ended_is_not_moved_any_more() {
        let watched = Arc::new(Watched::default());
        let driver = watched.driver(false);
        assert!(driver.is_under_way());
        watched.ends.store(true, Ordering::Relaxed);
        assert!(driver.is_under_way(), "nothing has been heard of it");
        watched.rings();
        assert!(!driver.is_under_way());
        assert!(!driver.is_under_way());
        assert_eq!(watched.moves(), 2);
    }
}
