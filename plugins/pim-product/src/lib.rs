//! Maps products of a PIM similar to Akeneo to a `content.<locale>` facet for each locale.
//!
//! [`changes`] is the whole mapping, a pure function. The product is the body itself, or is under
//! `product` (event platform), under `resource`, or under `data.resource` next to an `action`
//! (webhooks). Values are copied as the PIM wrote them, numbers and texts alike. The version is the
//! product's `updated` in milliseconds since 1970; for an event without a product, such as a
//! removal, it is the time of the event.

mod content;
mod product;

use content::Content;
use product::Incoming;
use serde::Deserialize;
use std::collections::BTreeMap;
use weir_plugin::{Change, Event, Result};

/// The settings; unknown ones are rejected.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The locales that get a facet, in the PIM's notation: `de_DE`.
    pub locales: Vec<String>,
    /// The PIM's channel whose values are used. Values without a channel are always used.
    #[serde(default)]
    pub scope: Option<String>,
    /// Attribute → field of the facet. If several attributes name one field, the first with a value
    /// is used.
    #[serde(default = "Settings::usual_attributes")]
    pub attributes: BTreeMap<String, String>,
}

/// The entity type of every change.
pub const ENTITY_TYPE: &str = "product";

/// Maps one event. An event about something else, such as a changed category, maps to nothing.
#[weir_plugin::mapper(settings = Settings::parse)]
pub fn changes(event: &Event, settings: &Settings) -> Result<Vec<Change>> {
    let Some(incoming) = Incoming::read(event)? else {
        return Ok(Vec::new());
    };
    let key = incoming.key()?;
    let version = incoming.version()?;
    let contents = match incoming.removed {
        true => settings.locales.iter().map(|_| None).collect(),
        false => content::contents(&incoming.product, key, settings)?,
    };
    let change = |(locale, content): (&String, Option<Content<'_>>)| {
        let facet = format!("content.{locale}");
        let change = match content {
            Some(content) => Change::facet(ENTITY_TYPE, key, facet, &content)?,
            None => Change::delete(ENTITY_TYPE, key, facet),
        };
        Ok(change.version(version))
    };
    settings.locales.iter().zip(contents).map(change).collect()
}

impl Settings {
    /// Reads and checks the settings.
    pub fn parse(json: &str) -> Result<Self, String> {
        let settings: Settings = weir_plugin::settings("pim-product", json)?;
        if settings.locales.is_empty() {
            return Err("settings of pim-product: locales is empty, so no product could be mapped; name the locales, \
                        for example [\"de_DE\", \"fr_FR\"]"
                .into());
        }
        for locale in &settings.locales {
            if locale.is_empty()
                || !locale
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            {
                return Err(format!(
                    "settings of pim-product: the locale `{locale}` becomes part of a facet (`content.de_DE`) and may have only \
                     letters, digits, `-` and `_`"
                ));
            }
        }
        match settings.attributes.iter().find(|(_, field)| content::OWN_FIELDS.contains(&field.as_str())) {
            Some((attribute, field)) => Err(format!(
                "settings of pim-product: the attribute `{attribute}` cannot become the field `{field}`, \
                 which holds a property of the product itself"
            )),
            None => Ok(settings),
        }
    }

    fn usual_attributes() -> BTreeMap<String, String> {
        ["name", "description", "short_description"]
            .into_iter()
            .map(|name| (name.into(), name.into()))
            .collect()
    }
}
