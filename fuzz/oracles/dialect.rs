//! Event streams, against a reader that has the whole stream at once; and against themselves, cut
//! into other chunks.

use mvllm_core::dialect::{Dialect, Ending, Progress, StreamWatch};
use mvllm_core::sse::{DATA_KEPT, NAME_KEPT, Splitter};

/// Longer streams show nothing that shorter ones do not, and are looked at once per byte.
const STREAM_MAX: usize = 2048;

/// The first byte says which dialect, the second how to cut; the rest is the stream.
pub fn check(input: &[u8]) {
    let [dialect, cuts, stream @ ..] = input else { return };
    let stream = &stream[..stream.len().min(STREAM_MAX)];
    let all = [Dialect::OpenAi, Dialect::Messages, Dialect::Responses, Dialect::Opaque];
    let dialect = all[usize::from(*dialect) % all.len()];
    let whole = Seen::of(dialect, [stream]);
    assert_eq!(whole.events, reference(stream), "{:?}", String::from_utf8_lossy(stream));
    assert_eq!(Seen::of(dialect, stream.chunks(1)), whole);
    let size = 2 + usize::from(*cuts % 61);
    assert_eq!(Seen::of(dialect, stream.chunks(size)), whole);
    let (front, back) = stream.split_at(usize::from(*cuts).min(stream.len()));
    assert_eq!(Seen::of(dialect, [front, &[], back]), whole);
    a_cut_is_understood(dialect, stream, &whole);
}

/// One event as far as it is kept: name, beginning and end of the data.
type Event = (Vec<u8>, Vec<u8>, Vec<u8>);

/// What is seen of a stream, which must not depend on how it was cut.
#[derive(Debug, PartialEq)]
struct Seen {
    events: Vec<Event>,
    progress: Progress,
    ending: Ending,
    passed_on: Vec<u8>,
    held_back: Vec<u8>,
}

impl Seen {
    /// Relays `chunks` as the proxy does: what is complete passes, with all that was held before.
    fn of<'c>(dialect: Dialect, chunks: impl IntoIterator<Item = &'c [u8]>) -> Self {
        let (mut watch, mut splitter) = (StreamWatch::new(dialect), Splitter::default());
        let (mut passed_on, mut held_back) = (Vec::new(), Vec::new());
        let (mut events, mut all) = (Vec::new(), Vec::new());
        for chunk in chunks {
            let before = watch.progress();
            let complete = watch.feed(chunk).complete;
            splitter.feed(chunk, |event| {
                events.push((event.name.to_vec(), event.head.to_vec(), event.tail.to_vec()));
            });
            all.extend_from_slice(chunk);
            if complete > 0 {
                passed_on.append(&mut held_back);
            }
            passed_on.extend_from_slice(&chunk[..complete]);
            held_back.extend_from_slice(&chunk[complete..]);
            assert_eq!(watch.pending(), held_back.len());
            assert_eq!(watch.events(), events.len() as u64);
            never_recovers(before, watch.progress());
        }
        assert_eq!([&passed_on[..], &held_back[..]].concat(), all, "bytes out are bytes in");
        let (progress, ending) = (watch.progress(), watch.ending());
        Self { events, progress, ending, passed_on, held_back }
    }
}

/// A failure stays the first one, and an end stays one unless a failure follows.
fn never_recovers(before: Progress, after: Progress) {
    match (before, after) {
        (Progress::Failed(first), Progress::Failed(now)) => {
            assert_eq!((first.status, first.after_output), (now.status, now.after_output));
            assert!(now.ended || !first.ended);
        }
        (Progress::Failed(_), other) => panic!("{before:?} became {other:?}"),
        (Progress::Finished, Progress::Finished | Progress::Failed(_)) => {}
        (Progress::Finished, other) => panic!("{before:?} became {other:?}"),
        (Progress::Started, Progress::Silent | Progress::Announced) => panic!("back to {after:?}"),
        (Progress::Announced, Progress::Silent) => panic!("back to {after:?}"),
        _ => {}
    }
}

/// Whoever has read what was passed on reads the event that tells of the cut, whole and alone.
fn a_cut_is_understood(dialect: Dialect, stream: &[u8], whole: &Seen) {
    let mut watch = StreamWatch::new(dialect);
    watch.feed(stream);
    let Some(cut) = watch.cut_event("a \"quoted\" reason\nin \\ two lines") else {
        assert_eq!((dialect, &whole.passed_on[..]), (Dialect::Opaque, stream));
        return;
    };
    let mut read = reference(&whole.passed_on);
    assert_eq!(read, whole.events, "no event is held back, and no half of one passed on");
    read.extend(reference(&cut));
    assert_eq!(reference(&[&whole.passed_on[..], &cut].concat()), read);
    let after = Seen::of(dialect, [&whole.passed_on[..], &cut]);
    assert!(matches!(after.ending, Ending::Failed(_)), "{:?}", after.ending);
}

/// The events of a stream that is there in whole, by the steps of the standard (WHATWG HTML,
/// 9.2.5 and 9.2.6), one line after another.
fn reference(stream: &[u8]) -> Vec<Event> {
    let stream = stream.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(stream);
    let (mut events, mut name, mut data) = (Vec::new(), Vec::new(), None::<Vec<u8>>);
    for line in lines(stream) {
        if line.is_empty() {
            if let Some(data) = data.take() {
                let tail = data[data.len().saturating_sub(DATA_KEPT)..].to_vec();
                events.push((first(&name, NAME_KEPT), first(&data, DATA_KEPT), tail));
            }
            name.clear();
            continue;
        }
        let colon = line.iter().position(|&byte| byte == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match &line[..colon] {
            b"event" => name = value.to_vec(),
            b"data" => {
                data = Some(match data {
                    None => value.to_vec(),
                    Some(before) => [&before[..], b"\n", value].concat(),
                });
            }
            _ => {}
        }
    }
    events
}

/// Only lines that end: in CRLF, LF or CR.
fn lines(mut rest: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    while let Some(end) = rest.iter().position(|byte| b"\r\n".contains(byte)) {
        lines.push(&rest[..end]);
        let is_pair = rest[end..].starts_with(b"\r\n");
        rest = &rest[end + if is_pair { 2 } else { 1 }..];
    }
    lines
}

fn first(bytes: &[u8], most: usize) -> Vec<u8> {
    bytes[..bytes.len().min(most)].to_vec()
}
