//! Builds the views that the routes show from the state of each module.

use std::collections::BTreeMap;

use super::apply::Live;
use super::intake::{HttpIntake, changes, events};
use super::jobs::Jobs;
use super::now;
use super::rollouts::History;
use super::standing::{self, reason};
use super::sweeps::Sweeps;
use crate::dispatch::latency::Latency;
use crate::dispatch::prepare::{DELETED, FILTERED, NEEDS};
use crate::dispatch::{Channel, Flow, Preview, PreviewVerdict, status};
use crate::ingest::charset::Charset;
use crate::ingest::{self, Counts, EventCounts};
use crate::model::{Entity, EntityId, Lane, Timestamp};
use crate::plugin::{Component, figures};
use crate::server::views::{
    CallsView, ChannelView, ErrorView, EventView, FeedBucketView, FeedView, FilterVerdict,
    FlowView, GenerationView, HeldGenerationView, LaneLatencyView, LatenciesView, LatencyView,
    LimitsView, OldestView, OwedView, PluginView, PreviewView, QuarantineView, RefusedView,
    RenderingView, SourceView, Time,
};
use crate::store::{OldestOwed, QuarantinedEvent, Refused, Remembered, Store};
use crate::targets::feed::Feed;

pub(super) fn source(live: &Live, name: &str, intake: &HttpIntake) -> SourceView {
    let source = &intake.source;
    let (counts, options) = (source.activity().counts(), source.options());
    SourceView {
        name: name.to_owned(),
        owner: options.owner.to_string(),
        plugins: live
            .loaded
            .sources
            .get(name)
            .map(|chain| chain.labels())
            .unwrap_or_default(),
        verify: options.verify.kind().to_owned(),
        last_event: counts.last_event.map(Into::into),
        events_per_second: counts
            .last_event
            .map(|_| source.activity().per_second(now())),
        quiet_seconds: options.quiet.map(|quiet| quiet.as_secs_f64()),
        silent: intake.silent_since(now()).is_some(),
        events: events(counts.events),
        changes: changes(counts.changes),
        since: live.started.into(),
        factor: factor(&counts),
        quarantined: source.quarantined(),
    }
}

/// The changes that were committed for each event.
fn factor(counts: &Counts) -> Option<f64> {
    let EventCounts {
        accepted,
        filtered,
        quarantined,
        repeated,
    } = counts.events;
    let events = accepted + filtered + quarantined + repeated;
    (events > 0).then(|| counts.changes.committed as f64 / events as f64)
}

pub(super) fn channel(live: &Live, channel: &Channel, sweeps: &Sweeps, jobs: &Jobs) -> ChannelView {
    let (status, setup, counters) = (channel.status(), channel.setup(), channel.counters());
    let options = &setup.options;
    ChannelView {
        name: options.name.to_string(),
        entity: options.entity_type.to_string(),
        target: options.target.to_string(),
        state: status.state.name().to_owned(),
        reason: Some(status.reason).filter(|reason| !reason.is_empty()),
        deliver: options.deliver,
        facets: options.facets.clone(),
        needs: options.needs.clone(),
        plugins: live
            .loaded
            .channels
            .get(&options.name)
            .map(|chain| chain.labels())
            .unwrap_or_default(),
        owed: OwedView {
            urgent: status.owed.lanes[0],
            normal: status.owed.lanes[1],
            bulk: status.owed.lanes[2],
            sweep: status.owed.sweep,
            total: status.owed.total(),
        },
        in_flight: status.owed.in_flight,
        parked: status.owed.parked,
        held: status.owed.held,
        refused: status.owed.refused,
        holding: status.owed.holding,
        refused_tried_again: counters.refused_tried_count(),
        target_bears_per_second: status.target.bears_per_second,
        waiting: status.waiting.debounce,
        target_bears_in_flight: status.target.bears_in_flight,
        freshness_seconds: status.freshness.as_secs_f64(),
        overdue_seconds: status.overdue.as_secs_f64(),
        freshness_objective_seconds: status
            .freshness_objective
            .map(|objective| objective.as_secs_f64()),
        oldest_owed: status.owed.oldest_time.map(Into::into),
        oldest: Vec::new(),
        late_seconds: (status.freshness_objective).map(|_| counters.late_time().as_secs_f64()),
        latency: latencies(channel),
        flow: flow(live, &channel.flow(&status.owed)),
        deliveries: status::DeliveryResult::ALL
            .into_iter()
            .map(|result| (result.name().to_owned(), counters.count(result)))
            .collect(),
        last_error: channel.last_failure().map(|(time, detail)| ErrorView {
            time: time.into(),
            detail: detail.to_string(),
        }),
        last_sweep: sweeps.of(channel),
        last_drift: jobs.last_drift(&options.name).map(|drift| (*drift).clone()),
        feed: setup.target.feed().map(feed),
    }
}

/// The most entities that are named as owed for the longest time.
const OLDEST_MAX: usize = 10;

/// The entities that a channel owes for the longest time.
pub(super) fn oldest(live: &Live, channel: &Channel, store: &dyn Store) -> Vec<OldestView> {
    let queue = channel.queue();
    let named = |oldest: OldestOwed| {
        let standing = queue.standing(oldest.ordinal);
        // Its facets say since when it is settled, and it is not.
        let entity = store.read(&[oldest.ordinal]).ok()?.pop().flatten()?;
        let shown = standing::of(live, channel, oldest.ordinal, &entity, standing);
        Some(OldestView {
            key: oldest.id.key.to_string(),
            since: oldest.time.into(),
            sequence: oldest.since.0,
            state: shown.state,
            last_error: shown.last_error,
        })
    };
    let oldest = queue.oldest(OLDEST_MAX).into_iter();
    oldest.filter_map(named).collect()
}

fn flow(live: &Live, flow: &Flow) -> FlowView {
    use status::DeliveryResult as Result;
    FlowView {
        since: live.started.into(),
        changes: flow.changes,
        coalesced: flow.coalesced,
        suppressed: flow.count(Result::Suppressed),
        withheld: flow.count(Result::Withheld),
        delivered: flow.count(Result::Delivered),
        withdrawn: flow.count(Result::Withdrawn),
        refused: flow.count(Result::Refused),
        counted: flow.count(Result::Counted),
        owed: flow.owed,
        retried: flow.retried,
        unasked: flow.unasked,
        factor: flow.factor(),
        estimate: flow.is_estimate(),
    }
}

fn latencies(channel: &Channel) -> LatenciesView {
    let [urgent, normal, bulk] = Lane::ALL.map(|lane| {
        let [minute, hour, day] = channel.latency(lane).map(latency);
        LaneLatencyView { minute, hour, day }
    });
    LatenciesView {
        urgent,
        normal,
        bulk,
        negative: channel.negative_latencies(),
    }
}

fn latency(latency: Latency) -> LatencyView {
    let there = |millis: u64| (latency.count > 0).then_some(millis);
    LatencyView {
        count: latency.count,
        p50_ms: there(latency.p50),
        p99_ms: there(latency.p99),
        max_ms: there(latency.max),
    }
}

/// The generation of a feed, and the next one.
fn feed(feed: &Feed) -> FeedView {
    let status = feed.status();
    let generation = feed.published().map(|published| GenerationView {
        number: published.id,
        records: published.records,
        bytes: published.plain.length,
        gzip_bytes: published.gzip.length,
        digest: published.plain.digest.clone(),
        sequence: published.sequence,
        built: Timestamp(published.built).into(),
        modified: Timestamp(published.modified).into(),
    });
    FeedView {
        generation,
        unpublished: status.unpublished,
        next: status.next.map(|next| Timestamp(next).into()),
        reason: status.reason,
        held: status
            .shrank
            .map(|(before, records)| HeldGenerationView { records, before }),
        bucket: status.to.map(|put| FeedBucketView {
            generation: put.generation,
            at: put.at.map(|at| Timestamp(at).into()),
            reason: put.reason,
        }),
        dropped_characters: status.dropped,
    }
}

/// What a delivered state of an entity waits for in a feed: the generation that holds it.
pub(super) fn waits_in_feed(channel: &Channel, entity: &Entity) -> Option<String> {
    let setup = channel.setup();
    let feed = setup.target.feed()?;
    // A renderer may have given it another key, under which it is not found: then nothing is said.
    if !feed.is_unpublished(&entity.id.key) {
        return None;
    }
    let status = feed.status();
    Some(match (status.next, status.reason) {
        (Some(next), None) => {
            format!("in the next generation, at {}", Time(Timestamp(next)))
        }
        (_, Some(reason)) => format!("in the next generation; {reason}"),
        (None, None) => "in the next generation".to_owned(),
    })
}

pub(super) fn retired(channel: &Remembered) -> ChannelView {
    ChannelView {
        name: channel.name.clone(),
        state: "retired".to_owned(),
        holding: channel.holding,
        deliveries: BTreeMap::new(),
        ..ChannelView::default()
    }
}

pub(super) fn preview(
    live: &Live,
    channel: &Channel,
    id: &EntityId,
    preview: Preview,
) -> PreviewView {
    let setup = channel.setup();
    let name = setup.options.name.to_string();
    let missing = preview.view.missing(&setup.options.needs);
    let missing = missing.cloned().collect();
    let (withheld_by, result, rendering, error) = match &preview.verdict {
        PreviewVerdict::Rendering(rendering) => (
            None,
            "rendering",
            Some(RenderingView::of(rendering, &id.key)),
            None,
        ),
        PreviewVerdict::Withheld(by) => (Some(*by), "withheld", None, None),
        PreviewVerdict::Failed(failure) => (None, "failed", None, Some(failure.to_string())),
    };
    let chain = live.loaded.channels.get(name.as_str());
    // Filters after the one that dropped the entity were not run; none is run if a need is missing.
    let run = match withheld_by {
        Some(by) if by >= FILTERED => usize::from(by - FILTERED) + 1,
        Some(DELETED | NEEDS) => 0,
        _ if error.is_some() => 0,
        _ => usize::MAX,
    };
    let verdict = |(at, filter): (usize, &crate::plugin::Binding)| {
        let no = withheld_by.is_some_and(|by| by >= FILTERED && usize::from(by - FILTERED) == at);
        FilterVerdict {
            plugin: filter.component().label().to_owned(),
            verdict: if no { "dropped" } else { "passed" }.to_owned(),
        }
    };
    let filters = chain
        .map(|chain| chain.filters().enumerate().take(run).map(verdict).collect())
        .unwrap_or_default();
    PreviewView {
        channel: name.clone(),
        entity_type: id.entity_type.to_string(),
        key: id.key.to_string(),
        result: match withheld_by {
            Some(by) => format!("{result} by {}", reason(live, &name, by)),
            None => result.to_owned(),
        },
        missing,
        filters,
        plugin: chain
            .and_then(|chain| chain.renderer())
            .map(|renderer| renderer.component().label().to_owned()),
        rendering,
        error,
        ..PreviewView::default()
    }
}

pub(super) fn refused(refused: Refused) -> RefusedView {
    RefusedView {
        entity_type: refused.id.entity_type.to_string(),
        key: refused.id.key.to_string(),
        code: refused.failure.code,
        detail: refused.failure.message,
        sequence: refused.revision.0,
        time: refused.time.into(),
    }
}

/// `encoding` is that of the source.
pub(super) fn quarantined(event: &QuarantinedEvent, encoding: Option<Charset>) -> QuarantineView {
    QuarantineView {
        sequence: event.sequence.0,
        time: event.time.into(),
        first: event.first.into(),
        count: event.count,
        code: event.event.failure.code.clone(),
        detail: event.event.failure.message.clone(),
        plugin: event.event.plugin.clone(),
        unread: event.event.unread,
        body: event.event.whole,
        text: ingest::beginning(&event.event.event, encoding),
        event: EventView::of(&event.event.event),
    }
}

/// How often and for how long a plugin was called.
fn calls(component: &Component, figures: &figures::Snapshot) -> CallsView {
    let (name, version) = (component.name(), component.version());
    let mut calls = figures.calls.iter();
    let calls = calls.find(|calls| *calls.plugin == **name);
    let mut traps = figures.traps.iter();
    let traps = traps.find(|it| *it.plugin == **name && *it.version == *version);
    let millis = |share| Some(calls?.at_most(share)? * 1e3);
    CallsView {
        count: calls.map_or(0, |calls| calls.count),
        p50_ms: millis(0.5),
        p99_ms: millis(0.99),
        faults: traps.map_or(0, |traps| traps.count),
    }
}

pub(super) fn plugin(
    live: &Live,
    component: &Component,
    history: &History,
    figures: &figures::Snapshot,
) -> PluginView {
    let uses = |chain: &crate::plugin::Chain| {
        chain
            .bindings()
            .iter()
            .any(|binding| binding.component().name() == component.name())
    };
    let sources = live
        .loaded
        .sources
        .iter()
        .filter(|(_, chain)| uses(chain))
        .map(|(name, _)| format!("source {name}"));
    let channels = live
        .loaded
        .channels
        .iter()
        .filter(|(_, chain)| uses(chain))
        .map(|(name, _)| format!("channel {name}"));
    let limits = component.limits();
    PluginView {
        name: component.name().to_string(),
        sha256: component.sha256().to_owned(),
        roles: component
            .roles()
            .iter()
            .map(|role| role.name().to_owned())
            .collect(),
        limits: LimitsView {
            time_seconds: limits.time.as_secs_f64(),
            memory_bytes: limits.memory_bytes as u64,
            output_bytes: limits.output_bytes as u64,
            log_bytes: limits.log_bytes as u64,
            strict: limits.strict,
        },
        size_bytes: component.bytes() as u64,
        used_by: sources.chain(channels).collect(),
        differing: component.differing(),
        standing: component.standing().name().to_owned(),
        calls: calls(component, figures),
        since: live
            .plugins_since
            .get(component.name())
            .copied()
            .unwrap_or(live.since)
            .into(),
        last_swap: history.last_swap(component.name()).cloned(),
        last_refused: history.last_refused(component.name()).cloned(),
    }
}
