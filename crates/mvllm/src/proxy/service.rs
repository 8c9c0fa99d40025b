//! One request of a client, from its head to the response that hyper is to write.

use std::convert::Infallible;
use std::sync::Arc;

use http::header::{HeaderName, HeaderValue};
use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use mvllm_core::choice::Tried;
use mvllm_core::continuation::Scribe;
use mvllm_core::route::Route;

use super::asked::Asked;
use super::attempt::{AnswerBody, Answered, Prepared};
use super::body::{BodyError, Bounds, collect};
use super::connections::ClientConnection;
use super::cors::{Cors, preflight};
use super::data_thread::DataThread;
use super::defeat::{Defeat, LastWord};
use super::dispatch::dispatch;
use super::refuse::Refused;
use super::relay::Relay;
use super::reply::Reply;
use super::resume::{Intent, Resumable};
use super::{explain, headers, request_id, retry_after, upgrade};
use crate::admin;
use crate::board::Published;
use crate::config::Tuning;
use crate::config::path_pattern::PathPattern;
use crate::traffic::Record;

/// Read by the SDKs of OpenAI and Anthropic, which else send a failed request twice more.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Answers, whatever happens.
pub(super) async fn serve(
    thread: Arc<DataThread>,
    client: &ClientConnection,
    mut request: Request<Incoming>,
) -> Result<Response<Reply>, Infallible> {
    let published = Arc::clone(&thread.board.read());
    let cors = Cors::of(request.headers(), &published.settings.tuning.cors_origins);
    if let Some(response) = preflight(request.method(), request.headers(), &cors) {
        return Ok(response);
    }
    let path = request.uri().path().to_owned();
    if let Some(order) = admin::control::order_at(&path) {
        let done =
            admin::control::carry_out(order, &request, client.peer, &published, &thread).await;
        return Ok(done.unwrap_or_else(|refused| refused.response(&path)));
    }
    if path == explain::PATH {
        let told = explain::answer(&thread, &published, request).await;
        let mut response = told.unwrap_or_else(|refused| refused.response(&path));
        cors.permit(response.headers_mut());
        return Ok(response);
    }
    let mut response = match admin::Endpoint::at(&path, request.method()) {
        Some(Ok(endpoint)) => endpoint.answer(&published, &thread),
        Some(Err(refused)) => refused.response(&path),
        None => {
            let id = request_id::settle(request.headers_mut(), &mut thread.random());
            let mut response = account_for(&thread, &published, client, &id, request).await;
            request_id::put_on(response.headers_mut(), &id);
            response
        }
    };
    cors.permit(response.headers_mut());
    Ok(response)
}

async fn account_for(
    thread: &Arc<DataThread>,
    published: &Published,
    client: &ClientConnection,
    id: &str,
    request: Request<Incoming>,
) -> Response<Reply> {
    let (traffic, method) = (Arc::clone(&thread.traffic), request.method().clone());
    let path = request.uri().path().to_owned();
    let mut record =
        Record::begin(traffic, thread.clock, id.to_owned(), client.peer, method, path.clone());
    let says_where = explain::is_wanted(request.headers());
    match forward(thread, published, request, &mut record).await {
        Ok(mut forwarded) => {
            if says_where {
                let answered = &mut forwarded.answered;
                let server = Arc::clone(answered.server());
                explain::put_on(&mut answered.head.headers, &server, record.attempts());
            }
            deliver(forwarded, client, record, thread)
        }
        Err(defeat) => console(defeat, &path, &mut record),
    }
}

/// The answer to a request that nobody answered well.
fn console(defeat: Defeat, path: &str, record: &mut Record) -> Response<Reply> {
    let mut response = match defeat.last_word {
        LastWord::Refused(refused) => {
            record.refused(refused.status().as_u16(), refused.reason());
            refused.response(path)
        }
        LastWord::Answer(mut head, body) => {
            headers::for_client(&mut head);
            retry_after::normalise(&mut head.headers, jiff::Timestamp::now());
            record.ends_with_failure(head.status.as_u16(), &body);
            Response::from_parts(*head, Reply::from(body))
        }
    };
    if defeat.is_futile {
        response.headers_mut().insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    response
}

/// The answer to a request, and what belongs to the two.
struct Forwarded {
    answered: Answered,
    upgrade: Option<OnUpgrade>,
    /// What it takes to carry the answer on at another server.
    resumable: Option<(Box<Resumable>, Box<Scribe>)>,
}

async fn forward(
    thread: &Arc<DataThread>,
    published: &Published,
    mut request: Request<Incoming>,
    record: &mut Record,
) -> Result<Forwarded, Defeat> {
    let tuning = &published.settings.tuning;
    let limit = tuning.max_requests_in_flight;
    // This one is counted already.
    if limit > 0 && thread.traffic.under_way.count() > limit as usize {
        return Err(Refused::Busy { limit }.into());
    }
    let route = route(request.uri().path(), &tuning.open_paths)?;
    let protocol = headers::asks_for_upgrade(request.headers());
    let client = protocol.is_some().then(|| hyper::upgrade::on(&mut request));
    let (head, body) = request.into_parts();
    let Some(path) = head.uri.path_and_query().cloned() else {
        return Err(Refused::Ambiguous(head.uri.to_string()).into());
    };
    let body = collect(body, Bounds::of(tuning), &thread.traffic.bodies)
        .await
        .map_err(|error| refusal(&error, tuning))?;
    let (intent, body) = match head.method {
        Method::POST => Intent::of(thread, tuning.continue_streams, path.path(), body),
        _ => (None, body),
    };
    thread.check_quarantine(path.path(), &body)?;
    let asked = Asked::of(&head, &body, route, &tuning.session_header);
    let model = asked.model.as_deref();
    record.names_model(model.and_then(|model| published.fleet.models.known(model)).cloned());
    let prepared = Prepared {
        method: head.method,
        path,
        headers: head.headers,
        body,
        route,
        upgrade: protocol,
        event_max: Intent::event_max(intent.as_ref()),
    };
    let mut tried = Tried::default();
    let answered = dispatch(thread, &prepared, &asked, record, &mut tried).await?;
    let resumable = intent.map(|intent| intent.begin(prepared, asked, tried));
    Ok(Forwarded { answered, upgrade: client, resumable })
}

fn route(path: &str, open_paths: &[PathPattern]) -> Result<Route, Refused> {
    match Route::of(path, |path| open_paths.iter().any(|open| open.matches(path))) {
        Route::Closed => Err(Refused::Closed(path.to_owned())),
        Route::Ambiguous => Err(Refused::Ambiguous(path.to_owned())),
        route => Ok(route),
    }
}

fn deliver(
    forwarded: Forwarded,
    client: &ClientConnection,
    mut record: Record,
    thread: &Arc<DataThread>,
) -> Response<Reply> {
    let Forwarded { answered: Answered { mut head, body }, upgrade, resumable } = forwarded;
    match body {
        AnswerBody::Stream(held) => {
            let is_streamed = held.stream.has_events();
            if is_streamed {
                headers::for_client_of_events(&mut head);
                record.is_streamed();
            } else {
                headers::for_client(&mut head);
            }
            let relay =
                Relay::new(*held, record, Arc::clone(thread), resumable.filter(|_| is_streamed));
            Response::from_parts(head, Reply::Relayed(Box::new(relay)))
        }
        AnswerBody::Upgraded { server, lease, candidate } => {
            if let Some(upgrade) = upgrade {
                let relay = upgrade::relay(upgrade, server, lease, candidate, record);
                client.becomes(tokio::spawn(relay));
            }
            Response::from_parts(head, Reply::Whole(None))
        }
    }
}

pub(super) fn refusal(error: &BodyError, tuning: &Tuning) -> Refused {
    match error {
        BodyError::TooLarge { limit } => Refused::TooLarge { limit: *limit },
        BodyError::NoRoom => Refused::NoRoom,
        BodyError::TooSlow => Refused::BodyTooSlow { secs: tuning.client_body_timeout.as_secs() },
        BodyError::Client(_) => Refused::BodyBroken,
    }
}
