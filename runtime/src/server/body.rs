//! Receiving a body within its limits: length, time, and the memory that all requests share.

use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use super::problem::Problem;
use crate::budget::Reservation;

/// The most bytes that are allocated for a body in advance, because its sender announced its
/// length.
const ANNOUNCED_MAX: u64 = 1 << 20;

/// Receives `body`; `memory` grows with it, and holds its length at the end. At most one frame
/// beyond `limit` is read, and nothing at all if the announced length exceeds it.
///
/// # Errors
/// 413 beyond the limit, 408 after `time`, 503 if there is no memory for it now, 400 if it breaks
/// off. In each case the connection is closed.
pub(super) async fn receive(
    mut body: Body,
    limit: u64,
    time: Duration,
    memory: &mut Reservation,
) -> Result<Bytes, Problem> {
    let announced = axum::body::HttpBody::size_hint(&body).lower();
    if announced > limit {
        return Err(Problem::too_large(limit));
    }
    let deadline = Instant::now() + time;
    // Most bodies arrive in one frame, which is then used without a copy.
    let mut first = Bytes::new();
    let mut buffer = BytesMut::new();
    while let Some(frame) = next(&mut body, deadline, time).await? {
        let length = (first.len() + buffer.len() + frame.len()) as u64;
        if length > limit {
            return Err(Problem::too_large(limit));
        }
        memory.grow_to(length).map_err(|_| {
            Problem::busy(
                "too many bodies are being received at once; nothing was taken",
                Duration::from_secs(1),
            )
        })?;
        if first.is_empty() && buffer.is_empty() {
            first = frame;
            continue;
        }
        if !first.is_empty() {
            // The announced length may never arrive; beyond this the buffer grows by itself.
            buffer.reserve(
                usize::try_from(announced.min(ANNOUNCED_MAX).max(length)).unwrap_or_default(),
            );
            buffer.extend_from_slice(&std::mem::take(&mut first));
        }
        buffer.extend_from_slice(&frame);
    }
    Ok(if buffer.is_empty() {
        first
    } else {
        buffer.freeze()
    })
}

/// The next data of the body; `None` at its end.
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
            // Trailers are not data, and nothing reads them.
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) if !data.is_empty() => return Ok(Some(data)),
                _ => {}
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;

    async fn received(
        budget: &Budget,
        length: usize,
        limit: u64,
    ) -> Result<(Bytes, Reservation), Problem> {
        let mut memory = budget.reservation();
        let body = Body::from(vec![7; length]);
        let bytes = receive(body, limit, Duration::from_secs(1), &mut memory).await?;
        Ok((bytes, memory))
    }

    #[tokio::test]
    async fn bodies_share_a_budget_and_give_it_back() {
        let budget = Budget::new(3000);
        let (bytes, memory) = received(&budget, 2000, u64::MAX)
            .await
            .unwrap_or_else(|problem| panic!("{problem:?}"));
        assert_eq!((bytes.len(), memory.held()), (2000, 2000));
        let second = received(&budget, 2000, u64::MAX).await;
        assert_eq!(
            second.err().map(|problem| problem.status()),
            Some(StatusCode::SERVICE_UNAVAILABLE)
        );
        drop(memory);
        assert!(received(&budget, 3000, u64::MAX).await.is_ok());
    }

    #[tokio::test]
    async fn the_limit_is_the_last_length_that_passes() {
        let budget = Budget::new(1 << 20);
        assert!(received(&budget, 100, 100).await.is_ok());
        assert_eq!(
            received(&budget, 101, 100)
                .await
                .err()
                .map(|problem| problem.status()),
            Some(StatusCode::PAYLOAD_TOO_LARGE)
        );
    }
}
