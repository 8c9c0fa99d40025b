//! `mvllm explain`: where a running router would send a request, and why.

use std::fmt::Write;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{complain, say};
use crate::config::ServerUrl;
use crate::upstream::{AskError, Question, Target, ask};

/// How long the router may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// The body of the request; `-` for standard input.
    request: PathBuf,
    /// The path that it would be sent to.
    #[arg(long, default_value = "/v1/chat/completions")]
    path: String,
    /// The answer as it comes, in JSON.
    #[arg(long)]
    json: bool,
    /// The router to ask.
    #[arg(long, env = "MVLLM_URL", default_value = "http://127.0.0.1:8888")]
    url: ServerUrl,
}

#[derive(Debug, thiserror::Error)]
enum ExplainError {
    #[error("the request cannot be read: {0}")]
    Read(std::io::Error),
    #[error("{router} cannot be asked: {source}. Does mvllm run there?")]
    Ask { router: ServerUrl, source: AskError },
    #[error("the router answers {0}: is it mvllm, and not too old?")]
    Refused(http::StatusCode),
    #[error("the router's url is unusable: {0}")]
    Url(#[from] http::Error),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

#[derive(Debug, Deserialize)]
struct Explanation {
    model: Option<String>,
    prompt: Option<Prompt>,
    policy: String,
    server: Option<String>,
    refusal: Option<String>,
    servers: Vec<Considered>,
}

#[derive(Debug, Deserialize)]
struct Prompt {
    tokens: u64,
}

#[derive(Debug, Deserialize)]
struct Considered {
    url: String,
    chosen: bool,
    standing: String,
    terms: Map<String, Value>,
}

/// Asks, and shows the answer.
pub(super) fn explain(args: &ExplainArgs) -> ExitCode {
    match explained(args) {
        Ok(text) => {
            say(&text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn explained(args: &ExplainArgs) -> Result<String, ExplainError> {
    let body = request(args).map_err(ExplainError::Read)?;
    let path: String = form_urlencoded::byte_serialize(args.path.as_bytes()).collect();
    let path = format!("/explain?path={path}");
    let question = Question { method: Method::POST, path: &path, authorization: None, body };
    let target = Target::new(&args.url)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (status, body, _) = runtime
        .block_on(ask(&target, &question, PATIENCE))
        .map_err(|source| ExplainError::Ask { router: args.url.clone(), source })?;
    match serde_json::from_slice::<Explanation>(&body) {
        Ok(_) if args.json => Ok(String::from_utf8_lossy(&body).into_owned()),
        Ok(explanation) => Ok(told(&explanation)),
        Err(_) => Err(ExplainError::Refused(status)),
    }
}

fn request(args: &ExplainArgs) -> std::io::Result<Bytes> {
    let mut body = Vec::new();
    if args.request.as_os_str() == "-" {
        std::io::stdin().read_to_end(&mut body)?;
    } else {
        body = std::fs::read(&args.request)?;
    }
    Ok(body.into())
}

fn told(explanation: &Explanation) -> String {
    let Explanation { model, prompt, policy, server, refusal, servers } = explanation;
    // Writing to a String cannot fail.
    let mut text = match (server, refusal) {
        (Some(server), _) => format!("goes to {server}"),
        (None, why) => format!("goes nowhere: {}", why.as_deref().unwrap_or("no reason is told")),
    };
    let _ = write!(text, "\nmodel {}", model.as_deref().unwrap_or("not named"));
    if let Some(Prompt { tokens }) = prompt {
        let _ = write!(text, ", prompt of about {tokens} tokens");
    }
    let _ = writeln!(text, ", policy {policy}");
    for Considered { url, chosen, standing, terms } in servers {
        let sign = if *chosen { "->" } else { "  " };
        let _ = writeln!(text, "{sign} {url}: {standing}");
        let terms: Vec<_> = terms.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let _ = writeln!(text, "      {}", terms.join(", "));
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_comes_first_and_every_server_has_its_reason() {
        let answer = r#"{"model":"m","prompt":{"tokens":9},"policy":"load","server":"http://a",
            "refusal":null,"servers":[
            {"url":"http://a","chosen":true,"standing":"fit","terms":{"running":1.0,"score":0.5}},
            {"url":"http://b","chosen":false,"standing":"serves other models","terms":{}}]}"#;
        let expect = "goes to http://a\n\
                      model m, prompt of about 9 tokens, policy load\n\
                      -> http://a: fit\n      running 1.0, score 0.5\n   http://b: serves other models";
        assert_eq!(told(&serde_json::from_str(answer).unwrap()), expect);
        let nowhere = r#"{"policy":"load","refusal":"there are no servers","servers":[]}"#;
        let nowhere = told(&serde_json::from_str(nowhere).unwrap());
        assert!(nowhere.starts_with("goes nowhere: there are no servers\nmodel not named"));
    }
}
