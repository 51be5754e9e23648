//! Asks an API for what it holds, by a GET for each entity, for drift checks.

use hyper::Method;
use serde_json::Value;

use super::Webhook;
use crate::model::Payload;
use crate::targets::difference::differences;
use crate::targets::http::{Address, Pointer, reason, status};
use crate::targets::{Held, Item};

/// Where an API shows what it holds of an entity.
#[derive(Clone, Debug, PartialEq)]
pub struct Get {
    /// The URL of an entity, with `{key}`.
    pub url: Address,
    /// Where in the answer the entity is.
    pub at: Pointer,
}

impl Webhook {
    pub(super) async fn look(&self, items: &[Item]) -> Result<Vec<Held>, String> {
        let Some(get) = &self.options.get else {
            return Err(
                "Weir does not know where this API shows what it holds; write get = { url = \"…/{key}\" } into the target"
                    .to_owned(),
            );
        };
        let mut held = Vec::with_capacity(items.len());
        for item in items {
            held.push(self.look_at(get, item).await?);
        }
        Ok(held)
    }

    async fn look_at(&self, get: &Get, item: &Item) -> Result<Held, String> {
        let url = match get.url.uri(&item.key) {
            Ok(url) => url.to_string(),
            Err(why) => return Ok(Held::Unknown(why)),
        };
        let answered = match self.client.send(Method::GET, &url, None).await {
            Ok(answered) => answered,
            Err(outcome) => return Ok(Held::Unknown(reason(outcome))),
        };
        let code = answered.parts.status.as_u16();
        let described = || {
            let body = self.client.redactor(&answered).redact(&answered.body);
            status::describe(code, &body)
        };
        let wanted = item.rendering.as_deref();
        Ok(match (code, wanted) {
            (404 | 410, None) => Held::Same,
            (404 | 410, Some(_)) => Held::Missing,
            // The same would be said of each entity.
            (401 | 403 | 405 | 407, _) => return Err(described()),
            (200..=299, wanted) => match (&answered.cut, wanted) {
                (Some(why), _) => Held::Unknown(why.clone()),
                (None, None) => Held::Extra,
                (None, Some(rendering)) => compared(&rendering.body, &answered.body, &get.at),
            },
            _ => Held::Unknown(described()),
        })
    }
}

/// Compares a rendering with an answer: as JSON if it is JSON, otherwise byte by byte.
fn compared(sent: &Payload, answer: &[u8], at: &Pointer) -> Held {
    let Ok(sent_json) = serde_json::from_slice::<Value>(sent.as_bytes()) else {
        return match sent.as_bytes() == answer {
            true => Held::Same,
            false => Held::Different(Vec::new()),
        };
    };
    let Ok(answer) = serde_json::from_slice::<Value>(answer) else {
        return Held::Unknown("the answer is not JSON, and the rendering is".to_owned());
    };
    let Some(held) = at.first(&answer) else {
        return Held::Unknown(format!("the answer has nothing at {:?}", at.as_str()));
    };
    match differences(&sent_json, held) {
        places if places.is_empty() => Held::Same,
        places => Held::Different(places),
    }
}
