//! Proofs of a sender's identity, as anybody may write them.

use axum::http::{HeaderMap, HeaderValue};
use weir::inside::ingest::http;
use weir::inside::ingest::verify::{self, Options, Place, presets};
use weir::inside::model::Timestamp;
use weir::inside::signature::{Secret, VerifyingKey};

const SECRET: &[u8] = b"a secret of thirty-two bytes....";

/// Nobody without the secret is accepted, whatever the proof looks like. A text is either a secret
/// of a valid length or not a secret.
///
/// The input is a proof, then a line each for the identifier and the time, then the body.
pub fn proof(input: &[u8]) {
    let mut lines = input.splitn(4, |byte| *byte == b'\n');
    let mut next = || lines.next().unwrap_or_default();
    let (proof, id, time, body) = (next(), next(), next(), next());
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("webhook-signature", proof),
        ("x-hub-signature-256", proof),
        ("x-shopify-hmac-sha256", proof),
        ("stripe-signature", proof),
        ("x-slack-signature", proof),
        ("x-slack-request-timestamp", time),
        ("x-contentful-signature", proof),
        ("x-contentful-signed-headers", id),
        ("x-contentful-timestamp", time),
        ("x-twilio-signature", proof),
        ("authorization", proof),
        ("webhook-id", id),
        ("webhook-timestamp", time),
    ] {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.insert(name, value);
        }
    }
    let target = format!("/v1/sources/erp/events?{}", String::from_utf8_lossy(id));
    let headers = http::neutral(&headers).at(&target);
    let secrets = || vec![Secret(SECRET.to_vec()), Secret(Vec::new())];
    let keys = || secrets().into_iter().map(VerifyingKey::Shared).collect();
    let signed = presets::NAMES
        .into_iter()
        .filter_map(presets::named)
        .map(|preset| preset.with(keys()));
    let place = Place::Query("token".into());
    let others = [
        Options::Bearer { tokens: secrets() },
        Options::Basic { logins: secrets() },
        Options::Token {
            place,
            tokens: secrets(),
        },
    ];
    for options in others.into_iter().chain(signed) {
        let passed = verify::verify(&options, &headers, body, Timestamp(1_795_000_000_000)).is_ok();
        let knows = [proof, id]
            .iter()
            .any(|text| text.windows(SECRET.len()).any(|part| part == SECRET));
        assert!(
            !passed || knows,
            "{options:?} lets {:?} in",
            String::from_utf8_lossy(proof)
        );
    }
    if let Ok(secret) = Secret::from_webhook_secret(&String::from_utf8_lossy(proof)) {
        assert!((24..=64).contains(&secret.0.len()));
        assert_eq!(format!("{secret:?}"), "[secret]");
    }
}
