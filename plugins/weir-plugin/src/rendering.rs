//! Making renderings: what a target gets for one entity.

use crate::{Error, Payload, Rendering, Result};
use serde::Serialize;

impl Rendering {
    /// JSON, `application/json`. Fails with `not-json` if the value has no JSON form.
    pub fn json<V: Serialize + ?Sized>(value: &V) -> Result<Self> {
        match serde_json::to_string(value) {
            Ok(text) => Ok(Rendering::of("application/json", text)),
            Err(error) => Err(Error::new(
                "not-json",
                format!("the rendering cannot be written as JSON: {error}"),
            )),
        }
    }

    /// Text or bytes of this media type.
    pub fn of(content_type: impl Into<String>, body: impl Into<Payload>) -> Self {
        Rendering {
            key: None,
            content_type: Some(content_type.into()),
            body: body.into(),
        }
    }

    /// What the target calls it, if that is not the entity's key: a document id, `{key}` in a URL.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Another media type, such as `application/ld+json`.
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_type = Some(content_type.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rendering_says_what_it_was_told() {
        let page = Rendering::json(&["Fjord"]).expect("JSON");
        assert_eq!(page, Rendering::of("application/json", r#"["Fjord"]"#));
        let page = page.key("de-4711").content_type("application/ld+json");
        assert_eq!(
            (page.key.as_deref(), page.content_type.as_deref()),
            (Some("de-4711"), Some("application/ld+json"))
        );
        assert_eq!(
            Rendering::of("image/png", vec![0x89]).body,
            Payload::Binary(vec![0x89])
        );
    }
}
