//! What all brokers keep beside the body of an entity: headers that say which entity it is, which state of it,
//! and whether it is a deletion. And the guard: whether a state may replace the one that a broker holds.

use percent_encoding::{percent_decode_str, utf8_percent_encode};
use xxhash_rust::xxh3::xxh3_64;

use super::http::ENCODED;
use super::{Attempt, Foreign, Item, Outcome};
use crate::model::Sequence;

/// The key under which the broker keeps the entity, percent-encoded.
pub(super) const KEY: &str = "weir-key";
/// The sequence of the state, a number.
pub(super) const SEQUENCE: &str = "weir-sequence";
/// The digest of the body; of a deletion there is none.
pub(super) const DIGEST: &str = "weir-digest";
/// `true` for a deletion.
pub(super) const DELETED: &str = "weir-deleted";
/// The media type of the body.
pub(super) const CONTENT_TYPE: &str = "content-type";

/// The headers of an item.
pub(super) fn headers(item: &Item) -> Vec<(&'static str, String)> {
    let encoded = |text: &str| utf8_percent_encode(text, ENCODED).to_string();
    let entity = format!(
        "{}/{}",
        encoded(&item.entity.entity_type),
        encoded(&item.entity.key)
    );
    let mut headers = vec![
        ("weir-entity", entity),
        (KEY, encoded(&item.key)),
        (SEQUENCE, item.sequence.to_string()),
    ];
    match &item.rendering {
        Some(rendering) => {
            let media = rendering.content_type.as_deref();
            headers.push((DIGEST, digest(rendering.body.as_bytes())));
            headers.push((CONTENT_TYPE, media.unwrap_or("application/json").to_owned()));
        }
        None => headers.push((DELETED, "true".to_owned())),
    }
    if let Some(plugin) = &item.plugin {
        headers.push(("weir-plugin", plugin.to_string()));
    }
    // A renderer names the media type, and a line break would end the header.
    for (_, value) in &mut headers {
        value.retain(|letter| !letter.is_control());
    }
    headers
}

/// The body of an item: empty for a deletion.
pub(super) fn body(item: &Item) -> &[u8] {
    item.rendering
        .as_deref()
        .map_or(&[], |rendering| rendering.body.as_bytes())
}

fn digest(body: &[u8]) -> String {
    format!("{:016x}", xxh3_64(body))
}

/// A state that a broker holds, as its headers say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// Its sequence; `None` if somebody else has written it.
    pub(super) sequence: Option<Sequence>,
    /// The digest of its body.
    pub(super) digest: Option<String>,
    /// Whether it is a deletion.
    pub(super) deleted: bool,
    /// The key of the entity.
    pub(super) key: Option<String>,
}

impl State {
    /// Reads the headers of a message.
    pub(super) fn read<'h>(header: impl Fn(&str) -> Option<&'h str>) -> State {
        let key = header(KEY).map(|key| percent_decode_str(key).decode_utf8_lossy().into_owned());
        State {
            sequence: header(SEQUENCE)
                .and_then(|text| text.parse().ok())
                .map(Sequence),
            digest: header(DIGEST).map(str::to_owned),
            deleted: header(DELETED) == Some("true"),
            key,
        }
    }

    /// Whether this is the state that the item would write.
    fn is(&self, item: &Item) -> bool {
        let own = item.rendering.as_ref().map(|it| digest(it.body.as_bytes()));
        self.sequence == Some(item.sequence)
            && self.deleted == item.rendering.is_none()
            && (self.deleted || self.digest == own)
    }
}

/// What becomes of an item beside the state that the broker holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// It is written.
    Write,
    /// It is there already, or a newer state of ours is, or the state cannot be ours.
    Settled(Outcome),
}

/// Judges whether an item may replace a state. What somebody else has written has no sequence, and is
/// replaced.
pub(super) fn judge(held: &State, item: &Item, limits: Limits) -> Verdict {
    let Some(sequence) = held.sequence else {
        return Verdict::Write;
    };
    let is_foreign = limits
        .foreign
        .is_some_and(|foreign| (foreign.first..=foreign.last).contains(&sequence));
    if held.is(item) {
        Verdict::Settled(Outcome::Delivered)
    } else if sequence <= item.sequence || is_foreign {
        Verdict::Write
    } else if sequence <= limits.head {
        Verdict::Settled(Outcome::Delivered)
    } else {
        Verdict::Settled(Outcome::Ahead {
            reason: format!(
                "it holds {:?} with sequence {sequence}, and the newest that this Weir has given out is {}: it was filled by another Weir, or the store was lost or restored",
                item.key, limits.head
            ),
            sequence,
        })
    }
}

/// What an attempt says of sequences.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    head: Sequence,
    foreign: Option<Foreign>,
}

impl From<Attempt<'_>> for Limits {
    fn from(attempt: Attempt<'_>) -> Limits {
        Limits {
            head: attempt.head,
            foreign: attempt.foreign,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Payload, Rendering};
    use crate::targets::sample;

    fn item(sequence: u64, body: Option<&str>) -> Item {
        sample::item("a/1", sequence, body)
    }

    fn state(item: &Item) -> State {
        let headers = headers(item);
        State::read(|name| {
            let found = headers.iter().find(|(header, _)| *header == name);
            found.map(|(_, value)| value.as_str())
        })
    }

    #[test]
    fn a_state_is_replaced_by_newer_ones_and_by_itself_only_if_it_differs() {
        let limits = Limits {
            head: Sequence(100),
            foreign: Some(Foreign {
                first: Sequence(500),
                last: Sequence(600),
            }),
        };
        let new = item(10, Some("1"));
        let verdict = |held: &Item| judge(&state(held), &new, limits);
        let done = Verdict::Settled(Outcome::Delivered);
        assert_eq!(verdict(&item(9, Some("1"))), Verdict::Write, "older");
        assert_eq!(verdict(&item(10, Some("1"))), done, "the same");
        assert_eq!(
            verdict(&item(10, Some("2"))),
            Verdict::Write,
            "another renderer"
        );
        assert_eq!(verdict(&item(10, None)), Verdict::Write);
        assert_eq!(verdict(&item(11, Some("2"))), done, "newer");
        assert_eq!(verdict(&item(100, None)), done, "deleted since");
        assert_eq!(verdict(&item(550, Some("2"))), Verdict::Write, "foreign");
        let ahead = verdict(&item(101, Some("2")));
        assert!(
            matches!(&ahead, Verdict::Settled(Outcome::Ahead { sequence, .. }) if *sequence == Sequence(101)),
            "{ahead:?}"
        );
        assert_eq!(
            judge(&State::default(), &new, limits),
            Verdict::Write,
            "somebody else's"
        );
    }

    #[test]
    fn headers_name_the_entity_and_have_no_line_break() {
        let mut item = item(7, Some("{}"));
        item.rendering = Some(Arc::new(Rendering {
            key: None,
            content_type: Some("text/plain\r\nx: y".into()),
            body: Payload::Text("{}".into()),
        }));
        let found = headers(&item);
        assert_eq!(found[0], ("weir-entity", "product/a%2F1".to_owned()));
        assert!(found.contains(&(CONTENT_TYPE, "text/plainx: y".to_owned())));
        let state = state(&item);
        assert_eq!(state.key.as_deref(), Some("a/1"));
        assert_eq!(state.sequence, Some(Sequence(7)));
    }
}
