//! NATS from outside: events come in, a bucket holds the newest state, and neither a server that is killed nor
//! a Weir that is killed costs anything.

use std::collections::BTreeMap;

use async_nats::jetstream::{self, kv};
use futures_util::TryStreamExt;
use serde_json::{Value, json};

use crate::support::bus::Bus;
use crate::support::proxy::{Proxy, Way};
use crate::support::weir::command;
use crate::support::{Stage, change, deletion, eventually};

const CATALOG: &str = r#"
[entities.product]
facets.content = { owner = "pim" }
[sources.pim]
[targets.bus]
kind = "nats"
url = "{url}"
kv = "catalog"
timeout = "5s"
[channels.bus]
entity = "product"
facets = ["content"]
target = "bus"
retry = { first = "20ms", cap = "200ms" }
"#;

/// Whoever looks into a server.
struct Reader {
    runtime: tokio::runtime::Runtime,
    js: jetstream::Context,
}

impl Reader {
    fn of(bus: &Bus) -> Reader {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let js = runtime.block_on(async {
            let client = async_nats::connect(bus.url()).await;
            jetstream::new(client.expect("it connects"))
        });
        Reader { runtime, js }
    }

    fn makes_the_bucket(&self) {
        let config = kv::Config {
            bucket: "catalog".into(),
            ..kv::Config::default()
        };
        let made = self.runtime.block_on(self.js.create_key_value(config));
        made.expect("a bucket");
    }

    /// The content of each product in the bucket; `None` while it cannot be read.
    fn holds(&self) -> Option<BTreeMap<String, Value>> {
        self.runtime.block_on(async {
            let store = self.js.get_key_value("catalog").await.ok()?;
            let keys: Vec<String> = store.keys().await.ok()?.try_collect().await.ok()?;
            let mut held = BTreeMap::new();
            for key in keys {
                if let Some(value) = store.get(&key).await.ok()? {
                    let document: Value = serde_json::from_slice(&value).ok()?;
                    held.insert(key, document["facets"]["content"].clone());
                }
            }
            Some(held)
        })
    }
}

fn contents(numbers: std::ops::Range<usize>, content: &Value) -> Vec<Value> {
    let changed = |number| change(&format!("p{number}"), "content", content.clone());
    numbers.map(changed).collect()
}

#[track_caller]
fn settles(reader: &Reader, expected: &BTreeMap<String, Value>) {
    eventually("the bucket holds what is there now", || {
        (reader.holds()? == *expected).then_some(())
    });
}

// A server was restarted in the middle of the night's load. The bridge of those days sent what it had queued
// after it had connected again, and older prices came after newer ones.
#[test]
fn a_bucket_ends_with_the_newest_state_whoever_is_killed_on_the_way() {
    let Some(mut bus) = Bus::start("the journey of a bucket") else {
        return;
    };
    Reader::of(&bus).makes_the_bucket();
    let proxy = Proxy::before(bus.port());
    let url = format!("nats://127.0.0.1:{}", proxy.port());
    let mut stage = Stage::with(&CATALOG.replace("{url}", &url));
    stage.takes("pim", &contents(0..2_000, &json!(1)));
    eventually("the first have arrived", || {
        Reader::of(&bus).holds().filter(|held| !held.is_empty())
    });
    bus.kill();
    stage.takes("pim", &contents(0..1_000, &json!(2)));
    bus.restart();
    proxy.is(Way::NoAnswers);
    stage.takes("pim", &contents(0..500, &json!(3)));
    eventually("an answer is lost", || (proxy.lost() > 0).then_some(()));
    stage.kill();
    proxy.is(Way::Open);
    stage.start();
    stage.takes("pim", &[deletion("p7", "content")]);
    let newest = |number: usize| match number {
        0..500 => json!(3),
        500..1_000 => json!(2),
        _ => json!(1),
    };
    let expected = (0..2_000)
        .filter(|number| *number != 7)
        .map(|number| (format!("p{number}"), newest(number)))
        .collect();
    settles(&Reader::of(&bus), &expected);
    assert_eq!(stage.refused("bus"), Vec::<Value>::new());
}

// A bucket was deleted and made again for a test, and stayed empty: everything counted as delivered.
#[test]
fn a_bucket_that_was_made_anew_is_filled_again_by_itself() {
    let Some(bus) = Bus::start("a bucket that was made anew") else {
        return;
    };
    let reader = Reader::of(&bus);
    let stage = Stage::with(&CATALOG.replace("{url}", &bus.url()));
    let (code, text) = stage.check_connections(&[]);
    assert!(
        code == 1 && text.contains("there is no bucket \"catalog\""),
        "{code:?} {text}"
    );
    stage.takes("pim", &contents(0..20, &json!(1)));
    stage.channel_is("bus", "tripped");
    reader.makes_the_bucket();
    let all = |content: Value| -> BTreeMap<String, Value> {
        (0..20)
            .map(|number| (format!("p{number}"), content.clone()))
            .collect()
    };
    settles(&reader, &all(json!(1)));
    assert_eq!(stage.check_connections(&[]).0, 0);

    let gone = reader
        .runtime
        .block_on(reader.js.delete_key_value("catalog"));
    gone.expect("it is deleted");
    reader.makes_the_bucket();
    stage.takes("pim", &contents(0..1, &json!(1)));
    stage.takes("pim", &contents(1..2, &json!(2)));
    let mut expected = all(json!(1));
    expected.insert("p1".to_owned(), json!(2));
    settles(&reader, &expected);
    assert_eq!(stage.refused("bus"), Vec::<Value>::new());
}

// A bucket was made anew while one of its channels was out of the configuration. When the channel came back,
// all of its pages counted as delivered, and none was in the bucket.
#[test]
fn a_channel_that_comes_back_fills_the_bucket_that_was_made_anew_without_it() {
    let Some(bus) = Bus::start("a bucket that was made anew without a channel") else {
        return;
    };
    let reader = Reader::of(&bus);
    reader.makes_the_bucket();
    let alone = format!(
        "{}[entities.page]\nfacets.content = {{ owner = \"pim\" }}\n",
        CATALOG.replace("{url}", &bus.url()).replace(
            "kv = \"catalog\"",
            "kv = \"catalog\"\nkey = \"{entity}.{key}\""
        )
    );
    let pages = "[channels.pages]\nentity = \"page\"\nfacets = [\"content\"]\ntarget = \"bus\"\n";
    let both = format!("{alone}{pages}");
    let stage = Stage::with(&both);
    let page = json!({"type": "page", "key": "home", "facet": "content", "value": 1});
    stage.takes("pim", &[page, change("p0", "content", json!(1))]);
    let holds = |p0: i32, pages: &[&str]| {
        let pages = pages.iter().map(|key| (key.to_string(), json!(1)));
        let expected = pages
            .chain([("product.p0".to_owned(), json!(p0))])
            .collect();
        settles(&reader, &expected);
    };
    holds(1, &["page.home"]);
    // The outcomes have been settled too.
    stage.settles("pages");
    stage.settles("bus");

    stage.reloads(&alone);
    let gone = reader
        .runtime
        .block_on(reader.js.delete_key_value("catalog"));
    gone.expect("it is deleted");
    reader.makes_the_bucket();
    stage.takes("pim", &[change("p0", "content", json!(2))]);
    holds(2, &[]);
    stage.reloads(&both);
    holds(2, &["page.home"]);
}

#[test]
fn nothing_is_suppressed_where_nobody_knows_what_became_of_it() {
    let core = CATALOG
        .replace("{url}", "nats://127.0.0.1:1")
        .replace("kv = \"catalog\"", "subject = \"p.{key}\"\ncore = true");
    let explicit = core.replace("target = \"bus\"", "target = \"bus\"\nsuppress = true");
    for (config, expected) in [(&core, Some(0)), (&explicit, Some(1))] {
        let stage = Stage::closed(config);
        let output = command(stage.folder(), &["check", "-c", "weir.toml"]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), expected, "{text}");
    }
}
