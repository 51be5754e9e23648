//! Constructors for renderings, the content that a channel delivers for one entity.

use crate::{json, Error, Payload, Rendering, Result};
use serde::Serialize;

impl Rendering {
    /// Makes a JSON body, `application/json`. Fails with `not-json` if the value has no JSON form.
    pub fn json<V: Serialize + ?Sized>(value: &V) -> Result<Self> {
        match json::write(value) {
            Ok(text) => Ok(Rendering::of("application/json", text)),
            Err(error) => Err(Error::new(
                "not-json",
                format!("the rendering cannot be written as JSON: {error}"),
            )),
        }
    }

    /// Makes a body of text or bytes with this media type.
    pub fn of(content_type: impl Into<String>, body: impl Into<Payload>) -> Self {
        Rendering {
            key: None,
            content_type: Some(content_type.into()),
            body: body.into(),
        }
    }

    /// Sets the name of the entity at the target: a document id, `{key}` in a URL. The default is
    /// the entity's key.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets another media type, such as `application/ld+json`.
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_type = Some(content_type.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rendering_has_the_fields_that_were_set() {
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
