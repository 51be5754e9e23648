//! Webhooks in a configuration: reads their keys and shows them.

use serde_json::{Map, Value, json};

use super::super::Outside;
use super::super::secrets::{SECRET, standard_webhooks};
use super::{Configured, answers, http, word};
use crate::config::cursor::Cursor;
use crate::config::row::Keep;
use crate::targets::Kind;
use crate::targets::http::{Address, Method};
use crate::targets::webhook::{Format, ItemForm, Options};

const FORMATS: [(&str, Format); 2] = [("array", Format::Array), ("ndjson", Format::Ndjson)];
const FORMS: [(&str, ItemForm); 2] = [("envelope", ItemForm::Envelope), ("bare", ItemForm::Bare)];

/// Reads the keys of a webhook; `None` if it has no usable URL.
pub(super) fn read(table: &mut Cursor<'_>) -> Option<Kind> {
    let url = table
        .require("url", "write the URL that deliveries are sent to")
        .and_then(|field| http::address(&field));
    let sign = table.take("sign").map(|field| match field.is_list() {
        true => field.list(|item| standard_webhooks(&item)),
        false => standard_webhooks(&field).into_iter().collect(),
    });
    let mut options = Options::new(url.clone().unwrap_or_else(placeholder));
    options.sign = sign.unwrap_or_default();
    request(table, &mut options);
    options.answers = answers::read(table);
    options.http = http::read(table, options.http.timeout);
    url.map(|_| Kind::Webhook(Box::new(options)))
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

impl Configured for Options {
    fn shown(&self, outside: &Outside) -> Map<String, Value> {
        let delete = self.delete.as_ref().map_or("none", Method::as_str);
        let mut shown: Map<String, Value> = [
            ("kind", "webhook".into()),
            ("url", http::shown_url(&self.url, outside).into()),
            ("method", self.method.as_str().into()),
            ("delete", delete.into()),
            ("delete_body", self.delete_body.clone().into()),
            ("form", word(&FORMS, self.form).into()),
            ("format", word(&FORMATS, self.format).into()),
            ("wrap", json!(self.wrap)),
            ("content_type", self.content_type.clone().into()),
            ("sign", vec![SECRET; self.sign.len()].into()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into_iter()
        .collect();
        answers::shown(&self.answers, &mut shown);
        http::shown(&self.http, outside, &mut shown);
        shown
    }

    fn refuses_batches(&self) -> Option<(&'static str, &'static str)> {
        (self.nature().batch_max == 1).then_some((
            "each entity has its own URL there, so there are no batches",
            "leave batch out, or send to a URL without {key}",
        ))
    }
}
