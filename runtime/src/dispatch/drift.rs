//! The drift check: compares what a target holds with what it should hold.
//!
//! A target can lose or change what it acknowledged without a word. The check renders each entity as it is
//! now and asks the target for its copy. What the channel still owes is not compared. A difference counts
//! only if a second look, some seconds later, finds it too, because the target may show what it has taken
//! only after a while. Nothing at the target is changed; a repair makes the channel owe what differs.
//!
//! Memory is bounded whatever the number of entities: pieces are read, rendered and compared one after
//! another, and of all keys only short digests are kept.
//!
//! A check always ends: with a result, when it is cancelled, when the channel is stopped or gets another
//! configuration, or when what it repairs is not sent for a while.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hashbrown::HashSet;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::prepare::{Content, Memory, Prepared, prepare};
use super::{Channel, Setup};
use crate::model::{EntityId, Ordinal, Sequence, Timestamp, Track};
use crate::store::{Holds, Lease, ListQuery, Standing, State};
use crate::targets::{DeliveryId, Held, Item, Kind};

/// Entities that are listed at once, and the most that are compared in one request.
const PIECE: usize = 2_048;
/// The memory for the entities and renderings of a piece.
const PIECE_BYTES: usize = 8 * 1024 * 1024;
/// Requests at the same time, if the target takes so many.
const REQUESTS_MAX: usize = 4;
/// How long a difference waits for its second look: a search engine shows a write after a second, a
/// replica after some.
const SECOND_LOOK: Duration = Duration::from_secs(3);
/// The most differences that wait for their second look.
const SUSPECTS_MAX: usize = 50_000;
/// The most examples of each kind of difference, and the most keys that are looked up because the target
/// lists them and no entity has them.
const EXAMPLES_MAX: usize = 20;
const EXTRAS_MAX: usize = 10_000;
/// The most entities that wait for a retry because of a repair. A channel with more of them than
/// [`super::PARKED_MAX`] counts as in trouble.
const REPAIRING_MAX: u64 = 5_000;
/// How long a repair waits before it looks again whether the channel has sent some of them, and how long
/// it waits at most while the channel sends none: it may be paused, or its target in trouble.
const REPAIR_POLL: Duration = Duration::from_millis(200);
const REPAIR_PATIENCE: Duration = Duration::from_secs(300);

/// What a drift check does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Check {
    /// About how many entities are compared, chosen at random of those that the target should hold or once
    /// held; `None` means all, and then what the target holds in addition is looked for too.
    pub sample: Option<u64>,
    /// Whether what differs is sent again.
    pub repair: bool,
}

/// How far a drift check is, how to end it, and what is around it.
#[derive(Debug, Default)]
pub struct Progress {
    /// Entities compared so far.
    pub done: AtomicU64,
    /// About how many will have been at the end.
    pub total: AtomicU64,
    /// Ends the check when it is cancelled.
    pub cancelled: CancellationToken,
    /// The entity types of other channels that deliver to the same target, which holds these, too.
    pub others: Vec<Arc<str>>,
}

/// The kinds of difference, as users see them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// The target does not hold an entity that it should hold.
    Missing,
    /// It holds one that it should not hold.
    Extra,
    /// It holds an older state.
    Older,
    /// It holds something else.
    Different,
}

impl Difference {
    /// All of them.
    pub const ALL: [Difference; 4] = [
        Difference::Missing,
        Difference::Extra,
        Difference::Older,
        Difference::Different,
    ];

    /// The label in metrics and responses.
    pub fn name(self) -> &'static str {
        match self {
            Difference::Missing => "missing",
            Difference::Extra => "extra",
            Difference::Older => "older",
            Difference::Different => "different",
        }
    }
}

/// The result of a drift check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// Entities that were compared.
    pub compared: u64,
    /// Entities that were not compared, because the channel owes them, or they are refused.
    pub owed: u64,
    /// Entities of which it could not be found out what the target holds, or should hold.
    pub unknown: u64,
    /// Why, for the last of these.
    pub unknown_because: Option<String>,
    /// Differences by kind.
    pub differences: BTreeMap<Difference, u64>,
    /// Some examples of each kind.
    pub examples: Vec<Example>,
    /// Whether the target was asked for keys that no entity has; if not, why not.
    pub extras: Extras,
    /// Entities that were made owed again.
    pub repaired: u64,
}

/// Whether it was found out what the target holds in addition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Extras {
    /// It was not looked for, because the check was of a sample.
    #[default]
    NotLookedFor,
    /// All keys were listed. At most 10,000 of those that no entity has are counted.
    LookedFor,
    /// The target could not list its keys, for this reason.
    CannotTell(String),
}

/// An example of a difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// What differs.
    pub difference: Difference,
    /// The key at the target.
    pub key: String,
    /// Where it differs, as far as the target can tell: JSON pointers, or names of columns.
    pub at: Vec<String>,
    /// The sequence that the target holds, if it is an older one.
    pub sequence: Option<Sequence>,
}

impl Drift {
    fn note(
        &mut self,
        difference: Difference,
        key: &str,
        at: Vec<String>,
        sequence: Option<Sequence>,
    ) {
        let count = self.differences.entry(difference).or_default();
        *count += 1;
        if *count <= EXAMPLES_MAX as u64 {
            self.examples.push(Example {
                difference,
                key: key.to_owned(),
                at,
                sequence,
            });
        }
    }
}

/// A difference that waits for its second look.
struct Suspect {
    ordinal: Ordinal,
    /// What was settled when it was looked at. Something newer is another state.
    settled: Sequence,
    at: Instant,
}

/// An entity whose copy is to be compared.
struct Expected {
    ordinal: Ordinal,
    settled: Sequence,
    item: Item,
}

/// What was asked for, and what the target holds of it.
type Answer = (Vec<Expected>, Result<Vec<Held>, String>);

/// One drift check.
struct Run<'a> {
    channel: &'a Channel,
    setup: Arc<Setup>,
    check: Check,
    progress: &'a Progress,
    drift: Drift,
    /// Digests of the keys that the target may hold.
    keys: HashSet<u64>,
    /// Whether the renderer chooses keys. Then it is not known under which one an entity was held that
    /// should not be there, and its own key may be another one's.
    chooses_keys: bool,
    /// Entities compared, of a sample, that should not be there.
    absent: u64,
    suspects: VecDeque<Suspect>,
    /// What differs and is sent again.
    to_repair: Vec<Ordinal>,
    asking: JoinSet<Answer>,
}

impl Channel {
    /// Compares what the target holds with what it should hold.
    ///
    /// # Errors
    /// Why the target cannot be asked, or that the check was cancelled, as a sentence for the operator.
    pub async fn drift(&self, check: Check, progress: &Progress) -> Result<Drift, String> {
        let setup = self.setup();
        if !setup.options.deliver {
            return Err(
                "the channel has deliver = false: its target holds nothing of it".to_owned(),
            );
        }
        let mut run = Run {
            channel: self,
            setup,
            check,
            progress,
            drift: Drift::default(),
            keys: HashSet::new(),
            chooses_keys: false,
            absent: 0,
            suspects: VecDeque::new(),
            to_repair: Vec::new(),
            asking: JoinSet::new(),
        };
        run.go().await?;
        Ok(run.drift)
    }
}

impl Run<'_> {
    async fn go(&mut self) -> Result<(), String> {
        let began = *self.channel.store.watermark().borrow();
        let holding = self.channel.queue().owed().holding;
        let total = self
            .check
            .sample
            .map_or(holding, |sample| sample.min(holding));
        self.progress.total.store(total, Ordering::Relaxed);
        // A digest below this is in the sample.
        let chosen = match self.check.sample {
            Some(sample) if sample < holding => {
                (sample as f64 / holding as f64 * u64::MAX as f64) as u64
            }
            _ => u64::MAX,
        };
        let (seed, mut after) = (fastrand::u64(..), None);
        loop {
            let listed = self.list(after).await?;
            let Some((_, last)) = listed.last() else {
                break;
            };
            after = Some(last.key.to_string());
            let sample = listed
                .into_iter()
                .filter(|(_, id)| xxh3_64_with_seed(id.key.as_bytes(), seed) <= chosen)
                .map(|(ordinal, _)| ordinal);
            self.compare(sample.collect(), false).await?;
            self.look_again(false).await?;
        }
        self.answers(0, false).await?;
        if self.check.sample.is_none() {
            self.find_extras(began).await?;
        }
        while !self.suspects.is_empty() {
            self.look_again(true).await?;
        }
        self.repair(true).await?;
        self.goes_on()
    }

    /// # Errors
    /// Why the check cannot go on: it was cancelled, or what it compares with is not the channel's any more.
    fn goes_on(&self) -> Result<(), String> {
        if self.progress.cancelled.is_cancelled() {
            return Err("cancelled".to_owned());
        }
        if self.channel.control.is_closed() {
            return Err("the channel was stopped during the check".to_owned());
        }
        if !Arc::ptr_eq(&self.channel.setup(), &self.setup) {
            return Err(
                "the configuration of the channel changed during the check; begin it again"
                    .to_owned(),
            );
        }
        Ok(())
    }

    async fn list(&self, after: Option<String>) -> Result<Vec<(Ordinal, EntityId)>, String> {
        let (store, entity_type) = (
            self.channel.store.clone(),
            self.setup.options.entity_type.clone(),
        );
        let list = move || {
            store.list(&ListQuery {
                entity_type: &entity_type,
                prefix: "",
                after: after.as_deref(),
                owed: None,
                limit: PIECE,
            })
        };
        let listed = tokio::task::spawn_blocking(list).await;
        listed.map_err(|error| format!("the entities cannot be listed: {error}"))
    }

    /// Reads and renders entities, and asks the target for its copies. `again` for a second look.
    async fn compare(&mut self, ordinals: Vec<Ordinal>, again: bool) -> Result<(), String> {
        let mut left: Vec<Lease> = ordinals.into_iter().map(lease).collect();
        while !left.is_empty() {
            self.goes_on()?;
            // Looked at before the entities are read: what changes in between is owed later.
            let standings: BTreeMap<Ordinal, Option<Standing>> = {
                let queue = self.channel.queue();
                let standing = |lease: &Lease| (lease.ordinal, queue.standing(lease.ordinal));
                left.iter().map(standing).collect()
            };
            if self.check.sample.is_some() {
                let standing = |lease: &Lease| standings.get(&lease.ordinal)?.as_ref();
                left.retain(|lease| standing(lease).is_some_and(is_worth_a_sample));
                if left.is_empty() {
                    break;
                }
            }
            let (prepared, rest) = self.render(left).await;
            left = rest;
            let mut expected = Vec::with_capacity(prepared.len());
            for prepared in prepared {
                let standing = standings.get(&prepared.taken.ordinal).cloned().flatten();
                expected.extend(self.expected(prepared, standing, again));
            }
            let most = match self.setup.target.options().kind {
                // It asks for each entity by a request of its own, and the pace must count each.
                Kind::Webhook(_) => 1,
                _ => self.setup.options.batch.max(1),
            };
            let most = most.min(self.setup.target.nature().batch_max).min(PIECE);
            while !expected.is_empty() {
                let rest = expected.split_off(expected.len().min(most));
                self.ask(std::mem::replace(&mut expected, rest), again)
                    .await?;
            }
        }
        Ok(())
    }

    /// Reads and renders entities, as many as there is memory for. Returns the others too.
    async fn render(&mut self, leases: Vec<Lease>) -> (Vec<Prepared>, Vec<Lease>) {
        let memory = Memory {
            bytes: PIECE_BYTES,
            alone: true,
        };
        let watermark = self.channel.store.watermark();
        let (setup, store) = (self.setup.clone(), self.channel.store.clone());
        let prepared = prepare(setup, store, watermark, leases, memory).await;
        let chooses = |prepared: &Prepared| match (&prepared.content, &prepared.id) {
            (Content::There { key, .. }, Some(id)) => **key != *id.key,
            _ => false,
        };
        self.chooses_keys |= prepared.prepared.iter().any(chooses);
        (prepared.prepared, prepared.rest)
    }

    /// What the target should hold of an entity, if nothing of it is owed.
    fn expected(
        &mut self,
        prepared: Prepared,
        standing: Option<Standing>,
        again: bool,
    ) -> Option<Expected> {
        if let Content::Unread(why) = &prepared.content {
            self.drift.unknown += 1;
            self.drift.unknown_because = Some(why.clone());
        }
        let (id, standing) = (prepared.id?, standing?);
        let ordinal = prepared.taken.ordinal;
        let (key, rendering) = match prepared.content {
            Content::There { rendering, key, .. } => (key, Some(rendering)),
            Content::Absent(_) => (id.key.clone(), None),
            Content::Failed(_) => {
                self.drift.owed += u64::from(!again);
                self.keys.insert(xxh3_64(id.key.as_bytes()));
                return None;
            }
            Content::Unread(_) => {
                self.keys.insert(xxh3_64(id.key.as_bytes()));
                return None;
            }
        };
        let is_busy = standing.owed || standing.in_flight || standing.waits_until.is_some();
        // The channel has never met it, because it has no facet that the channel subscribes to.
        if rendering.is_none() && !is_busy && standing.state == State::New {
            return None;
        }
        let is_owed = is_busy
            || !matches!(
                standing.state,
                State::Delivered | State::Suppressed | State::Withheld(_) | State::Withdrawn
            );
        if rendering.is_some() || is_owed {
            self.keys.insert(xxh3_64(key.as_bytes()));
        }
        if is_owed {
            self.drift.owed += u64::from(!again);
            return None;
        }
        if rendering.is_none() {
            let enough = self.check.sample.is_some_and(|most| self.absent >= most);
            // It may be there for another channel.
            let shared = self.progress.others.contains(&id.entity_type);
            if self.chooses_keys || shared || (enough && !again) {
                return None;
            }
            self.absent += u64::from(!again);
        }
        Some(Expected {
            ordinal,
            settled: standing.revision,
            item: Item {
                id: DeliveryId(0),
                entity: id,
                state: 0,
                // A copy with a lower sequence is of before that change. The revision may be newer than what
                // was sent, because facets that the channel does not see have changed.
                sequence: prepared.newest,
                key,
                rendering,
                plugin: None,
            },
        })
    }

    async fn ask(&mut self, expected: Vec<Expected>, again: bool) -> Result<(), String> {
        let most = self
            .setup
            .target
            .options()
            .concurrency
            .clamp(1, REQUESTS_MAX);
        self.answers(most - 1, again).await?;
        let target = self.setup.target.clone();
        self.asking.spawn(async move {
            let items: Vec<Item> = expected.iter().map(|it| it.item.clone()).collect();
            let held = target.compare(&items).await;
            (expected, held)
        });
        Ok(())
    }

    /// Takes answers in until at most `left` requests wait for theirs.
    async fn answers(&mut self, left: usize, again: bool) -> Result<(), String> {
        while self.asking.len() > left {
            let cancelled = self.progress.cancelled.clone();
            let answer = tokio::select! {
                answer = self.asking.join_next() => answer,
                () = cancelled.cancelled() => return self.goes_on(),
            };
            let Some(answer) = answer else { break };
            let (expected, held) =
                answer.map_err(|error| format!("the comparison failed: {error}"))?;
            let held = held?;
            for (at, expected) in expected.into_iter().enumerate() {
                let held = held.get(at).cloned().unwrap_or_else(|| {
                    Held::Unknown("the target's answer does not mention it".to_owned())
                });
                self.take(expected, held, again);
            }
        }
        Ok(())
    }

    fn take(&mut self, expected: Expected, held: Held, again: bool) {
        if !again {
            self.drift.compared += 1;
            self.progress.done.fetch_add(1, Ordering::Relaxed);
        }
        let (difference, at, sequence) = match held {
            Held::Same => return,
            Held::Unknown(why) => {
                self.drift.unknown += 1;
                self.drift.unknown_because = Some(why);
                return;
            }
            Held::Missing => (Difference::Missing, Vec::new(), None),
            Held::Extra => (Difference::Extra, Vec::new(), None),
            Held::Older(sequence) => (Difference::Older, Vec::new(), Some(sequence)),
            Held::Different(at) => (Difference::Different, at, None),
        };
        if !again {
            self.suspects.push_back(Suspect {
                ordinal: expected.ordinal,
                settled: expected.settled,
                at: Instant::now() + SECOND_LOOK,
            });
            return;
        }
        self.drift
            .note(difference, &expected.item.key, at, sequence);
        if self.check.repair {
            self.to_repair.push(expected.ordinal);
        }
    }

    /// Gives those a second look whose time has come; if there are very many, or at the end, waits for it.
    async fn look_again(&mut self, waits: bool) -> Result<(), String> {
        let Some(first) = self.suspects.front() else {
            return Ok(());
        };
        if waits || self.suspects.len() > SUSPECTS_MAX {
            tokio::select! {
                () = tokio::time::sleep_until(first.at) => {}
                () = self.progress.cancelled.cancelled() => {}
            }
            self.goes_on()?;
        }
        let now = Instant::now();
        let mut ripe = Vec::new();
        while let Some(suspect) = self.suspects.pop_front_if(|suspect| suspect.at <= now) {
            ripe.push(suspect);
        }
        if ripe.is_empty() {
            return Ok(());
        }
        // The answers to first looks would be taken for answers to second ones.
        self.answers(0, false).await?;
        let queue = self.channel.queue();
        let unchanged = ripe.into_iter().filter(|suspect| {
            let standing = queue.standing(suspect.ordinal);
            standing.is_some_and(|standing| standing.revision == suspect.settled)
        });
        let ordinals: Vec<Ordinal> = unchanged.map(|suspect| suspect.ordinal).collect();
        for piece in ordinals.chunks(PIECE) {
            self.compare(piece.to_vec(), true).await?;
            self.answers(0, true).await?;
            self.repair(false).await?;
        }
        Ok(())
    }

    /// Looks for what the target holds and no entity stands for. `began` is the newest change at the
    /// beginning of the check.
    async fn find_extras(&mut self, began: Sequence) -> Result<(), String> {
        let (mut after, mut found): (Option<String>, Vec<String>) = (None, Vec::new());
        let cancelled = self.progress.cancelled.clone();
        loop {
            self.goes_on()?;
            let page = tokio::select! {
                page = self.setup.target.keys(after.as_deref()) => page,
                () = cancelled.cancelled() => return self.goes_on(),
            };
            let page = match page {
                Ok(page) => page,
                Err(why) => {
                    self.drift.extras = Extras::CannotTell(why);
                    return Ok(());
                }
            };
            let unknown = |key: &String| !self.keys.contains(&xxh3_64(key.as_bytes()));
            let room = EXTRAS_MAX.saturating_sub(found.len());
            found.extend(page.keys.into_iter().filter(unknown).take(room));
            match page.next {
                Some(next) if after.as_ref() != Some(&next) => after = Some(next),
                _ => break,
            }
        }
        self.drift.extras = Extras::LookedFor;
        if found.is_empty() {
            return Ok(());
        }
        // While it is written to, a target may list a key on two pages.
        found.sort_unstable();
        found.dedup();
        // An entity may have got this key after the list was at its place.
        self.note_keys_since(began).await?;
        for key in found {
            if self.keys.contains(&xxh3_64(key.as_bytes())) {
                continue;
            }
            // One of this channel that was compared as absent is in the counts already.
            let own = Some(&self.setup.options.entity_type).filter(|_| !self.chooses_keys);
            let is_known = own.into_iter().chain(&self.progress.others).any(|it| {
                let id = EntityId {
                    entity_type: it.clone(),
                    key: key.as_str().into(),
                };
                self.channel.store.find(&id).is_some()
            });
            if !is_known {
                self.drift.note(Difference::Extra, &key, Vec::new(), None);
            }
        }
        Ok(())
    }

    /// Notes the keys of entities that have changed since the check began.
    async fn note_keys_since(&mut self, began: Sequence) -> Result<(), String> {
        let mut after = None;
        loop {
            let listed = self.list(after).await?;
            let Some((_, last)) = listed.last() else {
                return Ok(());
            };
            after = Some(last.key.to_string());
            let mut left: Vec<Lease> = {
                let queue = self.channel.queue();
                let changed = listed.into_iter().filter(|(ordinal, _)| {
                    let standing = queue.standing(*ordinal);
                    standing.is_some_and(|standing| standing.newest > began)
                });
                changed.map(|(ordinal, _)| lease(ordinal)).collect()
            };
            while !left.is_empty() {
                self.goes_on()?;
                let (prepared, rest) = self.render(left).await;
                left = rest;
                for prepared in prepared {
                    if let Some(id) = &prepared.id {
                        self.keys.insert(xxh3_64(id.key.as_bytes()));
                    }
                    if let Content::There { key, .. } = &prepared.content {
                        self.keys.insert(xxh3_64(key.as_bytes()));
                    }
                }
            }
        }
    }

    /// Makes the channel owe what differs, as much at a time as it can have in retry.
    async fn repair(&mut self, all: bool) -> Result<(), String> {
        let (mut least, mut since) = (u64::MAX, Instant::now());
        while !self.to_repair.is_empty() && (all || self.to_repair.len() >= PIECE) {
            self.goes_on()?;
            let parked = self.channel.queue().owed().parked;
            if parked > REPAIRING_MAX {
                if parked < least {
                    (least, since) = (parked, Instant::now());
                }
                if since.elapsed() >= REPAIR_PATIENCE {
                    return Err(format!(
                        "the repair was given up after {} entities: {parked} wait for their retry, and for {} minutes none was sent; begin it again when the channel sends",
                        self.drift.repaired,
                        REPAIR_PATIENCE.as_secs() / 60
                    ));
                }
                tokio::time::sleep(REPAIR_POLL).await;
                continue;
            }
            (least, since) = (u64::MAX, Instant::now());
            let piece = self.to_repair.len().min(PIECE);
            let piece: Vec<Ordinal> = self.to_repair.drain(..piece).collect();
            let count = piece.len() as u64;
            let resent = self.channel.resend(piece).await;
            resent.map_err(|error| format!("what differs cannot be sent again: {error}"))?;
            self.drift.repaired += count;
        }
        if self.drift.repaired > 0 && all {
            let saved = self.channel.queue().save().await;
            saved.map_err(|error| format!("the repair cannot be saved: {error}"))?;
        }
        Ok(())
    }
}

/// Whether an entity belongs to those of which a sample is taken: not one that the channel has never sent.
/// There may be a thousand of these for each one that it has.
fn is_worth_a_sample(standing: &Standing) -> bool {
    let never_sent = matches!(standing.state, State::New | State::Withheld(_))
        && standing.holds == Holds::Nothing;
    standing.owed || standing.in_flight || !never_sent
}

/// An entity as `prepare` takes it. It is not leased: nothing about it is settled.
fn lease(ordinal: Ordinal) -> Lease {
    Lease {
        ordinal,
        revision: Sequence(0),
        holds: Holds::Unknown,
        was_absent: false,
        target_key: None,
        settled: Sequence(0),
        attempts: 0,
        track: Track::Sweep,
        owed_since: Sequence(0),
        owed_at: Timestamp(0),
    }
}
