//! Between the component's exports and [`changes`](crate::changes): types in, types out, settings read once.

use crate::{changes, Settings, ENTITY_TYPE};
use bindings::exports::weir::plugin::{mapper, settings};
use bindings::weir::plugin::{log, types};
use std::sync::OnceLock;

#[allow(missing_docs, unreachable_pub, unused_qualifications)]
mod bindings {
    wit_bindgen::generate!({ path: "../../wit", world: "mapper-plugin" });
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

impl mapper::Guest for Plugin {
    fn transform(events: Vec<types::Event>) -> Vec<Result<Vec<types::Change>, types::Failure>> {
        events.iter().map(transform).collect()
    }
}

fn transform(event: &types::Event) -> Result<Vec<types::Change>, types::Failure> {
    let settings = SETTINGS.get().ok_or_else(|| failure("not-configured", "the plugin was called before it was configured"))?;
    let types::Payload::Text(document) = &event.data else {
        return Err(failure("not-text", "the event is not UTF-8; set the IDoc port's encoding to UTF-8"));
    };
    let changes = changes(document, settings).map_err(|error| failure(error.code, &error.message))?;
    Ok(changes.into_iter().map(out).collect())
}

fn out(change: crate::Change) -> types::Change {
    types::Change {
        entity_type: ENTITY_TYPE.into(),
        key: change.key,
        facet: change.facet,
        value: change.value,
        version: change.version,
        lane: None,
    }
}

fn failure(code: &str, message: &str) -> types::Failure {
    types::Failure { code: code.into(), message: message.into() }
}
