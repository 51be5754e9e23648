//! `GET /openapi.json`: the parameters, bodies and responses of each route, for programs that write
//! clients or look for mistakes.
//!
//! Methods, paths and roles come from the table, and the schemas of responses are generated from
//! the views. The rest is written here: parameters, bodies and statuses. A test compares all of it
//! with the table and with real responses.

mod aside;
mod browsers;
mod events;
mod schemas;
mod taps;

use std::sync::LazyLock;

use axum::http::Method;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::access::Access;
use super::problem::CONTENT_TYPE_PROBLEM;
use super::views::*;
use super::{Route, table};
use crate::metrics::Format;
use crate::model::KEY_BYTES_MAX;

/// The document. It is the same for every Weir of this version and reveals nothing about the
/// running one.
pub(super) async fn openapi() -> Response {
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| format!("{:#}", document()));
    ([(CONTENT_TYPE, "application/json")], DOCUMENT.as_str()).into_response()
}

/// The description of all routes.
pub(super) fn document() -> Value {
    let mut generator = schemas::generator();
    let mut paths: Map<String, Value> = Map::new();
    let mut described = operations(&mut generator);
    for Route {
        method,
        path,
        access,
        ..
    } in table()
    {
        let Some(at) = described
            .iter()
            .position(|operation| operation.method == method && operation.path == path)
        else {
            continue;
        };
        let operation = described.swap_remove(at).into_json(access);
        let item = paths.entry(path).or_insert_with(|| json!({}));
        item[method.as_str().to_ascii_lowercase()] = operation;
    }
    let components = schemas::components(generator);
    json!({
        "openapi": "3.1.0",
        "servers": [{ "url": "/", "description": "The Weir that this document is from." }],
        "info": {
            "title": "Weir",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Takes events in and shows what each channel owes and delivers. Each error is a problem (RFC 9457) whose `type` does not change. \
                            With `server.admin_listen` the routes under `/v1/sources/{source}/events` are at `server.listen` and the others there; \
                            health and this document are at both.",
        },
        "paths": paths,
        "components": components,
    })
}

/// A route as described here.
struct Operation {
    method: Method,
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    parameters: Vec<Value>,
    body: Option<Value>,
    success: (u16, Value),
    /// Another success, with its status.
    otherwise: Option<(u16, Value)>,
    /// Statuses of problems in addition to those that each route of its access has.
    problems: Vec<u16>,
}

impl Operation {
    fn new(
        method: Method,
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        success: Value,
    ) -> Operation {
        let parameters: Vec<Value> = path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            .map(in_path)
            .collect();
        // A path parameter may name something unknown, or be spelled wrong.
        let problems = if parameters.is_empty() {
            vec![400]
        } else {
            vec![400, 404]
        };
        Operation {
            method,
            path,
            id,
            summary,
            parameters,
            body: None,
            success: (200, success),
            otherwise: None,
            problems,
        }
    }

    fn with(mut self, parameters: impl IntoIterator<Item = Value>) -> Operation {
        self.parameters.extend(parameters);
        self
    }

    fn may_answer(mut self, statuses: &[u16]) -> Operation {
        self.problems.extend(statuses);
        self
    }

    /// Another success.
    fn or(self, status: u16, success: Value) -> Operation {
        Operation {
            otherwise: Some((status, success)),
            ..self
        }
    }

    fn into_json(self, access: Access) -> Value {
        let mut problems = self.problems;
        let security = match access {
            Access::Open => json!([]),
            Access::Page => {
                problems.push(403);
                json!([])
            }
            Access::Sender => {
                problems.extend([401, 403]);
                json!([{}, { "bearer": [] }, { "standard-webhooks": [] }])
            }
            Access::Fetcher => {
                problems.extend([401, 403]);
                json!([{}, { "basic": [] }])
            }
            Access::Needs(_) => {
                // There may be no memory for the answer.
                problems.extend([401, 403, 503]);
                json!([{ "bearer": [] }, { "session": [] }])
            }
        };
        problems.push(500);
        problems.sort_unstable();
        problems.dedup();
        let mut responses: Map<String, Value> = problems
            .into_iter()
            .map(|status| (status.to_string(), problem(status)))
            .collect();
        for (status, success) in [self.success].into_iter().chain(self.otherwise) {
            responses.insert(status.to_string(), success);
        }
        let mut operation = json!({
            "operationId": self.id,
            "summary": self.summary,
            "parameters": self.parameters,
            "security": security,
            "responses": responses,
        });
        if let Access::Needs(role) = access {
            operation["x-weir-role"] = role.name().into();
        }
        if let Some(body) = self.body {
            operation["requestBody"] = body;
        }
        operation
    }
}

/// The description of every route.
fn operations(schemas: &mut SchemaGenerator) -> Vec<Operation> {
    const GET: Method = Method::GET;
    let figures = || {
        let text = json!({ "schema": { "type": "string" } });
        let formats = [Format::Prometheus, Format::OpenMetrics];
        let content: Map<String, Value> = formats
            .map(|format| (format.content_type().to_owned(), text.clone()))
            .into_iter()
            .collect();
        json!({ "description": "The text of Prometheus, or OpenMetrics if `Accept` asks for it.", "content": content })
    };
    let status = json!({ "type": "object", "properties": { "status": { "type": "string" } }, "required": ["status"] });
    let own = json!({ "description": "The description of these routes.", "content": { "application/json": { "schema": { "type": "object" } } } });
    let mut all = vec![
        Operation::new(
            GET,
            "/healthz",
            "health",
            "Whether the process responds.",
            as_json("It does.", status.clone()),
        ),
        Operation::new(
            GET,
            "/readyz",
            "ready",
            "Whether events can be taken in.",
            as_json("They can.", status),
        )
        .may_answer(&[503]),
        Operation::new(GET, "/openapi.json", "openapi", "This document.", own),
        Operation::new(
            GET,
            "/metrics",
            "metrics",
            "All figures of this moment.",
            figures(),
        ),
        fetch_feed(),
    ];
    all.extend(events::operations(schemas));
    all.extend(looking(schemas));
    all.extend(on_channels(schemas));
    all.extend(aside::operations(schemas));
    all.extend(browsers::operations(schemas));
    all.extend(taps::operations(schemas));
    all
}

fn fetch_feed() -> Operation {
    let text = json!({ "schema": { "type": "string" } });
    let types = [
        "application/xml",
        "text/csv",
        "text/tab-separated-values",
        "application/x-ndjson",
        "application/gzip",
    ];
    let content: Map<String, Value> = types
        .map(|it| (it.to_owned(), text.clone()))
        .into_iter()
        .collect();
    let header = |description: &str| json!({ "schema": { "type": "string" }, "description": description, "required": true });
    let success = json!({
        "description": "The last complete generation. 206 for a `Range`, 304 if `If-None-Match` or `If-Modified-Since` says that the client has it.",
        "content": content,
        "headers": {
            "ETag": header("A digest of these bytes."),
            "Last-Modified": header("When the content last changed."),
        },
    });
    Operation::new(
        Method::GET,
        "/v1/feeds/{channel}",
        "fetchFeed",
        "The feed of a channel, as a file; with `.gz` after the name packed. The plain one is sent packed to clients that accept it. On both listeners, also with HEAD.",
        success,
    )
    .may_answer(&[412, 416, 503])
}

/// The read-only routes.
fn looking(schemas: &mut SchemaGenerator) -> Vec<Operation> {
    const GET: Method = Method::GET;
    let by_key = "Only the entity with this key, as `/v1/entities/{type}/{key}` shows it; not together with the other parameters.";
    let key_in_query = in_query("key", key(), by_key);
    let [rows, whole, settled] = [
        schemas.subschema_for::<List<EntityRow>>(),
        schemas.subschema_for::<EntityView>(),
        schemas.subschema_for::<ReceiptView>(),
    ]
    .map(Schema::to_value);
    let entity = or_saved(one_of(
        "The entity; with `sequence`, its receipt; with `facet`, the value of that.",
        &[whole.clone(), settled.clone()],
    ));
    let entities = or_saved(one_of(
        "A page of entities; with `key`, the one entity, its receipt or a value.",
        &[rows, whole, settled],
    ));
    let facet = || {
        in_query(
            "facet",
            any_text(),
            "Only the value of this facet, as a file. With `key` only.",
        )
    };
    let body = in_query(
        "body",
        json!({ "type": "string", "enum": ["rendering", "delivered"] }),
        "Only the body of this rendering, as a file.",
    );
    let preview_key = json!({ "name": "key", "in": "query", "required": true, "schema": key(), "description": "Which entity." });
    vec![
        Operation::new(
            GET,
            "/v1/sources",
            "sources",
            "All sources.",
            list::<SourceView>(schemas),
        )
        .with(page(any_text())),
        Operation::new(
            GET,
            "/v1/sources/{source}",
            "source",
            "One source.",
            success::<SourceView>(schemas, "The source."),
        ),
        Operation::new(
            GET,
            "/v1/entities/{type}",
            "entities",
            "Entities of a type, in the order of their keys.",
            entities,
        )
        .with(page(any_text()))
        .with([
            in_query("prefix", any_text(), "Only keys that start with this."),
            in_query(
                "owed",
                any_text(),
                "Only those that this channel still owes.",
            ),
            key_in_query,
            cut(),
            facet(),
        ])
        .with(receipt())
        .may_answer(&[409]),
        Operation::new(
            GET,
            "/v1/entities/{type}/{key}",
            "entity",
            "An entity, and its state on each channel.",
            entity,
        )
        .with([cut(), facet()])
        .with(receipt())
        .may_answer(&[503]),
        Operation::new(
            GET,
            "/v1/channels",
            "channels",
            "All channels, retired ones too.",
            list::<ChannelView>(schemas),
        )
        .with(page(any_text())),
        Operation::new(
            GET,
            "/v1/channels/{channel}",
            "channel",
            "One channel.",
            success::<ChannelView>(schemas, "The channel."),
        ),
        Operation::new(
            GET,
            "/v1/channels/{channel}/entities",
            "channelEntities",
            "The entities of a channel that are in a state, in the order of their keys. It goes through all of its entities.",
            success::<ChannelEntitiesView>(schemas, "A page of them."),
        )
        .with(page(any_text()))
        .with(in_a_state())
        .may_answer(&[409, 503]),
        Operation::new(
            GET,
            "/v1/channels/{channel}/preview",
            "preview",
            "A channel's rendering of an entity as it would be now.",
            or_saved(success::<PreviewView>(
                schemas,
                "The verdicts of its filters, and the rendering.",
            )),
        )
        .with([preview_key, cut(), body])
        .may_answer(&[409, 503]),
        Operation::new(
            GET,
            "/v1/plugins",
            "plugins",
            "Plugins in use.",
            list::<PluginView>(schemas),
        )
        .with(page(any_text())),
        Operation::new(
            GET,
            "/v1/config",
            "config",
            "The configuration in use, without secrets.",
            success::<ConfigView>(schemas, "The configuration."),
        ),
        Operation::new(
            Method::POST,
            "/v1/plugins/{plugin}/confirm",
            "confirm-plugin",
            "Lets the version of a plugin take over that was refused because it maps clearly fewer events than the version \
             in use, and reloads. 409: none was refused for that.",
            success::<ReloadView>(schemas, "It is in use."),
        )
        .may_answer(&[409, 422, 503]),
        Operation::new(
            Method::POST,
            "/v1/reload",
            "reload",
            "Reads the configuration again and applies it. 422 lists every mistake, and the previous configuration stays in use; \
             503: it was applied in part.",
            success::<ReloadView>(schemas, "It is in use."),
        )
        .may_answer(&[422, 503]),
        Operation::new(
            Method::POST,
            "/v1/backup",
            "backup",
            "Makes a backup of the store in a new file below `[store] path`, while Weir runs. Answers when it is complete.",
            success::<BackupView>(schemas, "The backup is complete."),
        )
        .may_answer(&[503]),
    ]
}

/// The parameters of a list of entities that are in a state.
fn in_a_state() -> [Value; 3] {
    let states = json!({ "type": "string", "enum": super::STATES });
    let flag = json!({ "type": "string", "enum": ["true", "false"] });
    let counted = "`true`: all of them are counted by reason, also those of other pages.";
    [
        json!({ "name": "state", "in": "query", "required": true, "schema": states, "description": "In which state." }),
        in_query("prefix", any_text(), "Only keys that start with this."),
        in_query("reasons", flag, counted),
    ]
}

fn on_channels(schemas: &mut SchemaGenerator) -> Vec<Operation> {
    let mut operate = |path, id, summary| {
        let success = success::<ChannelView>(schemas, "Done; the channel as it is after it.");
        Operation::new(Method::POST, path, id, summary, success).may_answer(&[409, 503])
    };
    vec![
        operate(
            "/v1/channels/{channel}/pause",
            "pause",
            "Delivers nothing until resumed, also after a restart.",
        ),
        operate("/v1/channels/{channel}/resume", "resume", "Delivers again."),
        operate(
            "/v1/channels/{channel}/resync",
            "resync",
            "Sends everything, deletions included.",
        ),
        operate(
            "/v1/channels/{channel}/rerender",
            "rerender",
            "Renders everything and sends the differences.",
        ),
        operate(
            "/v1/channels/{channel}/confirm",
            "confirm",
            "Releases withdrawals that the guard holds.",
        ),
        operate(
            "/v1/channels/{channel}/overwrite",
            "overwrite",
            "For a target that is ahead: the sequence jumps above what it holds, everything is sent, and what is newer there is overwritten.",
        ),
        Operation::new(
            Method::DELETE,
            "/v1/channels/{channel}",
            "forget",
            "Forgets a retired channel and all it delivered.",
            as_json(
                "It is forgotten.",
                member("forgotten", json!({ "type": "string" })),
            ),
        )
        .may_answer(&[409, 503]),
    ]
}

fn in_path(name: &str) -> Value {
    let schema = if name == "key" {
        key()
    } else {
        json!({ "type": "string", "minLength": 1 })
    };
    json!({ "name": name, "in": "path", "required": true, "schema": schema, "description": "Percent-encoded, a slash in it too." })
}

fn in_query(name: &str, schema: Value, description: &str) -> Value {
    json!({ "name": name, "in": "query", "schema": schema, "description": description })
}

fn page(after: Value) -> [Value; 2] {
    let limit = json!({ "type": "integer", "minimum": 1, "maximum": super::params::LIMIT_MAX, "default": super::params::LIMIT });
    [
        in_query("limit", limit, "Maximum number of items per page."),
        in_query("after", after, "The `next` of the page before."),
    ]
}

fn key() -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": KEY_BYTES_MAX })
}

fn any_text() -> Value {
    json!({ "type": "string" })
}

fn members(names: [&str; 2], schema: Value) -> Value {
    let properties: Map<String, Value> = names
        .iter()
        .map(|name| ((*name).to_owned(), schema.clone()))
        .collect();
    json!({ "type": "object", "properties": properties, "required": names })
}

fn member(name: &str, schema: Value) -> Value {
    json!({ "type": "object", "properties": { name: schema }, "required": [name] })
}

fn as_json(description: &str, schema: Value) -> Value {
    json!({ "description": description, "content": { "application/json": { "schema": schema } } })
}

fn success<T: JsonSchema>(schemas: &mut SchemaGenerator, description: &str) -> Value {
    as_json(description, schemas.subschema_for::<T>().to_value())
}

fn one_of(description: &str, variants: &[Value]) -> Value {
    as_json(description, json!({ "oneOf": variants }))
}

/// The parameters of a receipt.
fn receipt() -> [Value; 2] {
    let sequence = json!({ "type": "integer", "minimum": 1, "maximum": u64::MAX });
    let most = super::params::WAIT_MAX.as_secs();
    [
        in_query(
            "sequence",
            sequence,
            "Asks for the receipt: whether every channel has settled all changes of the entity up to this sequence. With `key` only.",
        ),
        in_query(
            "wait",
            json!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$", "examples": ["10s"] }),
            &format!(
                "How long to wait until it is so; at most {most} s. With `sequence` only. While too many wait, the response is 503."
            ),
        ),
    ]
}

/// A response that is a file if the request asks for one part alone.
fn or_saved(mut success: Value) -> Value {
    let bytes = json!({ "schema": { "type": "string", "format": "binary" } });
    success["content"]["application/octet-stream"] = bytes;
    success
}

/// Whether long values are cut.
fn cut() -> Value {
    let flag = json!({ "type": "string", "enum": ["true", "false"] });
    let what = "`true`: of a value of more than 64 KiB or 2,000 parts, and of values after 1 MiB in all, only the beginning, under `cut`.";
    in_query("cut", flag, what)
}

fn list<T: JsonSchema>(schemas: &mut SchemaGenerator) -> Value {
    success::<List<T>>(schemas, "A page of them.")
}

fn problem(status: u16) -> Value {
    let description = axum::http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Problem");
    let mut answer = json!({
        "description": description,
        "content": { CONTENT_TYPE_PROBLEM: { "schema": { "$ref": "#/components/schemas/Problem" } } },
    });
    let header =
        |name: &str, kind: &str| json!({ name: { "schema": { "type": kind }, "required": true } });
    match status {
        401 => answer["headers"] = header("WWW-Authenticate", "string"),
        429 => answer["headers"] = header("Retry-After", "integer"),
        _ => {}
    }
    answer
}

#[cfg(test)]
mod tests;
