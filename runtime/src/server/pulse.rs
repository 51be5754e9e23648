//! The phase of a connection, when that phase must be over, and how much of the connection's time
//! its client has used.
//!
//! hyper has one timer for the time between requests and the time of a head, so the phases are
//! tracked here, by watching what is read from the socket and written to it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Limits;
use super::wire::{BodyLength, Wire};
use crate::sync::lock;

/// Time that a client has for its part before its connection may be closed in favour of another.
const TURN: Duration = Duration::from_secs(1);

/// The phase of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Between requests.
    Idle,
    /// Part of a head has arrived, or nothing yet on a new connection.
    Head,
    /// A handler waits for the rest of the body.
    Receiving,
    /// A handler is running.
    Serving,
    /// A response is being written, or its body is being made.
    Answering,
    /// A response without an end is being written. It says something at least at each beat, so that time
    /// without progress means that its client does not take it.
    Streaming,
}

/// Marks a response without an end, in its extensions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Endless;

/// A connection's phase and its clocks.
#[derive(Debug)]
pub(super) struct Pulse {
    limits: Arc<Limits>,
    state: Mutex<State>,
    closed: Notify,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// When the phase was entered.
    since: Instant,
    /// Bytes that the client has sent or taken in this phase.
    bytes: u64,
    /// When it did so last.
    last: Instant,
    /// When the connection is closed if nothing happens.
    due: Option<Instant>,
    /// Whether the response has a body of which a part is still to be handed to the socket.
    unfinished: bool,
    wire: Wire,
    closing: bool,
}

/// How readily a connection is closed when another one needs its place; the least goes first.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(super) struct Claim {
    class: u8,
    /// Seconds of waiting, negative; of a body, its bytes per second.
    rank: f64,
}

impl Pulse {
    pub(super) fn new(limits: Arc<Limits>) -> Pulse {
        let now = Instant::now();
        let due = Some(now + limits.head_time);
        Pulse {
            limits,
            state: Mutex::new(State {
                phase: Phase::Head,
                since: now,
                bytes: 0,
                last: now,
                due,
                unfinished: false,
                wire: Wire::default(),
                closing: false,
            }),
            closed: Notify::new(),
        }
    }

    /// Enters a phase.
    pub(super) fn set(&self, phase: Phase) {
        self.enter(&mut lock(&self.state), phase);
    }

    /// A whole head has arrived; its handler starts.
    pub(super) fn serving(&self, body: BodyLength) {
        let mut state = lock(&self.state);
        state.wire.dispatched(body);
        self.enter(&mut state, Phase::Serving);
    }

    /// A response is there, and its body has begun: [`Pulse::finished`] says when it has ended.
    pub(super) fn answering(&self, endless: bool) {
        let mut state = lock(&self.state);
        state.unfinished = true;
        let phase = if endless {
            Phase::Streaming
        } else {
            Phase::Answering
        };
        self.enter(&mut state, phase);
    }

    /// The whole body of the response has been handed over, or never will be.
    pub(super) fn finished(&self) {
        lock(&self.state).unfinished = false;
    }

    /// The client has sent these bytes.
    pub(super) fn read(&self, bytes: &[u8]) {
        let mut state = lock(&self.state);
        if state.phase == Phase::Idle {
            self.enter(&mut state, Phase::Head);
        }
        state.wire.read(bytes);
        state.bytes += bytes.len() as u64;
        state.last = Instant::now();
    }

    /// The client has taken this many bytes of its response.
    pub(super) fn wrote(&self, bytes: usize) {
        let mut state = lock(&self.state);
        if matches!(state.phase, Phase::Answering | Phase::Streaming) {
            state.bytes += bytes as u64;
            state.last = Instant::now();
            state.due = Some(state.last + self.limits.write_time);
        }
    }

    /// Everything that was handed over is out. If that is the whole response, the connection waits
    /// again; the next head may have begun to arrive behind the request.
    pub(super) fn flushed(&self) {
        let mut state = lock(&self.state);
        let writing = matches!(state.phase, Phase::Answering | Phase::Streaming);
        if writing && !state.unfinished {
            let next = if state.wire.has_more() {
                Phase::Head
            } else {
                Phase::Idle
            };
            self.enter(&mut state, next);
        }
    }

    /// When to close the connection if nothing happens.
    pub(super) fn due(&self) -> Option<Instant> {
        lock(&self.state).due
    }

    /// What it does at this moment.
    pub(super) fn phase(&self) -> Phase {
        lock(&self.state).phase
    }

    /// Whether no request is in progress.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(lock(&self.state).phase, Phase::Idle | Phase::Head)
    }

    /// Whether a stop may close the connection at once: no request is in progress, or one whose response
    /// has no end.
    pub(super) fn is_free_to_stop(&self) -> bool {
        let phase = lock(&self.state).phase;
        matches!(phase, Phase::Idle | Phase::Head | Phase::Streaming)
    }

    /// Closes the connection in favour of another one.
    pub(super) fn close(&self) {
        lock(&self.state).closing = true;
        self.closed.notify_one();
    }

    /// Returns when the connection must be closed in favour of another one.
    pub(super) async fn closed(&self) {
        self.closed.notified().await;
    }

    /// Whether [`Pulse::close`] was called.
    pub(super) fn is_closing(&self) -> bool {
        lock(&self.state).closing
    }

    /// Its claim to its place: idle connections have the weakest, then those whose head is slow,
    /// whose response is not taken, and whose body is slow. `None` if the client has done its part,
    /// or still has time for it. Streams have a cap of their own, and keep their places.
    pub(super) fn claim(&self, now: Instant) -> Option<Claim> {
        let state = lock(&self.state);
        let (lasted, silent) = (now - state.since, now - state.last);
        let longest_first = |time: Duration| -time.as_secs_f64();
        let (class, rank) = match state.phase {
            Phase::Idle => (0, longest_first(lasted)),
            Phase::Head if state.bytes == 0 => (0, longest_first(lasted)),
            Phase::Head if lasted >= TURN => (1, longest_first(lasted)),
            Phase::Answering if silent >= TURN => (2, longest_first(silent)),
            Phase::Receiving if lasted >= TURN => (3, state.bytes as f64 / lasted.as_secs_f64()),
            _ => return None,
        };
        Some(Claim { class, rank })
    }

    fn enter(&self, state: &mut State, phase: Phase) {
        let time = match phase {
            Phase::Idle => Some(self.limits.idle_time),
            Phase::Head => Some(self.limits.head_time),
            // The handler bounds the time of the body.
            Phase::Receiving | Phase::Serving => None,
            Phase::Answering | Phase::Streaming => Some(self.limits.write_time),
        };
        let now = Instant::now();
        state.phase = phase;
        state.since = now;
        state.bytes = 0;
        state.last = now;
        state.due = time.map(|time| now + time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A long list goes out in pieces. After the first, its connection counted as idle: it was among
    // the first to be closed when others came.
    #[tokio::test(start_paused = true)]
    async fn a_connection_is_not_idle_before_the_last_piece_of_its_response_is_out() {
        let pulse = Pulse::new(Arc::default());
        pulse.read(b"GET / HTTP/1.1\r\n\r\n");
        pulse.serving(BodyLength::Exact(0));
        pulse.answering(false);
        for _ in 0..2 {
            pulse.wrote(64 << 10);
            pulse.flushed();
            assert!(!pulse.is_waiting());
            assert_eq!(pulse.claim(Instant::now()), None, "its client takes it");
        }
        tokio::time::advance(TURN).await;
        let slow = pulse.claim(Instant::now()).map(|claim| claim.class);
        assert_eq!(slow, Some(2), "its client does not take it");
        pulse.finished();
        pulse.flushed();
        assert!(pulse.is_waiting());
    }

    // A stream turned idle after its first event, and was closed 75 s later however often it wrote.
    #[tokio::test(start_paused = true)]
    async fn a_stream_lives_as_long_as_its_client_takes_it() {
        let pulse = Pulse::new(Arc::default());
        pulse.read(b"GET / HTTP/1.1\r\n\r\n");
        pulse.serving(BodyLength::Exact(0));
        pulse.answering(true);
        for _ in 0..20 {
            pulse.wrote(64);
            pulse.flushed();
            tokio::time::advance(Duration::from_secs(10)).await;
            assert!(!pulse.is_waiting());
            assert!(pulse.due() > Some(Instant::now()), "it made progress");
            assert_eq!(pulse.claim(Instant::now()), None, "it keeps its place");
        }
        tokio::time::advance(Duration::from_secs(20)).await;
        assert!(pulse.due() <= Some(Instant::now()), "30 s without progress");
        assert!(pulse.is_free_to_stop());
        pulse.finished();
        pulse.flushed();
        assert!(pulse.is_waiting());
    }

    // A connection that had sent one request and half of a second head behind it in one piece
    // counted as idle, and was kept for 75 s.
    #[tokio::test(start_paused = true)]
    async fn half_a_head_behind_a_request_has_the_time_of_a_head() {
        let head: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n";
        let due = |sent: &[u8], body| {
            let pulse = Pulse::new(Arc::default());
            pulse.read(sent);
            pulse.serving(body);
            pulse.answering(false);
            pulse.finished();
            pulse.flushed();
            pulse.due().unwrap() - Instant::now()
        };
        let (idle, half) = (Duration::from_secs(75), Duration::from_secs(10));
        let with = |more: &[u8]| [head, more].concat();
        let none = BodyLength::Exact(0);
        assert_eq!(due(head, none), idle);
        assert_eq!(due(&with(b""), none), idle);
        assert_eq!(due(&with(b"GET /he"), none), half);
        assert_eq!(due(&with(b"four"), BodyLength::Exact(4)), idle);
        assert_eq!(due(&with(b"fourG"), BodyLength::Exact(4)), half);
        let chunked = BodyLength::Chunked;
        assert_eq!(due(&with(b"1\r\nx\r\n0\r\n\r\n"), chunked), idle);
        assert_eq!(due(&with(b"1\r\nx\r\n0\r\n\r\nGE"), chunked), half);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_longest_without_doing_anything_is_closed_first() {
        let pulse = || Pulse::new(Arc::default());
        let served = |pulse: Pulse, phase| {
            pulse.read(b"GET / HTTP/1.1\r\n\r\n");
            pulse.serving(BodyLength::Exact(0));
            pulse.set(phase);
            pulse
        };
        let idle = served(pulse(), Phase::Idle);
        let slow_body = served(pulse(), Phase::Receiving);
        let not_read = served(pulse(), Phase::Answering);
        let busy = served(pulse(), Phase::Serving);
        let half_head = pulse();
        half_head.read(b"GET");
        tokio::time::advance(TURN).await;
        let body = served(pulse(), Phase::Receiving);
        let new = pulse();
        let now = Instant::now();
        assert_eq!(busy.claim(now), None);
        assert_eq!(body.claim(now), None, "it has a second for its part");
        let order = [&idle, &new, &half_head, &not_read, &slow_body];
        let claims: Vec<Claim> = order.iter().filter_map(|it| it.claim(now)).collect();
        assert_eq!(claims.len(), 5);
        assert!(claims.is_sorted(), "{claims:?}");
    }
}
