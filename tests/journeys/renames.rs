//! Channels that get another name: whatever is kept by their names goes with them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::feeds::records;
use crate::files::{held, lines};

use crate::support::{Reply, Stage, becomes, change, eventually};

/// Two channels with inline targets, whose names are those of their channels.
fn config(feed: &str, log: &str) -> String {
    format!(
        r#"
[entities.product]
facets.content = {{ owner = "pim" }}
[sources.pim]
[channels.{feed}
entity = "product"
facets = ["content"]
[channels.{feed_name}.target]
kind = "feed"
format = "csv"
fields = {{ key = "/key", price = "/facets/content" }}
interval = "100ms"
[channels.{log}
entity = "product"
facets = ["content"]
[channels.{log_name}.target]
kind = "file"
path = "out/all.ndjson"
"#,
        feed_name = name(feed),
        log_name = name(log),
    )
}

/// The name in `name]` and in `name]\nwas = "…"`.
fn name(section: &str) -> &str {
    section.split(']').next().expect("a name")
}

fn products(numbers: std::ops::Range<u64>, price: u64) -> Vec<Value> {
    let changed = |number| change(&format!("p{number:03}"), "content", json!(price));
    numbers.map(changed).collect()
}

fn prices(numbers: std::ops::Range<u64>, price: u64) -> BTreeMap<String, u64> {
    numbers
        .map(|number| (format!("p{number:03}"), price))
        .collect()
}

fn fetch(stage: &Stage, feed: &str) -> Reply {
    stage.weir().get(&format!("/v1/feeds/{feed}"))
}

fn etag(reply: &Reply) -> Option<String> {
    reply.header("etag").map(str::to_owned)
}

// A feed was given a better name. Its new files were empty, all products counted as delivered, and after the next
// price the receiver found a catalogue of one product.
#[test]
fn a_feed_whose_channel_has_another_name_keeps_all_of_its_records() {
    let before = config("web]", "log]");
    let after = config("site]\nwas = \"web\"", "log]");
    for restarts in [false, true] {
        let mut stage = Stage::closed(&before);
        std::fs::create_dir(stage.folder().join("out")).expect("a folder");
        stage.start();
        stage.takes("pim", &products(0..100, 1));
        becomes("the feed", prices(0..100, 1), || {
            let reply = fetch(&stage, "web");
            if reply.status == 200 {
                records(&reply.body)
            } else {
                BTreeMap::new()
            }
        });
        stage.settles("web");
        let served = etag(&fetch(&stage, "web"));
        match restarts {
            false => stage.reloads(&after),
            true => {
                stage.stop();
                stage.configure(&after);
                stage.start();
            }
        }
        // What was published is there at once.
        let reply = fetch(&stage, "site");
        assert_eq!((reply.status, etag(&reply)), (200, served), "{restarts}");
        assert_eq!(fetch(&stage, "web").status, 404);
        let targets = stage.folder().join("data/targets");
        assert!(targets.join("site").exists() && !targets.join("web").exists());

        stage.takes("pim", &products(0..1, 2));
        let mut expected = prices(1..100, 1);
        expected.extend(prices(0..1, 2));
        let changed = || {
            let found = records(&fetch(&stage, "site").body);
            (found.get("p000") == Some(&2)).then_some(found)
        };
        let found = eventually("the next generation", changed);
        assert_eq!(found, expected, "{restarts}");
        stage.settles("site");
        let said = "does not hold any more what it acknowledged";
        assert!(!stage.weir().log().contains(said), "nothing was lost");
        // Also for the start after the next: nothing is left behind that would be renamed once more.
        stage.kill();
        stage.start();
        assert_eq!(records(&fetch(&stage, "site").body), expected);
        assert!(!stage.weir().log().contains(said), "nothing was lost");
    }
}

// A file was cut while Weir was stopped, after its channel had been renamed. Nothing remembered how long it had been.
#[test]
fn a_target_that_forgot_is_noticed_although_its_channel_has_another_name() {
    for restarts in [false, true] {
        let mut stage = Stage::closed(&config("web]", "log]"));
        let out = stage.folder().join("out");
        std::fs::create_dir(&out).expect("a folder");
        stage.start();
        stage.takes("pim", &products(0..50, 1));
        let full = || -> BTreeMap<String, Value> {
            let all = (0..50).map(|number| (format!("p{number:03}"), json!(1)));
            all.collect()
        };
        becomes("the lines", full(), || held(&lines(&out, false)));
        stage.settles("log");
        let after = config("web]", "journal]\nwas = \"log\"");
        if !restarts {
            stage.reloads(&after);
            stage.settles("journal");
        }
        stage.stop();
        stage.configure(&after);
        std::fs::write(out.join("all.ndjson"), "").expect("it is cut");
        stage.start();
        stage.takes("pim", &products(50..51, 1));
        let mut expected = full();
        expected.insert("p050".to_owned(), json!(1));
        becomes("all lines again", expected, || held(&lines(&out, false)));
    }
}

// The files of a feed that nobody had any more stayed on the disk, and credentials in the store.
#[test]
fn what_is_kept_of_an_inline_target_goes_with_the_channel_that_is_forgotten() {
    let both = config("web]", "log]");
    let stage = Stage::closed(&both);
    std::fs::create_dir(stage.folder().join("out")).expect("a folder");
    let mut stage = stage;
    stage.start();
    stage.takes("pim", &products(0..10, 1));
    stage.settles("web");
    let folder = stage.folder().join("data/targets/web");
    eventually("its files", || folder.exists().then_some(()));
    let (before, _) = both.split_once("[channels.web]").expect("two parts");
    let (_, after) = both.split_once("[channels.log]").expect("two parts");
    stage.reloads(&format!("{before}[channels.log]{after}"));
    assert!(folder.exists(), "it may come back");
    let (code, said) = stage.tell(&["channel", "forget", "web"]);
    assert_eq!(code, 0, "{said}");
    assert!(!folder.exists());
    // Everything is owed to one that comes later.
    stage.reloads(&both);
    becomes("the feed", prices(0..10, 1), || {
        let reply = fetch(&stage, "web");
        if reply.status == 200 {
            records(&reply.body)
        } else {
            BTreeMap::new()
        }
    });
}
