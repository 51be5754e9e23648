//! Turns the plugins of a plan into chains: components are read, checked, compiled, run on their
//! own cases and configured, once for each place.
//!
//! Whatever has not changed since the last time is reused: a component with the same bytes and limits,
//! a binding with the same component and settings. A plugin whose new bytes are refused can be held
//! back: then its earlier component serves the plan. Files are read first, then what is new is compiled,
//! and only then are chains made. Blocking; run it off the serving threads.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use super::now;
use super::prepare::{AllPrepared, Unprepared};
use super::rollouts::Rollouts;
use crate::dispatch::{self, BoxFuture};
use crate::ingest::{self, Mapping};
use crate::model::{Event, View};
use crate::plan::{self, Complaint, Plan};
use crate::plugin::{
    Binary, Binding, ChannelChain, Component, EntityVerdict, Fault, Host, Kept, Priority, Role,
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
    /// Whether a channel has a renderer.
    pub fn renders(&self, channel: &str) -> bool {
        let chain = self.channels.get(channel);
        chain.is_some_and(|chain| chain.renderer().is_some())
    }

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

/// Loads all plugins of a plan.
///
/// # Errors
/// Every complaint, with the place in the file that causes it.
pub fn load(host: &Arc<Host>, plan: &Plan) -> Result<Loaded, Vec<Complaint>> {
    let mut loading = Loading::new(host.clone(), plan.clone(), &Loaded::default());
    loading.prepare(&|_, _, _| {});
    let (loaded, objections) = loading.attempt();
    if objections.is_empty() {
        return Ok(loaded);
    }
    let complaints = objections.into_iter();
    Err(complaints.map(|objection| objection.complaint).collect())
}

/// A load in progress, which may need several attempts.
pub(super) struct Loading {
    host: Arc<Host>,
    pub(super) plan: Plan,
    /// The components in use, to which plugins can be held back.
    before: BTreeMap<Arc<str>, Arc<Component>>,
    /// The digest of each plugin's file when it was read, or why it could not be read.
    files: BTreeMap<Arc<str>, Result<String, String>>,
    prepared: AllPrepared,
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
    /// The files of the usable components, of which those of the chains are to take over.
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
            files: BTreeMap::new(),
            prepared: AllPrepared::default(),
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
    pub(super) fn with(mut self, prepared: AllPrepared) -> Loading {
        self.prepared = prepared;
        self
    }

    /// The components at hand, for another attempt.
    pub(super) fn into_prepared(self) -> AllPrepared {
        self.prepared
    }

    /// Reads the files of all components, and returns those that are neither in use nor at hand. One
    /// that another reload is compiling is left to that one if the plan allows its plugin's earlier
    /// version to serve until then. Blocking.
    pub(super) fn unprepared(&mut self) -> Vec<Unprepared> {
        let mut unprepared = Vec::new();
        for (name, plugin) in &self.plan.plugins {
            let began = Instant::now();
            let binary = match Binary::read(&plugin.path) {
                Ok(binary) => binary,
                Err(error) => {
                    self.files.insert(name.clone(), Err(error.to_string()));
                    continue;
                }
            };
            let sha256 = binary.sha256().to_owned();
            let is_pinned = plugin.sha256.as_ref().is_none_or(|pin| *pin == sha256);
            let is_at_hand = self.serving(name, &sha256, plugin).is_some()
                || self.prepared.get(name, &sha256, plugin.limits).is_some();
            let is_left = self.allows_earlier(name) && self.host.is_compiling(&binary);
            self.files.insert(name.clone(), Ok(sha256));
            if is_pinned && !is_at_hand && !is_left {
                unprepared.push(Unprepared {
                    name: name.clone(),
                    binary,
                    limits: plugin.limits,
                    began,
                    read: began.elapsed(),
                });
            }
        }
        unprepared
    }

    /// Reads, compiles and checks the components that are not in use. Before each, `told` gets its plugin, its number,
    /// and how many there are.
    pub(super) fn prepare(&mut self, told: &dyn Fn(&str, usize, usize)) {
        let unprepared = self.unprepared();
        let all = unprepared.len();
        for (at, one) in unprepared.into_iter().enumerate() {
            told(&one.name, at + 1, all);
            self.prepared.add(&self.host, vec![one]);
        }
    }

    /// The component that serves a plugin, if it has these bytes.
    fn serving(&self, name: &str, sha256: &str, plugin: &plan::Plugin) -> Option<&Arc<Component>> {
        let is_same =
            |known: &&Arc<Component>| known.sha256() == sha256 && *known.limits() == plugin.limits;
        self.before.get(name).filter(is_same)
    }

    /// Whether a plugin has an earlier component that the plan allows: path, digest and limits are parts
    /// of the configuration, which takes over whole or not at all.
    fn allows_earlier(&self, name: &str) -> bool {
        let (Some(before), Some(plugin)) = (self.before.get(name), self.plan.plugins.get(name))
        else {
            return false;
        };
        let pin = plugin.sha256.as_deref();
        !self.moved.contains(name)
            && *before.limits() == plugin.limits
            && pin.is_none_or(|pin| pin == before.sha256())
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
        let is_new = |before: &Arc<Component>| self.rollouts.is_of_another(name, before.sha256());
        self.allows_earlier(name)
            && !self.held_back.contains(name)
            && self.before.get(name).is_some_and(is_new)
    }

    /// The chains as they served last: with the kept component of each plugin whose file has another
    /// one by now. Empty if there is none.
    pub(super) fn as_before(&mut self, kept: &Kept) -> Loaded {
        for (name, plugin) in &self.plan.plugins {
            let file = self.prepared.sha256(name);
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
        Outcome {
            plan: self.plan,
            refused,
            rollouts,
            binaries: self
                .prepared
                .into_binaries(|name| !self.held_back.contains(name)),
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
        let unread = Err("it has not been read".to_owned());
        let sha256 = self.files.get(name).unwrap_or(&unread);
        let sha256 = sha256.as_ref().map_err(|error| Refusal {
            sha256: String::new(),
            key: if plugin.builtin.is_some() { ".builtin" } else { ".path" },
            what: format!("{} cannot be read: {error}", plugin.path.display()),
            help: Some(match plugin.builtin {
                Some(name) => format!(
                    "it is installed with Weir's package; in a clone of the repository, build it with `weir plugin build plugins/{name}`"
                ),
                None => "build it with `weir plugin build FOLDER`, or correct the path".to_owned(),
            }),
        })?;
        if plugin.sha256.as_ref().is_some_and(|pin| pin != sha256) {
            return Err(Refusal {
                sha256: sha256.to_owned(),
                key: ".sha256",
                what: "the file has another SHA-256".to_owned(),
                help: Some(format!("if the file is the right one, write {sha256:?}")),
            });
        }
        if let Some(known) = self.serving(name, sha256, plugin) {
            return Ok(known.clone());
        }
        let Some(prepared) = self.prepared.get(name, sha256, plugin.limits) else {
            let Some(known) = known else {
                return Err(Refusal {
                    sha256: sha256.to_owned(),
                    key: "",
                    what: format!("{} has not been compiled", plugin.path.display()),
                    help: None,
                });
            };
            tracing::info!(
                plugin = &**name,
                "a new version is being compiled; it takes over when that is done"
            );
            return Ok(known.clone());
        };
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

    fn stages(&self) -> Vec<(Arc<str>, Role)> {
        self.chain.stages()
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

    fn stages(&self) -> Vec<(Arc<str>, Role)> {
        self.chain.stages()
    }
}
