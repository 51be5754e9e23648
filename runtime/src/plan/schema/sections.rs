//! The sections of a file but the targets.

use serde_json::{Value, json};

use super::forms::{
    Keys, boolean, duration, either, hours, integer, list, map, number, one_of, one_or_list,
    secret, share, size, table, text,
};
use super::sources::source;
use super::targets;
use crate::config::VERSION;
use crate::model::Lane;
use crate::notify::Kind;
use crate::plan::Role;
use crate::plugin::BUILTINS;
use crate::store;

/// The whole file.
pub(super) fn root() -> Value {
    table(
        "",
        &[],
        vec![
            (
                "config_version",
                json!({ "description": "The version of the format; the first file must have it.", "const": VERSION }),
            ),
            (
                "include",
                list(
                    "Further files, such as \"conf.d/*.toml\"; no key may be set in two of them.",
                    json!({ "type": "string" }),
                ),
            ),
            ("server", server()),
            ("telemetry", telemetry()),
            (
                "tokens",
                map("Tokens for the admin routes, by their names.", token()),
            ),
            ("store", store()),
            ("lanes", lanes()),
            (
                "entities",
                map("Types of entities, by their names.", entity()),
            ),
            ("plugins", map("Plugins, by their names.", plugin())),
            (
                "sources",
                map("Sources of events, by their names.", source()),
            ),
            (
                "each",
                map(
                    "Tables of rows: what has `for_each = \"site\"` exists once for each row of [each.site].",
                    map(
                        "Rows, by their names.",
                        map("The columns of a row.", json!(true)),
                    ),
                ),
            ),
            (
                "paces",
                map(
                    "Budgets of requests that several targets share, by their names.",
                    table("A budget of requests.", &[], targets::pace()),
                ),
            ),
            (
                "targets",
                map(
                    "Targets of deliveries, by their names.",
                    reference("target"),
                ),
            ),
            ("channels", map("Channels, by their names.", channel())),
            (
                "notify",
                list("Who is told of what needs an operator.", notify()),
            ),
        ],
    )
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/definitions/{name}") })
}

/// Settings of a plugin: any JSON.
pub(super) fn settings() -> Value {
    map(
        "Settings of a plugin, which receives them as JSON.",
        json!(true),
    )
}

fn server() -> Value {
    table(
        "The listeners.",
        &[],
        vec![
            (
                "listen",
                text("The address that accepts events, \"127.0.0.1:7700\" if omitted."),
            ),
            (
                "admin_listen",
                text("The address of all other routes; if omitted, they are on `listen` too."),
            ),
            (
                "tls",
                table(
                    "The certificate of the listeners; if omitted, they speak HTTP without TLS.",
                    &["cert", "key"],
                    vec![
                        (
                            "cert",
                            text(
                                "The file with the certificate and those that vouch for it, in PEM.",
                            ),
                        ),
                        ("key", secret("Its private key, in PEM.")),
                    ],
                ),
            ),
            (
                "trusted_proxies",
                list(
                    "Proxies whose X-Forwarded-For is believed.",
                    text("A network such as \"10.0.0.0/8\", or an address."),
                ),
            ),
            (
                "public_url",
                text("Scheme and host under which others reach Weir through a proxy."),
            ),
            (
                "reload",
                one_of(
                    "Whether changed files are noticed, or only SIGHUP and POST /v1/reload.",
                    &["watch", "signal"],
                ),
            ),
            (
                "bodies",
                size("Memory for the bodies that were delivered last, \"32MiB\" if omitted."),
            ),
        ],
    )
}

fn telemetry() -> Value {
    let mut keys = vec![
        (
            "endpoint",
            text("A collector that speaks OTLP over HTTP, such as \"http://collector:4318\"."),
        ),
        (
            "sample",
            share("The share of the traces that begin here which are recorded, \"1%\" if omitted."),
        ),
        (
            "service",
            text("`service.name` in traces, \"weir\" if omitted."),
        ),
    ];
    keys.extend(targets::http());
    table(
        "Where spans of events and deliveries are exported.",
        &["endpoint"],
        keys,
    )
}

fn token() -> Value {
    let roles = Role::ALL.map(Role::name);
    table(
        "A token, with a secret or its hash.",
        &["roles"],
        vec![
            ("secret", secret("The token.")),
            (
                "hash",
                text("Its hash: \"sha256:\" and 64 hexadecimal digits."),
            ),
            (
                "roles",
                list(
                    "What it permits; each role includes the ones before it.",
                    one_of("A role.", &roles),
                ),
            ),
        ],
    )
}

fn store() -> Value {
    table(
        "The store.",
        &[],
        vec![
            ("kind", one_of("The kind of store.", &[store::KIND])),
            (
                "path",
                text("Its folder, \"data\" if omitted; only one process can use it."),
            ),
            (
                "forget",
                duration(
                    "How long the version of a deleted facet is remembered, \"30d\" if omitted.",
                ),
            ),
            (
                "sequence_min",
                integer(
                    "`weir-sequence` starts at this number or above it.",
                    0,
                    200_000_000_000_000,
                ),
            ),
        ],
    )
}

fn lanes() -> Value {
    let share = |lane: Lane| {
        let usual = [16, 4, 1][lane.index()];
        (
            lane.name(),
            integer(
                &format!("Its share of the work, {usual} if omitted."),
                1,
                1000,
            ),
        )
    };
    table(
        "Shares of the work by lane.",
        &[],
        Lane::ALL.map(share).to_vec(),
    )
}

fn entity() -> Value {
    let lanes = Lane::ALL.map(Lane::name);
    let facet = table(
        "A facet, or with a * at the end of its name a family of facets.",
        &["owner"],
        vec![
            ("owner", text("The system that writes it.")),
            (
                "lane",
                one_of("The lane of its changes, \"normal\" if omitted.", &lanes),
            ),
        ],
    );
    table(
        "A type of entities.",
        &["facets"],
        vec![
            (
                "kind",
                one_of("\"state\": only the newest state matters.", &["state"]),
            ),
            (
                "facets",
                map("Its facets; a name with a dot in it needs quotes.", facet),
            ),
            (
                "facet_max",
                size("The largest value of a facet, \"256KiB\" if omitted."),
            ),
            (
                "entities_max",
                integer(
                    "The most entities, 5000000 if omitted; beyond it new keys are answered 507.",
                    1,
                    u32::MAX.into(),
                ),
            ),
        ],
    )
}

fn plugin() -> Value {
    let limits = table(
        "Limits of a batch of at most 64 items.",
        &[],
        vec![
            ("time", duration("Processor time, \"1s\" if omitted.")),
            ("memory", size("Linear memory, \"64MiB\" if omitted.")),
            ("output", size("Output, \"16MiB\" if omitted.")),
            ("log", size("Log, \"64KiB\" if omitted.")),
        ],
    );
    table(
        "A plugin: a component at a path, or one that comes with Weir.",
        &[],
        vec![
            ("path", text("The component's file.")),
            (
                "builtin",
                one_of(
                    "A plugin that comes with Weir, in place of `path`; its program is `settings.program`.",
                    &BUILTINS,
                ),
            ),
            (
                "sha256",
                text("Pins the component: its 64 hexadecimal digits."),
            ),
            ("settings", reference("settings")),
            ("limits", limits),
            ("strict", boolean("A new instance for each batch.")),
        ],
    )
}

pub(super) fn uses(what: &str) -> Value {
    let with_settings = table(
        "A plugin with settings of its own.",
        &["use"],
        vec![
            ("use", text("The name of the plugin.")),
            ("settings", reference("settings")),
        ],
    );
    list(
        what,
        either("A plugin.", text("The name of the plugin."), with_settings),
    )
}

fn channel() -> Value {
    let retry = table(
        "How failed deliveries are tried again.",
        &[],
        vec![
            (
                "first",
                duration("The wait before the second attempt, \"1s\" if omitted."),
            ),
            (
                "factor",
                number("By how much each wait is longer, 2 if omitted.", 1.0, 100.0),
            ),
            ("cap", duration("The longest wait, \"10m\" if omitted.")),
            (
                "attempts",
                integer("Attempts that count, 12 if omitted.", 1, 255),
            ),
            (
                "refused",
                duration("How often a refused entity is tried once more, \"1h\" if omitted."),
            ),
        ],
    );
    let lanes = Lane::ALL.map(|lane| {
        (
            lane.name(),
            hours("When it is sent, such as \"22:00-06:00\"."),
        )
    });
    let mut when: Keys = lanes.to_vec();
    when.push(("zone", text("The time zone, such as \"Europe/Berlin\".")));
    let drift = table(
        "Regular comparisons of what the target holds with what it should hold.",
        &["every"],
        vec![
            ("every", duration("The time between two of them.")),
            (
                "sample",
                integer(
                    "About how many entities are compared; if omitted, all.",
                    1,
                    i64::MAX,
                ),
            ),
        ],
    );
    let withdraw_max = table(
        "More deletions than this wait for `weir channel confirm`.",
        &[],
        vec![
            (
                "share",
                share("Of the entities that the target holds, \"2%\" if omitted."),
            ),
            ("per", duration("Within this time, \"1h\" if omitted.")),
            (
                "min",
                integer("But at least so many, 100 if omitted.", 0, u32::MAX.into()),
            ),
        ],
    );
    let patterns = |what: &str| list(what, text("A name, or a family such as \"price.*\"."));
    table(
        "A consumer of entities.",
        &["entity", "facets", "target"],
        vec![
            (
                "for_each",
                text("The table of rows: there is one channel for each."),
            ),
            ("entity", text("The type that it consumes.")),
            ("facets", patterns("The facets that it gets.")),
            (
                "needs",
                patterns("An entity is withheld until it has these."),
            ),
            (
                "plugins",
                uses("Entity filters, then one renderer; if omitted, the facets are sent as JSON."),
            ),
            ("settings", reference("settings")),
            ("target", targets::inline()),
            (
                "batch",
                integer(
                    "The most entities in a request; if omitted, what the kind of target bears.",
                    1,
                    10_000,
                ),
            ),
            (
                "batch_bytes",
                size("The largest request with several entities."),
            ),
            (
                "deliver",
                boolean("False: filter, render and count, but send nothing."),
            ),
            (
                "suppress",
                boolean("False: send also what the target certainly holds already."),
            ),
            (
                "freshness",
                duration("The objective for the age of the oldest change that is owed."),
            ),
            (
                "debounce",
                duration("An entity is sent when it has not changed for so long."),
            ),
            (
                "debounce_max",
                duration("The longest wait of that; ten times `debounce` if omitted."),
            ),
            (
                "hours",
                table(
                    "When lanes are sent; if omitted, at any time.",
                    &["zone"],
                    when,
                ),
            ),
            ("retry", retry),
            ("drift", drift),
            ("withdraw_max", withdraw_max),
            (
                "was",
                text("The former name, so that position and digests are kept."),
            ),
        ],
    )
}

fn notify() -> Value {
    let kinds = Kind::ALL.map(Kind::name);
    let mut keys = vec![
        ("url", text("The URL that notices are posted to.")),
        (
            "on",
            list(
                "Of what it is told; if omitted, of everything.",
                one_of("A condition.", &kinds),
            ),
        ),
        (
            "sign",
            one_or_list(
                "Keys that sign (Standard Webhooks).",
                secret("whsec_… or whsk_…."),
            ),
        ),
    ];
    keys.extend(targets::http());
    table("A receiver of notices.", &["url"], keys)
}
