//! What `/openapi.json` says of the routes is true of a running Weir.

use serde_json::{Value, json};

use crate::support::{Stage, change, eventually};

/// The path of a route with the names of this stage.
fn path(route: &str) -> String {
    let names = [
        ("{source}", "pim"),
        ("{type}", "product"),
        ("{key}", "lamp"),
        ("{channel}", "shop"),
    ];
    let named = |path: String, (part, name): (&str, &str)| path.replace(part, name);
    names.into_iter().fold(route.to_owned(), named)
}

/// A parameter with a value that its schema allows.
fn filled(parameter: &Value) -> String {
    let (name, schema) = (&parameter["name"], &parameter["schema"]);
    let value = match (name.as_str(), schema["format"].as_str()) {
        (Some("owed"), _) => json!("shop"),
        (Some("facet"), _) => json!("content"),
        (Some("type"), _) if parameter["required"] == true => json!("product"),
        (Some("wait"), _) => json!("1ms"),
        (_, Some("date-time")) => json!("2026-11-18T11:06:40Z"),
        _ if schema["enum"].is_array() => schema["enum"][0].clone(),
        _ if schema["type"] == "integer" => json!(schema["minimum"].as_u64().unwrap_or(0).max(1)),
        _ => json!("lamp"),
    };
    let text = value.as_str().map_or(value.to_string(), str::to_owned);
    format!("{}={text}", name.as_str().expect("a name"))
}

// The description had a parameter, it was said, that its route refused. Each is sent alone, and all
// of a route together but for those that exclude the others.
#[test]
fn each_parameter_that_is_described_is_accepted() {
    let stage = Stage::catalog();
    let lamp = change("lamp", "content", json!(1)).to_string();
    let json = ("content-type", "application/json");
    assert_eq!(stage.send("pim", &[json], lamp.as_bytes()).status, 202);
    let document = stage.weir().get("/openapi.json").json();
    let mut sent = 0;
    for (route, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("methods") {
            let parameters = operation["parameters"].as_array().expect("a list");
            // Nothing is in quarantine, so there is no data of an event.
            let of_query = parameters
                .iter()
                .filter(|it| it["in"] == "query" && it["name"] != "data");
            let (needed, free): (Vec<&Value>, Vec<&Value>) =
                of_query.partition(|parameter| parameter["required"] == true);
            let needed: Vec<String> = needed.into_iter().map(filled).collect();
            let of_entity = route.starts_with("/v1/entities/");
            let by_key = free.iter().any(|parameter| parameter["name"] == "key");
            let alone = free.iter().map(|parameter| {
                let name = parameter["name"].as_str().filter(|_| of_entity);
                // A receipt is that of one entity, and waits for a sequence; the values of one entity are cut.
                let goes_with: &[&str] = match (name, by_key) {
                    (Some("sequence" | "cut" | "facet"), true) => &["key=lamp"],
                    (Some("wait"), true) => &["key=lamp", "sequence=1"],
                    (Some("wait"), false) => &["sequence=1"],
                    // A job of what is not said by a filter is one of all.
                    _ if parameter["name"] == "job" => &["all=true"],
                    _ if parameter["name"] == "limit" && method == "post" => {
                        &["all=true", "job=true"]
                    }
                    _ => &[],
                };
                let goes_with = goes_with.iter().map(|it| (*it).to_owned());
                goes_with.chain([filled(parameter)]).collect()
            });
            let together = free.iter().filter(|parameter| {
                let name = parameter["name"].as_str().expect("a name");
                let one_entity =
                    by_key && ["key", "sequence", "wait", "cut", "facet"].contains(&name);
                name != "all" && !(of_entity && one_entity)
            });
            let together: Vec<String> = together.map(|parameter| filled(parameter)).collect();
            let mut queries: Vec<Vec<String>> = alone.collect();
            queries.extend((!together.is_empty()).then_some(together));
            queries.extend((!needed.is_empty()).then(Vec::new));
            for query in queries {
                let query = [needed.clone(), query].concat().join("&");
                let asked = format!("{}?{query}", path(route));
                let body = if operation["requestBody"].is_object() {
                    lamp.as_bytes()
                } else {
                    b""
                };
                let method = method.to_uppercase();
                // One check of a channel at a time: another one is begun when it has ended.
                let reply = eventually("no job in the way", || {
                    let reply = stage.weir().ask(&method, &asked, &[json], body);
                    let in_the_way = reply.status == 409 && reply.text().contains("job-running");
                    (!in_the_way).then_some(reply)
                });
                let fine = [200, 202].contains(&reply.status);
                assert!(fine, "{method} {asked}: {} {}", reply.status, reply.text());
                sent += 1;
            }
        }
    }
    assert!(sent > 40, "{sent} requests");
}
