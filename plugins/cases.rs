//! The cases of a plugin for its native tests: the folders that `weir plugin test` runs its component on, read as simply as can be.
//!
//! A plugin's tests include this file (`#[path = "../../cases.rs"] mod cases;`), so its path is relative to their folder.

// Each plugin has its own kind of input.
#![allow(dead_code)]

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// One case.
pub struct Case {
    pub name: String,
    /// The data of an event, as text.
    pub data: String,
    /// What stands around the data: `type`, `time`, headers.
    pub envelope: BTreeMap<String, String>,
    /// The key of an entity, and its facets in the order of their names.
    pub key: String,
    pub facets: Vec<(String, String)>,
    pub expected: Value,
}

#[derive(Deserialize)]
struct Entity {
    key: String,
    facets: BTreeMap<String, Box<RawValue>>,
}

/// All cases of the plugin under test.
pub fn all() -> Vec<Case> {
    let folders = fs::read_dir(folder()).expect("the folder of cases").map(|entry| entry.expect("an entry").path());
    folders.filter(|path| path.is_dir()).map(|folder| read(&folder)).collect()
}

/// One of them.
pub fn case(name: &str) -> Case {
    read(&folder().join(name))
}

/// The settings of all cases.
pub fn settings() -> String {
    text(&folder().join("settings.json")).expect("settings of the cases")
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")
}

fn read(folder: &Path) -> Case {
    let expected = text(&folder.join("expected.json")).expect("an expectation");
    let mut case = Case {
        name: folder.file_name().and_then(|name| name.to_str()).expect("a name").to_owned(),
        data: String::new(),
        envelope: BTreeMap::new(),
        key: String::new(),
        facets: Vec::new(),
        expected: serde_json::from_str(&expected).expect("JSON"),
    };
    let body = ["body.json", "body.xml"].into_iter().find_map(|name| text(&folder.join(name)));
    if let Some(body) = body {
        case.data = body;
        case.envelope =
            text(&folder.join("envelope.json")).map(|text| serde_json::from_str(&text).expect("an envelope")).unwrap_or_default();
    } else if let Some(event) = text(&folder.join("event.json")) {
        let members: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&event).expect("an event");
        case.data = members["data"].get().to_owned();
        let string = |value: &RawValue| serde_json::from_str::<String>(value.get()).ok();
        case.envelope = members.iter().filter_map(|(name, value)| Some((name.clone(), string(value)?))).collect();
    } else {
        let entity: Entity = serde_json::from_str(&text(&folder.join("entity.json")).expect("something to give")).expect("an entity");
        case.key = entity.key;
        case.facets = entity.facets.into_iter().map(|(name, value)| (name, value.get().to_owned())).collect();
    }
    case
}

fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}
