//! Renders all metrics at one moment as text, in the format that a scraper wants ([`Format`]).
//!
//! Nothing is counted here. Each module keeps its own counts; the application gathers them in a
//! [`Snapshot`] of plain data, and [`render`] turns it into text, always the same text for the same
//! snapshot. The text contains only what is in the snapshot, so the series of a
//! source, channel or plugin end when it is removed. Labels are names from the configuration and
//! words from fixed lists, never keys of entities.

mod format;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::iter::repeat;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, NoLabelSet, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

pub use self::format::Format;

/// The states of a channel, as `weir_channel_state` names them; the current state is 1, the others
/// are 0.
pub const CHANNEL_STATES: [&str; 7] = [
    "flowing", "tripped", "probing", "ahead", "paused", "stopped", "retired",
];

/// The lanes of [`ChannelFigures::owed`], highest first.
const LANES: [&str; 3] = ["urgent", "normal", "bulk"];

/// The figures of a running Weir at one moment. Counts are since its start. Each name occurs once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Every source.
    pub sources: Vec<SourceFigures>,
    /// Every channel, retired ones as well.
    pub channels: Vec<ChannelFigures>,
    /// Every plugin in use.
    pub plugins: Vec<PluginFigures>,
    /// Plugin, the first 12 digits of its SHA-256, and how often that version trapped or broke a
    /// limit.
    pub traps: Vec<(String, String, u64)>,
    /// Plugin, version, and how many of its sampled calls returned something else in a new instance.
    pub differing: Vec<(String, String, u64)>,
    /// Memory of the idle instances of all plugins, in bytes.
    pub plugin_idle_bytes: u64,
    /// How long durable writes of commits took.
    pub commit: Buckets,
    /// Different names that the store knows.
    pub store_names: u64,
    /// Bytes of the store on disk.
    pub store_bytes: u64,
    /// Bytes free on that disk.
    pub disk_free_bytes: u64,
    /// Spans by what became of them; empty if none are exported and none were.
    pub trace_spans: Vec<(&'static str, u64)>,
    /// Whether the last reload, the start included, took effect.
    pub last_reload_success: bool,
    /// When the certificate of the listeners ends, in milliseconds since 1970; `None` without one.
    pub certificate_ends_ms: Option<u64>,
    /// Notices by result: sent, retried, dropped.
    pub notifications: Vec<(&'static str, u64)>,
}

/// The figures of one source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceFigures {
    /// Its name.
    pub name: String,
    /// Events by result: accepted, filtered, quarantined, repeated, malformed.
    pub events: Vec<(&'static str, u64)>,
    /// Changes by result: committed, unchanged, stale.
    pub changes: Vec<(&'static str, u64)>,
    /// Requests by the HTTP status they were answered with.
    pub requests: Vec<(u16, u64)>,
    /// When it last sent an event, in milliseconds since 1970; `None` if it has sent none since the
    /// start.
    pub last_event_ms: Option<u64>,
    /// Time without an event after which it counts as silent.
    pub quiet: Option<Duration>,
    /// Whether it is silent; `None` if it never counts as silent.
    pub silent: Option<bool>,
    /// Events in quarantine.
    pub quarantined: u64,
}

/// The figures of one channel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChannelFigures {
    /// Its name.
    pub name: String,
    /// One of [`CHANNEL_STATES`].
    pub state: &'static str,
    /// Flights of entities by how they ended: delivered, withdrawn, suppressed, withheld, counted,
    /// parked, held, refused.
    pub deliveries: Vec<(&'static str, u64)>,
    /// How long attempts took.
    pub seconds: Buckets,
    /// Places ahead in the lanes urgent, normal and bulk.
    pub owed: [u64; 3],
    /// Entities that a sweep has yet to visit; shown as the lane `sweep`.
    pub sweep: u64,
    /// Entities waiting for a retry.
    pub parked: u64,
    /// Entities refused.
    pub refused: u64,
    /// Withdrawals held by the guard.
    pub held: u64,
    /// Entities that wait on purpose, by reason: until they are quiet, and for the hours of their lane.
    pub waiting: [u64; 2],
    /// Age of the oldest change owed; zero when nothing is owed.
    pub freshness: Duration,
    /// The same without the time in which the change waited on purpose.
    pub overdue: Duration,
    /// The objective for that age.
    pub freshness_objective: Option<Duration>,
    /// When the oldest change owed was committed, or since when something waits to be sent once more, in
    /// milliseconds since 1970; `None` if nothing is owed.
    pub oldest_owed_ms: Option<u64>,
    /// For how long it was late since the start; `None` without an objective.
    pub late: Option<Duration>,
    /// The last completed drift check; `None` if there was none.
    pub drift: Option<DriftFigures>,
    /// Whether the next generation of its feed is held; `None` if its target is no feed.
    pub feed_held: Option<bool>,
}

/// The figures of a drift check.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DriftFigures {
    /// When it ended, in milliseconds since 1970.
    pub ended_ms: u64,
    /// Entities that were compared.
    pub compared: u64,
    /// Differences by kind.
    pub differences: [(&'static str, u64); 4],
}

/// The figures of one plugin.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PluginFigures {
    /// Its name.
    pub name: String,
    /// The version in use: the first 12 digits of its SHA-256.
    pub version: String,
    /// Lines of its log that were dropped, because it had used up its quota.
    pub log_dropped: u64,
    /// Whether this is an earlier version than its file has, because that one was refused.
    pub held_back: bool,
    /// How long its calls took, those of earlier versions included. A call is a batch.
    pub calls: Buckets,
}

/// A histogram of durations. Without bounds, as by default, nothing was measured and nothing is
/// shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Buckets {
    /// The upper bound of each bucket, in seconds, rising; one more bucket takes the rest.
    pub bounds: &'static [f64],
    /// The count of each bucket alone (not cumulative); there is one more than bounds.
    pub counts: Vec<u64>,
    /// The sum of all durations, in seconds.
    pub sum: f64,
}

impl Buckets {
    /// The histogram of a module's counter.
    pub fn new(bounds: &'static [f64], counts: impl Into<Vec<u64>>, sum: f64) -> Buckets {
        let counts = counts.into();
        debug_assert_eq!(
            counts.len(),
            bounds.len() + 1,
            "the last bucket has no bound"
        );
        Buckets {
            bounds,
            counts,
            sum,
        }
    }
}

/// The snapshot as text.
///
/// # Errors
/// Writing to a string should not fail.
pub fn render(snapshot: &Arc<Snapshot>, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("weir");
    registry.register_collector(Box::new(snapshot.clone()));
    let mut written = String::new();
    text::encode(&mut written, &registry)?;
    Ok(match format {
        Format::OpenMetrics => written,
        Format::Prometheus => format::prometheus(&written),
    })
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let page = &mut Page(encoder);
        self.write_sources(page)?;
        self.write_channels(page)?;
        self.write_plugins(page)?;
        page.histograms(
            "commit_seconds",
            "Time a durable write of commits took",
            [([], &self.commit)],
        )?;
        page.gauges(
            "store_names",
            "Different names of facets, owners, types and sources, at most 65536",
            [([], self.store_names)],
        )?;
        page.gauges(
            "store_bytes",
            "Size of the store on disk",
            [([], self.store_bytes)],
        )?;
        page.gauges(
            "disk_free_bytes",
            "Free space on the disk of the store",
            [([], self.disk_free_bytes)],
        )?;
        let spans = self.trace_spans.iter();
        let spans = spans.map(|(result, count)| ([("result", (*result).into())], *count));
        page.counters(
            "trace_spans",
            "Spans that were to be exported to the collector of traces, by what became of them",
            spans,
        )?;
        let success = u64::from(self.last_reload_success);
        page.gauges(
            "config_last_reload_success",
            "1 if the last reload took effect",
            [([], success)],
        )?;
        let ends = self.certificate_ends_ms.map(|ms| ([], ms / 1000));
        page.gauges(
            "certificate_end_timestamp_seconds",
            "When the certificate of the listeners ends, in seconds since 1970",
            ends,
        )?;
        let notifications = self.notifications.iter();
        page.counters(
            "notifications",
            "Notices to the receivers in the configuration by result; retried are attempts that failed",
            notifications.map(|(result, count)| ([("result", (*result).into())], *count)),
        )?;
        page.infos(
            "build",
            "The version of Weir",
            [[("version", env!("CARGO_PKG_VERSION").into())]],
        )
    }
}

impl Snapshot {
    fn write_sources(&self, page: &mut Page<'_>) -> fmt::Result {
        let sources = || self.sources.iter();
        let events = sources().flat_map(|of| by_result(source(of), &of.events));
        page.counters("events", "Events by result", events)?;
        let changes = sources().flat_map(|of| by_result(source(of), &of.changes));
        page.counters("changes", "Changes by result", changes)?;
        let status = |status: u16| ("status", status.to_string().into());
        let requests = sources().flat_map(|of| {
            of.requests
                .iter()
                .map(move |(answered, count)| ([source(of), status(*answered)], *count))
        });
        page.counters(
            "ingest_requests",
            "Requests of a source by response status",
            requests,
        )?;
        let last_event =
            sources().filter_map(|of| Some(([source(of)], of.last_event_ms? as f64 / 1000.0)));
        page.gauges(
            "source_last_event_timestamp_seconds",
            "When the source last sent an event",
            last_event,
        )?;
        let quiet = sources().filter_map(|of| Some(([source(of)], of.quiet?.as_secs_f64())));
        page.gauges(
            "source_quiet_objective_seconds",
            "Time without an event after which the source counts as silent",
            quiet,
        )?;
        let silent = sources().filter_map(|of| Some(([source(of)], u64::from(of.silent?))));
        page.gauges(
            "source_silent",
            "1 if the source has sent no event for longer than its objective",
            silent,
        )?;
        page.gauges(
            "quarantined",
            "Events in quarantine",
            sources().map(|of| ([source(of)], of.quarantined)),
        )
    }

    fn write_channels(&self, page: &mut Page<'_>) -> fmt::Result {
        let channels = || self.channels.iter();
        let deliveries = channels().flat_map(|of| by_result(channel(of), &of.deliveries));
        page.counters(
            "deliveries",
            "Flights of entities to a channel by result",
            deliveries,
        )?;
        page.histograms(
            "delivery_seconds",
            "Duration of delivery attempts",
            channels().map(|of| ([channel(of)], &of.seconds)),
        )?;
        let lanes =
            |of: &ChannelFigures| LANES.into_iter().zip(of.owed).chain([("sweep", of.sweep)]);
        let owed = channels().flat_map(|of| {
            lanes(of).map(move |(lane, owed)| ([channel(of), ("lane", lane.into())], owed))
        });
        page.gauges(
            "owed",
            "Places ahead of a channel, an upper bound of the entities owed",
            owed,
        )?;
        page.gauges(
            "parked",
            "Entities waiting for a retry",
            channels().map(|of| ([channel(of)], of.parked)),
        )?;
        page.gauges(
            "refused",
            "Entities that the target refused as they are (dead letters)",
            channels().map(|of| ([channel(of)], of.refused)),
        )?;
        page.gauges(
            "withdrawals_held",
            "Withdrawals waiting for a confirmation",
            channels().map(|of| ([channel(of)], of.held)),
        )?;
        let feed_held = channels().filter_map(|of| Some(([channel(of)], u64::from(of.feed_held?))));
        page.gauges(
            "feed_held",
            "1 if the next generation of the feed waits for a confirmation, because it has far fewer records",
            feed_held,
        )?;
        let waiting = channels().flat_map(|of| {
            let by_reason = ["debounce", "hours"].into_iter().zip(of.waiting);
            by_reason.map(move |(reason, count)| ([channel(of), ("reason", reason.into())], count))
        });
        page.gauges(
            "waiting",
            "Entities that wait on purpose, until they are quiet or for the hours of their lane",
            waiting,
        )?;
        let freshness = channels().map(|of| ([channel(of)], of.freshness.as_secs_f64()));
        page.gauges(
            "freshness_seconds",
            "Age of the oldest change owed",
            freshness,
        )?;
        let overdue = channels().map(|of| ([channel(of)], of.overdue.as_secs_f64()));
        page.gauges(
            "overdue_seconds",
            "Age of the oldest change owed, without the time in which it waited on purpose; late above the objective",
            overdue,
        )?;
        let objective = channels()
            .filter_map(|of| Some(([channel(of)], of.freshness_objective?.as_secs_f64())));
        page.gauges(
            "freshness_objective_seconds",
            "Objective for the age of the oldest change owed",
            objective,
        )?;
        let oldest =
            channels().filter_map(|of| Some(([channel(of)], of.oldest_owed_ms? as f64 / 1000.0)));
        page.gauges(
            "oldest_owed_timestamp_seconds",
            "When the oldest change owed was committed",
            oldest,
        )?;
        let late = channels().filter_map(|of| Some(([channel(of)], of.late?.as_secs_f64())));
        page.counters(
            "late_seconds",
            "Time during which the oldest change owed was overdue for longer than the objective",
            late,
        )?;
        let drifts = || channels().filter_map(|of| Some((of, of.drift.as_ref()?)));
        page.gauges(
            "drift_last_check_timestamp_seconds",
            "When the last drift check of the target ended",
            drifts().map(|(of, drift)| ([channel(of)], drift.ended_ms as f64 / 1000.0)),
        )?;
        page.gauges(
            "drift_compared",
            "Entities that the last drift check compared",
            drifts().map(|(of, drift)| ([channel(of)], drift.compared)),
        )?;
        let kinds = drifts().flat_map(|(of, drift)| {
            let each = drift.differences.into_iter();
            each.map(move |(kind, count)| ([channel(of), ("kind", kind.into())], count))
        });
        page.gauges(
            "drift",
            "Differences that the last drift check found between what the target holds and what it should hold",
            kinds,
        )?;
        let is_in = |of: &ChannelFigures, state: &str| u64::from(of.state == state);
        let states = channels().flat_map(|of| {
            CHANNEL_STATES.map(|state| ([channel(of), ("state", state.into())], is_in(of, state)))
        });
        page.gauges(
            "channel_state",
            "1 for the current state of the channel, 0 for the others",
            states,
        )
    }

    fn write_plugins(&self, page: &mut Page<'_>) -> fmt::Result {
        let label = |name: &'_ str| ("plugin", Cow::Owned(name.to_owned()));
        let calls = self.plugins.iter().map(|of| ([label(&of.name)], &of.calls));
        page.histograms(
            "plugin_call_seconds",
            "Duration of a plugin's calls, each for one batch",
            calls,
        )?;
        let traps = self
            .traps
            .iter()
            .map(|(name, version, count)| ([label(name), ("version", version.into())], *count));
        page.counters(
            "plugin_traps",
            "Traps, broken limits, exceptions and unusable results of a version of a plugin",
            traps,
        )?;
        let differing = self
            .differing
            .iter()
            .map(|(name, version, count)| ([label(name), ("version", version.into())], *count));
        page.counters(
            "plugin_differing",
            "Sampled calls of a version of a plugin that returned something else in a new instance",
            differing,
        )?;
        page.gauges(
            "plugin_idle_bytes",
            "Memory of the idle instances of all plugins",
            (!self.plugins.is_empty()).then_some(([], self.plugin_idle_bytes)),
        )?;
        let dropped = self.plugins.iter();
        page.counters(
            "plugin_log_lines_dropped",
            "Lines of a plugin's log beyond its quota of a minute",
            dropped.map(|of| ([label(&of.name)], of.log_dropped)),
        )?;
        let held_back = self.plugins.iter();
        page.gauges(
            "plugin_held_back",
            "1 if the version in use is an earlier one, because the file of the plugin was refused",
            held_back.map(|of| ([label(&of.name)], u64::from(of.held_back))),
        )?;
        let active = self
            .plugins
            .iter()
            .map(|of| [label(&of.name), ("version", of.version.as_str().into())]);
        page.infos(
            "plugin_active",
            "The version of a plugin that is in use",
            active,
        )
    }
}

/// Name and value of a label.
type Label<'a> = (&'static str, Cow<'a, str>);

fn source(figures: &SourceFigures) -> Label<'_> {
    ("source", figures.name.as_str().into())
}

fn channel(figures: &ChannelFigures) -> Label<'_> {
    ("channel", figures.name.as_str().into())
}

fn by_result<'a>(
    of: Label<'a>,
    counts: &'a [(&'static str, u64)],
) -> impl Iterator<Item = ([Label<'a>; 2], u64)> {
    counts
        .iter()
        .map(move |(result, count)| ([of.clone(), ("result", (*result).into())], *count))
}

/// The text being written. It has one method per kind of metric, called once per name with all its
/// series.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn counters<'l, const N: usize, V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = ([Label<'l>; N], V)>,
    ) -> fmt::Result {
        let write = |metric: &mut MetricEncoder<'_>, count| {
            metric.encode_counter::<NoLabelSet, V, u64>(&count, None)
        };
        self.family(name, help, MetricType::Counter, series, write)
    }

    fn gauges<'l, const N: usize, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = ([Label<'l>; N], V)>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Gauge, series, |metric, value| {
            metric.encode_gauge(&value)
        })
    }

    fn histograms<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = ([Label<'l>; N], &'l Buckets)>,
    ) -> fmt::Result {
        let measured = series
            .into_iter()
            .filter(|(_, buckets)| !buckets.bounds.is_empty());
        self.family(
            name,
            help,
            MetricType::Histogram,
            measured,
            |metric, buckets| {
                let bounds = buckets.bounds.iter().copied().chain([f64::INFINITY]);
                let shown: Vec<(f64, u64)> = bounds
                    .zip(buckets.counts.iter().copied().chain(repeat(0)))
                    .collect();
                // The count is the sum of the buckets shown, because the last bucket must equal it.
                let count = shown.iter().map(|(_, count)| count).sum();
                metric.encode_histogram::<NoLabelSet>(buckets.sum, count, &shown, None)
            },
        )
    }

    fn infos<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = [Label<'l>; N]>,
    ) -> fmt::Result {
        let series = series.into_iter().map(|labels| ([], labels));
        self.family(name, help, MetricType::Info, series, |metric, labels| {
            metric.encode_info(&labels)
        })
    }

    fn family<'l, const N: usize, V>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        series: impl IntoIterator<Item = ([Label<'l>; N], V)>,
        write: impl Fn(&mut MetricEncoder<'_>, V) -> fmt::Result,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in series {
            // An empty set of labels would be written as `{}`, and would add a comma before `le`.
            if labels.is_empty() {
                write(&mut metric, value)?
            } else {
                write(&mut metric.encode_family(&labels)?, value)?
            }
        }
        Ok(())
    }
}
