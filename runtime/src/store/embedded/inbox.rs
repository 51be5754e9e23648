//! The queue before the writer: everything that waits to be written, and whose turn it is.
//!
//! Each source has a line of its own, in which the order of the calls holds. Between the lines, the
//! one that has used the least of the writer's time comes first. The writer takes **turns**: a turn
//! is bounded by the number of its events and by an estimate of the time that writing them takes. So
//! a source waits for at most one turn of the others before its own, however much they have queued
//! and however much each of their events changes. Only a single event that changes more than a turn
//! holds exceeds the bound, because the changes of an event are written together.
//!
//! A line may hold half of the room that the other lines leave. A source that floods is refused
//! while the others still have room.
//!
//! Work other than commits (saves, joins) waits in a line of its own and alternates with the turns.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex};

use tokio::sync::oneshot;

use super::writer::Writer;
use crate::model::{Payload, Sequence};
use crate::store::{Commit, Committed, Effect, Error, Verdict};
use crate::sync::{lock, unpoisoned};

/// Events that may wait in all lines. A line may hold half of what the others leave: 20,000 if it
/// is the only one. At 40,000 events a second that is half a second.
const WAITING_EVENTS: usize = 40_000;
/// Bytes that may wait in all lines, shared in the same way. They hold what mappers produce, which
/// may be far more than the bodies of the requests.
const WAITING_BYTES: u64 = 128 * 1024 * 1024;

/// The most events of a turn, and so of a sync; more would block readers for longer and would not
/// be cheaper per event.
const TURN_EVENTS: usize = 512;
/// The most time that writing a turn may take, in microseconds, by the estimate of [`Size`]. A
/// source waits for the turn being written and for its own, so it waits about twice this long.
const TURN_MICROS: u64 = 20_000;
/// The most that a line gives at once, in events and in microseconds.
const SLICE_EVENTS: usize = 128;
const SLICE_MICROS: u64 = 5_000;

/// Estimated time of the writer, in microseconds: for the record of an entity, for a change in it,
/// and for this many bytes. Measured with 1.5 million entities (`BENCHMARKS.md`).
const ENTITY_MICROS: u64 = 20;
const CHANGE_MICROS: u64 = 2;
const BYTES_A_MICRO: u64 = 100;
/// The deletion of a family counts as this many changes; how many it is, only the index knows.
const FAMILY_CHANGES: u64 = 64;

pub(super) type Work = Box<dyn FnOnce(&mut Writer) + Send>;
pub(super) type Answer = oneshot::Sender<Result<Committed, Error>>;

/// Why a request was not queued.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The line of its source is full.
    Full {
        /// The events that wait in this line.
        waiting: usize,
    },
    /// The queue is closed.
    Closed,
}

/// What the writer does next.
pub(super) enum Next {
    /// The commits of one turn.
    Turn(Vec<Slice>),
    /// Something else.
    Work(Work),
}

/// Consecutive events of one request.
pub(super) struct Slice {
    pub(super) events: Vec<Commit>,
    pub(super) reply: Arc<Reply>,
    size: Size,
}

/// What events take: places in the queue, memory, and an estimate of the writer's time.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    events: usize,
    bytes: u64,
    micros: u64,
}

impl Size {
    fn of(commit: &Commit) -> Size {
        let (bytes, entities, changes) = match &commit.effect {
            Effect::Filtered => (0, 0, 0),
            Effect::Quarantine(quarantined) => {
                let data = match &quarantined.event.data {
                    Payload::Text(text) => text.len(),
                    Payload::Binary(bytes) => bytes.len(),
                };
                (data, 1, 1)
            }
            Effect::Changes(changes) => {
                let (mut bytes, mut entities, mut before) = (0, 0, None);
                let mut single = 0;
                for change in changes {
                    single += change.deleted_family().map_or(1, |_| FAMILY_CHANGES);
                    bytes += size_of_val(change)
                        + change.id.key.len()
                        + change.value.as_ref().map_or(0, |value| value.len());
                    entities += u64::from(before.replace(&change.id) != Some(&change.id));
                }
                (bytes, entities, single)
            }
        };
        let bytes = (bytes + size_of::<Commit>()) as u64;
        Size {
            events: 1,
            bytes,
            micros: 1 + entities * ENTITY_MICROS + changes * CHANGE_MICROS + bytes / BYTES_A_MICRO,
        }
    }

    fn plus(self, more: Size) -> Size {
        Size {
            events: self.events + more.events,
            bytes: self.bytes + more.bytes,
            micros: self.micros + more.micros,
        }
    }

    fn minus(self, less: Size) -> Size {
        Size {
            events: self.events - less.events,
            bytes: self.bytes - less.bytes,
            micros: self.micros - less.micros,
        }
    }
}

/// The answer to a request, whose slices may be written in several turns.
pub(super) struct Reply(Mutex<Option<Unanswered>>);

struct Unanswered {
    verdicts: Vec<Verdict>,
    /// Slices that are not written yet.
    missing: usize,
    answer: Answer,
}

impl Reply {
    /// Whether nobody has an answer yet. A request that has failed is not continued: its sender
    /// sends all of it again.
    pub(super) fn is_open(&self) -> bool {
        lock(&self.0).is_some()
    }

    /// Takes the result of the next slice, and answers the request with its last one. `sequence` is
    /// the head of the durable sequence.
    pub(super) fn written(&self, verdicts: Vec<Verdict>, sequence: Sequence) {
        let mut reply = lock(&self.0);
        let Some(open) = reply.as_mut() else { return };
        open.missing -= 1;
        if open.verdicts.is_empty() {
            open.verdicts = verdicts;
        } else {
            open.verdicts.extend(verdicts);
        }
        if open.missing == 0
            && let Some(open) = reply.take()
        {
            let verdicts = open.verdicts;
            let _ = open.answer.send(Ok(Committed { verdicts, sequence })); // the caller may have gone
        }
    }

    /// Answers the request with an error.
    pub(super) fn failed(&self, error: Error) {
        if let Some(open) = lock(&self.0).take() {
            let _ = open.answer.send(Err(error)); // the caller may have gone
        }
    }
}

/// The queue.
#[derive(Default)]
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

impl Inbox {
    /// Queues the events of one request, in the line of the first one's source.
    ///
    /// # Errors
    /// The reason, with the events.
    pub(super) fn commit(
        &self,
        events: Vec<Commit>,
        answer: Answer,
    ) -> Result<(), (Refusal, Vec<Commit>)> {
        let source = events.first().map(|event| event.source.clone());
        let slices = sliced(events, answer);
        let pushed = lock(&self.waiting).push(source.unwrap_or_else(|| "".into()), slices);
        self.arrived.notify_one();
        pushed.map_err(|(refusal, slices)| {
            let events = slices.into_iter().flat_map(|slice| slice.events).collect();
            (refusal, events)
        })
    }

    /// Queues other work. Returns false if the queue is closed.
    pub(super) fn work(&self, work: Work) -> bool {
        let mut waiting = lock(&self.waiting);
        if !waiting.closed {
            waiting.work.push_back(work);
            self.arrived.notify_one();
        }
        !waiting.closed
    }

    /// Takes nothing more. The writer does what waits, then `last`, and ends. Returns false if the
    /// queue was closed before.
    pub(super) fn close(&self, last: Option<Work>) -> bool {
        let mut waiting = lock(&self.waiting);
        let closes = !waiting.closed;
        if closes {
            (waiting.closed, waiting.last) = (true, last);
            self.arrived.notify_one();
        }
        closes
    }

    /// Takes nothing more, and drops what waits: its callers learn that the store has failed.
    pub(super) fn abandon(&self) {
        let closed = Waiting {
            closed: true,
            ..Waiting::default()
        };
        // Under one lock: what came in between would wait for an answer that nobody gives.
        let dropped = std::mem::replace(&mut *lock(&self.waiting), closed);
        drop(dropped);
    }

    /// Waits for something to do; `None` when the queue is closed and everything is done.
    pub(super) fn next(&self) -> Option<Next> {
        let mut waiting = lock(&self.waiting);
        loop {
            if let Some(next) = waiting.next() {
                return Some(next);
            }
            if waiting.closed {
                return waiting.last.take().map(Next::Work);
            }
            waiting = unpoisoned(self.arrived.wait(waiting));
        }
    }
}

/// Everything that waits.
#[derive(Default)]
struct Waiting {
    /// By source. A line without slices is kept while it has used more than its share.
    lines: BTreeMap<Arc<str>, Line>,
    size: Size,
    /// What the line that was served last had used before, in microseconds. A source that returns
    /// begins here, so that it cannot save up time while it is idle.
    clock: u64,
    work: VecDeque<Work>,
    /// How much of `work` has waited since before the last turn, and so comes before the next one.
    work_due: usize,
    last: Option<Work>,
    closed: bool,
}

#[derive(Default)]
struct Line {
    slices: VecDeque<Slice>,
    size: Size,
    /// The writer's time that the line has used, in microseconds, on the scale of `clock`.
    used: u64,
}

impl Waiting {
    fn push(
        &mut self,
        source: Arc<str>,
        slices: VecDeque<Slice>,
    ) -> Result<(), (Refusal, VecDeque<Slice>)> {
        if self.closed {
            return Err((Refusal::Closed, slices));
        }
        let more = slices
            .iter()
            .fold(Size::default(), |sum, slice| sum.plus(slice.size));
        let line = self.lines.entry(source).or_default();
        let (others, with) = (self.size.minus(line.size), line.size.plus(more));
        let fits = with.events <= WAITING_EVENTS.saturating_sub(others.events) / 2
            && with.bytes <= WAITING_BYTES.saturating_sub(others.bytes) / 2;
        if line.slices.is_empty() {
            line.used = line.used.max(self.clock);
        } else if !fits {
            let waiting = line.size.events;
            return Err((Refusal::Full { waiting }, slices));
        }
        line.size = with;
        self.size = self.size.plus(more);
        line.slices.extend(slices);
        Ok(())
    }

    fn next(&mut self) -> Option<Next> {
        if self.work_due == 0 && self.size.events > 0 {
            self.work_due = self.work.len();
            return Some(Next::Turn(self.turn()));
        }
        self.work_due = self.work_due.saturating_sub(1);
        self.work.pop_front().map(Next::Work)
    }

    fn turn(&mut self) -> Vec<Slice> {
        let (mut turn, mut events, mut micros) = (Vec::new(), 0, 0);
        while events < TURN_EVENTS {
            let waiting = self.lines.values_mut().filter(|line| line.size.events > 0);
            let Some(line) = waiting.min_by_key(|line| line.used) else {
                break;
            };
            let Some(slice) = line
                .slices
                .pop_front_if(|slice| turn.is_empty() || micros + slice.size.micros <= TURN_MICROS)
            else {
                break;
            };
            (self.clock, line.used) = (line.used, line.used + slice.size.micros);
            line.size = line.size.minus(slice.size);
            self.size = self.size.minus(slice.size);
            events += slice.size.events;
            micros += slice.size.micros;
            turn.push(slice);
        }
        let clock = self.clock;
        self.lines
            .retain(|_, line| line.size.events > 0 || line.used > clock);
        turn
    }
}

/// Cuts a request into slices, each as large as a line may give at once. A request without events
/// is one slice too, so that it is answered.
fn sliced(events: Vec<Commit>, answer: Answer) -> VecDeque<Slice> {
    let mut parts: Vec<(Vec<Commit>, Size)> = Vec::new();
    for event in events {
        let size = Size::of(&event);
        match parts.last_mut() {
            Some((part, sum))
                if sum.events < SLICE_EVENTS && sum.micros + size.micros <= SLICE_MICROS =>
            {
                part.push(event);
                *sum = sum.plus(size);
            }
            _ => parts.push((vec![event], size)),
        }
    }
    let nothing = Size {
        events: 1,
        ..Size::default()
    };
    if parts.is_empty() {
        parts.push((Vec::new(), nothing));
    }
    let reply = Arc::new(Reply(Mutex::new(Some(Unanswered {
        verdicts: Vec::new(),
        missing: parts.len(),
        answer,
    }))));
    let slice = |(events, size)| Slice {
        events,
        reply: reply.clone(),
        size,
    };
    parts.into_iter().map(slice).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EntityId, Lane};
    use crate::store::FacetChange;

    /// An event of `source` that changes this many entities.
    fn event(source: &str, entities: usize) -> Commit {
        let change = |key: usize| FacetChange {
            id: EntityId {
                entity_type: "product".into(),
                key: key.to_string().into(),
            },
            facet: "price".into(),
            owner: source.into(),
            lane: Lane::Normal,
            version: None,
            value: Some("1".into()),
            hash: 1,
        };
        Commit {
            source: source.into(),
            identity: None,
            arrival: None,
            effect: Effect::Changes((0..entities).map(change).collect()),
        }
    }

    fn queue(inbox: &Inbox, source: &str, events: usize, entities: usize) -> Result<(), Refusal> {
        let sent = (0..events).map(|_| event(source, entities)).collect();
        let queued = inbox.commit(sent, oneshot::channel().0);
        queued.map_err(|(refusal, returned)| {
            assert_eq!(returned.len(), events);
            refusal
        })
    }

    /// The next turn: the events of each source in it, and its size.
    fn turn(inbox: &Inbox) -> (BTreeMap<String, usize>, Size) {
        let Some(Next::Turn(slices)) = inbox.next() else {
            panic!("commits wait");
        };
        let (mut events, mut size) = (BTreeMap::new(), Size::default());
        for slice in slices {
            let source = slice.events[0].source.to_string();
            *events.entry(source).or_default() += slice.events.len();
            size = size.plus(slice.size);
        }
        (events, size)
    }

    /// Four small requests of one source mapped to 4,096 changes an event. They held the writer for
    /// 54 s, and every other source waited as long.
    #[test]
    fn a_source_waits_for_at_most_one_turn_of_another_that_queues_heavy_events() {
        let inbox = Inbox::default();
        queue(&inbox, "bad", 64, 4_096).unwrap();
        let mut heavy = 0;
        for _ in 0..50 {
            let (events, size) = turn(&inbox);
            assert!(size.micros <= 105_000, "{size:?}: more than one event");
            heavy += events.get("bad").copied().unwrap_or(0);
            queue(&inbox, "good", 1, 1).unwrap();
            let (events, size) = turn(&inbox);
            assert!(
                events.contains_key("good") && size.micros < 200,
                "{events:?} {size:?}"
            );
        }
        assert_eq!(heavy, 50, "the heavy source goes on meanwhile");
    }

    #[test]
    fn sources_that_flood_share_the_turns_by_cost() {
        let inbox = Inbox::default();
        queue(&inbox, "light", 5_000, 1).unwrap();
        queue(&inbox, "heavy", 500, 10).unwrap();
        let (mut light, mut heavy) = (0, 0);
        for _ in 0..4 {
            let (events, size) = turn(&inbox);
            assert!(size.micros <= TURN_MICROS, "{size:?}");
            light += events.get("light").copied().unwrap_or(0);
            heavy += events.get("heavy").copied().unwrap_or(0);
        }
        let share = light as f64 / (heavy * 10) as f64;
        assert!((0.6..1.7).contains(&share), "{light} light, {heavy} heavy");
    }

    #[test]
    fn a_source_keeps_its_order_and_gets_one_answer() {
        let (inbox, (answer, mut receipt)) = (Inbox::default(), oneshot::channel());
        let events = (1..=1_000).map(|entities| event("erp", entities % 7 + 1));
        inbox.commit(events.collect(), answer).unwrap();
        let (mut sequence, mut seen) = (0, Vec::new());
        while seen.len() < 1_000 {
            assert!(receipt.try_recv().is_err(), "not all of it is written");
            let Some(Next::Turn(slices)) = inbox.next() else {
                panic!("the rest waits");
            };
            sequence += 1;
            for slice in slices {
                let verdict = |event: &Commit| match &event.effect {
                    Effect::Changes(changes) => Verdict::Accepted {
                        committed: changes.len() as u32,
                        unchanged: 0,
                        stale: 0,
                        newest: Sequence(0),
                    },
                    _ => Verdict::Filtered,
                };
                let verdicts: Vec<_> = slice.events.iter().map(verdict).collect();
                seen.extend(verdicts.clone());
                slice.reply.written(verdicts, Sequence(sequence));
            }
        }
        assert!(sequence > 1, "it took several turns");
        let committed = receipt.try_recv().unwrap().unwrap();
        assert_eq!(committed.verdicts, seen);
        assert_eq!(committed.sequence, Sequence(sequence));
        let expected = |at: usize| (at + 1) as u32 % 7 + 1;
        for (at, verdict) in seen.iter().enumerate() {
            assert!(
                matches!(verdict, Verdict::Accepted { committed, .. } if *committed == expected(at))
            );
        }
    }

    /// One source flooded Weir, and 71 % of the small requests of another were answered 429.
    #[test]
    fn a_source_that_floods_is_refused_while_the_others_still_have_room() {
        let inbox = Inbox::default();
        let flood = |source: &str| (0..).find_map(|_| queue(&inbox, source, 100, 1).err());
        assert_eq!(flood("first"), Some(Refusal::Full { waiting: 20_000 }));
        assert_eq!(flood("second"), Some(Refusal::Full { waiting: 10_000 }));
        for _ in 0..1_000 {
            queue(&inbox, "small", 1, 1).unwrap();
        }
        assert!(queue(&inbox, "first", 1, 1).is_err());
    }

    #[test]
    fn a_line_is_bounded_in_bytes_too_and_takes_one_request_of_any_size() {
        let inbox = Inbox::default();
        queue(&inbox, "wide", 200, 4_096).expect("the line is empty");
        let full = queue(&inbox, "wide", 1, 1).unwrap_err();
        assert_eq!(full, Refusal::Full { waiting: 200 });
        queue(&inbox, "other", 1, 1).unwrap();
    }

    #[test]
    fn other_work_alternates_with_turns_and_the_last_work_is_the_last() {
        let inbox = Inbox::default();
        for _ in 0..3 {
            queue(&inbox, "erp", 512, 1).unwrap();
            assert!(inbox.work(Box::new(|_| {})));
        }
        assert!(inbox.close(Some(Box::new(|_| {}))));
        assert!(!inbox.work(Box::new(|_| {})) && !inbox.close(None));
        let kinds = std::iter::from_fn(|| inbox.next()).map(|next| match next {
            Next::Turn(_) => 'T',
            Next::Work(_) => 'w',
        });
        assert_eq!(kinds.collect::<String>(), "TwwwTTw");
    }
}
