//! Elasticsearch and OpenSearch: versions, the types of errors, and deletions that are made again.

use super::*;

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
        asked.path.starts_with("/products/_bulk?timeout=20000ms&"),
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
            "ahead",
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
    let target = answering(|_| Reply::Hang).await;
    let search = Search::open(&impatient(&target, Dialect::Elasticsearch)).expect("opens");
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
    let target = answering(move |_| match first.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::Hang,
        _ => Reply::Body(
            200,
            json!({"items": [{"delete": {"status": 200}}]}).to_string(),
        ),
    })
    .await;
    let search = Search::open(&impatient(&target, Dialect::Elasticsearch)).expect("opens");
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
