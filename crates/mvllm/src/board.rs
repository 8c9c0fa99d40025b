//! What the fleet task publishes and everybody else reads: the state of the fleet, where its
//! servers are, and the settings in force. Replaced as a whole, so that no reader sees half a change.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use mvllm_core::snapshot::{ServerKey, Snapshot};
use tokio::sync::watch;

use crate::config::Settings;
use crate::leave::Stage;
use crate::prefixes::Prefixes;
use crate::reloads::Reloads;
use crate::upstream::Target;

/// One consistent view.
#[derive(Debug, Clone)]
pub(crate) struct Published {
    pub(crate) fleet: Snapshot,
    pub(crate) targets: Arc<HashMap<ServerKey, Arc<Target>>>,
    pub(crate) settings: Arc<Settings>,
}

/// Where the latest view hangs.
#[derive(Debug)]
pub(crate) struct Board {
    latest: ArcSwap<Published>,
    changes: watch::Sender<()>,
    /// What the servers probably have in their caches. It changes with every request, so it is not
    /// part of what is published.
    pub(crate) prefixes: Prefixes,
    /// How changes of the configuration fared.
    pub(crate) reloads: Reloads,
    /// Whether the router is leaving.
    pub(crate) stage: watch::Sender<Stage>,
}

impl Board {
    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        let published = Published { fleet: Snapshot::default(), targets: Arc::default(), settings };
        Self {
            latest: ArcSwap::from_pointee(published),
            changes: watch::Sender::new(()),
            prefixes: Prefixes::default(),
            reloads: Reloads::default(),
            stage: watch::Sender::new(Stage::Serving),
        }
    }

    /// The latest view. Cheap; not to be held across an await.
    pub(crate) fn read(&self) -> Guard<Arc<Published>> {
        self.latest.load()
    }

    pub(crate) fn publish(&self, published: Published) {
        self.latest.store(Arc::new(published));
        self.changes.send_replace(());
    }

    /// Sees every publication from now on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }
}
