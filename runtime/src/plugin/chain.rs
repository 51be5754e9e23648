//! Bindings of components, and the chains they form: filters in their order, then at most one
//! mapper or renderer.
//!
//! A batch keeps its chain until its last retry, so that no event is handled partly by an old plan
//! and partly by a new one.

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::model::{Event, Trace, View};
use crate::plugin::batch::Verdict;
use crate::plugin::bindings::Answer;
use crate::plugin::component::Component;
use crate::plugin::instance::{Halt, Instance};
use crate::plugin::words::{EntityVerdict, EventVerdict, Failed, Fault, Role};

/// The most batches of one chain and priority that wait or run at a time. Callers with more wait
/// outside the queue (back pressure), and no chain can fill the queue alone.
const SLOTS: usize = 8;

/// A component bound to one place of the configuration, with its settings there. Cheap to clone.
#[derive(Clone)]
pub struct Binding(Arc<Inner>);

struct Inner {
    id: u64,
    component: Arc<Component>,
    settings: Box<str>,
}

impl Binding {
    /// Configures a component once, to check that it accepts these settings (the text of a JSON
    /// object). Blocks for up to the component's time limit.
    ///
    /// # Errors
    /// `Settings` with the plugin's own message, or the limit that it exceeded.
    pub fn configure(component: &Arc<Component>, settings: &str) -> Result<Binding, Fault> {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let made = Instance::configured(component, settings, false);
        made.map_err(|fault| match fault {
            Fault::Breach { breach, what } => Fault::Breach {
                breach,
                what: format!("{} while it was configured: {what}", component.label()),
            },
            fault => fault,
        })?;
        Ok(Binding(Arc::new(Inner {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            component: component.clone(),
            settings: settings.into(),
        })))
    }

    /// The component.
    pub fn component(&self) -> &Arc<Component> {
        &self.0.component
    }

    /// The settings of this binding, as JSON text.
    pub fn settings(&self) -> &str {
        &self.0.settings
    }

    /// Whether another binding is equivalent: the same name, bytes, limits and settings.
    fn same_as(&self, other: &Binding) -> bool {
        let (a, b) = (self.component(), other.component());
        a.sha256() == b.sha256()
            && a.limits() == b.limits()
            && a.name() == b.name()
            && self.settings() == other.settings()
    }

    pub(super) fn id(&self) -> u64 {
        self.0.id
    }

    pub(super) fn start(&self, allowed: Duration) -> Result<Instance, Halt> {
        Instance::configured_within(&self.0.component, &self.0.settings, false, allowed)
    }

    pub(super) fn downgrade(&self) -> WeakBinding {
        WeakBinding(Arc::downgrade(&self.0))
    }
}

/// A weak reference, which shows whether a binding is still part of some chain.
pub(super) struct WeakBinding(Weak<Inner>);

impl WeakBinding {
    pub(super) fn is_alive(&self) -> bool {
        self.0.strong_count() > 0
    }
}

/// The input of a call.
#[derive(Clone)]
pub(crate) enum Items {
    /// For event filters and mappers.
    Events(Arc<Vec<Event>>),
    /// For entity filters and renderers.
    Entities(Arc<Vec<View>>),
}

impl Items {
    /// The number of items.
    pub(crate) fn len(&self) -> usize {
        match self {
            Items::Events(events) => events.len(),
            Items::Entities(views) => views.len(),
        }
    }

    /// The trace that all of these items belong to, if there is one and there are only these.
    pub(super) fn trace(&self, indices: &[usize]) -> Option<Trace> {
        let Items::Events(events) = self else {
            return None;
        };
        let mut traces = indices.iter().map(|&index| events[index].trace);
        let first = traces.next().flatten()?;
        let is_same = |trace: Option<Trace>| trace.is_some_and(|it| it.trace == first.trace);
        traces.all(is_same).then_some(first)
    }

    /// What an operator finds an item by; control characters are replaced.
    pub(super) fn name(&self, index: usize) -> String {
        let name = match self {
            Items::Events(events) => events[index].id.clone(),
            Items::Entities(views) => views[index].id.to_string(),
        };
        name.replace(char::is_control, " ")
    }

    /// Approximate number of bytes that an item copies into a guest.
    pub(super) fn bytes(&self, index: usize) -> usize {
        match self {
            Items::Events(events) => {
                let event = &events[index];
                let attributes = event
                    .attributes
                    .iter()
                    .map(|(name, value)| name.len() + value.len())
                    .sum::<usize>();
                event.data.as_bytes().len() + attributes + event.id.len() + event.origin.len()
            }
            Items::Entities(views) => {
                let view = &views[index];
                view.id.key.len()
                    + view
                        .facets
                        .iter()
                        .map(|(name, value)| name.len() + value.len())
                        .sum::<usize>()
            }
        }
    }
}

/// The bindings of a chain and their stages, for both kinds of chain.
pub struct Chain {
    /// In the order of the configuration; one binding may have several stages.
    bindings: Vec<Binding>,
    pub(super) stages: Vec<Stage>,
    /// The slots of each priority.
    pub(super) slots: [Arc<Semaphore>; 3],
}

/// One role of one binding.
pub(super) struct Stage {
    pub(super) plugin: Binding,
    pub(super) role: Role,
}

impl Chain {
    fn new(bindings: Vec<Binding>, place: &str, filter: Role, maker: Role) -> Result<Chain, Fault> {
        for binding in &bindings {
            // A component may also have roles for the other place, such as a filter of both.
            let roles = binding.component().roles();
            let is_of_use = roles.iter().any(|role| [filter, maker].contains(role));
            if let (false, Some(role)) = (is_of_use, roles.first()) {
                let (name, role) = (binding.component().name(), role.name());
                return Err(Fault::Unusable(format!(
                    "plugin {name} has the role {role}, which a {place} cannot use"
                )));
            }
        }
        let stages = |role: Role| {
            let plays = move |binding: &&Binding| binding.component().roles().contains(&role);
            bindings.iter().filter(plays).map(move |binding| Stage {
                plugin: binding.clone(),
                role,
            })
        };
        let makers: Vec<Stage> = stages(maker).collect();
        if let [first, second, ..] = &makers[..] {
            let (first, second) = (first.plugin.component(), second.plugin.component());
            return Err(Fault::Unusable(format!(
                "a {place} can have only one {}, but it has {} and {}",
                maker.name(),
                first.name(),
                second.name()
            )));
        }
        let stages = stages(filter).chain(makers).collect();
        Ok(Chain {
            bindings,
            stages,
            slots: std::array::from_fn(|_| Arc::new(Semaphore::new(SLOTS))),
        })
    }

    /// A chain without stages, for tests of the code around chains.
    #[cfg(test)]
    pub(super) fn empty(slots: &Arc<Semaphore>) -> Chain {
        Chain {
            bindings: Vec::new(),
            stages: Vec::new(),
            slots: std::array::from_fn(|_| slots.clone()),
        }
    }

    /// Its bindings, in the order of the configuration.
    pub fn bindings(&self) -> &[Binding] {
        &self.bindings
    }

    /// The labels of its plugins, `name@version`, in the same order.
    pub fn labels(&self) -> Vec<String> {
        let label = |binding: &Binding| binding.component().label().to_owned();
        self.bindings.iter().map(label).collect()
    }

    /// What each item passes, in order: the labels of plugins, each with its role.
    pub fn stages(&self) -> Vec<(Arc<str>, Role)> {
        let stages = self.stages.iter();
        stages
            .map(|stage| (stage.plugin.component().label().into(), stage.role))
            .collect()
    }

    /// Whether another chain is equivalent: the same components with the same settings.
    pub fn same_as(&self, other: &Chain) -> bool {
        self.bindings.len() == other.bindings.len()
            && self
                .bindings
                .iter()
                .zip(&other.bindings)
                .all(|(a, b)| a.same_as(b))
    }

    fn with_role(&self, role: Role) -> impl Iterator<Item = &Binding> {
        self.stages
            .iter()
            .filter(move |stage| stage.role == role)
            .map(|stage| &stage.plugin)
    }
}

/// The chain of a source: event filters in their order, then at most one mapper. Cheap to clone.
#[derive(Clone)]
pub struct SourceChain(Arc<Chain>);

impl SourceChain {
    /// Forms a chain; each plugin plays each role that it exports.
    ///
    /// # Errors
    /// `Unusable` if there are two mappers, or a plugin for channels.
    pub fn new(bindings: Vec<Binding>) -> Result<SourceChain, Fault> {
        Chain::new(bindings, "source", Role::EventFilter, Role::Mapper)
            .map(|chain| SourceChain(Arc::new(chain)))
    }

    pub(super) fn shared(&self) -> &Arc<Chain> {
        &self.0
    }

    pub(super) fn verdict(&self, verdict: Verdict) -> EventVerdict {
        match verdict {
            Verdict::Passed => EventVerdict::Passed,
            Verdict::Filtered(stage) => {
                EventVerdict::Filtered(self.stages[stage].plugin.component().name().clone())
            }
            Verdict::Made(Answer::Changes(changes)) => EventVerdict::Changes(changes),
            Verdict::Made(_) => EventVerdict::Failed(Failed::by_host(
                "a mapper returned something other than changes",
            )),
            Verdict::Failed(failed) => EventVerdict::Failed(failed),
        }
    }
}

impl Deref for SourceChain {
    type Target = Chain;

    fn deref(&self) -> &Chain {
        &self.0
    }
}

/// The chain of a channel: entity filters in their order, then at most one renderer. Cheap to
/// clone.
#[derive(Clone)]
pub struct ChannelChain(Arc<Chain>);

impl ChannelChain {
    /// Forms a chain; each plugin plays each role that it exports.
    ///
    /// # Errors
    /// `Unusable` if there are two renderers, or a plugin for sources.
    pub fn new(bindings: Vec<Binding>) -> Result<ChannelChain, Fault> {
        Chain::new(bindings, "channel", Role::EntityFilter, Role::Renderer)
            .map(|chain| ChannelChain(Arc::new(chain)))
    }

    /// The renderer; without one, the facets are delivered as JSON.
    pub fn renderer(&self) -> Option<&Binding> {
        self.with_role(Role::Renderer).next()
    }

    /// The entity filters in their order, as [`EntityVerdict::Filtered`] counts them.
    pub fn filters(&self) -> impl Iterator<Item = &Binding> {
        self.with_role(Role::EntityFilter)
    }

    pub(super) fn shared(&self) -> &Arc<Chain> {
        &self.0
    }

    pub(super) fn verdict(&self, verdict: Verdict) -> EntityVerdict {
        match verdict {
            Verdict::Passed => EntityVerdict::Passed,
            Verdict::Filtered(stage) => EntityVerdict::Filtered(stage),
            Verdict::Made(Answer::Rendered(Some(rendering))) => EntityVerdict::Rendering(rendering),
            Verdict::Made(Answer::Rendered(None)) => EntityVerdict::NotRendered,
            Verdict::Made(_) => EntityVerdict::Failed(Failed::by_host(
                "a renderer returned something other than a rendering",
            )),
            Verdict::Failed(failed) => EntityVerdict::Failed(failed),
        }
    }
}

impl Deref for ChannelChain {
    type Target = Chain;

    fn deref(&self) -> &Chain {
        &self.0
    }
}
