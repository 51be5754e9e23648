//! Isolation at the writer: how much one source waits for of what others have queued. It is counted in
//! the changes that are written before its own, so that it does not depend on the machine.

use std::time::{Duration, Instant};

use weir::inside::index::value_hash;
use weir::inside::model::{EntityId, Lane, Timestamp};
use weir::inside::store::{Commit, Effect, FacetChange, Store, embedded};

use crate::world::{GATES, Gate, folder};

/// What another source waits at most, where Weir is built as it runs.
const WAIT_MAX: Duration = Duration::from_millis(100);

fn change(source: &str, key: &str, facet: &str, value: &str) -> FacetChange {
    FacetChange {
        id: EntityId {
            entity_type: "product".into(),
            key: key.into(),
        },
        facet: facet.into(),
        owner: source.into(),
        lane: Lane::Normal,
        version: None,
        value: Some(value.into()),
        hash: value_hash(value),
    }
}

fn event(source: &str, changes: Vec<FacetChange>) -> Commit {
    Commit {
        source: source.into(),
        identity: None,
        arrival: None,
        effect: Effect::Changes(changes),
    }
}

/// Commits heavy requests of one source, and one small event of another after the other until the heavy
/// ones are written. Each of the small ones waits for two turns at most: for the one that is being
/// written when it arrives, and for its own. A turn writes up to `turn_max` changes.
fn nobody_waits_for<const GATE: usize>(what: &str, turn_max: u64, heavy: Vec<Vec<Commit>>) {
    let folder = folder();
    let store = embedded::Embedded::open(embedded::Options {
        cache_bytes: 32 << 20,
        now: || Timestamp(0),
        sync: Gate::sync::<GATE>,
        ..embedded::Options::new(folder.path())
    })
    .expect("it opens");
    let small = |n: usize| {
        let value = n.to_string();
        let one = event("oms", vec![change("oms", &value, "stock", &value)]);
        store.commit(vec![one]).expect("there is room")
    };
    // The heavy requests and the first small one wait together.
    let first = event("crm", vec![change("crm", "first", "stock", "1")]);
    let (closed, _) = GATES[GATE].close(&store, first);
    let mut heavy: Vec<_> = heavy
        .into_iter()
        .map(|request| store.commit(request).expect("there is room"))
        .collect();
    let (mut waits, mut receipt, mut sent) = (Vec::new(), small(0), Instant::now());
    let mut before = *store.watermark().borrow();
    drop(closed);
    let begun = Instant::now();
    loop {
        let committed = receipt.blocking_recv().unwrap().unwrap();
        waits.push(sent.elapsed());
        let written = committed.sequence.0.saturating_sub(before.0);
        assert!(
            written <= 2 * turn_max,
            "{what}: a small commit waited for {written} changes, after {} others",
            waits.len()
        );
        heavy.retain_mut(|receipt| receipt.try_recv().is_err());
        if heavy.is_empty() {
            break;
        }
        sent = Instant::now();
        receipt = small(waits.len());
        // Not before: this thread may stand still in between.
        before = *store.watermark().borrow();
    }
    waits.sort();
    let (count, p99) = (waits.len(), waits[waits.len() * 99 / 100]);
    let whole = begun.elapsed();
    println!("{what}: {count} small commits, p99 {p99:?}, beside {whole:?} of heavy ones");
    assert!(cfg!(debug_assertions) || p99 < WAIT_MAX, "{what}: {p99:?}");
}

/// Four requests of 128 bytes, whose 64 events a mapper turned into 4,096 changes each, held the
/// writer for 54 seconds, and every other source waited as long.
#[test]
fn a_source_does_not_wait_for_the_heavy_events_of_another() {
    let event_of = |n: usize| {
        let changes = (0..4_096).map(|at| {
            let facet = format!("price.{}", at % 500);
            change("erp", "lamp", &facet, &format!("{n}{}", at % 7))
        });
        event("erp", changes.collect())
    };
    nobody_waits_for::<1>("one entity", 4_100, vec![(0..16).map(event_of).collect()]);
}

#[test]
fn a_source_does_not_wait_for_the_many_entities_of_another() {
    let event_of = |n: usize| {
        let key = |at: usize| format!("{n}-{at}");
        let changes = (0..4_096).map(|at| change("erp", &key(at), "price", "1"));
        event("erp", changes.collect())
    };
    nobody_waits_for::<2>(
        "many entities",
        4_100,
        vec![(0..12).map(event_of).collect()],
    );
}

/// A flood of one source: its events waited in the same line as everybody's.
#[test]
fn a_source_does_not_wait_for_the_flood_of_another() {
    let flood = |request: usize| {
        let event_of = |n: usize| {
            let key = (request * 4_096 + n).to_string();
            event("erp", vec![change("erp", &key, "price", "1")])
        };
        (0..4_096).map(event_of).collect()
    };
    nobody_waits_for::<3>("a flood", 640, (0..4).map(flood).collect());
}
