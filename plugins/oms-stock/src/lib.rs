//! Maps inventory levels of a system similar to Shopify to a `stock.<location>` facet of a product.
//!
//! [`changes`] is the whole mapping, a pure function. The key of the product is the `sku` of the
//! body; the shop's own webhooks have none, so it is otherwise the key that the settings give for
//! the inventory item, or the item's number. Numbers of items and locations serve only as names.
//! The version is `updated_at`, or else the event's time, in milliseconds since 1970.

mod level;

use level::Level;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use weir_plugin::{bail, Change, Event, Result};

/// The settings; unknown ones are rejected.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Number of a location → its name in the facet: `24826418` → `berlin`.
    pub locations: BTreeMap<String, String>,
    /// Number of an inventory item → the product's key.
    #[serde(default)]
    pub items: BTreeMap<String, String>,
    /// How to handle a level at a location that has no name here.
    #[serde(default)]
    pub unknown: Unknown,
}

/// How to handle a location that the settings do not name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unknown {
    /// The event fails and is quarantined, so that nothing is lost while a location is introduced.
    #[default]
    Fail,
    /// The level maps to nothing.
    Skip,
}

/// The facet's value.
#[derive(Serialize)]
struct Stock {
    available: i64,
}

/// The entity type of every change.
pub const ENTITY_TYPE: &str = "product";

/// Maps one event, which is one inventory level. If the item is not stocked at the location
/// (`available` is null) or is disconnected from it, the facet is deleted.
#[weir_plugin::mapper(settings = Settings::parse)]
pub fn changes(event: &Event, settings: &Settings) -> Result<Vec<Change>> {
    let level = Level::read(event)?;
    let item = level.item()?;
    let location = level.location(item)?;
    let location = match (settings.locations.get(location), settings.unknown) {
        (Some(name), _) => name,
        (None, Unknown::Skip) => return Ok(Vec::new()),
        (None, Unknown::Fail) => bail!(
            "unknown-location",
            "inventory item {item} has stock at location {location}, which the setting `locations` does not name; \
             name it, or set `unknown` to \"skip\""
        ),
    };
    let key = level
        .sku()
        .or(settings.items.get(item).map(String::as_str))
        .unwrap_or(item);
    let facet = format!("stock.{location}");
    let change = match level.available(item)? {
        Some(available) => Change::facet(ENTITY_TYPE, key, facet, &Stock { available })?,
        None => Change::delete(ENTITY_TYPE, key, facet),
    };
    Ok(vec![change.version(level.version(item)?)])
}

impl Settings {
    /// Reads and checks the settings.
    pub fn parse(json: &str) -> Result<Self, String> {
        let settings: Settings = weir_plugin::settings("oms-stock", json)?;
        if settings.locations.is_empty() {
            return Err("settings of oms-stock: locations is empty, so no level could be mapped; name the locations, \
                        for example { \"24826418\": \"berlin\" }"
                .into());
        }
        for (location, name) in &settings.locations {
            if name.is_empty()
                || !name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            {
                return Err(format!(
                    "settings of oms-stock: locations names {location} `{name}`, but a name becomes part of a facet \
                     (`stock.berlin`) and may have only letters, digits, `-` and `_`"
                ));
            }
        }
        Ok(settings)
    }
}
