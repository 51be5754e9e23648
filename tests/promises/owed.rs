//! What is shown of a channel's debt is true: the oldest change owed, since when an entity waits, and
//! what a sweep has ahead. And no start begins below a sequence that may have been sent.

use std::sync::Arc;

use weir::inside::index::value_hash;
use weir::inside::model::{EntityId, Failure, Lane, Sequence, Timestamp, Track};
use weir::inside::store::memory::Memory;
use weir::inside::store::{
    Commit, Effect, Ending, FacetChange, Holds, Lease, Queue, Settlement, Store, Subscription,
    embedded,
};

use crate::world::{self, Subject, commit_all, embedded_in, folder, walk};

fn check(story: impl Fn(&dyn Store)) {
    story(Subject::Memory(Box::<Memory>::default()).store());
    let folder = folder();
    story(Subject::Embedded(Arc::new(embedded_in(folder.path()))).store());
}

fn set(store: &dyn Store, key: &str, facet: &str, value: &str) -> Sequence {
    let change = FacetChange {
        id: EntityId {
            entity_type: "product".into(),
            key: key.into(),
        },
        facet: facet.into(),
        owner: "erp".into(),
        lane: Lane::Normal,
        version: None,
        value: Some(value.into()),
        hash: value_hash(value),
    };
    let event = Commit {
        source: "erp".into(),
        identity: None,
        arrival: None,
        effect: Effect::Changes(vec![change]),
    };
    commit_all(store, vec![event]).sequence
}

fn subscription() -> Subscription {
    Subscription {
        entity_type: "product".into(),
        facets: vec!["price".into()],
        shape: 1,
        shape_label: "page".into(),
        target: 1,
        debounce: None,
    }
}

fn join(store: &dyn Store) -> Arc<dyn Queue> {
    world::join(store, "shop", &subscription()).0
}

fn meets(queue: &dyn Queue) -> Vec<Lease> {
    let mut taken = Vec::new();
    for track in [Track::Lane(Lane::Normal), Track::Sweep] {
        while walk(queue, track, 10, &mut taken) {}
    }
    taken
}

fn ends(queue: &dyn Queue, taken: &Lease, ending: Ending) {
    let end = Settlement {
        ordinal: taken.ordinal,
        revision: taken.revision,
        ending,
    };
    queue.settle(&[end], &mut Vec::new());
}

fn delivered() -> Ending {
    Ending::Delivered {
        digest: 7,
        target_key: None,
    }
}

/// A shop was dead for an hour. One product changed every second, and freshness stayed at one second,
/// because only the newest change of a facet was looked at.
#[test]
fn the_oldest_change_owed_stays_the_oldest_when_newer_ones_cover_it() {
    check(|store| {
        let queue = join(store);
        let first = set(store, "lamp", "price", "1");
        // What is shown by name agrees with the age that is shown.
        let oldest = || {
            let (owed, named) = (queue.owed(), queue.oldest(10));
            let first = named.first().map(|oldest| (oldest.since, oldest.time));
            assert_eq!(first, owed.oldest.zip(owed.oldest_time), "{named:?}");
            owed.oldest
        };
        for value in ["2", "3"] {
            set(store, "lamp", "price", value);
            assert_eq!(oldest(), Some(first), "it waits at its place");
        }
        let lease = meets(&*queue).pop().expect("it is owed");
        assert_eq!(lease.owed_since, first);
        set(store, "lamp", "price", "4");
        assert_eq!(oldest(), Some(first), "it is in flight");
        ends(&*queue, &lease, Ending::Parked { attempts: 1 });
        set(store, "lamp", "price", "5");
        meets(&*queue);
        assert_eq!(oldest(), Some(first), "it is parked");
        let lease = queue.retry(lease.ordinal).expect("it is parked");
        assert_eq!(lease.owed_since, first);
        let standing = queue.standing(lease.ordinal).expect("it subscribes");
        assert!(standing.owed && standing.since.is_some());
        ends(&*queue, &lease, delivered());
        assert_eq!(oldest(), None);
        let last = set(store, "lamp", "price", "6");
        set(store, "lamp", "price", "7");
        assert_eq!(oldest(), Some(last));
    });
}

#[test]
fn what_is_not_owed_by_the_channel_is_not_its_oldest_change() {
    check(|store| {
        let queue = join(store);
        for n in 0..600 {
            set(store, &format!("lamp-{n}"), "content", "1");
        }
        assert_eq!(queue.owed().oldest, None);
        let owed = set(store, "vase", "price", "1");
        set(store, "vase", "price", "2");
        assert_eq!(queue.owed().oldest, Some(owed));
    });
}

/// `owed.sweep` counted every new entity, although no sweep ran.
#[test]
fn a_sweep_has_ahead_only_what_was_there_when_it_began() {
    check(|store| {
        for n in 0..5 {
            set(store, &format!("lamp-{n}"), "price", "1");
        }
        let queue = join(store);
        assert_eq!(queue.owed().sweep, 5);
        for lease in meets(&*queue) {
            ends(&*queue, &lease, delivered());
        }
        assert_eq!((queue.owed().sweep, queue.owed().total()), (0, 0));
        set(store, "vase", "price", "1");
        assert_eq!((queue.owed().sweep, queue.owed().total()), (0, 1));
        let lease = meets(&*queue).pop().expect("it is owed");
        assert_eq!(queue.owed().total(), 1, "in flight");
        ends(&*queue, &lease, Ending::Parked { attempts: 1 });
        assert_eq!(queue.owed().total(), 1, "parked");
    });
}

/// A database was restored while one of the shops that it served was out of the configuration. When the shop
/// came back, what it had delivered before still counted as delivered.
#[test]
fn what_a_target_has_forgotten_is_unknown_to_its_retired_channels_too() {
    check(|store| {
        let at = |name: &str, target| {
            let subscription = Subscription {
                target,
                ..subscription()
            };
            world::join(store, name, &subscription).0
        };
        set(store, "lamp", "price", "1");
        let targets = [("live", 1), ("retired", 1), ("elsewhere", 2)];
        let queues = targets.map(|(name, target)| at(name, target));
        for queue in &queues {
            for lease in meets(&**queue) {
                ends(&**queue, &lease, delivered());
            }
        }
        for (name, _) in &targets[1..] {
            store.retire(name).wait().expect("it retires");
        }
        store.doubt_retired(1).wait().expect("it is durable");
        let holds = |name: &str, target| {
            let queue = at(name, target);
            let lease = meets(&*queue).pop();
            lease.map(|lease| lease.holds)
        };
        assert_eq!(holds("live", 1), None, "it is told by another call");
        assert_eq!(holds("retired", 1), Some(Holds::Unknown));
        let certain = Some(Holds::Rendering(7));
        assert_eq!(holds("elsewhere", 2), certain, "it has forgotten nothing");
    });
}

/// A row was renamed without `was`. The old shop's pages stayed, and nothing said so.
#[test]
fn what_a_retired_channel_has_delivered_is_counted_and_shown() {
    check(|store| {
        let queue = join(store);
        for key in ["lamp", "vase"] {
            set(store, key, "price", "1");
        }
        let leases = meets(&*queue);
        for lease in &leases {
            ends(&*queue, lease, delivered());
        }
        let ordinal = leases[0].ordinal;
        assert!(store.retired_standings(ordinal).is_empty(), "it is live");
        store.retire("shop").wait().expect("it retires");
        let [remembered] = &store.remembered()[..] else {
            panic!("it is remembered")
        };
        assert_eq!((remembered.live, remembered.holding), (false, 2));
        let [(name, standing)] = &store.retired_standings(ordinal)[..] else {
            panic!("it is shown")
        };
        assert_eq!(
            (name.as_str(), standing.holds),
            ("shop", Holds::Rendering(7))
        );
    });
}

/// An operator had two products sent again, and one that was refused tried again. For as long as the target took
/// none of them, the channel owed nothing that was old.
#[test]
fn what_is_sent_once_more_is_owed_and_named_like_a_change() {
    check(|store| {
        let queue = join(store);
        for key in ["resent", "redriven", "swept"] {
            set(store, key, "price", "1");
        }
        let leases = meets(&*queue);
        let refused = Ending::Refused(Failure::new("no", "no"));
        for (lease, ending) in leases.iter().zip([delivered(), refused, delivered()]) {
            ends(&*queue, lease, ending);
        }
        let named = || -> Vec<String> {
            let oldest = queue.oldest(10).into_iter();
            oldest.map(|it| it.id.key.to_string()).collect()
        };
        assert_eq!((queue.owed().oldest_time, named().len()), (None, 0));
        let [resent, redriven, swept] = [0, 1, 2].map(|at| leases[at].ordinal);
        assert_eq!(queue.resend(&[resent]).len(), 1);
        assert_eq!(queue.redrive(&[redriven]).len(), 1);
        queue.resweep(true).wait().expect("it is durable");
        let met = meets(&*queue)
            .into_iter()
            .find(|lease| lease.ordinal == swept);
        ends(
            &*queue,
            &met.expect("it is met"),
            Ending::Parked { attempts: 1 },
        );
        let owed = queue.owed();
        assert!(
            owed.oldest.is_none() && owed.oldest_time.is_some(),
            "{owed:?}"
        );
        assert!(owed.tried[Lane::Normal.index()].is_some(), "{owed:?}");
        assert_eq!(named(), ["resent", "redriven", "swept"]);
        for ordinal in [resent, redriven, swept] {
            let standing = queue.standing(ordinal).expect("it subscribes");
            assert!(standing.since.is_some(), "{standing:?}");
            let lease = queue.retry(ordinal).expect("it is parked");
            assert_eq!(lease.owed_since, Sequence(0), "it is no change");
            assert!(queue.owed().oldest_time.is_some(), "while it is tried");
            ends(&*queue, &lease, delivered());
        }
        let owed = queue.owed();
        assert_eq!(
            (owed.oldest_time, owed.tried, named().len()),
            (None, [None; 3], 0)
        );
    });
}

/// A withdrawal that the guard held looked like a change that had not been met yet.
#[test]
fn the_oldest_change_is_known_with_and_without_those_that_are_held() {
    check(|store| {
        let queue = join(store);
        let held = set(store, "held", "price", "1");
        let lease = meets(&*queue).pop().expect("it is owed");
        let later = set(store, "later", "price", "1");
        ends(&*queue, &lease, Ending::Held);
        let oldest = || {
            let owed = queue.owed();
            let not_held = owed.oldest_not_held.map(|(sequence, _)| sequence);
            (owed.oldest, not_held)
        };
        assert_eq!(oldest(), (Some(held), Some(later)));
        let lease = meets(&*queue).pop().expect("it is owed");
        assert_eq!(oldest(), (Some(held), Some(later)), "in flight");
        ends(&*queue, &lease, delivered());
        assert_eq!(oldest(), (Some(held), None));
    });
}

/// The store was restored from a copy. The sequences that it gave out again were lower than those that
/// a target had seen, and the target, which keeps the highest, took nothing any more.
#[test]
fn a_restored_store_begins_above_what_it_sent_after_the_copy_was_made() {
    let folder = folder();
    let at = |now: fn() -> Timestamp, sequence_min: u64| {
        let options = embedded::Options {
            cache_bytes: 16 << 20,
            now,
            sequence_min,
            ..embedded::Options::new(folder.path())
        };
        let store = embedded::Embedded::open(options).expect("it opens");
        let sequence = set(&store, "lamp", "price", "1");
        store.close().wait().expect("it closes");
        sequence.0
    };
    let noon = 1_795_000_000_000;
    let first = at(|| Timestamp(1_795_000_000_000), 0);
    assert!(first > noon * 100);
    // The copy is as old as this directory is now: its own sequence is where it was.
    let second = at(|| Timestamp(1_795_000_060_000), 0);
    assert!(
        second >= (noon + 60_000) * 100 && second > first + 5_000_000,
        "a minute later it is above 5,000,000 changes that are not in the copy"
    );
    let third = at(|| Timestamp(1_795_000_000_000), 0);
    assert!(third > second, "a clock that is set back lowers nothing");
    let fourth = at(|| Timestamp(0), 190_000_000_000_000);
    assert!(fourth >= 190_000_000_000_000);
}

// Freshness said how old the oldest change is, and nobody knew which entity to look at.
#[test]
fn the_entities_that_are_owed_for_the_longest_time_are_named_wherever_they_are() {
    check(|store| {
        let queue = join(store);
        for key in ["parked", "flying", "ahead", "later"] {
            set(store, key, "price", "1");
        }
        set(store, "another", "content", "1");
        let mut taken = Vec::new();
        walk(&*queue, Track::Lane(Lane::Normal), 2, &mut taken);
        assert_eq!(taken.len(), 2);
        ends(&*queue, &taken[0], Ending::Parked { attempts: 1 });
        let named = |limit| {
            let oldest = queue.oldest(limit).into_iter();
            oldest.map(|it| it.id.key.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(named(10), ["parked", "flying", "ahead", "later"]);
        assert_eq!(named(3), ["parked", "flying", "ahead"]);
        // A newer change does not make the debt younger.
        set(store, "flying", "price", "2");
        assert_eq!(named(2), ["parked", "flying"]);
        ends(&*queue, &taken[1], delivered());
        assert_eq!(named(2)[0], "parked");
    });
}
