//! The bodies of requests: a bare rendering, or several of them, bare or in envelopes, in an array or in
//! lines.

use serde::Serialize;
use xxhash_rust::xxh3::Xxh3;

use super::{Format, ItemForm, Options};
use crate::targets::Item;
use crate::targets::content;

const JSON: &str = "application/json";

/// Content type and body of a request with one item in the single form.
pub(crate) fn single(item: &Item, options: &Options) -> (String, Vec<u8>) {
    let Some(rendering) = &item.rendering else {
        return (JSON.into(), deletion(item, options));
    };
    let content_type = rendering.content_type.clone();
    let (open, close) = options.wrap();
    let body = [open.as_bytes(), rendering.body.as_bytes(), close.as_bytes()].concat();
    (content_type.unwrap_or_else(|| JSON.into()), body)
}

/// The body of a deletion: as configured, or the name of the entity. At the entity's own URL it needs
/// none.
fn deletion(item: &Item, options: &Options) -> Vec<u8> {
    #[derive(Serialize)]
    struct Deleted<'a> {
        r#type: &'a str,
        key: &'a str,
        deleted: bool,
    }
    match &options.delete_body {
        Some(body) => {
            let inside = |text: &str| {
                let quoted = json(&text);
                String::from_utf8_lossy(&quoted[1..quoted.len() - 1]).into_owned()
            };
            let filled = body.replace("{type}", &inside(&item.entity.entity_type));
            filled.replace("{key}", &inside(&item.key)).into_bytes()
        }
        None if options.url.is_keyed() => Vec::new(),
        None => json(&Deleted {
            r#type: &item.entity.entity_type,
            key: &item.entity.key,
            deleted: true,
        }),
    }
}

/// Content type and body of a request in the batch form. In an envelope an item is written as `{"id",
/// "type", "key", "sequence", "deleted", "content"}`, bare as its content alone.
pub(crate) fn batch(items: &[Item], options: &Options) -> (String, Vec<u8>) {
    let mut body = Vec::with_capacity(items.iter().map(Item::bytes_in_batch).sum());
    let write = |item: &Item, body: &mut Vec<u8>| match (options.form, &item.rendering) {
        (ItemForm::Envelope, _) => envelope(item, body),
        (ItemForm::Bare, Some(rendering)) => content::write(rendering, item.plugin.is_none(), body),
        (ItemForm::Bare, None) => body.extend_from_slice(&deletion(item, options)),
    };
    match options.format {
        Format::Array => {
            let (open, close) = options
                .wrap
                .as_ref()
                .map_or(("[", "]"), |(open, close)| (open.as_str(), close.as_str()));
            body.extend_from_slice(open.as_bytes());
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    body.push(b',');
                }
                write(item, &mut body);
            }
            body.extend_from_slice(close.as_bytes());
            (JSON.into(), body)
        }
        Format::Ndjson => {
            let (open, close) = options.wrap();
            body.extend_from_slice(open.as_bytes());
            for item in items {
                let from = body.len();
                write(item, &mut body);
                // An unescaped line break can only be white space between JSON tokens.
                body[from..]
                    .iter_mut()
                    .filter(|byte| matches!(byte, b'\n' | b'\r'))
                    .for_each(|byte| *byte = b' ');
                body.push(b'\n');
            }
            body.extend_from_slice(close.as_bytes());
            ("application/x-ndjson".into(), body)
        }
    }
}

/// The id of a request in the batch form: the same for the same items.
pub(crate) fn batch_id(items: &[Item]) -> String {
    let mut hasher = Xxh3::new();
    for item in items {
        hasher.update(&item.id.0.to_le_bytes());
    }
    format!("weir_batch_{:032x}", hasher.digest128())
}

/// Appends an item's envelope. It is written by hand because its parts are either JSON already or
/// short, and a target receives millions of them.
fn envelope(item: &Item, body: &mut Vec<u8>) {
    body.extend_from_slice(b"{\"id\":\"");
    item.id.write(body);
    body.extend_from_slice(b"\",\"type\":");
    append(&*item.entity.entity_type, body);
    body.extend_from_slice(b",\"key\":");
    append(&*item.entity.key, body);
    body.extend_from_slice(b",\"sequence\":");
    append(&item.sequence.0, body);
    match &item.rendering {
        None => body.extend_from_slice(b",\"deleted\":true}"),
        Some(rendering) => {
            body.extend_from_slice(b",\"deleted\":false,\"content\":");
            content::write(rendering, item.plugin.is_none(), body);
            body.push(b'}');
        }
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    let mut body = Vec::new();
    append(value, &mut body);
    body
}

fn append(value: &(impl Serialize + ?Sized), body: &mut Vec<u8>) {
    serde_json::to_writer(body, value).expect("strings and numbers always serialise");
}
