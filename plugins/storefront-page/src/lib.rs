//! Renders a product as the page data of one shop, with one language, one price list and the stock
//! of all locations.
//!
//! [`page`] is the whole rendering, a pure function. The content comes from `content.<locale>`, the
//! price from `price.<price list>`, the stock from every `stock.<location>`. A product without a
//! name in the shop's language, or disabled by the PIM, is not for this channel. Amounts are copied
//! as decimal text. A price that holds from a day on, or until one, is no `price` of the page but one
//! of its `prices`, with its days: no price is shown before its day.
//!
//! Unknown settings are ignored, because a row's columns (`site`, `url` and others) are merged into
//! the settings.

mod facets;

use facets::{Content, Period, Price, Prices};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use weir_plugin::{Entity, Rendering, Result};

/// The settings.
#[derive(Debug, Deserialize)]
pub struct Settings {
    /// The shop's language: the page shows `content.<locale>`.
    pub locale: String,
    /// The shop. Without `price_list`, its prices are in `price.<site>-retail`.
    pub site: Option<String>,
    /// The price list: the page shows `price.<price_list>`.
    pub price_list: Option<String>,
    /// The currency of the shop. A price in another currency fails; a price without one is in this.
    pub currency: Option<String>,
    /// The URL of the shop, to which `path` is appended.
    #[serde(default)]
    pub url: String,
    /// The page's path; `{key}` stands for the product's key, percent-encoded.
    #[serde(default = "Settings::usual_path")]
    pub path: String,
}

/// The page, with the fields in the order in which they are written.
#[derive(Serialize)]
struct Page<'a> {
    sku: &'a str,
    locale: &'a str,
    name: &'a RawValue,
    description: Option<&'a RawValue>,
    /// The price that holds on every day.
    price: Option<Price<'a>>,
    /// Without such a price: the prices that hold on some days, in their order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    prices: Vec<Period<'a>>,
    available: i64,
    in_stock: bool,
    url: String,
}

/// The product's page, or `None` if the product is not for this shop.
#[weir_plugin::renderer(settings = Settings::parse)]
pub fn page(entity: &Entity, settings: &Settings) -> Result<Option<Rendering>> {
    let Some(content) = Content::of(entity, &settings.locale)? else {
        return Ok(None);
    };
    let (true, Some(name)) = (content.enabled, content.name) else {
        return Ok(None);
    };
    let available = facets::available(entity)?;
    let prices = Prices::of(entity, &settings.price_list(), settings.currency.as_deref())?;
    let page = Page {
        sku: &entity.key,
        locale: &settings.locale,
        name,
        description: content.description,
        price: prices.always,
        prices: prices.periods,
        available,
        in_stock: available > 0,
        url: settings.url(&entity.key),
    };
    Rendering::json(&page).map(Some)
}

impl Settings {
    /// Reads and checks the settings.
    pub fn parse(json: &str) -> Result<Self, String> {
        let settings: Settings = weir_plugin::settings("storefront-page", json)?;
        if settings.site.is_none() && settings.price_list.is_none() {
            return Err("settings of storefront-page: neither price_list nor site is set, so no price could be found; \
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
        format!(
            "{}{}",
            self.url.trim_end_matches('/'),
            self.path.replace("{key}", &percent_encoded(key))
        )
    }

    fn usual_path() -> String {
        "/p/{key}".into()
    }
}

/// A key as one segment of a path: everything but RFC 3986's unreserved characters is encoded.
fn percent_encoded(key: &str) -> String {
    let mut encoded = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(byte.into())
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
