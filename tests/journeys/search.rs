//! Search engines of each dialect, from outside: events come in, the index holds the newest state, and
//! an engine in trouble costs no document.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::guests;
use crate::support::weir::command;
use crate::support::{Dialect, Engine, Mood, Stage, becomes, change, deletion, eventually};

const CATALOG: &str = r#"
[entities.product]
facets.content = { owner = "pim" }
[sources.pim]
[targets.search]
kind = "search"
dialect = "{dialect}"
url = "{url}"
index = "products"
timeout = "30s"
[channels.search]
entity = "product"
facets = ["content"]
target = "search"
retry = { first = "20ms", cap = "100ms" }
"#;

/// Tells a story with each of these engines, all at the same time.
fn each(dialects: &[Dialect], story: impl Fn(Stage, Engine, Dialect) + Send + Sync) {
    std::thread::scope(|scope| {
        let told = dialects.iter().map(|dialect| {
            let story = &story;
            scope.spawn(move || {
                let engine = Engine::start(*dialect);
                let config = CATALOG
                    .replace("{dialect}", &dialect.name())
                    .replace("{url}", &engine.url());
                story(Stage::with(&config), engine, *dialect);
            })
        });
        let told: Vec<_> = told.collect();
        for (dialect, told) in dialects.iter().zip(told) {
            assert!(told.join().is_ok(), "the story with {dialect:?} failed");
        }
    });
}

/// Waits until the index holds exactly these contents.
#[track_caller]
fn holds(engine: &Engine, expected: impl IntoIterator<Item = (String, Value)>) {
    let expected: BTreeMap<String, Value> = expected.into_iter().collect();
    becomes("the documents of the index", expected.len(), || {
        engine.documents()
    });
    becomes("the content of the index", expected, || engine.holds());
}

fn product(number: usize) -> String {
    format!("p{number}")
}

fn changes(numbers: std::ops::Range<usize>, content: &Value) -> Vec<Value> {
    let changed = |number| change(&product(number), "content", content.clone());
    numbers.map(changed).collect()
}

fn contents(numbers: std::ops::Range<usize>, content: Value) -> Vec<(String, Value)> {
    let content = |number| (product(number), content.clone());
    numbers.map(content).collect()
}

#[test]
fn keys_of_any_kind_are_written_changed_and_deleted() {
    each(&Dialect::ALL, |stage, engine, _| {
        let umlauts = "ä".repeat(300);
        let keys = ["a/b", "a.b", "a_b", "A_B", "a b", "👍🏽", &umlauts];
        for content in ["old", "new"] {
            let changes = keys.map(|key| change(key, "content", json!(content)));
            stage.takes("pim", &changes);
            holds(&engine, keys.map(|key| (key.into(), json!(content))));
        }
        stage.takes("pim", &keys.map(|key| deletion(key, "content")));
        holds(&engine, []);
    });
}

#[test]
fn a_document_that_an_engine_refuses_costs_only_itself() {
    each(&Dialect::ALL, |stage, engine, _| {
        stage.operate("search", "pause");
        stage.takes("pim", &changes(0..60, &json!("fine")));
        stage.takes("pim", &changes(41..42, &json!("unfit")));
        stage.operate("search", "resume");
        stage.stands(&product(41), "search", "refused");
        let others = contents(0..60, json!("fine"));
        let others = others.into_iter().filter(|(key, _)| *key != product(41));
        holds(&engine, others);
        assert_eq!(stage.refused("search").len(), 1);

        stage.takes("pim", &changes(41..42, &json!("fine")));
        holds(&engine, contents(0..60, json!("fine")));
        stage.stands(&product(41), "search", "delivered");
    });
}

// The disk of an engine was full for an hour, it said so about each document, and the catalogue stood in
// the list of what was refused.
#[test]
fn an_engine_without_room_refuses_nothing_and_gets_everything_once_it_has_room() {
    each(&Dialect::ALL, |stage, engine, _| {
        check_trouble(&stage, &engine, Mood::Full);
    });
}

fn check_trouble(stage: &Stage, engine: &Engine, mood: Mood) {
    stage.takes("pim", &changes(0..10, &json!(1)));
    holds(engine, contents(0..10, json!(1)));
    engine.is(mood);
    stage.takes("pim", &changes(0..30, &json!(2)));
    stage.channel_is("search", "tripped");
    engine.is(Mood::Well);
    holds(engine, contents(0..30, json!(2)));
    assert_eq!(stage.refused("search"), Vec::<Value>::new());
}

// Attributes became fields, and at the 1,001st each new product was refused.
#[test]
fn a_mapping_without_room_for_another_field_refuses_nothing() {
    let with_mappings = [Dialect::Elasticsearch, Dialect::OpenSearch];
    each(&with_mappings, |stage, engine, _| {
        check_trouble(&stage, &engine, Mood::NoField);
    });
}

fn check_missing(stage: &Stage, engine: &Engine, dialect: Dialect) {
    stage.takes("pim", &changes(0..3, &json!(1)));
    holds(engine, contents(0..3, json!(1)));
    engine.index_is_there(false);
    stage.takes("pim", &changes(3..4, &json!(1)));
    stage.channel_is("search", "tripped");
    let reason = stage.channel("search")["reason"].to_string();
    assert!(!engine.was_guessed(), "{dialect:?}: {reason}");

    // Weir recognises that it is another one, and sends everything.
    engine.index_is_there(true);
    holds(engine, contents(0..4, json!(1)));
    assert_eq!(stage.refused("search"), Vec::<Value>::new());
}

// An index was dropped by mistake, the next price created it again with a guessed mapping, and the shop
// sorted prices as texts.
#[test]
fn an_index_that_goes_missing_is_not_created_but_waited_for() {
    let creating = [
        Dialect::Elasticsearch,
        Dialect::OpenSearch,
        Dialect::Meilisearch,
        Dialect::Typesense,
    ];
    each(&creating, |stage, engine, dialect| {
        check_missing(&stage, &engine, dialect);
    });
}

#[test]
fn an_alias_that_goes_missing_is_not_created_but_waited_for() {
    let with_aliases = [Dialect::Elasticsearch, Dialect::OpenSearch];
    each(&with_aliases, |stage, engine, dialect| {
        engine.is_behind_an_alias();
        check_missing(&stage, &engine, dialect);
    });
}

// Meilisearch makes a task of each request and applies one at a time: a catalogue in thousands of small
// requests kept it busy for an hour.
#[test]
fn a_catalogue_that_was_held_back_goes_in_few_requests() {
    each(&Dialect::ALL, |stage, engine, dialect| {
        stage.operate("search", "pause");
        for first in (0..6_000).step_by(2_000) {
            stage.takes("pim", &changes(first..first + 2_000, &json!(1)));
        }
        stage.operate("search", "resume");
        holds(&engine, contents(0..6_000, json!(1)));
        // Full requests are 6. The first are made before the channel knows how long documents are, and
        // with several slots on a busy machine one may start before it is full.
        let most = match dialect {
            Dialect::Meilisearch | Dialect::Typesense => 12,
            _ => 60,
        };
        let writes = engine.writes();
        assert!(writes <= most, "{dialect:?}: {writes} requests");
    });
}

#[test]
fn a_check_looks_at_the_index_before_the_first_delivery() {
    let with_mappings = [Dialect::Elasticsearch, Dialect::OpenSearch];
    each(&with_mappings, |stage, engine, _| {
        let (code, text) = stage.check_connections(&[]);
        assert!(
            code == 0 && text.contains("guesses the type of each field"),
            "{code:?} {text}"
        );
        engine.index_is_there(false);
        let (code, text) = stage.check_connections(&[]);
        assert!(
            code == 1 && text.contains("there is no index \"products\""),
            "{code:?} {text}"
        );
        assert_eq!(engine.writes(), 0);
    });
}

// The channel had a filter, so that it looked as if something rendered its prices.
#[test]
fn a_check_warns_of_facets_that_become_fields_behind_a_filter_too() {
    let family = "facets.\"stock.*\" = { owner = \"pim\" }\n[sources.pim]";
    let filtered = "facets = [\"stock.*\"]\nplugins = [\"in-stock\"]";
    let path = guests::plugin("in-stock");
    let config = CATALOG
        .replace("{dialect}", "opensearch")
        .replace("{url}", "http://127.0.0.1:1")
        .replace("[sources.pim]", family)
        .replace("facets = [\"content\"]", filtered);
    let stage = Stage::closed(&format!("{config}[plugins.in-stock]\npath = {path:?}\n"));
    let output = command(stage.folder(), &["check", "-c", "weir.toml"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && text.contains("each facet of \"stock.*\" becomes a field"),
        "{text}"
    );
}

#[test]
fn a_kill_in_the_middle_of_a_request_leaves_the_newest_state_behind() {
    each(&Dialect::ALL, |mut stage, engine, _| {
        stage.takes("pim", &changes(0..200, &json!(1)));
        holds(&engine, contents(0..200, json!(1)));
        engine.is(Mood::Silent);
        let before = engine.writes();
        stage.takes("pim", &changes(0..100, &json!(2)));
        stage.takes("pim", &[deletion("p150", "content")]);
        eventually("a request is without an answer", || {
            (engine.writes() > before).then_some(())
        });
        stage.kill();
        engine.is(Mood::Well);
        stage.start();
        // Back to what the index certainly held before the kill.
        stage.takes("pim", &changes(0..50, &json!(1)));
        let newest = |number: usize| match number {
            50..100 => json!(2),
            _ => json!(1),
        };
        let expected = (0..200).filter(|number| *number != 150);
        holds(
            &engine,
            expected.map(|number| (product(number), newest(number))),
        );
        assert_eq!(stage.refused("search"), Vec::<Value>::new());
    });
}
