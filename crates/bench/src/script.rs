//! What is asked and what is due as an answer, byte for byte: the load generator and the stub server
//! both take it from here, so each byte that a router changes, loses or invents is noticed.

use memchr::memmem;

/// Tokens of one stream are told apart by their number, up to this many; then they begin anew.
const DISTINCT: usize = 4096;

/// What a stream ends with.
const STREAM_END: &[u8] = b"data: [DONE]\n\n";

/// Sent with each request, as OpenAI's Python client does: what a router sees in practice.
const SDK_HEADERS: &str = "Accept: application/json\r\n\
     Accept-Encoding: gzip, deflate\r\n\
     Connection: keep-alive\r\n\
     Content-Type: application/json\r\n\
     User-Agent: OpenAI/Python 2.8.1\r\n\
     Authorization: Bearer sk-0123456789abcdef0123456789abcdef\r\n\
     X-Stainless-Lang: python\r\n\
     X-Stainless-Package-Version: 2.8.1\r\n\
     X-Stainless-OS: Linux\r\n\
     X-Stainless-Arch: x64\r\n\
     X-Stainless-Runtime: CPython\r\n\
     X-Stainless-Runtime-Version: 3.12.11\r\n\
     X-Stainless-Async: async:asyncio\r\n\
     x-stainless-retry-count: 0\r\n\
     x-stainless-read-timeout: 600\r\n";

/// The answer that a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// One JSON text.
    Whole,
    /// So many events, one each so many microseconds; 0: as fast as they are taken.
    Stream { events: usize, pace_micros: u64 },
}

/// A request as bytes, and what it must be answered with.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) wanted: Wanted,
    pub(crate) bytes: Vec<u8>,
    pub(crate) digest: u64,
}

impl Ask {
    /// A chat request with a body of `size` bytes; `prompt` makes it another one.
    pub(crate) fn new(wanted: Wanted, size: usize, prompt: u64) -> Self {
        let (stream, events, pace) = match wanted {
            Wanted::Whole => (false, 1, 0),
            Wanted::Stream { events, pace_micros } => (true, events, pace_micros),
        };
        // In the order in which OpenAI's client writes them: the prompt comes before the model.
        let open = format!(r#"{{"messages":[{{"role":"user","content":"{prompt:016x} "#);
        // Numbers travel in fields that every router knows and passes on.
        let close = format!(
            r#""}}],"model":"bench","max_tokens":{events},"seed":{pace},"stream":{stream}}}"#
        );
        let filler = size.saturating_sub(open.len() + close.len());
        let text: String =
            "the quick brown fox jumps over it ".chars().cycle().take(filler).collect();
        let body = format!("{open}{text}{close}");
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: bench\r\n{SDK_HEADERS}Content-Length: {}\r\n\r\n",
            body.len()
        );
        let digest = digest(body.as_bytes());
        Self { wanted, bytes: [head.into_bytes(), body.into_bytes()].concat(), digest }
    }
}

/// What the body of a request asks for.
pub(crate) fn wanted_by(body: &[u8]) -> Wanted {
    let number = |name: &[u8]| {
        let at = memmem::rfind(body, name)? + name.len();
        let digits = body[at..].iter().take_while(|byte| byte.is_ascii_digit());
        Some(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
    };
    if memmem::rfind(body, b"\"stream\":true").is_none() {
        return Wanted::Whole;
    }
    let events = number(b"\"max_tokens\":").unwrap_or(1) as usize;
    Wanted::Stream { events, pace_micros: number(b"\"seed\":").unwrap_or(0) }
}

/// Of the bytes of a request's body, so that the answer can tell whether they arrived.
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    let words = bytes
        .chunks(8)
        .map(|word| word.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)));
    words.fold(bytes.len() as u64, |sum, word| {
        (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
    })
}

/// The whole answer to a request whose body has this digest.
pub(crate) fn whole(digest: u64) -> String {
    format!(
        r#"{{"id":"chatcmpl-bench","object":"chat.completion","created":1764288000,"model":"bench","choices":[{{"index":0,"message":{{"role":"assistant","content":"Six pounds of jute quiz my vet, so the big dwarf only jumps."}},"logprobs":null,"finish_reason":"stop"}}],"system_fingerprint":"fp_{digest:016x}","usage":{{"prompt_tokens":117,"total_tokens":133,"completion_tokens":16,"prompt_tokens_details":null}}}}"#
    )
}

/// All events, made once.
#[derive(Debug)]
pub(crate) struct Events {
    /// Their text, one after the other.
    text: Vec<u8>,
    /// The same, each as a chunk of HTTP/1.1.
    framed: Vec<Vec<u8>>,
    length: usize,
}

impl Events {
    pub(crate) fn new() -> Self {
        let events: Vec<Vec<u8>> = (0..DISTINCT).map(|nth| event(nth).into_bytes()).collect();
        let framed = events.iter().map(|event| frame(event)).collect();
        Self { length: events[0].len(), text: events.concat(), framed }
    }

    /// The `nth` event of a stream, as a chunk.
    pub(crate) fn framed(&self, nth: usize) -> &[u8] {
        &self.framed[nth % DISTINCT]
    }

    /// What follows the last event, as chunks.
    pub(crate) fn end() -> Vec<u8> {
        [&frame(STREAM_END)[..], b"0\r\n\r\n"].concat()
    }

    /// How many events end within the first `bytes` of a stream of so many.
    pub(crate) fn within(&self, bytes: usize, events: usize) -> usize {
        (bytes / self.length).min(events)
    }

    /// Length of a whole stream.
    pub(crate) fn total(&self, events: usize) -> usize {
        events * self.length + STREAM_END.len()
    }

    /// Whether `piece` is what a stream of `events` has from byte `at` on.
    pub(crate) fn have(&self, events: usize, mut at: usize, mut piece: &[u8]) -> bool {
        let tokens = events * self.length;
        while !piece.is_empty() {
            let due = if at < tokens {
                let from = at % self.text.len();
                let until = self.text.len().min(from + tokens - at);
                &self.text[from..until]
            } else {
                STREAM_END.get(at - tokens..).unwrap_or_default()
            };
            let both = due.len().min(piece.len());
            if both == 0 || due[..both] != piece[..both] {
                return false;
            }
            (at, piece) = (at + both, &piece[both..]);
        }
        true
    }
}

/// As vLLM 0.32 writes them.
fn event(nth: usize) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-0123456789abcdef0123456789abcdef\",\"object\":\"chat.completion.chunk\",\"created\":1764288000,\"model\":\"bench\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\" {nth:06}\"}},\"logprobs\":null,\"finish_reason\":null,\"token_ids\":null}}]}}\n\n"
    )
}

fn frame(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_recognised_however_it_is_cut_and_a_wrong_byte_is_not() {
        let (events, count) = (Events::new(), DISTINCT + 3);
        let framed: Vec<u8> =
            (0..count).flat_map(|nth| event(nth % DISTINCT).into_bytes()).collect();
        let mut stream = [&framed[..], STREAM_END].concat();
        assert_eq!(stream.len(), events.total(count));
        let mut at = 0;
        for piece in stream.chunks(997) {
            assert!(events.have(count, at, piece), "at {at}");
            at += piece.len();
        }
        assert!(!events.have(count, at, b"x"), "there is nothing behind the end");
        stream[1_000] ^= 1;
        assert!(!events.have(count, 0, &stream));
    }

    #[test]
    fn a_request_has_the_size_and_the_wishes_it_was_made_with() {
        let wanted = Wanted::Stream { events: 12, pace_micros: 345 };
        let ask = Ask::new(wanted, 512, 7);
        let body = &ask.bytes[ask.bytes.len() - 512..];
        assert_eq!((body[0], wanted_by(body)), (b'{', wanted));
        assert_eq!(digest(body), ask.digest);
        assert_ne!(Ask::new(wanted, 512, 8).digest, ask.digest);
    }
}
