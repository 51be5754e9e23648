//! Returns everything that a plugin of a source receives, as `tests/conformance/README.md` defines.

use serde::Deserialize;
use serde_json::{json, Value};
use weir_plugin::{bail, Change, Error, Event, Payload, Result};

/// Drops an event whose attribute `drop` is `true`.
pub fn accept(event: &Event) -> Result<bool> {
    Ok(event.attribute("drop") != Some("true"))
}

/// Maps the event as its type demands.
#[weir_plugin::mapper(filter = accept)]
pub fn transform(event: &Event) -> Result<Vec<Change>> {
    match event.event_type.as_str() {
        "tell" => Ok(vec![change("event", &tell(event))?]),
        "echo" => Ok(vec![change("data", event.text()?)?]),
        "numbers" => {
            let numbers: Vec<f64> = event.json()?;
            let bits: Vec<String> = numbers
                .iter()
                .map(|number| format!("{:016x}", number.to_bits()))
                .collect();
            Ok(vec![change("bits", &bits)?])
        }
        "versions" => {
            let versions: Vec<&str> = event.json()?;
            let versions = versions.iter().enumerate();
            versions
                .map(|(index, version)| {
                    Ok(change(&format!("n{index}"), &index)?.version(version.parse::<u64>()?))
                })
                .collect()
        }
        "lanes" => {
            let mut changes = Vec::new();
            for lane in ["urgent", "normal", "bulk"] {
                changes.push(change("lane", &Value::Null)?.lane(lane));
            }
            changes.push(change("lane", &Value::Null)?);
            changes.push(Change::delete("echo", "echo", "lane"));
            Ok(changes)
        }
        "many" => (0..event.json::<u64>()?)
            .map(|index| change("n", &index))
            .collect(),
        "fail" => {
            let Failed { code, message } = event.json()?;
            Err(Error::new(code, message))
        }
        "none" => Ok(Vec::new()),
        other => bail!("unknown-type", "no event is of the type {other:?}"),
    }
}

/// The data of `fail`.
#[derive(Deserialize)]
struct Failed {
    code: String,
    message: String,
}

fn change<V: serde::Serialize + ?Sized>(facet: &str, value: &V) -> Result<Change> {
    Change::facet("echo", "echo", facet, value)
}

fn tell(event: &Event) -> Value {
    let mut told = json!({
        "id": event.id,
        "origin": event.origin,
        "type": event.event_type,
        "subject": event.subject,
        "time": event.time,
        "content_type": event.content_type,
        "attributes": event.attributes,
    });
    match &event.data {
        Payload::Text(text) => told["text"] = text.as_str().into(),
        Payload::Binary(bytes) => told["bytes"] = bytes.as_slice().into(),
    }
    told
}
