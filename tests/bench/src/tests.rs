//! Runs each measurement for a second or at a thousandth of its size, so that all keep working. The
//! figures themselves mean nothing here.

use super::*;

fn check(arguments: &[&str]) -> serde_json::Value {
    let bench = Cli::parse_from([&["weir-bench"], arguments, &["--json"]].concat());
    let mut out = String::new();
    let outcome = run(bench.command, &mut out);
    assert!(matches!(outcome, Ok(true)), "{outcome:?}: {out}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

fn ingest(more: &[&str]) -> serde_json::Value {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().display().to_string();
    let figures = check(
        &[
            &[
                "ingest",
                "--entities",
                "30k",
                "--scale",
                "0.01",
                "--seconds",
                "1",
                "--folder",
                &place,
            ],
            more,
        ]
        .concat(),
    );
    assert_eq!(figures["entities"], 300, "{figures}");
    assert!(
        figures["events_per_second"].as_f64() > Some(0.0),
        "{figures}"
    );
    assert!(
        figures["changes"]["committed"].as_u64() > Some(0),
        "{figures}"
    );
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
    assert_eq!(
        (&figures["events_a_request"], &figures["connections"]),
        (&1.into(), &64.into())
    );
    assert!(
        figures["latency_ms"]["p99"].as_f64() > Some(0.0),
        "{figures}"
    );
}

#[test]
fn deliveries_beside_the_events_are_measured() {
    let figures = ingest(&["--channels", "2"]);
    assert!(
        figures["delivered_per_second"].as_f64() > Some(0.0),
        "{figures}"
    );
}

#[test]
fn native_and_host_are_compared_on_the_same_events() {
    let twin = format!(
        "oms-stock={}",
        concat!(env!("CARGO_MANIFEST_DIR"), "/../support/guests/by-hand")
    );
    let figures = check(&[
        "overhead",
        "--seconds",
        "1",
        "--bytes",
        "1024",
        "--twin",
        &twin,
    ]);
    assert_eq!(figures["mappings"].as_array().map(Vec::len), Some(3));
    assert!(figures["ratio"].as_f64() > Some(0.0), "{figures}");
    let levels = &figures["mappings"][2];
    let components: Vec<_> = levels["components"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|measured| measured["component"].clone())
        .collect();
    assert_eq!(components, ["oms_stock", "by_hand"], "{figures}");
    assert!(levels["bytes_an_event"].as_u64() >= Some(1024), "{figures}");
}

/// Runs a measurement at a small size. It succeeds only if all figures that must be exact at any
/// size are.
fn small(scenario: &str, scale: &str) -> serde_json::Value {
    let folder = tempfile::tempdir().expect("a folder");
    let report = check(&[
        scenario,
        "--scale",
        scale,
        "--folder",
        &folder.path().display().to_string(),
    ]);
    assert_eq!(report["scenario"], scenario, "{report}");
    assert!(
        report["aims"]
            .as_array()
            .is_some_and(|aims| !aims.is_empty()),
        "{report}"
    );
    let left = fs::read_dir(folder.path()).expect("the folder").count();
    assert_eq!(left, 0, "the store is removed again");
    report
}

#[test]
fn a_cycle_reaches_every_site_and_nothing_is_sent_when_nothing_has_changed() {
    let report = small("cycle", "0.0005");
    let figures = &report["figures"];
    assert_eq!(
        (
            &figures["products"],
            &figures["sites"],
            &figures["sent_again"]
        ),
        (&750.into(), &18.into(), &0.into()),
        "{report}"
    );
    assert!(figures["urgent_deliveries"].as_u64() > Some(0), "{report}");
    assert!(
        figures["suppressed_per_second"].as_f64() > Some(0.0),
        "{report}"
    );
    assert!(
        report["usage"]["cycle"]["cpu_seconds_by_thread"]["recorder"].as_f64() > Some(0.0),
        "the recorder is told apart: {report}"
    );
}

#[test]
fn nothing_changed_is_measured_alone() {
    assert_eq!(small("again", "0.0002")["figures"]["sent_again"], 0);
}

#[test]
fn a_fan_reaches_every_target() {
    let report = small("fan", "0.002");
    assert_eq!(report["figures"]["changes"], 600, "{report}");
    let figure = |name: &str| report["figures"][name].as_f64().expect("a figure");
    // The first and the last of them are not whole.
    let seconds = figure("converged_after_seconds").ceil() + 1.0;
    assert!(
        figure("best_second_deliveries") >= figure("deliveries") / seconds,
        "{report}"
    );
}

#[test]
fn waves_of_updates_before_a_paused_channel_are_delivered_once() {
    let report = small("coalesce", "0.0004");
    assert_eq!(
        (
            &report["figures"]["updates_committed"],
            &report["figures"]["deliveries"]
        ),
        (&4000.into(), &200.into()),
        "{report}"
    );
    assert!(
        report["figures"]["most_disk_by_live"].as_f64() > Some(0.0),
        "{report}"
    );
}

#[test]
fn hot_keys_arrive_once_and_none_is_skipped() {
    assert_eq!(
        small("hot", "0.05")["figures"]["deliveries_after_a_pause"],
        55
    );
}

#[test]
fn a_target_with_a_limit_is_measured() {
    let report = small("pace", "0.01");
    for refusal in ["429_retry_after", "503", "points"] {
        let used = &report["figures"][format!("{refusal}_used_of_shared_limit")];
        assert!(used.as_f64() > Some(0.0), "{report}");
    }
}

#[test]
fn a_target_that_falls_and_heals_is_measured() {
    let report = small("outage", "0.03");
    for trouble in ["a_tenth_of_the_capacity", "tenfold_latency"] {
        let figure = |name: &str| report["figures"][format!("{name}_{trouble}")].as_f64();
        assert!(figure("per_second_before") > Some(0.0), "{report}");
        assert!(figure("goodput_after_by_before") > Some(0.0), "{report}");
        assert!(figure("attempts_by_allowed") > Some(0.0), "{report}");
    }
}

#[test]
fn the_waits_of_a_source_beside_a_busy_one_are_measured() {
    let report = small("turns", "0.05");
    for load in ["events_of_one_entity", "events_of_many_entities", "a_flood"] {
        for figure in ["p99_ms", "changes_per_second"] {
            let figure = report["figures"][format!("{figure}_{load}")].as_f64();
            assert!(figure > Some(0.0), "{report}");
        }
    }
}

/// A path from the machine that built this program would be wrong on any other.
#[test]
fn help_shows_no_path_of_the_build() {
    use clap::CommandFactory;
    Cli::command().debug_assert();
    for command in Cli::command().get_subcommands() {
        let help = command.clone().render_long_help().to_string();
        assert!(help.contains("--plugins"), "{help}");
        assert!(!help.contains(env!("CARGO_MANIFEST_DIR")), "{help}");
    }
}

#[test]
fn the_builds_of_a_feed_are_measured() {
    let report = small("feed", "0.002");
    let figures = &report["figures"];
    assert_eq!(figures["records_published"], 3_000, "{report}");
    for build in ["whole", "changed"] {
        let seconds = figures[format!("{build}_build_seconds")].as_f64();
        assert!(seconds > Some(0.0), "{build}: {report}");
    }
}

#[test]
fn deliveries_to_a_search_engine_are_measured_beside_bare_requests() {
    let report = small("search", "0.01");
    let figures = &report["figures"];
    for engine in ["engine_of_50000_a_second", "engine_without_a_limit"] {
        for (figure, least) in [("ratio", 0.0), ("documents_a_request", 300.0)] {
            assert!(
                figures[format!("{engine}_{figure}")].as_f64() > Some(least),
                "{engine} {figure}: {report}"
            );
        }
        assert_eq!(figures[format!("{engine}_delivered")], 5_000, "{report}");
    }
}

#[test]
fn deliveries_to_nats_are_measured_beside_the_client_library_alone() {
    if parts::part("nats-server", "deliveries to NATS").is_none() {
        return;
    }
    let report = small("nats", "0.01");
    let figures = &report["figures"];
    assert_eq!(figures["delivered"], 5_000, "{report}");
    assert!(figures["ratio"].as_f64() > Some(0.0), "{report}");
}

#[cfg(feature = "kafka")]
#[test]
fn deliveries_to_kafka_are_measured_beside_the_library_alone() {
    let report = small("kafka", "0.01");
    let figures = &report["figures"];
    assert_eq!(figures["records_of_weir"], 5_000, "{report}");
    assert!(figures["ratio"].as_f64() > Some(0.0), "{report}");
}

#[test]
fn rows_of_a_table_are_measured_beside_copy() {
    if parts::part("postgres", "weir-bench postgres").is_none() {
        return;
    }
    let report = small("postgres", "0.01");
    let figures = &report["figures"];
    assert!(figures["ratio"].as_f64() > Some(0.0), "{report}");
    assert!(
        figures["rows_a_statement"].as_f64() > Some(300.0),
        "{report}"
    );
    assert_eq!(figures["delivered"], 5_000, "{report}");
    assert_eq!(figures["copied"], 5_000, "{report}");
}

#[test]
fn a_drift_check_finds_what_was_changed_in_a_table() {
    if parts::part("postgres", "weir-bench drift").is_none() {
        return;
    }
    let report = small("drift", "0.002");
    assert_eq!(report["figures"]["missing"], 1, "{report}");
}

#[test]
fn black_friday_is_measured_with_everything_in_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().display().to_string();
    let report = check(&[
        "blackfriday",
        "--scale",
        "0.0005",
        "--seconds",
        "6",
        "--folder",
        &place,
    ]);
    let figures = &report["figures"];
    assert_eq!(figures["records_of_the_feed"], 750, "{report}");
    assert_eq!(figures["pairs_that_are_not_the_newest"], 0, "{report}");
    for lane in ["urgent", "normal", "bulk"] {
        assert!(
            figures[format!("{lane}_arrivals")].as_u64() > Some(0),
            "{report}"
        );
    }
}
