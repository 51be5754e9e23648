//! Tests that what can be read of a damaged store is kept when it is set aside: each entity that is
//! there is one that there was, nothing that a target holds is believed, and new changes are taken.

use std::collections::BTreeMap;

use weir::inside::model::{Entity, Lane, Timestamp, Track};
use weir::inside::store::embedded::{Options, rescue};
use weir::inside::store::{Effect, Error, Holds, Lease, ListQuery, Store, Verdict};

use crate::integrity::{ENTITIES, change, commit, damaged, fill, join, open, silence_sled};
use crate::world::{commit_all, folder, sled_at, walk};

/// Places that are damaged.
const FLIPS: u64 = 40;

fn all(store: &dyn Store) -> Vec<Entity> {
    let all = store.list(&ListQuery {
        entity_type: "product",
        prefix: "",
        after: None,
        owed: None,
        limit: 10 * ENTITIES,
    });
    let ordinals: Vec<_> = all.iter().map(|(ordinal, _)| *ordinal).collect();
    let entities = store.read(&ordinals).expect("what is kept can be read");
    let there = entities.into_iter().flatten();
    there.map(|entity| (*entity).clone()).collect()
}

/// Whether both values of an entity were written in the same life.
fn is_one_that_there_was(entity: &Entity) -> bool {
    let value = |name: &str| {
        let facet = entity.facets.iter().find(|facet| &*facet.name == name);
        facet.and_then(|facet| facet.value.as_deref())
    };
    let content = value("content").and_then(|content| content.get(1..2));
    content.is_some() && content == value("price")
}

#[test]
fn what_can_be_read_of_a_damaged_store_is_kept_and_nothing_that_it_knew_is_believed() {
    silence_sled();
    let folder = folder();
    let whole = folder.path().join("whole");
    fill(&whole);
    let mut counts = BTreeMap::<&str, usize>::new();
    for flip in 0..FLIPS {
        let apart = folder.path().join(flip.to_string());
        std::fs::create_dir(&apart).expect("a folder");
        let path = apart.join("store");
        fastrand::seed(7_000 + flip);
        let what = damaged(&whole, &path);
        let opened = open(&path).map(drop);
        let options = Options {
            cache_bytes: 16 << 20,
            now: || Timestamp(1_000_000),
            ..Options::new(&path)
        };
        let outcome = match opened {
            Ok(()) => "it opens",
            Err(Error::Damaged(why)) => {
                assert!(why.contains("--set-aside-damaged"), "{why}");
                match rescue(&options) {
                    Ok(rescued) => {
                        assert!(rescued.aside.join("db").exists(), "{what}: {rescued:?}");
                        let store = open(&path).unwrap_or_else(|why| panic!("{what}: {why}"));
                        let entities = all(&store);
                        let wrong = entities
                            .iter()
                            .find(|entity| !is_one_that_there_was(entity));
                        assert!(wrong.is_none(), "{what}: {wrong:?}");
                        let known = store.remembered();
                        for name in ["web", "app"] {
                            // A channel whose row cannot be read is a new one.
                            let holds = match known.iter().any(|known| known.name == name) {
                                true => Holds::Unknown,
                                false => Holds::Nothing,
                            };
                            let queue = join(&store, name).expect("it joins");
                            let mut taken = Vec::new();
                            for track in [Track::Lane(Lane::Normal), Track::Sweep] {
                                while walk(&*queue, track, 50, &mut taken) {}
                            }
                            assert_eq!(taken.len() as u64, rescued.entities, "{what}");
                            let right = |lease: &Lease| lease.holds == holds;
                            assert!(taken.iter().all(right), "{what}: {name} believes it");
                        }
                        store.close().wait().expect("it closes");
                        match rescued.entities as usize == ENTITIES {
                            true => "all entities are kept",
                            false if rescued.entities > 0 => "some entities are kept",
                            false => "no entities are kept",
                        }
                    }
                    Err(Error::Damaged(_)) => {
                        assert!(path.join("db").exists() || what.starts_with("db"), "{what}");
                        "nothing can be read"
                    }
                    Err(why) => panic!("{what}: {why}"),
                }
            }
            Err(why) => panic!("{what}: {why}"),
        };
        *counts.entry(outcome).or_default() += 1;
        std::fs::remove_dir_all(&apart).expect("removed");
    }
    println!("{FLIPS} places: {counts:#?}");
    let kept = counts.get("some entities are kept").copied().unwrap_or(0);
    assert!(
        kept + counts.get("all entities are kept").copied().unwrap_or(0) > 0,
        "{counts:?}"
    );
}

#[test]
fn a_record_that_cannot_be_understood_is_named_and_the_others_stay() {
    let folder = folder();
    let path = folder.path().join("store");
    fill(&path);
    let shelved = |store: &dyn Store| store.shelf("erp").count();
    let before = shelved(&open(&path).expect("it is whole"));
    let db = sled_at(&path);
    let (key, record) = db
        .scan_prefix(b"E")
        .nth(40)
        .expect("it is there")
        .expect("read");
    // Its end is cut off, and its beginning says which entity it is.
    db.insert(key, &record[..record.len() - 1])
        .expect("it is put");
    db.flush().expect("it is written");
    drop(db);
    assert!(matches!(open(&path), Err(Error::Damaged(_))));
    let rescued = rescue(&Options {
        cache_bytes: 16 << 20,
        ..Options::new(&path)
    })
    .expect("the others can be read");
    assert_eq!(rescued.entities, ENTITIES as u64 - 1);
    assert_eq!(rescued.missing.len(), 1, "{rescued:?}");
    let missing = rescued.missing.first().expect("one");
    let store = open(&path).expect("it opens");
    let entities = all(&store);
    assert_eq!(entities.len(), ENTITIES - 1);
    assert!(entities.iter().all(is_one_that_there_was));
    assert!(
        entities
            .iter()
            .all(|entity| entity.id.to_string() != *missing)
    );
    let file = rescued.aside.join("missing-entities.txt");
    let listed = std::fs::read_to_string(file).expect("it is there");
    assert_eq!(listed, format!("{missing}\n"));
    assert!(before > 0 && shelved(&store) == before);
}

/// An entity was kept without a piece of its long value. It could not be read, nothing named it, and
/// what its source sent again was taken for a repetition.
#[test]
fn an_entity_whose_long_value_is_not_whole_is_named_and_taken_again() {
    let folder = folder();
    let path = folder.path().join("store");
    fill(&path);
    let db = sled_at(&path);
    let (piece, _) = db
        .scan_prefix(b"P")
        .next()
        .expect("it is there")
        .expect("read");
    db.remove(piece).expect("it is removed");
    db.flush().expect("it is written");
    drop(db);
    let rescued = rescue(&Options {
        cache_bytes: 16 << 20,
        ..Options::new(&path)
    })
    .expect("the others can be read");
    assert_eq!(rescued.entities, ENTITIES as u64 - 1);
    let missing: Vec<&str> = rescued.missing.iter().map(String::as_str).collect();
    assert_eq!(missing, ["product/p0"]);
    let store = open(&path).expect("it opens");
    assert_eq!(all(&store).len(), ENTITIES - 1);
    // As it was sent at first.
    let again = commit(1, Effect::Changes(vec![change("p0", "price", "0".into())]));
    let verdicts = commit_all(&store, vec![again]).verdicts;
    assert!(
        matches!(verdicts[..], [Verdict::Accepted { committed: 1, .. }]),
        "{verdicts:?}"
    );
    assert_eq!(all(&store).len(), ENTITIES);
}

/// The names were written when the new store was in use already, so a full disk or a kill cost them.
#[test]
fn without_the_names_of_what_is_missing_the_damaged_store_stays_where_it_is() {
    let folder = folder();
    let path = folder.path().join("store");
    fill(&path);
    let db = sled_at(&path);
    let (key, record) = db
        .scan_prefix(b"E")
        .next()
        .expect("it is there")
        .expect("read");
    db.insert(key, &record[..record.len() - 1])
        .expect("it is put");
    db.flush().expect("it is written");
    drop(db);
    let options = Options {
        cache_bytes: 16 << 20,
        ..Options::new(&path)
    };
    let names = path.join("missing-entities.txt");
    std::fs::create_dir(&names).expect("a folder is in the way");
    assert!(matches!(rescue(&options), Err(Error::Unavailable(_))));
    assert!(matches!(open(&path), Err(Error::Damaged(_))));
    std::fs::remove_dir(&names).expect("removed");
    rescue(&options).expect("the others can be read");
    assert_eq!(all(&open(&path).expect("it opens")).len(), ENTITIES - 1);
}

/// Each rescue that was killed left a copy of the store, until the disk was full. Only the damaged store
/// itself is kept: one that was killed after the exchange has it under the name of the new one.
#[test]
fn a_rescue_that_was_killed_leaves_no_copy_behind_but_the_damaged_store() {
    for (half_done, kept) in [("half.txt", 0), ("missing-entities.txt", 1)] {
        let folder = folder();
        let path = folder.path().join("store");
        fill(&path);
        let made = folder.path().join("store-rescued");
        std::fs::create_dir(&made).expect("a folder");
        std::fs::write(made.join(half_done), "x").expect("written");
        let options = Options {
            cache_bytes: 16 << 20,
            ..Options::new(&path)
        };
        rescue(&options).expect("all of it can be read");
        let entries = std::fs::read_dir(folder.path()).expect("the folder");
        let names: Vec<String> = entries
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into()
            })
            .collect();
        let earlier = names.iter().filter(|name| name.ends_with("-earlier"));
        assert_eq!(
            (earlier.count(), names.len()),
            (kept, 2 + kept),
            "{names:?}"
        );
        assert_eq!(all(&open(&path).expect("it opens")).len(), ENTITIES);
    }
}
