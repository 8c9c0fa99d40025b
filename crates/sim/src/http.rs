//! HTTP over the engines: vLLM's endpoints and those that control the simulation.

mod answer;
mod ask;
mod audio;
mod call;
mod chat;
mod completions;
mod error;
mod fields;
mod messages;
mod pooling;
mod prompt;
mod realtime;
mod reply;
mod responses;
mod routes;
mod tokens;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderValue, SERVER, VARY};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;

pub(crate) use error::ApiError;
pub(crate) use responses::Store;

use call::Call;
use error::Dialect;
use reply::Reply;
use routes::{ModelRoute, Route};
use wire::{Fate, Wire};

use crate::exposition::{self, Scrape};
use crate::fault::{BadMetrics, Fault, SLOW_METRICS};
use crate::server::Server;

/// vLLM takes bodies of any size; long prompts and recordings stay well below this.
const BODY_LIMIT: usize = 64 * 1024 * 1024;

/// Serves one connection until either side closes it.
pub(crate) async fn serve_connection(server: Arc<Server>, socket: TcpStream) {
    // Each event leaves at once. If it cannot be set, they leave a little later.
    let _ = socket.set_nodelay(true);
    let fate = Fate::default();
    let wire = TokioIo::new(Wire::new(socket, fate.clone()));
    let keep_alive = server.config.keep_alive;
    let service = service_fn(|request| answer(Arc::clone(&server), fate.clone(), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Runs while a connection is idle too: this is what closes it.
        .header_read_timeout(keep_alive)
        .serve_connection(wire, service)
        .with_upgrades();
    // Clients leave in the middle, and faults break connections: nothing to report.
    let _ = connection.await;
}

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("closed by a fault, or by a client that left")]
struct Closed;

async fn answer(
    server: Arc<Server>,
    fate: Fate,
    mut request: Request<Incoming>,
) -> Result<Response<Reply>, Closed> {
    let whole = Limited::new(request.body_mut(), BODY_LIMIT).collect().await;
    let body = whole.map_err(|_| Closed)?.to_bytes();
    let entry = server.log.open(request.method(), request.uri(), request.headers(), &body);
    let route = routes::find(request.method(), request.uri().path());
    let mut response = match route {
        Ok(Route::SimFault) => set_fault(&server, &body),
        Ok(Route::SimLog) => log(&server),
        Ok(route) => vllm(&server, route, fate, request, body).await?,
        Err(no_route) => no_route.response(),
    };
    let headers = response.headers_mut();
    headers.insert(SERVER, HeaderValue::from_static("uvicorn"));
    headers.insert(VARY, HeaderValue::from_static("Origin"));
    let status = response.status();
    response.body_mut().record(entry, status);
    Ok(response)
}

/// An answer as vLLM would give it, unless a fault strikes.
async fn vllm(
    server: &Arc<Server>,
    route: Route,
    fate: Fate,
    request: Request<Incoming>,
    body: Bytes,
) -> Result<Response<Reply>, Closed> {
    let fault = match server.faults.strike(route.purpose()) {
        Fault::FreezeAll => {
            server.faults.thawed().await;
            Fault::Healthy
        }
        fault => fault,
    };
    match route {
        Route::Model(route) => {
            let headers = request.into_parts().0.headers;
            let call = Call { server: Arc::clone(server), headers, body, fate, fault };
            model(call, route).await
        }
        Route::Realtime => Ok(realtime::upgrade(Arc::clone(server), request)),
        route => Ok(operation(server, &route, &fault).await),
    }
}

async fn model(call: Call, route: ModelRoute) -> Result<Response<Reply>, Closed> {
    let dialect = route.dialect();
    let failure = match call.fault {
        Fault::CloseBeforeHead => return Err(Closed),
        Fault::Error500 => Some(ApiError::internal("Internal Server Error")),
        Fault::EngineDead { .. } => Some(ApiError::engine_dead()),
        Fault::QueueFull => Some(ApiError::queue_full()),
        _ => None,
    };
    let answered = match failure {
        Some(error) => Err(error),
        None => dispatch(&call, route).await,
    };
    Ok(answered.unwrap_or_else(|error| reply::error(&error, dialect)))
}

async fn dispatch(call: &Call, route: ModelRoute) -> Result<Response<Reply>, ApiError> {
    match route {
        ModelRoute::ChatCompletions => chat::completions(call).await,
        ModelRoute::Completions => completions::completions(call).await,
        ModelRoute::Messages => messages::create(call).await,
        ModelRoute::CountTokens => messages::count_tokens(call),
        ModelRoute::Responses => responses::create(call).await,
        ModelRoute::ResponseById(id) => responses::look_up(call, &id),
        ModelRoute::CancelResponse(id) => responses::cancel(call, &id),
        ModelRoute::Embeddings => pooling::embeddings(call).await,
        ModelRoute::Score => pooling::score(call).await,
        ModelRoute::Rerank => pooling::rerank(call).await,
        ModelRoute::Tokenize => tokens::tokenize(call),
        ModelRoute::Detokenize => tokens::detokenize(call),
        ModelRoute::Transcriptions => audio::transcriptions(call).await,
        ModelRoute::Render => Err(ApiError::scale_out_disabled()),
    }
}

/// The endpoints for those who run the server.
async fn operation(server: &Server, route: &Route, fault: &Fault) -> Response<Reply> {
    match route {
        Route::Health => health(fault).await,
        Route::Metrics => metrics(server, fault).await,
        Route::Version => reply::json(StatusCode::OK, &json!({ "version": "0.32.0" })),
        // Always 0 without --enable-server-load-tracking.
        Route::Load => reply::json(StatusCode::OK, &json!({ "server_load": 0 })),
        Route::Models => reply::json(StatusCode::OK, &models(server)),
        // No KV event publisher.
        Route::KvEventSources => reply::json(StatusCode::OK, &json!({})),
        Route::SimFault | Route::SimLog | Route::Realtime | Route::Model(_) => routes::not_found(),
    }
}

async fn health(fault: &Fault) -> Response<Reply> {
    match fault {
        Fault::EngineDead { health } => {
            reply::empty(StatusCode::from_u16(*health).unwrap_or(StatusCode::SERVICE_UNAVAILABLE))
        }
        Fault::SlowHealth { delay_ms } => {
            tokio::time::sleep(Duration::from_millis(*delay_ms)).await;
            reply::empty(StatusCode::OK)
        }
        _ => reply::empty(StatusCode::OK),
    }
}

async fn metrics(server: &Server, fault: &Fault) -> Response<Reply> {
    let bad = match fault {
        Fault::Metrics { how } => Some(*how),
        _ => None,
    };
    if bad == Some(BadMetrics::Slow) {
        tokio::time::sleep(SLOW_METRICS).await;
    }
    let page = match bad {
        Some(BadMetrics::Garbage) => {
            "<html>\0 vllm:num_requests_running{ NaN\n}} \u{1f980}".to_owned()
        }
        _ => exposition::render(&Scrape {
            config: &server.config,
            started_at: server.started_at(),
            rejections: server.rejections(),
            engines: &server.engines.stats(),
            bad,
        }),
    };
    reply::text("text/plain; version=1.0.0; charset=utf-8", page)
}

fn models(server: &Server) -> Value {
    let config = &server.config;
    let base = config.models.first();
    let served = config.models.iter().map(|name| (name, base, None, Some(config.max_model_len)));
    let loras = config.loras.iter().map(|name| (name, Some(name), base, None));
    let created = server.unix_time();
    let cards: Vec<_> = served
        .chain(loras)
        .map(|(id, root, parent, max_model_len)| {
            json!({
                "id": id,
                "object": "model",
                "created": created,
                "owned_by": "vllm",
                "root": root,
                "parent": parent,
                "max_model_len": max_model_len,
                "permission": [{
                    "id": server.fresh_id("modelperm-"),
                    "object": "model_permission",
                    "created": created,
                    "allow_create_engine": false,
                    "allow_sampling": true,
                    "allow_logprobs": true,
                    "allow_search_indices": false,
                    "allow_view": true,
                    "allow_fine_tuning": false,
                    "organization": "*",
                    "group": null,
                    "is_blocking": false,
                }],
            })
        })
        .collect();
    json!({ "object": "list", "data": cards })
}

/// `POST /sim/fault`: a fault, and for how many requests.
fn set_fault(server: &Server, body: &[u8]) -> Response<Reply> {
    #[derive(Deserialize)]
    struct Count {
        count: Option<u32>,
    }
    let read = || -> Result<(Fault, Option<u32>), serde_json::Error> {
        let mut body: Value = serde_json::from_slice(body)?;
        let Count { count } = serde_json::from_value(body.clone())?;
        if let Some(body) = body.as_object_mut() {
            body.remove("count");
        }
        Ok((serde_json::from_value(body)?, count))
    };
    match read() {
        Ok((fault, count)) => {
            server.set_fault(fault, count);
            reply::json(StatusCode::OK, &json!({}))
        }
        Err(error) => reply::error(&ApiError::bad_request(error.to_string()), Dialect::OpenAi),
    }
}

/// `GET /sim/log`: what was asked, and how it ended.
fn log(server: &Server) -> Response<Reply> {
    let entries: Vec<_> =
        server.log.entries().iter().map(crate::request_log::LoggedRequest::to_json).collect();
    reply::json(StatusCode::OK, &Value::Array(entries))
}
