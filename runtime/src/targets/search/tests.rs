//! The answers of search engines, as they give them, on a socket: each ends in the right state, and none
//! of them refuses a catalogue for the target's fault.

mod elasticsearch;
mod look;
mod meilisearch;
mod trouble;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::*;
use crate::model::Sequence;
use crate::targets::fixture::{Asked, Fixture, Reply};
use crate::targets::sample::{attempt, item};

fn options(target: &Fixture, dialect: Dialect) -> Options {
    Options {
        dialect,
        url: Address::parse(&target.url("")).expect("a URL"),
        index: "products".into(),
        prefix: String::new(),
        meta: false,
        http: http::Options {
            timeout: Duration::from_secs(30),
            ..http::Options::default()
        },
    }
}

/// The same for an engine that is silent.
fn impatient(target: &Fixture, dialect: Dialect) -> Options {
    let mut options = options(target, dialect);
    options.http.timeout = Duration::from_secs(2);
    options
}

fn put(key: &str) -> Item {
    item(key, 7, Some(r#"{"name":"n"}"#))
}

fn gone(key: &str) -> Item {
    item(key, 8, None)
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Delivered => "delivered",
        Outcome::Throttled { .. } => "throttled",
        Outcome::Retry {
            maybe_applied: true,
            ..
        } => "uncertain",
        Outcome::Retry { .. } => "retry",
        Outcome::Refused { .. } => "refused",
        Outcome::Trip { .. } => "trip",
        Outcome::Forgot { .. } => "forgot",
        Outcome::Ahead { .. } => "ahead",
        Outcome::Pause { .. } => "pause",
        Outcome::Split { .. } => "again",
        Outcome::Repeat { .. } => "repeat",
    }
}

async fn outcomes(search: &Search, items: &[Item]) -> Vec<Outcome> {
    let attempt = Attempt {
        now: SystemTime::UNIX_EPOCH,
        head: Sequence(9),
        ..attempt(items)
    };
    search.deliver(attempt).await.outcomes
}

async fn words(search: &Search, items: &[Item]) -> Vec<&'static str> {
    outcomes(search, items).await.iter().map(word).collect()
}

/// A search engine that answers writes so, and says that its index is there.
async fn engine(
    dialect: Dialect,
    script: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
) -> (Fixture, Search) {
    let target = answering(script).await;
    let search = Search::open(&options(&target, dialect)).expect("opens");
    (target, search)
}

/// A server whose index is there, and that does as the script says otherwise.
async fn answering(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Fixture {
    Fixture::start(
        move |asked| match (asked.method.as_str(), asked.path.as_str()) {
            ("GET", "/products?filter_path=*.aliases,*.settings.index.uuid") => {
                Reply::Body(200, r#"{"products":{"aliases":{}}}"#.into())
            }
            ("GET", "/indexes/products") => Reply::Body(200, r#"{"primaryKey":"id"}"#.into()),
            ("GET", "/collections/products") => Reply::Body(200, "{}".into()),
            _ => script(asked),
        },
    )
    .await
}

/// The writes that an engine got.
fn writes(target: &Fixture) -> Vec<Asked> {
    let mut asked = target.asked();
    asked.retain(|asked| asked.method != "GET");
    asked
}

/// A bulk answer with these results.
fn bulk(results: &[Value]) -> Reply {
    let items: Vec<_> = results
        .iter()
        .map(|result| json!({"index": result}))
        .collect();
    Reply::Body(200, json!({"errors": true, "items": items}).to_string())
}

fn error(status: u16, kind: &str, reason: &str) -> Value {
    json!({"_id": "x", "status": status, "error": {"type": kind, "reason": reason}})
}

// The engine behind a URL was replaced by another one, and the channel held the empty index for full.
#[tokio::test]
async fn another_engine_at_the_same_url_holds_nothing_yet() {
    let target = Fixture::start(|_| Reply::Status(200)).await;
    let places = Dialect::ALL.map(|(_, dialect)| {
        let search = Search::open(&options(&target, dialect)).expect("it opens");
        search.place()
    });
    let different: std::collections::BTreeSet<u64> = places.into_iter().collect();
    assert_eq!(different.len(), Dialect::ALL.len());
}

#[tokio::test]
async fn a_rendering_that_is_no_object_costs_only_itself() {
    for dialect in [
        Dialect::Elasticsearch,
        Dialect::Meilisearch,
        Dialect::Typesense,
        Dialect::Algolia,
    ] {
        let (target, search) = engine(dialect, |_| Reply::Status(500)).await;
        assert_eq!(
            words(&search, &[item("a", 1, Some("[1]"))]).await,
            ["refused"]
        );
        assert_eq!(writes(&target).len(), 0);
    }
}

#[tokio::test]
async fn typesense_is_read_line_by_line_and_deletes_by_ids() {
    let (target, search) = engine(Dialect::Typesense, |asked| match asked.method.as_str() {
        "DELETE" => Reply::Body(200, r#"{"num_deleted":1}"#.into()),
        _ => Reply::Body(
            200,
            "{\"success\":true,\"id\":\"a\"}\n{\"success\":false,\"code\":400,\"error\":\"Field `price` must be a float\"}\n".into(),
        ),
    })
    .await;
    let items = [put("a"), put("b"), put("c"), gone("d/1"), gone("e")];
    assert_eq!(
        words(&search, &items).await,
        [
            "delivered",
            "refused",
            "uncertain",
            "delivered",
            "delivered"
        ],
        "the third line is missing"
    );
    let asked = writes(&target);
    assert_eq!(
        asked[0].path,
        "/collections/products/documents?filter_by=id:%5Bd_2f1,e%5D"
    );
    assert_eq!(
        asked[1].path,
        "/collections/products/documents/import?action=upsert&return_id=true"
    );
    assert_eq!(
        asked[1].text(),
        "{\"id\":\"a\",\"name\":\"n\"}\n{\"id\":\"b\",\"name\":\"n\"}\n{\"id\":\"c\",\"name\":\"n\"}\n"
    );
}

// A hundred long ids made a URL that no server reads, and all of these deletions were refused.
#[tokio::test]
async fn typesense_deletes_as_many_at_once_as_fit_into_a_url() {
    let (target, search) = engine(Dialect::Typesense, |_| {
        Reply::Body(200, r#"{"num_deleted":1}"#.into())
    })
    .await;
    let items: Vec<Item> = (0..20)
        .map(|at| gone(&format!("{at}{}", "x".repeat(400))))
        .collect();
    assert_eq!(words(&search, &items).await, ["delivered"; 20]);
    let asked = writes(&target);
    assert_eq!(asked.len(), 5);
    assert!(asked.iter().all(|asked| asked.path.len() < 2_000));

    let (target, search) = engine(Dialect::Typesense, |_| {
        Reply::Body(503, r#"{"message":"Not Ready or Lagging"}"#.into())
    })
    .await;
    let more = [items, vec![put("a")]].concat();
    assert_eq!(words(&search, &more).await, ["throttled"; 21]);
    assert_eq!(writes(&target).len(), 1, "the others would only wait too");

    let (_target, search) = engine(Dialect::Typesense, |_| Reply::Status(400)).await;
    assert_eq!(words(&search, &[gone("a"), gone("b")]).await, ["again"; 2]);
    assert_eq!(words(&search, &[gone("a")]).await, ["refused"]);
}

#[tokio::test]
async fn a_typesense_that_is_full_or_behind_is_no_fault_of_the_documents() {
    for (status, body, expected) in [
        (
            422,
            r#"{"message":"Rejecting write: running out of resource type: OUT_OF_DISK"}"#,
            "trip",
        ),
        (
            422,
            r#"{"message":"Rejecting write: running out of resource type: OUT_OF_MEMORY"}"#,
            "trip",
        ),
        (422, r#"{"message":"Skipping writes."}"#, "trip"),
        (503, r#"{"message":"Not Ready or Lagging"}"#, "throttled"),
        (
            500,
            r#"{"message":"Could not find a leader."}"#,
            "throttled",
        ),
    ] {
        let (_target, search) = engine(Dialect::Typesense, move |_| {
            Reply::Body(status, body.into())
        })
        .await;
        assert_eq!(
            words(&search, &[put("a"), put("b")]).await,
            [expected; 2],
            "{body}"
        );
    }
}

#[tokio::test]
async fn algolia_delivers_when_its_task_is_published() {
    let looks = AtomicUsize::new(0);
    let (target, search) = engine(Dialect::Algolia, move |asked| match asked.method.as_str() {
        "POST" => Reply::Body(200, r#"{"taskID":5,"objectIDs":["a","b"]}"#.into()),
        _ if looks.fetch_add(1, Ordering::SeqCst) == 0 => Reply::Body(
            200,
            r#"{"status":"notPublished","pendingTask":true}"#.into(),
        ),
        _ => Reply::Body(200, r#"{"status":"published","pendingTask":false}"#.into()),
    })
    .await;
    assert_eq!(
        words(&search, &[put("a"), gone("b/1")]).await,
        ["delivered"; 2]
    );
    let asked = writes(&target);
    assert_eq!(asked[0].path, "/1/indexes/products/batch");
    assert_eq!(
        asked[0].text(),
        r#"{"requests":[{"action":"updateObject","body":{"objectID":"a","name":"n"}},{"action":"deleteObject","body":{"objectID":"b_2f1"}}]}"#
    );
}

// The key had no right to look at tasks, and each delivery took ten minutes.
#[tokio::test]
async fn a_task_of_algolia_that_must_not_be_seen_is_not_waited_for() {
    let (_target, search) = engine(Dialect::Algolia, |asked| match asked.method.as_str() {
        "POST" => Reply::Body(200, r#"{"taskID":5}"#.into()),
        _ => Reply::Body(
            403,
            r#"{"message":"Method not allowed with this API key","status":403}"#.into(),
        ),
    })
    .await;
    assert_eq!(words(&search, &[put("a")]).await, ["uncertain"]);
}

#[tokio::test]
async fn algolia_names_the_record_that_is_too_big_and_a_full_plan_is_the_targets() {
    let big = r#"{"message":"Record at the position 1 objectID=b is too big size=11072/10000 bytes. Please have a look.","position":1,"objectID":"b","status":400}"#;
    for (status, body, expected) in [
        (400, big, ["again", "refused", "again"]),
        (
            403,
            r#"{"message":"You have exceeded your Record quota.","status":403}"#,
            ["trip"; 3],
        ),
        (
            429,
            r#"{"message":"Too many jobs","status":429}"#,
            ["throttled"; 3],
        ),
        (400, r#"{"message":"invalid","status":400}"#, ["again"; 3]),
    ] {
        let (_target, search) =
            engine(Dialect::Algolia, move |_| Reply::Body(status, body.into())).await;
        let items = [put("a"), put("b"), put("c")];
        assert_eq!(words(&search, &items).await, expected, "{body}");
    }
}
