//! The targets, kind by kind.

use serde_json::{Value, json};

use super::forms::{
    Keys, boolean, by_word, duration, either, integer, list, map, one_of, one_or_list, rate,
    secret, share, size, table, text, words,
};
use crate::plan::targets::words as of;
use crate::targets::Cost;
use crate::targets::bucket::Checksum;
use crate::targets::http::PRESETS;
use crate::targets::kafka::{Compression, Mechanism, Partitioner};
use crate::targets::postgres::Mode;
use crate::targets::search::Dialect;

/// What the pace of a target, or one that several share, has.
pub(super) fn pace() -> Keys {
    vec![
        (
            "concurrency",
            integer("The most requests in flight.", 1, 1024),
        ),
        (
            "rate",
            rate("The highest rate, such as \"500/s\"; if omitted, there is none."),
        ),
        (
            "cost",
            words(
                "What the rate counts, \"requests\" if omitted.",
                &Cost::WORDS,
            ),
        ),
    ]
}

/// A target in a table of its own.
pub(super) fn target() -> Value {
    let kinds = kinds().map(|(word, schema)| {
        let by_name = json!({ "$ref": format!("#/definitions/target-{word}") });
        (word, schema, by_name)
    });
    by_word(
        "A target of deliveries.",
        "kind",
        "What the target is.",
        &kinds,
    )
}

/// The target of a channel: the name of one, or its keys.
pub(super) fn inline() -> Value {
    let mut keys = target()["properties"].take();
    if let Some(keys) = keys.as_object_mut() {
        keys.remove("for_each");
    }
    json!({
        "description": "The name of a target, or a target of the channel's own.",
        "properties": keys,
        "if": { "type": "object", "required": ["kind"] },
        "then": { "$ref": "#/definitions/target" },
        "else": text("The name of a target."),
    })
}

/// The kinds, by the word in `kind`.
pub(super) fn kinds() -> [(&'static str, Value); 8] {
    [
        ("webhook", kind("An HTTP API.", &["url"], webhook())),
        (
            "search",
            kind(
                "An index of a search engine.",
                &["dialect", "url", "index"],
                search(),
            ),
        ),
        (
            "postgres",
            kind("A table in PostgreSQL.", &["url", "table"], postgres()),
        ),
        (
            "nats",
            kind("A key-value bucket or a stream of NATS.", &["url"], nats()),
        ),
        (
            "kafka",
            kind("A topic of Kafka.", &["brokers", "topic"], kafka()),
        ),
        ("bucket", kind("Objects in a bucket.", &["url"], bucket())),
        ("file", kind("Files in a folder.", &["path"], file())),
        (
            "feed",
            kind(
                "The whole state of a channel as a file.",
                &["format"],
                feed(),
            ),
        ),
    ]
}

/// A kind: its own keys, and those that all have.
fn kind(what: &str, required: &[&str], own: Keys) -> Value {
    let mut keys = vec![
        ("kind", text("What the target is.")),
        (
            "for_each",
            text("The table of rows: there is one target for each."),
        ),
        (
            "pace",
            text(
                "A pace that it shares with others, in place of `concurrency`, `rate` and `cost`.",
            ),
        ),
    ];
    keys.extend(pace());
    keys.extend(own);
    let required = [&["kind"], required].concat();
    table(what, &required, keys)
}

/// What all that speak HTTP have.
pub(super) fn http() -> Keys {
    let basic = user("HTTP Basic.");
    let headers = |what: &str| map(what, secret("The value of the header."));
    let auth = table(
        "Weir's credentials.",
        &[],
        vec![
            ("bearer", secret("A token.")),
            ("basic", basic),
            ("headers", headers("Headers that are credentials.")),
            ("oauth2", oauth2()),
        ],
    );
    let mut keys = vec![
        ("auth", auth),
        ("headers", headers("Further headers of every request.")),
        ("timeout", duration("For a whole attempt.")),
        (
            "compress",
            words(
                "Whether bodies of 1 KiB or more are compressed.",
                &of::COMPRESS,
            ),
        ),
    ];
    keys.extend(connections());
    keys
}

/// How connections are made.
fn connections() -> Keys {
    vec![
        egress(),
        (
            "tls",
            table("Certificates in place of the system's.", &[], tls()),
        ),
        (
            "proxy",
            text("A proxy for all requests, such as \"http://proxy.example:3128\"."),
        ),
    ]
}

fn egress() -> (&'static str, Value) {
    (
        "egress",
        words(
            "Where connections may lead: also into private networks, or to public addresses only.",
            &of::EGRESS,
        ),
    )
}

fn tls() -> Keys {
    vec![
        ("ca", text("The file of the authorities.")),
        ("cert", text("The file of the client's certificate.")),
        ("key", secret("The key of the client's certificate.")),
    ]
}

fn user(what: &str) -> Value {
    table(
        what,
        &["user", "password"],
        vec![
            ("user", text("The user.")),
            ("password", secret("The password.")),
        ],
    )
}

fn oauth2() -> Value {
    table(
        "Tokens of an OAuth2 endpoint.",
        &["token_url", "client_id", "client_secret"],
        vec![
            ("token_url", text("The URL that gives tokens.")),
            ("client_id", text("The client.")),
            ("client_secret", secret("Its secret.")),
            (
                "grant",
                words("The grant, \"client_credentials\" if omitted.", &of::GRANTS),
            ),
            ("username", text("With grant = \"password\".")),
            ("password", secret("With grant = \"password\".")),
            ("refresh_token", secret("With grant = \"refresh_token\".")),
            (
                "client_auth",
                words(
                    "Where the client's secret is sent, \"basic\" if omitted.",
                    &of::CLIENT_AUTH,
                ),
            ),
            (
                "body",
                words("The form of the request, \"form\" if omitted.", &of::BODIES),
            ),
            ("scope", text("The scope.")),
            ("extra", map("Further parameters.", text("Its value."))),
            (
                "header",
                text("The header that carries the token, \"Authorization\" if omitted."),
            ),
            (
                "prefix",
                text("What stands before the token, \"Bearer \" if omitted."),
            ),
        ],
    )
}

fn webhook() -> Keys {
    let mut keys = vec![
        (
            "url",
            text("Where deliveries are sent; with {key} each entity has its own URL."),
        ),
        (
            "sign",
            one_or_list(
                "Keys that sign (Standard Webhooks).",
                secret("whsec_… or whsk_…."),
            ),
        ),
        (
            "method",
            one_of(
                "If omitted POST, with {key} in the URL PUT.",
                &["POST", "PUT", "PATCH"],
            ),
        ),
        (
            "delete",
            one_of(
                "How a deletion is sent; \"none\": it is not.",
                &["POST", "PUT", "PATCH", "DELETE", "none"],
            ),
        ),
        (
            "delete_body",
            text("The body of a deletion, with {key} and {type}."),
        ),
        (
            "form",
            words(
                "An item of a batch: with id, type, key and sequence, or its content alone.",
                &of::FORMS,
            ),
        ),
        (
            "format",
            words("A batch: an array, or a content a line.", &of::FORMATS),
        ),
        (
            "wrap",
            list(
                "What stands before and after bare contents.",
                text("A text."),
            ),
        ),
        ("content_type", text("Of every request with a body.")),
        (
            "get",
            table(
                "Where the API shows what it holds, for drift checks.",
                &["url"],
                vec![
                    ("url", text("The URL of an entity, with {key}.")),
                    ("at", text("A JSON pointer into the answer.")),
                ],
            ),
        ),
    ];
    keys.extend(answers());
    keys.extend(http());
    keys
}

/// What the answers of an API mean.
fn answers() -> Keys {
    let pointer = "A JSON pointer into the answer; * is every element or member.";
    let rule = table(
        "What an answer means: the first rule that matches decides.",
        &["then"],
        vec![
            (
                "status",
                list(
                    "Of these statuses; if omitted, of any.",
                    integer("A status.", 100, 999),
                ),
            ),
            ("at", text(pointer)),
            (
                "is",
                list(
                    "If omitted, anything that is not null, \"\", [] or {}.",
                    json!(true),
                ),
            ),
            (
                "of",
                words("What the rule reads, \"answer\" if omitted.", &of::OF),
            ),
            ("then", words("What it means.", &of::VERDICTS)),
        ],
    );
    let items = table(
        "How the answer to a batch names its items.",
        &["at", "by"],
        vec![
            ("at", text(pointer)),
            ("by", words("How an entry names its item.", &of::BY)),
            (
                "name",
                text("A JSON pointer into the entry, to the name of the item."),
            ),
            (
                "status",
                text("A JSON pointer into the entry, to its status."),
            ),
        ],
    );
    vec![
        (
            "answers",
            one_of("What the answers of a known API mean.", &PRESETS),
        ),
        ("answer", list("Rules for what answers mean.", rule)),
        (
            "fail_if",
            list(
                "An answer with a value there refuses the entity.",
                text(pointer),
            ),
        ),
        (
            "items",
            either(
                "How the answer to a batch names its items.",
                one_of("There are no items: all or nothing.", &["all-or-nothing"]),
                items,
            ),
        ),
        (
            "accepted_only",
            boolean("A success says accepted, not applied."),
        ),
    ]
}

fn search() -> Keys {
    let mut keys = vec![
        (
            "dialect",
            words("Whose requests the engine understands.", &Dialect::ALL),
        ),
        ("url", text("The URL of the engine.")),
        ("index", text("The index, which must exist.")),
        (
            "prefix",
            text("Before each id; needed where two channels share an index."),
        ),
        (
            "meta",
            boolean(
                "Whether documents have weir_key, weir_sequence and weir_digest; true if omitted.",
            ),
        ),
    ];
    keys.extend(http());
    keys
}

fn postgres() -> Keys {
    let mut with_mode = vec![("mode", words("What is verified.", &Mode::ALL))];
    with_mode.extend(tls());
    let flag = table(
        "A row that is deleted stays, with a flag.",
        &["flag"],
        vec![("flag", text("A boolean column."))],
    );
    vec![
        ("url", secret("postgres://user@host:port/database.")),
        ("auth", user("In place of user and password in the URL.")),
        ("table", text("The table, which must exist.")),
        (
            "key",
            text("The column of the key, with a unique index; \"key\" if omitted."),
        ),
        (
            "sequence",
            text("A bigint column; \"sequence\" if omitted."),
        ),
        (
            "columns",
            map(
                "Columns, with JSON pointers into the rendering; if omitted, it goes into `content`.",
                text("A JSON pointer."),
            ),
        ),
        (
            "delete",
            either(
                "How a deletion is written.",
                one_of("The row is deleted.", &["row"]),
                flag,
            ),
        ),
        ("tls", table("TLS.", &[], with_mode)),
        ("timeout", duration("Of a statement, \"30s\" if omitted.")),
        egress(),
    ]
}

fn nats() -> Keys {
    let auth = table(
        "Weir's credentials.",
        &[],
        vec![
            ("user", text("The user.")),
            ("password", secret("The password of the user.")),
            ("token", secret("A token.")),
            ("creds", text("A file of credentials.")),
            ("nkey", secret("The seed of an nkey.")),
        ],
    );
    vec![
        (
            "url",
            one_or_list(
                "Servers; the first that can be reached is used.",
                text("nats://host:port or tls://host:port."),
            ),
        ),
        ("kv", text("A key-value bucket, which must exist.")),
        (
            "subject",
            text("A subject, such as \"catalog.{entity}.{key}\", in a stream that exists."),
        ),
        ("key", text("The keys of a bucket; \"{key}\" if omitted.")),
        (
            "stream",
            text("The stream of the subject; if omitted, the one that captures it."),
        ),
        (
            "core",
            boolean("No stream: nothing is kept, nothing is suppressed."),
        ),
        ("auth", auth),
        ("timeout", duration("Of an attempt, \"10s\" if omitted.")),
        egress(),
        (
            "tls",
            table("Certificates; then TLS is required.", &[], tls()),
        ),
        (
            "inbox",
            text("Where answers are sent, \"_INBOX\" if omitted."),
        ),
    ]
}

fn kafka() -> Keys {
    let sasl = table(
        "A login.",
        &["mechanism", "user", "password"],
        vec![
            ("mechanism", words("The mechanism.", &Mechanism::WORDS)),
            ("user", text("The user.")),
            ("password", secret("The password.")),
        ],
    );
    vec![
        (
            "brokers",
            one_or_list("Brokers that are asked first.", text("host:port.")),
        ),
        ("topic", text("The topic, which must exist.")),
        ("key", text("The keys of records, \"{key}\" if omitted.")),
        (
            "partitioner",
            words("How keys become partitions.", &Partitioner::WORDS),
        ),
        (
            "compression",
            words("How batches are compressed.", &Compression::WORDS),
        ),
        (
            "tls",
            either(
                "TLS.",
                boolean("With the authorities of the system."),
                table("Certificates.", &[], tls()),
            ),
        ),
        (
            "auth",
            table("Weir's credentials.", &["sasl"], vec![("sasl", sasl)]),
        ),
        ("timeout", duration("Of an attempt, \"30s\" if omitted.")),
        egress(),
    ]
}

/// Where a bucket is.
fn place() -> Keys {
    let auth = table(
        "Weir's credentials: key and secret, for gs also service_account, for az account with key or sas.",
        &[],
        vec![
            (
                "key",
                secret("The id of an access key; for az the key of the account."),
            ),
            ("secret", secret("The access key.")),
            ("token", secret("The token of credentials that end.")),
            ("service_account", secret("The JSON of a service account.")),
            ("account", text("The account of Azure.")),
            ("sas", secret("A shared access signature.")),
        ],
    );
    let mut keys = vec![
        ("region", text("The region, for S3.")),
        ("endpoint", text("The store, if it is not the cloud's own.")),
        ("auth", auth),
        (
            "credentials",
            one_of(
                "In place of `auth`: what the cloud gives this machine, or none.",
                &["instance", "none"],
            ),
        ),
        ("account", text("The account of Azure, with `credentials`.")),
        (
            "checksum",
            words("A checksum with each object, S3 only.", &Checksum::WORDS),
        ),
        (
            "timeout",
            duration("While no byte moves, \"30s\" if omitted."),
        ),
    ];
    keys.extend(connections());
    keys
}

fn bucket() -> Keys {
    let mut keys = vec![
        (
            "url",
            text("s3://bucket/folder/{key}.json, gs://… or az://…."),
        ),
        (
            "folders",
            boolean("Whether a / in a key separates folders."),
        ),
        (
            "precondition",
            boolean("Each write looks first, and is made only if nothing has changed since."),
        ),
        ("spacing", duration("Between two writes of one object.")),
    ];
    keys.extend(place());
    keys
}

fn file() -> Keys {
    let rotate = table(
        "When lines begin a new file.",
        &[],
        vec![
            ("bytes", size("Before it is longer.")),
            ("every", duration("When it is older.")),
            (
                "keep",
                integer("So many old ones are kept; if omitted, all.", 0, 100_000),
            ),
        ],
    );
    vec![
        (
            "path",
            text("\"out/{entity}/{key}.json\": a file for each entity; without {key}: lines."),
        ),
        (
            "folders",
            boolean("Whether a / in a key separates folders."),
        ),
        ("rotate", rotate),
        ("timeout", duration("Of a write, \"30s\" if omitted.")),
    ]
}

fn feed() -> Keys {
    let serve = table(
        "Who may fetch it.",
        &["basic"],
        vec![("basic", user("HTTP Basic."))],
    );
    let names = |what: &str| map(what, text("A text."));
    let mut keys = vec![
        ("format", words("The format.", &of::FEEDS)),
        (
            "fields",
            map(
                "Columns or elements, with JSON pointers into the rendering.",
                text("A JSON pointer."),
            ),
        ),
        (
            "interval",
            duration("Between two generations, \"15m\" if omitted."),
        ),
        (
            "shrink_max",
            share("One that shrinks more waits for `weir channel confirm`, \"20%\" if omitted."),
        ),
        ("path", text("A file that is written as well.")),
        (
            "to",
            text("An object that is put as well: s3://…, gs://… or az://…."),
        ),
        (
            "serve",
            either(
                "Who may fetch it; required off loopback.",
                one_of("Anybody.", &["open"]),
                serve,
            ),
        ),
        (
            "quoting",
            words("csv and tsv: which fields have quotes.", &of::QUOTINGS),
        ),
        ("encoding", words("csv and tsv.", &of::ENCODINGS)),
        ("delimiter", text("csv: between fields, \",\" if omitted.")),
        ("join", text("csv and tsv: between the elements of a list.")),
        (
            "formulas",
            words(
                "csv and tsv: what a spreadsheet would calculate.",
                &of::FORMULAS,
            ),
        ),
        (
            "root",
            text("xml: the elements around the records, such as \"rss/channel\"."),
        ),
        ("item", text("xml: the element of a record.")),
        ("namespaces", names("xml: prefixes, with their URIs.")),
        (
            "texts",
            names("xml: fixed elements before the first record."),
        ),
        (
            "cdata",
            list(
                "xml: fields written as CDATA.",
                text("The name of a field."),
            ),
        ),
    ];
    keys.extend(place());
    keys
}
