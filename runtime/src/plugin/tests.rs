//! Tests of the whole room, with plugins that behave and plugins that do not.

pub(crate) mod guests;
mod hostile;
mod sharing;

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::budget::Budget;
use crate::model::{Change, EntityId, Event, Payload, Rendering, View};

/// Tight enough for short tests, and wide enough for a busy machine.
pub(crate) fn limits() -> Limits {
    Limits {
        time: Duration::from_millis(300),
        memory_bytes: 32 << 20,
        output_bytes: 1 << 20,
        log_bytes: 4 << 10,
        strict: false,
    }
}

fn host(workers: usize) -> Arc<Host> {
    Host::start(&Options {
        workers,
        ..Options::default()
    })
    .expect("a host")
}

fn load(host: &Host, name: &str, bytes: &[u8]) -> Result<Arc<Component>, Fault> {
    host.load(name, &Binary::new(bytes.to_vec()), limits())
}

fn source(host: &Host, name: &str) -> SourceChain {
    let component = load(host, name, &guests::source()).expect("loads");
    SourceChain::new(vec![
        Binding::configure(&component, "{}").expect("configures"),
    ])
    .expect("a chain")
}

/// An event; the first letter of its type selects what the guest does.
fn event(id: usize, event_type: &str) -> Event {
    Event {
        id: id.to_string(),
        origin: "/erp".into(),
        event_type: event_type.into(),
        subject: Some("s".into()),
        time: None,
        content_type: None,
        attributes: vec![("x-sap".into(), "1".into())],
        trace: None,
        data: Payload::Text(format!("{{\"n\":{id}}}")),
    }
}

pub(crate) fn events(letters: &str) -> Arc<Vec<Event>> {
    Arc::new(
        letters
            .chars()
            .enumerate()
            .map(|(id, letter)| event(id, &letter.to_string()))
            .collect(),
    )
}

/// One line per event, short enough to compare.
fn describe(verdict: &EventVerdict) -> String {
    match verdict {
        EventVerdict::Changes(changes) => {
            let change = |change: &Change| {
                format!(
                    "{}/{} {}={}",
                    change.entity_type,
                    change.key,
                    change.facet,
                    change.value.as_deref().unwrap_or("-")
                )
            };
            format!(
                "[{}]",
                changes.iter().map(change).collect::<Vec<_>>().join(", ")
            )
        }
        EventVerdict::Passed => "passed".into(),
        EventVerdict::Filtered(plugin) => format!("filtered by {plugin}"),
        EventVerdict::Failed(failed) => format!(
            "{} {}",
            if failed.fault { "FAULT" } else { "declined" },
            failed.failure
        ),
    }
}

/// Sends events whose types are these letters through the guest, and compares the description of
/// each verdict.
async fn check(letters: &str, expected: &[&str]) {
    let host = host(2);
    let chain = source(&host, "erp");
    let verdicts = host.map(&chain, events(letters), Priority::Ingest).await;
    let told: Vec<String> = verdicts.iter().map(describe).collect();
    assert_eq!(told.len(), expected.len());
    for (told, expected) in told.iter().zip(expected) {
        match expected.strip_suffix('…') {
            Some(start) => assert!(told.starts_with(start), "{told}"),
            None => assert_eq!(told, expected),
        }
    }
}

#[tokio::test]
async fn events_are_filtered_and_mapped_in_their_order() {
    check(
        "axnf",
        &[
            "[product/0 base={\"n\":0}]",
            "filtered by erp",
            "[]",
            "declined missing-field: no price",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_long_request_is_answered_in_its_order_whatever_worker_was_faster() {
    let host = host(4);
    let chain = source(&host, "erp");
    let sent: Vec<Event> = (0..500).map(|id| event(id, "a")).collect();
    let verdicts = host.map(&chain, Arc::new(sent), Priority::Ingest).await;
    let keys = verdicts.iter().map(|verdict| match verdict {
        EventVerdict::Changes(changes) => changes[0].key.clone(),
        other => panic!("{other:?}"),
    });
    assert!(keys.eq((0..500).map(|id: usize| id.to_string())));
}

// Each misbehaviour fails only the event that caused it, with a reason.

#[tokio::test]
async fn an_endless_loop_fails_alone_and_is_named() {
    check(
        "ala",
        &[
            "[product/0 base={\"n\":0}]",
            "FAULT time-limit: time limit of 300 ms exceeded",
            "[product/2 base={\"n\":2}]",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_hoard_of_memory_fails_alone_and_is_named() {
    check(
        "aha",
        &[
            "[product/0 base={\"n\":0}]",
            "FAULT memory-limit: memory limit of 32 MiB exceeded",
            "[product/2 base={\"n\":2}]",
        ],
    )
    .await;
}

#[tokio::test]
async fn recursion_without_end_fails_alone_and_is_named() {
    check(
        "ara",
        &[
            "[product/0 base={\"n\":0}]",
            "FAULT stack-limit: call stack exhausted",
            "[product/2 base={\"n\":2}]",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_trap_fails_alone() {
    check(
        "ata",
        &[
            "[product/0 base={\"n\":0}]",
            "FAULT trap: wasm trap: wasm `unreachable` instruction executed",
            "[product/2 base={\"n\":2}]",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_panic_is_told_in_the_plugins_own_words() {
    check(
        "ap",
        &["[product/0…", "FAULT trap: wasm trap: wasm `unreachable` instruction executed; it said: panicked at src/lib.rs:7: no price"],
    )
    .await;
}

#[tokio::test]
async fn output_beyond_the_limit_fails_alone_though_the_guest_holds_it_once() {
    check(
        "aoa",
        &[
            "[product/0 base={\"n\":0}]",
            "FAULT output-limit: output limit of 1 MiB exceeded",
            "[product/2 base={\"n\":2}]",
        ],
    )
    .await;
}

#[tokio::test]
async fn too_few_answers_fail_the_event_that_caused_it() {
    check(
        "awa",
        &[
            "[product/0 base={\"n\":0}]",
            "FAULT wrong-length: mapper returned 0 results for 1 items",
            "[product/2 base={\"n\":2}]",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_value_that_is_no_json_and_an_unknown_lane_fail_alone() {
    check(
        "jaL",
        &[
            "FAULT invalid-json: the value of facet \"base\" of product \"0\" is not JSON…",
            "[product/1 base={\"n\":1}]",
            "FAULT bad-lane: facet \"base\" of product \"2\" asks for lane \"warp\"; there are urgent, normal and bulk",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_trapping_filter_and_a_trapping_mapper_in_one_batch_are_told_apart() {
    check(
        "Xatx",
        &[
            "FAULT trap…",
            "[product/1 base={\"n\":1}]",
            "FAULT trap…",
            "filtered by erp",
        ],
    )
    .await;
}

#[tokio::test]
async fn one_poison_event_among_many_costs_two_limits_not_sixty_four() {
    let host = host(2);
    let chain = source(&host, "erp");
    let letters: String = (0..64).map(|n| if n == 40 { 'l' } else { 'a' }).collect();
    let verdicts = host.map(&chain, events(&letters), Priority::Ingest).await;
    let failed: Vec<usize> = (0..64)
        .filter(|n| matches!(verdicts[*n], EventVerdict::Failed(_)))
        .collect();
    assert_eq!(failed, [40]);
    let traps: u64 = host.figures().traps.iter().map(|traps| traps.count).sum();
    assert_eq!(traps, 2, "the batch and the event");
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_the_host_as_it_was() {
    let host = host(1);
    let chain = source(&host, "erp");
    for _ in 0..20 {
        let run = host.map(&chain, events(&"a".repeat(200)), Priority::Urgent);
        let _ = tokio::time::timeout(Duration::from_micros(50), run).await;
    }
    let verdicts = host.map(&chain, events("aa"), Priority::Bulk).await;
    assert_eq!(describe(&verdicts[1]), "[product/1 base={\"n\":1}]");
    let settled = async {
        while host.figures().waiting != [0; 3] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), settled)
        .await
        .expect("an abandoned batch leaves the queue");
}

// A mapper in TypeScript or Python that returned no list of changes was taken for one that declines its
// events, in the trial of a new version and in the metrics.
#[tokio::test]
async fn what_a_kit_reports_of_its_function_is_a_fault_of_the_plugin() {
    let host = host(1);
    for (code, described, traps) in [
        ("missing-field", "declined missing-field: no price", 0),
        ("exception", "FAULT exception: no price", 1),
        ("wrong-answer", "FAULT wrong-answer: no price", 1),
    ] {
        let prelude = guests::PRELUDE
            .replace("missing-field", code)
            .replace("(i32.const 13)", &format!("(i32.const {})", code.len()));
        let body = [&*prelude, guests::CONFIGURE, guests::MAPPER].concat();
        let mapper = guests::module("mapper-plugin", &body);
        let component = load(&host, code, &mapper).expect("loads");
        let binding = Binding::configure(&component, "{}").expect("configures");
        let chain = SourceChain::new(vec![binding]).expect("a chain");
        let verdicts = host.map(&chain, events("f"), Priority::Ingest).await;
        assert_eq!(describe(&verdicts[0]), described);
        let figures = host.figures();
        let counted = figures.traps.iter().find(|traps| *traps.plugin == *code);
        assert_eq!(counted.map_or(0, |traps| traps.count), traps, "{code}");
    }
}

#[tokio::test]
async fn an_instance_is_reused_until_it_faults_or_grows() {
    let host = host(1);
    let chain = source(&host, "erp");
    let told_of = async |letters: &str| {
        describe(&host.map(&chain, events(letters), Priority::Ingest).await[0])
    };
    assert_eq!(told_of("c").await, "[product/0 base=1]");
    assert_eq!(told_of("c").await, "[product/0 base=2]", "reused");
    told_of("t").await;
    assert_eq!(told_of("c").await, "[product/0 base=1]", "new after a trap");
    told_of("m").await;
    assert_eq!(
        told_of("c").await,
        "[product/0 base=1]",
        "new after it grew by 20 MiB"
    );
}

#[tokio::test]
async fn a_channels_chain_filters_renders_and_withdraws() {
    let host = host(2);
    let component = load(&host, "page", &guests::channel()).expect("loads");
    assert_eq!(component.roles(), [Role::EntityFilter, Role::Renderer]);
    let used = Binding::configure(&component, "{\"a\":1}").expect("configures");
    let chain = ChannelChain::new(vec![used]).expect("a chain");
    let view = |key: &str| View {
        id: EntityId {
            entity_type: "product".into(),
            key: key.into(),
        },
        facets: vec![("base".into(), format!("\"{key}\"").into())],
    };
    let verdicts = host
        .render(
            &chain,
            Arc::new(["a1", "x2", "n3", "t4", "a5"].map(view).to_vec()),
            Priority::Urgent,
            None,
        )
        .await;
    let body = |text: &str| {
        EntityVerdict::Rendering(Rendering {
            key: None,
            content_type: None,
            body: Payload::Text(text.into()),
        })
    };
    assert_eq!(verdicts[0], body("\"a1\""));
    assert_eq!(verdicts[1], EntityVerdict::Filtered(0));
    assert_eq!(verdicts[2], EntityVerdict::NotRendered);
    assert!(
        matches!(&verdicts[3], EntityVerdict::Failed(failed) if failed.fault && failed.plugin == component.label())
    );
    assert_eq!(verdicts[4], body("\"a5\""));
}

#[tokio::test]
async fn a_chain_without_plugins_passes_everything() {
    let host = host(1);
    let chain = SourceChain::new(Vec::new()).expect("a chain");
    assert_eq!(
        host.map(&chain, events("tt"), Priority::Ingest).await,
        [EventVerdict::Passed, EventVerdict::Passed]
    );
}

#[test]
fn what_has_no_place_in_a_chain_is_refused() {
    let host = host(1);
    let used = |name: &str, bytes: Vec<u8>| {
        Binding::configure(&load(&host, name, &bytes).expect("loads"), "{}").expect("configures")
    };
    let (erp, pim, page) = (
        used("erp", guests::source()),
        used("pim", guests::mapper()),
        used("page", guests::channel()),
    );
    let refused = SourceChain::new(vec![erp.clone(), pim.clone()])
        .err()
        .expect("two mappers")
        .to_string();
    assert_eq!(
        refused,
        "a source can have only one mapper, but it has erp and pim"
    );
    let refused = SourceChain::new(vec![page])
        .err()
        .expect("a renderer in a source")
        .to_string();
    assert_eq!(
        refused,
        "plugin page has the role entity-filter, which a source cannot use"
    );
    assert!(ChannelChain::new(vec![erp]).is_err());
    assert_eq!(
        SourceChain::new(vec![pim])
            .expect("a mapper alone")
            .stages
            .iter()
            .map(|stage| stage.role)
            .collect::<Vec<_>>(),
        [Role::Mapper]
    );
}

/// Loads bytes and checks the sentence with which they are rejected.
fn check_refused(bytes: &[u8], contains: &[&str]) {
    let fault = load(&host(1), "erp", bytes).expect_err("refused");
    assert_eq!(fault.code(), "unusable");
    for text in contains {
        assert!(fault.to_string().contains(text), "{fault}");
    }
}

#[test]
fn a_file_that_is_no_wasm_is_refused() {
    check_refused(
        b"config_version = 1\n",
        &["plugin erp: the file is not Wasm"],
    );
    check_refused(b"", &["the file is not Wasm"]);
    check_refused(b"\0asm\x0d\0\x01\0garbage", &["the file does not compile"]);
    check_refused(
        &guests::source()[..200],
        &["this core module cannot be made into a component"],
    );
}

#[test]
fn a_component_that_wants_wasi_is_told_how_to_do_without() {
    let component =
        wat::parse_str(r#"(component (import "wasi:cli/environment@0.2.12" (instance (export "get-environment" (func)))))"#).unwrap();
    check_refused(
        &component,
        &[
            "imports wasi:cli/environment@0.2.12",
            "wasm32-unknown-unknown",
            "--stub-wasi",
        ],
    );
    let module =
        wat::parse_str(r#"(module (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32))))"#).unwrap();
    check_refused(
        &module,
        &["wasi_snapshot_preview1", "wasm32-unknown-unknown"],
    );
}

#[test]
fn a_plugin_that_hangs_or_hoards_at_its_start_is_refused_within_its_limits() {
    check_refused(
        &guests::mapper_with("(start $forever)"),
        &["it does not start: time limit of 300 ms exceeded"],
    );
    check_refused(
        &guests::mapper_with("(memory 1000)"),
        &["it does not start: memory limit of 32 MiB exceeded"],
    );
}

#[test]
fn a_component_of_another_interface_is_told_which_one_is_spoken() {
    let other = |text: &str| wat::parse_str(text).unwrap();
    check_refused(
        &other("(component)"),
        &["exports none of event-filter, mapper, entity-filter and renderer"],
    );
    check_refused(
        &other("(module)"),
        &["it is a core module, which has to carry its WIT type"],
    );
    let newer = r#"(component (instance $i) (export "weir:plugin/mapper@0.2.0" (instance $i)))"#;
    check_refused(
        &other(newer),
        &["built for weir:plugin/mapper@0.2.0; this Weir supports 0.1.x"],
    );
    let bare = r#"(component (instance $i) (export "weir:plugin/mapper@0.1.0" (instance $i)))"#;
    check_refused(&other(bare), &["does not export weir:plugin/settings"]);
    let empty = r#"(component (instance $i) (export "weir:plugin/mapper@0.1.0" (instance $i)) (export "weir:plugin/settings@0.1.0" (instance $i)))"#;
    check_refused(&other(empty), &["its types are not those of weir:plugin/"]);
}

#[test]
fn a_ready_component_is_taken_like_its_core_module() {
    let module = guests::source();
    let component = wit_component::ComponentEncoder::default()
        .module(&module)
        .unwrap()
        .encode()
        .unwrap();
    let host = host(1);
    let (of_module, of_component) = (
        load(&host, "a", &module).unwrap(),
        load(&host, "a", &component).unwrap(),
    );
    assert_eq!(of_module.roles(), of_component.roles());
    assert_ne!(of_module.sha256(), of_component.sha256());
    assert_eq!(
        of_module.label(),
        format!("a@{}", version(of_module.sha256()))
    );
    assert_eq!(of_component.bytes(), component.len());
}

#[test]
fn settings_are_refused_in_the_plugins_own_words_and_within_its_limits() {
    let component = load(&host(1), "erp", &guests::source()).unwrap();
    let refused = Binding::configure(&component, "{\"refuse\":1}")
        .err()
        .expect("refused");
    assert_eq!(
        refused,
        Fault::Settings(format!(
            "{} refuses its settings: currency is missing",
            component.label()
        ))
    );
    let hung = Binding::configure(&component, "{\"loop\":1}")
        .err()
        .expect("hung");
    assert_eq!(hung.code(), "time-limit");
    assert!(
        hung.to_string()
            .contains("while it was configured: time limit of 300 ms exceeded"),
        "{hung}"
    );
}

#[test]
fn code_is_compiled_once_and_found_again_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        workers: 1,
        cache: Some(directory.path().join("code")),
        ..Options::default()
    };
    let files = || {
        std::fs::read_dir(directory.path().join("code"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|kind| kind == "cwasm"))
            .collect::<Vec<_>>()
    };
    load(&Host::start(&options).unwrap(), "erp", &guests::source()).unwrap();
    let [file] = &files()[..] else {
        panic!("one file: {:?}", files())
    };
    let written = std::fs::read(file).unwrap();

    let host = Host::start(&options).unwrap();
    let component = load(&host, "erp", &guests::source()).unwrap();
    assert_eq!(component.roles(), [Role::EventFilter, Role::Mapper]);
    assert!(Binding::configure(&component, "{}").is_ok());

    std::fs::write(file, &written[..written.len() / 2]).unwrap();
    assert!(
        load(&host, "erp", &guests::source()).is_ok(),
        "damaged code is compiled again"
    );
    assert_eq!(std::fs::read(file).unwrap(), written);
}

// A component that the compiler needs two minutes to refuse was compiled again at each reload.
#[test]
fn what_the_compiler_refused_is_refused_at_once_and_what_kept_it_from_trying_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    // In place of the compiler: writes down that it ran, and does what it is told.
    let compiles = |host: &Host, bytes: &[u8]| {
        let fault = load(host, "erp", bytes).expect_err("refused");
        let count = std::fs::read_to_string(&runs).unwrap().lines().count();
        (fault.to_string(), count)
    };
    let host_with = |end: &str| {
        let _ = std::fs::remove_file(&runs);
        let script = format!("echo run >> {runs:?}; /bin/cat > /dev/null; {end}");
        let arguments = ["-c", &script, "compiler"].map(std::ffi::OsString::from);
        Host::start(&Options {
            workers: 1,
            compiler: Some(Apart::new("/bin/sh".into(), arguments.to_vec())),
            ..Options::default()
        })
        .unwrap()
    };
    let (one, other) = (guests::source(), guests::mapper());
    let host = host_with("printf '\\001no such instruction'");
    let refused = || "plugin erp: no such instruction".to_owned();
    assert_eq!(compiles(&host, &one), (refused(), 1));
    assert_eq!(
        compiles(&host, &one),
        (refused(), 1),
        "it is not asked again"
    );
    assert_eq!(compiles(&host, &other), (refused(), 2), "other bytes");

    let host = host_with("kill -KILL $$");
    assert_eq!(compiles(&host, &one).1, 1);
    assert_eq!(compiles(&host, &one).1, 2, "somebody ended it");
}

// Those that waited for a component looked for its code before it was in the cache, and compiled it again.
#[test]
fn what_several_want_at_the_same_time_is_compiled_once() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (engine, _) = engine::serving(1).unwrap();
    let code = compile::here(&engine, &guests::source()).unwrap();
    // In place of the compiler: writes down that it ran, and answers with the code.
    let mut answer = vec![0];
    answer.extend(code.serialize().unwrap());
    std::fs::write(at("answer"), answer).unwrap();
    let script = format!(
        "echo run >> {:?}; /bin/cat > /dev/null; /bin/sleep 0.2; /bin/cat {:?}",
        at("runs"),
        at("answer")
    );
    let arguments = ["-c", &script, "compiler"].map(std::ffi::OsString::from);
    let host = Host::start(&Options {
        workers: 1,
        cache: Some(at("code")),
        compiler: Some(Apart::new("/bin/sh".into(), arguments.to_vec())),
        ..Options::default()
    })
    .unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| load(&host, "erp", &guests::source()).expect("loads"));
        }
    });
    let runs = std::fs::read_to_string(at("runs")).unwrap();
    assert_eq!(runs.lines().count(), 1);
}

// What a mapper makes was bounded for each batch of 64 events, so a request of 11.6 KB became a GB.
#[tokio::test]
async fn results_for_which_there_is_no_room_are_made_later() {
    let host = host(2);
    let chain = source(&host, "erp");
    let events = events(&"a".repeat(200));
    let memory = Arc::new(Budget::new(1 << 20).reservation("erp"));
    let (mut at, mut calls) = (0, 0);
    while at < events.len() {
        let room = Room::new(memory.clone(), 10_000);
        let items = (events.clone(), at..events.len());
        let verdicts = host
            .map_within(&chain, items, Priority::Ingest, Some(room.clone()))
            .await;
        assert!(!verdicts.is_empty(), "there is room for one");
        for (event, verdict) in events[at..].iter().zip(&verdicts) {
            let EventVerdict::Changes(changes) = verdict else {
                panic!("{verdict:?}");
            };
            assert_eq!(changes[0].key, event.id);
        }
        assert!(room.taken() <= 10_000);
        assert_eq!(memory.held(), room.taken(), "what was not used is returned");
        memory.shrink(room.taken());
        (at, calls) = (at + verdicts.len(), calls + 1);
    }
    assert!(
        calls > 5,
        "{calls} calls for 200 events of about 350 bytes each"
    );
}
