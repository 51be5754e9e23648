//! Tasks of Meilisearch: what becomes of a write is known when its task has ended.

use super::*;

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
