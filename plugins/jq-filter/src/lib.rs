//! Drops the events or the entities for which a jq program, `settings.program`, returns false;
//! [`jq::filter`] has the rules.

use jq::{filter, Settings};
use std::sync::OnceLock;
use weir_plugin::{guest, Entity, Event, Result};

/// Reads the settings.
pub fn settings(json: &str) -> Result<Settings, String> {
    Settings::parse("jq-filter", json, &filter::VARIABLES)
}

/// The plugin. It is for sources and for channels, so that no attribute fits.
#[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]
struct Filter;

impl guest::Plugin for Filter {
    type Settings = Settings;

    fn read(json: &str) -> Result<Settings, String> {
        settings(json)
    }

    fn kept() -> &'static OnceLock<Settings> {
        static KEPT: OnceLock<Settings> = OnceLock::new();
        &KEPT
    }
}

impl guest::EventFilter for Filter {
    fn accept(event: Event, settings: &Settings) -> Result<bool> {
        filter::event(&event, settings)
    }
}

impl guest::EntityFilter for Filter {
    fn accept(entity: Entity, settings: &Settings) -> Result<bool> {
        filter::entity(&entity, settings)
    }
}

#[cfg(target_arch = "wasm32")]
mod exports {
    use super::Filter;
    use weir_plugin::guest::bindings::{entity_filter, event_filter, settings};

    settings::export!(Filter with_types_in settings);
    event_filter::export!(Filter with_types_in event_filter);
    entity_filter::export!(Filter with_types_in entity_filter);
}
