//! Reads the cases of a plugin for its native tests, from the same folders that `weir plugin test`
//! uses for the component.
//!
//! The tests of each plugin include this file with `#[path = "../../cases.rs"] mod cases;`.

// Each plugin uses only the functions for its own kind.
#![allow(dead_code)]

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{json, Value};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use weir_plugin::{Change, Entity, Error, Event, Facet, Payload, Rendering};

/// One case.
pub struct Case {
    pub name: String,
    /// The input as the plugin sees it; a case has either an event or an entity.
    pub event: Event,
    pub entity: Entity,
    pub expected: Value,
}

#[derive(Deserialize)]
struct WrittenEntity {
    r#type: Option<String>,
    key: String,
    facets: BTreeMap<String, Box<RawValue>>,
}

/// All cases of the plugin under test.
pub fn all() -> Vec<Case> {
    all_in(&folder())
}

/// All cases in a folder, such as those of another plugin with the same mapping.
pub fn all_in(folder: &Path) -> Vec<Case> {
    let folders = fs::read_dir(folder)
        .expect("the folder of cases")
        .map(|entry| entry.expect("an entry").path());
    folders
        .filter(|path| path.is_dir())
        .map(|folder| read(&folder))
        .collect()
}

/// The case of this name.
pub fn case(name: &str) -> Case {
    read(&folder().join(name))
}

/// The result of a filter in the form of `expected.json`.
pub fn verdict(given: Result<bool, Error>) -> Value {
    given.map_or_else(failure, Value::Bool)
}

/// The result of a mapper in the form of `expected.json`.
pub fn changes(given: Result<Vec<Change>, Error>) -> Value {
    given.map_or_else(failure, |changes| changes.into_iter().map(change).collect())
}

/// The result of a renderer in the form of `expected.json`.
pub fn rendering(given: Result<Option<Rendering>, Error>) -> Value {
    let Some(rendering) = given.transpose() else {
        return Value::Null;
    };
    rendering.map_or_else(failure, |rendering| {
        let Payload::Text(body) = &rendering.body else {
            panic!("a body of bytes")
        };
        let mut json =
            json!({ "body": serde_json::from_str::<Value>(body).expect("a body is JSON") });
        for (name, value) in [
            ("key", rendering.key),
            ("content_type", rendering.content_type),
        ] {
            if let Some(value) = value {
                json[name] = value.into();
            }
        }
        json
    })
}

fn change(change: Change) -> Value {
    let mut json = json!({ "type": change.entity_type, "key": change.key, "facet": change.facet });
    match change.value {
        Some(value) => json["value"] = serde_json::from_str(&value).expect("a value is JSON"),
        None => json["deleted"] = true.into(),
    }
    if let Some(version) = change.version {
        json["version"] = version.into();
    }
    json
}

fn failure(error: Error) -> Value {
    json!({ "code": error.code, "message": error.message })
}

/// The settings that all cases share, `cases/settings.json`.
pub fn settings() -> String {
    text(&folder().join("settings.json")).expect("settings of the cases")
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")
}

fn read(folder: &Path) -> Case {
    let file = |name: &str| text(&folder.join(name));
    let mut case = Case {
        name: folder
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a name")
            .to_owned(),
        event: Event::default(),
        entity: Entity::default(),
        expected: serde_json::from_str(&file("expected.json").expect("an expectation"))
            .expect("JSON"),
    };
    if let Some(body) = file("body.json").or_else(|| file("body.xml")) {
        let envelope =
            file("envelope.json").map(|text| serde_json::from_str(&text).expect("an envelope"));
        case.event = event(body, envelope.unwrap_or_default());
    } else if let Some(whole) = file("event.json") {
        let members: BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(&whole).expect("an event");
        let string = |value: &RawValue| serde_json::from_str::<String>(value.get()).ok();
        let envelope = members
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), string(value)?)))
            .collect();
        case.event = event(members["data"].get().to_owned(), envelope);
    } else {
        let written: WrittenEntity =
            serde_json::from_str(&file("entity.json").expect("something to give"))
                .expect("an entity");
        let facets = written
            .facets
            .into_iter()
            .map(|(name, value)| Facet::new(name, value.get()))
            .collect();
        case.entity = Entity {
            entity_type: written.r#type.unwrap_or_default(),
            key: written.key,
            facets,
        };
    }
    case
}

fn event(data: String, mut envelope: BTreeMap<String, String>) -> Event {
    Event {
        event_type: envelope.remove("type").unwrap_or_default(),
        time: envelope.remove("time"),
        attributes: envelope.into_iter().collect(),
        ..Event::of(data)
    }
}

fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}
