//! Turns a request into events, from CloudEvents and other formats.
//!
//! It reads CloudEvents 1.0.2 in its three modes, NDJSON, forms, and any other body, which is cut as the
//! source is configured. JSON with `specversion` is a CloudEvent also where its media type is plain
//! JSON. Two rules decide whether a whole request is rejected or one of its items
//! is reported:
//!
//! * A body that cannot be cut into events at all (a batch that is not a JSON array, XML that
//!   breaks off) is malformed as a whole.
//! * An item that cannot be understood is kept as its bytes with the reason (*unread*), and the
//!   others continue. If no item can be understood, the request is malformed as a whole, with the
//!   first item's reason, and nothing is kept. This also covers a request with one event. A source
//!   whose sender would not send it again keeps it all the same ([`super::unreadable`]).
//!
//! Data that is declared as JSON is checked to be JSON and passed on unchanged, with its numbers,
//! order and spelling. JSON is UTF-8; other text may be in another encoding, and becomes UTF-8. XML and
//! other formats are left to the plugins unless they have to be cut here. No input makes this file panic.

mod cloudevent;

use bytes::Bytes;
use serde_json::value::RawValue;

use self::cloudevent::{binary, invalid, is_binary, structured, unsupported};
use super::charset::{self, Claims, Text};
use super::media::{self, Media};
use super::naming::Names;
use super::split::{self, Spoilt};
use super::{Headers, ItemProblem, Options, PROBLEMS_MAX, Rejection, form, json};
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
pub(super) const EVENT_OVERHEAD_BYTES: u64 = 512;
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
    /// Whether it is the whole body, which [`super::unreadable`] reads again.
    pub whole: bool,
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
        && (essence.starts_with("application/cloudevents") || media::is_lines_of_json(essence))
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
        options,
        all_json,
        media: media.as_ref(),
        passed_on,
        names: Names::read(&options.naming, headers),
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
            let (content_type, data) = collector.readable(content_type, body)?;
            let event = binary(headers, content_type, data)?;
            check_data(&event, all_json)?;
            collector.event(event)?;
        }
        _ if media::is_lines_of_json(essence) => {
            let lines = split::Split::Lines;
            collector.pieces(&lines, Some("application/json".into()), Text::utf8(&body))?;
        }
        _ if essence.starts_with("multipart/") => return Err(multipart(essence)),
        _ if form::is_form(&options.form, &options.split, media.as_ref(), &body) => {
            collector.form(&body)?;
        }
        _ => collector.plain(content_type, body)?,
    }
    collector.finish()
}

struct Collector<'a> {
    options: &'a Options,
    all_json: bool,
    /// The media type of the request.
    media: Option<&'a Media>,
    passed_on: Vec<(String, String)>,
    /// The names of events that are not CloudEvents.
    names: Names<'a>,
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
            whole: false,
        };
        self.opened.unread.push(unread);
        Ok(())
    }

    /// The index of the next item.
    fn index(&self) -> usize {
        self.opened.events.len() + self.opened.unread.len()
    }

    fn next_index(&self) -> Result<usize, Rejection> {
        let index = self.index();
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
        // One more than are allowed, to be refused.
        for item in json::items(text, EVENTS_MAX + 1)? {
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

    /// What is said about the encoding of the body.
    fn claims(&self) -> Claims<'_> {
        Claims::of(self.media, self.options.encoding)
    }

    /// Data with its media type. Text in another encoding becomes UTF-8; JSON, text in UTF-8, and what is not said
    /// to be text stay as they were sent.
    fn readable(
        &mut self,
        content_type: Option<String>,
        body: Bytes,
    ) -> Result<(Option<String>, Payload), Rejection> {
        let may_be_text = self.media.is_none_or(|media| {
            !media.is_json()
                && (media.is_text() || media.charset.is_some() || self.options.encoding.is_some())
        });
        if may_be_text {
            let text = Text::of(&body, self.claims())?;
            if !text.is_utf8() {
                let decoded = charset::declared_as_utf8(self.decode(text)?);
                let content_type = content_type.map(|written| media::as_utf8(&written));
                return Ok((content_type, Payload::Text(decoded)));
            }
        }
        Ok((content_type, Payload::received(body.into())))
    }

    /// All of a text that is not UTF-8, which takes memory of its own.
    fn decode(&mut self, text: Text<'_>) -> Result<String, Rejection> {
        let (mut whole, weight) = (String::new(), &mut self.weight);
        text.decode(&mut |piece| {
            let before = whole.capacity();
            if before - whole.len() < piece.len() {
                // As much as the text will take when it grows.
                weight.hold(before.max(piece.len()) as u64)?;
            }
            whole.push_str(piece);
            Ok(())
        })?;
        Ok(whole)
    }

    /// Takes what a form contains.
    fn form(&mut self, body: &[u8]) -> Result<(), Rejection> {
        let form::Content { media_type, text } =
            form::open(&self.options.form, body, self.claims())?;
        self.weight.hold(text.len() as u64)?;
        if self.options.split == split::Split::Whole {
            return self.whole(Some(media_type), Payload::Text(text));
        }
        let text = Text::utf8(text.as_bytes());
        self.pieces(&self.options.split, Some(media_type.to_owned()), text)
    }

    /// Takes a body that is not a CloudEvent. Its events have an identity if the source says where
    /// their id is.
    fn plain(&mut self, content_type: Option<String>, body: Bytes) -> Result<(), Rejection> {
        let split = &self.options.split;
        if *split == split::Split::Whole {
            if body.is_empty() {
                return Err(Failure::new("empty-body", "the body is empty; send an event").into());
            }
            let (content_type, data) = self.readable(content_type, body)?;
            return self.whole(content_type.as_deref(), data);
        }
        if matches!(split, split::Split::Json(_)) {
            return self.pieces(split, content_type, Text::utf8(&body));
        }
        let text = Text::of(&body, self.claims())?;
        let content_type = match text.is_utf8() {
            true => content_type,
            false => content_type.map(|written| media::as_utf8(&written)),
        };
        if matches!(split, split::Split::Xml(_)) && !text.is_utf8() {
            let decoded = self.decode(text)?;
            return self.pieces(split, content_type, Text::utf8(decoded.as_bytes()));
        }
        self.pieces(split, content_type, text)
    }

    /// Takes data that is one event, or what CloudEvents it contains without saying so.
    fn whole(&mut self, content_type: Option<&str>, data: Payload) -> Result<(), Rejection> {
        let mut event = Event::plain(content_type, data);
        match self.undeclared(&event) {
            Some(Undeclared::One(text)) => {
                let event = structured(text, self.all_json)?;
                return self.event(event);
            }
            Some(Undeclared::Batch(text)) => return self.batch(text),
            None => {}
        }
        check_data(&event, self.all_json)?;
        self.names.give(&mut event, None);
        self.event(event)
    }

    /// JSON with `specversion` is a CloudEvent, whether its media type says so or not; many senders
    /// leave that out. Cases, `weir plugin run` and `weir send` have the same rule.
    fn undeclared<'e>(&self, event: &'e Event) -> Option<Undeclared<'e>> {
        let Payload::Text(text) = &event.data else {
            return None;
        };
        let looks_like_one = text.contains("\"specversion\"");
        (looks_like_one && (self.all_json || declares_json(event)))
            .then(|| Undeclared::of(text))
            .flatten()
    }

    /// Takes the pieces of a text.
    fn pieces(
        &mut self,
        split: &split::Split,
        content_type: Option<String>,
        text: Text<'_>,
    ) -> Result<(), Rejection> {
        let content_type = split.content_type().or(content_type.as_deref());
        split::cut(split, text, &mut |piece| match piece {
            Ok(text) => self.piece(Event::plain(content_type, Payload::Text(text))),
            Err(Spoilt {
                bytes,
                media_type,
                failure,
            }) => {
                let content_type = media_type.or(content_type);
                let mut item = Event::plain(content_type, Payload::from_bytes(bytes));
                self.names.give(&mut item, Some(self.index()));
                self.unread(item, failure)
            }
        })
    }

    /// Takes a piece of a body that was cut.
    fn piece(&mut self, mut event: Event) -> Result<(), Rejection> {
        if let Some(Undeclared::One(text)) = self.undeclared(&event) {
            return match structured(text, self.all_json) {
                Ok(event) => self.event(event),
                Err(failure) => {
                    event.content_type = Some(STRUCTURED.to_owned());
                    self.unread(event, failure)
                }
            };
        }
        let checked = check_data(&event, self.all_json);
        self.names.give(&mut event, Some(self.index()));
        match checked {
            Ok(()) => self.event(event),
            Err(failure) => self.unread(event, failure),
        }
    }

    fn finish(self) -> Result<Opened, Rejection> {
        let nothing = self.opened.events.is_empty() && !self.opened.unread.is_empty();
        if nothing && !self.options.unreadable {
            return Err(nothing_readable(self.opened.unread));
        }
        Ok(self.opened)
    }
}

/// CloudEvents in a body that is not declared as such.
enum Undeclared<'a> {
    One(&'a str),
    Batch(&'a str),
}

impl Undeclared<'_> {
    /// An object with `specversion`, or an array that begins with one.
    fn of(text: &str) -> Option<Undeclared<'_>> {
        let is_one = |text: &str| {
            let has_version = |members: Vec<(String, &RawValue)>| {
                members.iter().any(|(name, _)| name == "specversion")
            };
            text.trim_start().starts_with('{') && json::members(text).is_ok_and(has_version)
        };
        if json::is_array(text) {
            let items = json::items(text, 1).ok()?;
            return is_one(items.first()?.get()).then_some(Undeclared::Batch(text));
        }
        is_one(text).then_some(Undeclared::One(text))
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

fn multipart(essence: &str) -> Rejection {
    let detail = format!(
        "`{essence}` is not understood; send the event as the body, or as `application/x-www-form-urlencoded`"
    );
    Rejection::UnsupportedMediaType { detail }
}

/// Reads an unread item from quarantine again, by the rules of now: Weir may have become a newer
/// one, and the source may have got a mapper, or another encoding. `all_json` is as for [`open`].
///
/// # Errors
/// Why it still cannot be read.
pub(super) fn read_again(
    options: &Options,
    all_json: bool,
    item: &Event,
) -> Result<Event, Failure> {
    let bytes = item.data.as_bytes();
    let plain = |text: String, content_type: Option<&str>| -> Result<Event, Failure> {
        let event = Event::plain(content_type, Payload::Text(text));
        check_data(&event, all_json)?;
        Ok(event)
    };
    let media = item.content_type.as_deref().and_then(Media::parse);
    let text = || {
        let claims = Claims::of(media.as_ref(), options.encoding);
        Text::of(bytes, claims).map_err(Rejection::into_failure)
    };
    let mut event = match item.content_type.as_deref() {
        Some(STRUCTURED) => structured(json::text(bytes)?, all_json)?,
        Some(written) if written.starts_with(split::CSV_RECORD) => {
            let dialect = match options.split {
                split::Split::Csv(dialect) => dialect,
                _ => split::Dialect::default(),
            };
            let object = split::record(dialect, text()?)?;
            plain(object, Some("application/json"))?
        }
        content_type if media.as_ref().is_some_and(Media::is_json) => {
            plain(json::text(bytes)?.to_owned(), content_type)?
        }
        content_type => {
            let text = text()?;
            if text.is_utf8() {
                plain(json::text(text.bytes())?.to_owned(), content_type)?
            } else {
                let decoded = text.decoded().map_err(Rejection::into_failure)?;
                plain(decoded, content_type.map(media::as_utf8).as_deref())?
            }
        }
    };
    event.attributes.extend(item.attributes.iter().cloned());
    if event.id.is_empty() {
        event.id = item.id.clone();
        event.event_type = item.event_type.clone();
    }
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
    /// Takes memory for something besides the events.
    fn hold(&mut self, bytes: u64) -> Result<(), Rejection> {
        self.held += bytes;
        let all = self.held + self.bytes + self.overhead;
        Ok(self.reservation.grow_to(all)?)
    }

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

/// Checks data that is declared as JSON, or must be JSON.
fn check_data(event: &Event, all_json: bool) -> Result<(), Failure> {
    if !all_json && (event.data.as_bytes().is_empty() || !declares_json(event)) {
        return Ok(());
    }
    match &event.data {
        Payload::Text(text) => json::check(text).map_err(|failure| {
            if all_json {
                without_mapper(failure)
            } else {
                failure
            }
        }),
        Payload::Binary(bytes) => json::text(bytes).map(|_| ()),
    }
}

fn declares_json(event: &Event) -> bool {
    // A fast path: nearly all senders write exactly this, and a request has hundreds of events.
    let is_json = |written: &str| {
        written == "application/json" || Media::parse(written).is_some_and(|media| media.is_json())
    };
    event.content_type.as_deref().is_some_and(is_json)
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
pub(super) fn passed_on(patterns: &[String], headers: &Headers) -> Vec<(String, String)> {
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
