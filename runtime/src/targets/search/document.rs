//! The document of an entity in an index: the object that the channel rendered, with its id where the
//! engine reads one, and the fields by which the index can be compared with Weir.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_64;

use crate::model::Payload;
use crate::targets::Item;

/// The fields by which an index can be compared with Weir.
pub(super) const META: [&str; 3] = ["weir_digest", "weir_key", "weir_sequence"];

/// Writes the document of an item on one line. `id` is the name and the value of the engine's own id
/// field, which replaces one in the rendering. With `meta`, the document has the fields
/// of [`META`].
///
/// # Errors
/// The reason why the rendering is no document.
pub(super) fn write(
    item: &Item,
    id: Option<(&str, &str)>,
    meta: bool,
    to: &mut Vec<u8>,
) -> Result<(), String> {
    let Some(rendering) = &item.rendering else {
        return Ok(());
    };
    let Payload::Text(text) = &rendering.body else {
        return Err("the rendering is not text, and a search engine takes JSON objects".into());
    };
    let mut fields: BTreeMap<String, &RawValue> = serde_json::from_str(text).map_err(|error| {
        format!("the rendering is not a JSON object, as a search engine needs: {error}")
    })?;
    let mut own: Vec<(&str, Value)> = Vec::new();
    if let Some((name, id)) = id {
        own.push((name, id.into()));
    }
    if meta {
        let digest = format!("{:016x}", xxh3_64(text.as_bytes()));
        let values: [Value; 3] = [
            digest.into(),
            (*item.entity.key).into(),
            item.sequence.0.into(),
        ];
        own.extend(META.into_iter().zip(values));
    }
    for (name, _) in &own {
        fields.remove(*name);
    }
    to.push(b'{');
    let from = to.len();
    let comma = |to: &mut Vec<u8>| {
        if to.len() > from {
            to.push(b',');
        }
    };
    for (name, value) in &own {
        comma(to);
        append(name, to);
        to.push(b':');
        append(value, to);
    }
    for (name, value) in &fields {
        comma(to);
        append(name, to);
        to.push(b':');
        // A line break that is not escaped can only be white space between tokens.
        let bytes = value.get().bytes();
        to.extend(bytes.map(|byte| match byte {
            b'\n' | b'\r' => b' ',
            byte => byte,
        }));
    }
    to.push(b'}');
    Ok(())
}

/// Appends a value as JSON.
pub(super) fn append(value: &(impl serde::Serialize + ?Sized), to: &mut Vec<u8>) {
    serde_json::to_writer(to, value).expect("strings and numbers always serialise");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::sample::item;

    fn written(body: &str, id: Option<(&str, &str)>, meta: bool) -> Result<String, String> {
        let mut to = Vec::new();
        write(&item("a/1", 42, Some(body)), id, meta, &mut to)?;
        Ok(String::from_utf8(to).expect("text"))
    }

    #[test]
    fn a_document_is_one_line_with_its_id_and_numbers_as_they_were_written() {
        let body =
            "{\n \"id\": 7, \"price\": 1.50, \"deep\": {\"a\": [1,\n2]}, \"weir_key\": \"x\"}";
        let document = written(body, Some(("id", "a_2f1")), true).expect("a document");
        let digest = format!("{:016x}", xxh3_64(body.as_bytes()));
        assert_eq!(
            document,
            format!(
                r#"{{"id":"a_2f1","weir_digest":"{digest}","weir_key":"a/1","weir_sequence":42,"deep":{{"a": [1, 2]}},"price":1.50}}"#
            )
        );
        assert_eq!(written("{}", None, false), Ok("{}".into()));
        for wrong in ["[]", "7", "{", "\"text\""] {
            assert!(written(wrong, None, true).is_err(), "{wrong}");
        }
    }
}
