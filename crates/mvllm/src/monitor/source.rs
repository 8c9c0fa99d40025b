//! Where reports come from and orders go.

mod local;
mod remote;

use std::fmt;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use crate::config::url::ServerUrl;
use crate::status::StatusReport;

pub(super) use remote::{RemoteError, RemoteRouter};

/// News that nobody has looked at yet. The monitor looks at each at once; the bound is for the
/// case that the terminal takes no output, and then reports wait at their source.
const NEWS_MAX: usize = 4;

/// A router to look at.
#[derive(Debug)]
pub(crate) enum Source {
    /// The one in this process.
    Local { reports: watch::Receiver<Arc<StatusReport>>, orders: mpsc::Sender<AdminOrder> },
    /// One that answers at a url.
    Remote(RemoteRouter),
}

/// What the operator wants of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AdminCommand {
    pub(crate) verb: Verb,
    pub(crate) url: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// No new requests.
    Cordon,
    /// No new requests, and tell when those under way have finished.
    Drain,
    /// New requests again.
    Uncordon,
}

/// A command on its way to the router in this process.
#[derive(Debug)]
pub(crate) struct AdminOrder {
    pub(crate) command: AdminCommand,
    pub(crate) answer: oneshot::Sender<Result<(), AdminError>>,
}

/// Why a command was not carried out. Reads after "... was not drained: ".
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    #[error("no such server is configured")]
    UnknownServer,
    #[error("the router has stopped")]
    RouterStopped,
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

/// What a source has to say.
#[derive(Debug)]
pub(super) enum News {
    Report(Arc<StatusReport>),
    /// No reports for now; the source goes on trying.
    Lost {
        why: String,
    },
    Answered {
        command: AdminCommand,
        outcome: Result<(), AdminError>,
    },
}

/// A source that is listened to. Its tasks end when it is dropped.
#[derive(Debug)]
pub(super) struct Feed {
    news: mpsc::Receiver<News>,
    commands: mpsc::UnboundedSender<AdminCommand>,
}

impl Source {
    /// The router at `url`; `admin_key` goes with each request, for routers that want one.
    pub(crate) fn remote(url: &ServerUrl, admin_key: Option<&str>) -> Result<Self, http::Error> {
        Ok(Self::Remote(RemoteRouter::new(url, admin_key)?))
    }

    /// How the router is called in messages.
    pub(super) fn router(&self) -> String {
        match self {
            Self::Local { .. } => "the router".to_owned(),
            Self::Remote(router) => router.name.clone(),
        }
    }

    /// Begins to listen, on the current runtime.
    pub(super) fn open(self) -> Feed {
        let (news, news_out) = mpsc::channel(NEWS_MAX);
        // Unbounded is harmless here: each command is a person's confirmed key.
        let (commands, commands_in) = mpsc::unbounded_channel();
        match self {
            Self::Local { reports, orders } => {
                tokio::spawn(local::report(reports, news.clone()));
                tokio::spawn(local::pass_on(commands_in, orders, news));
            }
            Self::Remote(router) => {
                let router = Arc::new(router);
                tokio::spawn(remote::report(Arc::clone(&router), news.clone()));
                tokio::spawn(remote::pass_on(commands_in, router, news));
            }
        }
        Feed { news: news_out, commands }
    }
}

impl Feed {
    /// Waits for the next news. Nothing is lost if the waiting is given up.
    pub(super) async fn next(&mut self) -> News {
        match self.news.recv().await {
            Some(news) => news,
            // Both tasks have ended, and have said why.
            None => std::future::pending().await,
        }
    }

    /// Sends `command` on its way; the answer is among the news.
    pub(super) fn order(&self, command: AdminCommand) {
        // Fails only when the source has ended, which it has told.
        let _ = self.commands.send(command);
    }
}

impl Verb {
    /// Begins a sentence on what has been done.
    pub(super) fn past(self) -> &'static str {
        match self {
            Self::Cordon => "Cordoned",
            Self::Drain => "Draining",
            Self::Uncordon => "Uncordoned",
        }
    }

    pub(super) fn participle(self) -> &'static str {
        match self {
            Self::Cordon => "cordoned",
            Self::Drain => "drained",
            Self::Uncordon => "uncordoned",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cordon => "cordon",
            Self::Drain => "drain",
            Self::Uncordon => "uncordon",
        })
    }
}
