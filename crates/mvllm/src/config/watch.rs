//! When a changed file becomes the settings in force.
//!
//! The file is looked at by reading it, once a second, and not through inotify: a notification
//! belongs to an inode, and what operators change is a name. Kubernetes swaps a symlink two
//! levels up (`..data`), editors rename over the file, a bind mount of one file keeps showing the
//! old inode, NFS and most FUSE mounts notify nobody. Each needs its own watch, re-armed without
//! a gap; reading a few kilobytes a second needs nothing and cannot miss a change.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};

use super::diff::Changes;
use super::file::{Loaded, parse};
use super::report::{Advice, Report, What};
use super::settings::Settings;
use super::sighting::{Content, Sighting};

/// A file counts as written when it has looked the same for this long. Copying and editing
/// tools write a file of this size in a few milliseconds; nobody notices a fifth of a second.
pub const SETTLE: Duration = Duration::from_millis(200);

/// Longest time between two looks: also the time in which a person expects an edit to show.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

/// After this long without being the same for [`SETTLE`], somebody should know.
pub const RESTLESS: Duration = Duration::from_secs(30);

/// Its `Display` is what a log should say, as one or more lines.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub enum WatchEvent {
    /// New settings are in force from now on.
    Reloaded { settings: Arc<Settings>, changes: Changes, warnings: Report },
    /// The file cannot be used; the last good settings stay in force. Told once per content.
    Rejected(Report),
    /// After a rejection the file says again what is in force.
    Restored,
}

/// Decides; reads no file and no clock.
#[derive(Debug)]
pub struct Watcher {
    file: Arc<Path>,
    settings: Arc<Settings>,
    /// What `settings` were read from.
    in_force: Content,
    /// The content decided on last. Anything else is news.
    judged: Content,
    /// News that may still be being written.
    candidate: Option<Candidate>,
}

#[derive(Debug)]
struct Candidate {
    sighting: Sighting,
    /// When it was first seen to look like this.
    since: Instant,
    /// When the file was first seen to differ from `judged`.
    restless_since: Instant,
    restless_told: bool,
}

/// Watches until the receiver of the events is dropped. `check_now` asks for a look at once, and
/// for being told again when the file is still bad (SIGHUP).
///
/// Reading may block for as long as the file system does, so it has a blocking thread of its
/// own: on a network mount that hangs, shut the runtime down with a timeout.
pub async fn watch(
    path: Arc<Path>,
    initial: Loaded,
    check_now: Arc<Notify>,
    events: mpsc::Sender<WatchEvent>,
) {
    let mut watcher = Watcher::new(Arc::clone(&path), initial);
    loop {
        tokio::select! {
            () = tokio::time::sleep(watcher.next_look()) => {}
            () = check_now.notified() => watcher.ask_again(),
            () = events.closed() => return,
        }
        let path = Arc::clone(&path);
        // Fails only when the runtime is shutting down.
        let Ok(sighting) = tokio::task::spawn_blocking(move || Sighting::take(&path)).await else {
            return;
        };
        let now = tokio::time::Instant::now().into_std();
        if let Some(event) = watcher.observe(now, sighting)
            && events.send(event).await.is_err()
        {
            return;
        }
    }
}

impl Watcher {
    pub fn new(file: Arc<Path>, initial: Loaded) -> Self {
        Self {
            file,
            settings: Arc::new(initial.settings),
            in_force: initial.fingerprint.clone(),
            judged: initial.fingerprint,
            candidate: None,
        }
    }

    /// The settings in force.
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// When to look again.
    pub fn next_look(&self) -> Duration {
        match self.candidate {
            Some(_) => SETTLE,
            None => self.settings.tuning.config_reload_interval.min(LOOK_EVERY),
        }
    }

    /// A content that was rejected is news again.
    pub fn ask_again(&mut self) {
        self.judged = self.in_force.clone();
    }

    /// Takes in what a look has shown. `None`: nothing to tell.
    pub fn observe(&mut self, now: Instant, sighting: Sighting) -> Option<WatchEvent> {
        if sighting.content == self.judged {
            self.candidate = None;
            return None;
        }
        match &self.candidate {
            Some(candidate) if candidate.sighting == sighting => {
                if now.saturating_duration_since(candidate.since) < SETTLE {
                    return None;
                }
                self.candidate = None;
                self.judged = sighting.content.clone();
                Some(self.judge(sighting.content))
            }
            _ => self.wait_for(now, sighting),
        }
    }

    fn wait_for(&mut self, now: Instant, sighting: Sighting) -> Option<WatchEvent> {
        let previous = self.candidate.take();
        let restless_since = previous.as_ref().map_or(now, |previous| previous.restless_since);
        let told = previous.is_some_and(|previous| previous.restless_told);
        let restless = now.saturating_duration_since(restless_since) >= RESTLESS;
        let restless_told = told || restless;
        self.candidate = Some(Candidate { sighting, since: now, restless_since, restless_told });
        let what = What::NeverStill { seconds: RESTLESS.as_secs() };
        (restless && !told).then(|| WatchEvent::Rejected(Report::of(&self.file, what, None)))
    }

    fn judge(&mut self, content: Content) -> WatchEvent {
        if content == self.in_force {
            return WatchEvent::Restored;
        }
        let bytes = match content {
            Content::Bytes(bytes) => bytes,
            Content::Unreadable(error) => {
                return WatchEvent::Rejected(Report::of(&self.file, What::Unreadable(error), None));
            }
        };
        let loaded = match parse(&self.file, &bytes) {
            Ok(loaded) => loaded,
            Err(report) => return WatchEvent::Rejected(report),
        };
        let had = self.settings.servers.len();
        if had > 0 && loaded.settings.servers.is_empty() {
            let advice = Advice::Do("to run without servers, start mvllm again with this file");
            let what = What::WouldEmpty { had };
            return WatchEvent::Rejected(Report::of(&self.file, what, Some(advice)));
        }
        let changes = Changes::between(&self.settings, &loaded.settings);
        self.settings = Arc::new(loaded.settings);
        self.in_force = loaded.fingerprint;
        WatchEvent::Reloaded {
            settings: Arc::clone(&self.settings),
            changes,
            warnings: loaded.warnings,
        }
    }
}

impl fmt::Display for WatchEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reloaded { changes, warnings, .. } => {
                f.write_str("configuration reloaded")?;
                if changes.is_empty() {
                    f.write_str(": nothing in it has changed its meaning")?;
                } else {
                    write!(f, "\n{changes}")?;
                }
                if warnings.is_empty() { Ok(()) } else { write!(f, "\n{warnings}") }
            }
            Self::Rejected(report) => {
                write!(
                    f,
                    "configuration not reloaded: the last good settings stay in force\n{report}"
                )
            }
            Self::Restored => f.write_str("the configuration file again says what is in force"),
        }
    }
}

#[cfg(test)]
mod tests;
