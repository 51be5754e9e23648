//! Inventory levels in the manner of Shopify in, one `stock.<location>` facet of a product out.
//!
//! [`changes`] is the whole mapping, a pure function; what Wasm needs is in `glue.rs`. The product is the `sku` of the
//! body or, as the shop's webhooks carry none, what the settings name for the inventory item, or the item's number. Numbers of
//! items and locations are only ever names here, never counted with. The version is `updated_at`, or else the event's
//! time, as milliseconds since 1970.

mod level;

#[cfg(target_arch = "wasm32")]
mod glue;

use level::Level;
use serde::Deserialize;
use std::collections::BTreeMap;

/// What the configuration may say; anything else is refused.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Number of a location → its name in the facet: `24826418` → `berlin`.
    pub locations: BTreeMap<String, String>,
    /// Number of an inventory item → the product's key.
    #[serde(default)]
    pub items: BTreeMap<String, String>,
    /// What becomes of a level at a location that has no name here.
    #[serde(default)]
    pub unknown: Unknown,
}

/// What to do about a location that the settings do not name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unknown {
    /// The event fails and is kept, so that nothing is lost while a location is being introduced.
    #[default]
    Fail,
    /// The level maps to nothing.
    Skip,
}

/// What the mapping reads of an event.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// The webhook's topic, `inventory_levels/update`, where the source lets that header through.
    pub topic: Option<&'a str>,
    /// When it was raised, RFC 3339.
    pub time: Option<&'a str>,
    /// JSON.
    pub data: &'a str,
}

/// One facet of one product has a new value or, with none, is gone.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    /// The product.
    pub key: String,
    /// `stock.<location>`.
    pub facet: String,
    /// JSON.
    pub value: Option<String>,
    /// Milliseconds since 1970.
    pub version: Option<u64>,
}

/// Why an event cannot be mapped, in words for whoever can repair it.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// Stable, for machines.
    pub code: &'static str,
    /// What is wrong and with which item.
    pub message: String,
}

/// The entity type of every change.
pub const ENTITY_TYPE: &str = "product";

/// Maps one event, which is one inventory level. An item that is not stocked at the location, `available` being null, or no
/// longer connected to it has no facet there.
pub fn changes(event: Event<'_>, settings: &Settings) -> Result<Vec<Change>, Failure> {
    let level = Level::read(event)?;
    let item = level.item()?;
    let location = level.location(item)?;
    let location = match (settings.locations.get(location), settings.unknown) {
        (Some(name), _) => name,
        (None, Unknown::Skip) => return Ok(Vec::new()),
        (None, Unknown::Fail) => {
            return Err(Failure::new(
                "unknown-location",
                format!(
                    "inventory item {item} has stock at location {location}, which the setting `locations` does not name; \
                     name it, or set `unknown` to \"skip\""
                ),
            ));
        }
    };
    let key = level.sku().or(settings.items.get(item).map(String::as_str)).unwrap_or(item);
    let available = level.available(item)?;
    Ok(vec![Change {
        key: key.to_owned(),
        facet: format!("stock.{location}"),
        value: available.map(|available| format!(r#"{{"available":{available}}}"#)),
        version: level.version(item)?,
    }])
}

impl Settings {
    /// Reads the settings and checks what can be checked before the first event.
    pub fn parse(json: &str) -> Result<Self, String> {
        let settings: Settings = serde_json::from_str(json).map_err(|error| format!("settings of oms-stock: {error}"))?;
        if settings.locations.is_empty() {
            return Err("settings of oms-stock: locations is empty, so that no level would become anything; name them, \
                        for example { \"24826418\": \"berlin\" }"
                .into());
        }
        for (location, name) in &settings.locations {
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
                return Err(format!(
                    "settings of oms-stock: locations names {location} `{name}`, but a name becomes part of a facet \
                     (`stock.berlin`) and is made of letters, digits, `-` and `_`"
                ));
            }
        }
        Ok(settings)
    }
}

impl Failure {
    fn new(code: &'static str, message: String) -> Self {
        Failure { code, message }
    }
}
