//! Sorts a product's values into one content for each locale.

use crate::product::{parse, Product};
use crate::Settings;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use weir_plugin::{bail, Error, Result};

/// The fields with properties of the product itself. An attribute cannot fill them.
pub(crate) const OWN_FIELDS: [&str; 3] = ["enabled", "family", "categories"];

/// The facet's value.
#[derive(Serialize)]
pub(crate) struct Content<'a> {
    enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    family: Option<&'a str>,
    categories: &'a [Cow<'a, str>],
    #[serde(flatten)]
    fields: BTreeMap<&'a str, &'a RawValue>,
}

/// One value of an attribute, for a locale and a channel of the PIM; `None` means all of them.
#[derive(Deserialize)]
struct Value<'a> {
    #[serde(borrow)]
    locale: Option<Cow<'a, str>>,
    #[serde(borrow)]
    scope: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// The content in each of the configured locales, in their order; `None` if no attribute has a
/// value.
pub(crate) fn contents<'a>(
    product: &'a Product<'a>,
    key: &str,
    settings: &'a Settings,
) -> Result<Vec<Option<Content<'a>>>> {
    let Some(values) = product.values else {
        bail!(
            "missing-field",
            "product {key} has no `values`; the PIM must send whole products, not only their changes"
        );
    };
    // Codes consist of letters, digits and underscores and are never escaped, so they can be
    // borrowed.
    let values: BTreeMap<&str, &RawValue> = match values.get() {
        "[]" => BTreeMap::new(),
        values => parse(values)?,
    };
    let mut fields: Vec<BTreeMap<&str, &RawValue>> = vec![BTreeMap::new(); settings.locales.len()];
    for (attribute, field) in &settings.attributes {
        let Some(list) = values.get(attribute.as_str()) else {
            continue;
        };
        let list: Vec<Value<'_>> = serde_json::from_str(list.get()).map_err(|error| {
            Error::new(
                "broken-json",
                format!("the attribute `{attribute}` of product {key} is not a list of values with locale, scope and data: {error}"),
            )
        })?;
        for (locale, fields) in settings.locales.iter().zip(&mut fields) {
            if let Some(data) = best(&list, locale, settings.scope.as_deref()) {
                fields.entry(field).or_insert(data);
            }
        }
    }
    let content = |fields: BTreeMap<&'a str, &'a RawValue>| Content {
        enabled: product.enabled.unwrap_or(true),
        family: product.family.as_deref(),
        categories: &product.categories,
        fields,
    };
    Ok(fields
        .into_iter()
        .map(|fields| (!fields.is_empty()).then(|| content(fields)))
        .collect())
}

/// The best value: one for this locale is preferred to one for all locales, and one for this
/// channel to one for all channels.
fn best<'a>(values: &[Value<'a>], locale: &str, scope: Option<&str>) -> Option<&'a RawValue> {
    let fits = |value: &&Value<'_>| {
        value.locale.as_deref().is_none_or(|own| own == locale)
            && value.scope.as_deref().is_none_or(|own| Some(own) == scope)
    };
    let exactness = |value: &&Value<'_>| (value.locale.is_some(), value.scope.is_some());
    values
        .iter()
        .filter(|value| value.data.is_some())
        .filter(fits)
        .max_by_key(exactness)?
        .data
}
