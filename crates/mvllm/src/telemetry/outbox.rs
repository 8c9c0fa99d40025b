//! Log lines on their way out. They are collected, and written several at a time by a thread of
//! their own: a write and a wake-up for every line would cost more than the request it tells of, and
//! a disk that takes nothing costs lines, not requests.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// How long a line may wait for others; nobody reads faster.
const COLLECTED_FOR: Duration = Duration::from_millis(50);

/// Enough for one write; does not wait any longer.
const ENOUGH: usize = 256 * 1024;

/// What may wait to be written. Lines that find no room are lost, and their number is told.
const ROOM: usize = 16 * 1024 * 1024;

/// Where lines are left.
#[derive(Debug, Clone)]
pub(super) struct Outbox {
    waiting: Arc<Waiting>,
}

/// Writes what is left when dropped.
#[derive(Debug)]
pub(super) struct Postman {
    waiting: Arc<Waiting>,
    thread: Option<JoinHandle<()>>,
}

struct Waiting {
    lines: Mutex<Lines>,
    news: Condvar,
    destination: Mutex<Box<dyn Write + Send>>,
}

#[derive(Default)]
struct Lines {
    text: Vec<u8>,
    lost: u64,
    closed: bool,
}

/// An outbox for `destination`, which is written to until the postman is dropped.
///
/// # Errors
/// If there can be no thread.
pub(super) fn outbox(destination: impl Write + Send + 'static) -> io::Result<(Outbox, Postman)> {
    let (lines, news) = (Mutex::default(), Condvar::new());
    let waiting = Arc::new(Waiting { lines, news, destination: Mutex::new(Box::new(destination)) });
    let shared = Arc::clone(&waiting);
    let thread = std::thread::Builder::new()
        .name("mvllm-log".to_owned())
        .spawn(move || while shared.collect() {})?;
    let postman = Postman { waiting: Arc::clone(&waiting), thread: Some(thread) };
    Ok((Outbox { waiting }, postman))
}

impl Outbox {
    /// Leaves a line, given in parts.
    pub(super) fn push(&self, parts: &[&[u8]]) {
        self.waiting.push(parts);
    }

    /// The same outbox, for lines that do not wait: they are written, behind all that were there
    /// before, when their author goes on.
    pub(super) fn prompt(&self) -> Prompt {
        Prompt(self.clone())
    }
}

impl Waiting {
    /// Waits for lines and writes them; whether there may be more.
    fn collect(&self) -> bool {
        let lines = self.lock();
        let lines = self.news.wait_while(lines, |lines| lines.text.is_empty() && !lines.closed);
        let lines = lines.unwrap_or_else(PoisonError::into_inner);
        let more = |lines: &mut Lines| lines.text.len() < ENOUGH && !lines.closed;
        let waited = self.news.wait_timeout_while(lines, COLLECTED_FOR, more);
        let closed = waited.unwrap_or_else(PoisonError::into_inner).0.closed;
        self.write_out();
        !closed
    }

    fn push(&self, parts: &[&[u8]]) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let mut lines = self.lock();
        let (before, after) = (lines.text.len(), lines.text.len() + length);
        if after > ROOM {
            lines.lost += 1;
            return;
        }
        parts.iter().for_each(|part| lines.text.extend_from_slice(part));
        drop(lines);
        if before == 0 || (before < ENOUGH && after >= ENOUGH) {
            self.news.notify_one();
        }
    }

    /// Writes all that waits. Whoever calls this first writes first.
    fn write_out(&self) {
        let mut destination = self.destination.lock().unwrap_or_else(PoisonError::into_inner);
        let Lines { text, lost, .. } = {
            let mut lines = self.lock();
            let closed = lines.closed;
            std::mem::replace(&mut *lines, Lines { closed, ..Lines::default() })
        };
        // There is nobody to tell of a log that cannot be written.
        let _ = destination.write_all(&text);
        if lost > 0 {
            let _ = writeln!(destination, "{lost} lines were lost: they came faster than written");
        }
        let _ = destination.flush();
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Waiting")
    }
}

impl Drop for Postman {
    fn drop(&mut self) {
        self.waiting.lock().closed = true;
        self.waiting.news.notify_one();
        if let Some(thread) = self.thread.take() {
            // It has not panicked: it only writes.
            let _ = thread.join();
        }
    }
}

impl<'a> MakeWriter<'a> for Outbox {
    type Writer = Pen<'a>;

    fn make_writer(&'a self) -> Pen<'a> {
        Pen { waiting: &self.waiting, prompt: false }
    }
}

/// See [`Outbox::prompt`].
#[derive(Debug)]
pub(super) struct Prompt(Outbox);

impl<'a> MakeWriter<'a> for Prompt {
    type Writer = Pen<'a>;

    fn make_writer(&'a self) -> Pen<'a> {
        Pen { waiting: &self.0.waiting, prompt: true }
    }
}

/// Writes one line.
#[derive(Debug)]
pub(super) struct Pen<'a> {
    waiting: &'a Waiting,
    prompt: bool,
}

impl Write for Pen<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.waiting.push(&[line]);
        if self.prompt {
            self.waiting.write_out();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Passes on what is written, write by write.
    struct Paper(mpsc::Sender<Vec<u8>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn start() -> (Outbox, Postman, mpsc::Receiver<Vec<u8>>) {
        let (sender, writes) = mpsc::channel();
        let (outbox, postman) = outbox(Paper(sender)).unwrap();
        (outbox, postman, writes)
    }

    #[test]
    fn lines_are_written_in_order_and_none_is_left_behind_at_the_end() {
        let (outbox, postman, writes) = start();
        let lines: Vec<String> = (0..1_000).map(|nth| format!("line {nth}\n")).collect();
        lines.iter().for_each(|line| outbox.push(&[line.as_bytes()]));
        drop(postman);
        let written: Vec<Vec<u8>> = writes.try_iter().collect();
        assert_eq!(written.concat(), lines.concat().as_bytes());
        assert!(written.len() < 100, "{} writes", written.len());
    }

    #[test]
    fn a_line_that_waits_is_written_without_another() {
        let (outbox, _postman, writes) = start();
        outbox.push(&[b"al", b"one\n"]);
        assert_eq!(writes.recv().unwrap(), b"alone\n");
    }

    #[test]
    fn a_prompt_line_is_written_when_its_author_goes_on_behind_those_before_it() {
        let (outbox, postman, writes) = start();
        outbox.push(&[b"one\n"]);
        outbox.prompt().make_writer().write_all(b"two\n").unwrap();
        assert_eq!(writes.try_iter().collect::<Vec<_>>().concat(), b"one\ntwo\n");
        drop(postman);
    }

    #[test]
    fn lines_without_room_are_lost_and_counted() {
        let (sender, writes) = mpsc::channel();
        let (lines, news) = (Mutex::default(), Condvar::new());
        // Nobody comes to collect.
        let waiting = Waiting { lines, news, destination: Mutex::new(Box::new(Paper(sender))) };
        waiting.push(&[&vec![b'x'; ROOM]]);
        waiting.push(&[b"lost\n"]);
        waiting.push(&[b"too\n"]);
        waiting.write_out();
        let written = writes.try_iter().collect::<Vec<_>>().concat();
        assert!(written.ends_with(b"2 lines were lost: they came faster than written\n"));
        waiting.push(&[b"room again\n"]);
        waiting.write_out();
        assert_eq!(writes.try_iter().collect::<Vec<_>>().concat(), b"room again\n");
    }
}
