//! Products of a PIM in the manner of Akeneo in, one `content.<locale>` facet for each locale out.
//!
//! [`changes`] is the whole mapping, a pure function; what Wasm needs is in `glue.rs`. A product arrives bare, under
//! `product` (event platform), under `resource`, or under `data.resource` with an `action` beside it (webhooks). Values are
//! copied as the PIM wrote them, numbers and texts alike. The version is the product's `updated` as milliseconds since
//! 1970; an event that carries no product, such as a removal, has its own time instead.

mod content;
mod product;

#[cfg(target_arch = "wasm32")]
mod glue;

use product::Incoming;
use serde::Deserialize;
use std::collections::BTreeMap;

/// What the configuration may say; anything else is refused.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The locales to write a facet for, as the PIM names them: `de_DE`.
    pub locales: Vec<String>,
    /// The PIM's channel whose values are taken; values that belong to no channel are always taken.
    #[serde(default)]
    pub scope: Option<String>,
    /// Attribute → field of the facet. Where several attributes name one field, the first that has a value gives it.
    #[serde(default = "Settings::usual_attributes")]
    pub attributes: BTreeMap<String, String>,
}

/// What the mapping reads of an event.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// Its type: `com.akeneo.pim.v1.product.updated`.
    pub event_type: &'a str,
    /// When it was raised, RFC 3339.
    pub time: Option<&'a str>,
    /// JSON.
    pub data: &'a str,
}

/// One facet of one product has a new value or, with none, is gone.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    /// The product's identifier or, if it has none, its UUID.
    pub key: String,
    /// `content.<locale>`.
    pub facet: String,
    /// JSON.
    pub value: Option<String>,
    /// Milliseconds since 1970.
    pub version: Option<u64>,
}

/// Why an event cannot be mapped, in words for whoever can repair it.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// Stable, for machines.
    pub code: &'static str,
    /// What is wrong and in which product.
    pub message: String,
}

/// The entity type of every change.
pub const ENTITY_TYPE: &str = "product";

/// Maps one event. What is not about products, such as a changed category, maps to nothing.
pub fn changes(event: Event<'_>, settings: &Settings) -> Result<Vec<Change>, Failure> {
    let Some(incoming) = Incoming::read(event)? else { return Ok(Vec::new()) };
    let key = incoming.key()?;
    let version = incoming.version()?;
    let contents = match incoming.removed {
        true => None,
        false => Some(content::contents(&incoming.product, key, settings)?),
    };
    let change = |(place, locale): (usize, &String)| Change {
        key: key.to_owned(),
        facet: format!("content.{locale}"),
        value: contents.as_ref().and_then(|contents| contents[place].clone()),
        version,
    };
    Ok(settings.locales.iter().enumerate().map(change).collect())
}

impl Settings {
    /// Reads the settings and checks what can be checked before the first event.
    pub fn parse(json: &str) -> Result<Self, String> {
        let settings: Settings = serde_json::from_str(json).map_err(|error| format!("settings of pim-product: {error}"))?;
        if settings.locales.is_empty() {
            return Err("settings of pim-product: locales is empty, so that no product would become anything; name them, \
                        for example [\"de_DE\", \"fr_FR\"]"
                .into());
        }
        for locale in &settings.locales {
            if locale.is_empty() || !locale.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
                return Err(format!(
                    "settings of pim-product: the locale `{locale}` becomes part of a facet (`content.de_DE`) and is made of \
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
        ["name", "description", "short_description"].into_iter().map(|name| (name.into(), name.into())).collect()
    }
}

impl Failure {
    fn new(code: &'static str, message: String) -> Self {
        Failure { code, message }
    }
}
