//! Tests of whole requests against the store that is the specification.

mod bodies;
mod challenged;
mod identities;
mod redriven;
mod tapped;

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use bytes::Bytes;
use expect_test::{Expect, expect};
use tokio::sync::watch;

use super::*;
use crate::app;
use crate::budget::{Budget, Reservation};
use crate::model::{
    Change, Entity, EntityId, EntityType, FacetRule, Lane, Ordinal, Payload, Sequence, Timestamp,
};
use crate::plugin::Failed;
use crate::server::views::Accepted;
use crate::server::{IngestRequest, TYPE_PREFIX};
use crate::store::memory::Memory;
use crate::store::{
    self, BackedUp, Commit, Limits, ListQuery, NotTaken, Pending, Queue, Receipt, Shelf, Store,
};

const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// The entity type product with content (pim), prices and stock (erp); at most 3 products.
fn types() -> BTreeMap<Arc<str>, EntityType> {
    let rule = |pattern: &str, owner: &str| FacetRule {
        pattern: pattern.into(),
        owner: owner.into(),
        lane: Lane::Normal,
    };
    let facets = vec![
        rule("content", "pim"),
        rule("price.*", "erp"),
        rule("stock", "erp"),
    ];
    BTreeMap::from([(
        "product".into(),
        EntityType {
            name: "product".into(),
            facets,
            facet_bytes_max: 1000,
            entities_max: 3,
        },
    )])
}

fn memory() -> Arc<Memory> {
    let store = Arc::new(Memory::default());
    store.limit(Limits {
        entities_max: vec![("product".into(), 3)],
        quarantine_max: 3,
        forget_ms: 1000,
    });
    store
}

fn options() -> Options {
    Options {
        name: "erp-conditions".into(),
        owner: "erp".into(),
        split: split::Split::Whole,
        headers: Vec::new(),
        naming: naming::Naming::default(),
        verify: verify::Options::None,
        handshake: None,
        quiet: None,
        body_bytes_max: 200_000,
        encoding: None,
        form: form::Form::default(),
        unreadable: false,
    }
}

fn preset_of(name: &str) -> verify::presets::Preset {
    verify::presets::named(name).expect("a preset")
}

fn source(store: Arc<dyn Store>, chain: Option<Arc<dyn Mapping>>) -> Source {
    source_of(options(), store, chain)
}

fn source_of(options: Options, store: Arc<dyn Store>, chain: Option<Arc<dyn Mapping>>) -> Source {
    Source::new(options, chain, Arc::new(types()), store, Arc::default())
}

/// A chain that calls a function.
struct Chain<F>(F);

impl<F: Fn(&Event) -> Option<EventVerdict> + Send + Sync> Mapping for Chain<F> {
    fn map<'a>(
        &'a self,
        events: Arc<Vec<Event>>,
        range: Range<usize>,
        _: &'a Arc<Room>,
    ) -> Verdicts<'a> {
        Box::pin(async move { events[range].iter().filter_map(&self.0).collect() })
    }
}

fn chain(
    verdict: impl Fn(&Event) -> Option<EventVerdict> + Send + Sync + 'static,
) -> Option<Arc<dyn Mapping>> {
    Some(Arc::new(Chain(verdict)))
}

fn failed(plugin: &str, failure: Failure) -> EventVerdict {
    EventVerdict::Failed(Failed {
        plugin: plugin.into(),
        failure,
        fault: true,
    })
}

fn text(event: &Event) -> &str {
    std::str::from_utf8(event.data.as_bytes()).unwrap()
}

/// Memory for one request, from a separate budget.
fn memory_for_one() -> Reservation {
    Budget::new(256 << 20).reservation("erp")
}

fn incoming(content_type: &str, body: impl Into<Bytes>) -> Incoming {
    Incoming {
        headers: Headers::from_iter([("content-type", content_type)]),
        body: body.into(),
        lane: None,
        receipt: false,
        now: NOW,
        memory: memory_for_one(),
    }
}

async fn post(
    source: &Source,
    content_type: &str,
    body: impl Into<Bytes>,
) -> Result<Summary, Rejection> {
    source.accept(incoming(content_type, body)).await
}

/// The response of a source over HTTP, as its sender gets it.
async fn check(source: &Source, content_type: &str, body: impl Into<Bytes>, expected: Expect) {
    let request = incoming(content_type, body);
    let answer = answer(source, content_type, request.body, request.memory).await;
    expected.assert_eq(&answer);
}

async fn answer(source: &Source, content_type: &str, body: Bytes, memory: Reservation) -> String {
    let content_type = (CONTENT_TYPE, content_type.parse().unwrap());
    let request = IngestRequest {
        target: "/v1/sources/erp-conditions/events".into(),
        headers: HeaderMap::from_iter([content_type]),
        body,
        lane: None,
        receipt: false,
        memory,
    };
    let problem = match app::intake::take(source, request, NOW).await {
        Ok(accepted) => return format!("202 {}\n", serde_json::to_string(&accepted).unwrap()),
        Err(problem) => problem.into_response(),
    };
    let status = problem.status().as_u16();
    let body = axum::body::to_bytes(problem.into_body(), usize::MAX).await;
    let mut body: serde_json::Value = serde_json::from_slice(&body.unwrap()).unwrap();
    let taken = match body["taken"].take() {
        serde_json::Value::Null => String::new(),
        taken => {
            let taken: Accepted = serde_json::from_value(taken).unwrap();
            let listed = serde_json::to_value(&taken.problems).unwrap();
            let none = taken.problems.is_empty();
            assert!(body["problems"] == listed || none, "{body}");
            format!(" {}", serde_json::to_string(&taken).unwrap())
        }
    };
    let code = body["type"]
        .as_str()
        .unwrap()
        .trim_start_matches(TYPE_PREFIX);
    format!(
        "{status} {code}: {}{taken}\n",
        body["detail"].as_str().unwrap()
    )
}

fn change(key: &str, facet: &str, value: &str) -> String {
    format!(r#"{{"type":"product","key":"{key}","facet":"{facet}","value":{value}}}"#)
}

fn value(store: &dyn Store, key: &str, facet: &str) -> Option<String> {
    let id = EntityId {
        entity_type: "product".into(),
        key: key.into(),
    };
    let entity = store.read(&[store.find(&id)?]).unwrap().remove(0)?;
    entity
        .facets
        .iter()
        .find(|stored| &*stored.name == facet)?
        .value
        .as_deref()
        .map(str::to_owned)
}

/// The sequences of all events in quarantine.
fn quarantined(store: &dyn Store) -> Vec<Sequence> {
    let kept = store.shelf("erp-conditions").list(None, 99).unwrap();
    kept.into_iter().map(|event| event.sequence).collect()
}

const NDJSON: &str = "application/x-ndjson";
const JSON: &str = "application/json";

#[tokio::test]
async fn a_source_without_plugins_takes_changes_as_they_are() {
    let store = memory();
    let source = source(store.clone(), None);
    let body = [
        change("1", "price.de", "1.10"),
        change("1", "stock", "7"),
        change("1", "price.de", "1.10"),
    ]
    .join("\n");
    check(&source, NDJSON, body, expect![[r#"
        202 {"events":{"accepted":3,"filtered":0,"quarantined":0,"repeated":0},"changes":{"committed":2,"unchanged":1,"stale":0},"problems":[],"sequence":2}
    "#]])
    .await;
    assert_eq!(
        value(&*store, "1", "price.de").as_deref(),
        Some("1.10"),
        "as it was written"
    );
    check(&source, JSON, format!("[{},{}]", change("2", "stock", "1"), change("1", "stock", "8")), expect![[r#"
        202 {"events":{"accepted":1,"filtered":0,"quarantined":0,"repeated":0},"changes":{"committed":2,"unchanged":0,"stale":0},"problems":[],"sequence":4}
    "#]])
    .await;
    check(&source, "application/cloudevents-batch+json", "[]", expect![[r#"
        202 {"events":{"accepted":0,"filtered":0,"quarantined":0,"repeated":0},"changes":{"committed":0,"unchanged":0,"stale":0},"problems":[],"sequence":4}
    "#]])
    .await;
}

#[tokio::test]
async fn versions_decide_what_is_newer() {
    let source = source(memory(), None);
    let written = |value: &str, version: &str| {
        format!(r#"{{"type":"product","key":"1","facet":"stock",{value}{version}}}"#)
    };
    let body = [
        written(r#""value":1"#, r#","version":5"#),
        written(r#""value":2"#, r#","version":4"#),
        written(r#""deleted":true"#, r#","version":"6""#),
        written(r#""value":3"#, r#","version":5"#),
        written(r#""value":4"#, ""),
    ];
    check(&source, NDJSON, body.join("\n"), expect![[r#"
        202 {"events":{"accepted":5,"filtered":0,"quarantined":0,"repeated":0},"changes":{"committed":3,"unchanged":0,"stale":2},"problems":[],"sequence":3}
    "#]])
    .await;
}

#[tokio::test]
async fn what_may_not_be_written_is_set_aside_and_the_rest_goes_on() {
    let store = memory();
    let source = source(store.clone(), None);
    let body = [
        change("1", "stock", "1"),
        change("1", "content", "{}"),
        "oops".into(),
        change("", "stock", "1"),
        change("2", "stock", "2"),
    ];
    check(&source, NDJSON, body.join("\n"), expect![[r#"
        202 {"events":{"accepted":2,"filtered":0,"quarantined":3,"repeated":0},"changes":{"committed":2,"unchanged":0,"stale":0},"problems":[{"index":1,"code":"foreign","detail":"facet `content` of product/1 is written by `pim`; source `erp-conditions` writes for `erp` (see `owner` of the facet and of the source)"},{"index":2,"code":"invalid-json","detail":"expected value at line 1 column 1 (this source has no mapper, so its events are changes as JSON)"},{"index":3,"code":"key","detail":"a key has 1 to 1024 bytes, this one has 0; is it a payload in the wrong field?"}],"sequence":5}
    "#]])
    .await;
    let kept = store.shelf("erp-conditions").list(None, 9).unwrap();
    assert_eq!(
        kept.iter()
            .map(|kept| kept.event.failure.code.as_str())
            .collect::<Vec<_>>(),
        ["foreign", "key", "invalid-json"]
    );
    assert_eq!(source.quarantined(), 3);
    let counts = source.activity().counts();
    assert_eq!(
        (
            counts.events.accepted,
            counts.events.quarantined,
            counts.malformed
        ),
        (2, 3, 0)
    );
    assert_eq!(counts.last_event, Some(NOW));
    assert_eq!(source.activity().samples().len(), 4);
}

#[tokio::test]
async fn plugins_filter_map_and_fail_one_by_one() {
    let source = source(
        memory(),
        chain(|event| {
            let change = |facet: &str, value: &str| Change {
                entity_type: "product".into(),
                key: "1".into(),
                facet: facet.into(),
                value: Some(value.into()),
                version: None,
                lane: None,
            };
            Some(match text(event) {
                "filter" => EventVerdict::Filtered("erp-noise".into()),
                "nothing" => EventVerdict::Changes(Vec::new()),
                "two" => EventVerdict::Changes(vec![change("stock", "1"), change("price.de", "2")]),
                "half" => EventVerdict::Changes(vec![change("stock", "5"), change("content", "5")]),
                "broken" => EventVerdict::Changes(vec![change("stock", "{")]),
                "pass" => EventVerdict::Passed,
                _ => failed(
                    "erp@3fa9c1b2d0e4",
                    Failure::new("trap", "it divided by zero"),
                ),
            })
        }),
    );
    let source = Source::new(
        Options {
            split: split::Split::Lines,
            ..options()
        },
        source.chain,
        source.types,
        source.store,
        Arc::default(),
    );
    check(&source, "text/plain", "filter\nnothing\ntwo\nhalf\nfail", expect![[r#"
        202 {"events":{"accepted":1,"filtered":2,"quarantined":2,"repeated":0},"changes":{"committed":2,"unchanged":0,"stale":0},"problems":[{"index":3,"code":"foreign","detail":"facet `content` of product/1 is written by `pim`; source `erp-conditions` writes for `erp` (see `owner` of the facet and of the source)"},{"index":4,"code":"trap","detail":"erp@3fa9c1b2d0e4: it divided by zero"}],"sequence":4}
    "#]])
    .await;
    assert_eq!(
        value(&*source.store, "1", "stock").as_deref(),
        Some("1"),
        "all or nothing of `half`"
    );
    check(&source, "text/plain", "broken", expect![[r#"
        202 {"events":{"accepted":0,"filtered":0,"quarantined":1,"repeated":0},"changes":{"committed":0,"unchanged":0,"stale":0},"problems":[{"index":0,"code":"invalid-json","detail":"the value of facet `stock`: EOF while parsing an object at line 1 column 1"}],"sequence":5}
    "#]])
    .await;
}

#[tokio::test]
async fn no_event_is_lost_by_a_chain_that_forgets_one() {
    let source = source(
        memory(),
        chain(|event| (text(event) == "{}").then(|| EventVerdict::Changes(Vec::new()))),
    );
    check(&source, NDJSON, "{}\n[]", expect![[r#"
        202 {"events":{"accepted":0,"filtered":1,"quarantined":1,"repeated":0},"changes":{"committed":0,"unchanged":0,"stale":0},"problems":[{"index":1,"code":"no-verdict","detail":"the plugins gave no verdict on this event"}],"sequence":1}
    "#]])
    .await;
}

#[tokio::test]
async fn limits_are_answered_with_what_was_taken_all_the_same() {
    let source = source(memory(), None);
    let body = ["1", "2", "3", "4"]
        .map(|key| change(key, "stock", "1"))
        .join("\n");
    check(&source, NDJSON, body, expect![[r#"
        507 no-room: an entity type has `entities_max` entities and the request brings new keys; the problems say which events {"events":{"accepted":3,"filtered":0,"quarantined":0,"repeated":0},"changes":{"committed":3,"unchanged":0,"stale":0},"problems":[{"index":3,"code":"no-room","detail":"its type has `entities_max` entities and this key is new"}],"sequence":3}
    "#]])
    .await;
    let body = ["{}", "[{}]", "{ }", "{  }"].join("\n");
    check(&source, NDJSON, body, expect![[r#"
        503 quarantine-full: the quarantine of this source is full; an operator must redrive or drop events before it takes failing ones again {"events":{"accepted":0,"filtered":0,"quarantined":3,"repeated":0},"changes":{"committed":0,"unchanged":0,"stale":0},"problems":[{"index":0,"code":"not-a-change","detail":"missing field `type` at line 1 column 2; a change is {\"type\", \"key\", \"facet\", \"value\" or \"deleted\": true, \"version\"?, \"lane\"?}"},{"index":1,"code":"not-a-change","detail":"missing field `type` at line 1 column 3; a change is {\"type\", \"key\", \"facet\", \"value\" or \"deleted\": true, \"version\"?, \"lane\"?}"},{"index":2,"code":"not-a-change","detail":"missing field `type` at line 1 column 3; a change is {\"type\", \"key\", \"facet\", \"value\" or \"deleted\": true, \"version\"?, \"lane\"?}"},{"index":3,"code":"quarantine-full","detail":"not kept, the quarantine is full: missing field `type` at line 1 column 4; a change is {\"type\", \"key\", \"facet\", \"value\" or \"deleted\": true, \"version\"?, \"lane\"?}"}],"sequence":6}
    "#]])
    .await;
}

#[tokio::test]
async fn an_entity_with_too_many_facets_sets_the_event_aside() {
    let source = source(memory(), None);
    let many: Vec<String> = (0..513)
        .map(|n| change("1", &format!("price.{n}"), "1"))
        .collect();
    let body = [
        change("2", "stock", "1"),
        format!("[{}]", many.join(",")),
        change("2", "stock", "2"),
    ]
    .join("\n");
    check(&source, NDJSON, body, expect![[r#"
        202 {"events":{"accepted":2,"filtered":0,"quarantined":1,"repeated":0},"changes":{"committed":2,"unchanged":0,"stale":0},"problems":[{"index":1,"code":"too-many-facets","detail":"an entity has at most 512 facets, deleted ones included until every channel has delivered their deletion; redrive the event then, or delete facets that nobody needs"}],"sequence":3}
    "#]])
    .await;
    assert_eq!(value(&*source.store, "1", "price.0"), None);
}

#[tokio::test]
async fn a_request_of_many_events_keeps_their_order_and_tells_few_problems() {
    let store = memory();
    store.limit(Limits {
        entities_max: Vec::new(),
        quarantine_max: 1000,
        forget_ms: 1000,
    });
    let source = source(store.clone(), None);
    let body: Vec<String> = (0..1300)
        .map(|n| {
            if n % 10 == 0 {
                "{}".to_owned()
            } else {
                change("1", "stock", &n.to_string())
            }
        })
        .collect();
    let answer = post(&source, NDJSON, body.join("\n")).await.unwrap();
    assert_eq!(
        (
            answer.events.accepted,
            answer.events.quarantined,
            answer.changes.committed
        ),
        (1170, 130, 1170)
    );
    assert_eq!(
        answer
            .problems
            .iter()
            .map(|problem| problem.index)
            .collect::<Vec<_>>(),
        (0..100).map(|n| n * 10).collect::<Vec<_>>()
    );
    assert_eq!(
        (answer.sequence, value(&*store, "1", "stock").as_deref()),
        (1300, Some("1299"))
    );
}

#[tokio::test]
async fn a_packed_body_is_unpacked() {
    let source = source(memory(), None);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let noise: String = std::iter::repeat_with(fastrand::alphanumeric)
        .take(100_000)
        .collect();
    let post = async |source: &Source, body: Vec<u8>| {
        let headers = [("content-type", NDJSON), ("content-encoding", "gzip")];
        source
            .accept(Incoming {
                headers: Headers::from_iter(headers),
                ..incoming(NDJSON, body)
            })
            .await
    };
    encoder
        .write_all(format!("{}\n\"{noise}\"", change("1", "stock", "1")).as_bytes())
        .unwrap();
    let packed = encoder.finish().unwrap();
    assert!(
        packed.len() > 64 * 1024,
        "large enough to be unpacked on another thread"
    );
    let answer = post(&source, packed).await.unwrap();
    assert_eq!((answer.events.accepted, answer.events.quarantined), (1, 1));
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(&vec![b' '; 300_000]).unwrap();
    assert!(matches!(
        post(&source, encoder.finish().unwrap()).await,
        Err(Rejection::TooLarge { limit: 200_000, .. })
    ));
}

#[tokio::test]
async fn the_lane_asked_for_goes_with_the_event_also_into_quarantine() {
    let store = memory();
    let source = source(store.clone(), None);
    source
        .accept(Incoming {
            lane: Some(Lane::Bulk),
            ..incoming(JSON, change("1", "content", "1"))
        })
        .await
        .unwrap();
    assert_eq!(
        store.shelf("erp-conditions").list(None, 1).unwrap()[0]
            .event
            .lane,
        Some(Lane::Bulk)
    );
}

#[tokio::test]
async fn the_sender_is_verified_before_anything_is_parsed() {
    let verify = verify::Options::Bearer {
        tokens: vec![crate::signature::Secret(b"secret".to_vec())],
    };
    let options = Options {
        verify,
        ..options()
    };
    let source = source_of(options, memory(), None);
    check(
        &source,
        NDJSON,
        "{broken",
        expect![[r#"
        401 not-verified: the request needs exactly one header `authorization`
    "#]],
    )
    .await;
    assert_eq!(
        source.activity().counts(),
        Counts::default(),
        "nothing was looked at"
    );
}

// A sender that signs was told to send a bearer token.
#[tokio::test]
async fn a_401_names_the_kind_of_proof_that_the_source_wants() {
    let secrets = || vec![crate::signature::Secret(vec![7; 32])];
    let kinds = [
        (verify::Options::Bearer { tokens: secrets() }, "Bearer"),
        (
            verify::Options::Basic { logins: secrets() },
            "Basic realm=\"weir\"",
        ),
        (preset_of("github").with(Vec::new()), "HMAC-SHA256"),
        (preset_of("twilio").with(Vec::new()), "HMAC-SHA1"),
        (
            preset_of("standard-webhooks").with(Vec::new()),
            "Standard-Webhooks",
        ),
    ];
    for (verify, scheme) in kinds {
        let options = Options {
            verify,
            ..options()
        };
        let source = source_of(options, memory(), None);
        let request = IngestRequest {
            target: String::new(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            lane: None,
            receipt: false,
            memory: memory_for_one(),
        };
        let problem = app::intake::take(&source, request, NOW).await.unwrap_err();
        let response = problem.into_response();
        assert_eq!(response.headers()["www-authenticate"], scheme);
    }
}

#[tokio::test]
async fn what_is_too_large_or_too_much_at_once_is_turned_away_early() {
    let source = source(memory(), None);
    check(
        &source,
        NDJSON,
        " ".repeat(200_001),
        expect![[r#"
        413 too-large: the request has more than 200000 bytes; send several smaller ones
    "#]],
    )
    .await;
    let budget = Budget::new(10_000);
    let held = budget.reservation("erp");
    held.grow_to(9_950).unwrap();
    let body = Bytes::from(change("1", "stock", "1"));
    let full = answer(&source, NDJSON, body.clone(), budget.reservation("erp")).await;
    expect![[r#"
        503 overloaded: too many requests are in memory; send it again in a moment
    "#]]
    .assert_eq(&full);
    drop(held);
    let memory = budget.reservation("erp");
    memory.grow_to(70).unwrap();
    let request = Incoming {
        memory,
        ..incoming(NDJSON, body)
    };
    assert_eq!(source.accept(request).await.unwrap().events.accepted, 1);
    assert_eq!(budget.free(), 10_000, "all is given back");
}

// Memory was counted while a request was cut into events, and not for what these become.
#[tokio::test(start_paused = true)]
async fn a_request_waits_a_while_for_memory_that_others_hold() {
    let source = source(memory(), None);
    let budget = Budget::new(20_000);
    let others = budget.reservation("pim");
    others.grow_to(19_200).unwrap();
    let request = || Incoming {
        memory: budget.reservation("erp-conditions"),
        ..incoming(NDJSON, change("1", "stock", "1"))
    };
    let start = tokio::time::Instant::now();
    let refused = source.accept(request()).await;
    assert!(
        matches!(refused, Err(Rejection::Overloaded { .. })),
        "{refused:?}"
    );
    assert_eq!(start.elapsed().as_secs(), 10);
    let (taken, ()) = tokio::join!(source.accept(request()), async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        others.shrink(19_000);
    });
    assert_eq!(taken.unwrap().events.accepted, 1);
    drop(others);
    assert_eq!(budget.free(), 20_000, "all is given back");
}

/// A store whose n-th commit fails.
struct Failing {
    inner: Arc<Memory>,
    after: AtomicUsize,
    error: store::Error,
}

#[tokio::test]
async fn a_request_waits_for_a_full_queue_in_its_middle_and_tells_what_a_failed_store_took() {
    let inner = memory();
    let failing = |error| {
        Arc::new(Failing {
            inner: inner.clone(),
            after: AtomicUsize::new(1),
            error,
        })
    };
    let body: Vec<String> = (0..600)
        .map(|n| change("1", "stock", &n.to_string()))
        .collect();
    let busy = source(failing(store::Error::Busy { waiting: 1 }), None);
    check(&busy, NDJSON, body.join("\n"), expect![[r#"
        202 {"events":{"accepted":600,"filtered":0,"quarantined":0,"repeated":0},"changes":{"committed":600,"unchanged":0,"stale":0},"problems":[],"sequence":600}
    "#]])
    .await;
    let full = source(
        failing(store::Error::Unavailable("/data is full".into())),
        None,
    );
    check(&full, NDJSON, body.join("\n"), expect![[r#"
        503 unavailable: the store cannot write now; send it again later {"events":{"accepted":512,"filtered":0,"quarantined":0,"repeated":0},"changes":{"committed":512,"unchanged":0,"stale":0},"problems":[],"sequence":1112}
    "#]])
    .await;
}

impl Store for Failing {
    fn ready(&self) -> Result<(), store::Error> {
        self.inner.ready()
    }
    fn commit(&self, events: Vec<Commit>) -> Result<Receipt, NotTaken> {
        if self.after.fetch_sub(1, Ordering::Relaxed) == 0 {
            let error = self.error.clone();
            Err(NotTaken { error, events })
        } else {
            self.inner.commit(events)
        }
    }
    fn limit(&self, limits: Limits) {
        self.inner.limit(limits)
    }
    fn backup(&self, file: &std::path::Path) -> Pending<BackedUp> {
        self.inner.backup(file)
    }
    fn retired_standings(&self, ordinal: Ordinal) -> Vec<(String, store::Standing)> {
        self.inner.retired_standings(ordinal)
    }
    fn watermark(&self) -> watch::Receiver<Sequence> {
        self.inner.watermark()
    }
    fn find(&self, id: &EntityId) -> Option<Ordinal> {
        self.inner.find(id)
    }
    fn read_within(
        &self,
        ordinals: &[Ordinal],
        bytes_max: usize,
    ) -> Result<Vec<Option<Arc<Entity>>>, store::Error> {
        self.inner.read_within(ordinals, bytes_max)
    }
    fn list(&self, query: &ListQuery<'_>) -> Vec<(Ordinal, EntityId)> {
        self.inner.list(query)
    }
    fn join(
        &self,
        name: &str,
        subscription: &store::Subscription,
    ) -> Pending<(Arc<dyn Queue>, store::Joined)> {
        self.inner.join(name, subscription)
    }
    fn remembered(&self) -> Vec<store::Remembered> {
        self.inner.remembered()
    }
    fn retire(&self, name: &str) -> Pending<()> {
        self.inner.retire(name)
    }
    fn doubt_retired(&self, target: u64) -> Pending<()> {
        self.inner.doubt_retired(target)
    }
    fn forget(&self, name: &str) -> Pending<bool> {
        self.inner.forget(name)
    }
    fn rename(&self, old: &str, new: &str) -> Pending<bool> {
        self.inner.rename(old, new)
    }
    fn save(&self, now: Timestamp) -> Pending<()> {
        self.inner.save(now)
    }
    fn reset_versions(&self, owner: &str) -> Pending<u64> {
        self.inner.reset_versions(owner)
    }
    fn jump(&self, sequence: Sequence) -> Pending<Sequence> {
        self.inner.jump(sequence)
    }

    fn note(&self, name: &str) -> Result<Option<Vec<u8>>, store::Error> {
        self.inner.note(name)
    }
    fn set_note(&self, name: &str, note: Option<Vec<u8>>) -> Pending<()> {
        self.inner.set_note(name, note)
    }
    fn notes(&self, prefix: &str) -> Result<Vec<String>, store::Error> {
        self.inner.notes(prefix)
    }
    fn rename_notes(&self, names: &[(String, String)]) -> Pending<()> {
        self.inner.rename_notes(names)
    }
    fn shelf(&self, source: &str) -> Arc<dyn Shelf> {
        Arc::new(FailingShelf(self.inner.shelf(source)))
    }
    fn figures(&self) -> store::Figures {
        self.inner.figures()
    }
    fn close(&self) -> Pending<()> {
        self.inner.close()
    }
}

/// A shelf that can be read, and from which nothing can be removed.
struct FailingShelf(Arc<dyn Shelf>);

impl Shelf for FailingShelf {
    fn list(
        &self,
        after: Option<Sequence>,
        limit: usize,
    ) -> Result<Vec<store::QuarantinedEvent>, store::Error> {
        self.0.list(after, limit)
    }
    fn count(&self) -> u64 {
        self.0.count()
    }
    fn remove(&self, _: &[Sequence]) -> Pending<usize> {
        Pending::done(Err(store::Error::Unavailable("/data is full".into())))
    }
    fn discard(&self, sequences: &[Sequence]) -> Pending<usize> {
        self.0.discard(sequences)
    }
}

#[tokio::test]
async fn a_binary_payload_without_a_mapper_is_malformed() {
    let source = source(memory(), None);
    check(
        &source,
        "application/octet-stream",
        b"\xff\xfe".as_slice(),
        expect![[r#"
        400 invalid-utf-8: byte 0 (counted from 0) is not valid UTF-8; send the text as UTF-8
    "#]],
    )
    .await;
    // A filter before it may have passed data that is not text.
    let passing = self::source(
        memory(),
        chain(|event| matches!(event.data, Payload::Binary(_)).then_some(EventVerdict::Passed)),
    );
    let answer = post(&passing, "application/octet-stream", b"\xff\xfe".as_slice())
        .await
        .unwrap();
    assert_eq!(answer.problems[0].code, "not-a-change");
}
