//! Runs the measurements that start Weir as a separate process, at a small scale, so that all keep
//! working.

use std::process::{Command, Stdio};

use serde_json::Value;

/// The report of a measurement that succeeded.
fn measured(scenario: &str, arguments: &[&str]) -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir-bench"));
    command
        .args([scenario, "--json", "--folder"])
        .arg(folder.path())
        .args(arguments)
        .stdin(Stdio::null());
    let output = command.output().expect("the program starts");
    let (report, log) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{report}\n{log}");
    assert_eq!(
        std::fs::read_dir(folder.path())
            .expect("the folder")
            .count(),
        0,
        "nothing is left"
    );
    serde_json::from_str(&report).unwrap_or_else(|error| panic!("{error}: {report}"))
}

#[test]
fn the_cost_of_a_change_is_measured_beside_idle_and_paused_channels() {
    let report = measured("fanout", &["--scale", "0.002"]);
    let cost = |name: &str| report["figures"][format!("cpu_us_a_change_{name}")].as_f64();
    assert!(
        [
            "idle_1",
            "idle_18",
            "idle_108",
            "paused_1",
            "paused_18",
            "paused_108"
        ]
        .iter()
        .all(|name| cost(name).is_some()),
        "{report}"
    );
    assert_eq!(report["figures"]["deliveries"], 0, "{report}");
}

#[test]
fn the_others_are_measured_beside_a_target_that_never_answers() {
    let report = measured("isolation", &["--scale", "0.03"]);
    for figure in ["p99_ms_alone", "p99_ms_beside", "resident_mib_beside"] {
        assert!(
            report["figures"][figure].as_f64() > Some(0.0),
            "{figure}: {report}"
        );
    }
}

#[test]
fn a_soak_with_kills_ends_with_every_target_up_to_date() {
    let report = measured(
        "soak",
        &["--scale", "0.002", "--minutes", "0.1", "--kill-every", "2"],
    );
    assert!(report["figures"]["kills"].as_u64() >= Some(2), "{report}");
    assert!(
        report["figures"]["changes_accepted"].as_u64() > Some(0),
        "{report}"
    );
    assert_eq!(
        report["figures"]["pairs_older_than_accepted_or_never_sent"], 0,
        "{report}"
    );
}

/// Regression: a channel that met an entity while its next change was being written lost that
/// change, in every run of this measurement.
#[test]
fn what_was_accepted_before_a_kill_is_held_by_every_target_after_it() {
    let report = measured("open", &["--scale", "0.002"]);
    assert_eq!(report["figures"]["kills"], 3, "{report}");
    assert!(
        report["figures"]["changes_accepted_meanwhile"].as_u64() > Some(0),
        "{report}"
    );
    assert_eq!(
        report["figures"]["products_that_differ_between_targets"], 0,
        "{report}"
    );
}

#[test]
fn swaps_under_load_lose_nothing_and_fail_nothing() {
    let report = measured("swap", &["--scale", "0.02"]);
    let figures = &report["figures"];
    assert_eq!(
        (
            &figures["swaps_under_load"],
            &figures["requests_not_taken_whole"]
        ),
        (&20.into(), &0.into()),
        "{report}"
    );
    assert_eq!(
        figures["pairs_older_than_accepted_or_never_sent"], 0,
        "{report}"
    );
    assert_eq!(
        figures["compiled_before_served_of_them_from_the_cache"], "20 of 20",
        "{report}"
    );
    assert_eq!(
        figures["new_bytes_served_of_them_from_the_cache"], "0 of 20",
        "{report}"
    );
}

#[test]
fn what_can_be_seen_is_measured_in_pairs_with_and_without_it() {
    let report = measured("seeing", &["--scale", "0.01"]);
    for figure in [
        "entity_p99_ms",
        "all_channels_p99_ms",
        "receipt_after_the_last_answer_max_ms",
        "stream_bytes_per_second",
        "cycle_processor_time_ratio",
        "ingest_processor_time_ratio",
    ] {
        assert!(
            report["figures"][figure].as_f64() > Some(0.0),
            "{figure}: {report}"
        );
    }
}
