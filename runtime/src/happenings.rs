//! What just happened to entities: accepted from a source, sent to a channel, settled there.
//!
//! A ring of records of one size holds as much as its bytes allow; older ones are overwritten. An entity is
//! recorded as a hash of its type and key, and a source or channel as a number, so that nothing is
//! allocated for an event or a delivery: a batch is recorded under one lock. Whoever looks at an entity goes
//! through the whole ring, which takes less than a millisecond.
//!
//! This is no history: at 10,000 changes a second it reaches back some ten seconds. What must be known for
//! longer is stored: the times of facets, and the pairs of channels.

mod bodies;

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

pub use self::bodies::{BYTES as BODIES_BYTES, Bodies, Body};
use crate::model::{EntityId, PartsDigest, Sequence, Timestamp};
use crate::sync::lock;
use crate::tap::{Open, Point, Points, Side};

/// Memory for the records, in bytes.
const BYTES_MAX: usize = 16 << 20;
/// How many of them that is.
const RECORDS_MAX: usize = BYTES_MAX / size_of::<(Who, Happening)>();
/// The most names of sources and channels. A configuration has fewer; whatever is named beyond them is not
/// recorded.
const NAMES_MAX: usize = u16::MAX as usize;

/// An entity in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hash(u64);

impl Hash {
    /// That of an entity.
    pub fn of(id: &EntityId) -> Hash {
        let mut parts = PartsDigest::new();
        parts.part(&*id.entity_type).part(&*id.key);
        Hash(parts.digest64())
    }
}

/// The number of a source or a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Who(u16);

/// Something that happened to an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Happening {
    /// The entity.
    pub entity: Hash,
    /// When.
    pub time: Timestamp,
    /// Of an accepted event its newest change; of a delivery the revision.
    pub sequence: Sequence,
    /// The id of the trace of the event, if its sender gave one or it is recorded, or of the delivery; 0 if
    /// there is none.
    pub trace: u128,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A source's event changed it, durably. The time is that at which it was handed to the store.
    Accepted,
    /// Its rendering is being sent.
    Sent,
    /// The flight ended. The result is a word of dispatch; the times are in milliseconds before the end.
    Ended {
        /// How, for example `delivered`.
        result: &'static str,
        /// How long ago the channel met it.
        met_ms: u32,
        /// How long ago it was rendered; `None` if it was not.
        rendered_ms: Option<u32>,
    },
}

/// The time now, as the store stamps changes.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Timestamp(since.unwrap_or_default().as_millis() as u64)
}

/// What just happened, of all sources and channels.
#[derive(Debug, Default)]
pub struct Happenings {
    ring: Mutex<Ring>,
    names: Mutex<Vec<Arc<str>>>,
    bodies: Bodies,
    points: Points,
}

#[derive(Debug, Default)]
struct Ring {
    records: Vec<(Who, Happening)>,
    /// Where the next record goes, once the ring is full.
    next: usize,
}

impl Ring {
    fn push(&mut self, record: (Who, Happening)) {
        if self.records.len() < RECORDS_MAX {
            if self.records.len() == self.records.capacity() {
                // It never becomes larger than it may be.
                let more = self.records.len().max(1_024);
                self.records
                    .reserve_exact(more.min(RECORDS_MAX - self.records.len()));
            }
            self.records.push(record);
        } else {
            self.records[self.next] = record;
            self.next = (self.next + 1) % RECORDS_MAX;
        }
    }
}

impl Happenings {
    /// Records what happens in the name of a source or a channel.
    pub fn recorder(self: &Arc<Self>, side: Side, name: &Arc<str>) -> Option<Recorder> {
        let mut names = lock(&self.names);
        let known = names.iter().position(|known| known == name);
        let at = known.unwrap_or(names.len());
        if known.is_none() && at < NAMES_MAX {
            names.push(name.clone());
        }
        (at < NAMES_MAX).then(|| Recorder {
            happenings: self.clone(),
            who: Who(at as u16),
            point: self.points.of(side, name),
        })
    }

    /// What happened to an entity, as far as the ring reaches, the oldest first: in whose name, and what.
    pub fn of(&self, entity: Hash) -> Vec<(Arc<str>, Happening)> {
        let mut found: Vec<(Who, Happening)> = {
            let ring = lock(&self.ring);
            let (newer, older) = ring.records.split_at(ring.next.min(ring.records.len()));
            let records = older.iter().chain(newer);
            records
                .filter(|(_, it)| it.entity == entity)
                .copied()
                .collect()
        };
        // An event is recorded when its sender is answered, and a channel may have been faster.
        found.sort_by_key(|(_, it)| (it.time, it.what != What::Accepted));
        let names = lock(&self.names);
        let named = |(who, happening): (Who, Happening)| {
            Some((names.get(usize::from(who.0))?.clone(), happening))
        };
        found.into_iter().filter_map(named).collect()
    }

    /// Where a source or a channel is tapped.
    pub fn point(&self, side: Side, name: &Arc<str>) -> Arc<Point> {
        self.points.of(side, name)
    }

    /// The bodies that were delivered last.
    pub fn bodies(&self) -> &Bodies {
        &self.bodies
    }
}

/// Records what happens in the name of one source or channel.
#[derive(Clone, Debug)]
pub struct Recorder {
    happenings: Arc<Happenings>,
    who: Who,
    point: Arc<Point>,
}

impl Recorder {
    /// Records all of these, in order.
    pub fn record(&self, happenings: impl Iterator<Item = Happening>) {
        let mut ring = lock(&self.happenings.ring);
        happenings.for_each(|happening| ring.push((self.who, happening)));
    }

    /// The taps that are open; `None` if there is none.
    pub fn taps(&self) -> Option<Open> {
        self.point.open()
    }

    /// Keeps bodies that were delivered, as long as there is memory for them.
    pub fn keep(&self, delivered: impl Iterator<Item = (Hash, Body)>) {
        self.happenings.bodies.keep(self.who, delivered);
    }

    /// The body that this channel delivered last of an entity, if it is still there.
    pub fn body(&self, entity: Hash) -> Option<Body> {
        self.happenings.bodies.get(self.who, entity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(key: &str) -> EntityId {
        EntityId {
            entity_type: "product".into(),
            key: key.into(),
        }
    }

    fn accepted(key: &str, time: u64) -> Happening {
        Happening {
            entity: Hash::of(&id(key)),
            time: Timestamp(time),
            sequence: Sequence(time),
            trace: 0,
            what: What::Accepted,
        }
    }

    #[test]
    fn the_ring_holds_the_newest_records_within_its_bytes() {
        let happenings = Arc::new(Happenings::default());
        let [erp, pim] = ["erp", "pim"].map(|name| {
            happenings
                .recorder(Side::Source, &name.into())
                .expect("few")
        });
        let all = RECORDS_MAX as u64;
        erp.record([accepted("lamp", 1)].into_iter());
        pim.record((2..=all).map(|time| accepted("desk", time)));
        let times = |key| {
            let found = happenings.of(Hash::of(&id(key))).into_iter();
            found
                .map(|(who, it)| (who.to_string(), it.time.0))
                .collect::<Vec<_>>()
        };
        assert_eq!(times("lamp"), [("erp".to_owned(), 1)]);
        erp.record([accepted("sofa", all + 1), accepted("lamp", all + 2)].into_iter());
        assert_eq!(times("lamp"), [("erp".to_owned(), all + 2)]);
        let desk = times("desk");
        assert_eq!((desk.len() as u64, desk[0].1), (all - 2, 3));
        assert!(desk.is_sorted());
        let ring = lock(&happenings.ring);
        assert!(ring.records.capacity() * size_of::<(Who, Happening)>() <= BYTES_MAX);
    }

    #[test]
    fn a_source_that_returns_has_its_number() {
        let happenings = Arc::new(Happenings::default());
        let numbers =
            ["erp", "pim", "erp"].map(|name| happenings.recorder(Side::Source, &name.into()));
        assert_eq!(
            numbers.map(|it| it.map(|it| it.who.0)),
            [Some(0), Some(1), Some(0)]
        );
    }
}
