//! Webhooks in a configuration: reads their keys and shows them.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::super::Outside;
use super::super::secrets::{SECRET, is_header, plain, standard_webhooks};
use super::Configured;
use crate::config::cursor::{Cursor, Field};
use crate::config::row::Keep;
use crate::config::scalar::duration_text;
use crate::signature::Secret;
use crate::targets::Kind;
use crate::targets::http::{self, Address, Auth, BadAddress, Egress};
use crate::targets::webhook::{Format, Options};

const FORMATS: [(&str, Format); 2] = [("array", Format::Array), ("ndjson", Format::Ndjson)];
const EGRESS: [(&str, Egress); 2] = [("private", Egress::Private), ("public", Egress::Public)];

/// Reads the keys of a webhook; `None` if it has no usable URL.
pub(super) fn read(table: &mut Cursor<'_>) -> Option<Kind> {
    let url = table
        .require("url", "write the URL that deliveries are sent to")
        .and_then(|field| address(&field));
    let sign = table.take("sign").map(|field| match field.is_list() {
        true => field.list(|item| standard_webhooks(&item)),
        false => standard_webhooks(&field).into_iter().collect(),
    });
    let auth = table
        .take("auth")
        .and_then(|field| field.table(auth))
        .unwrap_or_default();
    let timeout = table
        .take("timeout")
        .and_then(|field| field.duration(Duration::from_millis(10)..=Duration::from_secs(600)));
    let format = table
        .take("format")
        .and_then(|field| field.one_of(&FORMATS));
    let egress = table.take("egress").and_then(|field| field.one_of(&EGRESS));
    Some(Kind::Webhook(Options {
        url: url?,
        sign: sign.unwrap_or_default(),
        format: format.unwrap_or_default(),
        http: http::Options {
            auth,
            timeout: timeout.unwrap_or(Duration::from_secs(15)),
            egress: egress.unwrap_or_default(),
        },
    }))
}

impl Configured for Options {
    fn shown(&self, outside: &Outside) -> Map<String, Value> {
        let auth = match &self.http.auth {
            Auth::None => Value::Null,
            Auth::Bearer(_) => json!({"bearer": SECRET}),
            Auth::Basic { user, .. } => json!({"basic": {"user": user, "password": SECRET}}),
            Auth::Headers(headers) => {
                let hidden = headers
                    .iter()
                    .map(|(name, _)| (name.clone(), SECRET.into()));
                json!({"headers": hidden.collect::<Map<_, _>>()})
            }
        };
        [
            ("kind", "webhook".into()),
            ("url", shown_url(&self.url, outside).into()),
            ("sign", vec![SECRET; self.sign.len()].into()),
            ("auth", auth),
            ("timeout", duration_text(self.http.timeout).into()),
            ("format", word(&FORMATS, self.format).into()),
            ("egress", word(&EGRESS, self.http.egress).into()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into_iter()
        .collect()
    }

    fn refuses_batches(&self) -> Option<(&'static str, &'static str)> {
        (self.nature().batch_max == 1).then_some((
            "each entity has its own URL there, so there are no batches",
            "leave batch out, or send to a URL without {key}",
        ))
    }
}

fn word<T: PartialEq>(words: &[(&'static str, T)], value: T) -> Option<&'static str> {
    words
        .iter()
        .find(|(_, one)| *one == value)
        .map(|(word, _)| *word)
}

/// Shows a URL without the parts that may be secret: many receivers take no other credentials than
/// a segment of the path or a value in the query. If the URL contains a text from outside the file,
/// it is cut after its origin.
fn shown_url(address: &Address, outside: &Outside) -> String {
    let text = address.as_str();
    match url::Url::parse(text) {
        Ok(url) if outside.is_in(text) => {
            format!("{}/{SECRET}", url.origin().ascii_serialization())
        }
        _ => address.shown(SECRET),
    }
}

/// Reads a URL, which may have `{key}` in the path or the query.
fn address(field: &Field<'_>) -> Option<Address> {
    let text = field.text(Keep::Key)?;
    let example = "write one such as \"https://shop.example/weir\" or \"https://shop.example/products/{key}\"";
    let (what, help) = match Address::parse(&text) {
        Ok(address) => return Some(address),
        Err(BadAddress::Relative) => (
            "the URL does not start with http:// or https://".to_owned(),
            example,
        ),
        Err(BadAddress::NotAUrl(why)) => (format!("this is not a URL: {why}"), example),
        // The text before a colon may be the beginning of a secret.
        Err(BadAddress::Scheme(_)) if field.is_from_outside() => (
            "the URL starts with neither http:// nor https://".to_owned(),
            example,
        ),
        Err(BadAddress::Scheme(scheme)) => (format!("unsupported scheme {scheme:?}"), example),
        Err(BadAddress::NoHost) => ("the URL has no host".to_owned(), example),
        Err(BadAddress::Credentials) => (
            "the URL contains a user".to_owned(),
            "write auth = { basic = { user = \"…\", password = { env = \"NAME\" } } }",
        ),
        Err(BadAddress::Fragment) => (
            "the URL has a fragment, which is never sent".to_owned(),
            "leave out the # and what follows",
        ),
        Err(BadAddress::KeyInHost) => (
            "{key} is in the host".to_owned(),
            "put it in the path or the query",
        ),
    };
    field.complain(what, help.to_owned());
    None
}

fn auth(table: &mut Cursor<'_>) -> Auth {
    let help = "write one of bearer = { env = \"NAME\" }, basic = { user = \"…\", password = { env = \"NAME\" } }, headers = { X-Api-Key = … }";
    let (bearer, basic, headers) = (
        table.take("bearer"),
        table.take("basic"),
        table.take("headers"),
    );
    if [&bearer, &basic, &headers].into_iter().flatten().count() != 1 {
        table.complain(
            "exactly one of bearer, basic and headers is needed",
            help.to_owned(),
        );
        return Auth::None;
    }
    let bearer = bearer
        .and_then(|field| header_value(&field))
        .map(Auth::Bearer);
    let basic = basic.and_then(|field| field.table(user_and_password).flatten());
    let headers = headers.and_then(|field| {
        let headers = field.table(|table| table.all())?;
        let header = |field: Field<'_>| {
            if !is_header(field.key) || is_own(field.key) {
                let help = "write the name of a header that Weir does not send itself".to_owned();
                field.complain_of_key(format!("{:?} cannot be set here", field.key), help);
            }
            Some((field.key.to_lowercase(), header_value(&field)?))
        };
        Some(Auth::Headers(
            headers.into_iter().filter_map(header).collect(),
        ))
    });
    bearer.or(basic).or(headers).unwrap_or_default()
}

fn user_and_password(table: &mut Cursor<'_>) -> Option<Auth> {
    let user = table
        .require("user", "write user = \"…\"")
        .and_then(|field| field.string());
    let password = table
        .require("password", "write password = { env = \"NAME\" }")
        .and_then(|field| plain(&field));
    Some(Auth::Basic {
        user: user?,
        password: password?,
    })
}

/// Reads a secret that can be used in a header.
fn header_value(field: &Field<'_>) -> Option<Secret> {
    let secret = plain(field)?;
    if secret.0.iter().any(|byte| byte.is_ascii_control()) {
        field.complain_of_secret(
            "the secret contains a line break or another control character",
            "a header cannot carry it".to_owned(),
        );
        return None;
    }
    Some(secret)
}

/// Whether a header belongs to the delivery itself, so that the configuration cannot set it.
fn is_own(name: &str) -> bool {
    let name = name.to_lowercase();
    let own = [
        "host",
        "content-length",
        "content-type",
        "transfer-encoding",
        "connection",
        "traceparent",
    ];
    own.contains(&name.as_str()) || name.starts_with("webhook-") || name.starts_with("weir-")
}
