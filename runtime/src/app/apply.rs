//! The configuration in use, and how the next plan replaces it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use xxhash_rust::xxh3::xxh3_64;

use super::exporter::Collector;
use super::intake::HttpIntake;
use super::load::{Loaded, Maps, Renders};
use super::memories::{
    TargetMemory, foreign_of, mark_of, note_of, note_of_credentials, note_of_latencies,
    note_of_pace,
};
use super::rollouts::TakenOver;
use super::sweeps::{Counts, counts};
use super::{Inner, join_all, now};
use crate::dispatch::{self, Channel, Quota, Setup, TargetHandle};
use crate::failpoint;
use crate::ingest::{Activity, Mapping, Source};
use crate::model::Timestamp;
use crate::plan::{self, Plan};
use crate::plugin::ChannelChain;
use crate::store::{self, Limits, Subscription};
use crate::tap::Side;
use crate::targets::{Mark, Opening};

/// Maximum number of quarantined events of a source. While it is reached, requests with failing
/// events get 503.
const QUARANTINE_MAX: u64 = 100_000;
/// The configuration in use, with its sources, channels and targets.
pub(super) struct Live {
    pub(super) plan: Arc<Plan>,
    pub(super) since: Timestamp,
    /// When Weir was started.
    pub(super) started: Timestamp,
    pub(super) loaded: Loaded,
    pub(super) sources: BTreeMap<Arc<str>, Arc<HttpIntake>>,
    pub(super) channels: BTreeMap<Arc<str>, Arc<Channel>>,
    pub(super) targets: BTreeMap<Arc<str>, Arc<TargetHandle>>,
    /// When each plugin's version took over.
    pub(super) plugins_since: BTreeMap<Arc<str>, Timestamp>,
}

impl Live {
    pub(super) fn empty(plan: Plan, since: Timestamp) -> Live {
        Live {
            plan: Arc::new(plan),
            since,
            started: since,
            loaded: Loaded::default(),
            sources: BTreeMap::new(),
            channels: BTreeMap::new(),
            targets: BTreeMap::new(),
            plugins_since: BTreeMap::new(),
        }
    }
}

/// A plan could not be applied, or not completely.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub(super) struct Halted {
    /// Sources use the new plan already, and some channels may.
    pub(super) partly_applied: bool,
    error: store::Error,
}

impl Halted {
    fn before(error: store::Error) -> Halted {
        Halted {
            partly_applied: false,
            error,
        }
    }

    fn midway(error: store::Error) -> Halted {
        Halted {
            partly_applied: true,
            error,
        }
    }
}

impl Inner {
    /// Applies a plan. Sources change over at one point; then each channel ends its flights with
    /// the old chain and continues with the new one.
    ///
    /// # Errors
    /// The store's error, or a target that cannot be prepared, and whether sources used the new
    /// plan already. They are not changed back.
    pub(super) async fn take_over(&self, plan: Plan, loaded: Loaded) -> Result<TakenOver, Halted> {
        let stopped = self.stopped.lock().await;
        if *stopped {
            let stops = store::Error::Unavailable("Weir is stopping".to_owned());
            return Err(Halted::before(stops));
        }
        let began = Instant::now();
        let _whole = dispatch::AbortOnPanic("the change of configuration".into());
        let old = self.live.load_full();
        let plan = Arc::new(plan);
        self.store.limit(Limits {
            entities_max: plan
                .entities
                .values()
                .map(|entity| (entity.name.clone(), entity.entities_max))
                .collect(),
            quarantine_max: QUARANTINE_MAX,
            forget_ms: plan.forget.as_millis() as u64,
        });
        self.happenings.bodies().limit(plan.server.bodies_bytes);
        let receivers = self.notices.open(&plan.notify).map_err(Halted::before)?;
        self.follow_telemetry(&old.plan, &plan)
            .map_err(Halted::before)?;
        // Last, because it is not undone if something else keeps the plan from being used.
        let renamed = self.rename_targets(&old, &plan).await;
        renamed.map_err(Halted::before)?;
        let targets = self.targets(&old, &plan).map_err(Halted::before)?;
        let mut live = Live {
            since: now(),
            started: old.started,
            sources: self.sources(&old, &plan, &loaded),
            channels: old
                .channels
                .iter()
                .filter(|(name, _)| plan.channels.contains_key(*name))
                .map(|(n, c)| (n.clone(), c.clone()))
                .collect(),
            targets,
            plugins_since: loaded
                .components
                .iter()
                .map(|(name, component)| {
                    let same = old
                        .loaded
                        .components
                        .get(name)
                        .is_some_and(|before| before.sha256() == component.sha256());
                    (
                        name.clone(),
                        old.plugins_since
                            .get(name)
                            .copied()
                            .filter(|_| same)
                            .unwrap_or_else(now),
                    )
                })
                .collect(),
            plan: plan.clone(),
            loaded,
        };
        self.live.store(Arc::new(live.copy()));
        let exchange = began.elapsed();
        failpoint::pass("app.swapping");

        let begun = self.marks_begin(&old, &live).await;
        begun.map_err(Halted::midway)?;
        self.channels_follow(&old, &mut live)
            .await
            .map_err(Halted::midway)?;
        self.keep_marks(&old, &live).await.map_err(Halted::midway)?;
        self.live.store(Arc::new(live));
        self.notices.follow(&plan.notify, receivers);
        Ok(TakenOver {
            exchange,
            drain: began.elapsed() - exchange,
        })
    }

    /// Retires, renames, starts and replaces channels according to the plan of `live`.
    async fn channels_follow(&self, old: &Live, live: &mut Live) -> Result<(), store::Error> {
        let plan = live.plan.clone();
        // After a change that stopped halfway it is unknown which channels use which plan.
        let halfway = self.halfway.swap(true, Relaxed);
        self.retire_channels(old, &plan).await?;
        self.rename_channels(old, &plan).await?;
        let following = plan.channels.iter().map(|(name, channel)| {
            let setup = self.setup(channel, live, &plan);
            let running = old.channels.get(name).cloned();
            let unchanged = running
                .as_ref()
                .is_some_and(|_| !halfway && same_channel(old, live, name));
            async move {
                (
                    name.clone(),
                    self.follow(name, setup, running, unchanged).await,
                )
            }
        });
        for (name, followed) in join_all(following.collect::<Vec<_>>()).await {
            live.channels.insert(name, followed?);
        }
        self.sweeps
            .keep(|channel| live.channels.contains_key(channel));
        self.halfway.store(false, Relaxed);
        Ok(())
    }

    /// Records and exports spans as the plan says.
    fn follow_telemetry(&self, old: &Plan, plan: &Plan) -> Result<(), store::Error> {
        if old.telemetry == plan.telemetry {
            return Ok(());
        }
        let open = plan.telemetry.as_ref().map(Collector::open).transpose();
        let collector =
            open.map_err(|why| store::Error::Unavailable(format!("telemetry: {why}")))?;
        let telemetry = plan.telemetry.as_ref();
        self.traces.record(telemetry.map(|it| it.sample));
        self.exporter.use_collector(collector);
        Ok(())
    }

    /// The sources with their new chains; each keeps its counts.
    fn sources(
        &self,
        old: &Live,
        plan: &Plan,
        loaded: &Loaded,
    ) -> BTreeMap<Arc<str>, Arc<HttpIntake>> {
        let types = Arc::new(plan.entities.clone());
        let make = |(name, source): (&Arc<str>, &plan::Source)| {
            let chain = loaded.sources.get(name).map(|chain| -> Arc<dyn Mapping> {
                Arc::new(Maps {
                    host: self.host.clone(),
                    chain: chain.clone(),
                })
            });
            let (activity, requests, since) = old.sources.get(name).map_or_else(
                || (Arc::<Activity>::default(), Arc::default(), now()),
                |before| {
                    let activity = before.source.activity().clone();
                    (activity, before.requests.clone(), before.since)
                },
            );
            if let Some(recorder) = self.happenings.recorder(Side::Source, name) {
                activity.record_with(recorder);
            }
            activity.trace_with(self.traces.clone());
            let reply = source.reply.clone();
            let source = Source::new(
                source.options.clone(),
                chain,
                types.clone(),
                self.store.clone(),
                activity,
            );
            let made = HttpIntake {
                source,
                reply,
                requests,
                since,
            };
            (name.clone(), Arc::new(made))
        };
        plan.sources.iter().map(make).collect()
    }

    /// Targets; those with unchanged options keep their slots and their breaker.
    fn targets(
        &self,
        old: &Live,
        plan: &Plan,
    ) -> Result<BTreeMap<Arc<str>, Arc<TargetHandle>>, store::Error> {
        // Targets that share a pace share its quota, before and after a change of the others.
        let mut paces: BTreeMap<Arc<str>, Arc<Quota>> = BTreeMap::new();
        for handle in old.targets.values() {
            if let Some(pace) = &handle.options().pace {
                paces.insert(pace.clone(), handle.quota().clone());
            }
        }
        let mut shared = |pace: &Arc<str>, options: &crate::targets::Options| {
            let before = paces.get(pace);
            if let Some(quota) = before.filter(|quota| quota.fits(options)) {
                return Ok(quota.clone());
            }
            let memory = match before {
                Some(before) => before.memory(),
                None => self.store.note(&note_of_pace(pace))?,
            };
            let quota = Quota::new(options, memory.as_deref());
            paces.insert(pace.clone(), quota.clone());
            Ok::<_, store::Error>(quota)
        };
        let mut open = |name: &Arc<str>, options: &crate::targets::Options| {
            let breaker = dispatch::breaker::Options::default();
            let (clock, dice) = (self.clock, fastrand::Rng::new());
            let was = || old.targets.get(plan.renamed_targets.get(name)?);
            let before = old.targets.get(name).or_else(was);
            let memory = match before {
                Some(before) => before.memory(),
                None => self.store.note(&note_of(name))?,
            };
            let quota = match &options.pace {
                Some(pace) => Some(shared(pace, options)?),
                None => None,
            };
            let memory = memory.as_deref();
            let opening = Opening {
                folder: self.folder_of(name),
                memory: Arc::new(TargetMemory {
                    store: self.store.clone(),
                    target: name.clone(),
                }),
            };
            let handle = TargetHandle::open(
                options.clone(),
                breaker,
                clock,
                dice,
                memory,
                quota,
                opening,
            )
            .map_err(|why| store::Error::Unavailable(format!("target {name}: {why}")))?;
            let credentials = match before {
                Some(before) => before.credentials(),
                None => self.store.note(&note_of_credentials(name))?,
            };
            if let Some(kept) = credentials {
                handle.take_credentials(&kept);
            }
            if let Some(foreign) = foreign_of(&*self.store, name, handle.place())? {
                handle.overwrite(foreign);
            }
            // The one before goes on delivering until its channels have changed over, so this mark does not
            // include all deliveries. It has none before its first delivery, whatever it has taken itself.
            let marked = before.filter(|before| before.place() == handle.place());
            let mark = match marked.and_then(|before| before.mark()) {
                Some(bytes) => Some(Mark {
                    bytes,
                    exact: false,
                }),
                None => mark_of(&*self.store, name, handle.place())?,
            };
            if let Some(mark) = mark {
                handle.take_mark(mark);
            }
            Ok::<_, store::Error>(handle)
        };
        let handle = |(name, options): (&Arc<str>, &crate::targets::Options)| {
            let before = old.targets.get(name).cloned();
            let handle = match before.filter(|before| before.options() == options) {
                Some(before) => before,
                None => open(name, options)?,
            };
            Ok((name.clone(), handle))
        };
        plan.targets.iter().map(handle).collect()
    }

    /// Stops the channels that have left the configuration; the store keeps their state.
    async fn retire_channels(&self, old: &Live, plan: &Plan) -> Result<(), store::Error> {
        let gone: Vec<_> = old
            .channels
            .iter()
            .filter(|(name, _)| !plan.channels.contains_key(*name))
            .collect();
        join_all(
            gone.iter()
                .map(|(_, channel)| channel.stop(super::STOP_DELIVERIES)),
        )
        .await;
        let wanted: Vec<String> = plan
            .channels
            .values()
            .flat_map(|c| [Some(c.options.name.to_string()), c.options.was.clone()])
            .flatten()
            .collect();
        for channel in self.store.remembered() {
            if channel.live && !wanted.contains(&channel.name) {
                self.store.retire(&channel.name).await?;
                super::retired::warn(&channel);
            }
        }
        Ok(())
    }

    /// Starts a channel, leaves it as it is, or gives it a new setup.
    async fn follow(
        &self,
        name: &Arc<str>,
        setup: Setup,
        running: Option<Arc<Channel>>,
        unchanged: bool,
    ) -> Result<Arc<Channel>, store::Error> {
        let Some(running) = running else {
            let start = Channel::start(setup, self.store.clone(), self.stopping.child_token());
            let (channel, joined) = self.deliveries.run(start).await?;
            if let Some(latencies) = self.store.note(&note_of_latencies(name))? {
                channel.recall_latencies(&latencies);
            }
            let channel = Arc::new(channel);
            // A channel that was stopped during a sweep continues it.
            let swept = if joined.swept || channel.status().owed.sweep > 0 {
                (self.sweeps).begin(name, &channel, Counts::default(), &self.stopping);
                "; rendering all entities"
            } else {
                ""
            };
            tracing::info!(channel = &**name, "channel started{swept}");
            return Ok(channel);
        };
        if !unchanged {
            let before = counts(&running);
            match running.replace(setup).await {
                Ok(joined) if joined.swept => {
                    (self.sweeps).begin(name, &running, before, &self.stopping);
                    tracing::info!(
                        channel = &**name,
                        "the channel's rendering changed; rendering all entities again"
                    )
                }
                Ok(_) => {}
                Err(dispatch::Error::Store(error)) => return Err(error),
                Err(dispatch::Error::Stopped) => {
                    return Err(store::Error::Unavailable(format!(
                        "channel {name} has stopped"
                    )));
                }
            }
        }
        Ok(running)
    }

    fn setup(&self, channel: &plan::Channel, live: &Live, plan: &Plan) -> Setup {
        let options = channel.options.clone();
        let chain = live.loaded.channels.get(&options.name);
        let target = live.targets[&options.target].clone();
        let subscription = subscription(&options, chain, &target);
        let chain = chain.map(|chain| -> Arc<dyn dispatch::Render> {
            Arc::new(Renders {
                host: self.host.clone(),
                chain: chain.clone(),
            })
        });
        let (default_renderer, shares) = (self.default_renderer.clone(), plan.shares);
        Setup {
            recorder: self.happenings.recorder(Side::Channel, &options.name),
            traces: self.traces.clone(),
            options,
            subscription,
            chain,
            target,
            default_renderer,
            shares,
            parked_max: dispatch::parked_max(&channel.options),
        }
    }
}

impl Live {
    /// A copy for the time until all channels use the new plan.
    fn copy(&self) -> Live {
        Live {
            plan: self.plan.clone(),
            since: self.since,
            started: self.started,
            loaded: self.loaded.clone(),
            sources: self.sources.clone(),
            channels: self.channels.clone(),
            targets: self.targets.clone(),
            plugins_since: self.plugins_since.clone(),
        }
    }
}

fn same_channel(old: &Live, new: &Live, name: &Arc<str>) -> bool {
    let (Some(before), Some(after)) = (old.plan.channels.get(name), new.plan.channels.get(name))
    else {
        return false;
    };
    let same_chain = match (old.loaded.channels.get(name), new.loaded.channels.get(name)) {
        (Some(before), Some(after)) => before.same_as(after),
        (None, None) => true,
        _ => false,
    };
    let target = &after.options.target;
    let same_target = old
        .targets
        .get(target)
        .zip(new.targets.get(target))
        .is_some_and(|(a, b)| Arc::ptr_eq(a, b));
    before.options == after.options
        && same_chain
        && same_target
        && old.plan.shares == new.plan.shares
}

/// A channel's subscription, with its shape: a digest (fingerprint) of everything that determines
/// its renderings. A different shape causes a sweep, also if it changed while Weir was stopped.
fn subscription(
    options: &dispatch::Options,
    chain: Option<&ChannelChain>,
    target: &TargetHandle,
) -> Subscription {
    let bindings = chain.map_or(&[][..], |chain| chain.bindings());
    let plugins: Vec<_> = bindings
        .iter()
        .map(|binding| (binding.component().sha256(), binding.settings()))
        .collect();
    let shape = serde_json::json!([
        &*options.entity_type,
        options.facets,
        options.needs,
        plugins,
        options.deliver
    ]);
    let labels = chain
        .map(|chain| chain.labels().join(", "))
        .unwrap_or_default();
    Subscription {
        entity_type: options.entity_type.clone(),
        facets: options.facets.clone(),
        shape: xxh3_64(shape.to_string().as_bytes()),
        shape_label: labels,
        target: target.place(),
        debounce: options.debounce,
    }
}

/// The changes that a new plan makes, one line each.
pub(super) fn changes(old: &Live, plan: &Plan, loaded: &Loaded) -> Vec<String> {
    let difference = plan::difference(&old.plan, plan);
    let mut lines = Vec::new();
    let kinds = [
        ("source", &difference.sources),
        ("channel", &difference.channels),
        ("target", &difference.targets),
        ("entity type", &difference.entities),
    ];
    for (what, names) in kinds {
        lines.extend(
            names
                .added
                .iter()
                .map(|name| format!("{what} {name} is new")),
        );
        lines.extend(
            names
                .changed
                .iter()
                .map(|name| format!("{what} {name} has changed")),
        );
        lines.extend(
            names
                .removed
                .iter()
                .map(|name| format!("{what} {name} is gone")),
        );
    }
    lines.extend(
        difference
            .renamed
            .iter()
            .map(|renamed| format!("channel {} is called {} now", renamed.from, renamed.to)),
    );
    lines.extend(
        difference
            .plugins
            .removed
            .iter()
            .map(|name| format!("plugin {name} is gone")),
    );
    for (name, component) in &loaded.components {
        match old.loaded.components.get(name) {
            None => lines.push(format!("plugin {name} is new: {}", component.label())),
            Some(before) if before.sha256() != component.sha256() => {
                lines.push(format!(
                    "plugin {name} is replaced: {} instead of {}",
                    component.label(),
                    before.label()
                ));
            }
            Some(_) if difference.plugins.changed.contains(name) => {
                lines.push(format!("plugin {name} has changed"))
            }
            Some(_) => {}
        }
    }
    let flags = [
        (difference.tokens, "tokens have changed"),
        (difference.shares, "shares of lanes have changed"),
        (difference.forget, "store.forget has changed"),
        (difference.bodies, "server.bodies has changed"),
        (
            difference.front,
            "the certificate, the trusted proxies or the public URL of the server have changed",
        ),
        (difference.notify, "the receivers of notices have changed"),
        (difference.telemetry, "telemetry has changed"),
    ];
    lines.extend(
        flags
            .iter()
            .filter(|flag| flag.0)
            .map(|flag| flag.1.to_owned()),
    );
    lines.extend(difference.needs_restart);
    lines
}
