//! Maps SAP IDocs to product facets: condition records (`COND_A`) become `price.<list>`, materials
//! (`MATMAS`) become `base`.
//!
//! [`changes`] is the whole mapping, a pure function of one event's text and the settings. The
//! segments decide the kind of an IDoc, not its message type, because customers rename types but
//! not segments. Amounts remain decimal text throughout. Prices for a single customer, discounts
//! and quantity scales are not prices of a price list and are ignored.

mod idoc;
mod material;
mod price;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use weir_plugin::{bail, Change, Event, Result};

/// The settings; unknown ones are rejected.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The only kind of IDoc to map; the other kind maps to nothing. The default is both.
    pub kind: Option<Kind>,
    /// Sales organisation, distribution channel and price list type (`1000/10/01`) → the name of
    /// the price list (`de-retail`). A record without a price list type is looked up as `1000/10`.
    pub price_lists: BTreeMap<String, String>,
    /// How to handle a record whose price list has no name here.
    pub unknown: Unknown,
    /// The currency of records that leave it empty.
    pub currency: Option<String>,
    /// The condition types that are prices. Other types are discounts, surcharges or taxes and map
    /// to nothing.
    pub condition_types: Vec<String>,
}

/// The kinds of IDoc that this plugin can read, named after SAP's message types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Kind {
    /// Condition records: prices.
    #[serde(rename = "COND_A")]
    Conditions,
    /// Materials: master data.
    #[serde(rename = "MATMAS")]
    Materials,
}

/// How to handle a price list that the settings do not name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unknown {
    /// The event fails and is quarantined, so that nothing is lost while a price list is
    /// introduced.
    #[default]
    Fail,
    /// The record maps to nothing.
    Skip,
}

/// The entity type of every change.
pub const ENTITY_TYPE: &str = "product";

#[weir_plugin::mapper(settings = Settings::parse)]
fn transform(event: &Event, settings: &Settings) -> Result<Vec<Change>> {
    match event.text() {
        Ok(document) => changes(document, settings),
        Err(_) => bail!(
            "not-text",
            "the event is not UTF-8; set the IDoc port's encoding to UTF-8"
        ),
    }
}

/// Maps one event: a single `IDOC` element, as `split = "xml:IDOC"` produces it, or a whole
/// document with several.
///
/// Either the whole event maps or none of it, because the changes of one event are committed
/// together.
pub fn changes(document: &str, settings: &Settings) -> Result<Vec<Change>> {
    let mut idocs = idoc::Idocs::of(document);
    let mut changes = Vec::new();
    let mut any = false;
    while let Some(idoc) = idocs.next()? {
        any = true;
        if settings.kind != Some(Kind::Materials) {
            price::changes(&idoc, settings, &mut changes)?;
        }
        if settings.kind != Some(Kind::Conditions) {
            material::changes(&idoc, &mut changes)?;
        }
    }
    match any {
        true => Ok(changes),
        false => bail!(
            "no-idoc",
            "the event contains no IDOC element: does an XML IDoc port feed this source?"
        ),
    }
}

impl Settings {
    /// Reads and checks the settings.
    pub fn parse(json: &str) -> Result<Self, String> {
        let settings: Settings = weir_plugin::settings("erp-product", json)?;
        for (condition, name) in &settings.price_lists {
            let parts = condition.split('/').filter(|part| !part.is_empty()).count();
            if !(2..=3).contains(&parts) || parts != condition.split('/').count() {
                return Err(format!(
                    "settings of erp-product: price_lists has the key `{condition}`, which should be a sales organisation, \
                     a distribution channel and, if there is one, a price list type: `1000/10/01`"
                ));
            }
            if name.is_empty()
                || !name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            {
                return Err(format!(
                    "settings of erp-product: price_lists names `{condition}` `{name}`, but a name becomes part of a facet \
                     (`price.de-retail`) and may have only letters, digits, `-` and `_`"
                ));
            }
        }
        if settings.kind == Some(Kind::Conditions)
            && settings.unknown == Unknown::Fail
            && settings.price_lists.is_empty()
        {
            return Err("settings of erp-product: kind is COND_A and price_lists is empty, so every record would fail; \
                        name the price lists, for example { \"1000/10/01\": \"de-retail\" }"
                .into());
        }
        Ok(settings)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            kind: None,
            price_lists: BTreeMap::new(),
            unknown: Unknown::Fail,
            currency: None,
            // The price of a shop and the retail price of a store, in SAP's standard delivery.
            condition_types: vec!["PR00".into(), "VKP0".into()],
        }
    }
}

/// Makes a change of a product. Without a value, the facet is deleted.
fn change(
    key: &str,
    facet: String,
    value: Option<&impl Serialize>,
    version: Option<u64>,
) -> Result<Change> {
    let change = match value {
        Some(value) => Change::facet(ENTITY_TYPE, key, facet, value)?,
        None => Change::delete(ENTITY_TYPE, key, facet),
    };
    Ok(change.version(version))
}
