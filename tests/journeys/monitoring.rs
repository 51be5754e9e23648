//! The alerts and the dashboard that come with Weir: they name what a Weir under load shows, promtool accepts
//! them, and each alert has its section in the guide for operators.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::parts::part;
use crate::support::stage::CATALOG;
use crate::support::{Stage, change, eventually, guests};

/// The labels that Prometheus adds.
const SCRAPED: [&str; 2] = ["job", "instance"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/monitoring")
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Metrics, each with its labels and their values.
type Series = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// The target and the channel of a feed.
const FEED: &str = r#"
[targets.google]
kind = "feed"
format = "ndjson"
interval = "1s"
[channels.google]
entity = "product"
facets = ["content"]
target = "google"
"#;

/// A Weir with a source that has an objective, a plugin, a channel with an objective and a feed, which have all
/// been at work, and its metrics.
fn scraped() -> (Stage, String) {
    let config = CATALOG.replace("[sources.erp]", "[sources.erp]\nquiet = \"1h\"");
    let config = config
        + "plugins = [\"page\"]\nfreshness = \"1m\"\n[plugins.page]\npath = \"page.wasm\"\n"
        + FEED;
    let mut stage = Stage::closed(&config);
    stage.place("page.wasm", &guests::versioned::renderer(1));
    stage.start();
    let called = "weir_plugin_call_seconds_count{plugin=\"page\"}";
    let metrics = stage.weir().get("/metrics").text();
    assert!(
        metrics.contains(called),
        "before the first call there is no {called} in {metrics}"
    );
    for number in 0..50 {
        let key = format!("lamp-{number}");
        stage.takes("erp", &[change(&key, "price.de", json!(number))]);
        stage.takes("pim", &[change(&key, "content", json!(number))]);
    }
    stage.settles("shop");
    // A scrape may be that of up to a second ago.
    let metrics = eventually("the commits and the events are shown", || {
        let metrics = stage.weir().get("/metrics").text();
        let shown = [
            "weir_commit_seconds_bucket",
            "weir_source_last_event_timestamp_seconds{source=\"pim\"}",
        ];
        shown
            .iter()
            .all(|series| metrics.contains(series))
            .then_some(metrics)
    });
    (stage, metrics)
}

fn series(metrics: &str) -> Series {
    let mut series = Series::new();
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap_or(line.len()));
        let labels = series.entry(name.to_owned()).or_default();
        for (label, _, value) in matchers(rest) {
            labels.entry(label).or_default().insert(value);
        }
    }
    series
}

/// The labels in the braces at the beginning of a text, each with the operator and the value.
fn matchers(text: &str) -> Vec<(String, String, String)> {
    let Some(inside) = text.strip_prefix('{').and_then(|rest| rest.split_once('}')) else {
        return Vec::new();
    };
    let mut rest = inside.0;
    let mut found = Vec::new();
    while let Some((before, after)) = rest.split_once('"') {
        let (value, after) = after.split_once('"').expect("the value ends");
        let before = before.trim_start_matches([',', ' ']);
        let at = before.find(['=', '!']).expect("an operator");
        found.push((
            before[..at].to_owned(),
            before[at..].to_owned(),
            value.to_owned(),
        ));
        rest = after;
    }
    found
}

/// What is wrong with the names in an expression and in the texts that show its labels.
fn unknown(expression: &str, shown: &str, series: &Series) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut labels: BTreeSet<&str> = SCRAPED.into();
    let word = |character: char| character.is_ascii_alphanumeric() || character == '_';
    for (at, _) in expression.match_indices("weir_") {
        if expression[..at].ends_with(word) {
            continue;
        }
        let rest = &expression[at..];
        let (name, rest) = rest.split_at(rest.find(|it| !word(it)).unwrap_or(rest.len()));
        let Some(known) = series.get(name) else {
            wrong.push(format!("there is no metric {name}"));
            continue;
        };
        labels.extend(known.keys().map(String::as_str));
        for (label, _, value) in matchers(rest) {
            if SCRAPED.contains(&&*label) {
                continue;
            }
            let Some(values) = known.get(&label) else {
                wrong.push(format!("{name} has no label {label}"));
                continue;
            };
            let mut alternatives = value.split('|').filter(|it| !it.starts_with('$'));
            if let Some(never) = alternatives.find(|it| !values.contains(*it)) {
                wrong.push(format!("{label} of {name} is never {never}"));
            }
        }
    }
    let grouped = expression.split("by (").skip(1);
    let grouped = grouped.filter_map(|rest| rest.split(')').next());
    let grouped = grouped.flat_map(|list| list.split(", "));
    let named = shown.split("{{").skip(1);
    let named = named.filter_map(|rest| rest.split("}}").next());
    let named = named.map(|it| it.trim().trim_start_matches("$labels."));
    let named = named.filter(|it| !it.starts_with('$'));
    let missing = grouped.chain(named).filter(|it| !labels.contains(it));
    wrong.extend(missing.map(|label| format!("nothing in `{expression}` has the label {label}")));
    wrong
}

/// The expressions of the dashboard, each with the text that shows its labels.
fn expressions(value: &Value, found: &mut Vec<(String, String)>) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match value {
        Value::Object(object) => {
            if let Some(expression) = object.get("expr").or_else(|| object.get("definition")) {
                let legend = object.get("legendFormat").map(text);
                found.push((text(expression), legend.unwrap_or_default()));
            }
            object.values().for_each(|value| expressions(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

/// An alert of the rules.
struct Alert {
    name: String,
    expression: String,
    summary: String,
    runbook: String,
}

fn alerts() -> Vec<Alert> {
    let rules = text(&folder().join("weir.rules.yml"));
    let rules: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    let line = |rule: &str, key: &str| {
        let mut lines = rule.lines().map(str::trim);
        let found = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
        found
            .unwrap_or_else(|| panic!("no {key} in {rule}"))
            .to_owned()
    };
    let alert = |rule: &&str| Alert {
        name: rule.lines().next().unwrap_or_default().to_owned(),
        expression: line(rule, "expr"),
        summary: line(rule, "summary"),
        runbook: line(rule, "runbook"),
    };
    let alerts: Vec<Alert> = rules.iter().map(alert).collect();
    assert!(alerts.len() > 15, "{} alerts", alerts.len());
    alerts
}

/// Runs promtool, with this on its standard input.
fn promtool(program: &Path, arguments: &[&str], input: &str) -> (bool, String) {
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(folder())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    // It may end without reading to the end, and says why.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("promtool ends");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    (output.status.success(), said)
}

#[test]
fn the_alerts_and_the_dashboard_name_what_is_there_and_promtool_accepts_them() {
    let (_stage, metrics) = scraped();
    // This one is there only with a certificate.
    let declared = "# TYPE weir_certificate_end_timestamp_seconds gauge\n";
    let one = "weir_certificate_end_timestamp_seconds 1900000000\n";
    let metrics = metrics.replace(declared, &[declared, one].concat());
    let series = series(&metrics);
    let dashboard: Value =
        serde_json::from_str(&text(&folder().join("grafana.json"))).expect("JSON");
    let mut all = Vec::new();
    expressions(&dashboard, &mut all);
    assert!(all.len() > 30, "{} expressions", all.len());
    all.extend(alerts().into_iter().map(|it| (it.expression, it.summary)));
    let wrong: Vec<String> = all
        .iter()
        .flat_map(|(expression, shown)| unknown(expression, shown, &series))
        .collect();
    assert_eq!(wrong, [""; 0], "in\n{metrics}");
    // What would not be noticed is not checked.
    for (expression, shown, expected) in [
        ("weir_owes > 0", "", "there is no metric weir_owes"),
        ("weir_owed{row=\"bulk\"}", "", "weir_owed has no label row"),
        (
            "weir_owed{lane=~\"bulk|slow\"}",
            "",
            "lane of weir_owed is never slow",
        ),
        ("sum by (source) (weir_owed)", "", "has the label source"),
        ("weir_owed", "{{ $labels.source }}", "has the label source"),
    ] {
        let found = unknown(expression, shown, &series).join("\n");
        assert!(found.contains(expected), "{expression}: {found}");
    }
    let Some(program) = part("promtool", "alerts and metrics") else {
        return;
    };
    for (arguments, input) in [
        (["check", "metrics"].as_slice(), &*metrics),
        (&["check", "rules", "weir.rules.yml"], ""),
        (&["test", "rules", "weir.test.yml"], ""),
    ] {
        let (fine, said) = promtool(&program, arguments, input);
        assert!(fine, "promtool {arguments:?}:\n{said}");
    }
}

#[test]
fn each_alert_has_its_section_in_the_guide_and_a_test_that_it_fires() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operating.md");
    let guide = text(&guide);
    let sections = guide.lines().filter_map(|line| line.strip_prefix("### "));
    let sections: BTreeSet<&str> = sections.collect();
    let alerts = alerts();
    let names: BTreeSet<&str> = alerts.iter().map(|alert| &*alert.name).collect();
    assert_eq!(sections, names, "a section for each alert, and no other");
    let tests = text(&folder().join("weir.test.yml"));
    for alert in &alerts {
        let anchor = format!("runtime/docs/operating.md#{}", alert.name.to_lowercase());
        assert_eq!(alert.runbook, anchor);
        let name = &alert.name;
        let fires = format!("alertname: {name}\n        exp_alerts:\n          - exp_labels: ");
        assert!(tests.contains(&fires), "nothing shows that {name} fires");
        let quiet = format!("alertname: {name}, exp_alerts: [] }}");
        assert!(tests.contains(&quiet), "nothing shows when {name} does not");
    }
}

// What dashboard-linter asks for, and what provisioning from a file needs: other forms are exports that only the
// import dialogue of Grafana understands.
#[test]
fn the_dashboard_can_be_provisioned_from_its_file() {
    let dashboard: Value =
        serde_json::from_str(&text(&folder().join("grafana.json"))).expect("JSON");
    assert_eq!(
        (&dashboard["uid"], &dashboard["editable"]),
        (&json!("weir"), &json!(false))
    );
    assert!(dashboard["schemaVersion"].is_u64() && dashboard["__inputs"].is_null());
    let source = json!({"type": "prometheus", "uid": "${datasource}"});
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        assert!(ids.insert(panel["id"].to_string()), "{panel:#}");
        if panel["type"] == "row" {
            continue;
        }
        assert_eq!(panel["datasource"], source, "{panel:#}");
        for text in [
            &panel["title"],
            &panel["description"],
            &panel["fieldConfig"]["defaults"]["unit"],
        ] {
            assert!(text.as_str().is_some_and(|it| !it.is_empty()), "{panel:#}");
        }
        for target in panel["targets"].as_array().expect("targets") {
            assert_eq!(target["datasource"], source, "{panel:#}");
            let expression = target["expr"].as_str().expect("an expression");
            for selector in expression.split('{').skip(1) {
                let matched = "job=~\"$job\",instance=~\"$instance\"";
                assert!(selector.starts_with(matched), "{expression}");
            }
            let over = expression.contains("rate(") && !expression.contains("$__rate_interval");
            assert!(!over, "{expression}");
        }
    }
    let annotations = &dashboard["annotations"]["list"][0]["datasource"];
    assert_eq!(*annotations, source);
}
