//! Tests of the document against the table of routes and against real responses.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::fake::{self, Fake};
use super::super::tests::{ask, example};
use super::super::{Limits, Role};
use super::*;

/// The parts of `value` that contradict `schema`, each with its path. This is stricter than JSON
/// Schema: a member that the schema does not name is a contradiction too, except in problems and
/// where there are no properties at all.
fn contradictions(
    document: &Value,
    schema: &Value,
    value: &Value,
    at: &str,
    found: &mut Vec<String>,
) {
    if let Some(name) = schema["$ref"].as_str() {
        let target = document
            .pointer(name.trim_start_matches('#'))
            .unwrap_or_else(|| panic!("{name} is not there"));
        return contradictions(document, target, value, at, found);
    }
    if let Some(variants) = schema["oneOf"].as_array().or(schema["anyOf"].as_array()) {
        let fits = |variant: &&Value| {
            let mut found = Vec::new();
            contradictions(document, variant, value, at, &mut found);
            found.is_empty()
        };
        if variants.iter().filter(fits).count() != 1 {
            found.push(format!(
                "{at}: {value} does not fit one of {} schemas",
                variants.len()
            ));
        }
        return;
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let allowed = |kind: &str| {
        schema["type"] == kind
            || schema["type"]
                .as_array()
                .is_some_and(|kinds| kinds.iter().any(|one| one == kind))
    };
    let fits = schema["type"].is_null() || allowed(kind) || kind == "integer" && allowed("number");
    if !fits {
        found.push(format!("{at}: {kind} where {} should be", schema["type"]));
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        contradictions(
            document,
            &schema["items"],
            item,
            &format!("{at}[{index}]"),
            found,
        );
    }
    let Some(members) = value.as_object() else {
        return;
    };
    for name in schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        if !members.contains_key(name) {
            found.push(format!("{at}: {name} is missing"));
        }
    }
    for (name, value) in members {
        match (
            schema["properties"].get(name),
            schema.get("additionalProperties"),
        ) {
            (Some(schema), _) | (None, Some(schema)) => {
                contradictions(document, schema, value, &format!("{at}.{name}"), found)
            }
            (None, None) if schema["properties"].is_object() && at != "problem" => {
                found.push(format!("{at}.{name} is not described"))
            }
            (None, None) => {}
        }
    }
}

/// Asserts that the document describes this response: its status, its media type, and all of its
/// content.
fn check(document: &Value, method: &str, path: &str, status: u16, media: &str, body: &str) {
    let operation = &document["paths"][path][method.to_ascii_lowercase()];
    let content = &operation["responses"][status.to_string()]["content"];
    let schema = content.get(media).unwrap_or_else(|| {
        panic!("{method} {path}: {status} with {media} is not described: {body}")
    });
    if media.ends_with("json") {
        let value: Value = serde_json::from_str(body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error} in {body}"));
        let (mut found, at) = (Vec::new(), if status < 400 { "answer" } else { "problem" });
        contradictions(document, &schema["schema"], &value, at, &mut found);
        assert!(
            found.is_empty(),
            "{method} {path}: {}\n{value:#}",
            found.join("\n")
        );
    }
}

#[test]
fn each_route_of_the_table_is_described_and_nothing_else() {
    let document = document();
    let mut described = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            described.insert((
                method.to_ascii_uppercase(),
                path.clone(),
                operation["x-weir-role"].as_str().map(str::to_owned),
            ));
        }
    }
    let role = |access| match access {
        Access::Needs(role) => Some(role.name().to_owned()),
        Access::Open | Access::Page | Access::Sender | Access::Fetcher => None,
    };
    let table: BTreeSet<_> = table()
        .into_iter()
        .map(|route| {
            (
                route.method.to_string(),
                route.path.to_owned(),
                role(route.access),
            )
        })
        .collect();
    assert_eq!(described, table);
    let written: BTreeSet<_> = operations(&mut schemas::generator())
        .iter()
        .map(|one| (one.method.to_string(), one.path.to_owned()))
        .collect();
    assert_eq!(
        written,
        table
            .into_iter()
            .map(|(method, path, _)| (method, path))
            .collect(),
        "a description without its route"
    );
    let ids: BTreeSet<String> = operations(&mut schemas::generator())
        .iter()
        .map(|one| one.id.to_owned())
        .collect();
    assert_eq!(ids.len(), written.len(), "names of operations are unique");
}

#[tokio::test]
async fn what_is_answered_is_what_the_document_says() {
    let fake = Arc::new(Fake::default());
    let all = [Role::Read, Role::Operate, Role::Plugins, Role::Admin];
    *fake.tokens.lock().unwrap() = all.map(fake::token).to_vec();
    let server = fake::start(&fake, Limits::default()).await;
    let served = ask(&server, "GET", "/openapi.json", &[], "").await;
    let document: Value = serde_json::from_str(&served.body).unwrap();
    assert_eq!(document, super::document(), "anybody may read it");
    let admin = [("authorization", "Bearer admin")];
    for Route {
        method,
        path,
        access,
        ..
    } in table()
    {
        let fine = example(path).replace(
            "?all=true",
            if method == Method::GET {
                ""
            } else {
                "?all=true"
            },
        );
        let missing = example(path)
            .replace("erp", "nope")
            .replace("storefront.de", "nope")
            .replace("/old", "/nope")
            .replace("jobs/1", "jobs/nope")
            .replace("console.css", "nope")
            .replace("4711", "nope");
        let unknown = format!(
            "{fine}{}colour=red",
            if fine.contains('?') { "&" } else { "?" }
        );
        for path_asked in [&fine, &missing, &unknown] {
            for headers in [&admin[..], &[("authorization", "Bearer read")], &[]] {
                let body = if path == "/v1/session" {
                    "token=admin"
                } else {
                    "{}"
                };
                let answered = ask(&server, method.as_str(), path_asked, headers, body).await;
                let media = answered
                    .headers
                    .get("content-type")
                    .map_or("", String::as_str);
                check(
                    &document,
                    method.as_str(),
                    path,
                    answered.status,
                    media,
                    &answered.body,
                );
                let takes_events = access == Access::Sender && method == Method::POST;
                let begins = path.ends_with("/drift");
                let expected = if takes_events || begins { 202 } else { 200 };
                if path_asked == &fine && headers == admin {
                    assert_eq!(
                        answered.status, expected,
                        "{method} {path}: {}",
                        answered.body
                    );
                }
            }
        }
    }
    // Routes with two kinds of responses, and the mistakes of senders.
    for (method, path, body) in [
        ("GET", "/v1/entities/product?key=4711", ""),
        ("GET", "/v1/entities/product?key=4711&facet=price.de", ""),
        ("GET", "/v1/entities/product?key=4711&facet=nope", ""),
        ("GET", "/v1/entities/product?key=4711&cut=true", ""),
        (
            "POST",
            "/v1/sources/erp/quarantine/redrive?code=foreign&job=true&limit=10",
            "",
        ),
        (
            "POST",
            "/v1/channels/storefront.de/refused/redrive?all=true&job=true",
            "",
        ),
        ("POST", "/v1/sources/erp/events", "foreign"),
        ("POST", "/v1/sources/erp/events", "malformed"),
        ("POST", "/v1/sources/erp/events", "unsigned"),
        ("POST", "/v1/sources/erp/events", "busy"),
        ("POST", "/v1/sources/erp/events", "broken"),
    ] {
        let answered = ask(&server, method, path, &admin, body).await;
        let route = match path {
            _ if path.contains("entities") => "/v1/entities/{type}",
            _ if path.contains("quarantine") => "/v1/sources/{source}/quarantine/redrive",
            _ if path.contains("refused") => "/v1/channels/{channel}/refused/redrive",
            _ => "/v1/sources/{source}/events",
        };
        if path.contains("job=true") {
            assert_eq!(answered.status, 202, "{}", answered.body);
            assert_eq!(answered.headers["location"], "/v1/jobs/2");
        }
        check(
            &document,
            method,
            route,
            answered.status,
            &answered.headers["content-type"],
            &answered.body,
        );
    }
}

#[test]
fn a_contradiction_is_found() {
    let document = document();
    let schema = json!({ "$ref": "#/components/schemas/EventCounts" });
    let told = |value: Value| {
        let mut found = Vec::new();
        contradictions(&document, &schema, &value, "counts", &mut found);
        found
    };
    let counts = json!({ "accepted": 1, "filtered": 0, "quarantined": 0, "repeated": 0 });
    assert!(told(counts.clone()).is_empty());
    let with = |name: &str, value: Value| {
        let mut counts = counts.clone();
        counts[name] = value;
        told(counts)
    };
    assert_eq!(with("accepted", json!("1")).len(), 1);
    assert_eq!(with("lost", json!(1)), ["counts.lost is not described"]);
    assert_eq!(told(json!({ "accepted": 1 })).len(), 3);
}
