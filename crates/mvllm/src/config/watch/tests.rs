use std::path::PathBuf;

use super::super::file::load;
use super::super::sighting::{Identity, Unreadable};
use super::*;

/// A file in memory and a clock in hand: every write is a new identity.
struct World {
    start: Instant,
    elapsed: Duration,
    /// When the watcher wants to look next.
    due: Duration,
    content: Content,
    writes: i64,
    last_write: Duration,
    watcher: Watcher,
}

const ONE: &str = "servers.servers = [{ url = 'http://a' }]";
const TWO: &str = "servers.servers = [{ url = 'http://a' }, { url = 'http://b' }]";
const BAD: &str = "servers.servers = [{ url = 'http://a' }, { url = ";
const OTHER_BAD: &str = "servers.servers = 3";
const EMPTY: &str = "";

fn text(text: &str) -> Content {
    Content::Bytes(text.as_bytes().into())
}

fn initial(text: &str) -> Loaded {
    let file: Arc<Path> = Path::new("servers.toml").into();
    parse(&file, &text.as_bytes().into()).unwrap_or_else(|report| panic!("{report}"))
}

impl World {
    fn with(loaded: Loaded) -> Self {
        let content = loaded.fingerprint.clone();
        Self {
            start: Instant::now(),
            elapsed: Duration::ZERO,
            due: LOOK_EVERY,
            content,
            writes: 0,
            last_write: Duration::ZERO,
            watcher: Watcher::new(Path::new("servers.toml").into(), loaded),
        }
    }

    fn write(&mut self, content: Content) {
        self.content = content;
        self.writes += 1;
        self.last_write = self.elapsed;
    }

    fn look(&mut self) -> Option<WatchEvent> {
        let identity = match &self.content {
            Content::Bytes(bytes) => Some(Identity {
                device: 1,
                inode: 1,
                modified: (self.writes, 0),
                size: bytes.len() as u64,
            }),
            Content::Unreadable(_) => None,
        };
        let sighting = Sighting { content: self.content.clone(), identity };
        let event = self.watcher.observe(self.start + self.elapsed, sighting);
        self.due = self.elapsed + self.watcher.next_look();
        event
    }

    /// Looks as often as the watcher asks for, and gathers what it tells.
    fn run(&mut self, span: Duration) -> Vec<WatchEvent> {
        let end = self.elapsed + span;
        let mut events = Vec::new();
        while self.due <= end {
            self.elapsed = self.due;
            events.extend(self.look());
        }
        self.elapsed = end;
        events
    }

    fn servers(&self) -> usize {
        self.watcher.settings().servers.len()
    }
}

const LONG: Duration = Duration::from_secs(5);

fn only(events: Vec<WatchEvent>) -> WatchEvent {
    let [event] = <[WatchEvent; 1]>::try_from(events).unwrap_or_else(|e| panic!("{e:?}"));
    event
}

#[test]
fn a_change_is_applied_once_it_has_settled() {
    let mut world = World::with(initial(ONE));
    world.write(text(TWO));
    assert_eq!(world.run(LOOK_EVERY), [], "seen, not yet settled");
    assert_eq!(world.watcher.next_look(), SETTLE);
    insta::assert_snapshot!(only(world.run(SETTLE)), @"
    configuration reloaded
    server added: http://b
    ");
    assert_eq!(world.servers(), 2);
    assert_eq!(world.run(LONG), []);
}

#[test]
fn two_looks_too_close_together_settle_nothing() {
    let mut world = World::with(initial(ONE));
    world.write(text(TWO));
    assert_eq!(world.look(), None);
    world.elapsed += SETTLE - Duration::from_millis(1);
    assert_eq!(world.look(), None);
    world.elapsed += Duration::from_millis(1);
    assert!(matches!(world.look(), Some(WatchEvent::Reloaded { .. })));
}

#[test]
fn the_same_content_written_again_is_nothing() {
    let mut world = World::with(initial(ONE));
    world.write(text(ONE));
    assert_eq!(world.run(LONG), []);
}

#[test]
fn a_bad_file_is_told_once_and_changes_nothing() {
    let mut world = World::with(initial(TWO));
    world.write(text(BAD));
    insta::assert_snapshot!(only(world.run(LONG)), @"
    configuration not reloaded: the last good settings stay in force
    servers.toml:1:49: error: not valid TOML: a value is missing after the '='
         1 | servers.servers = [{ url = 'http://a' }, { url =
    ");
    world.write(text(BAD));
    assert_eq!(world.run(LONG), [], "the same mistake saved again");
    world.write(text(OTHER_BAD));
    assert!(matches!(only(world.run(LONG)), WatchEvent::Rejected(_)));
    assert_eq!(world.servers(), 2);
}

#[test]
fn the_same_good_file_put_back_is_told_and_changes_nothing() {
    let mut world = World::with(initial(TWO));
    let before = Arc::clone(world.watcher.settings());
    world.write(text(BAD));
    let _ = world.run(LONG);
    world.write(text(TWO));
    assert_eq!(only(world.run(LONG)), WatchEvent::Restored);
    assert!(Arc::ptr_eq(&before, world.watcher.settings()));
}

#[test]
fn a_file_that_is_gone_is_told_once_and_changes_nothing() {
    let mut world = World::with(initial(TWO));
    world.write(Content::Unreadable(Unreadable::Missing));
    insta::assert_snapshot!(only(world.run(LONG)), @"
    configuration not reloaded: the last good settings stay in force
    servers.toml: error: there is no such file
    ");
    assert_eq!((world.run(LONG), world.servers()), (vec![], 2));
    world.write(text(ONE));
    assert!(matches!(only(world.run(LONG)), WatchEvent::Reloaded { .. }));
}

#[test]
fn a_moment_without_the_file_is_not_told() {
    let mut world = World::with(initial(ONE));
    world.write(Content::Unreadable(Unreadable::Missing));
    assert_eq!(world.run(LOOK_EVERY), []);
    world.write(text(TWO));
    assert!(matches!(only(world.run(LONG)), WatchEvent::Reloaded { .. }));
}

#[test]
fn a_reload_never_takes_the_last_server() {
    let mut world = World::with(initial(TWO));
    world.write(text(EMPTY));
    insta::assert_snapshot!(only(world.run(LONG)), @"
    configuration not reloaded: the last good settings stay in force
    servers.toml: error: names no server, and 2 are in use: a file that is cut short looks like this
        to run without servers, start mvllm again with this file
    ");
    assert_eq!(world.servers(), 2);
}

#[test]
fn without_servers_before_an_empty_file_is_fine() {
    let mut world = World::with(initial(EMPTY));
    world.write(text("[config]\nmax_retries = 1\nretries = 1"));
    insta::assert_snapshot!(only(world.run(LONG)), @r#"
    configuration reloaded
    config changed: max_retries from 3 to 1
    servers.toml:3:1: warning: config.retries: is not a known key and has no effect
         3 | retries = 1
        did you mean: max_retries
    servers.toml: warning: no servers are configured: every request will be refused
        write for example:
            [servers]
            servers = [
              { url = "http://10.0.0.1:8000", max_concurrent_requests = 3 },
            ]
    "#);
}

#[test]
fn a_comment_is_a_reload_without_a_change_of_meaning() {
    let mut world = World::with(initial(ONE));
    world.write(text("servers.servers = [{ url = 'http://a/' }] # the only one"));
    insta::assert_snapshot!(only(world.run(LONG)), @"configuration reloaded: nothing in it has changed its meaning");
}

#[test]
fn a_file_that_never_comes_to_rest_is_told_once() {
    let mut world = World::with(initial(ONE));
    let mut events = Vec::new();
    while world.elapsed < 3 * RESTLESS {
        world.write(text(&format!("{TWO} # {}", world.writes)));
        events.extend(world.run(SETTLE));
    }
    insta::assert_snapshot!(only(events), @"
    configuration not reloaded: the last good settings stay in force
    servers.toml: error: has kept changing for 30 s; it is read once it stays the same for a moment
    ");
    assert_eq!(world.servers(), 1);
    assert!(matches!(only(world.run(LONG)), WatchEvent::Reloaded { .. }));
}

#[test]
fn an_asked_for_look_tells_again_what_is_wrong() {
    let mut world = World::with(initial(ONE));
    world.write(text(BAD));
    let first = only(world.run(LONG));
    world.watcher.ask_again();
    assert_eq!(only(world.run(LONG)), first);
    world.write(text(ONE));
    let _ = world.run(LONG);
    world.watcher.ask_again();
    assert_eq!(world.run(LONG), [], "nothing is wrong now");
}

#[test]
fn a_shorter_interval_applies_at_once() {
    let mut world = World::with(initial(ONE));
    assert_eq!(world.watcher.next_look(), LOOK_EVERY);
    world.write(text(&format!("{ONE}\n[config]\nconfig_reload_interval = 0.25")));
    let _ = only(world.run(LONG));
    assert_eq!(world.watcher.next_look(), Duration::from_millis(250));
}

fn contents() -> impl proptest::strategy::Strategy<Value = Content> {
    let texts = [ONE, TWO, BAD, OTHER_BAD, EMPTY].map(text);
    let gone = [Unreadable::Missing, Unreadable::Denied].map(Content::Unreadable);
    proptest::sample::select([&texts[..], &gone[..]].concat())
}

proptest::proptest! {
    #[test]
    fn only_a_settled_content_is_applied_and_the_last_good_one_wins(
        steps in proptest::collection::vec((contents(), 0..700_u64), 0..40),
        last in proptest::sample::select(vec![ONE, TWO]),
    ) {
        let mut world = World::with(initial(ONE));
        for (content, rest) in steps {
            let before = Arc::clone(world.watcher.settings());
            let told = world.content.clone();
            let events = world.run(Duration::from_millis(rest));
            // That a file is missing leaves no trace of when it went missing.
            if !events.is_empty() && matches!(world.content, Content::Bytes(_)) {
                assert!(world.elapsed - world.last_write >= SETTLE, "applied before it settled");
            }
            assert!(events.len() <= 1, "{told:?} was told twice: {events:?}");
            if events.iter().any(|event| matches!(event, WatchEvent::Reloaded { .. })) {
                assert!([text(ONE), text(TWO)].contains(&world.content));
            } else {
                assert!(Arc::ptr_eq(&before, world.watcher.settings()));
            }
            assert!(world.servers() > 0);
            world.write(content);
        }
        world.write(text(last));
        let _ = world.run(LONG);
        assert_eq!(**world.watcher.settings(), initial(last).settings);
        assert_eq!(world.run(LONG), [], "at rest");
    }
}

/// A real file and the real task, on a clock that jumps: nothing here waits.
struct Live {
    folder: tempfile::TempDir,
    events: mpsc::Receiver<WatchEvent>,
    check_now: Arc<Notify>,
}

impl Live {
    /// `servers.toml` in a new folder, made by `make`, and watched.
    fn start(make: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        make(folder.path());
        let path: Arc<Path> = folder.path().join("servers.toml").into();
        let loaded = load(&path).unwrap_or_else(|report| panic!("{report}"));
        let (sender, events) = mpsc::channel(8);
        let check_now = Arc::new(Notify::new());
        tokio::spawn(watch(path, loaded, Arc::clone(&check_now), sender));
        Self { folder, events, check_now }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("servers.toml")
    }

    /// A minute of the clock that jumps is soon over when there is nothing to wait for.
    async fn told(&mut self) -> Option<WatchEvent> {
        let told = tokio::time::timeout(Duration::from_secs(60), self.events.recv()).await;
        told.expect("nothing is told")
    }

    async fn servers_after_reload(&mut self) -> usize {
        match self.told().await {
            Some(WatchEvent::Reloaded { settings, .. }) => settings.servers.len(),
            other => panic!("{other:?}"),
        }
    }

    /// Nothing is told for as long as it would take to be told.
    async fn assert_quiet(&mut self) {
        let told = tokio::time::timeout(LONG, self.events.recv()).await;
        assert!(told.is_err(), "{told:?}");
    }
}

fn put(text: &str) -> impl FnOnce(&Path) {
    move |folder| std::fs::write(folder.join("servers.toml"), text).unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_edit_in_place_is_noticed_and_a_touch_is_not() {
    let mut live = Live::start(put(ONE));
    std::fs::write(live.path(), TWO).unwrap();
    assert_eq!(live.servers_after_reload().await, 2);
    std::fs::write(live.path(), TWO).unwrap();
    live.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_file_renamed_over_with_an_older_time_is_noticed() {
    let mut live = Live::start(put(TWO));
    let backup = live.folder.path().join("servers.toml.bak");
    std::fs::write(&backup, ONE).unwrap();
    let long_ago = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    std::fs::File::options().append(true).open(&backup).unwrap().set_modified(long_ago).unwrap();
    std::fs::rename(&backup, live.path()).unwrap();
    assert_eq!(live.servers_after_reload().await, 1);
}

/// As the kubelet updates a ConfigMap: `servers.toml -> ..data/servers.toml`, `..data -> ..1`,
/// and `..data` is replaced by rename (kubernetes, pkg/volume/util/atomic_writer.go).
#[tokio::test(start_paused = true)]
async fn a_symlink_swapped_two_levels_up_is_noticed() {
    use std::os::unix::fs::symlink;
    let mut live = Live::start(|folder| {
        std::fs::create_dir(folder.join("..1")).unwrap();
        std::fs::write(folder.join("..1/servers.toml"), ONE).unwrap();
        symlink("..1", folder.join("..data")).unwrap();
        symlink("..data/servers.toml", folder.join("servers.toml")).unwrap();
    });
    let folder = live.folder.path().to_owned();
    std::fs::create_dir(folder.join("..2")).unwrap();
    std::fs::write(folder.join("..2/servers.toml"), TWO).unwrap();
    symlink("..2", folder.join("..data_tmp")).unwrap();
    std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    std::fs::remove_dir_all(folder.join("..1")).unwrap();
    assert_eq!(live.servers_after_reload().await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_file_deleted_and_restored_is_in_force_throughout() {
    let mut live = Live::start(put(TWO));
    std::fs::remove_file(live.path()).unwrap();
    assert!(matches!(live.told().await, Some(WatchEvent::Rejected(_))));
    std::fs::write(live.path(), TWO).unwrap();
    assert_eq!(live.told().await, Some(WatchEvent::Restored));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_appears_after_the_start_is_loaded() {
    let mut live = Live::start(|_| {});
    std::fs::write(live.path(), ONE).unwrap();
    assert_eq!(live.servers_after_reload().await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_file_cut_short_to_nothing_is_refused() {
    let mut live = Live::start(put(TWO));
    std::fs::File::create(live.path()).unwrap();
    assert!(matches!(live.told().await, Some(WatchEvent::Rejected(_))));
    std::fs::write(live.path(), ONE).unwrap();
    assert_eq!(live.servers_after_reload().await, 1);
}

/// Written in place a thousand times a second, and half written each time it is looked at.
#[tokio::test(start_paused = true)]
async fn a_file_being_rewritten_is_never_applied_half_written() {
    let mut live = Live::start(put(TWO));
    let half = "servers.servers = [{ url = 'http://half' }]";
    let done =
        "servers.servers = [{ url = 'http://a' }, { url = 'http://b' }, { url = 'http://c' }]";
    let file = std::fs::File::options().write(true).open(live.path()).unwrap();
    let write = |text: &str, at: u64| {
        use std::os::unix::fs::FileExt;
        file.set_len(0).unwrap();
        file.write_all_at(text.as_bytes(), 0).unwrap();
        // The clock of the test jumps, that of the file system does not.
        let now = std::time::SystemTime::UNIX_EPOCH + Duration::from_millis(2_000_000_000 + at);
        file.set_modified(now).unwrap();
    };
    for at in 0..3000 {
        write(half, at);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(live.events.is_empty(), "told after {at} ms");
    }
    write(done, 3000);
    assert_eq!(live.servers_after_reload().await, 3);
    live.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_look_can_be_asked_for() {
    let mut live = Live::start(put(TWO));
    std::fs::write(live.path(), BAD).unwrap();
    let first = live.told().await;
    assert!(matches!(first, Some(WatchEvent::Rejected(_))));
    live.assert_quiet().await;
    live.check_now.notify_one();
    assert_eq!(live.told().await, first);
}

#[tokio::test(start_paused = true)]
async fn the_watch_ends_when_nobody_listens() {
    let folder = tempfile::tempdir().unwrap();
    put(ONE)(folder.path());
    let path: Arc<Path> = folder.path().join("servers.toml").into();
    let loaded = load(&path).unwrap();
    let (sender, events) = mpsc::channel(1);
    let task = tokio::spawn(watch(path, loaded, Arc::default(), sender));
    drop(events);
    task.await.unwrap();
}
