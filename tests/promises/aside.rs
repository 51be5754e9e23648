//! The quarantine of every store: what is set aside is kept, counted and redriven.

use weir::inside::model::{Arrival, Event, Failure, Lane, Payload, Redrive, Sequence};
use weir::inside::store::{Commit, Effect, Limits, NoRoom, Quarantined, Verdict};

use crate::contract::{change, check, event, identity, put, value};
use crate::world::commit_all;

pub fn aside(code: &str) -> Effect {
    let event = Event {
        id: "1".into(),
        origin: "/erp".into(),
        event_type: "price".into(),
        subject: Some(code.into()),
        time: Some("2026-11-23T08:00:00Z".into()),
        content_type: Some("application/xml".into()),
        attributes: vec![("x-sap-client".into(), "100".into())],
        trace: None,
        data: Payload::Binary(vec![0, 159, 146, 150]),
    };
    let failure = Failure::new(code, "It is not what was agreed.");
    Effect::Quarantine(Box::new(Quarantined {
        event,
        unread: false,
        whole: true,
        arrived: Some(Sequence(3)),
        lane: Some(Lane::Bulk),
        failure,
        plugin: Some("erp@3fa9c1b2d0e4".into()),
    }))
}

/// A file with bad rows is sent each night. Its rows filled the quarantine, again with each night.
#[test]
fn an_event_that_arrives_again_is_kept_once_as_its_last_arrival() {
    check(|subject| {
        let store = subject.store();
        store.limit(Limits {
            entities_max: Vec::new(),
            quarantine_max: 2,
            forget_ms: 0,
        });
        let sent = |id: u128, code: &str| Commit {
            source: "erp".into(),
            identity: Some(identity(id, 5)),
            arrival: None,
            effect: aside(code),
        };
        let list = || {
            let events = store.shelf("erp").list(None, 10).expect("it can be read");
            let seen = events.into_iter().map(|event| {
                let subject = event.event.event.subject.unwrap_or_default();
                (event.sequence, subject, event.count)
            });
            seen.collect::<Vec<_>>()
        };
        commit_all(store, vec![sent(1, "one"), sent(2, "two"), sent(3, "one")]);
        subject.crash();
        let third = commit_all(store, vec![sent(4, "one"), sent(5, "three")]).verdicts;
        let [
            Verdict::Quarantined(last),
            Verdict::NoRoom(NoRoom::Quarantine),
        ] = third[..]
        else {
            panic!("{third:?}")
        };
        let [(two, _, 1), (_, _, 3)] = &list()[..] else {
            panic!("{:?}", list())
        };
        assert_eq!(list()[1], (last, "one".into(), 3));
        assert!(
            *two < last,
            "its last arrival is newer than what came in between"
        );

        // A redrive fails: the count stays. It fails late, when the event has arrived once more.
        let failed = |arrival| Commit {
            arrival: Some(Arrival::of(arrival)),
            ..sent(4, "one")
        };
        let again = commit_all(store, vec![failed(last), sent(6, "one"), failed(last)]).verdicts;
        subject.crash();
        let [
            Verdict::Quarantined(same),
            Verdict::Quarantined(moved),
            Verdict::Quarantined(kept),
        ] = again[..]
        else {
            panic!("{again:?}")
        };
        assert!(same == last && moved > last && kept == moved, "{again:?}");
        assert_eq!(list()[1], (moved, "one".into(), 4));

        // Discarding forgets the id of the last arrival.
        let shelf = store.shelf("erp");
        assert_eq!(shelf.discard(&[last, moved]).wait().expect("written"), 1);
        assert_eq!((list().len(), shelf.count()), (1, 1));
        let again = commit_all(store, vec![sent(6, "one"), sent(4, "one")]).verdicts;
        assert!(
            matches!(again[..], [Verdict::Quarantined(_), Verdict::Repeated]),
            "{again:?}"
        );
        assert_eq!(list()[1].2, 1, "it is counted anew");
    });
}

#[test]
fn what_is_set_aside_comes_back_as_it_was_and_loses_against_what_is_newer() {
    check(|subject| {
        let store = subject.store();
        store.limit(Limits {
            entities_max: Vec::new(),
            quarantine_max: 2,
            forget_ms: 0,
        });
        let set_aside = |code: &str| Commit {
            source: "erp".into(),
            identity: None,
            arrival: None,
            effect: aside(code),
        };
        let first = commit_all(
            store,
            vec![set_aside("one"), set_aside("two"), set_aside("three")],
        )
        .verdicts;
        let [
            Verdict::Quarantined(one),
            Verdict::Quarantined(two),
            Verdict::NoRoom(NoRoom::Quarantine),
        ] = first[..]
        else {
            panic!("{first:?}")
        };
        subject.crash();
        let there = store.shelf("erp").list(None, 10).expect("it can be read");
        let Effect::Quarantine(expected) = aside("one") else {
            unreachable!("it was just made")
        };
        assert_eq!(
            (there.len(), there[0].sequence, &there[0].event),
            (2, one, &*expected)
        );
        assert_eq!(
            store
                .shelf("erp")
                .list(Some(one), 10)
                .expect("it can be read")[0]
                .sequence,
            two
        );
        let get = |sequence| store.shelf("erp").get(sequence).expect("it can be read");
        assert_eq!(get(two).map(|event| event.sequence), Some(two));
        assert_eq!(get(Sequence(999)), None);
        assert_eq!(
            (store.shelf("erp").count(), store.shelf("pim").count()),
            (2, 0)
        );

        put(store, "lamp", "price", Some("2"), None);
        let changes = vec![
            change("lamp", "price", Some("1"), None),
            change("lamp", "stock", Some("5"), None),
        ];
        let redriven = commit_all(
            store,
            vec![Commit {
                arrival: Some(Arrival::of(one)),
                ..event(changes)
            }],
        )
        .verdicts;
        assert!(
            matches!(
                redriven[..],
                [Verdict::Accepted {
                    committed: 1,
                    unchanged: 0,
                    stale: 1,
                    ..
                }]
            ),
            "{redriven:?}"
        );
        let again = Commit {
            arrival: Some(Arrival::of(two)),
            ..set_aside("four")
        };
        assert_eq!(
            commit_all(store, vec![again]).verdicts,
            [Verdict::Quarantined(two)],
            "what fails again stays under its number"
        );
        assert_eq!(
            store
                .shelf("erp")
                .remove(&[one, Sequence(999)])
                .wait()
                .expect("it is written"),
            1
        );
        let left = store.shelf("erp").list(None, 10).expect("it can be read");
        assert_eq!(
            (
                left.len(),
                &*left[0].event.failure.code,
                store.shelf("erp").count()
            ),
            (1, "four", 1)
        );
    });
}

/// Two prices of a product were redriven together, and the older one stayed: it had been written a moment before,
/// so the newer one counted as overtaken.
#[test]
fn of_events_redriven_together_the_one_that_arrived_last_counts() {
    check(|subject| {
        let store = subject.store();
        let head = commit_all(
            store,
            vec![event(vec![change("lamp", "price", Some("1"), None)])],
        );
        let (early, late) = (head.sequence, Sequence(head.sequence.0 + 1));
        // Takes the sequence `late`, as an event does that is quarantined.
        put(store, "bowl", "price", Some("1"), None);
        put(store, "lamp", "stock", Some("9"), None);
        let redrive = Redrive::default();
        let redriven = |arrived, facet: &str, value: &str| Commit {
            arrival: Some(Arrival {
                sequence: arrived,
                place: None,
                redrive: redrive.clone(),
            }),
            ..event(vec![change("lamp", facet, Some(value), None)])
        };
        let stale = |commit: Commit| match commit_all(store, vec![commit]).verdicts[..] {
            [Verdict::Accepted { stale, .. }] => stale == 1,
            ref other => panic!("{other:?}"),
        };
        assert!(!stale(redriven(late, "price", "2")));
        assert!(
            !stale(redriven(late, "price", "3")),
            "they arrived together"
        );
        assert!(
            stale(redriven(early, "price", "4")),
            "this one arrived before"
        );
        assert!(
            stale(redriven(late, "stock", "5")),
            "this one was overtaken"
        );
        let alone = Commit {
            arrival: Some(Arrival::of(late)),
            ..event(vec![change("lamp", "price", Some("6"), None)])
        };
        assert!(stale(alone), "another redrive has changed it since");
        assert_eq!(value(store, "lamp", "price").as_deref(), Some("3"));
        assert_eq!(value(store, "lamp", "stock").as_deref(), Some("9"));
    });
}

/// Regression: a redriven event failed again with a shorter reason, and the end of the longer one
/// remained after it, so that the source's quarantine could no longer be read.
#[test]
fn what_fails_again_for_a_shorter_reason_can_still_be_read() {
    check(|subject| {
        let store = subject.store();
        store.limit(Limits {
            entities_max: Vec::new(),
            quarantine_max: 2,
            forget_ms: 0,
        });
        let set_aside = |reason: usize, arrival| {
            let Effect::Quarantine(mut aside) = aside("long") else {
                unreachable!("it was just made")
            };
            aside.failure.message = "x".repeat(reason);
            Commit {
                source: "erp".into(),
                identity: None,
                arrival,
                effect: Effect::Quarantine(aside),
            }
        };
        let [Verdict::Quarantined(arrival)] =
            commit_all(store, vec![set_aside(50_000, None)]).verdicts[..]
        else {
            panic!("set aside")
        };
        commit_all(
            store,
            vec![
                set_aside(40_000, Some(Arrival::of(arrival))),
                set_aside(10, Some(Arrival::of(arrival))),
            ],
        );
        subject.crash();
        let there = store.shelf("erp").list(None, 10).expect("it can be read");
        assert_eq!(
            (
                there.len(),
                there[0].event.failure.message.len(),
                store.shelf("erp").count()
            ),
            (1, 10, 1)
        );
    });
}
