//! The body of a request. A large one is handed over piece by piece, so that it can be seen whether the
//! other side still takes bytes: a long transfer is not a dead one.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// Bytes that are handed over at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// The body of a request. A copy of it starts again at the same byte.
#[derive(Clone)]
pub(super) struct Sent {
    left: Bytes,
    progress: Option<Progress>,
}

/// How often bytes have moved on a connection, in either direction.
#[derive(Clone, Default)]
pub(super) struct Progress(Arc<AtomicU64>);

impl Progress {
    /// Some bytes have moved.
    pub(super) fn moves(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends when nothing has moved for this long.
    pub(super) async fn stops(&self, limit: Duration) {
        let mut before = self.0.load(Ordering::Relaxed);
        loop {
            tokio::time::sleep(limit).await;
            let now = self.0.load(Ordering::Relaxed);
            if now == before {
                return;
            }
            before = now;
        }
    }
}

impl Sent {
    /// A body whose progress is counted.
    pub(super) fn counted(bytes: Bytes, progress: &Progress) -> Sent {
        Sent {
            left: bytes,
            progress: Some(progress.clone()),
        }
    }
}

impl From<Bytes> for Sent {
    fn from(bytes: Bytes) -> Sent {
        Sent {
            left: bytes,
            progress: None,
        }
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        let piece = match &self.progress {
            Some(progress) => {
                progress.moves();
                PIECE_BYTES.min(self.left.len())
            }
            None => self.left.len(),
        };
        let piece = self.left.split_to(piece);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.len() as u64)
    }
}
