//! What each room has counted, gathered for a scrape.
//!
//! Rooms count for themselves and some count on for what has left the configuration; only what is
//! in force is shown, and retired channels, which can return.

use super::Inner;
use super::apply::Live;
use crate::dispatch::{Channel, status};
use crate::ingest::{ChangeCounts, EventCounts, STATUSES, Source};
use crate::metrics::{Buckets, ChannelFigures, PluginFigures, Snapshot, SourceFigures};
use crate::plugin::figures::{CALL_SECONDS, Calls};
use crate::plugin::{self, Component};
use crate::store::COMMIT_SECONDS;
use crate::sync;

/// All figures at this moment.
pub(super) fn snapshot(inner: &Inner) -> Snapshot {
    let live = inner.live.load();
    let (store, plugins) = (inner.store.figures(), inner.host.figures());
    let (commits, commit_seconds) = store.commit_seconds;
    let last_reload_success = {
        let last = sync::lock(&inner.last_reload);
        last.success || last.complaints.is_empty()
    };
    let retired = inner
        .store
        .channels()
        .into_iter()
        .filter(|(_, name, _)| !live.channels.contains_key(name.as_str()));
    let retired = retired.map(|(_, name, _)| ChannelFigures {
        name,
        state: "retired",
        ..ChannelFigures::default()
    });
    Snapshot {
        sources: live.sources.values().map(|of| source(of)).collect(),
        channels: live
            .channels
            .iter()
            .map(|(name, of)| channel(name, of))
            .chain(retired)
            .collect(),
        plugins: live
            .loaded
            .components
            .values()
            .map(|of| plugin(of, &plugins.calls))
            .collect(),
        traps: traps(&live, plugins),
        commit: Buckets::new(&COMMIT_SECONDS, commits, commit_seconds),
        store_bytes: store.bytes,
        disk_free_bytes: store.disk_free,
        last_reload_success,
    }
}

fn source(source: &Source) -> SourceFigures {
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
        requests: STATUSES
            .iter()
            .map(|status| status.as_u16())
            .zip(counts.requests)
            .collect(),
        last_event_ms: counts.last_event.map(|time| time.0),
        quiet: options.quiet,
        quarantined: source.quarantined(),
    }
}

fn channel(name: &str, channel: &Channel) -> ChannelFigures {
    let (status, counters) = (channel.status(), channel.counters());
    let (attempts, seconds) = counters.attempt_seconds();
    ChannelFigures {
        name: name.to_owned(),
        state: status.state.name(),
        deliveries: status::Ending::ALL
            .into_iter()
            .map(|result| (result.name(), counters.count(result)))
            .collect(),
        seconds: Buckets::new(&status::SECONDS, attempts, seconds),
        owed: status.owed.lanes,
        sweep: status.owed.sweep,
        parked: status.owed.parked,
        refused: status.owed.refused,
        held: status.owed.held,
        freshness: status.freshness,
        freshness_objective: status.freshness_objective,
    }
}

/// A plugin that was not called yet has no times.
fn plugin(component: &Component, calls: &[Calls]) -> PluginFigures {
    let calls = calls
        .iter()
        .find(|calls| *calls.plugin == **component.name());
    PluginFigures {
        name: component.name().to_string(),
        version: component.version().to_owned(),
        calls: calls
            .map(|calls| Buckets::new(&CALL_SECONDS, calls.buckets, calls.seconds))
            .unwrap_or_default(),
    }
}

/// Earlier versions of a plugin in force are shown too: that one of them trapped is why it was
/// replaced.
fn traps(live: &Live, figures: plugin::figures::Snapshot) -> Vec<(String, String, u64)> {
    let in_force = figures
        .traps
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
