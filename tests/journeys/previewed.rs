//! Trying an event out at a source: what each stage would make of it is said, and nothing of it is kept.

use serde_json::{Value, json};

use crate::support::browser::{Browser, ENTER};
use crate::support::weir::command;
use crate::support::{Reply, Stage, change, eventually, guests};

/// A source with a filter and a mapper, one without plugins, and one that wants signatures. The first letter of
/// an event's type decides what the plugin does with it.
const CONFIG: &str = r#"
[entities.product]
facets.base = { owner = "erp" }
facets.content = { owner = "pim" }
facets."price.*" = { owner = "pim", lane = "urgent" }
[plugins.letters]
path = "letters.wasm"
[sources.erp]
plugins = ["letters"]
[sources.pim]
[sources.github]
owner = "pim"
verify = { kind = "hmac", preset = "github", secrets = ["hush"] }
[targets.shop]
kind = "webhook"
url = "{shop}"
[channels.shop]
entity = "product"
facets = ["base", "content"]
target = "shop"
[channels.prices]
entity = "product"
facets = ["price.*"]
target = "shop"
"#;

fn stage() -> Stage {
    let mut stage = Stage::closed(CONFIG);
    stage.place("letters.wasm", &guests::hostile::source());
    stage.start();
    stage
}

fn ask(stage: &Stage, source: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let path = format!("/v1/sources/{source}/preview");
    stage.weir().ask("POST", &path, headers, body.as_bytes())
}

#[track_caller]
fn preview(stage: &Stage, source: &str, headers: &[(&str, &str)], body: &str) -> Value {
    let reply = ask(stage, source, headers, body);
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

/// A CloudEvent whose type begins with this letter.
fn event(kind: &str, id: &str) -> Value {
    json!({
        "specversion": "1.0", "id": id, "source": "/erp", "type": kind,
        "datacontenttype": "application/json", "data": { "title": "Lamp" },
    })
}

const BATCH: [(&str, &str); 1] = [("content-type", "application/cloudevents-batch+json")];
const LINES: [(&str, &str); 1] = [("content-type", "application/x-ndjson")];

#[test]
fn each_stage_says_what_it_makes_of_an_event() {
    let stage = stage();
    let events = ["good", "x-noise", "f-declined", "panic", "nothing"];
    let batch: Vec<Value> = events.iter().map(|kind| event(kind, kind)).collect();
    let view = preview(&stage, "erp", &BATCH, &json!(batch).to_string());
    assert_eq!(view["sender"]["verify"], "none");
    let results = |field: &str| -> Vec<&str> {
        let all = view["events"].as_array().expect("events").iter();
        all.map(|event| event[field].as_str().unwrap_or("-"))
            .collect()
    };
    let quarantined = "quarantined";
    assert_eq!(
        results("result"),
        ["accepted", "filtered", quarantined, quarantined, "filtered"],
        "{view:#}"
    );
    assert_eq!(results("code"), ["-", "-", "missing-field", "trap", "-"]);
    let stages = |at: usize| -> Vec<(&str, &str)> {
        let all = view["events"][at]["stages"].as_array().expect("stages");
        let text = |stage: &'_ Value, name: &str| stage[name].as_str().unwrap_or("-").to_owned();
        all.iter()
            .map(|stage| {
                assert!(text(stage, "plugin").starts_with("letters@"), "{stage}");
                let (role, result) = (&stage["role"], &stage["result"]);
                (role.as_str().unwrap(), result.as_str().unwrap())
            })
            .collect()
    };
    assert_eq!(
        stages(0),
        [("event-filter", "passed"), ("mapper", "mapped")]
    );
    assert_eq!(stages(1), [("event-filter", "dropped")]);
    assert_eq!(stages(2).last(), Some(&("mapper", "failed")));
    let log = &view["events"][3]["stages"][1]["log"];
    let said = json!([{ "level": "error", "message": "panicked at src/lib.rs:7: no price" }]);
    assert_eq!(*log, said, "{view:#}");
    let change = &view["events"][0]["changes"][0];
    assert_eq!(
        (&change["facet"], &change["value"], &change["result"]),
        (
            &json!("base"),
            &json!({ "title": "Lamp" }),
            &json!("committed")
        ),
        "{view:#}"
    );
    assert_eq!(
        change["channels"],
        json!(["shop"]),
        "who does not subscribe owes nothing"
    );
}

#[test]
fn each_change_says_what_the_store_would_do() {
    let stage = stage();
    let versioned = |value: u32, version: u32| {
        let mut change = change("lamp", "price.de", json!(value));
        change["version"] = json!(version);
        change
    };
    stage.takes("pim", &[versioned(10, 7)]);
    let foreign = change("lamp", "base", json!(1));
    let changes = [
        versioned(10, 7),
        versioned(9, 6),
        versioned(11, 8),
        // What an earlier change would have made counts.
        versioned(12, 7),
        versioned(11, 8),
        foreign,
        json!({"type": "product", "key": "lamp", "facet": "price.*", "deleted": true}),
    ];
    let lines: Vec<String> = changes.iter().map(Value::to_string).collect();
    let view = preview(&stage, "pim", &LINES, &lines.join("\n"));
    let events = view["events"].as_array().expect("events");
    let results: Vec<&str> = events
        .iter()
        .map(|event| match &event["code"] {
            Value::String(code) => code.as_str(),
            _ => event["changes"][0]["result"].as_str().unwrap_or("-"),
        })
        .collect();
    assert_eq!(
        results,
        [
            "unchanged",
            "stale",
            "committed",
            "stale",
            "unchanged",
            "foreign",
            "committed"
        ],
        "{view:#}"
    );
    assert_eq!(events[2]["changes"][0]["channels"], json!(["prices"]));
    assert_eq!(events[2]["changes"][0]["lane"], "urgent");
    assert_eq!(events[6]["changes"][0]["channels"], json!(["prices"]));
    let unread = preview(&stage, "pim", &LINES, "{\"type\": \n{}");
    assert_eq!(unread["events"][1]["result"], "quarantined", "{unread:#}");
}

// An operator tries something out in production.
#[test]
fn nothing_of_it_is_kept() {
    let stage = stage();
    stage.takes("pim", &[change("lamp", "content", json!(1))]);
    stage.settles("shop");
    let facts = || {
        let mut sources = stage.weir().get("/v1/sources").json();
        for source in sources["items"].as_array_mut().expect("sources") {
            source["events_per_second"].take();
        }
        let text = stage.weir().get("/metrics").text();
        let counters = [
            "weir_events_total",
            "weir_changes_total",
            "weir_ingest_requests_total",
            "weir_plugin",
            "weir_quarantined",
            "weir_owed",
        ];
        let counted: Vec<String> = text
            .lines()
            .filter(|line| counters.iter().any(|name| line.starts_with(name)))
            .map(str::to_owned)
            .collect();
        let entities = stage.weir().get("/v1/entities/product").json();
        json!([sources, counted, entities, stage.entity("lamp")])
    };
    let before = facts();
    let many: Vec<Value> = ["good", "panic", "x", "f"]
        .iter()
        .map(|it| event(it, "e-1"))
        .collect();
    for _ in 0..3 {
        preview(&stage, "erp", &BATCH, &json!(many).to_string());
        let content = change("lamp", "content", json!(2)).to_string();
        preview(&stage, "pim", &LINES, &content);
        assert_eq!(ask(&stage, "pim", &BATCH, "{").status, 400);
    }
    assert_eq!(facts(), before);
    assert!(!stage.weir().log().contains("the plugin faulted on an item"));
    // Neither is its id, nor a sequence used.
    let first = stage.send(
        "erp",
        &BATCH,
        json!([event("good", "e-1")]).to_string().as_bytes(),
    );
    assert_eq!(first.json()["events"]["accepted"], 1, "{}", first.text());
    let lamp = stage.entity("lamp")["facets"][0]["sequence"].as_u64();
    assert_eq!(first.json()["sequence"].as_u64(), lamp.map(|it| it + 1));
    stage.settles("shop");
    assert_eq!(stage.shop.count(), 2);
}

#[test]
fn a_sender_s_proof_is_looked_at_and_not_needed() {
    let stage = stage();
    let body = change("lamp", "content", json!(1)).to_string();
    let result = |headers: &[(&str, &str)]| {
        let headers: Vec<_> = LINES.iter().chain(headers).copied().collect();
        let view = preview(&stage, "github", &headers, &body);
        assert_eq!(view["events"][0]["result"], "accepted", "{view:#}");
        view["sender"].clone()
    };
    let none = result(&[]);
    assert_eq!(none["result"], "not verified", "{none}");
    assert!(
        none["detail"]
            .as_str()
            .unwrap()
            .contains("x-hub-signature-256"),
        "{none}"
    );
    assert_eq!(
        result(&[("x-hub-signature-256", "sha256=00")])["result"],
        "not verified"
    );
    // The command signs, and says what it is told.
    stage.place("lamp.ndjson", body.as_bytes());
    stage.place("secret", b"hush");
    let url = format!("http://{}", stage.weir().address());
    let run = |more: &[&str]| {
        let arguments = ["send", "github", "lamp.ndjson", "--dry-run", "--url", &url];
        let all: Vec<&str> = arguments.iter().chain(more).copied().collect();
        command(stage.folder(), &all)
    };
    let signed = run(&["--secret", "file:secret", "--sign", "github"]);
    let text = String::from_utf8_lossy(&signed.stdout).into_owned();
    assert_eq!(signed.status.code(), Some(0), "{text}");
    for part in [
        "nothing is taken; the sender is verified (github)",
        "event 0: accepted",
        "product/lamp content = 1: committed; owed by shop",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let unsigned = run(&[]);
    assert_eq!(unsigned.status.code(), Some(1), "it would be answered 401");
    assert!(
        stage.weir().get("/v1/entities/product").json()["items"]
            .as_array()
            .unwrap()
            .is_empty()
    );
}

#[test]
fn what_is_tried_out_is_bounded() {
    let stage = stage();
    let many = format!("{}\n", change("lamp", "content", json!(1))).repeat(50);
    let view = preview(&stage, "pim", &LINES, &many);
    assert_eq!(view["events"].as_array().map(Vec::len), Some(20));
    assert_eq!(view["more_events"], 30);
    let long = format!("\"{}\"", "x".repeat(100_000));
    let body =
        format!("{{\"type\":\"product\",\"key\":\"lamp\",\"facet\":\"content\",\"value\":{long}}}");
    let view = preview(&stage, "pim", &LINES, &body);
    let change = &view["events"][0]["changes"][0];
    assert!(change["value"].is_null(), "it is cut");
    assert_eq!(change["cut"]["bytes"], 100_002);
    assert_eq!(
        change["cut"]["start"].as_str().map(str::len),
        Some(64 << 10)
    );
    let too_long = ask(&stage, "pim", &LINES, &"x".repeat((1 << 20) + 1));
    assert_eq!(too_long.status, 413);
    assert_eq!(ask(&stage, "nope", &LINES, "{}").status, 404);
}

// A value of 20 MiB froze the page that showed it.
#[test]
fn long_values_are_cut_and_can_be_saved_whole() {
    let stage = stage();
    let long = "<b>long</b> ".repeat(10_000);
    stage.takes("pim", &[change("a/lamp", "content", json!(long))]);
    let path = "/v1/entities/product?key=a/lamp";
    let whole = stage.weir().get(path).json();
    assert_eq!(
        whole["facets"][0]["value"],
        json!(long),
        "whole for programs"
    );
    let cut = stage.weir().get(&format!("{path}&cut=true")).json();
    let facet = &cut["facets"][0];
    assert!(facet["value"].is_null());
    assert_eq!(facet["cut"]["bytes"].as_u64(), Some(long.len() as u64 + 2));
    let saved = stage.weir().get(&format!("{path}&facet=content"));
    assert_eq!(saved.json(), json!(long));
    assert_eq!(
        saved.header("content-type"),
        Some("application/octet-stream")
    );
    assert_eq!(saved.header("x-content-type-options"), Some("nosniff"));
    let name = saved.header("content-disposition");
    assert_eq!(name, Some("attachment; filename=\"content.json\""));
    let preview = "/v1/channels/shop/preview?key=a/lamp";
    let cut = stage.weir().get(&format!("{preview}&cut=true")).json();
    let (body, start) = (&cut["rendering"]["body"], &cut["rendering"]["cut"]["start"]);
    assert!(body.is_null() && start.is_string(), "{cut:#}");
    let saved = stage
        .weir()
        .get(&format!("{preview}&body=rendering"))
        .json();
    assert_eq!(saved["facets"]["content"], json!(long));
    assert_eq!(
        stage.weir().get(&format!("{preview}&body=other")).status,
        400
    );
    // An event in quarantine.
    let no_change = json!(long).to_string();
    stage.send("pim", &LINES, no_change.as_bytes());
    let kept = eventually("it is in quarantine", || {
        let list = stage
            .weir()
            .get("/v1/sources/pim/quarantine?cut=true")
            .json();
        Some(list["items"][0].clone()).filter(Value::is_object)
    });
    assert!(kept["event"]["data"].is_null(), "{kept:#}");
    let path = format!(
        "/v1/sources/pim/quarantine?sequence={}&data=true",
        kept["sequence"]
    );
    assert_eq!(stage.weir().get(&path).text(), no_change);
    let none = "/v1/sources/pim/quarantine?sequence=1&data=true";
    let none = stage.weir().get(none);
    assert_eq!(none.status, 404, "{}", none.text());
    let detail = none.json()["detail"].clone();
    assert_eq!(
        detail,
        "no event like this is in the quarantine of source `pim`"
    );
}

#[test]
fn an_event_is_tried_out_in_the_console() {
    let Some(browser) = Browser::start("trying an event in the console") else {
        return;
    };
    let stage = stage();
    browser.goes_to(&format!(
        "http://{}/?view=source&name=erp",
        stage.weir().address()
    ));
    browser.tabs_to("See what would become of an event; nothing of it is kept");
    browser.types(ENTER);
    let fill = "const [body, type] = arguments;
                document.getElementById('try-body').value = body;
                document.getElementById('try-type').value = type";
    let batch = json!([event("good", "g-1"), event("panic", "p-1")]);
    browser.run(fill, &[json!(batch.to_string()), json!(BATCH[0].1)]);
    browser.tabs_to("Show what becomes of it");
    browser.types(ENTER);
    browser.shows("● accepted event 0, id g-1, type good");
    browser.shows("▲ committed: it is new");
    browser.shows("■ quarantined event 1, id p-1, type panic: trap");
    browser.shows("error: panicked at src/lib.rs:7: no price");
    browser.run(fill, &[json!("{"), json!("application/cloudevents+json")]);
    browser.tabs_to("Show what becomes of it");
    browser.types(ENTER);
    browser.shows("The request would not be taken");
    assert_eq!(
        stage.weir().get("/v1/entities/product").json()["items"],
        json!([])
    );
}
