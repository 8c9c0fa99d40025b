//! From a server's name to a connection: which addresses it has, and which of them answers.
//!
//! The operating system resolves: it knows `/etc/hosts`, its search domains, the caches and the times
//! to live. What it says is used for new connections at once; idle ones live for seconds.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// A burst of connections asks once; also the longest that a change goes unnoticed. Without a cache
/// on this machine every question is a packet to the name server.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// How long one address may keep the next from being tried, too (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// What the resolver has said of one name.
#[derive(Debug, Default)]
pub(super) struct Names {
    latest: Mutex<Option<Arc<Answer>>>,
}

#[derive(Debug)]
struct Answer {
    at: Instant,
    addresses: Vec<SocketAddr>,
}

impl Names {
    /// The addresses by `lookup`, unless it was asked a moment ago. If it fails, finds nothing, or
    /// takes more than half of `limit`, they are the last that were known: a name server that is
    /// away for a while takes no server with it.
    pub(super) async fn resolve(
        &self,
        limit: Duration,
        lookup: impl Future<Output = io::Result<Vec<SocketAddr>>>,
    ) -> io::Result<Vec<SocketAddr>> {
        let latest = self.lock().clone();
        let Some(known) = latest else { return self.learn(lookup.await?) };
        if known.at.elapsed() < FRESH_FOR {
            return Ok(known.addresses.clone());
        }
        let found = timeout(limit / 2, lookup).await.ok().and_then(Result::ok);
        // Also if nothing new was found it is not asked again for a moment: that may be slow.
        self.learn(
            found.filter(|found| !found.is_empty()).unwrap_or_else(|| known.addresses.clone()),
        )
    }

    fn learn(&self, addresses: Vec<SocketAddr>) -> io::Result<Vec<SocketAddr>> {
        if addresses.is_empty() {
            return Err(io::Error::other("the name has no address"));
        }
        let answer = Answer { at: Instant::now(), addresses: addresses.clone() };
        *self.lock() = Some(Arc::new(answer));
        Ok(addresses)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Answer>>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first connection that comes about. The addresses are tried in the order of the resolver; one
/// that is refused makes way at once, one that is silent after [`HEAD_START`].
pub(super) async fn first_to_connect<T, F>(
    addresses: Vec<SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<T>
where
    T: Send + 'static,
    F: Future<Output = io::Result<T>> + Send + 'static,
{
    let mut addresses = addresses.into_iter();
    let mut attempts = JoinSet::new();
    let mut failed = io::Error::other("the name has no address");
    loop {
        let next = addresses.next();
        let waits = next.is_some();
        if let Some(address) = next {
            attempts.spawn(connect(address));
        }
        tokio::select! {
            ended = attempts.join_next() => match ended {
                Some(Ok(Ok(connected))) => return Ok(connected),
                Some(Ok(Err(error))) => failed = error,
                Some(Err(panicked)) => failed = io::Error::other(panicked),
                None => return Err(failed),
            },
            () = sleep(HEAD_START), if waits => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::time::advance;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(2);

    fn addresses(ports: &[u16]) -> Vec<SocketAddr> {
        ports.iter().map(|port| SocketAddr::from(([10, 0, 0, 1], *port))).collect()
    }

    async fn found(names: &Names, ports: &[u16]) -> Vec<SocketAddr> {
        names.resolve(LIMIT, ready(Ok(addresses(ports)))).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_address_is_used_after_a_moment() {
        let names = Names::default();
        assert_eq!(found(&names, &[1]).await, addresses(&[1]));
        assert_eq!(found(&names, &[2]).await, addresses(&[1]));
        advance(FRESH_FOR).await;
        assert_eq!(found(&names, &[2]).await, addresses(&[2]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_resolver_that_fails_finds_nothing_or_hangs_takes_no_address_away() {
        let names = Names::default();
        found(&names, &[1, 2]).await;
        for _ in 0..2 {
            advance(FRESH_FOR).await;
            let servfail = ready(Err(io::Error::other("SERVFAIL")));
            assert_eq!(names.resolve(LIMIT, servfail).await.unwrap(), addresses(&[1, 2]));
            advance(FRESH_FOR).await;
            assert_eq!(found(&names, &[]).await, addresses(&[1, 2]));
            advance(FRESH_FOR).await;
            let asked = Instant::now();
            assert_eq!(names.resolve(LIMIT, pending()).await.unwrap(), addresses(&[1, 2]));
            assert!(asked.elapsed() < LIMIT, "nothing is left to connect in");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_was_never_resolved_fails_with_the_reason() {
        let names = Names::default();
        let error = names.resolve(LIMIT, ready(Err(io::Error::other("NXDOMAIN")))).await;
        assert_eq!(error.unwrap_err().to_string(), "NXDOMAIN");
        assert!(names.resolve(LIMIT, ready(Ok(Vec::new()))).await.is_err());
    }

    /// Connects to port 1 never, to port 2 not, and to others.
    async fn dialled(ports: &[u16], tried: &Arc<Mutex<Vec<u16>>>) -> io::Result<u16> {
        first_to_connect(addresses(ports), |address| {
            let tried = Arc::clone(tried);
            async move {
                tried.lock().unwrap().push(address.port());
                match address.port() {
                    1 => pending().await,
                    2 => Err(io::ErrorKind::ConnectionRefused.into()),
                    port => Ok(port),
                }
            }
        })
        .await
    }

    #[tokio::test(start_paused = true)]
    async fn every_address_is_tried_until_one_connects() {
        let tried = Arc::default();
        assert_eq!(dialled(&[1, 2, 1, 3, 4], &tried).await.unwrap(), 3);
        assert_eq!(*tried.lock().unwrap(), [1, 2, 1, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_answers_is_enough() {
        let tried = Arc::default();
        assert_eq!(dialled(&[3, 4], &tried).await.unwrap(), 3);
        assert_eq!(*tried.lock().unwrap(), [3]);
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_refuse_so_does_the_name() {
        let tried = Arc::default();
        let error = dialled(&[2, 2], &tried).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(tried.lock().unwrap().len(), 2);
    }

    /// What a test cannot bring about for the operating system's own resolver, it sees here to work.
    #[tokio::test]
    async fn the_systems_resolver_is_asked() {
        let names = Names::default();
        let lookup = async { Ok(tokio::net::lookup_host(("localhost", 7)).await?.collect()) };
        let found = names.resolve(LIMIT, lookup).await.unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback()), "{found:?}");
    }
}
