//! Reads the fields of a JSON body, complaining as vLLM does.

use hyper::HeaderMap;
use hyper::header::CONTENT_TYPE;
use serde_json::{Map, Value};

use super::error::{ApiError, Problem, shown};

/// A JSON object from a request.
#[derive(Clone, Debug)]
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    /// Parses a body of the right content type.
    pub(crate) fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Self, ApiError> {
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = content_type.and_then(|value| value.split(';').next());
        if !media_type.is_some_and(|value| value.trim().eq_ignore_ascii_case("application/json")) {
            return Err(ApiError::unsupported_media_type());
        }
        if body.is_empty() {
            return Err(problem("missing", "body", "Field required", "None".to_owned()));
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(object)) => Ok(Self(object)),
            Ok(other) => Err(problem(
                "model_attributes_type",
                "body",
                "Input should be a valid dictionary or object to extract fields from",
                shown(&other),
            )),
            Err(error) => Err(not_json(&error)),
        }
    }

    /// The value, if it is there and not null.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(crate) fn string(&self, name: &str) -> Result<Option<&str>, ApiError> {
        self.typed(name, Value::as_str, "string_type", "Input should be a valid string")
    }

    pub(crate) fn list(&self, name: &str) -> Result<Option<&Vec<Value>>, ApiError> {
        self.typed(name, Value::as_array, "list_type", "Input should be a valid list")
    }

    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>, ApiError> {
        const UNPARSABLE: &str =
            "Input should be a valid integer, unable to parse string as an integer";
        match self.get(name) {
            Some(Value::String(text)) => match text.trim().parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => {
                    Err(problem("int_parsing", &format!("body.{name}"), UNPARSABLE, text.clone()))
                }
            },
            _ => self.typed(name, whole, "int_type", "Input should be a valid integer"),
        }
    }

    pub(crate) fn number(&self, name: &str) -> Result<Option<f64>, ApiError> {
        self.typed(name, Value::as_f64, "float_type", "Input should be a valid number")
    }

    /// Absent is false.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, ApiError> {
        let flag =
            self.typed(name, Value::as_bool, "bool_type", "Input should be a valid boolean")?;
        Ok(flag.unwrap_or(false))
    }

    /// The complaint that fields are missing.
    pub(crate) fn missing(&self, names: &[&str]) -> ApiError {
        let input = format!("<dict of {} items>", self.0.len());
        let problems: Vec<_> = names
            .iter()
            .map(|name| Problem {
                kind: "missing",
                loc: format!("body.{name}"),
                msg: "Field required",
                input: input.clone(),
                cause: None,
            })
            .collect();
        ApiError::validation(&problems)
    }

    fn typed<'a, T: 'a>(
        &'a self,
        name: &str,
        read: impl Fn(&'a Value) -> Option<T>,
        kind: &'static str,
        msg: &'static str,
    ) -> Result<Option<T>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match read(value) {
            Some(typed) => Ok(Some(typed)),
            None => Err(problem(kind, &format!("body.{name}"), msg, shown(value))),
        }
    }
}

impl From<Value> for Fields {
    /// The fields of a form, say; none, if the value is no object.
    fn from(value: Value) -> Self {
        match value {
            Value::Object(object) => Self(object),
            _ => Self(Map::new()),
        }
    }
}

/// A complaint about one value.
pub(crate) fn problem(kind: &'static str, loc: &str, msg: &'static str, input: String) -> ApiError {
    ApiError::validation(&[Problem { kind, loc: loc.to_owned(), msg, input, cause: None }])
}

/// Pydantic takes `3.0` for an integer.
fn whole(value: &Value) -> Option<i64> {
    let float = || value.as_f64().filter(|float| float.fract() == 0.0).map(|float| float as i64);
    value.as_i64().or_else(float)
}

/// Python's parser and ours stumble at the same byte, counting from 0 and from 1.
fn not_json(error: &serde_json::Error) -> ApiError {
    let words = error.to_string();
    let cause = match words.as_str() {
        words if words.starts_with("key must be") => {
            "Expecting property name enclosed in double quotes"
        }
        words if words.starts_with("trailing char") => "Extra data",
        words if words.starts_with("expected `:`") => "Expecting ':' delimiter",
        words if words.starts_with("expected `,`") => "Expecting ',' delimiter",
        _ => "Expecting value",
    };
    ApiError::validation(&[Problem {
        kind: "json_invalid",
        loc: format!("body.{}", error.column().saturating_sub(1)),
        msg: "JSON decode error",
        input: "<dict of 0 items>".to_owned(),
        cause: Some(cause),
    }])
}
