//! The schema against the plan: it has each key that the plan asks for, and no other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::*;

/// What the reference leaves out or comments out, so that each table of the schema is read at least once.
const MORE: &str = r#"
config_version = 1
[server]
tls = { cert = "a.pem", key = "b" }
[lanes]
urgent = 16
[plugins.a]
path = "a.wasm"
limits = { time = "1s" }
[sources.a]
verify = { kind = "bearer", token = "a" }
id = { header = "x-id" }
plugins = ["a", { use = "a", settings = {} }]
[sources.b]
verify = { kind = "hmac", header = "x", secrets = ["b"] }
[sources.c]
verify = { kind = "none" }
[sources.d]
verify = { kind = "hmac", header = "x", template = "{url}{body}", secret = "b" }
[sources.e]
verify = { kind = "token", header = "x", token = "a" }
handshake = { kind = "meta", token = "a" }
[sources.f]
verify = { kind = "basic", user = "a", password = "b" }
[sources.g]
verify = { kind = "adyen", secret = "00" }
[sources.h]
verify = { kind = "contentful", secret = "a", timestamp = { tolerance = "1m" } }
[sources.i]
verify = { kind = "twilio", secret = "a", url = "http://a" }
[sources.j]
verify = { kind = "github", secret = "a", template = "{path}{body}" }
split = "csv"
csv = { delimiter = ";" }
form = { field = "a" }
reply = { status = 200 }
[paces.a]
rate = "1/s"
[each.site.de]
url = "http://127.0.0.1:1"
[targets.basic]
kind = "webhook"
url = "http://127.0.0.1:1"
auth = { basic = { user = "a", password = "b" } }
tls = { ca = "ca.pem" }
[targets.password]
kind = "webhook"
url = "http://127.0.0.1:1"
auth = { oauth2 = { token_url = "http://127.0.0.1:1", client_id = "a", client_secret = "b", grant = "password" } }
[targets.refresh]
kind = "webhook"
for_each = "site"
url = "{site.url}"
auth = { oauth2 = { token_url = "http://127.0.0.1:1", client_id = "a", client_secret = "b", grant = "refresh_token" } }
[targets.postgres]
kind = "postgres"
for_each = "site"
url = "postgres://a@127.0.0.1/a"
table = "a"
[targets.nats]
kind = "nats"
for_each = "site"
url = "nats://127.0.0.1"
subject = "a.{key}"
auth = { user = "a", password = "b" }
tls = {}
[targets.kafka]
kind = "kafka"
for_each = "site"
brokers = ["127.0.0.1:1"]
topic = "a"
auth = { sasl = { mechanism = "PLAIN", user = "a", password = "b" } }
tls = { ca = "ca.pem" }
[targets.az]
kind = "bucket"
for_each = "site"
url = "az://a/{key}"
auth = { account = "a", key = "b" }
[targets.gs]
kind = "bucket"
url = "gs://a/{key}"
auth = { service_account = "a" }
[targets.search]
kind = "search"
for_each = "site"
dialect = "algolia"
url = "http://127.0.0.1:1"
index = "a"
[targets.lines]
kind = "file"
for_each = "site"
path = "a-{site}.ndjson"
rotate = { every = "1d" }
[targets.feed]
kind = "feed"
for_each = "site"
format = "xml"
fields = { a = "/a" }
to = "s3://a/b.xml"
[entities.product]
facets.content = { owner = "a" }
[channels.a]
for_each = "site"
entity = "product"
facets = ["content"]
target = { kind = "webhook", url = "http://127.0.0.1:1" }
retry = { attempts = 1 }
withdraw_max = { min = 1 }
[channels.a.hours]
zone = "UTC"
"#;

/// A part of a path.
#[derive(Debug)]
enum Part {
    Key(String),
    Item(usize),
}

/// The parts of a path such as `targets.a.answer[0]` or `facets."price.*"`.
fn parts(path: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        rest = rest.strip_prefix('.').unwrap_or(rest);
        if let Some(inside) = rest.strip_prefix('[') {
            let (number, after) = inside.split_once(']').expect("a bracket");
            parts.push(Part::Item(number.parse().expect("a number")));
            rest = after;
        } else if let Some(inside) = rest.strip_prefix('"') {
            let (key, after) = inside.split_once('"').expect("a quote");
            parts.push(Part::Key(key.to_owned()));
            rest = after;
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            parts.push(Part::Key(rest[..end].to_owned()));
            rest = &rest[end..];
        }
    }
    parts
}

/// What of a schema is meant by a table: references followed, and of several forms the one of this value.
fn meant<'s>(whole: &'s Value, mut schema: &'s Value, value: &Value) -> &'s Value {
    loop {
        if let Some(name) = schema["$ref"].as_str() {
            schema = whole
                .pointer(name.trim_start_matches('#'))
                .unwrap_or_else(|| panic!("there is no {name}"));
            continue;
        }
        if let Some(rules) = schema["allOf"].as_array() {
            let fits = |rule: &&Value| {
                let mut keys = rule["if"]["properties"].as_object().into_iter().flatten();
                keys.all(|(key, word)| word["const"] == value[key])
            };
            let rule = rules.iter().find(fits);
            schema = &rule.unwrap_or_else(|| panic!("no rule for {value}"))["then"];
            continue;
        }
        if schema["if"].is_object() {
            let which = if value["kind"].is_null() {
                "else"
            } else {
                "then"
            };
            schema = &schema[which];
            continue;
        }
        let Some(forms) = schema["anyOf"].as_array() else {
            return schema;
        };
        let kind = if value.is_array() { "array" } else { "object" };
        let form = forms.iter().find(|form| form["type"] == kind);
        schema = form.unwrap_or_else(|| panic!("no form for {value} in {schema}"));
    }
}

/// The schema of the table at a path, in a file with this content.
fn at<'s>(whole: &'s Value, content: &Value, path: &str) -> &'s Value {
    let (mut schema, mut value) = (whole, content);
    for part in parts(path) {
        schema = meant(whole, schema, value);
        (schema, value) = match &part {
            Part::Item(number) => (&schema["items"], &value[number]),
            Part::Key(key) if schema["properties"].get(key).is_some() => {
                (&schema["properties"][key], &value[key.as_str()])
            }
            Part::Key(key) => (&schema["additionalProperties"], &value[key.as_str()]),
        };
        assert!(
            !schema.is_null() && schema != false,
            "the schema has no {path}: add it to plan/schema"
        );
    }
    meant(whole, schema, value)
}

/// All tables of a schema that have certain keys.
fn tables<'s>(schema: &'s Value, found: &mut Vec<&'s Value>) {
    if schema["additionalProperties"] == false {
        found.push(schema);
    }
    match schema {
        Value::Object(members) => members.values().for_each(|member| tables(member, found)),
        Value::Array(items) => items.iter().for_each(|item| tables(item, found)),
        _ => {}
    }
}

fn keys(table: &Value) -> BTreeSet<String> {
    let properties = table["properties"].as_object();
    properties
        .into_iter()
        .flatten()
        .map(|(key, _)| key.clone())
        .collect()
}

#[test]
fn each_key_that_the_plan_asks_for_is_in_the_schema_and_no_other() {
    let whole = schema();
    let folder = tempfile::tempdir().expect("a folder");
    // Tables that are equal are one.
    let mut asked: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for text in [include_str!("../../../../examples/reference.toml"), MORE] {
        let file: PathBuf = folder.path().join("weir.toml");
        std::fs::write(&file, text).expect("a file");
        let content: Value = toml::from_str(text).expect("it is TOML");
        for (path, keys) in super::super::understand::asked(&[file]) {
            let table = at(&whole, &content, &path);
            // In others names are chosen freely.
            if table["additionalProperties"] == false {
                let all = asked.entry(table.to_string()).or_default();
                all.extend(keys);
            }
        }
    }
    let mut all = Vec::new();
    tables(&whole, &mut all);
    let mut wrong = String::new();
    for table in all {
        let known = keys(table);
        if known.contains("env") || known.contains("file") {
            continue;
        }
        let what = &table["description"];
        let Some(asked) = asked.get(&table.to_string()) else {
            wrong += &format!("{what} {known:?}: no such table was read; add one to MORE\n");
            continue;
        };
        for key in asked.symmetric_difference(&known) {
            let who = if known.contains(key) {
                "schema"
            } else {
                "plan"
            };
            wrong += &format!("{what}: only the {who} knows the key {key:?}\n");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// What Taplo does not understand, or misunderstands.
fn odd(schema: &Value, path: &str, found: &mut Vec<String>) {
    if let Some(members) = schema.as_object() {
        let has = |key: &str| members.contains_key(key);
        let is_reference = members.get("$ref").is_some_and(Value::is_string);
        if is_reference && members.len() > 1 {
            found.push(format!("{path}: what is beside $ref is ignored"));
        }
        if has("oneOf") || has("unevaluatedProperties") || has("anyOf") && has("type") {
            found.push(format!(
                "{path}: oneOf, unevaluatedProperties, or type beside anyOf"
            ));
        }
    }
    match schema {
        Value::Object(members) => members
            .iter()
            .for_each(|(key, member)| odd(member, &format!("{path}/{key}"), found)),
        Value::Array(items) => (0..)
            .zip(items)
            .for_each(|(at, item)| odd(item, &format!("{path}/{at}"), found)),
        _ => {}
    }
}

#[test]
fn the_schema_has_only_what_editors_understand() {
    let whole = schema();
    let mut found = Vec::new();
    odd(&whole, "#", &mut found);
    assert!(found.is_empty(), "{found:#?}");
    assert_eq!(whole["$schema"], "http://json-schema.org/draft-07/schema#");
    let kinds = &whole["definitions"]["target"]["properties"]["kind"]["anyOf"][0]["enum"];
    let read = crate::plan::targets::kind_words();
    assert_eq!(*kinds, json!(read));
}
