//! Picks the values of JSON pointers out of a rendering in one pass, each as it is written there: a price
//! of `15.00` stays `15.00`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::value::RawValue;

/// How deep a value that has both a column of its own and columns below it is read again at most.
const DEPTH_MAX: usize = 32;

/// The pointers of a feed, as a tree.
#[derive(Clone, Debug, Default)]
pub(super) struct Pick {
    root: Step,
    count: usize,
}

/// A place in a rendering.
#[derive(Clone, Debug, Default)]
struct Step {
    /// The columns whose value is here.
    slots: Vec<usize>,
    /// The places below it, by the name of the member or the index of the element.
    below: BTreeMap<String, Step>,
}

impl Pick {
    /// For these pointers (RFC 6901); the values come in the same order.
    pub(super) fn new<'a>(pointers: impl IntoIterator<Item = &'a str>) -> Pick {
        let mut pick = Pick::default();
        for pointer in pointers {
            let mut step = &mut pick.root;
            for part in pointer.split('/').skip(1) {
                let part = part.replace("~1", "/").replace("~0", "~");
                step = step.below.entry(part).or_default();
            }
            step.slots.push(pick.count);
            pick.count += 1;
        }
        pick
    }

    /// The values, `None` where there is nothing.
    ///
    /// # Errors
    /// The text is not JSON.
    pub(super) fn values<'t>(
        &self,
        text: &'t str,
    ) -> Result<Vec<Option<&'t RawValue>>, serde_json::Error> {
        let mut found = vec![None; self.count];
        read(&self.root, text, &mut found, 0)?;
        Ok(found)
    }
}

fn read<'t>(
    step: &Step,
    text: &'t str,
    found: &mut [Option<&'t RawValue>],
    depth: usize,
) -> Result<(), serde_json::Error> {
    let mut json = serde_json::Deserializer::from_str(text);
    let seed = Seed { step, found, depth };
    de::DeserializeSeed::deserialize(seed, &mut json)?;
    json.end()
}

struct Seed<'s, 'f, 't> {
    step: &'s Step,
    found: &'f mut [Option<&'t RawValue>],
    depth: usize,
}

impl<'t> de::DeserializeSeed<'t> for Seed<'_, '_, 't> {
    type Value = ();

    fn deserialize<D: Deserializer<'t>>(self, json: D) -> Result<(), D::Error> {
        if self.step.slots.is_empty() {
            return json.deserialize_any(self);
        }
        let raw: &'t RawValue = Deserialize::deserialize(json)?;
        for slot in &self.step.slots {
            self.found[*slot] = Some(raw);
        }
        if !self.step.below.is_empty() && self.depth < DEPTH_MAX {
            let below = Step {
                slots: Vec::new(),
                below: self.step.below.clone(),
            };
            read(&below, raw.get(), self.found, self.depth + 1).map_err(de::Error::custom)?;
        }
        Ok(())
    }
}

impl<'t> Visitor<'t> for Seed<'_, '_, 't> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Cow<'t, str>>()? {
            match self.step.below.get(&*name) {
                Some(step) => map.next_value_seed(Seed {
                    step,
                    found: &mut *self.found,
                    depth: self.depth,
                })?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'t>>(self, mut list: A) -> Result<(), A::Error> {
        static NOTHING: Step = Step {
            slots: Vec::new(),
            below: BTreeMap::new(),
        };
        for index in 0usize.. {
            let step = self.step.below.get(&index.to_string()).unwrap_or(&NOTHING);
            let next = Seed {
                step,
                found: &mut *self.found,
                depth: self.depth,
            };
            if list.next_element_seed(next)?.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// A value that a column or an element can show.
pub(super) enum Shown<'t> {
    /// A text.
    Text(Cow<'t, str>),
    /// A number or a truth value, as written.
    Plain(&'t str),
    /// A list.
    List(Vec<&'t RawValue>),
    /// An object, in the order of its members.
    Object(Vec<(String, &'t RawValue)>),
}

/// What a value shows; `None` for null.
pub(super) fn shown(raw: &RawValue) -> Option<Shown<'_>> {
    let text = raw.get();
    Some(match text.as_bytes().first()? {
        b'n' => return None,
        b'"' => Shown::Text(string(text)),
        b'[' => Shown::List(serde_json::from_str(text).ok()?),
        b'{' => Shown::Object(serde_json::from_str::<Members<'_>>(text).ok()?.0),
        _ => Shown::Plain(text),
    })
}

fn string(text: &str) -> Cow<'_, str> {
    let inner = text.get(1..text.len().saturating_sub(1)).unwrap_or("");
    match inner.contains('\\') {
        true => Cow::Owned(serde_json::from_str(text).unwrap_or_default()),
        false => Cow::Borrowed(inner),
    }
}

/// The members of an object in order.
struct Members<'t>(Vec<(String, &'t RawValue)>);

impl<'t> Deserialize<'t> for Members<'t> {
    fn deserialize<D: Deserializer<'t>>(json: D) -> Result<Members<'t>, D::Error> {
        struct Reads;
        impl<'t> Visitor<'t> for Reads {
            type Value = Members<'t>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<Members<'t>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        json.deserialize_map(Reads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_picked_as_they_are_written() {
        let text =
            r#"{"a":{"b/c":15.00,"d":[1,{"e":"x\u00e4"}]},"n":null,"big":12345678901234567890123}"#;
        let pick = Pick::new(["/a/b~1c", "/a/d/1/e", "/n", "/big", "/none", "/a/d", ""]);
        let values = pick.values(text).expect("JSON");
        let texts: Vec<_> = values.iter().map(|it| it.map(RawValue::get)).collect();
        assert_eq!(
            texts[..6],
            [
                Some("15.00"),
                Some(r#""x\u00e4""#),
                Some("null"),
                Some("12345678901234567890123"),
                None,
                Some(r#"[1,{"e":"x\u00e4"}]"#),
            ]
        );
        assert_eq!(texts[6], Some(text));
        assert!(pick.values("{\"a\":").is_err() && pick.values("{} x").is_err());
        assert!(
            matches!(shown(values[1].expect("there")), Some(Shown::Text(text)) if text == "xä")
        );
    }
}
