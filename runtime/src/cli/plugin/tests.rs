//! The commands for plugin authors with the real plugins of this repository, built from their
//! source.

use clap::Parser;
use serde_json::json;

use super::*;
use crate::author::cases::{self, Item};
use crate::budget::Budget;
use crate::ingest::{Headers, Options, envelope, form, naming, split::Split, verify};

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: PluginCommand,
}

/// The output of a command, its error output, and its exit code.
struct Ended {
    out: String,
    complaint: String,
    code: u8,
}

fn weir_plugin(arguments: &[&str]) -> Ended {
    let cli = Cli::try_parse_from([&["plugin"], arguments].concat())
        .unwrap_or_else(|error| panic!("{error}"));
    let mut out = String::new();
    match run(cli.command, &mut out) {
        Ok(fine) => Ended {
            out,
            complaint: String::new(),
            code: u8::from(!fine),
        },
        Err(failure) => Ended {
            out,
            complaint: failure.to_string(),
            code: failure.code(),
        },
    }
}

fn plugins() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins")
}

/// The component of a plugin, built if need be.
fn component(plugin: &str) -> String {
    let folder = plugins().join(plugin);
    let built = toolchain::build(&folder, &mut |step| eprintln!("{step}"))
        .unwrap_or_else(|error| panic!("{error}"));
    built.component.display().to_string()
}

/// A file of a plugin's cases.
fn case(plugin: &str, name: &str) -> String {
    plugins()
        .join(plugin)
        .join("cases")
        .join(name)
        .display()
        .to_string()
}

fn settings(plugin: &str) -> String {
    format!("@{}", case(plugin, "settings.json"))
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_folder_becomes_a_component_where_it_is_wanted() {
    let folder = tempfile::tempdir().expect("a folder");
    let wanted = folder.path().join("new/oms.wasm");
    let ended = weir_plugin(&[
        "build",
        &plugins().join("oms-stock").display().to_string(),
        "-o",
        &wanted.display().to_string(),
    ]);
    assert_eq!((ended.complaint.as_str(), ended.code), ("", 0));
    let bytes = fs::read(&wanted).expect("the component");
    let lines: Vec<&str> = ended.out.lines().collect();
    assert_eq!(lines[0], wanted.display().to_string());
    assert_eq!(
        lines[1],
        format!(
            "{} bytes, sha256 {}",
            bytes.len(),
            hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&bytes))
        )
    );
    assert!(lines[2].starts_with("built with rustc"), "{}", ended.out);
    assert_eq!(
        (lines[3], cases::embedded(&bytes).expect("cases").len()),
        ("6 cases inside", 6)
    );
    assert_eq!(
        fs::read_dir(folder.path().join("new"))
            .expect("the folder")
            .count(),
        1,
        "nothing is left beside it"
    );
}

#[test]
fn a_folder_that_is_no_plugin_is_told_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let ended = weir_plugin(&["build", &folder.path().display().to_string()]);
    assert_eq!((ended.out.as_str(), ended.code), ("", 1));
    assert!(
        ended.complaint.ends_with(
            "is not the source of a plugin: it has no Cargo.toml, plugin.ts or plugin.py"
        ),
        "{}",
        ended.complaint
    );
}

#[test]
fn a_mapper_s_changes_are_shown_with_what_they_cost() {
    let (pim, product, settings) = (
        component("pim-product"),
        case("pim-product", "product-updated/event.json"),
        settings("pim-product"),
    );
    let ended = weir_plugin(&["run", &pim, &product, "--settings", &settings]);
    assert_eq!(
        (ended.complaint.as_str(), ended.code),
        ("", 0),
        "{}",
        ended.out
    );
    assert!(
        ended.out.contains(
            "\n  product/4711 content.de_DE, version 1795421681000\n    {\n      \"enabled\": true,"
        ),
        "{}",
        ended.out
    );
    assert!(
        ended.out.contains("\"bulbs\": 1.50"),
        "numbers stay as they were written: {}",
        ended.out
    );
    for named in ["mapper", "fuel", "memory", "of 64.0 MiB", "of 1000.000 ms"] {
        assert!(ended.out.contains(named), "{named} in {}", ended.out);
    }
}

#[test]
fn fuel_repeats_exactly_and_what_a_machine_reads_is_what_a_mapper_gave() {
    let (pim, product, settings) = (
        component("pim-product"),
        case("pim-product", "product-updated/event.json"),
        settings("pim-product"),
    );
    let run = || weir_plugin(&["run", &pim, &product, "--settings", &settings, "--json"]).out;
    let (one, two) = (parsed(&run()), parsed(&run()));
    assert!(one["calls"][0]["fuel"].as_u64() > Some(1_000), "{one:#}");
    assert_eq!(
        (&one["calls"][0]["fuel"], &one["configure_fuel"]),
        (&two["calls"][0]["fuel"], &two["configure_fuel"])
    );
    let expected = parsed(
        &fs::read_to_string(case("pim-product", "product-updated/expected.json")).expect("a text"),
    );
    assert_eq!(
        one["items"][0]["outputs"],
        json!([{ "role": "mapper", "changes": expected }])
    );
    assert!(
        one["limits"]["memory"]["percent"]
            .as_f64()
            .is_some_and(|percent| percent > 0.0 && percent < 100.0),
        "{one:#}"
    );
}

#[test]
fn a_cloudevent_is_opened_before_the_mapper_sees_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("removed.json");
    let event = json!({ "specversion": "1.0", "id": "1", "source": "/pim", "type": "com.akeneo.pim.v1.product.removed",
        "time": "2026-11-23T08:30:00Z", "data": { "product": { "identifier": "4711" } } });
    fs::write(&file, event.to_string()).expect("a file");
    let ended = weir_plugin(&[
        "run",
        &component("pim-product"),
        &file.display().to_string(),
        "--settings",
        r#"{"locales":["de_DE"]}"#,
    ]);
    assert!(
        ended
            .out
            .contains("product/4711 content.de_DE, version 1795422600000, deleted"),
        "{}{}",
        ended.complaint,
        ended.out
    );

    fs::write(&file, r#"{"specversion": "1.0", "data": {}}"#).expect("a file");
    let ended = weir_plugin(&[
        "run",
        &component("pim-product"),
        &file.display().to_string(),
        "--settings",
        r#"{"locales":["de_DE"]}"#,
    ]);
    assert_eq!((ended.out.as_str(), ended.code), ("", 1));
    assert!(
        ended
            .complaint
            .contains("a source would reject it: `id` is missing"),
        "{}",
        ended.complaint
    );
}

#[test]
fn an_item_that_a_mapper_declines_is_told_and_the_answer_is_no() {
    let (fine, wrong) = (
        case("erp-product", "price-of-one-list/body.xml"),
        case("erp-product", "amount-with-comma/body.xml"),
    );
    let ended = weir_plugin(&[
        "run",
        &component("erp-product"),
        &fine,
        &wrong,
        "--settings",
        &settings("erp-product"),
    ]);
    assert_eq!(
        (ended.complaint.as_str(), ended.code),
        ("", 1),
        "{}",
        ended.out
    );
    assert!(
        ended.out.contains("product/4711 price.de-retail"),
        "{}",
        ended.out
    );
    assert!(ended.out.contains("  mapper: fails: "), "{}", ended.out);
    assert!(
        ended.out.contains("cost of one call with 2 items"),
        "{}",
        ended.out
    );
}

#[test]
fn filters_and_renderers_of_a_channel_take_entities() {
    let (sold_out, settings_of_filter) = (
        case("in-stock", "sold-out/entity.json"),
        settings("in-stock"),
    );
    let ended = weir_plugin(&[
        "run",
        &component("in-stock"),
        &sold_out,
        "--settings",
        &settings_of_filter,
    ]);
    assert_eq!(
        (ended.complaint.as_str(), ended.code),
        ("", 0),
        "dropping is no failure: {}",
        ended.out
    );
    assert!(
        ended.out.contains("entity-filter: drops it"),
        "{}",
        ended.out
    );

    let (page, lamp) = (
        component("storefront-page"),
        case("storefront-page", "lamp/entity.json"),
    );
    let ended = weir_plugin(&[
        "run",
        &page,
        &lamp,
        "--settings",
        &settings("storefront-page"),
        "--json",
    ]);
    let expected =
        parsed(&fs::read_to_string(case("storefront-page", "lamp/expected.json")).expect("a text"));
    assert_eq!(
        parsed(&ended.out)["items"][0]["outputs"][0]["rendering"],
        expected,
        "{}",
        ended.complaint
    );

    let ended = weir_plugin(&[
        "run",
        &page,
        &case("erp-product", "price-of-one-list/body.xml"),
        "--settings",
        &settings("storefront-page"),
    ]);
    assert_eq!(ended.code, 1);
    assert!(
        ended
            .complaint
            .contains("the component takes entities, and an entity is {"),
        "{}",
        ended.complaint
    );
}

#[test]
fn what_cannot_be_run_is_told_in_a_sentence() {
    let check = |arguments: &[&str], code: u8, sentence: &str| {
        let ended = weir_plugin(&[&["run"], arguments].concat());
        assert_eq!(
            (ended.out.as_str(), ended.code),
            ("", code),
            "{}",
            ended.complaint
        );
        assert!(ended.complaint.contains(sentence), "{}", ended.complaint);
    };
    let (oms, level) = (
        component("oms-stock"),
        case("oms-stock", "level-updated/body.json"),
    );
    check(
        &["/nowhere/a.wasm", &level],
        3,
        "cannot read /nowhere/a.wasm: No such file",
    );
    check(&[&level, &level], 1, "the file is not Wasm");
    check(
        &[
            &oms,
            "/nowhere/a.json",
            "--settings",
            &settings("oms-stock"),
        ],
        3,
        "cannot read /nowhere/a.json",
    );
    check(
        &[&oms, &level],
        1,
        "refuses its settings: settings of oms-stock: `locations` is missing",
    );
    check(
        &[&oms, &level, "--settings", "[]"],
        2,
        "settings are a JSON object",
    );
    check(&[&oms, &level, "--settings", "{"], 2, "this is not JSON");
}

/// A case is read by simpler means than a request; what a plugin sees must be the same.
#[test]
fn a_case_is_what_a_source_would_make_of_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x/event.json");
    fs::create_dir(folder.path().join("x")).expect("a folder");
    let envelope = |more: &str| {
        format!(r#"{{"specversion":"1.0","id":"1","source":"/pim","type":"t"{more}}}"#)
    };
    let texts = [
        envelope(""),
        envelope(
            r#","time":"2026-11-23T08:30:00Z","subject":"s","shop":"de","Weight":1.50,"fragile":true,"none":null,"data":{"a": 1.50}"#,
        ),
        envelope(r#","data":"text""#),
        envelope(r#","datacontenttype":"text/plain","data":"te\u0078t""#),
        envelope(r#","datacontenttype":"application/xml; charset=utf-8","data":"<a/>""#),
        envelope(r#","datacontenttype":"application/ld+json","data":[1, 2]"#),
        envelope(r#","datacontenttype":"image/png","data_base64":"/wA=""#),
        envelope(r#","data_base64":"W10=""#),
        r#"{"no": "cloudevent"}"#.into(),
        "[1.50]".into(),
    ];
    let mut files: Vec<Vec<u8>> = texts.into_iter().map(String::into_bytes).collect();
    for case in fs::read_dir(plugins().join("pim-product/cases"))
        .expect("cases")
        .flatten()
    {
        files.extend(fs::read(case.path().join("event.json")).ok());
    }
    assert!(files.len() > 15, "the plugin's cases are among them");
    for file in files {
        fs::write(&path, &file).expect("written");
        let cases = cases::read(folder.path()).unwrap_or_else(|error| panic!("{error}"));
        let Item::Event(event) = &cases[0].item else {
            panic!("an event")
        };
        let media = super::super::send::media_type(&path, &file);
        assert_eq!(
            *event,
            as_a_source_does(media, file.trim_ascii().to_vec()),
            "{}",
            String::from_utf8_lossy(&file)
        );
    }
}

fn as_a_source_does(media: &'static str, body: Vec<u8>) -> crate::model::Event {
    let options = Options {
        name: "case".into(),
        owner: "case".into(),
        split: Split::Whole,
        headers: Vec::new(),
        naming: naming::Naming::default(),
        verify: verify::Options::None,
        handshake: None,
        quiet: None,
        body_bytes_max: u64::MAX,
        encoding: None,
        form: form::Form::default(),
        unreadable: false,
    };
    let headers = Headers::from_iter([("content-type", media)]);
    let memory = Budget::new(u64::MAX).reservation("erp");
    let opened =
        envelope::open(&options, false, &headers, body.into(), &memory).expect("a source takes it");
    assert_eq!((opened.events.len(), opened.unread.len()), (1, 0));
    opened.events.into_iter().next().expect("one")
}

#[test]
fn the_cases_of_the_real_plugins_pass_from_their_folder_and_from_inside_the_component() {
    let ended = weir_plugin(&["test", &plugins().join("oms-stock").display().to_string()]);
    assert_eq!(
        (ended.complaint.as_str(), ended.code),
        ("", 0),
        "{}",
        ended.out
    );
    assert!(
        ended
            .out
            .contains("6 cases: 6 passed, 0 failed; each ran twice"),
        "{}",
        ended.out
    );
    let ended = weir_plugin(&[
        "test",
        &component("oms-stock"),
        "--only",
        "location",
        "--json",
    ]);
    let told = parsed(&ended.out);
    assert_eq!(
        (ended.code, &told["passed"], &told["cases"][0]["name"]),
        (0, &json!(true), &json!("unknown-location")),
        "{told:#}"
    );
    let digest = <sha2::Sha256 as sha2::Digest>::digest(
        fs::read(component("oms-stock")).expect("a component"),
    );
    assert_eq!(told["sha256"], hex::encode(digest));
}

/// Runs a component with cases from another folder, changed as an author would.
#[test]
fn a_difference_is_shown_line_by_line_and_blessed_on_demand() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = |name: &str, content: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, content).expect("written");
    };
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).expect("a text");
    place(
        "settings.json",
        &fs::read_to_string(case("oms-stock", "settings.json")).expect("settings"),
    );
    place(
        "level/body.json",
        &fs::read_to_string(case("oms-stock", "level-updated/body.json")).expect("a level"),
    );
    place(
        "level/expected.json",
        &fs::read_to_string(case("oms-stock", "level-updated/expected.json"))
            .expect("changes")
            .replace("12", "13"),
    );
    place("open/event.json", "{}");
    place("refused/settings.json", "{}");
    place("refused/event.json", "{}");
    place(
        "refused/expected.json",
        r#"{"code": "settings", "message": "settings of oms-stock: `locations` is missing"}"#,
    );
    let (oms, cases) = (component("oms-stock"), folder.path().display().to_string());
    let test = |more: &[&str]| weir_plugin(&[&["test", &oms, "--cases", &cases], more].concat());

    let ended = test(&[]);
    assert_eq!(
        (ended.complaint.as_str(), ended.code),
        ("", 1),
        "{}",
        ended.out
    );
    for said in [
        "  FAIL  level: at [0].value.available expected 13, got 12\n",
        "        -       \"available\": 13\n        +       \"available\": 12\n",
        "  OPEN  open: no output is expected yet; the actual output is\n",
        "  pass  refused ",
        "3 cases: 1 passed, 1 failed, 1 without an expected output",
        "--bless",
    ] {
        assert!(ended.out.contains(said), "{said:?} is not in {}", ended.out);
    }
    let ended = test(&["--bless"]);
    assert_eq!(
        (ended.complaint.as_str(), ended.code),
        ("", 0),
        "{}",
        ended.out
    );
    assert!(
        ended
            .out
            .contains("blessed level: check its expected.json now\nblessed open"),
        "{}",
        ended.out
    );
    assert!(
        read("level/expected.json").contains("    \"value\": {\n      \"available\": 12\n    },\n"),
        "{}",
        read("level/expected.json")
    );
    assert!(
        parsed(&read("open/expected.json"))["code"] == "missing-field",
        "{}",
        read("open/expected.json")
    );
    assert_eq!(test(&[]).code, 0);

    assert!(
        weir_plugin(&["test", &oms, "--bless"])
            .complaint
            .contains("--bless needs their folder")
    );
    assert!(
        test(&["--only", "nowhere"])
            .complaint
            .contains("no case has `nowhere` in its name")
    );
    fs::write(folder.path().join("level/expected.json"), "{").expect("written");
    assert!(
        test(&[])
            .complaint
            .contains("level/expected.json: it is not JSON")
    );
}
