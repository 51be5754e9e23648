//! Looks at an index, before a write and for `weir check --connect`.

use super::*;

// A write created the index again with a guessed mapping, and prices were text from then on.
#[tokio::test]
async fn an_index_that_is_gone_trips_the_target_and_is_not_created() {
    for (dialect, path) in [
        (
            Dialect::Elasticsearch,
            "/products?filter_path=*.aliases,*.settings.index.uuid",
        ),
        (Dialect::Meilisearch, "/indexes/products"),
        (Dialect::Typesense, "/collections/products"),
    ] {
        let target = Fixture::start(|_| Reply::Status(404)).await;
        let search = Search::open(&options(&target, dialect)).expect("opens");
        let outcomes = outcomes(&search, &[put("a")]).await;
        assert!(
            matches!(&outcomes[0], Outcome::Trip { reason } if reason.starts_with("there is no index \"products\"")),
            "{outcomes:?}"
        );
        assert_eq!(target.asked().len(), 1);
        assert_eq!(target.asked()[0].path, path);
    }
}

#[tokio::test]
async fn an_alias_is_written_as_such_a_data_stream_and_another_primary_key_are_refused() {
    for (body, expected) in [
        (
            r#"{"products-v2":{"aliases":{"products":{}}}}"#,
            "&require_alias=true",
        ),
        (
            r#"{"products":{"aliases":{}}}"#,
            "items.*.error.caused_by.reason",
        ),
        ("{}", "items.*.error.caused_by.reason"),
    ] {
        let target = Fixture::start(move |asked| match asked.method.as_str() {
            "GET" => Reply::Body(200, body.into()),
            _ => bulk(&[json!({"status": 201})]),
        })
        .await;
        let search = Search::open(&options(&target, Dialect::Elasticsearch)).expect("opens");
        assert_eq!(words(&search, &[put("a")]).await, ["delivered"]);
        assert!(writes(&target)[0].path.ends_with(expected));
    }
    for (dialect, body, expected) in [
        (
            Dialect::Elasticsearch,
            r#"{".ds-products-1":{}}"#,
            "is a data stream",
        ),
        (
            Dialect::Meilisearch,
            r#"{"primaryKey":"sku"}"#,
            "the primary key",
        ),
    ] {
        let target = Fixture::start(move |_| Reply::Body(200, body.into())).await;
        let search = Search::open(&options(&target, dialect)).expect("opens");
        let outcomes = outcomes(&search, &[put("a")]).await;
        assert!(
            matches!(&outcomes[0], Outcome::Trip { reason } if reason.contains(expected)),
            "{outcomes:?}"
        );
    }
}

// The look before a write was made once, the index was dropped an hour later, and the next write created it
// again.
#[tokio::test]
async fn an_index_that_a_write_would_create_is_looked_for_before_each_write() {
    for (dialect, creates) in [
        (Dialect::Elasticsearch, true),
        (Dialect::Meilisearch, true),
        (Dialect::Typesense, false),
    ] {
        let there = Arc::new(AtomicUsize::new(2));
        let looked = there.clone();
        let target = Fixture::start(move |asked| {
            let left = || looked.load(Ordering::SeqCst);
            match (asked.method.as_str(), asked.path.as_str()) {
                ("GET", path) if path.starts_with("/tasks/") => {
                    Reply::Body(200, r#"{"status":"succeeded"}"#.into())
                }
                ("GET", _) if left() == 0 => Reply::Status(404),
                ("GET", _) => Reply::Body(200, r#"{"products":{"aliases":{}}}"#.into()),
                _ => {
                    looked.fetch_sub(1, Ordering::SeqCst);
                    match dialect {
                        Dialect::Elasticsearch => bulk(&[json!({"status": 201})]),
                        Dialect::Meilisearch => Reply::Body(202, r#"{"taskUid":1}"#.into()),
                        _ => Reply::Body(200, r#"{"success":true}"#.into()),
                    }
                }
            }
        })
        .await;
        let search = Search::open(&options(&target, dialect)).expect("opens");
        assert_eq!(words(&search, &[put("a")]).await, ["delivered"]);
        assert_eq!(words(&search, &[put("b")]).await, ["delivered"]);
        if creates {
            assert_eq!(words(&search, &[put("c")]).await, ["trip"], "{dialect:?}");
            assert_eq!(writes(&target).len(), 2, "{dialect:?}");
        }
    }
}

// The look had no answer, and the deletion of a document that nobody had written was made twice.
#[tokio::test]
async fn a_look_without_an_answer_has_written_nothing() {
    for reply in [Reply::Half(200), Reply::Hang, Reply::Status(500)] {
        let target = Fixture::start(move |_| reply.clone()).await;
        let search = Search::open(&impatient(&target, Dialect::Elasticsearch)).expect("opens");
        assert_eq!(words(&search, &[put("a")]).await, ["retry"]);
        assert_eq!(writes(&target).len(), 0);
    }
}

/// A path, and the status and the body of its answer.
type Answered = (&'static str, u16, &'static str);

/// What a check of an engine finds that answers these paths so, and others with 404.
async fn found(dialect: Dialect, answers: &'static [Answered]) -> Result<Vec<String>, String> {
    let target = Fixture::start(move |asked| {
        let known = answers.iter().find(|(path, _, _)| *path == asked.path);
        match known {
            Some((_, status, body)) => Reply::Body(*status, (*body).into()),
            None => Reply::Status(404),
        }
    })
    .await;
    let search = Search::open(&options(&target, dialect)).expect("opens");
    let found = search.check().await;
    assert_eq!(writes(&target).len(), 0, "a check writes nothing");
    found
}

const LOOK: &str = "/products?filter_path=*.aliases,*.settings.index.uuid";
const THERE: &str = r#"{"products":{"aliases":{}}}"#;
const MAPPING: &str = "/products/_mapping";
const SETTINGS: &str = "/products/_settings/index.mapping.total_fields.limit?flat_settings=true";

#[tokio::test]
async fn a_check_complains_of_an_index_that_takes_nothing_and_says_what_to_do() {
    let table: &[(Dialect, &[Answered], &str)] = &[
        (
            Dialect::OpenSearch,
            &[],
            "there is no index \"products\"; create it first",
        ),
        (
            Dialect::Meilisearch,
            &[],
            "there is no index \"products\"; create it first",
        ),
        (
            Dialect::Typesense,
            &[],
            "there is no index \"products\"; create it first",
        ),
        (
            Dialect::Elasticsearch,
            &[(LOOK, 200, r#"{".ds-products-000001":{}}"#)],
            "is a data stream, which takes neither changes nor deletions; use an index",
        ),
        (
            Dialect::Meilisearch,
            &[("/indexes/products", 200, r#"{"primaryKey":"sku"}"#)],
            "create the index with primaryKey = \"id\"",
        ),
        (
            Dialect::Elasticsearch,
            &[(LOOK, 401, r#"{"error":{"type":"security_exception"}}"#)],
            "check auth or headers of the target",
        ),
        (
            Dialect::Meilisearch,
            &[("/indexes/products", 403, r#"{"code":"invalid_api_key"}"#)],
            "check auth or headers of the target",
        ),
        (
            Dialect::Typesense,
            &[("/collections/products", 401, r#"{"message":"Forbidden"}"#)],
            "check auth or headers of the target",
        ),
        (
            Dialect::Algolia,
            &[(
                "/1/indexes/products/settings",
                403,
                r#"{"message":"Invalid Application-ID or API key","status":403}"#,
            )],
            "check auth or headers of the target",
        ),
    ];
    for (dialect, answers, expected) in table {
        let found = found(*dialect, answers).await;
        assert!(
            matches!(&found, Err(wrong) if wrong.contains(expected)),
            "{dialect:?} {answers:?}: {found:?}"
        );
    }
}

#[tokio::test]
async fn a_check_finds_nothing_wrong_with_an_index_that_is_well_made() {
    for (dialect, answers) in [
        (
            Dialect::Elasticsearch,
            &[
                (LOOK, 200, THERE),
                (
                    MAPPING,
                    200,
                    r#"{"products":{"mappings":{"dynamic":"strict","properties":{"name":{"type":"text"}}}}}"#,
                ),
                (SETTINGS, 200, "{}"),
            ][..],
        ),
        // This key may write and not read the mapping.
        (
            Dialect::OpenSearch,
            &[
                (LOOK, 200, THERE),
                (MAPPING, 403, "{}"),
                (SETTINGS, 403, "{}"),
            ],
        ),
        (
            Dialect::Meilisearch,
            &[("/indexes/products", 200, r#"{"primaryKey":null}"#)],
        ),
        (Dialect::Typesense, &[("/collections/products", 200, "{}")]),
        (
            Dialect::Algolia,
            &[(
                "/1/indexes/products/settings",
                403,
                r#"{"message":"Method not allowed with this API key","status":403}"#,
            )],
        ),
        (Dialect::Algolia, &[]),
    ] {
        assert_eq!(found(dialect, answers).await, Ok(Vec::new()), "{dialect:?}");
    }
}

// Pimcore's attributes became fields until the index had all that it allows, and from then on it took no
// new product.
#[tokio::test]
async fn a_check_warns_of_a_mapping_that_guesses_or_is_nearly_full() {
    let fields = |count: usize| {
        let field = |number| (format!("f{number}"), json!({"type": "keyword"}));
        let properties: serde_json::Map<_, _> = (0..count).map(field).collect();
        properties
    };
    // An object, and the fields of a field, count as well.
    let nested = |count: usize| {
        json!({"properties": {
            "facets": {"properties": fields(count - 3)},
            "name": {"type": "text", "fields": {"raw": {"type": "keyword"}}},
        }})
    };
    for (mapping, settings, expected) in [
        (
            json!({"dynamic": "true"}),
            json!({}),
            &["guesses the type"][..],
        ),
        (json!({}), json!({}), &["guesses the type"]),
        (json!({"dynamic": "false"}), json!({}), &[]),
        (
            json!({"dynamic": "strict", "properties": fields(899)}),
            json!({}),
            &[],
        ),
        (
            json!({"dynamic": "strict", "properties": fields(900)}),
            json!({}),
            &["has 900 of at most 1000 fields"],
        ),
        (
            nested(950),
            json!({}),
            &["guesses the type", "has 950 of at most 1000 fields"],
        ),
        (
            json!({"dynamic": "strict", "properties": fields(950)}),
            json!({"index.mapping.total_fields.limit": "2000"}),
            &[],
        ),
    ] {
        let target = Fixture::start(move |asked| {
            let body = match asked.path.as_str() {
                LOOK => json!({"products-v2": {"aliases": {"products": {}}}}),
                MAPPING => json!({"products-v2": {"mappings": mapping}}),
                _ => json!({"products-v2": {"settings": settings}}),
            };
            Reply::Body(200, body.to_string())
        })
        .await;
        let search = Search::open(&options(&target, Dialect::OpenSearch)).expect("opens");
        let found = search.check().await.expect("nothing that is wrong");
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                found.contains(expected) && found.contains("products-v2"),
                "{found}"
            );
        }
    }
}

// The mapping was strict and did not know the fields that Weir adds, and each document was refused.
#[tokio::test]
async fn a_check_warns_of_a_strict_mapping_without_the_fields_that_weir_writes() {
    let text = json!({"type": "text"});
    for (properties, meta, expected) in [
        (
            json!({"name": text}),
            true,
            Some("lacks weir_digest, weir_key, weir_sequence"),
        ),
        (
            json!({"weir_digest": text, "weir_key": text}),
            true,
            Some("lacks weir_sequence"),
        ),
        (
            json!({"weir_digest": text, "weir_key": text, "weir_sequence": text}),
            true,
            None,
        ),
        (json!({"name": text}), false, None),
    ] {
        let target = Fixture::start(move |asked| {
            let body = match asked.path.as_str() {
                LOOK => json!({"products": {"aliases": {}}}),
                MAPPING => {
                    json!({"products": {"mappings": {"dynamic": "strict", "properties": properties}}})
                }
                _ => json!({}),
            };
            Reply::Body(200, body.to_string())
        })
        .await;
        let mut options = options(&target, Dialect::Elasticsearch);
        options.meta = meta;
        let search = Search::open(&options).expect("opens");
        let found = search.check().await.expect("nothing that is wrong");
        assert_eq!(found.len(), usize::from(expected.is_some()), "{found:?}");
        let all = found.concat();
        assert!(all.contains(expected.unwrap_or_default()), "{all}");
    }
}

// A check before the first start used up the refresh token with which Weir was to log in.
#[tokio::test]
async fn a_check_of_an_engine_does_not_use_up_a_refresh_token() {
    let target = Fixture::start(|_| Reply::Status(200)).await;
    let mut options = options(&target, Dialect::OpenSearch);
    options.http.auth = http::Auth::OAuth2(Box::new(http::OAuth2 {
        token_url: Address::parse(&target.url("/token")).expect("a URL"),
        grant: http::Grant::RefreshToken(crate::signature::Secret(b"only".to_vec())),
        client_id: "weir".into(),
        client_secret: crate::signature::Secret(b"secret".to_vec()),
        in_body: true,
        json: false,
        scope: None,
        extra: Vec::new(),
        header: "authorization".into(),
        prefix: "Bearer ".into(),
    }));
    let search = Search::open(&options).expect("opens");
    let found = search.check().await.expect("nothing that is wrong");
    assert!(
        found.len() == 1 && found[0].starts_with("the index was not looked at: the refresh token"),
        "{found:?}"
    );
    assert_eq!(target.asked().len(), 0);
}
