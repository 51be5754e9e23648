//! The report of `weir plugin run`, as text and as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::super::client::pretty;
use super::super::table::plain;
use super::samples::Sample;
use super::title;
use crate::author::cases::written::{ChangeJson, FailureJson, RenderingJson};
use crate::author::cases::{Output, spread};
use crate::author::harness::{Call, Report};
use crate::model::{Change, Failure, Payload, Rendering};
use crate::plugin::Limits;

/// Each item with its outputs, the log, and the cost.
pub(super) fn to_text(report: &Report, items: &[Sample], limits: &Limits) -> String {
    let roles: Vec<&str> = report.roles.iter().map(|role| role.name()).collect();
    let mut text = format!("{}: {}\n", plain(&report.plugin), roles.join(", "));
    for (at, item) in items.iter().enumerate() {
        text.push_str(&format!("\n{}\n", plain(&title(item))));
        for call in &report.calls {
            output(call.role.name(), &call.outputs[at], &mut text);
        }
    }
    for call in &report.calls {
        if let Some(fault) = &call.fault {
            text.push_str(&format!(
                "\n{} faulted{}: {}: {}\n",
                call.role.name(),
                if items.len() > 1 {
                    " in one call with all items, so each ran alone"
                } else {
                    ""
                },
                fault.code(),
                plain(&fault.to_string())
            ));
        }
    }
    if !report.log.is_empty() {
        text.push_str("\nlog\n");
    }
    for line in &report.log {
        text.push_str(&format!(
            "  {:5}  {}\n",
            line.level.name(),
            plain(&line.message)
        ));
    }
    let count = items.len();
    text.push_str(&format!(
        "\ncost of one call with {count} item{} (fuel is the same in every run, time is not)\n",
        if count == 1 { "" } else { "s" }
    ));
    text.push_str(&format!(
        "  {:13}  fuel {:>12}\n",
        "configure",
        grouped(report.configure_fuel)
    ));
    for call in &report.calls {
        let each = grouped(call.fuel / count.max(1) as u64);
        text.push_str(&format!(
            "  {:13}  fuel {:>12}  {each} per item  {:.3} ms\n",
            call.role.name(),
            grouped(call.fuel),
            millis(call.time)
        ));
    }
    text.push_str("\nshare of the limits of a call\n");
    for used in used(report, limits) {
        let (now, most) = ((used.show)(used.now), (used.show)(used.most));
        text.push_str(&format!(
            "  {:8}  {now} of {most}, {} %\n",
            used.name,
            percent(used.now, used.most)
        ));
    }
    text
}

fn output(role: &str, output: &Output, text: &mut String) {
    match output {
        Output::Accepted(true) => text.push_str(&format!("  {role}: passes it\n")),
        Output::Accepted(false) => text.push_str(&format!("  {role}: drops it\n")),
        Output::Failed(Failure { code, message }) => text.push_str(&format!(
            "  {role}: fails: {}: {}\n",
            plain(code),
            plain(message)
        )),
        Output::Rendered(None) => text.push_str(&format!("  {role}: not for this channel\n")),
        Output::Rendered(Some(Rendering {
            key,
            content_type,
            body,
        })) => {
            let key = key
                .as_deref()
                .map(|key| format!(", key {}", plain(key)))
                .unwrap_or_default();
            let content_type = content_type.as_deref().unwrap_or("application/json");
            text.push_str(&format!("  {role}: {}{key}\n", plain(content_type)));
            match body {
                Payload::Text(body) => text.push_str(&indented(body)),
                Payload::Binary(bytes) => {
                    text.push_str(&format!("    {} bytes, not text\n", bytes.len()))
                }
            }
        }
        Output::Changes(changes) if changes.is_empty() => {
            text.push_str(&format!("  {role}: no changes\n"))
        }
        Output::Changes(changes) => changes
            .iter()
            .for_each(|change| describe_change(change, text)),
    }
}

fn describe_change(change: &Change, text: &mut String) {
    let Change {
        entity_type,
        key,
        facet,
        value,
        version,
        lane,
    } = change;
    let version = version
        .map(|version| format!(", version {version}"))
        .unwrap_or_default();
    let lane = lane
        .map(|lane| format!(", lane {}", lane.name()))
        .unwrap_or_default();
    let deleted = if value.is_none() { ", deleted" } else { "" };
    text.push_str(&format!(
        "  {}/{} {}{version}{lane}{deleted}\n",
        plain(entity_type),
        plain(key),
        plain(facet)
    ));
    if let Some(value) = value {
        text.push_str(&indented(value));
    }
}

/// JSON with one member per line, other text as it is.
fn indented(body: &str) -> String {
    let shown = match serde_json::from_str::<&RawValue>(body) {
        Ok(_) => spread(body),
        Err(_) => body.to_owned(),
    };
    shown
        .lines()
        .map(|line| format!("    {}\n", plain(line)))
        .collect()
}

/// One JSON object; its fields are named as in the text.
pub(super) fn to_json(report: &Report, items: &[Sample], limits: &Limits) -> String {
    let item = |(at, item): (usize, &Sample)| {
        let outputs = report
            .calls
            .iter()
            .map(|call| OutputJson::new(call.role.name(), &call.outputs[at]));
        ItemJson {
            file: item.file.display().to_string(),
            index: item.index,
            outputs: outputs.collect(),
        }
    };
    let call = |call: &Call| {
        let fault = call
            .fault
            .as_ref()
            .map(|fault| json!({ "code": fault.code(), "message": fault.to_string() }));
        json!({ "role": call.role.name(), "fuel": call.fuel, "time_ms": millis(call.time), "fault": fault })
    };
    let used = used(report, limits).into_iter().map(|used| {
        (used.name, json!({ "used": used.now, "limit": used.most, "percent": percent(used.now, used.most).parse::<f64>().ok() }))
    });
    pretty(&ReportJson {
        plugin: &report.plugin,
        roles: report.roles.iter().map(|role| role.name()).collect(),
        items: items.iter().enumerate().map(item).collect(),
        calls: report.calls.iter().map(call).collect(),
        log: report
            .log
            .iter()
            .map(|line| json!({ "level": line.level.name(), "message": line.message }))
            .collect(),
        configure_fuel: report.configure_fuel,
        compile_ms: millis(report.compile_time),
        limits: used.collect(),
    })
}

#[derive(Serialize)]
struct ReportJson<'a> {
    plugin: &'a str,
    roles: Vec<&'static str>,
    items: Vec<ItemJson<'a>>,
    calls: Vec<Value>,
    log: Vec<Value>,
    configure_fuel: u64,
    compile_ms: f64,
    /// Microseconds and bytes.
    limits: BTreeMap<&'static str, Value>,
}

#[derive(Serialize)]
struct ItemJson<'a> {
    file: String,
    index: usize,
    outputs: Vec<OutputJson<'a>>,
}

/// The output of one role for one item: `role` and one of the others. Values are raw, so that
/// numbers stay as they were written.
#[derive(Default, Serialize)]
struct OutputJson<'a> {
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Vec<ChangeJson<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rendering: Option<Option<RenderingJson<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<FailureJson<'a>>,
}

impl<'a> OutputJson<'a> {
    fn new(role: &'static str, output: &'a Output) -> OutputJson<'a> {
        let empty = OutputJson {
            role,
            ..OutputJson::default()
        };
        match output {
            Output::Accepted(accepted) => OutputJson {
                accepted: Some(*accepted),
                ..empty
            },
            Output::Failed(failure) => OutputJson {
                failure: Some(FailureJson::of(failure)),
                ..empty
            },
            Output::Rendered(rendering) => OutputJson {
                rendering: Some(rendering.as_ref().map(RenderingJson::of)),
                ..empty
            },
            Output::Changes(changes) => OutputJson {
                changes: Some(changes.iter().map(ChangeJson::of).collect()),
                ..empty
            },
        }
    }
}

/// The use of one limit, in the unit of the limit.
struct Used {
    name: &'static str,
    now: u64,
    most: u64,
    show: fn(u64) -> String,
}

/// Time is that of the longest call, output the size of the largest result, log all lines.
fn used(report: &Report, limits: &Limits) -> [Used; 4] {
    let time = report
        .calls
        .iter()
        .map(|call| call.time)
        .max()
        .unwrap_or_default();
    let size = |call: &Call| call.outputs.iter().map(bytes).sum::<usize>();
    let output = report.calls.iter().map(size).max().unwrap_or_default();
    let log: usize = report.log.iter().map(|line| line.message.len()).sum();
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let used = |name, now, most, show| Used {
        name,
        now,
        most,
        show,
    };
    [
        used("time", micros(time), micros(limits.time), |micros| {
            format!("{:.3} ms", micros as f64 / 1e3)
        }),
        used(
            "memory",
            report.memory_peak as u64,
            limits.memory_bytes as u64,
            size_of,
        ),
        used("output", output as u64, limits.output_bytes as u64, size_of),
        used("log", log as u64, limits.log_bytes as u64, size_of),
    ]
}

/// The size of an output, in bytes.
fn bytes(output: &Output) -> usize {
    let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    match output {
        Output::Accepted(_) | Output::Rendered(None) => 1,
        Output::Failed(Failure { code, message }) => code.len() + message.len(),
        Output::Rendered(Some(Rendering {
            key,
            content_type,
            body,
        })) => length(key) + length(content_type) + body.as_bytes().len(),
        Output::Changes(changes) => {
            let size = |change: &Change| {
                change.entity_type.len()
                    + change.key.len()
                    + change.facet.len()
                    + change.value.as_ref().map_or(0, |value| value.len())
            };
            changes.iter().map(size).sum()
        }
    }
}

fn size_of(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

fn percent(now: u64, most: u64) -> String {
    format!("{:.1}", now as f64 * 100.0 / most.max(1) as f64)
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// Digits in groups of three: `1 234 567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_texts_are_shown_as_they_were_written() {
        assert_eq!(
            indented(r#"{"a":[1,"x y"]}"#),
            "    {\n      \"a\": [\n        1,\n        \"x y\"\n      ]\n    }\n"
        );
        assert_eq!(
            indented(r#" { "b" : 1.50 , "a:\"{" : [ ] , "b" : {} } "#),
            "    {\n      \"b\": 1.50,\n      \"a:\\\"{\": [],\n      \"b\": {}\n    }\n"
        );
        assert_eq!(indented("<a/>\n<b/>"), "    <a/>\n    <b/>\n");
        assert_eq!(
            (grouped(7), grouped(1_234_567)),
            ("7".into(), "1 234 567".into())
        );
    }
}
