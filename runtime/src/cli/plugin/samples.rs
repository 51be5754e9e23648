//! Reads sample files as the input of a component: events, split and checked as ingest would, or
//! entities.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::{Failure, send};
use super::read as read_file;
use crate::author::cases::event_of_body;
use crate::author::harness::Input;
use crate::budget::Budget;
use crate::ingest::split::Split;
use crate::ingest::{Options, envelope, form, http, naming, verify};
use crate::model::{EntityId, Event, View};
use crate::plugin::Role;

/// All samples in their order, and the origin of each.
pub(super) struct Samples {
    pub(super) input: Input,
    pub(super) items: Vec<Sample>,
}

/// The origin of an item.
pub(super) struct Sample {
    pub(super) file: PathBuf,
    /// Its number in the file, from 0.
    pub(super) index: usize,
    /// Whether the file has only this one.
    pub(super) alone: bool,
}

impl Sample {
    /// The only item of a file, or of something else with a name.
    pub(super) fn alone(file: impl Into<PathBuf>) -> Sample {
        Sample {
            file: file.into(),
            index: 0,
            alone: true,
        }
    }
}

/// An entity as written in a sample file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(rename = "type")]
    entity_type: String,
    key: String,
    facets: BTreeMap<String, Box<RawValue>>,
}

/// Reads files as input for these roles. For a component with roles of both kinds, the first file
/// decides between events and entities.
///
/// # Errors
/// When a file cannot be read, or is not input for the roles.
pub(super) fn read(
    files: &[PathBuf],
    content_type: Option<&str>,
    roles: &[Role],
) -> Result<Samples, Failure> {
    let contents: Vec<(&PathBuf, Vec<u8>)> = files
        .iter()
        .map(|file| Ok((file, read_file(file)?)))
        .collect::<Result<_, Failure>>()?;
    let of_source = roles
        .iter()
        .any(|role| matches!(role, Role::EventFilter | Role::Mapper));
    let of_channel = roles
        .iter()
        .any(|role| matches!(role, Role::EntityFilter | Role::Renderer));
    let entities = match (of_source, of_channel) {
        (true, true) => contents
            .first()
            .is_some_and(|(_, content)| serde_json::from_slice::<Written>(content).is_ok()),
        (_, of_channel) => of_channel,
    };
    let mut items = Vec::new();
    let input = if entities {
        let mut views = Vec::new();
        for (file, content) in contents {
            views.push(entity(file, &content)?);
            items.push(Sample::alone(file));
        }
        Input::Entities(views)
    } else {
        let mut all = Vec::new();
        for (file, content) in contents {
            let events = match envelope_of(file)? {
                Some(envelope) => vec![with_envelope(file, content, content_type, &envelope)?],
                None => events(file, content, content_type)?,
            };
            let alone = events.len() == 1;
            items.extend((0..events.len()).map(|index| Sample {
                file: file.clone(),
                index,
                alone,
            }));
            all.extend(events);
        }
        Input::Events(all)
    };
    if items.is_empty() {
        return Err(Failure::Failed("the samples contain no event".into()));
    }
    Ok(Samples { input, items })
}

fn entity(file: &Path, content: &[u8]) -> Result<View, Failure> {
    let Written {
        entity_type,
        key,
        facets,
    } = serde_json::from_slice(content).map_err(|error| {
        let shape = r#"an entity is {"type": …, "key": …, "facets": {NAME: VALUE}}"#;
        Failure::Failed(format!(
            "{}: {error}; the component takes entities, and {shape}",
            file.display()
        ))
    })?;
    // A map of text to text, so that facets come in the order of their names, as a channel has
    // them.
    let facets = facets
        .into_iter()
        .map(|(name, value)| (name.into(), Arc::from(value.get())))
        .collect();
    Ok(View {
        id: EntityId {
            entity_type: entity_type.into(),
            key: key.into(),
        },
        facets,
    })
}

/// The envelope beside a raw body. A case has it there, and a case is the usual sample.
fn envelope_of(file: &Path) -> Result<Option<String>, Failure> {
    let envelope = file.with_file_name("envelope.json");
    if file.file_stem().is_none_or(|stem| stem != "body") || !envelope.is_file() {
        return Ok(None);
    }
    let text = read_file(&envelope)?;
    Ok(Some(String::from_utf8_lossy(&text).into_owned()))
}

/// The event of a raw body and its envelope, as in a case.
fn with_envelope(
    file: &Path,
    content: Vec<u8>,
    content_type: Option<&str>,
    envelope: &str,
) -> Result<Event, Failure> {
    let extension = file.extension().unwrap_or_default().to_string_lossy();
    let mut event = event_of_body(&extension.to_ascii_lowercase(), content, Some(envelope))
        .map_err(|why| {
            let envelope = file.with_file_name("envelope.json");
            Failure::Failed(format!("{}: {why}", envelope.display()))
        })?;
    if let Some(content_type) = content_type {
        event.content_type = Some(content_type.to_owned());
    }
    Ok(event)
}

/// The events that a source without `split` would make of this body.
fn events(
    file: &Path,
    content: Vec<u8>,
    content_type: Option<&str>,
) -> Result<Vec<Event>, Failure> {
    let options = Options {
        name: "sample".into(),
        owner: "sample".into(),
        split: Split::Whole,
        headers: Vec::new(),
        naming: naming::Naming::default(),
        verify: verify::Options::None,
        handshake: None,
        quiet: None,
        body_bytes_max: u64::MAX,
        encoding: None,
        form: form::Form::default(),
        unreadable: false,
    };
    let content_type = content_type.unwrap_or_else(|| send::media_type(file, &content));
    let content_type = HeaderValue::from_str(content_type)
        .map_err(|_| Failure::Usage(format!("`{content_type}` is not a media type")))?;
    let headers = http::neutral(&HeaderMap::from_iter([(CONTENT_TYPE, content_type)]));
    let not_taken = |why: &dyn std::fmt::Display| {
        Failure::Failed(format!(
            "{}: a source would reject it: {why}",
            file.display()
        ))
    };
    let memory = Budget::new(u64::MAX).reservation("erp");
    let opened = envelope::open(&options, false, &headers, Bytes::from(content), &memory);
    let opened = opened.map_err(|rejection| not_taken(&rejection))?;
    match opened.unread.first() {
        Some(unread) => Err(not_taken(&format!(
            "event {}: {}",
            unread.index, unread.failure.message
        ))),
        None => Ok(opened.events),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Payload;

    // A case with an envelope passed, and the same files as samples of a run had no envelope.
    #[test]
    fn a_raw_body_has_the_envelope_beside_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).expect("written");
            folder.path().join(name)
        };
        let body = place("body.xml", "<a/>");
        let read = |content_type| {
            let samples = read(std::slice::from_ref(&body), content_type, &[Role::Mapper]);
            match samples.expect("samples").input {
                Input::Events(mut events) => events.remove(0),
                Input::Entities(_) => panic!("an event"),
            }
        };
        assert_eq!(read(None).event_type, "");
        place(
            "envelope.json",
            r#"{"id": "7", "type": "level", "x-shop": "de"}"#,
        );
        let event = read(None);
        assert_eq!((&*event.id, &*event.event_type), ("7", "level"));
        assert_eq!(event.attributes, [("x-shop".to_owned(), "de".to_owned())]);
        assert_eq!(event.content_type.as_deref(), Some("application/xml"));
        assert_eq!(event.data, Payload::Text("<a/>".into()));
        let other = read(Some("text/xml")).content_type;
        assert_eq!(other.as_deref(), Some("text/xml"));
    }
}
