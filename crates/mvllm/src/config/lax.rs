//! Numbers and switches, read as leniently as in mvllm 0.1, so that a file that worked keeps
//! working: `"7"`, `"7.0"` and `7.0` are the whole number 7, `"yes"` and 1 are true.
//!
//! The rules are those of pydantic's lax mode; the tests of `kind` hold what pydantic 2.14 said.

use toml::de::{DeInteger, DeValue};

/// Pydantic's lax `int`: also a float or a text without a fraction, and a boolean.
pub(super) fn whole(found: &DeValue<'_>) -> Option<i128> {
    match found {
        DeValue::Integer(integer) => from_integer(integer),
        DeValue::Float(float) => {
            let float: f64 = float.as_str().parse().ok()?;
            // Beyond 2^53 a float no longer names one whole number.
            let exact = float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0;
            #[expect(clippy::cast_possible_truncation, reason = "whole and at most 2^53")]
            exact.then_some(float as i128)
        }
        DeValue::Boolean(on) => Some(i128::from(*on)),
        DeValue::String(text) => {
            let text = text.trim();
            let (digits, zeros) = text.split_once('.').unwrap_or((text, "0"));
            let only_zeros = !zeros.is_empty() && zeros.bytes().all(|b| b == b'0');
            if only_zeros { without_underscores(digits)?.parse().ok() } else { None }
        }
        _ => None,
    }
}

/// Pydantic's lax `float`: also an integer, a text that is a number, and a boolean. Not a number
/// (`nan`) fails every bound, so it is nobody's value.
pub(super) fn number(found: &DeValue<'_>) -> Option<f64> {
    match found {
        DeValue::Float(float) => float.as_str().parse().ok(),
        DeValue::String(text) => without_underscores(text.trim())?.parse().ok(),
        #[expect(clippy::cast_precision_loss, reason = "every bound lies far below 2^53")]
        _ => whole(found).map(|integer| integer as f64),
    }
}

/// Pydantic's lax `bool`, word for word.
pub(super) fn switch(found: &DeValue<'_>) -> Option<bool> {
    match found {
        DeValue::String(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "on" | "1" => Some(true),
            "false" | "f" | "no" | "n" | "off" | "0" => Some(false),
            _ => None,
        },
        _ => match whole(found)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        },
    }
}

fn from_integer(integer: &DeInteger<'_>) -> Option<i128> {
    i128::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// Single underscores between digits group them, in TOML as in Python.
fn without_underscores(digits: &str) -> Option<String> {
    let grouped = digits.split('_').all(|group| !group.is_empty());
    let digits_around = digits.bytes().zip(digits.bytes().skip(1)).all(|(left, right)| {
        (left != b'_' || right.is_ascii_digit()) && (right != b'_' || left.is_ascii_digit())
    });
    (grouped && digits_around).then(|| digits.replace('_', ""))
}
