//! Turns the plugins of a plan into chains: components are read, checked, compiled, run on their
//! own cases and configured, once for each place.
//!
//! Whatever has not changed since the last time is reused: a component with the same bytes and
//! limits, a binding with the same component and settings. Blocking; run it off the serving
//! threads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::now;
use super::rollouts::Rollouts;
use crate::author::cases;
use crate::dispatch::{self, BoxFuture};
use crate::ingest::{self, Mapping};
use crate::model::{Event, View};
use crate::plan::{self, Complaint, Plan};
use crate::plugin::{
    Binary, Binding, ChannelChain, Component, EntityVerdict, Fault, Host, Priority, SourceChain,
};

/// All components and chains of a plan.
#[derive(Clone, Default)]
pub struct Loaded {
    /// Components by the plugin's name.
    pub(super) components: BTreeMap<Arc<str>, Arc<Component>>,
    /// Chains of sources that have plugins, by the source's name.
    pub(super) sources: BTreeMap<Arc<str>, SourceChain>,
    /// Chains of channels that have plugins, by the channel's name.
    pub(super) channels: BTreeMap<Arc<str>, ChannelChain>,
}

impl Loaded {
    /// The names of its plugins.
    pub(super) fn plugins(&self) -> impl Iterator<Item = &Arc<str>> {
        self.components.keys()
    }
}

/// Time that a component may spend on its own cases: each is a call within its limits, and there
/// may be hundreds.
const CASES_TIME_MAX: Duration = Duration::from_secs(10);

/// Loads all plugins of a plan.
///
/// # Errors
/// Every complaint, with the place in the file that causes it.
pub fn load(host: &Host, plan: &Plan, before: Option<&Loaded>) -> Result<Loaded, Vec<Complaint>> {
    noting(host, plan, before).1
}

/// The same, with the rollout of each plugin that differs from `before`.
pub(super) fn noting(
    host: &Host,
    plan: &Plan,
    before: Option<&Loaded>,
) -> (Rollouts, Result<Loaded, Vec<Complaint>>) {
    let mut loading = Loading {
        host,
        plan,
        before,
        rollouts: Rollouts::default(),
        complaints: Vec::new(),
        loaded: Loaded::default(),
    };
    for (name, plugin) in &plan.plugins {
        loading.component(name, plugin);
    }
    for (name, source) in plan
        .sources
        .iter()
        .filter(|(_, source)| !source.plugins.is_empty())
    {
        let known = before
            .and_then(|before| before.sources.get(name))
            .map_or(&[][..], |chain| chain.bindings());
        let place = format!("sources.{name}.plugins");
        if let Some(chain) = loading.chain(&source.plugins, known, &place, SourceChain::new) {
            loading.loaded.sources.insert(name.clone(), chain);
        }
    }
    for (name, channel) in plan
        .channels
        .iter()
        .filter(|(_, channel)| !channel.plugins.is_empty())
    {
        let known = before
            .and_then(|before| before.channels.get(name))
            .map_or(&[][..], |chain| chain.bindings());
        let place = format!("channels.{name}.plugins");
        if let Some(chain) = loading.chain(&channel.plugins, known, &place, ChannelChain::new) {
            loading.loaded.channels.insert(name.clone(), chain);
        }
    }
    let Loading {
        rollouts,
        mut complaints,
        loaded,
        ..
    } = loading;
    // A table with `for_each` has one place in the file, however many rows it yields.
    complaints.dedup();
    (
        rollouts,
        if complaints.is_empty() {
            Ok(loaded)
        } else {
            Err(complaints)
        },
    )
}

/// A load in progress.
struct Loading<'a> {
    host: &'a Host,
    plan: &'a Plan,
    before: Option<&'a Loaded>,
    rollouts: Rollouts,
    complaints: Vec<Complaint>,
    loaded: Loaded,
}

impl Loading<'_> {
    fn component(&mut self, name: &Arc<str>, plugin: &plan::Plugin) {
        match self.load(name, plugin) {
            Ok(component) => {
                self.loaded.components.insert(name.clone(), component);
            }
            Err(refusal) => {
                let Refusal {
                    sha256,
                    key,
                    what,
                    help,
                } = refusal;
                let why = help
                    .as_ref()
                    .map_or(what.clone(), |help| format!("{what}; {help}"));
                self.rollouts.entry(name, &sha256, now()).refuse(&why);
                let path = format!("plugins.{name}{key}");
                self.complaints.push(self.plan.complaint(&path, what, help));
            }
        }
    }

    fn load(&mut self, name: &Arc<str>, plugin: &plan::Plugin) -> Result<Arc<Component>, Refusal> {
        let started = Instant::now();
        let binary = Binary::read(&plugin.path).map_err(|error| Refusal {
            sha256: String::new(),
            key: "",
            what: format!("{} cannot be read: {error}", plugin.path.display()),
            help: Some("build it with `weir plugin build FOLDER`, or correct the path".to_owned()),
        })?;
        let sha256 = binary.sha256();
        if plugin.sha256.as_ref().is_some_and(|pin| pin != sha256) {
            return Err(Refusal {
                sha256: sha256.to_owned(),
                key: ".sha256",
                what: "the file has another SHA-256".to_owned(),
                help: Some(format!("if the file is the right one, write {sha256:?}")),
            });
        }
        let known = self.before.and_then(|before| before.components.get(name));
        if let Some(known) =
            known.filter(|known| known.sha256() == sha256 && *known.limits() == plugin.limits)
        {
            return Ok(known.clone());
        }
        let rollout = self.rollouts.entry(name, sha256, now());
        let read = started.elapsed();
        rollout.loaded(read, None);
        let refused = |what: String| Refusal {
            sha256: sha256.to_owned(),
            key: "",
            what: format!("{}: {what}", plugin.path.display()),
            help: None,
        };
        let component = self
            .host
            .load(name, &binary, plugin.limits)
            .map_err(|fault| refused(fault.to_string()))?;
        rollout.loaded(read, Some(component.compiled()));
        let started = Instant::now();
        let passed = own_cases(&component, binary.bytes())
            .map_err(|why| refused(format!("plugin {name}: {why}")))?;
        rollout.passed_cases(passed, started.elapsed());
        Ok(component)
    }

    fn chain<C>(
        &mut self,
        places: &[plan::Use],
        known: &[Binding],
        place: &str,
        form: impl FnOnce(Vec<Binding>) -> Result<C, Fault>,
    ) -> Option<C> {
        let mut bindings = Vec::with_capacity(places.len());
        for (at, place) in places.iter().enumerate() {
            // A plugin that did not load has its complaint at its own place.
            let component = self.loaded.components.get(&place.plugin)?;
            let settings = serde_json::Value::Object(place.settings.clone()).to_string();
            let same = |known: &&Binding| {
                Arc::ptr_eq(known.component(), component) && known.settings() == settings
            };
            if let Some(known) = known.get(at).filter(same) {
                bindings.push(known.clone());
                continue;
            }
            let started = Instant::now();
            let rollout = self
                .rollouts
                .entry(&place.plugin, component.sha256(), now());
            match Binding::configure(component, &settings) {
                Ok(binding) => {
                    rollout.configured(started.elapsed());
                    bindings.push(binding);
                }
                Err(fault) => {
                    let complaint = self.plan.complaint_of_settings(place, &fault.to_string());
                    rollout.refuse(&complaint.what);
                    self.complaints.push(complaint);
                }
            }
        }
        if bindings.len() < places.len() {
            return None;
        }
        match form(bindings) {
            Ok(chain) => Some(chain),
            Err(fault) => {
                for place in places {
                    if let Some(rollout) = self.rollouts.find(&place.plugin) {
                        rollout.refuse(&fault.to_string());
                    }
                }
                self.complaints
                    .push(self.plan.complaint(place, fault.to_string(), None));
                None
            }
        }
    }
}

/// Why a component is not loaded.
struct Refusal {
    /// Empty if the file could not be read.
    sha256: String,
    /// The key of the plugin's table that the complaint is about, with a dot, or empty.
    key: &'static str,
    what: String,
    help: Option<String>,
}

/// Runs the cases that a component carries and returns their number.
///
/// # Errors
/// The first case that fails.
fn own_cases(component: &Component, bytes: &[u8]) -> Result<usize, String> {
    let started = Instant::now();
    let cases = cases::embedded(bytes).map_err(|error| error.to_string())?;
    for case in &cases {
        case.check(component)
            .map_err(|fault| format!("its own case {}: {fault}", case.name))?
            .map_err(|difference| format!("its own {difference}"))?;
        if started.elapsed() > CASES_TIME_MAX {
            return Err(format!(
                "its own cases take longer than {} s",
                CASES_TIME_MAX.as_secs()
            ));
        }
    }
    Ok(cases.len())
}

/// A source's chain, as ingest calls it.
pub(super) struct Maps {
    pub(super) host: Arc<Host>,
    pub(super) chain: SourceChain,
}

impl Mapping for Maps {
    fn map(&self, events: Arc<Vec<Event>>) -> ingest::Verdicts<'_> {
        Box::pin(self.host.map(&self.chain, events, Priority::Ingest))
    }
}

/// A channel's chain, as dispatch calls it.
pub(super) struct Renders {
    pub(super) host: Arc<Host>,
    pub(super) chain: ChannelChain,
}

impl dispatch::Render for Renders {
    fn render(
        &self,
        views: Arc<Vec<View>>,
        priority: Priority,
    ) -> BoxFuture<'_, Vec<EntityVerdict>> {
        Box::pin(self.host.render(&self.chain, views, priority))
    }

    fn label(&self) -> Arc<str> {
        self.chain
            .renderer()
            .map_or_else(|| "".into(), |renderer| renderer.component().label().into())
    }
}
