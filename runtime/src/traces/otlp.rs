//! Spans as OTLP over HTTP has them in JSON, and what an answer of a collector means.
//!
//! In JSON ids are hexadecimal, enumerations are numbers, names are in lowerCamelCase, and numbers of 64 bits
//! are texts. Pure functions: the application makes the requests.

use serde::{Serialize, Serializer};

use super::{Links, Nanos, Span, Value};
use crate::model::Trace;

/// Where spans are sent below the address of a collector that has no path of its own.
pub const PATH: &str = "/v1/traces";
/// The attribute of a delivery with the number of the events that it contains and that are recorded.
const MERGED: &str = "weir.events.merged";
/// The longest part of an answer that is repeated in the log, in characters.
const SAID_MAX: usize = 300;

/// The program that the spans are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// `service.name`.
    pub service: String,
    /// `service.instance.id`: another one after each start.
    pub instance: String,
}

/// The body of a request.
pub fn encode(resource: &Resource, spans: &[(Span, Links)]) -> Vec<u8> {
    let text = |text: &str| Value::Text(text.to_owned());
    let version = env!("CARGO_PKG_VERSION");
    let about = [
        ("service.name", text(&resource.service)),
        ("service.version", text(version)),
        ("service.instance.id", text(&resource.instance)),
    ];
    let request = Request {
        resource_spans: [ResourceSpans {
            resource: About {
                attributes: about.iter().map(KeyValue::of).collect(),
            },
            scope_spans: [ScopeSpans {
                scope: Scope {
                    name: "weir",
                    version,
                },
                spans: spans.iter().map(Written::of).collect(),
            }],
        }],
    };
    serde_json::to_vec(&request).unwrap_or_default()
}

/// What an answer of a collector means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It has the spans, all but some that it rejected, and why it did.
    Taken {
        /// How many it rejected.
        rejected: u64,
        /// Its reason, or a warning; mostly empty.
        message: String,
    },
    /// It wants the same request again later.
    Again(String),
    /// It will never take this request; the reason.
    Refused(String),
}

/// The meaning of an answer. Only of these four statuses the specification allows another try.
pub fn meaning(status: u16, body: &[u8]) -> Answer {
    let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |value: &serde_json::Value| -> String {
        let text = value.as_str().unwrap_or_default();
        text.chars().take(SAID_MAX).collect()
    };
    let said = || match text(&body["message"]) {
        message if message.is_empty() => format!("it answered {status}"),
        message => format!("it answered {status}: {message}"),
    };
    match status {
        200..=299 => {
            let partial = &body["partialSuccess"];
            let rejected = &partial["rejectedSpans"];
            let number = rejected
                .as_u64()
                .or_else(|| rejected.as_str()?.parse().ok());
            Answer::Taken {
                rejected: number.unwrap_or_default(),
                message: text(&partial["errorMessage"]),
            }
        }
        429 | 502 | 503 | 504 => Answer::Again(said()),
        300..=399 => Answer::Refused(format!("{}, and redirects are not followed", said())),
        _ => Answer::Refused(said()),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    resource_spans: [ResourceSpans<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    resource: About<'a>,
    scope_spans: [ScopeSpans<'a>; 1],
}

#[derive(Serialize)]
struct About<'a> {
    attributes: Vec<KeyValue<'a>>,
}

#[derive(Serialize)]
struct ScopeSpans<'a> {
    scope: Scope,
    spans: Vec<Written<'a>>,
}

#[derive(Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<String>,
    /// The flags of the `traceparent`: sampled.
    flags: u32,
    name: &'a str,
    kind: u8,
    #[serde(serialize_with = "as_text")]
    start_time_unix_nano: Nanos,
    #[serde(serialize_with = "as_text")]
    end_time_unix_nano: Nanos,
    attributes: Vec<KeyValue<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    links: Vec<LinkedTo>,
    /// Links that there could be beside those that are written.
    dropped_links_count: u32,
    status: Status<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LinkedTo {
    trace_id: String,
    span_id: String,
    flags: u32,
}

#[derive(Serialize)]
struct Status<'a> {
    /// 0: nothing to say; 2: an error.
    code: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
}

#[derive(Serialize)]
struct KeyValue<'a> {
    key: &'static str,
    value: AnyValue<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum AnyValue<'a> {
    StringValue(&'a str),
    /// A text, because it has 64 bits.
    IntValue(String),
}

impl<'a> KeyValue<'a> {
    fn of((key, value): &'a (&'static str, Value)) -> KeyValue<'a> {
        let value = match value {
            Value::Text(text) => AnyValue::StringValue(text),
            Value::Number(number) => AnyValue::IntValue(number.to_string()),
        };
        KeyValue { key, value }
    }
}

impl Written<'_> {
    fn of((span, links): &(Span, Links)) -> Written<'_> {
        let linked = |context: Trace| LinkedTo {
            trace_id: context.trace_hex(),
            span_id: context.span_hex(),
            flags: 1,
        };
        let not_written = links.count - links.spans.len() as u64;
        let merged = (links.count > 0).then(|| KeyValue {
            key: MERGED,
            value: AnyValue::IntValue(links.count.to_string()),
        });
        Written {
            trace_id: span.context.trace_hex(),
            span_id: span.context.span_hex(),
            parent_span_id: span.parent.map(|span| format!("{span:016x}")),
            flags: 1,
            name: &span.name,
            kind: span.kind as u8,
            start_time_unix_nano: span.start,
            end_time_unix_nano: span.end,
            attributes: span
                .attributes
                .iter()
                .map(KeyValue::of)
                .chain(merged)
                .collect(),
            links: links.spans.iter().copied().map(linked).collect(),
            dropped_links_count: u32::try_from(not_written).unwrap_or(u32::MAX),
            status: Status {
                code: if span.error.is_some() { 2 } else { 0 },
                message: span.error.as_deref(),
            },
        }
    }
}

fn as_text<S: Serializer>(time: &Nanos, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&time.0.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Kind;
    use super::*;

    #[test]
    fn a_span_is_written_as_the_specification_has_it() {
        let context = |span| Trace {
            trace: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c,
            span,
            sampled: true,
        };
        let (start, end) = (
            Nanos(1_544_712_660_000_000_000),
            Nanos(1_544_712_661_000_000_000),
        );
        let name = "send shop".to_owned();
        let sent = Span::new(context(0xb7), Some(5), Kind::Client, name, start, end)
            .with([("messaging.batch.message_count", 12_u64.into())])
            .failed("refused", "the shop answered 422");
        let links = Links {
            spans: vec![context(1), context(2)],
            count: 40,
        };
        let resource = Resource {
            service: "weir".into(),
            instance: "4f".into(),
        };
        let body: serde_json::Value =
            serde_json::from_slice(&encode(&resource, &[(sent, links)])).expect("JSON");
        let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
        let id = "0af7651916cd43dd8448eb211c80319c";
        assert_eq!(
            body,
            json!({"resourceSpans": [{
                "resource": {"attributes": [
                    text("service.name", "weir"),
                    text("service.version", env!("CARGO_PKG_VERSION")),
                    text("service.instance.id", "4f"),
                ]},
                "scopeSpans": [{
                    "scope": {"name": "weir", "version": env!("CARGO_PKG_VERSION")},
                    "spans": [{
                        "traceId": id,
                        "spanId": "00000000000000b7",
                        "parentSpanId": "0000000000000005",
                        "flags": 1,
                        "name": "send shop",
                        "kind": 3,
                        "startTimeUnixNano": "1544712660000000000",
                        "endTimeUnixNano": "1544712661000000000",
                        "attributes": [
                            {"key": "messaging.batch.message_count", "value": {"intValue": "12"}},
                            text("error.type", "refused"),
                            {"key": "weir.events.merged", "value": {"intValue": "40"}},
                        ],
                        "links": [
                            {"traceId": id, "spanId": "0000000000000001", "flags": 1},
                            {"traceId": id, "spanId": "0000000000000002", "flags": 1},
                        ],
                        "droppedLinksCount": 38,
                        "status": {"code": 2, "message": "the shop answered 422"},
                    }],
                }],
            }]})
        );
    }

    #[test]
    fn each_answer_has_one_meaning() {
        let taken = |rejected, message: &str| Answer::Taken {
            rejected,
            message: message.into(),
        };
        for (status, body, expected) in [
            (200, "{}", taken(0, "")),
            (200, "", taken(0, "")),
            (202, "not JSON", taken(0, "")),
            (
                200,
                r#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"too old"}}"#,
                taken(3, "too old"),
            ),
            (
                200,
                r#"{"partialSuccess":{"rejectedSpans":2}}"#,
                taken(2, ""),
            ),
            (
                200,
                r#"{"partialSuccess":{"errorMessage":"slow down"}}"#,
                taken(0, "slow down"),
            ),
            (429, "", Answer::Again("it answered 429".into())),
            (502, "<html>", Answer::Again("it answered 502".into())),
            (
                503,
                r#"{"message":"full"}"#,
                Answer::Again("it answered 503: full".into()),
            ),
            (504, "", Answer::Again("it answered 504".into())),
            (
                400,
                r#"{"code":3,"message":"bad id"}"#,
                Answer::Refused("it answered 400: bad id".into()),
            ),
            (413, "", Answer::Refused("it answered 413".into())),
            (500, "", Answer::Refused("it answered 500".into())),
            (
                301,
                "",
                Answer::Refused("it answered 301, and redirects are not followed".into()),
            ),
        ] {
            assert_eq!(
                meaning(status, body.as_bytes()),
                expected,
                "{status} {body}"
            );
        }
    }
}
