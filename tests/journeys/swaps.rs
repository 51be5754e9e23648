//! Plugins are swapped while events flow: nothing is lost, and nothing is handled by half of each version.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::http::Connection;
use crate::support::{Receiver, Stage, becomes, eventually, guests};

const SWAPS: u32 = 20;
/// Pairs of events in a request: more than go through a plugin in one batch, so that a request takes several.
const PAIRS: usize = 40;

/// A filter and a mapper of one version before the store, a filter and a renderer of that version behind it; and a channel without
/// plugins that sees what the mapper wrote.
fn config(version: u32, plain: &Receiver) -> String {
    let plugins = ["filter", "mapper", "gate", "page"]
        .map(|name| format!("[plugins.{name}]\npath = \"{name}-{version}.wasm\"\nlimits = {{ time = \"20s\" }}\n"));
    let rest = r#"
[entities.product]
facets.base = { owner = "erp" }
[sources.erp]
plugins = ["filter", "mapper"]
[targets.shop]
kind = "webhook"
url = "{shop}"
[targets.plain]
kind = "webhook"
url = "{plain}"
[channels.shop]
entity = "product"
facets = ["base"]
plugins = ["gate", "page"]
target = "shop"
batch = 50
withdraw_max = { share = "100%", per = "1h", min = 1000000 }
[channels.plain]
entity = "product"
facets = ["base"]
target = "plain"
batch = 50
"#;
    plugins.concat() + &rest.replace("{plain}", &plain.url())
}

fn place(stage: &Stage, version: u32) {
    stage.place(&format!("filter-{version}.wasm"), &guests::versioned::event_filter(version));
    stage.place(&format!("mapper-{version}.wasm"), &guests::versioned::mapper(version));
    stage.place(&format!("gate-{version}.wasm"), &guests::versioned::entity_filter(version));
    stage.place(&format!("page-{version}.wasm"), &guests::versioned::renderer(version));
}

/// Sends pairs of events of which each version of the filter lets pass one and only one kind, until told to stop.
fn send(stage: &Stage, sender: usize, requests: &AtomicUsize, over: &AtomicBool) {
    let mut connection = Connection::open(stage.weir().address()).expect("connected");
    for number in 0.. {
        if over.load(Ordering::SeqCst) {
            return;
        }
        let event = |kind: &str, pair| json!({"specversion": "1.0", "id": format!("{kind}-{sender}-{number}-{pair}"), "source": "erp", "type": kind, "data": 1});
        let batch: Vec<Value> = (0..PAIRS).flat_map(|pair| [event("a", pair), event("b", pair)]).collect();
        let headers = [("content-type", "application/cloudevents-batch+json")];
        let reply =
            connection.exchange("POST", "/v1/sources/erp/events", &headers, json!(batch).to_string().as_bytes()).expect("an answer");
        assert_eq!(reply.status, 202, "{}", reply.text());
        let events = reply.json()["events"].clone();
        let expected = json!({"accepted": PAIRS, "filtered": PAIRS, "quarantined": 0, "repeated": 0});
        assert_eq!(events, expected, "one version of the filter decides on all of a request");
        requests.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// One of the ways in which a new version can be wrong. Its other parts are right, and must not be put in force either.
fn spoil(stage: &Stage, version: u32) -> &'static str {
    match version % 3 {
        0 => {
            stage.place(&format!("mapper-{version}.wasm"), b"half a fi");
            "the file is not Wasm"
        }
        1 => {
            std::fs::remove_file(stage.folder().join(format!("page-{version}.wasm"))).expect("removed");
            "cannot be read"
        }
        _ => {
            stage.place(&format!("gate-{version}.wasm"), &guests::versioned::mapper(version));
            "channels.shop.plugins"
        }
    }
}

#[test]
fn twenty_swaps_under_load_lose_nothing_and_mix_nothing() {
    let plain = Receiver::start();
    let mut stage = Stage::closed("");
    stage.configure(&config(1, &plain));
    place(&stage, 1);
    stage.start();
    let (requests, over, good) = (AtomicUsize::new(0), AtomicBool::new(false), Mutex::new(vec![1]));
    std::thread::scope(|scope| {
        let (stage, requests, over) = (&stage, &requests, &over);
        let senders: Vec<_> = (0..3).map(|sender| scope.spawn(move || send(stage, sender, requests, over))).collect();
        for version in 2..=SWAPS + 1 {
            let before = requests.load(Ordering::SeqCst);
            eventually("events flow", || {
                assert!(senders.iter().all(|sender| !sender.is_finished()), "a sender has failed");
                (requests.load(Ordering::SeqCst) >= before + 3).then_some(())
            });
            place(stage, version);
            let words = version.is_multiple_of(4).then(|| spoil(stage, version));
            let view = stage.reload(&config(version, &plain));
            match words {
                None => {
                    assert_eq!(view["success"], true, "{view:#}");
                    good.lock().expect("no panic").push(version);
                }
                Some(words) => assert!(view["status"] == 422 && view.to_string().contains(words), "{words:?} is not in {view:#}"),
            }
        }
        over.store(true, Ordering::SeqCst);
    });
    let good = good.into_inner().expect("no panic");
    let last = *good.last().expect("one");
    assert_eq!(last, SWAPS + 1, "the last one is good");

    // Before the store: each request brought one kind of each pair, all by one version.
    let expected = requests.load(Ordering::SeqCst) * PAIRS;
    becomes("all that was accepted is there", expected, || plain.holds().len());
    let mut by_request: BTreeMap<String, (String, Value)> = BTreeMap::new();
    for (key, page) in plain.holds() {
        let (kind, request) = (key[..1].to_owned(), key.rsplit_once('-').expect("a pair").0[2..].to_owned());
        let version = page["facets"]["base"]["version"].clone();
        let number = version.as_u64().expect("a version") as u32;
        assert!(good.contains(&number), "{key} was mapped by version {number}, which was refused");
        assert_eq!(kind == "a", number.is_multiple_of(2), "{key} passed another version's filter than {number}'s");
        let first = by_request.entry(request).or_insert_with(|| (kind.clone(), version.clone()));
        assert_eq!(*first, (kind, version), "{key} was handled otherwise than the others of its request");
    }

    // Behind the store: each delivery is by one version, and in the end all are by the last.
    let kept = if last.is_multiple_of(2) { "a" } else { "b" };
    let wanted: Vec<String> = plain.holds().into_keys().filter(|key| key.starts_with(kept)).collect();
    becomes("the shop has what the last version lets pass", wanted, || stage.shop.holds().into_keys().collect());
    stage.settles("shop");
    assert!(stage.shop.holds().values().all(|page| page["version"] == last), "all is rendered by the last version");
    for delivery in stage.shop.deliveries() {
        for item in delivery.json().as_array().expect("a batch").iter().filter(|item| item["deleted"] == false) {
            let number = item["content"]["version"].as_u64().expect("a version") as u32;
            let kind = if number.is_multiple_of(2) { "a" } else { "b" };
            assert!(good.contains(&number) && item["key"].as_str().is_some_and(|key| key.starts_with(kind)), "{item}");
        }
    }
    assert_eq!(stage.quarantine("erp"), Vec::<Value>::new());
}
