//! Between the component's exports and [`accepts`](crate::accepts): types in, types out, settings read once.

use crate::{accepts, Settings};
use bindings::exports::weir::plugin::{event_filter, settings};
use bindings::weir::plugin::{log, types};
use std::sync::OnceLock;

#[allow(missing_docs, unreachable_pub, unused_qualifications)]
mod bindings {
    wit_bindgen::generate!({ path: "../../wit", world: "event-filter-plugin" });
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

impl event_filter::Guest for Plugin {
    fn accept(events: Vec<types::Event>) -> Vec<Result<bool, types::Failure>> {
        events.iter().map(accept).collect()
    }
}

fn accept(event: &types::Event) -> Result<bool, types::Failure> {
    let settings = SETTINGS.get().ok_or_else(|| failure("not-configured", "the plugin was called before it was configured"))?;
    let types::Payload::Text(document) = &event.data else {
        return Err(failure("not-text", "the event is not UTF-8; set the IDoc port's encoding to UTF-8"));
    };
    accepts(document, settings).map_err(|error| failure(error.code, &error.message))
}

fn failure(code: &str, message: &str) -> types::Failure {
    types::Failure { code: code.into(), message: message.into() }
}
