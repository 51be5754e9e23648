//! Returns everything that a plugin of a channel receives, as `tests/conformance/README.md`
//! defines.

use serde::Deserialize;
use serde_json::json;
use weir_plugin::{Entity, Error, Rendering, Result};

/// Drops an entity with the facet `drop`.
pub fn accept(entity: &Entity) -> Result<bool> {
    Ok(!has(entity, "drop"))
}

/// Renders the entity as its facets demand.
#[weir_plugin::renderer(filter = accept)]
pub fn render(entity: &Entity) -> Result<Option<Rendering>> {
    if has(entity, "none") {
        return Ok(None);
    }
    if let Some(Failed { code, message }) = entity.facet("fail")? {
        return Err(Error::new(code, message));
    }
    if let Some(bytes) = entity.facet::<Vec<u8>>("bytes")? {
        return Ok(Some(Rendering::of("application/octet-stream", bytes)));
    }
    if let Some(text) = entity.facet::<String>("text")? {
        let rendering = Rendering::of("text/plain", text);
        return Ok(Some(match entity.facet::<String>("key")? {
            Some(key) => rendering.key(key),
            None => rendering,
        }));
    }
    let facets: Vec<[&str; 2]> = entity
        .facets
        .iter()
        .map(|facet| [facet.name.as_str(), facet.value.as_str()])
        .collect();
    Rendering::json(&json!({ "type": entity.entity_type, "key": entity.key, "facets": facets }))
        .map(Some)
}

/// The value of `fail`.
#[derive(Deserialize)]
struct Failed {
    code: String,
    message: String,
}

fn has(entity: &Entity, facet: &str) -> bool {
    entity.facets.iter().any(|there| there.name == facet)
}
