//! One request of a client, from its head to the response that hyper is to write.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use mvllm_core::route::Route;
use mvllm_core::{json_fields, multipart};
use tracing::debug;

use super::attempt::{AnswerBody, Answered, Prepared};
use super::body::{BodyError, collect};
use super::cors::{Cors, preflight};
use super::data_thread::DataThread;
use super::dispatch::{Defeat, dispatch};
use super::refuse::Refused;
use super::reply::Reply;
use super::{headers, upgrade};
use crate::admin;
use crate::board::Published;

/// Answers, whatever happens.
pub(super) async fn serve(
    thread: Arc<DataThread>,
    request: Request<Incoming>,
) -> Result<Response<Reply>, Infallible> {
    let published = Arc::clone(&thread.board.read());
    let cors = Cors::of(request.headers(), &published.settings.tuning.cors_origins);
    if let Some(response) = preflight(request.method(), request.headers(), &cors) {
        return Ok(response);
    }
    let path = request.uri().path().to_owned();
    let mut response = match answer(&thread, &published, request).await {
        Ok(response) => response,
        Err(refused) => {
            debug!(path, "refused: {refused}");
            refused.response(&path)
        }
    };
    cors.permit(response.headers_mut());
    Ok(response)
}

async fn answer(
    thread: &Arc<DataThread>,
    published: &Published,
    mut request: Request<Incoming>,
) -> Result<Response<Reply>, Refused> {
    let path = request.uri().path();
    if let Some(endpoint) = admin::Endpoint::at(path, request.method()) {
        return Ok(endpoint?.answer(published, thread.clock));
    }
    let settings = &published.settings.tuning;
    let is_open = |path: &str| settings.open_paths.iter().any(|open| open.matches(path));
    let route = match Route::of(path, is_open) {
        Route::Closed => return Err(Refused::Closed(path.to_owned())),
        Route::Ambiguous => return Err(Refused::Ambiguous(path.to_owned())),
        route => route,
    };
    let protocol = headers::asks_for_upgrade(request.headers());
    let client = protocol.is_some().then(|| hyper::upgrade::on(&mut request));
    let (head, body) = request.into_parts();
    let Some(path) = head.uri.path_and_query().cloned() else {
        return Err(Refused::Ambiguous(head.uri.to_string()));
    };
    let body = collect(body, settings.max_body_bytes).await?;
    let model = model_of(&head.headers, &body, head.uri.query());
    let prepared = Prepared {
        method: head.method,
        path,
        headers: head.headers,
        body,
        route,
        upgrade: protocol,
    };
    match dispatch(thread, &prepared, model.as_deref()).await {
        Ok(answered) => Ok(deliver(answered, client)),
        Err(Defeat::Refused(refused)) => Err(refused),
        Err(Defeat::Answer(mut head, body)) => {
            headers::for_client(&mut head.headers);
            Ok(Response::from_parts(*head, Reply::from(body)))
        }
    }
}

fn deliver(answered: Answered, client: Option<OnUpgrade>) -> Response<Reply> {
    let Answered { mut head, body } = answered;
    match body {
        AnswerBody::Relay(relay) => {
            headers::for_client(&mut head.headers);
            Response::from_parts(head, Reply::Relayed(Box::new(relay)))
        }
        AnswerBody::Upgraded { server, lease, candidate } => {
            if let Some(client) = client {
                tokio::spawn(upgrade::relay(client, server, lease, candidate));
            }
            Response::from_parts(head, Reply::Whole(None))
        }
    }
}

/// The model that a request names: in the body where there is one, else in the query.
fn model_of(headers: &HeaderMap, body: &Bytes, query: Option<&str>) -> Option<String> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_form = kind.get(..10).is_some_and(|start| start.eq_ignore_ascii_case("multipart/"));
    let named = if is_form {
        multipart::field(kind, body, "model").map(str::to_owned)
    } else {
        // By the look of it, not by its type: curl calls JSON a form unless told otherwise.
        json_fields::scan(body).model.map(Into::into)
    };
    named.or_else(|| {
        let mut pairs = form_urlencoded::parse(query?.as_bytes());
        pairs.find(|(key, _)| key == "model").map(|(_, model)| model.into_owned())
    })
}

impl From<BodyError> for Refused {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge { limit } => Self::TooLarge { limit },
            BodyError::Client(_) => Self::BodyBroken,
        }
    }
}
