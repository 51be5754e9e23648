//! Tests that damage in the directory of a stopped store is detected and named. Whatever bits are
//! flipped or bytes cut off, the store either opens with correct data, or refuses to open with a
//! sentence; damage to values that opening does not read is reported when they are read. Wrong data
//! is never returned silently.
//!
//! As a control, sled alone gets the same damage and must sometimes return wrong data; otherwise
//! the test would prove nothing. `WEIR_FLIPS=5000 cargo test --test promises integrity` tries more
//! places.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Once};

use weir::inside::index::value_hash;
use weir::inside::model::{EntityId, Event, Failure, Lane, Payload, Sequence, Timestamp, Track};
use weir::inside::store::embedded::{Embedded, Options};
use weir::inside::store::{
    Commit, Content, Effect, Ending, Error, FacetChange, Identity, Lease, ListQuery, Quarantined,
    Queue, Settlement, Store, Subscription,
};

use crate::world::{commit_all, folder, sled_at, walk};

/// Places that are damaged in a run of all tests.
const FLIPS: usize = 100;
/// Enough entities that a page of pairs is written.
pub(super) const ENTITIES: usize = 600;

pub(super) fn change(key: &str, facet: &str, value: String) -> FacetChange {
    let id = EntityId {
        entity_type: "product".into(),
        key: key.into(),
    };
    let (hash, value) = (value_hash(&value), Some(value.into()));
    FacetChange {
        id,
        facet: facet.into(),
        owner: "erp".into(),
        lane: Lane::Normal,
        version: Some(1),
        value,
        hash,
    }
}

pub(super) fn commit(identity: u128, effect: Effect) -> Commit {
    Commit {
        source: "erp".into(),
        identity: Some(Identity {
            id: identity,
            content: Content::of(u64::MAX),
        }),
        arrival: None,
        effect,
    }
}

fn aside(number: usize) -> Effect {
    let event = Event {
        id: number.to_string(),
        origin: "/erp".into(),
        event_type: "price".into(),
        subject: None,
        time: None,
        content_type: None,
        attributes: Vec::new(),
        trace: None,
        data: Payload::Text(format!("{number} {}", "x".repeat(number * 500))),
    };
    Effect::Quarantine(Box::new(Quarantined {
        event,
        unread: false,
        whole: false,
        arrived: None,
        lane: None,
        failure: Failure::new("plugin", "It broke."),
        plugin: None,
    }))
}

pub(super) fn open(path: &Path) -> Result<Embedded, Error> {
    Embedded::open(Options {
        cache_bytes: 16 << 20,
        now: || Timestamp(1_000_000),
        ..Options::new(path)
    })
}

pub(super) fn join(store: &Embedded, name: &str) -> Result<Arc<dyn Queue>, Error> {
    let facets = vec!["price".to_owned(), "content".to_owned()];
    let subscription = Subscription {
        entity_type: "product".into(),
        facets,
        shape: 1,
        shape_label: "page".into(),
        target: 1,
        debounce: None,
    };
    Ok(store.join(name, &subscription).wait()?.0)
}

/// Delivers the entities that a channel meets: most as they are, some under a different key, some
/// refused.
fn deliver(store: &Embedded, name: &str) {
    let queue = join(store, name).expect("it joins");
    for track in [Track::Sweep, Track::Lane(Lane::Normal)] {
        let mut taken = Vec::new();
        while walk(&*queue, track, 50, &mut taken) {}
        let end = |taken: &Lease| {
            let target_key = taken
                .ordinal
                .0
                .is_multiple_of(3)
                .then(|| format!("key {}", taken.ordinal.0).into());
            let delivered = Ending::Delivered {
                digest: 99 + u64::from(taken.ordinal.0),
                target_key,
            };
            let refused = taken.ordinal.0.is_multiple_of(50);
            let ending = if refused {
                Ending::Refused(Failure::new("422", "No price."))
            } else {
                delivered
            };
            Settlement {
                ordinal: taken.ordinal,
                revision: taken.revision,
                ending,
            }
        };
        queue.settle(&taken.iter().map(end).collect::<Vec<_>>(), &mut Vec::new());
    }
    (store.save(Timestamp(1_000_000)).wait()).expect("it is saved");
}

/// Makes a store with rows of all kinds, in a log that was written in several runs.
pub(super) fn fill(path: &Path) {
    for life in 0..4_usize {
        let store = open(path).expect("it opens");
        for number in (0..ENTITIES).filter(|number| life == 0 || number % 7 == life) {
            let content = format!(
                "\"{life} {}\"",
                "c".repeat(if number % 40 == 0 { 50_000 } else { number })
            );
            let changes = vec![
                change(&format!("p{number}"), "price", life.to_string()),
                change(&format!("p{number}"), "content", content),
            ];
            commit_all(
                &store,
                vec![commit(
                    (life * ENTITIES + number) as u128 + 1,
                    Effect::Changes(changes),
                )],
            );
        }
        (0..5).for_each(|number| {
            drop(commit_all(
                &store,
                vec![commit(
                    90_000 + (life * 5 + number) as u128,
                    aside(number * 30),
                )],
            ))
        });
        ["web", "app"]
            .into_iter()
            .for_each(|name| deliver(&store, name));
        if life == 1 {
            let shelf = store.shelf("erp");
            let first = shelf.list(None, 1).expect("it can be read")[0].sequence;
            shelf.remove(&[first]).wait().expect("it is removed");
        }
        store.close().wait().expect("it closes");
    }
}

/// Everything that can be read from a store.
fn seen(store: &Embedded) -> Result<Vec<String>, Error> {
    let mut seen = Vec::new();
    let all = store.list(&ListQuery {
        entity_type: "product",
        prefix: "",
        after: None,
        owed: None,
        limit: 10 * ENTITIES,
    });
    let entities = store.read(&all.iter().map(|(ordinal, _)| *ordinal).collect::<Vec<_>>())?;
    seen.extend(entities.iter().map(|entity| format!("{entity:?}")));
    for name in ["web", "app"] {
        let queue = join(store, name)?;
        seen.extend(
            all.iter()
                .map(|(ordinal, id)| format!("{name} {id} {:?}", queue.standing(*ordinal))),
        );
        seen.push(format!(
            "{name} {:?} {:?}",
            queue.refused(None, 1_000),
            queue.owed()
        ));
        for (ordinal, _) in all.iter().filter(|(ordinal, _)| ordinal.0 % 3 == 0) {
            queue.redrive(&[*ordinal]);
            seen.push(format!(
                "{:?}",
                queue.retry(*ordinal).map(|taken| taken.target_key)
            ));
        }
    }
    seen.push(format!("{:?}", store.shelf("erp").list(None, 1_000)?));
    let again = (1..=4 * ENTITIES as u128)
        .chain(90_000..90_020)
        .map(|identity| commit(identity, Effect::Filtered));
    let receipt = store.commit(again.collect())?.blocking_recv();
    seen.push(format!(
        "{:?}",
        receipt
            .map_err(|_| Error::Unavailable("it has failed".into()))??
            .verdicts
    ));
    Ok(seen)
}

/// Silences the long panic messages of sled's threads, which do not matter here.
pub(super) fn silence_sled() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !std::thread::current()
                .name()
                .is_some_and(|name| name.starts_with("sled"))
            {
                tell(panic);
            }
        }));
    });
}

/// All rows that sled itself returns; `None` if it fails.
fn rows(path: &Path) -> Option<BTreeMap<Vec<u8>, Vec<u8>>> {
    let open = || {
        let db = sled::Config::new()
            .path(path)
            .segment_size(4 << 20)
            .open()
            .ok()?;
        db.iter()
            .map(|row| row.map(|(key, value)| (key.to_vec(), value.to_vec())))
            .collect::<Result<_, _>>()
            .ok()
    };
    catch_unwind(AssertUnwindSafe(open)).ok().flatten()
}

/// Makes a copy with one file damaged; returns a description of the damage.
pub(super) fn damaged(from: &Path, to: &Path) -> String {
    std::fs::create_dir(to).expect("a folder");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(from)
        .expect("it can be listed")
        .flatten()
        .filter(|entry| entry.path().is_file())
    {
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
        files.push(entry.file_name());
    }
    files.sort();
    let name = if fastrand::u8(..10) < 7 {
        "db".into()
    } else {
        files[fastrand::usize(..files.len())].clone()
    };
    let mut bytes = std::fs::read(to.join(&name)).expect("it is there");
    // Most of sled's file is empty; its data starts with the first segment.
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
    let at = fastrand::usize(..used);
    let what = match fastrand::u8(..10) {
        0 => {
            bytes.truncate(at);
            format!("cut off at {at}")
        }
        1 | 2 => {
            let from = at / 512 * 512;
            let end = (from + 512 * fastrand::usize(1..=8)).min(bytes.len());
            bytes[from..end].fill(0);
            format!("{from} to {end} zeroed")
        }
        _ => {
            bytes[at] ^= 1 << fastrand::u8(..8);
            format!("a bit flipped at {at}")
        }
    };
    std::fs::write(to.join(&name), bytes).expect("written");
    format!("{}: {what}", name.display())
}

#[test]
fn damage_in_a_stopped_directory_is_named_and_never_silently_wrong() {
    let flips = std::env::var("WEIR_FLIPS")
        .ok()
        .and_then(|flips| flips.parse().ok())
        .unwrap_or(FLIPS);
    silence_sled();
    let folder = folder();
    let whole = folder.path().join("whole");
    fill(&whole);
    let rows_before = rows(&whole).expect("it is whole");
    let before = open(&whole)
        .and_then(|store| seen(&store))
        .expect("it is whole");
    // The inspection above has written to this file too.
    std::fs::remove_dir_all(&whole).expect("removed");
    fill(&whole);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for flip in 0..flips {
        let (ours, sleds) = (folder.path().join("ours"), folder.path().join("sleds"));
        fastrand::seed(flip as u64);
        let what = damaged(&whole, &ours);
        fastrand::seed(flip as u64);
        damaged(&whole, &sleds);
        let silent = rows(&sleds).is_some_and(|rows| rows != rows_before);
        *counts
            .entry("sled alone: silently wrong".into())
            .or_default() += usize::from(silent);
        let found = match open(&ours) {
            Err(error) => Err((error, "refused to open")),
            Ok(store) => seen(&store).map_err(|error| (error, "refused when read")),
        };
        match found {
            Ok(now) => {
                let other = now.iter().zip(&before).find(|(now, before)| now != before);
                assert!(
                    other.is_none() && now.len() == before.len(),
                    "{what}: it opened and is not what it was: {other:?}"
                );
                *counts.entry("opened, everything right".into()).or_default() += 1;
            }
            Err((error, when)) => {
                let why = error.to_string();
                assert!(why.len() > 40, "{what}: {why:?} tells too little");
                assert!(
                    when == "refused when read" || why.contains("ours"),
                    "{what}: {why:?} does not say where"
                );
                let kind = why
                    .split_once("ours: ")
                    .map_or(&*why, |(_, kind)| kind)
                    .chars()
                    .take(60)
                    .collect::<String>();
                *counts.entry(format!("{when}: {kind}")).or_default() += 1;
            }
        }
        std::fs::remove_dir_all(&ours).expect("removed");
        std::fs::remove_dir_all(&sleds).expect("removed");
    }
    println!("{flips} places: {counts:#?}");
    assert!(
        counts["sled alone: silently wrong"] > 0,
        "the damage was too harmless to prove anything"
    );
}

#[test]
fn rows_that_fell_back_or_went_are_named() {
    let folder = folder();
    let path = folder.path().join("store");
    fill(&path);
    let first_of = |kind: u8| {
        move |db: &sled::Db| {
            db.scan_prefix([kind])
                .next()
                .expect("there is one")
                .expect("it can be read")
                .0
        }
    };
    let flipped = |bytes: &[u8]| [&[bytes[0] ^ 1], &bytes[1..]].concat();
    for (kind, name) in [
        (b'N', "names"),
        (b'E', "entities"),
        (b'C', "channels"),
        (b'B', "deliveries of channels"),
        (b'L', "recent deliveries"),
        (b'K', "keys at targets"),
        (b'R', "refused entities"),
        (b'Q', "quarantined events"),
        (b'I', "identities of events"),
    ] {
        // The last kind of change restores the row, so nothing is wrong any more.
        for change in ["removed", "flipped", "put back"] {
            let db = sled_at(&path);
            let key = first_of(kind)(&db);
            let was = db.get(&key).expect("it can be read").expect("it is there");
            let mut done = vec![(key.clone(), was.clone())];
            match change {
                "removed" => drop(db.remove(&key).expect("it is removed")),
                "flipped" => drop(db.insert(&key, flipped(&was)).expect("it is put")),
                _ => done.clear(),
            }
            db.flush().expect("it is written");
            drop(db);
            let opened = open(&path).map(|store| store.close().wait());
            match opened {
                Ok(_) => assert_eq!(
                    change, "put back",
                    "a row of {name} was {change} and nobody noticed"
                ),
                Err(error) => {
                    let why = error.to_string();
                    let named = why.contains(name) || why.contains("cannot be read");
                    assert!(
                        change != "put back" && matches!(error, Error::Damaged(_)) && named,
                        "{name} {change}: {why}"
                    );
                }
            }
            let db = sled_at(&path);
            done.into_iter()
                .for_each(|(key, was)| drop(db.insert(key, was).expect("it is put")));
            db.flush().expect("it is written");
        }
    }
}

#[test]
fn a_piece_of_a_long_value_is_checked_when_it_is_read() {
    let folder = folder();
    fill(folder.path());
    let db = sled_at(folder.path());
    let (key, piece) = db
        .scan_prefix(b"P")
        .next()
        .expect("there is one")
        .expect("it can be read");
    db.insert(key, [b"?", &piece[1..]].concat())
        .expect("it is put");
    db.flush().expect("it is written");
    drop(db);
    let store = open(folder.path()).expect("it is not read at once");
    let Err(Error::Damaged(why)) = seen(&store) else {
        panic!("a piece is damaged")
    };
    assert!(why.contains("a long value of entity number"), "{why}");
}

#[test]
fn a_store_that_lost_accepted_changes_says_so_until_it_is_told_to_go_on() {
    let folder = folder();
    let (old, path) = (folder.path().join("old"), folder.path().join("store"));
    fill(&path);
    std::fs::create_dir(&old).expect("a folder");
    let copy = |from: &Path, to: &Path| {
        for entry in std::fs::read_dir(from)
            .expect("it can be listed")
            .flatten()
            .filter(|entry| entry.path().is_file())
        {
            std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
        }
    };
    copy(&path, &old);
    let store = open(&path).expect("it opens");
    commit_all(
        &store,
        vec![commit(
            7_777_777,
            Effect::Changes(vec![change("p1", "price", "99".into())]),
        )],
    );
    drop(store);
    // The directory is intact, but from before the last change.
    let witness = std::fs::read(path.join("witness")).expect("it is there");
    std::fs::remove_dir_all(&path).expect("removed");
    std::fs::create_dir(&path).expect("a folder");
    copy(&old, &path);
    std::fs::write(path.join("witness"), witness).expect("written");
    for _ in 0..2 {
        let Err(Error::Damaged(why)) = open(&path).map(|_| ()) else {
            panic!("a change is missing")
        };
        assert!(
            why.contains("accepted changes are missing") && why.contains("remove that file"),
            "{why}"
        );
    }
    std::fs::remove_file(path.join("witness")).expect("removed");
    let store = open(&path).expect("it was told to go on");
    assert_eq!(
        store
            .shelf("erp")
            .list(Some(Sequence(0)), 1)
            .expect("it can be read")
            .len(),
        1
    );
    drop(store);

    std::fs::remove_file(path.join("db")).expect("removed");
    std::fs::remove_file(path.join("conf")).expect("removed");
    for entry in std::fs::read_dir(&path)
        .expect("it can be listed")
        .flatten()
    {
        if entry.file_name().to_string_lossy().starts_with("snap.") {
            std::fs::remove_file(entry.path()).expect("removed");
        }
    }
    let Err(Error::Damaged(why)) = open(&path).map(|_| ()) else {
        panic!("everything is missing")
    };
    assert!(why.contains("accepted changes are missing"), "{why}");
}
