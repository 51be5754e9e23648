//! Drift checks, from outside: a target loses and changes what it had acknowledged, `weir channel drift`
//! says so, and `--repair` sends only that again. An index that was made again is noticed without a check.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::support::{Act, Dialect, Engine, Stage, becomes, change, deletion};

const CATALOG: &str = r#"
[entities.product]
facets.content = { owner = "pim" }
[sources.pim]
[targets.search]
{target}
[channels.search]
entity = "product"
facets = ["content"]
target = "search"
retry = { first = "20ms", cap = "100ms" }
"#;

/// Weir with 8 products at a search engine.
fn filled(dialect: Dialect) -> (Stage, Engine) {
    let engine = Engine::start(dialect);
    let target = format!(
        "kind = \"search\"\ndialect = \"{}\"\nurl = \"{}\"\nindex = \"products\"\n",
        dialect.name(),
        engine.url()
    );
    let stage = Stage::with(&CATALOG.replace("{target}", &target));
    let products = (0..8).map(|number| change(&format!("p{number}"), "content", json!({"n": 1})));
    stage.takes("pim", &products.collect::<Vec<_>>());
    becomes("documents", 8, || engine.documents());
    stage.settles("search");
    (stage, engine)
}

#[test]
fn an_index_that_lost_and_changed_documents_gets_only_these_again() {
    std::thread::scope(|scope| {
        for dialect in Dialect::ALL {
            scope.spawn(move || {
                let (stage, engine) = filled(dialect);
                let fine = stage.tell(&["channel", "drift", "search"]);
                assert_eq!(
                    fine,
                    (0, "search: no difference in 8 entities\n".to_owned()),
                    "{dialect:?}"
                );
                engine.changes(|documents| {
                    documents.remove("p1");
                    let content = &mut documents.get_mut("p2").expect("it is there").1;
                    content["facets"]["content"]["n"] = json!(99);
                    let theirs = json!({"id": "theirs", "objectID": "theirs"});
                    documents.insert("theirs".to_owned(), (1, theirs));
                });
                let (code, said) = stage.tell(&["channel", "drift", "search"]);
                assert_eq!(code, 1, "{dialect:?}: {said}");
                for expected in [
                    "search: 3 differences in 8 entities: 1 missing, 1 extra, 0 older, 1 different\n",
                    "missing     p1\n",
                    "different   p2      /facets/content/n\n",
                    "extra       theirs\n",
                    "to send what differs again: weir channel drift search --repair\n",
                ] {
                    assert!(said.contains(expected), "{dialect:?}: {expected}{said}");
                }
                let drift = &stage.channel("search")["last_drift"];
                assert_eq!((&drift["missing"], &drift["extra"]), (&json!(1), &json!(1)));

                let writes = engine.writes();
                let (code, said) = stage.tell(&["channel", "drift", "search", "--repair"]);
                assert_eq!(code, 1, "{dialect:?}: {said}");
                assert!(said.contains("2 are sent again\n"), "{dialect:?}: {said}");
                let expected = (0..8).map(|number| (format!("p{number}"), json!({"n": 1})));
                let expected: BTreeMap<String, Value> = expected.collect();
                becomes("the index", expected, || {
                    let mut holds = engine.holds();
                    holds.remove("");
                    holds
                });
                stage.settles("search");
                assert!(engine.writes() - writes <= 2, "{dialect:?}");
                let writes = engine.writes();

                let (code, said) = stage.tell(&["channel", "resend", "search", "product/p3"]);
                assert_eq!((code, &*said), (0, "search: product/p3 is sent again\n"));
                becomes("a write more", true, || engine.writes() > writes);
                let (code, said) = stage.tell(&["channel", "resend", "search", "product/none"]);
                assert_eq!(code, 1, "{said}");
            });
        }
    });
}

// Somebody made the index again with a new mapping. Each document counted as delivered, and the search stayed
// empty until an operator thought of a resync.
#[test]
fn an_index_that_was_made_again_gets_everything() {
    std::thread::scope(|scope| {
        // Algolia says nothing by which an index could be recognised.
        for dialect in [
            Dialect::Elasticsearch,
            Dialect::Meilisearch,
            Dialect::Typesense,
        ] {
            scope.spawn(move || {
                let (mut stage, engine) = filled(dialect);
                if dialect == Dialect::Typesense {
                    // Its index is looked at when the target is opened, and after trouble.
                    stage.stop();
                    engine.index_is_there(true);
                    stage.start();
                } else {
                    engine.index_is_there(true);
                }
                stage.takes("pim", &[change("p0", "content", json!({"n": 2}))]);
                becomes("all documents again", 8, || engine.documents());
                stage.settles("search");
                assert_eq!(engine.holds()["p0"], json!({"n": 2}));
            });
        }
    });
}

#[test]
fn an_api_is_asked_for_each_entity_and_one_that_cannot_be_asked_is_named() {
    let stage = Stage::with(&CATALOG.replace(
        "{target}",
        "kind = \"webhook\"\nurl = \"{shop}/{key}\"\nget = { url = \"{shop}/{key}\", at = \"/product\" }\n",
    ));
    let products = (0..4).map(|number| change(&format!("p{number}"), "content", json!({"n": 1})));
    stage.takes("pim", &products.collect::<Vec<_>>());
    stage.settles("search");
    stage.takes("pim", &[deletion("p3", "content")]);
    stage.settles("search");
    // A shop that gets too many requests is asked again after a while.
    let throttles = AtomicBool::new(true);
    stage.shop.does(move |request| {
        let key = request.path.rsplit('/').next();
        let held = |n: u64| {
            let facets = json!({"content": {"n": n}});
            let product =
                json!({"type": "product", "key": key, "facets": facets, "updated": "now"});
            Act::Say(200, json!({ "product": product }).to_string())
        };
        match (request.method.as_str(), key) {
            ("GET", Some("p0")) if throttles.swap(false, Ordering::SeqCst) => {
                Act::Say(429, String::new())
            }
            ("GET", Some("p0")) => held(1),
            ("GET", Some("p1")) => held(7),
            ("GET", Some("p2")) => Act::Say(404, String::new()),
            // It was deleted, and is still there.
            ("GET", Some("p3")) => held(1),
            _ => Act::Say(200, String::new()),
        }
    });
    let (code, said) = stage.tell(&["channel", "drift", "search"]);
    assert_eq!(code, 1, "{said}");
    for expected in [
        "search: 3 differences in 4 entities: 1 missing, 1 extra, 0 older, 1 different\n",
        "missing     p2\n",
        "extra       p3\n",
        "different   p1   /facets/content/n\n",
        "keys that no entity has were not looked for: this kind of target cannot list what it holds\n",
        "to send what differs again: weir channel drift search --repair\n",
    ] {
        assert!(said.contains(expected), "{expected}{said}");
    }
    assert!(!said.contains("could not be found out"), "{said}");

    let plain = Stage::with(&CATALOG.replace("{target}", "kind = \"webhook\"\nurl = \"{shop}\"\n"));
    plain.takes("pim", &[change("p0", "content", json!({"n": 1}))]);
    plain.settles("search");
    let (code, said) = plain.tell(&["channel", "drift", "search"]);
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("channel search: the drift check failed: Weir does not know where this API shows what it holds; write get = {"),
        "{said}"
    );
    let (code, said) = plain.tell(&["channel", "drift", "nope"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("there is no channel `nope`"), "{said}");
}

// The sequence of a Weir begins at the time, so whatever is ahead of it is high. An operator who wanted to
// overwrite it was told that it was too high, whatever it was.
#[test]
fn what_is_ahead_of_weir_is_overwritten_when_an_operator_says_so() {
    let target = "kind = \"file\"\npath = \"out/all.ndjson\"\n";
    let mut stage = Stage::closed(&CATALOG.replace("{target}", target));
    std::fs::create_dir(stage.folder().join("out")).expect("a folder");
    stage.start();
    stage.takes("pim", &[change("p0", "content", json!({"n": 1}))]);
    stage.settles("search");
    let (code, said) = stage.tell(&["channel", "overwrite", "search"]);
    assert!(code == 1 && said.contains("is not ahead"), "{code} {said}");

    let path = stage.folder().join("out/all.ndjson");
    let ahead = 230_000_000_000_000_u64;
    let line =
        format!("{{\"type\":\"product\",\"key\":\"p0\",\"sequence\":{ahead},\"deleted\":true}}\n");
    let mut file = (std::fs::File::options().append(true).open(&path)).expect("the file");
    file.write_all(line.as_bytes()).expect("it is written");
    stage.takes("pim", &[change("p0", "content", json!({"n": 2}))]);
    stage.channel_is("search", "ahead");

    let (code, said) = stage.tell(&["channel", "overwrite", "search"]);
    assert_eq!(code, 0, "{said}");
    let last = || {
        let text = std::fs::read_to_string(&path).expect("text");
        // It may be in the middle of being written.
        let line = text.lines().last().unwrap_or_default();
        serde_json::from_str::<Value>(line).unwrap_or_default()
    };
    becomes("the last line", json!({"n": 2}), || {
        last()["content"]["facets"]["content"].clone()
    });
    stage.channel_is("search", "flowing");
    stage.takes("pim", &[change("p1", "content", json!({"n": 3}))]);
    becomes("a sequence above", true, || {
        last()["sequence"].as_u64().is_some_and(|it| it > ahead)
    });
}

// The store of Weir was lost. Its versions began again below those of the index, so that each document stayed as it
// was, and there was no command that settled it.
#[test]
fn an_index_that_is_ahead_of_weir_is_overwritten_when_an_operator_says_so() {
    let (stage, engine) = filled(Dialect::OpenSearch);
    let ahead = 230_000_000_000_000_u64;
    engine.changes(|documents| documents.get_mut("p1").expect("it is there").0 = ahead);
    stage.takes("pim", &[change("p1", "content", json!({"n": 2}))]);
    stage.channel_is("search", "ahead");
    let reason = stage.channel("search")["reason"].to_string();
    for words in [&*ahead.to_string(), "weir channel overwrite search"] {
        assert!(reason.contains(words), "{words} in {reason}");
    }
    assert_eq!(engine.holds()["p1"], json!({"n": 1}));
    let (code, said) = stage.tell(&["channel", "overwrite", "search"]);
    assert_eq!(code, 0, "{said}");
    becomes("the document", json!({"n": 2}), || {
        engine.holds()["p1"].clone()
    });
    stage.channel_is("search", "flowing");
    stage.settles("search");
    assert_eq!(stage.refused("search"), Vec::<Value>::new());
}
