//! Engines in trouble: answers that come late, are too long or are formatted, bodies that are too long,
//! hosts that are dead.

use super::*;

// Typesense 27.1 repeats each document that it refuses. The answer was longer than Weir reads, so the
// documents were uncertain, and the same request was made for ever.
#[tokio::test]
async fn an_answer_that_is_too_long_is_read_as_far_as_it_goes_and_fewer_are_sent_again() {
    let line = |asked: &Asked| {
        let documents = asked.text();
        let lines = documents.lines().map(|document| {
            let long = document.len() > 1_000;
            match long {
                true => json!({"success": false, "code": 400, "error": "m", "document": document}),
                false => json!({"success": true}),
            }
            .to_string()
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    let (_target, search) = engine(Dialect::Typesense, move |asked| {
        Reply::Body(200, line(asked))
    })
    .await;
    let long = |key: &str, bytes: usize| {
        let body = format!(r#"{{"text":"{}"}}"#, "x".repeat(bytes));
        item(key, 1, Some(&body))
    };
    let items = [
        put("a"),
        long("b", 600_000),
        long("c", 600_000),
        put("d"),
        long("e", 600_000),
    ];
    assert_eq!(
        words(&search, &items).await,
        ["delivered", "refused", "again", "again", "again"]
    );
    assert_eq!(words(&search, &items[2..4]).await, ["refused", "delivered"]);
    assert_eq!(words(&search, &[long("f", 2_000_000)]).await, ["refused"]);

    // Elasticsearch says of ten thousand documents at length what is wrong.
    let why = "w".repeat(2_000);
    let (_target, search) = engine(Dialect::Elasticsearch, move |asked| {
        let documents = asked.text().lines().count() / 2;
        let wrong = error(400, "document_parsing_exception", &why);
        bulk(&vec![wrong; documents])
    })
    .await;
    let items: Vec<Item> = (0..600).map(|number| put(&format!("k{number}"))).collect();
    assert_eq!(words(&search, &items).await, ["again"; 600]);
    assert_eq!(words(&search, &items[..300]).await, ["refused"; 300]);
}

/// An engine that may take minutes, with the timeout that its dialect has unless configured.
async fn patient(
    dialect: Dialect,
    script: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
) -> (Fixture, Search) {
    let (target, _) = engine(dialect, script).await;
    let mut options = options(&target, dialect);
    options.http.timeout = Options::timeout(dialect);
    let search = Search::open(&options).expect("opens");
    (target, search)
}

/// Lets a minute pass in each second. A clock that is paused and advances by itself would not wait for what is
/// on its way through a socket.
async fn hurries<T>(story: impl Future<Output = T>) -> T {
    let time = async {
        loop {
            let moment = || std::thread::sleep(Duration::from_millis(10));
            // The clock stands still meanwhile.
            let waited = tokio::task::spawn_blocking(moment).await;
            waited.expect("it only waits");
            tokio::time::advance(Duration::from_millis(600)).await;
        }
    };
    tokio::select! {
        done = story => done,
        () = time => unreachable!("it goes on for ever"),
    }
}

// The task failed after half a minute, when its documents counted as delivered already.
#[tokio::test]
async fn a_task_of_meilisearch_that_fails_after_half_a_minute_delivers_nothing() {
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    let (_target, search) = patient(Dialect::Meilisearch, move |asked| {
        let status = match began.elapsed() > Duration::from_secs(30) {
            true => "failed",
            false => "processing",
        };
        match asked.method.as_str() {
            "POST" => Reply::Body(202, r#"{"taskUid":147}"#.into()),
            _ => Reply::Body(
                200,
                json!({"uid": 147, "status": status, "error": {"code": "invalid_document_id", "message": "m"}})
                    .to_string(),
            ),
        }
    })
    .await;
    let items = [put("a"), put("b")];
    assert_eq!(hurries(words(&search, &items)).await, ["again"; 2]);
    assert!(began.elapsed() > Duration::from_secs(30));
}

// Each import that was given up after a minute went on, and its repetition made the next one slower.
#[tokio::test]
async fn a_typesense_that_answers_after_four_minutes_gets_one_request() {
    tokio::time::pause();
    let (target, search) = patient(Dialect::Typesense, |_| {
        let answer = Reply::Body(200, r#"{"success":true}"#.into());
        Reply::After(Duration::from_secs(240), Box::new(answer))
    })
    .await;
    assert_eq!(hurries(words(&search, &[put("a")])).await, ["delivered"]);
    assert_eq!(writes(&target).len(), 1);
}

// Vector looked for the text `"errors":true`, and lost what a formatted answer said.
#[tokio::test]
async fn a_formatted_answer_says_the_same() {
    let items = (0..100).map(|at| match at {
        57 => json!({"index": error(429, "es_rejected_execution_exception", "rejected")}),
        _ => json!({"index": {"status": 201}}),
    });
    let answer = json!({"errors": true, "items": items.collect::<Vec<_>>()});
    let answer = format!("{answer:#}").replace("\": ", "\" : ");
    let (_target, search) = engine(Dialect::Elasticsearch, move |_| {
        Reply::Body(200, answer.clone())
    })
    .await;
    let items: Vec<Item> = (0..100).map(|at| put(&format!("k{at}"))).collect();
    let mut expected = ["delivered"; 100];
    expected[57] = "throttled";
    assert_eq!(words(&search, &items).await, expected);
}

// The document was parsed up to the field that the index has no room for, and only the cause said so.
#[tokio::test]
async fn a_full_mapping_is_the_targets_fault_wherever_the_answer_says_so() {
    let limit = "Limit of total fields [1000] has been exceeded while adding new fields [1]";
    let within = |reason: &str, cause: &str| {
        json!({"status": 400, "error": {
            "type": "document_parsing_exception", "reason": reason, "caused_by": {"reason": cause},
        }})
    };
    let results = [
        within(&format!("[1:9] failed to parse: {limit}"), ""),
        within("failed to parse", limit),
        within("failed to parse field [price]", "For input string: \"x\""),
    ];
    let (_target, search) = engine(Dialect::Elasticsearch, move |_| bulk(&results)).await;
    let outcomes = outcomes(&search, &[put("a"), put("b"), put("c")]).await;
    let words: Vec<_> = outcomes.iter().map(word).collect();
    assert_eq!(words, ["trip", "trip", "refused"]);
    assert!(
        matches!(&outcomes[2], Outcome::Refused { reason, .. } if reason.contains("For input string")),
        "{outcomes:?}"
    );
}

#[tokio::test]
async fn a_body_that_is_too_long_is_halved_in_each_dialect_and_refused_alone() {
    let meilisearch = r#"{"message":"m","code":"payload_too_large","type":"invalid_request"}"#;
    for dialect in [
        Dialect::OpenSearch,
        Dialect::Meilisearch,
        Dialect::Typesense,
        Dialect::Algolia,
    ] {
        for body in ["", "<html>413</html>", meilisearch] {
            let (_target, search) = engine(dialect, move |_| Reply::Body(413, body.into())).await;
            let two = words(&search, &[put("a"), put("b")]).await;
            assert_eq!(two, ["again"; 2], "{dialect:?} {body}");
            let one = words(&search, &[put("a")]).await;
            assert_eq!(one, ["refused"], "{dialect:?} {body}");
        }
    }
}

#[test]
fn the_hosts_of_algolia_are_known_by_the_first() {
    let hosts = |url: &str| algolia::hosts(&Address::parse(url).expect("a URL"));
    assert_eq!(
        hosts("https://abc123.algolia.net"),
        [
            "https://abc123.algolia.net",
            "https://abc123-1.algolianet.com",
            "https://abc123-2.algolianet.com",
            "https://abc123-3.algolianet.com",
        ]
    );
    // A host of somebody's own has no others.
    assert_eq!(hosts("http://127.0.0.1:1/"), ["http://127.0.0.1:1"]);
}

// The first host was dead for a morning, and the index stood still beside three that were well.
#[tokio::test]
async fn a_dead_host_of_algolia_is_passed_over_but_only_while_nothing_was_sent() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let dead = format!("http://{}", free.local_addr().expect("an address"));
    drop(free);
    let published = |asked: &Asked| match asked.method.as_str() {
        "POST" => Reply::Body(200, r#"{"taskID":5}"#.into()),
        _ => Reply::Body(200, r#"{"status":"published"}"#.into()),
    };
    let second = Fixture::start(published).await;
    let (_unused, mut search) = engine(Dialect::Algolia, published).await;
    search.engine.hosts = vec![dead.clone(), second.url("")];
    assert_eq!(words(&search, &[put("a")]).await, ["delivered"]);
    assert_eq!(second.asked().len(), 2);

    // A check complained of a target whose deliveries were made.
    let mut of_dead = options(&second, Dialect::Algolia);
    of_dead.url = Address::parse(&dead).expect("a URL");
    let mut checked = Search::open(&of_dead).expect("opens");
    checked.engine.hosts = search.engine.hosts.clone();
    assert_eq!(checked.check().await, Ok(Vec::new()));
    checked.engine.hosts = vec![dead.clone(), dead.clone()];
    checked.engine.host.store(0, Ordering::Relaxed);
    assert!(checked.check().await.is_err());

    // This one may have applied the request.
    let first = Fixture::start(|_| Reply::Half(200)).await;
    let third = Fixture::start(published).await;
    search.engine.hosts = vec![first.url(""), third.url("")];
    search.engine.host.store(0, Ordering::Relaxed);
    assert_eq!(words(&search, &[put("a")]).await, ["uncertain"]);
    assert_eq!(third.asked().len(), 0);

    search.engine.hosts = vec![dead.clone(), dead];
    assert_eq!(words(&search, &[put("a")]).await, ["trip"]);
}
