//! An inventory level in the form that the shop system sends.

use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use weir_plugin::{bail, version_from_time, Error, Event, Result};

/// The header with a webhook's topic. The source must pass it on.
const TOPIC: &str = "x-shopify-topic";

/// The available quantity of one item at one location.
#[derive(Debug)]
pub(crate) struct Level<'a> {
    event: &'a Event,
    body: Body<'a>,
}

#[derive(Debug, Deserialize)]
struct Body<'a> {
    inventory_item_id: Option<Id>,
    location_id: Option<Id>,
    #[serde(borrow)]
    sku: Option<Cow<'a, str>>,
    /// Absent and null differ: null means that the item is not stocked, absent that the event is
    /// not a level.
    #[serde(default, deserialize_with = "present")]
    available: Option<Option<i64>>,
    #[serde(borrow)]
    updated_at: Option<Cow<'a, str>>,
}

/// A number that serves as a name. Some systems between the shop and Weir write it as text, because
/// it can exceed the exact integers of JavaScript.
#[derive(Debug)]
struct Id(String);

impl<'a> Level<'a> {
    pub(crate) fn read(event: &'a Event) -> Result<Self> {
        let Ok(text) = event.text() else {
            bail!("not-text", "the event is not UTF-8, as JSON must be")
        };
        let body = serde_json::from_str(text).map_err(|error| {
            Error::new(
                "broken-json",
                format!("the event is not the JSON of an inventory level: {error}"),
            )
        })?;
        Ok(Level { event, body })
    }

    pub(crate) fn item(&self) -> Result<&str> {
        match &self.body.inventory_item_id {
            Some(Id(item)) => Ok(item),
            None => bail!(
                "missing-field",
                "the event has no `inventory_item_id`: is this webhook one of inventory levels?"
            ),
        }
    }

    pub(crate) fn location(&self, item: &str) -> Result<&str> {
        match &self.body.location_id {
            Some(Id(location)) => Ok(location),
            None => bail!(
                "missing-field",
                "the level of inventory item {item} has no `location_id`"
            ),
        }
    }

    pub(crate) fn sku(&self) -> Option<&str> {
        self.body.sku.as_deref().filter(|sku| !sku.is_empty())
    }

    /// `None` if the item is not stocked, or not any more. A disconnection is recognised by its
    /// topic and has no quantity.
    pub(crate) fn available(&self, item: &str) -> Result<Option<i64>> {
        match (self.body.available, self.event.attribute(TOPIC)) {
            (Some(available), _) => Ok(available),
            (None, Some("inventory_levels/disconnect")) => Ok(None),
            (None, _) => bail!(
                "missing-field",
                "the level of inventory item {item} has no `available`"
            ),
        }
    }

    pub(crate) fn version(&self, item: &str) -> Result<Option<u64>> {
        let Some(text) = self
            .body
            .updated_at
            .as_deref()
            .or(self.event.time.as_deref())
        else {
            return Ok(None);
        };
        match version_from_time(text) {
            Ok(version) => Ok(Some(version)),
            Err(_) => bail!(
                "not-a-time",
                "the level of inventory item {item} has the time `{text}`, which is not a time with an offset such as 2026-11-23T08:14:41+01:00"
            ),
        }
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a whole number, or text")]
        enum Written {
            Number(u64),
            Text(String),
        }
        Ok(Id(match Written::deserialize(deserializer)? {
            Written::Number(number) => number.to_string(),
            Written::Text(text) => text,
        }))
    }
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<i64>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}
