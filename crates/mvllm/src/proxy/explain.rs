//! `POST /explain?path=…`: where a request would go, and why. The body is that of the request; it
//! is sent nowhere. And the headers that say the same of a request that was sent.

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response};
use hyper::body::Incoming;
use mvllm_core::choice::explain::{Considered, explain};
use mvllm_core::choice::{Facts, Refusal, Tried};
use mvllm_core::prompt::Prompt;
use mvllm_core::route::Route;
use mvllm_core::snapshot::ServerView;
use serde_json::{Map, Value, json};

use super::asked::Asked;
use super::body::{Bounds, collect};
use super::data_thread::DataThread;
use super::refuse::Refused;
use super::reply::Reply;
use super::service::refusal;
use crate::board::Published;

/// The path of the endpoint.
pub(super) const PATH: &str = "/explain";

/// What is explained unless the query says otherwise.
const USUAL_PATH: &str = "/v1/chat/completions";

/// Asks that the answer say where it comes from, if it is "1".
const WANTED: HeaderName = HeaderName::from_static("x-mvllm-explain");
const SERVER: HeaderName = HeaderName::from_static("x-mvllm-server");
const ATTEMPTS: HeaderName = HeaderName::from_static("x-mvllm-attempts");

/// Answers a request to this endpoint.
pub(super) async fn answer(
    thread: &DataThread,
    published: &Published,
    request: Request<Incoming>,
) -> Result<Response<Reply>, Refused> {
    if request.method() != Method::POST {
        return Err(Refused::Method { allow: "POST" });
    }
    let tuning = &published.settings.tuning;
    let (mut head, body) = request.into_parts();
    let query = head.uri.query().unwrap_or_default();
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let path = pairs.find(|(name, _)| name == "path").map(|(_, path)| path.into_owned());
    let path = path.unwrap_or_else(|| USUAL_PATH.to_owned());
    head.uri = path.parse().map_err(|_| Refused::Ambiguous(path.clone()))?;
    let route = Route::of(head.uri.path(), |open| {
        tuning.open_paths.iter().any(|pattern| pattern.matches(open))
    });
    let body = collect(body, Bounds::of(tuning), &thread.traffic.bodies)
        .await
        .map_err(|error| refusal(&error, tuning))?;
    let asked = Asked::of(&head, &body, route, &tuning.session_header);
    let mut response = Response::new(Reply::from(told(thread, published, &path, &asked)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

fn told(thread: &DataThread, published: &Published, path: &str, asked: &Asked) -> bytes::Bytes {
    let holder = asked.stored.as_deref().and_then(|id| thread.safeguards.holders.of(id));
    let facts = asked.facts(holder);
    let held = facts.prompt.map(|prompt| thread.board.prefixes.held(prompt));
    let facts = Facts { held: held.as_ref(), ..facts };
    let policy = published.settings.tuning.policy;
    let (fleet, tried) = (&published.fleet, Tried::default());
    let mut random = thread.random();
    let explanation = explain(policy, &facts, fleet, &tried, &mut random, thread.clock.now());
    let chosen = explanation.choice.map(|server| server.key);
    let servers = explanation.servers.iter();
    let told = json!({
        "path": path,
        "model": asked.model,
        "prompt": facts.prompt.map(prompt),
        "session": facts.session.map(|session| format!("{session:016x}")),
        "policy": policy.name(),
        "server": explanation.choice.ok().map(|server| &*server.spec.url),
        "refusal": explanation.choice.err().map(words),
        "servers": servers.map(|one| considered(one, chosen == Ok(one.server.key)))
            .collect::<Vec<_>>(),
    });
    told.to_string().into()
}

fn prompt(prompt: &Prompt) -> Value {
    json!({
        "tokens": prompt.tokens,
        "least_tokens": prompt.least_tokens,
        "whole_blocks": prompt.blocks.len(),
        "max_tokens": prompt.max_tokens,
        "answers": prompt.answers,
    })
}

fn considered(considered: &Considered<'_>, is_chosen: bool) -> Value {
    let terms: Map<_, _> =
        considered.terms.iter().map(|term| (term.name.to_owned(), term.value.into())).collect();
    json!({
        "url": &*considered.server.spec.url,
        "chosen": is_chosen,
        "standing": considered.standing.words(),
        "terms": terms,
    })
}

fn words(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NoServers => "there are no servers",
        Refusal::UnknownModel => "no server lists the model",
        Refusal::NotYet => "the servers that may be right have not been checked yet",
        Refusal::Exhausted => "all servers that could answer are out",
    }
}

/// Whether the answer to this request is to say where it comes from.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    headers.get(&WANTED).is_some_and(|wanted| wanted == "1")
}

/// Says on an answer who gave it, and at which attempt.
pub(super) fn put_on(headers: &mut HeaderMap, server: &ServerView, attempts: usize) {
    if let Ok(url) = HeaderValue::try_from(&*server.spec.url) {
        headers.insert(SERVER, url);
    }
    headers.insert(ATTEMPTS, HeaderValue::from(attempts));
}
