//! Reading a client's body: whole, because it must be possible to send it again, and bounded in its
//! size, in what all bodies take together, and in how slowly it may come.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::pace::{Pace, TooSlow};
use crate::config::Tuning;
use crate::machine;
use crate::traffic::{Buffered, Share};

/// So far a body gets its memory as it arrives, whatever its `Content-Length` says. Whoever has sent
/// so much gets room for all of it at once, or is refused: else many large uploads would fill the
/// memory together and none of them come to its end.
const TRUSTED_FROM: usize = 1024 * 1024;

/// The first piece of memory for a body that does not come in one.
const FIRST_PIECE: usize = 16 * 1024;

/// Unless configured, bodies may take one part of so many of the memory: an answer under way takes
/// as much as a usual body or less, and there are other programs.
const BODIES_PART: usize = 4;

#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the body is larger than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("all bodies together take too much")]
    NoRoom,
    #[error("the body comes too slowly")]
    TooSlow,
    #[error("the client's body broke off: {0}")]
    Client(#[from] hyper::Error),
}

impl From<TooSlow> for BodyError {
    fn from(_: TooSlow) -> Self {
        Self::TooSlow
    }
}

/// What a body is bounded by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// For this one.
    bytes: usize,
    /// For all together.
    buffered: usize,
    span: Duration,
}

impl Bounds {
    pub(super) fn of(tuning: &Tuning) -> Self {
        let buffered = match tuning.max_buffered_body_bytes {
            0 => machine::memory() / BODIES_PART,
            configured => configured,
        };
        // What never fits is no matter of waiting.
        let bytes = tuning.max_body_bytes.min(buffered);
        Self { bytes, buffered, span: tuning.client_body_timeout }
    }
}

/// The whole body. Its last copy gives back what it holds of `buffered`.
pub(super) async fn collect(
    body: Incoming,
    bounds: Bounds,
    buffered: &Arc<Buffered>,
) -> Result<Bytes, BodyError> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > bounds.bytes {
        return Err(BodyError::TooLarge { limit: bounds.bytes });
    }
    let mut arriving = Arriving { body, pace: Pace::begin(bounds.span) };
    let Some(first) = arriving.next().await? else { return Ok(Bytes::new()) };
    let mut share = buffered.share();
    if arriving.body.is_end_stream() && first.len() <= bounds.bytes {
        if !share.grow_to(first.len(), bounds.buffered) {
            return Err(BodyError::NoRoom);
        }
        return Ok(share.holds(first));
    }
    let mut whole = Whole { data: Vec::new(), share, announced, bounds };
    whole.append(&first)?;
    drop(first);
    while let Some(data) = arriving.next().await? {
        whole.append(&data)?;
    }
    Ok(whole.finish())
}

/// A body that is still coming in.
struct Arriving {
    body: Incoming,
    pace: Pace,
}

impl Arriving {
    async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        loop {
            let Some(frame) = self.pace.bound(self.body.frame()).await? else { return Ok(None) };
            // Trailers do not travel: no vLLM API has any.
            if let Ok(data) = frame?.into_data() {
                self.pace.note(data.len());
                return Ok(Some(data));
            }
        }
    }
}

/// What has arrived. The share is as large as the memory, not as what is in it.
struct Whole {
    data: Vec<u8>,
    share: Share,
    announced: usize,
    bounds: Bounds,
}

impl Whole {
    fn append(&mut self, data: &[u8]) -> Result<(), BodyError> {
        let length = self.data.len() + data.len();
        if length > self.bounds.bytes {
            return Err(BodyError::TooLarge { limit: self.bounds.bytes });
        }
        if length > self.data.capacity() {
            let capacity = self.room_for(length);
            if !self.share.grow_to(capacity, self.bounds.buffered) {
                return Err(BodyError::NoRoom);
            }
            self.data.reserve_exact(capacity - self.data.len());
        }
        self.data.extend_from_slice(data);
        Ok(())
    }

    /// How much to make room for when `length` no longer fits.
    fn room_for(&self, length: usize) -> usize {
        if self.announced >= length && (length > TRUSTED_FROM || self.announced <= TRUSTED_FROM) {
            return self.announced;
        }
        let doubled = (2 * self.data.capacity()).max(FIRST_PIECE);
        doubled.min(self.bounds.bytes).max(length)
    }

    fn finish(self) -> Bytes {
        let Self { mut data, mut share, .. } = self;
        // Only a body of unknown length has room left.
        data.shrink_to_fit();
        share.shrink_to(data.len());
        share.holds(data)
    }
}
