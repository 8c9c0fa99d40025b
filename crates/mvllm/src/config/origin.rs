//! A web origin, for CORS.

use std::fmt;
use std::str::FromStr;

/// `*`, or an origin as browsers send it: scheme, host and port, nothing behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Any,
    Only(String),
}

/// Reads after the word "expected".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"*\" or an origin as a browser sends it: scheme://host[:port] in lower case, no path")]
pub struct OriginError;

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(typed: &str) -> Result<Self, OriginError> {
        if typed == "*" {
            return Ok(Self::Any);
        }
        let (scheme, rest) = typed.split_once("://").ok_or(OriginError)?;
        // Extensions and desktop shells have schemes of their own (chrome-extension, tauri).
        let scheme_fits = scheme.starts_with(|c: char| c.is_ascii_lowercase())
            && scheme
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b));
        // A path, a '*' within or a capital letter would never equal what a browser sends
        // (RFC 6454, 6.2), so the line would silently do nothing.
        let rest_fits = !rest.is_empty()
            && rest.bytes().all(|b| {
                b.is_ascii_graphic() && !b.is_ascii_uppercase() && !b"/*?#@\"'".contains(&b)
            });
        if scheme_fits && rest_fits { Ok(Self::Only(typed.to_owned())) } else { Err(OriginError) }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Only(origin) => f.write_str(origin),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_a_scheme_a_host_and_perhaps_a_port() {
        assert_eq!("*".parse(), Ok(Origin::Any));
        for text in
            ["http://localhost:3000", "https://chat.lan", "chrome-extension://abc", "http://[::1]"]
        {
            assert_eq!(text.parse(), Ok(Origin::Only(text.to_owned())));
        }
    }

    #[test]
    fn what_a_browser_never_sends_is_refused() {
        for text in
            ["", "chat.lan", "https://", "https://chat.lan/", "https://*.lan", "https://Chat.lan"]
        {
            assert_eq!(text.parse::<Origin>(), Err(OriginError), "{text}");
        }
    }
}
