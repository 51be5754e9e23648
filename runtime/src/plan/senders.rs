//! How the sender of a source is verified, and how it asks whether somebody is there.
//!
//! `kind` names the sender, or a way to prove oneself. What is known of a sender can be set differently, except
//! where what it signs is no template.

use std::time::Duration;

use super::notes::Notes;
use super::secrets::{is_header, plain, verifying_key};
use crate::config::cursor::{Cursor, Field};
use crate::config::row::Keep;
use crate::config::text::suggestion;
use crate::ingest::handshake::Handshake;
use crate::ingest::naming::{IdFrom, Naming};
use crate::ingest::verify::presets::{self, Preset};
use crate::ingest::verify::{self, Content, Encoding, Piece, Place, Scheme, Stamp, Unit, template};
use crate::signature::{Algorithm, KeyForm, Secret};

/// The sender of a source.
pub(super) struct Sender {
    /// How it is verified.
    pub(super) verify: verify::Options,
    /// Where its events have their id and type.
    pub(super) naming: Naming,
    /// How it asks whether somebody is there.
    pub(super) handshake: Option<Handshake>,
}

impl Sender {
    fn by(verify: verify::Options) -> Sender {
        Sender {
            verify,
            naming: Naming::default(),
            handshake: None,
        }
    }

    fn with_id(mut self, pointer: &str) -> Sender {
        self.naming.id = Some(IdFrom::Pointer(pointer.to_owned()));
        self
    }

    fn asking(self, handshake: Handshake) -> Sender {
        Sender {
            handshake: Some(handshake),
            ..self
        }
    }
}

/// Reads `verify` and `handshake` of a source.
pub(super) fn sender(table: &mut Cursor<'_>, notes: &mut Notes<'_>) -> Sender {
    let sender = table.take("verify").and_then(|field| {
        notes.place(field.path(), field.place());
        if field.is_table() {
            return field.table(verify).flatten();
        }
        let what = "how senders are verified is a table";
        field.complain(what, "write verify = { kind = \"github\", secret = { env = \"NAME\" } }, with the sender or the way to verify it as kind".to_owned());
        None
    });
    let mut sender = sender.unwrap_or_else(|| Sender::by(verify::Options::None));
    if let Some(field) = table.take("handshake") {
        sender.handshake = handshake(&field);
    }
    sender
}

/// The ways to verify that are no signature, and the senders that use one of them.
const OTHERS: [&str; 8] = [
    "bearer",
    "token",
    "basic",
    "hmac",
    "none",
    "event-grid",
    "pubsub",
    "sns",
];

fn verify(table: &mut Cursor<'_>) -> Option<Sender> {
    let kind = table.require(
        "kind",
        "write the sender, such as kind = \"github\", or \"bearer\", \"token\", \"basic\", \"hmac\", \"standard-webhooks\" or \"none\"",
    );
    let Some((kind, name)) = kind.and_then(|field| field.string().map(|name| (field, name))) else {
        // The other keys belong to an unknown kind, so do not complain about them; the same applies
        // below.
        table.all();
        return None;
    };
    Some(match name.as_str() {
        "none" => Sender::by(verify::Options::None),
        "bearer" => Sender::by(verify::Options::Bearer {
            tokens: tokens(table),
        }),
        "token" => Sender::by(token(table, None)),
        "basic" => Sender::by(basic(table)),
        "event-grid" => Sender::by(token(table, None))
            .with_id("/id")
            .asking(Handshake::EventGrid),
        "pubsub" => {
            let in_query = Place::Query("token".to_owned());
            Sender::by(token(table, Some(in_query))).with_id("/message/messageId")
        }
        "sns" => Sender::by(basic(table))
            .with_id("/MessageId")
            .asking(Handshake::Sns),
        "hmac" => hmac(table),
        _ => match presets::named(&name) {
            Some(preset) => signed(table, preset),
            None => {
                let known = OTHERS.into_iter().chain(presets::NAMES);
                let help = suggestion(&name, known);
                kind.complain(format!("there is no verification kind {name:?}"), help);
                table.all();
                return None;
            }
        },
    })
}

/// A signature that the configuration describes, on its own or by its differences from a preset.
fn hmac(table: &mut Cursor<'_>) -> Sender {
    let names = presets::NAMES.map(|name| (name, name));
    let preset = table.take("preset").map(|field| field.one_of(&names));
    match preset {
        Some(name) => {
            let preset = name.and_then(presets::named);
            signed(
                table,
                preset.unwrap_or_else(|| presets::hmac("hmac", &["-"])),
            )
        }
        None => signed(table, presets::hmac("hmac", &[])),
    }
}

fn signed(table: &mut Cursor<'_>, mut preset: Preset) -> Sender {
    if let Some(algorithm) = table
        .take("algorithm")
        .and_then(|field| field.one_of(&ALGORITHMS))
    {
        preset.scheme.algorithm = algorithm;
    }
    if let Some(form) = table.take("key").and_then(|field| field.one_of(&FORMS)) {
        preset.key = form;
    }
    let is_template = matches!(preset.scheme.content, Content::Template(_));
    if is_template {
        written(table, &mut preset.scheme);
    }
    if is_template || preset.scheme.timestamp.is_some() {
        let known = preset.scheme.timestamp.clone();
        if let Some(field) = table.take("timestamp") {
            preset.scheme.timestamp = field.table(|table| stamp(table, known)).flatten();
        }
    }
    let (uses_url, needs_url) = match &preset.scheme.content {
        Content::Template(pieces) => {
            let url = pieces.contains(&Piece::Url);
            (url || pieces.contains(&Piece::Path), url)
        }
        Content::Contentful => (true, false),
        Content::Twilio => (true, true),
        Content::Adyen => (false, false),
    };
    if uses_url {
        let url = match needs_url {
            true => table.require("url", URL),
            false => table.take("url"),
        };
        preset.scheme.url =
            url.and_then(|field| field.parsed("the URL of this source", URL, source_url));
    }
    if let Content::Template(pieces) = &preset.scheme.content {
        match (pieces.contains(&Piece::Timestamp), &preset.scheme.timestamp) {
            (false, Some(_)) => table.complain(
                "the timestamp is not signed, so a recorded request could get a new one",
                "write into template how it is signed, such as template = \"{timestamp}.{body}\""
                    .to_owned(),
            ),
            (true, None) => table.complain(
                "the template has a timestamp, and nothing says where requests have it",
                "write timestamp = { header = \"X-Timestamp\" }".to_owned(),
            ),
            _ => {}
        }
    }
    let keys = secrets(table, "secret", "secrets");
    let keys = keys
        .iter()
        .filter_map(|field| verifying_key(field, preset.key))
        .collect();
    Sender {
        naming: preset.naming.clone(),
        handshake: preset.handshake.clone(),
        verify: preset.with(keys),
    }
}

const ALGORITHMS: [(&str, Algorithm); 4] = [
    ("sha256", Algorithm::Sha256),
    ("sha1", Algorithm::Sha1),
    ("sha384", Algorithm::Sha384),
    ("sha512", Algorithm::Sha512),
];

const FORMS: [(&str, KeyForm); 4] = [
    ("text", KeyForm::Text),
    ("hex", KeyForm::Hex),
    ("base64", KeyForm::Base64),
    ("standard-webhooks", KeyForm::Webhook),
];

const UNITS: [(&str, Unit); 2] = [("s", Unit::Seconds), ("ms", Unit::Milliseconds)];

const URL: &str = "write the URL that the sender was given, without a query: url = \"https://weir.example/v1/sources/NAME/events\"";

/// Where the signature is, how it is written, and what is signed.
fn written(table: &mut Cursor<'_>, scheme: &mut Scheme) {
    if let Some(headers) = headers(table, scheme.headers.is_empty()) {
        scheme.headers = headers;
    }
    if let Some(prefix) = table.take("prefix").and_then(|field| field.string()) {
        scheme.prefix = prefix;
    }
    let encodings = [("hex", Encoding::Hex), ("base64", Encoding::Base64)];
    if let Some(encoding) = table
        .take("encoding")
        .and_then(|field| field.one_of(&encodings))
    {
        scheme.encoding = encoding;
    }
    let separator = table.take("separator").and_then(|field| {
        let help = "write the character between two signatures, such as \",\"";
        field.parsed("a separator", help, |text| text.parse::<char>().ok())
    });
    scheme.separator = separator.or(scheme.separator);
    if let Some(pieces) = table.take("template").and_then(|field| content(&field)) {
        scheme.content = Content::Template(pieces);
    }
}

/// `header`, or several `headers`, one of which must have a right signature.
fn headers(table: &mut Cursor<'_>, is_needed: bool) -> Option<Vec<String>> {
    let help = "write its name, such as \"X-Hub-Signature-256\"";
    let name = |field: Field<'_>| {
        field.parsed("the name of a header", help, |text| {
            is_header(text).then(|| text.to_lowercase())
        })
    };
    let several = table.take("headers");
    let one = match several.is_none() && is_needed {
        true => table.require(
            "header",
            "write the header that holds the signature, or name the sender: preset = \"github\"",
        ),
        false => table.take("header"),
    };
    match (one, several) {
        (Some(_), Some(several)) => {
            let help = "write all of them into headers".to_owned();
            several.complain("header is set as well", help);
            None
        }
        (Some(one), None) => Some(vec![name(one)?]),
        (None, Some(several)) => {
            if several.is_empty_list() {
                several.complain("there is no header", help.to_owned());
            }
            Some(several.list(name))
        }
        (None, None) => None,
    }
}

fn content(field: &Field<'_>) -> Option<Vec<Piece>> {
    let help = "write what is signed, such as \"{timestamp}.{body}\"; there are {body}, {timestamp}, {header.NAME}, {method}, {path} and {url}";
    let read = template(&field.text(Keep::Others)?);
    read.map_err(|why| {
        let what = format!("this cannot be what is signed: {why}");
        field.complain(what, help.to_owned());
    })
    .ok()
}

/// Where the time of signing is; `known` is what the preset says.
fn stamp(table: &mut Cursor<'_>, known: Option<Stamp>) -> Option<Stamp> {
    let help = "write the header with the time of signing: header = \"X-Timestamp\"";
    let header = match &known {
        Some(_) => table.take("header"),
        None => table.require("header", help),
    };
    let header = header.and_then(|field| {
        field.parsed("the name of a header", help, |text| {
            is_header(text).then(|| text.to_lowercase())
        })
    });
    let prefix = table.take("prefix").and_then(|field| field.string());
    let unit = table.take("unit").and_then(|field| field.one_of(&UNITS));
    let tolerance = table
        .take("tolerance")
        .and_then(|field| field.duration(TOLERANCE));
    let known = known.or_else(|| Some(presets::stamp(header.as_deref()?)))?;
    Some(Stamp {
        header: header.unwrap_or(known.header),
        prefix: prefix.unwrap_or(known.prefix),
        unit: unit.unwrap_or(known.unit),
        tolerance: tolerance.unwrap_or(known.tolerance),
    })
}

/// A clock is never as exact as a second; a recorded request must not stay valid for longer than a day.
const TOLERANCE: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(86_400);

fn source_url(text: &str) -> Option<String> {
    let url = url::Url::parse(text).ok()?;
    let is_right = matches!(url.scheme(), "https" | "http")
        && url.host().is_some()
        && url.query().is_none()
        && url.fragment().is_none();
    is_right.then(|| text.to_owned())
}

/// A token in a header or in the query of the URL.
fn token(table: &mut Cursor<'_>, usual: Option<Place>) -> verify::Options {
    let help =
        "write header = \"X-Token\", or query = \"token\" if the sender can only be given a URL";
    let place = match (table.take("header"), table.take("query")) {
        (Some(field), None) => field.parsed("the name of a header", help, |text| {
            is_header(text).then(|| Place::Header(text.to_lowercase()))
        }),
        (None, Some(field)) => field.parsed("the name of a parameter", help, |text| {
            let is_name = !text.is_empty() && !["lane", "receipt"].contains(&text);
            is_name.then(|| Place::Query(text.to_owned()))
        }),
        (Some(_), Some(field)) => {
            field.complain("header is set as well", help.to_owned());
            None
        }
        (None, None) => {
            if usual.is_none() {
                table.complain("it says neither header nor query", help.to_owned());
            }
            usual
        }
    };
    verify::Options::Token {
        place: place.unwrap_or_else(|| Place::Header(String::new())),
        tokens: tokens(table),
    }
}

/// One user, and the passwords that are accepted.
fn basic(table: &mut Cursor<'_>) -> verify::Options {
    let help = "write user = \"NAME\" and password = { env = \"NAME\" }";
    let user = table.require("user", help).and_then(|field| {
        field.parsed("the name of a user", help, |text| {
            (!text.is_empty() && !text.contains(':')).then(|| text.to_owned())
        })
    });
    let user = user.unwrap_or_default();
    let login = |password: Secret| match password.0.is_empty() {
        true => password,
        false => Secret([user.as_bytes(), b":", password.0.as_slice()].concat()),
    };
    let passwords = secrets(table, "password", "passwords");
    let passwords = passwords.iter().filter_map(plain);
    verify::Options::Basic {
        logins: passwords.map(login).collect(),
    }
}

fn tokens(table: &mut Cursor<'_>) -> Vec<Secret> {
    let tokens = secrets(table, "token", "tokens");
    tokens.iter().filter_map(plain).collect()
}

type Made = fn() -> Option<Handshake>;

const HANDSHAKES: [(&str, Made); 6] = [
    ("slack", || Some(Handshake::Slack)),
    ("event-grid", || Some(Handshake::EventGrid)),
    ("graph", || Some(Handshake::Graph)),
    ("adobe", || Some(Handshake::Adobe)),
    ("sns", || Some(Handshake::Sns)),
    ("none", || None),
];

fn handshake(field: &Field<'_>) -> Option<Handshake> {
    if !field.is_table() {
        return field.one_of(&HANDSHAKES).and_then(|made| made());
    }
    let meta = |table: &mut Cursor<'_>| {
        let help = "write handshake = { kind = \"meta\", token = { env = \"NAME\" } }, or a name such as \"slack\"";
        let kind = table.require("kind", help)?;
        kind.one_of(&[("meta", ())])?;
        Some(Handshake::Meta {
            tokens: tokens(table),
        })
    };
    field.table(meta).flatten()
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
