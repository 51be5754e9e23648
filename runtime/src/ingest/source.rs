//! A running source: processes a request, from its raw bytes to the summary of its events.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::change::{self, Rules};
use super::envelope::{self, Opened, Unread};
use super::named;
use super::tapped::Tapped;
use super::traced::Receiving;
use super::{
    Activity, ChangeCounts, EventCounts, Incoming, ItemProblem, Mapping, Named, Options,
    PROBLEMS_MAX, Rejection, Summary, unreadable, verify,
};
use crate::budget::Reservation;
use crate::happenings;
use crate::model::{Arrival, EntityType, Event, FACETS_MAX, Failure, Lane, PartsDigest, Sequence};
use crate::plugin::EventVerdict;
use crate::store::{
    self, Commit, Content, Effect, Identity, NAMES_MAX, NoRoom, NotTaken, Quarantined, Store,
    Verdict,
};
use crate::traces::{self, Nanos};

/// Number of events passed to the store at once. The store writes batches of about this size;
/// larger pieces would only make other requests wait longer.
const PIECE: usize = 512;
/// Pieces of one request that may wait for the writer at a time. It is enough for the writer to be
/// busy without a gap, and far below the number of events at which the store refuses as busy, so a
/// large request fills the queue neither for itself nor for others.
const PIECES_WAITING_MAX: usize = 8;
/// Bodies up to this size are parsed in place, larger ones on a blocking thread.
const INLINE_BYTES_MAX: usize = 64 * 1024;

/// A running source. A reload makes a new one around the same store and activity.
pub struct Source {
    pub(super) options: Arc<Options>,
    pub(super) chain: Option<Arc<dyn Mapping>>,
    pub(super) types: Arc<BTreeMap<Arc<str>, EntityType>>,
    pub(super) store: Arc<dyn Store>,
    pub(super) activity: Arc<Activity>,
}

impl Source {
    /// Creates a source with its chain. Without a chain, its events must be changes as JSON.
    pub fn new(
        options: Options,
        chain: Option<Arc<dyn Mapping>>,
        types: Arc<BTreeMap<Arc<str>, EntityType>>,
        store: Arc<dyn Store>,
        activity: Arc<Activity>,
    ) -> Source {
        Source {
            options: Arc::new(options),
            chain,
            types,
            store,
            activity,
        }
    }

    /// The source, as configured.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Its counts and samples.
    pub fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// The number of its events in quarantine.
    pub fn quarantined(&self) -> u64 {
        self.store.shelf(&self.options.name).count()
    }

    /// Takes a request; returns when everything in it is durable. Its body is counted against the
    /// memory budget here if the transport did not do so while receiving it.
    ///
    /// # Errors
    /// See [`Rejection`]; if the request was taken in part, the rejection says which part.
    pub async fn accept(&self, incoming: Incoming) -> Result<Summary, Rejection> {
        let taken = self.admit(incoming).await;
        taken.inspect_err(|rejection| self.tell_rejected(rejection))
    }

    /// Takes a request if it is short enough and its sender is verified.
    async fn admit(&self, incoming: Incoming) -> Result<Summary, Rejection> {
        self.fits(&incoming)?;
        let (bytes, now) = (incoming.body.len() as u64, incoming.now);
        verify::verify(&self.options.verify, &incoming.headers, &incoming.body, now)?;
        if let Some(failure) = self.for_a_person(&incoming) {
            return self.keep_for_a_person(incoming, failure).await;
        }
        let mut receiving = Receiving::begin(self.activity.traces(), &incoming.headers, bytes);
        let result = self.take(incoming, &mut receiving).await;
        receiving.end(&self.options.name, &result);
        result
    }

    /// Takes a request of a verified sender.
    async fn take(
        &self,
        incoming: Incoming,
        receiving: &mut Receiving,
    ) -> Result<Summary, Rejection> {
        let (lane, now) = (incoming.lane, incoming.now);
        let mut named = incoming.receipt.then(Named::default);
        let (opened, memory) = self
            .open(incoming)
            .await
            .inspect_err(|rejection| self.note_malformed(rejection))?;
        self.activity.seen(&opened.events, now);

        let Opened {
            mut events,
            mut indexes,
            unread,
        } = opened;
        receiving.opened(&mut events);
        let (events, memory) = (Arc::new(events), Arc::new(memory));
        let mut done = self.take_all(&events, lane, &memory, named.as_mut()).await;
        if !unread.is_empty() && !done.is_stopped() {
            indexes.extend(unread.iter().map(|unread| unread.index));
            let arriving = Arriving {
                lane,
                arrival: None,
            };
            let kept = |item| self.keep_unread(item, arriving.clone());
            let commits = unread.into_iter().map(kept);
            let commits: Vec<Commit> = commits.collect();
            let mut tapped = self.tapped(None);
            if let Some(tapped) = &mut tapped {
                tapped.choose_unread(0, &commits);
            }
            let kept = self.commit(&[], commits, |_| lane, traces::now()).await;
            if let Some(tapped) = tapped {
                tapped.tell(&[], &kept);
            }
            done.add(kept, events.len());
        }
        let sequence = self.head(&done);
        let mut problems: Vec<ItemProblem> = done
            .problems
            .into_iter()
            .map(|(at, failure)| ItemProblem::new(indexes[at], failure))
            .collect();
        problems.sort_by_key(|problem| problem.index);
        problems.truncate(PROBLEMS_MAX);
        self.activity.taken(done.events, done.changes);
        let summary = Summary {
            events: done.events,
            changes: done.changes,
            problems,
            sequence: sequence.0,
            named: named.unwrap_or_default(),
        };
        match done.trouble {
            None => Ok(summary),
            Some(trouble) => Err(trouble.rejection(summary)),
        }
    }

    /// Whether it has a chain of plugins.
    pub(super) fn is_mapped(&self) -> bool {
        self.chain.is_some()
    }

    /// Counts the body of a request against the memory budget.
    pub(super) fn fits(&self, incoming: &Incoming) -> Result<(), Rejection> {
        let (bytes, limit) = (incoming.body.len() as u64, self.options.body_bytes_max);
        if bytes > limit {
            return Err(Rejection::TooLarge {
                limit,
                unit: "bytes",
            });
        }
        incoming.memory.grow_to(bytes)?;
        Ok(())
    }

    /// Everything that these commits brought is at or below this sequence.
    pub(super) fn head(&self, done: &Done) -> Sequence {
        let durable = || *self.store.watermark().borrow();
        done.sequence.unwrap_or_else(durable)
    }

    /// The events of a request, and the memory that it holds from now on.
    pub(super) async fn open(
        &self,
        incoming: Incoming,
    ) -> Result<(Opened, Reservation), Rejection> {
        let (options, all_json) = (Arc::clone(&self.options), self.chain.is_none());
        let length = incoming.body.len();
        let open = move || {
            let Incoming {
                headers,
                body,
                memory,
                ..
            } = incoming;
            let opened = unreadable::open(&options, all_json, &headers, body, &memory)?;
            // The body itself has gone into its events, or is gone.
            memory.shrink_to(opened_bytes(&opened));
            Ok((opened, memory))
        };
        if length <= INLINE_BYTES_MAX {
            return open();
        }
        let opened = tokio::task::spawn_blocking(open).await;
        opened.unwrap_or_else(|error| {
            Err(Trouble::Unavailable(error.to_string()).rejection(Summary::default()))
        })
    }

    fn note_malformed(&self, rejection: &Rejection) {
        if let Rejection::Malformed { problems, .. } = rejection {
            self.activity.malformed(problems.len().max(1));
        }
    }

    /// Turns each event, by its verdict, into a commit. `arriving` says how the one at an index has arrived.
    pub(super) async fn commits(
        &self,
        events: &[Event],
        verdicts: Vec<EventVerdict>,
        arriving: impl Fn(usize) -> Arriving + Send + Sync,
        mut tapped: Option<&mut Tapped>,
    ) -> Vec<Commit> {
        let mut verdicts = verdicts.into_iter();
        let mut commits = Vec::with_capacity(events.len());
        let mut since_yield = 0;
        for (at, event) in events.iter().enumerate() {
            let (verdict, Arriving { lane, arrival }) = (verdicts.next(), arriving(at));
            let tapped = tapped.as_mut();
            let choosing = tapped.and_then(|tapped| tapped.choose(at, event, verdict.as_ref()));
            // The source may have had a mapper when an event in quarantine arrived, so its data may be
            // anything.
            let checked = self.chain.is_none() && arrival.is_none();
            let mut effect = self.effect(event, verdict, lane, checked);
            if let Effect::Quarantine(kept) = &mut effect {
                kept.arrived = arrived(arrival.as_ref());
            }
            since_yield += match &effect {
                Effect::Changes(changes) => changes.len(),
                Effect::Filtered | Effect::Quarantine(_) => 1,
            };
            let commit = Commit {
                source: self.options.name.clone(),
                identity: self.identity(event),
                arrival,
                effect,
            };
            if let Some(choosing) = choosing {
                choosing.by(event, &commit);
            }
            commits.push(commit);
            if since_yield >= PIECE {
                since_yield = 0;
                tokio::task::yield_now().await;
            }
        }
        commits
    }

    /// Records which entities these commits write.
    pub(super) fn note_written(&self, commits: &[Commit]) {
        let newest_first = commits.iter().rev();
        self.activity
            .written(newest_first.filter_map(|commit| match &commit.effect {
                Effect::Changes(changes) => changes.first().map(|change| &change.id),
                Effect::Filtered | Effect::Quarantine(_) => None,
            }));
    }

    /// The commit that quarantines an item that could not be read. It has no identity: what it says is
    /// not known, and if it is sent again, the quarantine counts it.
    pub(super) fn keep_unread(&self, unread: Unread, arriving: Arriving) -> Commit {
        let Arriving { lane, arrival } = arriving;
        Commit {
            source: self.options.name.clone(),
            identity: None,
            effect: Effect::Quarantine(Box::new(Quarantined {
                event: unread.item,
                unread: true,
                whole: unread.whole,
                arrived: arrived(arrival.as_ref()),
                lane,
                failure: unread.failure,
                plugin: None,
            })),
            arrival,
        }
    }

    /// Turns a verdict into a commit. `checked` means that the data was checked to be JSON on
    /// arrival. A missing verdict is a fault of the plugin host; its event is quarantined, so that
    /// none is lost.
    pub(super) fn effect(
        &self,
        event: &Event,
        verdict: Option<EventVerdict>,
        lane: Option<Lane>,
        checked: bool,
    ) -> Effect {
        let rules = Rules {
            source: &self.options.name,
            owner: &self.options.owner,
            types: &self.types,
            lane,
        };
        let settled = match verdict {
            Some(EventVerdict::Changes(changes)) => change::settle(changes, false, rules),
            Some(EventVerdict::Passed) => change::read(event, checked)
                .and_then(|changes| change::settle(changes, true, rules)),
            Some(EventVerdict::Filtered(_)) => Ok(Vec::new()),
            Some(EventVerdict::Failed(failed)) => {
                return set_aside(event, lane, failed.failure, Some(failed.plugin));
            }
            None => Err(Failure::new(
                "no-verdict",
                "the plugins gave no verdict on this event",
            )),
        };
        match settled {
            Ok(changes) if changes.is_empty() => Effect::Filtered,
            Ok(changes) => Effect::Changes(changes),
            Err(failure) => set_aside(event, lane, failure, None),
        }
    }

    /// Passes commits to the store, waits until they are durable, and counts. The first commits are
    /// those of `events`, which began to be mapped at `started`; after them may come commits that only
    /// quarantine.
    pub(super) async fn commit(
        &self,
        events: &[Event],
        commits: Vec<Commit>,
        lane: impl Fn(usize) -> Option<Lane> + Send + Sync,
        started: Nanos,
    ) -> Done {
        let processing = self.processing(events, &commits, started);
        let done = self.commit_each(events, commits, lane).await;
        self.processed(events, processing, &done);
        done
    }

    /// The same. An event that the store does not apply (its entity would have too many facets, its id was
    /// used before) is quarantined by a separate commit.
    async fn commit_each(
        &self,
        events: &[Event],
        commits: Vec<Commit>,
        lane: impl Fn(usize) -> Option<Lane> + Send + Sync,
    ) -> Done {
        let mut done = Done::default();
        let arrivals: Vec<Option<Arrival>> = commits
            .iter()
            .map(|commit| commit.arrival.clone())
            .collect();
        let reasons = reasons(&commits);
        let recorder = self.activity.recorder();
        // Channels may deliver before this knows that they can.
        let entities = recorder.map(|_| (happenings::now(), named::hashes(&commits)));
        let verdicts = self.hand_over(commits, &mut done).await;
        let not_applied = done.count(verdicts.into_iter().enumerate(), &reasons);
        if let Some((recorder, (time, entities))) = recorder.zip(entities) {
            named::record(recorder, time, events, &entities, &done.verdicts);
        }
        if not_applied.is_empty() {
            return done;
        }
        let (mut places, mut again) = (Vec::new(), Vec::new());
        for (at, why) in not_applied {
            let event = &events[at];
            let (failure, identity) = match why {
                NotApplied::Crowded => (too_many_facets(), self.identity(event)),
                NotApplied::Nameless => (too_many_names(), self.identity(event)),
                // The id belongs to the event that came first.
                NotApplied::Reused => (id_reused(event), None),
            };
            let mut effect = set_aside(event, lane(at), failure, None);
            if let Effect::Quarantine(kept) = &mut effect {
                kept.arrived = arrived(arrivals[at].as_ref());
            }
            places.push(at);
            again.push(Commit {
                source: self.options.name.clone(),
                identity,
                arrival: arrivals[at].clone(),
                effect,
            });
        }
        let reasons: BTreeMap<usize, Failure> = places
            .iter()
            .zip(self::reasons(&again))
            .map(|(at, (_, reason))| (*at, reason))
            .collect();
        let verdicts = self.hand_over(again, &mut done).await;
        done.count(places.into_iter().zip(verdicts), &reasons);
        done
    }

    /// Passes several pieces to the store before awaiting the first, so that they share group commits.
    /// While a piece of this request waits, a full queue only delays the next one. A verdict is
    /// `None` if the store did not take the event.
    async fn hand_over(&self, commits: Vec<Commit>, done: &mut Done) -> Vec<Option<Verdict>> {
        let total = commits.len();
        let (mut commits, mut waiting) = (commits.into_iter(), VecDeque::new());
        let mut delayed: Option<Vec<Commit>> = None;
        let mut verdicts = Vec::with_capacity(total);
        let mut accepts = true;
        loop {
            while accepts && waiting.len() < PIECES_WAITING_MAX {
                let next = || commits.by_ref().take(PIECE).collect();
                let piece = delayed.take().unwrap_or_else(next);
                let length = piece.len();
                if length == 0 {
                    break;
                }
                match self.store.commit(piece) {
                    Ok(receipt) => waiting.push_back((length, receipt)),
                    Err(NotTaken { error, events }) => {
                        if matches!(error, store::Error::Busy { .. }) && !waiting.is_empty() {
                            delayed = Some(events);
                            break;
                        }
                        done.note(Trouble::from(error));
                        accepts = false;
                    }
                }
            }
            let Some((length, receipt)) = waiting.pop_front() else {
                break;
            };
            let committed = receipt.await.unwrap_or_else(|_| {
                Err(store::Error::Unavailable(
                    "the store has stopped".to_owned(),
                ))
            });
            match committed {
                Ok(committed) => {
                    done.sequence = done.sequence.max(Some(committed.sequence));
                    verdicts.extend(committed.verdicts.into_iter().map(Some));
                }
                Err(error) => {
                    done.note(Trouble::from(error));
                    verdicts.resize(verdicts.len() + length, None);
                    accepts = false;
                }
            }
        }
        verdicts.resize(total, None);
        verdicts
    }

    /// By what a repetition of an event is recognised; `None` if the event has no id. Its time and
    /// the headers passed on may differ from attempt to attempt, so they are not part of the content.
    pub(super) fn identity(&self, event: &Event) -> Option<Identity> {
        if event.id.is_empty() {
            return None;
        }
        let mut id = PartsDigest::new();
        id.part(&*self.options.name)
            .part(&*event.origin)
            .part(&*event.id);
        let mut content = PartsDigest::new();
        content
            .part(&*event.event_type)
            .optional(event.subject.as_deref().map(str::as_bytes))
            .part(event.data.as_bytes());
        Some(Identity {
            id: id.digest128(),
            content: Content::of(content.digest64()),
        })
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("options", &self.options)
            .field("mapped", &self.chain.is_some())
            .finish_non_exhaustive()
    }
}

/// How an event has arrived, as far as its commit says so.
#[derive(Clone, Debug, Default)]
pub(super) struct Arriving {
    /// The lane of its request.
    pub(super) lane: Option<Lane>,
    /// When it arrived, if it comes from quarantine.
    pub(super) arrival: Option<Arrival>,
}

/// What an event in quarantine must remember of its arrival: nothing, unless it gets a place there that says
/// another time, because it was read from a body that was kept before.
fn arrived(arrival: Option<&Arrival>) -> Option<Sequence> {
    let arrival = arrival.filter(|arrival| arrival.place != Some(arrival.sequence))?;
    Some(arrival.sequence)
}

/// The results of commits.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) events: EventCounts,
    pub(super) changes: ChangeCounts,
    /// Indexed by the position of the commit.
    pub(super) problems: Vec<(usize, Failure)>,
    pub(super) verdicts: BTreeMap<usize, Verdict>,
    pub(super) sequence: Option<Sequence>,
    pub(super) trouble: Option<Trouble>,
}

impl Done {
    /// Adds the results of commits whose first one is at this position.
    pub(super) fn add(&mut self, part: Done, first: usize) {
        self.events.add(part.events);
        self.changes.add(part.changes);
        let problems = part.problems.into_iter();
        self.problems
            .extend(problems.map(|(at, failure)| (first + at, failure)));
        // Only the first are listed, and they come in order but for a few.
        self.problems.truncate(2 * PROBLEMS_MAX);
        self.sequence = self.sequence.max(part.sequence);
        part.trouble.into_iter().for_each(|it| self.note(it));
    }

    /// Whether the store takes nothing more of the request.
    pub(super) fn is_stopped(&self) -> bool {
        matches!(
            self.trouble,
            Some(Trouble::Busy | Trouble::Overloaded | Trouble::Unavailable(_))
        )
    }

    /// Counts verdicts; returns the events that the store did not apply.
    fn count(
        &mut self,
        verdicts: impl Iterator<Item = (usize, Option<Verdict>)>,
        reasons: &BTreeMap<usize, Failure>,
    ) -> Vec<(usize, NotApplied)> {
        let mut not_applied = Vec::new();
        for (at, verdict) in verdicts {
            let Some(verdict) = verdict else { continue };
            match &verdict {
                Verdict::Accepted {
                    committed,
                    unchanged,
                    stale,
                    ..
                } => {
                    self.events.accepted += 1;
                    self.changes.committed += u64::from(*committed);
                    self.changes.unchanged += u64::from(*unchanged);
                    self.changes.stale += u64::from(*stale);
                }
                Verdict::Filtered => self.events.filtered += 1,
                Verdict::Repeated => self.events.repeated += 1,
                Verdict::Quarantined(_) => {
                    self.events.quarantined += 1;
                    self.problems
                        .extend(reasons.get(&at).map(|reason| (at, reason.clone())));
                }
                Verdict::Reused => not_applied.push((at, NotApplied::Reused)),
                Verdict::NoRoom(NoRoom::Facets) => not_applied.push((at, NotApplied::Crowded)),
                Verdict::NoRoom(NoRoom::Names) => not_applied.push((at, NotApplied::Nameless)),
                Verdict::NoRoom(NoRoom::Entities) => {
                    self.problems.push((
                        at,
                        Failure::new(
                            "no-room",
                            "its type has `entities_max` entities and this key is new",
                        ),
                    ));
                    self.note(Trouble::NoRoom);
                }
                Verdict::NoRoom(NoRoom::Quarantine) => {
                    let reason = reasons
                        .get(&at)
                        .map_or("it failed", |reason| reason.message.as_str());
                    self.problems.push((
                        at,
                        Failure::new(
                            "quarantine-full",
                            format!("not kept, the quarantine is full: {reason}"),
                        ),
                    ));
                    self.note(Trouble::QuarantineFull);
                }
            }
            self.verdicts.insert(at, verdict);
        }
        not_applied
    }

    /// Keeps the most serious error: a store that cannot write, then one that is behind, limits
    /// last.
    pub(super) fn note(&mut self, trouble: Trouble) {
        if self
            .trouble
            .as_ref()
            .is_none_or(|known| trouble.weight() > known.weight())
        {
            self.trouble = Some(trouble);
        }
    }
}

/// Why the store did not apply an event, which is then quarantined.
#[derive(Clone, Copy, Debug)]
enum NotApplied {
    /// Its entity cannot have another facet.
    Crowded,
    /// It brings a name of a facet for which the store has no number.
    Nameless,
    /// Its id was used by an event with another content.
    Reused,
}

fn too_many_facets() -> Failure {
    Failure::new(
        "too-many-facets",
        format!(
            "an entity has at most {FACETS_MAX} facets, deleted ones included until every channel has \
             delivered their deletion; redrive the event then, or delete facets that nobody needs"
        ),
    )
}

fn too_many_names() -> Failure {
    Failure::new(
        "too-many-names",
        format!(
            "the facets of all entities have {NAMES_MAX} different names, and this event brings \
             another one; delete facets that nobody needs, or find out who invents their names"
        ),
    )
}

fn id_reused(event: &Event) -> Failure {
    Failure::new(
        "id-reused",
        format!(
            "an earlier event had the id `{}` and another content, so this one was not applied; the sender must give each event an id of its own, and the same only when it sends an event again",
            envelope::excerpt(&event.id)
        ),
    )
}

/// Why not all of a request was taken.
#[derive(Debug)]
pub(super) enum Trouble {
    NoRoom,
    QuarantineFull,
    Busy,
    /// There was no memory for the rest.
    Overloaded,
    Unavailable(String),
}

impl Trouble {
    fn weight(&self) -> u8 {
        match self {
            Trouble::NoRoom => 0,
            Trouble::QuarantineFull => 1,
            Trouble::Busy => 2,
            Trouble::Overloaded => 3,
            Trouble::Unavailable(_) => 4,
        }
    }

    pub(super) fn rejection(self, taken: Summary) -> Rejection {
        let taken = Box::new(taken);
        match self {
            Trouble::NoRoom => Rejection::NoRoom { taken },
            Trouble::QuarantineFull => Rejection::QuarantineFull { taken },
            Trouble::Busy => Rejection::Busy { taken },
            Trouble::Overloaded => Rejection::Overloaded { taken },
            Trouble::Unavailable(reason) => Rejection::Unavailable { reason, taken },
        }
    }
}

impl From<store::Error> for Trouble {
    fn from(error: store::Error) -> Trouble {
        match error {
            store::Error::Busy { .. } => Trouble::Busy,
            store::Error::Unavailable(_) | store::Error::Damaged(_) => {
                Trouble::Unavailable(error.to_string())
            }
        }
    }
}

/// The reason of each commit that quarantines an event, as reported to the sender.
fn reasons(commits: &[Commit]) -> BTreeMap<usize, Failure> {
    let reason = |quarantined: &Quarantined| match &quarantined.plugin {
        None => quarantined.failure.clone(),
        Some(plugin) => Failure::new(
            quarantined.failure.code.as_str(),
            format!("{plugin}: {}", quarantined.failure.message),
        ),
    };
    let set_aside = commits
        .iter()
        .enumerate()
        .filter_map(|(at, commit)| match &commit.effect {
            Effect::Quarantine(quarantined) => Some((at, reason(quarantined))),
            Effect::Changes(_) | Effect::Filtered => None,
        });
    set_aside.collect()
}

/// The approximate memory of a request's events.
fn opened_bytes(opened: &Opened) -> u64 {
    let unread = opened.unread.iter().map(|unread| &unread.item);
    let all = opened.events.iter().chain(unread);
    all.map(|event| event_bytes(event) + envelope::EVENT_OVERHEAD_BYTES)
        .sum()
}

/// The approximate memory of an event.
pub(super) fn event_bytes(event: &Event) -> u64 {
    let attributes = event.attributes.iter();
    let attributes = attributes.map(|(name, value)| name.len() + value.len() + 48);
    (event.data.as_bytes().len() + attributes.sum::<usize>()) as u64
}

fn set_aside(
    event: &Event,
    lane: Option<Lane>,
    failure: Failure,
    plugin: Option<String>,
) -> Effect {
    Effect::Quarantine(Box::new(Quarantined {
        event: event.clone(),
        unread: false,
        whole: false,
        arrived: None,
        lane,
        failure,
        plugin,
    }))
}
