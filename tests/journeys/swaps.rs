//! Plugins are swapped while events flow: nothing is lost, and nothing is handled by a mixture of
//! two versions.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use weir::inside::author::cases::{Case, Item};
use weir::inside::model::{EntityId, View};

use crate::support::http::Connection;
use crate::support::weir::command;
use crate::support::{Receiver, Stage, becomes, eventually, guests};

const SWAPS: u32 = 20;
/// Pairs of events in a request; more than fit into one batch of a plugin, so that a request takes
/// several batches.
const PAIRS: usize = 40;

/// In front of the store a filter and a mapper of one version, behind it a filter and a renderer of
/// the same version, and a channel without plugins that shows what the mapper wrote.
fn config(version: u32, plain: &Receiver) -> String {
    let plugins = ["filter", "mapper", "gate", "page"].map(|name| {
        format!(
            "[plugins.{name}]\npath = \"{name}-{version}.wasm\"\nlimits = {{ time = \"20s\" }}\n"
        )
    });
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
    stage.place(
        &format!("filter-{version}.wasm"),
        &guests::versioned::event_filter(version),
    );
    stage.place(
        &format!("mapper-{version}.wasm"),
        &guests::versioned::mapper(version),
    );
    stage.place(
        &format!("gate-{version}.wasm"),
        &guests::versioned::entity_filter(version),
    );
    stage.place(
        &format!("page-{version}.wasm"),
        &guests::versioned::renderer(version),
    );
}

/// Sends pairs of events until it is stopped. Each version of the filter lets exactly one event of
/// a pair pass.
fn send(stage: &Stage, sender: usize, requests: &AtomicUsize, over: &AtomicBool) {
    let mut connection = Connection::open(stage.weir().address()).expect("connected");
    for number in 0.. {
        if over.load(Ordering::SeqCst) {
            return;
        }
        let event = |kind: &str, pair| json!({"specversion": "1.0", "id": format!("{kind}-{sender}-{number}-{pair}"), "source": "erp", "type": kind, "data": 1});
        let batch: Vec<Value> = (0..PAIRS)
            .flat_map(|pair| [event("a", pair), event("b", pair)])
            .collect();
        let headers = [("content-type", "application/cloudevents-batch+json")];
        let reply = connection
            .exchange(
                "POST",
                "/v1/sources/erp/events",
                &headers,
                json!(batch).to_string().as_bytes(),
            )
            .expect("an answer");
        assert_eq!(reply.status, 202, "{}", reply.text());
        let events = reply.json()["events"].clone();
        let expected =
            json!({"accepted": PAIRS, "filtered": PAIRS, "quarantined": 0, "repeated": 0});
        assert_eq!(
            events, expected,
            "one version of the filter decides on all of a request"
        );
        requests.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Makes a new version wrong in one of several ways. Its other parts are right, and must not be
/// used either.
fn spoil(stage: &Stage, version: u32) -> &'static str {
    match version % 3 {
        0 => {
            stage.place(&format!("mapper-{version}.wasm"), b"half a fi");
            "the file is not Wasm"
        }
        1 => {
            std::fs::remove_file(stage.folder().join(format!("page-{version}.wasm")))
                .expect("removed");
            "cannot be read"
        }
        _ => {
            stage.place(
                &format!("gate-{version}.wasm"),
                &guests::versioned::mapper(version),
            );
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
    let (requests, over, good) = (
        AtomicUsize::new(0),
        AtomicBool::new(false),
        Mutex::new(vec![1]),
    );
    std::thread::scope(|scope| {
        let (stage, requests, over) = (&stage, &requests, &over);
        let senders: Vec<_> = (0..3)
            .map(|sender| scope.spawn(move || send(stage, sender, requests, over)))
            .collect();
        for version in 2..=SWAPS + 1 {
            let before = requests.load(Ordering::SeqCst);
            eventually("events flow", || {
                assert!(
                    senders.iter().all(|sender| !sender.is_finished()),
                    "a sender failed"
                );
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
                Some(words) => assert!(
                    view["status"] == 422 && view.to_string().contains(words),
                    "{words:?} is not in {view:#}"
                ),
            }
        }
        over.store(true, Ordering::SeqCst);
    });
    let good = good.into_inner().expect("no panic");
    let last = *good.last().expect("one");
    assert_eq!(last, SWAPS + 1, "the last version was not accepted");

    // In front of the store: each request contributed one kind of each pair, all by one version.
    let expected = requests.load(Ordering::SeqCst) * PAIRS;
    // A slow machine may owe many by now; each wait is for some progress.
    let mut held = plain.holds().len();
    while held < expected {
        held = eventually("more of the accepted changes arrive", || {
            Some(plain.holds().len()).filter(|now| *now > held)
        });
    }
    assert_eq!(plain.holds().len(), expected, "all accepted changes");
    let mut by_request: BTreeMap<String, (String, Value)> = BTreeMap::new();
    for (key, page) in plain.holds() {
        let (kind, request) = (
            key[..1].to_owned(),
            key.rsplit_once('-').expect("a pair").0[2..].to_owned(),
        );
        let version = page["facets"]["base"]["version"].clone();
        let number = version.as_u64().expect("a version") as u32;
        assert!(
            good.contains(&number),
            "{key} was mapped by version {number}, which was rejected"
        );
        assert_eq!(
            kind == "a",
            number.is_multiple_of(2),
            "{key} passed another version's filter than {number}'s"
        );
        let first = by_request
            .entry(request)
            .or_insert_with(|| (kind.clone(), version.clone()));
        assert_eq!(
            *first,
            (kind, version),
            "{key} was handled by another version than the rest of its request"
        );
    }

    // Behind the store: each delivery is by one version, and in the end all are by the last
    // version.
    let kept = if last.is_multiple_of(2) { "a" } else { "b" };
    let wanted: Vec<String> = plain
        .holds()
        .into_keys()
        .filter(|key| key.starts_with(kept))
        .collect();
    becomes(
        "the shop has exactly what the last version lets pass",
        wanted,
        || stage.shop.holds().into_keys().collect(),
    );
    stage.settles("shop");
    assert!(
        stage
            .shop
            .holds()
            .values()
            .all(|page| page["version"] == last),
        "all is rendered by the last version"
    );
    for delivery in stage.shop.deliveries() {
        for item in delivery
            .json()
            .as_array()
            .expect("a batch")
            .iter()
            .filter(|item| item["deleted"] == false)
        {
            let number = item["content"]["version"].as_u64().expect("a version") as u32;
            let kind = if number.is_multiple_of(2) { "a" } else { "b" };
            assert!(
                good.contains(&number)
                    && item["key"]
                        .as_str()
                        .is_some_and(|key| key.starts_with(kind)),
                "{item}"
            );
        }
    }
    assert_eq!(stage.quarantine("erp"), Vec::<Value>::new());
}

/// One channel with a renderer, one source with a mapper.
const BOTH: &str = r#"
[entities.product]
facets.base = { owner = "erp" }
[plugins.mapper]
path = "mapper.wasm"
[plugins.page]
path = "page.wasm"
[sources.erp]
plugins = ["mapper"]
[targets.shop]
kind = "webhook"
url = "{shop}"
[channels.shop]
entity = "product"
facets = ["base"]
plugins = ["page"]
target = "shop"
"#;

/// Both plugins are at version 1, and one product was mapped, rendered and delivered.
fn both(config: &str) -> Stage {
    let mut stage = Stage::closed(config);
    stage.place("mapper.wasm", &guests::versioned::mapper(1));
    stage.place("page.wasm", &guests::versioned::renderer(1));
    stage.start();
    one_event(&stage, "lamp");
    stage.shop_holds(json!({"lamp": {"version": 1}}));
    stage.settles("shop");
    stage
}

fn one_event(stage: &Stage, id: &str) {
    let event =
        json!({"specversion": "1.0", "id": id, "source": "erp", "type": "changed", "data": 1});
    let reply = stage.send(
        "erp",
        &[("content-type", "application/cloudevents+json")],
        event.to_string().as_bytes(),
    );
    assert_eq!(reply.json()["events"]["accepted"], 1, "{}", reply.text());
}

/// A plugin as `GET /v1/plugins` shows it.
fn shown(stage: &Stage, plugin: &str) -> Value {
    let list = stage.weir().get("/v1/plugins").json();
    list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|view| view["name"] == plugin)
        .cloned()
        .expect("the plugin is loaded")
}

/// The output of `weir plugin list`.
fn listed(stage: &Stage) -> String {
    let url = format!("http://{}", stage.weir().address());
    let output = command(stage.folder(), &["plugin", "list", "--url", &url]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_checks_their_results_and_the_current_version_are_shown() {
    let stage = both(BOTH);
    let first = shown(&stage, "page");
    assert_eq!(
        (&first["last_swap"]["result"], &first["used_by"]),
        (&json!("swapped"), &json!(["channel shop"])),
        "{first:#}"
    );
    assert_eq!(
        first["last_swap"]["tried"],
        "compiled, configured for 1 use, no recent samples to try it on",
        "{first:#}"
    );

    stage.place("page.wasm", &guests::versioned::renderer(2));
    stage.place("mapper.wasm", &guests::versioned::mapper(2));
    assert_eq!(stage.reload_files()["success"], true);
    let (page, mapper) = (shown(&stage, "page"), shown(&stage, "mapper"));
    assert_eq!(
        page["last_swap"]["tried"],
        "compiled, configured for 1 use, tried on the last 1 entity: 1 rendered",
        "{page:#}"
    );
    assert_eq!(
        mapper["last_swap"]["tried"],
        "compiled, configured for 1 use, tried on the last 1 event: 1 mapped",
        "{mapper:#}"
    );
    assert_eq!(
        (
            &page["last_swap"]["sha256"],
            page["since"] != first["since"]
        ),
        (&page["sha256"], true)
    );
    let steps = &page["last_swap"]["steps"];
    let sum: f64 = [
        "read_ms",
        "compile_ms",
        "configure_ms",
        "cases_ms",
        "try_ms",
        "exchange_ms",
        "drain_ms",
    ]
    .iter()
    .filter_map(|step| steps[step].as_f64())
    .sum();
    assert!(
        steps["compile_ms"].as_f64() > Some(0.0) && Some(sum) <= steps["total_ms"].as_f64(),
        "{steps:#}"
    );

    // The changed renderer led to a sweep, and its result is reported.
    let sweep = stage.swept("shop");
    assert_eq!(
        (
            &sweep["rendered"],
            &sweep["delivered"],
            &sweep["suppressed"],
            &sweep["withdrawn"]
        ),
        (&json!(1), &json!(1), &json!(0), &json!(0)),
        "{sweep:#}"
    );
    stage
        .weir()
        .says("sweep finished: 1 rendered, of which 0 suppressed; 1 delivered, 0 withdrawn");
    stage.weir().says(
        "new plugin version in use: compiled, configured for 1 use, tried on the last 1 entity: 1 rendered",
    );

    // A rejected version is shown next to the current one until another takes over. It is
    // recognised by its compiled code.
    stage.place("page.wasm", b"no component");
    assert_eq!(stage.reload_files()["status"], 422);
    let page = shown(&stage, "page");
    assert!(
        page["last_refused"]["detail"]
            .as_str()
            .is_some_and(|why| why.ends_with("the file is not Wasm")),
        "{page:#}"
    );
    assert_eq!(page["last_swap"]["result"], "swapped");
    let printed = listed(&stage);
    let version = page["sha256"].as_str().expect("a digest")[..12].to_owned();
    for words in [
        "tried on the last 1 entity: 1 rendered",
        "the file is not Wasm",
        &format!("{version} stays in use"),
        "channel shop",
    ] {
        assert!(printed.contains(words), "{words:?} is not in:\n{printed}");
    }
    stage.place("page.wasm", &guests::versioned::renderer(1));
    assert_eq!(stage.reload_files()["success"], true);
    let page = shown(&stage, "page");
    assert_eq!(
        (&page["last_refused"], &page["sha256"]),
        (&Value::Null, &first["sha256"]),
        "{page:#}"
    );
    assert_eq!(page["last_swap"]["steps"]["from_cache"], true, "{page:#}");
    stage.shop_holds(json!({"lamp": {"version": 1}}));
}

#[test]
fn reloads_at_the_same_time_take_turns_and_the_last_state_of_the_files_is_used() {
    let stage = both(BOTH);
    stage.place("mapper.wasm", &guests::versioned::mapper(3));
    stage.place("page.wasm", &guests::versioned::renderer(2));
    std::thread::scope(|scope| {
        let reloads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| stage.reload_files()))
            .collect();
        reloads
            .into_iter()
            .for_each(|reload| assert_eq!(reload.join().expect("an answer")["success"], true));
    });
    stage.shop_holds(json!({"lamp": {"version": 2}}));
    one_event(&stage, "table");
    eventually("the new mapper writes", || {
        (stage.entity("table")["facets"][0]["value"]["version"] == 3).then_some(())
    });
}

#[test]
fn a_pinned_digest_holds_until_the_pin_is_changed() {
    let config = |digest: &str| {
        BOTH.replace(
            "path = \"page.wasm\"",
            &format!("path = \"page.wasm\"\nsha256 = \"{digest}\""),
        )
    };
    let digest = |bytes: &[u8]| hex::encode(<sha2::Sha256 as sha2::Digest>::digest(bytes));
    let (one, two) = (
        guests::versioned::renderer(1),
        guests::versioned::renderer(2),
    );
    let stage = both(&config(&digest(&one)));
    stage.place("page.wasm", &two);
    let view = stage.reload_files();
    assert_eq!(view["status"], 422, "{view:#}");
    let refused = shown(&stage, "page")["last_refused"].clone();
    let why = format!(
        "the file has another SHA-256; if the file is the right one, write \"{}\"",
        digest(&two)
    );
    assert_eq!(refused["detail"].as_str(), Some(&*why), "{refused:#}");
    one_event(&stage, "chair");
    stage.shop_holds(json!({"lamp": {"version": 1}, "chair": {"version": 1}}));
    stage.reloads(&config(&digest(&two)));
    stage.shop_holds(json!({"lamp": {"version": 2}, "chair": {"version": 2}}));
}

#[test]
fn a_plugin_whose_own_cases_fail_is_rejected() {
    let stage = both(BOTH);
    let entity = View {
        id: EntityId {
            entity_type: "product".into(),
            key: "lamp".into(),
        },
        facets: vec![("base".into(), "1".into())],
    };
    let case = |name: &str, version: u32| Case {
        name: name.to_owned(),
        settings: "{}".to_owned(),
        item: Item::Entity(entity.clone()),
        expected: Some(json!({"body": {"version": version}}).to_string()),
    };
    let with = |cases: &[Case]| guests::with_cases(&guests::versioned::renderer(2), cases);
    stage.place(
        "page.wasm",
        &with(&[case("plain", 2), case("of-tomorrow", 3)]),
    );
    assert_eq!(stage.reload_files()["status"], 422);
    let why = shown(&stage, "page")["last_refused"]["detail"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(
        why.contains("plugin page: its own case of-tomorrow: "),
        "{why}"
    );
    stage.place("page.wasm", &with(&[case("plain", 2), case("again", 2)]));
    assert_eq!(stage.reload_files()["success"], true);
    let checks = shown(&stage, "page")["last_swap"]["tried"].clone();
    assert_eq!(
        checks,
        "compiled, configured for 1 use, passed 2 cases of its own, tried on the last 1 entity: 1 rendered"
    );
    stage.shop_holds(json!({"lamp": {"version": 2}}));
}

#[test]
fn invalid_settings_are_reported_with_the_plugin_that_rejects_them() {
    let mut stage = Stage::closed(BOTH);
    stage.place("mapper.wasm", &guests::versioned::mapper(1));
    stage.place("page.wasm", &guests::versioned::renderer(1));
    stage.start();
    // The hostile plugin rejects settings that start with `r`.
    stage.place("mapper.wasm", &guests::hostile::mapper());
    let view = stage.reload(&BOTH.replace(
        "plugins = [\"mapper\"]",
        "plugins = [{ use = \"mapper\", settings = { refuse = 1 } }]",
    ));
    assert_eq!(view["status"], 422, "{view:#}");
    let mapper = shown(&stage, "mapper");
    assert!(
        mapper["last_refused"]["detail"]
            .as_str()
            .is_some_and(|why| why.ends_with("refuses its settings: currency is missing")),
        "{mapper:#}"
    );
    one_event(&stage, "lamp");
    stage.shop_holds(json!({"lamp": {"version": 1}}));
}

/// Weir was killed when the sources had changed over and the channels had not. The file has the new
/// version, so that version is used after the start.
#[test]
fn a_restart_in_the_middle_of_a_swap_completes_it() {
    let mut stage = both(BOTH);
    stage.stop();
    // A start passes this point once.
    stage.start_with(&[("WEIR_FAIL", "app.swapping=kill@2")]);
    stage.place("mapper.wasm", &guests::versioned::mapper(2));
    stage.place("page.wasm", &guests::versioned::renderer(2));
    let address = stage.weir().address();
    let answer = crate::support::http::request(address, "POST", "/v1/reload", &[], b"");
    assert!(answer.is_err(), "it was killed: {answer:?}");
    eventually("it has ended", || stage.has_ended().then_some(()));
    stage.start();
    stage.shop_holds(json!({"lamp": {"version": 2}}));
    one_event(&stage, "chair");
    stage.shop_holds(json!({"lamp": {"version": 2}, "chair": {"version": 2}}));
    assert_eq!(stage.entity("chair")["facets"][0]["value"]["version"], 2);
    assert_eq!(shown(&stage, "page")["last_swap"]["result"], "swapped");
}

/// A build writes its file in place, slowly. The watcher reads half of it and reports that, and
/// uses the whole file once it is there.
#[test]
fn a_half_written_file_is_used_once_it_is_complete() {
    let mut stage = Stage::closed("");
    let head = "config_version = 1\n[server]\nlisten = \"127.0.0.1:0\"\n[store]\npath = \"data\"\n";
    stage.place(
        "weir.toml",
        (head.to_owned() + &BOTH.replace("{shop}", &stage.shop.url())).as_bytes(),
    );
    stage.place("mapper.wasm", &guests::versioned::mapper(1));
    stage.place("page.wasm", &guests::versioned::renderer(1));
    stage.start();
    one_event(&stage, "lamp");
    stage.shop_holds(json!({"lamp": {"version": 1}}));
    let (bytes, path) = (
        guests::versioned::renderer(2),
        stage.folder().join("page.wasm"),
    );
    let mut file = std::fs::File::create(&path).expect("opened");
    file.write_all(&bytes[..bytes.len() / 2]).expect("written");
    file.flush().expect("written");
    eventually("the half file is rejected", || {
        Some(shown(&stage, "page")["last_refused"].clone()).filter(|refused| refused.is_object())
    });
    one_event(&stage, "chair");
    stage.shop_holds(json!({"lamp": {"version": 1}, "chair": {"version": 1}}));
    file.write_all(&bytes[bytes.len() / 2..]).expect("written");
    drop(file);
    stage.shop_holds(json!({"lamp": {"version": 2}, "chair": {"version": 2}}));
    becomes("nothing is held against it", Value::Null, || {
        shown(&stage, "page")["last_refused"].clone()
    });
}

#[test]
fn events_that_one_version_failed_on_can_be_redriven_to_the_next_by_filter() {
    let stage = Stage::closed(BOTH);
    let mut stage = stage;
    stage.place("mapper.wasm", &guests::hostile::mapper());
    stage.place("page.wasm", &guests::versioned::renderer(1));
    stage.start();
    // `t` traps, and `f` fails by the mapper's own rules.
    for (kind, id) in [("t", "one"), ("t", "two"), ("f", "three")] {
        let event =
            json!({"specversion": "1.0", "id": id, "source": "erp", "type": kind, "data": 1});
        stage.send(
            "erp",
            &[("content-type", "application/cloudevents+json")],
            event.to_string().as_bytes(),
        );
    }
    let kept = stage.quarantine("erp");
    let (of, time) = (
        kept[0]["plugin"].as_str().expect("a plugin").to_owned(),
        kept[0]["time"].as_str().expect("a time").to_owned(),
    );
    assert_eq!(kept.len(), 3, "{kept:?}");
    let url = format!("http://{}", stage.weir().address());
    let redrive = |filter: &[&str]| {
        let output = command(
            stage.folder(),
            &[&["quarantine", "redrive", "erp", "--url", &url], filter].concat(),
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr)
    };
    // Redriven to the same version, they fail again.
    let again = redrive(&["--type", "f"]);
    let said =
        "none redriven: the event failed again and stays in quarantine with the new reason\n";
    assert!(again.starts_with(said), "{again}");
    assert!(again.contains(" three: missing-field: "), "{again}");
    stage.place("mapper.wasm", &guests::versioned::mapper(2));
    assert_eq!(stage.reload_files()["success"], true);
    assert_eq!(redrive(&["--before", &time]), "0 redriven\n");
    assert_eq!(
        redrive(&["--plugin", "mapper@000000000000"]),
        "0 redriven\n"
    );
    assert!(
        redrive(&["--since", "yesterday"])
            .contains("query parameter `since`: must be a time such as")
    );
    assert_eq!(
        redrive(&["--plugin", &of, "--type", "t", "--since", &time]),
        "2 redriven\n"
    );
    stage.shop_holds(json!({"one": {"version": 1}, "two": {"version": 1}}));
    assert_eq!(
        redrive(&["--plugin", "mapper", "--code", "missing-field"]),
        "1 redriven\n"
    );
    stage
        .shop_holds(json!({"one": {"version": 1}, "two": {"version": 1}, "three": {"version": 1}}));
    assert_eq!(stage.quarantine("erp"), Vec::<Value>::new());
}
