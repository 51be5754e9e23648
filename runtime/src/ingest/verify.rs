//! Is the sender who it says it is? Judged on the raw bytes, before anything is parsed.

/// A secret as read from the environment or a file; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

/// How a sender is verified. Several secrets are all valid, so that one can be rotated.
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
        /// What stands before the signature, for example `sha256=`.
        prefix: String,
        /// How the signature is written.
        encoding: Encoding,
        /// Accepted keys.
        secrets: Vec<Secret>,
    },
    /// Standard Webhooks 1.0.0: `webhook-id`, `webhook-timestamp`, `webhook-signature`; five minutes of tolerance.
    StandardWebhooks {
        /// Accepted keys, already decoded from their `whsec_` form.
        secrets: Vec<Secret>,
    },
}

/// How a signature is written in its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Lower or upper case.
    Hex,
    /// Standard alphabet with padding.
    Base64,
}
