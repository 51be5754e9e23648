//! Sources: the endpoints that accept events, and how their senders are verified.

mod bodies;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::notes::{Notes, is_name, named};
use super::secrets::{is_header, plain, verifying_key};
use super::uses::uses;
use super::{Plugin, Source};
use crate::config::cursor::{Cursor, Field};
use crate::config::text::suggestion;
use crate::ingest::naming::{IdFrom, Naming};
use crate::ingest::verify::{self, Encoding};
use crate::ingest::{self, BODY_BYTES_MAX};

/// A lower limit would reject ordinary events.
const BODY_BYTES: std::ops::RangeInclusive<u64> = 1024..=BODY_BYTES_MAX;

pub(super) fn sources(
    root: &mut Cursor<'_>,
    notes: &mut Notes<'_>,
    plugins: &BTreeMap<Arc<str>, Plugin>,
) -> BTreeMap<Arc<str>, Source> {
    let source = |field: Field<'_>| {
        notes.place(field.path(), field.place());
        let name: Arc<str> = field.key.into();
        field.table(|table| (name.clone(), source(name, table, notes, plugins)))
    };
    named(root, "sources")
        .into_iter()
        .filter_map(source)
        .collect()
}

fn source(
    name: Arc<str>,
    table: &mut Cursor<'_>,
    notes: &mut Notes<'_>,
    plugins: &BTreeMap<Arc<str>, Plugin>,
) -> Source {
    let owner = table.take("owner").and_then(|field| {
        let owner = field.string()?;
        if !is_name(&owner) {
            field.complain(
                format!("{owner:?} cannot be the name of an owner"),
                "write it as facets write it: owner = \"erp\"".to_owned(),
            );
        }
        Some(owner.into())
    });
    let bodies = bodies::bodies(table);
    let headers = table
        .take("headers")
        .map(|field| field.list(|item| item.parsed("a header pattern", HEADERS, header_pattern)));
    let id = table
        .take("id")
        .and_then(|field| field.table(id_from).flatten());
    let verify = table.take("verify").and_then(|field| {
        notes.place(field.path(), field.place());
        field.table(verify).flatten()
    });
    let (verify, mut naming) = verify.unwrap_or((verify::Options::None, Naming::default()));
    // GitHub sends nothing again, whatever the answer was.
    let sends_once = naming == Naming::github();
    naming.id = id.or(naming.id);
    let quiet = table.take("quiet").and_then(|field| {
        field.duration(Duration::from_secs(1)..=Duration::from_secs(365 * 86_400))
    });
    let body_max = table
        .take("body_max")
        .and_then(|field| field.size(BODY_BYTES));
    let options = ingest::Options {
        owner: owner.unwrap_or_else(|| name.clone()),
        name,
        split: bodies.split,
        headers: headers.unwrap_or_default(),
        naming,
        verify,
        quiet,
        body_bytes_max: body_max.unwrap_or(8 * 1024 * 1024),
        encoding: bodies.encoding,
        form: bodies.form,
        unreadable: bodies.unreadable.unwrap_or(sends_once),
    };
    Source {
        options,
        plugins: uses(table, notes, plugins, &[]),
        reply: bodies::reply(table),
    }
}

const HEADERS: &str = "write the name of a header, or its beginning and a *, such as \"X-Sap-*\"";

fn header_pattern(text: &str) -> Option<String> {
    let name = text.strip_suffix('*').unwrap_or(text);
    ((is_header(name) || (name.is_empty() && text == "*")) && !name.contains('*'))
        .then(|| text.to_lowercase())
}

const KINDS: [&str; 4] = ["bearer", "hmac", "standard-webhooks", "none"];

/// Where events have their id.
fn id_from(table: &mut Cursor<'_>) -> Option<IdFrom> {
    let help = "write id = { header = \"X-Event-Id\" } or { pointer = \"/id\" }";
    match (table.take("header"), table.take("pointer")) {
        (Some(field), None) => field.parsed("the name of a header", help, |text| {
            is_header(text).then(|| IdFrom::Header(text.to_lowercase()))
        }),
        (None, Some(field)) => field.parsed("a JSON pointer", help, |text| {
            text.starts_with('/')
                .then(|| IdFrom::Pointer(text.to_owned()))
        }),
        (Some(_), Some(field)) => {
            field.complain("header is set as well", help.to_owned());
            None
        }
        (None, None) => {
            table.complain("it says neither header nor pointer", help.to_owned());
            None
        }
    }
}

/// How senders are verified, and the names that their kind gives to events.
fn verify(table: &mut Cursor<'_>) -> Option<(verify::Options, Naming)> {
    let kind = table.require(
        "kind",
        "write kind = \"bearer\", \"hmac\", \"standard-webhooks\" or \"none\"",
    );
    let Some((kind, name)) = kind.and_then(|field| field.string().map(|name| (field, name))) else {
        // The other keys belong to an unknown kind, so do not complain about them; the same applies
        // below.
        table.all();
        return None;
    };
    match name.as_str() {
        "none" => Some((verify::Options::None, Naming::default())),
        "bearer" => {
            let tokens = secrets(table, "token", "tokens");
            let tokens = tokens.into_iter().filter_map(|field| plain(&field));
            let verify = verify::Options::Bearer {
                tokens: tokens.collect(),
            };
            Some((verify, Naming::default()))
        }
        "standard-webhooks" => {
            let secrets = secrets(table, "secret", "secrets");
            let keys = secrets
                .into_iter()
                .filter_map(|field| verifying_key(&field));
            let verify = verify::Options::StandardWebhooks {
                keys: keys.collect(),
            };
            Some((verify, Naming::standard_webhooks()))
        }
        "hmac" => Some(hmac(table)),
        _ => {
            let help = suggestion(&name, KINDS);
            kind.complain(format!("there is no verification kind {name:?}"), help);
            table.all();
            None
        }
    }
}

fn hmac(table: &mut Cursor<'_>) -> (verify::Options, Naming) {
    type Named = fn() -> Naming;
    let presets = [
        (
            "shopify",
            (
                "x-shopify-hmac-sha256",
                "",
                Encoding::Base64,
                Naming::shopify as Named,
            ),
        ),
        (
            "github",
            (
                "x-hub-signature-256",
                "sha256=",
                Encoding::Hex,
                Naming::github as Named,
            ),
        ),
    ];
    let preset = table
        .take("preset")
        .map(|field| field.one_of(&presets).unwrap_or(presets[0].1));
    let header = match preset {
        Some(_) => table.take("header"),
        None => table.require(
            "header",
            "write the header that holds the signature, or preset = \"shopify\" or \"github\"",
        ),
    };
    let header_name = |text: &str| is_header(text).then(|| text.to_lowercase());
    let header = header.and_then(|field| {
        field.parsed(
            "the name of a header",
            "write its name, such as \"X-Hub-Signature-256\"",
            header_name,
        )
    });
    let prefix = table.take("prefix").and_then(|field| field.string());
    let encoding = table
        .take("encoding")
        .and_then(|field| field.one_of(&[("hex", Encoding::Hex), ("base64", Encoding::Base64)]));
    let (preset_header, preset_prefix, preset_encoding, naming) =
        preset.unwrap_or(("", "", Encoding::Hex, Naming::default));
    let secrets = secrets(table, "secret", "secrets")
        .into_iter()
        .filter_map(|field| plain(&field))
        .collect();
    let verify = verify::Options::Hmac {
        header: header.unwrap_or_else(|| preset_header.to_owned()),
        prefix: prefix.unwrap_or_else(|| preset_prefix.to_owned()),
        encoding: encoding.unwrap_or(preset_encoding),
        secrets,
    };
    (verify, naming())
}

/// Reads one secret, or a list of secrets that are all valid so that they can be rotated. Having
/// neither is a complaint.
fn secrets<'a>(table: &mut Cursor<'a>, single: &str, several: &str) -> Vec<Field<'a>> {
    let help = format!("write {several} = [{{ env = \"NAME\" }}]");
    match (table.take(single), table.take(several)) {
        (Some(field), None) => vec![field],
        (None, Some(field)) => {
            let fields = field.list(Some);
            if field.is_empty_list() {
                field.complain("there is no secret, so no sender can be verified", help);
            }
            fields
        }
        (Some(_), Some(field)) => {
            field.complain(
                format!("{single} is set as well"),
                format!("write all of them into {several}"),
            );
            Vec::new()
        }
        (None, None) => {
            table.complain(format!("{several} is missing"), help);
            Vec::new()
        }
    }
}
