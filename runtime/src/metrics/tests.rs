//! Tests of the text: it has every name of the contract with its type, and nothing that is not in
//! the snapshot.

use std::collections::{BTreeMap, BTreeSet};

use expect_test::expect;

use super::*;

const BOUNDS: [f64; 2] = [0.001, 2.5];

fn busy() -> Snapshot {
    Snapshot {
        sources: vec![SourceFigures {
            name: "erp".into(),
            events: vec![
                ("accepted", 3),
                ("filtered", 0),
                ("quarantined", 2),
                ("repeated", 1),
                ("malformed", 4),
            ],
            changes: vec![("committed", 5), ("unchanged", 6), ("stale", 7)],
            requests: vec![(202, 8), (401, 1)],
            last_event_ms: Some(1_795_000_001_500),
            quiet: Some(Duration::from_secs(900)),
            silent: Some(true),
            quarantined: 2,
        }],
        channels: vec![ChannelFigures {
            name: "storefront.de".into(),
            state: "tripped",
            deliveries: vec![("delivered", 9), ("withdrawn", 0), ("suppressed", 4)],
            seconds: Buckets::new(&BOUNDS, [6, 3, 1], 17.25),
            owed: [5, 6, 7],
            sweep: 1_500_000,
            parked: 3,
            refused: 2,
            held: 1,
            waiting: [4, 6],
            freshness: Duration::from_millis(1500),
            overdue: Duration::from_millis(500),
            freshness_objective: Some(Duration::from_secs(60)),
            oldest_owed_ms: Some(1_795_000_000_250),
            late: Some(Duration::from_millis(2500)),
            drift: Some(DriftFigures {
                ended_ms: 1_795_000_000_000,
                compared: 1000,
                differences: [("missing", 1), ("extra", 0), ("older", 2), ("different", 0)],
            }),
            feed_held: Some(true),
        }],
        plugins: vec![PluginFigures {
            name: "erp-product".into(),
            version: "3fa9c1b2d0e4".into(),
            held_back: true,
            log_dropped: 7,
            calls: Buckets::new(&BOUNDS, [2, 0, 0], 0.0005),
        }],
        differing: vec![("erp-product".into(), "3fa9c1b2d0e4".into(), 3)],
        plugin_idle_bytes: 0,
        traps: vec![
            ("erp-product".into(), "3fa9c1b2d0e4".into(), 0),
            ("erp-product".into(), "0d15ea5e0000".into(), 2),
        ],
        commit: Buckets::new(&BOUNDS, [0, 4, 0], 0.5),
        store_names: 12,
        store_bytes: 4096,
        disk_free_bytes: 1 << 40,
        trace_spans: vec![("exported", 7), ("dropped", 0)],
        last_reload_success: true,
        certificate_ends_ms: Some(1_900_000_000_000),
        notifications: vec![("sent", 3), ("retried", 2), ("dropped", 1)],
    }
}

/// The text of a snapshot, after checking that each series occurs once, belongs to a metric that
/// was announced before it, and has known labels only.
fn text_of(snapshot: Snapshot) -> String {
    let text = render(&Arc::new(snapshot), Format::OpenMetrics).unwrap();
    let (mut announced, mut seen) = (String::new(), BTreeSet::new());
    for line in text.lines() {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            announced = kind.split(' ').next().unwrap().to_owned();
        } else if !line.starts_with('#') {
            let (series, _) = line.rsplit_once(' ').unwrap();
            assert!(series.starts_with(&announced), "{series} is not announced");
            assert!(seen.insert(series), "{series} is there twice");
        }
    }
    text
}

#[test]
fn every_metric_of_the_contract_is_there_under_its_name_and_type() {
    let text = text_of(busy());
    for (kind, series) in [
        (
            "counter",
            r#"weir_events_total{source="erp",result="accepted"} 3"#,
        ),
        (
            "counter",
            r#"weir_changes_total{source="erp",result="stale"} 7"#,
        ),
        (
            "counter",
            r#"weir_ingest_requests_total{source="erp",status="202"} 8"#,
        ),
        (
            "gauge",
            r#"weir_source_last_event_timestamp_seconds{source="erp"} 1795000001.5"#,
        ),
        (
            "gauge",
            r#"weir_source_quiet_objective_seconds{source="erp"} 900.0"#,
        ),
        (
            "counter",
            r#"weir_deliveries_total{channel="storefront.de",result="delivered"} 9"#,
        ),
        (
            "gauge",
            r#"weir_owed{channel="storefront.de",lane="urgent"} 5"#,
        ),
        ("gauge", r#"weir_parked{channel="storefront.de"} 3"#),
        ("gauge", r#"weir_refused{channel="storefront.de"} 2"#),
        (
            "gauge",
            r#"weir_withdrawals_held{channel="storefront.de"} 1"#,
        ),
        ("gauge", r#"weir_feed_held{channel="storefront.de"} 1"#),
        ("gauge", r#"weir_quarantined{source="erp"} 2"#),
        (
            "gauge",
            r#"weir_freshness_seconds{channel="storefront.de"} 1.5"#,
        ),
        (
            "gauge",
            r#"weir_freshness_objective_seconds{channel="storefront.de"} 60.0"#,
        ),
        (
            "gauge",
            r#"weir_channel_state{channel="storefront.de",state="tripped"} 1"#,
        ),
        (
            "histogram",
            r#"weir_delivery_seconds_count{channel="storefront.de"} 10"#,
        ),
        (
            "histogram",
            r#"weir_plugin_call_seconds_count{plugin="erp-product"} 2"#,
        ),
        (
            "counter",
            r#"weir_plugin_traps_total{plugin="erp-product",version="0d15ea5e0000"} 2"#,
        ),
        (
            "info",
            r#"weir_plugin_active_info{plugin="erp-product",version="3fa9c1b2d0e4"} 1"#,
        ),
        ("histogram", "weir_commit_seconds_count 4"),
        ("gauge", "weir_store_names 12"),
        ("gauge", "weir_store_bytes 4096"),
        ("gauge", "weir_disk_free_bytes 1099511627776"),
        ("gauge", "weir_config_last_reload_success 1"),
        ("gauge", "weir_certificate_end_timestamp_seconds 1900000000"),
        (
            "info",
            concat!(
                r#"weir_build_info{version=""#,
                env!("CARGO_PKG_VERSION"),
                r#""} 1"#
            ),
        ),
    ] {
        assert!(
            text.lines().any(|line| line == series),
            "no line {series} in\n{text}"
        );
        let name = series.split(['{', ' ']).next().unwrap();
        let suffix = match kind {
            "counter" => "_total",
            "histogram" => "_count",
            "info" => "_info",
            _ => "",
        };
        let announced = format!("# TYPE {} {kind}", name.strip_suffix(suffix).unwrap());
        assert!(
            text.lines().any(|line| line == announced),
            "no line {announced} in\n{text}"
        );
    }
}

#[test]
fn the_text_is_this_one() {
    let version = concat!(r#"{version=""#, env!("CARGO_PKG_VERSION"), r#""}"#);
    let text = text_of(busy()).replace(version, r#"{version="…"}"#);
    expect![[r##"
        # HELP weir_events Events by result
        # TYPE weir_events counter
        weir_events_total{source="erp",result="accepted"} 3
        weir_events_total{source="erp",result="filtered"} 0
        weir_events_total{source="erp",result="quarantined"} 2
        weir_events_total{source="erp",result="repeated"} 1
        weir_events_total{source="erp",result="malformed"} 4
        # HELP weir_changes Changes by result
        # TYPE weir_changes counter
        weir_changes_total{source="erp",result="committed"} 5
        weir_changes_total{source="erp",result="unchanged"} 6
        weir_changes_total{source="erp",result="stale"} 7
        # HELP weir_ingest_requests Requests of a source by response status
        # TYPE weir_ingest_requests counter
        weir_ingest_requests_total{source="erp",status="202"} 8
        weir_ingest_requests_total{source="erp",status="401"} 1
        # HELP weir_source_last_event_timestamp_seconds When the source last sent an event
        # TYPE weir_source_last_event_timestamp_seconds gauge
        weir_source_last_event_timestamp_seconds{source="erp"} 1795000001.5
        # HELP weir_source_quiet_objective_seconds Time without an event after which the source counts as silent
        # TYPE weir_source_quiet_objective_seconds gauge
        weir_source_quiet_objective_seconds{source="erp"} 900.0
        # HELP weir_source_silent 1 if the source has sent no event for longer than its objective
        # TYPE weir_source_silent gauge
        weir_source_silent{source="erp"} 1
        # HELP weir_quarantined Events in quarantine
        # TYPE weir_quarantined gauge
        weir_quarantined{source="erp"} 2
        # HELP weir_deliveries Flights of entities to a channel by result
        # TYPE weir_deliveries counter
        weir_deliveries_total{channel="storefront.de",result="delivered"} 9
        weir_deliveries_total{channel="storefront.de",result="withdrawn"} 0
        weir_deliveries_total{channel="storefront.de",result="suppressed"} 4
        # HELP weir_delivery_seconds Duration of delivery attempts
        # TYPE weir_delivery_seconds histogram
        weir_delivery_seconds_sum{channel="storefront.de"} 17.25
        weir_delivery_seconds_count{channel="storefront.de"} 10
        weir_delivery_seconds_bucket{le="0.001",channel="storefront.de"} 6
        weir_delivery_seconds_bucket{le="2.5",channel="storefront.de"} 9
        weir_delivery_seconds_bucket{le="+Inf",channel="storefront.de"} 10
        # HELP weir_owed Places ahead of a channel, an upper bound of the entities owed
        # TYPE weir_owed gauge
        weir_owed{channel="storefront.de",lane="urgent"} 5
        weir_owed{channel="storefront.de",lane="normal"} 6
        weir_owed{channel="storefront.de",lane="bulk"} 7
        weir_owed{channel="storefront.de",lane="sweep"} 1500000
        # HELP weir_parked Entities waiting for a retry
        # TYPE weir_parked gauge
        weir_parked{channel="storefront.de"} 3
        # HELP weir_refused Entities that the target refused as they are (dead letters)
        # TYPE weir_refused gauge
        weir_refused{channel="storefront.de"} 2
        # HELP weir_withdrawals_held Withdrawals waiting for a confirmation
        # TYPE weir_withdrawals_held gauge
        weir_withdrawals_held{channel="storefront.de"} 1
        # HELP weir_feed_held 1 if the next generation of the feed waits for a confirmation, because it has far fewer records
        # TYPE weir_feed_held gauge
        weir_feed_held{channel="storefront.de"} 1
        # HELP weir_waiting Entities that wait on purpose, until they are quiet or for the hours of their lane
        # TYPE weir_waiting gauge
        weir_waiting{channel="storefront.de",reason="debounce"} 4
        weir_waiting{channel="storefront.de",reason="hours"} 6
        # HELP weir_freshness_seconds Age of the oldest change owed
        # TYPE weir_freshness_seconds gauge
        weir_freshness_seconds{channel="storefront.de"} 1.5
        # HELP weir_overdue_seconds Age of the oldest change owed, without the time in which it waited on purpose; late above the objective
        # TYPE weir_overdue_seconds gauge
        weir_overdue_seconds{channel="storefront.de"} 0.5
        # HELP weir_freshness_objective_seconds Objective for the age of the oldest change owed
        # TYPE weir_freshness_objective_seconds gauge
        weir_freshness_objective_seconds{channel="storefront.de"} 60.0
        # HELP weir_oldest_owed_timestamp_seconds When the oldest change owed was committed
        # TYPE weir_oldest_owed_timestamp_seconds gauge
        weir_oldest_owed_timestamp_seconds{channel="storefront.de"} 1795000000.25
        # HELP weir_late_seconds Time during which the oldest change owed was overdue for longer than the objective
        # TYPE weir_late_seconds counter
        weir_late_seconds_total{channel="storefront.de"} 2.5
        # HELP weir_drift_last_check_timestamp_seconds When the last drift check of the target ended
        # TYPE weir_drift_last_check_timestamp_seconds gauge
        weir_drift_last_check_timestamp_seconds{channel="storefront.de"} 1795000000.0
        # HELP weir_drift_compared Entities that the last drift check compared
        # TYPE weir_drift_compared gauge
        weir_drift_compared{channel="storefront.de"} 1000
        # HELP weir_drift Differences that the last drift check found between what the target holds and what it should hold
        # TYPE weir_drift gauge
        weir_drift{channel="storefront.de",kind="missing"} 1
        weir_drift{channel="storefront.de",kind="extra"} 0
        weir_drift{channel="storefront.de",kind="older"} 2
        weir_drift{channel="storefront.de",kind="different"} 0
        # HELP weir_channel_state 1 for the current state of the channel, 0 for the others
        # TYPE weir_channel_state gauge
        weir_channel_state{channel="storefront.de",state="flowing"} 0
        weir_channel_state{channel="storefront.de",state="tripped"} 1
        weir_channel_state{channel="storefront.de",state="probing"} 0
        weir_channel_state{channel="storefront.de",state="ahead"} 0
        weir_channel_state{channel="storefront.de",state="paused"} 0
        weir_channel_state{channel="storefront.de",state="stopped"} 0
        weir_channel_state{channel="storefront.de",state="retired"} 0
        # HELP weir_plugin_call_seconds Duration of a plugin's calls, each for one batch
        # TYPE weir_plugin_call_seconds histogram
        weir_plugin_call_seconds_sum{plugin="erp-product"} 0.0005
        weir_plugin_call_seconds_count{plugin="erp-product"} 2
        weir_plugin_call_seconds_bucket{le="0.001",plugin="erp-product"} 2
        weir_plugin_call_seconds_bucket{le="2.5",plugin="erp-product"} 2
        weir_plugin_call_seconds_bucket{le="+Inf",plugin="erp-product"} 2
        # HELP weir_plugin_traps Traps, broken limits, exceptions and unusable results of a version of a plugin
        # TYPE weir_plugin_traps counter
        weir_plugin_traps_total{plugin="erp-product",version="3fa9c1b2d0e4"} 0
        weir_plugin_traps_total{plugin="erp-product",version="0d15ea5e0000"} 2
        # HELP weir_plugin_differing Sampled calls of a version of a plugin that returned something else in a new instance
        # TYPE weir_plugin_differing counter
        weir_plugin_differing_total{plugin="erp-product",version="3fa9c1b2d0e4"} 3
        # HELP weir_plugin_idle_bytes Memory of the idle instances of all plugins
        # TYPE weir_plugin_idle_bytes gauge
        weir_plugin_idle_bytes 0
        # HELP weir_plugin_log_lines_dropped Lines of a plugin's log beyond its quota of a minute
        # TYPE weir_plugin_log_lines_dropped counter
        weir_plugin_log_lines_dropped_total{plugin="erp-product"} 7
        # HELP weir_plugin_held_back 1 if the version in use is an earlier one, because the file of the plugin was refused
        # TYPE weir_plugin_held_back gauge
        weir_plugin_held_back{plugin="erp-product"} 1
        # HELP weir_plugin_active The version of a plugin that is in use
        # TYPE weir_plugin_active info
        weir_plugin_active_info{plugin="erp-product",version="3fa9c1b2d0e4"} 1
        # HELP weir_commit_seconds Time a durable write of commits took
        # TYPE weir_commit_seconds histogram
        weir_commit_seconds_sum 0.5
        weir_commit_seconds_count 4
        weir_commit_seconds_bucket{le="0.001"} 0
        weir_commit_seconds_bucket{le="2.5"} 4
        weir_commit_seconds_bucket{le="+Inf"} 4
        # HELP weir_store_names Different names of facets, owners, types and sources, at most 65536
        # TYPE weir_store_names gauge
        weir_store_names 12
        # HELP weir_store_bytes Size of the store on disk
        # TYPE weir_store_bytes gauge
        weir_store_bytes 4096
        # HELP weir_disk_free_bytes Free space on the disk of the store
        # TYPE weir_disk_free_bytes gauge
        weir_disk_free_bytes 1099511627776
        # HELP weir_trace_spans Spans that were to be exported to the collector of traces, by what became of them
        # TYPE weir_trace_spans counter
        weir_trace_spans_total{result="exported"} 7
        weir_trace_spans_total{result="dropped"} 0
        # HELP weir_config_last_reload_success 1 if the last reload took effect
        # TYPE weir_config_last_reload_success gauge
        weir_config_last_reload_success 1
        # HELP weir_certificate_end_timestamp_seconds When the certificate of the listeners ends, in seconds since 1970
        # TYPE weir_certificate_end_timestamp_seconds gauge
        weir_certificate_end_timestamp_seconds 1900000000
        # HELP weir_notifications Notices to the receivers in the configuration by result; retried are attempts that failed
        # TYPE weir_notifications counter
        weir_notifications_total{result="sent"} 3
        weir_notifications_total{result="retried"} 2
        weir_notifications_total{result="dropped"} 1
        # HELP weir_build The version of Weir
        # TYPE weir_build info
        weir_build_info{version="…"} 1
        # EOF
    "##]]
    .assert_eq(&text);
}

#[test]
fn what_is_not_in_the_snapshot_has_no_series() {
    let mut snapshot = busy();
    snapshot.sources.clear();
    snapshot.channels = vec![ChannelFigures {
        name: "old".into(),
        state: "retired",
        ..ChannelFigures::default()
    }];
    snapshot.plugins.clear();
    snapshot.traps.clear();
    snapshot.differing.clear();
    snapshot.notifications.clear();
    snapshot.trace_spans.clear();
    let text = text_of(snapshot);
    for gone in ["source=", "plugin=", "storefront", "status=", "result="] {
        assert!(!text.contains(gone), "{gone} in\n{text}");
    }
    assert!(
        text.contains(r#"weir_channel_state{channel="old",state="retired"} 1"#),
        "{text}"
    );
    assert!(
        !text.contains("weir_delivery_seconds_count"),
        "what was never measured has no histogram\n{text}"
    );
    assert!(
        !text.contains("weir_freshness_objective_seconds{"),
        "what has no objective shows none\n{text}"
    );
}

// A gauge that did not fit into an i64 ended the whole page in one version of the library.
#[test]
fn the_largest_number_is_a_value_like_any_other() {
    let mut largest = busy();
    largest.store_bytes = u64::MAX;
    largest.channels[0].owed[0] = u64::MAX;
    let text = text_of(largest);
    for series in [
        "weir_store_bytes ",
        r#"weir_owed{channel="storefront.de",lane="urgent"} "#,
    ] {
        let line = format!("{series}{}", u64::MAX);
        assert!(text.lines().any(|it| it == line), "no {line} in\n{text}");
    }
}

#[test]
fn nothing_at_all_is_a_text_too() {
    let text = text_of(Snapshot::default());
    let series: Vec<_> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    assert_eq!(
        series,
        [
            "weir_store_names",
            "weir_store_bytes",
            "weir_disk_free_bytes",
            "weir_config_last_reload_success",
            "weir_build_info"
        ]
    );
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[test]
fn a_name_cannot_break_out_of_its_label() {
    let named = |name: &str| Snapshot {
        sources: vec![SourceFigures {
            name: name.into(),
            ..SourceFigures::default()
        }],
        ..Snapshot::default()
    };
    let text = text_of(named("a\"} 1\nb\\ü"));
    assert!(
        text.lines()
            .any(|line| line == r#"weir_quarantined{source="a\"} 1\nb\\ü"} 0"#),
        "{text}"
    );
}

#[test]
fn a_channel_is_in_one_state() {
    for state in CHANNEL_STATES {
        let channels = vec![ChannelFigures {
            name: "a".into(),
            state,
            ..ChannelFigures::default()
        }];
        let text = text_of(Snapshot {
            channels,
            ..Snapshot::default()
        });
        let states: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("weir_channel_state{"))
            .collect();
        assert_eq!(states.len(), CHANNEL_STATES.len());
        let on: Vec<_> = states.iter().filter(|line| line.ends_with(" 1")).collect();
        assert_eq!(
            on,
            [&format!(
                r#"weir_channel_state{{channel="a",state="{state}"}} 1"#
            )]
        );
    }
}

// `promtool check metrics` ended with 1, whatever was asked for: it reads the older text. This checks
// what it checks: each series belongs to a metric that was announced with help and kind, under its
// whole name.
#[test]
fn the_text_for_prometheus_announces_each_series_under_its_name() {
    let text = render(&Arc::new(busy()), Format::Prometheus).unwrap();
    let (mut kinds, mut helped) = (BTreeMap::new(), BTreeSet::new());
    for line in text.lines() {
        if let Some(about) = line.strip_prefix("# HELP ") {
            let (name, help) = about.split_once(' ').unwrap();
            assert!(helped.insert(name) && !help.is_empty(), "{line}");
        } else if let Some(about) = line.strip_prefix("# TYPE ") {
            let (name, kind) = about.split_once(' ').unwrap();
            assert!(helped.contains(name), "{line}");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(kinds.insert(name, kind).is_none(), "{line}");
        } else {
            assert!(!line.starts_with('#'), "{line}");
            let name = line.split(['{', ' ']).next().unwrap();
            let parts = ["_bucket", "_sum", "_count"];
            let whole = parts.iter().find_map(|part| name.strip_suffix(part));
            let histogram = whole.is_some_and(|name| kinds.get(name) == Some(&"histogram"));
            assert!(histogram || kinds.contains_key(name), "{line}");
            let (_, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
    assert!(kinds.len() > 10 && text.ends_with('\n'));
    let counts = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
    let open = render(&Arc::new(busy()), Format::OpenMetrics).unwrap();
    assert_eq!(counts(&text), counts(&open), "no series is lost");
}

// A scraper that changes from one format to the other must find the same series: with other bounds, or with
// a series for the time at which a counter was created, each histogram would be there twice.
#[test]
fn the_formats_have_the_same_series_with_the_same_values() {
    let snapshot = Arc::new(busy());
    let lines = |format| -> Vec<String> {
        let text = render(&snapshot, format).unwrap();
        let series = text.lines().filter(|line| !line.starts_with('#'));
        series.map(str::to_owned).collect()
    };
    let (open, old) = (lines(Format::OpenMetrics), lines(Format::Prometheus));
    assert_eq!(open, old);
    assert!(open.iter().any(|line| line.contains(r#"le="2.5""#)));
    for line in &open {
        assert!(!line.contains("_created"), "{line}");
        let bound = line.split_once("le=\"").map(|(_, rest)| rest);
        let bound = bound.and_then(|rest| rest.split_once('"')).map(|it| it.0);
        assert!(
            bound.is_none_or(|it| it == "+Inf" || it.contains('.')),
            "{line}"
        );
    }
}

// Prometheus 2 and 3, Telegraf, a browser and curl, as they ask.
#[test]
fn each_scraper_gets_a_format_that_it_reads() {
    let three = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
    let two = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    let telegraf = "text/plain;version=0.0.4;q=1,*/*;q=0.1";
    let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    for (accept, format) in [
        (Some(three), Format::OpenMetrics),
        (Some(two), Format::OpenMetrics),
        (Some(telegraf), Format::Prometheus),
        (Some(browser), Format::Prometheus),
        (None, Format::Prometheus),
    ] {
        assert_eq!(Format::wanted(accept), format, "{accept:?}");
        let text = render(&Arc::new(busy()), format).unwrap();
        let is_open = format == Format::OpenMetrics;
        // Each difference between the formats.
        assert_eq!(text.ends_with("# EOF\n"), is_open);
        assert_eq!(text.contains("# TYPE weir_events counter\n"), is_open);
        assert_eq!(
            text.contains("# TYPE weir_events_total counter\n"),
            !is_open
        );
        assert_eq!(text.contains("# TYPE weir_build info\n"), is_open);
        assert_eq!(text.contains("# TYPE weir_build_info gauge\n"), !is_open);
        assert_eq!(text.contains("# HELP weir_build_info "), !is_open);
    }
}
