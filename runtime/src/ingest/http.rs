//! The HTTP transport: turns a request's head into the neutral form, and a rejection into a status.
//!
//! No other file of this module depends on HTTP. The sender's proof is checked later, in
//! [`super::Source::accept`], on the raw bytes and on the headers. Therefore all headers are copied
//! here, each value as it was sent.

use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;

use super::{Headers, Incoming, Rejection, Source, verify};
use crate::budget::Reservation;
use crate::model::{Lane, Timestamp};

/// A request to a source, read completely; `target` is its path and query, and `memory` holds the reservation
/// for its body.
pub fn incoming(
    target: &str,
    headers: &HeaderMap,
    body: Bytes,
    lane: Option<Lane>,
    now: Timestamp,
    memory: Reservation,
) -> Incoming {
    Incoming {
        headers: neutral(headers).at(target),
        body,
        lane,
        receipt: false,
        now,
        memory,
    }
}

/// Checks what the headers alone can prove, before the body is there.
///
/// # Errors
/// `NotVerified`: the sender cannot be verified, whatever the body is.
pub fn admit(source: &Source, target: &str, headers: &HeaderMap) -> Result<(), Rejection> {
    Ok(verify::verify_head(
        &source.options().verify,
        &neutral(headers).at(target),
    )?)
}

/// The headers in the neutral form. The HTTP library provides names in lower case.
pub fn neutral(headers: &HeaderMap) -> Headers {
    headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect()
}

/// The status that tells the sender what to do.
pub fn status(rejection: &Rejection) -> StatusCode {
    match rejection {
        Rejection::Malformed { .. } => StatusCode::BAD_REQUEST,
        Rejection::NotVerified(_) => StatusCode::UNAUTHORIZED,
        Rejection::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Rejection::UnsupportedMediaType { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Rejection::Busy { .. } => StatusCode::TOO_MANY_REQUESTS,
        Rejection::NoRoom { .. } => StatusCode::INSUFFICIENT_STORAGE,
        Rejection::Overloaded { .. }
        | Rejection::QuarantineFull { .. }
        | Rejection::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
    }
}
