//! A body, read within its limits: length, time, and a budget that all bodies share.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::problem::Problem;

/// The grain of the budget, in bytes.
const GRAIN: u64 = 64 << 10;

/// The most that is set aside for a body because its sender announced it, in bytes.
const RESERVED_MAX: u64 = 1 << 20;

/// How many bytes of bodies there may be at once. Clones share it.
#[derive(Clone)]
pub(super) struct Budget(Arc<Semaphore>);

impl Budget {
    pub(super) fn new(bytes: u64) -> Budget {
        let grains = usize::try_from(bytes.div_ceil(GRAIN)).unwrap_or(Semaphore::MAX_PERMITS);
        Budget(Arc::new(Semaphore::new(grains.min(Semaphore::MAX_PERMITS))))
    }
}

/// A complete body. It counts against the budget until it is dropped.
pub(super) struct Received {
    /// The body.
    pub(super) bytes: Bytes,
    share: Option<OwnedSemaphorePermit>,
}

/// Reads `body`. At most one frame beyond `limit` is read, and not a byte when its announced length
/// is already too long; the caller answers with the problem and the connection is closed.
pub(super) async fn receive(
    body: Body,
    limit: u64,
    time: Duration,
    budget: &Budget,
) -> Result<Received, Problem> {
    let announced = axum::body::HttpBody::size_hint(&body).lower();
    if announced > limit {
        return Err(Problem::too_large(limit));
    }
    let deadline = Instant::now() + time;
    let mut body = body;
    // Most bodies come in one frame, which is then taken as it is.
    let mut received = Received {
        bytes: Bytes::new(),
        share: None,
    };
    let mut buffer = BytesMut::new();
    while let Some(frame) = next(&mut body, deadline, time).await? {
        let length = (received.bytes.len() + buffer.len() + frame.len()) as u64;
        if length > limit {
            return Err(Problem::too_large(limit));
        }
        received.hold(length, budget)?;
        if received.bytes.is_empty() && buffer.is_empty() {
            received.bytes = frame;
            continue;
        }
        if !received.bytes.is_empty() {
            // What is announced may never come; the buffer grows by itself beyond this.
            buffer.reserve(
                usize::try_from(announced.min(RESERVED_MAX).max(length)).unwrap_or_default(),
            );
            buffer.extend_from_slice(&std::mem::take(&mut received.bytes));
        }
        buffer.extend_from_slice(&frame);
    }
    if !buffer.is_empty() {
        received.bytes = buffer.freeze();
    }
    Ok(received)
}

/// The next data of the body; none at its end.
async fn next(
    body: &mut Body,
    deadline: Instant,
    time: Duration,
) -> Result<Option<Bytes>, Problem> {
    loop {
        match timeout_at(deadline, body.frame()).await {
            Err(_) => {
                let detail = format!("the body was not complete after {} s", time.as_secs_f64());
                return Err(Problem::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "body-timeout",
                    detail,
                ));
            }
            Ok(None) => return Ok(None),
            Ok(Some(Err(error))) => {
                return Err(Problem::bad_request(
                    "body-broken",
                    "the body ended before it was complete",
                )
                .logged(error.to_string()));
            }
            // Trailers are no data, and nothing reads them.
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) if !data.is_empty() => return Ok(Some(data)),
                _ => {}
            },
        }
    }
}

impl Received {
    /// Takes so much of the budget that `length` bytes are covered.
    fn hold(&mut self, length: u64, budget: &Budget) -> Result<(), Problem> {
        let held = self
            .share
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits);
        let needed = usize::try_from(length.div_ceil(GRAIN))
            .unwrap_or(usize::MAX)
            .saturating_sub(held);
        if needed == 0 {
            return Ok(());
        }
        let more = u32::try_from(needed)
            .ok()
            .and_then(|needed| budget.0.clone().try_acquire_many_owned(needed).ok());
        let Some(more) = more else {
            return Err(Problem::busy(
                "too many bodies are being received at once; nothing was taken",
                Duration::from_secs(1),
            ));
        };
        match &mut self.share {
            Some(share) => share.merge(more),
            none => *none = Some(more),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn receive_of(budget: &Budget, length: usize, limit: u64) -> Result<Received, Problem> {
        receive(
            Body::from(vec![7; length]),
            limit,
            Duration::from_secs(1),
            budget,
        )
        .await
    }

    #[tokio::test]
    async fn bodies_share_a_budget_and_give_it_back() {
        let budget = Budget::new(3 * GRAIN);
        let first = receive_of(&budget, 2 * GRAIN as usize, u64::MAX)
            .await
            .unwrap_or_else(|problem| panic!("{problem:?}"));
        assert_eq!(first.bytes.len() as u64, 2 * GRAIN);
        let second = receive_of(&budget, 2 * GRAIN as usize, u64::MAX).await;
        assert_eq!(
            second.err().map(|problem| problem.status()),
            Some(StatusCode::SERVICE_UNAVAILABLE)
        );
        drop(first);
        assert!(
            receive_of(&budget, 3 * GRAIN as usize, u64::MAX)
                .await
                .is_ok()
        );
    }

    #[tokio::test]
    async fn the_limit_is_the_last_length_that_passes() {
        let budget = Budget::new(1 << 20);
        assert!(receive_of(&budget, 100, 100).await.is_ok());
        assert_eq!(
            receive_of(&budget, 101, 100)
                .await
                .err()
                .map(|problem| problem.status()),
            Some(StatusCode::PAYLOAD_TOO_LARGE)
        );
    }
}
