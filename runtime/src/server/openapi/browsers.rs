//! The description of what is there for browsers: the console, signing in, and the stream.

use axum::http::Method;
use schemars::SchemaGenerator;
use serde_json::{Value, json};

use super::super::views::SessionView;
use super::{Operation, success};

/// The operations.
pub(super) fn operations(schemas: &mut SchemaGenerator) -> Vec<Operation> {
    const GET: Method = Method::GET;
    let text = |media: &[&str], description: &str| {
        let content: serde_json::Map<String, Value> = media
            .iter()
            .map(|media| {
                (
                    (*media).to_owned(),
                    json!({ "schema": { "type": "string" } }),
                )
            })
            .collect();
        json!({ "description": description, "content": content })
    };
    let files = [
        "text/css; charset=utf-8",
        "text/javascript; charset=utf-8",
        "image/svg+xml",
        "text/html; charset=utf-8",
        "application/octet-stream",
    ];
    let sign_in = Operation::new(
        Method::POST,
        "/v1/session",
        "signIn",
        "Exchanges a token for a session, whose id is set as a cookie. It ends with its token, after 12 hours, and when Weir stops.",
        success::<SessionView>(schemas, "Signed in."),
    )
    .may_answer(&[401, 408, 413, 503]);
    let form = json!({
        "type": "object",
        "properties": { "token": { "type": "string", "minLength": 1 } },
        "required": ["token"],
        "additionalProperties": false,
    });
    let content = json!({ "application/x-www-form-urlencoded": { "schema": form } });
    vec![
        Operation::new(
            GET,
            "/",
            "console",
            "The console, a page. Its query is the page's own; the page asks the other routes.",
            text(
                &["text/html; charset=utf-8"],
                "The page. 304 if `If-None-Match` has its entity tag.",
            ),
        ),
        Operation::new(
            GET,
            "/console/{digest}/{file}",
            "consoleFile",
            "A file of the console. The digest is that of all files, so that they never change.",
            text(&files, "The file."),
        ),
        Operation::new(
            GET,
            "/v1/session",
            "session",
            "Whether a token is needed here, and who is signed in.",
            success::<SessionView>(schemas, "Both."),
        ),
        Operation {
            body: Some(json!({ "required": true, "content": content })),
            ..sign_in
        },
        Operation::new(
            Method::DELETE,
            "/v1/session",
            "signOut",
            "Ends the session of the request, if it has one.",
            success::<SessionView>(schemas, "It has ended."),
        ),
        Operation::new(
            GET,
            "/v1/stream",
            "stream",
            "Server-sent events without an end. `snapshot`: `boot`, `build`, `time`, and under `weir`, `sources`, `lanes`, `channels` and `jobs` the fields of \
             each, as the other routes have them, of channels those that are shown of all at once; members of members are joined by a dot, whole numbers are texts, and there are times in place \
             of ages and counts in place of rates. `changes`: the fields that have changed since the last event, null for what is gone. `beat`: nothing was said for 10 s. \
             `bye`: the token or session has ended, `why` is the code of the problem. Texts longer than 300 bytes are cut. \
             503: there are as many streams as there may be.",
            text(&["text/event-stream"], "The events."),
        ),
    ]
}
