//! Tells taps of the events of a source: what came, what each plugin made of it, and what the store did.
//!
//! Which events may be told of is decided when their changes are known, and before anything is copied. Whether
//! one is told of is decided when the store has, by its outcome.

use std::sync::Arc;

use super::Rejection;
use super::source::{Done, Source};
use crate::happenings;
use crate::model::{Event, Failure};
use crate::plugin::{EventVerdict, Role, Room};
use crate::store::{Commit, Effect, FacetChange, Verdict};
use crate::tap::story::{
    ChangeStory, EventStory, PluginStory, ReceivedStory, StoreStory, Story, WhyStory, time,
};
use crate::tap::{Open, Wanted};

/// The most events of a stretch that may be told of.
const CHOSEN_MAX: usize = 256;

/// Events that taps may want, until the store has decided.
pub(super) struct Tapped {
    taps: Open,
    /// What each event passes, in order.
    stages: Vec<(Arc<str>, Role)>,
    room: Option<Arc<Room>>,
    chosen: Vec<Chosen>,
    /// Whether they come from quarantine.
    redriven: bool,
}

struct Chosen {
    /// The position of its commit.
    at: usize,
    /// What could not be read; `None` for an event.
    unread: Option<Event>,
    end: ChainEnd,
    changes: Vec<FacetChange>,
    failure: Option<Failure>,
}

/// How an event left the chain of its source.
#[derive(Clone)]
enum ChainEnd {
    /// It was not run.
    NotRun,
    /// No filter dropped it, and there is no mapper.
    Passed,
    /// The filter of this name dropped it.
    Dropped(Arc<str>),
    /// The mapper made this many changes of it.
    Mapped(usize),
    /// The plugin with this label failed on it.
    Failed(Arc<str>),
}

impl ChainEnd {
    fn of(verdict: Option<&EventVerdict>) -> ChainEnd {
        match verdict {
            None => ChainEnd::NotRun,
            Some(EventVerdict::Passed) => ChainEnd::Passed,
            Some(EventVerdict::Filtered(name)) => ChainEnd::Dropped(name.clone()),
            Some(EventVerdict::Changes(changes)) => ChainEnd::Mapped(changes.len()),
            Some(EventVerdict::Failed(failed)) => ChainEnd::Failed(failed.plugin.as_str().into()),
        }
    }
}

impl Source {
    /// For events that are about to be run through the chain; `None` if no tap is open.
    pub(super) fn tapped(&self, room: Option<&Arc<Room>>) -> Option<Tapped> {
        let taps = self.activity.taps()?;
        // Their log lines are kept if some event may be told of.
        let room = room.filter(|_| taps.expects(|_| true)).cloned();
        if let Some(room) = &room {
            room.listen();
        }
        let stages = self.chain.as_ref().map(|chain| chain.stages());
        Some(Tapped {
            taps,
            stages: stages.unwrap_or_default(),
            room,
            chosen: Vec::new(),
            redriven: false,
        })
    }

    /// Tells of a request that was not taken, as far as it got.
    pub fn tell_rejected(&self, rejection: &Rejection) {
        let (Some(taps), None) = (self.activity.taps(), rejection.taken()) else {
            return;
        };
        let of_any = |wanted: &Wanted| wanted.key.is_none() && wanted.kind.is_none();
        taps.offer("rejected", of_any, |_| {
            Story::Event(Box::new(EventStory {
                time: time(happenings::now()),
                outcome: "rejected".to_owned(),
                why: Some(WhyStory::new(rejection.code(), &rejection.to_string())),
                ..EventStory::default()
            }))
        });
    }
}

impl Tapped {
    /// The same, for events that come from quarantine.
    pub(super) fn of_redriven(self) -> Tapped {
        Tapped {
            redriven: true,
            ..self
        }
    }

    /// Chooses an event if a tap may take it, with what its plugins and rules made of it.
    pub(super) fn choose(
        &mut self,
        at: usize,
        event: &Event,
        verdict: Option<&EventVerdict>,
    ) -> Option<Choosing<'_>> {
        let left = CHOSEN_MAX - self.chosen.len();
        (left > 0).then(|| Choosing {
            at,
            end: ChainEnd::of(verdict),
            by_event: self.taps.expects(|wanted| fits(wanted, event, &[])),
            tapped: self,
        })
    }

    /// Chooses items that could not be read, whose commits are these; the first is at `first`.
    pub(super) fn choose_unread(&mut self, first: usize, commits: &[Commit]) {
        let left = CHOSEN_MAX.saturating_sub(self.chosen.len());
        for (at, commit) in commits.iter().enumerate().take(left) {
            let Effect::Quarantine(kept) = &commit.effect else {
                continue;
            };
            if self.taps.expects(|wanted| fits(wanted, &kept.event, &[])) {
                self.chosen.push(Chosen {
                    at: first + at,
                    unread: Some(kept.event.clone()),
                    end: ChainEnd::NotRun,
                    changes: Vec::new(),
                    failure: Some(kept.failure.clone()),
                });
            }
        }
    }

    /// Tells of those that were chosen. The store has decided.
    pub(super) fn tell(self, events: &[Event], done: &Done) {
        for chosen in &self.chosen {
            let Some(event) = chosen.unread.as_ref().or_else(|| events.get(chosen.at)) else {
                continue;
            };
            let verdict = done.verdicts.get(&chosen.at);
            let (outcome, store) = outcome(verdict);
            let fits = |wanted: &Wanted| fits(wanted, event, &chosen.changes);
            self.taps.offer(outcome, fits, |full| {
                let changes = chosen.changes.iter();
                let changes = changes.map(|change| {
                    let lane = change.lane.name();
                    let value = change.value.as_deref();
                    ChangeStory::new(&change.id, &change.facet, lane, change.version, value, full)
                });
                let story = EventStory {
                    time: time(happenings::now()),
                    outcome: outcome.to_owned(),
                    why: self.why(chosen, verdict, done),
                    redriven: self.redriven,
                    event: Some(ReceivedStory::new(event, full)),
                    plugins: self.plugins(&chosen.end),
                    store: store.clone(),
                    ..EventStory::default()
                };
                Story::Event(Box::new(story.with_changes(changes)))
            });
        }
    }

    fn why(&self, chosen: &Chosen, verdict: Option<&Verdict>, done: &Done) -> Option<WhyStory> {
        let told = |failure: &Failure| WhyStory::new(&failure.code, &failure.message);
        let of_store = || {
            let mut problems = done.problems.iter();
            problems
                .find(|(at, _)| *at == chosen.at)
                .map(|(_, failure)| told(failure))
        };
        match verdict {
            Some(Verdict::Accepted { .. } | Verdict::Repeated) => None,
            Some(Verdict::Filtered) => Some(match &chosen.end {
                ChainEnd::Dropped(filter) => {
                    WhyStory::new("filter", &format!("the filter {filter} dropped it"))
                }
                _ => WhyStory::new("no-changes", "it was mapped to no changes"),
            }),
            Some(_) => chosen.failure.as_ref().map(told).or_else(of_store),
            None => Some(WhyStory::new(
                "not-taken",
                "the store took no more of the request",
            )),
        }
    }

    fn plugins(&self, end: &ChainEnd) -> Vec<PluginStory> {
        let stages = match end {
            ChainEnd::NotRun => &[][..],
            _ => &self.stages[..],
        };
        let stages = stages.iter().map(|(label, role)| {
            let verdict = match end {
                ChainEnd::Dropped(name) if label.split('@').next() == Some(&**name) => "dropped",
                ChainEnd::Failed(failed) if failed == label => "failed",
                ChainEnd::Mapped(0) if *role == Role::Mapper => "nothing",
                ChainEnd::Mapped(_) if *role == Role::Mapper => "mapped",
                _ => "passed",
            };
            (&**label, role.name(), verdict)
        });
        let room = self.room.as_ref();
        PluginStory::chain(stages, |plugin| {
            room.map(|room| room.lines_of(plugin)).unwrap_or_default()
        })
    }
}

/// An event that may be chosen once its effect is known.
pub(super) struct Choosing<'a> {
    tapped: &'a mut Tapped,
    at: usize,
    end: ChainEnd,
    by_event: bool,
}

impl Choosing<'_> {
    /// Chooses it, unless no tap wants what it changes.
    pub(super) fn by(self, event: &Event, commit: &Commit) {
        let none: &[FacetChange] = &[];
        let (changes, failure) = match &commit.effect {
            Effect::Changes(changes) => (&changes[..], None),
            Effect::Filtered => (none, None),
            Effect::Quarantine(quarantined) => (none, Some(quarantined.failure.clone())),
        };
        let taps = &self.tapped.taps;
        if self.by_event || taps.expects(|wanted| fits(wanted, event, changes)) {
            self.tapped.chosen.push(Chosen {
                at: self.at,
                unread: None,
                end: self.end,
                changes: changes.to_vec(),
                failure,
            });
        }
    }
}

/// Whether an event with these changes is wanted: by an entity that it changes, or by what it says of itself.
fn fits(wanted: &Wanted, event: &Event, changes: &[FacetChange]) -> bool {
    let by_key = |key: &String| {
        event.id == *key
            || event.subject.as_ref() == Some(key)
            || changes.iter().any(|change| *change.id.key == **key)
    };
    let by_kind = |kind: &String| {
        event.event_type == *kind || (changes.iter()).any(|change| *change.id.entity_type == **kind)
    };
    wanted.key.as_ref().is_none_or(by_key) && wanted.kind.as_ref().is_none_or(by_kind)
}

/// The word for what became of an event, and what became of its changes.
fn outcome(verdict: Option<&Verdict>) -> (&'static str, Option<StoreStory>) {
    match verdict {
        Some(Verdict::Accepted {
            committed,
            unchanged,
            stale,
            newest,
        }) => {
            let word = match (committed, stale) {
                (1.., _) => "changed",
                (0, 1..) => "stale",
                (0, 0) => "unchanged",
            };
            let store = StoreStory {
                committed: *committed,
                unchanged: *unchanged,
                stale: *stale,
                sequence: newest.0.to_string(),
            };
            (word, Some(store))
        }
        Some(Verdict::Filtered) => ("filtered", None),
        Some(Verdict::Quarantined(_)) => ("quarantined", None),
        Some(Verdict::Repeated) => ("repeated", None),
        // What is not applied for another reason is quarantined by a commit of its own.
        Some(Verdict::Reused | Verdict::NoRoom(_)) | None => ("rejected", None),
    }
}
