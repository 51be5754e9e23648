//! The names of files and objects: a template with the key of an entity in it.
//!
//! A key becomes one segment of a path, whatever it contains: ASCII letters, digits, `-`, `_` and `.` stay,
//! except a point at either end; every other byte is written as `%` and two hexadecimal digits. No two keys
//! have the same segment, none is empty, `.` or `..`, and none is longer than the store allows: a longer
//! one keeps its beginning and ends with `~` and 128 bits of its SHA-256. `~` stands nowhere else.

use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};

/// Between the beginning of a key that is too long and its hash; alone, the segment of the empty key.
const MARK: char = '~';
/// Bytes of [`MARK`] and the hash.
const HASH_BYTES: usize = 33;

/// A path with one `{key}`, and perhaps `{entity}` before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: String,
    /// What stands before the first placeholder.
    before: String,
    /// What stands between `{entity}` and `{key}`; `None` without `{entity}`.
    between: Option<String>,
    /// What stands after `{key}`.
    after: String,
    /// Whether a `/` of a key separates segments.
    slashes: bool,
}

/// Why a text is no template, as a phrase for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadTemplate(pub &'static str);

impl Template {
    /// Parses a template. With `slashes`, a `/` of a key separates folders.
    ///
    /// # Errors
    /// What is wrong.
    pub fn parse(text: &str, slashes: bool) -> Result<Template, BadTemplate> {
        let wrong = |what| Err(BadTemplate(what));
        let Some((before_key, after)) = text.split_once("{key}") else {
            return wrong("there is no {key} in it");
        };
        if after.contains("{key}") {
            return wrong("{key} is in it twice");
        }
        if after.contains("{entity}") {
            return wrong("{entity} is behind {key}");
        }
        let (before, between) = match before_key.split_once("{entity}") {
            Some((before, between)) => (before, Some(between.to_owned())),
            None => (before_key, None),
        };
        // "{entity}-{key}" would be the same for "a-b" and "c" as for "a" and "b-c".
        if between.as_deref().is_some_and(|it| it.bytes().all(stays)) {
            return wrong(
                "what stands between {entity} and {key} may be a part of either: write {entity}/{key}",
            );
        }
        if between.as_deref().unwrap_or_default().contains("{entity}") {
            return wrong("{entity} is in it twice");
        }
        let bare = text.replace("{key}", "k").replace("{entity}", "e");
        let bare = bare.strip_prefix('/').unwrap_or(&bare);
        let odd = |segment: &str| matches!(segment, "" | "." | "..");
        if bare.split('/').any(odd) {
            return wrong("a folder in it is empty, \".\" or \"..\"");
        }
        if bare.contains(|character: char| character.is_control() || character == '\\') {
            return wrong("a control character or a backslash is in it");
        }
        Ok(Template {
            text: text.to_owned(),
            before: before.to_owned(),
            between,
            after: after.to_owned(),
            slashes,
        })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a `/` of a key separates folders.
    pub fn slashes(&self) -> bool {
        self.slashes
    }

    /// What all names begin with.
    pub fn prefix(&self) -> &str {
        &self.before
    }

    /// The name for a key, with at most this number of bytes in the segment with the key, and in the name.
    ///
    /// # Errors
    /// Why there is none, as a phrase.
    pub fn name(
        &self,
        entity: &str,
        key: &str,
        segment_bytes_max: usize,
        name_bytes_max: usize,
    ) -> Result<String, String> {
        let mut name = self.before.clone();
        if let Some(between) = &self.between {
            write(entity, &mut name);
            name.push_str(between);
        }
        if self.slashes && key.contains('/') {
            return self.name_in_folders(name, key, segment_bytes_max, name_bytes_max);
        }
        let around = name.rsplit('/').next().map_or(0, str::len) + head(&self.after);
        let room = segment_bytes_max
            .saturating_sub(around)
            .min(name_bytes_max.saturating_sub(name.len() + self.after.len()));
        if room < HASH_BYTES {
            return Err("the path around {key} leaves no room for a key".to_owned());
        }
        let from = name.len();
        write(key, &mut name);
        if name.len() - from > room {
            cut(&mut name, from + room - HASH_BYTES, from);
            name.push(MARK);
            name.push_str(&hex::encode(&Sha256::digest(key.as_bytes())[..16]));
        }
        name.push_str(&self.after);
        Ok(name)
    }

    /// The name for a key whose segments are folders.
    fn name_in_folders(
        &self,
        mut name: String,
        key: &str,
        segment_bytes_max: usize,
        name_bytes_max: usize,
    ) -> Result<String, String> {
        for (at, segment) in key.split('/').enumerate() {
            if segment.is_empty() {
                return Err(
                    "the key has an empty segment between two /, or begins or ends with /"
                        .to_owned(),
                );
            }
            if at > 0 {
                name.push('/');
            }
            write(segment, &mut name);
        }
        name.push_str(&self.after);
        let long = |segment: &str| segment.len() > segment_bytes_max;
        if name.len() > name_bytes_max || name.split('/').any(long) {
            return Err(format!(
                "the name of its object would be too long ({} bytes)",
                name.len()
            ));
        }
        Ok(name)
    }

    /// The key of a name. `None` if it is not a name of this template.
    pub fn key(&self, name: &str) -> Option<Named> {
        let rest = name.strip_prefix(&*self.before)?;
        let rest = match &self.between {
            Some(between) => {
                let (entity, rest) = rest.split_once(&**between)?;
                let plain = !entity.is_empty() && !entity.contains('/');
                plain.then_some(rest)?
            }
            None => rest,
        };
        let key = rest.strip_suffix(&*self.after)?;
        if key.is_empty() || (key.contains('/') && !self.slashes) {
            return None;
        }
        if key == "~" {
            return Some(Named::Key(String::new()));
        }
        if key.contains(MARK) {
            return Some(Named::Hash);
        }
        let decoded = percent_decode_str(key).decode_utf8().ok()?.into_owned();
        // What we would not have written is not ours.
        let mut again = String::new();
        let segments: Vec<&str> = match self.slashes {
            true => decoded.split('/').collect(),
            false => vec![&decoded],
        };
        for (at, segment) in segments.into_iter().enumerate() {
            if at > 0 {
                again.push('/');
            }
            write(segment, &mut again);
        }
        (again == key).then_some(Named::Key(decoded))
    }
}

/// What a name says of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// This is the key.
    Key(String),
    /// The key is too long for a name, which has its hash.
    Hash,
}

/// Bytes of what follows a placeholder in its segment.
fn head(after: &str) -> usize {
    after.split('/').next().map_or(0, str::len)
}

/// Whether a byte may stand in an encoded segment.
fn stays(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.%~".contains(&byte)
}

/// Appends a text as one segment.
fn write(text: &str, to: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let last = text.len().saturating_sub(1);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => to.push(char::from(byte)),
            b'.' if at != 0 && at != last => to.push('.'),
            _ => {
                to.push('%');
                to.push(char::from(DIGITS[usize::from(byte >> 4)]));
                to.push(char::from(DIGITS[usize::from(byte & 15)]));
            }
        }
    }
    if text.is_empty() {
        to.push(MARK);
    }
}

/// Cuts a name after `at` bytes, or before an encoded byte that would be cut in the middle.
fn cut(name: &mut String, at: usize, from: usize) {
    let begins = name[from..at].rfind('%').map(|found| from + found);
    name.truncate(match begins {
        Some(begins) if begins + 3 > at => begins,
        _ => at,
    });
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn template(text: &str) -> Template {
        Template::parse(text, false).unwrap_or_else(|wrong| panic!("{text}: {}", wrong.0))
    }

    #[test]
    fn a_key_is_one_segment_that_leads_nowhere_else_and_comes_back() {
        let template = template("out/{entity}/{key}.json");
        for (key, expected) in [
            ("4711", "4711"),
            ("../../x", "%2E.%2F..%2Fx"),
            ("/etc/x", "%2Fetc%2Fx"),
            (".", "%2E"),
            ("..", "%2E%2E"),
            ("a.b.", "a.b%2E"),
            ("a\0b", "a%00b"),
            ("a%2Fb", "a%252Fb"),
            ("~", "%7E"),
            ("", "~"),
            ("ä", "%C3%A4"),
            ("A_b-C", "A_b-C"),
        ] {
            let name = template.name("product", key, 143, 1024).expect("a name");
            assert_eq!(name, format!("out/product/{expected}.json"));
            assert_eq!(template.key(&name), Some(Named::Key(key.to_owned())));
        }
    }

    #[test]
    fn keys_that_differ_have_names_that_differ_and_are_never_too_long() {
        let template = template("{key}.json");
        let mut keys: BTreeSet<String> = ["a", "A", "a.", ".a", "a/", "/a", "", "~", "%"]
            .map(str::to_owned)
            .into();
        for length in [100, 104, 105, 137, 138, 139, 143, 255, 600, 5000] {
            keys.insert("x".repeat(length));
            keys.insert(format!("{}y", "x".repeat(length)));
            keys.insert("ä".repeat(length));
            keys.insert(format!("{}~{}", "x".repeat(105), "0".repeat(32)));
        }
        let name = |key: &String| template.name("p", key, 143, 1024).expect("a name");
        let names: BTreeSet<String> = keys.iter().map(name).collect();
        assert_eq!(names.len(), keys.len());
        for name in &names {
            assert!(name.len() <= 143, "{} {name}", name.len());
            assert!(template.key(name).is_some(), "{name}");
            // No escape is cut in half.
            let hash = name.split_once('~').map_or(&**name, |(before, _)| before);
            let cut = hash.rfind('%').is_some_and(|at| at + 3 > hash.len());
            assert!(!cut, "{name}");
        }
    }

    #[test]
    fn folders_of_keys_are_kept_on_request_and_empty_ones_refused() {
        let template = Template::parse("p/{key}.json", true).expect("a template");
        let name = |key| template.name("p", key, 255, 1024);
        assert_eq!(name("a/b/../c"), Ok("p/a/b/%2E%2E/c.json".to_owned()));
        assert_eq!(
            template.key("p/a/b/%2E%2E/c.json"),
            Some(Named::Key("a/b/../c".into()))
        );
        for key in ["a//b", "/a", "a/"] {
            assert!(name(key).is_err(), "{key}");
        }
        assert!(name(&"a/".repeat(600)).is_err());
    }

    #[test]
    fn a_name_that_weir_did_not_write_is_not_a_key() {
        let template = template("out/{key}.json");
        for name in [
            "out/a b.json",
            "out/.weir-1.json",
            "out/a/b.json",
            "out/a.txt",
            "other/a.json",
            "out/%2f.json",
            "out/.json",
        ] {
            assert_eq!(template.key(name), None, "{name}");
        }
    }

    // Two types that share a target wrote each other's files: "product-variant" with the key "5", and
    // "product" with the key "variant-5".
    #[test]
    fn entities_of_two_types_never_have_one_name() {
        for text in ["{entity}/{key}", "p/{entity}/x-{key}", "{entity}+{key}"] {
            let template = template(text);
            let name = |entity, key| template.name(entity, key, 143, 1024).expect("a name");
            for (left, right) in [
                (("product-variant", "5"), ("product", "variant-5")),
                (("a.b", "c"), ("a", "b.c")),
                (("a", "x-b"), ("a-x", "b")),
                (("a", "+b"), ("a", "b")),
            ] {
                assert_ne!(name(left.0, left.1), name(right.0, right.1), "{text}");
            }
        }
    }

    #[test]
    fn a_template_that_could_not_be_kept_to_is_refused() {
        for text in [
            "out.json",
            "{key}/{key}",
            "{key}/{entity}",
            "{entity}{key}",
            "{entity}-{key}",
            "{entity}.p_{key}",
            "a//{key}",
            "../{key}",
            "{key}/",
            "a\\{key}",
        ] {
            assert!(Template::parse(text, false).is_err(), "{text}");
        }
    }
}
