//! Renders a product as one document of a search index, with every language, every price list and
//! the stock of all locations.
//!
//! [`document`] is the whole rendering, a pure function. Its key is `product-<key>`, so that an
//! index can contain other things than products. A product without a name in any language, or
//! disabled by the PIM in all of them, has no document. Amounts are copied as decimal text. A price that
//! holds from a day on, or until one, is not in `prices` but in `dated_prices`, with its days: no price
//! is found before its day. Unknown settings are ignored, because a row's columns are merged into the
//! settings.

mod facets;

use facets::{Facets, Period, Price};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use weir_plugin::{Entity, Rendering, Result};

/// The settings.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The fields of the index. The default is all fields; `id` is always included.
    pub index_fields: Option<BTreeSet<Field>>,
}

/// The fields that a document can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// The document's identifier, which is also its key.
    Id,
    /// The product's own key.
    Key,
    /// Locale → name.
    Names,
    /// Locale → description.
    Descriptions,
    /// The PIM's categories.
    Categories,
    /// The PIM's family.
    Family,
    /// Price list → the price that holds on every day.
    Prices,
    /// Price list → the prices that hold on some days, with these days. A document without such a
    /// price does not have the field.
    DatedPrices,
    /// The stock of all locations.
    Available,
    /// Whether any stock is available.
    InStock,
}

/// The document, with the fields in the order in which they are written.
#[derive(Serialize)]
struct Body<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    names: Option<BTreeMap<&'a str, Cow<'a, str>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    descriptions: Option<BTreeMap<&'a str, Cow<'a, str>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    categories: Option<BTreeSet<Cow<'a, str>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    family: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prices: Option<BTreeMap<&'a str, Price<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dated_prices: Option<BTreeMap<&'a str, Vec<Period<'a>>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    available: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_stock: Option<bool>,
}

/// The product's document, or `None` if the product has no name to be found by.
#[weir_plugin::renderer(settings = Settings::parse)]
pub fn document(entity: &Entity, settings: &Settings) -> Result<Option<Rendering>> {
    let facets = Facets::of(entity)?;
    if facets.names.is_empty() {
        return Ok(None);
    }
    let id = format!("product-{}", entity.key);
    let wants = |field| {
        settings
            .index_fields
            .as_ref()
            .is_none_or(|fields| fields.contains(&field))
    };
    let dated = !facets.dated_prices.is_empty();
    let body = Body {
        id: &id,
        key: wants(Field::Key).then_some(&entity.key),
        names: wants(Field::Names).then_some(facets.names),
        descriptions: wants(Field::Descriptions).then_some(facets.descriptions),
        categories: wants(Field::Categories).then_some(facets.categories),
        family: facets.family.filter(|_| wants(Field::Family)),
        prices: wants(Field::Prices).then_some(facets.prices),
        dated_prices: (dated && wants(Field::DatedPrices)).then_some(facets.dated_prices),
        available: wants(Field::Available).then_some(facets.available),
        in_stock: wants(Field::InStock).then_some(facets.available > 0),
    };
    let document = Rendering::json(&body)?;
    Ok(Some(document.key(id)))
}

impl Settings {
    /// Reads and checks the settings.
    pub fn parse(json: &str) -> Result<Self, String> {
        weir_plugin::settings("search-document", json)
    }
}
