//! Carries the requests of `object_store` over Weir's own connections, and keeps what their answers say.
//!
//! `object_store` signs requests and reads results. It would also retry with an old body, follow the
//! environment, connect anywhere, and reduce an answer to its status: so it gets these connections, never
//! retries, and whoever asks it for something finds the last answer here, with the code of its error and the
//! wait that it asks for.

use std::cell::RefCell;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http_body_util::BodyExt;
use memchr::memmem;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpService,
};

use super::place::Place;
use crate::targets::http::{Address, Connections, Egress, Parts, Redactor, Wire, hints};
use crate::targets::{Outcome, Unusable};

/// Bytes of an answer in which the code of an error is looked for.
const ERROR_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a message that are quoted.
const MESSAGE_BYTES_MAX: usize = 300;
/// A longer name is none of a region.
const REGION_BYTES_MAX: usize = 64;
/// The hosts at which clouds give a machine its credentials.
const METADATA_HOSTS: [&str; 3] = ["169.254.169.254", "metadata.google.internal", "metadata"];
/// Timeout of a request for credentials to the metadata service, which is on the same machine.
const METADATA_TIMEOUT: Duration = Duration::from_secs(5);

tokio::task_local! {
    /// The last answer to a request of this task.
    static SEEN: RefCell<Option<Seen>>;
}

/// What became of the last request.
#[derive(Clone, Debug)]
pub(super) enum Seen {
    /// There was no complete response.
    Broken(Outcome),
    /// There was one.
    Answered(Answered),
}

/// A complete response, as far as its meaning depends on it.
#[derive(Clone, Debug, Default)]
pub(super) struct Answered {
    pub(super) status: u16,
    /// The code of the error; empty if there is none.
    pub(super) code: String,
    /// What the store says about it, for users.
    pub(super) message: String,
    /// How long the store asks Weir to wait.
    pub(super) wait: Option<Duration>,
    /// The time at the store.
    pub(super) date: Option<SystemTime>,
    /// The region in which the bucket is, if it is another one.
    pub(super) region: Option<String>,
    /// Whether it came from a service that gives credentials, and not from the store.
    pub(super) credentials: bool,
}

/// Runs a request of `object_store`, and returns its result with the last answer.
pub(super) async fn watched<T>(work: impl Future<Output = T>) -> (T, Option<Seen>) {
    let seen = async {
        let result = work.await;
        (result, SEEN.with(|seen| seen.borrow_mut().take()))
    };
    SEEN.scope(RefCell::default(), seen).await
}

/// The connections of a store.
#[derive(Clone)]
pub(super) struct Carrier(Arc<Wires>);

struct Wires {
    /// The host of the store, to tell its answers from those of a service that gives credentials.
    host: String,
    secure: bool,
    store: Wire,
    /// For services that give tokens, which are always asked by TLS; `None` if the store is as well.
    tokens: Option<Wire>,
    /// For the metadata service; `None` if the configuration does not allow it.
    metadata: Option<Wire>,
    /// Keeps secrets out of what is quoted and shown.
    redactor: Redactor,
}

impl Carrier {
    /// Prepares the connections without opening one.
    ///
    /// # Errors
    /// See [`Wire::open`].
    pub(super) fn open(place: &Place, address: &Address) -> Result<Carrier, Unusable> {
        let Place {
            connections,
            timeout,
            ..
        } = place;
        let tokens = Address::parse("https://oauth2.googleapis.com").ok();
        let tokens = match tokens.filter(|_| place.auth.has_tokens() && !address.is_secure()) {
            Some(address) => Some(Wire::open(connections, *timeout, &address)?),
            None => None,
        };
        let metadata = Address::parse("http://169.254.169.254").ok();
        let metadata = match metadata.filter(|_| place.auth.is_instance()) {
            Some(address) => {
                let connections = Connections {
                    egress: Egress::Metadata,
                    ..Connections::default()
                };
                Some(Wire::open(&connections, METADATA_TIMEOUT, &address)?)
            }
            None => None,
        };
        Ok(Carrier(Arc::new(Wires {
            host: address.host_and_port().0,
            secure: address.is_secure(),
            store: Wire::open(connections, *timeout, address)?,
            tokens,
            metadata,
            redactor: Redactor::of_secrets(&place.auth.secrets(), address),
        })))
    }

    /// Opens a connection to the store, and sends nothing.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn reach(&self, address: &Address) -> Result<(), String> {
        self.0.store.reach(address).await
    }

    /// Makes a request and reads the answer to its end.
    async fn carry(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (head, body) = request.into_parts();
        let body = match body.as_bytes() {
            Some(bytes) => bytes.clone(),
            None => HttpRequestBody::collect(body).await?.to_bytes(),
        };
        let wires = &*self.0;
        let host = head.uri.host().unwrap_or_default().to_owned();
        let secure = head.uri.scheme_str() == Some("https");
        let wire = match METADATA_HOSTS.contains(&&*host) {
            true => wires.metadata.as_ref(),
            false if secure == wires.secure => Some(&wires.store),
            false => wires.tokens.as_ref().filter(|_| secure),
        };
        let Some(wire) = wire else {
            return Err(broken(Outcome::Trip {
                reason: format!(
                    "a request to {host} is not allowed: its credentials are not configured to come from there"
                ),
            }));
        };
        // The host of a bucket may stand before the host of the store.
        let credentials = !(host == wires.host || host.ends_with(&format!(".{}", wires.host)));
        // Nobody sees requests for credentials.
        let shown = (!credentials).then_some(&wires.redactor);
        match wire.exchange(head, body, shown).await {
            Ok((head, body)) => {
                let answered = Answered {
                    credentials,
                    ..answered(&head, &body)
                };
                keep(Seen::Answered(Answered {
                    message: wires.redactor.redact_text(answered.message.as_bytes()),
                    ..answered
                }));
                Ok(HttpResponse::from_parts(head, body.into()))
            }
            Err(outcome) => Err(broken(outcome)),
        }
    }
}

impl HttpConnector for Carrier {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

impl HttpService for Carrier {
    fn call<'life0, 'async_trait>(
        &'life0 self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(self.carry(request))
    }
}

impl fmt::Debug for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Carrier")
    }
}

/// There is no response.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NoResponse(String);

/// Keeps the outcome, and returns an error for `object_store`.
fn broken(outcome: Outcome) -> HttpError {
    keep(Seen::Broken(outcome.clone()));
    let reason = crate::targets::http::reason(outcome);
    HttpError::new(HttpErrorKind::Unknown, NoResponse(reason))
}

fn keep(seen: Seen) {
    // Outside of `watched` nobody asks.
    let _ = SEEN.try_with(|last| last.replace(Some(seen)));
}

/// What a complete response says, wherever the store says it.
fn answered(head: &Parts, body: &[u8]) -> Answered {
    let text = &body[..body.len().min(ERROR_BYTES_MAX)];
    let success = head.status.is_success();
    let has_error = !success || memmem::find(text, b"<Error").is_some();
    let header = |name: &str| head.headers.get(name)?.to_str().ok().map(quoted);
    let inside = |tag: &str| has_error.then(|| element(text, tag)).flatten();
    let code = inside("Code").or_else(|| header("x-ms-error-code").filter(|_| !success));
    let message = inside("Message").unwrap_or_else(|| match success {
        true => String::new(),
        false => quoted(&String::from_utf8_lossy(text)),
    });
    Answered {
        status: head.status.as_u16(),
        code: code.unwrap_or_default(),
        message,
        wait: hints::wait(&hints::Hinting {
            status: head.status.as_u16(),
            headers: &head.headers,
            body: &[],
            now: SystemTime::now(),
        }),
        date: header("date").and_then(|date| httpdate::parse_http_date(&date).ok()),
        region: header("x-amz-bucket-region")
            .or_else(|| inside("Region"))
            .filter(|region| region.len() <= REGION_BYTES_MAX),
        credentials: false,
    }
}

/// The text of the first element with this name.
fn element(xml: &[u8], name: &str) -> Option<String> {
    let open = format!("<{name}>");
    let from = memmem::find(xml, open.as_bytes())? + open.len();
    let rest = &xml[from..];
    let text = &rest[..memchr::memchr(b'<', rest)?];
    let text = String::from_utf8_lossy(text);
    let text = quick_xml::escape::unescape(&text).unwrap_or_else(|_| text.clone());
    Some(quoted(&text))
}

/// A text for users: one line, not too long.
fn quoted(text: &str) -> String {
    let mut end = text.len().min(MESSAGE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let plain = |character: char| match character.is_control() {
        true => ' ',
        false => character,
    };
    let line: String = text[..end].chars().map(plain).collect();
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::meaning::{Verb, is_missing, meaning};
    use super::*;

    #[test]
    fn an_element_is_read_as_text() {
        let xml = b"<?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>a &lt; b\n</Message></Error>";
        assert_eq!(element(xml, "Code").as_deref(), Some("SlowDown"));
        assert_eq!(element(xml, "Message").as_deref(), Some("a < b"));
        assert_eq!(element(xml, "Region"), None);
        assert_eq!(element(b"<Code>cut", "Code"), None);
    }

    // A service that gives credentials is asked like a store, and its answers are secrets as a whole.
    #[tokio::test]
    async fn nobody_sees_requests_for_credentials() {
        let fake = super::super::fake::Fake::start().await;
        let address = Address::parse(&fake.url()).expect("a URL");
        let place = super::super::tests::place(&fake.url());
        let carrier = Carrier::open(&place, &address).expect("it opens");
        let seen_at = async |host: &str| {
            let url = format!("http://{host}:{}/shop/token", address.host_and_port().1);
            let mut request = HttpRequest::new(HttpRequestBody::empty());
            *request.uri_mut() = url.parse().expect("a URL");
            let (answer, seen) = crate::targets::http::witness(carrier.carry(request)).await;
            answer.expect("an answer");
            seen.len()
        };
        assert_eq!(seen_at("127.0.0.1").await, 1);
        assert_eq!(seen_at("localhost").await, 0);
    }

    /// Pieces of answers of stores, and of what is between them and Weir.
    fn pieces() -> impl Strategy<Value = Vec<u8>> {
        let known = prop::sample::select(vec![
            "<?xml version=\"1.0\"?>",
            "<Error>",
            "</Error>",
            "<Error",
            "<Code>",
            "</Code>",
            "<Code/>",
            "NoSuchKey",
            "SlowDown",
            "PermanentRedirect",
            "RequestTimeTooSkewed",
            "<Message>",
            "</Message>",
            "<Region>",
            "</Region>",
            "&lt;",
            "&#27;",
            "&#0;",
            "&unknown;",
            "&#x110000;",
            "<![CDATA[",
            "]]>",
            "\u{feff}",
            "\u{202e}",
            "<html>",
        ]);
        let known = known.prop_map(|piece| piece.as_bytes().to_vec());
        let long = (any::<u8>(), 0..2_000_usize).prop_map(|(byte, count)| vec![byte; count]);
        let piece = prop_oneof![
            8 => known,
            1 => prop::collection::vec(any::<u8>(), 0..20),
            1 => long,
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        // Each header and each element comes from a store, or from whatever stands before it.
        #[test]
        fn no_answer_of_a_store_is_too_strange(
            status in 100..1_000_u16,
            body in pieces(),
            headers in prop::collection::vec(
                (
                    prop::sample::select(vec!["x-ms-error-code", "x-amz-bucket-region", "date", "retry-after"]),
                    pieces(),
                ),
                0..3,
            ),
        ) {
            let mut response = HttpResponse::new(Vec::new().into());
            *response.status_mut() = status.try_into().expect("a status");
            for (name, value) in headers {
                if let Ok(value) = value.try_into() {
                    response.headers_mut().append(name, value);
                }
            }
            let (head, _) = response.into_parts();
            let seen = Seen::Answered(answered(&head, &body));
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000);
            for verb in [Verb::Put, Verb::Part, Verb::Delete, Verb::Look] {
                let outcome = meaning(verb, Some(&seen), "no such thing", now);
                let (done, missing) = (outcome == Outcome::Delivered, is_missing(Some(&seen)));
                prop_assert_eq!(done, missing && verb == Verb::Delete);
                let shows = matches!(verb, Verb::Put | Verb::Delete);
                let unknown = matches!(outcome, Outcome::Retry { maybe_applied: true, .. });
                prop_assert!(shows || !unknown, "{outcome:?} of {verb:?}");
                let reason = crate::targets::http::reason(outcome);
                prop_assert!(reason.len() < 2_048, "{} bytes", reason.len());
                prop_assert!(!reason.chars().any(char::is_control), "{reason:?}");
            }
        }
    }
}
