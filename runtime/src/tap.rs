//! Taps: what passes a source or a channel, item by item, for somebody who looks.
//!
//! Each source and channel has a [`Point`] where taps are opened. While none is open, passing it costs one
//! relaxed load, and nothing is copied. An item is an event with what became of it, or what became of an
//! entity on a channel; `story` has what is told of one. Whether a tap takes an item is decided before
//! anything of it is copied: the filter of the tap must let it pass, and the tap takes a few items a second.
//! What it takes is cut to a bounded length and waits in a bounded buffer. If that is full, the item is dropped:
//! whoever reads slowly costs a fixed memory and learns how much was left out.

pub mod story;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::Notify;

use self::story::Story;
use crate::model::EntityId;
use crate::sync::lock;

/// The most items that wait for the reader of a tap.
const ITEMS_MAX: usize = 100;
/// The most bytes of texts in them.
const BYTES_MAX: usize = 4 << 20;

/// What has a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// A source: each of its events is an item.
    Source,
    /// A channel: each result of an entity on it is an item.
    Channel,
}

/// Which items a tap takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Of the entity with this key; an event also by its subject or id.
    pub key: Option<String>,
    /// Of entities of this type; an event also by its own type.
    pub kind: Option<String>,
    /// With this outcome.
    pub outcome: Option<String>,
    /// The most items a second.
    pub per_second: u32,
    /// With longer texts.
    pub full: bool,
}

impl Wanted {
    /// Whether an entity is wanted.
    pub fn is_of(&self, id: &EntityId) -> bool {
        self.is_by(&id.entity_type, &id.key)
    }

    /// The same, by type and key.
    pub fn is_by(&self, kind: &str, key: &str) -> bool {
        let is =
            |wanted: &Option<String>, it: &str| wanted.as_deref().is_none_or(|want| want == it);
        is(&self.kind, kind) && is(&self.key, key)
    }
}

/// The points of all sources and channels.
#[derive(Debug, Default)]
pub struct Points(Mutex<Named>);

type Named = BTreeMap<(Side, Arc<str>), Arc<Point>>;

impl Points {
    /// The point of a source or a channel. It stays the same when a reload replaces either.
    pub fn of(&self, side: Side, name: &Arc<str>) -> Arc<Point> {
        lock(&self.0)
            .entry((side, name.clone()))
            .or_default()
            .clone()
    }
}

/// Where taps on one source or channel are opened.
#[derive(Debug, Default)]
pub struct Point {
    is_tapped: AtomicBool,
    taps: Mutex<Arc<[Arc<Tap>]>>,
}

impl Point {
    /// The open taps; `None` if there is none.
    pub fn open(&self) -> Option<Open> {
        let is_tapped = self.is_tapped.load(Relaxed);
        is_tapped.then(|| Open(lock(&self.taps).clone()))
    }

    /// Opens a tap, which is closed when it is dropped.
    pub fn listen(self: &Arc<Point>, wanted: Wanted) -> Listener {
        let tap = Arc::new(Tap::new(wanted, Instant::now()));
        self.change(|taps| taps.push(tap.clone()));
        Listener {
            point: self.clone(),
            tap,
        }
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Tap>>)) {
        let mut taps = lock(&self.taps);
        let mut changed = taps.to_vec();
        change(&mut changed);
        self.is_tapped.store(!changed.is_empty(), Relaxed);
        *taps = changed.into();
    }
}

/// The open taps of a point.
#[derive(Clone, Debug)]
pub struct Open(Arc<[Arc<Tap>]>);

impl Open {
    /// Whether a tap would take an item that is like this as far as it is known.
    pub fn expects(&self, fits: impl Fn(&Wanted) -> bool) -> bool {
        let now = Instant::now();
        let mut taps = self.0.iter();
        taps.any(|tap| fits(&tap.wanted) && lock(&tap.state).tokens.has_one(tap.rate(), now))
    }

    /// Offers an item with its outcome: each tap that takes it gets its story, made for its length of texts.
    pub fn offer(
        &self,
        outcome: &str,
        fits: impl Fn(&Wanted) -> bool,
        story: impl Fn(bool) -> Story,
    ) {
        let now = Instant::now();
        for tap in &*self.0 {
            let by_outcome = tap.wanted.outcome.as_deref();
            if by_outcome.is_none_or(|wanted| wanted == outcome) && fits(&tap.wanted) {
                tap.offer(now, || story(tap.wanted.full));
            }
        }
    }
}

/// One tap: its filter, its rate and its buffer.
#[derive(Debug)]
struct Tap {
    wanted: Wanted,
    state: Mutex<State>,
    news: Notify,
}

#[derive(Debug)]
struct State {
    tokens: Tokens,
    figures: Figures,
    /// Items left out since the last one that was taken.
    gap: u64,
    /// Each with the number of those that were left out before it.
    items: VecDeque<(u64, Story)>,
    bytes: usize,
}

/// What a tap has seen since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Items that its filter let pass.
    pub seen: u64,
    /// Those of them that it did not take, because there were more than it takes in a second.
    pub skipped: u64,
    /// Those that were dropped, because its reader was slow.
    pub dropped: u64,
}

impl Tap {
    fn new(wanted: Wanted, now: Instant) -> Tap {
        Tap {
            state: Mutex::new(State {
                tokens: Tokens {
                    left: f64::from(wanted.per_second.max(1)),
                    at: now,
                },
                figures: Figures::default(),
                gap: 0,
                items: VecDeque::new(),
                bytes: 0,
            }),
            wanted,
            news: Notify::new(),
        }
    }

    fn rate(&self) -> f64 {
        f64::from(self.wanted.per_second.max(1))
    }

    fn offer(&self, now: Instant, story: impl FnOnce() -> Story) {
        let mut state = lock(&self.state);
        state.figures.seen += 1;
        if !state.tokens.has_one(self.rate(), now) {
            state.figures.skipped += 1;
            state.gap += 1;
            return;
        }
        if state.items.len() == ITEMS_MAX || state.bytes >= BYTES_MAX {
            state.figures.dropped += 1;
            state.gap += 1;
            return;
        }
        state.tokens.left -= 1.0;
        let story = story();
        let gap = std::mem::take(&mut state.gap);
        state.bytes += story.bytes();
        state.items.push_back((gap, story));
        drop(state);
        self.news.notify_one();
    }
}

/// How many items may be taken now: as many as come in a second, at most.
#[derive(Debug)]
struct Tokens {
    left: f64,
    at: Instant,
}

impl Tokens {
    fn has_one(&mut self, per_second: f64, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * per_second).min(per_second);
        self.at = self.at.max(now);
        self.left >= 1.0
    }
}

/// Reads a tap.
#[derive(Debug)]
pub struct Listener {
    point: Arc<Point>,
    tap: Arc<Tap>,
}

impl Listener {
    /// The next item, with the number of those that were left out before it.
    pub fn next(&self) -> Option<(u64, Story)> {
        let mut state = lock(&self.tap.state);
        let (gap, story) = state.items.pop_front()?;
        state.bytes -= story.bytes();
        Some((gap, story))
    }

    /// Returns when there may be a next item.
    pub async fn news(&self) {
        self.tap.news.notified().await;
    }

    /// What the tap has seen so far.
    pub fn figures(&self) -> Figures {
        lock(&self.tap.state).figures
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.point
            .change(|taps| taps.retain(|tap| !Arc::ptr_eq(tap, &self.tap)));
    }
}

#[cfg(test)]
mod tests;
