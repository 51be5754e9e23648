//! Finds the product in an event, in any of the forms that the PIM sends.

use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use weir_plugin::{bail, version_from_time, Error, Event, Result};

/// An event about a product.
#[derive(Debug)]
pub(crate) struct Incoming<'a> {
    pub(crate) product: Product<'a>,
    /// The product was removed.
    pub(crate) removed: bool,
    time: Option<Cow<'a, str>>,
}

/// The product. A removal has only its names.
#[derive(Debug, Deserialize)]
pub(crate) struct Product<'a> {
    #[serde(borrow)]
    identifier: Option<Cow<'a, str>>,
    #[serde(borrow)]
    uuid: Option<Cow<'a, str>>,
    pub(crate) enabled: Option<bool>,
    #[serde(borrow)]
    pub(crate) family: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(crate) categories: Vec<Cow<'a, str>>,
    /// Attribute → list of values. A PIM written in PHP writes an empty object as `[]`.
    #[serde(borrow)]
    pub(crate) values: Option<&'a RawValue>,
    #[serde(borrow)]
    updated: Option<Cow<'a, str>>,
}

/// The members that can enclose a product.
#[derive(Deserialize)]
struct Wrapping<'a> {
    #[serde(borrow)]
    action: Option<Cow<'a, str>>,
    #[serde(borrow)]
    event_datetime: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    product: Option<&'a RawValue>,
    #[serde(borrow)]
    resource: Option<&'a RawValue>,
}

impl<'a> Incoming<'a> {
    /// Reads the product; `None` if the event is about something else.
    pub(crate) fn read(event: &'a Event) -> Result<Option<Self>> {
        let Ok(data) = event.text() else {
            bail!("not-text", "the event is not UTF-8, as JSON must be")
        };
        let outer: Wrapping<'a> = parse(data)?;
        let event_type = outer.action.as_deref().unwrap_or(&event.event_type);
        if is_about_something_else(event_type) {
            return Ok(None);
        }
        let removed = event_type.ends_with("product.removed") || event_type.ends_with(".deleted");
        let inner = match outer.data {
            Some(inner) => parse(inner.get())?,
            None => Wrapping {
                action: None,
                event_datetime: None,
                data: None,
                product: outer.product,
                resource: outer.resource,
            },
        };
        let product = inner
            .product
            .or(inner.resource)
            .or(outer.data)
            .map_or(data, RawValue::get);
        let time = event
            .time
            .as_deref()
            .map(Cow::Borrowed)
            .or(outer.event_datetime);
        Ok(Some(Incoming {
            product: parse(product)?,
            removed,
            time,
        }))
    }

    pub(crate) fn key(&self) -> Result<&str> {
        let names = [&self.product.identifier, &self.product.uuid];
        names
            .into_iter()
            .flatten()
            .map(|name| &**name)
            .find(|name| !name.is_empty())
            .ok_or_else(|| {
                let message =
                    "the product has neither `identifier` nor `uuid`, so it cannot be identified";
                Error::new("missing-field", message)
            })
    }

    /// The time of the product, so that a late event cannot undo a newer one, or of the event if
    /// there is no product.
    pub(crate) fn version(&self) -> Result<Option<u64>> {
        let (field, text) = match (&self.product.updated, &self.time) {
            (Some(updated), _) => ("`updated`", updated),
            (None, Some(time)) => ("the event's time", time),
            (None, None) => return Ok(None),
        };
        match version_from_time(text) {
            Ok(version) => Ok(Some(version)),
            Err(_) => bail!("not-a-time", "{field} is `{text}`, which is not a time with an offset such as 2026-11-23T08:14:41+00:00"),
        }
    }
}

/// Returns true if a type such as `com.akeneo.pim.v1.category.updated` names something other than a
/// product. Types of another form do not tell.
fn is_about_something_else(event_type: &str) -> bool {
    let mut words = event_type.rsplit('.');
    match (words.next(), words.next()) {
        (Some("created" | "updated" | "removed" | "deleted"), Some(thing)) => thing != "product",
        _ => false,
    }
}

pub(crate) fn parse<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T> {
    serde_json::from_str(json).map_err(|error| {
        Error::new(
            "broken-json",
            format!("the event is not the JSON of a product: {error}"),
        )
    })
}
