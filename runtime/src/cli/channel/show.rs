//! `weir channel show`: what became of a channel's changes, how long they took, and what is owed.

use axum::http::Method;

use super::super::CommandResult;
use super::super::client::{Client, path, pretty};
use super::super::moment::ago;
use super::super::table::{or_dash, plain, table};
use super::{Named, listed};
use crate::server::views::{ChannelView, FlowView, LatenciesView, LatencyView, OldestView};

pub(super) async fn run(named: &Named, out: &mut String) -> CommandResult {
    let path = path(&["v1", "channels", &named.channel]);
    let client = Client::new(&named.remote)?;
    let channel: ChannelView = client.get_ok(Method::GET, &path).await?.read()?;
    out.push_str(&match named.remote.json {
        true => pretty(&channel),
        false => shown(&channel),
    });
    Ok(true)
}

fn shown(channel: &ChannelView) -> String {
    let mut text = listed(std::slice::from_ref(channel));
    if let Some(late) = channel.late_seconds {
        text.push_str(&format!("\nlate for {late:.0} s since the start\n"));
    }
    text.push('\n');
    text.push_str(&flow(&channel.flow));
    text.push('\n');
    text.push_str(&latencies(&channel.latency));
    if !channel.oldest.is_empty() {
        text.push('\n');
        text.push_str(&oldest(&channel.oldest));
    }
    text
}

/// What became of the changes, as a sentence.
fn flow(flow: &FlowView) -> String {
    let about = if flow.estimate { "about " } else { "" };
    let parts = [
        ("delivered", flow.delivered),
        ("withdrawn", flow.withdrawn),
        ("suppressed", flow.suppressed),
        ("withheld", flow.withheld),
        ("refused", flow.refused),
        ("counted", flow.counted),
        ("owed at most", flow.owed),
    ];
    let parts = parts.into_iter().filter(|(_, count)| *count > 0);
    let parts: Vec<String> = parts
        .map(|(what, count)| format!("{what} {count}"))
        .collect();
    let mut text = format!(
        "changes since the start {}: {}; coalesced {about}{}",
        ago(flow.since),
        flow.changes,
        flow.coalesced
    );
    for part in parts {
        text.push_str(&format!(", {part}"));
    }
    text.push_str(&format!(
        "\nsent again after a failure: {}; without a change: {}",
        flow.retried, flow.unasked
    ));
    if let Some(factor) = flow.factor {
        text.push_str(&format!("; sent for each change: {factor:.2}"));
    }
    text.push('\n');
    text
}

fn latencies(latency: &LatenciesView) -> String {
    let lanes = [
        ("urgent", latency.urgent),
        ("normal", latency.normal),
        ("bulk", latency.bulk),
    ];
    let rows = lanes.into_iter().flat_map(|(lane, of)| {
        let spans = [("minute", of.minute), ("hour", of.hour), ("day", of.day)];
        spans.map(|(span, latency)| row(lane, span, latency))
    });
    let rows: Vec<_> = rows.collect();
    table(&["LANE", "LAST", "DELIVERED", "P50", "P99", "MAX"], &rows)
}

fn row(lane: &str, span: &str, latency: LatencyView) -> Vec<String> {
    let time =
        |millis: Option<u64>| or_dash(millis.map(|millis| format!("{} s", millis as f64 / 1000.0)));
    vec![
        lane.to_owned(),
        span.to_owned(),
        latency.count.to_string(),
        time(latency.p50_ms),
        time(latency.p99_ms),
        time(latency.max_ms),
    ]
}

fn oldest(oldest: &[OldestView]) -> String {
    let row = |oldest: &OldestView| {
        let error = oldest.last_error.as_deref().unwrap_or_default();
        vec![
            oldest.key.clone(),
            ago(oldest.since),
            oldest.state.clone(),
            plain(error),
        ]
    };
    let rows: Vec<_> = oldest.iter().map(row).collect();
    table(
        &["OWED FOR THE LONGEST TIME", "SINCE", "STATE", "ERROR"],
        &rows,
    )
}
