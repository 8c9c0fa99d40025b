//! The kinds of values in the file: how each is read, bounded, shown and described.

use std::fmt::Display;
use std::num::NonZeroU32;
use std::ops::Range;
use std::str::FromStr;
use std::time::Duration;

use mvllm_core::policy::Policy;
use toml::Spanned;
use toml::de::DeValue;

use super::lax::{number, switch, whole};
use super::secret::Secret;
use super::url::{ServerUrl, UrlError};

/// About 31 years: "never" for every purpose, and far from where adding to a clock overflows.
pub const SECONDS_MAX: u64 = 1_000_000_000;

/// How values of one kind are read and described.
pub trait Kind {
    type Value: Clone + PartialEq;

    /// Every misfit of the value: a list may have several.
    fn read(&self, found: &Spanned<DeValue<'_>>) -> Result<Self::Value, Vec<Misfit>>;

    /// As it would stand in the file.
    fn show(&self, value: &Self::Value) -> String;

    /// Reads after the word "expected"; names unit and bounds.
    fn expected(&self) -> String;

    /// A value that is right, as it would stand in the file.
    fn example(&self) -> String;
}

/// A kind whose declaration says what holds when the key is absent.
pub trait Optional: Kind {
    fn default(&self) -> Self::Value;
}

/// Where and why a value does not fit.
#[derive(Debug)]
pub struct Misfit {
    /// Behind the key: `[3]` for an entry of a list.
    pub suffix: String,
    pub span: Range<usize>,
    pub expected: String,
    /// The value that was probably meant, as it would stand in the file.
    pub meant: Option<String>,
}

/// A span of time in whole seconds.
pub struct WholeSeconds {
    pub default: u64,
    pub min: u64,
}

/// A span of time in seconds, with fractions.
pub struct Seconds {
    pub default: f64,
    pub min: f64,
}

/// A number of things.
pub struct Count {
    pub default: u32,
    pub max: u32,
}

/// A number of things, at least one.
pub struct Positive {
    pub default: NonZeroU32,
    pub max: u32,
}

/// A size in bytes.
pub struct Bytes {
    pub default: usize,
    pub min: usize,
}

/// From 0 to 1.
pub struct Ratio {
    pub default: f64,
}

/// A text that is not to be shown.
pub struct Key;

/// On or off.
pub struct Switch {
    pub default: bool,
}

/// The name of a policy.
pub struct PolicyName;

/// The url of a server.
pub struct Url;

/// A list of texts, each with a syntax of its own.
pub struct List<T> {
    pub of: &'static str,
    pub default: fn() -> Vec<T>,
    pub example: &'static str,
}

impl Kind for WholeSeconds {
    type Value = Duration;

    fn read(&self, found: &Spanned<DeValue<'_>>) -> Result<Duration, Vec<Misfit>> {
        let seconds = whole(found.get_ref()).and_then(|number| u64::try_from(number).ok());
        let fits = |seconds: &u64| (self.min..=SECONDS_MAX).contains(seconds);
        seconds.filter(fits).map(Duration::from_secs).ok_or_else(|| misfit(self, found))
    }

    fn show(&self, value: &Duration) -> String {
        value.as_secs().to_string()
    }

    fn expected(&self) -> String {
        format!("a whole number of seconds, at least {}", self.min)
    }

    fn example(&self) -> String {
        self.default.to_string()
    }
}

impl Optional for WholeSeconds {
    fn default(&self) -> Duration {
        Duration::from_secs(self.default)
    }
}

impl Kind for Seconds {
    type Value = Duration;

    #[expect(clippy::cast_precision_loss, reason = "10^9 is exact in an f64")]
    fn read(&self, found: &Spanned<DeValue<'_>>) -> Result<Duration, Vec<Misfit>> {
        let fits = |seconds: &f64| (self.min..=SECONDS_MAX as f64).contains(seconds);
        number(found.get_ref())
            .filter(fits)
            .map(Duration::from_secs_f64)
            .ok_or_else(|| misfit(self, found))
    }

    fn show(&self, value: &Duration) -> String {
        format!("{:?}", value.as_secs_f64())
    }

    fn expected(&self) -> String {
        format!("a number of seconds, at least {}", self.min)
    }

    fn example(&self) -> String {
        format!("{:?}", self.default)
    }
}

impl Optional for Seconds {
    fn default(&self) -> Duration {
        Duration::from_secs_f64(self.default)
    }
}

impl Kind for Count {
    type Value = u32;

    fn read(&self, found: &Spanned<DeValue<'_>>) -> Result<u32, Vec<Misfit>> {
        let count = whole(found.get_ref()).and_then(|number| u32::try_from(number).ok());
        count.filter(|count| *count <= self.max).ok_or_else(|| misfit(self, found))
    }

    fn show(&self, value: &u32) -> String {
        value.to_string()
    }

    fn expected(&self) -> String {
        format!("a whole number from 0 to {}", self.max)
    }

    fn example(&self) -> String {
        self.default.to_string()
    }
}

impl Optional for Count {
    fn default(&self) -> u32 {
        self.default
    }
}

impl Kind for Positive {
    type Value = NonZeroU32;

    fn read(&self, found: &Spanned<DeValue<'_>>) -> Result<NonZeroU32, Vec<Misfit>> {
        let count = whole(found.get_ref()).and_then(|number| u32::try_from(number).ok());
        let count = count.filter(|count| *count <= self.max).and_then(NonZeroU32::new);
        count.ok_or_else(|| misfit(self, found))
    }

    fn show(&self, value: &NonZeroU32) -> String {
        value.to_string()
    }

    fn expected(&self) -> String {
        format!("a whole number from 1 to {}", self.max)
    }

    fn example(&self) -> String {
        self.default.to_string()
    }
}

impl Optional for Positive {
    fn default(&self) -> NonZeroU32 {
        self.default
    }
}

impl Kind for Bytes {
    type Value = usize;

    fn read(&self, found: &Spanned<DeValue<'_>>) -> Result<usize, Vec<Misfit>> {
        let bytes = whole(found.get_ref()).and_then(|number| usize::try_from(number).ok());
        bytes.filter(|bytes| *bytes >= self.min).ok_or_else(|| misfit(self, found))
    }

    fn show(&self, value: &usize) -> String {
        value.to_string()
    }

    fn expected(&self) -> String {
        format!("a whole number of bytes, at least {}", self.min)
    }

    fn example(&self) -> String {
        self.default.to_string()
    }
}

impl Optional for Bytes {
    fn default(&self) -> usize {
        self.default
    }
}

impl Kind for Ratio {
    type Value = f64;

    fn read(&self, found: &Spanned<DeValue<'_>>) -> Result<f64, Vec<Misfit>> {
        let fits = |ratio: &f64| (0.0..=1.0).contains(ratio);
        number(found.get_ref()).filter(fits).ok_or_else(|| misfit(self, found))
    }

    fn show(&self, value: &f64) -> String {
        format!("{value:?}")
    }

    fn expected(&self) -> String {
        "a number from 0 to 1".into()
    }

    fn example(&self) -> String {
        self.show(&self.default)
    }
}

impl Optional for Ratio {
    fn default(&self) -> f64 {
        self.default
    }
}

impl Kind for Switch {
    type Value = bool;

    fn read(&self, found: &Spanned<DeValue<'_>>) -> Result<bool, Vec<Misfit>> {
        switch(found.get_ref()).ok_or_else(|| misfit(self, found))
    }

    fn show(&self, value: &bool) -> String {
        value.to_string()
    }

    fn expected(&self) -> String {
        "true or false".into()
    }

    fn example(&self) -> String {
        self.default.to_string()
    }
}

impl Optional for Switch {
    fn default(&self) -> bool {
        self.default
    }
}

impl Kind for Key {
    type Value = Secret;

    fn read(&self, found: &Spanned<DeValue<'_>>) -> Result<Secret, Vec<Misfit>> {
        match found.get_ref() {
            DeValue::String(text) if text.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Ok(Secret::new(text))
            }
            _ => Err(misfit(self, found)),
        }
    }

    fn show(&self, value: &Secret) -> String {
        value.to_string()
    }

    fn expected(&self) -> String {
        "a text in quotes, without spaces and of ASCII characters only".into()
    }

    fn example(&self) -> String {
        quoted("a-long-random-text")
    }
}

impl Optional for Key {
    fn default(&self) -> Secret {
        Secret::default()
    }
}

impl Kind for PolicyName {
    type Value = Policy;

    fn read(&self, found: &Spanned<DeValue<'_>>) -> Result<Policy, Vec<Misfit>> {
        let DeValue::String(name) = found.get_ref() else { return Err(misfit(self, found)) };
        name.parse().map_err(|_| misfit(self, found))
    }

    fn show(&self, value: &Policy) -> String {
        quoted(value.name())
    }

    fn expected(&self) -> String {
        format!("one of {}", Policy::ALL.map(|policy| quoted(policy.name())).join(", "))
    }

    fn example(&self) -> String {
        self.show(&Policy::Adaptive)
    }
}

impl Optional for PolicyName {
    fn default(&self) -> Policy {
        Policy::default()
    }
}

impl Kind for Url {
    type Value = ServerUrl;

    fn read(&self, found: &Spanned<DeValue<'_>>) -> Result<ServerUrl, Vec<Misfit>> {
        let DeValue::String(text) = found.get_ref() else { return Err(misfit(self, found)) };
        text.parse().map_err(|error: UrlError| {
            let meant = repaired(text, &error).map(quoted);
            vec![Misfit { meant, ..whole_misfit(error.to_string(), found) }]
        })
    }

    fn show(&self, value: &ServerUrl) -> String {
        quoted(value)
    }

    fn expected(&self) -> String {
        "the url of a vLLM server".into()
    }

    fn example(&self) -> String {
        quoted("http://10.0.0.1:8000")
    }
}

impl<T> Kind for List<T>
where
    T: FromStr<Err: Display> + Display + Clone + PartialEq,
{
    type Value = Vec<T>;

    fn read(&self, found: &Spanned<DeValue<'_>>) -> Result<Vec<T>, Vec<Misfit>> {
        let entries = match found.get_ref() {
            DeValue::Array(entries) => entries,
            DeValue::String(one) => {
                let meant = one.parse::<T>().ok().map(|one| self.show(&vec![one]));
                return Err(vec![Misfit { meant, ..whole_misfit(self.expected(), found) }]);
            }
            _ => return Err(misfit(self, found)),
        };
        let mut misfits = Vec::new();
        let mut values = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let read = match entry.get_ref() {
                DeValue::String(text) => text.parse().map_err(|error: T::Err| error.to_string()),
                _ => Err("a text in quotes".to_owned()),
            };
            match read {
                Ok(value) => values.push(value),
                Err(expected) => {
                    let suffix = format!("[{index}]");
                    misfits.push(Misfit { suffix, ..whole_misfit(expected, entry) });
                }
            }
        }
        if misfits.is_empty() { Ok(values) } else { Err(misfits) }
    }

    fn show(&self, value: &Vec<T>) -> String {
        format!("[{}]", value.iter().map(quoted).collect::<Vec<_>>().join(", "))
    }

    fn expected(&self) -> String {
        format!("a list of {}", self.of)
    }

    fn example(&self) -> String {
        self.example.into()
    }
}

impl<T> Optional for List<T>
where
    List<T>: Kind<Value = Vec<T>>,
{
    fn default(&self) -> Vec<T> {
        (self.default)()
    }
}

/// What was probably meant, for the slips that have one obvious repair.
fn repaired(text: &str, error: &UrlError) -> Option<ServerUrl> {
    let text = text.trim();
    let repaired = match error {
        UrlError::Scheme if text.contains("://") => text.to_owned(),
        UrlError::Scheme => format!("http://{text}"),
        UrlError::Query | UrlError::Fragment => text.split(['?', '#']).next()?.to_owned(),
        UrlError::Credentials => {
            let (scheme, rest) = text.split_once("://")?;
            format!("{scheme}://{}", rest.rsplit_once('@')?.1)
        }
        _ => return None,
    };
    repaired.parse().ok()
}

pub(super) fn misfit<K: Kind>(kind: &K, found: &Spanned<DeValue<'_>>) -> Vec<Misfit> {
    vec![whole_misfit(kind.expected(), found)]
}

fn whole_misfit(expected: String, found: &Spanned<DeValue<'_>>) -> Misfit {
    Misfit { suffix: String::new(), span: found.span(), expected, meant: None }
}

/// A basic string of TOML.
pub(super) fn quoted(text: impl Display) -> String {
    let mut quoted = String::from('"');
    for c in text.to_string().chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted += &format!("\\u{:04X}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests;
