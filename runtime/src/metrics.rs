//! Every figure that is counted, in one struct.
//!
//! Rooms that count hold cheap handles ([`SourceMetrics`], [`ChannelMetrics`], [`PluginMetrics`]) and touch nothing but atomics
//! on their way. What is a state rather than a count (owed, parked, freshness) is measured when somebody looks: the caller
//! of [`Metrics::render`] brings a [`Snapshot`]. No entity key is ever a label; what leaves the configuration takes its series along
//! (`forget_…`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::model::{Lane, Timestamp};

/// The media type of what [`Metrics::render`] writes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The states of a channel, as `weir_channel_state` names them; exactly one is 1.
pub const CHANNEL_STATES: [&str; 5] = ["flowing", "tripped", "probing", "paused", "retired"];

const EVENT_RESULTS: [&str; 4] = ["accepted", "filtered", "quarantined", "repeated"];
const CHANGE_RESULTS: [&str; 3] = ["committed", "unchanged", "stale"];
const DELIVERY_RESULTS: [&str; 8] = ["delivered", "withdrawn", "suppressed", "withheld", "counted", "parked", "held", "refused"];

/// A request to a target: from a shop next door to one that is cut off at its time limit.
const DELIVERY_BUCKETS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];
/// A batch in a plugin: tens of microseconds when all is well, its time limit when it is not.
const CALL_BUCKETS: [f64; 12] = [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0];
/// A synced write: a good disk syncs in under a millisecond, a bad one in a second.
const COMMIT_BUCKETS: [f64; 11] = [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0];

/// Names and values of labels, in the order in which they are shown.
type Labels = Vec<(&'static str, String)>;
type FloatGauge = Gauge<f64, AtomicU64>;

/// All figures of one Weir.
pub struct Metrics {
    registry: Registry,
    events: Family<Labels, Counter>,
    changes: Family<Labels, Counter>,
    requests: Family<Labels, Counter>,
    deliveries: Family<Labels, Counter>,
    delivery_seconds: Family<Labels, Histogram>,
    call_seconds: Family<Labels, Histogram>,
    traps: Family<Labels, Counter>,
    commit_seconds: Histogram,
    gauges: Gauges,
    /// Label values that came up beside the fixed ones, so that they can be removed with their source or plugin.
    seen: Mutex<Seen>,
    /// Held while gauges are set and text is written: two scrapes at once must not mix.
    scrape: Mutex<()>,
}

#[derive(Default)]
struct Seen {
    /// Statuses answered, by source.
    statuses: BTreeMap<String, BTreeSet<u16>>,
    /// Versions that trapped, by plugin.
    versions: BTreeMap<String, BTreeSet<String>>,
}

/// What is set anew at each scrape.
#[derive(Default)]
struct Gauges {
    last_event: Family<Labels, FloatGauge>,
    quiet_objective: Family<Labels, FloatGauge>,
    quarantined: Family<Labels, Gauge>,
    owed: Family<Labels, Gauge>,
    parked: Family<Labels, Gauge>,
    refused: Family<Labels, Gauge>,
    held: Family<Labels, Gauge>,
    freshness: Family<Labels, FloatGauge>,
    freshness_objective: Family<Labels, FloatGauge>,
    channel_state: Family<Labels, Gauge>,
    plugin_active: Family<Labels, Gauge>,
    store_bytes: Gauge,
    disk_free_bytes: Gauge,
    last_reload_success: Gauge,
}

/// What a source counts. Clones count together.
#[derive(Clone, Debug)]
pub struct SourceMetrics {
    /// Events of which changes were checked and what was left of them written.
    pub accepted: Counter,
    /// Events dropped by a filter or mapped to nothing.
    pub filtered: Counter,
    /// Events kept aside with a reason.
    pub quarantined: Counter,
    /// Events seen before.
    pub repeated: Counter,
    /// Changes written.
    pub committed: Counter,
    /// Changes equal to what was stored.
    pub unchanged: Counter,
    /// Changes older than what was stored.
    pub stale: Counter,
}

/// What a channel counts: how each flight of an entity ended. Clones count together.
#[derive(Clone, Debug)]
pub struct ChannelMetrics {
    /// Taken by the target.
    pub delivered: Counter,
    /// Delivered as deleted.
    pub withdrawn: Counter,
    /// Not sent, because the target certainly holds just this.
    pub suppressed: Counter,
    /// Not for this channel, and not there.
    pub withheld: Counter,
    /// Rendered only (`deliver = false`).
    pub counted: Counter,
    /// Failed attempts, to be retried.
    pub parked: Counter,
    /// Withdrawals held by the guard.
    pub held: Counter,
    /// Refused for good.
    pub refused: Counter,
    /// Seconds a request to the target took.
    pub seconds: Histogram,
}

/// What a plugin counts. Clones count together.
#[derive(Clone, Debug)]
pub struct PluginMetrics {
    /// Seconds a batch took, for all versions of the plugin.
    pub call_seconds: Histogram,
    /// Traps and broken limits of this version.
    pub traps: Counter,
}

/// The states of a running Weir at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Every source.
    pub sources: Vec<SourceFigures>,
    /// Every channel, retired ones as well.
    pub channels: Vec<ChannelFigures>,
    /// Plugins in force: name and the first 12 digits of the SHA-256.
    pub plugins: Vec<(String, String)>,
    /// Bytes of the store on disk.
    pub store_bytes: u64,
    /// Bytes free on that disk.
    pub disk_free_bytes: u64,
    /// Whether the last reload, the start included, took effect.
    pub last_reload_success: bool,
}

/// The state of one source.
#[derive(Clone, Debug, Default)]
pub struct SourceFigures {
    /// Its name.
    pub name: String,
    /// When it last sent an event; none if it has not since the start.
    pub last_event: Option<Timestamp>,
    /// After how long without an event it counts as silent.
    pub quiet: Option<Duration>,
    /// Events in quarantine.
    pub quarantined: u64,
}

/// The state of one channel.
#[derive(Clone, Debug, Default)]
pub struct ChannelFigures {
    /// Its name.
    pub name: String,
    /// One of [`CHANNEL_STATES`].
    pub state: &'static str,
    /// Places ahead in each lane, by [`Lane::index`].
    pub owed: [u64; 3],
    /// Entities that a sweep has still before it; shown as the lane `sweep`.
    pub sweep: u64,
    /// Entities waiting for a retry.
    pub parked: u64,
    /// Entities refused.
    pub refused: u64,
    /// Withdrawals held by the guard.
    pub held: u64,
    /// Age of the oldest change owed; zero when nothing is owed.
    pub freshness: Duration,
    /// What the age should stay under.
    pub freshness_objective: Option<Duration>,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl Metrics {
    /// All figures at zero.
    pub fn new() -> Metrics {
        let mut metrics = Metrics {
            registry: Registry::with_prefix("weir"),
            events: Family::default(),
            changes: Family::default(),
            requests: Family::default(),
            deliveries: Family::default(),
            delivery_seconds: Family::new_with_constructor(|| Histogram::new(DELIVERY_BUCKETS)),
            call_seconds: Family::new_with_constructor(|| Histogram::new(CALL_BUCKETS)),
            traps: Family::default(),
            commit_seconds: Histogram::new(COMMIT_BUCKETS),
            gauges: Gauges::default(),
            seen: Mutex::default(),
            scrape: Mutex::default(),
        };
        metrics.register();
        metrics
    }

    /// The counters of a source.
    pub fn source(&self, name: &str) -> SourceMetrics {
        let event = |result: &str| self.events.get_or_create_owned(&source_result(name, result));
        let change = |result: &str| self.changes.get_or_create_owned(&source_result(name, result));
        let [accepted, filtered, quarantined, repeated] = EVENT_RESULTS.map(event);
        let [committed, unchanged, stale] = CHANGE_RESULTS.map(change);
        SourceMetrics { accepted, filtered, quarantined, repeated, committed, unchanged, stale }
    }

    /// Counts a request of a configured source by the status it was answered with. Names that come from a request and are not
    /// configured must not be given: each would be a series of its own.
    pub fn ingest_request(&self, source: &str, status: u16) {
        let labels = source_status(source, status);
        if let Some(counter) = self.requests.get(&labels) {
            counter.inc();
            return;
        }
        lock(&self.seen).statuses.entry(source.to_owned()).or_default().insert(status);
        self.requests.get_or_create_owned(&labels).inc();
    }

    /// The counters of a channel.
    pub fn channel(&self, name: &str) -> ChannelMetrics {
        let [delivered, withdrawn, suppressed, withheld, counted, parked, held, refused] =
            DELIVERY_RESULTS.map(|result| self.deliveries.get_or_create_owned(&channel_result(name, result)));
        let seconds = self.delivery_seconds.get_or_create_owned(&channel(name));
        ChannelMetrics { delivered, withdrawn, suppressed, withheld, counted, parked, held, refused, seconds }
    }

    /// The counters of one version of a plugin: the first 12 digits of its SHA-256.
    pub fn plugin(&self, name: &str, version: &str) -> PluginMetrics {
        lock(&self.seen).versions.entry(name.to_owned()).or_default().insert(version.to_owned());
        let call_seconds = self.call_seconds.get_or_create_owned(&plugin(name));
        PluginMetrics { call_seconds, traps: self.traps.get_or_create_owned(&plugin_version(name, version)) }
    }

    /// Seconds a synced write of the store took.
    pub fn commit_seconds(&self) -> Histogram {
        self.commit_seconds.clone()
    }

    /// Removes the series of a source that has left the configuration. Handles that are still held count unseen.
    pub fn forget_source(&self, name: &str) {
        for result in EVENT_RESULTS {
            self.events.remove(&source_result(name, result));
        }
        for result in CHANGE_RESULTS {
            self.changes.remove(&source_result(name, result));
        }
        for status in lock(&self.seen).statuses.remove(name).unwrap_or_default() {
            self.requests.remove(&source_status(name, status));
        }
    }

    /// Removes the series of a channel that is forgotten.
    pub fn forget_channel(&self, name: &str) {
        for result in DELIVERY_RESULTS {
            self.deliveries.remove(&channel_result(name, result));
        }
        self.delivery_seconds.remove(&channel(name));
    }

    /// Removes the series of a plugin that has left the configuration, in all its versions.
    pub fn forget_plugin(&self, name: &str) {
        self.call_seconds.remove(&plugin(name));
        for version in lock(&self.seen).versions.remove(name).unwrap_or_default() {
            self.traps.remove(&plugin_version(name, &version));
        }
    }

    /// Everything as text, of the type [`CONTENT_TYPE`].
    pub fn render(&self, snapshot: &Snapshot) -> String {
        let _one_at_a_time = lock(&self.scrape);
        self.gauges.set(snapshot);
        let mut text = String::new();
        if let Err(error) = encode(&mut text, &self.registry) {
            // Writing to a string fails only if a metric cannot be written at all, which the tests would have met.
            tracing::error!(%error, "metrics could not be written");
        }
        text
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("events", "Events by what became of them", self.events.clone());
        registry.register("changes", "Changes by what became of them", self.changes.clone());
        registry.register("ingest_requests", "Requests of a source by status", self.requests.clone());
        registry.register("deliveries", "Flights of an entity to a channel by how they ended", self.deliveries.clone());
        registry.register("delivery_seconds", "Time a request to the target took", self.delivery_seconds.clone());
        registry.register("plugin_call_seconds", "Time a batch took in a plugin", self.call_seconds.clone());
        registry.register("plugin_traps", "Traps and broken limits of a plugin", self.traps.clone());
        registry.register("commit_seconds", "Time a synced write took", self.commit_seconds.clone());

        let gauges = &self.gauges;
        registry.register("source_last_event_timestamp_seconds", "When the source last sent an event", gauges.last_event.clone());
        registry.register("source_quiet_objective_seconds", "After how long the source counts as silent", gauges.quiet_objective.clone());
        registry.register("quarantined", "Events in quarantine", gauges.quarantined.clone());
        registry.register("owed", "Places ahead of a channel, an upper bound of the entities owed", gauges.owed.clone());
        registry.register("parked", "Entities that wait for a retry", gauges.parked.clone());
        registry.register("refused", "Entities that the target will not take as they are", gauges.refused.clone());
        registry.register("withdrawals_held", "Withdrawals that wait for a confirmation", gauges.held.clone());
        registry.register("freshness_seconds", "Age of the oldest change owed", gauges.freshness.clone());
        registry.register("freshness_objective_seconds", "What the age should stay under", gauges.freshness_objective.clone());
        registry.register("channel_state", "1 for the state that the channel is in", gauges.channel_state.clone());
        registry.register("plugin_active_info", "The version of a plugin in force", gauges.plugin_active.clone());
        registry.register("store_bytes", "Size of the store on disk", gauges.store_bytes.clone());
        registry.register("disk_free_bytes", "Free space on the disk of the store", gauges.disk_free_bytes.clone());
        registry.register("config_last_reload_success", "1 if the last reload took effect", gauges.last_reload_success.clone());

        let build = Family::<Labels, Gauge>::default();
        build.get_or_create(&vec![("version", env!("CARGO_PKG_VERSION").to_owned())]).set(1);
        registry.register("build_info", "The version of Weir", build);
    }
}

impl Gauges {
    /// Shows `snapshot` and nothing else: what is not in it any more is not shown any more.
    fn set(&self, snapshot: &Snapshot) {
        for family in [&self.quarantined, &self.owed, &self.parked, &self.refused, &self.held, &self.channel_state, &self.plugin_active] {
            family.clear();
        }
        for family in [&self.last_event, &self.quiet_objective, &self.freshness, &self.freshness_objective] {
            family.clear();
        }
        snapshot.sources.iter().for_each(|figures| self.set_source(figures));
        snapshot.channels.iter().for_each(|figures| self.set_channel(figures));
        for (name, version) in &snapshot.plugins {
            self.plugin_active.get_or_create(&plugin_version(name, version)).set(1);
        }
        self.store_bytes.set(count(snapshot.store_bytes));
        self.disk_free_bytes.set(count(snapshot.disk_free_bytes));
        self.last_reload_success.set(i64::from(snapshot.last_reload_success));
    }

    fn set_source(&self, figures: &SourceFigures) {
        let labels = vec![("source", figures.name.clone())];
        if let Some(Timestamp(ms)) = figures.last_event {
            self.last_event.get_or_create(&labels).set(ms as f64 / 1000.0);
        }
        if let Some(quiet) = figures.quiet {
            self.quiet_objective.get_or_create(&labels).set(quiet.as_secs_f64());
        }
        self.quarantined.get_or_create(&labels).set(count(figures.quarantined));
    }

    fn set_channel(&self, figures: &ChannelFigures) {
        let labels = channel(&figures.name);
        let lanes = Lane::ALL.map(|lane| (lane.name(), figures.owed[lane.index()]));
        for (lane, owed) in lanes.into_iter().chain([("sweep", figures.sweep)]) {
            self.owed.get_or_create(&vec![("channel", figures.name.clone()), ("lane", lane.to_owned())]).set(count(owed));
        }
        for state in CHANNEL_STATES {
            let labels = vec![("channel", figures.name.clone()), ("state", state.to_owned())];
            self.channel_state.get_or_create(&labels).set(i64::from(state == figures.state));
        }
        self.parked.get_or_create(&labels).set(count(figures.parked));
        self.refused.get_or_create(&labels).set(count(figures.refused));
        self.held.get_or_create(&labels).set(count(figures.held));
        self.freshness.get_or_create(&labels).set(figures.freshness.as_secs_f64());
        if let Some(objective) = figures.freshness_objective {
            self.freshness_objective.get_or_create(&labels).set(objective.as_secs_f64());
        }
    }
}

fn source_result(source: &str, result: &str) -> Labels {
    vec![("source", source.to_owned()), ("result", result.to_owned())]
}

fn source_status(source: &str, status: u16) -> Labels {
    vec![("source", source.to_owned()), ("status", status.to_string())]
}

fn channel(channel: &str) -> Labels {
    vec![("channel", channel.to_owned())]
}

fn channel_result(channel: &str, result: &str) -> Labels {
    vec![("channel", channel.to_owned()), ("result", result.to_owned())]
}

fn plugin(name: &str) -> Labels {
    vec![("plugin", name.to_owned())]
}

fn plugin_version(name: &str, version: &str) -> Labels {
    vec![("plugin", name.to_owned()), ("version", version.to_owned())]
}

/// Gauges are signed; no count of ours comes near the bound.
fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A panic while a lock was held leaves figures, not invariants, behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy() -> (Metrics, Snapshot) {
        let metrics = Metrics::new();
        metrics.source("erp").accepted.inc_by(3);
        metrics.source("erp").stale.inc();
        metrics.ingest_request("erp", 202);
        metrics.ingest_request("erp", 202);
        let storefront = metrics.channel("storefront.de");
        storefront.delivered.inc();
        storefront.seconds.observe(0.2);
        let mapper = metrics.plugin("erp", "3fa9c1b2d0e4");
        mapper.traps.inc();
        mapper.call_seconds.observe(0.000_2);
        metrics.commit_seconds().observe(0.001);
        let snapshot = Snapshot {
            sources: vec![SourceFigures {
                name: "erp".into(),
                last_event: Some(Timestamp(1_500)),
                quiet: Some(Duration::from_secs(900)),
                quarantined: 2,
            }],
            channels: vec![ChannelFigures {
                name: "storefront.de".into(),
                state: "tripped",
                owed: [5, 6, 7],
                freshness: Duration::from_millis(1500),
                freshness_objective: Some(Duration::from_secs(60)),
                ..ChannelFigures::default()
            }],
            plugins: vec![("erp".into(), "3fa9c1b2d0e4".into())],
            store_bytes: 4096,
            disk_free_bytes: 1 << 40,
            last_reload_success: true,
        };
        (metrics, snapshot)
    }

    #[test]
    fn every_figure_of_the_contract_is_there_under_its_name() {
        let (metrics, snapshot) = busy();
        let text = metrics.render(&snapshot);
        for line in [
            r#"weir_events_total{source="erp",result="accepted"} 3"#,
            r#"weir_changes_total{source="erp",result="stale"} 1"#,
            r#"weir_ingest_requests_total{source="erp",status="202"} 2"#,
            r#"weir_source_last_event_timestamp_seconds{source="erp"} 1.5"#,
            r#"weir_source_quiet_objective_seconds{source="erp"} 900.0"#,
            r#"weir_deliveries_total{channel="storefront.de",result="delivered"} 1"#,
            r#"weir_owed{channel="storefront.de",lane="urgent"} 5"#,
            r#"weir_owed{channel="storefront.de",lane="sweep"} 0"#,
            r#"weir_parked{channel="storefront.de"} 0"#,
            r#"weir_refused{channel="storefront.de"} 0"#,
            r#"weir_withdrawals_held{channel="storefront.de"} 0"#,
            r#"weir_quarantined{source="erp"} 2"#,
            r#"weir_freshness_seconds{channel="storefront.de"} 1.5"#,
            r#"weir_freshness_objective_seconds{channel="storefront.de"} 60.0"#,
            r#"weir_channel_state{channel="storefront.de",state="tripped"} 1"#,
            r#"weir_channel_state{channel="storefront.de",state="flowing"} 0"#,
            r#"weir_delivery_seconds_count{channel="storefront.de"} 1"#,
            r#"weir_plugin_call_seconds_count{plugin="erp"} 1"#,
            r#"weir_plugin_traps_total{plugin="erp",version="3fa9c1b2d0e4"} 1"#,
            r#"weir_plugin_active_info{plugin="erp",version="3fa9c1b2d0e4"} 1"#,
            "weir_commit_seconds_count 1",
            "weir_store_bytes 4096",
            "weir_disk_free_bytes 1099511627776",
            "weir_config_last_reload_success 1",
            concat!(r#"weir_build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""} 1"#),
        ] {
            assert!(text.lines().any(|found| found == line), "no line {line} in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn what_leaves_the_configuration_takes_its_series_along() {
        let (metrics, _) = busy();
        metrics.forget_source("erp");
        metrics.forget_channel("storefront.de");
        metrics.forget_plugin("erp");
        let text = metrics.render(&Snapshot::default());
        assert!(!text.contains("erp"), "{text}");
        assert!(!text.contains("storefront"), "{text}");
    }

    #[test]
    fn handles_taken_twice_count_together() {
        let metrics = Metrics::new();
        metrics.channel("a").parked.inc();
        metrics.channel("a").parked.inc();
        assert_eq!(metrics.channel("a").parked.get(), 2);
    }
}
