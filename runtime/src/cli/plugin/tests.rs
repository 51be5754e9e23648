//! The desk with the real plugins of this repository, built from their source.

use clap::Parser;
use serde_json::json;

use super::*;

#[derive(Parser)]
struct Desk {
    #[command(subcommand)]
    command: PluginCommand,
}

/// What a command printed, what it complained of, and its exit code.
struct Ended {
    out: String,
    complaint: String,
    code: u8,
}

fn weir_plugin(arguments: &[&str]) -> Ended {
    let desk = Desk::try_parse_from([&["plugin"], arguments].concat()).unwrap_or_else(|error| panic!("{error}"));
    let mut out = String::new();
    match run(desk.command, &mut out) {
        Ok(fine) => Ended { out, complaint: String::new(), code: u8::from(!fine) },
        Err(failure) => Ended { out, complaint: failure.to_string(), code: failure.code() },
    }
}

fn plugins() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins")
}

/// The component of a plugin, built if need be.
fn component(plugin: &str) -> String {
    let folder = plugins().join(plugin);
    let built = toolchain::build(&folder, &mut |step| eprintln!("{step}")).unwrap_or_else(|error| panic!("{error}"));
    built.component.display().to_string()
}

fn sample(plugin: &str, name: &str) -> String {
    plugins().join(plugin).join("samples").join(name).display().to_string()
}

fn settings(plugin: &str) -> String {
    format!("@{}", sample(plugin, "settings.json"))
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_folder_becomes_a_component_where_it_is_wanted() {
    let folder = tempfile::tempdir().expect("a folder");
    let wanted = folder.path().join("new/oms.wasm");
    let ended = weir_plugin(&["build", &plugins().join("oms-stock").display().to_string(), "-o", &wanted.display().to_string()]);
    assert_eq!((ended.complaint.as_str(), ended.code), ("", 0));
    let bytes = fs::read(&wanted).expect("the component");
    let lines: Vec<&str> = ended.out.lines().collect();
    assert_eq!(lines[0], wanted.display().to_string());
    assert_eq!(lines[1], format!("{} bytes, sha256 {}", bytes.len(), hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&bytes))));
    assert!(lines[2].starts_with("built with rustc"), "{}", ended.out);
    assert_eq!(fs::read_dir(folder.path().join("new")).expect("the folder").count(), 1, "nothing is left beside it");
}

#[test]
fn a_folder_that_is_no_plugin_is_told_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let ended = weir_plugin(&["build", &folder.path().display().to_string()]);
    assert_eq!((ended.out.as_str(), ended.code), ("", 1));
    assert!(ended.complaint.ends_with("is not the source of a plugin: it has no Cargo.toml"), "{}", ended.complaint);
}

#[test]
fn a_mapper_s_changes_are_shown_with_what_they_cost() {
    let (pim, product, settings) = (component("pim-product"), sample("pim-product", "product-updated.json"), settings("pim-product"));
    let ended = weir_plugin(&["run", &pim, &product, "--settings", &settings]);
    assert_eq!((ended.complaint.as_str(), ended.code), ("", 0), "{}", ended.out);
    assert!(ended.out.contains("\n  product/4711 content.de_DE, version 1795421681000\n    {\n      \"enabled\": true,"), "{}", ended.out);
    assert!(ended.out.contains("\"bulbs\": 1.50"), "numbers stay as they were written: {}", ended.out);
    for named in ["mapper", "fuel", "memory", "of 64.0 MiB", "of 1000.000 ms"] {
        assert!(ended.out.contains(named), "{named} in {}", ended.out);
    }
}

#[test]
fn fuel_repeats_exactly_and_what_a_machine_reads_is_what_a_mapper_gave() {
    let (pim, product, settings) = (component("pim-product"), sample("pim-product", "product-updated.json"), settings("pim-product"));
    let run = || weir_plugin(&["run", &pim, &product, "--settings", &settings, "--json"]).out;
    let (one, two) = (parsed(&run()), parsed(&run()));
    assert!(one["calls"][0]["fuel"].as_u64() > Some(1_000), "{one:#}");
    assert_eq!((&one["calls"][0]["fuel"], &one["configure_fuel"]), (&two["calls"][0]["fuel"], &two["configure_fuel"]));
    let expected = parsed(&fs::read_to_string(sample("pim-product", "product-updated.expected.json")).expect("a text"));
    assert_eq!(one["items"][0]["outputs"], json!([{ "role": "mapper", "changes": expected }]));
    assert!(one["limits"]["memory"]["percent"].as_f64().is_some_and(|percent| percent > 0.0 && percent < 100.0), "{one:#}");
}

#[test]
fn a_cloudevent_is_opened_before_the_mapper_sees_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("removed.json");
    let event = json!({ "specversion": "1.0", "id": "1", "source": "/pim", "type": "com.akeneo.pim.v1.product.removed",
        "time": "2026-11-23T08:30:00Z", "data": { "product": { "identifier": "4711" } } });
    fs::write(&file, event.to_string()).expect("a file");
    let ended = weir_plugin(&["run", &component("pim-product"), &file.display().to_string(), "--settings", r#"{"locales":["de_DE"]}"#]);
    assert!(ended.out.contains("product/4711 content.de_DE, version 1795422600000, deleted"), "{}{}", ended.complaint, ended.out);

    fs::write(&file, r#"{"specversion": "1.0", "data": {}}"#).expect("a file");
    let ended = weir_plugin(&["run", &component("pim-product"), &file.display().to_string(), "--settings", r#"{"locales":["de_DE"]}"#]);
    assert_eq!((ended.out.as_str(), ended.code), ("", 1));
    assert!(ended.complaint.contains("a source would not take it: `id` is missing"), "{}", ended.complaint);
}

#[test]
fn an_item_that_a_mapper_declines_is_told_and_the_answer_is_no() {
    let (fine, wrong) = (sample("erp-product", "price-of-one-list.xml"), sample("erp-product", "amount-with-comma.xml"));
    let ended = weir_plugin(&["run", &component("erp-product"), &fine, &wrong, "--settings", &settings("erp-product")]);
    assert_eq!((ended.complaint.as_str(), ended.code), ("", 1), "{}", ended.out);
    assert!(ended.out.contains("product/4711 price.de-retail"), "{}", ended.out);
    assert!(ended.out.contains("  mapper: fails: "), "{}", ended.out);
    assert!(ended.out.contains("cost, 2 items in a call"), "{}", ended.out);
}

#[test]
fn filters_and_renderers_of_a_channel_take_entities() {
    let (sold_out, settings_of_filter) = (sample("in-stock", "sold-out.json"), settings("in-stock"));
    let ended = weir_plugin(&["run", &component("in-stock"), &sold_out, "--settings", &settings_of_filter]);
    assert_eq!((ended.complaint.as_str(), ended.code), ("", 0), "dropping is no failure: {}", ended.out);
    assert!(ended.out.contains("entity-filter: drops it"), "{}", ended.out);

    let (page, lamp) = (component("storefront-page"), sample("storefront-page", "lamp.json"));
    let ended = weir_plugin(&["run", &page, &lamp, "--settings", &settings("storefront-page"), "--json"]);
    let expected = parsed(&fs::read_to_string(sample("storefront-page", "lamp.expected.json")).expect("a text"));
    assert_eq!(parsed(&ended.out)["items"][0]["outputs"][0]["rendering"]["body"], expected, "{}", ended.complaint);

    let ended = weir_plugin(&["run", &page, &sample("erp-product", "price-of-one-list.xml"), "--settings", &settings("storefront-page")]);
    assert_eq!(ended.code, 1);
    assert!(ended.complaint.contains("the component takes entities, and an entity is {"), "{}", ended.complaint);
}

#[test]
fn what_cannot_be_run_is_told_in_a_sentence() {
    let check = |arguments: &[&str], code: u8, sentence: &str| {
        let ended = weir_plugin(&[&["run"], arguments].concat());
        assert_eq!((ended.out.as_str(), ended.code), ("", code), "{}", ended.complaint);
        assert!(ended.complaint.contains(sentence), "{}", ended.complaint);
    };
    let (oms, level) = (component("oms-stock"), sample("oms-stock", "level-updated.json"));
    check(&["/nowhere/a.wasm", &level], 3, "cannot read /nowhere/a.wasm: No such file");
    check(&[&level, &level], 1, "the file is not Wasm");
    check(&[&oms, "/nowhere/a.json", "--settings", &settings("oms-stock")], 3, "cannot read /nowhere/a.json");
    check(&[&oms, &level], 1, "refuses its settings: settings of oms-stock: missing field `locations`");
    check(&[&oms, &level, "--settings", "[]"], 2, "settings are a JSON object");
    check(&[&oms, &level, "--settings", "{"], 2, "this is no JSON");
}
