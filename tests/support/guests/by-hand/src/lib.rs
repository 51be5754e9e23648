//! The mapping of `oms-stock` without the kit, as its author would write it over the generated
//! bindings.
//!
//! It exists for comparison: for the same events and the same changes, the difference in cost is
//! the cost of the kit.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Like the settings of `oms-stock`, but not validated.
#[derive(Debug, Deserialize)]
pub struct Settings {
    locations: BTreeMap<String, String>,
    #[serde(default)]
    items: BTreeMap<String, String>,
}

/// The change that a level becomes.
#[derive(Debug)]
pub struct Change {
    pub key: String,
    pub facet: String,
    pub value: Option<String>,
    pub version: Option<u64>,
}

#[derive(Deserialize)]
struct Level<'a> {
    inventory_item_id: Option<Id>,
    location_id: Option<Id>,
    #[serde(borrow)]
    sku: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "present")]
    available: Option<Option<i64>>,
    #[serde(borrow)]
    updated_at: Option<Cow<'a, str>>,
}

struct Id(String);

/// Maps one level. An error is a code and a message.
pub fn changes(
    topic: Option<&str>,
    time: Option<&str>,
    data: &str,
    settings: &Settings,
) -> Result<Vec<Change>, (&'static str, String)> {
    let level: Level<'_> =
        serde_json::from_str(data).map_err(|error| ("broken-json", error.to_string()))?;
    let missing = |field: &str| ("missing-field", format!("the level has no `{field}`"));
    let Id(item) = level
        .inventory_item_id
        .ok_or_else(|| missing("inventory_item_id"))?;
    let Id(location) = level.location_id.ok_or_else(|| missing("location_id"))?;
    let location = settings.locations.get(&location).ok_or_else(|| {
        (
            "unknown-location",
            format!("the settings have no location {location}"),
        )
    })?;
    let sku = level.sku.as_deref().filter(|sku| !sku.is_empty());
    let key = sku
        .or(settings.items.get(&item).map(String::as_str))
        .unwrap_or(&item);
    let available = match (level.available, topic) {
        (Some(available), _) => available,
        (None, Some("inventory_levels/disconnect")) => None,
        (None, _) => return Err(missing("available")),
    };
    let version = match level.updated_at.as_deref().or(time) {
        None => None,
        Some(text) => {
            let time = text
                .parse::<Timestamp>()
                .map_err(|error| ("not-a-time", error.to_string()))?;
            Some(
                u64::try_from(time.as_millisecond())
                    .map_err(|error| ("not-a-time", error.to_string()))?,
            )
        }
    };
    Ok(vec![Change {
        key: key.to_owned(),
        facet: format!("stock.{location}"),
        value: available.map(|available| format!(r#"{{"available":{available}}}"#)),
        version,
    }])
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        Ok(Id(match Written::deserialize(deserializer)? {
            Written::Number(number) => number.to_string(),
            Written::Text(text) => text,
        }))
    }
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<i64>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

#[cfg(target_arch = "wasm32")]
mod glue {
    use super::{changes, Change, Settings};
    use bindings::exports::weir::plugin::{mapper, settings};
    use bindings::weir::plugin::types;
    use std::sync::OnceLock;

    #[allow(missing_docs, unreachable_pub, unused_qualifications)]
    mod bindings {
        wit_bindgen::generate!({ path: "../../../../wit", world: "mapper-plugin" });
    }

    static SETTINGS: OnceLock<Settings> = OnceLock::new();

    struct Plugin;

    bindings::export!(Plugin with_types_in bindings);

    impl settings::Guest for Plugin {
        fn configure(json: String) -> Result<(), String> {
            let settings = serde_json::from_str(&json).map_err(|error| error.to_string())?;
            SETTINGS
                .set(settings)
                .map_err(|_| "an instance is configured only once".into())
        }
    }

    impl mapper::Guest for Plugin {
        fn transform(events: Vec<types::Event>) -> Vec<Result<Vec<types::Change>, types::Failure>> {
            events.iter().map(transform).collect()
        }
    }

    fn transform(event: &types::Event) -> Result<Vec<types::Change>, types::Failure> {
        let settings = SETTINGS.get().ok_or_else(|| {
            failure(
                "not-configured",
                "the plugin was called before it was configured".into(),
            )
        })?;
        let types::Payload::Text(data) = &event.data else {
            return Err(failure("not-text", "the event is not UTF-8".into()));
        };
        let topic = event
            .attributes
            .iter()
            .find(|(name, _)| name == "x-shopify-topic")
            .map(|(_, topic)| topic.as_str());
        let changes = changes(topic, event.time.as_deref(), data, settings)
            .map_err(|(code, message)| failure(code, message))?;
        Ok(changes.into_iter().map(out).collect())
    }

    fn out(change: Change) -> types::Change {
        types::Change {
            entity_type: "product".into(),
            key: change.key,
            facet: change.facet,
            value: change.value,
            version: change.version,
            lane: None,
        }
    }

    fn failure(code: &str, message: String) -> types::Failure {
        types::Failure {
            code: code.into(),
            message,
        }
    }
}
