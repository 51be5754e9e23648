//! Names events that are not CloudEvents: takes their id and type from where their sender puts them.
//!
//! Webhooks are sent again until they are answered, with the same id. Without it a late retry looks
//! like a new event and brings an old value back.

use super::{Headers, json};
use crate::model::Event;

/// Where the events of a source have their id and type, if they are not CloudEvents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Naming {
    /// Where the id is; `None` if events have none.
    pub id: Option<IdFrom>,
    /// The headers that may have the type, in lower case; the first that is there has it.
    pub event_type: Vec<String>,
}

/// Where the id of an event is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdFrom {
    /// A header of the request, in lower case: the first of these that is there. If the body is cut into
    /// events, each has this id and its index in the request, as in `msg_2b/17`.
    Header(Vec<String>),
    /// A JSON pointer into the event.
    Pointer(String),
}

/// The names that a request gives to its events.
#[derive(Debug, Default)]
pub(super) struct Names<'a> {
    id: Option<&'a str>,
    pointer: Option<&'a str>,
    event_type: Option<&'a str>,
}

impl<'a> Names<'a> {
    pub(super) fn read(naming: &'a Naming, headers: &'a Headers) -> Names<'a> {
        let header = |names: &[String]| {
            let mut values = names.iter().filter_map(|name| headers.get(name));
            values.next().and_then(plain)
        };
        let (id, pointer) = match &naming.id {
            Some(IdFrom::Header(names)) => (header(names), None),
            Some(IdFrom::Pointer(pointer)) => (None, Some(pointer.as_str())),
            None => (None, None),
        };
        Names {
            id,
            pointer,
            event_type: header(&naming.event_type),
        }
    }

    /// Names an event that has no names of its own. `index` is its index in the request if the body
    /// was cut.
    pub(super) fn give(&self, event: &mut Event, index: Option<usize>) {
        if let Some(event_type) = self.event_type {
            event.event_type = event_type.to_owned();
        }
        let id = match (self.id, index) {
            (Some(id), None) => Some(id.to_owned()),
            (Some(id), Some(index)) => Some(format!("{id}/{index}")),
            (None, _) => self.pointer.and_then(|pointer| id_at(event, pointer)),
        };
        event.id = id.unwrap_or_default();
    }
}

/// The text or number at a pointer into an event.
fn id_at(event: &Event, pointer: &str) -> Option<String> {
    let text = json::text(event.data.as_bytes()).ok()?;
    let value = json::at(text, pointer).ok()??.trim();
    match value.as_bytes().first()? {
        b'"' => serde_json::from_str::<String>(value).ok(),
        b'-' | b'0'..=b'9' => Some(value.to_owned()),
        _ => None,
    }
    .filter(|id| !id.chars().any(char::is_control))
}

/// A header's value, unless it is empty or not plain text.
fn plain(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?.trim();
    (!text.is_empty() && !text.chars().any(char::is_control)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Payload;

    fn named(id: Option<IdFrom>, data: &str, index: Option<usize>) -> (String, String) {
        let naming = Naming {
            id,
            event_type: vec!["topic".into(), "x-topic".into()],
        };
        let headers = Headers::from_iter([("x-id", " 7f3a "), ("x-topic", "products/update")]);
        let mut event = Event::plain(None, Payload::Text(data.into()));
        Names::read(&naming, &headers).give(&mut event, index);
        (event.id, event.event_type)
    }

    #[test]
    fn an_id_is_taken_from_a_header_or_from_the_event() {
        let id = |from: IdFrom, data: &str, index| named(Some(from), data, index).0;
        let header = || IdFrom::Header(vec!["id".into(), "x-id".into()]);
        assert_eq!(id(header(), "{}", None), "7f3a");
        assert_eq!(id(header(), "{}", Some(17)), "7f3a/17");
        assert_eq!(id(IdFrom::Header(vec!["x-none".into()]), "{}", None), "");
        let pointer = || IdFrom::Pointer("/meta/ids/1".into());
        assert_eq!(
            id(pointer(), r#"{"meta": {"ids": [1, "a\u002fb"]}}"#, Some(3)),
            "a/b"
        );
        assert_eq!(
            id(pointer(), r#"{"meta": {"ids": [1, 12.0]}}"#, None),
            "12.0"
        );
        for nothing in [
            "<a/>",
            "",
            r#"{"meta": {"ids": [1]}}"#,
            r#"{"meta": {"ids": [1, {}]}}"#,
            r#"{"meta": {"ids": [1, "a\u0007b"]}}"#,
        ] {
            assert_eq!(id(pointer(), nothing, None), "", "{nothing}");
        }
        assert_eq!(
            named(None, "{}", None),
            (String::new(), "products/update".into())
        );
    }
}
