//! Where two JSON documents differ, for drift checks.
//!
//! A target may add to what it was sent: an id, a time, a default. So a member that only the held document
//! has is no difference. Everything that was sent must be there with the same value.

use serde_json::{Number, Value};

/// The most places that are named.
const PLACES_MAX: usize = 8;

/// JSON pointers to the places at which `held` does not have what was `sent`, at most some of them. Empty if
/// nothing differs.
pub(crate) fn differences(sent: &Value, held: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare(sent, held, &mut String::new(), &mut found);
    found
}

fn compare(sent: &Value, held: &Value, at: &mut String, found: &mut Vec<String>) {
    if found.len() >= PLACES_MAX {
        return;
    }
    let length = at.len();
    match (sent, held) {
        (Value::Object(sent), Value::Object(held)) => {
            for (name, sent) in sent {
                at.push('/');
                at.push_str(&name.replace('~', "~0").replace('/', "~1"));
                match held.get(name) {
                    Some(held) => compare(sent, held, at, found),
                    // A target may leave out what has no value.
                    None if sent.is_null() => {}
                    None => found.push(at.clone()),
                }
                at.truncate(length);
            }
        }
        (Value::Array(sent), Value::Array(held)) if sent.len() == held.len() => {
            for (number, (sent, held)) in sent.iter().zip(held).enumerate() {
                at.push('/');
                at.push_str(&number.to_string());
                compare(sent, held, at, found);
                at.truncate(length);
            }
        }
        (Value::Number(sent), Value::Number(held)) if is_same(sent, held) => {}
        (sent, held) if sent == held => {}
        _ => found.push(at.clone()),
    }
}

/// 1.0 and 1 are the same number. Long ids are not, though they may be the same when they are rounded.
fn is_same(sent: &Number, held: &Number) -> bool {
    let whole = |number: &Number| {
        let signed = number.as_i64().map(i128::from);
        signed.or_else(|| number.as_u64().map(i128::from))
    };
    match (whole(sent), whole(held)) {
        (Some(sent), Some(held)) => sent == held,
        _ => sent.as_f64() == held.as_f64(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_place_that_differs_is_named_and_what_a_target_adds_is_none() {
        for (sent, held, expected) in [
            (json!({"a": 1}), json!({"a": 1.0, "id": 7}), vec![]),
            (json!({"a": null}), json!({}), vec![]),
            (json!({"a": 1}), json!({}), vec!["/a"]),
            (json!({"a": null}), json!({"a": 1}), vec!["/a"]),
            (
                json!({"a": {"b/c": [1, 2]}}),
                json!({"a": {"b/c": [1, 3]}}),
                vec!["/a/b~1c/1"],
            ),
            (json!([1, 2]), json!([1]), vec![""]),
            (json!({"a": "1"}), json!({"a": 1}), vec!["/a"]),
            (
                json!({"id": 9_007_199_254_740_993_u64}),
                json!({"id": 9_007_199_254_740_992_u64}),
                vec!["/id"],
            ),
            (json!({"id": u64::MAX}), json!({"id": u64::MAX}), vec![]),
            (json!("x"), json!("x"), vec![]),
        ] {
            assert_eq!(differences(&sent, &held), expected, "{sent} {held}");
        }
        let many: Value = (0..100).collect();
        let none: Value = (100..200).collect();
        assert_eq!(differences(&many, &none).len(), PLACES_MAX);
    }
}
