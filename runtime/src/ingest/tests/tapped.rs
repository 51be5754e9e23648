//! What taps on a source are told.

use super::*;
use crate::happenings::Happenings;
use crate::tap::story::{EVENT_OUTCOMES, EventStory, Story};
use crate::tap::{Listener, Side, Wanted};

/// A source that is tapped.
fn tapped(options: Options, chain: Option<Arc<dyn Mapping>>, wanted: Wanted) -> (Source, Listener) {
    let happenings: Arc<Happenings> = Arc::default();
    let name = options.name.clone();
    let activity = Activity::default();
    activity.record_with(happenings.recorder(Side::Source, &name).expect("few"));
    let listener = happenings.point(Side::Source, &name).listen(wanted);
    let (types, activity) = (Arc::new(types()), Arc::new(activity));
    (
        Source::new(options, chain, types, memory(), activity),
        listener,
    )
}

fn all() -> Wanted {
    Wanted {
        per_second: 1_000,
        ..Wanted::default()
    }
}

fn told(listener: &Listener) -> Vec<EventStory> {
    let stories = std::iter::from_fn(|| listener.next());
    let event = |(_, story): (u64, Story)| match story {
        Story::Event(story) => *story,
        Story::Delivery(delivery) => panic!("a source delivers nothing: {delivery:?}"),
    };
    stories.map(event).collect()
}

/// The outcome, the code of the reason, the data of the event, and the facets that it changes.
fn line(story: &EventStory) -> String {
    assert!(
        EVENT_OUTCOMES.contains(&&*story.outcome),
        "{}",
        story.outcome
    );
    let code = story.why.as_ref().map_or("", |why| why.code.as_str());
    let data = story
        .event
        .as_ref()
        .and_then(|event| event.data.text.clone());
    let facets: Vec<&str> = story.changes.iter().map(|it| it.facet.as_str()).collect();
    let line = format!(
        "{} {code} `{}` {}",
        story.outcome,
        data.unwrap_or_default(),
        facets.join(",")
    );
    line.trim_end().to_owned()
}

struct Mapper;

impl Mapping for Mapper {
    fn map<'a>(
        &'a self,
        events: Arc<Vec<Event>>,
        range: Range<usize>,
        _: &'a Arc<Room>,
    ) -> Verdicts<'a> {
        let change = |facet: &str, value: &str| Change {
            entity_type: "product".into(),
            key: "4711".into(),
            facet: facet.into(),
            value: Some(value.into()),
            version: Some(7),
            lane: None,
        };
        let verdict = move |event: &Event| match text(event) {
            "noise" => EventVerdict::Filtered("erp-noise".into()),
            "nothing" => EventVerdict::Changes(Vec::new()),
            "foreign" => EventVerdict::Changes(vec![change("content", "1")]),
            "broken" => failed("erp@2", Failure::new("trap", "it divided by zero")),
            value => EventVerdict::Changes(vec![change("stock", value), change("price.de", value)]),
        };
        Box::pin(async move { events[range].iter().map(verdict).collect() })
    }

    fn stages(&self) -> Vec<(Arc<str>, Role)> {
        vec![
            ("erp-noise@1".into(), Role::EventFilter),
            ("erp@2".into(), Role::Mapper),
        ]
    }
}

fn lines() -> Options {
    Options {
        split: split::Split::Lines,
        ..options()
    }
}

#[tokio::test]
async fn each_event_is_told_with_what_plugins_rules_and_store_made_of_it() {
    let (source, listener) = tapped(lines(), Some(Arc::new(Mapper)), all());
    let body = "noise\nnothing\nforeign\nbroken\n5\n5";
    post(&source, "text/plain", body)
        .await
        .expect("it is taken");
    let told = told(&listener);
    assert_eq!(
        told.iter().map(line).collect::<Vec<_>>(),
        [
            "filtered filter `noise`",
            "filtered no-changes `nothing`",
            "quarantined foreign `foreign`",
            "quarantined trap `broken`",
            "changed  `5` stock,price.de",
            "unchanged  `5` stock,price.de",
        ]
    );
    let plugins = |at: usize| {
        let plugins = told[at].plugins.iter();
        let shown = plugins.map(|it| format!("{} {} {}", it.plugin, it.role, it.verdict));
        shown.collect::<Vec<_>>().join(", ")
    };
    let passed = "erp-noise@1 event-filter passed, erp@2 mapper";
    assert_eq!(plugins(0), "erp-noise@1 event-filter dropped");
    assert_eq!(plugins(1), format!("{passed} nothing"));
    assert_eq!(
        plugins(2),
        format!("{passed} mapped"),
        "the rules refused it"
    );
    assert_eq!(plugins(3), format!("{passed} failed"));
    assert_eq!(plugins(4), format!("{passed} mapped"));
    let store = told[4].store.as_ref().expect("it was accepted");
    assert_eq!((store.committed, store.unchanged, store.stale), (2, 0, 0));
    assert_eq!(told[4].changes[0].version.as_deref(), Some("7"));
    assert_eq!(told[4].changes[0].lane, "normal");
    // In the next request it is not new either.
    post(&source, "text/plain", "5").await.expect("it is taken");
    assert_eq!(self::told(&listener)[0].outcome, "unchanged");
}

// Whoever redrove events, and looked on to see what became of them, saw nothing.
#[tokio::test]
async fn a_redriven_event_is_told_like_one_that_has_just_come() {
    let (source, listener) = tapped(lines(), Some(Arc::new(Mapper)), all());
    let body = "broken\nforeign";
    post(&source, "text/plain", body).await.expect("taken");
    let came = told(&listener);
    assert!(came.iter().all(|it| !it.redriven), "{came:?}");
    let kept = quarantined(&*source.store);
    let done = source.redrive(kept).await.expect("tried");
    assert_eq!(done.events.quarantined, 2);
    let again = told(&listener);
    assert!(again.iter().all(|it| it.redriven), "{again:?}");
    let shown = |stories: &[EventStory]| stories.iter().map(line).collect::<Vec<_>>();
    assert_eq!(shown(&again), shown(&came));
    assert_eq!(again[0].plugins, came[0].plugins);

    // What could not be read, too.
    let (source, listener) = tapped(lines(), None, all());
    let fine = r#"{"type":"product","key":"1","facet":"stock","value":1}"#;
    post(&source, "application/x-ndjson", format!("{fine}\n{{half"))
        .await
        .expect("taken in part");
    assert_eq!(told(&listener).len(), 2);
    let kept = quarantined(&*source.store);
    source.redrive(kept).await.expect("tried");
    let again = told(&listener);
    assert_eq!(again.len(), 1, "{again:?}");
    assert_eq!(again[0].outcome, "quarantined");
    let event = again[0].event.as_ref().expect("its bytes");
    assert_eq!(event.data.text.as_deref(), Some("{half"));
}

#[tokio::test]
async fn a_tap_is_told_of_the_key_the_type_or_the_outcome_that_it_wants() {
    let by = |key: Option<&str>, kind: Option<&str>, outcome: Option<&str>| Wanted {
        key: key.map(str::to_owned),
        kind: kind.map(str::to_owned),
        outcome: outcome.map(str::to_owned),
        ..all()
    };
    for (wanted, expected) in [
        (by(Some("4711"), None, None), 2),
        (by(Some("4712"), None, None), 0),
        (by(None, Some("product"), None), 2),
        (by(None, None, Some("quarantined")), 1),
        (by(Some("4711"), Some("product"), Some("unchanged")), 1),
    ] {
        let (source, listener) = tapped(lines(), Some(Arc::new(Mapper)), wanted.clone());
        post(&source, "text/plain", "noise\nbroken\n5\n5")
            .await
            .expect("taken");
        assert_eq!(told(&listener).len(), expected, "{wanted:?}");
    }
}

#[tokio::test]
async fn what_is_rejected_is_told_without_the_data_of_a_stranger() {
    let verify = verify::Options::Bearer {
        tokens: vec![crate::signature::Secret(b"the token".to_vec())],
    };
    let (source, listener) = tapped(
        Options {
            verify,
            ..options()
        },
        None,
        all(),
    );
    let refused = post(&source, "application/json", "{\"who\": \"am I\"}").await;
    assert!(
        matches!(refused, Err(Rejection::NotVerified(_))),
        "{refused:?}"
    );
    let told = told(&listener);
    assert_eq!(
        told.iter().map(line).collect::<Vec<_>>(),
        ["rejected not-verified ``"]
    );
    assert!(told[0].event.is_none());
}

#[tokio::test]
async fn an_item_that_cannot_be_read_is_told_as_its_bytes() {
    let (source, listener) = tapped(lines(), None, all());
    let fine = r#"{"type":"product","key":"1","facet":"stock","value":1}"#;
    post(&source, "application/x-ndjson", format!("{fine}\n{{half"))
        .await
        .expect("taken in part");
    let told = told(&listener);
    assert_eq!(told.len(), 2);
    assert_eq!(line(&told[0]), format!("changed  `{fine}` stock"));
    assert_eq!(told[1].outcome, "quarantined");
    let event = told[1].event.as_ref().expect("its bytes");
    assert_eq!(event.data.text.as_deref(), Some("{half"));
}
