//! Reads cases as their author writes them: one folder per case.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::event;
use super::{Case, Error, Item};
use crate::files;
use crate::model::{EntityId, View};

/// The most bytes of a file. Files are read whole, and nobody could read a difference in a longer
/// one.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// Reads a folder of cases, in the order of their names. A missing folder has no cases.
///
/// # Errors
/// When a file cannot be read or its content does not match its name; the error names the file.
pub fn read(folder: &Path) -> Result<Vec<Case>, Error> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::new(folder.display(), error)),
        Ok(entries) => entries,
    };
    let mut folders: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(|error| Error::new(folder.display(), error))?;
    folders.retain(|path| {
        path.is_dir()
            && !path
                .file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
    });
    folders.sort();
    let shared = settings(&folder.join("settings.json"))?;
    folders
        .iter()
        .map(|folder| case(folder, shared.as_deref()))
        .collect()
}

fn case(folder: &Path, shared: Option<&str>) -> Result<Case, Error> {
    let name = folder
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| Error::new(folder.display(), "its name is not UTF-8"))?;
    let settings = settings(&folder.join("settings.json"))?
        .or_else(|| shared.map(str::to_owned))
        .unwrap_or_else(|| "{}".into());
    let expected = folder.join("expected.json");
    let expected = optional_text(&expected)?
        .map(|text| json(&expected, &text).map(|()| text))
        .transpose()?;
    Ok(Case {
        name: name.to_owned(),
        settings,
        item: item(folder)?,
        expected,
    })
}

fn item(folder: &Path) -> Result<Item, Error> {
    let (event, entity, envelope) = (
        folder.join("event.json"),
        folder.join("entity.json"),
        folder.join("envelope.json"),
    );
    let bodies = bodies(folder)?;
    match (event.exists(), entity.exists(), &bodies[..]) {
        (true, false, []) => {
            if envelope.exists() {
                return Err(Error::new(
                    envelope.display(),
                    "event.json has its own envelope; call the other file body.json instead",
                ));
            }
            let text = text(&event)?;
            event::from_json(&text)
                .map(Item::Event)
                .map_err(|why| Error::new(event.display(), why))
        }
        (false, true, []) => self::entity(&text(&entity)?)
            .map(Item::Entity)
            .map_err(|why| Error::new(entity.display(), why)),
        (false, false, [body]) => {
            let extension = body
                .extension()
                .and_then(|extension| extension.to_str())
                .unwrap_or_default()
                .to_ascii_lowercase();
            let beside = optional_text(&envelope)?;
            event::from_body(&extension, bytes(body)?, beside.as_deref())
                .map(Item::Event)
                .map_err(|why| Error::new(envelope.display(), why))
        }
        (false, false, []) => Err(Error::new(
            folder.display(),
            "it has no event.json, no body.EXT and no entity.json, so there is no input for the plugin",
        )),
        _ => Err(Error::new(
            folder.display(),
            "it has more than one of event.json, body.EXT and entity.json; a case has exactly one",
        )),
    }
}

/// The raw bodies in a folder.
fn bodies(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(folder).map_err(|error| Error::new(folder.display(), error))?;
    let is_body =
        |path: &PathBuf| path.is_file() && path.file_stem().is_some_and(|stem| stem == "body");
    Ok(entries
        .flatten()
        .map(|entry| entry.path())
        .filter(is_body)
        .collect())
}

/// An entity, in the format in which a channel without a renderer delivers it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(rename = "type")]
    entity_type: String,
    key: String,
    /// A sorted map, because a channel has facets in the order of their names.
    facets: BTreeMap<String, Box<RawValue>>,
}

/// Reads an entity from JSON.
pub(super) fn entity(text: &str) -> Result<View, String> {
    let Written {
        entity_type,
        key,
        facets,
    } = serde_json::from_str(text).map_err(|error| {
        format!(r#"{error}; an entity is {{"type": …, "key": …, "facets": {{NAME: VALUE}}}}"#)
    })?;
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

fn settings(path: &Path) -> Result<Option<String>, Error> {
    let Some(text) = optional_text(path)? else {
        return Ok(None);
    };
    serde_json::from_str::<Map<String, Value>>(&text)
        .map_err(|error| Error::new(path.display(), format!("it is not a JSON object: {error}")))?;
    Ok(Some(text.trim().to_owned()))
}

fn json(path: &Path, text: &str) -> Result<(), Error> {
    serde_json::from_str::<&RawValue>(text)
        .map(drop)
        .map_err(|error| Error::new(path.display(), format!("it is not JSON: {error}")))
}

fn optional_text(path: &Path) -> Result<Option<String>, Error> {
    if path.exists() {
        text(path).map(Some)
    } else {
        Ok(None)
    }
}

fn text(path: &Path) -> Result<String, Error> {
    String::from_utf8(bytes(path)?).map_err(|_| Error::new(path.display(), "it is not UTF-8"))
}

fn bytes(path: &Path) -> Result<Vec<u8>, Error> {
    let wrong = |error: std::io::Error| Error::new(path.display(), error);
    files::read(path, FILE_BYTES_MAX).map_err(wrong)
}
