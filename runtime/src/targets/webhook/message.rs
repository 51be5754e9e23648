//! A message that is no delivery, signed as deliveries are.

use std::time::SystemTime;

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request};

use super::{Webhook, put, seconds};
use crate::targets::Outcome;
use crate::targets::http::hints::{self, Hinting};
use crate::targets::http::status::{self, Answer, Asked};

impl Webhook {
    /// Posts a JSON text to the URL, which has no `{key}`. The meaning of the response is that for a delivery.
    pub(crate) async fn tell(&self, id: &str, body: Vec<u8>, now: SystemTime) -> Outcome {
        let seconds = seconds(now);
        let mut headers = self.client.headers();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        put(&mut headers, "webhook-id", id);
        put(&mut headers, "webhook-timestamp", &seconds.to_string());
        let mut request = Request::new(Bytes::from(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = match self.options.url.uri("") {
            Ok(uri) => uri,
            Err(reason) => return Outcome::Trip { reason },
        };
        *request.headers_mut() = headers;
        let answered = match self.client.submit(request, self.seal(id, seconds)).await {
            Ok(answered) => answered,
            Err(outcome) => return outcome,
        };
        let status = answered.parts.status.as_u16();
        let retry_after = hints::wait(&Hinting {
            status,
            headers: &answered.parts.headers,
            body: &answered.body,
            now,
        });
        let asked = Asked {
            by_key: false,
            delete: false,
            items: 1,
        };
        let body = self.client.redactor(&answered).redact(&answered.body);
        let answer = Answer {
            status,
            retry_after,
            body: &body,
        };
        status::meaning(asked, answer)
    }

    /// Opens a connection to the URL and sends nothing. Returns warnings of what was not tried.
    ///
    /// # Errors
    /// What is wrong, as a phrase.
    pub(crate) async fn reach(&self) -> Result<Vec<String>, String> {
        self.client.reach(&self.options.url).await
    }
}
