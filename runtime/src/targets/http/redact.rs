//! Redacts our secrets from responses. Some targets, especially in debug mode, echo the request.
//! The beginning of a response is shown to operators and written to logs, so it must not contain
//! the credentials.

use std::borrow::Cow;
use std::sync::Arc;

use hyper::header::HeaderMap;
use memchr::memmem;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::{Address, Auth, Options};
use crate::signature::Secret;

/// Written in place of a secret.
const REDACTED: &[u8] = b"[secret]";
/// A shorter text occurs in every response, and is too short to redact without false hits.
const SECRET_BYTES_MIN: usize = 6;
/// A path segment of at least this length may be a secret; a shorter one is taken for a name.
pub(super) const SEGMENT_BYTES_MIN: usize = 16;

/// Redacts secrets in texts. It has each secret in all spellings, longest first, so that no part of
/// one is left over. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Redactor {
    secrets: Arc<[Vec<u8>]>,
    /// The parts of the target's address that are never shown, as they are in a URL.
    hidden: Arc<[String]>,
}

impl Redactor {
    /// Redacts everything that authenticates us to the target: the credentials, the keys, and the
    /// parts of a URL that may be secret. `headers` are those that every request carries.
    pub(super) fn new(
        headers: &HeaderMap,
        options: &Options,
        keys: &[Secret],
        address: &Address,
    ) -> Redactor {
        let mut texts: Vec<String> = Vec::new();
        let mut add = |bytes: &[u8]| texts.extend(spellings(&String::from_utf8_lossy(bytes)));
        for value in headers.values().filter(|value| value.is_sensitive()) {
            let value = value.as_bytes();
            add(value);
            // The credentials after `Basic` or `Bearer`.
            value
                .iter()
                .position(|byte| *byte == b' ')
                .map(|space| &value[space + 1..])
                .into_iter()
                .for_each(&mut add);
        }
        for (_, secret) in &options.headers {
            add(&secret.0);
        }
        match &options.auth {
            Auth::None => {}
            Auth::Bearer(secret)
            | Auth::Basic {
                password: secret, ..
            } => add(&secret.0),
            Auth::Headers(headers) => headers.iter().for_each(|(_, secret)| add(&secret.0)),
            Auth::OAuth2(oauth2) => oauth2.secrets().for_each(|secret| add(&secret.0)),
        }
        for secret in keys {
            add(&secret.0);
            add(crate::signature::in_base64(&secret.0).as_bytes());
        }
        if let Some(url) = address.without_key() {
            let segments = url
                .path()
                .split('/')
                .filter(|segment| segment.len() >= SEGMENT_BYTES_MIN);
            segments.for_each(|segment| add(segment.as_bytes()));
            let values = url
                .query()
                .unwrap_or_default()
                .split('&')
                .filter_map(|pair| pair.split_once('='));
            values.for_each(|(_, value)| add(value.as_bytes()));
        }
        Redactor {
            secrets: sorted(texts.into_iter()).into(),
            hidden: address.hidden().into(),
        }
    }

    /// Redacts these, and the parts of a URL that may be secret.
    pub(crate) fn of_secrets(secrets: &[Secret], address: &Address) -> Redactor {
        Redactor::new(&HeaderMap::new(), &Options::default(), secrets, address)
    }

    /// The same, which also redacts this secret.
    pub(super) fn with(&self, secret: &str) -> Redactor {
        let known = self
            .secrets
            .iter()
            .map(|known| String::from_utf8_lossy(known).into_owned());
        Redactor {
            secrets: sorted(known.chain(spellings(secret))).into(),
            hidden: self.hidden.clone(),
        }
    }

    /// Returns the text with each secret in it redacted.
    pub(crate) fn redact<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        let mut shown = Cow::Borrowed(text);
        for secret in &*self.secrets {
            if let Some(covered) = cover(&shown, secret) {
                shown = Cow::Owned(covered);
            }
        }
        shown
    }

    /// The same, as text.
    pub(crate) fn redact_text(&self, text: &[u8]) -> String {
        String::from_utf8_lossy(&self.redact(text)).into_owned()
    }

    /// The URL of a request without its secrets.
    pub(super) fn redact_url(&self, url: &str) -> String {
        let (path, query) = match url.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (url, None),
        };
        let shown = |part: &str| match self.hidden.iter().any(|hidden| hidden == part) {
            true => String::from_utf8_lossy(REDACTED).into_owned(),
            false => part.to_owned(),
        };
        let mut url = path.split('/').map(shown).collect::<Vec<_>>().join("/");
        if let Some(query) = query {
            let pair = |pair: &str| match pair.split_once('=') {
                Some((name, value)) => format!("{name}={}", shown(value)),
                None => shown(pair),
            };
            let pairs: Vec<String> = query.split('&').map(pair).collect();
            url = format!("{url}?{}", pairs.join("&"));
        }
        self.redact_text(url.as_bytes())
    }

    /// The first bytes of a text without its secrets, at most this many.
    pub(super) fn redact_beginning(&self, text: &[u8], bytes_max: usize) -> Vec<u8> {
        // A secret that begins before the end is in the piece as a whole.
        let longest = self.secrets.first().map_or(0, Vec::len);
        let piece = &text[..text.len().min(bytes_max + longest)];
        let mut shown = self.redact(piece).into_owned();
        shown.truncate(bytes_max);
        shown
    }
}

/// Those that are long enough, longest first.
fn sorted(texts: impl Iterator<Item = String>) -> Vec<Vec<u8>> {
    let mut hidden: Vec<Vec<u8>> = texts
        .filter(|text| text.len() >= SECRET_BYTES_MIN)
        .map(String::into_bytes)
        .collect();
    hidden.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    hidden.dedup();
    hidden
}

/// Replaces the secret in the text; returns `None` if the text does not contain it.
fn cover(text: &[u8], secret: &[u8]) -> Option<Vec<u8>> {
    let mut found = memmem::find_iter(text, secret).peekable();
    found.peek()?;
    let (mut covered, mut from) = (Vec::with_capacity(text.len()), 0);
    for at in found {
        covered.extend_from_slice(&text[from..at]);
        covered.extend_from_slice(REDACTED);
        from = at + secret.len();
    }
    covered.extend_from_slice(&text[from..]);
    Some(covered)
}

/// The spellings of a text: plain, in JSON, in URLs, and in forms.
fn spellings(text: &str) -> Vec<String> {
    let json = serde_json::Value::from(text).to_string();
    let encoded = utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let decoded = percent_decode_str(text).decode_utf8_lossy().into_owned();
    vec![
        text.to_owned(),
        json[1..json.len() - 1].to_owned(),
        encoded.to_lowercase(),
        encoded,
        decoded,
        url::form_urlencoded::byte_serialize(text.as_bytes()).collect(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor(auth: Auth, url: &str) -> Redactor {
        let keys = [Secret(b"a key of twenty-four bytes".to_vec())];
        let options = Options {
            auth,
            ..Options::default()
        };
        let headers = super::super::auth::headers(&options.auth, &[]).expect("headers");
        let address = Address::parse(url).expect("a URL");
        Redactor::new(&headers, &options, &keys, &address)
    }

    fn over(redactor: &Redactor, text: &str) -> String {
        String::from_utf8_lossy(&redactor.redact(text.as_bytes())).into_owned()
    }

    // A shop in debug mode returned 500 with the request that it had received; the channel's page
    // then showed the password to everyone with read access.
    #[test]
    fn what_a_target_echoes_is_shown_without_our_secrets() {
        let auth = Auth::Basic {
            user: "weir".into(),
            password: Secret(b"pass%word:of \"the\" shop".to_vec()),
        };
        let redactor = redactor(
            auth,
            "http://shop.example/hooks/T0123456789ABCDEF/{key}?token=query%2Ftoken&v=1",
        );
        for (said, shown) in [
            (
                "Authorization: Basic d2VpcjpwYXNzJXdvcmQ6b2YgInRoZSIgc2hvcA==.",
                "Authorization: [secret].",
            ),
            ("d2VpcjpwYXNzJXdvcmQ6b2YgInRoZSIgc2hvcA==", "[secret]"),
            (
                r#"{"password": "pass%word:of \"the\" shop"}"#,
                r#"{"password": "[secret]"}"#,
            ),
            ("pass%25word%3Aof%20%22the%22%20shop", "[secret]"),
            ("pass%25word%3Aof+%22the%22+shop", "[secret]"),
            (
                "GET /hooks/T0123456789ABCDEF/4711?token=query%2Ftoken&v=1",
                "GET /hooks/[secret]/4711?token=[secret]&v=1",
            ),
            (
                "token query/token is wrong, wrong: query/token",
                "token [secret] is wrong, wrong: [secret]",
            ),
            (
                "the key is YSBrZXkgb2YgdHdlbnR5LWZvdXIgYnl0ZXM=",
                "the key is [secret]",
            ),
            ("no such product", "no such product"),
        ] {
            assert_eq!(over(&redactor, said), shown);
        }
    }

    // The parts that `shown` hides are hidden in the URL of a request too, however short they are, and a key
    // that looks like a secret is shown.
    #[test]
    fn the_url_of_a_request_hides_what_the_address_hides() {
        let text = "http://shop.example/hooks/a1b2c3/v1/{key}?token=t%2F1&id={key}&debug";
        let redactor = redactor(Auth::None, text);
        let address = Address::parse(text).expect("a URL");
        let url = address
            .uri("T0123456789ABCDEF/x")
            .expect("a URL")
            .to_string();
        assert_eq!(
            redactor.redact_url(&url),
            "http://shop.example/hooks/[secret]/v1/T0123456789ABCDEF%2Fx?token=[secret]&id=T0123456789ABCDEF%2Fx&debug"
        );
    }

    #[test]
    fn a_beginning_holds_no_part_of_a_secret() {
        let auth = Auth::Bearer(Secret(b"a-secret-of-20-bytes".to_vec()));
        let redactor = redactor(auth, "http://shop.example/weir");
        let text = b"{\"token\": \"a-secret-of-20-bytes\", \"more\": true}";
        for most in 0..text.len() {
            let shown = redactor.redact_beginning(text, most);
            let shown = String::from_utf8_lossy(&shown);
            assert!(shown.len() <= most && !shown.contains("a-s"), "{shown}");
        }
    }

    #[test]
    fn what_is_too_short_to_be_a_secret_hides_nothing() {
        let redactor = redactor(
            Auth::Bearer(Secret(b"abc".to_vec())),
            "http://shop.example/weir?v=1",
        );
        assert_eq!(over(&redactor, "abc, weir, 1"), "abc, weir, 1");
        assert_eq!(over(&redactor, "Bearer abc"), "[secret]");
    }
}
