//! Under which subject an entity is published: a template whose placeholders are filled with the entity's key
//! and type, encoded so that no two entities have the same subject.
//!
//! A server checks almost nothing: a key with a `.`, `*` or `>` in it would make a subject that means others, a
//! space ends the protocol's line, and a line longer than 4,096 bytes ends the connection.

use sha2::{Digest, Sha256};

/// A longer encoded key is replaced with a hash, bytes: a subject and its reply have 4,096 on one line.
const ENCODED_BYTES_MAX: usize = 200;
/// The bytes of a hash: 160 bits.
const HASH_BYTES: usize = 20;
/// The longest template, bytes.
const TEMPLATE_BYTES_MAX: usize = 400;

/// The letters that are allowed, and how others are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alphabet {
    /// Of a token of a subject: `%` and two digits.
    Subject,
    /// Of a key of a key-value bucket: `=` and two digits.
    Bucket,
}

impl Alphabet {
    fn escape(self) -> char {
        match self {
            Alphabet::Subject => '%',
            Alphabet::Bucket => '=',
        }
    }

    /// What comes before a hash: nothing else is encoded so.
    fn before_hash(self) -> &'static str {
        match self {
            Alphabet::Subject => "~",
            Alphabet::Bucket => "==",
        }
    }

    /// Whether an encoded text may have this letter.
    fn writes(self, byte: u8) -> bool {
        byte.is_ascii_alphanumeric() || b"-_%=~".contains(&byte)
    }

    /// Whether the text between placeholders may have this letter.
    fn allows(self, byte: u8) -> bool {
        match self {
            Alphabet::Subject => {
                byte.is_ascii_graphic() && !matches!(byte, b'*' | b'>' | b'{' | b'}')
            }
            Alphabet::Bucket => byte.is_ascii_alphanumeric() || b"-_/=.".contains(&byte),
        }
    }
}

/// Where entities are published, with `{entity}` and `{key}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    alphabet: Alphabet,
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Entity,
    Key,
}

impl Template {
    /// Parses a template. Without `keyed` it needs no `{key}`.
    ///
    /// # Errors
    /// What is wrong with it, as a phrase.
    pub fn parse(text: &str, alphabet: Alphabet, keyed: bool) -> Result<Template, String> {
        if text.len() > TEMPLATE_BYTES_MAX {
            return Err(format!("it has more than {TEMPLATE_BYTES_MAX} bytes"));
        }
        if text.split('.').any(str::is_empty) {
            return Err("it has an empty part between dots".to_owned());
        }
        let (mut pieces, mut rest) = (Vec::new(), text);
        while !rest.is_empty() {
            let (piece, after) = match (rest.strip_prefix("{key}"), rest.strip_prefix("{entity}")) {
                (Some(after), _) => (Piece::Key, after),
                (_, Some(after)) => (Piece::Entity, after),
                _ => {
                    let next = ["{key}", "{entity}"]
                        .into_iter()
                        .filter_map(|name| rest.find(name))
                        .min();
                    let (plain, after) = rest.split_at(next.unwrap_or(rest.len()));
                    (Piece::Text(plain.to_owned()), after)
                }
            };
            if let Piece::Text(plain) = &piece
                && let Some(byte) = plain.bytes().find(|byte| !alphabet.allows(*byte))
            {
                return Err(match byte.is_ascii_graphic() {
                    true => format!("it has the letter {:?}", char::from(byte)),
                    false => "it has a letter that is not printable ASCII".to_owned(),
                });
            }
            pieces.push(piece);
            rest = after;
        }
        // "{entity}-{key}" would be the same for "a-b" and "c" as for "a" and "b-c".
        let parts = |text: &str| text.bytes().any(|byte| !alphabet.writes(byte));
        let placeholders = |piece: &Piece| !matches!(piece, Piece::Text(_));
        let apart = pieces
            .split(|piece| matches!(piece, Piece::Text(text) if parts(text)))
            .all(|pieces| pieces.iter().filter(|piece| placeholders(piece)).count() < 2);
        if !apart {
            return Err("its placeholders are not kept apart by a dot".to_owned());
        }
        if keyed && !pieces.contains(&Piece::Key) {
            return Err(
                "it has no {key}, so that all entities would replace each other".to_owned(),
            );
        }
        Ok(Template {
            alphabet,
            text: text.to_owned(),
            pieces,
        })
    }

    /// As it is written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The subject of an entity.
    pub(super) fn subject(&self, entity_type: &str, key: &str) -> String {
        let mut subject = String::with_capacity(self.text.len() + key.len());
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => subject.push_str(text),
                Piece::Entity => encode(entity_type, self.alphabet, &mut subject),
                Piece::Key => encode(key, self.alphabet, &mut subject),
            }
        }
        subject
    }

    /// The key of the entity whose subject this is; `None` if it is nobody's, or has a hash in place of the key.
    pub(super) fn key(&self, subject: &str) -> Option<String> {
        let (mut entity_type, mut key) = (String::new(), None);
        let mut rest = subject;
        for (at, piece) in self.pieces.iter().enumerate() {
            let value = match (piece, self.pieces.get(at + 1)) {
                (Piece::Text(text), _) => {
                    rest = rest.strip_prefix(&**text)?;
                    continue;
                }
                // Only at the end may a text stand behind it that could be a part of it.
                (_, Some(Piece::Text(text))) if at + 2 == self.pieces.len() => {
                    rest.strip_suffix(&**text)?
                }
                (_, Some(Piece::Text(text))) => rest.split_once(&**text)?.0,
                _ => rest,
            };
            rest = &rest[value.len()..];
            let decoded = decode(value, self.alphabet)?;
            match piece {
                Piece::Key => key = Some(decoded),
                _ => entity_type = decoded,
            }
        }
        key.filter(|key| self.subject(&entity_type, key) == subject)
    }

    /// The subjects of all entities, with wildcards.
    pub(super) fn filter(&self) -> String {
        let token = |token: &str| match token.contains('{') {
            true => "*".to_owned(),
            false => token.to_owned(),
        };
        let tokens: Vec<String> = self.text.split('.').map(token).collect();
        tokens.join(".")
    }
}

/// Appends an encoded text: never empty, without a dot, and different for different texts.
fn encode(text: &str, alphabet: Alphabet, to: &mut String) {
    let from = to.len();
    let escape = alphabet.escape();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            to.push(char::from(byte));
        } else {
            to.push(escape);
            to.push_str(&hex::encode_upper([byte]));
        }
    }
    if text.is_empty() {
        to.push(escape);
    }
    if to.len() - from > ENCODED_BYTES_MAX {
        to.truncate(from);
        to.push_str(alphabet.before_hash());
        to.push_str(&hex::encode(&Sha256::digest(text)[..HASH_BYTES]));
    }
}

/// What [`encode`] was given, perhaps; whoever asks encodes it again and compares.
fn decode(text: &str, alphabet: Alphabet) -> Option<String> {
    let plain = text.replace(alphabet.escape(), "%");
    // The empty text.
    if plain == "%" {
        return Some(String::new());
    }
    let bytes = percent_encoding::percent_decode_str(&plain);
    Some(bytes.decode_utf8().ok()?.into_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn template(text: &str) -> Template {
        Template::parse(text, Alphabet::Subject, true).expect("a template")
    }

    #[test]
    fn a_key_is_one_part_of_a_subject_whatever_it_has_in_it() {
        let subjects = template("catalog.{entity}.p-{key}");
        let subject = |key: &str| subjects.subject("product", key);
        assert_eq!(subject("4711"), "catalog.product.p-4711");
        assert_eq!(subject("a.b*>"), "catalog.product.p-a%2Eb%2A%3E");
        assert_eq!(subject("ä b"), "catalog.product.p-%C3%A4%20b");
        assert_eq!(subject(""), "catalog.product.p-%");
        let long = subject(&"ü".repeat(300));
        assert!(long.starts_with("catalog.product.p-~"), "{long}");
        assert_eq!(long.len(), "catalog.product.p-~".len() + 2 * HASH_BYTES);
        assert_eq!(subjects.filter(), "catalog.*.*");
    }

    #[test]
    fn a_key_of_a_bucket_has_only_letters_that_a_bucket_takes() {
        let keys = Template::parse("{key}", Alphabet::Bucket, true).expect("a template");
        assert_eq!(keys.subject("product", "A%/.=ä"), "A=25=2F=2E=3D=C3=A4");
        assert_eq!(keys.subject("product", ""), "=");
    }

    #[test]
    fn a_subject_that_no_entity_has_is_nobodys() {
        let subjects = template("catalog.{entity}.p-{key}-x");
        assert_eq!(
            subjects.key("catalog.product.p-a%2Eb-x-x").as_deref(),
            Some("a.b-x")
        );
        for nobodys in [
            "catalog.product.a-x",
            "catalog.product.p-a",
            "catalog.product.p-a%2e-x",
            "catalog.product.p-a.b-x",
            "catalog.product.more.p-a-x",
            "other.product.p-a-x",
        ] {
            assert_eq!(subjects.key(nobodys), None, "{nobodys}");
        }
    }

    #[test]
    fn a_template_that_cannot_work_is_named() {
        let wrong = |text: &str| Template::parse(text, Alphabet::Subject, true).expect_err(text);
        assert!(wrong("catalog.all").contains("no {key}"));
        assert!(wrong("catalog..{key}").contains("empty part"));
        assert!(wrong("").contains("empty part"));
        assert!(wrong("catalog.*.{key}").contains("'*'"));
        assert!(wrong("a b.{key}").contains("not printable"));
        assert!(wrong("{entity}{key}").contains("apart by a dot"));
        assert!(wrong("{entity}-{key}").contains("apart by a dot"));
        assert!(wrong("{sku}.{key}").contains("'{'"));
        assert!(Template::parse("%.{key}", Alphabet::Bucket, true).is_err());
        assert!(Template::parse("catalog.all", Alphabet::Subject, false).is_ok());
    }

    proptest! {
        #[test]
        fn different_keys_have_different_subjects_that_are_read_back(keys in proptest::collection::btree_set(".{0,90}", 2..20)) {
            for alphabet in [Alphabet::Subject, Alphabet::Bucket] {
                let template = Template::parse("{key}", alphabet, true).expect("a template");
                let subjects: BTreeSet<String> =
                    keys.iter().map(|key| template.subject("product", key)).collect();
                prop_assert_eq!(subjects.len(), keys.len());
                for key in &keys {
                    let subject = template.subject("product", key);
                    let is_hash = subject.starts_with(alphabet.before_hash()) && subject.len() > 40;
                    prop_assert_eq!(template.key(&subject), (!is_hash).then(|| key.clone()));
                }
                for subject in subjects {
                    prop_assert!(!subject.is_empty() && subject.len() <= ENCODED_BYTES_MAX);
                    prop_assert!(subject.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'.'));
                }
            }
        }
    }
}
