//! Reads the facets of a document as the mappers write them. `plugins/README.md` lists their
//! shapes.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use weir_plugin::{Entity, Error, Result};

/// The data of a document, from all facets of an entity.
#[derive(Default)]
pub(crate) struct Facets<'a> {
    pub(crate) names: BTreeMap<&'a str, Cow<'a, str>>,
    pub(crate) descriptions: BTreeMap<&'a str, Cow<'a, str>>,
    pub(crate) categories: BTreeSet<Cow<'a, str>>,
    pub(crate) family: Option<Cow<'a, str>>,
    /// Price list → the price that holds on every day.
    pub(crate) prices: BTreeMap<&'a str, Price<'a>>,
    /// Price list → the prices that hold on some days. A renderer has no clock, and a document stays
    /// as it is when a day begins, so it carries all of them; whoever searches takes those of the day.
    pub(crate) dated_prices: BTreeMap<&'a str, Vec<Period<'a>>>,
    pub(crate) available: i64,
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

/// A price as a document has it. It is for one piece, unless `per` and `unit` state a quantity.
#[derive(Serialize)]
pub(crate) struct Price<'a> {
    amount: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    currency: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    per: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<Cow<'a, str>>,
}

/// The part of `content.<locale>` that a document has. A missing `enabled` counts as true, because
/// only a PIM that disables products writes false.
#[derive(Deserialize)]
struct ContentFacet<'a> {
    #[serde(default = "yes")]
    enabled: bool,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    description: Option<Cow<'a, str>>,
    #[serde(borrow)]
    family: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    categories: Vec<Cow<'a, str>>,
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
struct StockFacet {
    available: i64,
}

impl<'a> Facets<'a> {
    pub(crate) fn of(entity: &'a Entity) -> Result<Self> {
        let mut facets = Facets::default();
        for facet in &entity.facets {
            let wrong = |error: &dyn std::fmt::Display| {
                Error::new(
                    "wrong-facet",
                    format!(
                        "the facet {} of {} cannot be put into a search document: {error}",
                        facet.name, entity.key
                    ),
                )
            };
            match facet.name.split_once('.') {
                Some(("content", locale)) => facets.add_content(
                    locale,
                    serde_json::from_str(&facet.value).map_err(|error| wrong(&error))?,
                ),
                Some(("price", list)) => {
                    let price =
                        serde_json::from_str(&facet.value).map_err(|error| wrong(&error))?;
                    let added = facets.add_prices(list, price);
                    added.map_err(|amount| {
                        wrong(&format!(
                            "the amount is {amount}, which is not a decimal number"
                        ))
                    })?;
                }
                Some(("stock", _)) => {
                    let stock: StockFacet =
                        serde_json::from_str(&facet.value).map_err(|error| wrong(&error))?;
                    facets.available = facets.available.saturating_add(stock.available);
                }
                _ => {}
            }
        }
        Ok(facets)
    }

    /// Adds the prices of a list.
    ///
    /// # Errors
    /// The first amount that is not a decimal number.
    fn add_prices(&mut self, list: &'a str, mut first: PriceFacet<'a>) -> Result<(), &'a RawValue> {
        let later = std::mem::take(&mut first.later);
        let prices = std::iter::once(first).chain(later).map(Period::of);
        let mut prices = prices.collect::<Result<Vec<_>, _>>()?;
        match &prices[..] {
            [only] if only.from.is_none() && only.until.is_none() => {
                self.prices
                    .extend(prices.pop().map(|only| (list, only.price)));
            }
            _ => {
                self.dated_prices.insert(list, prices);
            }
        }
        Ok(())
    }

    fn add_content(&mut self, locale: &'a str, content: ContentFacet<'a>) {
        if !content.enabled {
            return;
        }
        if let Some(name) = content.name {
            self.names.insert(locale, name);
        }
        if let Some(description) = content.description {
            self.descriptions.insert(locale, description);
        }
        self.categories.extend(content.categories);
        self.family = content.family.or(self.family.take());
    }
}

impl<'a> Period<'a> {
    /// # Errors
    /// The amount, if it is not a decimal number.
    fn of(price: PriceFacet<'a>) -> Result<Self, &'a RawValue> {
        let per = price.per.filter(|per| *per != 1);
        Ok(Period {
            price: Price {
                amount: decimal(price.amount).ok_or(price.amount)?,
                currency: price.currency,
                per,
                unit: price.unit.filter(|_| per.is_some()),
            },
            from: price.from,
            until: price.until,
        })
    }
}

/// The decimal text of an amount, whether it is written as text or as a number.
fn decimal(written: &RawValue) -> Option<&str> {
    let amount = written.get().trim_matches('"');
    let digits = amount.strip_prefix('-').unwrap_or(amount);
    let all_digits =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    digits.splitn(2, '.').all(all_digits).then_some(amount)
}

fn yes() -> bool {
    true
}
