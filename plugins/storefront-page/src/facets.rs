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

/// The prices of a product in one list.
#[derive(Default)]
pub(crate) struct Prices<'a> {
    /// The price that holds on every day.
    pub(crate) always: Option<Price<'a>>,
    /// The prices that hold on some days. A renderer has no clock, and a page stays as it is when a
    /// day begins, so it carries all of them; whoever shows it takes the one of the day.
    pub(crate) periods: Vec<Period<'a>>,
}

/// A price with the first and the last day on which it holds.
#[derive(Serialize)]
pub(crate) struct Period<'a> {
    #[serde(flatten)]
    price: Price<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Cow<'a, str>>,
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
    #[serde(borrow)]
    from: Option<Cow<'a, str>>,
    #[serde(borrow)]
    until: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    later: Vec<PriceFacet<'a>>,
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

impl<'a> Prices<'a> {
    /// The prices in a list; none if the list has no price for the product.
    pub(crate) fn of(entity: &'a Entity, list: &str, expected: Option<&'a str>) -> Result<Self> {
        let name = format!("price.{list}");
        let Some(mut now) = facet::<PriceFacet<'a>>(entity, &name)? else {
            return Ok(Prices::default());
        };
        let later = std::mem::take(&mut now.later);
        let mut periods = Vec::with_capacity(1 + later.len());
        for price in std::iter::once(now).chain(later) {
            periods.push(period(entity, &name, price, expected)?);
        }
        match &periods[..] {
            [only] if only.from.is_none() && only.until.is_none() => Ok(Prices {
                always: periods.pop().map(|period| period.price),
                periods,
            }),
            _ => Ok(Prices {
                always: None,
                periods,
            }),
        }
    }
}

/// Checks a price of the facet `name`.
fn period<'a>(
    entity: &Entity,
    name: &str,
    price: PriceFacet<'a>,
    expected: Option<&'a str>,
) -> Result<Period<'a>> {
    let Some(amount) = decimal(price.amount) else {
        return Err(wrong(
            entity,
            name,
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
    let per = price.per.filter(|per| *per != 1);
    Ok(Period {
        price: Price {
            amount,
            currency: price.currency.or(expected.map(Cow::Borrowed)),
            per,
            unit: price.unit.filter(|_| per.is_some()),
        },
        from: price.from,
        until: price.until,
    })
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
