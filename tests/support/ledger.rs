//! The accounts of a run with crashes: what became of each accepted change.
//!
//! For each channel and entity: accepted = delivered + withdrawn + superseded + suppressed +
//! withheld + refused + owed. A delivery counts for the newest change that it covers; older changes
//! that it is the first to cover are superseded. Changes that no delivery covers must be explained
//! by the state that Weir reports for the entity, and what the target holds must agree with that
//! state.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use super::Stage;
use super::receiver::Delivery;

/// A change that was sent. The number is its value and rises with each change of the entity; a
/// deletion has a number too.
#[derive(Clone, Copy, Debug)]
pub struct Op {
    pub number: u64,
    pub deletes: bool,
    /// The sequence in the 202 response; the change has this sequence or an earlier one.
    pub accepted: Option<u64>,
}

/// The number of changes for each result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub accepted: usize,
    pub delivered: usize,
    pub withdrawn: usize,
    pub superseded: usize,
    pub suppressed: usize,
    pub withheld: usize,
    pub refused: usize,
    pub owed: usize,
}

impl Counts {
    fn settled(&self) -> usize {
        self.delivered
            + self.withdrawn
            + self.superseded
            + self.suppressed
            + self.withheld
            + self.refused
            + self.owed
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.accepted += other.accepted;
        self.delivered += other.delivered;
        self.withdrawn += other.withdrawn;
        self.superseded += other.superseded;
        self.suppressed += other.suppressed;
        self.withheld += other.withheld;
        self.refused += other.refused;
        self.owed += other.owed;
    }
}

/// The parts of a delivery that the accounts need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub sequence: u64,
    /// The value that it carried; `None` if it was a deletion.
    pub number: Option<u64>,
    /// Whether the target applied it; otherwise it was refused or cut off.
    pub applied: bool,
}

impl Entry {
    fn of(delivery: &Delivery) -> Entry {
        let (_, content) = delivery.entities().pop().expect("one entity a delivery");
        let number = content.and_then(|content| content["facets"]["content"].as_u64());
        Entry {
            sequence: delivery.sequence(),
            number,
            applied: delivery.applied,
        }
    }
}

/// All changes that were sent, by key.
#[derive(Default)]
pub struct Ledger(Mutex<BTreeMap<String, Vec<Op>>>);

impl Ledger {
    fn ops(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Op>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that the next change of an entity is about to be sent, and returns its number.
    /// Whether it is a deletion may depend on the number.
    pub fn sends(&self, key: &str, deletes: impl Fn(u64) -> bool) -> u64 {
        let mut ops = self.ops();
        let entity_ops = ops.entry(key.to_owned()).or_default();
        let number = entity_ops.len() as u64 + 1;
        entity_ops.push(Op {
            number,
            deletes: deletes(number),
            accepted: None,
        });
        number
    }

    /// Records that the change was answered with 202 and this sequence.
    pub fn accepted(&self, key: &str, number: u64, sequence: u64) {
        if let Some(op) = self
            .ops()
            .get_mut(key)
            .and_then(|ops| ops.get_mut(number as usize - 1))
        {
            op.accepted = Some(sequence);
        }
    }

    pub fn count(&self) -> usize {
        self.ops()
            .values()
            .flatten()
            .filter(|op| op.accepted.is_some())
            .count()
    }

    /// Closes the accounts of a channel with what its receiver was sent; the channel must be at
    /// rest.
    ///
    /// # Errors
    /// The first entity whose accounts are wrong, and why.
    pub fn close(
        &self,
        stage: &Stage,
        channel: &str,
        deliveries: &[Delivery],
    ) -> Result<Counts, String> {
        let mut by_key: BTreeMap<&str, Vec<Entry>> = BTreeMap::new();
        for delivery in deliveries {
            by_key
                .entry(delivery.key())
                .or_default()
                .push(Entry::of(delivery));
        }
        let mut all = Counts::default();
        for (key, ops) in self.ops().iter() {
            let entity = stage.entity(key);
            stored(ops, &entity).map_err(|why| format!("{key}: {why}"))?;
            let standing = entity["channels"]
                .as_array()
                .into_iter()
                .flatten()
                .find(|standing| standing["channel"] == channel);
            let state = standing.map_or("none", |standing| {
                standing["state"].as_str().unwrap_or("none")
            });
            let entries = by_key.get(&**key).map_or(&[][..], |entries| entries);
            all += settle(ops, entries, state).map_err(|why| format!("{key}: {why}"))?;
        }
        Ok(all)
    }

    /// The stored content of each entity that was sent and is not deleted.
    ///
    /// # Errors
    /// The first entity of which an accepted change is missing, and why.
    pub fn stored(&self, stage: &Stage) -> Result<BTreeMap<String, u64>, String> {
        let mut contents = BTreeMap::new();
        for (key, ops) in self.ops().iter() {
            let entity = stage.entity(key);
            stored(ops, &entity).map_err(|why| format!("{key}: {why}"))?;
            contents.extend(content(&entity).map(|content| (key.clone(), content)));
        }
        Ok(contents)
    }
}

/// The stored content of an entity.
fn content(entity: &Value) -> Option<u64> {
    let facets = entity["facets"].as_array().into_iter().flatten();
    let mut content = facets.filter(|facet| facet["name"] == "content");
    content.next()?["value"].as_u64()
}

/// Checks that the stored value is the newest accepted change, or a later one that was sent but not
/// answered.
fn stored(ops: &[Op], entity: &Value) -> Result<(), String> {
    let Some(newest) = ops.iter().rfind(|op| op.accepted.is_some()) else {
        return Ok(());
    };
    let value = content(entity);
    let right = ops
        .iter()
        .filter(|op| op.number >= newest.number)
        .any(|op| match value {
            Some(value) => !op.deletes && op.number == value,
            None => op.deletes,
        });
    if right {
        Ok(())
    } else {
        Err(format!("{value:?} is stored, but {newest:?} was accepted"))
    }
}

/// Closes the accounts of one entity and channel; `state` is the state that Weir reports.
pub fn settle(ops: &[Op], deliveries: &[Entry], state: &str) -> Result<Counts, String> {
    let mut open: Vec<Op> = ops
        .iter()
        .filter(|op| op.accepted.is_some())
        .copied()
        .collect();
    let mut counts = Counts {
        accepted: open.len(),
        ..Counts::default()
    };
    let mut by_sequence: Vec<&Entry> = deliveries
        .iter()
        .filter(|delivery| delivery.applied)
        .collect();
    by_sequence.sort_by_key(|delivery| delivery.sequence);
    for delivery in &by_sequence {
        let covers = |op: &Op| match delivery.number {
            Some(number) => op.number <= number,
            // A deletion carries no value. The sequence in the response is the change's own or a
            // later one.
            None => op
                .accepted
                .is_some_and(|sequence| sequence <= delivery.sequence),
        };
        let (covered, rest): (Vec<Op>, Vec<Op>) = open.into_iter().partition(covers);
        open = rest;
        if let Some((newest, older)) = covered.split_last() {
            counts.superseded += older.len();
            match delivery.number {
                Some(number) if newest.number == number => counts.delivered += 1,
                Some(_) => counts.superseded += 1,
                None => counts.withdrawn += 1,
            }
        }
    }
    let holds = by_sequence.last().and_then(|delivery| delivery.number);
    let Some((newest, older)) = open.split_last() else {
        return if counts.settled() == counts.accepted {
            Ok(counts)
        } else {
            Err(format!("{counts:?} does not add up"))
        };
    };
    counts.superseded += older.len();
    let was_attempted = deliveries.iter().any(|delivery| {
        !delivery.applied
            && delivery
                .number
                .is_some_and(|number| number >= newest.number)
    });
    let (counted, backed) = match state {
        // The response to this deletion named the sequence of a later change. The target holds
        // nothing, which agrees with the state.
        "withdrawn" => (
            &mut counts.withdrawn,
            newest.deletes && holds.is_none() && !by_sequence.is_empty(),
        ),
        "withheld" => (&mut counts.withheld, newest.deletes && holds.is_none()),
        "suppressed" => (
            &mut counts.suppressed,
            holds.is_some_and(|number| number >= newest.number)
                || (newest.deletes && holds.is_none()),
        ),
        "refused" => (&mut counts.refused, was_attempted),
        "owed" | "parked" | "held" => (&mut counts.owed, true),
        _ => (&mut counts.delivered, false),
    };
    *counted += 1;
    match backed {
        true if counts.settled() == counts.accepted => Ok(counts),
        true => Err(format!("{counts:?} does not add up")),
        false => Err(format!(
            "{newest:?} is lost: its state is {state}, but the deliveries do not agree with it ({deliveries:?})"
        )),
    }
}

#[test]
fn the_accounts_add_up_or_name_the_change_that_is_lost() {
    let op = |number, deletes| Op {
        number,
        deletes,
        accepted: Some(10 * number),
    };
    let entry = |sequence, number, applied| Entry {
        sequence,
        number,
        applied,
    };
    let ops = [op(1, false), op(2, false), op(3, true), op(4, false)];
    let whole = [
        entry(20, Some(2), true),
        entry(30, None, true),
        entry(40, Some(4), true),
    ];
    let expected = Counts {
        accepted: 4,
        delivered: 2,
        withdrawn: 1,
        superseded: 1,
        ..Counts::default()
    };
    assert_eq!(settle(&ops, &whole, "delivered"), Ok(expected));
    assert!(
        settle(&ops, &whole[..2], "delivered").is_err_and(|why| why.contains("lost")),
        "a change that never arrived counts as delivered"
    );
    let owed = Counts {
        delivered: 1,
        owed: 1,
        ..expected
    };
    assert_eq!(settle(&ops, &whole[..2], "owed"), Ok(owed));
    let refused = [whole[0], whole[1], entry(40, Some(4), false)];
    assert_eq!(
        settle(&ops, &refused, "refused"),
        Ok(Counts {
            delivered: 1,
            refused: 1,
            ..expected
        })
    );
    assert!(
        settle(&ops, &whole[..2], "refused").is_err(),
        "a change counts as refused that no target refused"
    );
    assert!(
        settle(&ops[..3], &whole[..1], "withdrawn").is_err(),
        "a change counts as withdrawn while the target still holds it"
    );
    assert!(
        settle(&ops[..3], &whole[..1], "withheld").is_err(),
        "a change counts as withdrawn while the target still holds it"
    );
    assert_eq!(
        settle(&[op(1, true)], &[], "withheld"),
        Ok(Counts {
            accepted: 1,
            withheld: 1,
            ..Counts::default()
        })
    );
}
