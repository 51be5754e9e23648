//! Tests that nothing uncertain is treated as certain: a change that is not durable yet, an attempt
//! without a response, or a delivery that was not saved before a crash. The queue of commits that
//! wait for the disk is bounded.

use std::sync::Arc;

use weir::inside::index::value_hash;
use weir::inside::model::{EntityId, Lane, Sequence, Timestamp, Track};
use weir::inside::store::memory::Memory;
use weir::inside::store::{
    Commit, Content, Effect, Ending, Error, FacetChange, Holds, Identity, Lease, Limits, Queue,
    Settlement, Store, Subscription, Verdict, embedded,
};

use crate::world::{self, GATES, Gate, Subject, commit_all, embedded_in, folder, walk};

fn check(story: impl Fn(&Subject)) {
    story(&Subject::Memory(Box::<Memory>::default()));
    let folder = folder();
    story(&Subject::Embedded(Arc::new(embedded_in(folder.path()))));
}

fn change(key: &str, value: &str) -> Commit {
    let id = EntityId {
        entity_type: "product".into(),
        key: key.into(),
    };
    let (facet, hash, value) = ("price".into(), value_hash(value), Some(Arc::from(value)));
    let changes = vec![FacetChange {
        id,
        facet,
        owner: "erp".into(),
        lane: Lane::Normal,
        version: None,
        value,
        hash,
    }];
    Commit {
        source: "erp".into(),
        identity: None,
        arrival: None,
        effect: Effect::Changes(changes),
    }
}

fn join(store: &dyn Store) -> Arc<dyn Queue> {
    let facets = vec!["price".to_owned()];
    let subscription = Subscription {
        entity_type: "product".into(),
        facets,
        shape: 1,
        shape_label: "page".into(),
        target: 1,
        debounce: None,
    };
    world::join(store, "shop", &subscription).0
}

fn meets(queue: &dyn Queue) -> Vec<Lease> {
    let mut taken = Vec::new();
    for track in [Track::Lane(Lane::Normal), Track::Sweep] {
        while walk(queue, track, 10, &mut taken) {}
    }
    taken
}

fn delivers(queue: &dyn Queue, digest: u64) {
    for taken in meets(queue) {
        queue.attempt(&[taken.ordinal]);
        let ending = Ending::Delivered {
            digest,
            target_key: None,
        };
        queue.settle(
            &[Settlement {
                ordinal: taken.ordinal,
                revision: taken.revision,
                ending,
            }],
            &mut Vec::new(),
        );
    }
}

#[test]
fn an_attempt_without_an_answer_leaves_the_target_unknown() {
    check(|subject| {
        let store = subject.store();
        let queue = join(store);
        commit_all(store, vec![change("lamp", "1")]);
        delivers(&*queue, 99);
        store.save(Timestamp(0)).wait().expect("it is saved");
        commit_all(store, vec![change("lamp", "2")]);
        let [taken] = &meets(&*queue)[..] else {
            panic!("it is owed")
        };
        assert_eq!(taken.holds, Holds::Rendering(99));
        queue.attempt(&[taken.ordinal]);
        for after_a_crash in [false, true] {
            let ending = Ending::Parked { attempts: 1 };
            queue.settle(
                &[Settlement {
                    ordinal: taken.ordinal,
                    revision: taken.revision,
                    ending,
                }],
                &mut Vec::new(),
            );
            store.save(Timestamp(0)).wait().expect("it is saved");
            if after_a_crash {
                subject.crash();
                join(store);
            }
            let again = queue.retry(taken.ordinal).expect("it waits for its retry");
            assert_eq!(
                again.holds,
                Holds::Unknown,
                "after a crash: {after_a_crash}"
            );
        }
    });
}

#[test]
fn a_delivery_that_was_not_saved_before_a_crash_leaves_the_target_unknown() {
    check(|subject| {
        let store = subject.store();
        let queue = join(store);
        commit_all(store, vec![change("lamp", "1")]);
        delivers(&*queue, 99);
        store.save(Timestamp(0)).wait().expect("it is saved");
        commit_all(store, vec![change("lamp", "2")]);
        delivers(&*queue, 100);
        subject.crash();
        // If the target were assumed to hold the first rendering, a change back to it would be
        // suppressed, and the target would keep the second.
        let [taken] = &meets(&*join(store))[..] else {
            panic!("it is owed again")
        };
        assert_eq!(taken.holds, Holds::Unknown);
    });
}

#[test]
fn a_sequence_that_was_seen_before_a_crash_is_not_given_out_again() {
    check(|subject| {
        let store = subject.store();
        let before = commit_all(store, vec![change("lamp", "1")]).sequence;
        subject.crash();
        assert!(
            commit_all(store, vec![change("lamp", "2")]).sequence > before,
            "sequences rise"
        );
        assert!(
            *store.watermark().borrow() > before,
            "and so does the watermark"
        );
    });
}

#[test]
fn what_is_not_durable_yet_is_not_answered_and_met_by_nobody_and_the_line_is_bounded() {
    let folder = folder();
    let options = embedded::Options {
        cache_bytes: 16 << 20,
        sync: Gate::sync::<0>,
        ..embedded::Options::new(folder.path())
    };
    let store = embedded::Embedded::open(options).expect("it opens");
    store.limit(Limits {
        entities_max: Vec::new(),
        quarantine_max: 10,
        forget_ms: 0,
    });
    let queue = join(&store);
    assert!(meets(&*queue).is_empty());
    let before = *store.watermark().borrow();
    let (closed, mut receipt) = GATES[0].close(&store, change("lamp", "1"));
    assert!(receipt.try_recv().is_err(), "it is not answered");
    assert_eq!(*store.watermark().borrow(), before);
    let mut lane = Vec::new();
    walk(&*queue, Track::Lane(Lane::Normal), 10, &mut lane);
    assert!(lane.is_empty(), "no lane leads to it");

    let filtered = |number: u128| Commit {
        identity: Some(Identity {
            id: number,
            content: Content::of(u64::MAX),
        }),
        effect: Effect::Filtered,
        ..change("lamp", "1")
    };
    let line = |from: u128| store.commit((from..from + 1_000).map(filtered).collect());
    let taken: Vec<_> = (0..20)
        .map(|thousand| line(1 + thousand * 1_000).expect("there is room in the line"))
        .collect();
    let full = line(100_000).err().map(Error::from);
    assert!(
        matches!(full, Some(Error::Busy { waiting: 20_000 })),
        "{full:?}"
    );
    drop(closed);
    let committed = receipt
        .blocking_recv()
        .expect("it is answered")
        .expect("it is written");
    assert!(committed.sequence > before && committed.sequence > Sequence(0));
    for receipt in taken {
        let verdicts = receipt
            .blocking_recv()
            .expect("it is answered")
            .expect("it is written")
            .verdicts;
        assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Filtered));
    }
    assert_eq!(meets(&*queue).len(), 1);
}
