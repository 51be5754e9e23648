//! The id under which a search engine keeps an entity: one injective encoding for all dialects.
//!
//! Each engine allows other characters, and some guess what they mean: a slash ends a route, an empty
//! id is replaced by a number. The encoding keeps ASCII letters, digits and `-`, and writes every other
//! byte, `_` too, as `_` and two hexadecimal digits. A key that is too long for an id becomes `_h` and
//! its SHA-256: no encoded byte begins so, because `h` is no hexadecimal digit.

use sha2::{Digest, Sha256};

/// The longest id in bytes, without prefix and separator. Elasticsearch allows 512, Meilisearch 511.
const ID_BYTES_MAX: usize = 498;
/// Between a prefix and the encoded key, in which it never occurs: so `a-` and `b` are not what no prefix
/// and `a-b` are.
const SEPARATOR: &str = "__";

/// The id of a key.
pub(super) fn of(prefix: &str, key: &str) -> String {
    let mut id = String::with_capacity(prefix.len() + key.len() + 8);
    id.push_str(prefix);
    if !prefix.is_empty() {
        id.push_str(SEPARATOR);
    }
    let from = id.len();
    for byte in key.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => id.push(char::from(byte)),
            _ => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                id.push('_');
                id.push(char::from(DIGITS[usize::from(byte >> 4)]));
                id.push(char::from(DIGITS[usize::from(byte & 15)]));
            }
        }
    }
    if id.len() > from + ID_BYTES_MAX {
        id.truncate(from);
        id.push_str("_h");
        id.push_str(&hex::encode(Sha256::digest(key.as_bytes())));
    }
    id
}

/// Whether an id is that of a target with this prefix.
pub(super) fn has_prefix(prefix: &str, id: &str) -> bool {
    match prefix {
        "" => !id.contains(SEPARATOR),
        prefix => encoded(prefix, id).is_some(),
    }
}

/// The key of an id; `None` if it cannot be read from it, because the id is a hash or another's.
pub(super) fn key_of(prefix: &str, id: &str) -> Option<String> {
    let mut key = Vec::new();
    let mut bytes = encoded(prefix, id)?.bytes();
    while let Some(byte) = bytes.next() {
        key.push(match byte {
            b'_' => {
                let digits = [bytes.next()?, bytes.next()?];
                *hex::decode(digits).ok()?.first()?
            }
            byte => byte,
        });
    }
    String::from_utf8(key).ok()
}

/// What follows the prefix in an id.
fn encoded<'a>(prefix: &str, id: &'a str) -> Option<&'a str> {
    match prefix {
        "" => Some(id),
        prefix => id.strip_prefix(prefix)?.strip_prefix(SEPARATOR),
    }
}

/// The longest prefix in bytes.
pub(crate) const PREFIX_BYTES_MAX: usize = 11;

/// Whether a text can be a prefix: with it, ids stay within what every engine allows, and those of
/// another prefix are others.
pub(crate) fn is_prefix(text: &str) -> bool {
    text.len() <= PREFIX_BYTES_MAX
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn keys_of_any_kind_have_ids_of_their_own_that_every_engine_takes() {
        let umlauts = "ä".repeat(300);
        let more = format!("{umlauts}x");
        let keys = [
            "4711", "a/b", "a.b", "a_b", "A_B", "a_2fb", "a b", "..", ".", "%", "%2F", "ä", "æ",
            "日本", "👍🏽", "-", "_", "__", "_h", "a:b", "a'b", "a\"b", "a\\b", "a,b", "`", "0",
            &umlauts, &more,
        ];
        let ids: BTreeSet<String> = keys.iter().map(|key| of("", key)).collect();
        assert_eq!(ids.len(), keys.len(), "no id is shared");
        for id in ids {
            let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            assert!(
                (1..=511).contains(&id.len()) && id.bytes().all(fine),
                "{id}"
            );
        }
        for key in &keys[..keys.len() - 2] {
            for prefix in ["", "de-"] {
                let id = of(prefix, key);
                assert!(has_prefix(prefix, &id), "{id}");
                assert_eq!(key_of(prefix, &id).as_deref(), Some(*key), "{id}");
            }
        }
        assert_eq!(key_of("", &of("", &umlauts)), None, "a hash");
        assert!(!has_prefix("", "de-__a") && !has_prefix("de-", "fr-__a"));
        assert_eq!(of("de-", "a/b_1"), "de-__a_2fb_5f1");
        assert!(of("", &umlauts).starts_with("_h"));
    }

    // Two channels shared an index, and the deletion of `1` by the one deleted `de-1` of the other.
    #[test]
    fn keys_with_different_prefixes_have_different_ids() {
        for (one, other) in [(("", "de-1"), ("de-", "1")), (("a", "b1"), ("ab", "1"))] {
            assert_ne!(of(one.0, one.1), of(other.0, other.1), "{one:?} {other:?}");
        }
        let longest = of(&"p".repeat(PREFIX_BYTES_MAX), &"k".repeat(ID_BYTES_MAX));
        assert_eq!(longest.len(), 511);
    }

    #[test]
    fn a_prefix_is_short_and_plain() {
        for (text, fine) in [
            ("", true),
            ("de-", true),
            ("de_", false),
            ("a/", false),
            ("0123456789ab", false),
        ] {
            assert_eq!(is_prefix(text), fine, "{text}");
        }
    }
}
