//! The entities that the events of a request name, so that a sender can ask whether they were delivered,
//! and so that it is known for a while what happened to them.
//!
//! In a response they are named whether they were changed or not: a sender that lost a response sends its events again,
//! and wants to know whether the first ones were delivered.

use std::collections::BTreeMap;

use crate::happenings::{Happening, Hash, Recorder, What};
use crate::model::{EntityId, Event, Sequence, Timestamp};
use crate::store::{Commit, Effect, Verdict};

/// The most entities that a response names.
const ENTITIES_MAX: usize = 1000;

/// Entities, each with a sequence that is no lower than those of the request's changes of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    entities: BTreeMap<EntityId, Sequence>,
    more: bool,
}

/// The entities of commits that are not decided yet, by the positions of their commits.
pub(super) type Undecided = Vec<(usize, EntityId)>;

/// The entities that these commits name.
pub(super) fn of(commits: &[Commit]) -> Undecided {
    let changes = commits.iter().enumerate().flat_map(|(at, commit)| {
        let changes = match &commit.effect {
            Effect::Changes(changes) => &changes[..],
            Effect::Filtered | Effect::Quarantine(_) => &[],
        };
        changes.iter().map(move |change| (at, change.id.clone()))
    });
    let mut named: Undecided = changes.collect();
    named.dedup();
    named
}

/// Records what became of events: which entities they changed, and in which trace.
pub(super) fn record(
    recorder: &Recorder,
    time: Timestamp,
    events: &[Event],
    entities: &[(usize, Hash)],
    verdicts: &BTreeMap<usize, Verdict>,
) {
    let accepted = |(at, entity): &(usize, Hash)| match verdicts.get(at)? {
        Verdict::Accepted { newest, .. } if *newest > Sequence(0) => Some(Happening {
            entity: *entity,
            time,
            sequence: *newest,
            trace: trace(events.get(*at)),
            what: What::Accepted,
        }),
        _ => None,
    };
    recorder.record(entities.iter().filter_map(accepted));
}

/// The entities of commits that are not decided yet, as they are recorded.
pub(super) fn hashes(commits: &[Commit]) -> Vec<(usize, Hash)> {
    let mut hashes = Vec::with_capacity(commits.len());
    for (at, commit) in commits.iter().enumerate() {
        let Effect::Changes(changes) = &commit.effect else {
            continue;
        };
        let mut last: Option<&EntityId> = None;
        for change in changes {
            // Most events change one entity.
            if last != Some(&change.id) {
                hashes.push((at, Hash::of(&change.id)));
                last = Some(&change.id);
            }
        }
    }
    hashes
}

fn trace(event: Option<&Event>) -> u128 {
    let trace = event.and_then(|event| event.trace);
    trace.map(|trace| trace.trace).unwrap_or_default()
}

impl Named {
    /// Adds the entities of events that the store has taken, or had taken before. Everything that was
    /// committed is at or below `head`.
    pub(super) fn add(
        &mut self,
        undecided: Undecided,
        verdicts: &BTreeMap<usize, Verdict>,
        head: Sequence,
    ) {
        let taken = |at: &usize| {
            let verdict = verdicts.get(at);
            matches!(verdict, Some(Verdict::Accepted { .. } | Verdict::Repeated))
        };
        for (_, id) in undecided.into_iter().filter(|(at, _)| taken(at)) {
            if self.entities.len() < ENTITIES_MAX || self.entities.contains_key(&id) {
                self.entities.insert(id, head);
            } else {
                self.more = true;
            }
        }
    }

    /// The entities, in order.
    pub fn entities(&self) -> impl Iterator<Item = (&EntityId, Sequence)> {
        self.entities.iter().map(|(id, sequence)| (id, *sequence))
    }

    /// Whether there are more than are named.
    pub fn has_more(&self) -> bool {
        self.more
    }
}
