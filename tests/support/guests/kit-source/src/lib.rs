//! An event filter and a mapper in one crate; the type of an event decides what they do with it.

use serde::Deserialize;
use weir_plugin::{bail, log, Change, Event, Result};

/// The settings.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    prefix: String,
    #[serde(default)]
    limits: Limits,
}

#[derive(Debug, Default, Deserialize)]
struct Limits {
    most: Option<usize>,
}

#[derive(Deserialize)]
struct Lamp<'a> {
    sku: &'a str,
}

#[derive(Deserialize)]
struct XmlLamp<'a> {
    #[serde(rename = "@sku")]
    sku: &'a str,
}

#[derive(Deserialize)]
struct Row {
    sku: String,
}

fn accept(event: &Event, settings: &Settings) -> Result<bool> {
    log::info(format_args!(
        "{} looks at {}",
        settings.prefix, event.event_type
    ));
    Ok(settings
        .limits
        .most
        .is_none_or(|most| event.bytes().len() <= most))
}

#[weir_plugin::mapper(filter = accept)]
fn transform(event: Event, settings: &Settings) -> Result<Vec<Change>> {
    let change =
        |sku: &str| Change::facet("product", format!("{}{sku}", settings.prefix), "base", sku);
    match event.event_type.as_str() {
        "json" => Ok(vec![change(event.json::<Lamp<'_>>()?.sku)?
            .version(7)
            .lane("urgent")]),
        "xml" => Ok(vec![change(event.xml::<XmlLamp<'_>>()?.sku)?]),
        "csv" => event
            .csv::<Row>(b';')?
            .map(|row| change(&row?.sku))
            .collect(),
        "deleted" => Ok(vec![Change::delete("product", event.text()?, "base")]),
        "panic" => panic!("the lamp {} is broken", event.text()?),
        other => bail!("unknown-type", "nobody knows `{other}`"),
    }
}
