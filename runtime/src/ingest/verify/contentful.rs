//! Contentful's request verification: the method, the path, the headers that the sender lists, and the
//! body, each on a line.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::super::Headers;
use super::{NotVerified, one};

/// The header that lists those which are signed.
const LIST: &str = "x-contentful-signed-headers";
/// The header with the time of signing.
pub(super) const TIMESTAMP: &str = "x-contentful-timestamp";
/// The most headers that may be signed.
const HEADERS_MAX: usize = 64;

/// What JavaScript's `encodeURIComponent` leaves as it is.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

/// What is signed. The list and the timestamp are always among the headers.
pub(super) fn signed<'a>(
    target: String,
    headers: &Headers,
    time: &str,
    body: &'a [u8],
) -> Result<Vec<Cow<'a, [u8]>>, NotVerified> {
    let list = one(headers, LIST)?;
    let mut names: Vec<String> = list
        .split(',')
        .take(HEADERS_MAX)
        .map(|name| name.trim().to_lowercase())
        .chain([LIST.to_owned(), TIMESTAMP.to_owned()])
        .filter(|name| !name.is_empty())
        .collect();
    names.sort_unstable();
    names.dedup();
    let mut lines = Vec::with_capacity(names.len());
    for name in &names {
        let value = match name.as_str() {
            LIST => names.join(","),
            TIMESTAMP => time.to_owned(),
            _ => one(headers, name)?.trim().to_owned(),
        };
        lines.push(format!("{name}:{value}"));
    }
    let head = format!("POST\n{}\n{}\n", canonical(&target), lines.join(";"));
    Ok(vec![Cow::Owned(head.into_bytes()), Cow::Borrowed(body)])
}

/// The path as Contentful's library writes it: a query is encoded as a component, and both once more as
/// a URL.
fn canonical(target: &str) -> String {
    let encoded = |text: &str| text.replace('%', "%25");
    match target.split_once('?') {
        Some((path, query)) if !query.is_empty() => {
            let query = utf8_percent_encode(query, COMPONENT).to_string();
            format!("{}?{}", encoded(path), encoded(&query))
        }
        _ => encoded(target.trim_end_matches('?')),
    }
}
