//! A product as one document of a search index: every language, every price list, the stock of all locations.
//!
//! [`document`] is the whole rendering, a pure function; what Wasm needs is in `glue.rs`. A product that no language
//! has a name for, or that the PIM has switched off in all of them, is not searched for and has no document. Amounts are
//! copied as decimal text. Settings that are not known here are left alone: a row's columns are merged into them.

mod facets;

#[cfg(target_arch = "wasm32")]
mod glue;

use facets::{Facets, Price};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// What the configuration may say.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The fields that the index has; without it, all. `id` is always there.
    pub index_fields: Option<BTreeSet<Field>>,
}

/// The fields that a document may have, apart from `id`.
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
    /// Price list → amount and currency.
    Prices,
    /// The stock of all locations.
    Available,
    /// Whether any of it is available.
    InStock,
}

/// An entity as the channel may see it.
#[derive(Debug, Clone, Copy)]
pub struct Entity<'a> {
    /// The product's key.
    pub key: &'a str,
    /// Its facets.
    pub facets: &'a [Facet<'a>],
}

/// One facet of the entity.
#[derive(Debug, Clone, Copy)]
pub struct Facet<'a> {
    /// `content.de_DE`
    pub name: &'a str,
    /// JSON.
    pub value: &'a str,
}

/// What is put into the index.
#[derive(Debug, PartialEq, Eq)]
pub struct Document {
    /// `product-<key>`, so that an index may hold other things beside products.
    pub id: String,
    /// JSON.
    pub body: String,
}

/// Why an entity cannot be rendered, in words for whoever can repair it.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// Stable, for machines.
    pub code: &'static str,
    /// What is wrong and in which facet.
    pub message: String,
}

/// The document, in the order in which its fields are written.
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
    available: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_stock: Option<bool>,
}

/// The product's document; none if nobody could find it by a name.
pub fn document(entity: Entity<'_>, settings: &Settings) -> Result<Option<Document>, Failure> {
    let facets = Facets::of(entity)?;
    if facets.names.is_empty() {
        return Ok(None);
    }
    let id = format!("product-{}", entity.key);
    let wants = |field| settings.index_fields.as_ref().is_none_or(|fields| fields.contains(&field));
    let body = Body {
        id: &id,
        key: wants(Field::Key).then_some(entity.key),
        names: wants(Field::Names).then_some(facets.names),
        descriptions: wants(Field::Descriptions).then_some(facets.descriptions),
        categories: wants(Field::Categories).then_some(facets.categories),
        family: facets.family.filter(|_| wants(Field::Family)),
        prices: wants(Field::Prices).then_some(facets.prices),
        available: wants(Field::Available).then_some(facets.available),
        in_stock: wants(Field::InStock).then_some(facets.available > 0),
    };
    let body = serde_json::to_string(&body)
        .map_err(|error| Failure { code: "not-json", message: format!("the document {id} cannot be written as JSON: {error}") })?;
    Ok(Some(Document { id, body }))
}

impl Settings {
    /// Reads the settings and checks what can be checked before the first entity.
    pub fn parse(json: &str) -> Result<Self, String> {
        serde_json::from_str(json).map_err(|error| format!("settings of search-document: {error}"))
    }
}
