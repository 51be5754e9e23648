//! Every figure that is counted, in one struct.
//!
//! Rooms that count hold cheap handles ([`SourceMetrics`], [`ChannelMetrics`], [`PluginMetrics`]) and touch nothing but atomics
//! on their way. What is a state rather than a count (owed, parked, freshness) is measured when somebody looks: the caller
//! of [`Metrics::render`] brings a [`Snapshot`]. No entity key is ever a label; what leaves the configuration takes its series along
//! (`forget_…`).

mod gauges;
mod rate;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use self::gauges::Gauges;

pub use self::gauges::{CHANNEL_STATES, ChannelFigures, Snapshot, SourceFigures};
pub use self::rate::Rate;

/// The media type of what [`Metrics::render`] writes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

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

        self.gauges.register(registry);

        let build = Family::<Labels, Gauge>::default();
        build.get_or_create(&vec![("version", env!("CARGO_PKG_VERSION").to_owned())]).set(1);
        registry.register("build_info", "The version of Weir", build);
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

/// A panic while a lock was held leaves figures, not invariants, behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::Timestamp;

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
