//! Entities to renderings: what `jq-renderer` does.
//!
//! The input of the program, `.`, is the entity: `{"type", "key", "facets": {name: value}}`.
//! `$settings` has the settings other than the program, and the columns of the channel's row. The
//! output is one rendering, `{"body", "key", "content_type"}`, of which only `body` is needed. No
//! output, or `null`, means that the entity is not for this channel.

use crate::{wrong_answer, Settings, Val};
use weir_plugin::{Entity, Rendering, Result};

const SHAPE: &str =
    "a rendering is {body, key if it is not the entity's, content_type if it is not JSON}";
const JSON: &str = "application/json";

/// Renders one entity.
pub fn render(entity: &Entity, settings: &Settings) -> Result<Option<Rendering>> {
    let mut outputs = settings
        .program
        .run(crate::entity(entity)?, |_| settings.others.clone());
    let Some(output) = outputs.next().transpose()? else {
        return Ok(None);
    };
    if let Some(second) = outputs.next().transpose()? {
        return Err(wrong_answer(format!(
            "the program returned more than one rendering; the second is {}",
            crate::shown(&second)
        )));
    }
    match output {
        Val::Null => Ok(None),
        output => rendering(&output).map(Some),
    }
}

fn rendering(output: &Val) -> Result<Rendering> {
    let wrong = |why: &str| {
        wrong_answer(format!(
            "{why}; {SHAPE}, but the program returned {}",
            crate::shown(output)
        ))
    };
    let Some(members) = crate::members(output) else {
        return Err(wrong("this is no rendering"));
    };
    let (mut body, mut key, mut content_type) = (None, None, None);
    for (name, member) in members {
        let text = || {
            let text = crate::as_text(member).map(str::to_owned);
            text.ok_or_else(|| wrong(&format!("`{name}` should be text, as (.id | tostring) is")))
        };
        match (name.as_ref(), member) {
            ("body", _) => body = Some(member),
            ("key" | "content_type", Val::Null) => {}
            ("key", _) => key = Some(text()?),
            ("content_type", _) => content_type = Some(text()?),
            (other, _) => return Err(wrong(&format!("`{other}` is not a member of a rendering"))),
        }
    }
    let Some(body) = body else {
        return Err(wrong("`body` is missing"));
    };
    let content_type = content_type.unwrap_or_else(|| JSON.to_owned());
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let is_json = media_type.eq_ignore_ascii_case(JSON) || media_type.ends_with("+json");
    let body = match body {
        body if is_json => crate::written(body, || "the body".to_owned())?,
        body => {
            let why = format!("`body` should be text, because the content type is {content_type}");
            crate::as_text(body).ok_or_else(|| wrong(&why))?.to_owned()
        }
    };
    let mut rendering = Rendering::of(content_type, body);
    rendering.key = key;
    Ok(rendering)
}
