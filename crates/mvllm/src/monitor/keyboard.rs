//! Keys, read from the terminal by a thread of its own.
//!
//! crossterm could do this, but once the terminal is gone (a killed tmux pane, a lost ssh session)
//! its 0.29 reads the end of the file again and again for ever, at the price of a whole core:
//! <https://github.com/crossterm-rs/crossterm/issues/793>. A router outlives its terminal.

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::mpsc;

/// How long the rest of an escape sequence may take. After that, an Esc was the key itself.
const REST_MAX: Duration = Duration::from_millis(30);

/// Keys that have been read and not been handled.
const KEYS_MAX: usize = 64;

/// The longest sequences that terminals send are a few dozen bytes.
const SEQUENCE_MAX: usize = 64;

/// A key, as far as the monitor has a use for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    /// Control and a letter, in lower case.
    Ctrl(char),
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    Esc,
    Backspace,
}

/// The keyboard of the terminal. Its thread ends when this is dropped.
#[derive(Debug)]
pub(super) struct Keyboard {
    keys: mpsc::Receiver<Key>,
    /// Closed by being dropped, which wakes the thread.
    _held: UnixStream,
}

impl Keyboard {
    pub(super) fn open() -> io::Result<Self> {
        let terminal = open_terminal()?;
        let (held, let_go) = UnixStream::pair()?;
        let (sender, keys) = mpsc::channel(KEYS_MAX);
        std::thread::Builder::new()
            .name("monitor-keys".to_owned())
            .spawn(move || read_keys(terminal, &let_go, &sender))?;
        Ok(Self { keys, _held: held })
    }

    /// The next key; `None` once the terminal is gone.
    pub(super) async fn next(&mut self) -> Option<Key> {
        self.keys.recv().await
    }
}

/// Standard input, unless it is something else; then the terminal that controls the process. The
/// same choice as that of crossterm, which sets the modes of this terminal.
fn open_terminal() -> io::Result<File> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Ok(File::from(stdin.as_fd().try_clone_to_owned()?));
    }
    File::open("/dev/tty")
}

fn read_keys(mut terminal: File, let_go: &UnixStream, keys: &mpsc::Sender<Key>) {
    let mut decoder = Decoder::default();
    let mut bytes = [0; 1024];
    loop {
        let patience = decoder.is_amid_a_sequence().then_some(REST_MAX);
        let read = match wait(&terminal, let_go, patience) {
            Waited::LetGo => return,
            Waited::Long => 0,
            Waited::Readable => match terminal.read(&mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Ok(0) | Err(_) => return,
                Ok(read) => read,
            },
        };
        let decoded = if read == 0 { decoder.give_up() } else { decoder.decode(&bytes[..read]) };
        if decoded.into_iter().any(|key| keys.blocking_send(key).is_err()) {
            return;
        }
    }
}

enum Waited {
    Readable,
    /// Nothing has come.
    Long,
    /// Nobody wants keys any more, or none can come.
    LetGo,
}

fn wait(terminal: &File, let_go: &UnixStream, patience: Option<Duration>) -> Waited {
    let patience = patience.and_then(|patience| Timespec::try_from(patience).ok());
    let mut waited =
        [PollFd::new(terminal, PollFlags::IN), PollFd::new(let_go, PollFlags::empty())];
    match poll(&mut waited, patience.as_ref()) {
        Ok(0) | Err(rustix::io::Errno::INTR) => return Waited::Long,
        Ok(_) => {}
        Err(_) => return Waited::LetGo,
    }
    let [terminal, let_go] = waited.map(|one| one.revents());
    match terminal == PollFlags::IN && let_go.is_empty() {
        true => Waited::Readable,
        false => Waited::LetGo,
    }
}

/// Makes keys of bytes, which may come in any pieces.
#[derive(Debug, Default)]
struct Decoder {
    pending: Vec<u8>,
}

/// What stands at the beginning of some bytes, and how many of them it takes.
#[derive(Debug, PartialEq, Eq)]
enum Decoded {
    Key(Key, usize),
    /// A key that the monitor has no use for.
    Other(usize),
    Incomplete,
}

impl Decoder {
    fn decode(&mut self, bytes: &[u8]) -> Vec<Key> {
        self.pending.extend_from_slice(bytes);
        let mut keys = Vec::new();
        while !self.pending.is_empty() {
            let taken = match first_key(&self.pending) {
                Decoded::Key(key, taken) => {
                    keys.push(key);
                    taken
                }
                Decoded::Other(taken) => taken,
                Decoded::Incomplete if self.pending.len() > SEQUENCE_MAX => self.pending.len(),
                Decoded::Incomplete => break,
            };
            self.pending.drain(..taken);
        }
        keys
    }

    fn is_amid_a_sequence(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The rest has not come: an Esc alone was the key.
    fn give_up(&mut self) -> Vec<Key> {
        let pending = std::mem::take(&mut self.pending);
        if pending == [ESC] { vec![Key::Esc] } else { Vec::new() }
    }
}

const ESC: u8 = 0x1b;

fn first_key(bytes: &[u8]) -> Decoded {
    match bytes {
        [] | [ESC] | [ESC, b'O'] => Decoded::Incomplete,
        [ESC, b'[', rest @ ..] => control_sequence(rest),
        [ESC, b'O', last, ..] => named(b"", *last, 3),
        // Esc, and something else so soon after that they came together.
        [ESC, ..] => Decoded::Key(Key::Esc, 1),
        [b'\r' | b'\n', ..] => Decoded::Key(Key::Enter, 1),
        [0x7f | 0x08, ..] => Decoded::Key(Key::Backspace, 1),
        [b'\t', ..] => Decoded::Other(1),
        [control @ 0x01..=0x1a, ..] => Decoded::Key(Key::Ctrl(char::from(control - 1 + b'a')), 1),
        [0x00..=0x1f, ..] => Decoded::Other(1),
        _ => letter(bytes),
    }
}

/// ECMA-48, 5.4: parameter bytes, intermediate bytes, one final byte.
fn control_sequence(rest: &[u8]) -> Decoded {
    let Some(end) = rest.iter().position(|byte| !(0x20..0x40).contains(byte)) else {
        return Decoded::Incomplete;
    };
    // The first parameter is the key, where there is a number; those after it are modifiers.
    let parameter = rest[..end].split(|byte| *byte == b';').next().unwrap_or_default();
    named(parameter, rest[end], 2 + end + 1)
}

/// The keys of xterm and VT220, which all terminals of today send.
fn named(parameter: &[u8], last: u8, taken: usize) -> Decoded {
    let key = match (parameter, last) {
        (_, b'A') => Key::Up,
        (_, b'B') => Key::Down,
        (_, b'H') | (b"1" | b"7", b'~') => Key::Home,
        (_, b'F') | (b"4" | b"8", b'~') => Key::End,
        (b"5", b'~') => Key::PageUp,
        (b"6", b'~') => Key::PageDown,
        (_, b'M') => Key::Enter,
        _ => return Decoded::Other(taken),
    };
    Decoded::Key(key, taken)
}

fn letter(bytes: &[u8]) -> Decoded {
    let length = match bytes[0] {
        0x00..0x80 => 1,
        0xc2..0xe0 => 2,
        0xe0..0xf0 => 3,
        0xf0..0xf5 => 4,
        _ => return Decoded::Other(1),
    };
    let Some(letter) = bytes.get(..length) else { return Decoded::Incomplete };
    match std::str::from_utf8(letter).ok().and_then(|text| text.chars().next()) {
        Some(letter) if !letter.is_control() => Decoded::Key(Key::Char(letter), length),
        _ => Decoded::Other(1),
    }
}
