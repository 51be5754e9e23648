//! jq programs in plugins: what `jq-filter`, `jq-mapper` and `jq-renderer` share.
//!
//! A [`Program`] is compiled once, when the plugin is configured, and runs for each event or entity.
//! What leaves it is JSON or a failure with a name. jaq, the implementation of jq that is used here,
//! has values without a JSON form (infinity, bytes, keys that are no text) and functions that a plugin
//! cannot have (`now`, `env`, `input`); [`json`] refuses the former, and [`natives`] names the latter.

pub mod filter;
pub mod json;
pub mod mapper;
#[cfg(target_arch = "wasm32")]
mod memory;
mod mistake;
mod natives;
mod paths;
mod program;
mod quick;
pub mod renderer;
mod settings;
mod texts;

pub use jaq_json::Val;
pub use program::Program;
pub use settings::Settings;

use std::borrow::Cow;
use weir_plugin::{Entity, Error, Event, Result};

/// The codes of the kits: a bug of the program, and a result of the wrong form.
const EXCEPTION: &str = "exception";
const WRONG_ANSWER: &str = "wrong-answer";

/// The body of an event, the input of a program. Fails with `broken-json` if it is not JSON.
pub fn body(event: &Event) -> Result<Val> {
    json::read(event.text()?)
        .map_err(|why| Error::new("broken-json", format!("the event is not JSON: {why}")))
}

/// The envelope of an event as one object, `$event`: `id`, `source`, `type`, `subject`, `time`,
/// `datacontenttype`, and the extensions and headers by their names.
pub fn envelope(event: &Event) -> Val {
    let own = [
        ("id", Some(&event.id)),
        ("source", Some(&event.origin)),
        ("type", Some(&event.event_type)),
        ("subject", event.subject.as_ref()),
        ("time", event.time.as_ref()),
        ("datacontenttype", event.content_type.as_ref()),
    ];
    let own = own
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    let attributes = event
        .attributes
        .iter()
        .map(|(name, value)| (name.as_str(), value));
    let members = attributes.chain(own);
    Val::obj(
        members
            .map(|(name, value)| (text(name), text(value)))
            .collect(),
    )
}

/// An entity as an object, the input of a program: `type`, `key`, and `facets` by their names.
pub fn entity(entity: &Entity) -> Result<Val> {
    let facets = entity.facets.iter().map(|facet| {
        let value = json::read(&facet.value).map_err(|why| {
            Error::new(
                "broken-json",
                format!("the facet {} is not JSON: {why}", facet.name),
            )
        });
        Ok((text(&facet.name), value?))
    });
    let members = [
        (text("type"), text(&entity.entity_type)),
        (text("key"), text(&entity.key)),
        (text("facets"), Val::obj(facets.collect::<Result<_>>()?)),
    ];
    Ok(Val::obj(members.into_iter().collect()))
}

/// A text as a value.
pub fn text(text: &str) -> Val {
    Val::utf8_str(text.as_bytes().to_vec())
}

/// The text that a value is.
pub fn as_text(value: &Val) -> Option<&str> {
    match value {
        Val::TStr(bytes) => std::str::from_utf8(bytes).ok(),
        _ => None,
    }
}

/// The members of an object; `None` for any other value. A name that is not text is as jq shows it.
pub fn members(value: &Val) -> Option<impl Iterator<Item = (Cow<'_, str>, &Val)>> {
    let Val::Obj(members) = value else {
        return None;
    };
    let named = |(name, value)| match as_text(name) {
        Some(name) => (Cow::Borrowed(name), value),
        None => (Cow::Owned(name.to_string()), value),
    };
    Some(members.iter().map(named))
}

/// A value that a program returned in another form than the plugin needs. `why` says what is wrong
/// and what would be right.
pub fn wrong_answer(why: impl Into<String>) -> Error {
    Error::new(WRONG_ANSWER, why)
}

/// A value as JSON text. Fails with `not-json` if it has no JSON form; `what` names the value.
pub fn written(value: &Val, what: impl Fn() -> String) -> Result<String> {
    json::write(value).map_err(|why| {
        Error::new(
            "not-json",
            format!("{} cannot be written as JSON: {why}", what()),
        )
    })
}

/// A value for a message: its JSON, shortened.
pub fn shown(value: &Val) -> String {
    const CHARACTERS_MAX: usize = 80;
    let whole =
        json::write(value).unwrap_or_else(|why| format!("a value that is not JSON ({why})"));
    match whole.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &whole[..end]),
        None => whole,
    }
}
