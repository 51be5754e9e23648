//! A source at work: one request from its raw bytes to the answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::HeaderMap;
use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use super::change::{self, Rules};
use super::envelope::{self, Opened};
use super::{
    Activity, Answer, Budget, ChangeCounts, EventCounts, Mapping, Options, PROBLEMS_MAX, Problem,
    Rejection, Request, Reservation, body, verify,
};
use crate::model::{EntityType, Event, Failure, Lane, Sequence};
use crate::plugin::EventVerdict;
use crate::store::{self, Commit, Effect, NoRoom, Quarantined, Store, Verdict};

/// Events handed to the store at once. The store writes batches of about that size; larger
/// hand-overs would only make others wait longer.
const PIECE: usize = 512;
/// Bodies up to this size are cut on the spot, larger ones on a thread where they stop nobody.
const INLINE_BYTES_MAX: usize = 64 * 1024;

/// A source in force. A reload makes a new one around the same store, budget and activity.
pub struct Source {
    pub(super) options: Arc<Options>,
    pub(super) chain: Option<Arc<dyn Mapping>>,
    pub(super) types: Arc<BTreeMap<Arc<str>, EntityType>>,
    pub(super) store: Arc<dyn Store>,
    budget: Budget,
    pub(super) activity: Arc<Activity>,
}

impl Source {
    /// A source with its chain (none: its events are changes already).
    pub fn new(
        options: Options,
        chain: Option<Arc<dyn Mapping>>,
        types: Arc<BTreeMap<Arc<str>, EntityType>>,
        store: Arc<dyn Store>,
        budget: Budget,
        activity: Arc<Activity>,
    ) -> Source {
        Source {
            options: Arc::new(options),
            chain,
            types,
            store,
            budget,
            activity,
        }
    }

    /// As configured.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// What it has been doing.
    pub fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// How many of its events are in quarantine.
    pub fn quarantined(&self) -> u64 {
        self.store.shelf(&self.options.name).count()
    }

    /// To be called before a body is read: takes its memory out of the shared budget. Without a
    /// `Content-Length` the longest body is reserved; what is too much is given back when the body
    /// is there.
    ///
    /// # Errors
    /// `TooLarge` and `Overloaded`.
    pub fn reserve(&self, content_length: Option<u64>) -> Result<Reservation, Rejection> {
        let limit = self.options.body_bytes_max;
        let bytes = content_length.unwrap_or(limit);
        if bytes > limit {
            Err(Rejection::TooLarge {
                limit,
                unit: "bytes",
            })
        } else {
            self.budget.reserve(bytes)
        }
    }

    /// Takes a request; answers when all that it brought is durable.
    ///
    /// # Errors
    /// See [`Rejection`]; where it was taken in part, that is in it.
    pub async fn accept(&self, request: Request<'_>) -> Result<Answer, Rejection> {
        let Request {
            headers,
            body,
            lane,
            now,
            reservation,
        } = request;
        let (bytes, limit) = (body.len() as u64, self.options.body_bytes_max);
        if bytes > limit {
            return Err(Rejection::TooLarge {
                limit,
                unit: "bytes",
            });
        }
        let mut reservation = reservation.map_or_else(|| self.budget.reserve(bytes), Ok)?;
        reservation.resize(bytes)?;
        verify::verify(&self.options.verify, headers, &body, now)?;
        let (opened, _reservation) = self
            .open(headers, body, reservation)
            .await
            .inspect_err(|rejection| self.note_malformed(rejection))?;
        self.activity.malformed(opened.malformed.count);
        self.activity.seen(&opened.events, now);

        let Opened {
            events,
            indexes,
            malformed,
        } = opened;
        let events = Arc::new(events);
        let commits = self.decide(&events, lane).await;
        self.activity.written(
            commits
                .iter()
                .rev()
                .filter_map(|commit| match &commit.effect {
                    Effect::Changes(changes) => changes.first().map(|change| &change.id),
                    Effect::Filtered | Effect::Quarantine(_) => None,
                }),
        );
        let done = self.commit(&events, commits, |_| lane).await;
        let mut problems = malformed.first;
        problems.extend(
            done.problems
                .into_iter()
                .map(|(at, failure)| Problem::new(indexes[at], failure)),
        );
        problems.sort_by_key(|problem| problem.index);
        problems.truncate(PROBLEMS_MAX);
        let sequence = done
            .sequence
            .unwrap_or_else(|| *self.store.watermark().borrow());
        self.activity.taken(done.events, done.changes);
        let answer = Answer {
            events: done.events,
            changes: done.changes,
            problems,
            sequence: sequence.0,
        };
        match done.trouble {
            None => Ok(answer),
            Some(trouble) => Err(trouble.rejection(answer)),
        }
    }

    async fn open(
        &self,
        headers: &HeaderMap,
        body: Bytes,
        mut reservation: Reservation,
    ) -> Result<(Opened, Reservation), Rejection> {
        let (options, all_json, length) =
            (Arc::clone(&self.options), self.chain.is_none(), body.len());
        let open = move |headers: &HeaderMap| {
            let body = body::unpack(headers, body, options.body_bytes_max, &mut reservation)?;
            let opened = envelope::open(&options, all_json, headers, body, &mut reservation)?;
            Ok((opened, reservation))
        };
        if length <= INLINE_BYTES_MAX {
            return open(headers);
        }
        let headers = headers.clone();
        let opened = tokio::task::spawn_blocking(move || open(&headers)).await;
        opened.unwrap_or_else(|error| {
            Err(Trouble::Unavailable(error.to_string()).rejection(Answer::default()))
        })
    }

    fn note_malformed(&self, rejection: &Rejection) {
        if let Rejection::Malformed { problems, .. } = rejection {
            self.activity.malformed(problems.len().max(1));
        }
    }

    /// Runs events through the chain and turns each into what is to be done.
    async fn decide(&self, events: &Arc<Vec<Event>>, lane: Option<Lane>) -> Vec<Commit> {
        let verdicts = match &self.chain {
            Some(chain) if !events.is_empty() => chain.map(Arc::clone(events)).await,
            _ => vec![EventVerdict::Passed; events.len()],
        };
        let mut verdicts = verdicts.into_iter();
        let mut commits = Vec::with_capacity(events.len());
        for (at, event) in events.iter().enumerate() {
            let effect = self.effect(event, verdicts.next(), lane, self.chain.is_none());
            commits.push(Commit {
                source: self.options.name.clone(),
                identity: self.identity(event),
                arrival: None,
                effect,
            });
            if at % PIECE == PIECE - 1 {
                tokio::task::yield_now().await;
            }
        }
        commits
    }

    /// What a verdict leads to. `checked` says that the data was checked to be JSON when it came
    /// in. A chain that gives fewer verdicts than it got events is a fault of the host, and no
    /// event may be lost by it.
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

    /// Hands commits over, waits until they are durable, and counts. An event that brings its
    /// entity more facets than it may have is set aside by a commit of its own.
    pub(super) async fn commit(
        &self,
        events: &[Event],
        commits: Vec<Commit>,
        lane: impl Fn(usize) -> Option<Lane> + Send + Sync,
    ) -> Done {
        let mut done = Done::default();
        let arrivals: Vec<Option<Sequence>> = commits.iter().map(|commit| commit.arrival).collect();
        let reasons = reasons(&commits);
        let verdicts = self.hand_over(commits, &mut done).await;
        let crowded: Vec<usize> = done.count(verdicts.into_iter().enumerate(), &reasons);
        if crowded.is_empty() {
            return done;
        }
        let again = crowded.iter().map(|at| {
            let event = &events[*at];
            let failure = Failure::new(
                "too-many-facets",
                format!("an entity has at most {} facets", crate::model::FACETS_MAX),
            );
            let identity = if arrivals[*at].is_some() {
                None
            } else {
                self.identity(event)
            };
            Commit {
                source: self.options.name.clone(),
                identity,
                arrival: arrivals[*at],
                effect: set_aside(event, lane(*at), failure, None),
            }
        });
        let again: Vec<Commit> = again.collect();
        let reasons: BTreeMap<usize, Failure> = crowded
            .iter()
            .zip(self::reasons(&again))
            .map(|(at, (_, reason))| (*at, reason))
            .collect();
        let verdicts = self.hand_over(again, &mut done).await;
        done.count(crowded.into_iter().zip(verdicts), &reasons);
        done
    }

    /// All pieces are handed over before the first is awaited, so that they share group commits.
    /// None where a verdict is missing because the store took no more.
    async fn hand_over(&self, commits: Vec<Commit>, done: &mut Done) -> Vec<Option<Verdict>> {
        let total = commits.len();
        let (mut commits, mut receipts) = (commits.into_iter(), Vec::new());
        while commits.len() > 0 {
            let piece: Vec<Commit> = commits.by_ref().take(PIECE).collect();
            let length = piece.len();
            match self.store.commit(piece) {
                Ok(receipt) => receipts.push((length, receipt)),
                Err(error) => {
                    done.note(Trouble::from(error));
                    break;
                }
            }
        }
        let mut verdicts = Vec::with_capacity(total);
        for (length, receipt) in receipts {
            let answer = receipt.await.unwrap_or_else(|_| {
                Err(store::Error::Unavailable(
                    "the store has stopped".to_owned(),
                ))
            });
            match answer {
                Ok(committed) => {
                    done.sequence = done.sequence.max(Some(committed.sequence));
                    verdicts.extend(committed.verdicts.into_iter().map(Some));
                }
                Err(error) => {
                    done.note(Trouble::from(error));
                    verdicts.resize(verdicts.len() + length, None);
                }
            }
        }
        verdicts.resize(total, None);
        verdicts
    }

    /// By what an event is recognised when it comes again; none without an id.
    fn identity(&self, event: &Event) -> Option<u128> {
        if event.id.is_empty() {
            return None;
        }
        let mut hasher = Xxh3::new();
        for part in [&*self.options.name, &event.origin, &event.id] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        Some(hasher.digest128())
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

/// What came of commits.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) events: EventCounts,
    pub(super) changes: ChangeCounts,
    /// By position among the commits.
    pub(super) problems: Vec<(usize, Failure)>,
    pub(super) verdicts: BTreeMap<usize, Verdict>,
    pub(super) sequence: Option<Sequence>,
    pub(super) trouble: Option<Trouble>,
}

impl Done {
    /// Counts verdicts; answers those whose entity had no room for another facet.
    fn count(
        &mut self,
        verdicts: impl Iterator<Item = (usize, Option<Verdict>)>,
        reasons: &BTreeMap<usize, Failure>,
    ) -> Vec<usize> {
        let mut crowded = Vec::new();
        for (at, verdict) in verdicts {
            let Some(verdict) = verdict else { continue };
            match &verdict {
                Verdict::Accepted {
                    committed,
                    unchanged,
                    stale,
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
                Verdict::NoRoom(NoRoom::Facets) => crowded.push(at),
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
        crowded
    }

    /// Keeps what weighs most: a store that cannot write before one that is behind, limits last.
    fn note(&mut self, trouble: Trouble) {
        if self
            .trouble
            .as_ref()
            .is_none_or(|known| trouble.weight() > known.weight())
        {
            self.trouble = Some(trouble);
        }
    }
}

/// Why not all of a request was taken.
#[derive(Debug)]
pub(super) enum Trouble {
    NoRoom,
    QuarantineFull,
    Busy,
    Unavailable(String),
}

impl Trouble {
    fn weight(&self) -> u8 {
        match self {
            Trouble::NoRoom => 0,
            Trouble::QuarantineFull => 1,
            Trouble::Busy => 2,
            Trouble::Unavailable(_) => 3,
        }
    }

    pub(super) fn rejection(self, taken: Answer) -> Rejection {
        let taken = Box::new(taken);
        match self {
            Trouble::NoRoom => Rejection::NoRoom { taken },
            Trouble::QuarantineFull => Rejection::QuarantineFull { taken },
            Trouble::Busy => Rejection::Busy { taken },
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

/// Of each commit that sets an event aside, why, as the sender is told it.
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

fn set_aside(
    event: &Event,
    lane: Option<Lane>,
    failure: Failure,
    plugin: Option<String>,
) -> Effect {
    Effect::Quarantine(Box::new(Quarantined {
        event: event.clone(),
        lane,
        failure,
        plugin,
    }))
}
