//! Renders a product as the variables of a GraphQL mutation like Shopify's `productSet`, which creates the
//! product or replaces it, known by its handle.
//!
//! [`variables`] is the whole rendering, a pure function. The text of the mutation is not part of it: the
//! configuration writes it around the variables. The content comes from `content.<locale>`, the price from
//! `price.<price list>`. A product without a name or without a price is not for this channel. Unknown
//! settings are ignored, because a row's columns are merged into the settings.

use serde::{Deserialize, Serialize};
use weir_plugin::{bail, Entity, Rendering, Result};

/// The settings.
#[derive(Debug, Deserialize)]
pub struct Settings {
    /// The language of the shop: the product has the texts of `content.<locale>`.
    pub locale: String,
    /// The price list of the shop: the product has the price of `price.<price_list>`.
    pub price_list: String,
    /// The currency of the shop. An amount has none in this API, so a price in another one fails.
    pub currency: String,
    /// The vendor of all products.
    pub vendor: Option<String>,
}

#[derive(Deserialize)]
struct Content {
    name: Option<String>,
    description: Option<String>,
}

#[derive(Deserialize)]
struct Price {
    amount: String,
    currency: Option<String>,
    from: Option<String>,
    until: Option<String>,
}

/// The variables, with the names of the API.
#[derive(Serialize)]
struct Variables<'a> {
    identifier: Identifier<'a>,
    input: Input<'a>,
}

#[derive(Serialize)]
struct Identifier<'a> {
    handle: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Input<'a> {
    handle: &'a str,
    title: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description_html: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vendor: Option<&'a str>,
    status: &'static str,
    product_options: [ProductOption; 1],
    variants: [Variant<'a>; 1],
}

/// A product without a choice has one option with one value, which Shopify names so.
#[derive(Serialize)]
struct ProductOption {
    name: &'static str,
    values: [OptionName; 1],
}

#[derive(Serialize)]
struct OptionName {
    name: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Variant<'a> {
    sku: &'a str,
    price: &'a str,
    option_values: [OptionValue; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OptionValue {
    option_name: &'static str,
    name: &'static str,
}

/// The product's variables, or `None` if the product is not for this shop.
#[weir_plugin::renderer]
pub fn variables(entity: &Entity, settings: &Settings) -> Result<Option<Rendering>> {
    let content: Option<Content> = entity.facet(&format!("content.{}", settings.locale))?;
    let facet = format!("price.{}", settings.price_list);
    let price: Option<Price> = entity.facet(&facet)?;
    let (Some(content), Some(price)) = (content, price) else {
        return Ok(None);
    };
    let Some(title) = &content.name else {
        return Ok(None);
    };
    let handle = handle(&entity.key)?;
    if price
        .currency
        .as_ref()
        .is_some_and(|currency| *currency != settings.currency)
    {
        bail!(
            "wrong-currency",
            "{facet} of {} is in {}, but this shop sells in {}: is it the right price list?",
            entity.key,
            price.currency.unwrap_or_default(),
            settings.currency
        );
    }
    if price.from.is_some() || price.until.is_some() {
        bail!(
            "price-with-days",
            "{facet} of {} holds on some days only, and this API has one price for all days",
            entity.key
        );
    }
    let variables = Variables {
        identifier: Identifier { handle },
        input: Input {
            handle,
            title,
            description_html: content.description.as_deref(),
            vendor: settings.vendor.as_deref(),
            status: "ACTIVE",
            product_options: [ProductOption {
                name: "Title",
                values: [OptionName {
                    name: "Default Title",
                }],
            }],
            variants: [Variant {
                sku: &entity.key,
                price: &price.amount,
                option_values: [OptionValue {
                    option_name: "Title",
                    name: "Default Title",
                }],
            }],
        },
    };
    Rendering::json(&variables).map(Some)
}

/// The key, if it can be a handle. Another one would be changed by the shop, and two of them perhaps to the
/// same handle.
fn handle(key: &str) -> Result<&str> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if key.is_empty() || !key.bytes().all(fits) {
        bail!(
            "wrong-key",
            "the key {key:?} cannot be a handle, which has lower-case letters, digits and hyphens: let the mapper write such keys"
        );
    }
    Ok(key)
}
