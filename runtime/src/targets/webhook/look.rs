//! Asks an API for what it holds, by a GET for each entity, for drift checks.

use std::time::{Duration, SystemTime};

use hyper::Method;
use serde_json::Value;

use super::Webhook;
use crate::model::Payload;
use crate::targets::difference::differences;
use crate::targets::http::hints::{self, Hinting};
use crate::targets::http::{Address, Pointer, reason, status};
use crate::targets::{Held, Item};

/// How often an entity is asked for again that was answered 429, and how long a wait is: as long as the
/// answer asks for, within these bounds. Meanwhile the slot is taken, so that a check slows down.
const ASKED_AGAIN: u32 = 3;
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(60);

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
            held.push(match item.rendering {
                // Such a target is never told of a deletion, so what it still holds is no difference.
                None if self.options.delete.is_none() => Held::Same,
                _ => self.look_at(get, item).await?,
            });
        }
        Ok(held)
    }

    async fn look_at(&self, get: &Get, item: &Item) -> Result<Held, String> {
        let url = match get.url.uri(&item.key) {
            Ok(url) => url.to_string(),
            Err(why) => return Ok(Held::Unknown(why)),
        };
        let mut again = 0;
        let (answered, code) = loop {
            let answered = match self.client.send(Method::GET, &url, None).await {
                Ok(answered) => answered,
                Err(outcome) => return Ok(Held::Unknown(reason(outcome))),
            };
            let code = answered.parts.status.as_u16();
            if code != 429 || again == ASKED_AGAIN {
                break (answered, code);
            }
            again += 1;
            let wait = hints::wait(&Hinting {
                status: code,
                headers: &answered.parts.headers,
                body: &answered.body,
                now: SystemTime::now(),
            });
            let wait = wait.unwrap_or_default().clamp(WAIT_MIN, WAIT_MAX);
            tokio::time::sleep(wait).await;
        };
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
                (None, None) => should_be_gone(&answered.body, &get.at),
                (None, Some(rendering)) => compared(&rendering.body, &answered.body, &get.at),
            },
            _ => Held::Unknown(described()),
        })
    }
}

/// What an answer says of an entity that should not be there. Some APIs answer 200 and null.
fn should_be_gone(answer: &[u8], at: &Pointer) -> Held {
    let Ok(answer) = serde_json::from_slice::<Value>(answer) else {
        return Held::Extra;
    };
    match at.first(&answer) {
        Some(Value::Null) => Held::Same,
        Some(_) => Held::Extra,
        None => nothing_at(at),
    }
}

fn nothing_at(at: &Pointer) -> Held {
    Held::Unknown(format!("the answer has nothing at {:?}", at.as_str()))
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
        return nothing_at(at);
    };
    if held.is_null() && !sent_json.is_null() {
        return Held::Missing;
    }
    match differences(&sent_json, held) {
        places if places.is_empty() => Held::Same,
        places => Held::Different(places),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // An API answered 200 and null for a product that it did not have. A deletion counted as lost at each
    // check, and a product that was missing as one that differed.
    #[test]
    fn an_entity_of_which_an_api_answers_null_is_not_there() {
        let at = Pointer::parse("/product").expect("a pointer");
        let sent = Payload::Text("{\"a\":1}".into());
        for (answer, wanted, unwanted) in [
            (r#"{"product":{"a":1,"id":7}}"#, Held::Same, Held::Extra),
            (
                r#"{"product":{"a":2}}"#,
                Held::Different(vec!["/a".to_owned()]),
                Held::Extra,
            ),
            (r#"{"product":null}"#, Held::Missing, Held::Same),
        ] {
            let bytes = answer.as_bytes();
            assert_eq!(compared(&sent, bytes, &at), wanted, "{answer}");
            assert_eq!(should_be_gone(bytes, &at), unwanted, "{answer}");
        }
        let elsewhere = b"{\"data\":{}}";
        let unknown = Held::Unknown("the answer has nothing at \"/product\"".to_owned());
        assert_eq!(compared(&sent, elsewhere, &at), unknown);
        assert_eq!(should_be_gone(elsewhere, &at), unknown);
    }
}
