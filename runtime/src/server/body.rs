//! Receiving a body within its limits: length, time, and the memory that all requests share.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::StatusCode;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Frame;
use tokio::time::{Instant, timeout_at};

use super::arrivals::{Arrivals, GaveWay};
use super::connection::Client;
use super::problem::Problem;
use crate::budget::{Exhausted, Reservation};

/// How a body is received.
pub(super) struct Receiving<'a> {
    /// The longest body, in bytes.
    pub(super) limit: u64,
    /// Time for all of it.
    pub(super) time: Duration,
    /// The source that it is for.
    pub(super) source: &'a str,
    /// The client that sends it.
    pub(super) client: &'a Client,
    /// Memory for bodies that have arrived in part.
    pub(super) arrivals: &'a Arrivals,
    /// Memory for requests in progress; holds the body's length at the end.
    pub(super) memory: &'a Reservation,
}

/// Receives `body`. At most one frame beyond the limit is read, and nothing at all if the announced
/// length exceeds it. `admit` checks what can be checked without the body; it is called before any
/// part of a body is kept that does not arrive in one piece.
///
/// # Errors
/// 413 beyond the limit, 408 after its time, 503 if there is no memory for it now, 400 if it breaks
/// off, and the errors of `admit`. In each case the connection is closed.
pub(super) async fn receive(
    mut body: Body,
    receiving: &Receiving<'_>,
    admit: impl Fn() -> Result<(), Problem>,
) -> Result<Bytes, Problem> {
    let (limit, time) = (receiving.limit, receiving.time);
    let announced = body.size_hint().lower();
    if announced > limit {
        return Err(Problem::too_large(limit));
    }
    let deadline = Instant::now() + time;
    // Most bodies arrive in one piece with their head, and are then used without a copy.
    let there = poll_fn(|cx| match Pin::new(&mut body).poll_frame(cx) {
        Poll::Ready(frame) => Poll::Ready(Some(frame)),
        Poll::Pending => Poll::Ready(None),
    });
    let first = match there.await {
        Some(frame) => data(frame)?,
        None => None,
    };
    if body.is_end_stream() {
        let whole = first.unwrap_or_default();
        return keep(whole, receiving);
    }
    admit()?;
    let mut arrival =
        receiving
            .arrivals
            .body(receiving.source, receiving.client.address(), announced);
    receiving.client.is_sending(true);
    let mut frame = first;
    let mut length = 0;
    loop {
        if let Some(frame) = frame {
            length += frame.len() as u64;
            if length > limit {
                return Err(Problem::too_large(limit));
            }
            arrival.push(&frame).map_err(|GaveWay| gave_way())?;
        }
        let next = tokio::select! {
            biased;
            () = arrival.gave_way() => return Err(gave_way()),
            next = timeout_at(deadline, body.frame()) => next.map_err(|_| too_slow(time))?,
        };
        frame = match next {
            None => break,
            next => data(next)?,
        };
    }
    receiving.client.is_sending(false);
    let whole = arrival.take().map_err(|GaveWay| gave_way())?;
    // The arrival still counts while the request takes over.
    keep(whole, receiving)
}

/// Counts a whole body as a request in progress.
fn keep(whole: Bytes, receiving: &Receiving<'_>) -> Result<Bytes, Problem> {
    let wait = Duration::from_secs(1);
    match receiving.memory.grow_to(whole.len() as u64) {
        Ok(()) => Ok(whole),
        Err(Exhausted::Now) => Err(Problem::busy(
            "too many requests are in memory; nothing was taken, send it again in a moment",
            wait,
        )),
        Err(Exhausted::Ever { limit }) => Err(Problem::too_large(limit)),
    }
}

/// The data of a frame; `None` for trailers, which nothing reads, and at the end.
fn data(frame: Option<Result<Frame<Bytes>, axum::Error>>) -> Result<Option<Bytes>, Problem> {
    match frame.transpose() {
        Ok(frame) => Ok(frame.and_then(|frame| frame.into_data().ok())),
        Err(error) => Err(Problem::bad_request(
            "body-broken",
            "the body ended before it was complete",
        )
        .logged(error.to_string())),
    }
}

fn too_slow(time: Duration) -> Problem {
    let detail = format!("the body was not complete after {} s", time.as_secs_f64());
    Problem::new(StatusCode::REQUEST_TIMEOUT, "body-timeout", detail)
}

fn gave_way() -> Problem {
    Problem::busy(
        "the memory for bodies is used up, and this one arrived more slowly than others or its \
         sender has more of them under way; nothing was taken, send it again in a moment",
        Duration::from_secs(1),
    )
}

#[cfg(test)]
mod tests {
    use axum::http::Extensions;

    use super::*;
    use crate::budget::Budget;

    async fn received(
        budget: &Budget,
        length: usize,
        limit: u64,
    ) -> Result<(Bytes, Reservation), Problem> {
        let memory = budget.reservation("erp");
        let receiving = Receiving {
            limit,
            time: Duration::from_secs(1),
            source: "erp",
            client: &Client::of(&Extensions::new()),
            arrivals: &Arrivals::new(1 << 20),
            memory: &memory,
        };
        let bytes = receive(Body::from(vec![7; length]), &receiving, || Ok(())).await?;
        Ok((bytes, memory))
    }

    #[tokio::test]
    async fn bodies_share_a_budget_and_give_it_back() {
        let budget = Budget::new(3000);
        let (bytes, memory) = received(&budget, 2000, u64::MAX)
            .await
            .unwrap_or_else(|problem| panic!("{problem:?}"));
        assert_eq!((bytes.len(), memory.held()), (2000, 2000));
        let status = async |length| {
            let received = received(&budget, length, u64::MAX).await;
            received.err().map(|problem| problem.status())
        };
        assert_eq!(status(2000).await, Some(StatusCode::SERVICE_UNAVAILABLE));
        assert_eq!(status(4000).await, Some(StatusCode::PAYLOAD_TOO_LARGE));
        drop(memory);
        assert_eq!(status(3000).await, None);
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
