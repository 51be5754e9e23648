//! Uses of components, and the chains they form: filters in their order, then one mapper or
//! renderer.
//!
//! A chain is taken once for a batch and kept until its last retry, so that no event is handled by
//! half of an old plan and half of a new one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use tokio::sync::Semaphore;

use crate::model::{Event, View};
use crate::plugin::batch::Verdict;
use crate::plugin::bindings::Answer;
use crate::plugin::component::Component;
use crate::plugin::instance::Instance;
use crate::plugin::{EntityVerdict, EventVerdict, Failed, Fault, Role};

/// Batches of one chain and class that may wait or run at one time. More wait with their caller,
/// who thereby feels the pressure; and no chain can fill the queue before another.
const SLOTS: usize = 8;

/// A component at one place of the configuration, with its settings there. Cheap to clone.
#[derive(Clone)]
pub struct Use(Arc<Inner>);

struct Inner {
    id: u64,
    component: Arc<Component>,
    settings: Box<str>,
}

impl Use {
    /// Configures a component once, to see that it takes these settings (the text of a JSON
    /// object). Blocking, for up to the component's limit of time.
    ///
    /// # Errors
    /// `Settings` with the plugin's own words, or the limit it broke.
    pub fn configure(component: &Arc<Component>, settings: &str) -> Result<Use, Fault> {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let made = Instance::configured(component, settings, false);
        made.map_err(|fault| match fault {
            Fault::Breach { breach, what } => Fault::Breach {
                breach,
                what: format!("{} while it was configured: {what}", component.label()),
            },
            fault => fault,
        })?;
        Ok(Use(Arc::new(Inner {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            component: component.clone(),
            settings: settings.into(),
        })))
    }

    /// The component.
    pub fn component(&self) -> &Arc<Component> {
        &self.0.component
    }

    /// The settings here, JSON text.
    pub fn settings(&self) -> &str {
        &self.0.settings
    }

    pub(super) fn id(&self) -> u64 {
        self.0.id
    }

    pub(super) fn start(&self) -> Result<Instance, Fault> {
        Instance::configured(&self.0.component, &self.0.settings, false)
    }

    pub(super) fn downgrade(&self) -> WeakUse {
        WeakUse(Arc::downgrade(&self.0))
    }
}

/// Tells whether a use is still part of some chain.
pub(super) struct WeakUse(Weak<Inner>);

impl WeakUse {
    pub(super) fn is_alive(&self) -> bool {
        self.0.strong_count() > 0
    }
}

/// What a batch is made of.
#[derive(Clone)]
pub(super) enum Items {
    Events(Arc<Vec<Event>>),
    Entities(Arc<Vec<View>>),
}

impl Items {
    pub(super) fn len(&self) -> usize {
        match self {
            Items::Events(events) => events.len(),
            Items::Entities(views) => views.len(),
        }
    }

    /// About how many bytes an item brings into a guest.
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

/// The stages of a chain, the same for both kinds.
pub(super) struct Chain {
    pub(super) stages: Vec<Stage>,
    /// For each class.
    pub(super) slots: [Arc<Semaphore>; 3],
}

/// One role of one use.
pub(super) struct Stage {
    pub(super) of: Use,
    pub(super) role: Role,
}

impl Chain {
    fn new(uses: &[Use], place: &str, filter: Role, maker: Role) -> Result<Chain, Fault> {
        let plays = |of: &&Use, role| of.component().roles().contains(&role);
        for of in uses {
            let roles = of.component().roles();
            if let Some(role) = roles.iter().find(|role| ![filter, maker].contains(role)) {
                let (name, role) = (of.component().name(), role.name());
                return Err(Fault::Unusable(format!(
                    "plugin {name} is a {role}, which has no place in a {place}"
                )));
            }
        }
        let makers: Vec<&Use> = uses.iter().filter(|of| plays(of, maker)).collect();
        if let [first, second, ..] = makers[..] {
            let (first, second, maker) = (
                first.component().name(),
                second.component().name(),
                maker.name(),
            );
            return Err(Fault::Unusable(format!(
                "a {place} has one {maker}, and both {first} and {second} are one"
            )));
        }
        let filters = uses.iter().filter(|of| plays(of, filter)).map(|of| Stage {
            of: of.clone(),
            role: filter,
        });
        let makers = makers.into_iter().map(|of| Stage {
            of: of.clone(),
            role: maker,
        });
        let slots = std::array::from_fn(|_| Arc::new(Semaphore::new(SLOTS)));
        Ok(Chain {
            stages: filters.chain(makers).collect(),
            slots,
        })
    }

    fn uses_with(&self, role: Role) -> impl Iterator<Item = &Use> {
        self.stages
            .iter()
            .filter(move |stage| stage.role == role)
            .map(|stage| &stage.of)
    }
}

/// The chain of a source: event filters in their order, then at most one mapper.
pub struct SourceChain(pub(super) Arc<Chain>);

impl SourceChain {
    /// Forms a chain; each plugin plays each role it exports.
    ///
    /// # Errors
    /// `Unusable` if there are two mappers, or a plugin that belongs into a channel.
    pub fn new(uses: &[Use]) -> Result<SourceChain, Fault> {
        Chain::new(uses, "source", Role::EventFilter, Role::Mapper)
            .map(|chain| SourceChain(Arc::new(chain)))
    }

    /// The mapper; none if changes are taken as they are.
    pub fn mapper(&self) -> Option<&Use> {
        self.0.uses_with(Role::Mapper).next()
    }

    /// The event filters in their order.
    pub fn filters(&self) -> impl Iterator<Item = &Use> {
        self.0.uses_with(Role::EventFilter)
    }

    pub(super) fn verdict(&self, verdict: Verdict) -> EventVerdict {
        match verdict {
            Verdict::Passed => EventVerdict::Passed,
            Verdict::Filtered(stage) => {
                EventVerdict::Filtered(self.0.stages[stage].of.component().name().clone())
            }
            Verdict::Made(Answer::Changes(changes)) => EventVerdict::Changes(changes),
            Verdict::Made(_) => EventVerdict::Failed(Failed::of_the_host(
                "a mapper gave something else than changes",
            )),
            Verdict::Failed(failed) => EventVerdict::Failed(failed),
        }
    }
}

/// The chain of a channel: entity filters in their order, then at most one renderer.
pub struct ChannelChain(pub(super) Arc<Chain>);

impl ChannelChain {
    /// Forms a chain; each plugin plays each role it exports.
    ///
    /// # Errors
    /// `Unusable` if there are two renderers, or a plugin that belongs into a source.
    pub fn new(uses: &[Use]) -> Result<ChannelChain, Fault> {
        Chain::new(uses, "channel", Role::EntityFilter, Role::Renderer)
            .map(|chain| ChannelChain(Arc::new(chain)))
    }

    /// The renderer; none if the facets are delivered as JSON.
    pub fn renderer(&self) -> Option<&Use> {
        self.0.uses_with(Role::Renderer).next()
    }

    /// The entity filters in their order, as [`EntityVerdict::Filtered`] counts them.
    pub fn filters(&self) -> impl Iterator<Item = &Use> {
        self.0.uses_with(Role::EntityFilter)
    }

    pub(super) fn verdict(&self, verdict: Verdict) -> EntityVerdict {
        match verdict {
            Verdict::Passed => EntityVerdict::Passed,
            Verdict::Filtered(stage) => EntityVerdict::Filtered(stage),
            Verdict::Made(Answer::Rendered(Some(rendering))) => EntityVerdict::Rendering(rendering),
            Verdict::Made(Answer::Rendered(None)) => EntityVerdict::NotRendered,
            Verdict::Made(_) => EntityVerdict::Failed(Failed::of_the_host(
                "a renderer gave something else than a rendering",
            )),
            Verdict::Failed(failed) => EntityVerdict::Failed(failed),
        }
    }
}
