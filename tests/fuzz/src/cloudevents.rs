//! CloudEvents in binary mode: headers that anybody can send.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use weir::inside::budget::Budget;
use weir::inside::ingest::split::Split;
use weir::inside::ingest::{Options, envelope, form, http, naming, verify};

/// An accepted event has everything that a CloudEvent needs, and its attributes have no control
/// characters and are within their maximum number.
///
/// The input is header lines, an empty line, and the body.
pub fn headers(input: &[u8]) {
    let end = input
        .windows(2)
        .position(|pair| pair == b"\n\n")
        .unwrap_or(input.len());
    let (head, body) = (&input[..end], input.get(end + 2..).unwrap_or_default());
    let mut headers = HeaderMap::new();
    for line in head.split(|byte| *byte == b'\n').take(400) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (name, value) = (
            HeaderName::from_bytes(&line[..colon]),
            HeaderValue::from_bytes(line[colon + 1..].trim_ascii()),
        );
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let options = Options {
        name: "pim".into(),
        owner: "pim".into(),
        split: Split::Whole,
        headers: vec!["x-*".into(), "Authorization".into()],
        naming: naming::Naming::default(),
        verify: verify::Options::None,
        handshake: None,
        quiet: None,
        body_bytes_max: 1 << 20,
        encoding: None,
        form: form::Form::default(),
        unreadable: false,
    };
    let memory = Budget::new(256 << 20).reservation("erp");
    let binary = ["ce-specversion", "ce-id", "ce-source", "ce-type"]
        .iter()
        .any(|name| headers.contains_key(*name));
    let Ok(opened) = envelope::open(
        &options,
        false,
        &http::neutral(&headers),
        body.to_vec().into(),
        &memory,
    ) else {
        return;
    };
    let structured = headers
        .get("content-type")
        .is_some_and(|value| value.as_bytes().starts_with(b"application/"));
    for event in opened.events.iter().filter(|_| binary && !structured) {
        assert!(
            ![&event.id, &event.origin, &event.event_type]
                .iter()
                .any(|text| text.is_empty()),
            "{event:?}"
        );
        let extensions = event
            .attributes
            .iter()
            .filter(|(name, _)| !name.starts_with("x-") && name != "authorization");
        let mut count = 0;
        for (_, value) in extensions {
            assert!(!value.chars().any(char::is_control), "{event:?}");
            count += 1;
        }
        assert!(count <= envelope::ATTRIBUTES_MAX, "{count}");
    }
}
