//! The url of a server: parsed once, shown as it was written.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Where a server listens. Keeps the text as the operator wrote it, without trailing slashes:
/// existing dashboards and scripts find their servers by this text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerUrl {
    text: String,
    scheme: Scheme,
    host: Host,
    port: u16,
    /// Where in `text` the path prefix begins.
    path_start: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    Http,
    Https,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// In lower case; to be resolved.
    Name(String),
    V4(Ipv4Addr),
    V6(Ipv6Addr),
}

/// Reads after the word "expected".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    #[error("a url that begins with http:// or https://")]
    Scheme,
    #[error("a host after the ://")]
    NoHost,
    #[error("a host name of letters, digits, '-', '_' and '.' (other scripts as xn--...)")]
    HostName,
    #[error("an IPv4 address of four numbers from 0 to 255")]
    Ipv4,
    #[error("an IPv6 address in brackets, without a zone, like [2001:db8::1]")]
    Ipv6,
    #[error("a port from 1 to 65535 after the ':'")]
    Port,
    #[error("a url without credentials: mvllm sends a server the client's own Authorization")]
    Credentials,
    #[error("a url without a query (from '?' on)")]
    Query,
    #[error("a url without a fragment (from '#' on)")]
    Fragment,
    #[error("a path without spaces, control characters and letters that need %-encoding")]
    Path,
}

impl ServerUrl {
    /// As written, without trailing slashes.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    pub fn host(&self) -> &Host {
        &self.host
    }

    /// As written, else the scheme's.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host` or `host:port` as written: what the Host header of a request to the server says.
    pub fn authority(&self) -> &str {
        &self.text[self.scheme.prefix().len()..self.path_start]
    }

    /// Empty, or a path that begins with `/` and does not end in one; goes in front of every
    /// request's path.
    pub fn path_prefix(&self) -> &str {
        &self.text[self.path_start..]
    }

    /// Equal for urls that reach the same server, however they are written: `http://a` and
    /// `http://A:80`.
    pub fn address(&self) -> (Scheme, &Host, u16, &str) {
        (self.scheme, &self.host, self.port, self.path_prefix())
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for ServerUrl {
    type Err = UrlError;

    fn from_str(typed: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = split_scheme(typed)?;
        if rest.contains('#') {
            return Err(UrlError::Fragment);
        }
        if rest.contains('?') {
            return Err(UrlError::Query);
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(UrlError::Credentials);
        }
        let (host, port) = split_port(authority)?;
        // RFC 3986, 3.3: `pchar`, here without its rarer half: what a path to mount under needs.
        if !path.bytes().all(|b| b.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&b)) {
            return Err(UrlError::Path);
        }
        Ok(Self {
            text: typed.trim_end_matches('/').to_owned(),
            scheme,
            host: host.parse()?,
            port: port.unwrap_or(scheme.default_port()),
            path_start: scheme.prefix().len() + authority.len(),
        })
    }
}

impl Scheme {
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Http => "http://",
            Self::Https => "https://",
        }
    }
}

impl FromStr for Host {
    type Err = UrlError;

    fn from_str(typed: &str) -> Result<Self, UrlError> {
        if let Some(inner) = typed.strip_prefix('[') {
            let address = inner.strip_suffix(']').ok_or(UrlError::Ipv6)?;
            return address.parse().map(Self::V6).map_err(|_| UrlError::Ipv6);
        }
        if typed.contains(':') {
            return Err(UrlError::Ipv6);
        }
        if typed.is_empty() {
            return Err(UrlError::NoHost);
        }
        let labels: Vec<&str> = typed.strip_suffix('.').unwrap_or(typed).split('.').collect();
        // The rule of the URL Standard ("ends in a number"): 10.0.0.256 is a slip, not a name.
        if labels
            .last()
            .is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit()) && !label.is_empty())
        {
            return typed.parse().map(Self::V4).map_err(|_| UrlError::Ipv4);
        }
        // '_' is not for host names (RFC 952), but service names of Docker Compose have it.
        let fits = |label: &&str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if typed.len() > 253 || !labels.iter().all(fits) {
            return Err(UrlError::HostName);
        }
        Ok(Self::Name(typed.to_ascii_lowercase()))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::V4(address) => address.fmt(f),
            Self::V6(address) => write!(f, "[{address}]"),
        }
    }
}

fn split_scheme(typed: &str) -> Result<(Scheme, &str), UrlError> {
    for scheme in [Scheme::Http, Scheme::Https] {
        let prefix = scheme.prefix();
        // RFC 3986, 3.1: schemes are case-insensitive.
        if typed.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)) {
            return Ok((scheme, &typed[prefix.len()..]));
        }
    }
    Err(UrlError::Scheme)
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), UrlError> {
    let host_end = match authority.find(']') {
        Some(bracket) => bracket + 1,
        None if authority.matches(':').count() > 1 => return Err(UrlError::Ipv6),
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, rest) = authority.split_at(host_end);
    if rest.is_empty() {
        return Ok((host, None));
    }
    let digits = rest.strip_prefix(':').ok_or(UrlError::Ipv6)?;
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(UrlError::Port);
    }
    match digits.parse() {
        Ok(0) | Err(_) => Err(UrlError::Port),
        Ok(port) => Ok((host, Some(port))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> ServerUrl {
        text.parse().unwrap()
    }

    fn parts(text: &str) -> (Scheme, String, u16, String, String) {
        let url = url(text);
        let (authority, prefix) = (url.authority().to_owned(), url.path_prefix().to_owned());
        (url.scheme(), url.host().to_string(), url.port(), authority, prefix)
    }

    #[test]
    fn a_url_is_taken_apart() {
        let check = |text, scheme, host: &str, port, authority: &str, prefix: &str| {
            assert_eq!(parts(text), (scheme, host.into(), port, authority.into(), prefix.into()));
        };
        check("http://gpu-1:8000", Scheme::Http, "gpu-1", 8000, "gpu-1:8000", "");
        check("https://vllm_1.lan", Scheme::Https, "vllm_1.lan", 443, "vllm_1.lan", "");
        check("http://10.0.0.7/a/b", Scheme::Http, "10.0.0.7", 80, "10.0.0.7", "/a/b");
        check("http://[::1]:8000/x", Scheme::Http, "[::1]", 8000, "[::1]:8000", "/x");
        check("HTTP://GPU.lan.:80", Scheme::Http, "gpu.lan.", 80, "GPU.lan.:80", "");
    }

    #[test]
    fn the_text_stays_as_written_but_for_trailing_slashes() {
        assert_eq!(url("http://GPU:8000/").as_str(), "http://GPU:8000");
        assert_eq!(url("http://gpu:8000/pool//").to_string(), "http://gpu:8000/pool");
        assert_eq!(url("http://gpu//").path_prefix(), "");
    }

    #[test]
    fn one_address_may_be_written_in_several_ways() {
        assert_eq!(url("http://gpu").address(), url("http://GPU:80/").address());
        assert_eq!(url("http://[::1]").address(), url("http://[0::1]:80").address());
        assert_ne!(url("http://gpu/a").address(), url("http://gpu/b").address());
        assert_ne!(url("http://gpu:443").address(), url("https://gpu").address());
    }

    #[test]
    fn a_wrong_url_says_which_part_is_wrong() {
        let check = |text: &str, expected| {
            assert_eq!(text.parse::<ServerUrl>(), Err(expected), "{text}");
        };
        for text in ["", "gpu:8000", "ftp://gpu", "http:/gpu", " http://gpu", "http"] {
            check(text, UrlError::Scheme);
        }
        for text in ["http://", "http:///v1", "http://:8000"] {
            check(text, UrlError::NoHost);
        }
        for text in ["http://a..b", "http://.", "http://ümlaut", "http://a b", "http://a%41"] {
            check(text, UrlError::HostName);
        }
        check(&format!("http://{}", "a".repeat(64)), UrlError::HostName);
        for text in ["http://10.0.0.256", "http://10.0.1", "http://1.2.3.4.5:80"] {
            check(text, UrlError::Ipv4);
        }
        for text in ["http://::1:80", "http://[::1", "http://[::1]80", "http://[fe80::1%eth0]"] {
            check(text, UrlError::Ipv6);
        }
        for text in ["http://a:", "http://a:0", "http://a:65536", "http://a:+80", "http://a:8x"] {
            check(text, UrlError::Port);
        }
        check("http://user:secret@gpu", UrlError::Credentials);
        check("http://gpu/?key=1", UrlError::Query);
        check("http://gpu#top", UrlError::Fragment);
        check("http://gpu/a b", UrlError::Path);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_url_or_an_error(text in "(http|https|HTTP)?(://)?[a-z0-9:@\\[\\]./?# ü-]{0,24}") {
            if let Ok(url) = text.parse::<ServerUrl>() {
                assert!(text.starts_with(url.as_str()));
                assert_eq!(url.as_str().parse::<ServerUrl>().as_ref(), Ok(&url));
                assert!(url.path_prefix().is_empty() || url.path_prefix().starts_with('/'));
                assert!(!url.authority().is_empty());
            }
        }
    }
}
