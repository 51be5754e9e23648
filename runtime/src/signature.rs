//! Secrets, HMACs, and signatures according to Standard Webhooks 1.0.0, used both for verifying events and
//! for signing deliveries: `v1` with a secret that both sides have, and `v1a` with a private key that only
//! the sender has (Ed25519).

use std::fmt;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ring::hmac::{
    Context, HMAC_SHA1_FOR_LEGACY_USE_ONLY, HMAC_SHA256, HMAC_SHA384, HMAC_SHA512, Key,
};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

/// The allowed length of a Standard Webhooks key, in bytes.
pub const WEBHOOK_SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// The length of an Ed25519 seed, and of a public key, in bytes.
const ED25519_BYTES: usize = 32;

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
    /// A private key that is not 32 or 64 bytes in base64, or whose two halves do not belong together.
    #[error(
        "this is not an Ed25519 key of Standard Webhooks: write `whsk_` followed by the 32 bytes of the seed in base64, alone or with the 32 bytes of its public key after them"
    )]
    NotPrivate,
    /// A key that should be written in hex, and is not.
    #[error("this key is not hex: two digits from 0 to f for each byte")]
    NotHex,
    /// A key that should be written in base64, and is not.
    #[error("this key is not base64 of at least one byte")]
    NotEncoded,
    /// A public key that is not 32 bytes in base64.
    #[error(
        "this is not an Ed25519 key of Standard Webhooks: write `whpk_` followed by the 32 bytes of the public key in base64"
    )]
    NotPublic,
    /// A public key where something is signed.
    #[error("`whpk_` is a public key, which cannot sign; give the `whsk_` key that belongs to it")]
    CannotSign,
    /// A private key where something is verified.
    #[error(
        "`whsk_` is the private key of a sender, which nobody else should have; give the `whpk_` key that belongs to it"
    )]
    CannotVerify,
}

/// A Standard Webhooks key that signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SigningKey {
    /// A secret that both sides have (`whsec_`, signature `v1`).
    Shared(Secret),
    /// The seed of an Ed25519 key pair (`whsk_`, signature `v1a`): 32 bytes.
    Private(Secret),
}

impl SigningKey {
    /// Decodes a key, by its prefix; without one it is a shared secret. A private key may be written as its
    /// seed alone, or followed by the public key.
    ///
    /// # Errors
    /// The reason why the text is not such a key. The text itself is not part of it.
    pub fn parse(text: &str) -> Result<SigningKey, SecretError> {
        let text = text.trim();
        if text.starts_with("whpk_") {
            return Err(SecretError::CannotSign);
        }
        let Some(private) = text.strip_prefix("whsk_") else {
            return Secret::from_webhook_secret(text).map(SigningKey::Shared);
        };
        let bytes = BASE64
            .decode(private)
            .map_err(|_| SecretError::NotPrivate)?;
        let (seed, public) = bytes
            .split_at_checked(ED25519_BYTES)
            .ok_or(SecretError::NotPrivate)?;
        let pair =
            Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| SecretError::NotPrivate)?;
        if !public.is_empty() && public != pair.public_key().as_ref() {
            return Err(SecretError::NotPrivate);
        }
        Ok(SigningKey::Private(Secret(seed.to_vec())))
    }

    /// Signs a message and returns one entry of the header `webhook-signature`. `timestamp` is in seconds
    /// since 1970, as sent in `webhook-timestamp`; `body` is the bytes as they are sent.
    pub fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let (SigningKey::Shared(secret) | SigningKey::Private(secret)) = self;
        let Some(pair) = self.pair() else {
            return sign(secret, id, timestamp, body);
        };
        let timestamp = timestamp.to_string();
        let message = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
        format!("v1a,{}", BASE64.encode(pair.sign(&message)))
    }

    /// The public key that verifies what this key signs (`whpk_…`); `None` for a shared secret.
    pub fn public(&self) -> Option<String> {
        let pair = self.pair()?;
        Some(format!("whpk_{}", BASE64.encode(pair.public_key())))
    }

    /// Everything in it that is secret, in each form in which somebody may write it.
    pub(crate) fn secrets(&self) -> Vec<Secret> {
        let (SigningKey::Shared(secret) | SigningKey::Private(secret)) = self;
        let whole = self
            .pair()
            .map(|pair| Secret([&secret.0, pair.public_key().as_ref()].concat()));
        std::iter::once(secret.clone()).chain(whole).collect()
    }

    fn pair(&self) -> Option<Ed25519KeyPair> {
        match self {
            SigningKey::Shared(_) => None,
            SigningKey::Private(seed) => Ed25519KeyPair::from_seed_unchecked(&seed.0).ok(),
        }
    }
}

/// A Standard Webhooks key that verifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerifyingKey {
    /// A secret that both sides have (`whsec_`, signature `v1`).
    Shared(Secret),
    /// The public key of a sender (`whpk_`, signature `v1a`): 32 bytes.
    Public(Vec<u8>),
}

impl VerifyingKey {
    /// Decodes a key, by its prefix; without one it is a shared secret.
    ///
    /// # Errors
    /// The reason why the text is not such a key. The text itself is not part of it.
    pub fn parse(text: &str) -> Result<VerifyingKey, SecretError> {
        let text = text.trim();
        if text.starts_with("whsk_") {
            return Err(SecretError::CannotVerify);
        }
        let Some(public) = text.strip_prefix("whpk_") else {
            return Secret::from_webhook_secret(text).map(VerifyingKey::Shared);
        };
        match BASE64.decode(public) {
            Ok(bytes) if bytes.len() == ED25519_BYTES => Ok(VerifyingKey::Public(bytes)),
            _ => Err(SecretError::NotPublic),
        }
    }
}

/// How a key is written in a configuration, or handed out by a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyForm {
    /// Its bytes are those of the text.
    Text,
    /// In hex.
    Hex,
    /// In base64.
    Base64,
    /// As Standard Webhooks write keys: `whsec_`, `whsk_`, `whpk_`.
    Webhook,
}

impl KeyForm {
    /// Reads a key that verifies.
    ///
    /// # Errors
    /// The reason why the text is not such a key. The text itself is not part of it.
    pub fn verifying(self, text: &str) -> Result<VerifyingKey, SecretError> {
        match self {
            KeyForm::Webhook => VerifyingKey::parse(text),
            _ => self.shared(text).map(VerifyingKey::Shared),
        }
    }

    /// Reads a key that signs.
    ///
    /// # Errors
    /// The reason why the text is not such a key. The text itself is not part of it.
    pub fn signing(self, text: &str) -> Result<SigningKey, SecretError> {
        match self {
            KeyForm::Webhook => SigningKey::parse(text),
            _ => self.shared(text).map(SigningKey::Shared),
        }
    }

    fn shared(self, text: &str) -> Result<Secret, SecretError> {
        let bytes = match self {
            KeyForm::Text => Ok(text.as_bytes().to_vec()),
            KeyForm::Hex => hex::decode(text.trim()).map_err(|_| SecretError::NotHex),
            KeyForm::Base64 => BASE64
                .decode(text.trim())
                .map_err(|_| SecretError::NotEncoded),
            KeyForm::Webhook => Secret::from_webhook_secret(text).map(|secret| secret.0),
        }?;
        match (self, bytes.is_empty()) {
            (KeyForm::Hex, true) => Err(SecretError::NotHex),
            (KeyForm::Base64, true) => Err(SecretError::NotEncoded),
            _ => Ok(Secret(bytes)),
        }
    }
}

/// The hash of an HMAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// SHA-1, which no new sender should use; as part of an HMAC it is not broken.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// HMAC over the parts, in order.
pub(crate) fn hmac(algorithm: Algorithm, secret: &Secret, parts: &[&[u8]]) -> Vec<u8> {
    let algorithm = match algorithm {
        Algorithm::Sha1 => HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        Algorithm::Sha256 => HMAC_SHA256,
        Algorithm::Sha384 => HMAC_SHA384,
        Algorithm::Sha512 => HMAC_SHA512,
    };
    let mut context = Context::with_key(&Key::new(algorithm, &secret.0));
    parts.iter().for_each(|part| context.update(part));
    context.sign().as_ref().to_vec()
}

/// Whether an Ed25519 signature of this message was made with the private key of this public key.
pub(crate) fn is_signed(public: &[u8], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, public)
        .verify(message, signature)
        .is_ok()
}

/// Signs a message according to Standard Webhooks 1.0.0 and returns the value of the header
/// `webhook-signature`. `timestamp` is in seconds since 1970, as sent in `webhook-timestamp`.
pub fn sign(secret: &Secret, id: &str, timestamp: u64, body: &[u8]) -> String {
    let timestamp = timestamp.to_string();
    format!(
        "v1,{}",
        BASE64.encode(hmac(
            Algorithm::Sha256,
            secret,
            &[id.as_bytes(), b".", timestamp.as_bytes(), b".", body]
        ))
    )
}

/// Bytes in base64, with padding.
pub(crate) fn in_base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
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

    const PRIVATE: &str = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
    const PUBLIC: &str = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=";

    // The key pair and the signature with which the standard's first implementation is tested.
    #[test]
    fn a_private_key_signs_as_the_first_implementation_of_the_standard_does() {
        let seed_alone = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc=";
        for written in [PRIVATE, seed_alone] {
            let key = SigningKey::parse(written).expect("a key");
            let signed = key.sign(
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                br#"{"test": 2432232314}"#,
            );
            assert_eq!(
                signed,
                "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="
            );
            assert_eq!(key.public().as_deref(), Some(PUBLIC));
            assert!(!format!("{key:?}").contains("118"), "{key:?}");
        }
    }

    // RFC 2202 and RFC 4231, test case 2.
    #[test]
    fn an_hmac_is_the_one_of_its_hash() {
        let made = |algorithm| {
            let secret = Secret(b"Jefe".to_vec());
            hex::encode(hmac(
                algorithm,
                &secret,
                &[b"what do ya want ", b"for nothing?"],
            ))
        };
        for (algorithm, expected) in [
            (Algorithm::Sha1, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
            (
                Algorithm::Sha256,
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                Algorithm::Sha384,
                "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649",
            ),
            (
                Algorithm::Sha512,
                "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
            ),
        ] {
            assert_eq!(made(algorithm), expected);
        }
    }

    #[test]
    fn a_key_is_read_in_the_form_in_which_its_sender_hands_it_out() {
        let read = |form: KeyForm, text: &str| match form.verifying(text) {
            Ok(VerifyingKey::Shared(secret)) => Ok(secret.0),
            Ok(VerifyingKey::Public(_)) => Ok(Vec::new()),
            Err(wrong) => Err(wrong),
        };
        assert_eq!(read(KeyForm::Text, "whsec_AA"), Ok(b"whsec_AA".to_vec()));
        assert_eq!(read(KeyForm::Hex, " 0aFF\n"), Ok(vec![10, 255]));
        assert_eq!(read(KeyForm::Base64, "Cv8="), Ok(vec![10, 255]));
        for wrong in ["0aF", "", "xy"] {
            assert_eq!(read(KeyForm::Hex, wrong), Err(SecretError::NotHex));
        }
        for wrong in ["", "C"] {
            assert_eq!(read(KeyForm::Base64, wrong), Err(SecretError::NotEncoded));
        }
        assert_eq!(
            read(KeyForm::Webhook, "whsec_AAAA"),
            Err(SecretError::Length(3))
        );
    }

    #[test]
    fn a_key_says_what_is_wrong_with_it_and_which_one_is_wanted() {
        let signs = |text: &str| SigningKey::parse(text).map(drop);
        let verifies = |text: &str| VerifyingKey::parse(text).map(drop);
        let other_half = PRIVATE.replace("VKIDij2", "VKIDij3");
        for (found, expected) in [
            (signs(PUBLIC), SecretError::CannotSign),
            (signs("whsk_AAAA"), SecretError::NotPrivate),
            (signs("whsk_!"), SecretError::NotPrivate),
            (signs(&other_half), SecretError::NotPrivate),
            (verifies(PRIVATE), SecretError::CannotVerify),
            (verifies("whpk_AAAA"), SecretError::NotPublic),
        ] {
            assert_eq!(found, Err(expected));
        }
        assert_eq!((signs(PRIVATE), verifies(PUBLIC)), (Ok(()), Ok(())));
    }
}
