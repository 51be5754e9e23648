//! Signatures of deliveries, by Standard Webhooks 1.0.0: HMAC-SHA256 over `id.timestamp.body`, one for each secret.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::ingest::verify::Secret;

/// The value of `webhook-signature`: `v1,…` for each secret, separated by spaces, so that one can be rotated. The bytes signed are
/// those sent, never a second serialisation of them. `timestamp` is in seconds.
pub(crate) fn signatures(secrets: &[Secret], id: &str, timestamp: u64, body: &[u8]) -> String {
    let signed = secrets.iter().map(|secret| format!("v1,{}", STANDARD.encode(authenticator(secret, id, timestamp, body))));
    signed.collect::<Vec<_>>().join(" ")
}

fn authenticator(secret: &Secret, id: &str, timestamp: u64, body: &[u8]) -> [u8; 32] {
    let mut hmac = Hmac::<Sha256>::new_from_slice(&secret.0).expect("HMAC takes a key of any length");
    hmac.update(format!("{id}.{timestamp}.").as_bytes());
    hmac.update(body);
    hmac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example that the libraries of Standard Webhooks share.
    #[test]
    fn the_published_example_is_signed_as_published() {
        let secret = Secret(STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("base64"));
        let signature =
            signatures(std::slice::from_ref(&secret), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let both = signatures(&[secret, Secret(b"the next one".to_vec())], "msg_1", 1, b"");
        assert_eq!(both.split(' ').filter(|one| one.starts_with("v1,")).count(), 2);
    }
}
