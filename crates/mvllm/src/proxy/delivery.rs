//! An answer's body on its way through hyper, watched for as long as that takes.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, Version};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, sleep_until};
use tracing::info;

use super::connections::Presence;
use super::relay::Broken;
use super::reply::Reply;
use crate::traffic::{Cut, Traffic};

/// A body for hyper. As long as it lives, its request is under way.
#[derive(Debug)]
pub(super) struct Delivery {
    body: Delivered,
    _presence: Presence,
}

#[derive(Debug)]
enum Delivered {
    Plain(Reply),
    Watched(Arc<Watched>),
}

/// The answer on one of the streams of an HTTP/2 connection. That its client takes nothing of it
/// does not show at the socket, which the other streams use, too (RFC 9113, section 5.2); and the
/// body is not asked for anything until the client does.
#[derive(Debug)]
struct Watched(Mutex<Course>);

#[derive(Debug)]
struct Course {
    /// `None`: given up.
    reply: Option<Reply>,
    /// When a chunk was taken after which nobody asked for more.
    taken_at: Option<Instant>,
}

impl Delivery {
    /// `limit`: `client_stall_timeout`.
    pub(super) fn of(
        response: Response<Reply>,
        presence: Presence,
        version: Version,
        traffic: &Arc<Traffic>,
        limit: Duration,
    ) -> Response<Self> {
        response.map(|reply| {
            let body = match reply {
                Reply::Relayed(_) if version == Version::HTTP_2 => {
                    let course = Course { reply: Some(reply), taken_at: None };
                    let watched = Arc::new(Watched(Mutex::new(course)));
                    let traffic = Arc::clone(traffic);
                    tokio::spawn(watch(Arc::downgrade(&watched), traffic, limit));
                    Delivered::Watched(watched)
                }
                reply => Delivered::Plain(reply),
            };
            Self { body, _presence: presence }
        })
    }
}

/// Gives an answer up of which nothing is taken for `limit`: its server is told to stop, and what
/// the client reads next is that it broke off.
async fn watch(watched: Weak<Watched>, traffic: Arc<Traffic>, limit: Duration) {
    let mut look_at = Instant::now() + limit;
    loop {
        sleep_until(look_at).await;
        let Some(watched) = watched.upgrade() else { return };
        let now = Instant::now();
        let given_up = watched.change(|course| match course.taken_at {
            Some(taken_at) if now >= taken_at + limit => course.reply.take(),
            taken_at => {
                look_at = taken_at.unwrap_or(now) + limit;
                None
            }
        });
        if given_up.is_some() {
            traffic.count_cut(Cut::Stalled);
            info!("a client took nothing of a stream for {limit:?}: given up");
            return;
        }
    }
}

impl Watched {
    fn change<T>(&self, change: impl FnOnce(&mut Course) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.change(|course| {
            let Some(reply) = &mut course.reply else {
                return Poll::Ready(Some(Err(Broken::unread())));
            };
            let polled = Pin::new(reply).poll_frame(cx);
            course.taken_at = polled.is_ready().then(Instant::now);
            polled
        })
    }
}

impl Body for Delivery {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut self.body {
            Delivered::Plain(reply) => Pin::new(reply).poll_frame(cx),
            Delivered::Watched(watched) => watched.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Delivered::Plain(reply) => reply.is_end_stream(),
            Delivered::Watched(watched) => {
                watched.change(|course| course.reply.as_ref().is_some_and(Body::is_end_stream))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Delivered::Plain(reply) => reply.size_hint(),
            Delivered::Watched(watched) => watched.change(|course| {
                course.reply.as_ref().map_or_else(SizeHint::default, Body::size_hint)
            }),
        }
    }
}
