//! Methods that read an entity's facets.

use crate::{Entity, Error, Facet, Result};
use serde::Deserialize;

impl Entity {
    /// Reads the facet of this name from its JSON; `None` if the entity has no such facet. Fails
    /// with `wrong-facet` if the value does not have the form of `T`.
    pub fn facet<'a, T: Deserialize<'a>>(&'a self, name: &str) -> Result<Option<T>> {
        self.facets
            .iter()
            .find(|facet| facet.name == name)
            .map(Facet::json)
            .transpose()
    }

    /// The facets of a family with the rest of their names: for `stock.`, the facet `stock.berlin`
    /// comes with `berlin`.
    pub fn family<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a Facet)> + 'a {
        self.facets
            .iter()
            .filter_map(move |facet| Some((facet.name.strip_prefix(prefix)?, facet)))
    }
}

impl Facet {
    /// Makes a facet of this name and JSON text, for tests.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Facet {
            name: name.into(),
            value: value.into(),
        }
    }

    /// Reads the value from its JSON. Fails with `wrong-facet` if it does not have the form of `T`.
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        serde_json::from_str(&self.value).map_err(|error| {
            Error::new(
                "wrong-facet",
                format!(
                    "the facet {} does not have the expected form: {error}",
                    self.name
                ),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Price<'a> {
        amount: &'a str,
    }

    fn lamp() -> Entity {
        let facets = vec![
            Facet::new("price.de", r#"{"amount": "9.90"}"#),
            Facet::new("stock.berlin", "3"),
            Facet::new("stock.ulm", "4"),
        ];
        Entity {
            entity_type: "product".into(),
            key: "4711".into(),
            facets,
        }
    }

    #[test]
    fn a_facet_is_present_absent_or_wrong() {
        let lamp = lamp();
        assert_eq!(lamp.facet("price.de"), Ok(Some(Price { amount: "9.90" })));
        assert_eq!(lamp.facet::<Price<'_>>("price.fr"), Ok(None));
        let error = lamp.facet::<Price<'_>>("stock.ulm").expect_err("no price");
        assert!(
            error.code == "wrong-facet" && error.message.contains("stock.ulm"),
            "{error}"
        );
    }

    #[test]
    fn a_family_comes_with_the_rest_of_its_names() {
        let lamp = lamp();
        let stock: Vec<(&str, i64)> = lamp
            .family("stock.")
            .map(|(place, facet)| (place, facet.json().expect("a number")))
            .collect();
        assert_eq!(stock, [("berlin", 3), ("ulm", 4)]);
    }
}
