//! From the plugins of a plan to chains: components are read, checked, compiled and configured, once for each place.
//!
//! What has not changed since the last time is taken over: a component with the same bytes and limits, a use with the same
//! component and settings. Blocking; it runs away from those that serve.

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::dispatch::{self, BoxFuture};
use crate::ingest::{self, Mapping};
use crate::model::{Event, View};
use crate::plan::{self, Complaint, Plan};
use crate::plugin::{ChannelChain, Class, Component, EntityVerdict, Host, SourceChain, Use};

/// All components and chains of a plan.
#[derive(Clone, Default)]
pub struct Loaded {
    /// Components by the plugin's name.
    pub(super) components: BTreeMap<Arc<str>, Arc<Component>>,
    /// Chains of sources that have plugins, by the source's name.
    pub(super) sources: BTreeMap<Arc<str>, Chain<SourceChain>>,
    /// Chains of channels that have plugins, by the channel's name.
    pub(super) channels: BTreeMap<Arc<str>, Chain<ChannelChain>>,
}

/// A chain with the uses it was made from.
pub(super) struct Chain<C> {
    pub(super) chain: Arc<C>,
    pub(super) uses: Vec<Use>,
}

impl<C> Clone for Chain<C> {
    fn clone(&self) -> Chain<C> {
        Chain { chain: self.chain.clone(), uses: self.uses.clone() }
    }
}

impl<C> Chain<C> {
    /// Whether another chain does the same: the same components with the same settings.
    pub(super) fn same_as(&self, other: &Chain<C>) -> bool {
        self.uses.len() == other.uses.len() && self.uses.iter().zip(&other.uses).all(|(one, other)| same_use(one, other))
    }

    /// The labels of its plugins, `name@version`.
    pub(super) fn labels(&self) -> Vec<String> {
        self.uses.iter().map(|of| of.component().label().to_owned()).collect()
    }
}

fn same_use(one: &Use, other: &Use) -> bool {
    let (a, b) = (one.component(), other.component());
    a.sha256() == b.sha256() && a.limits() == b.limits() && a.name() == b.name() && one.settings() == other.settings()
}

/// Loads all plugins of a plan; what is wrong is said with the place in the file that names it.
///
/// # Errors
/// Every complaint.
pub fn load(host: &Host, plan: &Plan, before: Option<&Loaded>) -> Result<Loaded, Vec<Complaint>> {
    let mut complaints = Vec::new();
    let mut loaded = Loaded::default();
    for (name, plugin) in &plan.plugins {
        match component(host, plan, name, plugin, before) {
            Ok(component) => {
                loaded.components.insert(name.clone(), component);
            }
            Err(complaint) => complaints.push(*complaint),
        }
    }
    for (name, source) in plan.sources.iter().filter(|(_, source)| !source.plugins.is_empty()) {
        let known = before.and_then(|before| before.sources.get(name)).map_or(&[][..], |chain| &chain.uses);
        let place = format!("sources.{name}.plugins");
        if let Some(chain) = chain(plan, &loaded.components, &source.plugins, known, &place, SourceChain::new, &mut complaints) {
            loaded.sources.insert(name.clone(), chain);
        }
    }
    for (name, channel) in plan.channels.iter().filter(|(_, channel)| !channel.plugins.is_empty()) {
        let known = before.and_then(|before| before.channels.get(name)).map_or(&[][..], |chain| &chain.uses);
        let place = format!("channels.{name}.plugins");
        if let Some(chain) = chain(plan, &loaded.components, &channel.plugins, known, &place, ChannelChain::new, &mut complaints) {
            loaded.channels.insert(name.clone(), chain);
        }
    }
    // A table with `for_each` has one place in the file, however many rows come of it.
    complaints.dedup();
    if complaints.is_empty() { Ok(loaded) } else { Err(complaints) }
}

fn component(
    host: &Host,
    plan: &Plan,
    name: &Arc<str>,
    plugin: &plan::Plugin,
    before: Option<&Loaded>,
) -> Result<Arc<Component>, Box<Complaint>> {
    let path = format!("plugins.{name}");
    let complain = |what: String, help: Option<String>| Box::new(plan.complaint(&path, what, help));
    let bytes = std::fs::read(&plugin.path).map_err(|error| {
        let help = "build it with `weir plugin build FOLDER`, or mend the path".to_owned();
        complain(format!("{} cannot be read: {error}", plugin.path.display()), Some(help))
    })?;
    let digest = hex::encode(Sha256::digest(&bytes));
    if let Some(pinned) = plugin.sha256.as_ref().filter(|pinned| **pinned != digest) {
        let help = "if that is what you want to run, change the pin".to_owned();
        return Err(complain(format!("its SHA-256 is {digest}, pinned is {pinned}"), Some(help)));
    }
    let known = before.and_then(|before| before.components.get(name));
    if let Some(known) = known.filter(|known| known.sha256() == digest && *known.limits() == plugin.limits) {
        return Ok(known.clone());
    }
    host.load(name, &bytes, plugin.limits).map_err(|fault| complain(format!("{}: {fault}", plugin.path.display()), None))
}

fn chain<C>(
    plan: &Plan,
    components: &BTreeMap<Arc<str>, Arc<Component>>,
    places: &[plan::Use],
    known: &[Use],
    place: &str,
    form: impl FnOnce(&[Use]) -> Result<C, crate::plugin::Fault>,
    complaints: &mut Vec<Complaint>,
) -> Option<Chain<C>> {
    let mut uses = Vec::with_capacity(places.len());
    for (at, of) in places.iter().enumerate() {
        // A plugin that did not load has been complained of at its own place.
        let component = components.get(&of.plugin)?;
        let settings = serde_json::Value::Object(of.settings.clone()).to_string();
        let same = |known: &&Use| Arc::ptr_eq(known.component(), component) && known.settings() == settings;
        match known.get(at).filter(same).cloned().map_or_else(|| Use::configure(component, &settings), Ok) {
            Ok(of) => uses.push(of),
            Err(fault) => complaints.push(plan.complaint(&of.place, fault.to_string(), None)),
        }
    }
    if uses.len() < places.len() {
        return None;
    }
    match form(&uses) {
        Ok(chain) => Some(Chain { chain: Arc::new(chain), uses }),
        Err(fault) => {
            complaints.push(plan.complaint(place, fault.to_string(), None));
            None
        }
    }
}

/// A source's chain as ingest wants it.
pub(super) struct Maps {
    pub(super) host: Arc<Host>,
    pub(super) chain: Arc<SourceChain>,
}

impl Mapping for Maps {
    fn map(&self, events: Arc<Vec<Event>>) -> ingest::Verdicts<'_> {
        Box::pin(self.host.map(&self.chain, events, Class::Ingest))
    }
}

/// A channel's chain as dispatch wants it.
pub(super) struct Renders {
    pub(super) host: Arc<Host>,
    pub(super) chain: Arc<ChannelChain>,
}

impl dispatch::Render for Renders {
    fn render(&self, views: Arc<Vec<View>>, class: Class) -> BoxFuture<'_, Vec<EntityVerdict>> {
        Box::pin(self.host.render(&self.chain, views, class))
    }

    fn label(&self) -> Arc<str> {
        self.chain.renderer().map_or_else(|| "".into(), |renderer| renderer.component().label().into())
    }
}
