//! Writes values as JSON text without silent losses.
//!
//! serde_json writes a number that is not finite as `null`, which a channel would take for a value
//! that is missing. [`write`] fails instead and names the place.

use serde::{ser, Serialize, Serializer};
use std::fmt::{self, Display};

/// The value as JSON. The error is a phrase with the place: `price.amount is NaN`.
pub(crate) fn write<V: Serialize + ?Sized>(value: &V) -> Result<String, String> {
    match value.serialize(Finite) {
        // serde_json reports a failure of the value's own better.
        Err(wrong) if !wrong.own => Err(wrong.to_string()),
        _ => serde_json::to_string(value).map_err(|error| error.to_string()),
    }
}

/// Walks through a value and finds the first number that JSON cannot represent. It writes nothing,
/// so that a type without such numbers costs nothing.
#[derive(Clone, Copy)]
struct Finite;

/// Where a number is not finite, or nothing if the value fails by itself, which serde_json reports.
#[derive(Debug, Default)]
struct Wrong {
    /// The place, such as `prices[2].amount`; empty for the value itself.
    place: String,
    number: f64,
    /// A failure of the value's own.
    own: bool,
}

impl Wrong {
    fn below(self, name: &str) -> Wrong {
        let place = match self.place.chars().next() {
            None => name.to_owned(),
            Some('[') => format!("{name}{}", self.place),
            Some(_) => format!("{name}.{}", self.place),
        };
        Wrong { place, ..self }
    }
}

impl Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.place.as_str() {
            "" => "it",
            place => place,
        };
        write!(f, "{place} is {}", self.number)
    }
}

impl std::error::Error for Wrong {}

impl ser::Error for Wrong {
    fn custom<T: Display>(_: T) -> Self {
        Wrong {
            own: true,
            ..Wrong::default()
        }
    }
}

/// The methods for values that are always finite.
macro_rules! always_finite {
    ($($method:ident($type:ty)),*) => {
        $(fn $method(self, _: $type) -> Result<(), Wrong> {
            Ok(())
        })*
    };
}

impl Serializer for Finite {
    type Ok = ();
    type Error = Wrong;
    type SerializeSeq = Items;
    type SerializeTuple = Items;
    type SerializeTupleStruct = Items;
    type SerializeTupleVariant = Items;
    type SerializeMap = Members;
    type SerializeStruct = Members;
    type SerializeStructVariant = Members;

    fn serialize_f32(self, number: f32) -> Result<(), Wrong> {
        self.serialize_f64(number.into())
    }

    fn serialize_f64(self, number: f64) -> Result<(), Wrong> {
        match number.is_finite() {
            true => Ok(()),
            false => Err(Wrong {
                number,
                ..Wrong::default()
            }),
        }
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Wrong> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Wrong> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Wrong> {
        value.serialize(self).map_err(|wrong| wrong.below(variant))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Items, Wrong> {
        Ok(Items(0))
    }

    fn serialize_tuple(self, _: usize) -> Result<Items, Wrong> {
        Ok(Items(0))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Items, Wrong> {
        Ok(Items(0))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Items, Wrong> {
        Ok(Items(0))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Members, Wrong> {
        Ok(Members)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Members, Wrong> {
        Ok(Members)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Members, Wrong> {
        Ok(Members)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), Wrong> {
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Wrong> {
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Wrong> {
        Ok(())
    }

    fn serialize_unit(self) -> Result<(), Wrong> {
        Ok(())
    }

    /// Its text is made by serde_json alone.
    fn collect_str<T: Display + ?Sized>(self, _: &T) -> Result<(), Wrong> {
        Ok(())
    }

    always_finite! {
        serialize_bool(bool),
        serialize_i8(i8),
        serialize_i16(i16),
        serialize_i32(i32),
        serialize_i64(i64),
        serialize_i128(i128),
        serialize_u8(u8),
        serialize_u16(u16),
        serialize_u32(u32),
        serialize_u64(u64),
        serialize_u128(u128),
        serialize_char(char),
        serialize_str(&str),
        serialize_bytes(&[u8])
    }
}

/// The items of a list that were walked through so far.
struct Items(usize);

impl Items {
    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Wrong> {
        let number = self.0;
        self.0 += 1;
        value
            .serialize(Finite)
            .map_err(|wrong| wrong.below(&format!("[{number}]")))
    }
}

/// The members of an object.
struct Members;

impl Members {
    fn member<T: Serialize + ?Sized>(name: &str, value: &T) -> Result<(), Wrong> {
        value.serialize(Finite).map_err(|wrong| wrong.below(name))
    }
}

/// A kind of list or object, whose methods have names of their own.
macro_rules! walk {
    (items: $($kind:ident $method:ident),*) => {
        $(impl ser::$kind for Items {
            type Ok = ();
            type Error = Wrong;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Wrong> {
                self.item(value)
            }

            fn end(self) -> Result<(), Wrong> {
                Ok(())
            }
        })*
    };
    (members: $($kind:ident),*) => {
        $(impl ser::$kind for Members {
            type Ok = ();
            type Error = Wrong;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Wrong> {
                Members::member(name, value)
            }

            fn end(self) -> Result<(), Wrong> {
                Ok(())
            }
        })*
    };
}

walk!(items: SerializeSeq serialize_element, SerializeTuple serialize_element, SerializeTupleStruct serialize_field, SerializeTupleVariant serialize_field);
walk!(members: SerializeStruct, SerializeStructVariant);

impl ser::SerializeMap for Members {
    type Ok = ();
    type Error = Wrong;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, _: &T) -> Result<(), Wrong> {
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Wrong> {
        value.serialize(Finite)
    }

    fn serialize_entry<K: Serialize + ?Sized, V: Serialize + ?Sized>(
        &mut self,
        key: &K,
        value: &V,
    ) -> Result<(), Wrong> {
        value.serialize(Finite).map_err(|wrong| {
            let name = serde_json::to_string(key).unwrap_or_default();
            wrong.below(name.trim_matches('"'))
        })
    }

    fn end(self) -> Result<(), Wrong> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[derive(Serialize)]
    struct Page {
        name: &'static str,
        prices: Vec<Price>,
        ratings: BTreeMap<&'static str, f32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        weight: Option<f64>,
    }

    #[derive(Serialize)]
    enum Price {
        Once(f64),
        Staged { from: u32, amount: f64 },
        Pair(u8, f64),
        Free,
    }

    fn page(prices: Vec<Price>) -> Page {
        Page {
            name: "Fjord",
            prices,
            ratings: BTreeMap::new(),
            weight: None,
        }
    }

    #[test]
    fn what_json_can_represent_is_written_as_serde_json_does() {
        let mut page = page(vec![
            Price::Once(9.9),
            Price::Staged {
                from: 10,
                amount: 9.0,
            },
            Price::Pair(1, 2.5),
            Price::Free,
        ]);
        page.ratings.insert("de", 4.5);
        page.weight = Some(-0.0);
        assert_eq!(write(&page), Ok(serde_json::to_string(&page).unwrap()));
        assert_eq!(
            write(&(1, "a", [(); 2], 'c')),
            Ok(r#"[1,"a",[null,null],"c"]"#.into())
        );
    }

    // An article whose weight was unknown got the price 0/0, and all shops were told `null`.
    #[test]
    fn a_number_that_json_cannot_represent_fails_with_its_place() {
        assert_eq!(write(&f64::NAN), Err("it is NaN".into()));
        assert_eq!(write(&Some([0.0, f32::INFINITY])), Err("[1] is inf".into()));
        for (price, place) in [
            (Price::Once(f64::NAN), "prices[0].Once is NaN"),
            (
                Price::Staged {
                    from: 1,
                    amount: f64::NEG_INFINITY,
                },
                "prices[0].amount is -inf",
            ),
            (Price::Pair(1, f64::NAN), "prices[0][1] is NaN"),
        ] {
            assert_eq!(write(&page(vec![price])), Err(place.into()));
        }
        let mut page = page(vec![]);
        page.ratings.insert("de", f32::NAN);
        assert_eq!(write(&page), Err("ratings.de is NaN".into()));
        assert_eq!(write(&serde_json::json!({"a": 1})), Ok(r#"{"a":1}"#.into()));
    }

    #[test]
    fn another_failure_is_reported_in_the_words_of_serde_json() {
        let error = write(&BTreeMap::from([([1_u8], 2)])).unwrap_err();
        assert_eq!(error, "key must be a string");
    }
}
