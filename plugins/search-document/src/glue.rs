//! Between the component's exports and [`document`](crate::document): types in, types out, settings read once.

use crate::{document, Document, Entity, Facet, Settings};
use bindings::exports::weir::plugin::{renderer, settings};
use bindings::weir::plugin::{log, types};
use std::sync::OnceLock;

#[allow(missing_docs, unreachable_pub, unused_qualifications)]
mod bindings {
    wit_bindgen::generate!({ path: "../../wit", world: "renderer-plugin" });
}

static SETTINGS: OnceLock<Settings> = OnceLock::new();

struct Plugin;

bindings::export!(Plugin with_types_in bindings);

impl settings::Guest for Plugin {
    fn configure(json: String) -> Result<(), String> {
        // A panic ends the instance without a word to the host; its text must leave before it does.
        std::panic::set_hook(Box::new(|panic| log::write(log::Level::Error, &panic.to_string())));
        SETTINGS.set(Settings::parse(&json)?).map_err(|_| "an instance is configured only once".into())
    }
}

impl renderer::Guest for Plugin {
    fn render(entities: Vec<types::Entity>) -> Vec<Result<Option<types::Rendering>, types::Failure>> {
        entities.iter().map(render).collect()
    }
}

fn render(entity: &types::Entity) -> Result<Option<types::Rendering>, types::Failure> {
    let settings = SETTINGS.get().ok_or_else(|| failure("not-configured", "the plugin was called before it was configured"))?;
    let facets: Vec<Facet<'_>> = entity.facets.iter().map(|facet| Facet { name: &facet.name, value: &facet.value }).collect();
    let document = document(Entity { key: &entity.key, facets: &facets }, settings).map_err(|error| failure(error.code, &error.message))?;
    Ok(document.map(out))
}

fn out(document: Document) -> types::Rendering {
    types::Rendering { key: Some(document.id), content_type: Some("application/json".into()), body: types::Payload::Text(document.body) }
}

fn failure(code: &str, message: &str) -> types::Failure {
    types::Failure { code: code.into(), message: message.into() }
}
