//! Lets an entity pass if enough of it is in stock, over all or some of the locations.
//!
//! The stock comes from the facets `stock.<location>`, each `{"available": 12}` in whole numbers. A
//! location that owes more than it has counts as a negative number. Unknown settings are ignored,
//! because they belong to the channel's renderer or are columns of the channel's row.

use serde::Deserialize;
use std::collections::BTreeSet;
use weir_plugin::{Entity, Error, Result};

/// The settings.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The quantity that must be available.
    pub minimum: i64,
    /// The locations that count. The default is all.
    pub locations: Option<BTreeSet<String>>,
    /// How to handle an entity without a stock facet of a location that counts.
    pub unknown: Unknown,
}

/// How to handle an entity without known stock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unknown {
    /// It passes.
    Pass,
    /// It is dropped.
    #[default]
    Drop,
}

#[derive(Deserialize)]
struct Stock {
    available: i64,
}

/// Returns true if the channel gets the entity.
#[weir_plugin::entity_filter(settings = Settings::parse)]
pub fn passes(entity: &Entity, settings: &Settings) -> Result<bool> {
    let mut total: Option<i128> = None;
    for (location, facet) in entity.family("stock.") {
        if settings
            .locations
            .as_ref()
            .is_some_and(|counting| !counting.contains(location))
        {
            continue;
        }
        let stock: Stock = serde_json::from_str(&facet.value).map_err(|error| {
            Error::new(
                "wrong-facet",
                format!(
                    "the facet {} should be like {{\"available\": 12}}: {error}",
                    facet.name
                ),
            )
        })?;
        // An i128 cannot overflow here: it holds the sum of more stocks than fit into memory.
        total = Some(total.unwrap_or(0) + i128::from(stock.available));
    }
    Ok(match total {
        Some(total) => total >= i128::from(settings.minimum),
        None => settings.unknown == Unknown::Pass,
    })
}

impl Settings {
    /// Reads and checks the settings.
    pub fn parse(json: &str) -> Result<Self, String> {
        let settings: Settings = weir_plugin::settings("in-stock", json)?;
        match &settings.locations {
            Some(none) if none.is_empty() => {
                Err("settings of in-stock: locations is empty, so no stock would count; list the locations that count, or omit the setting".into())
            }
            _ => Ok(settings),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            minimum: 1,
            locations: None,
            unknown: Unknown::Drop,
        }
    }
}
