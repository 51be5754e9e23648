//! Renders entities with a jq program, `settings.program`; [`jq::renderer`] has the rules.

use jq::{renderer, Settings};
use weir_plugin::{Entity, Rendering, Result};

/// Renders one entity.
#[weir_plugin::renderer(settings = settings)]
pub fn render(entity: &Entity, settings: &Settings) -> Result<Option<Rendering>> {
    renderer::render(entity, settings)
}

/// Reads the settings.
pub fn settings(json: &str) -> Result<Settings, String> {
    Settings::parse("jq-renderer", json, &[])
}
