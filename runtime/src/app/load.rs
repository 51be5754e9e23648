//! From the plugins of a plan to chains: components are read, checked, compiled, run on their own
//! cases and configured, once for each place.
//!
//! What has not changed since the last time is taken over: a component with the same bytes and
//! limits, a use with the same component and settings. Blocking; it runs away from those that
//! serve.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::attempts::{Attempt, Attempts};
use super::now;
use crate::dispatch::{self, BoxFuture};
use crate::ingest::{self, Mapping};
use crate::model::{Event, View};
use crate::plan::{self, Complaint, Plan};
use crate::plugin::{ChannelChain, Class, Component, EntityVerdict, Host, SourceChain, Use, cases};

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

impl Loaded {
    /// The names of its plugins.
    pub(super) fn plugins(&self) -> impl Iterator<Item = &Arc<str>> {
        self.components.keys()
    }
}

/// A chain with the uses it was made from.
pub(super) struct Chain<C> {
    pub(super) chain: Arc<C>,
    pub(super) uses: Vec<Use>,
}

impl<C> Clone for Chain<C> {
    fn clone(&self) -> Chain<C> {
        Chain {
            chain: self.chain.clone(),
            uses: self.uses.clone(),
        }
    }
}

impl<C> Chain<C> {
    /// Whether another chain does the same: the same components with the same settings.
    pub(super) fn same_as(&self, other: &Chain<C>) -> bool {
        self.uses.len() == other.uses.len()
            && self
                .uses
                .iter()
                .zip(&other.uses)
                .all(|(one, other)| same_use(one, other))
    }

    /// Notes something of each of its plugins that is on its way into force.
    pub(super) fn note(&self, attempts: &mut Attempts, mut note: impl FnMut(&mut Attempt)) {
        for (at, of) in self.uses.iter().enumerate() {
            let name = of.component().name();
            let again = self.uses[..at]
                .iter()
                .any(|before| before.component().name() == name);
            if let Some(attempt) = attempts.find(name).filter(|_| !again) {
                note(attempt);
            }
        }
    }

    /// The labels of its plugins, `name@version`.
    pub(super) fn labels(&self) -> Vec<String> {
        self.uses
            .iter()
            .map(|of| of.component().label().to_owned())
            .collect()
    }
}

fn same_use(one: &Use, other: &Use) -> bool {
    let (a, b) = (one.component(), other.component());
    a.sha256() == b.sha256()
        && a.limits() == b.limits()
        && a.name() == b.name()
        && one.settings() == other.settings()
}

/// A component may spend so long on cases of its own: each is a call within its limits, and there
/// may be hundreds.
const CASES_TIME_MAX: Duration = Duration::from_secs(10);

/// Loads all plugins of a plan; what is wrong is said with the place in the file that names it.
///
/// # Errors
/// Every complaint.
pub fn load(host: &Host, plan: &Plan, before: Option<&Loaded>) -> Result<Loaded, Vec<Complaint>> {
    noting(host, plan, before).1
}

/// The same, with what was tried of each plugin that is not what it was before.
pub(super) fn noting(
    host: &Host,
    plan: &Plan,
    before: Option<&Loaded>,
) -> (Attempts, Result<Loaded, Vec<Complaint>>) {
    let mut loading = Loading {
        host,
        plan,
        before,
        attempts: Attempts::default(),
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
            .map_or(&[][..], |chain| &chain.uses);
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
            .map_or(&[][..], |chain| &chain.uses);
        let place = format!("channels.{name}.plugins");
        if let Some(chain) = loading.chain(&channel.plugins, known, &place, ChannelChain::new) {
            loading.loaded.channels.insert(name.clone(), chain);
        }
    }
    let Loading {
        attempts,
        mut complaints,
        loaded,
        ..
    } = loading;
    // A table with `for_each` has one place in the file, however many rows come of it.
    complaints.dedup();
    (
        attempts,
        if complaints.is_empty() {
            Ok(loaded)
        } else {
            Err(complaints)
        },
    )
}

/// How far it is.
struct Loading<'a> {
    host: &'a Host,
    plan: &'a Plan,
    before: Option<&'a Loaded>,
    attempts: Attempts,
    complaints: Vec<Complaint>,
    loaded: Loaded,
}

impl Loading<'_> {
    fn component(&mut self, name: &Arc<str>, plugin: &plan::Plugin) {
        match self.load(name, plugin) {
            Ok(component) => {
                self.loaded.components.insert(name.clone(), component);
            }
            Err(Refusal { sha256, what, help }) => {
                self.attempts.of(name, &sha256, now()).refuse(&what);
                self.complaints
                    .push(self.plan.complaint(&format!("plugins.{name}"), what, help));
            }
        }
    }

    fn load(&mut self, name: &Arc<str>, plugin: &plan::Plugin) -> Result<Arc<Component>, Refusal> {
        let began = Instant::now();
        let bytes = std::fs::read(&plugin.path).map_err(|error| Refusal {
            sha256: String::new(),
            what: format!("{} cannot be read: {error}", plugin.path.display()),
            help: Some("build it with `weir plugin build FOLDER`, or mend the path".to_owned()),
        })?;
        let sha256 = hex::encode(Sha256::digest(&bytes));
        if let Some(pinned) = plugin.sha256.as_ref().filter(|pinned| **pinned != sha256) {
            let what = format!("its SHA-256 is {sha256}, pinned is {pinned}");
            return Err(Refusal {
                sha256,
                what,
                help: Some("if that is what you want to run, change the pin".to_owned()),
            });
        }
        let known = self.before.and_then(|before| before.components.get(name));
        if let Some(known) =
            known.filter(|known| known.sha256() == sha256 && *known.limits() == plugin.limits)
        {
            return Ok(known.clone());
        }
        let attempt = self.attempts.of(name, &sha256, now());
        attempt.loaded(began.elapsed(), None);
        let refused = |what: String| Refusal {
            sha256: sha256.clone(),
            what: format!("{}: {what}", plugin.path.display()),
            help: None,
        };
        let read = began.elapsed();
        let component = self
            .host
            .load(name, &bytes, plugin.limits)
            .map_err(|fault| refused(fault.to_string()))?;
        attempt.loaded(read, Some(component.compiled()));
        let began = Instant::now();
        let passed = own_cases(&component, &bytes)
            .map_err(|why| refused(format!("plugin {name}: {why}")))?;
        attempt.passed_cases(passed, began.elapsed());
        Ok(component)
    }

    fn chain<C>(
        &mut self,
        places: &[plan::Use],
        known: &[Use],
        place: &str,
        form: impl FnOnce(&[Use]) -> Result<C, crate::plugin::Fault>,
    ) -> Option<Chain<C>> {
        let mut uses = Vec::with_capacity(places.len());
        for (at, of) in places.iter().enumerate() {
            // A plugin that did not load has been complained of at its own place.
            let component = self.loaded.components.get(&of.plugin)?;
            let settings = serde_json::Value::Object(of.settings.clone()).to_string();
            let same = |known: &&Use| {
                Arc::ptr_eq(known.component(), component) && known.settings() == settings
            };
            if let Some(known) = known.get(at).filter(same) {
                uses.push(known.clone());
                continue;
            }
            let (began, attempt) = (
                Instant::now(),
                self.attempts.of(&of.plugin, component.sha256(), now()),
            );
            match Use::configure(component, &settings) {
                Ok(of) => {
                    attempt.configured(began.elapsed());
                    uses.push(of);
                }
                Err(fault) => {
                    attempt.refuse(&fault.to_string());
                    self.complaints
                        .push(self.plan.complaint(&of.place, fault.to_string(), None));
                }
            }
        }
        if uses.len() < places.len() {
            return None;
        }
        match form(&uses) {
            Ok(chain) => Some(Chain {
                chain: Arc::new(chain),
                uses,
            }),
            Err(fault) => {
                for of in places {
                    if let Some(attempt) = self.attempts.find(&of.plugin) {
                        attempt.refuse(&fault.to_string());
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
    /// Empty if it could not be read.
    sha256: String,
    what: String,
    help: Option<String>,
}

/// Runs the cases that a component carries. Answers how many there are; or what the first that
/// fails is about.
fn own_cases(component: &Component, bytes: &[u8]) -> Result<usize, String> {
    let (began, cases) = (
        Instant::now(),
        cases::embedded(bytes).map_err(|error| error.to_string())?,
    );
    for case in &cases {
        case.check(component)
            .map_err(|fault| format!("its own case {}: {fault}", case.name))?
            .map_err(|difference| format!("its own {difference}"))?;
        if began.elapsed() > CASES_TIME_MAX {
            return Err(format!(
                "its own cases take longer than {} s",
                CASES_TIME_MAX.as_secs()
            ));
        }
    }
    Ok(cases.len())
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
        self.chain
            .renderer()
            .map_or_else(|| "".into(), |renderer| renderer.component().label().into())
    }
}
