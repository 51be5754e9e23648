//! Backups: taken while changes come in and channels deliver, they hold a state that there was, and a
//! store made of one is certain of nothing that a target holds.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use weir::inside::index::value_hash;
use weir::inside::model::{EntityId, FACETS_MAX, Lane, Timestamp, Track};
use weir::inside::store::{
    Commit, Effect, Ending, Error, FacetChange, Holds, Lease, Queue, Receipt, Settlement, Store,
    Subscription, embedded, remove_unfinished_backups,
};

use crate::world::{self, GATES, Gate, commit_all, folder, walk};

/// Rounds of changes beside a backup: more than are written while it is made.
const ROUNDS: u32 = 600;

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
        debounce: None,
    };
    world::join(store, "shop", &subscription).0
}

/// The entities that a channel owes.
fn meets(queue: &dyn Queue) -> Vec<Lease> {
    let mut taken = Vec::new();
    for track in [Track::Lane(Lane::Normal), Track::Sweep] {
        while walk(queue, track, 1_000, &mut taken) {}
    }
    taken
}

fn delivers(queue: &dyn Queue) {
    let ends: Vec<Settlement> = meets(queue)
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
    let store = embedded::Embedded::open(embedded::Options {
        sync: Gate::sync::<4>,
        ..options(&folder.path().join("store"))
    })
    .unwrap();
    let queue = join(&store);
    let key = |n: u32| format!("lamp-{n:04}");
    for n in 0..1_200 {
        commit_all(&store, vec![event(&key(n), "0")]);
    }
    delivers(&*queue);
    store.save(Timestamp(0)).wait().unwrap();
    let quiet = store.backup(&folder.path().join("quiet")).wait().unwrap();
    assert!(quiet.rows > 2_400, "{quiet:?}");

    // Everything waits for the writer before it begins: the backup and the changes take turns.
    let (file, ended) = (folder.path().join("copy"), AtomicBool::new(false));
    let (closed, _) = GATES[4].close(&store, event(&key(1), "1"));
    let receipts: Vec<Receipt> = (1..=ROUNDS)
        .flat_map(|round| (0..1_200).step_by(97).map(move |n| (n, round.to_string())))
        .map(|(n, value)| store.commit(vec![event(&key(n), &value)]).unwrap())
        .collect();
    let making = store.backup(&file);
    let sequence = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                delivers(&*queue);
                store.save(Timestamp(0)).wait().unwrap();
            }
        });
        drop(closed);
        let made = making.wait().expect("it is made");
        let committed = receipts.into_iter().map(|receipt| {
            let committed = receipt.blocking_recv().unwrap().unwrap();
            committed.sequence.0
        });
        let last = committed.max();
        ended.store(true, Ordering::Relaxed);
        assert!(
            made.rows > quiet.rows + 50,
            "rows that were copied changed while it was made: {made:?}, {quiet:?}"
        );
        last.expect("there were changes")
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
    assert!(
        first > 0 && last < ROUNDS,
        "from the middle of the changes: {values:?}"
    );
    let taken = meets(&*join(&store));
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

/// How many more syncs succeed before one fails.
static SYNCS_LEFT: AtomicU32 = AtomicU32::new(0);

fn sync_until_one_fails(file: &File) -> std::io::Result<()> {
    let left = SYNCS_LEFT.fetch_sub(1, Ordering::SeqCst);
    match left {
        0 => Err(std::io::Error::other("the disk does not answer")),
        _ => file.sync_data(),
    }
}

/// A restore that ended after the rows were written, and before everything was doubted, left a store
/// that was certain of what its channels had delivered before the backup.
#[test]
fn a_store_whose_restore_was_interrupted_is_certain_of_nothing_either() {
    let folder = folder();
    let path = folder.path().join("store");
    let store = embedded::Embedded::open(options(&path)).unwrap();
    for n in 0..20 {
        commit_all(&store, vec![event(&format!("lamp-{n}"), "0")]);
    }
    delivers(&*join(&store));
    let file = folder.path().join("copy");
    store.save(Timestamp(0)).wait().unwrap();
    store.backup(&file).wait().expect("it is made");
    drop(store);
    let store = embedded::Embedded::open(options(&path)).unwrap();
    let owed = meets(&*join(&store));
    assert!(
        owed.is_empty(),
        "a store that was stopped is certain: {owed:?}"
    );

    let mut interrupted = 0;
    for syncs in 0..6 {
        let restored = options(&folder.path().join(format!("restored-{syncs}")));
        SYNCS_LEFT.store(syncs, Ordering::SeqCst);
        let failing = embedded::Options {
            sync: sync_until_one_fails,
            ..restored.clone()
        };
        interrupted += u32::from(embedded::restore(&file, failing).is_err());
        let store = embedded::Embedded::open(restored).expect("all rows are there");
        let taken = meets(&*join(&store));
        assert_eq!(taken.len(), 20, "each entity is sent again");
        assert!(taken.iter().all(|lease| lease.holds == Holds::Unknown));
    }
    assert!(interrupted >= 2, "{interrupted} were interrupted");
}

/// The bound of an entry was 128 KiB. The rows of a channel with many facets, and of keys that a
/// renderer chose, are longer, and a backup with one of them could not be restored.
#[test]
fn the_largest_rows_pass_a_backup() {
    let folder = folder();
    let store = embedded::Embedded::open(options(&folder.path().join("store"))).unwrap();
    let name = |n: usize| format!("{n:0>128}");
    let largest = id(&"k".repeat(1_024));
    let change = |n: usize| FacetChange {
        id: largest.clone(),
        facet: name(n).into(),
        owner: "erp".into(),
        lane: Lane::Normal,
        version: Some(1),
        hash: n as u64,
        value: Some(format!("\"{}\"", "v".repeat([62, 1_000, 60_000][n % 3])).into()),
    };
    let event = Commit {
        source: "erp".into(),
        identity: None,
        arrival: None,
        effect: Effect::Changes((0..FACETS_MAX).map(change).collect()),
    };
    commit_all(&store, vec![event]);
    let subscription = Subscription {
        entity_type: "product".into(),
        facets: (0..4_000).map(name).collect(),
        shape: 1,
        shape_label: "page".into(),
        target: 1,
        debounce: None,
    };
    let queue = world::join(&store, "shop", &subscription).0;
    let [lease] = &meets(&*queue)[..] else {
        panic!("it is owed")
    };
    let ending = Ending::Delivered {
        digest: 7,
        target_key: Some("k".repeat(1 << 20).into()),
    };
    let end = Settlement {
        ordinal: lease.ordinal,
        revision: lease.revision,
        ending,
    };
    queue.settle(&[end], &mut Vec::new());
    store.save(Timestamp(0)).wait().unwrap();
    let seen = |store: &dyn Store| {
        let ordinal = store.find(&largest).expect("it is there");
        store.read(&[ordinal]).expect("it can be read").remove(0)
    };
    let before = seen(&store);
    let file = folder.path().join("copy");
    store.backup(&file).wait().expect("it is made");
    let restored = options(&folder.path().join("restored"));
    embedded::restore(&file, restored.clone()).expect("it is restored");
    let store = embedded::Embedded::open(restored).expect("it opens");
    assert_eq!(seen(&store), before);
    let queue = world::join(&store, "shop", &subscription).0;
    let [lease] = &meets(&*queue)[..] else {
        panic!("it is sent again")
    };
    assert_eq!(
        lease.target_key.as_ref().map(|key| key.len()),
        Some(1 << 20)
    );
}

#[test]
fn a_backup_that_a_kill_left_incomplete_is_removed_and_nothing_else_is() {
    let folder = folder();
    let files = [
        ("2026-11-30.unfinished", "weir backup 1\nhalf of it", false),
        ("2026-12-01.unfinished", "", false),
        ("2026-12-02.weir-backup", "weir backup 1\nall of it", true),
        ("notes.unfinished", "of somebody else", true),
    ];
    for (name, text, _) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    remove_unfinished_backups(folder.path());
    for (name, _, stays) in files {
        assert_eq!(folder.path().join(name).exists(), stays, "{name}");
    }
}
