//! The bindings, generated from `wit/plugin.wit` in five parts. Each part has an `export!` that the
//! attributes expand to.
//!
//! A part becomes part of the module's type only if its `export!` is expanded; the parts of a
//! module add up to one of the worlds of `wit/plugin.wit`. (Bindings of whole worlds in one crate
//! would define the macros of their common interfaces several times.) The values are the types of
//! [`crate::types`].

use super::{configure, each, EntityFilter, EventFilter, Mapper, Plugin, Renderer};
use crate::log::Level;
use crate::types::{Change, Entity, Event, Failure, Rendering};

pub(crate) fn log(level: Level, message: &str) {
    use settings::weir::plugin::log;
    let level = match level {
        Level::Debug => log::Level::Debug,
        Level::Info => log::Level::Info,
        Level::Warn => log::Level::Warn,
        Level::Error => log::Level::Error,
    };
    log::write(level, message);
}

/// The imports and exports of every plugin.
#[allow(missing_docs, clippy::all, unused, unreachable_pub)]
pub mod settings {
    wit_bindgen::generate!({
        inline: "package weir:part; world settings { import weir:plugin/log@0.1.0; export weir:plugin/settings@0.1.0; }",
        path: "wit",
        generate_all,
        pub_export_macro: true,
    });
}

/// A filter of events.
#[allow(missing_docs, clippy::all, unused, unreachable_pub)]
pub mod event_filter {
    wit_bindgen::generate!({
        inline: "package weir:part; world event-filter { export weir:plugin/event-filter@0.1.0; }",
        path: "wit",
        with: { "weir:plugin/types@0.1.0": crate::types },
        generate_all,
        pub_export_macro: true,
    });
}

/// A mapper.
#[allow(missing_docs, clippy::all, unused, unreachable_pub)]
pub mod mapper {
    wit_bindgen::generate!({
        inline: "package weir:part; world mapper { export weir:plugin/mapper@0.1.0; }",
        path: "wit",
        with: { "weir:plugin/types@0.1.0": crate::types },
        generate_all,
        pub_export_macro: true,
    });
}

/// A filter of entities.
#[allow(missing_docs, clippy::all, unused, unreachable_pub)]
pub mod entity_filter {
    wit_bindgen::generate!({
        inline: "package weir:part; world entity-filter { export weir:plugin/entity-filter@0.1.0; }",
        path: "wit",
        with: { "weir:plugin/types@0.1.0": crate::types },
        generate_all,
        pub_export_macro: true,
    });
}

/// A renderer.
#[allow(missing_docs, clippy::all, unused, unreachable_pub)]
pub mod renderer {
    wit_bindgen::generate!({
        inline: "package weir:part; world renderer { export weir:plugin/renderer@0.1.0; }",
        path: "wit",
        with: { "weir:plugin/types@0.1.0": crate::types },
        generate_all,
        pub_export_macro: true,
    });
}

impl<P: Plugin> settings::exports::weir::plugin::settings::Guest for P {
    fn configure(settings: String) -> Result<(), String> {
        configure::<P>(&settings)
    }
}

impl<P: EventFilter> event_filter::exports::weir::plugin::event_filter::Guest for P {
    fn accept(events: Vec<Event>) -> Vec<Result<bool, Failure>> {
        each::<P, _, _>(events, P::accept)
    }
}

impl<P: Mapper> mapper::exports::weir::plugin::mapper::Guest for P {
    fn transform(events: Vec<Event>) -> Vec<Result<Vec<Change>, Failure>> {
        each::<P, _, _>(events, P::transform)
    }
}

impl<P: EntityFilter> entity_filter::exports::weir::plugin::entity_filter::Guest for P {
    fn accept(entities: Vec<Entity>) -> Vec<Result<bool, Failure>> {
        each::<P, _, _>(entities, P::accept)
    }
}

impl<P: Renderer> renderer::exports::weir::plugin::renderer::Guest for P {
    fn render(entities: Vec<Entity>) -> Vec<Result<Option<Rendering>, Failure>> {
        each::<P, _, _>(entities, P::render)
    }
}
