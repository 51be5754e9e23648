//! The description of taking events in, and of what is there around it.

use axum::http::Method;
use schemars::SchemaGenerator;
use serde_json::{Value, json};

use super::super::views::{Accepted, RequestPreviewView};
use super::{Operation, as_json, in_query, member, success};
use crate::model::Lane;

/// The operations.
pub(super) fn operations(schemas: &mut SchemaGenerator) -> Vec<Operation> {
    vec![
        take_events(schemas),
        preview_events(schemas),
        handshake(),
        challenge(),
    ]
}

fn take_events(schemas: &mut SchemaGenerator) -> Operation {
    let summary = "Takes events in; they are durable when it responds. An event that a plugin fails on is quarantined and listed in `problems`. \
                   A source may be configured to answer 200, 201 or 204 in place of 202, or with a body of its own (`reply`); with \
                   `Prefer: return=representation` it is this one. It may also answer the challenges of a sender with 200 (`handshake`). \
                   CloudEvents in binary mode (`ce-…` headers), or a body of any type that the source's plugins understand, cut as its `split` says.";
    let success = success::<Accepted>(schemas, "Everything in the request is durable.");
    let operation = Operation::new(
        Method::POST,
        "/v1/sources/{source}/events",
        "takeEvents",
        summary,
        success,
    );
    let flag = json!({ "type": "string", "enum": ["true", "false"] });
    let receipt = in_query(
        "receipt",
        flag,
        "`true`: the response names the entities, so that their receipts can be asked for.",
    );
    let operation = operation
        .with([lane(), receipt])
        .may_answer(&[408, 413, 415, 429, 503, 507]);
    Operation {
        body: Some(events()),
        success: (202, operation.success.1),
        ..operation
    }
}

fn preview_events(schemas: &mut SchemaGenerator) -> Operation {
    let summary = "Says what the source would make of a request, without taking it: whether its sender would be verified, its events, what each plugin \
                   makes of them and logs, what the store would do with each change, and which channels would owe something. Nothing is kept or counted, and no id \
                   is looked up. At most 1 MiB, 20 events and 10 s.";
    let success = success::<RequestPreviewView>(schemas, "What would become of its events.");
    let path = "/v1/sources/{source}/preview";
    let operation = Operation::new(Method::POST, path, "previewEvents", summary, success);
    Operation {
        body: Some(events()),
        ..operation.with([lane()]).may_answer(&[408, 413, 415, 503])
    }
}

fn lane() -> Value {
    let lanes = json!({ "type": "string", "enum": Lane::ALL.map(Lane::name) });
    in_query("lane", lanes, "For changes that name no lane themselves.")
}

/// The body of a request with events.
fn events() -> Value {
    let event = json!({ "$ref": "#/components/schemas/CloudEvent" });
    let change = json!({ "type": "product", "key": "4711", "facet": "price.de-retail", "value": { "amount": "9.90" }, "version": 17 });
    let content = json!({
        "application/json": { "schema": { "description": "For a source without a mapper: a change. Anything else is quarantined." }, "example": change },
        "application/cloudevents+json": { "schema": event },
        "application/cloudevents-batch+json": { "schema": { "type": "array", "items": event } },
        "application/x-ndjson": { "schema": { "type": "string", "description": "One event per line." }, "example": format!("{change}\n{change}\n") },
        "application/octet-stream": { "schema": { "type": "string", "format": "binary", "description": "Any other format that the source's plugins understand." } },
    });
    json!({ "required": true, "content": content })
}

fn challenge() -> Operation {
    let text = json!({ "schema": { "type": "string" } });
    let success = json!({ "description": "The challenge.", "content": { "text/plain; charset=utf-8": text } });
    Operation::new(
        Method::GET,
        "/v1/sources/{source}/events",
        "answerChallenge",
        "The handshake of senders that ask by GET, for a source whose `handshake` names one of them.",
        success,
    )
    .may_answer(&[401, 405, 503])
}

fn handshake() -> Operation {
    let allowed = json!({ "type": "array", "items": { "type": "string" } });
    let header =
        |description: &str| json!({ "schema": { "type": "string" }, "description": description });
    let mut success = as_json("It may.", member("allowed", allowed));
    success["headers"] = json!({
        "Allow": header("The methods of this route."),
        "WebHook-Allowed-Origin": header("The `WebHook-Request-Origin` of the request."),
        "WebHook-Allowed-Rate": header("`*` if the request has a `WebHook-Request-Rate`: no limit in advance."),
    });
    Operation::new(
        Method::OPTIONS,
        "/v1/sources/{source}/events",
        "mayTakeEvents",
        "Whether a sender may deliver events here: the handshake of CloudEvents webhooks.",
        success,
    )
    .may_answer(&[503])
}
