//! The webhook target: HTTP requests with one or several entities, signed according to Standard
//! Webhooks.
//!
//! One attempt is one request, in the form that the API takes. Only a complete 2xx is a delivery, and
//! only if the rules of the target ([`Answers`]) say nothing else. [`super::http`] reads the answers and
//! handles the connection.

mod body;
mod look;
mod message;

use std::time::SystemTime;

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request};
use percent_encoding::utf8_percent_encode;
use xxhash_rust::xxh3::xxh3_64;

pub use self::look::Get;
use super::http::answers::{Answers, Response};
use super::http::status::Asked;
use super::http::{self, Address, Client, ENCODED, hints};
use super::{Attempt, BoxFuture, Delivery, Form, Held, Item, Nature, Outcome, Target, Unusable};
use crate::model::EntityId;
use crate::signature::SigningKey;

/// A webhook as configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The URL. If it contains `{key}`, each entity has its own URL.
    pub url: Address,
    /// The method of a request that puts entities.
    pub method: Method,
    /// The method of a request that deletes one entity; `None` if the target is never told of
    /// deletions.
    pub delete: Option<Method>,
    /// The body of a deletion, in place of the one that Weir writes. `{key}` and `{type}` are filled in,
    /// escaped for a JSON string.
    pub delete_body: Option<String>,
    /// How a batch writes an item.
    pub form: ItemForm,
    /// How a batch writes several items.
    pub format: Format,
    /// Written before and after the items, in place of the brackets of an array.
    pub wrap: Option<(String, String)>,
    /// The content type of every request with a body; `None` for that of the rendering or of the
    /// format.
    pub content_type: Option<String>,
    /// Standard Webhooks keys. Each one signs, so that a key can be rotated.
    pub sign: Vec<SigningKey>,
    /// Where the API shows what it holds, for drift checks.
    pub get: Option<Get>,
    /// What the answers mean.
    pub answers: Answers,
    /// Credentials, timeout and egress policy.
    pub http: http::Options,
}

impl Options {
    /// A webhook with the defaults of everything but its URL.
    pub fn new(url: Address) -> Options {
        let keyed = url.is_keyed();
        Options {
            url,
            method: if keyed { Method::PUT } else { Method::POST },
            delete: Some(if keyed { Method::DELETE } else { Method::POST }),
            delete_body: None,
            form: ItemForm::default(),
            format: Format::default(),
            wrap: None,
            content_type: None,
            sign: Vec::new(),
            get: None,
            answers: Answers::default(),
            http: http::Options::default(),
        }
    }

    /// The requirements of a webhook with these options. With `{key}` in the URL each entity has
    /// its own URL, so there are no batches.
    pub fn nature(&self) -> Nature {
        let in_url = self.url.is_keyed();
        let in_body = || {
            self.delete_body
                .as_ref()
                .is_some_and(|body| body.contains("{key}"))
        };
        let deletes_like_puts = self.delete.as_ref() == Some(&self.method);
        Nature {
            keyed: in_url || in_body(),
            batch_max: if in_url { 1 } else { usize::MAX },
            deletes_alone: !deletes_like_puts
                || self.form == ItemForm::Bare && self.delete_body.is_none(),
            compares: false,
        }
    }

    /// What is written before and after the items.
    fn wrap(&self) -> (&str, &str) {
        let wrap = self.wrap.as_ref();
        wrap.map_or(("", ""), |(open, close)| (open, close))
    }
}

/// How a batch writes an item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ItemForm {
    /// With its id, its type and its key: `{"id", "type", "key", "sequence", "deleted", "content"}`.
    #[default]
    Envelope,
    /// The content alone.
    Bare,
}

/// The format of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One JSON array.
    #[default]
    Array,
    /// One JSON object per line.
    Ndjson,
}

/// A webhook that is ready to deliver.
pub struct Webhook {
    options: Options,
    place: u64,
    client: Client,
}

impl Webhook {
    /// Prepares a webhook without opening a connection.
    ///
    /// # Errors
    /// A credential that cannot be used in a header, or an `https` URL on a system without root
    /// certificates.
    pub fn open(options: &Options) -> Result<Webhook, Unusable> {
        let keys: Vec<_> = options.sign.iter().flat_map(SigningKey::secrets).collect();
        Ok(Webhook {
            place: xxh3_64(format!("webhook {}", options.url.as_str()).as_bytes()),
            client: Client::open(&options.http, &options.url, &keys)?,
            options: options.clone(),
        })
    }

    /// Makes one request.
    async fn attempt(&self, attempt: Attempt<'_>) -> Delivery {
        let items = attempt.items;
        let all = |outcome| Delivery::from(vec![outcome; items.len()]);
        let deletes = items.iter().all(|item| item.rendering.is_none());
        if deletes && self.options.delete.is_none() {
            return all(Outcome::Delivered);
        }
        let id = match items {
            [item] => item.id.to_string(),
            _ => body::batch_id(items),
        };
        let seconds = seconds(attempt.now);
        let request = match self.request(attempt, deletes, &id, seconds) {
            Ok(request) => request,
            Err(reason) => {
                return all(Outcome::Refused {
                    reason,
                    after_tries: false,
                });
            }
        };
        let asked = Asked {
            by_key: self.options.url.is_keyed(),
            delete: request.method() == Method::DELETE,
            items: items.len(),
        };
        let seal = self.seal(&id, seconds);
        let answered = match self.client.submit(request, seal).await {
            Ok(answered) => answered,
            Err(outcome) => return all(outcome),
        };
        let status = answered.parts.status.as_u16();
        let hints = hints::read(&hints::Hinting {
            status,
            headers: &answered.parts.headers,
            body: &answered.body,
            now: attempt.now,
        });
        let response = Response {
            status,
            body: &answered.body,
            wait: hints.wait,
        };
        // A deletion that is alone in its request is answered as one.
        let alone = deletes && self.options.nature().deletes_alone;
        let batch = attempt.form == Form::Batch && !alone;
        Delivery {
            outcomes: self.options.answers.read(
                asked,
                items,
                batch,
                &response,
                self.client.redactor(&answered),
            ),
            hints,
        }
    }

    /// Signs a request. The signature is that of the bytes that are sent, never of a second serialisation, and
    /// not of what they are unpacked to.
    fn seal(&self, id: &str, seconds: u64) -> impl Fn(&mut HeaderMap, &[u8]) + Send + Sync {
        move |headers, body| {
            let signatures = signatures(&self.options.sign, id, seconds, body);
            if !signatures.is_empty() {
                put(headers, "webhook-signature", &signatures);
            }
        }
    }

    /// The request without its signature.
    fn request(
        &self,
        attempt: Attempt<'_>,
        deletes: bool,
        id: &str,
        seconds: u64,
    ) -> Result<Request<Bytes>, String> {
        let Attempt { items, form, .. } = attempt;
        let options = &self.options;
        let first = items.first().ok_or("nothing to deliver")?;
        let single = form == Form::Single || deletes && options.nature().deletes_alone;
        let (content_type, body) = match single {
            true => body::single(first, options),
            false => body::batch(items, options),
        };
        let content_type = options.content_type.as_ref().unwrap_or(&content_type);
        let method = match &options.delete {
            Some(delete) if deletes => delete,
            _ => &options.method,
        };
        let mut headers = self.client.headers();
        let content_type = HeaderValue::from_str(content_type)
            .map_err(|_| "the content type of the rendering is not a valid header value")?;
        if method != Method::DELETE || !body.is_empty() {
            headers.insert(CONTENT_TYPE, content_type);
        }
        let mut put = |name, value: &str| put(&mut headers, name, value);
        put("webhook-id", id);
        put("webhook-timestamp", &seconds.to_string());
        put("traceparent", &attempt.trace.to_string());
        if let Some(plugin) = &first.plugin {
            put("weir-plugin", plugin);
        }
        if single {
            put("weir-entity", &entity_header(&first.entity));
            put("weir-sequence", &first.sequence.to_string());
        }
        let mut request = Request::new(Bytes::from(body));
        *request.method_mut() = method.clone();
        *request.uri_mut() = options.url.uri(&first.key)?;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

impl Target for Webhook {
    fn nature(&self) -> Nature {
        self.options.nature()
    }

    fn place(&self) -> u64 {
        self.place
    }

    fn credentials(&self) -> Option<Vec<u8>> {
        self.client.credentials()
    }

    fn take_credentials(&self, kept: &[u8]) {
        self.client.take_credentials(kept);
    }

    fn check(&self) -> BoxFuture<'_, Result<Vec<String>, String>> {
        Box::pin(self.reach())
    }

    fn deliver<'a>(&'a self, attempt: Attempt<'a>) -> BoxFuture<'a, Delivery> {
        Box::pin(self.attempt(attempt))
    }

    fn compare<'a>(&'a self, items: &'a [Item]) -> BoxFuture<'a, Result<Vec<Held>, String>> {
        Box::pin(self.look(items))
    }
}

/// The value of `webhook-signature`: one signature for each key, separated by spaces, so that a key can
/// be rotated.
fn signatures(keys: &[SigningKey], id: &str, seconds: u64, body: &[u8]) -> String {
    keys.iter()
        .map(|key| key.sign(id, seconds, body))
        .collect::<Vec<_>>()
        .join(" ")
}

/// A moment as `webhook-timestamp` has it.
fn seconds(now: SystemTime) -> u64 {
    let since = now.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// `type/key`, percent-encoded.
fn entity_header(id: &EntityId) -> String {
    format!(
        "{}/{}",
        utf8_percent_encode(&id.entity_type, ENCODED),
        utf8_percent_encode(&id.key, ENCODED)
    )
}

#[cfg(test)]
mod tests;
