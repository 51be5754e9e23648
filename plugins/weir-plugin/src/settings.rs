//! Reads settings, a JSON object, into a type. An error names the field.

use serde::de::DeserializeOwned;

/// Reads a plugin's settings. If they do not fit, the error is a sentence for the operator with the
/// plugin, the field and the reason.
///
/// The attributes use this function. Your own reader of settings can start with it, and so can a
/// test:
///
/// ```
/// # #[derive(serde::Deserialize)] struct Settings { minimum: u32 }
/// impl Settings {
///     fn parse(json: &str) -> Result<Self, String> {
///         let settings: Settings = weir_plugin::settings("in-stock", json)?;
///         match settings.minimum {
///             0 => Err("settings of in-stock: minimum is 0, so everything would pass".into()),
///             _ => Ok(settings),
///         }
///     }
/// }
/// # assert!(Settings::parse(r#"{"minimum": 0}"#).is_err());
/// assert_eq!(
///     Settings::parse(r#"{"minimum": -1}"#).err().unwrap(),
///     "settings of in-stock: minimum should be a whole number from 0 to 4294967295, but is -1"
/// );
/// ```
pub fn settings<S: DeserializeOwned>(plugin: &str, json: &str) -> Result<S, String> {
    let mut reader = serde_json::Deserializer::from_str(json);
    let settings = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let setting = error.path().to_string();
        let setting = if setting == "." { "" } else { &setting };
        let why = worded(setting, &without_position(&error.inner().to_string()));
        format!("settings of {plugin}: {why}")
    })?;
    reader
        .end()
        .map_err(|error| format!("settings of {plugin}: {error}"))?;
    Ok(settings)
}

/// An error without its position: settings come from a configuration, so a position in their JSON
/// leads nowhere.
fn without_position(why: &str) -> String {
    match why.rfind(" at line ") {
        Some(at) => why[..at].to_owned(),
        None => why.to_owned(),
    }
}

/// serde's words as those of a configuration: which setting, what was expected, what is there.
fn worded(setting: &str, why: &str) -> String {
    let named = |rest: &str| {
        let name = rest.split('`').next().unwrap_or_default();
        let around = setting
            .strip_suffix(name)
            .map_or(setting, |around| around.trim_end_matches('.'));
        match around {
            "" => name.to_owned(),
            around => format!("{around}.{name}"),
        }
    };
    if let Some(rest) = why.strip_prefix("missing field `") {
        return format!("`{}` is missing", named(rest));
    }
    if let Some(rest) = why.strip_prefix("unknown field `") {
        let known = match choices(rest) {
            Some(known) => format!("known settings: {}", known.join(", ")),
            None => "there are no settings".to_owned(),
        };
        return format!("unknown setting `{}`; {known}", named(rest));
    }
    let what = if setting.is_empty() { "it" } else { setting };
    if let Some(rest) = why.strip_prefix("unknown variant `") {
        let given = rest.split('`').next().unwrap_or_default();
        let known = choices(rest).unwrap_or_default().join(" or ");
        return format!("{what} should be {known}, but is \"{given}\"");
    }
    let wrong = ["invalid type: ", "invalid value: "]
        .into_iter()
        .find_map(|prefix| why.strip_prefix(prefix)?.rsplit_once(", expected "));
    match wrong {
        Some((given, expected)) => format!(
            "{what} should be {}, but is {}",
            expected_in_words(expected),
            given_in_words(given)
        ),
        None if setting.is_empty() => why.to_owned(),
        None => format!("{setting}: {why}"),
    }
}

/// The names in backticks behind `expected`, which comes after the backtick that ends the given one.
fn choices(rest: &str) -> Option<Vec<&str>> {
    let (_, expected) = rest.split_once('`')?.1.split_once("expected ")?;
    Some(expected.split('`').skip(1).step_by(2).collect())
}

fn expected_in_words(expected: &str) -> String {
    let whole = |from: i128, to: i128| format!("a whole number from {from} to {to}");
    match expected {
        "u8" => whole(0, u8::MAX.into()),
        "u16" => whole(0, u16::MAX.into()),
        "u32" => whole(0, u32::MAX.into()),
        "i8" => whole(i8::MIN.into(), i8::MAX.into()),
        "i16" => whole(i16::MIN.into(), i16::MAX.into()),
        "i32" => whole(i32::MIN.into(), i32::MAX.into()),
        "u64" | "u128" | "usize" => "a whole number that is not negative".into(),
        "i64" | "i128" | "isize" => "a whole number".into(),
        "f32" | "f64" => "a number".into(),
        "a boolean" => "true or false".into(),
        "a string" | "a borrowed string" => "text".into(),
        "a character" => "a single character".into(),
        "a sequence" => "a list".into(),
        "a map" => "an object".into(),
        other if other.starts_with("struct ") => "an object".into(),
        other => other.into(),
    }
}

fn given_in_words(given: &str) -> String {
    let quoted = given.split('`').nth(1);
    match (given, quoted) {
        ("sequence", _) => "a list".into(),
        ("map", _) => "an object".into(),
        ("unit value", _) => "null".into(),
        // Text is quoted as in JSON.
        (_, None) => given.strip_prefix("string ").unwrap_or(given).into(),
        (_, Some(value)) => value.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)] // Read for its errors alone.
    struct Settings {
        locales: Vec<String>,
        #[serde(default)]
        lists: BTreeMap<String, List>,
        #[serde(default)]
        order: Option<Order>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Order {
        Rising,
        Falling,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)] // As above.
    struct List {
        minimum: u32,
    }

    #[test]
    fn an_error_names_the_field_that_does_not_fit() {
        for (json, said) in [
            (r#"{}"#, "`locales` is missing"),
            (
                r#"{"locales": [], "local": 1}"#,
                "unknown setting `local`; known settings: locales, lists, order",
            ),
            (
                r#"{"locales": "de"}"#,
                "locales should be a list, but is \"de\"",
            ),
            (
                r#"{"locales": ["de", 7]}"#,
                "locales[1] should be text, but is 7",
            ),
            (
                r#"{"locales": ["de", null]}"#,
                "locales[1] should be text, but is null",
            ),
            (
                r#"{"locales": [], "lists": {"de": {"minimum": -1}}}"#,
                "lists.de.minimum should be a whole number from 0 to 4294967295, but is -1",
            ),
            (
                r#"{"locales": [], "lists": {"de": {"minimum": 1.5}}}"#,
                "lists.de.minimum should be a whole number from 0 to 4294967295, but is 1.5",
            ),
            (
                r#"{"locales": [], "lists": {"de": {}}}"#,
                "`lists.de.minimum` is missing",
            ),
            (
                r#"{"locales": [], "lists": {"de": {"minimum": 1, "most": 2}}}"#,
                "unknown setting `lists.de.most`; known settings: minimum",
            ),
            (
                r#"{"locales": [], "order": "asc, expected b"}"#,
                "order should be rising or falling, but is \"asc, expected b\"",
            ),
            (
                r#"{"locales": [], "lists": true}"#,
                "lists should be an object, but is true",
            ),
            ("", "EOF while parsing a value"),
        ] {
            let error = settings::<Settings>("lamps", json).expect_err(json);
            assert_eq!(error, format!("settings of lamps: {said}"), "{json}");
        }
        let error = settings::<Settings>("lamps", r#"{"locales": []} {}"#).expect_err("two");
        assert!(error.starts_with("settings of lamps: trailing"), "{error}");
        assert_eq!(
            settings::<Settings>("lamps", r#"{"locales": ["de"]}"#)
                .expect("settings")
                .locales,
            ["de"]
        );
    }
}
