//! A finished span.

use std::time::SystemTime;

use super::Merged;
use crate::model::Trace;

/// The longest text of an attribute or an error, in bytes. A longer one is cut.
const TEXT_BYTES_MAX: usize = 1_024;

/// Nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nanos(pub u64);

impl Nanos {
    /// Those of a time of the wall clock.
    pub fn of(time: SystemTime) -> Nanos {
        let since = time.duration_since(SystemTime::UNIX_EPOCH);
        Nanos(since.unwrap_or_default().as_nanos() as u64)
    }
}

/// The kind of a span, with the number that OTLP has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Weir answers a request.
    Server = 2,
    /// Weir makes a request.
    Client = 3,
    /// Weir processes a message.
    Consumer = 5,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A number.
    Number(i64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(cut(text).to_owned())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Value {
        Value::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

/// A finished span.
#[derive(Clone, Debug)]
pub struct Span {
    /// Its ids.
    pub context: Trace,
    /// The span above it.
    pub parent: Option<u64>,
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// When it began.
    pub start: Nanos,
    /// When it ended; not before it began, whatever happened to the clock meanwhile.
    pub end: Nanos,
    /// Its attributes.
    pub attributes: Vec<(&'static str, Value)>,
    /// Why it failed, if it did.
    pub error: Option<String>,
    /// The events that it contains, or may contain.
    pub merged: Vec<Merged>,
}

/// The links of a span: to the first and the last event that it contains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// At most two.
    pub spans: Vec<Trace>,
    /// The number of all events that could be linked to.
    pub count: u64,
}

impl Span {
    /// A span that succeeded, without attributes.
    pub fn new(
        context: Trace,
        parent: Option<u64>,
        kind: Kind,
        name: String,
        start: Nanos,
        end: Nanos,
    ) -> Span {
        Span {
            context,
            parent,
            name,
            kind,
            start,
            end: end.max(start),
            attributes: Vec::new(),
            error: None,
            merged: Vec::new(),
        }
    }

    /// Adds attributes, and returns it.
    pub fn with<const N: usize>(mut self, attributes: [(&'static str, Value); N]) -> Span {
        self.attributes.extend(attributes);
        self
    }

    /// Says that it failed: `error.type`, a word of a fixed list, and a sentence.
    pub fn failed(mut self, word: &str, sentence: &str) -> Span {
        self.attributes.push(("error.type", word.into()));
        self.error = Some(cut(sentence).to_owned());
        self
    }

    /// The links to the events that it contains, each once; `None` while it is not known of one, unless
    /// `last` says that nobody will know any more.
    pub(super) fn links(&self, last: bool) -> Option<Links> {
        let mut events = Vec::new();
        for merged in &self.merged {
            match merged.decided() {
                Some((sequence, true)) => events.push((sequence, merged.event())),
                Some((_, false)) => {}
                None if last => {}
                None => return None,
            }
        }
        events.sort_by_key(|(sequence, event)| (*sequence, event.trace, event.span));
        events.dedup();
        let mut ends = vec![events.first(), events.last()];
        ends.dedup();
        Some(Links {
            spans: ends.into_iter().flatten().map(|(_, span)| *span).collect(),
            count: events.len() as u64,
        })
    }
}

/// The beginning of a text, at most [`TEXT_BYTES_MAX`] of it.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}
