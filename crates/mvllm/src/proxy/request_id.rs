//! The id of a request: the client's own, or one made here. vLLM takes it from `X-Request-Id` for
//! its own logs and puts it into the ids of its answers, so all three sides speak of the same thing.

use http::HeaderName;
use http::header::{HeaderMap, HeaderValue};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// vLLM repeats the id in every event of a stream; a longer one would be paid for with each token.
const LENGTH_MAX: usize = 128;

/// The id that the client gave, if it is fit to be one, else a new one; the headers carry it on.
pub(super) fn settle(headers: &mut HeaderMap, random: &mut fastrand::Rng) -> String {
    let given = headers.get(X_REQUEST_ID).and_then(|id| id.to_str().ok()).filter(|id| is_fit(id));
    if let Some(id) = given {
        return id.to_owned();
    }
    let id = format!("{:016x}", random.u64(..));
    if let Ok(value) = HeaderValue::try_from(id.as_str()) {
        headers.insert(X_REQUEST_ID, value);
    }
    id
}

/// Puts the id on an answer that has none.
pub(super) fn put_on(headers: &mut HeaderMap, id: &str) {
    if !headers.contains_key(X_REQUEST_ID)
        && let Ok(value) = HeaderValue::try_from(id)
    {
        headers.insert(X_REQUEST_ID, value);
    }
}

/// Letters, digits and a few signs: nothing that could break a log line or a JSON string.
fn is_fit(id: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(&byte);
    !id.is_empty() && id.len() <= LENGTH_MAX && id.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(given: Option<&str>) -> (String, HeaderValue) {
        let mut headers = HeaderMap::new();
        if let Some(given) = given {
            headers.insert(X_REQUEST_ID, given.parse().unwrap());
        }
        let id = settle(&mut headers, &mut fastrand::Rng::with_seed(1));
        (id, headers[X_REQUEST_ID].clone())
    }

    #[test]
    fn the_clients_id_is_kept_and_a_missing_one_is_made() {
        assert_eq!(settled(Some("req-1.a:b")), ("req-1.a:b".into(), "req-1.a:b".parse().unwrap()));
        let (made, header) = settled(None);
        assert_eq!((made.len(), made.as_str()), (16, header.to_str().unwrap()));
    }

    #[test]
    fn an_id_that_could_do_harm_is_replaced() {
        for unfit in ["", "a b", "a\"b", &"x".repeat(129)] {
            assert_eq!(settled(Some(unfit)).0.len(), 16, "{unfit}");
        }
    }
}
