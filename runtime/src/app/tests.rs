//! The running app from inside: reloads, and what follows from them.

use super::*;
use crate::plugin::tests::guests;

fn config(more: &str) -> String {
    format!(
        r#"config_version = 1
[server]
listen = "127.0.0.1:0"
reload = "signal"
[store]
path = "data"
[entities.product]
facets.content = {{ owner = "pim" }}
[sources.pim]
[targets.shop]
kind = "webhook"
url = "http://127.0.0.1:9/"
[channels.shop]
entity = "product"
facets = ["content"]
target = "shop"
{more}"#
    )
}

/// Waits until a condition is met.
async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let met = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let patience = Duration::from_secs(120);
    let met = tokio::time::timeout(patience, met).await;
    assert!(met.is_ok(), "not within {patience:?}: {what}");
}

fn options(file: &Path) -> Options {
    Options {
        files: vec![file.to_owned()],
        limits: server::Limits::default(),
        compiler: None,
        set_aside_damaged: false,
        steps: Default::default(),
    }
}

async fn start(file: &Path) -> App {
    let started = App::start(options(file)).await;
    started.unwrap_or_else(|error| panic!("{error}"))
}

// A start that failed emptied the file of the last events, so the next one had none to try a plugin on.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_keeps_the_last_events() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("data")).expect("made");
    let samples = at("data").join("samples.json");
    let plugin = config("[plugins.page]\npath = \"page.wasm\"\n");
    for (file, text) in [
        (&samples, "{\"pim\":[]}"),
        (&at("page.wasm"), "no component"),
        (&at("weir.toml"), &*plugin),
    ] {
        std::fs::write(file, text).expect("written");
    }
    let started = App::start(options(&at("weir.toml"))).await;
    let Err(StartError::Configuration(complaints)) = started else {
        panic!("it starts with what is no component")
    };
    let what = &complaints[0].what;
    assert!(what.contains("the file is not Wasm"), "{what}");
    let kept = std::fs::read_to_string(&samples).expect("it is there");
    assert_eq!(kept, "{\"pim\":[]}");
}

// A mistake in an included file was reported, but when it was mended nobody noticed: only the files of the
// configuration in use were watched.
#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_that_is_mended_in_an_included_file_is_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, more) = (
        folder.path().join("weir.toml"),
        folder.path().join("more.toml"),
    );
    let config = config("").replace("reload = \"signal\"", "reload = \"watch\"");
    std::fs::write(&file, &config).expect("written");
    let app = start(&file).await;
    std::fs::write(&more, "oops").expect("written");
    let including = config.replacen('\n', "\ninclude = [\"more.toml\"]\n", 1);
    std::fs::write(&file, including).expect("written");
    let inner = app.inner.clone();
    eventually("the mistake is reported", || {
        !sync::lock(&inner.last_reload).complaints.is_empty()
    })
    .await;
    std::fs::write(&more, "[sources.erp]\nowner = \"pim\"\n").expect("written");
    eventually("the new source is there", || {
        inner.live.load().sources.contains_key("erp")
    })
    .await;
    app.stop().await;
}

// After a reload by request or signal the files that the new configuration names were not watched: only the
// watcher's own reloads told it what they had read.
#[tokio::test(flavor = "multi_thread")]
async fn each_reload_tells_what_it_has_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("weir.toml");
    std::fs::write(&file, config("")).expect("written");
    let app = start(&file).await;
    let mut reads = app.inner.read.subscribe();
    for (token, roles, success) in [("one", "read", true), ("two", "reed", false)] {
        let path = folder.path().join(token);
        std::fs::write(&path, "a secret of enough length\n").expect("written");
        let tokens =
            format!("[tokens.ops]\nsecret = {{ file = {token:?} }}\nroles = [{roles:?}]\n");
        std::fs::write(&file, config(&tokens)).expect("written");
        let view = app.reload().await;
        assert_eq!(view.success, success, "{view:?}");
        assert!(reads.has_changed().expect("it runs"), "{token}");
        let read = reads.borrow_and_update();
        assert!(read.named.files.contains(&path), "{:?}", read.named);
    }
    app.stop().await;
}

// Weir was stopped while a reload changed its channels over: those that it started after the others had
// stopped were not saved, and what they had delivered was delivered again.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_a_change_of_channels_that_has_begun_and_lets_no_other_begin() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("weir.toml");
    std::fs::write(&file, config("")).expect("written");
    let app = start(&file).await;
    let inner = app.inner.clone();
    let changing = inner.stopped.lock().await;
    let mut closing = Box::pin(inner.close());
    let waited = tokio::time::timeout(Duration::from_millis(200), &mut closing).await;
    assert!(waited.is_err(), "a change has begun");
    drop(changing);
    closing.await;
    let more = config("").replace("[channels.shop]", "[channels.page]");
    std::fs::write(&file, more).expect("written");
    let files = read_plan(std::slice::from_ref(&file)).expect("a plan").0;
    let loaded = inner.live.load().loaded.clone();
    let halted = inner.take_over(files, loaded).await;
    assert!(
        halted.is_err_and(|halted| halted.to_string().contains("Weir is stopping")),
        "no channel changes any more"
    );
    assert!(!inner.live.load().channels.contains_key("page"));
    app.stop().await;
}

// A plugin that the new configuration takes from another file, with bytes that another reload was
// compiling, was compiled at the turn of the reload: no other reload could begin for minutes. One with
// other limits took over with the earlier component, which has the earlier limits.
#[test]
fn a_component_is_compiled_before_the_turn_also_if_its_file_has_moved() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let plan = |component: &str| {
        let (component, limits) = component.split_once(' ').unwrap_or((component, ""));
        let plugin = format!("[plugins.page]\npath = {component:?}\n{limits}\n");
        std::fs::write(at("weir.toml"), config(&plugin)).expect("written");
        read_plan(&[at("weir.toml")]).expect("a plan").0
    };
    let (old, new) = (guests::source(), guests::mapper());
    for (name, bytes) in [("page.wasm", &old), ("same.wasm", &old), ("new.wasm", &new)] {
        std::fs::write(at(name), bytes).expect("written");
    }
    let before = plan("page.wasm");
    let host = Host::start(&plugin::Options::default()).expect("a host");
    let loaded = load::load(&host, &before).unwrap_or_else(|wrong| panic!("{wrong:?}"));

    // A compiler that waits until something is written into the pipe.
    let made = std::process::Command::new("mkfifo")
        .arg(at("pipe"))
        .status();
    assert!(made.expect("there is mkfifo").success());
    let script = format!("/bin/cat > /dev/null; /bin/cat {:?}", at("pipe"));
    let arguments = ["-c", &script, "compiler"].map(std::ffi::OsString::from);
    let host = Host::start(&plugin::Options {
        compiler: Some(plugin::Apart::new("/bin/sh".into(), arguments.to_vec())),
        ..plugin::Options::default()
    })
    .expect("a host");
    let unprepared = |component: &str| {
        let loading = Loading::new(host.clone(), plan(component), &loaded);
        loading.replacing(&before).unprepared().len()
    };
    let (binary, limits) = (plugin::Binary::new(new.clone()), plugin::tests::limits());
    std::thread::scope(|scope| {
        let compiling = scope.spawn(|| host.load("page", &binary, limits).is_err());
        while !host.is_compiling(&binary) {
            std::thread::yield_now();
        }
        let (same, moved) = (unprepared("same.wasm"), unprepared("new.wasm"));
        std::fs::write(at("page.wasm"), &new).expect("written");
        let left = unprepared("page.wasm");
        let limited = unprepared("page.wasm limits = { memory = \"32MiB\" }");
        // Before the assertions: the compiler must end also if one of them fails.
        std::fs::write(at("pipe"), "\u{1}refused").expect("written");
        assert_eq!(same, 0, "the same bytes are in use");
        assert_eq!(moved, 1, "it waits for the other one");
        assert_eq!(left, 0, "it is left to the other one");
        assert_eq!(limited, 1, "its limits are a part of the configuration");
        assert!(compiling.join().expect("no panic"));
    });
}

// After a reload with another `store.path`, which takes effect at the next start, backups were written
// beside a store that did not exist.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_lies_beside_the_store_that_serves() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("weir.toml");
    std::fs::write(&file, config("")).expect("written");
    let app = start(&file).await;
    let moved = config("").replace("path = \"data\"", "path = \"elsewhere\"");
    std::fs::write(&file, moved).expect("written");
    let view = app.reload().await;
    assert!(view.success, "{view:?}");
    let made = server::Setup::backup(&*app.inner).await;
    let made = made.unwrap_or_else(|problem| panic!("{problem:?}"));
    let beside = folder.path().join("data").join(BACKUPS);
    let made = Path::new(&made.file);
    assert_eq!(made.parent(), Some(&*beside));
    assert!(made.exists() && !folder.path().join("elsewhere").exists());
    let shown = server::Setup::config(&*app.inner).store;
    assert_eq!(Path::new(&shown), folder.path().join("data"));
    app.stop().await;
}

// A mark that includes all deliveries does so after a stop, not while Weir runs: what is delivered before the next one is
// saved would be missing from it. A stop before which nothing was delivered knows no more than the one before.
#[tokio::test(flavor = "multi_thread")]
async fn a_mark_in_the_store_is_exact_only_while_weir_is_stopped() {
    let webhook = "kind = \"webhook\"\nurl = \"http://127.0.0.1:9/\"";
    // It is connected to only for a delivery, and there is none.
    let postgres =
        "kind = \"postgres\"\nurl = \"postgres://weir@127.0.0.1:9/shop\"\ntable = \"products\"";
    let note = memories::note_of_mark("shop");
    let mark = |app: &App, exact: u8| {
        let place = app.inner.live.load().targets["shop"].place();
        [&[exact], &place.to_le_bytes()[..], b"7 00000001 42 5"].concat()
    };
    for exact in [1, 0] {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("weir.toml");
        std::fs::write(&file, config("").replace(webhook, postgres)).expect("written");
        let app = start(&file).await;
        let left = app.store().set_note(&note, Some(mark(&app, exact)));
        left.await.expect("it is written");
        app.stop().await;
        for _ in 0..2 {
            let app = start(&file).await;
            let found = sync::lock(&app.inner.found_marks).get(&note).cloned();
            assert_eq!(found, Some(mark(&app, exact)), "what the stop left");
            let now = app.store().note(&note).expect("it is read");
            assert_eq!(now, Some(mark(&app, 0)));
            app.stop().await;
        }
    }
}

// The store failed after the sources had changed over, and the response said that the old
// configuration stayed active. The next reload then found no difference and reported success.
#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_is_applied_in_part_is_called_so_until_it_is_applied() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("weir.toml");
    std::fs::write(&file, config("")).expect("written");
    let app = start(&file).await;
    app.store().close().await.expect("it closes");

    let another = "[sources.erp]\n[channels.site]\nentity = \"product\"\nfacets = [\"content\"]\ntarget = \"shop\"\n";
    std::fs::write(&file, config(another)).expect("written");
    for attempt in ["the first", "another"] {
        let view = app.reload().await;
        assert!(!view.success && view.partly_applied, "{attempt}: {view:?}");
        let what = &view.complaints[0].what;
        assert!(
            what.starts_with("the configuration is applied in part")
                && what.contains("it is closed"),
            "{attempt}: {what}"
        );
        let sources = &app.inner.live.load().sources;
        assert!(sources.contains_key("erp"), "sources have changed over");
    }

    std::fs::write(&file, "config_version = 1\noops").expect("written");
    let refused = app.reload().await;
    assert!(!refused.success && !refused.partly_applied, "{refused:?}");
    app.stop().await;
}

// A receipt that waits must not hold up a stop until the time for requests in progress is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_that_waits_is_answered_when_weir_stops() {
    use crate::model::{EntityId, Sequence};
    use crate::server::{Look, ReceiptQuery};
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("weir.toml");
    std::fs::write(&file, config("")).expect("written");
    let app = start(&file).await;
    let shop = app.inner.known_channel("shop").expect("it is configured");
    shop.pause().await.expect("it pauses");
    let id = EntityId {
        entity_type: "product".into(),
        key: "lamp".into(),
    };
    let change = store::FacetChange {
        id: id.clone(),
        facet: "content".into(),
        owner: "pim".into(),
        lane: crate::model::Lane::Normal,
        version: None,
        value: Some("1".into()),
        hash: 1,
    };
    let commit = store::Commit {
        source: "pim".into(),
        identity: None,
        arrival: None,
        effect: store::Effect::Changes(vec![change]),
    };
    let committed = app.store().commit(vec![commit]).expect("there is room");
    let committed = committed.await.expect("it lives").expect("it is durable");
    let query = ReceiptQuery {
        sequence: committed.sequence,
        wait: Duration::from_secs(3600),
    };
    let inner = app.inner.clone();
    let waiting = tokio::spawn(async move { inner.receipt(&id, query).await });
    app.stop().await;
    let receipt = tokio::time::timeout(Duration::from_secs(60), waiting).await;
    let receipt = receipt.expect("it ends").expect("no panic");
    let receipt = receipt.unwrap_or_else(|problem| panic!("{problem:?}"));
    assert!(!receipt.settled && receipt.sequence == query.sequence.0);
    assert!(query.sequence > Sequence(0));
}
