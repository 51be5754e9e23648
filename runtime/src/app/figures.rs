//! Gathers the counts of all modules for a scrape.
//!
//! Each module keeps its own counts, and some keep counts of things that have left the
//! configuration. Only things in use are shown, and retired channels, because these can return.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::apply::Live;
use super::intake::HttpIntake;
use super::{Inner, now};
use crate::dispatch::drift::Difference;
use crate::dispatch::{Channel, status};
use crate::ingest::{ChangeCounts, EventCounts};
use crate::metrics::{
    Buckets, ChannelFigures, DriftFigures, PluginFigures, Snapshot, SourceFigures,
};
use crate::plugin::figures::{CALL_SECONDS, Calls};
use crate::plugin::{self, Component};
use crate::server::views::DriftView;
use crate::store::COMMIT_SECONDS;
use crate::sync;
use crate::traces::Fate;

/// All figures at this moment.
pub(super) fn snapshot(inner: &Inner) -> Snapshot {
    let live = inner.live.load();
    let (store, plugins) = (inner.store.figures(), inner.host.figures());
    let (commits, commit_seconds) = store.commit_seconds;
    let last_reload_success = {
        let last = sync::lock(&inner.last_reload);
        last.success || last.complaints.is_empty()
    };
    let held_back = sync::lock(&inner.held_back).clone();
    let log_dropped: BTreeMap<_, _> = plugins.log_dropped.iter().cloned().collect();
    let dropped = |plugin: &Arc<str>| log_dropped.get(plugin).copied().unwrap_or_default();
    let retired = inner
        .store
        .remembered()
        .into_iter()
        .filter(|channel| !live.channels.contains_key(channel.name.as_str()));
    let retired = retired.map(|channel| ChannelFigures {
        name: channel.name,
        state: "retired",
        ..ChannelFigures::default()
    });
    Snapshot {
        sources: live.sources.values().map(|intake| source(intake)).collect(),
        channels: live
            .channels
            .iter()
            .map(|(name, running)| ChannelFigures {
                drift: inner.jobs.last_drift(name).map(|drift| drift_of(&drift)),
                ..channel(name, running)
            })
            .chain(retired)
            .collect(),
        plugins: live
            .loaded
            .components
            .values()
            .map(|component| PluginFigures {
                held_back: held_back.contains_key(component.name()),
                log_dropped: dropped(component.name()),
                ..plugin(component, &plugins.calls)
            })
            .collect(),
        plugin_idle_bytes: plugins.idle_bytes as u64,
        differing: by_version(&live, plugins.differing),
        traps: by_version(&live, plugins.traps),
        commit: Buckets::new(&COMMIT_SECONDS, commits, commit_seconds),
        store_names: store.names,
        store_bytes: store.bytes,
        disk_free_bytes: store.disk_free,
        trace_spans: trace_spans(inner),
        last_reload_success,
        certificate_ends_ms: (live.plan.server.front.tls.as_ref())
            .and_then(|tls| Some(tls.ends()?.0)),
        notifications: inner.notices.counts().by_result().into(),
    }
}

/// Spans by what became of them, once there is a collector or was one.
fn trace_spans(inner: &Inner) -> Vec<(&'static str, u64)> {
    let counted = |fate: Fate| (fate.name(), inner.traces.counted(fate));
    let counts = Fate::ALL.map(counted);
    match inner.traces.is_on() || counts.iter().any(|(_, count)| *count > 0) {
        true => counts.into(),
        false => Vec::new(),
    }
}

fn source(intake: &HttpIntake) -> SourceFigures {
    let source = &intake.source;
    let (counts, options) = (source.activity().counts(), source.options());
    let EventCounts {
        accepted,
        filtered,
        quarantined,
        repeated,
    } = counts.events;
    let ChangeCounts {
        committed,
        unchanged,
        stale,
    } = counts.changes;
    let malformed = counts.malformed;
    SourceFigures {
        name: options.name.to_string(),
        events: vec![
            ("accepted", accepted),
            ("filtered", filtered),
            ("quarantined", quarantined),
            ("repeated", repeated),
            ("malformed", malformed),
        ],
        changes: vec![
            ("committed", committed),
            ("unchanged", unchanged),
            ("stale", stale),
        ],
        requests: intake.requests.counts(),
        last_event_ms: counts.last_event.map(|time| time.0),
        quiet: options.quiet,
        silent: options.quiet.map(|_| intake.silent_since(now()).is_some()),
        quarantined: source.quarantined(),
    }
}

fn channel(name: &str, channel: &Channel) -> ChannelFigures {
    let (status, counters) = (channel.status(), channel.counters());
    let (attempts, seconds) = counters.attempt_seconds();
    let setup = channel.setup();
    let feed = setup.target.feed();
    ChannelFigures {
        name: name.to_owned(),
        state: status.state.name(),
        deliveries: status::DeliveryResult::ALL
            .into_iter()
            .map(|result| (result.name(), counters.count(result)))
            .collect(),
        seconds: Buckets::new(&status::SECONDS, attempts, seconds),
        owed: status.owed.lanes,
        sweep: status.owed.sweep,
        parked: status.owed.parked,
        refused: status.owed.refused,
        held: status.owed.held,
        waiting: [
            status.waiting.debounce,
            status.waiting.hours.iter().map(|(.., owed)| owed).sum(),
        ],
        freshness: status.freshness,
        overdue: status.overdue,
        freshness_objective: status.freshness_objective,
        oldest_owed_ms: status.owed.oldest_time.map(|time| time.0),
        late: (status.freshness_objective).map(|_| counters.late_time()),
        drift: None,
        feed_held: feed.map(|feed| feed.status().shrank.is_some()),
    }
}

fn drift_of(drift: &DriftView) -> DriftFigures {
    DriftFigures {
        ended_ms: drift.ended.0.0,
        compared: drift.compared,
        differences: Difference::ALL.map(|difference| {
            let count = match difference {
                Difference::Missing => drift.missing,
                Difference::Extra => drift.extra,
                Difference::Older => drift.older,
                Difference::Different => drift.different,
            };
            (difference.name(), count)
        }),
    }
}

/// The figures of a plugin. Its times are there before its first call.
fn plugin(component: &Component, calls: &[Calls]) -> PluginFigures {
    let called = calls
        .iter()
        .find(|calls| *calls.plugin == **component.name());
    let (buckets, seconds) = called.map_or(Default::default(), |it| (it.buckets, it.seconds));
    PluginFigures {
        name: component.name().to_string(),
        version: component.version().to_owned(),
        held_back: false,
        log_dropped: 0,
        calls: Buckets::new(&CALL_SECONDS, buckets, seconds),
    }
}

/// Counts by plugin and version. Earlier versions of a plugin in use are included: that one of them
/// trapped may be why it was replaced.
fn by_version(live: &Live, counts: Vec<plugin::figures::Traps>) -> Vec<(String, String, u64)> {
    let in_force = counts
        .into_iter()
        .filter(|traps| live.loaded.components.contains_key(&traps.plugin));
    in_force
        .map(|traps| {
            (
                traps.plugin.to_string(),
                traps.version.to_string(),
                traps.count,
            )
        })
        .collect()
}
