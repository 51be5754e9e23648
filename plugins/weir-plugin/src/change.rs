//! Constructors for changes: one facet of one entity, optionally with a version and a lane.

use crate::{json, Change, Error, Result};
use serde::Serialize;

impl Change {
    /// Sets the facet to a value. Fails with `not-json` if the value has no JSON form, such as NaN
    /// or a map with keys that are not text.
    pub fn facet<V: Serialize + ?Sized>(
        entity_type: impl Into<String>,
        key: impl Into<String>,
        facet: impl Into<String>,
        value: &V,
    ) -> Result<Self> {
        let (key, facet) = (key.into(), facet.into());
        match json::write(value) {
            Ok(value) => Ok(Change {
                value: Some(value),
                ..Change::delete(entity_type, key, facet)
            }),
            Err(error) => Err(Error::new(
                "not-json",
                format!("{facet} of {key} cannot be written as JSON: {error}"),
            )),
        }
    }

    /// Deletes the facet. An entity without facets is deleted itself.
    pub fn delete(
        entity_type: impl Into<String>,
        key: impl Into<String>,
        facet: impl Into<String>,
    ) -> Self {
        Change {
            entity_type: entity_type.into(),
            key: key.into(),
            facet: facet.into(),
            value: None,
            version: None,
            lane: None,
        }
    }

    /// Sets the owner's version of the facet, which must rise. Without it, the change that arrives
    /// last wins. See [`version_from_time`](crate::version_from_time).
    pub fn version(mut self, version: impl Into<Option<u64>>) -> Self {
        self.version = version.into();
        self
    }

    /// Sets the lane, `urgent`, `normal` or `bulk`, instead of the facet's configured one.
    pub fn lane(mut self, lane: impl Into<String>) -> Self {
        self.lane = Some(lane.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_change_has_the_fields_that_were_set() {
        let change = Change::facet(
            "product",
            "4711",
            "stock.berlin",
            &BTreeMap::from([("available", 3)]),
        )
        .expect("JSON");
        let expected = Change {
            entity_type: "product".into(),
            key: "4711".into(),
            facet: "stock.berlin".into(),
            value: Some(r#"{"available":3}"#.into()),
            version: Some(7),
            lane: Some("urgent".into()),
        };
        assert_eq!(change.version(7).lane("urgent"), expected);
        assert_eq!(
            Change::delete("product", "4711", "base")
                .version(None)
                .value,
            None
        );
    }

    #[test]
    fn a_value_without_a_json_form_fails_by_name() {
        let error = Change::facet("product", "4711", "base", &BTreeMap::from([([1_u8], 2)]))
            .expect_err("no JSON");
        assert!(
            error.code == "not-json" && error.message.starts_with("base of 4711"),
            "{error}"
        );
    }
}
