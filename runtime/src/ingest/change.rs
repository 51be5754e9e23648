//! Reads the changes of an event and checks each against the rules of its source.
//!
//! An event's changes are taken together or not at all: the first that may not be written
//! quarantines the event, with a sentence that says how to correct it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::envelope::excerpt;
use super::json;
use crate::index;
use crate::model::{
    Change, EntityId, EntityType, Event, Failure, KEY_BYTES_MAX, Lane, NAME_BYTES_MAX, Payload,
    family_prefix,
};
use crate::store::FacetChange;

/// Maximum number of changes per event. They are written in one atomic step, for which all other
/// writers wait.
pub const CHANGES_MAX: usize = 4096;

/// Maximum number of families deleted per event. Each may be hundreds of facets.
pub const FAMILIES_MAX: usize = 64;

/// The rights of a source: the facets that it may write, and the lane of their changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    pub(super) source: &'a str,
    pub(super) owner: &'a Arc<str>,
    pub(super) types: &'a BTreeMap<Arc<str>, EntityType>,
    /// The lane that the request names, if any.
    pub(super) lane: Option<Lane>,
}

/// Reads the changes that an event without a mapper carries: one JSON object, or an array of them.
/// `checked` says that the data is known to be JSON.
///
/// # Errors
/// `not-a-change`, with the reason and the place; `too-deep` and the like for data that was not
/// checked before.
pub(super) fn read(event: &Event, checked: bool) -> Result<Vec<Change>, Failure> {
    let Payload::Text(text) = &event.data else {
        return Err(not_a_change(
            "the data is not text; a source without a mapper takes changes as JSON",
        ));
    };
    if !checked {
        json::check(text)?;
    }
    let wrong = |error: serde_json::Error| not_a_change(format!("{error}; {SHAPE}"));
    if json::is_array(text) {
        let written: Vec<Written<'_>> = serde_json::from_str(text).map_err(wrong)?;
        return written.into_iter().map(Written::change).collect();
    }
    serde_json::from_str::<Written<'_>>(text)
        .map_err(wrong)?
        .change()
        .map(|change| vec![change])
}

/// Checks changes and settles owner and lane. `trusted` says that values are known to be valid
/// JSON.
///
/// # Errors
/// The first change that may not be written, by its code: `unknown-type`, `key`, `facet-name`,
/// `unknown-facet`, `foreign`, `too-large`, `invalid-json`, `too-deep`, `too-many-changes`.
pub(super) fn settle(
    changes: Vec<Change>,
    trusted: bool,
    rules: Rules<'_>,
) -> Result<Vec<FacetChange>, Failure> {
    if changes.len() > CHANGES_MAX {
        let sentence = format!(
            "the event has {} changes, at most {CHANGES_MAX} are written together; send several events",
            changes.len()
        );
        return Err(Failure::new("too-many-changes", sentence));
    }
    let families = changes
        .iter()
        .filter(|change| family_prefix(&change.facet).is_some());
    let families = families.count();
    if families > FAMILIES_MAX {
        let sentence = format!(
            "the event deletes {families} families of facets, at most {FAMILIES_MAX} are deleted together; send several events"
        );
        return Err(Failure::new("too-many-changes", sentence));
    }
    changes
        .into_iter()
        .map(|change| settle_one(change, trusted, rules))
        .collect()
}

/// Whether a source may write these changes of a mapper.
///
/// # Errors
/// See [`settle`].
pub fn check(
    options: &super::Options,
    types: &BTreeMap<Arc<str>, EntityType>,
    changes: Vec<Change>,
) -> Result<(), Failure> {
    let rules = Rules {
        source: &options.name,
        owner: &options.owner,
        types,
        lane: None,
    };
    settle(changes, false, rules).map(drop)
}

fn settle_one(change: Change, trusted: bool, rules: Rules<'_>) -> Result<FacetChange, Failure> {
    let entity_type = rules
        .types
        .get(change.entity_type.as_str())
        .ok_or_else(|| unknown_type(&change.entity_type, rules.types))?;
    check_key(&change.key)?;
    check_facet_name(&change.facet, change.value.is_some())?;
    let entity = || format!("{}/{}", entity_type.name, excerpt(&change.key));
    let Some(rule) = entity_type.rule(&change.facet) else {
        return Err(unknown_facet(&change.facet, entity_type));
    };
    if rule.owner != *rules.owner {
        let (facet, owner, source, own) = (&change.facet, &rule.owner, rules.source, rules.owner);
        let sentence = format!(
            "facet `{facet}` of {} is written by `{owner}`; source `{source}` writes for `{own}` (see `owner` of the facet and of the source)",
            entity()
        );
        return Err(Failure::new("foreign", sentence));
    }
    if let Some(value) = &change.value {
        let (bytes, most) = (value.len() as u64, entity_type.facet_bytes_max);
        if bytes > most {
            let sentence = format!(
                "facet `{}` of {} has {bytes} bytes, `facet_max` of its type is {most}; cut it into several facets",
                change.facet,
                entity()
            );
            return Err(Failure::new("too-large", sentence));
        }
        if !trusted {
            json::check(value).map_err(|failure| in_facet(&change.facet, failure))?;
        }
    }
    let lane = change.lane.or(rules.lane).unwrap_or(rule.lane);
    let facet = if *rule.pattern == change.facet {
        Arc::clone(&rule.pattern)
    } else {
        Arc::from(change.facet)
    };
    let hash = change.value.as_deref().map_or(0, index::value_hash);
    let id = EntityId {
        entity_type: Arc::clone(&entity_type.name),
        key: Arc::from(change.key),
    };
    Ok(FacetChange {
        id,
        facet,
        owner: Arc::clone(&rule.owner),
        lane,
        version: change.version,
        value: change.value.map(Arc::from),
        hash,
    })
}

fn in_facet(facet: &str, failure: Failure) -> Failure {
    Failure {
        message: format!(
            "the value of facet `{}`: {}",
            excerpt(facet),
            failure.message
        ),
        ..failure
    }
}

fn check_key(key: &str) -> Result<(), Failure> {
    if (1..=KEY_BYTES_MAX).contains(&key.len()) {
        return Ok(());
    }
    let sentence = format!(
        "a key has 1 to {KEY_BYTES_MAX} bytes, this one has {}; is it a payload in the wrong field?",
        key.len()
    );
    Err(Failure::new("key", sentence))
}

fn check_facet_name(facet: &str, has_value: bool) -> Result<(), Failure> {
    let wrong = |what: &str| {
        Err(Failure::new(
            "facet-name",
            format!("the facet name `{}` {what}", excerpt(facet)),
        ))
    };
    match facet {
        "" => wrong("is empty; each change names its facet"),
        _ if facet.len() > NAME_BYTES_MAX => wrong(&format!(
            "has {} bytes, at most {NAME_BYTES_MAX} are allowed",
            facet.len()
        )),
        _ if facet.chars().any(char::is_control) => wrong("has a control character in it"),
        _ if has_value && family_prefix(facet).is_some() => wrong(
            "is that of a family; a value needs the name of one facet, only a deletion can name a family",
        ),
        _ => Ok(()),
    }
}

fn unknown_type(name: &str, types: &BTreeMap<Arc<str>, EntityType>) -> Failure {
    let known = list(types.keys().map(|name| &**name));
    Failure::new(
        "unknown-type",
        format!(
            "there is no entity type `{}`; configured are: {known}",
            excerpt(name)
        ),
    )
}

fn unknown_facet(name: &str, entity_type: &EntityType) -> Failure {
    let known = list(entity_type.facets.iter().map(|rule| &*rule.pattern));
    Failure::new(
        "unknown-facet",
        format!(
            "`{}` has no facet `{}`; configured are: {known}",
            entity_type.name,
            excerpt(name)
        ),
    )
}

/// A list of the first few names and the number of the others.
fn list<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let total = names.len();
    let shown: Vec<String> = names.take(8).map(|name| format!("`{name}`")).collect();
    match total.saturating_sub(shown.len()) {
        _ if total == 0 => "none".to_owned(),
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn not_a_change(sentence: impl Into<String>) -> Failure {
    Failure::new("not-a-change", sentence)
}

const SHAPE: &str =
    r#"a change is {"type", "key", "facet", "value" or "deleted": true, "version"?, "lane"?}"#;

/// A change as written in JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<'a> {
    #[serde(borrow, rename = "type")]
    entity_type: Cow<'a, str>,
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    facet: Cow<'a, str>,
    /// `None` if the member is absent; `null` is a value.
    #[serde(borrow, default, deserialize_with = "there")]
    value: Option<&'a RawValue>,
    #[serde(default)]
    deleted: bool,
    #[serde(default, deserialize_with = "version")]
    version: Option<u64>,
    #[serde(default, deserialize_with = "lane")]
    lane: Option<Lane>,
}

impl Written<'_> {
    fn change(self) -> Result<Change, Failure> {
        let value = match (self.value, self.deleted) {
            (Some(value), false) => Some(Box::from(value.get())),
            (None, true) => None,
            (Some(_), true) => {
                return Err(not_a_change(format!(
                    "it has a `value` and is `deleted`; {SHAPE}"
                )));
            }
            (None, false) => {
                return Err(not_a_change(format!(
                    "it has neither a `value` nor `\"deleted\": true`; {SHAPE}"
                )));
            }
        };
        Ok(Change {
            entity_type: self.entity_type.into_owned(),
            key: self.key.into_owned(),
            facet: self.facet.into_owned(),
            value,
            version: self.version,
            lane: self.lane,
        })
    }
}

fn there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

fn version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let Some(written) = Option::<&RawValue>::deserialize(deserializer)? else {
        return Ok(None);
    };
    // A string is accepted too: languages whose only number is a double cannot hold 64 bits.
    let digits = json::string(written).unwrap_or_else(|| written.get().to_owned());
    let whole = digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse().ok())
        .flatten();
    let wrong = || {
        D::Error::custom(format!(
            "`version` is `{}`, it must be a whole number from 0 to {}",
            excerpt(&digits),
            u64::MAX
        ))
    };
    whole.ok_or_else(wrong).map(Some)
}

fn lane<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Lane>, D::Error> {
    let Some(written) = Option::<Cow<'de, str>>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let wrong = || {
        D::Error::custom(format!(
            "there is no lane `{}`; lanes are `urgent`, `normal` and `bulk`",
            excerpt(&written)
        ))
    };
    Lane::parse(&written).ok_or_else(wrong).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FacetRule;

    fn types() -> BTreeMap<Arc<str>, EntityType> {
        let rule = |pattern: &str, owner: &str, lane| FacetRule {
            pattern: pattern.into(),
            owner: owner.into(),
            lane,
        };
        let product = EntityType {
            name: "product".into(),
            facets: vec![
                rule("content", "pim", Lane::Normal),
                rule("price.*", "erp", Lane::Urgent),
            ],
            facet_bytes_max: 32,
            entities_max: 10,
        };
        BTreeMap::from([("product".into(), product)])
    }

    fn event(data: &str) -> Event {
        Event {
            id: String::new(),
            origin: String::new(),
            event_type: String::new(),
            subject: None,
            time: None,
            content_type: None,
            attributes: Vec::new(),
            trace: None,
            data: Payload::Text(data.into()),
        }
    }

    fn taken(data: &str, lane: Option<Lane>) -> Result<Vec<FacetChange>, Failure> {
        let (types, owner) = (types(), "erp".into());
        let rules = Rules {
            source: "erp-conditions",
            owner: &owner,
            types: &types,
            lane,
        };
        read(&event(data), false).and_then(|changes| settle(changes, true, rules))
    }

    // `price.*` is what the configuration calls the prices: a value for it was stored under that name.
    #[test]
    fn a_family_can_be_deleted_and_has_no_value() {
        let family =
            |rest: &str| format!(r#"{{"type":"product","key":"1","facet":"price.*",{rest}}}"#);
        check(&family(r#""value":1"#), "facet-name", "only a deletion");
        let deletion = taken(&family(r#""deleted":true"#), None).unwrap();
        assert_eq!(deletion[0].deleted_family(), Some("price."));
        let narrower = family(r#""deleted":true"#).replace("price.*", "price.de-*");
        assert_eq!(
            taken(&narrower, None).unwrap()[0].deleted_family(),
            Some("price.de-")
        );
        for wider in ["pri*", "*"] {
            let wider = family(r#""deleted":true"#).replace("price.*", wider);
            check(&wider, "unknown-facet", "has no facet");
        }
        let many = vec![family(r#""deleted":true"#); FAMILIES_MAX + 1].join(",");
        check(&format!("[{many}]"), "too-many-changes", "65 families");
    }

    /// The code of the failure and part of its sentence.
    fn check(data: &str, code: &str, sentence: &str) {
        let failure = taken(data, None).unwrap_err();
        assert_eq!(failure.code, code, "{data}: {failure}");
        assert!(failure.message.contains(sentence), "{data}: {failure}");
    }

    #[test]
    fn a_change_is_taken_as_it_is_written() {
        let one = taken(r#"{"type":"product","key":"47/11","facet":"price.de","value":{"amount": 9.90},"version":"17"}"#, None).unwrap();
        assert_eq!(one[0].id.to_string(), "product/47/11");
        assert_eq!(
            (&*one[0].facet, one[0].lane, one[0].version),
            ("price.de", Lane::Urgent, Some(17))
        );
        assert_eq!(one[0].value.as_deref(), Some(r#"{"amount": 9.90}"#));
        let gone = taken(
            r#"[{"type":"product","key":"\u0000","facet":"price.de","deleted":true,"version":18446744073709551615}]"#,
            None,
        );
        assert_eq!(gone.as_ref().unwrap()[0].value, None);
        assert_eq!(gone.unwrap()[0].version, Some(u64::MAX));
        let null = taken(
            r#"{"type":"product","key":"😀","facet":"price.de","value":null,"version":null}"#,
            None,
        )
        .unwrap();
        assert_eq!(null[0].value.as_deref(), Some("null"), "null is a value");
        assert_eq!(taken("[]", None).unwrap().len(), 0);
    }

    #[test]
    fn the_lane_is_the_change_s_then_the_request_s_then_the_facet_s() {
        let change = |lane: &str| {
            format!(r#"{{"type":"product","key":"1","facet":"price.de","value":1{lane}}}"#)
        };
        let lane = |data: String, request| taken(&data, request).unwrap()[0].lane;
        assert_eq!(
            lane(change(r#","lane":"normal""#), Some(Lane::Bulk)),
            Lane::Normal
        );
        assert_eq!(lane(change(""), Some(Lane::Bulk)), Lane::Bulk);
        assert_eq!(lane(change(""), None), Lane::Urgent);
    }

    #[test]
    fn what_is_no_change_is_told_what_is_missing() {
        check(
            r#"{"type":"product"}"#,
            "not-a-change",
            "missing field `key`",
        );
        check(
            r#"{"type":"product","key":"1","facet":"price.de"}"#,
            "not-a-change",
            "neither a `value` nor",
        );
        check(
            r#"{"type":"product","key":"1","facet":"price.de","value":1,"deleted":true}"#,
            "not-a-change",
            "has a `value` and is",
        );
        check(
            r#"{"type":"product","key":"1","facet":"price.de","value":1,"vesion":2}"#,
            "not-a-change",
            "unknown field `vesion`",
        );
        check(
            r#"{"type":"product","key":"1","facet":"price.de","value":1,"version":-1}"#,
            "not-a-change",
            "`version` is `-1`",
        );
        check(
            r#"{"type":"product","key":"1","facet":"price.de","value":1,"version":1.5}"#,
            "not-a-change",
            "`version` is `1.5`",
        );
        check(
            r#"{"type":"product","key":"1","facet":"price.de","value":1,"version":""}"#,
            "not-a-change",
            "must be a whole number",
        );
        check(
            r#"{"type":"product","key":"1","facet":"price.de","value":1,"lane":"fast"}"#,
            "not-a-change",
            "no lane `fast`",
        );
        check(
            r#"{"type":"product","key":4711,"facet":"price.de","value":1}"#,
            "not-a-change",
            "expected a",
        );
        check(r#""hello""#, "not-a-change", "a change is {");
        check(r#"[[]]"#, "not-a-change", "a change is {");
        check("hello", "invalid-json", "line 1 column 1");
    }

    #[test]
    fn what_may_not_be_written_says_what_would_be_right() {
        let change = |kind: &str, key: &str, facet: &str, value: &str| {
            format!(r#"{{"type":"{kind}","key":"{key}","facet":"{facet}","value":{value}}}"#)
        };
        check(
            &change("produkt", "1", "price.de", "1"),
            "unknown-type",
            "no entity type `produkt`; configured are: `product`",
        );
        check(
            &change("product", "1", "prices.de", "1"),
            "unknown-facet",
            "configured are: `content`, `price.*`",
        );
        check(
            &change("product", "1", "content", "1"),
            "foreign",
            "written by `pim`; source `erp-conditions` writes for `erp`",
        );
        check(
            &change("product", "", "price.de", "1"),
            "key",
            "1 to 1024 bytes, this one has 0",
        );
        check(
            &change("product", &"k".repeat(4096), "price.de", "1"),
            "key",
            "this one has 4096",
        );
        check(&change("product", "1", "", "1"), "facet-name", "is empty");
        check(
            &change("product", "1", r"price.\u0007", "1"),
            "facet-name",
            "control character",
        );
        check(
            &change("product", "1", &format!("price.{}", "x".repeat(123)), "1"),
            "facet-name",
            "has 129 bytes",
        );
        check(
            &change(
                "product",
                "1",
                "price.de",
                &format!("\"{}\"", "x".repeat(31)),
            ),
            "too-large",
            "has 33 bytes, `facet_max` of its type is 32",
        );
    }

    #[test]
    fn one_bad_change_holds_back_the_whole_event() {
        let good = r#"{"type":"product","key":"1","facet":"price.de","value":1}"#;
        check(
            &format!(r#"[{good},{{"type":"product","key":"1","facet":"content","value":1}}]"#),
            "foreign",
            "facet `content`",
        );
        check(
            &format!("[{}]", vec![good; CHANGES_MAX + 1].join(",")),
            "too-many-changes",
            "4097 changes",
        );
    }

    #[test]
    fn values_of_a_mapper_are_checked_to_be_json() {
        let (types, owner) = (types(), "erp".into());
        let rules = Rules {
            source: "erp",
            owner: &owner,
            types: &types,
            lane: None,
        };
        let change = |value: &str| Change {
            entity_type: "product".into(),
            key: "1".into(),
            facet: "price.de".into(),
            value: Some(value.into()),
            version: None,
            lane: None,
        };
        let code = |value: &str| {
            settle(vec![change(value)], false, rules)
                .map_or_else(|failure| failure.code, |_| "fine".into())
        };
        assert_eq!(code("{\"amount\":1}"), "fine");
        assert_eq!(code("{amount:1}"), "invalid-json");
        assert_eq!(code(""), "invalid-json");
    }
}
