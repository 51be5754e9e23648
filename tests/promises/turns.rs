//! Isolation at the writer: how long one source waits for what others have queued.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use weir::inside::index::value_hash;
use weir::inside::model::{EntityId, Lane};
use weir::inside::store::{Commit, Effect, FacetChange, Store};

use crate::world::{embedded_in, folder};

/// The share of the time of the whole that a small commit may take. Without turns, the first one takes
/// all of it.
const SHARE_MAX: f64 = 1.0 / 3.0;
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

/// Commits heavy requests of one source, and small commits of another until all of them are written.
/// Each of the small ones takes a small part of the time of the whole.
fn nobody_waits_for(what: &str, heavy: Vec<Vec<Commit>>) {
    let folder = folder();
    let store = Arc::new(embedded_in(folder.path()));
    let done = AtomicBool::new(false);
    let begun = Instant::now();
    let mut waits = std::thread::scope(|scope| {
        let receipts: Vec<_> = heavy
            .into_iter()
            .map(|request| store.commit(request).expect("there is room"))
            .collect();
        let small = scope.spawn(|| {
            let mut waits = Vec::new();
            for n in 0u32.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                let value = n.to_string();
                let one = event("oms", vec![change("oms", &value, "stock", &value)]);
                let sent = Instant::now();
                let receipt = store.commit(vec![one]).expect("there is room");
                receipt.blocking_recv().unwrap().unwrap();
                waits.push(sent.elapsed());
            }
            waits
        });
        for receipt in receipts {
            receipt.blocking_recv().unwrap().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        small.join().unwrap()
    });
    let whole = begun.elapsed();
    waits.sort();
    let (count, p99) = (waits.len(), waits[waits.len() * 99 / 100]);
    println!("{what}: {count} small commits, p99 {p99:?}, beside {whole:?} of heavy ones");
    assert!(
        p99.as_secs_f64() < whole.as_secs_f64() * SHARE_MAX,
        "{what}: {count} small commits, p99 {p99:?}, beside {whole:?} of heavy ones"
    );
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
    nobody_waits_for("one entity", vec![(0..24).map(event_of).collect()]);
}

#[test]
fn a_source_does_not_wait_for_the_many_entities_of_another() {
    let event_of = |n: usize| {
        let key = |at: usize| format!("{n}-{at}");
        let changes = (0..4_096).map(|at| change("erp", &key(at), "price", "1"));
        event("erp", changes.collect())
    };
    nobody_waits_for("many entities", vec![(0..12).map(event_of).collect()]);
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
    nobody_waits_for("a flood", (0..4).map(flood).collect());
}
