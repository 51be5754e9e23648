//! The work of a plugin author: from nothing to a plugin that a running Weir uses, and every error
//! on the way, each with a message that says what to do.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::weir::PROGRAM;
use crate::support::{PATIENCE, Stage, becomes, change, eventually, guests};

/// The program, set up so that new plugins share the compiled dependencies of the repository's
/// plugins.
fn weir(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .env("CARGO_TARGET_DIR", guests());
    command
}

/// The `target` folder of the build that runs this test.
fn guests() -> PathBuf {
    Path::new(PROGRAM)
        .ancestors()
        .nth(2)
        .expect("target/debug/weir")
        .to_owned()
}

fn output(folder: &Path, arguments: &[&str]) -> Output {
    weir(folder, arguments).output().expect("the program runs")
}

#[track_caller]
fn says(output: &Output, code: i32, sentence: &str) {
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert_eq!(output.status.code(), Some(code), "{out}{err}");
    assert!(
        out.contains(sentence) || err.contains(sentence),
        "{sentence:?} is neither in {out}\nnor in {err}"
    );
}

/// A new plugin with the dependency versions of the repository's plugins, so that they need not be
/// compiled again.
fn new_plugin(folder: &Path, name: &str, kind: &str) -> PathBuf {
    says(
        &output(folder, &["plugin", "new", name, "--kind", kind]),
        0,
        "weir plugin test",
    );
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    fs::copy(lock, folder.join(name).join("Cargo.lock")).expect("copied");
    folder.join(name)
}

fn edit(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).expect("a text");
    assert!(text.contains(from), "{from:?} is not in {text}");
    fs::write(file, text.replace(from, to)).expect("written");
}

#[test]
fn a_new_plugin_of_each_kind_builds_and_passes_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    for (kind, cases) in [
        ("mapper", 3),
        ("renderer", 2),
        ("event-filter", 2),
        ("entity-filter", 3),
    ] {
        let plugin = new_plugin(folder.path(), &format!("my-{kind}"), kind);
        let tested = output(&plugin, &["plugin", "test", "--json"]);
        says(&tested, 0, r#""passed": true"#);
        let report: Value = serde_json::from_slice(&tested.stdout).expect("JSON");
        assert_eq!(
            (&report["roles"], report["cases"].as_array().map(Vec::len)),
            (&json!([kind]), Some(cases)),
            "{report:#}"
        );
        // It prints the digest of the component in dist, and that component contains its cases.
        let component = plugin
            .join("dist")
            .join(format!("my_{}.wasm", kind.replace('-', "_")));
        let inside = output(
            folder.path(),
            &["plugin", "test", &component.display().to_string(), "--json"],
        );
        let inside: Value = serde_json::from_slice(&inside.stdout).expect("JSON");
        assert_eq!(
            (&inside["sha256"], &inside["cases"]),
            (&report["sha256"], &report["cases"])
        );
        let built = output(&plugin, &["plugin", "build"]);
        says(
            &built,
            0,
            &format!("sha256 {}", report["sha256"].as_str().expect("a digest")),
        );
        says(&built, 0, &format!("{cases} cases inside"));
    }
}

#[test]
fn existing_files_are_never_overwritten() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("taken")).expect("made");
    fs::write(folder.path().join("taken/work.rs"), "years of it").expect("written");
    says(
        &output(folder.path(), &["plugin", "new", "taken"]),
        1,
        "taken exists and is not empty; nothing was changed",
    );
    assert_eq!(
        fs::read_dir(folder.path().join("taken"))
            .expect("a folder")
            .count(),
        1
    );
    fs::create_dir(folder.path().join("empty")).expect("made");
    says(
        &output(folder.path(), &["plugin", "new", "empty"]),
        0,
        "a plugin in Rust, kind mapper",
    );
    says(
        &output(folder.path(), &["plugin", "new", "My_Plugin"]),
        2,
        "`My_Plugin` cannot be the name of a plugin; use lower case letters",
    );
    says(
        &output(folder.path(), &["plugin", "new", "x", "--kind", "joiner"]),
        2,
        "mapper",
    );
    assert_eq!(
        fs::read_dir(folder.path()).expect("a folder").count(),
        2,
        "something else was left behind"
    );
}

#[test]
fn the_output_of_the_compiler_comes_first_and_the_last_build_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let plugin = new_plugin(folder.path(), "broken", "event-filter");
    says(&output(&plugin, &["plugin", "test"]), 0, "2 passed");
    let component = fs::read(plugin.join("dist/broken.wasm")).expect("a component");
    edit(
        &plugin.join("src/lib.rs"),
        "Ok(!event",
        "Ok(event.nowhere && !event",
    );
    let tested = output(&plugin, &["plugin", "test"]);
    says(&tested, 1, "no field `nowhere` on type `&Event`");
    says(
        &tested,
        1,
        "broken does not compile; the compiler's messages are above",
    );
    assert_eq!(
        fs::read(plugin.join("dist/broken.wasm")).expect("a component"),
        component
    );

    // A failed case is reported with its place, and a case that cannot be read with its file.
    edit(
        &plugin.join("src/lib.rs"),
        "Ok(event.nowhere && !event",
        "Ok(event",
    );
    let tested = output(&plugin, &["plugin", "test"]);
    says(&tested, 1, "FAIL  test-event: expected false, got true");
    says(&tested, 1, "2 cases: 0 passed, 2 failed");
    fs::write(plugin.join("cases/test-event/event.json"), "{").expect("written");
    says(
        &output(&plugin, &["plugin", "test"]),
        1,
        "cases/test-event/event.json: it is not JSON",
    );
}

/// A tool chain that is incomplete is reported with what is missing.
#[test]
fn a_missing_tool_chain_is_reported_with_the_remedy() {
    let folder = tempfile::tempdir().expect("a folder");
    let plugin = new_plugin(folder.path(), "lonely", "mapper");
    let nowhere = folder.path().join("no-programs");
    fs::create_dir(&nowhere).expect("made");
    let build = |chain: &str| {
        weir(&plugin, &["plugin", "build"])
            .env("PATH", &nowhere)
            .env("WEIR_TOOLCHAIN", chain)
            .output()
            .expect("the program runs")
    };
    says(
        &build("rustup"),
        3,
        "no tool chain on this machine compiles Rust for wasm32-unknown-unknown",
    );
    says(
        &build("rustup"),
        3,
        "install rustup and run `rustup target add wasm32-unknown-unknown`",
    );
    says(
        &build("gcc"),
        3,
        "WEIR_TOOLCHAIN is `gcc`, but must be `rustup` or `debian`",
    );
    assert!(!plugin.join("dist").exists());
}

/// Components that were built elsewhere, with other tools.
#[test]
fn a_component_that_cannot_be_a_plugin_says_what_to_do_instead() {
    let folder = tempfile::tempdir().expect("a folder");
    let sample = folder.path().join("event.json");
    fs::write(&sample, "{}").expect("written");
    let mut large = b"\0asm\x0d\0\x01\0\0".to_vec();
    // One custom section of 60 MB, its length in LEB128.
    large.extend([
        0x80 | (60_000_000 & 0x7f) as u8,
        0x80 | (60_000_000 >> 7 & 0x7f) as u8,
        0x80 | (60_000_000 >> 14 & 0x7f) as u8,
        (60_000_000 >> 21) as u8,
    ]);
    large.push(1);
    large.push(b'x');
    large.resize(large.len() + 60_000_000 - 2, 0);
    let wasi = wat::parse_str(r#"(component (import "wasi:cli/environment@0.2.3" (instance)))"#)
        .expect("Wasm");
    let version =
        wat::parse_str(r#"(component (import "weir:plugin/log@0.2.0" (instance)))"#).expect("Wasm");
    let world = wat::parse_str("(component)").expect("Wasm");
    for (name, bytes, code, sentence) in [
        ("large", &large, 3, "the limit is 48 MiB"),
        ("wasi", &wasi, 1, "build it for wasm32-unknown-unknown"),
        (
            "version",
            &version,
            1,
            "it imports weir:plugin/log@0.2.0; this Weir provides weir:plugin/log@0.1.",
        ),
        (
            "world",
            &world,
            1,
            "it exports none of event-filter, mapper, entity-filter and renderer",
        ),
        ("half", &world[..7].to_vec(), 1, "the file is not Wasm"),
    ] {
        let path = folder.path().join(format!("{name}.wasm"));
        fs::write(&path, bytes).expect("written");
        says(
            &output(
                folder.path(),
                &[
                    "plugin",
                    "run",
                    &path.display().to_string(),
                    &sample.display().to_string(),
                ],
            ),
            code,
            sentence,
        );
        says(
            &output(
                folder.path(),
                &[
                    "plugin",
                    "test",
                    &path.display().to_string(),
                    "--cases",
                    ".",
                ],
            ),
            code,
            sentence,
        );
    }
}

/// `weir plugin watch` as a process, and its output.
struct Watch {
    child: Child,
    lines: Receiver<String>,
}

impl Watch {
    fn start(mut command: Command) -> Watch {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program runs");
        let (line, lines) = channel();
        let out = BufReader::new(child.stdout.take().expect("piped"));
        std::thread::spawn(move || {
            out.lines()
                .map_while(Result::ok)
                .for_each(|printed| drop(line.send(printed)))
        });
        Watch { child, lines }
    }

    /// The output for the next round, with all the lines that belong to it.
    #[track_caller]
    fn next(&self) -> String {
        let mut printed = self
            .lines
            .recv_timeout(PATIENCE)
            .expect("it prints something");
        while let Ok(more) = self.lines.recv_timeout(Duration::from_millis(100)) {
            printed.push('\n');
            printed.push_str(&more);
        }
        printed
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // If it has ended already, there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_saved_plugin_is_used_soon_if_it_passes_and_never_if_it_does_not() {
    let mut stage = Stage::closed("");
    let plugin = new_plugin(stage.folder(), "erp-prices", "mapper");
    says(&output(&plugin, &["plugin", "test"]), 0, "3 passed");
    stage.configure(
        r#"
[entities.product]
facets."price.*" = { owner = "erp" }
[plugins.erp-prices]
path = "erp-prices/dist/erp_prices.wasm"
settings = { list = "retail" }
[sources.erp]
plugins = ["erp-prices"]
[channels.shop]
entity = "product"
facets = ["price.*"]
target = { kind = "webhook", url = "{shop}" }
"#,
    );
    let file = stage.folder().join("weir.toml");
    edit(&file, "reload = \"signal\"", "reload = \"watch\"");
    stage.start();
    let served = || stage.weir().get("/v1/plugins").json()["items"][0]["sha256"].clone();
    let send = |amount: &str, at: &str| {
        let body =
            json!({"sku": "4711", "amount": amount, "changed": format!("2026-11-23T{at}:00Z")})
                .to_string();
        let reply = stage.send(
            "erp",
            &[("content-type", "application/json")],
            body.as_bytes(),
        );
        assert_eq!(reply.json()["changes"]["committed"], 1, "{}", reply.text());
    };
    send("9.90", "10:00");
    let first = served();

    let url = format!("http://{}", stage.weir().address());
    let mut command = weir(&plugin, &["plugin", "watch", "--into", "erp-prices"]);
    command.env("WEIR_URL", &url);
    let watch = Watch::start(command);
    let printed = watch.next();
    assert!(
        printed.starts_with("ok    3 cases: 3 passed, 0 failed")
            && printed.ends_with("Weir uses it as erp-prices"),
        "{printed}"
    );

    // The mapping and its expected output change. Both are saved, and only then do the cases pass
    // and Weir uses it.
    let source = plugin.join("src/lib.rs");
    edit(
        &source,
        "&Price { amount })?",
        "&Price { amount: format!(\"EUR {amount}\") })?",
    );
    let printed = watch.next();
    assert!(
        printed.starts_with("WRONG it fails its cases and is not written:")
            && printed.contains(r#"expected "9.90", got "EUR 9.90""#),
        "{printed}"
    );
    edit(
        &plugin.join("cases/price-changed/expected.json"),
        "9.90",
        "EUR 9.90",
    );
    let printed = watch.next();
    assert!(
        printed.contains("Weir uses it as erp-prices, ") && printed.ends_with("s after the save"),
        "{printed}"
    );
    println!("{printed}");
    let second = served();
    assert_ne!(second, first);
    send("8.90", "11:00");
    becomes(
        "the price as the new version maps it",
        json!({"amount": "EUR 8.90"}),
        || {
            stage.entity("4711")["facets"]
                .as_array()
                .and_then(|facets| Some(facets.first()?["value"].clone()))
                .unwrap_or_default()
        },
    );

    // A half-written source, and a half-written component where Weir looks, do no harm.
    let whole = fs::read_to_string(&source).expect("a text");
    fs::write(&source, &whole[..whole.len() / 2]).expect("written");
    let printed = watch.next();
    assert!(
        printed.starts_with("WRONG") && printed.contains("does not compile"),
        "{printed}"
    );
    let component = plugin.join("dist/erp_prices.wasm");
    let bytes = fs::read(&component).expect("a component");
    fs::write(&component, &bytes[..bytes.len() / 2]).expect("half of it");
    eventually("Weir reports that it rejects half a file", || {
        let view = stage.weir().get("/v1/config").json();
        (view["last_reload"]["success"] == false).then_some(())
    });
    assert_eq!(served(), second);
    send("7.90", "12:00");
    fs::write(&source, whole.replace("EUR {amount}", "{amount} EUR")).expect("written");
    edit(
        &plugin.join("cases/price-changed/expected.json"),
        "EUR 9.90",
        "9.90 EUR",
    );
    // The two saves may fall into one round or into two.
    let printed = eventually("the third version serves", || {
        Some(watch.next()).filter(|printed| printed.starts_with("ok"))
    });
    assert!(printed.contains("Weir uses it as erp-prices"), "{printed}");
    send("6.90", "13:00");

    // The message of Weir if it rejects a plugin that passes here, because its settings there are
    // different.
    edit(
        &file,
        "list = \"retail\"",
        "list = \"retail\", round = true",
    );
    edit(&source, "the article has no", "this article has no");
    let printed = watch.next();
    assert!(
        printed.starts_with("WRONG Weir refuses it: ") && printed.contains("`round`"),
        "{printed}"
    );
}

#[test]
fn watching_names_the_weir_it_asks_and_reports_what_is_missing() {
    let folder = tempfile::tempdir().expect("a folder");
    let plugin = new_plugin(folder.path(), "alone", "event-filter");
    let watch_once = |more: &[&str]| {
        output(
            &plugin,
            &[&["plugin", "watch", "--rounds", "1"], more].concat(),
        )
    };
    says(&watch_once(&[]), 0, "ok    2 cases: 2 passed, 0 failed");
    // A port on which nothing listens.
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port");
    says(
        &watch_once(&["--into", "alone", "--url", &format!("http://{free}")]),
        1,
        "WRONG could not reach",
    );
    let stage = Stage::catalog();
    let url = format!("http://{}", stage.weir().address());
    says(
        &watch_once(&["--into", "alone", "--url", &url]),
        1,
        "WRONG Weir has no plugin alone; it has none",
    );
    says(
        &output(
            folder.path(),
            &["plugin", "watch", "nowhere", "--rounds", "1"],
        ),
        3,
        "cannot watch nowhere",
    );
}

// Who wanted to know why an event was quarantined, or what a renderer makes of an entity, had to copy
// both out of other commands by hand.
#[test]
fn a_sample_is_a_quarantined_event_or_an_entity_as_it_is_now() {
    let stage = Stage::catalog();
    stage.takes(
        "pim",
        &[change("lamp", "content", json!({"name": "Fjord"}))],
    );
    let unknown = json!({"specversion": "1.0", "id": "event-7", "source": "/t", "type": "t", "data": change("lamp", "nowhere", json!(1))});
    let headers = [("content-type", "application/cloudevents+json")];
    stage.send("pim", &headers, unknown.to_string().as_bytes());
    let sequence = stage.quarantine("pim")[0]["sequence"].clone();
    stage.place("page.wasm", &guests::versioned::renderer(3));
    stage.place("map.wasm", &guests::versioned::mapper(3));
    let url = format!("http://{}", stage.weir().address());
    let run = |component: &str, from: &str| {
        output(
            stage.folder(),
            &["plugin", "run", component, "--from", from, "--url", &url],
        )
    };
    let page = run("page.wasm", "product/lamp");
    says(&page, 0, "renderer: application/json");
    says(&page, 0, "product/lamp");
    let mapped = run("map.wasm", &format!("quarantine:{sequence}"));
    says(&mapped, 0, &format!("quarantine:{sequence}"));
    says(&mapped, 0, "product/event-7");
    says(
        &run("map.wasm", "quarantine:999999"),
        1,
        "no source has a quarantined event with the sequence 999999",
    );
    says(
        &run("page.wasm", "product"),
        2,
        "is neither quarantine:SEQUENCE nor TYPE/KEY",
    );
    says(&run("page.wasm", "product/none"), 1, "");
}
