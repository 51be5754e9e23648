//! Each measurement for a second, so that none of them rots. What they measure here says nothing.

use super::*;

fn check(arguments: &[&str]) -> serde_json::Value {
    #[derive(clap::Parser)]
    struct Bench {
        #[command(subcommand)]
        command: BenchCommand,
    }
    let bench = <Bench as clap::Parser>::parse_from([&["bench"], arguments, &["--seconds", "1", "--json"]].concat());
    let mut out = String::new();
    let outcome = run(bench.command, &mut out);
    assert!(matches!(outcome, Ok(true)), "{outcome:?}: {out}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

fn ingest(more: &[&str]) -> serde_json::Value {
    let folder = tempfile::tempdir().expect("a folder");
    let figures = check(&[&["ingest", "--entities", "300", "--folder", &folder.path().display().to_string()], more].concat());
    assert_eq!(figures["entities"], 300, "{figures}");
    assert!(figures["events_per_second"].as_f64() > Some(0.0), "{figures}");
    assert!(figures["changes"]["committed"].as_u64() > Some(0), "{figures}");
    let left = fs::read_dir(folder.path()).expect("the folder").count();
    assert_eq!(left, 0, "the store is removed again");
    figures
}

#[test]
fn events_in_batches_are_measured() {
    let figures = ingest(&[]);
    assert_eq!(figures["events_a_request"], 500);
    assert!(figures["events_a_sync"].as_f64() > Some(1.0), "{figures}");
}

#[test]
fn single_events_are_measured() {
    let figures = ingest(&["--single"]);
    assert_eq!((&figures["events_a_request"], &figures["connections"]), (&1.into(), &64.into()));
    assert!(figures["latency_ms"]["p99"].as_f64() > Some(0.0), "{figures}");
}

#[test]
fn deliveries_beside_the_events_are_measured() {
    let figures = ingest(&["--channels", "2"]);
    assert!(figures["delivered_per_second"].as_f64() > Some(0.0), "{figures}");
}

#[test]
fn native_and_host_are_compared_on_the_same_events() {
    let figures = check(&["overhead"]);
    assert_eq!(figures["mappings"].as_array().map(Vec::len), Some(3));
    assert!(figures["ratio"].as_f64() > Some(0.0), "{figures}");
}
