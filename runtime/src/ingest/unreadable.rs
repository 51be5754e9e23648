//! Bodies that cannot be read, of senders that would not send them again.
//!
//! To many senders a 400 is final: the event is lost, though all that is wrong may be a setting of the source. If
//! the source is configured so, such a body is kept whole in its quarantine, and its sender gets the answer of a
//! request that was taken. A redrive reads it again by the settings of then. What comes out of it has the place in
//! time of the body. Events that fail then get places of their own, and the body leaves.

use bytes::Bytes;

use super::charset::{Charset, Claims, Text};
use super::envelope::{self, Opened, Unread};
use super::media::Media;
use super::naming::{IdFrom, Names};
use super::{Headers, Options, Rejection, media, unpack};
use crate::budget::{Budget, Reservation};
use crate::model::{Event, Failure, Payload};

/// The most memory that a body takes while it is read again, as a multiple of the longest body.
const WEIGHT_FACTOR: u64 = 8;
/// Memory for what does not depend on the longest body.
const OVERHEAD_BYTES: u64 = 64 << 20;

/// Cuts a request into events; a body that cannot be read becomes an unread item if the source keeps those.
///
/// # Errors
/// As for [`envelope::open`].
pub(super) fn open(
    options: &Options,
    all_json: bool,
    headers: &Headers,
    body: Bytes,
    memory: &Reservation,
) -> Result<Opened, Rejection> {
    if !options.unreadable {
        let body = unpack::unpack(headers, body, options.body_bytes_max, memory)?;
        return envelope::open(options, all_json, headers, body, memory);
    }
    let (kept, is_packed, rejection) =
        match unpack::unpack(headers, body.clone(), options.body_bytes_max, memory) {
            Err(rejection) => (body, true, rejection),
            Ok(unpacked) => {
                // What is read may be in memory beside what is kept.
                memory.grow(unpacked.len() as u64)?;
                match envelope::open(options, all_json, headers, unpacked.clone(), memory) {
                    Err(rejection) => (unpacked, false, rejection),
                    opened => return opened,
                }
            }
        };
    match rejection {
        Rejection::Malformed { .. }
        | Rejection::UnsupportedMediaType { .. }
        | Rejection::TooLarge { .. } => {}
        later => return Err(later),
    }
    let unread = Unread {
        index: 0,
        item: item(options, headers, &kept, is_packed),
        failure: rejection.into_failure(),
        whole: true,
    };
    Ok(Opened {
        unread: vec![unread],
        ..Opened::default()
    })
}

/// The body with what it takes to read it again: the headers that say what it is, and those for plugins.
fn item(options: &Options, headers: &Headers, body: &[u8], is_packed: bool) -> Event {
    let (content_type, _) = media::content_type(headers);
    let data = Payload::from_bytes(body.to_vec());
    let mut item = Event::plain(content_type.as_deref(), data);
    let needed = headers.iter().filter(|(name, _)| {
        name.starts_with("ce-") || (is_packed && name.eq_ignore_ascii_case("content-encoding"))
    });
    item.attributes = needed
        .map(|(name, value)| (name.to_owned(), text(value)))
        .collect();
    let passed_on = envelope::passed_on(&options.headers, headers);
    let more = passed_on
        .into_iter()
        .filter(|(name, _)| item.attributes.iter().all(|(there, _)| there != name));
    let more: Vec<_> = more.collect();
    item.attributes.extend(more);
    Names::read(&options.naming, headers).give(&mut item, None);
    item
}

/// A header's value. Those that are not UTF-8 are Latin-1, as old HTTP had it.
fn text(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(text) => text.to_owned(),
        Err(_) => value.iter().copied().map(char::from).collect(),
    }
}

/// The most bytes of which the text is shown.
const SHOWN_BYTES_MAX: usize = 4096;

/// The beginning of data that is not UTF-8, for people who look at it: in the encoding that it is said to have, or
/// else in Windows-1252, in which each byte is something. `None` if the data is text already.
pub fn beginning(event: &Event, encoding: Option<Charset>) -> Option<String> {
    let Payload::Binary(bytes) = &event.data else {
        return None;
    };
    let bytes = &bytes[..bytes.len().min(SHOWN_BYTES_MAX)];
    let media = event.content_type.as_deref().and_then(Media::parse);
    let text = Text::of(bytes, Claims::of(media.as_ref(), encoding)).ok();
    let decoded = text.filter(|text| !text.is_utf8());
    let decoded = decoded.and_then(|text| text.decoded().ok());
    Some(decoded.unwrap_or_else(|| {
        let (text, _) = encoding_rs::WINDOWS_1252.decode_without_bom_handling(bytes);
        text.into_owned()
    }))
}

/// Reads such a body again, by the settings of now.
///
/// # Errors
/// Why it still cannot be read.
pub(super) fn open_again(
    options: &Options,
    all_json: bool,
    kept: &Event,
) -> Result<Opened, Failure> {
    let mut headers = Headers::default();
    if let Some(content_type) = &kept.content_type {
        headers.push("content-type", content_type.as_bytes());
    }
    for (name, value) in &kept.attributes {
        headers.push(name, value.as_bytes());
    }
    // A sender may have several names for a header; which of them it wrote makes no difference.
    if let Some(IdFrom::Header(names)) = &options.naming.id
        && let Some(name) = names.first()
    {
        headers.push(name, kept.id.as_bytes());
    }
    if let Some(name) = options.naming.event_type.first() {
        headers.push(name, kept.event_type.as_bytes());
    }
    let most = options.body_bytes_max.saturating_mul(WEIGHT_FACTOR);
    let memory = Budget::new(most.saturating_add(OVERHEAD_BYTES)).reservation(&*options.name);
    let body = Bytes::copy_from_slice(kept.data.as_bytes());
    // Items that cannot be read do not hold the others back.
    let again = Options {
        unreadable: true,
        ..options.clone()
    };
    let unpacked = unpack::unpack(&headers, body, options.body_bytes_max, &memory);
    unpacked
        .and_then(|body| envelope::open(&again, all_json, &headers, body, &memory))
        .map_err(Rejection::into_failure)
}
