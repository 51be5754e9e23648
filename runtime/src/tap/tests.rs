//! What taps take, what they leave out, and what they cost.

use std::time::Duration;

use super::story::{BodyStory, ChangeStory, DeliveryStory, EventStory};
use super::*;
use crate::model::Payload;

fn id(key: &str) -> EntityId {
    EntityId {
        entity_type: "product".into(),
        key: key.into(),
    }
}

fn wanted(per_second: u32) -> Wanted {
    Wanted {
        per_second,
        ..Wanted::default()
    }
}

/// A delivery whose rendering has this many bytes, before it is cut.
fn story(bytes: usize) -> Story {
    let body = Payload::Text("x".repeat(bytes));
    Story::Delivery(Box::new(DeliveryStory {
        rendering: Some(BodyStory::new(None, &body, true)),
        ..DeliveryStory::default()
    }))
}

fn point() -> Arc<Point> {
    Points::default().of(Side::Channel, &"shop".into())
}

#[test]
fn a_point_is_open_while_somebody_listens() {
    let points = Points::default();
    let (shop, of_source) = ("shop".into(), points.of(Side::Source, &"shop".into()));
    let point = points.of(Side::Channel, &shop);
    assert!(point.open().is_none());
    let first = point.listen(wanted(1));
    let second = points.of(Side::Channel, &shop).listen(wanted(1));
    assert!(
        of_source.open().is_none(),
        "a source of the same name is another"
    );
    drop(first);
    assert!(point.open().is_some());
    drop(second);
    assert!(point.open().is_none());
}

#[test]
fn only_what_is_wanted_is_told() {
    let point = point();
    let only = |key: Option<&str>, kind: Option<&str>, outcome: Option<&str>| Wanted {
        key: key.map(str::to_owned),
        kind: kind.map(str::to_owned),
        outcome: outcome.map(str::to_owned),
        ..wanted(100)
    };
    for (wanted, expected) in [
        (only(None, None, None), 4),
        (only(Some("lamp"), None, None), 2),
        (only(Some("lamp"), Some("product"), Some("refused")), 1),
        (only(Some("lamp"), Some("offer"), None), 0),
        (only(None, None, Some("delivered")), 2),
    ] {
        let listener = point.listen(wanted.clone());
        let open = point.open().expect("somebody listens");
        for key in ["lamp", "desk"] {
            for outcome in ["delivered", "refused"] {
                let id = id(key);
                open.offer(outcome, |wanted| wanted.is_of(&id), |_| story(1));
            }
        }
        let told = std::iter::from_fn(|| listener.next()).count();
        assert_eq!(told, expected, "{wanted:?}");
        assert_eq!(listener.figures().seen, expected as u64, "{wanted:?}");
    }
}

// A first form of such a tap copied everything and chose then: at 10,000 deliveries a second that was most of
// the work.
#[test]
fn nothing_is_made_of_what_is_not_taken() {
    let begin = Instant::now();
    let tap = Tap::new(wanted(3), begin);
    let mut made = 0;
    let mut offer = |ms: u64, count: usize| {
        for _ in 0..count {
            tap.offer(begin + Duration::from_millis(ms), || {
                made += 1;
                story(1)
            });
        }
    };
    offer(0, 1_000);
    offer(333, 1_000);
    offer(334, 1_000);
    offer(100_000, 1_000);
    assert_eq!(
        made,
        3 + 1 + 3,
        "at most three a second, and none is saved up"
    );
    let state = lock(&tap.state);
    let figures = Figures {
        seen: 4_000,
        skipped: 4_000 - 7,
        dropped: 0,
    };
    assert_eq!(state.figures, figures);
    let gaps: Vec<u64> = state.items.iter().map(|(gap, _)| *gap).collect();
    assert_eq!(gaps, [0, 0, 0, 997 + 1_000, 999, 0, 0]);
}

#[test]
fn who_does_not_read_costs_a_fixed_memory_and_learns_what_is_missing() {
    for bytes in [1, 1 << 20] {
        let point = point();
        let listener = point.listen(wanted(1_000_000));
        let open = point.open().expect("somebody listens");
        for _ in 0..1_000 {
            open.offer("delivered", |_| true, |_| story(bytes));
        }
        let held = {
            let state = lock(&listener.tap.state);
            let held: usize = state.items.iter().map(|(_, story)| story.bytes()).sum();
            assert_eq!(held, state.bytes);
            assert!(state.items.len() <= ITEMS_MAX);
            held
        };
        assert!(held <= BYTES_MAX + (100 << 10), "{held}");
        let told = std::iter::from_fn(|| listener.next()).count() as u64;
        assert_eq!(listener.figures().dropped, 1_000 - told, "{bytes}");
        open.offer("delivered", |_| true, |_| story(1));
        let (gap, _) = listener.next().expect("there is place again");
        assert_eq!(gap, 1_000 - told);
    }
}

#[test]
fn a_story_has_a_bounded_size() {
    let long = "ä".repeat(1 << 20);
    let body = BodyStory::new(Some(&long), &Payload::Text(long.clone()), false);
    assert!(body.cut && body.bytes == 2 << 20);
    assert_eq!(body.text.as_deref().map(str::len), Some(2 << 10));
    let bytes = BodyStory::new(None, &Payload::Binary(vec![0xff; 1 << 20]), true);
    assert!(bytes.cut && bytes.text.is_none());
    let change = || ChangeStory::new(&id("lamp"), "content", "normal", None, Some(&long), true);
    let changes = [(); 4_096];
    let event = EventStory::default().with_changes(changes.iter().map(|()| change()));
    assert_eq!(event.changes_total, Some(4_096));
    assert!(
        event
            .changes
            .iter()
            .all(|it| it.value.as_ref().is_some_and(|it| it.cut))
    );
    let size = serde_json::to_string(&event).expect("JSON").len();
    assert!(size < 128 << 10, "{size}");
}

#[test]
fn a_beginning_that_ends_within_a_character_is_text() {
    let text = "ää".as_bytes();
    let shown = BodyStory::beginning(None, &text[..3], 4, true);
    assert_eq!((shown.text.as_deref(), shown.cut), (Some("ä"), true));
    let bytes = BodyStory::beginning(None, &[0xff, 0xfe], 2, false);
    assert_eq!((bytes.text, bytes.base64.as_deref()), (None, Some("//4=")));
}
