//! Plugins that misbehave. The fault is reported, only the item that caused it is affected, and
//! nothing else is disturbed.

use serde_json::{Value, json};

use crate::support::weir::command;
use crate::support::{Stage, change, eventually, guests};

/// A source with a hostile mapper next to one without a mapper. Each owns a facet, and one channel
/// subscribes to both.
const CONFIG: &str = r#"
[entities.product]
facets.base = { owner = "erp" }
facets.content = { owner = "pim" }
[plugins.guest]
path = "guest.wasm"
limits = { time = "1s", memory = "16MiB", output = "4MiB", log = "4KiB" }
[sources.erp]
plugins = ["guest"]
[sources.pim]
[targets.shop]
kind = "webhook"
url = "{shop}"
[channels.shop]
entity = "product"
facets = ["base", "content"]
target = "shop"
"#;

fn stage(config: &str, guest: &[u8]) -> Stage {
    let mut stage = Stage::closed(config);
    stage.place("guest.wasm", guest);
    stage.start();
    stage
}

/// The first letter of the type chooses what the mapper does.
fn event(letter: &str, key: &str) -> Value {
    json!({"specversion": "1.0", "id": key, "source": "erp", "type": letter, "data": {"of": key}})
}

/// One event among good ones makes the mapper misbehave. It is quarantined with this code and these
/// words, the others are accepted, and what is sent to another source meanwhile is delivered.
fn check(stage: &Stage, letter: &str, code: &str, words: &str) {
    let key = |name: &str| format!("{name}-{letter}");
    let batch: Vec<Value> = [("good", "a"), (letter, "bad"), ("good", "b")]
        .into_iter()
        .map(|(kind, name)| event(kind, &key(name)))
        .collect();
    let reply = stage.send(
        "erp",
        &[("content-type", "application/cloudevents-batch+json")],
        json!(batch).to_string().as_bytes(),
    );
    assert_eq!(reply.status, 202, "{}", reply.text());
    let answer = reply.json();
    assert_eq!(
        (
            &answer["events"]["accepted"],
            &answer["events"]["quarantined"]
        ),
        (&json!(2), &json!(1)),
        "{letter}: {answer:#}"
    );
    assert_eq!(
        (
            &answer["problems"][0]["index"],
            &answer["problems"][0]["code"]
        ),
        (&json!(1), &json!(code)),
        "{answer:#}"
    );

    let kept = stage
        .quarantine("erp")
        .into_iter()
        .find(|kept| kept["event"]["id"] == json!(key("bad")))
        .expect("it is kept");
    assert_eq!(kept["code"], code, "{kept:#}");
    assert!(
        kept["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains(words)),
        "{words:?} is not in {kept:#}"
    );
    assert!(
        kept["plugin"]
            .as_str()
            .is_some_and(|plugin| plugin.starts_with("guest@")),
        "{kept:#}"
    );

    stage.takes("pim", &[change(&key("c"), "content", json!(1))]);
    for name in ["a", "b", "c"] {
        eventually(&format!("{} reaches the shop", key(name)), || {
            stage.shop.holds().get(&key(name)).cloned()
        });
    }
}

#[test]
fn an_event_that_makes_a_mapper_exceed_a_limit_is_quarantined_with_the_limit() {
    let stage = stage(CONFIG, &guests::hostile::mapper());
    check(&stage, "l", "time-limit", "time limit of 1 s exceeded");
    check(&stage, "h", "memory-limit", "16 MiB");
    check(&stage, "r", "stack-limit", "call stack exhausted");
    check(&stage, "o", "output-limit", "4 MiB");
}

#[test]
fn an_event_that_a_mapper_fails_on_is_quarantined_with_its_message() {
    let stage = stage(CONFIG, &guests::hostile::mapper());
    check(&stage, "t", "trap", "unreachable");
    check(&stage, "p", "trap", "panicked at src/lib.rs:7: no price");
    check(&stage, "w", "wrong-length", "results");
    check(&stage, "j", "invalid-json", "JSON");
    check(&stage, "L", "bad-lane", "urgent, normal and bulk");
    check(&stage, "f", "missing-field", "no price");
}

#[test]
fn an_event_that_a_filter_fails_on_is_quarantined_and_does_not_count_as_dropped() {
    let stage = stage(CONFIG, &guests::hostile::source());
    check(&stage, "X", "trap", "unreachable");
    check(&stage, "F", "missing-field", "no price");
    let reply = stage.send(
        "erp",
        &[("content-type", "application/cloudevents+json")],
        event("x", "dropped").to_string().as_bytes(),
    );
    assert_eq!(reply.json()["events"]["filtered"], 1, "{}", reply.text());
}

#[test]
fn events_that_a_broken_mapper_failed_on_are_redriven_to_the_repaired_one() {
    let stage = stage(CONFIG, &guests::hostile::mapper());
    let reply = stage.send(
        "erp",
        &[("content-type", "application/cloudevents+json")],
        event("t", "lamp").to_string().as_bytes(),
    );
    assert_eq!(reply.json()["events"]["quarantined"], 1, "{}", reply.text());
    // The repaired source accepts changes as they are; it has no mapper at all.
    stage.reloads(&CONFIG.replace("plugins = [\"guest\"]", ""));
    let reply = stage
        .weir()
        .post("/v1/sources/erp/quarantine/redrive?all=true");
    assert_eq!(reply.status, 200, "{}", reply.text());
    let kept = stage.quarantine("erp");
    assert_eq!(
        (kept.len(), &kept[0]["code"]),
        (1, &json!("not-a-change")),
        "it was not processed again and quarantined with the new reason: {kept:?}"
    );
}

#[test]
fn an_entity_that_a_renderer_fails_on_is_refused_with_its_message() {
    let config = CONFIG.replace("plugins = [\"guest\"]", "").replace(
        "target = \"shop\"\n",
        "target = \"shop\"\nplugins = [\"guest\"]\n",
    );
    let stage = stage(&config, &guests::hostile::channel());
    // `t` traps, `x` is dropped by the filter, and `n` is not rendered.
    let keys = ["good", "trap", "xdropped", "none", "well"];
    stage.takes(
        "pim",
        &keys.map(|key| change(key, "content", json!({"of": key}))),
    );
    stage.shop_holds(json!({"good": {"of": "good"}, "well": {"of": "well"}}));
    let standing = stage.stands("trap", "shop", "refused");
    let refused = stage.refused("shop");
    assert_eq!(
        (refused.len(), &refused[0]["key"], &refused[0]["code"]),
        (1, &json!("trap"), &json!("plugin")),
        "{refused:?}"
    );
    assert!(
        refused[0]["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains("unreachable")),
        "{refused:?} {standing}"
    );
    let dropped = stage.stands("xdropped", "shop", "withheld");
    assert!(
        dropped["by"]
            .as_str()
            .is_some_and(|by| by.contains("guest")),
        "{dropped}"
    );
    stage.stands("none", "shop", "withheld");
    let preview = stage
        .weir()
        .get("/v1/channels/shop/preview?key=trap")
        .json();
    assert!(
        preview["error"]
            .as_str()
            .is_some_and(|error| error.contains("unreachable")),
        "{preview:#}"
    );
    stage.takes(
        "pim",
        &[change("good", "content", json!({"of": "still good"}))],
    );
    eventually("the next is delivered", || {
        (stage.shop.holds()["good"]["of"] == "still good").then_some(())
    });
}

/// `weir check` and a start reject the component with these words, at the line that names it.
fn check_refused(component: &[u8], settings: &str, words: &[&str]) {
    let stage = Stage::closed(&CONFIG.replace(
        "plugins = [\"guest\"]",
        &format!("plugins = [{{ use = \"guest\", settings = {settings} }}]"),
    ));
    stage.place("guest.wasm", component);
    for verb in ["check", "run"] {
        let output = command(stage.folder(), &[verb, "-c", "weir.toml"]);
        let printed =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{printed}");
        words
            .iter()
            .for_each(|words| assert!(printed.contains(words), "{words:?} is not in: {printed}"));
        assert!(printed.contains("weir.toml:"), "{printed}");
    }
}

#[test]
fn a_file_that_is_not_a_plugin_is_rejected_with_the_remedy() {
    check_refused(
        b"config_version = 1\n",
        "{}",
        &["guest.wasm", "the file is not Wasm"],
    );
    let wasi = r#"(component (import "wasi:cli/environment@0.2.12" (instance (export "get-environment" (func)))))"#;
    check_refused(
        &wat::parse_str(wasi).expect("text"),
        "{}",
        &[
            "imports wasi:cli/environment@0.2.12",
            "wasm32-unknown-unknown",
        ],
    );
    check_refused(
        &wat::parse_str("(component)").expect("text"),
        "{}",
        &["exports none of event-filter, mapper"],
    );
    check_refused(&guests::hostile::channel(), "{}", &["sources.erp.plugins"]);
}

#[test]
fn settings_that_a_plugin_rejects_or_hangs_on_are_rejected_with_its_message() {
    check_refused(
        &guests::hostile::mapper(),
        "{ refuse = 1 }",
        &["currency is missing"],
    );
    check_refused(
        &guests::hostile::mapper(),
        "{ loop = 1 }",
        &["while it was configured"],
    );
}

/// One request of 1,280 bytes made a mapper log 64 KiB for each of 640 events, each tried alone: it
/// wrote 197 MB.
#[test]
fn a_flood_of_log_is_bounded_and_counted() {
    let stage = stage(CONFIG, &guests::versioned::talkative_mapper());
    let batch: Vec<Value> = (0..640).map(|n| event("good", &format!("k{n}"))).collect();
    let headers = [("content-type", "application/cloudevents-batch+json")];
    let before = stage.weir().log().len();
    let reply = stage.send("erp", &headers, json!(batch).to_string().as_bytes());
    assert_eq!(reply.json()["events"]["accepted"], 640, "{}", reply.text());
    let written = stage.weir().log().len() - before;
    println!("640 events of a mapper that logs all it may wrote {written} bytes of log");
    assert!(written < 1 << 20, "{written}");
    stage.weir().says("has used up its quota of 256 KiB of log");
    let metrics = stage.weir().get("/metrics").text().to_owned();
    let dropped = metrics.lines().find_map(|line| {
        line.strip_prefix("weir_plugin_log_lines_dropped_total{plugin=\"guest\"} ")
    });
    let dropped: u64 = dropped.expect("a count").parse().expect("a number");
    assert!(dropped > 10_000, "{dropped}");
}
