//! Webhooks in a configuration: reads their keys and shows them.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::super::Outside;
use super::super::secrets::{SECRET, is_header, plain, standard_webhooks};
use super::{Configured, answers, word};
use crate::config::cursor::{Cursor, Field};
use crate::config::row::Keep;
use crate::config::scalar::duration_text;
use crate::signature::Secret;
use crate::targets::Kind;
use crate::targets::http::{self, Address, Auth, BadAddress, Egress, Method};
use crate::targets::webhook::{Format, ItemForm, Options};

const FORMATS: [(&str, Format); 2] = [("array", Format::Array), ("ndjson", Format::Ndjson)];
const FORMS: [(&str, ItemForm); 2] = [("envelope", ItemForm::Envelope), ("bare", ItemForm::Bare)];
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
    let mut options = Options::new(url.clone().unwrap_or_else(placeholder));
    options.sign = sign.unwrap_or_default();
    request(table, &mut options);
    options.answers = answers::read(table);
    let auth = table.take("auth").and_then(|field| field.table(auth));
    let headers = table.take("headers").map(|field| headers(&field));
    let timeout = table
        .take("timeout")
        .and_then(|field| field.duration(Duration::from_millis(10)..=Duration::from_secs(600)));
    let egress = table.take("egress").and_then(|field| field.one_of(&EGRESS));
    options.http = http::Options {
        auth: auth.unwrap_or_default(),
        headers: headers.unwrap_or_default(),
        timeout: timeout.unwrap_or(options.http.timeout),
        egress: egress.unwrap_or_default(),
    };
    url.map(|_| Kind::Webhook(options))
}

/// Stands for a URL that was wrong, so that the other keys can be read.
fn placeholder() -> Address {
    Address::parse("http://localhost/").expect("a URL")
}

/// Reads the keys that say in which form an API takes its requests.
fn request(table: &mut Cursor<'_>, options: &mut Options) {
    let put = |text: &str| {
        let known = [Method::POST, Method::PUT, Method::PATCH];
        known.into_iter().find(|method| method.as_str() == text)
    };
    let method = table
        .take("method")
        .and_then(|field| field.parsed("a method", "write POST, PUT or PATCH", put));
    if let Some(method) = method {
        // Where each request has the same URL, a deletion is told in the same way.
        if !options.url.is_keyed() {
            options.delete = Some(method.clone());
        }
        options.method = method;
    }
    let delete = table.take("delete").and_then(|field| {
        let help = "write POST, PUT, PATCH, DELETE or none";
        field.parsed("a method", help, |text| match text {
            "none" => Some(None),
            "DELETE" => Some(Some(Method::DELETE)),
            text => put(text).map(Some),
        })
    });
    if let Some(delete) = delete {
        options.delete = delete;
    }
    options.delete_body = table
        .take("delete_body")
        .and_then(|field| field.text(Keep::Others));
    let form = table.take("form").and_then(|field| field.one_of(&FORMS));
    options.form = form.unwrap_or_default();
    let format = table
        .take("format")
        .and_then(|field| field.one_of(&FORMATS));
    options.format = format.unwrap_or_default();
    options.wrap = table.take("wrap").and_then(|field| {
        let texts = field.list(|item| item.text(Keep::Others));
        let Ok([open, close]) = <[String; 2]>::try_from(texts) else {
            let help =
                "write what stands before and after the items: wrap = ['{\"records\":[', ']}']";
            field.complain("two texts are expected here", help.to_owned());
            return None;
        };
        if options.form == ItemForm::Envelope {
            field.complain(
                "wrap is put around bare contents, and the form is \"envelope\"",
                "write form = \"bare\" too, or leave wrap out".to_owned(),
            );
        }
        Some((open, close))
    });
    options.content_type = table.take("content_type").and_then(|field| {
        field.parsed(
            "a content type",
            "write one such as \"application/json\"",
            |text| {
                let fine =
                    text.contains('/') && text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
                fine.then(|| text.to_owned())
            },
        )
    });
}

/// Reads headers with their values, which may be secrets.
fn headers(field: &Field<'_>) -> Vec<(String, Secret)> {
    let headers = field.table(|table| table.all()).unwrap_or_default();
    let header = |field: Field<'_>| {
        if !is_header(field.key) || is_own(field.key) {
            let help = "write the name of a header that Weir does not send itself".to_owned();
            field.complain_of_key(format!("{:?} cannot be set here", field.key), help);
        }
        Some((field.key.to_lowercase(), header_value(&field)?))
    };
    headers.into_iter().filter_map(header).collect()
}

/// Header names with their values hidden.
fn hidden(headers: &[(String, Secret)]) -> Value {
    let hidden = headers
        .iter()
        .map(|(name, _)| (name.clone(), SECRET.into()));
    Value::Object(hidden.collect())
}

impl Configured for Options {
    fn shown(&self, outside: &Outside) -> Map<String, Value> {
        let auth = match &self.http.auth {
            Auth::None => Value::Null,
            Auth::Bearer(_) => json!({"bearer": SECRET}),
            Auth::Basic { user, .. } => json!({"basic": {"user": user, "password": SECRET}}),
            Auth::Headers(headers) => json!({"headers": hidden(headers)}),
        };
        let delete = self.delete.as_ref().map_or("none", Method::as_str);
        let mut shown: Map<String, Value> = [
            ("kind", "webhook".into()),
            ("url", shown_url(&self.url, outside).into()),
            ("method", self.method.as_str().into()),
            ("delete", delete.into()),
            ("delete_body", self.delete_body.clone().into()),
            ("form", word(&FORMS, self.form).into()),
            ("format", word(&FORMATS, self.format).into()),
            ("wrap", json!(self.wrap)),
            ("content_type", self.content_type.clone().into()),
            ("sign", vec![SECRET; self.sign.len()].into()),
            ("auth", auth),
            ("headers", hidden(&self.http.headers)),
            ("timeout", duration_text(self.http.timeout).into()),
            ("egress", word(&EGRESS, self.http.egress).into()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into_iter()
        .collect();
        answers::shown(&self.answers, &mut shown);
        shown
    }

    fn refuses_batches(&self) -> Option<(&'static str, &'static str)> {
        (self.nature().batch_max == 1).then_some((
            "each entity has its own URL there, so there are no batches",
            "leave batch out, or send to a URL without {key}",
        ))
    }
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
    let headers = headers.map(|field| Auth::Headers(self::headers(&field)));
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
