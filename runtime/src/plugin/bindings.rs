//! The boundary to a component: finds the exports of `weir:plugin`, and converts between its
//! generated types and the model's values.
//!
//! Only this file uses the generated types. It checks the results of a plugin item by item (facet
//! values are JSON, lanes exist), so that one unusable result costs one item.

use serde_json::value::RawValue;
use wasmtime::component::{HasSelf, Instance, InstancePre, Linker};
use wasmtime::{AsContextMut, Store};

use crate::model::{Change, Event, Failure, Lane, Payload, Rendering, View};
use crate::plugin::instance::State;
use crate::plugin::log::Level;
use crate::plugin::words::{Role, is_mistake};

use self::exports::weir::plugin as exported;
use self::weir::plugin::{log, types};

wasmtime::component::bindgen!({
    path: "../wit",
    // Arguments are copied once, into the guest.
    ownership: Borrowing { duplicate_if_necessary: true },
    inline: "
        package weir:host;
        world everything {
            include weir:plugin/source-plugin@0.1.0;
            include weir:plugin/channel-plugin@0.1.0;
        }
    ",
});

/// Links the only import that a component may have: `log`.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    log::add_to_linker::<_, HasSelf<State>>(linker, |state| state)
}

impl log::Host for State {
    fn write(&mut self, level: log::Level, message: String) {
        let level = match level {
            log::Level::Debug => Level::Debug,
            log::Level::Info => Level::Info,
            log::Level::Warn => Level::Warn,
            log::Level::Error => Level::Error,
        };
        self.log.write(level, &message);
    }
}

/// The positions of a component's exports: looked up once, used by every instance.
pub(super) struct Indices {
    settings: exported::settings::GuestIndices,
    event_filter: Option<exported::event_filter::GuestIndices>,
    mapper: Option<exported::mapper::GuestIndices>,
    entity_filter: Option<exported::entity_filter::GuestIndices>,
    renderer: Option<exported::renderer::GuestIndices>,
}

impl Indices {
    /// Looks up the interfaces of these roles.
    pub(super) fn find(pre: &InstancePre<State>, roles: &[Role]) -> wasmtime::Result<Indices> {
        let has = |role| roles.contains(&role);
        Ok(Indices {
            settings: exported::settings::GuestIndices::new(pre)?,
            event_filter: has(Role::EventFilter)
                .then(|| exported::event_filter::GuestIndices::new(pre))
                .transpose()?,
            mapper: has(Role::Mapper)
                .then(|| exported::mapper::GuestIndices::new(pre))
                .transpose()?,
            entity_filter: has(Role::EntityFilter)
                .then(|| exported::entity_filter::GuestIndices::new(pre))
                .transpose()?,
            renderer: has(Role::Renderer)
                .then(|| exported::renderer::GuestIndices::new(pre))
                .transpose()?,
        })
    }

    /// Loads the functions of one instance; fails if their types differ from those of the
    /// interface.
    pub(super) fn load(
        &self,
        store: &mut Store<State>,
        instance: &Instance,
    ) -> wasmtime::Result<Guest> {
        Ok(Guest {
            settings: self.settings.load(&mut *store, instance)?,
            event_filter: self
                .event_filter
                .as_ref()
                .map(|it| it.load(&mut *store, instance))
                .transpose()?,
            mapper: self
                .mapper
                .as_ref()
                .map(|it| it.load(&mut *store, instance))
                .transpose()?,
            entity_filter: self
                .entity_filter
                .as_ref()
                .map(|it| it.load(&mut *store, instance))
                .transpose()?,
            renderer: self
                .renderer
                .as_ref()
                .map(|it| it.load(&mut *store, instance))
                .transpose()?,
        })
    }
}

/// The functions of one instance.
pub(super) struct Guest {
    settings: exported::settings::Guest,
    event_filter: Option<exported::event_filter::Guest>,
    mapper: Option<exported::mapper::Guest>,
    entity_filter: Option<exported::entity_filter::Guest>,
    renderer: Option<exported::renderer::Guest>,
}

/// The result of a role for one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// From a filter: whether the item passes.
    Accepted(bool),
    /// From a mapper.
    Changes(Vec<Change>),
    /// From a renderer; `None`: not for this channel.
    Rendered(Option<Rendering>),
}

/// Why one item of a call that returned has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Declined {
    /// The failure of the item.
    pub(crate) failure: Failure,
    /// False: the plugin declined it. True: the host found the result unusable, or the plugin's kit
    /// reports a bug of its function.
    pub(crate) fault: bool,
}

/// One result per item. If a call returns an error instead, its instance is unusable.
pub(crate) type Answers = Vec<Result<Answer, Declined>>;

impl Guest {
    /// Calls `settings.configure`.
    pub(super) fn configure(
        &self,
        store: &mut Store<State>,
        settings: &str,
    ) -> wasmtime::Result<Result<(), String>> {
        self.settings.call_configure(store, settings)
    }

    /// Calls an event role; `None` if the component does not export it.
    pub(super) fn events<'a>(
        &self,
        store: &mut Store<State>,
        role: Role,
        events: impl Iterator<Item = &'a Event>,
    ) -> Option<wasmtime::Result<Answers>> {
        let events: Vec<&Event> = events.collect();
        let attributes: Vec<Vec<(&str, &str)>> =
            events.iter().map(|event| lower_attributes(event)).collect();
        let events: Vec<types::Event<'_>> = events
            .iter()
            .zip(&attributes)
            .map(|(event, attributes)| lower_event(event, attributes))
            .collect();
        let context = store.as_context_mut();
        match role {
            Role::EventFilter => Some(
                self.event_filter
                    .as_ref()?
                    .call_accept(context, &events)
                    .map(accepted),
            ),
            Role::Mapper => Some(
                self.mapper
                    .as_ref()?
                    .call_transform(context, &events)
                    .map(changes),
            ),
            Role::EntityFilter | Role::Renderer => None,
        }
    }

    /// Calls an entity role; `None` if the component does not export it.
    pub(super) fn entities<'a>(
        &self,
        store: &mut Store<State>,
        role: Role,
        entities: impl Iterator<Item = &'a View>,
    ) -> Option<wasmtime::Result<Answers>> {
        let views: Vec<&View> = entities.collect();
        let facets: Vec<Vec<types::Facet<'_>>> =
            views.iter().map(|view| lower_facets(view)).collect();
        let entities: Vec<types::Entity<'_>> = views
            .iter()
            .zip(&facets)
            .map(|(view, facets)| lower_view(view, facets))
            .collect();
        let context = store.as_context_mut();
        match role {
            Role::EntityFilter => Some(
                self.entity_filter
                    .as_ref()?
                    .call_accept(context, &entities)
                    .map(accepted),
            ),
            Role::Renderer => Some(
                self.renderer
                    .as_ref()?
                    .call_render(context, &entities)
                    .map(renderings),
            ),
            Role::EventFilter | Role::Mapper => None,
        }
    }
}

fn accepted(results: Vec<Result<bool, types::Failure>>) -> Answers {
    results
        .into_iter()
        .map(|result| result.map(Answer::Accepted).map_err(declined))
        .collect()
}

fn changes(results: Vec<Result<Vec<types::Change>, types::Failure>>) -> Answers {
    let lift = |changes: Vec<types::Change>| {
        changes
            .into_iter()
            .map(lift_change)
            .collect::<Result<_, _>>()
            .map(Answer::Changes)
    };
    results
        .into_iter()
        .map(|result| result.map_err(declined).and_then(lift))
        .collect()
}

fn renderings(results: Vec<Result<Option<types::Rendering>, types::Failure>>) -> Answers {
    let lift =
        |rendering: Option<types::Rendering>| Answer::Rendered(rendering.map(lift_rendering));
    results
        .into_iter()
        .map(|result| result.map(lift).map_err(declined))
        .collect()
}

fn declined(failure: types::Failure) -> Declined {
    Declined {
        fault: is_mistake(&failure.code),
        failure: Failure {
            code: brief(failure.code, CODE_BYTES_MAX),
            message: brief(failure.message, MESSAGE_BYTES_MAX),
        },
    }
}

/// An unusable result. The message is shortened, because it contains names from the guest, which
/// may be of any length.
fn unusable(code: &str, message: String) -> Declined {
    Declined {
        failure: Failure::new(code, brief(message, MESSAGE_BYTES_MAX)),
        fault: true,
    }
}

/// The most bytes kept of a failure's code, and below of its message, because each quarantined
/// event stores its failure.
const CODE_BYTES_MAX: usize = 64;
const MESSAGE_BYTES_MAX: usize = 2048;

/// The text, truncated at a character boundary to at most `bytes_max` bytes and an ellipsis.
pub(super) fn brief(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
        text.push('…');
    }
    text
}

fn lower_attributes(event: &Event) -> Vec<(&str, &str)> {
    event
        .attributes
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

fn lower_event<'a>(event: &'a Event, attributes: &'a [(&'a str, &'a str)]) -> types::Event<'a> {
    types::Event {
        id: &event.id,
        origin: &event.origin,
        event_type: &event.event_type,
        subject: event.subject.as_deref(),
        time: event.time.as_deref(),
        content_type: event.content_type.as_deref(),
        attributes,
        data: match &event.data {
            Payload::Text(text) => types::PayloadParam::Text(text),
            Payload::Binary(bytes) => types::PayloadParam::Binary(bytes),
        },
    }
}

fn lower_facets(view: &View) -> Vec<types::Facet<'_>> {
    view.facets
        .iter()
        .map(|(name, value)| types::Facet { name, value })
        .collect()
}

fn lower_view<'a>(view: &'a View, facets: &'a [types::Facet<'a>]) -> types::Entity<'a> {
    types::Entity {
        entity_type: &view.id.entity_type,
        key: &view.id.key,
        facets,
    }
}

/// Converts a change. A guest can return any text, so this checks, once, that the value is JSON.
fn lift_change(change: types::Change) -> Result<Change, Declined> {
    let place = || {
        format!(
            "facet {:?} of {} {:?}",
            change.facet, change.entity_type, change.key
        )
    };
    if let Some(value) = &change.value
        && let Err(error) = serde_json::from_str::<&RawValue>(value)
    {
        return Err(unusable(
            "invalid-json",
            format!("the value of {} is not JSON: {error}", place()),
        ));
    }
    let lane = match &change.lane {
        None => None,
        Some(name) => Some(Lane::parse(name).ok_or_else(|| {
            unusable(
                "bad-lane",
                format!(
                    "{} asks for lane {name:?}; there are urgent, normal and bulk",
                    place()
                ),
            )
        })?),
    };
    Ok(Change {
        entity_type: change.entity_type,
        key: change.key,
        facet: change.facet,
        value: change.value.map(String::into_boxed_str),
        version: change.version,
        lane,
    })
}

fn lift_rendering(rendering: types::Rendering) -> Rendering {
    Rendering {
        key: rendering.key,
        content_type: rendering.content_type,
        body: match rendering.body {
            types::PayloadResult::Text(text) => Payload::Text(text),
            types::PayloadResult::Binary(bytes) => Payload::Binary(bytes),
        },
    }
}
