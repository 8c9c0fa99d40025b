//! A value that is compared or sent, and never shown.

use std::fmt;

use http::HeaderValue;

/// A key; perhaps none.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Whether there is no key.
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// As the value of an `Authorization` header (RFC 6750, section 2.1), if there is a key.
    pub fn bearer(&self) -> Option<HeaderValue> {
        let text = format!("Bearer {}", self.0);
        let mut value = HeaderValue::try_from(text).ok().filter(|_| !self.is_none())?;
        // Not in the debug output of any header map either.
        value.set_sensitive(true);
        Some(value)
    }

    /// Whether `given` is the key; takes a time that does not tell how much of a guess is right.
    pub fn is(&self, given: &[u8]) -> bool {
        let key = self.0.as_bytes();
        let differing = given.iter().zip(key).fold(0, |differing, (a, b)| differing | (a ^ b));
        !key.is_empty() && given.len() == key.len() && std::hint::black_box(differing) == 0
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_none() { "\"\"" } else { "\"***\"" })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_compared_and_never_shown() {
        let secret = Secret::new("k1");
        assert!(secret.is(b"k1"));
        for wrong in [&b"k2"[..], b"k", b"k11", b""] {
            assert!(!secret.is(wrong), "{wrong:?}");
        }
        assert!(!Secret::default().is(b""));
        assert_eq!(format!("{secret} {secret:?} {}", Secret::default()), r#""***" "***" """#);
        let bearer = secret.bearer().unwrap();
        assert_eq!(bearer, "Bearer k1");
        assert_eq!(format!("{bearer:?}"), "Sensitive");
        assert_eq!(Secret::default().bearer(), None);
    }
}
