//! Reading a client's body: whole, because it must be possible to send it again, and bounded.

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;

/// Trust in `Content-Length` ends here: a larger body gets its memory as it arrives.
const TRUSTED_CAPACITY: usize = 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the body is larger than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("the client's body broke off: {0}")]
    Client(#[from] hyper::Error),
}

pub(super) async fn collect(mut body: Incoming, limit: usize) -> Result<Bytes, BodyError> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        return Err(BodyError::TooLarge { limit });
    }
    let Some(first) = next_data(&mut body).await? else { return Ok(Bytes::new()) };
    if body.is_end_stream() && first.len() <= limit {
        return Ok(first);
    }
    let mut whole = BytesMut::with_capacity(announced.clamp(first.len(), TRUSTED_CAPACITY));
    whole.extend_from_slice(&first);
    while whole.len() <= limit {
        let Some(data) = next_data(&mut body).await? else { return Ok(whole.freeze()) };
        whole.extend_from_slice(&data);
    }
    Err(BodyError::TooLarge { limit })
}

async fn next_data(body: &mut Incoming) -> Result<Option<Bytes>, hyper::Error> {
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}
