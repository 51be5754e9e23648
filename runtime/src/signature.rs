//! Secrets, and signatures according to Standard Webhooks 1.0.0, used both for verifying events and
//! for signing deliveries.

use std::fmt;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The allowed length of a Standard Webhooks key, in bytes.
pub const WEBHOOK_SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Base64 as it is used for signatures in practice: the standard alphabet, with or without padding.
pub(crate) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A secret read from the environment or a file; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl Secret {
    /// Decodes a Standard Webhooks key: 24 to 64 bytes in base64, with or without the prefix
    /// `whsec_`.
    ///
    /// # Errors
    /// The reason why the text is not such a key. The text itself is not part of it.
    pub fn from_webhook_secret(text: &str) -> Result<Secret, SecretError> {
        let text = text.trim();
        if text.starts_with("whsk_") || text.starts_with("whpk_") {
            return Err(SecretError::Asymmetric);
        }
        let bytes = BASE64
            .decode(text.strip_prefix("whsec_").unwrap_or(text))
            .map_err(|_| SecretError::NotBase64)?;
        if !WEBHOOK_SECRET_BYTES.contains(&bytes.len()) {
            return Err(SecretError::Length(bytes.len()));
        }
        Ok(Secret(bytes))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// The reason why a text is not a Standard Webhooks key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Not base64.
    #[error(
        "this is not a Standard Webhooks secret: write `whsec_` followed by 24 to 64 bytes in base64"
    )]
    NotBase64,
    /// The key has this many bytes instead of 24 to 64.
    #[error("a Standard Webhooks secret has 24 to 64 bytes once decoded, but this one has {0}")]
    Length(usize),
    /// The key belongs to an asymmetric signature (`v1a`).
    #[error(
        "`whsk_` and `whpk_` are keys of asymmetric signatures, which Weir does not use; give a `whsec_` secret"
    )]
    Asymmetric,
}

/// Signs a message according to Standard Webhooks 1.0.0 and returns the value of the header
/// `webhook-signature`. `timestamp` is in seconds since 1970, as sent in `webhook-timestamp`.
pub fn sign(secret: &Secret, id: &str, timestamp: u64, body: &[u8]) -> String {
    let timestamp = timestamp.to_string();
    format!(
        "v1,{}",
        BASE64.encode(mac(
            secret,
            &[id.as_bytes(), b".", timestamp.as_bytes(), b".", body]
        ))
    )
}

/// Encodes a Standard Webhooks key, without the prefix `whsec_`.
pub(crate) fn in_base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// HMAC-SHA256 over the parts, in order.
pub(crate) fn mac(secret: &Secret, parts: &[&[u8]]) -> [u8; 32] {
    // HMAC takes keys of any length; the error type exists for other constructions.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&secret.0) else {
        return [0; 32];
    };
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_the_one_of_the_specification() {
        let secret = Secret::from_webhook_secret("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed = sign(
            &secret,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
