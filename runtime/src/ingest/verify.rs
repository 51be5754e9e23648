//! Verifies senders, on the raw bytes as received, before anything is parsed or decompressed.
//!
//! Pure functions: the time is an argument, secrets are compared in constant time, and an empty
//! secret matches nothing. A signature is described by a [`Scheme`]; the schemes of known senders are
//! in [`presets`].

mod adyen;
mod contentful;
mod login;
pub mod presets;
mod scheme;
mod twilio;

pub use scheme::{Content, Encoding, Piece, Scheme, Stamp, Unit, in_template, template};

use subtle::ConstantTimeEq;

use super::Headers;
use crate::model::Timestamp;
use crate::signature::Secret;

/// How a sender is verified. There may be several valid secrets, so that one can be rotated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Options {
    /// Not at all; allowed only on loopback.
    None,
    /// `Authorization: Bearer …`.
    Bearer {
        /// Accepted tokens.
        tokens: Vec<Secret>,
    },
    /// A token in a header, or in the query of the URL.
    Token {
        /// Where it is.
        place: Place,
        /// Accepted tokens.
        tokens: Vec<Secret>,
    },
    /// `Authorization: Basic …`.
    Basic {
        /// Accepted logins: user, colon, password.
        logins: Vec<Secret>,
    },
    /// A signature.
    Signed(Box<Scheme>),
}

/// Where a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a header, in lower case.
    Header(String),
    /// In a parameter of the query.
    Query(String),
}

impl Options {
    /// The kind, as `verify` of a source names it.
    pub fn kind(&self) -> &'static str {
        match self {
            Options::None => "none",
            Options::Bearer { .. } => "bearer",
            Options::Token { .. } => "token",
            Options::Basic { .. } => "basic",
            Options::Signed(scheme) => scheme.kind,
        }
    }

    /// The name of the proof in `WWW-Authenticate`, which every 401 has. `Bearer` and `Basic` are
    /// registered names; the others tell a sender that no token helps.
    pub fn scheme(&self) -> &'static str {
        match self {
            Options::None | Options::Bearer { .. } => "Bearer",
            Options::Token { .. } => "Token",
            // Amazon SNS sends its login only if it is asked for in this form.
            Options::Basic { .. } => "Basic realm=\"weir\"",
            Options::Signed(scheme) => scheme.proof(),
        }
    }

    /// Whether this parameter of the query belongs to the proof.
    pub fn reads(&self, parameter: &str) -> bool {
        match self {
            Options::Token {
                place: Place::Query(name),
                ..
            } => name == parameter,
            Options::Signed(scheme) => scheme.reads(parameter),
            _ => false,
        }
    }
}

/// The sender could not be verified. The messages help an honest sender to correct its
/// request and tell a dishonest one nothing new.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotVerified {
    /// The header with the proof is missing, or occurs twice.
    #[error("the request needs exactly one header `{0}`")]
    Missing(String),
    /// The parameter with the proof is missing, or occurs twice.
    #[error("the URL needs exactly one parameter `{0}`")]
    MissingParameter(String),
    /// The header cannot be parsed.
    #[error("the header `{header}` cannot be read: {expected}")]
    Unreadable {
        /// The header.
        header: String,
        /// The expected form.
        expected: String,
    },
    /// The proof is in the body, and cannot be found there.
    #[error("the body has no proof of its sender: {0}")]
    InBody(&'static str),
    /// The timestamp is too old, or in the future.
    #[error(
        "the timestamp in `{header}` is {seconds} s {direction}; at most {tolerance} s are tolerated, check the clocks and sign each attempt again"
    )]
    Stale {
        /// The header with the timestamp.
        header: String,
        /// The difference, in seconds.
        seconds: u64,
        /// The most that is tolerated, in seconds.
        tolerance: u64,
        /// `in the past` or `in the future`.
        direction: &'static str,
    },
    /// The proof matches no secret of this source.
    #[error("{0}")]
    Mismatch(&'static str),
}

/// Verifies that a request comes from a sender that the source trusts; `body` is the bytes as
/// received.
///
/// # Errors
/// The missing or wrong proof; the request must not be processed any further.
pub fn verify(
    options: &Options,
    headers: &Headers,
    body: &[u8],
    now: Timestamp,
) -> Result<(), NotVerified> {
    match options {
        Options::Signed(scheme) => scheme.verify(headers, body, now),
        _ => verify_head(options, headers),
    }
}

/// Verifies what the head of a request alone can prove: a token or a login, and that a signature is
/// there.
///
/// # Errors
/// The missing or wrong proof; whatever the body is, [`verify`] fails too.
pub fn verify_head(options: &Options, headers: &Headers) -> Result<(), NotVerified> {
    match options {
        Options::None => Ok(()),
        Options::Bearer { tokens } => login::bearer(tokens, headers),
        Options::Token { place, tokens } => login::token(place, tokens, headers),
        Options::Basic { logins } => login::basic(logins, headers),
        Options::Signed(scheme) => scheme.verify_head(headers),
    }
}

const MISMATCH: &str = "the signature does not match the body: sign the raw bytes as they are sent, with a secret of this source";

/// Compares with every secret, so that the time does not reveal which one matched; empty ones match
/// nothing.
fn any<'a>(
    secrets: impl IntoIterator<Item = &'a Secret>,
    matches: impl Fn(&Secret) -> bool,
) -> bool {
    secrets
        .into_iter()
        .filter(|secret| !secret.0.is_empty())
        .fold(false, |found, secret| found | matches(secret))
}

/// Whether a text is one of these secrets.
pub(super) fn is_one_of(secrets: &[Secret], text: &str) -> bool {
    any(secrets, |secret| equal(&secret.0, text.as_bytes()))
}

fn equal(left: &[u8], right: &[u8]) -> bool {
    left.ct_eq(right).into()
}

/// The only header of that name, as text; a proof that occurs twice is rejected.
fn one<'a>(headers: &'a Headers, name: &str) -> Result<&'a str, NotVerified> {
    let mut values = headers.get_all(name);
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(NotVerified::Missing(name.to_owned()));
    };
    let plain = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~');
    let text = std::str::from_utf8(value)
        .ok()
        .filter(|_| value.iter().all(plain));
    text.ok_or_else(|| NotVerified::Unreadable {
        header: name.to_owned(),
        expected: "plain ASCII".to_owned(),
    })
}

/// The value of a parameter of the query; `None` if it is not there.
///
/// # Errors
/// It is there twice.
pub(super) fn parameter(target: &str, name: &str) -> Result<Option<String>, NotVerified> {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let mut values =
        url::form_urlencoded::parse(query.as_bytes()).filter(|(parameter, _)| parameter == name);
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(NotVerified::MissingParameter(name.to_owned())),
        (value, None) => Ok(value.map(|(_, value)| value.into_owned())),
    }
}

#[cfg(test)]
mod tests;
