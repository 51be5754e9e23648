//! Lets an entity pass when enough of it is in stock, over all locations or over some.
//!
//! Stock is read from the facets `stock.<location>`, each `{"available": 12}` in whole numbers. A
//! location that owes more than it has counts as what it is, negative. Settings that this filter
//! does not know belong to the renderer beside it or are columns of the channel's row, and are left
//! alone.

use serde::Deserialize;
use std::collections::BTreeSet;
use weir_plugin::{Entity, Error, Result};

/// What the configuration may say.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// How much must be available.
    pub minimum: i64,
    /// The locations that count; without it, all.
    pub locations: Option<BTreeSet<String>>,
    /// What becomes of an entity for which no counting location has a facet.
    pub unknown: Unknown,
}

/// What to do with an entity of which no stock is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unknown {
    /// It passes.
    Pass,
    /// It does not.
    #[default]
    Drop,
}

#[derive(Deserialize)]
struct Stock {
    available: i64,
}

/// Whether the channel gets the entity.
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
        // The sum of any number of stocks that fits into memory fits into this.
        total = Some(total.unwrap_or(0) + i128::from(stock.available));
    }
    Ok(match total {
        Some(total) => total >= i128::from(settings.minimum),
        None => settings.unknown == Unknown::Pass,
    })
}

impl Settings {
    /// Reads the settings and checks what can be checked before the first entity.
    pub fn parse(json: &str) -> Result<Self, String> {
        let settings: Settings = weir_plugin::settings("in-stock", json)?;
        match &settings.locations {
            Some(none) if none.is_empty() => {
                Err("settings of in-stock: locations is empty, so that no stock would count; name those that count, or leave it out".into())
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
