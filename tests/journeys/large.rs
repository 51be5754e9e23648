//! Requests up to the documented bounds are accepted whole.

use serde_json::json;

use crate::support::{Stage, change};

/// More events than may wait for the writer at once, and fewer than a request may have.
const EVENTS: usize = 30_000;

// A full catalogue was sent as one body of lines. Its first 20,000 events filled the queue before the
// writer, the rest was refused as busy with 429, and each repetition ended in the same way.
#[test]
fn a_request_with_more_events_than_may_wait_is_accepted_whole() {
    let stage = Stage::catalog();
    let lines: Vec<String> = (0..EVENTS)
        .map(|number| change(&format!("p{number}"), "content", json!(number)).to_string())
        .collect();
    let reply = stage.send(
        "pim",
        &[("content-type", "application/x-ndjson")],
        lines.join("\n").as_bytes(),
    );
    assert_eq!(reply.status, 202, "{}", reply.text());
    assert_eq!(reply.json()["events"]["accepted"], json!(EVENTS));
    let last = format!("p{}", EVENTS - 1);
    assert_eq!(stage.entity(&last)["facets"][0]["value"], json!(EVENTS - 1));
}
