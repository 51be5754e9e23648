//! How a sender signs: which hash, which key, what is signed, and where the signature and the timestamp
//! are. One description serves every sender; three of them sign something that no template can say.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use base64::Engine;

use super::super::Headers;
use super::{MISMATCH, NotVerified, adyen, any, contentful, equal, one, twilio};
use crate::model::Timestamp;
use crate::signature::{
    Algorithm, BASE64, Secret, SigningKey, VerifyingKey, hmac, in_base64, is_signed,
};

/// The most signatures of a request that are looked at, so that a header full of guesses costs little.
const SIGNATURES_MAX: usize = 16;
/// The most signatures with a private key: each of them is a computation of its own.
const PRIVATE_MAX: usize = 4;
/// What precedes a signature with a private key, in Standard Webhooks.
const PRIVATE_PREFIX: &str = "v1a,";

/// How a sender signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheme {
    /// The name of the preset, or `hmac`.
    pub kind: &'static str,
    /// The hash.
    pub algorithm: Algorithm,
    /// The headers that may hold a signature, in lower case; one that matches is enough.
    pub headers: Vec<String>,
    /// What precedes a signature, such as `sha256=`.
    pub prefix: String,
    /// What separates several signatures in one header.
    pub separator: Option<char>,
    /// How a signature is written.
    pub encoding: Encoding,
    /// What is signed.
    pub content: Content,
    /// Where the time of signing is, if it is signed.
    pub timestamp: Option<Stamp>,
    /// The URL under which senders reach this source, without its query, if it is signed.
    pub url: Option<String>,
    /// Accepted keys.
    pub keys: Vec<VerifyingKey>,
}

/// How a signature is written in its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Lower or upper case.
    Hex,
    /// Standard alphabet, with or without padding.
    Base64,
}

/// What is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// These pieces, in order.
    Template(Vec<Piece>),
    /// As Adyen: some members of each notification in the body, which has the signature too.
    Adyen,
    /// As Contentful: method, path, the headers that one of them lists, and the body.
    Contentful,
    /// As Twilio: the URL, and the fields of a form or the hash of another body.
    Twilio,
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// This text.
    Text(String),
    /// The raw bytes of the body.
    Body,
    /// The timestamp, as it was written.
    Timestamp,
    /// The only value of this header, in lower case.
    Header(String),
    /// The method of the request.
    Method,
    /// The path and query: of `url`, or as they were asked for.
    Path,
    /// `url` with the query of the request.
    Url,
}

/// Where a request has the time at which it was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The header, in lower case.
    pub header: String,
    /// What precedes the time, if the header holds more than that.
    pub prefix: String,
    /// What it counts since 1970.
    pub unit: Unit,
    /// The most that it may differ from our clock, in either direction. It prevents the replay of a
    /// recorded request.
    pub tolerance: Duration,
}

/// What a timestamp counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
}

/// The signatures of a request, decoded.
struct Given {
    shared: Vec<Vec<u8>>,
    private: Vec<Vec<u8>>,
}

impl Scheme {
    /// The name of the proof in `WWW-Authenticate`.
    pub(super) fn proof(&self) -> &'static str {
        match (self.kind, self.algorithm) {
            ("standard-webhooks" | "svix" | "bigcommerce", _) => "Standard-Webhooks",
            (_, Algorithm::Sha1) => "HMAC-SHA1",
            (_, Algorithm::Sha256) => "HMAC-SHA256",
            (_, Algorithm::Sha384) => "HMAC-SHA384",
            (_, Algorithm::Sha512) => "HMAC-SHA512",
        }
    }

    /// Whether this parameter of the query belongs to the proof.
    pub(super) fn reads(&self, parameter: &str) -> bool {
        self.content == Content::Twilio && parameter == twilio::BODY_HASH
    }

    /// Whether a template signs this header.
    pub fn signs(&self, header: &str) -> bool {
        match &self.content {
            Content::Template(pieces) => pieces
                .iter()
                .any(|piece| matches!(piece, Piece::Header(name) if name == header)),
            _ => false,
        }
    }

    /// Verifies that a signature is there, and everything that is needed to check it.
    pub(super) fn verify_head(&self, headers: &Headers) -> Result<(), NotVerified> {
        if self.content == Content::Adyen {
            return Ok(());
        }
        if let Content::Template(pieces) = &self.content {
            pieces.iter().try_for_each(|piece| match piece {
                Piece::Header(name) => one(headers, name).map(drop),
                _ => Ok(()),
            })?;
        }
        if let Some(stamp) = &self.timestamp {
            one(headers, &stamp.header)?;
        }
        self.signatures(headers).map(drop)
    }

    /// Verifies a request.
    pub(super) fn verify(
        &self,
        headers: &Headers,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), NotVerified> {
        self.verify_head(headers)?;
        let stamp = self.timestamp.as_ref();
        let time = stamp.map(|stamp| self.time(stamp, headers, now));
        let time = time.transpose()?.unwrap_or_default();
        let signed = match &self.content {
            Content::Adyen => return adyen::verify(self, body),
            Content::Template(pieces) => self.filled(pieces, headers, body, time)?,
            Content::Contentful => contentful::signed(self.path(headers), headers, time, body)?,
            Content::Twilio => twilio::signed(self.url_asked(headers), headers, body)?,
        };
        let given = self.given(headers)?;
        let parts: Vec<&[u8]> = signed.iter().map(|part| &**part).collect();
        if self.is_by_secret(&given.shared, &parts) || self.is_by_private_key(&given, &parts) {
            Ok(())
        } else {
            Err(NotVerified::Mismatch(MISMATCH))
        }
    }

    /// Whether one of these signatures was made with one of the secrets. All are compared.
    pub(super) fn is_by_secret(&self, given: &[Vec<u8>], parts: &[&[u8]]) -> bool {
        let secrets = self.keys.iter().filter_map(|key| match key {
            VerifyingKey::Shared(secret) => Some(secret),
            VerifyingKey::Public(_) => None,
        });
        any(secrets, |secret| {
            let expected = hmac(self.algorithm, secret, parts);
            given
                .iter()
                .fold(false, |found, given| found | equal(&expected, given))
        })
    }

    /// Nothing here is secret, so the time may reveal which key matched.
    fn is_by_private_key(&self, given: &Given, parts: &[&[u8]]) -> bool {
        let mut public = self.keys.iter().filter_map(|key| match key {
            VerifyingKey::Shared(_) => None,
            VerifyingKey::Public(public) => Some(public),
        });
        !given.private.is_empty()
            && public.any(|public| {
                let message = parts.concat();
                let mut given = given.private.iter();
                given.any(|given| is_signed(public, &message, given))
            })
    }

    /// The pieces of a template, as they are in this request.
    fn filled<'a>(
        &self,
        pieces: &'a [Piece],
        headers: &'a Headers,
        body: &'a [u8],
        time: &'a str,
    ) -> Result<Vec<Cow<'a, [u8]>>, NotVerified> {
        let borrowed = |text: &'a str| Cow::Borrowed(text.as_bytes());
        let owned = |text: String| -> Cow<'a, [u8]> { Cow::Owned(text.into_bytes()) };
        let filled = |piece: &'a Piece| -> Result<Cow<'a, [u8]>, NotVerified> {
            Ok(match piece {
                Piece::Text(text) => borrowed(text),
                Piece::Body => Cow::Borrowed(body),
                // As it was written, so a leading zero does not make an honest signature wrong.
                Piece::Timestamp => borrowed(time),
                Piece::Header(name) => borrowed(one(headers, name)?),
                Piece::Method => borrowed("POST"),
                Piece::Path => owned(self.path(headers)),
                Piece::Url => owned(self.url_asked(headers)),
            })
        };
        pieces.iter().map(filled).collect()
    }

    /// The path and query that the sender asked for.
    fn path(&self, headers: &Headers) -> String {
        let Some(url) = &self.url else {
            return headers.target().to_owned();
        };
        let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
        let path = rest.find('/').map_or("/", |at| &rest[at..]);
        format!("{path}{}", query(headers))
    }

    /// The URL that the sender asked for.
    fn url_asked(&self, headers: &Headers) -> String {
        let url = self.url.as_deref().unwrap_or_default();
        format!("{url}{}", query(headers))
    }

    /// The timestamp as it was written, if it is near enough.
    fn time<'a>(
        &self,
        stamp: &Stamp,
        headers: &'a Headers,
        now: Timestamp,
    ) -> Result<&'a str, NotVerified> {
        let unreadable = |expected: &str| NotVerified::Unreadable {
            header: stamp.header.clone(),
            expected: expected.to_owned(),
        };
        let value = one(headers, &stamp.header)?;
        let mut times = self
            .entries(value)
            .filter_map(|entry| entry.strip_prefix(&*stamp.prefix));
        let written = match (stamp.prefix.is_empty(), times.next(), times.next()) {
            (true, _, _) => value.trim(),
            (false, Some(time), None) => time.trim(),
            (false, _, _) => return Err(unreadable("it must have one timestamp")),
        };
        let (factor, expected) = match stamp.unit {
            Unit::Seconds => (1000, "seconds since 1970 as a whole number"),
            Unit::Milliseconds => (1, "milliseconds since 1970 as a whole number"),
        };
        let time: u64 = written.parse().map_err(|_| unreadable(expected))?;
        let (time, tolerance) = (time.saturating_mul(factor), stamp.tolerance.as_millis());
        let difference = now.0.abs_diff(time);
        if u128::from(difference) > tolerance {
            let in_future = time > now.0;
            return Err(NotVerified::Stale {
                header: stamp.header.clone(),
                seconds: difference.div_ceil(1000),
                tolerance: stamp.tolerance.as_secs(),
                direction: if in_future {
                    "in the future"
                } else {
                    "in the past"
                },
            });
        }
        Ok(written)
    }

    /// The entries of a header that may hold several.
    fn entries<'a>(&self, value: &'a str) -> impl Iterator<Item = &'a str> {
        let separator = self.separator;
        let is_separator = move |character: char| Some(character) == separator;
        value.split(is_separator).map(str::trim)
    }

    /// The headers with signatures that a request has: at least one, and each once.
    fn signatures<'a>(&self, headers: &'a Headers) -> Result<Vec<(&str, &'a str)>, NotVerified> {
        let there = self.headers.iter().filter(|name| headers.contains(name));
        let values: Vec<_> = there
            .map(|name| one(headers, name).map(|value| (name.as_str(), value)))
            .collect::<Result<_, _>>()?;
        match values.is_empty() {
            true => Err(NotVerified::Missing(self.headers.join("` or `"))),
            false => Ok(values),
        }
    }

    /// The signatures of a request. Those of other versions may be listed too and are ignored.
    fn given(&self, headers: &Headers) -> Result<Given, NotVerified> {
        let mut given = Given {
            shared: Vec::new(),
            private: Vec::new(),
        };
        let knows_public = (self.keys.iter()).any(|key| matches!(key, VerifyingKey::Public(_)));
        let mut wrong = None;
        for (header, value) in self.signatures(headers)? {
            let before = given.shared.len() + given.private.len();
            let mut is_there = false;
            for entry in self.entries(value) {
                if let Some(written) = entry.strip_prefix(PRIVATE_PREFIX).filter(|_| knows_public) {
                    is_there = true;
                    given.private.extend(BASE64.decode(written).ok());
                } else if let Some(written) = entry.strip_prefix(&*self.prefix) {
                    is_there = true;
                    given.shared.extend(match self.encoding {
                        Encoding::Hex => hex::decode(written).ok(),
                        Encoding::Base64 => BASE64.decode(written).ok(),
                    });
                }
                if given.shared.len() >= SIGNATURES_MAX {
                    break;
                }
            }
            if given.shared.len() + given.private.len() == before {
                wrong = Some((header.to_owned(), is_there));
            }
        }
        given.private.truncate(PRIVATE_MAX);
        match wrong {
            Some((header, is_there)) if given.shared.is_empty() && given.private.is_empty() => {
                let expected = match (is_there, self.encoding) {
                    (false, _) => format!("a signature must follow `{}`", self.prefix),
                    (true, Encoding::Hex) => "the signature must be hex".to_owned(),
                    (true, Encoding::Base64) => "the signature must be base64".to_owned(),
                };
                Err(NotVerified::Unreadable { header, expected })
            }
            _ => Ok(given),
        }
    }

    /// The headers with which a sender of this scheme proves a request; `None` if it does not sign by a
    /// template. A header of the template is filled with `id`.
    pub fn sign(
        &self,
        key: &SigningKey,
        id: &str,
        now: Timestamp,
        body: &[u8],
    ) -> Option<Vec<(String, String)>> {
        let Content::Template(pieces) = &self.content else {
            return None;
        };
        let header = self.headers.first()?;
        let unit = self.timestamp.as_ref().map(|stamp| stamp.unit);
        let time = match unit {
            Some(Unit::Milliseconds) => now.0,
            _ => now.0 / 1000,
        };
        let time = time.to_string();
        let names: Vec<&String> = pieces
            .iter()
            .filter_map(|piece| match piece {
                Piece::Header(name) => Some(name),
                _ => None,
            })
            .collect();
        let mut sent: Vec<(String, String)> = names
            .into_iter()
            .map(|name| (name.clone(), id.to_owned()))
            .collect();
        let asked: Headers = sent.iter().map(|(name, value)| (name, value)).collect();
        let content = self.filled(pieces, &asked, body, &time).ok()?;
        let parts: Vec<&[u8]> = content.iter().map(|part| &**part).collect();
        let signature = match key {
            SigningKey::Private(_) => key.sign(id, now.0 / 1000, body),
            SigningKey::Shared(secret) => self.written(secret, &parts),
        };
        match &self.timestamp {
            Some(stamp) if stamp.header == *header => {
                let separator = self.separator.unwrap_or(',');
                let value = format!("{}{time}{separator}{signature}", stamp.prefix);
                sent.push((header.clone(), value));
            }
            Some(stamp) => {
                sent.push((stamp.header.clone(), format!("{}{time}", stamp.prefix)));
                sent.push((header.clone(), signature));
            }
            None => sent.push((header.clone(), signature)),
        }
        Some(sent)
    }

    fn written(&self, secret: &Secret, parts: &[&[u8]]) -> String {
        let signature = hmac(self.algorithm, secret, parts);
        let signature = match self.encoding {
            Encoding::Hex => hex::encode(signature),
            Encoding::Base64 => in_base64(&signature),
        };
        format!("{}{signature}", self.prefix)
    }
}

/// The query of a request with its question mark.
fn query(headers: &Headers) -> &str {
    let target = headers.target();
    target.find('?').map_or("", |at| &target[at..])
}

/// Reads a template: text with `{body}`, `{timestamp}`, `{header.NAME}`, `{method}`, `{path}` and `{url}`.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn template(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let close = rest[open..].find('}').map(|at| open + at);
        let close = close.ok_or("a { is not closed")?;
        if open > 0 {
            pieces.push(Piece::Text(rest[..open].to_owned()));
        }
        let name = &rest[open + 1..close];
        pieces.push(match name {
            "body" => Piece::Body,
            "timestamp" => Piece::Timestamp,
            "method" => Piece::Method,
            "path" => Piece::Path,
            "url" => Piece::Url,
            _ => match name.strip_prefix("header.") {
                Some(header) if !header.is_empty() => Piece::Header(header.to_lowercase()),
                _ => return Err(format!("there is no {{{name}}}")),
            },
        });
        rest = &rest[close + 1..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    match pieces.contains(&Piece::Body) {
        true => Ok(pieces),
        false => Err("it does not contain {body}, so anybody could change the body".to_owned()),
    }
}

/// A template as a configuration writes it.
pub fn in_template(pieces: &[Piece]) -> String {
    pieces.iter().map(Piece::to_string).collect()
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Piece::Text(text) => f.write_str(text),
            Piece::Body => f.write_str("{body}"),
            Piece::Timestamp => f.write_str("{timestamp}"),
            Piece::Header(name) => write!(f, "{{header.{name}}}"),
            Piece::Method => f.write_str("{method}"),
            Piece::Path => f.write_str("{path}"),
            Piece::Url => f.write_str("{url}"),
        }
    }
}
