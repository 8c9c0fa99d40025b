//! The name of an HTTP header.

use http::HeaderName;
use toml::Spanned;
use toml::de::DeValue;

use super::kind::{Kind, Misfit, Optional, misfit, quoted};

/// The name of a header, in any case of its letters.
pub(super) struct Header {
    pub(super) default: &'static str,
}

impl Kind for Header {
    type Value = HeaderName;

    fn read(&self, found: &Spanned<DeValue<'_>>) -> Result<HeaderName, Vec<Misfit>> {
        match found.get_ref() {
            DeValue::String(text) => text.parse().map_err(|_| misfit(self, found)),
            _ => Err(misfit(self, found)),
        }
    }

    fn show(&self, value: &HeaderName) -> String {
        quoted(value)
    }

    fn expected(&self) -> String {
        "the name of an HTTP header, in quotes".into()
    }

    fn example(&self) -> String {
        quoted("x-conversation-id")
    }
}

impl Optional for Header {
    fn default(&self) -> HeaderName {
        HeaderName::from_static(self.default)
    }
}
