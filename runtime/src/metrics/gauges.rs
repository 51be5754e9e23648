//! Figures that are states: measured when somebody looks, and gone from the text when what they speak of is gone.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Labels, channel, plugin_version};
use crate::model::{Lane, Timestamp};

/// The states of a channel, as `weir_channel_state` names them; exactly one is 1.
pub const CHANNEL_STATES: [&str; 5] = ["flowing", "tripped", "probing", "paused", "retired"];

type FloatGauge = Gauge<f64, AtomicU64>;

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

/// What is set anew at each scrape.
#[derive(Default)]
pub(super) struct Gauges {
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

impl Gauges {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("source_last_event_timestamp_seconds", "When the source last sent an event", self.last_event.clone());
        registry.register("source_quiet_objective_seconds", "After how long the source counts as silent", self.quiet_objective.clone());
        registry.register("quarantined", "Events in quarantine", self.quarantined.clone());
        registry.register("owed", "Places ahead of a channel, an upper bound of the entities owed", self.owed.clone());
        registry.register("parked", "Entities that wait for a retry", self.parked.clone());
        registry.register("refused", "Entities that the target will not take as they are", self.refused.clone());
        registry.register("withdrawals_held", "Withdrawals that wait for a confirmation", self.held.clone());
        registry.register("freshness_seconds", "Age of the oldest change owed", self.freshness.clone());
        registry.register("freshness_objective_seconds", "What the age should stay under", self.freshness_objective.clone());
        registry.register("channel_state", "1 for the state that the channel is in", self.channel_state.clone());
        registry.register("plugin_active_info", "The version of a plugin in force", self.plugin_active.clone());
        registry.register("store_bytes", "Size of the store on disk", self.store_bytes.clone());
        registry.register("disk_free_bytes", "Free space on the disk of the store", self.disk_free_bytes.clone());
        registry.register("config_last_reload_success", "1 if the last reload took effect", self.last_reload_success.clone());
    }

    /// Shows `snapshot` and nothing else: what is not in it any more is not shown any more.
    pub(super) fn set(&self, snapshot: &Snapshot) {
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

/// Gauges are signed; no count of ours comes near the bound.
fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
