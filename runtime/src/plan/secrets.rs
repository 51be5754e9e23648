//! Secrets and headers in a configuration: reads them, and decides what is hidden when a plan is
//! shown.

use super::Outside;
use crate::config::cursor::{Field, Found};
use crate::signature::Secret;

/// Written in place of a secret.
pub(super) const SECRET: &str = "[secret]";

/// A shorter hidden text occurs in every sentence.
pub(super) const HIDDEN_BYTES_MIN: usize = 6;

impl Outside {
    /// Whether a text is or contains a hidden text. Very short hidden texts occur everywhere, so
    /// they hide only themselves.
    pub(super) fn is_in(&self, text: &str) -> bool {
        let holds = |hidden: &String| {
            text == hidden || (hidden.len() >= HIDDEN_BYTES_MIN && text.contains(hidden))
        };
        self.0.iter().any(holds)
    }
}

/// Whether a text can be the name of a header: a token of RFC 9110.
pub(super) fn is_header(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Reads a secret without further checks.
pub(super) fn plain(field: &Field<'_>) -> Option<Secret> {
    match field.secret()? {
        Found::Secret(bytes) => Some(Secret(bytes)),
        Found::LeftOut => Some(Secret(Vec::new())),
    }
}

/// Reads the key of a Standard Webhooks secret: 24 to 64 bytes in base64, with or without the
/// prefix `whsec_`.
pub(super) fn standard_webhooks(field: &Field<'_>) -> Option<Secret> {
    let bytes = match field.secret()? {
        Found::Secret(bytes) => bytes,
        Found::LeftOut => return Some(Secret(Vec::new())),
    };
    let key = Secret::from_webhook_secret(&String::from_utf8_lossy(&bytes));
    key.inspect_err(|wrong| {
        field.complain_of_secret(
            wrong.to_string(),
            "make one with `echo whsec_$(openssl rand -base64 32)`".to_owned(),
        )
    })
    .ok()
}
