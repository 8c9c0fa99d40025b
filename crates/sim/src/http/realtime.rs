//! `/v1/realtime`: a WebSocket that says back what it is told.

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::reply::{self, Reply};
use super::routes;
use crate::server::Server;

/// Takes the connection over, if a WebSocket is asked for.
pub(super) fn upgrade(server: Arc<Server>, request: Request<Incoming>) -> Response<Reply> {
    // As FastAPI has it, the route does not exist for plain HTTP.
    let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY) else { return routes::not_found() };
    let accept = derive_accept_key(key.as_bytes());
    let Ok(accept) = HeaderValue::try_from(accept) else { return routes::not_found() };
    tokio::spawn(async move {
        if let Ok(connection) = hyper::upgrade::on(request).await {
            let io = TokioIo::new(connection);
            let socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
            tokio::select! {
                () = echo(socket) => {}
                () = server.killed() => {}
            }
        }
    });
    let mut response = reply::empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    response
}

/// Until the client closes or leaves. tungstenite answers pings and closes by itself.
async fn echo<S>(mut socket: WebSocketStream<S>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = socket.next().await {
        let echoed = message.is_text() || message.is_binary();
        if echoed && socket.send(message).await.is_err() {
            return;
        }
    }
}
