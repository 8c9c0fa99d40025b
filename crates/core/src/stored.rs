//! Responses that a server stores (`/v1/responses`): they live in the memory of the one that gave
//! them (vllm/entrypoints/openai/responses/serving.py), so whatever names one must go there.

use alloc::borrow::Cow;

use crate::json::{Value, members};

/// The id that a path names: that of `/v1/responses/{id}` and of all below it.
pub fn id_in_path(path: &str) -> Option<&str> {
    let id = path.strip_prefix("/v1/responses/")?.split('/').next()?;
    (!id.is_empty()).then_some(id)
}

/// The id of the response that an answer holds or begins to tell: a member of the object itself, or
/// of `response` in the data of the first event.
pub fn id_in_answer(answer: &[u8]) -> Option<Cow<'_, str>> {
    let answer = answer.trim_ascii_start();
    if answer.starts_with(b"{") {
        return id_of(answer);
    }
    let mut lines = answer.split(|&byte| matches!(byte, b'\n' | b'\r'));
    let data = lines.find_map(|line| line.strip_prefix(b"data:"))?;
    match member(data, b"response")? {
        Value::Container(response) => id_of(response),
        _ => None,
    }
}

fn id_of(response: &[u8]) -> Option<Cow<'_, str>> {
    member(response, b"id")?.text()
}

fn member<'a>(object: &'a [u8], wanted: &[u8]) -> Option<Value<'a>> {
    let mut found = None;
    members(object, |name, value| {
        if name == wanted {
            found = Some(value);
        }
    })?;
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_response_or_something_of_it() {
        assert_eq!(id_in_path("/v1/responses/resp_1"), Some("resp_1"));
        assert_eq!(id_in_path("/v1/responses/resp_1/cancel"), Some("resp_1"));
        for path in ["/v1/responses", "/v1/responses/", "/v1/responses//x", "/v1/chat/resp_1"] {
            assert_eq!(id_in_path(path), None, "{path}");
        }
    }

    #[test]
    fn an_answer_tells_its_id_whole_or_with_its_first_event() {
        let check = |answer: &str, id: Option<&str>| {
            assert_eq!(id_in_answer(answer.as_bytes()).as_deref(), id, "{answer}");
        };
        check(r#"{"id":"resp_1","output":[{"id":"msg_1"}]}"#, Some("resp_1"));
        check(r#"{"output":[{"id":"msg_1"}]}"#, None);
        let created = r#"{"response":{"id":"resp_2","output":[]},"sequence_number":0}"#;
        check(&std::format!("event: response.created\ndata: {created}\n\n"), Some("resp_2"));
        check(&std::format!("data:{created}\r\n\r\ndata: {{\"response\":1"), Some("resp_2"));
        check("data: {\"id\":\"chatcmpl-1\"}\n\n", None);
        check("data: {\"response\":{\"id\":\"re", None);
        check("", None);
    }
}
