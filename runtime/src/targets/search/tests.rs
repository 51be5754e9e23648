//! The answers of search engines, as they give them, on a socket: each ends in the right state, and none
//! of them refuses a catalogue for the target's fault.

mod look;
mod trouble;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::*;
use crate::model::{EntityId, Payload, Rendering, Sequence};
use crate::targets::fixture::{Asked, Fixture, Reply};
use crate::targets::{DeliveryId, Form, Trace};

fn options(target: &Fixture, dialect: Dialect) -> Options {
    Options {
        dialect,
        url: Address::parse(&target.url("")).expect("a URL"),
        index: "products".into(),
        prefix: String::new(),
        meta: false,
        http: http::Options {
            timeout: Duration::from_millis(600),
            ..http::Options::default()
        },
    }
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

fn item(key: &str, sequence: u64, body: Option<&str>) -> Item {
    Item {
        id: DeliveryId(1),
        entity: EntityId {
            entity_type: "product".into(),
            key: key.into(),
        },
        state: 0,
        sequence: Sequence(sequence),
        key: key.into(),
        rendering: body.map(|body| {
            Arc::new(Rendering {
                key: None,
                content_type: None,
                body: Payload::Text(body.into()),
            })
        }),
        plugin: None,
    }
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
        Outcome::Pause { .. } => "pause",
        Outcome::Split { .. } => "again",
        Outcome::Repeat { .. } => "repeat",
    }
}

async fn outcomes(search: &Search, items: &[Item]) -> Vec<Outcome> {
    let attempt = Attempt {
        items,
        form: Form::Batch,
        trace: Trace { trace: 3, span: 4 },
        now: SystemTime::UNIX_EPOCH,
        head: Sequence(9),
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
    let target = Fixture::start(
        move |asked| match (asked.method.as_str(), asked.path.as_str()) {
            ("GET", "/products?filter_path=*.aliases") => {
                Reply::Body(200, r#"{"products":{"aliases":{}}}"#.into())
            }
            ("GET", "/indexes/products") => Reply::Body(200, r#"{"primaryKey":"id"}"#.into()),
            ("GET", "/collections/products") => Reply::Body(200, "{}".into()),
            _ => script(asked),
        },
    )
    .await;
    let search = Search::open(&options(&target, dialect)).expect("opens");
    (target, search)
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

#[tokio::test]
async fn elasticsearch_gets_lines_with_external_versions() {
    let (target, search) = engine(Dialect::Elasticsearch, |_| {
        Reply::Body(
            200,
            json!({"errors": false, "items": [
                {"index": {"status": 201}},
                {"delete": {"status": 404}},
            ]})
            .to_string(),
        )
    })
    .await;
    let items = [put("a/b"), gone("c")];
    assert_eq!(words(&search, &items).await, ["delivered", "delivered"]);
    let asked = &writes(&target)[0];
    assert!(
        asked.path.starts_with("/products/_bulk?timeout=400ms&"),
        "{}",
        asked.path
    );
    assert_eq!(asked.headers["content-type"], "application/x-ndjson");
    assert_eq!(
        asked.text(),
        "{\"index\":{\"_id\":\"a_2fb\",\"version\":7,\"version_type\":\"external_gte\"}}\n{\"name\":\"n\"}\n{\"delete\":{\"_id\":\"c\",\"version\":8,\"version_type\":\"external_gte\"}}\n"
    );
}

// Kafka Connect refused or ignored whole topics for what was the index's fault; Vector dropped the items
// that were throttled.
#[tokio::test]
async fn elasticsearch_is_judged_item_by_item_by_the_type_of_the_error() {
    let flood = "index [x] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark, index has read-only-allow-delete block];";
    let cases = [
        (json!({"status": 200}), "delivered"),
        (
            error(400, "document_parsing_exception", "failed to parse"),
            "refused",
        ),
        (
            error(400, "mapper_parsing_exception", "failed to parse"),
            "refused",
        ),
        (
            error(
                400,
                "illegal_argument_exception",
                "Document contains at least one immense term",
            ),
            "refused",
        ),
        (
            error(
                400,
                "illegal_argument_exception",
                "Limit of total fields [1000] has been exceeded",
            ),
            "trip",
        ),
        (
            error(
                400,
                "illegal_argument_exception",
                "no write index is defined for alias [x]",
            ),
            "trip",
        ),
        (
            error(
                400,
                "illegal_argument_exception",
                "pipeline with id [prices] does not exist",
            ),
            "trip",
        ),
        (
            error(
                400,
                "strict_dynamic_mapping_exception",
                "[1:16] mapping set to strict, dynamic introduction of [weir_digest] within [_doc] is not allowed",
            ),
            "trip",
        ),
        (
            error(
                400,
                "strict_dynamic_mapping_exception",
                "[1:16] mapping set to strict, dynamic introduction of [colour] within [_doc] is not allowed",
            ),
            "refused",
        ),
        (error(400, "index_closed_exception", "closed"), "trip"),
        (
            error(
                400,
                "illegal_argument_exception",
                "Document ID is not supported in create/index operation request",
            ),
            "trip",
        ),
        (
            error(403, "security_exception", "action is unauthorized"),
            "trip",
        ),
        (
            error(
                403,
                "cluster_block_exception",
                "FORBIDDEN/12/index read-only / allow delete (api)",
            ),
            "trip",
        ),
        (error(429, "cluster_block_exception", flood), "trip"),
        (
            error(404, "index_not_found_exception", "no such index [x]"),
            "trip",
        ),
        (
            error(429, "es_rejected_execution_exception", "rejected"),
            "throttled",
        ),
        (
            error(429, "circuit_breaking_exception", "Data too large"),
            "throttled",
        ),
        (
            error(
                503,
                "unavailable_shards_exception",
                "primary shard is not active Timeout: [1m]",
            ),
            "throttled",
        ),
        (error(500, "something", "else"), "uncertain"),
        (
            error(
                409,
                "version_conflict_engine_exception",
                "[1]: version conflict, current version [9] is higher than the one provided [7]",
            ),
            "delivered",
        ),
        (
            error(
                409,
                "version_conflict_engine_exception",
                "[1]: version conflict, current version [1000000000] is higher than the one provided [5]",
            ),
            "trip",
        ),
        (json!({}), "uncertain"),
    ];
    let results: Vec<_> = cases.iter().map(|(result, _)| result.clone()).collect();
    let (_target, search) = engine(Dialect::OpenSearch, move |_| bulk(&results)).await;
    let items: Vec<Item> = (0..cases.len()).map(|at| put(&format!("k{at}"))).collect();
    let words = words(&search, &items).await;
    for ((result, expected), word) in cases.iter().zip(&words) {
        assert_eq!(word, expected, "{result}");
    }
}

#[tokio::test]
async fn an_answer_of_elasticsearch_that_is_not_whole_says_nothing_about_any_item() {
    for reply in [
        bulk(&[json!({"status": 201})]),
        Reply::Body(200, "{\"errors\" : true, \"items\" : [".into()),
        Reply::Status(200),
    ] {
        let (_target, search) = engine(Dialect::Elasticsearch, move |_| reply.clone()).await;
        let words = words(&search, &[put("a"), put("b")]).await;
        assert_eq!(words, ["uncertain"; 2]);
    }
}

#[tokio::test]
async fn one_id_or_body_that_is_too_long_is_found_by_halves() {
    let validation = json!({"error": {"type": "action_request_validation_exception", "reason": "Validation Failed: 1: id is too long"}, "status": 400});
    for (status, body) in [
        (400, validation.to_string()),
        (413, String::new()),
        (
            413,
            r#"{"Message":"Request size exceeded 10485760 bytes"}"#.into(),
        ),
        (413, "<html>413</html>".into()),
    ] {
        let (_target, search) = engine(Dialect::Elasticsearch, move |_| {
            Reply::Body(status, body.clone())
        })
        .await;
        assert_eq!(words(&search, &[put("a"), put("b")]).await, ["again"; 2]);
        assert_eq!(words(&search, &[put("a")]).await, ["refused"]);
    }
}

#[tokio::test]
async fn an_elasticsearch_that_does_not_know_a_parameter_refuses_no_document() {
    let body = r#"{"error":{"type":"illegal_argument_exception","reason":"request [/products/_bulk] contains unrecognized parameter: [require_alias]"},"status":400}"#;
    let (_target, search) = engine(Dialect::Elasticsearch, move |_| {
        Reply::Body(400, body.into())
    })
    .await;
    assert_eq!(words(&search, &[put("a"), put("b")]).await, ["trip"; 2]);
}

#[tokio::test]
async fn a_long_request_that_is_reset_twice_is_halved() {
    let (_target, search) = engine(Dialect::Elasticsearch, |_| Reply::Close).await;
    let body = format!(r#"{{"text":"{}"}}"#, "x".repeat(RESET_BYTES));
    let items = [item("a", 1, Some(&body)), item("b", 1, Some(&body))];
    assert_eq!(words(&search, &items).await, ["uncertain"; 2]);
    assert_eq!(words(&search, &items).await, ["again"; 2]);

    // An engine that was too slow got the same documents in halves, at once.
    let (_target, search) = engine(Dialect::Elasticsearch, |_| Reply::Hang).await;
    assert_eq!(words(&search, &items).await, ["uncertain"; 2]);
    assert_eq!(words(&search, &items).await, ["uncertain"; 2]);
}

/// Half of the shortest request that counts as long.
const RESET_BYTES: usize = 512 * 1024;

// The write of version 200 waited for a shard, the deletion of version 300 was answered and forgotten
// after a minute, and then the write was applied: the product stood in the shop for ever.
#[tokio::test]
async fn a_deletion_is_made_again_if_an_earlier_write_had_no_answer() {
    let first = AtomicUsize::new(0);
    let (_target, search) = engine(Dialect::Elasticsearch, move |_| {
        match first.fetch_add(1, Ordering::SeqCst) {
            0 => Reply::Hang,
            _ => Reply::Body(
                200,
                json!({"items": [{"delete": {"status": 200}}]}).to_string(),
            ),
        }
    })
    .await;
    assert_eq!(words(&search, &[put("a")]).await, ["uncertain"]);
    assert_eq!(words(&search, &[gone("a")]).await, ["repeat"]);
    assert_eq!(words(&search, &[gone("b")]).await, ["delivered"]);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(76)).await;
    tokio::time::resume();
    assert_eq!(words(&search, &[gone("a")]).await, ["delivered"]);
}

// A request with deletions was too long, and each of them was made once more after 75 s.
#[tokio::test]
async fn a_deletion_of_which_nothing_can_come_late_is_made_once() {
    let first = AtomicUsize::new(0);
    let (_target, search) = engine(Dialect::Elasticsearch, move |_| {
        match first.fetch_add(1, Ordering::SeqCst) {
            0 => Reply::Status(413),
            _ => Reply::Body(
                200,
                json!({"items": [{"delete": {"status": 200}}]}).to_string(),
            ),
        }
    })
    .await;
    assert_eq!(words(&search, &[gone("a"), gone("b")]).await, ["again"; 2]);
    assert_eq!(words(&search, &[gone("a")]).await, ["delivered"]);
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

/// A Meilisearch whose task ends so after two looks.
fn task_that(status: &'static str, error: &'static str) -> impl Fn(&Asked) -> Reply + Send + Sync {
    let looks = AtomicUsize::new(0);
    move |asked| match asked.method.as_str() {
        "POST" => Reply::Body(
            202,
            r#"{"taskUid":147,"indexUid":"products","status":"enqueued"}"#.into(),
        ),
        _ => {
            let status = match looks.fetch_add(1, Ordering::SeqCst) {
                0 => "enqueued",
                1 => "processing",
                _ => status,
            };
            let body = format!(r#"{{"uid":147,"status":"{status}","error":{error}}}"#);
            Reply::Body(200, body)
        }
    }
}

#[tokio::test]
async fn meilisearch_delivers_when_its_task_has_succeeded() {
    let (target, search) = engine(Dialect::Meilisearch, task_that("succeeded", "null")).await;
    let items = [put("a/b"), gone("c")];
    assert_eq!(words(&search, &items).await, ["delivered"; 2]);
    let asked = writes(&target);
    assert!(
        asked[0]
            .path
            .starts_with("/indexes/products/documents/delete-batch?")
    );
    assert_eq!(asked[0].text(), r#"["c"]"#);
    assert_eq!(
        asked[1].path,
        "/indexes/products/documents?primaryKey=id&customMetadata=weir-put-00000000000000000000000000000003-0000000000000004"
    );
    assert_eq!(asked[1].text(), "{\"id\":\"a_2fb\",\"name\":\"n\"}\n");
    let looks = target
        .asked()
        .iter()
        .filter(|asked| asked.path == "/tasks/147")
        .count();
    assert_eq!(looks, 4, "three for the first task, one for the second");
}

#[tokio::test]
async fn a_task_of_meilisearch_that_fails_says_whose_fault_it_is() {
    let error = |code: &str| format!(r#"{{"message":"m","code":"{code}","type":"t"}}"#);
    for (code, of_two, of_one) in [
        ("invalid_document_id", "again", "refused"),
        ("missing_document_id", "again", "refused"),
        ("no_space_left_on_device", "trip", "trip"),
        // It counts the fields of all documents of the index.
        ("max_fields_limit_exceeded", "trip", "trip"),
        ("internal", "trip", "trip"),
    ] {
        for (items, expected) in [(vec![put("a"), put("b")], of_two), (vec![put("a")], of_one)] {
            let failed = task_that("failed", Box::leak(error(code).into_boxed_str()));
            let (_target, search) = engine(Dialect::Meilisearch, failed).await;
            assert_eq!(words(&search, &items).await[0], expected, "{code}");
        }
    }
    let full = r#"{"message":"m","code":"no_space_left_on_device","type":"system"}"#;
    // A version that does not know a parameter refused the whole catalogue.
    let unknown = r#"{"message":"Unknown parameter `customMetadata`","code":"bad_request"}"#;
    let malformed = r#"{"message":"m","code":"malformed_payload"}"#;
    for (status, body, expected) in [
        (422, full, "trip"),
        (400, unknown, "trip"),
        (400, malformed, "refused"),
    ] {
        let (_target, search) = engine(Dialect::Meilisearch, move |_| {
            Reply::Body(status, body.into())
        })
        .await;
        assert_eq!(words(&search, &[put("a")]).await, [expected], "{body}");
    }
}

// The message quoted a whole document, and each of a thousand entities kept a copy of it.
#[tokio::test]
async fn a_task_of_meilisearch_that_fails_is_quoted_in_short() {
    let message = "x".repeat(10_000);
    let error = format!(r#"{{"message":"{message}","code":"invalid_document_id"}}"#);
    let failed = task_that("failed", Box::leak(error.into_boxed_str()));
    let (_target, search) = engine(Dialect::Meilisearch, failed).await;
    let outcomes = outcomes(&search, &[put("a")]).await;
    assert!(
        matches!(&outcomes[0], Outcome::Refused { reason, .. } if reason.contains("invalid_document_id") && reason.len() < 300),
        "{outcomes:?}"
    );
}

// The key had no right to look at tasks, and each delivery took ten minutes.
#[tokio::test]
async fn a_task_of_meilisearch_that_must_not_be_seen_is_not_waited_for() {
    let (_target, search) = engine(Dialect::Meilisearch, |asked| match asked.method.as_str() {
        "POST" => Reply::Body(202, r#"{"taskUid":147}"#.into()),
        _ => Reply::Body(403, r#"{"message":"m","code":"invalid_api_key"}"#.into()),
    })
    .await;
    assert_eq!(words(&search, &[put("a")]).await, ["uncertain"]);
}

#[tokio::test]
async fn a_task_of_meilisearch_is_found_again_if_its_answer_was_lost() {
    let (target, search) = engine(Dialect::Meilisearch, |asked| {
        match (asked.method.as_str(), asked.path.as_str()) {
            ("POST", _) => Reply::Half(202),
            (_, "/tasks/9") => Reply::Body(200, r#"{"uid":9,"status":"succeeded"}"#.into()),
            _ => Reply::Body(
                200,
                r#"{"results":[{"uid":10,"customMetadata":"other"},{"uid":9,"customMetadata":"weir-put-00000000000000000000000000000003-0000000000000004"}]}"#.into(),
            ),
        }
    })
    .await;
    assert_eq!(words(&search, &[put("a")]).await, ["delivered"]);
    assert_eq!(writes(&target).len(), 1);
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
