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
/// assert!(Settings::parse(r#"{"minimum": -1}"#).err().unwrap().starts_with("settings of in-stock: minimum: invalid value"));
/// ```
pub fn settings<S: DeserializeOwned>(plugin: &str, json: &str) -> Result<S, String> {
    let mut reader = serde_json::Deserializer::from_str(json);
    let settings = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let field = error.path().to_string();
        let why = error.into_inner().to_string();
        // For an unknown or a missing field, the error itself has the name.
        match field == "." || why.contains(&format!("`{field}`")) {
            true => format!("settings of {plugin}: {why}"),
            false => format!("settings of {plugin}: {field}: {why}"),
        }
    })?;
    reader
        .end()
        .map_err(|error| format!("settings of {plugin}: {error}"))?;
    Ok(settings)
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
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code)] // As above.
    struct List {
        minimum: u32,
    }

    #[test]
    fn an_error_names_the_field_that_does_not_fit() {
        for (json, said) in [
            (r#"{}"#, "settings of lamps: missing field `locales`"),
            (
                r#"{"locales": [], "local": 1}"#,
                "settings of lamps: unknown field `local`",
            ),
            (
                r#"{"locales": "de"}"#,
                "settings of lamps: locales: invalid type",
            ),
            (
                r#"{"locales": ["de", 7]}"#,
                "settings of lamps: locales[1]: invalid type: integer `7`",
            ),
            (
                r#"{"locales": [], "lists": {"de": {"minimum": -1}}}"#,
                "settings of lamps: lists.de.minimum: invalid value",
            ),
            ("", "settings of lamps: EOF"),
            (
                r#"{"locales": []} {}"#,
                "settings of lamps: trailing characters",
            ),
        ] {
            let error = settings::<Settings>("lamps", json).expect_err(json);
            assert!(error.starts_with(said), "{json}: {error}");
        }
        assert_eq!(
            settings::<Settings>("lamps", r#"{"locales": ["de"]}"#)
                .expect("settings")
                .locales,
            ["de"]
        );
    }
}
