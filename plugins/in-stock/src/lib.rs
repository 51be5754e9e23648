//! Lets an entity pass when enough of it is in stock, over all locations or over some.
//!
//! Stock is read from the facets `stock.<location>`, each `{"available": 12}` in whole numbers. A location that owes more
//! than it has counts as what it is, negative. Settings that this filter does not know belong to the renderer beside it
//! or are columns of the channel's row, and are left alone.

#[cfg(target_arch = "wasm32")]
mod glue;

use serde::Deserialize;
use std::collections::BTreeSet;

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

/// One facet of the entity.
#[derive(Debug, Clone, Copy)]
pub struct Facet<'a> {
    /// `stock.berlin`
    pub name: &'a str,
    /// JSON.
    pub value: &'a str,
}

/// Why an entity cannot be judged, in words for whoever can repair it.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// Stable, for machines.
    pub code: &'static str,
    /// What is wrong and in which facet.
    pub message: String,
}

#[derive(Deserialize)]
struct Stock {
    available: i64,
}

/// Whether the channel gets the entity.
pub fn passes(facets: &[Facet<'_>], settings: &Settings) -> Result<bool, Failure> {
    let mut total: Option<i128> = None;
    for facet in facets {
        let Some(location) = facet.name.strip_prefix("stock.") else { continue };
        if settings.locations.as_ref().is_some_and(|counting| !counting.contains(location)) {
            continue;
        }
        let stock: Stock = serde_json::from_str(facet.value).map_err(|error| Failure {
            code: "wrong-facet",
            message: format!("the facet {} should be like {{\"available\": 12}}: {error}", facet.name),
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
        let settings: Settings = serde_json::from_str(json).map_err(|error| format!("settings of in-stock: {error}"))?;
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
        Settings { minimum: 1, locations: None, unknown: Unknown::Drop }
    }
}
