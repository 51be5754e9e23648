//! Turns the plugins of a plan into chains: components are read, checked, compiled, run on their
//! own cases and configured, once for each place.
//!
//! Whatever has not changed since the last time is reused: a component with the same bytes and limits,
//! a binding with the same component and settings. A plugin whose new bytes are refused can be held
//! back: then its earlier component serves the plan. Blocking; run it off the serving threads.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
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
    Binary, Binding, ChannelChain, Component, EntityVerdict, Fault, Host, Kept, Limits, Priority,
    Room, SourceChain,
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

/// What keeps a plan from being used with the components as they are.
#[derive(Clone, Debug)]
pub(super) struct Objection {
    pub(super) complaint: Complaint,
    /// The plugins whose new bytes may be the reason; empty if the plan itself is.
    pub(super) plugins: Vec<Arc<str>>,
}

/// Time that a component may spend on its own cases: each is a call within its limits, and there
/// may be hundreds.
const CASES_TIME_MAX: Duration = Duration::from_secs(10);

/// Loads all plugins of a plan.
///
/// # Errors
/// Every complaint, with the place in the file that causes it.
pub fn load(host: &Arc<Host>, plan: &Plan) -> Result<Loaded, Vec<Complaint>> {
    let mut loading = Loading::new(host.clone(), plan.clone(), &Loaded::default());
    let (loaded, objections) = loading.attempt();
    if objections.is_empty() {
        return Ok(loaded);
    }
    let complaints = objections.into_iter();
    Err(complaints.map(|objection| objection.complaint).collect())
}

/// A component that was compiled and has passed its own cases, or the reason why it cannot be used.
pub(super) struct Prepared {
    sha256: String,
    limits: Limits,
    began: Instant,
    read: Duration,
    result: Result<Checked, String>,
}

struct Checked {
    component: Arc<Component>,
    binary: Binary,
    cases: usize,
    took: Duration,
}

/// Compiles and checks the components of a plan that are not in use, which may take minutes: nothing
/// waits for it but the reload that needs them. A component that another reload is compiling is left
/// to that one if its plugin has an earlier version to serve until then.
pub(super) fn prepare(
    host: &Arc<Host>,
    plan: &Plan,
    before: &Loaded,
) -> BTreeMap<Arc<str>, Prepared> {
    let mut prepared = BTreeMap::new();
    for (name, plugin) in &plan.plugins {
        let started = Instant::now();
        // A file that cannot be read, or has another digest than its pin, has its complaint later.
        let Ok(binary) = Binary::read(&plugin.path) else {
            continue;
        };
        let known = before.components.get(name);
        let pin = plugin.sha256.as_deref();
        if pin.is_some_and(|pin| pin != binary.sha256())
            || known.is_some_and(|known| is_same(known, &binary, plugin.limits))
            || (known.is_some() && host.is_compiling(&binary))
        {
            continue;
        }
        let made = prepare_one(host, name, &binary, plugin.limits, started);
        prepared.insert(name.clone(), made);
    }
    prepared
}

fn prepare_one(
    host: &Arc<Host>,
    name: &Arc<str>,
    binary: &Binary,
    limits: Limits,
    began: Instant,
) -> Prepared {
    let read = began.elapsed();
    let check = |component: Arc<Component>| {
        let started = Instant::now();
        let cases =
            own_cases(&component, binary.bytes()).map_err(|why| format!("plugin {name}: {why}"))?;
        Ok(Checked {
            component,
            binary: binary.clone(),
            cases,
            took: started.elapsed(),
        })
    };
    let loaded = host.load(name, binary, limits);
    Prepared {
        sha256: binary.sha256().to_owned(),
        limits,
        began,
        read,
        result: loaded.map_err(|fault| fault.to_string()).and_then(check),
    }
}

fn is_same(component: &Component, binary: &Binary, limits: Limits) -> bool {
    component.sha256() == binary.sha256() && *component.limits() == limits
}

/// A load in progress, which may need several attempts.
pub(super) struct Loading {
    host: Arc<Host>,
    pub(super) plan: Plan,
    /// The components in use, to which plugins can be held back.
    before: BTreeMap<Arc<str>, Arc<Component>>,
    prepared: BTreeMap<Arc<str>, Prepared>,
    /// The bindings in use, and after them those made on the way.
    bindings: Vec<Binding>,
    in_use: usize,
    /// Plugins that the component of before serves.
    held_back: BTreeSet<Arc<str>>,
    /// Plugins that the configuration takes from another file than before. Their bytes are a part of
    /// the configuration that takes over whole or not at all.
    moved: BTreeSet<Arc<str>>,
    pub(super) rollouts: Rollouts,
}

/// What became of a load without objections.
pub(super) struct Outcome {
    pub(super) plan: Plan,
    /// The rollouts of the plugins that were held back.
    pub(super) refused: Rollouts,
    /// Those of the others.
    pub(super) rollouts: Rollouts,
    /// The files of the components that are to take over.
    pub(super) binaries: BTreeMap<Arc<str>, Binary>,
}

impl Loading {
    /// A load of this plan in place of what is in use.
    pub(super) fn new(host: Arc<Host>, plan: Plan, before: &Loaded) -> Loading {
        let sources = before.sources.values().flat_map(|chain| chain.bindings());
        let channels = before.channels.values().flat_map(|chain| chain.bindings());
        let bindings: Vec<Binding> = sources.chain(channels).cloned().collect();
        Loading {
            host,
            plan,
            before: before.components.clone(),
            prepared: BTreeMap::new(),
            in_use: bindings.len(),
            bindings,
            held_back: BTreeSet::new(),
            moved: BTreeSet::new(),
            rollouts: Rollouts::default(),
        }
    }

    /// The same, in place of this plan.
    pub(super) fn replacing(mut self, old: &Plan) -> Loading {
        let path = |plan: &Plan, name| plan.plugins.get(name).map(|plugin| plugin.path.clone());
        let plugins = self.plan.plugins.keys();
        self.moved = plugins
            .filter(|name| path(old, *name) != path(&self.plan, *name))
            .cloned()
            .collect();
        self
    }

    /// The same, with these components at hand.
    pub(super) fn with(mut self, prepared: BTreeMap<Arc<str>, Prepared>) -> Loading {
        self.prepared = prepared;
        self
    }

    /// Holds back the plugins that these objections are about: their earlier components serve the
    /// plan. Returns false, and changes nothing, if that would not help against one of them.
    pub(super) fn hold_back(&mut self, objections: &[Objection]) -> bool {
        let mut held_back = self.held_back.clone();
        for objection in objections {
            let can = |name: &&Arc<str>| self.can_hold_back(name);
            let plugins: Vec<_> = objection.plugins.iter().filter(can).cloned().collect();
            if plugins.is_empty() {
                return false;
            }
            held_back.extend(plugins);
        }
        self.held_back = held_back;
        true
    }

    /// Whether a plugin has new bytes in the same file, and an earlier component that the plan allows.
    fn can_hold_back(&self, name: &Arc<str>) -> bool {
        let (Some(before), Some(plugin)) = (self.before.get(name), self.plan.plugins.get(name))
        else {
            return false;
        };
        let pin = plugin.sha256.as_deref();
        *before.limits() == plugin.limits
            && pin.is_none_or(|pin| pin == before.sha256())
            && !self.held_back.contains(name)
            && !self.moved.contains(name)
            && self.rollouts.is_of_another(name, before.sha256())
    }

    /// The chains as they served last: with the kept component of each plugin whose file has another
    /// one by now. Empty if there is none.
    pub(super) fn as_before(&mut self, kept: &Kept) -> Loaded {
        for (name, plugin) in &self.plan.plugins {
            let file = self.prepared.get(name).map(|prepared| &prepared.sha256);
            if let Some(component) = kept_component(&self.host, kept, name, plugin)
                && file.is_some_and(|sha256| sha256 != component.sha256())
            {
                self.before.insert(name.clone(), component);
            }
        }
        if self.before.is_empty() {
            return Loaded::default();
        }
        self.held_back = self.before.keys().cloned().collect();
        let (loaded, _) = self.attempt();
        self.held_back.clear();
        self.rollouts = Rollouts::default();
        loaded
    }

    /// Takes the components that served last as those of before, for the plugins that these
    /// objections are about.
    pub(super) fn fall_back(&mut self, kept: &Kept, objections: &[Objection]) {
        for name in objections.iter().flat_map(|objection| &objection.plugins) {
            let Some(plugin) = self.plan.plugins.get(name) else {
                continue;
            };
            if self.before.contains_key(name) {
                continue;
            }
            if let Some(component) = kept_component(&self.host, kept, name, plugin) {
                self.before.insert(name.clone(), component);
            }
        }
    }

    /// What became of it.
    pub(super) fn outcome(self) -> Outcome {
        let (refused, rollouts) = self.rollouts.split(|name| self.held_back.contains(name));
        let taken = self.prepared.into_iter().filter_map(|(name, prepared)| {
            let binary = prepared.result.ok()?.binary;
            (!self.held_back.contains(&name)).then_some((name, binary))
        });
        Outcome {
            plan: self.plan,
            refused,
            rollouts,
            binaries: taken.collect(),
        }
    }

    /// Makes the chains of the plan; returns what speaks against them.
    pub(super) fn attempt(&mut self) -> (Loaded, Vec<Objection>) {
        let plan = self.plan.clone();
        let mut loaded = Loaded::default();
        let mut objections = Vec::new();
        self.rollouts.start_again();
        for (name, plugin) in &plan.plugins {
            match self.component(name, plugin) {
                Ok(component) => {
                    loaded.components.insert(name.clone(), component);
                }
                Err(refusal) => objections.push(self.refuse(name, refusal)),
            }
        }
        for (name, source) in &plan.sources {
            let place = format!("sources.{name}.plugins");
            match self.chain(&mut loaded, &source.plugins, &place, SourceChain::new) {
                Ok(Some(chain)) => {
                    loaded.sources.insert(name.clone(), chain);
                }
                Ok(None) => {}
                Err(objection) => objections.push(*objection),
            }
        }
        for (name, channel) in &plan.channels {
            let place = format!("channels.{name}.plugins");
            match self.chain(&mut loaded, &channel.plugins, &place, ChannelChain::new) {
                Ok(Some(chain)) => {
                    loaded.channels.insert(name.clone(), chain);
                }
                Ok(None) => {}
                Err(objection) => objections.push(*objection),
            }
        }
        // A table with `for_each` has one place in the file, however many rows it yields.
        objections.dedup_by(|a, b| a.complaint == b.complaint);
        (loaded, objections)
    }

    fn refuse(&mut self, name: &Arc<str>, refusal: Refusal) -> Objection {
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
        Objection {
            complaint: self.plan.complaint(&path, what, help),
            plugins: vec![name.clone()],
        }
    }

    fn component(
        &mut self,
        name: &Arc<str>,
        plugin: &plan::Plugin,
    ) -> Result<Arc<Component>, Refusal> {
        let known = self.before.get(name);
        if let Some(known) = known.filter(|_| self.held_back.contains(name)) {
            return Ok(known.clone());
        }
        let started = Instant::now();
        let binary = Binary::read(&plugin.path).map_err(|error| Refusal {
            sha256: String::new(),
            key: ".path",
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
        if let Some(known) = known.filter(|known| is_same(known, &binary, plugin.limits)) {
            return Ok(known.clone());
        }
        let fits =
            |prepared: &&Prepared| prepared.sha256 == sha256 && prepared.limits == plugin.limits;
        if self.prepared.get(name).filter(fits).is_none() {
            let may_wait = !self.moved.contains(name);
            if let Some(known) = known.filter(|_| may_wait && self.host.is_compiling(&binary)) {
                tracing::info!(
                    plugin = &**name,
                    "a new version is being compiled; it takes over when that is done"
                );
                return Ok(known.clone());
            }
            let prepared = prepare_one(&self.host, name, &binary, plugin.limits, started);
            self.prepared.insert(name.clone(), prepared);
        }
        let prepared = &self.prepared[name];
        let rollout = self.rollouts.entry(name, sha256, now());
        rollout.began(prepared.began);
        match &prepared.result {
            Ok(checked) => {
                rollout.loaded(prepared.read, Some(checked.component.compiled()));
                rollout.passed_cases(checked.cases, checked.took);
                Ok(checked.component.clone())
            }
            Err(why) => {
                rollout.loaded(prepared.read, None);
                Err(Refusal {
                    sha256: sha256.to_owned(),
                    key: "",
                    what: format!("{}: {why}", plugin.path.display()),
                    help: None,
                })
            }
        }
    }

    /// The chain of a source or channel; `None` without plugins, or if there was an objection to one
    /// of them before. A plugin is not configured for further places after it failed at one.
    fn chain<C>(
        &mut self,
        loaded: &mut Loaded,
        places: &[plan::Use],
        path: &str,
        form: impl FnOnce(Vec<Binding>) -> Result<C, Fault>,
    ) -> Result<Option<C>, Box<Objection>> {
        let mut bindings = Vec::with_capacity(places.len());
        for place in places {
            let Some(component) = loaded.components.get(&place.plugin) else {
                return Ok(None);
            };
            match self.binding(component, place) {
                Ok(binding) => bindings.push(binding),
                Err(fault) => {
                    let complaint = self.plan.complaint_of_settings(place, &fault.to_string());
                    let sha256 = component.sha256();
                    let rollout = self.rollouts.entry(&place.plugin, sha256, now());
                    rollout.refuse(&complaint.what);
                    loaded.components.remove(&place.plugin);
                    return Err(Box::new(Objection {
                        complaint,
                        plugins: vec![place.plugin.clone()],
                    }));
                }
            }
        }
        if bindings.is_empty() {
            return Ok(None);
        }
        form(bindings).map(Some).map_err(|fault| {
            let plugins: Vec<_> = places.iter().map(|place| place.plugin.clone()).collect();
            for plugin in &plugins {
                if let Some(rollout) = self.rollouts.find(plugin) {
                    rollout.refuse(&fault.to_string());
                }
            }
            Box::new(Objection {
                complaint: self.plan.complaint(path, fault.to_string(), None),
                plugins,
            })
        })
    }

    /// A component with the settings of a place: as it is in use, or configured now.
    fn binding(&mut self, component: &Arc<Component>, place: &plan::Use) -> Result<Binding, Fault> {
        let settings = serde_json::Value::Object(place.settings.clone()).to_string();
        let same = |known: &Binding| {
            Arc::ptr_eq(known.component(), component) && known.settings() == settings
        };
        let known = self.bindings.iter().position(same);
        if let Some(known) = known.filter(|known| *known < self.in_use) {
            return Ok(self.bindings[known].clone());
        }
        let (plugin, sha256) = (&place.plugin, component.sha256());
        let rollout = self.rollouts.entry(plugin, sha256, now());
        if let Some(known) = known {
            rollout.used();
            return Ok(self.bindings[known].clone());
        }
        let started = Instant::now();
        let binding = Binding::configure(component, &settings)?;
        rollout.used();
        rollout.configured(started.elapsed());
        self.bindings.push(binding.clone());
        Ok(binding)
    }
}

/// The component of a plugin that served last.
fn kept_component(
    host: &Host,
    kept: &Kept,
    name: &Arc<str>,
    plugin: &plan::Plugin,
) -> Option<Arc<Component>> {
    let loaded = host.load(name, &kept.get(name)?, plugin.limits);
    let refused = |fault: &Fault| {
        tracing::warn!(
            plugin = &**name,
            "its kept component is refused too: {fault}"
        )
    };
    loaded.inspect_err(refused).ok()
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
    fn map<'a>(
        &'a self,
        events: Arc<Vec<Event>>,
        range: Range<usize>,
        room: &'a Arc<Room>,
    ) -> ingest::Verdicts<'a> {
        let (items, room) = ((events, range), Some(room.clone()));
        Box::pin((self.host).map_within(&self.chain, items, Priority::Ingest, room))
    }
}

/// A channel's chain, as dispatch calls it.
pub(super) struct Renders {
    pub(super) host: Arc<Host>,
    pub(super) chain: ChannelChain,
}

impl dispatch::Render for Renders {
    fn render<'a>(
        &'a self,
        views: Arc<Vec<View>>,
        priority: Priority,
        room: &'a Arc<Room>,
    ) -> BoxFuture<'a, Vec<EntityVerdict>> {
        let room = Some(room.clone());
        Box::pin(self.host.render(&self.chain, views, priority, room))
    }

    fn label(&self) -> Arc<str> {
        self.chain
            .renderer()
            .map_or_else(|| "".into(), |renderer| renderer.component().label().into())
    }
}
