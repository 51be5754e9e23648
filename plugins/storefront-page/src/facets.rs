//! Reads the facets of a page as the mappers write them. `plugins/README.md` lists their shapes.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use weir_plugin::{bail, Entity, Error, Result};

/// The part of `content.<locale>` that a page shows. A missing `enabled` counts as true, because
/// only a PIM that disables products writes false.
#[derive(Deserialize)]
pub(crate) struct Content<'a> {
    #[serde(default = "yes")]
    pub(crate) enabled: bool,
    #[serde(borrow)]
    pub(crate) name: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) description: Option<&'a RawValue>,
}

/// A price as a page shows it. It is for one piece, unless `per` and `unit` state a quantity.
#[derive(Serialize)]
pub(crate) struct Price<'a> {
    amount: &'a str,
    currency: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    per: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct PriceFacet<'a> {
    /// Decimal text; a number is accepted too and keeps its notation.
    #[serde(borrow)]
    amount: &'a RawValue,
    #[serde(borrow)]
    currency: Option<Cow<'a, str>>,
    per: Option<u32>,
    #[serde(borrow)]
    unit: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Stock {
    available: i64,
}

impl<'a> Content<'a> {
    pub(crate) fn of(entity: &'a Entity, locale: &str) -> Result<Option<Self>> {
        facet(entity, &format!("content.{locale}"))
    }
}

impl<'a> Price<'a> {
    /// The price in a list, or `None` if the list has no price for the product.
    pub(crate) fn of(
        entity: &'a Entity,
        list: &str,
        expected: Option<&'a str>,
    ) -> Result<Option<Self>> {
        let name = format!("price.{list}");
        let Some(price) = facet::<PriceFacet<'a>>(entity, &name)? else {
            return Ok(None);
        };
        let Some(amount) = decimal(price.amount) else {
            return Err(wrong(
                entity,
                &name,
                &format!(
                    "the amount is {}, which is not a decimal number",
                    price.amount
                ),
            ));
        };
        if let (Some(currency), Some(expected)) = (price.currency.as_deref(), expected) {
            if currency != expected {
                bail!(
                    "wrong-currency",
                    "{name} of {} is in {currency}, but this shop sells in {expected}: is it the right price list?",
                    entity.key
                );
            }
        }
        let currency = price.currency.or(expected.map(Cow::Borrowed));
        let per = price.per.filter(|per| *per != 1);
        let unit = price.unit.filter(|_| per.is_some());
        Ok(Some(Price {
            amount,
            currency,
            per,
            unit,
        }))
    }
}

/// The stock of all locations together; 0 if no location has a facet.
pub(crate) fn available(entity: &Entity) -> Result<i64> {
    let mut total = 0_i64;
    for (_, facet) in entity.family("stock.") {
        let stock: Stock = serde_json::from_str(&facet.value)
            .map_err(|error| wrong(entity, &facet.name, &error))?;
        total = total.saturating_add(stock.available);
    }
    Ok(total)
}

fn facet<'a, T: Deserialize<'a>>(entity: &'a Entity, name: &str) -> Result<Option<T>> {
    let Some(facet) = entity.facets.iter().find(|facet| facet.name == name) else {
        return Ok(None);
    };
    serde_json::from_str(&facet.value)
        .map(Some)
        .map_err(|error| wrong(entity, name, &error))
}

/// The decimal text of an amount, whether it is written as text or as a number.
fn decimal(written: &RawValue) -> Option<&str> {
    let amount = written.get().trim_matches('"');
    let digits = amount.strip_prefix('-').unwrap_or(amount);
    let all_digits =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    digits.splitn(2, '.').all(all_digits).then_some(amount)
}

fn wrong(entity: &Entity, facet: &str, error: &dyn std::fmt::Display) -> Error {
    Error::new(
        "wrong-facet",
        format!(
            "the facet {facet} of {} cannot be shown: {error}",
            entity.key
        ),
    )
}

fn yes() -> bool {
    true
}
