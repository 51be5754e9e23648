//! Backups: taken while changes come in and channels deliver, they hold a state that there was, and a
//! store made of one is certain of nothing that a target holds.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use weir::inside::index::value_hash;
use weir::inside::model::{EntityId, Lane, Timestamp, Track};
use weir::inside::store::{
    Commit, Effect, Ending, Error, FacetChange, Holds, Queue, Settlement, Store, Subscription,
    embedded,
};

use crate::world::{self, commit_all, folder, walk};

fn options(path: &Path) -> embedded::Options {
    embedded::Options {
        cache_bytes: 16 << 20,
        now: || Timestamp(1_795_000_000_000),
        ..embedded::Options::new(path)
    }
}

fn id(key: &str) -> EntityId {
    EntityId {
        entity_type: "product".into(),
        key: key.into(),
    }
}

/// An event that sets two facets of an entity to the same value. One is long, so that it has rows of
/// its own.
fn event(key: &str, value: &str) -> Commit {
    let change = |facet: &str, value: String| FacetChange {
        id: id(key),
        facet: facet.into(),
        owner: "erp".into(),
        lane: Lane::Normal,
        version: None,
        hash: value_hash(&value),
        value: Some(value.into()),
    };
    let long = format!("\"{value}{}\"", "-".repeat(5_000));
    Commit {
        source: "erp".into(),
        identity: None,
        arrival: None,
        effect: Effect::Changes(vec![
            change("price", value.to_owned()),
            change("content", long),
        ]),
    }
}

fn join(store: &dyn Store) -> Arc<dyn Queue> {
    let subscription = Subscription {
        entity_type: "product".into(),
        facets: vec!["price".into()],
        shape: 1,
        shape_label: "page".into(),
        target: 1,
    };
    world::join(store, "shop", &subscription).0
}

fn delivers(queue: &dyn Queue) {
    let mut taken = Vec::new();
    for track in [Track::Lane(Lane::Normal), Track::Sweep] {
        while walk(queue, track, 1_000, &mut taken) {}
    }
    let ends: Vec<Settlement> = taken
        .into_iter()
        .map(|lease| Settlement {
            ordinal: lease.ordinal,
            revision: lease.revision,
            ending: Ending::Delivered {
                digest: 7,
                target_key: None,
            },
        })
        .collect();
    queue.settle(&ends, &mut Vec::new());
}

/// The value of an entity, after checking that both of its facets are of the same event.
fn value(store: &dyn Store, key: &str) -> u32 {
    let ordinal = store.find(&id(key)).expect("it is there");
    let entity = store.read(&[ordinal]).expect("it can be read").remove(0);
    let entity = entity.expect("it is there");
    let text = |name: &str| {
        let facet = entity.facets.iter().find(|facet| &*facet.name == name);
        facet
            .and_then(|facet| facet.value.clone())
            .expect("it has a value")
    };
    let price = text("price");
    assert_eq!(
        *text("content"),
        *format!("\"{price}{}\"", "-".repeat(5_000))
    );
    price.parse().expect("a number")
}

#[test]
fn a_backup_made_under_load_is_a_state_that_there_was() {
    let folder = folder();
    let store = embedded::Embedded::open(options(&folder.path().join("store"))).unwrap();
    let queue = join(&store);
    let key = |n: u32| format!("lamp-{n:04}");
    for n in 0..1_200 {
        commit_all(&store, vec![event(&key(n), "0")]);
    }
    delivers(&*queue);
    store.save(Timestamp(0)).wait().unwrap();
    let (file, ends) = (folder.path().join("copy"), AtomicBool::new(false));
    let sequence = std::thread::scope(|scope| {
        let changes = scope.spawn(|| {
            let (mut round, mut last, mut during) = (0u32, 0, 0);
            while !ends.load(Ordering::Relaxed) {
                round += 1;
                for n in (0..1_200).step_by(97) {
                    last = commit_all(&store, vec![event(&key(n), &round.to_string())])
                        .sequence
                        .0;
                    during += u32::from(!ends.load(Ordering::Relaxed));
                }
                delivers(&*queue);
                store.save(Timestamp(0)).wait().unwrap();
            }
            assert!(during > 1, "changes came in while it was made");
            last
        });
        let made = store.backup(&file).wait().expect("it is made");
        assert!(made.rows > 2_400, "{made:?}");
        ends.store(true, Ordering::Relaxed);
        changes.join().unwrap()
    });
    assert!(
        store.backup(&file).wait().is_err(),
        "no backup replaces another"
    );
    drop(store);

    let restored = options(&folder.path().join("restored"));
    embedded::restore(&file, restored.clone()).expect("its sums are right");
    let again = embedded::restore(&file, restored.clone());
    assert!(
        matches!(&again, Err(Error::Unavailable(why)) if why.contains("not empty")),
        "{again:?}"
    );
    let later = embedded::Options {
        now: || Timestamp(1_795_000_600_000),
        ..restored
    };
    let store = embedded::Embedded::open(later).expect("it opens");
    let values: Vec<u32> = (0..1_200)
        .step_by(97)
        .map(|n| value(&store, &key(n)))
        .collect();
    let (first, last) = (values[0], values[values.len() - 1]);
    assert!(
        values.is_sorted_by(|a, b| a >= b) && first - last <= 1,
        "one state, not a mixture: {values:?}"
    );
    let queue = join(&store);
    let mut taken = Vec::new();
    while walk(&*queue, Track::Sweep, 2_000, &mut taken) {}
    assert_eq!(taken.len(), 1_200, "each entity is sent again");
    assert!(taken.iter().all(|lease| lease.holds == Holds::Unknown));
    assert!(
        taken.iter().all(|lease| lease.revision.0 > sequence),
        "above every sequence that was sent"
    );
}

#[test]
fn a_backup_that_differs_from_what_was_written_is_refused() {
    let folder = folder();
    let store = embedded::Embedded::open(options(&folder.path().join("store"))).unwrap();
    commit_all(&store, vec![event("lamp", "1")]);
    let file = folder.path().join("copy");
    store.backup(&file).wait().expect("it is made");
    let right = std::fs::read(&file).unwrap();
    let broken = folder.path().join("broken");
    for at in (0..right.len()).step_by(right.len() / 40) {
        let mut wrong = right.clone();
        wrong[at] ^= 16;
        for bytes in [&wrong[..], &right[..at]] {
            std::fs::write(&broken, bytes).unwrap();
            let restored = embedded::restore(&broken, options(&folder.path().join("restored")));
            assert!(matches!(restored, Err(Error::Damaged(_))), "{restored:?}");
        }
    }
    assert!(
        !folder.path().join("restored").exists(),
        "nothing is made of it"
    );
}
