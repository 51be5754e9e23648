//! The components of the document: the schemas that are generated from the views, and those written
//! by hand, for problems, CloudEvents, and authentication.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use crate::server::problem::TYPE_PREFIX;

/// Makes schemas of serialized values, as JSON Schema 2020-12, which OpenAPI 3.1 uses.
pub(super) fn generator() -> SchemaGenerator {
    let settings = SchemaSettings::draft2020_12()
        .for_serialize()
        .with(|settings| settings.definitions_path = "/components/schemas".into());
    settings.into_generator()
}

/// All schemas that the generator made, and those written by hand.
pub(super) fn components(mut generator: SchemaGenerator) -> Value {
    let mut schemas = generator.take_definitions(true);
    schemas.insert("Problem".to_owned(), problem());
    schemas.insert("CloudEvent".to_owned(), cloud_event());
    json!({ "schemas": schemas, "securitySchemes": security() })
}

fn problem() -> Value {
    json!({
        "description": "A problem, after RFC 9457. Some have more members, such as `problems`, `parameter` or `complaints`.",
        "type": "object",
        "properties": {
            "type": { "type": "string", "pattern": format!("^{TYPE_PREFIX}[a-z0-9-]+$"), "description": "For programs; does not change." },
            "title": { "type": "string", "minLength": 1 },
            "status": { "type": "integer", "minimum": 400, "maximum": 599 },
            "detail": { "type": "string", "minLength": 1, "description": "For people." },
        },
        "required": ["type", "title", "status", "detail"],
    })
}

/// The members that structured mode accepts; any other is rejected by name.
fn cloud_event() -> Value {
    let text = json!({ "type": "string", "minLength": 1 });
    json!({
        "description": "CloudEvents 1.0.2. Data is `data` or `data_base64`, not both; extensions are of simple types.",
        "type": "object",
        "properties": {
            "specversion": { "const": "1.0" },
            "id": text,
            "source": text,
            "type": text,
            "subject": { "type": "string" },
            "time": { "type": "string", "format": "date-time" },
            "data": {},
        },
        "required": ["specversion", "id", "source", "type"],
        "example": { "specversion": "1.0", "id": "e1", "source": "/pim", "type": "product.changed", "data": { "sku": "4711" } },
    })
}

fn security() -> Value {
    json!({
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "A token of `[tokens]` with the route's role (`x-weir-role`) or a higher one; on loopback, while none is configured, \
                            none is asked for. Events: what the source's `verify` says.",
        },
        "session": {
            "type": "apiKey",
            "in": "cookie",
            "name": "weir",
            "description": "What `POST /v1/session` gives to a browser, in place of its token. The name of the cookie also has the port, and with TLS \
                            the prefix `__Host-`. A change must carry `Origin` too.",
        },
        "basic": {
            "type": "http",
            "scheme": "basic",
            "description": "The user and the password of a feed, if its `serve` names them.",
        },
        "standard-webhooks": {
            "type": "apiKey",
            "in": "header",
            "name": "webhook-signature",
            "description": "Events of a source with `verify = { kind = \"standard-webhooks\" }`, beside `webhook-id` and `webhook-timestamp`. \
                            With kind `hmac` the source names the header.",
        },
    })
}
