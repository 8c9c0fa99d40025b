//! `/v1/audio/transcriptions`: a multipart upload, answered with a text that depends on its length.

use hyper::header::CONTENT_TYPE;
use hyper::{Response, StatusCode};
use serde_json::json;

use super::ask::{Ask, Served};
use super::call::Call;
use super::error::ApiError;
use super::fields::Fields;
use super::reply::{self, Reply};
use crate::tokenizer::encode;

/// A transcript's greatest length.
const MAX_TOKENS: usize = 32;
/// 16 bit samples at 16 kHz: what an upload's length means in seconds.
const BYTES_PER_SECOND: usize = 32_000;

/// Writes down a recording that nobody hears.
pub(super) async fn transcriptions(call: &Call) -> Result<Response<Reply>, ApiError> {
    let content_type = call.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let boundary = content_type.and_then(boundary).unwrap_or_default();
    let parts = parts(&call.body, boundary);
    let part = |name| parts.iter().find(|part| part.name == name).map(|part| part.content);
    let model = part("model").map(String::from_utf8_lossy);
    let fields = Fields::from(json!({ "model": model }));
    let file = part("file").ok_or_else(|| fields.missing(&["file"]))?;
    let served = Served::find(&call.server, &fields)?;
    let prompt = encode(&format!("A recording of {} bytes says:\n", file.len()));
    let mut ask = Ask::new(served, vec![prompt]).sampling(&fields, &call.headers)?;
    ask.max_tokens = Some(MAX_TOKENS);
    let text: String =
        call.submit(ask)?.whole().await.into_iter().map(|delta| delta.text).collect();
    let seconds = file.len().div_ceil(BYTES_PER_SECOND);
    let body = json!({ "text": text, "usage": { "type": "duration", "seconds": seconds } });
    Ok(reply::json(StatusCode::OK, &body))
}

fn boundary(content_type: &str) -> Option<&str> {
    let parameters = content_type.strip_prefix("multipart/form-data")?;
    let boundary = parameters.split(';').find_map(|p| p.trim().strip_prefix("boundary="))?;
    Some(boundary.trim_matches('"'))
}

#[derive(Debug, PartialEq, Eq)]
struct Part<'a> {
    name: &'a str,
    content: &'a [u8],
}

/// The parts of a multipart body (RFC 2046 section 5.1.1). What is malformed is left out.
fn parts<'a>(body: &'a [u8], boundary: &str) -> Vec<Part<'a>> {
    let delimiter = format!("--{boundary}");
    let ends = find_all(body, delimiter.as_bytes());
    ends.windows(2)
        .filter_map(|pair| {
            let section = &body[pair[0] + delimiter.len()..pair[1]];
            let head_end = find_all(section, b"\r\n\r\n").first().copied()?;
            let head = std::str::from_utf8(&section[..head_end]).ok()?;
            let (_, name) = head.split_once(" name=\"")?;
            let (name, _) = name.split_once('"')?;
            Some(Part { name, content: section[head_end + 4..].strip_suffix(b"\r\n")? })
        })
        .collect()
}

fn find_all(haystack: &[u8], needle: &[u8]) -> Vec<usize> {
    let found = haystack.windows(needle.len()).enumerate().filter(|(_, window)| *window == needle);
    found.map(|(at, _)| at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_whatever_they_contain() {
        let body = b"--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nsim\r\n--x\r\n\
            Content-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\
            Content-Type: audio/wav\r\n\r\n\x00\r\n\xff\r\n--x--\r\n";
        let expected = [
            Part { name: "model", content: b"sim" },
            Part { name: "file", content: b"\x00\r\n\xff" },
        ];
        assert_eq!(parts(body, "x"), expected);
        assert_eq!(parts(b"nonsense", "x"), []);
    }

    #[test]
    fn the_boundary_may_stand_in_quotes() {
        assert_eq!(boundary("multipart/form-data; boundary=\"x y\""), Some("x y"));
        assert_eq!(boundary("multipart/form-data; charset=utf-8; boundary=z"), Some("z"));
        assert_eq!(boundary("application/json"), None);
    }
}
