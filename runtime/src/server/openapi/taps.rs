//! The description of the taps.

use axum::http::Method;
use schemars::SchemaGenerator;
use serde_json::{Value, json};

use super::super::tap::{SAMPLE, SAMPLE_MAX};
use super::{Operation, any_text, in_query};
use crate::tap::story::{DELIVERY_OUTCOMES, DeliveryStory, EVENT_OUTCOMES, EventStory};

/// The operations.
pub(super) fn operations(schemas: &mut SchemaGenerator) -> Vec<Operation> {
    let event = schemas.subschema_for::<EventStory>().to_value();
    let delivery = schemas.subschema_for::<DeliveryStory>().to_value();
    let events = |item: &Value| {
        json!({
            "description": "The events. The schema is that of the data of an `item`.",
            "content": { "text/event-stream": { "schema": { "type": "string" }, "x-weir-item": item } },
        })
    };
    vec![
        Operation::new(
            Method::GET,
            "/v1/tap/sources/{source}",
            "tapSource",
            "What comes in, as server-sent events: `tap` says what is shown; `item` has an event, what each plugin made of it and what the \
             store made of it; `gap` before it the number of events that passed since the last `item` and are not shown; `beat` the figures \
             when nothing was said for 10 s: `seen` let the filter pass, `skipped` were more than `sample`, `dropped` found the reader slow. \
             `bye` is the last one: after 10 minutes, or when the token has ended. 503: there are as many taps as there may be.",
            events(&event),
        )
        .with(parameters(
            &EVENT_OUTCOMES,
            "Events that change the entity with this key, or whose own subject or id it is.",
            "Events that change an entity of this type, or whose own type it is.",
        ))
        .may_answer(&[503]),
        Operation::new(
            Method::GET,
            "/v1/tap/channels/{channel}",
            "tapChannel",
            "What becomes of entities on a channel, as server-sent events like those of a source: an `item` has the outcome, what each plugin \
             made of the entity, what was rendered, and each request with its answer. Secrets of the configuration are hidden.",
            events(&delivery),
        )
        .with(parameters(
            &DELIVERY_OUTCOMES,
            "The entity with this key.",
            "Entities of this type.",
        ))
        .may_answer(&[503]),
    ]
}

fn parameters(outcomes: &[&str], key: &str, kind: &str) -> [Value; 5] {
    let sample =
        json!({ "type": "integer", "minimum": 1, "maximum": SAMPLE_MAX, "default": SAMPLE });
    let flag = json!({ "type": "string", "enum": ["true", "false"] });
    [
        in_query("key", any_text(), key),
        in_query("type", any_text(), kind),
        in_query(
            "outcome",
            json!({ "type": "string", "enum": outcomes }),
            "What became of it.",
        ),
        in_query("sample", sample, "The most items a second."),
        in_query(
            "full",
            flag,
            "`true`: bodies up to 64 KiB; otherwise their first 2 KiB.",
        ),
    ]
}
