//! A product as the page data of one shop: one language, one price list, the stock of all locations.
//!
//! [`page`] is the whole rendering, a pure function; what Wasm needs is in `glue.rs`. The content comes from
//! `content.<locale>`, the price from `price.<price list>`, the stock from every `stock.<location>`. A product without a
//! name in the shop's language, or switched off by the PIM, is not for this channel. Amounts are copied as decimal text.
//!
//! A row's columns are merged into a channel's settings (`site`, `url`, and whatever else a table holds), so settings that are
//! not known here are left alone.

mod facets;

#[cfg(target_arch = "wasm32")]
mod glue;

use facets::{Content, Price};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What the configuration may say.
#[derive(Debug, Deserialize)]
pub struct Settings {
    /// The shop's language: the page shows `content.<locale>`.
    pub locale: String,
    /// The shop; without `price_list`, its prices are `price.<site>-retail`.
    pub site: Option<String>,
    /// The price list: the page shows `price.<price_list>`.
    pub price_list: Option<String>,
    /// What the shop sells in. A price in another currency fails; a price without one is in this.
    pub currency: Option<String>,
    /// Where the shop is: what `path` is appended to.
    #[serde(default)]
    pub url: String,
    /// The page's path; `{key}` stands for the product's key, percent-encoded.
    #[serde(default = "Settings::usual_path")]
    pub path: String,
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

/// Why an entity cannot be rendered, in words for whoever can repair it.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// Stable, for machines.
    pub code: &'static str,
    /// What is wrong and in which facet.
    pub message: String,
}

/// The page, in the order in which its fields are written.
#[derive(Serialize)]
struct Page<'a> {
    sku: &'a str,
    locale: &'a str,
    name: &'a RawValue,
    description: Option<&'a RawValue>,
    price: Option<Price<'a>>,
    available: i64,
    in_stock: bool,
    url: String,
}

/// The page's JSON; none if the product is not for this shop.
pub fn page(entity: Entity<'_>, settings: &Settings) -> Result<Option<String>, Failure> {
    let Some(content) = Content::of(entity, &settings.locale)? else { return Ok(None) };
    let (true, Some(name)) = (content.enabled, content.name) else { return Ok(None) };
    let available = facets::available(entity)?;
    let page = Page {
        sku: entity.key,
        locale: &settings.locale,
        name,
        description: content.description,
        price: Price::of(entity, &settings.price_list(), settings.currency.as_deref())?,
        available,
        in_stock: available > 0,
        url: settings.url(entity.key),
    };
    serde_json::to_string(&page)
        .map(Some)
        .map_err(|error| Failure::new("not-json", format!("the page of {} cannot be written as JSON: {error}", entity.key)))
}

impl Settings {
    /// Reads the settings and checks what can be checked before the first entity.
    pub fn parse(json: &str) -> Result<Self, String> {
        let settings: Settings = serde_json::from_str(json).map_err(|error| format!("settings of storefront-page: {error}"))?;
        if settings.site.is_none() && settings.price_list.is_none() {
            return Err("settings of storefront-page: neither price_list nor site is there, so that no price could be found; \
                        set price_list, for example \"de-retail\""
                .into());
        }
        Ok(settings)
    }

    fn price_list(&self) -> String {
        match (&self.price_list, &self.site) {
            (Some(list), _) => list.clone(),
            (None, site) => format!("{}-retail", site.as_deref().unwrap_or_default()),
        }
    }

    fn url(&self, key: &str) -> String {
        format!("{}{}", self.url.trim_end_matches('/'), self.path.replace("{key}", &percent_encoded(key)))
    }

    fn usual_path() -> String {
        "/p/{key}".into()
    }
}

impl Failure {
    fn new(code: &'static str, message: String) -> Self {
        Failure { code, message }
    }
}

/// A key as one segment of a path: everything but RFC 3986's unreserved characters is encoded.
fn percent_encoded(key: &str) -> String {
    let mut encoded = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
