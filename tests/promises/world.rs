//! A model of a store with channels and targets, small enough for random histories.
//!
//! Targets keep everything that is applied to them, also if the response is lost. A delivery does
//! the same as dispatch, without HTTP: it reads the entity, renders it, suppresses or attempts it,
//! and reports the result to the store.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use weir::inside::index::value_hash;
use weir::inside::model::{
    Entity, EntityId, Failure, Lane, Ordinal, Payload, Rendering, Sequence, Timestamp, Track,
};
use weir::inside::store::memory::Memory;
use weir::inside::store::{
    Commit, Committed, Debounce, Effect, Ending, FacetChange, Holds, Joined, Lease, ListQuery,
    Owed, Queue, Receipt, Settlement, Standing, State, Store, Subscription, Walked, digest,
    embedded,
};

/// A store that can lose its memory.
pub enum Subject {
    /// The specification.
    Memory(Box<Memory>),
    /// sled. One directory is used for many histories and erased in between.
    Embedded(Arc<embedded::Embedded>),
}

impl Subject {
    pub fn store(&self) -> &dyn Store {
        match self {
            Subject::Memory(store) => &**store,
            Subject::Embedded(store) => &**store,
        }
    }

    pub fn crash(&self) {
        match self {
            Subject::Memory(store) => store.crash(),
            Subject::Embedded(store) => store
                .crash()
                .expect("a store that was written can be loaded"),
        }
    }
}

/// The time of the store of the random histories.
static NOW: AtomicU64 = AtomicU64::new(0);

/// An embedded store with small windows, so that their edges are reached, and a clock that stands still.
pub fn embedded_in(folder: &std::path::Path) -> embedded::Embedded {
    embedded_at(folder, || Timestamp(0))
}

/// The same with the clock that the random histories move, and nobody else.
pub fn embedded_for_histories(folder: &std::path::Path) -> embedded::Embedded {
    embedded_at(folder, || Timestamp(NOW.load(Ordering::SeqCst)))
}

fn embedded_at(folder: &std::path::Path, now: fn() -> Timestamp) -> embedded::Embedded {
    let mut options = embedded::Options::new(folder);
    options.sweep_ahead = u64::from(weir::inside::store::memory::SWEEP_AHEAD);
    options.cache_bytes = 32 * 1024 * 1024;
    options.now = now;
    embedded::Embedded::open(options).expect("an empty folder can be opened")
}

/// A disk whose syncs wait while a test holds its lock: nothing becomes durable, and the writer stands
/// still.
pub struct Gate {
    lock: Mutex<()>,
    waits: AtomicBool,
}

/// One for each test that needs one, because a store takes a plain function.
pub static GATES: [Gate; 5] = [const {
    Gate {
        lock: Mutex::new(()),
        waits: AtomicBool::new(false),
    }
}; 5];

impl Gate {
    /// The sync of the gate with this number.
    pub fn sync<const NUMBER: usize>(file: &File) -> std::io::Result<()> {
        let gate = &GATES[NUMBER];
        gate.waits.store(true, Ordering::SeqCst);
        let _through = gate.lock.lock().unwrap_or_else(PoisonError::into_inner);
        file.sync_data()
    }

    /// Commits an event and waits until its sync stands at the closed gate. What is queued from then
    /// on, until the lock is dropped, waits for the writer.
    pub fn close(&self, store: &dyn Store, event: Commit) -> (MutexGuard<'_, ()>, Receipt) {
        let closed = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.waits.store(false, Ordering::SeqCst);
        let receipt = store.commit(vec![event]).expect("it is taken");
        while !self.waits.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        (closed, receipt)
    }
}

/// Opens sled itself. Another test of this process may be starting a program, which inherits the locked
/// file until it runs; Weir waits for that too.
pub fn sled_at(path: &std::path::Path) -> sled::Db {
    let config = sled::Config::new().path(path).segment_size(4 << 20);
    let begun = Instant::now();
    loop {
        match config.open() {
            Err(sled::Error::Io(error))
                if error.to_string().contains("lock")
                    && begun.elapsed() < Duration::from_secs(120) =>
            {
                std::thread::sleep(Duration::from_millis(20));
            }
            opened => return opened.expect("sled opens"),
        }
    }
}

/// A folder in memory if the system has one: histories sync thousands of times, and the disk is not
/// under test.
pub fn folder() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    }
    .expect("a folder for the test")
}

/// The result of a flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Applied, with a response.
    Delivered,
    /// Certainly not applied.
    Failed,
    /// Applied, but the response was lost.
    Uncertain,
    /// Refused by the target.
    Refused,
}

/// One step of a history. Its numbers select among the existing entities, channels and flights.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Commit {
        entity: u8,
        facet: u8,
        lane: u8,
        value: u8,
        version: Option<u8>,
    },
    Walk {
        channel: u8,
        track: u8,
    },
    Finish {
        channel: u8,
        flight: u8,
        end: End,
    },
    Retry {
        channel: u8,
        parked: u8,
    },
    Save,
    /// Time goes on.
    Wait {
        ms: u16,
    },
    Crash {
        applied: u8,
    },
    Join {
        facets: u8,
        filter: u8,
    },
    Reshape {
        channel: u8,
        facets: u8,
        filter: u8,
    },
    LoseTarget {
        channel: u8,
    },
    /// The target loses one entity, a drift check finds that out, and it is sent once more.
    Resend {
        channel: u8,
        entity: u8,
    },
    Retire {
        channel: u8,
    },
    Return {
        channel: u8,
        facets: u8,
        filter: u8,
    },
}

impl fmt::Debug for Step {
    /// Shows a step as a line of a script, so that a minimized history is readable.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Step::Commit {
                entity,
                facet,
                lane,
                value,
                version,
            } => {
                let (facet, lane) = (
                    FACETS[usize::from(facet) % 3],
                    Lane::ALL[usize::from(lane) % 3].name(),
                );
                write!(
                    f,
                    "commit e{} {facet}={:?} {lane} version {version:?}",
                    entity % ENTITIES,
                    amount(value)
                )
            }
            Step::Walk { channel, track } => {
                write!(f, "channel {channel} walks {:?}", track_of(track))
            }
            Step::Finish {
                channel,
                flight,
                end,
            } => write!(f, "channel {channel} flight {flight} is {end:?}"),
            Step::Retry { channel, parked } => write!(f, "channel {channel} retries {parked}"),
            Step::Save => f.write_str("save"),
            Step::Wait { ms } => write!(f, "{ms} ms go by"),
            Step::Crash { applied } => write!(f, "crash (flights applied: {applied:08b})"),
            Step::Join { facets, filter } => write!(
                f,
                "a channel joins: {:?} filter {:?}",
                patterns(facets),
                filter_of(filter)
            ),
            Step::Reshape {
                channel,
                facets,
                filter,
            } => {
                write!(
                    f,
                    "channel {channel} wants {:?} filter {:?}",
                    patterns(facets),
                    filter_of(filter)
                )
            }
            Step::LoseTarget { channel } => write!(f, "channel {channel} loses its target's data"),
            Step::Resend { channel, entity } => {
                write!(
                    f,
                    "channel {channel} loses e{} and resends it",
                    entity % ENTITIES
                )
            }
            Step::Retire { channel } => write!(f, "channel {channel} retires"),
            Step::Return {
                channel,
                facets,
                filter,
            } => {
                write!(
                    f,
                    "channel {channel} returns: {:?} filter {:?}",
                    patterns(facets),
                    filter_of(filter)
                )
            }
        }
    }
}

const FACETS: [&str; 3] = ["price", "stock", "content"];
const ENTITIES: u8 = 5;
const CHANNELS_MAX: usize = 4;

fn amount(value: u8) -> Option<u8> {
    Some(value % 4).filter(|amount| *amount > 0)
}

fn track_of(track: u8) -> Track {
    Lane::ALL
        .get(usize::from(track % 4))
        .map_or(Track::Sweep, |lane| Track::Lane(*lane))
}

fn patterns(facets: u8) -> Vec<String> {
    let chosen: Vec<String> = (0..3)
        .filter(|at| facets & (1 << at) != 0)
        .map(|at| FACETS[at].to_owned())
        .collect();
    if chosen.is_empty() {
        vec![FACETS[0].to_owned()]
    } else {
        chosen
    }
}

fn entity_id(entity: u8) -> EntityId {
    EntityId {
        entity_type: "product".into(),
        key: format!("e{}", entity % ENTITIES).into(),
    }
}

/// Which of the three filters a number selects; above them, the same with a debounce.
fn filter_of(filter: u8) -> (u8, Option<Debounce>) {
    // The specification remembers every change, and the embedded store the places, and since a crash
    // less: they agree on the newest change, not on the first one that was not sent.
    let debounce = Debounce {
        quiet: Duration::from_millis(1000),
        max: Duration::from_secs(86_400),
    };
    (filter % 3, (filter % 6 > 2).then_some(debounce))
}

/// A channel with the state that dispatch keeps, and its target.
struct Outside {
    queue: Arc<dyn Queue>,
    name: String,
    live: bool,
    facets: Vec<String>,
    filter: u8,
    debounce: Option<Debounce>,
    /// Whether it ever had a debounce.
    waited: bool,
    shape: u64,
    target_digest: u64,
    flights: BTreeMap<Ordinal, (Lease, Sequence, Option<Rendering>)>,
    parked: BTreeSet<Ordinal>,
    target: BTreeMap<EntityId, Rendering>,
    known: BTreeMap<Ordinal, EntityId>,
}

/// A store with its channels and targets.
pub struct World {
    pub subject: Subject,
    channels: Vec<Outside>,
    shapes: u64,
    now: u64,
}

impl World {
    pub fn new(subject: Subject) -> World {
        let limits = weir::inside::store::Limits {
            entities_max: Vec::new(),
            quarantine_max: 10,
            forget_ms: 0,
        };
        subject.store().limit(limits);
        let mut world = World {
            subject,
            channels: Vec::new(),
            shapes: 0,
            now: 0,
        };
        world.wait(0);
        world
    }

    fn wait(&mut self, ms: u64) {
        self.now += ms;
        match &self.subject {
            Subject::Memory(store) => store.set_time(Timestamp(self.now)),
            Subject::Embedded(_) => NOW.store(self.now, Ordering::SeqCst),
        }
    }

    /// Plays one step; returns its visible result, for comparison with another store's.
    pub fn play(&mut self, step: Step) -> String {
        let count = self.channels.len().max(1);
        let chosen = |channel: u8| usize::from(channel) % count;
        match step {
            Step::Commit {
                entity,
                facet,
                lane,
                value,
                version,
            } => self.commit(entity, facet, lane, value, version),
            Step::Walk { channel, track } => self
                .walk(chosen(channel), track_of(track))
                .map_or("nothing".into(), comparable),
            Step::Finish {
                channel,
                flight,
                end,
            } => {
                let Some(outside) = self
                    .channels
                    .get(chosen(channel))
                    .filter(|outside| !outside.flights.is_empty())
                else {
                    return String::new();
                };
                let flight = *outside
                    .flights
                    .keys()
                    .nth(usize::from(flight) % outside.flights.len())
                    .expect("it is in range");
                comparable(self.finish(chosen(channel), flight, end))
            }
            Step::Retry { channel, parked } => {
                let Some(outside) = self
                    .channels
                    .get(chosen(channel))
                    .filter(|outside| outside.live && !outside.parked.is_empty())
                else {
                    return String::new();
                };
                let parked = *outside
                    .parked
                    .iter()
                    .nth(usize::from(parked) % outside.parked.len())
                    .expect("it is in range");
                comparable(self.retry(chosen(channel), parked))
            }
            Step::Save => {
                self.subject
                    .store()
                    .save(Timestamp(self.now + 1))
                    .wait()
                    .expect("saving works");
                self.listed()
            }
            Step::Wait { ms } => {
                self.wait(ms.into());
                String::new()
            }
            Step::Crash { applied } => self.crash(applied),
            Step::Join { facets, filter } => {
                if self.channels.len() < CHANNELS_MAX {
                    self.join(facets, filter);
                }
                String::new()
            }
            Step::Reshape {
                channel,
                facets,
                filter,
            } => self.reshape(chosen(channel), facets, filter, true),
            Step::Return {
                channel,
                facets,
                filter,
            } => self.reshape(chosen(channel), facets, filter, false),
            Step::LoseTarget { channel } => self.lose_target(chosen(channel)),
            Step::Resend { channel, entity } => self.resend(chosen(channel), entity),
            Step::Retire { channel } => self.retire(chosen(channel)),
        }
    }

    /// Stops the sources and plays until nothing is left to do; returns an error if the result is
    /// wrong.
    pub fn come_to_rest(&mut self) -> Result<(), String> {
        for at in 0..self.channels.len() {
            if !self.channels[at].live {
                let filter = self.channels[at].filter;
                self.return_with(at, None, filter);
            }
        }
        for round in 0.. {
            if round > 1_000 {
                return Err("it never comes to rest".into());
            }
            let mut quiet = true;
            for at in 0..self.channels.len() {
                for track in [
                    Track::Lane(Lane::Urgent),
                    Track::Lane(Lane::Normal),
                    Track::Lane(Lane::Bulk),
                    Track::Sweep,
                ] {
                    while self.walk(at, track).is_some() {
                        quiet = false;
                    }
                }
                let outside = &mut self.channels[at];
                let refused = outside.queue.refused(None, 100);
                let refused: Vec<Ordinal> = refused.iter().map(|r| r.ordinal).collect();
                let redriven = outside.queue.redrive(&refused);
                outside
                    .parked
                    .extend(redriven.iter().map(|parked| parked.ordinal));
                for parked in self.channels[at].parked.clone() {
                    quiet &= self.retry(at, parked).is_none();
                }
                for flight in self.channels[at]
                    .flights
                    .keys()
                    .copied()
                    .collect::<Vec<_>>()
                {
                    self.finish(at, flight, End::Delivered);
                    quiet = false;
                }
            }
            let waits = |outside: &Outside| outside.queue.owed().waiting > 0;
            if quiet && self.channels.iter().any(waits) {
                self.wait(1_000);
                quiet = false;
            }
            if quiet {
                break;
            }
        }
        self.check()
    }

    /// Checks that every target holds exactly the rendering of the newest state, or nothing if
    /// there is none, and that nothing is owed.
    fn check(&self) -> Result<(), String> {
        for outside in &self.channels {
            let all: BTreeSet<EntityId> = (0..ENTITIES)
                .map(entity_id)
                .chain(outside.target.keys().cloned())
                .collect();
            for id in all {
                let entity = self
                    .subject
                    .store()
                    .find(&id)
                    .and_then(|ordinal| self.read(ordinal));
                let right = entity.and_then(|entity| outside.render(&entity));
                if outside.target.get(&id) != right.as_ref() {
                    let (there, right) =
                        (outside.target.get(&id).map(body), right.as_ref().map(body));
                    return Err(format!(
                        "{} holds {there:?} of {id}, and should hold {right:?}",
                        outside.name
                    ));
                }
            }
            let owed = outside.queue.owed();
            if owed.oldest.is_some() || owed.in_flight + owed.parked + owed.waiting > 0 {
                return Err(format!(
                    "{} is at rest and still owes: {owed:?}",
                    outside.name
                ));
            }
        }
        Ok(())
    }

    /// The keys of all entities in two pages, and of those that the first channel owes.
    fn listed(&self) -> String {
        let page = |after: Option<&str>, owed: Option<&str>, limit| -> Vec<String> {
            let found = self.subject.store().list(&ListQuery {
                entity_type: &entity_id(0).entity_type,
                prefix: "",
                after,
                owed,
                limit,
            });
            found.iter().map(|(_, id)| id.key.to_string()).collect()
        };
        let first = page(None, None, 2);
        let rest = page(first.last().map(String::as_str), None, usize::MAX);
        let owing = self.channels.first().map(|channel| channel.name.as_str());
        let owed = owing.map(|channel| page(None, Some(channel), usize::MAX));
        format!("{first:?} {rest:?} {owed:?}")
    }

    /// The state of every entity on every channel.
    pub fn standings(&self) -> Vec<(String, String, Option<Standing>)> {
        let mut standings = Vec::new();
        for outside in &self.channels {
            for id in (0..ENTITIES).map(entity_id) {
                let standing = self
                    .subject
                    .store()
                    .find(&id)
                    .and_then(|ordinal| outside.queue.standing(ordinal))
                    .map(plain);
                standings.push((outside.name.clone(), id.to_string(), standing));
            }
        }
        standings
    }

    fn commit(
        &mut self,
        entity: u8,
        facet: u8,
        lane: u8,
        value: u8,
        version: Option<u8>,
    ) -> String {
        let value = amount(value).map(|amount| Arc::from(amount.to_string()));
        let change = FacetChange {
            id: entity_id(entity),
            facet: FACETS[usize::from(facet) % 3].into(),
            owner: "erp".into(),
            lane: Lane::ALL[usize::from(lane) % 3],
            version: version.map(u64::from),
            hash: value.as_deref().map_or(0, value_hash),
            value,
        };
        let commit = Commit {
            source: "erp".into(),
            identity: None,
            arrival: None,
            effect: Effect::Changes(vec![change]),
        };
        format!("{:?}", commit_all(self.subject.store(), vec![commit]))
    }

    fn join(&mut self, facets: u8, filter: u8) {
        self.shapes += 1;
        let name = format!("channel {}", self.channels.len());
        let (facets, shape, target_digest) = (patterns(facets), self.shapes, 1);
        let wanted = subscription(&facets, shape, target_digest, filter_of(filter).1);
        let (queue, _) = join(self.subject.store(), &name, &wanted);
        self.channels.push(Outside {
            queue,
            name,
            live: true,
            facets,
            filter: filter_of(filter).0,
            debounce: filter_of(filter).1,
            waited: filter_of(filter).1.is_some(),
            shape,
            target_digest,
            flights: BTreeMap::new(),
            parked: BTreeSet::new(),
            target: BTreeMap::new(),
            known: BTreeMap::new(),
        });
    }

    fn reshape(&mut self, at: usize, facets: u8, filter: u8, live: bool) -> String {
        if self
            .channels
            .get(at)
            .is_some_and(|outside| outside.live == live)
        {
            self.return_with(at, Some(patterns(facets)), filter);
        }
        String::new()
    }

    fn return_with(&mut self, at: usize, facets: Option<Vec<String>>, filter: u8) {
        self.shapes += 1;
        let outside = &mut self.channels[at];
        // Other facets would show which change the store takes for the first that was not sent, see
        // `filter_of`.
        if let Some(facets) = facets.filter(|_| !outside.waited) {
            outside.facets = facets;
        }
        (outside.filter, outside.debounce) = filter_of(filter);
        outside.waited |= outside.debounce.is_some();
        (outside.shape, outside.live) = (self.shapes, true);
        outside.join(self.subject.store());
    }

    fn lose_target(&mut self, at: usize) -> String {
        if let Some(outside) = self
            .channels
            .get_mut(at)
            .filter(|outside| outside.live && outside.flights.is_empty())
        {
            outside.target.clear();
            outside.target_digest += 1;
            let wanted = outside.subscription();
            (outside.queue, _) = join(self.subject.store(), &outside.name, &wanted);
        }
        String::new()
    }

    fn resend(&mut self, at: usize, entity: u8) -> String {
        let id = entity_id(entity);
        let (Some(outside), Some(ordinal)) =
            (self.channels.get_mut(at), self.subject.store().find(&id))
        else {
            return String::new();
        };
        if !outside.live || outside.flights.contains_key(&ordinal) {
            return String::new();
        }
        outside.target.remove(&id);
        let parked = outside.queue.resend(&[ordinal]);
        let parked = parked.iter().map(|parked| parked.ordinal);
        outside.parked.extend(parked);
        outside.queue.save().wait().expect("it is written");
        let standing = outside.queue.standing(ordinal);
        format!("{:?}", standing.map(|it| (it.state, it.holds, it.owed)))
    }

    fn retire(&mut self, at: usize) -> String {
        if self.channels.get(at).is_none_or(|outside| !outside.live) {
            return String::new();
        }
        while let Some(flight) = self.channels[at].flights.keys().next().copied() {
            self.finish(at, flight, End::Uncertain);
        }
        self.channels[at].live = false;
        self.subject
            .store()
            .retire(&self.channels[at].name)
            .wait()
            .expect("a channel can retire");
        String::new()
    }

    fn walk(&mut self, at: usize, track: Track) -> Option<Vec<Lease>> {
        let outside = self.channels.get(at).filter(|outside| outside.live)?;
        let mut taken = Vec::new();
        // Since when something is due is known anew when a wait is looked at.
        let owed = |queue: &dyn Queue| Owed {
            due: [None; 3],
            ..queue.owed()
        };
        let before = owed(&*outside.queue);
        let more = walk(&*outside.queue, track, 1, &mut taken);
        let seen = taken.clone();
        taken.into_iter().for_each(|taken| self.start(at, taken));
        let moved = owed(&*self.channels[at].queue) != before;
        (more || moved || !seen.is_empty()).then_some(seen)
    }

    fn retry(&mut self, at: usize, ordinal: Ordinal) -> Option<Lease> {
        let taken = self.channels[at].queue.retry(ordinal)?;
        self.start(at, taken.clone());
        Some(taken)
    }

    fn read(&self, ordinal: Ordinal) -> Option<Arc<Entity>> {
        self.subject
            .store()
            .read(&[ordinal])
            .expect("it can be read")
            .pop()
            .flatten()
    }

    /// Handles an entity from a walk as dispatch does.
    fn start(&mut self, at: usize, taken: Lease) {
        let Some(entity) = self.read(taken.ordinal) else {
            panic!("{taken:?} was taken and is not there")
        };
        let outside = &mut self.channels[at];
        let rendering = outside.render(&entity);
        outside.known.insert(taken.ordinal, entity.id.clone());
        let revision = taken.revision.max(entity.newest());
        let settled = match (&rendering, taken.holds) {
            (None, Holds::Nothing) => Some(Ending::Withheld(0)),
            (Some(rendering), Holds::Rendering(held)) if digest(rendering) == held => {
                Some(Ending::Suppressed)
            }
            _ => None,
        };
        match settled {
            Some(ending) => {
                let mut again = Vec::new();
                outside.queue.settle(
                    &[Settlement {
                        ordinal: taken.ordinal,
                        revision,
                        ending,
                    }],
                    &mut again,
                );
                outside.parked.remove(&taken.ordinal);
                again.into_iter().for_each(|taken| self.start(at, taken));
            }
            None => {
                outside.queue.attempt(&[taken.ordinal]);
                outside
                    .flights
                    .insert(taken.ordinal, (taken, revision, rendering));
            }
        }
    }

    fn finish(&mut self, at: usize, ordinal: Ordinal, end: End) -> Vec<Lease> {
        let outside = &mut self.channels[at];
        let Some((taken, revision, rendering)) = outside.flights.remove(&ordinal) else {
            return Vec::new();
        };
        if matches!(end, End::Delivered | End::Uncertain) {
            outside.apply(ordinal, &rendering);
        }
        let ending = match (end, &rendering) {
            (End::Delivered, Some(rendering)) => Ending::Delivered {
                digest: digest(rendering),
                target_key: None,
            },
            (End::Delivered, None) => Ending::Withdrawn,
            (End::Refused, _) => Ending::Refused(Failure::new("refused", "No.")),
            (End::Failed | End::Uncertain, _) => Ending::Parked {
                attempts: taken.attempts + 1,
            },
        };
        match ending {
            Ending::Parked { .. } => outside.parked.insert(ordinal),
            _ => outside.parked.remove(&ordinal),
        };
        let mut again = Vec::new();
        outside.queue.settle(
            &[Settlement {
                ordinal,
                revision,
                ending,
            }],
            &mut again,
        );
        again
            .iter()
            .cloned()
            .for_each(|taken| self.start(at, taken));
        again
    }

    fn crash(&mut self, applied: u8) -> String {
        for outside in &mut self.channels {
            for (number, (ordinal, (_, _, rendering))) in
                std::mem::take(&mut outside.flights).into_iter().enumerate()
            {
                if applied & (1 << (number % 8)) != 0 {
                    outside.apply(ordinal, &rendering);
                }
            }
        }
        self.subject.crash();
        for outside in self.channels.iter_mut().filter(|outside| outside.live) {
            outside.join(self.subject.store());
        }
        format!("{:?}", self.standings())
    }
}

impl Outside {
    fn subscription(&self) -> Subscription {
        subscription(&self.facets, self.shape, self.target_digest, self.debounce)
    }

    /// Joins again and takes over the parked entities.
    fn join(&mut self, store: &dyn Store) {
        let (queue, joined) = join(store, &self.name, &self.subscription());
        self.queue = queue;
        self.parked = joined.parked.iter().map(|parked| parked.ordinal).collect();
    }

    /// The rendering: the subscribed facets, unless the filter withholds the entity.
    fn render(&self, entity: &Entity) -> Option<Rendering> {
        let facets: Vec<_> = (entity.facets.iter())
            .filter(|facet| self.facets.iter().any(|wanted| **wanted == *facet.name))
            .filter_map(|facet| Some((&*facet.name, facet.value.as_deref()?)))
            .collect();
        let says_no = match self.filter {
            1 => facets.contains(&("price", "3")),
            2 => facets.contains(&("stock", "1")),
            _ => false,
        };
        let text = || {
            facets
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect::<Vec<_>>()
                .join(" ")
        };
        (!facets.is_empty() && !says_no).then(|| Rendering {
            key: None,
            content_type: None,
            body: Payload::Text(text()),
        })
    }

    fn apply(&mut self, ordinal: Ordinal, rendering: &Option<Rendering>) {
        let Some(id) = self.known.get(&ordinal).cloned() else {
            return;
        };
        match rendering {
            Some(rendering) => self.target.insert(id, rendering.clone()),
            None => self.target.remove(&id),
        };
    }
}

fn subscription(
    facets: &[String],
    shape: u64,
    target: u64,
    debounce: Option<Debounce>,
) -> Subscription {
    Subscription {
        entity_type: "product".into(),
        facets: facets.to_vec(),
        shape,
        shape_label: format!("shape {shape}"),
        target,
        debounce,
    }
}

fn body(rendering: &Rendering) -> String {
    String::from_utf8_lossy(rendering.body.as_bytes()).into_owned()
}

/// Joins and waits until the store has done so.
pub fn join(store: &dyn Store, name: &str, wanted: &Subscription) -> (Arc<dyn Queue>, Joined) {
    store.join(name, wanted).wait().expect("a channel can join")
}

/// A standing as it is compared. Which change was the first that is owed is not, for the reason that
/// [`comparable`] has, nor is what follows from it: since when, in which lane, and what counts as settled
/// since it was set aside to be quiet.
fn plain(standing: Standing) -> Standing {
    let state = standing.state;
    let unsettled = standing.owed
        || matches!(
            state,
            State::Waiting { .. } | State::Parked(_) | State::Held
        );
    let settled = |sequence: Sequence| if unsettled { Sequence(0) } else { sequence };
    Standing {
        revision: settled(standing.revision),
        since: standing.since.filter(|_| !unsettled).map(|_| Timestamp(0)),
        lane: None,
        ..standing
    }
}

/// Leases as they are compared. Since when an entity is owed is not: the
/// specification remembers every change, and the embedded store the places, and since a crash less.
/// What counts as settled is not either: what is taken is owed, and [`plain`] has the reason.
fn comparable(taken: impl IntoIterator<Item = Lease>) -> String {
    let plain = |lease: Lease| Lease {
        owed_since: Sequence(0),
        settled: Sequence(0),
        owed_at: Timestamp(0),
        ..lease
    };
    format!("{:?}", taken.into_iter().map(plain).collect::<Vec<_>>())
}

/// Walks as a channel does, and saves if part of the sweep must be reserved first; returns whether
/// there may be more.
pub fn walk(queue: &dyn Queue, track: Track, limit: usize, taken: &mut Vec<Lease>) -> bool {
    let most = taken.len() + limit;
    loop {
        match queue.walk(track, most - taken.len(), taken) {
            Walked::End | Walked::Waits(_) => return false,
            Walked::More => return true,
            Walked::Reserve if queue.save().wait().is_err() => return false,
            Walked::Reserve => {}
        }
    }
}

/// Commits and waits for the result.
pub fn commit_all(store: &dyn Store, commits: Vec<Commit>) -> Committed {
    store
        .commit(commits)
        .expect("it is taken")
        .blocking_recv()
        .expect("it is answered")
        .expect("it is written")
}
