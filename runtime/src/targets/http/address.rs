//! The URL of an HTTP target, parsed and checked once, when the configuration is read.

use hyper::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use super::redact::SEGMENT_BYTES_MIN;

/// The set of characters that are percent-encoded when a key is put into a path or a query.
pub(crate) const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// The placeholder that is replaced by the key of an entity.
const KEY: &str = "{key}";
/// Replaces the placeholder while the URL is parsed. It is in lower case, so that parsing changes
/// it in no part of a URL.
const PLACEHOLDER: &str = "weir-key-goes-here";

/// The address of a target: one URL for all requests or, with `{key}` in the path or the query, one
/// for each entity.
#[derive(Clone, Debug, PartialEq)]
pub struct Address {
    text: String,
    secure: bool,
    uris: Uris,
}

#[derive(Clone, Debug, PartialEq)]
enum Uris {
    /// The URL of all requests.
    Common(Uri),
    /// The pieces of the URL between the keys.
    Keyed(Vec<String>),
}

/// The reason why a URL cannot be the address of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadAddress {
    /// It is not a URL; the reason completes "this is not a URL: …".
    NotAUrl(String),
    /// It has no scheme and no host.
    Relative,
    /// It is neither `http` nor `https`.
    Scheme(String),
    /// It has no host.
    NoHost,
    /// It contains a user or a password.
    Credentials,
    /// It has a fragment, which is never sent.
    Fragment,
    /// `{key}` is in the host.
    KeyInHost,
}

impl Address {
    /// Parses a URL that may have `{key}` in the path and the query.
    ///
    /// # Errors
    /// See [`BadAddress`].
    pub fn parse(text: &str) -> Result<Address, BadAddress> {
        let url = Url::parse(&text.replace(KEY, PLACEHOLDER)).map_err(|error| match error {
            url::ParseError::RelativeUrlWithoutBase => BadAddress::Relative,
            error => BadAddress::NotAUrl(error.to_string()),
        })?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(BadAddress::Scheme(url.scheme().replace(PLACEHOLDER, KEY)));
        }
        let host = url.host_str().unwrap_or_default();
        if host.is_empty() {
            return Err(BadAddress::NoHost);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BadAddress::Credentials);
        }
        if url.fragment().is_some() {
            return Err(BadAddress::Fragment);
        }
        if host.contains(PLACEHOLDER) {
            return Err(BadAddress::KeyInHost);
        }
        // Also check the URI that the client will get, with a key in place of the placeholder.
        let uri: Uri = url
            .as_str()
            .parse()
            .map_err(|error: hyper::http::uri::InvalidUri| {
                BadAddress::NotAUrl(error.to_string())
            })?;
        let pieces: Vec<String> = url.as_str().split(PLACEHOLDER).map(str::to_owned).collect();
        Ok(Address {
            text: text.to_owned(),
            secure: url.scheme() == "https",
            uris: match pieces.len() {
                1 => Uris::Common(uri),
                _ => Uris::Keyed(pieces),
            },
        })
    }

    /// The URL as written in the configuration.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The URL as written, with `hidden` in place of each part that may be secret: the values of the
    /// query, and the segments of the path that are more than a word.
    pub(crate) fn shown(&self, hidden: &str) -> String {
        let (rest, query) = match self.text.split_once('?') {
            Some((rest, query)) => (rest, Some(query)),
            None => (self.text.as_str(), None),
        };
        // `https:`, an empty segment and the host come before the path.
        let segment = |(at, segment): (usize, &'_ str)| match at >= 3 && may_be_secret(segment) {
            true => hidden.to_owned(),
            false => segment.to_owned(),
        };
        let segments: Vec<String> = rest.split('/').enumerate().map(segment).collect();
        let mut shown = segments.join("/");
        if let Some(query) = query {
            let pair = |pair: &str| match pair.split_once('=') {
                Some((_, "" | KEY)) => pair.to_owned(),
                Some((name, _)) => format!("{name}={hidden}"),
                None if may_be_secret(pair) => hidden.to_owned(),
                None => pair.to_owned(),
            };
            let pairs: Vec<String> = query.split('&').map(pair).collect();
            shown = format!("{shown}?{}", pairs.join("&"));
        }
        shown
    }

    /// The parts that [`Address::shown`] hides, as they are in the URL of a request.
    pub(super) fn hidden(&self) -> Vec<String> {
        let Some(url) = self.without_key() else {
            return Vec::new();
        };
        let segments = url.path().split('/').filter(|part| may_be_secret(part));
        let pairs = url.query().unwrap_or_default().split('&');
        let values = pairs.filter_map(|pair| match pair.split_once('=') {
            Some((_, value)) => Some(value).filter(|value| !value.is_empty()),
            None => Some(pair).filter(|pair| may_be_secret(pair)),
        });
        segments.chain(values).map(str::to_owned).collect()
    }

    /// Whether each entity has its own URL.
    pub fn is_keyed(&self) -> bool {
        matches!(self.uris, Uris::Keyed(_))
    }

    /// Whether it is `https`.
    pub(crate) fn is_secure(&self) -> bool {
        self.secure
    }

    /// The host, and the port.
    pub(crate) fn host_and_port(&self) -> (String, u16) {
        let url = self.without_key();
        let host = url
            .as_ref()
            .and_then(|url| url.host_str())
            .unwrap_or_default();
        let port = url.as_ref().and_then(Url::port_or_known_default);
        (host.to_owned(), port.unwrap_or(80))
    }

    /// The URL as written, without the placeholders.
    pub(super) fn without_key(&self) -> Option<Url> {
        Url::parse(&self.text.replace(KEY, "")).ok()
    }

    /// The URI of a request for the entity with this key.
    ///
    /// # Errors
    /// The reason why the key cannot be used in a URL.
    pub(crate) fn uri(&self, key: &str) -> Result<Uri, String> {
        match &self.uris {
            Uris::Common(uri) => Ok(uri.clone()),
            // Servers treat these as path steps, however they are encoded.
            Uris::Keyed(_) if matches!(key, "" | "." | "..") => {
                Err(format!("the key {key:?} cannot be used in a URL"))
            }
            Uris::Keyed(pieces) => {
                let text = pieces.join(&utf8_percent_encode(key, ENCODED).to_string());
                text.parse()
                    .map_err(|error| format!("the key cannot be used in a URL: {error}"))
            }
        }
    }
}

/// Whether a segment of a path may be a secret: it is long, or letters and digits are mixed in it.
fn may_be_secret(segment: &str) -> bool {
    let has = |kind: fn(&u8) -> bool| segment.as_bytes().iter().any(kind);
    let mixed = has(u8::is_ascii_alphabetic) && has(u8::is_ascii_digit);
    !segment.contains(KEY)
        && (segment.len() >= SEGMENT_BYTES_MIN || segment.len() >= MIXED_BYTES_MIN && mixed)
}

/// A segment of this length in which letters and digits are mixed may be a secret; `v1` and `de-2`
/// are not.
const MIXED_BYTES_MIN: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_cannot_be_used_is_refused_with_the_reason() {
        for (url, reason) in [
            ("ftp://shop/x", BadAddress::Scheme("ftp".into())),
            ("http://user:pw@shop/", BadAddress::Credentials),
            ("http://{key}@shop/", BadAddress::Credentials),
            ("http://{key}.shop/", BadAddress::KeyInHost),
            ("http://shop/#{key}", BadAddress::Fragment),
            ("not a url", BadAddress::Relative),
            ("http://", BadAddress::NotAUrl("empty host".into())),
        ] {
            assert_eq!(Address::parse(url), Err(reason), "{url}");
        }
    }

    // Chat and automation services give out URLs that are the credentials.
    #[test]
    fn a_url_is_shown_without_the_parts_that_may_be_secret() {
        for (url, shown) in [
            (
                "http://127.0.0.1:8081/shop/de",
                "http://127.0.0.1:8081/shop/de",
            ),
            (
                "https://shop.example/v1/products/{key}?again={key}&dry&empty=",
                "https://shop.example/v1/products/{key}?again={key}&dry&empty=",
            ),
            (
                "https://hooks.example/T024BE7LD/B/X8c2sWq9fGhJkLmNoPqRsTuV",
                "https://hooks.example/[secret]/B/[secret]",
            ),
            (
                "https://hooks.example/catch/3f2k9ab/",
                "https://hooks.example/catch/[secret]/",
            ),
            (
                "https://shop.example/weir?code=abc&v=1",
                "https://shop.example/weir?code=[secret]&v=[secret]",
            ),
            (
                "https://shop.example?a1b2c3d4",
                "https://shop.example?[secret]",
            ),
            ("https://a1b2c3d4.example", "https://a1b2c3d4.example"),
        ] {
            let address = Address::parse(url).expect("a URL");
            assert_eq!(address.shown("[secret]"), shown);
        }
    }

    #[test]
    fn a_key_is_encoded_wherever_it_stands() {
        let address = Address::parse("https://shop/p/{key}.json?again={key}").expect("a URL");
        assert!(address.is_keyed() && address.is_secure());
        let uri = |key: &str| address.uri(key).map(|uri| uri.to_string());
        assert_eq!(
            uri("a/b"),
            Ok("https://shop/p/a%2Fb.json?again=a%2Fb".to_owned())
        );
        assert!(uri("..").is_err() && uri("").is_err());
        let common = Address::parse("http://shop/weir").expect("a URL");
        assert!(!common.is_keyed() && !common.is_secure());
        assert_eq!(
            common.uri("..").map(|uri| uri.to_string()),
            Ok("http://shop/weir".to_owned())
        );
    }
}
