//! Sources: who sends events, in which form, and how senders are verified.

use serde_json::Value;

use super::forms::{
    Keys, by_word, duration, either, integer, list, one_of, secret, size, table, text,
};
use super::sections::uses;
use crate::ingest::verify::presets;

pub(super) fn source() -> Value {
    let id = table(
        "Where events that are not CloudEvents have their id.",
        &[],
        vec![
            ("header", text("A header of the request.")),
            ("pointer", text("A JSON pointer into the event.")),
        ],
    );
    let mut keys = vec![
        (
            "owner",
            text("The system whose facets it writes; if omitted, the name of the source."),
        ),
        (
            "plugins",
            uses("Event filters, then one mapper; if omitted, events are changes in JSON."),
        ),
        (
            "headers",
            list(
                "HTTP headers that the plugins receive.",
                text("A name, or its beginning and a *."),
            ),
        ),
        ("id", id),
        ("verify", verify()),
        ("handshake", handshake()),
        (
            "quiet",
            duration("Without an event for this long, the source counts as silent."),
        ),
        ("body_max", size("The largest body, \"8MiB\" if omitted.")),
    ];
    keys.extend(bodies());
    keys.extend(answers());
    table("A source of events.", &[], keys)
}

/// How bodies are read.
fn bodies() -> Keys {
    let csv = table(
        "How CSV is written.",
        &[],
        vec![
            (
                "delimiter",
                text(
                    "The character between two fields; if omitted, it is found out from the first line.",
                ),
            ),
            (
                "quote",
                text("The character around a field, or \"\" if there is none."),
            ),
            ("encoding", text(ENCODING)),
        ],
    );
    let field = table(
        "The event is in a field of the form.",
        &["field"],
        vec![("field", text("The name of the field."))],
    );
    vec![
        (
            "split",
            text(
                "How a body becomes events: \"xml:ELEMENT\", \"json:/pointer\", \"csv\" or \"lines\".",
            ),
        ),
        ("csv", csv),
        ("encoding", text(ENCODING)),
        (
            "form",
            either(
                "What the event of a form is.",
                one_of(
                    "The field `payload`, all fields as JSON, or the form as it is.",
                    &["payload", "fields", "raw"],
                ),
                field,
            ),
        ),
        (
            "unreadable",
            one_of(
                "What becomes of a body that cannot be read: an error for its sender, or quarantine.",
                &["reject", "quarantine"],
            ),
        ),
    ]
}

const ENCODING: &str =
    "The encoding of text that does not say it itself, such as \"windows-1252\"; UTF-8 if omitted.";

/// What senders are answered.
fn answers() -> Keys {
    vec![
        (
            "accept_status",
            integer(
                "The status when everything is durable, 202 if omitted.",
                200,
                202,
            ),
        ),
        (
            "reply",
            table(
                "The answer when everything is durable.",
                &[],
                vec![
                    ("status", integer("Its status, 202 if omitted.", 200, 204)),
                    (
                        "body",
                        text("Its body; if omitted, what became of the events, as JSON."),
                    ),
                    ("type", text("The media type of the body.")),
                ],
            ),
        ),
    ]
}

/// How a sender asks whether somebody is there.
fn handshake() -> Value {
    let mut meta = several("token", "tokens", "What `hub.verify_token` must be.");
    meta.insert(0, ("kind", one_of("The sender.", &["meta"])));
    either(
        "How the sender asks whether somebody is there.",
        one_of(
            "The sender.",
            &["slack", "event-grid", "graph", "adobe", "sns", "none"],
        ),
        table("A sender that proves itself by a token.", &["kind"], meta),
    )
}

/// One secret, or several that are all valid.
fn several(one: &'static str, all: &'static str, what: &str) -> Keys {
    vec![
        (one, secret(what)),
        (
            all,
            list("Several, all of them valid, for rotation.", secret(what)),
        ),
    ]
}

/// How senders are verified.
fn verify() -> Value {
    let with = |keys: Vec<Keys>| {
        let mut all = vec![("kind", text("How senders are verified."))];
        all.extend(keys.into_iter().flatten());
        table("How senders are verified.", &["kind"], all)
    };
    let token = || several("token", "tokens", "The token.");
    let key = || {
        several(
            "secret",
            "secrets",
            "The key of the signature; of Standard Webhooks whsec_…, or the sender's public key whpk_….",
        )
    };
    let place = vec![
        ("header", text("The header with the token.")),
        ("query", text("The parameter of the URL with the token.")),
    ];
    let by_token = with(vec![place, token()]);
    let login = vec![("user", text("The user."))];
    let password = several("password", "passwords", "The password.");
    let by_login = with(vec![login, password]);
    let preset = (
        "preset",
        one_of("The sender from which this differs.", &presets::NAMES),
    );
    let mut kinds = vec![
        ("none", with(Vec::new())),
        ("bearer", with(vec![token()])),
        ("token", by_token.clone()),
        ("basic", by_login.clone()),
        ("event-grid", by_token.clone()),
        ("pubsub", by_token),
        ("sns", by_login),
        (
            "hmac",
            with(vec![
                vec![preset],
                hashed(),
                written(),
                stamped(),
                url(),
                key(),
            ]),
        ),
    ];
    for name in presets::NAMES {
        let keys = match name {
            "adyen" => vec![hashed(), key()],
            "contentful" => vec![hashed(), stamped(), url(), key()],
            "twilio" => vec![hashed(), url(), key()],
            _ => vec![hashed(), written(), stamped(), url(), key()],
        };
        kinds.push((name, with(keys)));
    }
    let kinds: Vec<_> = kinds
        .into_iter()
        .map(|(word, schema)| (word, schema.clone(), schema))
        .collect();
    by_word(
        "How senders are verified; required off loopback.",
        "kind",
        "A sender by its name; hmac: a signature that is described here; bearer, token, basic: a secret in each request; none: only on loopback.",
        &kinds,
    )
}

fn hashed() -> Keys {
    vec![
        (
            "algorithm",
            one_of("The hash.", &["sha256", "sha1", "sha384", "sha512"]),
        ),
        (
            "key",
            one_of(
                "How the secret is written.",
                &["text", "hex", "base64", "standard-webhooks"],
            ),
        ),
    ]
}

fn written() -> Keys {
    vec![
        ("header", text("The header with the signature.")),
        (
            "headers",
            list(
                "Several headers, one of which has a right signature.",
                text("The name of a header."),
            ),
        ),
        ("prefix", text("What stands before the signature.")),
        (
            "encoding",
            one_of("How the signature is written.", &["hex", "base64"]),
        ),
        ("separator", text("The character between two signatures.")),
        (
            "template",
            text("What is signed, such as \"{timestamp}.{body}\"."),
        ),
    ]
}

fn stamped() -> Keys {
    let stamp = table(
        "Where a request has the time at which it was signed.",
        &[],
        vec![
            ("header", text("The header.")),
            ("prefix", text("What stands before the time.")),
            ("unit", one_of("What it counts since 1970.", &["s", "ms"])),
            (
                "tolerance",
                duration("By how much it may differ from the clock here."),
            ),
        ],
    );
    vec![("timestamp", stamp)]
}

fn url() -> Keys {
    vec![(
        "url",
        text("The URL that the sender was given, without a query."),
    )]
}
