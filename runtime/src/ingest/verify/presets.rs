//! How known senders sign, and what they give to their events: only data. `docs/senders.md` has the sources
//! of each row.

use std::time::Duration;

use super::scheme::{Content, Encoding, Piece, Scheme, Stamp, Unit};
use super::{Options, contentful};
use crate::ingest::handshake::Handshake;
use crate::ingest::naming::{IdFrom, Naming};
use crate::signature::{Algorithm, KeyForm, VerifyingKey};

/// What is known of a sender.
pub struct Preset {
    /// How it hands out its keys.
    pub key: KeyForm,
    /// How it signs.
    pub scheme: Scheme,
    /// Where its events have their id and type.
    pub naming: Naming,
    /// How it asks whether somebody is there.
    pub handshake: Option<Handshake>,
}

impl Preset {
    /// Verifies with these keys.
    pub fn with(self, keys: Vec<VerifyingKey>) -> Options {
        Options::Signed(Box::new(Scheme {
            keys,
            ..self.scheme
        }))
    }
}

/// The names of all presets.
pub const NAMES: [&str; 14] = [
    "github",
    "shopify",
    "stripe",
    "standard-webhooks",
    "svix",
    "bigcommerce",
    "akeneo",
    "akeneo-events",
    "adyen",
    "shopware",
    "contentful",
    "slack",
    "twilio",
    "meta",
];

/// The preset of this name.
pub fn named(name: &str) -> Option<Preset> {
    let (name, make) = NAMES
        .into_iter()
        .zip(MAKERS)
        .find(|(known, _)| *known == name)?;
    Some(make(name))
}

/// In the order of [`NAMES`].
const MAKERS: [fn(&'static str) -> Preset; NAMES.len()] = [
    github,
    shopify,
    stripe,
    standard_webhooks,
    svix,
    bigcommerce,
    akeneo,
    akeneo_events,
    adyen,
    shopware,
    contentful,
    slack,
    twilio,
    meta,
];

/// A signature of the raw body in these headers, in hex, with a key as text: the beginning of all others.
pub fn hmac(kind: &'static str, headers: &[&str]) -> Preset {
    Preset {
        key: KeyForm::Text,
        scheme: Scheme {
            kind,
            algorithm: Algorithm::Sha256,
            headers: headers.iter().map(|name| (*name).to_owned()).collect(),
            prefix: String::new(),
            separator: None,
            encoding: Encoding::Hex,
            content: Content::Template(vec![Piece::Body]),
            timestamp: None,
            url: None,
            keys: Vec::new(),
        },
        naming: Naming::default(),
        handshake: None,
    }
}

fn github(name: &'static str) -> Preset {
    let mut preset = hmac(name, &["x-hub-signature-256"]);
    preset.scheme.prefix = "sha256=".to_owned();
    preset.naming = Naming {
        id: header(&["x-github-delivery"]),
        event_type: vec!["x-github-event".to_owned()],
    };
    preset
}

// The headers have other names in requests of the newer kind.
fn shopify(name: &'static str) -> Preset {
    let mut preset = hmac(name, &["x-shopify-hmac-sha256", "shopify-hmac-sha256"]);
    preset.scheme.encoding = Encoding::Base64;
    // The id of a delivery is the same for all attempts at it.
    preset.naming = Naming {
        id: header(&["x-shopify-webhook-id", "shopify-webhook-id"]),
        event_type: vec!["x-shopify-topic".to_owned(), "shopify-topic".to_owned()],
    };
    preset
}

fn stripe(name: &'static str) -> Preset {
    let mut preset = hmac(name, &["stripe-signature"]);
    preset.scheme.prefix = "v1=".to_owned();
    preset.scheme.separator = Some(',');
    dated(&mut preset.scheme, "stripe-signature", "t=");
    preset.naming.id = pointer("/id");
    preset
}

fn standard_webhooks(name: &'static str) -> Preset {
    by_standard(name, "webhook")
}

fn svix(name: &'static str) -> Preset {
    by_standard(name, "svix")
}

// Standard Webhooks, but the key is the text of the client secret.
fn bigcommerce(name: &'static str) -> Preset {
    let mut preset = by_standard(name, "webhook");
    preset.key = KeyForm::Text;
    preset
}

/// Standard Webhooks 1.0.0, whose headers begin with this. The id is signed together with the body.
fn by_standard(name: &'static str, begins: &str) -> Preset {
    let of = |what: &str| format!("{begins}-{what}");
    let mut preset = hmac(name, &[&of("signature")]);
    preset.key = KeyForm::Webhook;
    preset.scheme = Scheme {
        prefix: "v1,".to_owned(),
        separator: Some(' '),
        encoding: Encoding::Base64,
        content: Content::Template(vec![
            Piece::Header(of("id")),
            Piece::Text(".".to_owned()),
            Piece::Timestamp,
            Piece::Text(".".to_owned()),
            Piece::Body,
        ]),
        timestamp: Some(stamp(&of("timestamp"))),
        ..preset.scheme
    };
    preset.naming.id = header(&[&of("id")]);
    preset
}

// One header for each of the two secrets of a subscription. What they sign has no time.
fn akeneo(name: &'static str) -> Preset {
    let headers = ["x-akeneo-signature-primary", "x-akeneo-signature-secondary"];
    let mut preset = hmac(name, &headers);
    preset.naming.id = pointer("/id");
    preset
}

fn akeneo_events(name: &'static str) -> Preset {
    let mut preset = hmac(name, &["x-akeneo-request-signature"]);
    dated(&mut preset.scheme, "x-akeneo-request-timestamp", "");
    preset.naming.id = pointer("/event_id");
    preset
}

fn adyen(name: &'static str) -> Preset {
    let mut preset = hmac(name, &[]);
    preset.key = KeyForm::Hex;
    preset.scheme.encoding = Encoding::Base64;
    preset.scheme.content = Content::Adyen;
    preset
}

fn shopware(name: &'static str) -> Preset {
    let mut preset = hmac(name, &["shopware-shop-signature"]);
    preset.naming.id = pointer("/source/eventId");
    preset
}

fn contentful(name: &'static str) -> Preset {
    let mut preset = hmac(name, &["x-contentful-signature"]);
    preset.scheme.content = Content::Contentful;
    preset.scheme.timestamp = Some(Stamp {
        unit: Unit::Milliseconds,
        tolerance: Duration::from_secs(30),
        ..stamp(contentful::TIMESTAMP)
    });
    preset.naming.event_type = vec!["x-contentful-topic".to_owned()];
    preset
}

fn slack(name: &'static str) -> Preset {
    let mut preset = hmac(name, &["x-slack-signature"]);
    preset.scheme.prefix = "v0=".to_owned();
    preset.scheme.timestamp = Some(stamp("x-slack-request-timestamp"));
    preset.scheme.content = Content::Template(vec![
        Piece::Text("v0:".to_owned()),
        Piece::Timestamp,
        Piece::Text(":".to_owned()),
        Piece::Body,
    ]);
    preset.naming.id = pointer("/event_id");
    preset.handshake = Some(Handshake::Slack);
    preset
}

fn twilio(name: &'static str) -> Preset {
    let mut preset = hmac(name, &["x-twilio-signature"]);
    preset.scheme.algorithm = Algorithm::Sha1;
    preset.scheme.encoding = Encoding::Base64;
    preset.scheme.content = Content::Twilio;
    preset.naming.id = header(&["i-twilio-idempotency-token"]);
    preset
}

fn meta(name: &'static str) -> Preset {
    let mut preset = hmac(name, &["x-hub-signature-256"]);
    preset.scheme.prefix = "sha256=".to_owned();
    preset
}

/// Signs the timestamp in this header, a dot, and the body.
fn dated(scheme: &mut Scheme, header: &str, prefix: &str) {
    let dot = Piece::Text(".".to_owned());
    scheme.content = Content::Template(vec![Piece::Timestamp, dot, Piece::Body]);
    scheme.timestamp = Some(Stamp {
        prefix: prefix.to_owned(),
        ..stamp(header)
    });
}

/// Seconds in a header, with five minutes of tolerance.
pub fn stamp(header: &str) -> Stamp {
    Stamp {
        header: header.to_owned(),
        prefix: String::new(),
        unit: Unit::Seconds,
        tolerance: Duration::from_secs(300),
    }
}

fn header(names: &[&str]) -> Option<IdFrom> {
    let names = names.iter().map(|name| (*name).to_owned());
    Some(IdFrom::Header(names.collect()))
}

fn pointer(pointer: &str) -> Option<IdFrom> {
    Some(IdFrom::Pointer(pointer.to_owned()))
}
