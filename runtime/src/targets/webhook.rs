//! The webhook target: HTTP requests with one or several entities, signed according to Standard
//! Webhooks.
//!
//! One attempt is one request. Only a complete 2xx is a delivery; a 2xx to a batch may list a
//! status for each item. [`super::http`] defines the other statuses and handles the connection.

mod body;

use std::borrow::Cow;
use std::time::SystemTime;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request};
use percent_encoding::utf8_percent_encode;
use xxhash_rust::xxh3::xxh3_64;

use super::http::status::{self, Answer, Asked};
use super::http::{self, Address, Client, ENCODED};
use super::{Attempt, BoxFuture, Form, Nature, Outcome, Target, Unusable};
use crate::model::EntityId;
use crate::signature::{self, Secret};

/// A webhook as configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The URL. If it contains `{key}`, entities are put and deleted at their own URLs; otherwise
    /// they are posted.
    pub url: Address,
    /// Standard Webhooks secrets. Each one signs, so that a secret can be rotated.
    pub sign: Vec<Secret>,
    /// The format of a batch.
    pub format: Format,
    /// Credentials, timeout and egress policy.
    pub http: http::Options,
}

impl Options {
    /// The requirements of a webhook with these options. With `{key}` in the URL each entity has
    /// its own URL, so there are no batches.
    pub fn nature(&self) -> Nature {
        let keyed = self.url.is_keyed();
        Nature {
            keyed,
            batch_max: if keyed { 1 } else { usize::MAX },
        }
    }
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
        Ok(Webhook {
            place: xxh3_64(format!("webhook {}", options.url.as_str()).as_bytes()),
            client: Client::open(&options.http, &options.url, &options.sign)?,
            options: options.clone(),
        })
    }

    /// Makes one request and returns the outcome of each item.
    async fn attempt(&self, attempt: Attempt<'_>) -> Vec<Outcome> {
        let items = attempt.items;
        let request = match self.request(attempt) {
            Ok(request) => request,
            Err(reason) => {
                return vec![
                    Outcome::Refused {
                        reason,
                        after_tries: false
                    };
                    items.len()
                ];
            }
        };
        let asked = Asked {
            by_key: self.options.url.is_keyed(),
            delete: request.method() == Method::DELETE,
            items: items.len(),
        };
        let outcome = match self.client.exchange(request).await {
            Ok((parts, body)) => {
                let retry_after = parts
                    .headers
                    .get(RETRY_AFTER)
                    .and_then(|value| status::retry_after(value.to_str().ok()?, attempt.now));
                let redactor = self.client.redactor();
                if attempt.form == Form::Batch
                    && parts.status.is_success()
                    && let Some(outcomes) =
                        status::item_by_item(items.iter().map(|item| item.id), &body, redactor)
                {
                    return outcomes;
                }
                // A successful response is never quoted.
                let body = if parts.status.is_success() {
                    Cow::Borrowed(body.as_slice())
                } else {
                    redactor.redact(&body)
                };
                status::meaning(
                    asked,
                    Answer {
                        status: parts.status.as_u16(),
                        retry_after,
                        body: &body,
                    },
                )
            }
            Err(outcome) => outcome,
        };
        vec![outcome; items.len()]
    }

    fn request(&self, attempt: Attempt<'_>) -> Result<Request<Full<Bytes>>, String> {
        let Attempt { items, form, .. } = attempt;
        let keyed = self.options.url.is_keyed();
        let first = items.first().ok_or("nothing to deliver")?;
        let (content_type, body) = match form {
            Form::Batch => body::batch(items, self.options.format),
            Form::Single => body::single(first, keyed),
        };
        let id = if items.len() == 1 {
            first.id.to_string()
        } else {
            body::batch_id(items)
        };
        let seconds = attempt
            .now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let method = match &first.rendering {
            _ if !keyed => Method::POST,
            Some(_) => Method::PUT,
            None => Method::DELETE,
        };
        let mut headers = self.client.headers();
        let content_type = HeaderValue::from_str(&content_type)
            .map_err(|_| "the content type of the rendering is not a valid header value")?;
        if method != Method::DELETE {
            headers.insert(CONTENT_TYPE, content_type);
        }
        let mut put = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        put("webhook-id", &id);
        put("webhook-timestamp", &seconds.to_string());
        if !self.options.sign.is_empty() {
            put(
                "webhook-signature",
                &signatures(&self.options.sign, &id, seconds, &body),
            );
        }
        put("traceparent", &attempt.trace.to_string());
        if let Some(plugin) = &first.plugin {
            put("weir-plugin", plugin);
        }
        if form == Form::Single {
            put("weir-entity", &entity_header(&first.entity));
            put("weir-sequence", &first.sequence.to_string());
        }
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = method;
        *request.uri_mut() = self.options.url.uri(&first.key)?;
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

    fn deliver<'a>(&'a self, attempt: Attempt<'a>) -> BoxFuture<'a, Vec<Outcome>> {
        Box::pin(self.attempt(attempt))
    }
}

/// The value of `webhook-signature`: one signature for each secret, separated by spaces, so that a
/// secret can be rotated. It signs exactly the bytes that are sent, never a second serialisation of
/// them.
fn signatures(secrets: &[Secret], id: &str, seconds: u64, body: &[u8]) -> String {
    secrets
        .iter()
        .map(|secret| signature::sign(secret, id, seconds, body))
        .collect::<Vec<_>>()
        .join(" ")
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
