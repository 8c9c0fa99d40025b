//! What is read of request bodies, against a full JSON parser, and against forms that were built
//! from the answer.

use std::borrow::Cow;

use mvllm_core::json_fields::scan;
use mvllm_core::multipart::{PARTS_MAX, VALUE_MAX, field};
use serde_json::{Value, json};

/// As JSON, as text within JSON, as a form, and as the content of a form.
pub fn check(input: &[u8]) {
    json_means_what_a_parser_says(input);
    any_text_comes_back(input);
    let (first_line, rest) = split(input, b'\n');
    let content_type = String::from_utf8_lossy(first_line);
    let _ = field(&content_type, rest, "model");
    a_form_gives_its_last_text_field(input);
}

fn split(input: &[u8], at: u8) -> (&[u8], &[u8]) {
    let end = input.iter().position(|&byte| byte == at).unwrap_or(input.len());
    (&input[..end], input.get(end + 1..).unwrap_or_default())
}

fn json_means_what_a_parser_says(input: &[u8]) {
    let fields = scan(input);
    let text = input.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(input);
    // What the parser refuses may still have been read: only the outline is checked.
    let Ok(value) = serde_json::from_slice::<Value>(text) else { return };
    let text_of = |name: &str| value.get(name).and_then(Value::as_str).map(Cow::Borrowed);
    let flag = value.get("stream").and_then(Value::as_bool);
    let said = (fields.model, fields.stream, fields.previous_response_id, fields.session_id);
    let meant = (text_of("model"), flag, text_of("previous_response_id"), text_of("session_id"));
    assert_eq!(said, meant, "{}", String::from_utf8_lossy(input));
}

fn any_text_comes_back(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let body = json!({
        "messages": [{ "role": "user", "content": text, "model": "not this" }, { "stream": [[]] }],
        "model": text,
        "stream": input.len().is_multiple_of(2),
        "session_id": text,
    });
    let body = body.to_string();
    let fields = scan(body.as_bytes());
    assert_eq!(fields.model.as_deref(), Some(&*text));
    assert_eq!(fields.session_id.as_deref(), Some(&*text));
    assert_eq!(fields.stream, Some(input.len().is_multiple_of(2)));
    assert_eq!(fields.previous_response_id, None);
}

/// What a part of a form is.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Model,
    OtherField,
    File,
}

const BOUNDARIES: [&str; 3] = ["x", "----WebKitFormBoundary7MA4YWxk", "a b'()+_,-./:=?"];

/// The first byte says which boundary; then parts, each of a byte for its kind, one for its length,
/// and the content.
fn a_form_gives_its_last_text_field(input: &[u8]) {
    let Some((&first, mut rest)) = input.split_first() else { return };
    let boundary = BOUNDARIES[usize::from(first) % BOUNDARIES.len()];
    let delimiter = format!("\r\n--{boundary}");
    let mut body = format!("--{boundary}").into_bytes();
    let mut expected = None;
    for _ in 0..PARTS_MAX {
        let [kind, length, behind @ ..] = rest else { break };
        let (content, behind) = behind.split_at(usize::from(*length).min(behind.len()));
        rest = behind;
        // A form that holds its own boundary in a part, or at once behind its headers, is another
        // form.
        if contains(&[b"\r\n", content].concat(), delimiter.as_bytes()) {
            continue;
        }
        let kind = [Part::Model, Part::OtherField, Part::File][usize::from(*kind) % 3];
        body.extend_from_slice(headers(kind).as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(delimiter.as_bytes());
        if kind == Part::Model {
            expected = Some(content);
        }
    }
    body.extend_from_slice(b"--\r\nepilogue");
    let content_type = format!("multipart/form-data; charset=utf-8; boundary=\"{boundary}\"");
    let expected = expected.filter(|value| value.len() <= VALUE_MAX);
    let expected = expected.and_then(|value| str::from_utf8(value).ok());
    assert_eq!(field(&content_type, &body, "model"), expected);
}

fn headers(kind: Part) -> &'static str {
    match kind {
        Part::Model => "\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n",
        Part::OtherField => {
            "\r\nContent-Type: text/plain\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\n"
        }
        Part::File => {
            "\r\ncontent-disposition: form-data; name=model; filename=\"a;b.wav\"\r\n\r\n"
        }
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
