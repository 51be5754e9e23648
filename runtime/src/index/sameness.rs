//! Equality of JSON values, as a hash. The order of an object's members does not matter, strings
//! are compared after unescaping, and numbers as they are written.
//!
//! `9.90` and `9.9` differ: whoever wrote a price with two decimals meant to. The hash is XXH3 with
//! 64 bits and is compared only with the one hash stored for the same facet, so the probability
//! that a collision hides a change is 1 in 2^64.

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Deeper levels are hashed as text; serde_json rejects such nesting long before.
const DEPTH_MAX: usize = 128;

/// The hash of a JSON value by its meaning. `json` must be valid JSON; for any other text the hash
/// is stable but has no meaning.
pub fn value_hash(json: &str) -> u64 {
    let mut cursor = Cursor {
        bytes: json.as_bytes(),
        at: 0,
    };
    cursor.value(0)
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn value(&mut self, depth: usize) -> u64 {
        self.space();
        match self.peek() {
            Some(b'{') if depth < DEPTH_MAX => self.object(depth),
            Some(b'[') if depth < DEPTH_MAX => self.array(depth),
            Some(b'"') => self.string(),
            _ => self.scalar(),
        }
    }

    /// Hashes each member and sorts the hashes, which is cheaper than sorting the members.
    fn object(&mut self, depth: usize) -> u64 {
        self.at += 1;
        let mut members = Vec::new();
        loop {
            self.space();
            match self.peek() {
                Some(b'"') => {}
                Some(b',') => {
                    self.at += 1;
                    continue;
                }
                Some(b'}') => {
                    self.at += 1;
                    break;
                }
                _ => break,
            }
            let name = self.string();
            self.space();
            if self.peek() == Some(b':') {
                self.at += 1;
            }
            members.push(combine(b':', &[name, self.value(depth + 1)]));
        }
        members.sort_unstable();
        combine(b'{', &members)
    }

    fn array(&mut self, depth: usize) -> u64 {
        self.at += 1;
        let mut items = Vec::new();
        loop {
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    break;
                }
                None => break,
                _ => items.push(self.value(depth + 1)),
            }
        }
        combine(b'[', &items)
    }

    fn string(&mut self) -> u64 {
        let start = self.at;
        let mut escaped = false;
        self.at += 1;
        while let Some(byte) = self.peek() {
            self.at += 1;
            match byte {
                b'\\' => {
                    escaped = true;
                    self.at += 1;
                }
                b'"' => break,
                _ => {}
            }
        }
        let written = &self.bytes[start..self.at.min(self.bytes.len())];
        if escaped && let Ok(meant) = serde_json::from_slice::<String>(written) {
            return tagged(b'"', meant.as_bytes());
        }
        tagged(
            b'"',
            written
                .strip_prefix(b"\"")
                .and_then(|rest| rest.strip_suffix(b"\""))
                .unwrap_or(written),
        )
    }

    fn scalar(&mut self) -> u64 {
        let start = self.at;
        self.at += 1; // always advance, so that no byte is read twice
        while let Some(byte) = self.peek() {
            if matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r') {
                break;
            }
            self.at += 1;
        }
        tagged(
            b'0',
            &self.bytes[start.min(self.bytes.len())..self.at.min(self.bytes.len())],
        )
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }
}

fn tagged(tag: u8, bytes: &[u8]) -> u64 {
    xxh3_64(bytes) ^ (u64::from(tag) << 56)
}

fn combine(tag: u8, parts: &[u64]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(&[tag]);
    for part in parts {
        hasher.update(&part.to_le_bytes());
    }
    hasher.digest()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::value_hash;

    fn same(a: &str, b: &str) -> bool {
        value_hash(a) == value_hash(b)
    }

    #[test]
    fn what_means_the_same_is_the_same() {
        assert!(same(
            r#"{"a":1,"b":[true,null]}"#,
            r#" { "b" : [ true , null ] , "a" : 1 } "#
        ));
        assert!(same(r#""A\n""#, "\"\\u0041\\u000a\""));
        assert!(same("{}", " { } "));
    }

    #[test]
    fn what_was_written_differently_on_purpose_differs() {
        assert!(!same("9.90", "9.9"));
        assert!(!same("1", "1.0"));
        assert!(!same("\"1\"", "1"));
        assert!(!same("[1,2]", "[2,1]"));
        assert!(!same("[]", "{}"));
        assert!(!same("[[]]", "[]"));
        assert!(!same(r#"{"a":"b"}"#, r#"{"b":"a"}"#));
        assert!(!same(r#"{"a":1,"b":2}"#, r#"{"a":2,"b":1}"#));
        assert!(!same("null", "\"null\""));
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in ".{0,64}") {
            value_hash(&text);
        }
    }
}
