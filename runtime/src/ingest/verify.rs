//! Verifies senders, on the raw bytes as received, before anything is parsed or decompressed.
//!
//! Pure functions: the time is an argument, secrets are compared in constant time, and an empty
//! secret matches nothing.

use base64::Engine;
use subtle::ConstantTimeEq;

use super::Headers;
use crate::model::Timestamp;
use crate::signature::{BASE64, Secret, VerifyingKey, is_signed, mac};

/// Maximum difference between `webhook-timestamp` and our clock, in either direction: the five
/// minutes of Standard Webhooks. It prevents the replay of a recorded request.
pub const TOLERANCE_SECONDS: u64 = 300;
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
    /// An HMAC-SHA256 of the raw body in a header.
    Hmac {
        /// Header in lower case, for example `x-hub-signature-256`.
        header: String,
        /// The prefix of the signature, for example `sha256=`.
        prefix: String,
        /// How the signature is written.
        encoding: Encoding,
        /// Accepted keys.
        secrets: Vec<Secret>,
    },
    /// Standard Webhooks 1.0.0: `webhook-id`, `webhook-timestamp`, `webhook-signature`; five
    /// minutes of tolerance.
    StandardWebhooks {
        /// Accepted keys, already decoded from their `whsec_` or `whpk_` form.
        keys: Vec<VerifyingKey>,
    },
}

impl Options {
    /// The name of the proof in `WWW-Authenticate`, which every 401 has. Only `Bearer` is a registered
    /// name; the others tell a sender that no token helps.
    pub fn scheme(&self) -> &'static str {
        match self {
            Options::None | Options::Bearer { .. } => "Bearer",
            Options::Hmac { .. } => "HMAC-SHA256",
            Options::StandardWebhooks { .. } => "Standard-Webhooks",
        }
    }

    /// As Shopify signs: base64 in `X-Shopify-Hmac-Sha256`.
    pub fn shopify(secrets: Vec<Secret>) -> Options {
        Options::Hmac {
            header: "x-shopify-hmac-sha256".into(),
            prefix: String::new(),
            encoding: Encoding::Base64,
            secrets,
        }
    }

    /// As GitHub signs: hex after `sha256=` in `X-Hub-Signature-256`.
    pub fn github(secrets: Vec<Secret>) -> Options {
        Options::Hmac {
            header: "x-hub-signature-256".into(),
            prefix: "sha256=".into(),
            encoding: Encoding::Hex,
            secrets,
        }
    }
}

/// How a signature is written in its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Lower or upper case.
    Hex,
    /// Standard alphabet with padding.
    Base64,
}

/// The sender could not be verified. The messages help an honest sender to correct its
/// request and tell a dishonest one nothing new.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotVerified {
    /// The header with the proof is missing, or occurs twice.
    #[error("the request needs exactly one header `{0}`")]
    Missing(String),
    /// The header cannot be parsed.
    #[error("the header `{header}` cannot be read: {expected}")]
    Unreadable {
        /// The header.
        header: String,
        /// The expected form.
        expected: &'static str,
    },
    /// The timestamp is too old, or in the future.
    #[error(
        "`webhook-timestamp` is {seconds} s {direction}; at most {TOLERANCE_SECONDS} s are tolerated, check the clocks and sign each attempt again"
    )]
    Stale {
        /// The difference, in seconds.
        seconds: u64,
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
        Options::None => Ok(()),
        Options::Bearer { tokens } => bearer(tokens, headers),
        Options::Hmac {
            header,
            prefix,
            encoding,
            secrets,
        } => hmac_header(header, prefix, *encoding, secrets, headers, body),
        Options::StandardWebhooks { keys } => standard_webhooks(keys, headers, body, now),
    }
}

/// Verifies what the headers alone can prove: a bearer token, and that a signature is there.
///
/// # Errors
/// The missing or wrong proof; whatever the body is, [`verify`] fails too.
pub fn verify_head(options: &Options, headers: &Headers) -> Result<(), NotVerified> {
    let needed: &[&str] = match options {
        Options::None => &[],
        Options::Bearer { tokens } => return bearer(tokens, headers),
        Options::Hmac { header, .. } => &[header],
        Options::StandardWebhooks { .. } => {
            &["webhook-id", "webhook-timestamp", "webhook-signature"]
        }
    };
    needed
        .iter()
        .try_for_each(|name| one(headers, name).map(drop))
}

fn bearer(tokens: &[Secret], headers: &Headers) -> Result<(), NotVerified> {
    let value = one(headers, "authorization")?;
    let expected = "write `Authorization: Bearer TOKEN`";
    let unreadable = || NotVerified::Unreadable {
        header: "authorization".into(),
        expected,
    };
    let (scheme, token) = value.split_once(' ').ok_or_else(unreadable)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(unreadable());
    }
    if any(tokens, |secret| equal(&secret.0, token.trim().as_bytes())) {
        return Ok(());
    }
    Err(NotVerified::Mismatch(
        "the bearer token is none of this source's tokens",
    ))
}

fn hmac_header(
    header: &str,
    prefix: &str,
    encoding: Encoding,
    secrets: &[Secret],
    headers: &Headers,
    body: &[u8],
) -> Result<(), NotVerified> {
    let value = one(headers, header)?;
    let unreadable = |expected| NotVerified::Unreadable {
        header: header.to_owned(),
        expected,
    };
    let written = value
        .trim()
        .strip_prefix(prefix)
        .ok_or_else(|| unreadable("the signature must follow the configured prefix"))?;
    let given = match encoding {
        Encoding::Hex => {
            hex::decode(written).map_err(|_| unreadable("the signature must be hex"))?
        }
        Encoding::Base64 => BASE64
            .decode(written)
            .map_err(|_| unreadable("the signature must be base64"))?,
    };
    if any(secrets, |secret| equal(&mac(secret, &[body]), &given)) {
        return Ok(());
    }
    Err(NotVerified::Mismatch(MISMATCH))
}

fn standard_webhooks(
    keys: &[VerifyingKey],
    headers: &Headers,
    body: &[u8],
    now: Timestamp,
) -> Result<(), NotVerified> {
    let id = one(headers, "webhook-id")?;
    let written = one(headers, "webhook-timestamp")?.trim();
    let signatures = one(headers, "webhook-signature")?;
    let timestamp: u64 = written.parse().map_err(|_| NotVerified::Unreadable {
        header: "webhook-timestamp".into(),
        expected: "seconds since 1970 as a whole number",
    })?;
    let (now, direction) = (
        now.0 / 1000,
        if timestamp > now.0 / 1000 {
            "in the future"
        } else {
            "in the past"
        },
    );
    if now.abs_diff(timestamp) > TOLERANCE_SECONDS {
        return Err(NotVerified::Stale {
            seconds: now.abs_diff(timestamp),
            direction,
        });
    }
    // The timestamp is signed as it was written, so a leading zero does not make an honest
    // signature wrong.
    let content = [
        id.as_bytes(),
        b".".as_slice(),
        written.as_bytes(),
        b".",
        body,
    ];
    // The list has one entry for each key in rotation; other versions may be listed too and are ignored.
    // The bounds limit the number of hashes for a header full of guesses; the body is hashed once for each
    // `v1a`.
    let given = |version: &str, most| -> Vec<Vec<u8>> {
        signatures
            .split_ascii_whitespace()
            .filter_map(|entry| BASE64.decode(entry.strip_prefix(version)?).ok())
            .take(most)
            .collect()
    };
    let (shared, private) = (given("v1,", 16), given("v1a,", 4));
    if shared.is_empty() && private.is_empty() {
        return Err(NotVerified::Unreadable {
            header: "webhook-signature".into(),
            expected: "a list with at least one `v1,BASE64` or `v1a,BASE64`",
        });
    }
    let secrets = keys.iter().filter_map(|key| match key {
        VerifyingKey::Shared(secret) => Some(secret),
        VerifyingKey::Public(_) => None,
    });
    let by_secret = any(secrets, |secret| {
        let expected = mac(secret, &content);
        shared
            .iter()
            .fold(false, |found, given| found | equal(&expected, given))
    });
    let by_public_key = || {
        let mut public = keys.iter().filter_map(|key| match key {
            VerifyingKey::Shared(_) => None,
            VerifyingKey::Public(public) => Some(public),
        });
        // Nothing here is secret, so the time may reveal which key matched.
        public.any(|public| {
            !private.is_empty() && {
                let message = content.concat();
                private
                    .iter()
                    .any(|given| is_signed(public, &message, given))
            }
        })
    };
    if by_secret || by_public_key() {
        Ok(())
    } else {
        Err(NotVerified::Mismatch(MISMATCH))
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
        expected: "plain ASCII",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::{SecretError, SigningKey, sign};

    const ID: &str = "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk";
    const TIME: u64 = 1_649_367_553;
    const BODY: &[u8] = br#"{"email":"test@example.com","username":"test_user"}"#;
    const SIGNATURE: &str = "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=";

    fn published() -> Secret {
        Secret::from_webhook_secret("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").unwrap()
    }

    fn headers(pairs: &[(&'static str, &str)]) -> Headers {
        pairs.iter().copied().collect()
    }

    /// Verifies a signed request of that age, with that list of signatures, against those secrets.
    fn check_webhook(
        secrets: Vec<Secret>,
        signatures: &str,
        clock: u64,
        body: &[u8],
    ) -> Result<(), NotVerified> {
        let headers = headers(&[
            ("webhook-id", ID),
            ("webhook-timestamp", &TIME.to_string()),
            ("webhook-signature", signatures),
        ]);
        verify(
            &Options::StandardWebhooks {
                keys: secrets.into_iter().map(VerifyingKey::Shared).collect(),
            },
            &headers,
            body,
            Timestamp(clock * 1000),
        )
    }

    #[test]
    fn the_published_vector_is_made_and_taken() {
        assert_eq!(sign(&published(), ID, TIME, BODY), SIGNATURE);
        assert_eq!(
            check_webhook(vec![published()], SIGNATURE, TIME, BODY),
            Ok(())
        );
    }

    #[test]
    fn a_secret_is_rotated_from_either_side() {
        let other = Secret(vec![7; 32]);
        let both = format!(
            "v1a,AAAA {} {SIGNATURE}",
            sign(&other, "another", TIME, BODY)
        );
        assert_eq!(
            check_webhook(vec![other.clone(), published()], SIGNATURE, TIME, BODY),
            Ok(()),
            "two secrets here"
        );
        assert_eq!(
            check_webhook(vec![published()], &both, TIME, BODY),
            Ok(()),
            "several signatures sent"
        );
        assert!(matches!(
            check_webhook(vec![other], SIGNATURE, TIME, BODY),
            Err(NotVerified::Mismatch(_))
        ));
    }

    // A sender keeps its private key for itself, and changes from a shared secret to it.
    #[test]
    fn a_sender_is_known_by_its_public_key() {
        let private = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc=";
        let private = SigningKey::parse(private).expect("a key");
        let another = SigningKey::Private(Secret(vec![7; 32]));
        let public = VerifyingKey::parse("whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=");
        let keys = vec![public.expect("a key"), VerifyingKey::Shared(published())];
        let signed = |key: &SigningKey| key.sign(ID, TIME, BODY);
        let check = |signatures: &str, body: &[u8]| {
            let time = TIME.to_string();
            let headers = headers(&[
                ("webhook-id", ID),
                ("webhook-timestamp", &time),
                ("webhook-signature", signatures),
            ]);
            let options = Options::StandardWebhooks { keys: keys.clone() };
            verify(&options, &headers, body, Timestamp(TIME * 1000)).is_ok()
        };
        assert!(check(&signed(&private), BODY));
        let rotating = format!("v1,AAAA {} {}", signed(&another), signed(&private));
        assert!(check(&rotating, BODY), "one of several");
        assert!(check(SIGNATURE, BODY), "the secret is still accepted");
        assert!(!check(&signed(&another), BODY), "an unknown key");
        assert!(!check(&signed(&private), b"{}"), "another body");
        let guesses = format!("{}{}", "v1a,AAAA ".repeat(4), signed(&private));
        assert!(!check(&guesses, BODY), "a header full of guesses");
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let changed = BODY
            .iter()
            .map(|byte| if *byte == b't' { b'T' } else { *byte })
            .collect::<Vec<_>>();
        assert!(matches!(
            check_webhook(vec![published()], SIGNATURE, TIME, &changed),
            Err(NotVerified::Mismatch(_))
        ));
    }

    #[test]
    fn five_minutes_are_tolerated_either_way_and_no_more() {
        for clock in [TIME - 300, TIME + 300] {
            assert_eq!(
                check_webhook(vec![published()], SIGNATURE, clock, BODY),
                Ok(())
            );
        }
        for (clock, direction) in [(TIME - 301, "in the future"), (TIME + 301, "in the past")] {
            let stale = check_webhook(vec![published()], SIGNATURE, clock, BODY);
            assert_eq!(
                stale,
                Err(NotVerified::Stale {
                    seconds: 301,
                    direction
                })
            );
        }
    }

    #[test]
    fn an_empty_secret_lets_nobody_in() {
        let empty = Secret(Vec::new());
        let forged = sign(&empty, ID, TIME, BODY);
        assert!(check_webhook(vec![empty.clone()], &forged, TIME, BODY).is_err());
        let open = Options::Bearer {
            tokens: vec![empty],
        };
        assert!(
            verify(
                &open,
                &headers(&[("authorization", "Bearer ")]),
                b"",
                Timestamp(0)
            )
            .is_err()
        );
    }

    #[test]
    fn a_proof_that_is_missing_or_doubled_is_asked_for_by_name() {
        let options = Options::StandardWebhooks {
            keys: vec![VerifyingKey::Shared(published())],
        };
        let missing =
            verify(&options, &Headers::default(), BODY, Timestamp(TIME * 1000)).unwrap_err();
        assert_eq!(
            missing.to_string(),
            "the request needs exactly one header `webhook-id`"
        );
        let mut doubled = headers(&[("authorization", "Bearer a")]);
        doubled.push("authorization", b"Bearer b");
        let bearer = Options::Bearer {
            tokens: vec![Secret(b"a".to_vec())],
        };
        assert_eq!(
            verify(&bearer, &doubled, b"", Timestamp(0)),
            Err(NotVerified::Missing("authorization".into()))
        );
    }

    #[test]
    fn a_bearer_token_is_taken_whatever_the_case_of_its_scheme() {
        let options = Options::Bearer {
            tokens: vec![Secret(b"one".to_vec()), Secret(b"two".to_vec())],
        };
        let check = |value: &str| {
            verify(
                &options,
                &headers(&[("authorization", value)]),
                b"",
                Timestamp(0),
            )
            .is_ok()
        };
        assert!(check("Bearer two") && check("bearer one"));
        assert!(
            !check("Bearer three") && !check("Bearer tw") && !check("Basic one") && !check("one")
        );
    }

    // RFC 4231, test case 2, written as each vendor writes it.
    #[test]
    fn vendors_sign_in_their_own_header_and_encoding() {
        let secret = || vec![Secret(b"Jefe".to_vec())];
        let body = b"what do ya want for nothing?";
        let hex = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let base64 = "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=";
        let check = |options: Options, name, value: &str| {
            verify(&options, &headers(&[(name, value)]), body, Timestamp(0)).is_ok()
        };
        assert!(check(
            Options::github(secret()),
            "x-hub-signature-256",
            &format!("sha256={hex}")
        ));
        assert!(check(
            Options::github(secret()),
            "x-hub-signature-256",
            &format!("sha256={}", hex.to_uppercase())
        ));
        assert!(check(
            Options::shopify(secret()),
            "x-shopify-hmac-sha256",
            base64
        ));
        assert!(
            !check(Options::github(secret()), "x-hub-signature-256", hex),
            "the prefix belongs to it"
        );
        assert!(
            !check(Options::shopify(secret()), "x-shopify-hmac-sha256", hex),
            "hex is not base64 of 32 bytes"
        );
        assert!(!check(
            Options::github(vec![Secret(b"jefe".to_vec())]),
            "x-hub-signature-256",
            &format!("sha256={hex}")
        ));
    }

    #[test]
    fn a_webhook_secret_says_what_is_wrong_with_it() {
        assert_eq!(
            Secret::from_webhook_secret("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")
                .unwrap()
                .0
                .len(),
            24
        );
        assert_eq!(
            Secret::from_webhook_secret("C2FVsBQIhrscChlQIMV+b5sSYspob7oD")
                .unwrap()
                .0
                .len(),
            24
        );
        assert_eq!(
            Secret::from_webhook_secret("hunter-2!"),
            Err(SecretError::NotBase64)
        );
        assert_eq!(
            Secret::from_webhook_secret("whsec_AAAA"),
            Err(SecretError::Length(3))
        );
        assert_eq!(format!("{:?}", published()), "[secret]");
    }
}
