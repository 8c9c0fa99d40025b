//! Clients that never stop asking, and fail the test when one answer is not what it should be.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::task::JoinSet;

use crate::client::{Answer, Client};
use crate::eventually::{until, within_patience};
use crate::sims::chat;
use crate::wire::End;

/// Some clients under way.
#[derive(Debug)]
pub(crate) struct Traffic {
    clients: JoinSet<()>,
    answered: Arc<AtomicUsize>,
    enough: Arc<AtomicBool>,
}

impl Traffic {
    /// Clients of `router` that keep their connection for as long as the router lets them, half of
    /// them with streams, half with short answers.
    pub(crate) fn start(router: SocketAddr, clients: usize) -> Self {
        Self::with(router, clients, |nth| nth % 2 == 0)
    }

    /// The same without streams.
    pub(crate) fn of_short_answers(router: SocketAddr, clients: usize) -> Self {
        Self::with(router, clients, |_| false)
    }

    fn with(router: SocketAddr, clients: usize, streams: impl Fn(usize) -> bool) -> Self {
        let (answered, enough) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let clients = (0..clients)
            .map(|nth| ask_on(router, streams(nth), Arc::clone(&answered), Arc::clone(&enough)))
            .collect();
        Self { clients, answered, enough }
    }

    /// Waits until so many more requests were answered, as they should be.
    pub(crate) async fn goes_on(&mut self, requests: usize) {
        let enough = self.answered.load(Ordering::Relaxed) + requests;
        until("answers", || {
            // A client never ends by itself.
            if let Some(Err(failed)) = self.clients.try_join_next() {
                std::panic::resume_unwind(failed.into_panic());
            }
            self.answered.load(Ordering::Relaxed) >= enough
        })
        .await;
    }

    /// Lets every client finish its request; how many were answered.
    pub(crate) async fn stop(mut self) -> usize {
        self.enough.store(true, Ordering::Relaxed);
        while let Some(client) = within_patience("the last answers", self.clients.join_next()).await
        {
            client.unwrap();
        }
        self.answered.load(Ordering::Relaxed)
    }
}

async fn ask_on(
    router: SocketAddr,
    stream: bool,
    answered: Arc<AtomicUsize>,
    enough: Arc<AtomicBool>,
) {
    let mut connection = None;
    while !enough.load(Ordering::Relaxed) {
        let mut client = match connection.take() {
            Some(client) => client,
            None => Client::connect(router).await,
        };
        let tokens = if stream { 150 } else { 5 };
        client.post("/v1/chat/completions", chat(tokens, stream).to_string()).await;
        let answer = client.answer().await;
        check(&answer, stream);
        answered.fetch_add(1, Ordering::Relaxed);
        if answer.head.get("connection") != Some("close") {
            connection = Some(client);
        }
    }
}

fn check(answer: &Answer, stream: bool) {
    let text = answer.text();
    assert_eq!((answer.status(), answer.end), (200, End::Proper), "{text}");
    assert!(!text.contains("error"), "{text}");
    if stream {
        assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    } else {
        assert_eq!(answer.json()["usage"]["completion_tokens"], 5, "{text}");
    }
}
