//! Plugins whose new version is refused: they keep their earlier one, over restarts too, and hold up
//! nobody else.

use serde_json::{Value, json};

use crate::support::weir::command;
use crate::support::{Stage, becomes, change, eventually, guests};

const CONFIG: &str = r#"
[entities.product]
facets.base = { owner = "erp" }
facets.content = { owner = "pim" }
[plugins.mapper]
path = "mapper.wasm"
[plugins.page]
path = "page.wasm"
[sources.erp]
plugins = ["mapper"]
[sources.pim]
[targets.shop]
kind = "webhook"
url = "{shop}"
[channels.shop]
entity = "product"
facets = ["base", "content"]
plugins = ["page"]
target = "shop"
"#;

fn stage(config: &str) -> Stage {
    let mut stage = Stage::closed(config);
    stage.place("mapper.wasm", &guests::versioned::mapper(1));
    stage.place("page.wasm", &guests::versioned::renderer(1));
    stage.start();
    stage
}

fn one_event(stage: &Stage, id: &str) {
    let events = event_of_type(stage, "changed", id);
    assert_eq!(events["accepted"], 1, "{events:#}");
}

/// Returns how many events were accepted, filtered and so on.
fn event_of_type(stage: &Stage, kind: &str, id: &str) -> Value {
    let event = json!({"specversion": "1.0", "id": id, "source": "erp", "type": kind, "data": 1});
    let headers = [("content-type", "application/cloudevents+json")];
    let reply = stage.send("erp", &headers, event.to_string().as_bytes());
    assert_eq!(reply.status, 202, "{}", reply.text());
    reply.json()["events"].clone()
}

fn warnings(stage: &Stage) -> Value {
    let reply = stage.weir().get("/readyz");
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()["warnings"].clone()
}

/// Waits until the metrics say whether a plugin is held back: their figures are up to a second old.
#[track_caller]
fn is_held_back(stage: &Stage, plugin: &str, expected: bool) {
    let name = format!("weir_plugin_held_back{{plugin=\"{plugin}\"}} ");
    becomes(
        &format!("whether {plugin} is held back"),
        Some(u8::from(expected).to_string()),
        || {
            let metrics = stage.weir().get("/metrics").text();
            let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
            line.map(str::to_owned)
        },
    );
}

/// A running Weir kept the earlier version of a component that it refused; after a restart nothing
/// ran at all.
#[test]
fn a_start_falls_back_to_the_component_that_served_last() {
    let mut stage = stage(CONFIG);
    one_event(&stage, "lamp");
    stage.shop_holds(json!({"lamp": {"version": 1}}));
    assert_eq!(warnings(&stage), Value::Null);
    is_held_back(&stage, "page", false);

    let spoil: [fn(&Stage); 3] = [
        |stage| drop(stage.place("page.wasm", b"no component")),
        |stage| std::fs::remove_file(stage.folder().join("page.wasm")).expect("removed"),
        // It loads, but it has another role.
        |stage| drop(stage.place("page.wasm", &guests::versioned::mapper(7))),
    ];
    for (number, spoil) in spoil.into_iter().enumerate() {
        spoil(&stage);
        assert_eq!(stage.reload_files()["status"], 422);
        stage.stop();
        stage.start();
        stage.weir().says("their earlier ones stay active");
        let told = warnings(&stage).to_string();
        assert!(
            told.contains("plugin page serves its earlier version"),
            "{number}: {told}"
        );
        is_held_back(&stage, "page", true);
        is_held_back(&stage, "mapper", false);
        let key = format!("chair-{number}");
        one_event(&stage, &key);
        eventually("it renders", || stage.shop.holds().get(&key).cloned());
        let check = command(stage.folder(), &["check", "-c", "weir.toml"]);
        assert_eq!(check.status.code(), Some(1), "{number}");
    }
    stage.place("page.wasm", &guests::versioned::renderer(2));
    assert_eq!(stage.reload_files()["success"], true);
    assert_eq!(warnings(&stage), Value::Null);
    is_held_back(&stage, "page", false);
    stage.settles("shop");
    assert_eq!(stage.shop.holds()["lamp"], json!({"version": 2}));

    // What another has put there is not used: then there is nothing to fall back to.
    stage.place("page.wasm", b"no component");
    stage.stop();
    let kept = stage.folder().join("data/plugins");
    for entry in std::fs::read_dir(kept).expect("a folder").flatten() {
        if entry.file_name().to_string_lossy().starts_with("page-") {
            std::fs::write(entry.path(), guests::versioned::renderer(9)).expect("written");
        }
    }
    let run = command(stage.folder(), &["run", "-c", "weir.toml"]);
    assert_eq!(run.status.code(), Some(1), "it does not start");
}

/// One team's plugin that was wrong kept another team's new version away.
#[test]
fn one_refused_plugin_keeps_neither_another_nor_a_changed_configuration_away() {
    let stage = stage(CONFIG);
    one_event(&stage, "lamp");
    stage.shop_holds(json!({"lamp": {"version": 1}}));
    stage.place("mapper.wasm", b"half a fi");
    stage.place("page.wasm", &guests::versioned::renderer(2));
    let answer = stage.reload_files();
    let detail = answer["detail"].as_str().unwrap_or_default();
    assert!(
        answer["status"] == 422 && detail.contains("plugin page is replaced"),
        "{answer:#}"
    );
    stage.shop_holds(json!({"lamp": {"version": 2}}));
    one_event(&stage, "chair");
    stage.shop_holds(json!({"lamp": {"version": 2}, "chair": {"version": 2}}));
    is_held_back(&stage, "mapper", true);
    is_held_back(&stage, "page", false);

    let more = format!("{CONFIG}[sources.second]\nowner = \"pim\"\n");
    let answer = stage.reload(&more);
    assert_eq!(answer["status"], 422, "{answer:#}");
    stage.takes("second", &[change("table", "content", json!(1))]);

    // A configuration that needs the new component takes over whole or not at all.
    let answer = stage.reload(
        &more
            .replace("mapper.wasm\"", "mapper.wasm\"\nlimits = { time = \"2s\" }")
            .replace("[sources.second]", "[sources.third]"),
    );
    assert_eq!(answer["status"], 422, "{answer:#}");
    stage.takes("second", &[change("table", "content", json!(2))]);
}

/// A renderer that loops was tried on each of 16 entities in each of 18 channels; no other reload
/// could begin for five minutes.
#[test]
fn a_looping_renderer_in_many_channels_holds_up_no_reload() {
    let rows: String = (0..18)
        .map(|n| format!("[each.site.s{n}]\nx = \"{n}\"\n"))
        .collect();
    let config = CONFIG.replace(
        "[channels.shop]\n",
        "[channels.shop]\nfor_each = \"site\"\nsettings = { n = 1 }\n",
    ) + &rows;
    let stage = stage(&config);
    let changes: Vec<Value> = (0..40)
        .map(|number| change(&format!("p{number}"), "content", json!(1)))
        .collect();
    stage.takes("pim", &changes);
    for n in 0..18 {
        stage.settles(&format!("shop.s{n}"));
    }
    stage.place("page.wasm", &guests::versioned::looping_renderer());
    stage.place("mapper.wasm", &guests::versioned::mapper(2));
    let answer = stage.reload_files();
    assert_eq!(answer["status"], 422, "{answer:#}");
    let metrics = stage.weir().get("/metrics").text();
    let of_page = |line: &&str| line.starts_with("weir_plugin_traps_total{plugin=\"page\"");
    let count = |line: &str| line.rsplit(' ').next()?.parse::<u64>().ok();
    let loops: u64 = metrics.lines().filter(of_page).filter_map(count).sum();
    assert!(
        (1..18).contains(&loops),
        "the renderer looped {loops} times"
    );
    assert!(
        answer
            .to_string()
            .contains("faults when tried on a recent entity"),
        "{answer:#}"
    );
    one_event(&stage, "chair");
    eventually("the other plugin's new version serves", || {
        let facets = stage.entity("chair")["facets"].clone();
        facets
            .as_array()?
            .iter()
            .find(|facet| facet["value"]["version"] == 2)
            .cloned()
    });
}

/// A reload that compiled held up SIGTERM, and every other reload.
#[test]
fn while_one_plugin_is_compiled_others_take_over_and_weir_stops_at_once() {
    let mut stage = stage(CONFIG);
    one_event(&stage, "lamp");
    stage.shop_holds(json!({"lamp": {"version": 1}}));
    stage.place("mapper.wasm", &guests::versioned::slow_to_compile());
    let address = stage.weir().address();
    let compiling = std::thread::spawn(move || {
        crate::support::http::request(address, "POST", "/v1/reload", &[], b"")
    });
    let compiler = stage.weir().freezes_its_compiler();
    stage.place("page.wasm", &guests::versioned::renderer(2));
    assert_eq!(stage.reload_files()["success"], true);
    stage.shop_holds(json!({"lamp": {"version": 2}}));
    let compilers = stage.weir().children();
    assert_eq!(compilers, [compiler], "it still compiles, once");
    // A stop that waits for something gives up after 9 s, which is no success.
    stage.stop();
    let _ = compiling.join();
    let process = format!("/proc/{}/stat", compiler.as_raw_nonzero());
    becomes("the compiler has ended with Weir", false, || {
        std::path::Path::new(&process).exists()
    });
}

/// A component that was a pipe held up SIGTERM for good, because the reload read it.
#[test]
fn a_component_that_is_a_pipe_does_not_hold_up_the_stop() {
    let mut stage = stage(CONFIG);
    let path = stage.folder().join("page.wasm");
    std::fs::remove_file(&path).expect("removed");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.expect("there is mkfifo").success());
    let address = stage.weir().address();
    let reload = std::thread::spawn(move || {
        crate::support::http::request(address, "POST", "/v1/reload", &[], b"")
    });
    one_event(&stage, "lamp");
    stage.shop_holds(json!({"lamp": {"version": 1}}));
    // A stop that waits for something gives up after 9 s, which is no success.
    stage.stop();
    let _ = reload.join();
}

/// A mapper that dropped all events took over with a line at INFO: 202 to the sender, and the events
/// were gone. After a restart nothing was tried at all.
#[test]
fn a_mapper_that_maps_nothing_any_more_waits_for_a_confirmation() {
    let mut stage = stage(CONFIG);
    for n in 0..16 {
        one_event(&stage, &format!("lamp-{n}"));
    }
    stage.place("mapper.wasm", &guests::versioned::mapper_of_nothing());
    let refused = |stage: &Stage, answer: Value| {
        let told = answer.to_string();
        assert!(
            answer["status"] == 422
                && told.contains(
                    "maps none of the last 16 events, of which the version in use maps 16"
                )
                && told.contains("weir plugin confirm mapper"),
            "{answer:#}"
        );
        is_held_back(stage, "mapper", true);
    };
    let answer = stage.reload_files();
    refused(&stage, answer);

    // The samples and the version that served last outlast a restart.
    stage.stop();
    stage.start();
    // Tried at the start.
    is_held_back(&stage, "mapper", true);
    let answer = stage.reload_files();
    refused(&stage, answer);
    let url = format!("http://{}", stage.weir().address());
    let confirm = |plugin: &str| {
        command(
            stage.folder(),
            &["plugin", "confirm", plugin, "--url", &url],
        )
    };
    assert_eq!(confirm("page").status.code(), Some(1), "nothing to confirm");
    let confirmed = confirm("mapper");
    let printed = String::from_utf8_lossy(&confirmed.stdout).into_owned();
    assert_eq!(printed, "mapper: the new version is in use\n");
    is_held_back(&stage, "mapper", false);
}

/// A version that mapped 4 of 16 events, where the one in use maps 12, took over with a line at INFO.
#[test]
fn a_version_that_maps_clearly_less_waits_and_one_that_maps_a_little_less_is_reported() {
    let config = CONFIG.replace(
        "plugins = [\"mapper\"]",
        "plugins = [\"gate\", \"mapper\"]\n[plugins.gate]\npath = \"gate.wasm\"",
    );
    let mut stage = Stage::closed(&config);
    stage.place("mapper.wasm", &guests::versioned::mapper(1));
    stage.place("page.wasm", &guests::versioned::renderer(1));
    // Odd versions drop events whose type begins with `a`, even ones those with `b`.
    stage.place("gate.wasm", &guests::versioned::event_filter(1));
    stage.start();
    let send = |stage: &Stage, kind: &str, ids: std::ops::Range<usize>| {
        for n in ids {
            event_of_type(stage, kind, &format!("{kind}-{n}"));
        }
    };
    send(&stage, "a", 0..7);
    send(&stage, "b", 0..9);
    stage.place("gate.wasm", &guests::versioned::event_filter(2));
    let answer = stage.reload_files();
    assert_eq!(answer["success"], true, "{answer:#}");
    let how = "maps 7 of the last 16 events, of which the version before it maps 9; of these it maps 9 no longer: 9 dropped";
    stage.weir().says(how);
    let list = stage.weir().get("/v1/plugins").text().to_owned();
    assert!(list.contains(how), "{list}");

    send(&stage, "a", 7..19);
    send(&stage, "b", 9..13);
    stage.place("gate.wasm", &guests::versioned::event_filter(3));
    let answer = stage.reload_files();
    let told = answer.to_string();
    assert!(
        answer["status"] == 422
            && told.contains("maps 4 of the last 16 events, of which the version in use maps 12")
            && told.contains("weir plugin confirm gate"),
        "{answer:#}"
    );
    is_held_back(&stage, "gate", true);
    let url = format!("http://{}", stage.weir().address());
    let confirmed = command(
        stage.folder(),
        &["plugin", "confirm", "gate", "--url", &url],
    );
    assert!(confirmed.status.success(), "{confirmed:?}");
    is_held_back(&stage, "gate", false);
}

/// A filter that is new in a changed configuration and drops everything was refused with the advice
/// to confirm it, and the confirmation knew no such plugin.
#[test]
fn a_plugin_that_is_new_in_a_configuration_can_be_confirmed() {
    let stage = stage(CONFIG);
    for n in 0..4 {
        event_of_type(&stage, "added", &format!("lamp-{n}"));
    }
    let config = CONFIG
        .replace("plugins = [\"mapper\"]", "plugins = [\"gate\", \"mapper\"]")
        .replace(
            "[plugins.page]",
            "[plugins.gate]\npath = \"gate.wasm\"\n[plugins.page]",
        );
    // It drops events whose type begins with `a`.
    stage.place("gate.wasm", &guests::versioned::event_filter(1));
    let told = stage.reload(&config).to_string();
    assert!(told.contains("weir plugin confirm gate"), "{told}");
    let reply = stage.weir().post("/v1/plugins/gate/confirm");
    assert_eq!(reply.json()["success"], true, "{}", reply.text());
}

/// A mapper with new settings was said to serve an earlier version too when the filter before it was
/// held back.
#[test]
fn only_the_plugin_whose_version_was_refused_is_said_to_be_held_back() {
    let config = CONFIG.replace(
        "plugins = [\"mapper\"]",
        "plugins = [\"gate\", \"mapper\"]\n[plugins.gate]\npath = \"gate.wasm\"",
    );
    let mut stage = Stage::closed(&config);
    stage.place("mapper.wasm", &guests::versioned::mapper(1));
    stage.place("page.wasm", &guests::versioned::renderer(1));
    stage.place("gate.wasm", &guests::versioned::event_filter(1));
    stage.start();
    for n in 0..4 {
        event_of_type(&stage, "b", &format!("lamp-{n}"));
    }
    // It drops events whose type begins with `b`.
    stage.place("gate.wasm", &guests::versioned::event_filter(2));
    let answer =
        stage.reload(&config.replace("\"mapper\"]", "{ use = \"mapper\", settings = { n = 1 } }]"));
    assert!(
        answer["status"] == 422 && answer.to_string().contains("weir plugin confirm gate"),
        "{answer:#}"
    );
    is_held_back(&stage, "gate", true);
    is_held_back(&stage, "mapper", false);
}

/// A mapper that names a facet that does not exist took over; each of its events was quarantined.
#[test]
fn a_mapper_whose_changes_its_source_may_not_write_is_refused() {
    let stage = stage(CONFIG);
    one_event(&stage, "lamp");
    stage.place("mapper.wasm", &guests::versioned::mapper_of_facet("wase"));
    let answer = stage.reload_files();
    let told = answer.to_string();
    assert!(
        answer["status"] == 422
            && told.contains("faults when tried on a recent event")
            && told.contains("wase"),
        "{answer:#}"
    );
    one_event(&stage, "chair");
    stage.shop_holds(json!({"lamp": {"version": 1}, "chair": {"version": 1}}));
}

/// A filter dropped all samples, so a renderer that hangs took over.
#[test]
fn a_renderer_is_tried_on_what_its_channel_has_delivered() {
    let config = CONFIG
        .replace(
            "[plugins.page]",
            "[plugins.gate]\npath = \"gate.wasm\"\n[plugins.page]",
        )
        .replace("plugins = [\"page\"]", "plugins = [\"gate\", \"page\"]");
    let mut stage = Stage::closed(&config);
    stage.place("mapper.wasm", &guests::versioned::mapper(1));
    // It drops what begins with `a`.
    stage.place("gate.wasm", &guests::versioned::entity_filter(1));
    stage.place("page.wasm", &guests::versioned::renderer(1));
    stage.start();
    one_event(&stage, "bench");
    for n in 0..40 {
        one_event(&stage, &format!("a-{n}"));
    }
    stage.shop_holds(json!({"bench": {"version": 1}}));
    stage.settles("shop");
    stage.place("page.wasm", &guests::versioned::looping_renderer());
    let answer = stage.reload_files();
    let told = answer.to_string();
    assert!(
        answer["status"] == 422 && told.contains("faults when tried on a recent entity"),
        "{answer:#}"
    );
}
