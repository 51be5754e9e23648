//! What the answers of admin routes may cost: readers of long lists take turns, and an answer counts
//! against a budget until its client has taken it.
//!
//! Whoever lists entities or events makes Weir read far more than it sends; a few hundred of them at
//! once took the processor from the senders of events.

use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread::available_parallelism;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::problem::Problem;
use crate::budget::{Budget, Exhausted, Reservation};

/// Memory for answers that are being written, in bytes. A client may take its answer slowly.
const BYTES_MAX: u64 = 128 << 20;
/// How long a reader waits for its turn.
const WAIT: Duration = Duration::from_secs(10);
/// The pieces in which an answer is handed to the connection, so that it is not counted as taken
/// when it has only been queued.
const PIECE_BYTES: usize = 64 << 10;
/// Memory that is set aside for the answer to a request that changes something. Most are far
/// shorter; a reload with hundreds of mistakes may need more.
const SET_ASIDE_BYTES: u64 = 64 << 10;

/// The turns and the memory of admin answers, on all listeners.
#[derive(Debug)]
pub(super) struct Answers {
    /// For reading lists.
    reading: Semaphore,
    /// For redriving or dropping many at once, which may take minutes and must not stop readers.
    settling: Semaphore,
    /// For receipts that wait. Each holds a connection, so that the operator needs the others.
    waiting: Semaphore,
    memory: Budget,
}

impl Answers {
    /// One reader for each two processors, one at least; `waiting_max` receipts that wait.
    pub(super) fn new(waiting_max: usize) -> Answers {
        let processors = available_parallelism().map_or(1, usize::from);
        Answers {
            waiting: Semaphore::new(waiting_max),
            ..Answers::within((processors / 2).max(1), BYTES_MAX)
        }
    }

    fn within(readers: usize, bytes_max: u64) -> Answers {
        Answers {
            reading: Semaphore::new(readers),
            settling: Semaphore::new(1),
            waiting: Semaphore::new(1),
            memory: Budget::new(bytes_max),
        }
    }

    /// A place for a receipt that waits; it is taken until the permit is dropped.
    ///
    /// # Errors
    /// 503 if all are taken.
    pub(super) fn place_to_wait(&self) -> Result<SemaphorePermit<'_>, Problem> {
        self.waiting.try_acquire().map_err(|_| {
            let detail = "too many receipts are waiting; ask without `wait`, or again in a moment";
            Problem::busy(detail, Duration::from_secs(1))
        })
    }

    /// Waits for a turn to read a list; it lasts until the permit is dropped.
    ///
    /// # Errors
    /// 503 if the others took too long.
    pub(super) async fn turn_to_read(&self) -> Result<SemaphorePermit<'_>, Problem> {
        let busy = "too many lists are being read at once; ask again in a moment";
        turn(&self.reading, busy).await
    }

    /// Waits for a turn to redrive or drop many at once; otherwise as [`Answers::turn_to_read`].
    pub(super) async fn turn_to_settle(&self) -> Result<SemaphorePermit<'_>, Problem> {
        let busy =
            "others are being redriven or dropped at the moment; try again when that is done";
        turn(&self.settling, busy).await
    }

    /// Memory for an answer to this client. That of a request that changes something is set aside
    /// before it is carried out, because its client must learn what happened.
    ///
    /// # Errors
    /// 503 if there is none for a request that changes something; nothing has happened then.
    pub(super) fn memory(&self, client: IpAddr, changes: bool) -> Result<Memory, Problem> {
        let reservation = self.memory.reservation(client.to_string());
        if changes && reservation.grow_to(SET_ASIDE_BYTES).is_err() {
            return Err(Problem::busy(
                "too many answers are waiting for their clients to read them, so that this one \
                 could not be given; nothing was done, ask again in a moment",
                Duration::from_secs(1),
            ));
        }
        Ok(Memory {
            reservation,
            changes,
        })
    }

    /// Counts the response against the memory of answers until its client has taken it.
    pub(super) async fn count(&self, response: Response, memory: Memory) -> Response {
        let (parts, body) = response.into_parts();
        // The body is in memory already, so this does not wait.
        let Ok(whole) = body.collect().await else {
            return Problem::internal("an answer could not be collected").into_response();
        };
        let rest = whole.to_bytes();
        let Memory {
            reservation,
            changes,
        } = memory;
        match reservation.grow_to(rest.len() as u64) {
            Ok(()) => {
                reservation.shrink_to(rest.len() as u64);
                Response::from_parts(
                    parts,
                    Body::new(Counted {
                        rest,
                        _memory: reservation,
                    }),
                )
            }
            Err(_) if changes => Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "answer-dropped",
                format!(
                    "the request was carried out with status {}, but there was no memory for its \
                     answer of {} bytes; read the result with GET",
                    parts.status.as_u16(),
                    rest.len()
                ),
            )
            .into_response(),
            Err(Exhausted::Now) => Problem::busy(
                "too many answers are waiting for their clients to read them; ask again in a moment",
                Duration::from_secs(1),
            )
            .into_response(),
            Err(Exhausted::Ever { limit }) => Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "answer-too-large",
                format!("the answer has more than {limit} bytes; ask for fewer items with `limit`"),
            )
            .into_response(),
        }
    }
}

/// Memory for an answer.
pub(super) struct Memory {
    reservation: Reservation,
    /// Whether the request changes something.
    changes: bool,
}

async fn turn<'a>(turns: &'a Semaphore, busy: &str) -> Result<SemaphorePermit<'a>, Problem> {
    match timeout(WAIT, turns.acquire()).await {
        Ok(Ok(permit)) => Ok(permit),
        _ => Err(Problem::busy(busy, Duration::from_secs(1))),
    }
}

/// The body of an answer, and its memory.
struct Counted {
    rest: Bytes,
    _memory: Reservation,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let length = self.rest.len().min(PIECE_BYTES);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn response(length: usize) -> Response {
        Response::new(Body::from(vec![b'x'; length]))
    }

    #[tokio::test]
    async fn an_answer_counts_until_its_client_has_taken_it() {
        let answers = Answers::within(1, 1 << 20);
        let count = async |length| {
            let memory = answers.memory(CLIENT, false).unwrap_or_else(|_| panic!());
            answers.count(response(length), memory).await
        };
        let first = count(900_000).await;
        assert_eq!(first.body().size_hint().exact(), Some(900_000));
        let status = async |length| count(length).await.status();
        assert_eq!(status(200_000).await, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status(2_000_000).await, StatusCode::INTERNAL_SERVER_ERROR);
        let mut body = first.into_body();
        let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(piece.len(), PIECE_BYTES);
        assert_eq!(status(200_000).await, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            body.collect().await.unwrap().to_bytes().len(),
            900_000 - PIECE_BYTES
        );
        assert_eq!(status(200_000).await, StatusCode::OK);
    }

    // While slow readers held the memory of all answers, a redrive of 3,000 events was carried out and
    // answered 503, "ask again in a moment". Its operator redrove them once more.
    #[tokio::test]
    async fn what_was_done_is_never_answered_as_if_it_was_not() {
        let answers = Answers::within(1, 1 << 20);
        let reads = answers.memory([192, 0, 2, 2].into(), false);
        let reads = reads.unwrap_or_else(|_| panic!());
        let early = answers.memory(CLIENT, true).unwrap_or_else(|_| panic!());
        let second = answers.memory([192, 0, 2, 1].into(), true);
        let second = second.unwrap_or_else(|_| panic!());
        let slow = answers.count(response(900_000), reads).await;
        assert_eq!(slow.status(), StatusCode::OK);
        let refused = answers.memory(CLIENT, true).err().expect("no memory");
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(refused.detail().contains("nothing was done"));
        let done = answers.count(response(60_000), early).await;
        assert_eq!(done.status(), StatusCode::OK, "its memory was set aside");
        let dropped = answers.count(response(300_000), second).await;
        assert_eq!(dropped.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let said = dropped.into_body().collect().await.unwrap().to_bytes();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(said.contains("carried out with status 200"), "{said}");
    }

    // Receipts that wait hold connections: with all of them waiting, the operator must still get in.
    #[test]
    fn receipts_beyond_their_bound_are_refused_and_not_queued() {
        let answers = Answers::new(2);
        let places = [answers.place_to_wait(), answers.place_to_wait()];
        assert!(places.iter().all(Result::is_ok));
        let refused = answers.place_to_wait().expect_err("all are taken");
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(
            refused
                .into_response()
                .headers()
                .contains_key("retry-after")
        );
        drop(places);
        assert!(answers.place_to_wait().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn readers_take_turns_and_do_not_wait_for_ever() {
        let answers = Answers::within(1, 1 << 20);
        let turn = answers.turn_to_read().await.unwrap();
        let (waited, _) = tokio::join!(answers.turn_to_read(), tokio::time::sleep(WAIT));
        assert_eq!(
            waited.err().map(|problem| problem.status()),
            Some(StatusCode::SERVICE_UNAVAILABLE)
        );
        drop(turn);
        assert!(answers.turn_to_read().await.is_ok());
        let _settling = answers.turn_to_settle().await.unwrap();
        assert!(answers.turn_to_read().await.is_ok(), "readers go on");
    }
}
