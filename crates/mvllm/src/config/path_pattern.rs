//! A path, or all paths that begin alike.

use std::fmt;
use std::str::FromStr;

/// `/tokenize` is that path alone; `/admin/*` is every path that begins with `/admin/`.
///
/// Paths are compared as they arrive: mvllm neither decodes `%2F` nor resolves `..`, so a
/// pattern never matches more than its text says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPattern {
    Exact(String),
    Prefix(String),
}

/// Reads after the word "expected".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a path that begins with '/', with at most one '*', at its end")]
pub struct PathPatternError;

impl PathPattern {
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == exact,
            Self::Prefix(prefix) => path.starts_with(prefix.as_str()),
        }
    }
}

impl FromStr for PathPattern {
    type Err = PathPatternError;

    fn from_str(typed: &str) -> Result<Self, PathPatternError> {
        let path = typed.strip_suffix('*').unwrap_or(typed);
        let plain = |b: u8| b.is_ascii_graphic() && !b"*?#".contains(&b);
        if !path.starts_with('/') || !path.bytes().all(plain) {
            return Err(PathPatternError);
        }
        let kind = if typed.ends_with('*') { Self::Prefix } else { Self::Exact };
        Ok(kind(path.to_owned()))
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => f.write_str(path),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exact_path_matches_itself_alone() {
        let pattern: PathPattern = "/sleep".parse().unwrap();
        assert!(pattern.matches("/sleep"));
        assert!(!pattern.matches("/sleep/") && !pattern.matches("/sleepy"));
    }

    #[test]
    fn a_star_matches_what_begins_alike() {
        let pattern: PathPattern = "/admin/*".parse().unwrap();
        assert!(pattern.matches("/admin/") && pattern.matches("/admin/a/b"));
        assert!(!pattern.matches("/admin"));
    }

    #[test]
    fn a_star_in_the_middle_or_a_relative_path_is_no_pattern() {
        for text in ["", "*", "sleep", "/a*b", "/a**", "/a?x=1", "/a b", "/a#b"] {
            assert_eq!(text.parse::<PathPattern>(), Err(PathPatternError), "{text}");
        }
    }
}
