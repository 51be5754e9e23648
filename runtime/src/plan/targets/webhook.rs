//! Webhooks in a configuration: reads their keys and shows them.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::super::Outside;
use super::super::secrets::{SECRET, signing_key};
use super::{Configured, answers, http, keys, word};
use crate::config::cursor::Cursor;
use crate::config::row::Keep;
use crate::signature::SigningKey;
use crate::targets::Kind;
use crate::targets::http::{Address, Method, Pointer};
use crate::targets::webhook::{Format, Get, ItemForm, Options};

pub(in crate::plan) const FORMATS: [(&str, Format); 2] =
    [("array", Format::Array), ("ndjson", Format::Ndjson)];
pub(in crate::plan) const FORMS: [(&str, ItemForm); 2] =
    [("envelope", ItemForm::Envelope), ("bare", ItemForm::Bare)];

/// The timeout of a notice, unless configured.
const RECEIVER_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads the keys of a webhook; `None` if it has no usable URL.
pub(super) fn read(table: &mut Cursor<'_>) -> Option<Kind> {
    let url = table
        .require("url", "write the URL that deliveries are sent to")
        .and_then(|field| http::address(&field));
    let sign = sign(table);
    let mut options = Options::new(url.clone().unwrap_or_else(placeholder));
    options.sign = sign;
    request(table, &mut options);
    options.get = table
        .take("get")
        .and_then(|field| field.table(get))
        .flatten();
    options.answers = answers::read(table);
    options.http = http::read(table, options.http.timeout);
    url.map(|_| Kind::Webhook(Box::new(options)))
}

/// Reads the keys of a URL to which messages are posted that are no deliveries; `None` if it has no usable one.
pub(in crate::plan) fn receiver(table: &mut Cursor<'_>) -> Option<Options> {
    let url = table.require("url", "write the URL that notices are posted to");
    let url = url.and_then(|field| {
        let url = http::address(&field)?;
        if url.is_keyed() {
            let help = "leave {key} out: a notice is about no entity".to_owned();
            field.complain("this URL differs from entity to entity", help);
            return None;
        }
        Some(url)
    });
    let mut options = Options::new(url.clone().unwrap_or_else(placeholder));
    options.sign = sign(table);
    options.http = http::read(table, RECEIVER_TIMEOUT);
    url.map(|_| options)
}

/// Shows what [`receiver`] has read.
pub(in crate::plan) fn shown_receiver(options: &Options, outside: &Outside) -> Map<String, Value> {
    let mut shown = keys([
        ("url", http::shown_url(&options.url, outside).into()),
        ("sign", shown_keys(&options.sign)),
    ]);
    http::shown(&options.http, outside, &mut shown);
    shown
}

/// Reads the keys that sign.
fn sign(table: &mut Cursor<'_>) -> Vec<SigningKey> {
    let sign = table.take("sign").map(|field| match field.is_list() {
        true => field.list(|item| signing_key(&item)),
        false => signing_key(&field).into_iter().collect(),
    });
    sign.unwrap_or_default()
}

/// Shows the keys that sign: a receiver needs the public key, and nobody else has it.
fn shown_keys(keys: &[SigningKey]) -> Value {
    let shown = keys.iter().map(|key| match key.public() {
        Some(public) => format!("{SECRET} of {public}"),
        None => SECRET.to_owned(),
    });
    shown.collect()
}

/// Reads where the API shows what it holds; `None` after a complaint.
fn get(table: &mut Cursor<'_>) -> Option<Get> {
    let url = table
        .require(
            "url",
            "write the URL of an entity, such as \"https://shop.example/products/{key}\"",
        )
        .and_then(|field| {
            let url = http::address(&field)?;
            if !url.is_keyed() {
                let help = "put {key} where the key of the entity belongs".to_owned();
                field.complain("this URL is the same for each entity", help);
                return None;
            }
            Some(url)
        });
    let at = table.take("at").and_then(|field| {
        let help = "write a JSON pointer, such as \"/product\"";
        field.parsed("a JSON pointer", help, Pointer::parse)
    });
    Some(Get {
        url: url?,
        at: at.or_else(|| Pointer::parse(""))?,
    })
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
        // Some APIs take their key in the body. A text that is not written in the file may hold one.
        let text = |text: &String| match outside.is_in(text) {
            true => SECRET.to_owned(),
            false => text.clone(),
        };
        let wrap = self.wrap.as_ref();
        let wrap = wrap.map(|(open, close)| [text(open), text(close)]);
        let delete = self.delete.as_ref().map_or("none", Method::as_str);
        let mut shown = keys([
            ("kind", "webhook".into()),
            ("url", http::shown_url(&self.url, outside).into()),
            ("method", self.method.as_str().into()),
            ("delete", delete.into()),
            ("delete_body", self.delete_body.as_ref().map(text).into()),
            ("form", word(&FORMS, self.form).into()),
            ("format", word(&FORMATS, self.format).into()),
            ("wrap", json!(wrap)),
            ("content_type", self.content_type.clone().into()),
            ("sign", shown_keys(&self.sign)),
            (
                "get",
                self.get
                    .as_ref()
                    .map(|get| json!({"url": http::shown_url(&get.url, outside), "at": get.at.as_str()}))
                    .into(),
            ),
        ]);
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

#[cfg(test)]
mod tests {
    use super::super::{inline, shown};
    use crate::plan::{Plan, redacted};

    fn webhook(keys: &str) -> Result<Plan, String> {
        let keys = format!("kind = \"webhook\"\nurl = \"http://127.0.0.1:1/\"\n{keys}");
        inline(&keys, &[])
    }

    #[test]
    fn a_wrong_word_or_key_is_refused_at_its_place_with_the_right_one() {
        for (keys, expected) in [
            (
                "compress = \"gzipp\"",
                [":10:12: ", "\"gzipp\" is not allowed here", "\"gzip\""],
            ),
            (
                "sign = \"whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=\"",
                [
                    ":10:8: ",
                    "is a public key, which cannot sign",
                    "echo whsk_$(openssl genpkey",
                ],
            ),
            (
                "sign = \"whsk_AAAA\"",
                [
                    ":10:8: ",
                    "write `whsk_` followed by the 32 bytes",
                    "echo whsk_",
                ],
            ),
        ] {
            let found = webhook(keys).expect_err(keys);
            for expected in expected {
                assert!(found.contains(expected), "{keys}: {found}");
            }
            assert!(!found.contains("1SiA4o9"), "{found}");
        }
    }

    // A receiver needs the public key, and the configuration has only the private one.
    #[test]
    fn the_public_key_of_a_private_one_is_shown_and_the_private_one_is_not() {
        let plan = webhook(
            "compress = \"gzip\"\nanswers = \"magento\"\nsign = [\"whsec_a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=\", \"whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc=\"]",
        )
        .unwrap_or_else(|wrong| panic!("{wrong}"));
        let outside = super::Outside::default();
        let target = plan.targets.values().next().expect("a target");
        let target = shown(target, &outside);
        assert_eq!(
            target["sign"],
            serde_json::json!([
                "[secret]",
                "[secret] of whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
            ])
        );
        assert_eq!(
            (&target["compress"], &target["accepted_only"]),
            (&"gzip".into(), &true.into())
        );
        assert!(!redacted(&plan).to_string().contains("6Xb/dCc"));
    }

    // An API takes its key in the body of each request. It came from the environment, and was shown to
    // everyone with read access.
    #[test]
    fn a_text_around_the_items_that_is_not_written_in_the_file_is_hidden() {
        let plan = webhook(
            "form = \"bare\"\nwrap = ['{\"key\":\"k-4711-0815\",\"records\":[', ']}']\ndelete_body = '{\"key\":\"k-4711-0815\",\"delete\":\"{key}\"}'",
        )
        .unwrap_or_else(|wrong| panic!("{wrong}"));
        let target = plan.targets.values().next().expect("a target");
        let outside = super::Outside(["k-4711-0815".to_owned()].into());
        let target = shown(target, &outside);
        assert_eq!(target["wrap"], serde_json::json!(["[secret]", "]}"]));
        assert_eq!(target["delete_body"], "[secret]");
    }
}
