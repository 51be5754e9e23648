//! Turns a request into events, from CloudEvents and other formats.
//!
//! It reads CloudEvents 1.0.2 in its three modes, NDJSON, and any other body, which is cut as the
//! source is configured. Two rules decide whether a whole request is rejected or one of its items
//! is reported:
//!
//! * A body that cannot be cut into events at all (a batch that is not a JSON array, XML that
//!   breaks off) is malformed as a whole.
//! * An item that cannot be understood is kept as its bytes with the reason (*unread*), and the
//!   others continue. If no item can be understood, the request is malformed as a whole, with the
//!   first item's reason, and nothing is kept. This also covers a request with one event.
//!
//! Data that is declared as JSON is checked to be JSON and passed on unchanged, with its numbers,
//! order and spelling. XML and other formats are left to the plugins unless they have to be cut
//! here. No input makes this file panic.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::value::RawValue;

use super::media::{self, Media};
use super::split::{self, Spoilt};
use super::{Headers, ItemProblem, Options, PROBLEMS_MAX, Rejection, json};
use crate::budget::Reservation;
use crate::model::{Event, Failure, Payload};

/// Maximum number of events per request. A body of 8 MiB could hold millions of empty ones, each of
/// which takes far more memory than its bytes.
pub const EVENTS_MAX: usize = 100_000;
/// Maximum number of attributes per CloudEvent; real ones have fewer than 20.
pub const ATTRIBUTES_MAX: usize = 256;
/// Maximum total size of a request's events, as a multiple of the longest body.
const WEIGHT_FACTOR: u64 = 4;
/// Approximate overhead of an event in memory, in addition to its bytes.
const EVENT_OVERHEAD_BYTES: u64 = 512;
/// Headers that a pattern such as `*` never passes to plugins, because they carry credentials. A
/// source can pass each of them by its full name.
const CREDENTIALS: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

/// The media type of a CloudEvent in structured mode.
const STRUCTURED: &str = "application/cloudevents+json";

/// The events of a request, each with its index in the request, and the items that are not events.
#[derive(Debug, Default, PartialEq)]
pub struct Opened {
    /// The events, in order.
    pub events: Vec<Event>,
    /// For each event its index in the request, counting the items that could not be read.
    pub indexes: Vec<usize>,
    /// The items that could not be read as events, in order.
    pub unread: Vec<Unread>,
}

/// An item of a request that could not be read as an event.
#[derive(Debug, PartialEq)]
pub struct Unread {
    /// Its index in the request.
    pub index: usize,
    /// The bytes of the item, with the media type by which [`read_again`] reads them.
    pub item: Event,
    /// Why it could not be read.
    pub failure: Failure,
}

/// Cuts a request into events. `all_json` means that the source has no mapper, so that all data
/// must be JSON; `body` is already decompressed. The weight of each event is added to the
/// reservation before the next event is made.
///
/// # Errors
/// `Malformed`, `UnsupportedMediaType`, `TooLarge` (too many events, or too much once cut) and
/// `Overloaded`.
pub fn open(
    options: &Options,
    all_json: bool,
    headers: &Headers,
    body: Bytes,
    reservation: &Reservation,
) -> Result<Opened, Rejection> {
    let (content_type, media) = media::content_type(headers);
    let essence = media.as_ref().map_or("", |media| media.essence.as_str());
    if let Some(media) = &media
        && (essence.starts_with("application/cloudevents") || essence == "application/x-ndjson")
        && !media.is_utf8()
    {
        let charset = media.charset.as_deref().unwrap_or_default();
        return Err(Rejection::UnsupportedMediaType {
            detail: format!("JSON is sent as UTF-8, not as {charset}"),
        });
    }
    let passed_on = passed_on(&options.headers, headers);
    let limit = options.body_bytes_max.saturating_mul(WEIGHT_FACTOR);
    let weight = Weight {
        limit,
        bytes: 0,
        overhead: 0,
        held: reservation.held(),
        reservation,
    };
    let mut collector = Collector {
        all_json,
        passed_on,
        opened: Opened::default(),
        weight,
    };
    match essence {
        STRUCTURED => collector.event(structured(json::text(&body)?, all_json)?)?,
        "application/cloudevents-batch+json" => collector.batch(json::text(&body)?)?,
        "application/cloudevents" | "application/cloudevents-batch" => {
            return Err(unsupported(essence));
        }
        _ if essence.starts_with("application/cloudevents+")
            || essence.starts_with("application/cloudevents-batch+") =>
        {
            return Err(unsupported(essence));
        }
        _ if is_binary(headers) => {
            let mut event = binary(headers, content_type, body)?;
            check_data(&mut event, all_json)?;
            collector.event(event)?;
        }
        "application/x-ndjson" | "application/ndjson" => {
            collector.plain(&split::Split::Lines, Some("application/json"), body)?
        }
        _ => collector.plain(&options.split, content_type.as_deref(), body)?,
    }
    collector.finish()
}

struct Collector<'a> {
    all_json: bool,
    passed_on: Vec<(String, String)>,
    opened: Opened,
    weight: Weight<'a>,
}

impl Collector<'_> {
    /// Adds an event whose data was checked.
    fn event(&mut self, mut event: Event) -> Result<(), Rejection> {
        let index = self.next_index()?;
        event.attributes.extend(self.passed_on.iter().cloned());
        self.weight.add(&event)?;
        self.opened.events.push(event);
        self.opened.indexes.push(index);
        Ok(())
    }

    /// Adds an item that could not be read; `item` has its bytes.
    fn unread(&mut self, mut item: Event, failure: Failure) -> Result<(), Rejection> {
        let index = self.next_index()?;
        item.attributes.extend(self.passed_on.iter().cloned());
        self.weight.add(&item)?;
        let unread = Unread {
            index,
            item,
            failure,
        };
        self.opened.unread.push(unread);
        Ok(())
    }

    fn next_index(&self) -> Result<usize, Rejection> {
        let index = self.opened.events.len() + self.opened.unread.len();
        if index < EVENTS_MAX {
            return Ok(index);
        }
        Err(Rejection::TooLarge {
            limit: EVENTS_MAX as u64,
            unit: "events",
        })
    }

    fn batch(&mut self, text: &str) -> Result<(), Rejection> {
        if !json::is_array(text) {
            return Err(invalid("a batch is a JSON array of CloudEvents").into());
        }
        for item in json::items(text)? {
            match structured(item.get(), self.all_json) {
                Ok(event) => self.event(event)?,
                Err(failure) => {
                    let bytes = Payload::Text(item.get().to_owned());
                    self.unread(Event::plain(Some(STRUCTURED), bytes), failure)?;
                }
            }
        }
        Ok(())
    }

    /// Cuts a body that is not a CloudEvent. Its events have no identity.
    fn plain(
        &mut self,
        split: &split::Split,
        content_type: Option<&str>,
        body: Bytes,
    ) -> Result<(), Rejection> {
        if *split == split::Split::Whole {
            if body.is_empty() {
                return Err(Failure::new("empty-body", "the body is empty; send an event").into());
            }
            let mut event = Event::plain(content_type, Payload::from_bytes(body.into()));
            check_data(&mut event, self.all_json)?;
            return self.event(event);
        }
        let content_type = split.content_type().or(content_type);
        split::cut(split, &body, &mut |piece| match piece {
            Ok(text) => {
                let mut event = Event::plain(content_type, Payload::Text(text));
                match check_data(&mut event, self.all_json) {
                    Ok(()) => self.event(event),
                    Err(failure) => self.unread(event, failure),
                }
            }
            Err(Spoilt {
                bytes,
                media_type,
                failure,
            }) => {
                let item = Event::plain(media_type.or(content_type), Payload::from_bytes(bytes));
                self.unread(item, failure)
            }
        })
    }

    fn finish(self) -> Result<Opened, Rejection> {
        if self.opened.events.is_empty() && !self.opened.unread.is_empty() {
            return Err(nothing_readable(self.opened.unread));
        }
        Ok(self.opened)
    }
}

/// The rejection of a request none of whose items can be read; its reason is the first problem.
fn nothing_readable(unread: Vec<Unread>) -> Rejection {
    let count = unread.len();
    let mut problems: Vec<ItemProblem> = unread
        .into_iter()
        .take(PROBLEMS_MAX)
        .map(|unread| ItemProblem::new(unread.index, unread.failure))
        .collect();
    let first = problems.first().map_or_else(Default::default, |problem| {
        (problem.code.clone(), problem.detail.clone())
    });
    let mut failure = Failure::new(first.0, first.1);
    if count == 1 {
        problems.clear();
    } else {
        failure.message = format!(
            "none of the {count} events could be understood; the first: {}",
            failure.message
        );
    }
    Rejection::Malformed { failure, problems }
}

/// Reads an unread item from quarantine again, by the rules of now: Weir may have become a newer
/// one, and the source may have got a mapper. `all_json` is as for [`open`].
///
/// # Errors
/// Why it still cannot be read.
pub(super) fn read_again(item: &Event, all_json: bool) -> Result<Event, Failure> {
    let text = json::text(item.data.as_bytes())?;
    let plain = |text: String, content_type: Option<&str>| -> Result<Event, Failure> {
        let mut event = Event::plain(content_type, Payload::Text(text));
        check_data(&mut event, all_json)?;
        Ok(event)
    };
    let mut event = match item.content_type.as_deref() {
        Some(STRUCTURED) => structured(text, all_json)?,
        Some(split::CSV_RECORD) => plain(split::record(text)?, split::Split::Csv.content_type())?,
        content_type => plain(text.to_owned(), content_type)?,
    };
    event.attributes.extend(item.attributes.iter().cloned());
    Ok(event)
}

/// The weight of a request's events in memory. It can be far larger than the body, because names of
/// columns, namespaces and headers are repeated in each event.
struct Weight<'a> {
    limit: u64,
    bytes: u64,
    overhead: u64,
    /// The part that was reserved for the body, before its events.
    held: u64,
    reservation: &'a Reservation,
}

impl Weight<'_> {
    fn add(&mut self, event: &Event) -> Result<(), Rejection> {
        let attributes: usize = event
            .attributes
            .iter()
            .map(|(name, value)| name.len() + value.len() + 48)
            .sum();
        self.bytes += (event.data.as_bytes().len() + attributes) as u64;
        if self.bytes > self.limit {
            return Err(Rejection::TooLarge {
                limit: self.limit,
                unit: "bytes once it is cut into events",
            });
        }
        self.overhead += EVENT_OVERHEAD_BYTES;
        let spent = self.bytes + self.overhead;
        let wanted = self.held + spent;
        if wanted > self.reservation.held() {
            // Grows geometrically, to avoid one acquisition per event.
            let ahead = self.reservation.grow_to(wanted + spent.min(256 * 1024));
            ahead.or_else(|_| self.reservation.grow_to(wanted))?;
        }
        Ok(())
    }
}

/// Checks data that is declared as JSON, or must be JSON, and removes a byte order mark.
fn check_data(event: &mut Event, all_json: bool) -> Result<(), Failure> {
    // A fast path: nearly all senders write exactly this, and a request has hundreds of events.
    let is_json = |written: &str| {
        written == "application/json" || Media::parse(written).is_some_and(|media| media.is_json())
    };
    let says_json = || event.content_type.as_deref().is_some_and(is_json);
    if !all_json && (event.data.as_bytes().is_empty() || !says_json()) {
        return Ok(());
    }
    match &mut event.data {
        Payload::Text(text) => {
            if text.starts_with('\u{feff}') {
                text.drain(..'\u{feff}'.len_utf8());
            }
            json::check(text).map_err(|failure| {
                if all_json {
                    without_mapper(failure)
                } else {
                    failure
                }
            })?;
        }
        Payload::Binary(bytes) => drop(json::text(bytes)?),
    }
    Ok(())
}

fn without_mapper(failure: Failure) -> Failure {
    Failure {
        message: format!(
            "{} (this source has no mapper, so its events are changes as JSON)",
            failure.message
        ),
        ..failure
    }
}

/// The headers that a source passes on, as attributes; `ce-` headers belong to the envelope.
fn passed_on(patterns: &[String], headers: &Headers) -> Vec<(String, String)> {
    let let_through = |name: &str| {
        let exact = patterns
            .iter()
            .any(|pattern| pattern.eq_ignore_ascii_case(name));
        let family = || {
            patterns
                .iter()
                .filter_map(|pattern| pattern.strip_suffix('*'))
                .any(|prefix| has_prefix(name, prefix))
        };
        !name.starts_with("ce-") && (exact || (!CREDENTIALS.contains(&name) && family()))
    };
    let through = headers.iter().filter(|(name, _)| let_through(name));
    through
        .map(|(name, value)| (name.to_owned(), String::from_utf8_lossy(value).into_owned()))
        .collect()
}

fn has_prefix(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// Whether a request is in binary mode: at least one of the required attributes is a header.
fn is_binary(headers: &Headers) -> bool {
    ["ce-specversion", "ce-id", "ce-source", "ce-type"]
        .iter()
        .any(|name| headers.contains(name))
}

fn binary(headers: &Headers, content_type: Option<String>, body: Bytes) -> Result<Event, Failure> {
    let mut attributes = Attributes::new("ce-");
    for (name, value) in headers.iter() {
        let Some(attribute) = name.strip_prefix("ce-") else {
            continue;
        };
        attributes.set(attribute, header_value(name, value)?)?;
    }
    // The media type of the data is the request's own, so this header is ignored.
    attributes.event(|_| content_type, Payload::from_bytes(body.into()))
}

/// Reads one CloudEvent from a JSON object and checks its data.
fn structured(text: &str, all_json: bool) -> Result<Event, Failure> {
    json::check(text)?;
    if !text.trim_start().starts_with('{') {
        return Err(invalid("a CloudEvent in structured mode is a JSON object"));
    }
    let mut attributes = Attributes::new("");
    let (mut data, mut data_base64) = (None, None);
    for (name, value) in json::members(text)? {
        let place = match name.as_str() {
            "data" => &mut data,
            "data_base64" => &mut data_base64,
            _ => {
                if let Some(value) = attribute_value(&name, value)? {
                    attributes.set(&name.to_ascii_lowercase(), value)?;
                }
                continue;
            }
        };
        if place.replace(value).is_some() {
            return Err(invalid(format!("`{name}` is there twice")));
        }
    }
    let json = attributes
        .get("datacontenttype")
        .is_none_or(|written| Media::parse(written).is_some_and(|media| media.is_json()));
    let (payload, checked) = match (data, data_base64) {
        (Some(_), Some(_)) => return Err(invalid("`data` and `data_base64` exclude each other")),
        (None, None) => (Payload::Text(String::new()), false),
        (None, Some(encoded)) => (base64_data(encoded)?, false),
        // Data whose media type is not JSON is in a JSON string (an XML document, for example).
        (Some(value), None) => match json::string(value).filter(|_| !json) {
            Some(text) => (Payload::Text(text), false),
            None => (Payload::Text(value.get().to_owned()), true),
        },
    };
    let mut event = attributes.event(
        |written| Some(written.unwrap_or_else(|| "application/json".to_owned())),
        payload,
    )?;
    if !checked {
        check_data(&mut event, all_json)?;
    }
    Ok(event)
}

fn base64_data(encoded: &RawValue) -> Result<Payload, Failure> {
    let text = json::string(encoded).ok_or_else(|| invalid("`data_base64` is a string"))?;
    let bytes = STANDARD
        .decode(text)
        .map_err(|error| invalid(format!("`data_base64` is not base64: {error}")))?;
    Ok(Payload::from_bytes(bytes))
}

/// The attributes of one CloudEvent while it is read.
struct Attributes {
    /// The prefix of names in messages: `ce-` in binary mode.
    prefix: &'static str,
    values: Vec<(String, String)>,
}

impl Attributes {
    fn new(prefix: &'static str) -> Attributes {
        Attributes {
            prefix,
            values: Vec::with_capacity(12),
        }
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), Failure> {
        if self.get(name).is_some() {
            return Err(invalid(format!("`{}{name}` is there twice", self.prefix)));
        }
        if self.values.len() >= ATTRIBUTES_MAX {
            return Err(invalid(format!(
                "an event has at most {ATTRIBUTES_MAX} attributes"
            )));
        }
        self.values.push((name.to_owned(), value));
        Ok(())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.values
            .iter()
            .find(|(there, _)| there == name)
            .map(|(_, value)| value.as_str())
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.values.iter().position(|(there, _)| there == name)?;
        Some(self.values.remove(at).1)
    }

    fn required(&mut self, name: &str) -> Result<String, Failure> {
        let prefix = self.prefix;
        let value = self.take(name).ok_or_else(|| {
            invalid(format!(
                "`{prefix}{name}` is missing; a CloudEvent needs it"
            ))
        })?;
        if value.is_empty() {
            Err(invalid(format!(
                "`{prefix}{name}` is empty; a CloudEvent needs it"
            )))
        } else {
            Ok(value)
        }
    }

    /// The event; the remaining attributes are extensions. `content_type` is made from the
    /// attribute `datacontenttype`.
    fn event(
        mut self,
        content_type: impl FnOnce(Option<String>) -> Option<String>,
        data: Payload,
    ) -> Result<Event, Failure> {
        let version = self.required("specversion")?;
        if version != "1.0" {
            let version = excerpt(&version);
            return Err(invalid(format!(
                "`{}specversion` is `{version}`; Weir understands 1.0",
                self.prefix
            )));
        }
        let (id, origin, event_type) = (
            self.required("id")?,
            self.required("source")?,
            self.required("type")?,
        );
        let (subject, time) = (self.take("subject"), self.take("time"));
        let content_type = content_type(self.take("datacontenttype"));
        Ok(Event {
            id,
            origin,
            event_type,
            subject,
            time,
            content_type,
            attributes: self.values,
            data,
        })
    }
}

/// An attribute of structured mode: text, a number or a truth value; null counts as absent.
fn attribute_value(name: &str, value: &RawValue) -> Result<Option<String>, Failure> {
    match value.get().as_bytes().first() {
        Some(b'n') => Ok(None),
        Some(b'{' | b'[') | None => Err(invalid(format!(
            "the attribute `{}` is a string, number or truth value, not a structure",
            excerpt(name)
        ))),
        Some(b'"') => plain_text(name, json::string(value).unwrap_or_default()).map(Some),
        Some(_) => Ok(Some(value.get().to_owned())),
    }
}

/// The value of a header in binary mode: quotes are removed, then percent-encoding is decoded once.
/// Raw UTF-8, which the binding forbids but some libraries send, is accepted too. A percent sign
/// that is not followed by two digits stands for itself.
fn header_value(name: &str, bytes: &[u8]) -> Result<String, Failure> {
    let written =
        std::str::from_utf8(bytes).map_err(|_| invalid(format!("`{name}` is not valid UTF-8")))?;
    let unquoted = match written
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    {
        Some(inner) => unescape(inner),
        None => written.to_owned(),
    };
    let decoded = percent_encoding::percent_decode_str(&unquoted).decode_utf8();
    let decoded = decoded.map_err(|_| {
        invalid(format!(
            "`{name}` is not valid UTF-8 once its percent signs are decoded"
        ))
    })?;
    plain_text(name, decoded.into_owned())
}

fn unescape(quoted: &str) -> String {
    let mut characters = quoted.chars();
    let mut plain = String::with_capacity(quoted.len());
    while let Some(character) = characters.next() {
        plain.extend(if character == '\\' {
            characters.next()
        } else {
            Some(character)
        });
    }
    plain
}

/// Attributes must not have control characters, because they end up in logs and headers.
fn plain_text(name: &str, value: String) -> Result<String, Failure> {
    if value.chars().any(char::is_control) {
        return Err(invalid(format!(
            "the attribute `{}` has a control character in it",
            excerpt(name)
        )));
    }
    Ok(value)
}

fn invalid(sentence: impl Into<String>) -> Failure {
    Failure::new("invalid-cloudevent", sentence)
}

fn unsupported(essence: &str) -> Rejection {
    let detail = format!(
        "`{essence}` is not understood; CloudEvents come as `application/cloudevents+json`, `application/cloudevents-batch+json` or with `ce-` headers"
    );
    Rejection::UnsupportedMediaType { detail }
}

/// The start of a text from the sender, short enough for a message.
pub(super) fn excerpt(text: &str) -> String {
    let mut characters = text.chars();
    let start: String = characters
        .by_ref()
        .take(64)
        .map(|character| {
            if character.is_control() {
                '\u{fffd}'
            } else {
                character
            }
        })
        .collect();
    if characters.next().is_some() {
        format!("{start}…")
    } else {
        start
    }
}

#[cfg(test)]
mod tests;
