//! Secrets and headers in a configuration: reads them, and decides what is hidden when a plan is
//! shown.

use super::Outside;
use crate::config::cursor::{Field, Found};
use crate::signature::{KeyForm, Secret, SecretError, SigningKey, VerifyingKey};

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

/// Reads a Standard Webhooks key that signs: `whsec_`, or a private key `whsk_`.
pub(super) fn signing_key(field: &Field<'_>) -> Option<SigningKey> {
    key(
        field,
        |text| KeyForm::Webhook.signing(text),
        SigningKey::Shared,
    )
}

/// Reads a key that verifies and is written in this form.
pub(super) fn verifying_key(field: &Field<'_>, form: KeyForm) -> Option<VerifyingKey> {
    key(field, |text| form.verifying(text), VerifyingKey::Shared)
}

fn key<K>(
    field: &Field<'_>,
    parse: impl Fn(&str) -> Result<K, SecretError>,
    shared: fn(Secret) -> K,
) -> Option<K> {
    let bytes = match field.secret()? {
        Found::Secret(bytes) => bytes,
        Found::LeftOut => return Some(shared(Secret(Vec::new()))),
    };
    let key = parse(&String::from_utf8_lossy(&bytes));
    key.inspect_err(|wrong| {
        let help = match wrong {
            SecretError::NotBase64 | SecretError::Length(_) => {
                "make one with `echo whsec_$(openssl rand -base64 32)`"
            }
            SecretError::NotPrivate | SecretError::CannotSign => {
                "make one with `echo whsk_$(openssl genpkey -algorithm ed25519 -outform DER | tail -c 32 | base64)`"
            }
            SecretError::NotPublic | SecretError::CannotVerify => {
                "the sender publishes it; a Weir shows its own in `GET /v1/config`, at `sign` of the target"
            }
            SecretError::NotHex | SecretError::NotEncoded => {
                "copy it as the sender shows it, or say how it is written: key = \"text\", \"hex\" or \"base64\""
            }
        };
        field.complain_of_secret(wrong.to_string(), help.to_owned());
    })
    .ok()
}
