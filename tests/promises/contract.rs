//! The contract of every store, as short scenarios that run on each store.

use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use weir::inside::index::value_hash;
use weir::inside::model::{
    Arrival, EntityId, FACETS_MAX, Failure, Lane, Sequence, Timestamp, Track,
};
use weir::inside::store::memory::Memory;
use weir::inside::store::{
    Commit, Content, Effect, Ending, FacetChange, Identity, Limits, ListQuery, NoRoom, Remembered,
    Settlement, Store, Subscription, Verdict,
};

use crate::aside::aside;
use crate::world::{Subject, commit_all, embedded_in, folder, join, walk};

/// Runs a scenario on each store.
pub fn check(story: impl Fn(&Subject)) {
    story(&Subject::Memory(Box::<Memory>::default()));
    let folder = folder();
    story(&Subject::Embedded(Arc::new(embedded_in(folder.path()))));
}

pub fn id(key: &str) -> EntityId {
    EntityId {
        entity_type: "product".into(),
        key: key.into(),
    }
}

pub fn change(key: &str, facet: &str, value: Option<&str>, version: Option<u64>) -> FacetChange {
    let hash = value.map_or(0, value_hash);
    FacetChange {
        id: id(key),
        facet: facet.into(),
        owner: "erp".into(),
        lane: Lane::Normal,
        version,
        value: value.map(Arc::from),
        hash,
    }
}

pub fn identity(id: u128, content: u64) -> Identity {
    Identity {
        id,
        content: Content::of(content << 32),
    }
}

pub fn event(changes: Vec<FacetChange>) -> Commit {
    Commit {
        source: "erp".into(),
        identity: None,
        arrival: None,
        effect: Effect::Changes(changes),
    }
}

/// Commits one change; returns (committed, unchanged, stale).
pub fn put(
    store: &dyn Store,
    key: &str,
    facet: &str,
    value: Option<&str>,
    version: Option<u64>,
) -> (u32, u32, u32) {
    match commit_all(store, vec![event(vec![change(key, facet, value, version)])]).verdicts[..] {
        [
            Verdict::Accepted {
                committed,
                unchanged,
                stale,
                ..
            },
        ] => (committed, unchanged, stale),
        ref other => panic!("{other:?}"),
    }
}

pub fn value(store: &dyn Store, key: &str, facet: &str) -> Option<String> {
    let entity = store
        .read(&[store.find(&id(key))?])
        .expect("it can be read")
        .pop()??;
    entity
        .facets
        .iter()
        .find(|known| &*known.name == facet)?
        .value
        .as_deref()
        .map(str::to_owned)
}

pub fn subscription(shape: u64) -> Subscription {
    let facets = vec!["price".to_owned()];
    Subscription {
        entity_type: "product".into(),
        facets,
        shape,
        shape_label: format!("page {shape}"),
        target: 1,
        debounce: None,
    }
}

pub const COMMITTED: (u32, u32, u32) = (1, 0, 0);
const UNCHANGED: (u32, u32, u32) = (0, 1, 0);
const STALE: (u32, u32, u32) = (0, 0, 1);

/// A channel reads as many entities as it has memory for. What is too large is not read at all, or it
/// would be in memory already when its size is known.
#[test]
fn entities_are_read_within_a_bound_and_none_if_the_first_is_larger() {
    check(|subject| {
        let store = subject.store();
        let text = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
        for (key, bytes) in [("a", 95), ("b", 95), ("c", 195_000), ("d", 95)] {
            put(store, key, "price", Some(&text(bytes)), None);
        }
        let ordinal = |key| store.find(&id(key)).expect("it is there");
        let ordinals = ["a", "b", "c", "d"].map(ordinal);
        let read = |from: usize, most| store.read_within(&ordinals[from..], most).expect("read");
        let twice = [
            (99, 0),
            (100, 1),
            (199, 1),
            (200, 2),
            (195_204, 2),
            (195_205, 3),
            (195_305, 4),
        ];
        // The second time they may be in a cache.
        for (most, expected) in twice.into_iter().chain(twice) {
            assert_eq!(read(0, most).len(), expected, "{most}");
        }
        assert_eq!(read(2, 195_004).len(), 0);
        assert_eq!(read(2, 195_005).len(), 1);
    });
}

#[test]
fn an_older_version_never_wins() {
    check(|subject| {
        let store = subject.store();
        assert_eq!(put(store, "lamp", "price", Some("10"), Some(17)), COMMITTED);
        assert_eq!(put(store, "lamp", "price", Some("9"), Some(16)), STALE);
        assert_eq!(
            put(store, "lamp", "price", Some("11"), Some(17)),
            COMMITTED,
            "of equal versions the value decides"
        );
        assert_eq!(
            put(store, "lamp", "price", Some("12"), None),
            COMMITTED,
            "without a version arrival decides"
        );
        assert_eq!(
            put(store, "lamp", "price", Some("9"), Some(16)),
            STALE,
            "and the stored version stays"
        );
        assert_eq!(put(store, "lamp", "price", Some("12"), Some(20)), UNCHANGED);
        subject.crash();
        assert_eq!(
            put(store, "lamp", "price", Some("13"), Some(19)),
            STALE,
            "an unchanged value has stored its newer version"
        );
        assert_eq!(value(store, "lamp", "price").as_deref(), Some("12"));
    });
}

/// The ERP deleted a material and all its prices at once. The deletion did nothing.
#[test]
fn the_deletion_of_a_family_deletes_what_its_owner_has_there() {
    check(|subject| {
        let store = subject.store();
        let theirs = FacetChange {
            owner: "pim".into(),
            ..change("lamp", "price.list", Some("0"), None)
        };
        let all = vec![
            change("lamp", "price.de", Some("1"), Some(5)),
            change("lamp", "price.fr", Some("2"), Some(9)),
            change("lamp", "price.gone", Some("3"), None),
            change("lamp", "price.gone", None, None),
            change("lamp", "prices", Some("4"), None),
            theirs,
        ];
        commit_all(store, vec![event(all)]);
        assert_eq!(put(store, "lamp", "price.*", None, Some(7)), (1, 0, 1));
        let there = |facet: &str| value(store, "lamp", facet);
        assert_eq!(
            (there("price.de"), there("price.fr").as_deref()),
            (None, Some("2"))
        );
        assert_eq!(there("prices").as_deref(), Some("4"));
        assert_eq!(
            there("price.list").as_deref(),
            Some("0"),
            "it is another owner's"
        );
        assert_eq!(put(store, "lamp", "price.de", Some("1"), Some(6)), STALE);
        subject.crash();
        // In the order of the event: the new price comes after the deletion, and one before it.
        let changes = vec![
            change("lamp", "price.it", Some("5"), None),
            change("lamp", "price.*", None, None),
            change("lamp", "price.at", Some("6"), None),
        ];
        let verdicts = commit_all(store, vec![event(changes)]).verdicts;
        assert!(
            matches!(verdicts[..], [Verdict::Accepted { committed: 4, .. }]),
            "{verdicts:?}"
        );
        assert_eq!((there("price.fr"), there("price.it")), (None, None));
        assert_eq!(there("price.at").as_deref(), Some("6"));
        assert_eq!(put(store, "lamp", "stock.*", None, None), UNCHANGED);
        assert_eq!(put(store, "nothing", "price.*", None, None), UNCHANGED);
        let entity = store.read(&[store.find(&id("lamp")).expect("it is there")]);
        let names = entity
            .expect("it can be read")
            .pop()
            .flatten()
            .expect("it is there");
        assert!(names.facets.iter().all(|facet| !facet.name.ends_with('*')));
    });
}

/// The ERP was restored from a copy of last night and counts on from there: all its changes were
/// stale until its numbers were above those of the day before.
#[test]
fn an_owner_that_counts_from_the_start_is_listened_to_once_its_versions_are_forgotten() {
    check(|subject| {
        let store = subject.store();
        store.limit(Limits {
            entities_max: Vec::new(),
            quarantine_max: 10,
            forget_ms: u64::MAX / 2,
        });
        for key in 0..600 {
            put(store, &format!("p{key}"), "price", Some("1"), Some(100));
        }
        put(store, "p0", "stock", Some("1"), Some(100));
        put(store, "p0", "stock", None, Some(101));
        let foreign = FacetChange {
            owner: "pim".into(),
            ..change("p0", "content", Some("1"), Some(100))
        };
        commit_all(store, vec![event(vec![foreign.clone()])]);
        let put_all = |version: u64| {
            [
                put(
                    store,
                    "p599",
                    "price",
                    Some(&version.to_string()),
                    Some(version),
                ),
                put(store, "p0", "stock", Some("2"), Some(version)),
            ]
        };
        assert_eq!(put_all(7), [STALE, STALE]);
        assert_eq!(store.reset_versions("nobody").wait().expect("written"), 0);
        assert_eq!(store.reset_versions("erp").wait().expect("written"), 601);
        subject.crash();
        assert_eq!(put_all(7), [COMMITTED, COMMITTED]);
        assert_eq!(put_all(6), [STALE, STALE]);
        assert_eq!(
            value(store, "p0", "price").as_deref(),
            Some("1"),
            "values stay"
        );
        let lower = FacetChange {
            version: Some(99),
            ..foreign
        };
        let verdicts = commit_all(store, vec![event(vec![lower])]).verdicts;
        assert!(
            matches!(verdicts[..], [Verdict::Accepted { stale: 1, .. }]),
            "another owner's versions stay"
        );
        assert_eq!(store.reset_versions("erp").wait().expect("written"), 2);
    });
}

#[test]
fn a_late_update_does_not_resurrect_what_is_deleted() {
    check(|subject| {
        let store = subject.store();
        put(store, "lamp", "price", Some("10"), Some(1));
        assert_eq!(put(store, "lamp", "price", None, Some(3)), COMMITTED);
        assert_eq!(put(store, "lamp", "price", Some("10"), Some(2)), STALE);
        assert_eq!(put(store, "lamp", "price", None, None), UNCHANGED);
        assert_eq!(
            put(store, "vase", "price", None, Some(5)),
            COMMITTED,
            "a deletion may come before what it deletes"
        );
        subject.crash();
        assert_eq!(put(store, "vase", "price", Some("7"), Some(4)), STALE);
        assert_eq!(put(store, "vase", "price", Some("7"), Some(6)), COMMITTED);
        assert_eq!(
            put(store, "bowl", "price", None, None),
            UNCHANGED,
            "nothing was there, and nothing says when"
        );
        assert_eq!(store.find(&id("bowl")), None);
    });
}

#[test]
fn a_repeated_event_is_recognised_after_a_crash_too() {
    check(|subject| {
        let store = subject.store();
        let commit = |value: &str| Commit {
            identity: Some(identity(42, 5)),
            ..event(vec![change("lamp", "price", Some(value), None)])
        };
        assert!(matches!(
            commit_all(store, vec![commit("1")]).verdicts[..],
            [Verdict::Accepted { .. }]
        ));
        assert_eq!(
            commit_all(store, vec![commit("2")]).verdicts,
            [Verdict::Repeated]
        );
        subject.crash();
        assert_eq!(
            commit_all(store, vec![commit("3")]).verdicts,
            [Verdict::Repeated]
        );
        assert_eq!(value(store, "lamp", "price").as_deref(), Some("1"));
    });
}

/// A sender took the product's number as the id of its events: all but the first were gone, and
/// counted as repeated.
#[test]
fn an_id_that_comes_with_another_content_is_told_apart_from_a_repetition() {
    check(|subject| {
        let store = subject.store();
        let commit = |content: u64| Commit {
            identity: Some(identity(42, content)),
            ..event(vec![change(
                "lamp",
                "price",
                Some(&content.to_string()),
                None,
            )])
        };
        commit_all(store, vec![commit(5)]);
        assert_eq!(
            commit_all(store, vec![commit(6), commit(5)]).verdicts,
            [Verdict::Reused, Verdict::Repeated]
        );
        subject.crash();
        assert_eq!(
            commit_all(store, vec![commit(6), commit(5)]).verdicts,
            [Verdict::Reused, Verdict::Repeated]
        );
        assert_eq!(value(store, "lamp", "price").as_deref(), Some("5"));
        let redriven = Commit {
            arrival: Some(Arrival::of(Sequence(99))),
            ..commit(6)
        };
        assert!(
            matches!(
                commit_all(store, vec![redriven]).verdicts[..],
                [Verdict::Accepted { committed: 1, .. }]
            ),
            "an operator may apply it"
        );
    });
}

/// An operator dropped an event from quarantine and asked its sender to send it again. It came, was
/// counted as repeated, and was gone.
#[test]
fn an_event_that_was_discarded_can_be_sent_again_and_one_that_was_redriven_cannot() {
    check(|subject| {
        let store = subject.store();
        store.limit(Limits {
            entities_max: Vec::new(),
            quarantine_max: 10,
            forget_ms: 0,
        });
        let sent = |id: u128, code: &str| Commit {
            source: "erp".into(),
            identity: Some(identity(id, 5)),
            arrival: None,
            effect: aside(code),
        };
        let kept = commit_all(store, vec![sent(1, "one"), sent(2, "two")]).verdicts;
        let [Verdict::Quarantined(one), Verdict::Quarantined(two)] = kept[..] else {
            panic!("{kept:?}")
        };
        subject.crash();
        let shelf = store.shelf("erp");
        assert_eq!(shelf.discard(&[one]).wait().expect("written"), 1);
        assert_eq!(shelf.remove(&[two]).wait().expect("written"), 1);
        for crash in [false, true] {
            if crash {
                subject.crash();
            }
            let again = commit_all(store, vec![sent(2, "two")]).verdicts;
            assert_eq!(again, [Verdict::Repeated]);
        }
        let again = commit_all(store, vec![sent(1, "one"), sent(1, "one")]).verdicts;
        assert!(
            matches!(again[..], [Verdict::Quarantined(_), Verdict::Repeated]),
            "{again:?}"
        );
    });
}

#[test]
fn an_event_is_there_wholly_or_not_at_all() {
    check(|subject| {
        let store = subject.store();
        store.limit(Limits {
            entities_max: vec![("product".into(), 2)],
            quarantine_max: 10,
            forget_ms: 0,
        });
        put(store, "a", "price", Some("1"), None);
        let two = Commit {
            identity: Some(identity(7, 5)),
            ..event(vec![
                change("b", "price", Some("1"), None),
                change("c", "price", Some("1"), None),
            ])
        };
        let full = Verdict::NoRoom(NoRoom::Entities);
        assert_eq!(commit_all(store, vec![two.clone()]).verdicts, [full]);
        assert_eq!(store.find(&id("b")), None, "nothing of it was taken");
        let known = event(vec![change("a", "price", Some("2"), None)]);
        assert!(
            matches!(
                commit_all(store, vec![known]).verdicts[..],
                [Verdict::Accepted { committed: 1, .. }]
            ),
            "known keys go on"
        );
        store.limit(Limits {
            entities_max: vec![("product".into(), 9)],
            quarantine_max: 10,
            forget_ms: 0,
        });
        let again = commit_all(store, vec![two]).verdicts;
        assert!(
            matches!(again[..], [Verdict::Accepted { committed: 2, .. }]),
            "sent again it is not taken for a repetition: {again:?}"
        );
    });
}

#[test]
fn an_entity_has_a_bounded_number_of_facets() {
    check(|subject| {
        let store = subject.store();
        let facets = |from: usize, to: usize| {
            event(
                (from..to)
                    .map(|n| change("lamp", &format!("price.{n}"), Some("1"), None))
                    .collect(),
            )
        };
        assert!(matches!(
            commit_all(store, vec![facets(0, FACETS_MAX)]).verdicts[..],
            [Verdict::Accepted { committed: 512, .. }]
        ));
        assert_eq!(
            commit_all(store, vec![facets(FACETS_MAX, FACETS_MAX + 1)]).verdicts,
            [Verdict::NoRoom(NoRoom::Facets)]
        );
        assert_eq!(
            commit_all(store, vec![facets(0, FACETS_MAX)])
                .verdicts
                .len(),
            1,
            "those that are there can change on"
        );
        let too_many = event(
            (0..=FACETS_MAX)
                .map(|n| change("vase", &format!("price.{n}"), Some("1"), None))
                .collect(),
        );
        assert_eq!(
            commit_all(store, vec![too_many]).verdicts,
            [Verdict::NoRoom(NoRoom::Facets)]
        );
    });
}

#[test]
fn long_values_and_many_facets_are_kept_and_replaced() {
    check(|subject| {
        let store = subject.store();
        let long = |letter: &str| format!("\"{}\"", letter.repeat(200_000));
        put(store, "lamp", "content.de", Some(&long("a")), None);
        for n in 0..40 {
            put(
                store,
                "lamp",
                &format!("price.{n}"),
                Some(&format!("\"{}\"", "p".repeat(2_000 + n))),
                None,
            );
        }
        put(store, "lamp", "content.de", Some(&long("b")), None);
        put(store, "lamp", "content.fr", Some(&long("c")), None);
        put(store, "lamp", "content.fr", None, None);
        subject.crash();
        assert_eq!(value(store, "lamp", "content.de"), Some(long("b")));
        assert_eq!(value(store, "lamp", "content.fr"), None);
        for n in 0..40 {
            assert_eq!(
                value(store, "lamp", &format!("price.{n}")).map(|value| value.len()),
                Some(2_002 + n)
            );
        }
        assert_eq!(
            put(store, "lamp", "content.de", Some(&long("b")), None),
            UNCHANGED
        );
    });
}

#[test]
fn entities_are_listed_by_key_and_by_what_is_owed() {
    check(|subject| {
        let store = subject.store();
        for key in ["b2", "a", "b1", "b3", "ß", "c"] {
            put(store, key, "price", Some("1"), None);
        }
        let keys = |prefix: &str, after: Option<&str>, owed: Option<&str>, limit| -> Vec<String> {
            let query = ListQuery {
                entity_type: "product",
                prefix,
                after,
                owed,
                limit,
            };
            let page = store.list(&query);
            page.into_iter().map(|(_, id)| id.key.to_string()).collect()
        };
        assert_eq!(keys("", None, None, 10), ["a", "b1", "b2", "b3", "c", "ß"]);
        assert_eq!(keys("b", None, None, 2), ["b1", "b2"]);
        assert_eq!(keys("b", Some("b2"), None, 2), ["b3"]);
        let orders = ListQuery {
            entity_type: "order",
            prefix: "",
            after: None,
            owed: None,
            limit: 10,
        };
        assert!(store.list(&orders).is_empty());
        let (queue, _) = join(store, "shop", &subscription(1));
        let mut taken = Vec::new();
        walk(&*queue, Track::Sweep, 3, &mut taken);
        let ends: Vec<Settlement> = taken
            .iter()
            .map(|taken| delivered(taken.ordinal, taken.revision))
            .collect();
        queue.settle(&ends, &mut Vec::new());
        assert_eq!(keys("", None, Some("shop"), 10), ["b3", "c", "ß"]);
        assert!(keys("", None, Some("nobody"), 10).is_empty());
    });
}

// Each page of a list looked at all entities: 500 clients that listed 10,000 took a processor.
#[test]
fn a_list_in_many_pages_costs_little_more_than_in_one() {
    const ENTITIES: usize = 20_000;
    let folder = folder();
    let store = embedded_in(folder.path());
    let entity = |number: usize| event(vec![change(&number.to_string(), "price", Some("1"), None)]);
    for first in (0..ENTITIES).step_by(5_000) {
        commit_all(&store, (first..first + 5_000).map(entity).collect());
    }
    let list = |limit: usize| {
        let (begun, mut keys, mut after) = (processor_time(), 0, None::<Arc<str>>);
        loop {
            let page = store.list(&ListQuery {
                entity_type: "product",
                prefix: "",
                after: after.as_deref(),
                owed: None,
                limit,
            });
            keys += page.len();
            match page.last() {
                Some((_, last)) => after = Some(last.key.clone()),
                None => return (keys, processor_time() - begun),
            }
        }
    };
    let (all, at_once) = list(ENTITIES);
    // The best of some, because others may have emptied the caches of the processor.
    let best = (0..5).map(|_| list(20)).min_by_key(|(_, time)| *time);
    let (again, in_pages) = best.expect("one of five");
    assert_eq!((all, again), (ENTITIES, ENTITIES));
    // A thousand pages took more than 20 times as long.
    assert!(in_pages < at_once * 10, "{in_pages:?}, {at_once:?} at once");
}

/// The time that this thread has had a processor, so that it does not depend on what else runs.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let part = |part: i64| u64::try_from(part).expect("it rises");
    Duration::from_secs(part(time.tv_sec)) + Duration::from_nanos(part(time.tv_nsec))
}

pub fn delivered(ordinal: weir::inside::model::Ordinal, revision: Sequence) -> Settlement {
    Settlement {
        ordinal,
        revision,
        ending: Ending::Delivered {
            digest: 99,
            target_key: Some("lamp-key".into()),
        },
    }
}

#[test]
fn a_channel_is_remembered_by_its_name_until_it_is_forgotten() {
    check(|subject| {
        let store = subject.store();
        put(store, "lamp", "price", Some("1"), None);
        let (_, joined) = join(store, "web", &subscription(1));
        assert!(joined.swept);
        let rename = || store.rename("web", "shop").wait();
        assert!(rename().expect("it is written"));
        assert!(!rename().expect("nothing is written"));
        let (first, again) = join(store, "shop", &subscription(1));
        assert!(!again.swept, "a new name is no new channel");
        let forget = || store.forget("shop").wait();
        assert!(
            !forget().expect("nothing is written"),
            "a live channel is not forgotten"
        );
        let retire = || store.retire("shop").wait().expect("it is written");
        retire();
        let remembered = Remembered {
            name: "shop".to_owned(),
            live: false,
            holding: 0,
        };
        assert_eq!(store.remembered(), [remembered]);
        let (_, returned) = join(store, "shop", &subscription(1));
        assert!(returned.swept, "who returns starts over");
        retire();
        assert!(forget().expect("it is written"));
        assert!(!forget().expect("nothing is written"));
        assert!(store.remembered().is_empty());
        let (new, _) = join(store, "shop", &subscription(1));
        let (mut of_first, mut of_new) = (Vec::new(), Vec::new());
        walk(&*first, Track::Sweep, 10, &mut of_first);
        walk(&*new, Track::Sweep, 10, &mut of_new);
        assert_eq!(
            (of_first.len(), of_new.len()),
            (0, 1),
            "the queue of a forgotten channel is never another channel's"
        );
    });
}

#[test]
fn refused_entities_keep_their_reason_until_they_are_redriven_or_dropped() {
    check(|subject| {
        let store = subject.store();
        put(store, "lamp", "price", Some("1"), None);
        put(store, "vase", "price", Some("1"), None);
        let (queue, _) = join(store, "shop", &subscription(1));
        let mut taken = Vec::new();
        walk(&*queue, Track::Sweep, 10, &mut taken);
        let refuse = |taken: &weir::inside::store::Lease| Settlement {
            ordinal: taken.ordinal,
            revision: taken.revision,
            ending: Ending::Refused(Failure::new("422", "The price is missing.")),
        };
        let ends: Vec<Settlement> = taken.iter().map(refuse).collect();
        queue.settle(&ends, &mut Vec::new());
        store.save(Timestamp(0)).wait().expect("it is written");
        subject.crash();
        let refused = queue.refused(None, 10);
        let reasons: Vec<_> = refused
            .iter()
            .map(|refused| (refused.id.key.to_string(), refused.failure.message.clone()))
            .collect();
        assert_eq!(
            reasons,
            [
                ("lamp".to_owned(), "The price is missing.".to_owned()),
                ("vase".to_owned(), "The price is missing.".to_owned())
            ]
        );
        assert_eq!(queue.redrive(&[refused[0].ordinal]).len(), 1);
        assert_eq!(
            queue
                .drop_refused(&[refused[1].ordinal])
                .wait()
                .expect("it is written"),
            1
        );
        assert!(queue.refused(None, 10).is_empty());
        assert_eq!(queue.owed().parked, 1);
        assert!(queue.retry(refused[0].ordinal).is_some());
    });
}

/// A table held states that somebody else had written with high sequences, and took none of Weir's.
#[test]
fn a_sequence_that_was_jumped_over_is_never_given_out() {
    check(|subject| {
        let store = subject.store();
        put(store, "lamp", "price", Some("1"), None);
        let head = *store.watermark().borrow();
        let above = Sequence(head.0 + 250_000);
        assert_eq!(store.jump(above).wait().expect("it is written"), head);
        assert_eq!(*store.watermark().borrow(), above);
        put(store, "lamp", "price", Some("2"), None);
        let next = *store.watermark().borrow();
        assert!(next > above);
        let back = store.jump(head).wait().expect("it is written");
        assert_eq!((back, *store.watermark().borrow()), (next, next));
        subject.crash();
        let store = subject.store();
        put(store, "lamp", "price", Some("3"), None);
        assert!(*store.watermark().borrow() > next);
    });
}
