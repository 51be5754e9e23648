//! What a store gives out in numbers it takes back: names of facets, facets of an entity, ordinals.
//! Otherwise a catalogue whose price lists rotate would come to a stand after some years.

use std::sync::Arc;

use weir::inside::index::value_hash;
use weir::inside::model::{EntityId, Lane, Timestamp, Track};
use weir::inside::store::{
    Commit, Effect, Ending, FacetChange, Limits, Queue, Settlement, Store, Subscription, Verdict,
};

use crate::world::{self, commit_all, embedded_in, folder, sled_at, walk};

fn id(key: &str) -> EntityId {
    EntityId {
        entity_type: "product".into(),
        key: key.into(),
    }
}

fn change(key: &str, facet: &str, value: Option<&str>, version: Option<u64>) -> FacetChange {
    FacetChange {
        id: id(key),
        facet: facet.into(),
        owner: "erp".into(),
        lane: Lane::Normal,
        version,
        value: value.map(Into::into),
        hash: value.map_or(0, value_hash),
    }
}

/// Commits the changes as one event, and expects that it is taken.
fn commit(store: &dyn Store, changes: Vec<FacetChange>) {
    let event = Commit {
        source: "erp".into(),
        identity: None,
        arrival: None,
        effect: Effect::Changes(changes),
    };
    let verdicts = commit_all(store, vec![event]).verdicts;
    assert!(
        matches!(verdicts[..], [Verdict::Accepted { .. }]),
        "{verdicts:?}"
    );
}

fn forgets_after(store: &dyn Store, forget_ms: u64) {
    store.limit(Limits {
        forget_ms,
        quarantine_max: 10,
        entities_max: Vec::new(),
    });
}

fn join(store: &dyn Store) -> Arc<dyn Queue> {
    let subscription = Subscription {
        entity_type: "product".into(),
        facets: vec!["price.*".into()],
        shape: 1,
        shape_label: "page".into(),
        target: 1,
        debounce: None,
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

/// Each campaign had a price list of its own, which was deleted when it was over. The 513th campaign
/// within `forget` was quarantined, and the product stood without a price.
#[test]
fn a_product_whose_price_lists_rotate_always_has_its_price() {
    let folder = folder();
    let store = embedded_in(folder.path());
    forgets_after(&store, 30 * 24 * 3_600_000);
    let queue = join(&store);
    for n in 0..600u64 {
        let (new, old) = (format!("price.{n}"), format!("price.{}", n.wrapping_sub(1)));
        let mut changes = vec![change("lamp", &new, Some("1"), Some(n))];
        if n > 0 {
            changes.push(change("lamp", &old, None, Some(n)));
        }
        commit(&store, changes);
        delivers(&*queue);
        store.save(Timestamp(0)).wait().expect("it saves");
    }
    let ordinal = store.find(&id("lamp")).expect("it is there");
    let lamp = store.read(&[ordinal]).expect("it can be read").remove(0);
    let lamp = lamp.expect("it is there");
    assert_eq!(lamp.facets.len(), 512);
    let alive: Vec<_> = lamp
        .facets
        .iter()
        .filter(|facet| facet.value.is_some())
        .map(|facet| &*facet.name)
        .collect();
    assert_eq!(alive, ["price.599"]);
    let names: Vec<_> = lamp.facets.iter().map(|facet| &*facet.name).collect();
    assert!(!names.contains(&"price.0") && names.contains(&"price.598"));
}

/// The last price list of a product with 512 of them was deleted. No new one was taken within `forget`,
/// because an entity of which everything is deleted was left to be forgotten as a whole.
#[test]
fn a_full_product_whose_last_price_list_is_deleted_takes_another() {
    let folder = folder();
    let store = embedded_in(folder.path());
    forgets_after(&store, 30 * 24 * 3_600_000);
    let queue = join(&store);
    let all = |value: Option<&'static str>| -> Vec<FacetChange> {
        (0..512)
            .map(|n| change("lamp", &format!("price.{n}"), value, None))
            .collect()
    };
    for value in [Some("1"), None] {
        commit(&store, all(value));
        delivers(&*queue);
        store.save(Timestamp(0)).wait().expect("it saves");
    }
    commit(&store, vec![change("lamp", "price.new", Some("2"), None)]);
    let ordinal = store.find(&id("lamp")).expect("it is there");
    let lamp = store.read(&[ordinal]).expect("it can be read").remove(0);
    let lamp = lamp.expect("it is there");
    assert_eq!(lamp.facets.len(), 512);
    assert!(lamp.facets.iter().any(|facet| &*facet.name == "price.new"));
}

/// The rows of a long value stayed for good when its facet was deleted and made room for another
/// before the deletion was written.
#[test]
fn nothing_of_a_long_value_stays_when_its_facet_goes_in_the_turn_of_its_deletion() {
    let folder = folder();
    let store = embedded_in(folder.path());
    let long = format!("\"{}\"", "x".repeat(100_000));
    let facet = |n: usize| format!("price.{n}");
    let mut all: Vec<FacetChange> = (1..512)
        .map(|n| change("lamp", &facet(n), Some("1"), None))
        .collect();
    all.push(change("lamp", &facet(0), Some(&long), None));
    commit(&store, all);
    let event = |change| Commit {
        source: "erp".into(),
        identity: None,
        arrival: None,
        effect: Effect::Changes(vec![change]),
    };
    let events = [
        change("lamp", &facet(0), None, None),
        change("lamp", &facet(512), Some("1"), None),
    ];
    commit_all(&store, events.map(event).into());
    drop(store);
    let db = sled_at(folder.path());
    let pieces = db.scan_prefix("P").count();
    assert_eq!(pieces, 0, "nothing leads to these rows any more");
}

/// What a channel still owes is not dropped to make room: the channel has not seen that it is gone.
#[test]
fn a_deleted_facet_stays_until_every_channel_knows() {
    let folder = folder();
    let store = embedded_in(folder.path());
    forgets_after(&store, 0);
    let queue = join(&store);
    commit(
        &store,
        vec![
            change("lamp", "price.old", Some("1"), None),
            change("lamp", "content", Some("1"), None),
        ],
    );
    delivers(&*queue);
    commit(&store, vec![change("lamp", "price.old", None, None)]);
    let facets = || {
        store.save(Timestamp(0)).wait().expect("it saves");
        let ordinal = store.find(&id("lamp")).expect("it is there");
        let lamp = store.read(&[ordinal]).expect("it can be read").remove(0);
        lamp.expect("it is there").facets.len()
    };
    assert_eq!(facets(), 2, "the channel owes the deletion");
    delivers(&*queue);
    assert_eq!(facets(), 1, "now it is saved that it does not");
}

/// After 65,532 names of facets, every new one was quarantined for ever.
#[test]
fn names_of_facets_are_given_out_again() {
    let folder = folder();
    let mut store = embedded_in(folder.path());
    commit(&store, vec![change("lamp", "content", Some("1"), None)]);
    for round in 0..170 {
        if round % 50 == 49 {
            store.close().wait().expect("it closes");
            drop(store);
            store = embedded_in(folder.path());
        }
        forgets_after(&store, 0);
        let names: Vec<String> = (0..400).map(|n| format!("price.{round}-{n}")).collect();
        let all = |value: Option<&str>| -> Vec<FacetChange> {
            let change = |name: &String| change("lamp", name, value, None);
            names.iter().map(change).collect()
        };
        commit(&store, all(Some("1")));
        commit(&store, all(None));
        store.save(Timestamp(0)).wait().expect("it saves");
    }
    commit(&store, vec![change("lamp", "price.last", Some("2"), None)]);
    assert!(store.figures().names < 1_000, "{:?}", store.figures());
    drop(store);
    let store = embedded_in(folder.path());
    let ordinal = store.find(&id("lamp")).expect("it is there");
    let lamp = store.read(&[ordinal]).expect("it can be read").remove(0);
    let lamp = lamp.expect("it is there");
    let facets: Vec<_> = lamp
        .facets
        .iter()
        .map(|facet| (&*facet.name, facet.value.as_deref()))
        .collect();
    assert_eq!(facets, [("content", Some("1")), ("price.last", Some("2"))]);
}

/// The arrays of pairs of each channel grew with every key that ever was.
#[test]
fn the_ordinals_of_forgotten_entities_are_given_out_again() {
    let folder = folder();
    let mut store = embedded_in(folder.path());
    let mut highest = 0;
    for round in 0..8 {
        if round % 3 == 2 {
            store.close().wait().expect("it closes");
            drop(store);
            store = embedded_in(folder.path());
        }
        forgets_after(&store, 0);
        let queue = join(&store);
        let keys: Vec<String> = (0..50).map(|n| format!("{round}-{n}")).collect();
        for value in [Some("1"), None] {
            for key in &keys {
                commit(&store, vec![change(key, "price.de", value, None)]);
                let ordinal = store.find(&id(key)).expect("it is there");
                highest = highest.max(ordinal.0);
            }
            let mut taken = Vec::new();
            for track in [Track::Lane(Lane::Normal), Track::Sweep] {
                while walk(&*queue, track, 1_000, &mut taken) {}
            }
            assert_eq!(taken.len(), 50, "each is met, whatever its ordinal");
            let ends: Vec<Settlement> = taken
                .into_iter()
                .map(|lease| Settlement {
                    ordinal: lease.ordinal,
                    revision: lease.revision,
                    ending: match value {
                        Some(_) => Ending::Delivered {
                            digest: 7,
                            target_key: None,
                        },
                        None => Ending::Withdrawn,
                    },
                })
                .collect();
            queue.settle(&ends, &mut Vec::new());
        }
        store.save(Timestamp(0)).wait().expect("it saves");
        assert!(store.find(&id(&keys[0])).is_none(), "it is forgotten");
    }
    assert_eq!(highest, 50);
}
