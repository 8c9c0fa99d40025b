//! Which headers travel on. All but those that speak of the connection, which is another one on
//! the other side of a proxy.

use http::Version;
use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HeaderMap, HeaderName, HeaderValue,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::response::Parts;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// RFC 9110, section 7.6.1: what an intermediary removes whether `Connection` names it or not.
/// `HTTP2-Settings` belongs to the `Upgrade: h2c` offer of RFC 7540, section 3.2.1, which Java's
/// client makes on every plain connection and which uvicorn mistakes for a body-less request.
const HOP_BY_HOP: [HeaderName; 10] = [
    CONNECTION,
    PROXY_CONNECTION,
    KEEP_ALIVE,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HTTP2_SETTINGS,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
];

/// Makes a client's headers those of a request to a server with a body of known length.
pub(super) fn for_server(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    headers.remove(EXPECT);
    // Set anew by the length of what is really sent.
    headers.remove(CONTENT_LENGTH);
    join_cookies(headers);
}

/// Makes a server's head that of an answer to the client.
pub(super) fn for_client(head: &mut Parts) {
    // Of two lengths the chunks' is the true one (RFC 9112, section 6.3).
    if head.headers.contains_key(TRANSFER_ENCODING) {
        head.headers.remove(CONTENT_LENGTH);
    }
    strip_hop_by_hop(&mut head.headers);
    // The version is the connection's: a server's 1.0 would keep the client from being kept alive.
    head.version = Version::HTTP_11;
}

/// As [`for_client`], for an event stream: should it break, an event of ours is added, so its length
/// is not known before its end.
pub(super) fn for_client_of_events(head: &mut Parts) {
    for_client(head);
    head.headers.remove(CONTENT_LENGTH);
}

/// Whether the client asks to change to another protocol than HTTP.
pub(super) fn asks_for_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let protocol = headers.get(UPGRADE)?;
    let named = connection_options(headers).any(|option| option.eq_ignore_ascii_case("upgrade"));
    let to_http =
        protocol.as_bytes().len() >= 2 && protocol.as_bytes()[..2].eq_ignore_ascii_case(b"h2");
    (named && !to_http).then(|| protocol.clone())
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> =
            connection_options(headers).filter_map(|option| option.parse().ok()).collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(CONNECTION)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|option| !option.is_empty())
}

/// HTTP/2 clients may send one `Cookie` header a crumb; HTTP/1.1 knows only one (RFC 9113,
/// section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).into_iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> =
        headers.get_all(COOKIE).into_iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect()
    }

    fn sent(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = map(lines);
        for_server(&mut headers);
        headers
    }

    #[test]
    fn what_the_connection_names_stays_on_it() {
        let headers = sent(&[
            ("connection", "keep-alive, X-Private"),
            ("connection", "x-other"),
            ("x-private", "1"),
            ("x-other", "2"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("authorization", "Bearer k"),
        ]);
        assert_eq!(headers, map(&[("authorization", "Bearer k")]));
    }

    #[test]
    fn the_h2c_offer_of_javas_client_is_not_passed_on_and_no_upgrade() {
        let offer = map(&[
            ("connection", "Upgrade, HTTP2-Settings"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA"),
        ]);
        assert_eq!(asks_for_upgrade(&offer), None);
        let mut headers = offer;
        for_server(&mut headers);
        assert_eq!(headers, map(&[]));
    }

    #[test]
    fn an_upgrade_must_be_named_by_connection() {
        let websocket = [("upgrade", "websocket"), ("connection", "keep-alive, Upgrade")];
        assert_eq!(asks_for_upgrade(&map(&websocket)).unwrap(), "websocket");
        assert_eq!(asks_for_upgrade(&map(&websocket[..1])), None);
    }

    #[test]
    fn cookie_crumbs_are_joined() {
        let headers = sent(&[("cookie", "a=1"), ("cookie", "b=2")]);
        assert_eq!(headers, map(&[("cookie", "a=1; b=2")]));
    }

    #[test]
    fn headers_of_the_same_name_all_travel() {
        let lines = [("set-cookie", "a=1"), ("set-cookie", "b=2"), ("x-odd", "\t~")];
        let (mut head, ()) = http::Response::new(()).into_parts();
        head.headers = map(&lines);
        for_client(&mut head);
        assert_eq!(head.headers, map(&lines));
    }
}
