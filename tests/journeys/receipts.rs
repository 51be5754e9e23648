//! Receipts from outside: a sender asks whether its change was delivered, waits for it, and learns who has
//! not got it and why.

use serde_json::{Value, json};

use crate::support::stage::CATALOG;
use crate::support::weir::command;
use crate::support::{Act, Reply, Stage, change, deletion};

/// Sends changes of one entity and returns the path that asks for its receipt.
#[track_caller]
fn sent(stage: &Stage, change: &Value) -> String {
    let path = "/v1/sources/pim/events?receipt=true";
    let json = [("content-type", "application/json")];
    let body = change.to_string();
    let reply = stage.weir().ask("POST", path, &json, body.as_bytes());
    let answer = reply.json();
    let named = &answer["entities"];
    assert_eq!(named.as_array().map(Vec::len), Some(1), "{answer:#}");
    let text = |name: &str| named[0][name].as_str().expect("a text").to_owned();
    let (entity_type, key) = (text("type"), text("key"));
    format!(
        "/v1/entities/{entity_type}/{key}?sequence={}",
        named[0]["sequence"]
    )
}

/// A receipt that is not settled, and what the shop says of it.
#[track_caller]
fn unsettled(receipt: &Reply, state: &str, words: &str) {
    let receipt = receipt.json();
    assert_eq!(receipt["settled"], false, "{receipt:#}");
    let shop = &receipt["channels"][0];
    assert_eq!(
        (&shop["channel"], &shop["state"]),
        (&json!("shop"), &json!(state)),
        "{receipt:#}"
    );
    let reason = shop["reason"].as_str().unwrap_or_default();
    assert!(reason.contains(words), "{receipt:#}");
}

#[track_caller]
fn settled(receipt: &Reply, state: &str) {
    let receipt = receipt.json();
    assert_eq!(receipt["settled"], true, "{receipt:#}");
    assert_eq!(receipt["channels"][0]["state"], state, "{receipt:#}");
}

#[test]
fn a_receipt_waits_for_the_delivery_and_says_until_then_what_is_missing() {
    let stage = Stage::catalog();
    let lamp = sent(&stage, &change("lamp", "content", json!(1)));
    settled(&stage.weir().get(&format!("{lamp}&wait=50s")), "delivered");
    stage.operate("shop", "pause");
    let again = sent(&stage, &change("lamp", "content", json!(2)));
    unsettled(
        &stage.weir().get(&again),
        "owed",
        "the channel is paused: paused by an operator",
    );
    settled(&stage.weir().get(&lamp), "owed");
    unsettled(
        &stage.weir().get(&format!("{again}&wait=200ms")),
        "owed",
        "owed since",
    );
    std::thread::scope(|scope| {
        let waits = || stage.weir().get(&format!("{again}&wait=50s"));
        let waiting: Vec<_> = (0..20).map(|_| scope.spawn(waits)).collect();
        stage.operate("shop", "resume");
        for receipt in waiting {
            settled(&receipt.join().expect("an answer"), "delivered");
        }
    });
    // An event that arrives once more names its entity too.
    let repeated = sent(&stage, &change("lamp", "content", json!(2)));
    settled(
        &stage.weir().get(&format!("{repeated}&wait=50s")),
        "delivered",
    );
}

#[test]
fn a_refused_entity_is_settled_and_a_parked_or_held_one_is_not() {
    let config = CATALOG.to_owned() + "withdraw_max = { share = \"0%\", min = 0 }\n";
    let stage = Stage::with(
        &config
            .replace("first = \"20ms\"", "first = \"1h\"")
            .replace("cap = \"100ms\"", "cap = \"1h\""),
    );
    stage.shop.does(|_| Act::Say(500, "no room".into()));
    let lamp = sent(&stage, &change("lamp", "content", json!(1)));
    stage.stands("lamp", "shop", "parked");
    unsettled(
        &stage.weir().get(&lamp),
        "parked",
        "parked after 1 attempts, the next one at",
    );
    unsettled(&stage.weir().get(&lamp), "parked", "no room");
    stage.shop.does(|_| Act::Answer(400));
    let desk = sent(&stage, &change("desk", "content", json!(1)));
    settled(&stage.weir().get(&format!("{desk}&wait=50s")), "refused");
    stage.shop.does(|_| Act::Answer(200));
    let sofa = sent(&stage, &change("sofa", "content", json!(1)));
    settled(&stage.weir().get(&format!("{sofa}&wait=50s")), "delivered");
    let gone = sent(&stage, &deletion("sofa", "content"));
    stage.stands("sofa", "shop", "held");
    unsettled(
        &stage.weir().get(&gone),
        "held",
        "weir channel confirm shop",
    );
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| stage.weir().get(&format!("{gone}&wait=50s")));
        stage.operate("shop", "confirm");
        settled(&waiting.join().expect("an answer"), "withdrawn");
    });
}

#[test]
fn a_receipt_that_cannot_be_given_is_refused() {
    let stage = Stage::catalog();
    let lamp = sent(&stage, &change("lamp", "content", json!(1)));
    let (path, sequence) = lamp.split_once("?sequence=").expect("a sequence");
    let next = sequence.parse::<u64>().expect("a number") + 1_000_000;
    for (wrong, status) in [
        (format!("{lamp}&wait=51s"), 400),
        (format!("{lamp}&wait=soon"), 400),
        (format!("{path}?wait=1s"), 400),
        (format!("{path}?sequence=0"), 400),
        (format!("{path}?sequence={next}"), 400),
        (
            format!("/v1/entities/product/desk?sequence={sequence}"),
            404,
        ),
    ] {
        assert_eq!(stage.weir().get(&wrong).status, status, "{wrong}");
    }
    let by_key = format!("/v1/entities/product?key=lamp&sequence={sequence}&wait=50s");
    settled(&stage.weir().get(&by_key), "delivered");
}

#[test]
fn an_entity_of_a_feed_is_settled_with_its_generation() {
    let feed = |interval: &str| {
        format!(
            r#"
[entities.product]
facets.content = {{ owner = "pim" }}
[sources.pim]
[targets.google]
kind = "feed"
format = "ndjson"
interval = "{interval}"
[channels.shop]
entity = "product"
facets = ["content"]
target = "google"
"#
        )
    };
    let stage = Stage::with(&feed("100ms"));
    let lamp = sent(&stage, &change("lamp", "content", json!(1)));
    settled(&stage.weir().get(&format!("{lamp}&wait=50s")), "delivered");
    stage.reloads(&feed("1h"));
    let again = sent(&stage, &change("lamp", "content", json!(2)));
    stage.stands("lamp", "shop", "delivered");
    let waits = format!("{again}&wait=200ms");
    unsettled(
        &stage.weir().get(&waits),
        "delivered",
        "in the next generation, at",
    );
}

#[test]
fn a_sender_waits_for_its_deliveries_on_the_command_line() {
    let stage = Stage::catalog();
    let lines = [
        change("lamp", "content", json!(1)),
        change("desk", "content", json!(1)),
        change("lamp", "content", json!(2)),
    ];
    let file = lines.map(|line| line.to_string()).join("\n");
    stage.place("catalog.ndjson", file.as_bytes());
    let url = format!("http://{}", stage.weir().address());
    let send = |wait: &str| {
        let done = command(
            stage.folder(),
            &["send", "pim", "catalog.ndjson", wait, "--url", &url],
        );
        (
            done.status.code(),
            String::from_utf8_lossy(&done.stdout).into_owned(),
        )
    };
    let (code, text) = send("--wait");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.ends_with("settled: 2 of 2 entities\n"), "{text}");
    stage.operate("shop", "pause");
    stage.place(
        "catalog.ndjson",
        change("desk", "content", json!(3)).to_string().as_bytes(),
    );
    let (code, text) = send("--wait=200ms");
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("not settled: product/desk: shop: owed since"),
        "{text}"
    );
    assert!(text.ends_with("settled: 0 of 1 entities\n"), "{text}");
}
