//! Embeds cases in a component, in a custom section, so that they travel with its bytes and a
//! pinned digest covers them.
//!
//! The section is a JSON array with one object per case, in the order of their names. The same
//! cases give the same bytes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::Arc;
use wasm_encoder::{ComponentSection, CustomSection};
use wasmparser::BinaryReader;

use super::{Case, Error, Item};
use crate::model::{EntityId, Event, Payload, View};

/// The most bytes of cases inside one component, because every Weir that loads it reads and runs
/// them.
pub const CASES_BYTES_MAX: usize = 1 << 20;
/// The most cases inside one component, for the same reason.
const CASES_MAX: usize = 256;
/// The name of the section.
const SECTION: &str = "weir:cases";
/// The length of magic number and version, the same for components and core modules.
const HEADER: usize = 8;

/// The numbers of cases that were embedded and left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Embedded {
    /// Cases inside the component.
    pub inside: usize,
    /// Cases with an expected output for which there was no more room.
    pub left_out: usize,
}

/// Embeds cases in a component, replacing those it has. Cases without an expected output, and cases
/// beyond [`CASES_BYTES_MAX`], are left out. Without cases, no section is added.
///
/// # Errors
/// When the bytes are not Wasm.
pub fn embed(component: &[u8], cases: &[Case]) -> Result<(Vec<u8>, Embedded), Error> {
    let mut bytes = component.get(..HEADER).unwrap_or_default().to_vec();
    for section in sections(component) {
        let section = section?;
        if section.cases.is_none() {
            bytes.extend_from_slice(section.whole);
        }
    }
    let mut counted = Embedded::default();
    let mut text = String::from("[");
    for case in cases.iter().filter(|case| case.expected.is_some()) {
        let row =
            serde_json::to_string(&Row::of(case)).map_err(|error| Error::new(&case.name, error))?;
        if counted.inside >= CASES_MAX || text.len() + row.len() + 2 > CASES_BYTES_MAX {
            counted.left_out += 1;
            continue;
        }
        text.push_str(if counted.inside > 0 { "," } else { "" });
        text.push_str(&row);
        counted.inside += 1;
    }
    text.push(']');
    if counted.inside > 0 {
        CustomSection {
            name: SECTION.into(),
            data: text.as_bytes().into(),
        }
        .append_to_component(&mut bytes);
    }
    Ok((bytes, counted))
}

/// The cases inside a component or a core module; empty if it has none.
///
/// # Errors
/// When the bytes are not Wasm, or the section differs from what [`embed`] writes.
pub fn embedded(component: &[u8]) -> Result<Vec<Case>, Error> {
    let mut found = None;
    for section in sections(component) {
        if let Some(cases) = section?.cases
            && found.replace(cases).is_some()
        {
            return Err(wrong("the component has two of them"));
        }
    }
    let Some(found) = found else {
        return Ok(Vec::new());
    };
    if found.len() > CASES_BYTES_MAX {
        return Err(wrong(format!(
            "it has {} bytes; the limit is {CASES_BYTES_MAX}",
            found.len()
        )));
    }
    let rows: Vec<Row> = serde_json::from_slice(found).map_err(wrong)?;
    if rows.len() > CASES_MAX {
        return Err(wrong(format!(
            "it has {} cases; the limit is {CASES_MAX}",
            rows.len()
        )));
    }
    rows.into_iter().map(Row::into_case).collect()
}

fn wrong(why: impl std::fmt::Display) -> Error {
    Error::new(format!("the section {SECTION} of the component"), why)
}

/// One top-level section of a file.
struct Section<'a> {
    /// The whole section, including its id and length.
    whole: &'a [u8],
    /// Its content, if it is a section of cases.
    cases: Option<&'a [u8]>,
}

/// The top-level sections of a file. A module or component inside is one section, which is not
/// parsed.
fn sections(bytes: &[u8]) -> impl Iterator<Item = Result<Section<'_>, Error>> {
    let mut at = HEADER;
    std::iter::from_fn(move || {
        let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
        let read = || -> wasmparser::Result<(Section<'_>, usize)> {
            let mut reader = BinaryReader::new(rest, at);
            let (number, length) = (reader.read_u8()?, reader.read_var_u32()?);
            let content = reader.read_bytes(length as usize)?;
            let end = reader.original_position() - at;
            let mut content = BinaryReader::new(content, at);
            let ours = number == 0 && content.read_string()? == SECTION;
            let cases = if ours {
                Some(content.read_bytes(content.bytes_remaining())?)
            } else {
                None
            };
            Ok((
                Section {
                    whole: &rest[..end],
                    cases,
                },
                end,
            ))
        };
        match read() {
            Ok((section, length)) => {
                at += length;
                Some(Ok(section))
            }
            Err(error) => {
                at = bytes.len();
                Some(Err(Error::new(
                    "the file",
                    format!("it is not whole: {error}"),
                )))
            }
        }
    })
}

/// A case in the section.
#[derive(Serialize, Deserialize)]
struct Row {
    name: String,
    settings: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<EventRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entity: Option<EntityRow>,
    expected: Box<RawValue>,
}

#[derive(Serialize, Deserialize)]
struct EventRow {
    id: String,
    source: String,
    #[serde(rename = "type")]
    event_type: String,
    subject: Option<String>,
    time: Option<String>,
    content_type: Option<String>,
    attributes: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct EntityRow {
    #[serde(rename = "type")]
    entity_type: String,
    key: String,
    facets: BTreeMap<String, Box<RawValue>>,
}

impl Row {
    fn of(case: &Case) -> Row {
        let raw =
            |text: &str| serde_json::from_str(text).unwrap_or_else(|_| RawValue::NULL.to_owned());
        let (mut event, mut entity) = (None, None);
        match &case.item {
            Item::Event(given) => {
                let (text, base64) = match &given.data {
                    Payload::Text(text) => (Some(text.clone()), None),
                    Payload::Binary(bytes) => (None, Some(STANDARD.encode(bytes))),
                };
                let Event {
                    id,
                    origin,
                    event_type,
                    subject,
                    time,
                    content_type,
                    attributes,
                    ..
                } = given.clone();
                event = Some(EventRow {
                    id,
                    source: origin,
                    event_type,
                    subject,
                    time,
                    content_type,
                    attributes,
                    text,
                    base64,
                });
            }
            Item::Entity(View { id, facets }) => {
                let facets = facets
                    .iter()
                    .map(|(name, value)| (name.to_string(), raw(value)))
                    .collect();
                entity = Some(EntityRow {
                    entity_type: id.entity_type.to_string(),
                    key: id.key.to_string(),
                    facets,
                });
            }
        }
        let expected = raw(case.expected.as_deref().unwrap_or("null"));
        Row {
            name: case.name.clone(),
            settings: raw(&case.settings),
            event,
            entity,
            expected,
        }
    }

    fn into_case(self) -> Result<Case, Error> {
        let item = match (self.event, self.entity) {
            (Some(event), None) => Item::Event(event.into_event()?),
            (
                None,
                Some(EntityRow {
                    entity_type,
                    key,
                    facets,
                }),
            ) => {
                let facets = facets
                    .into_iter()
                    .map(|(name, value)| (name.into(), Arc::from(value.get())))
                    .collect();
                Item::Entity(View {
                    id: EntityId {
                        entity_type: entity_type.into(),
                        key: key.into(),
                    },
                    facets,
                })
            }
            _ => {
                return Err(wrong(format!(
                    "case {} must have exactly one event or one entity",
                    self.name
                )));
            }
        };
        Ok(Case {
            name: self.name,
            settings: self.settings.get().to_owned(),
            item,
            expected: Some(self.expected.get().to_owned()),
        })
    }
}

impl EventRow {
    fn into_event(self) -> Result<Event, Error> {
        let data = match (self.text, self.base64) {
            (Some(text), None) => Payload::Text(text),
            (None, Some(encoded)) => Payload::from_bytes(STANDARD.decode(encoded).map_err(wrong)?),
            _ => {
                return Err(wrong(
                    "an event must have exactly one of `text` and `base64`",
                ));
            }
        };
        let EventRow {
            id,
            source,
            event_type,
            subject,
            time,
            content_type,
            attributes,
            ..
        } = self;
        Ok(Event {
            id,
            origin: source,
            event_type,
            subject,
            time,
            content_type,
            attributes,
            trace: None,
            data,
        })
    }
}
