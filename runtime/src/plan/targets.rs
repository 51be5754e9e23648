//! Targets: where deliveries go, with a table of their own or inline in a channel.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::sources::{is_header, plain, standard_webhooks};
use super::understand::{Notes, expanded, named};
use crate::config::cursor::{Cursor, Field};
use crate::config::row::Keep;
use crate::signature::Secret;
use crate::target::{Kind, Options, webhook};

/// Targets as read, with what channels must know of them.
#[derive(Default)]
pub(super) struct Targets {
    /// By name, rows expanded.
    pub(super) by_name: BTreeMap<Arc<str>, Options>,
    /// Names of tables with `for_each`, and what they are for each of.
    pub(super) for_each: BTreeMap<String, String>,
}

pub(super) fn targets<'a>(root: &mut Cursor<'a>, notes: &mut Notes<'a>) -> Targets {
    let mut targets = Targets::default();
    for field in named(root, "targets") {
        notes.place(field.path(), field.place());
        field.table(|table| {
            for row in notes.rows_of(table) {
                let name: Arc<str> = expanded(field.key, row).into();
                if let Some(row) = row {
                    table.fill_from(row);
                    targets
                        .for_each
                        .insert(field.key.to_owned(), row.table.clone());
                }
                let options = target(name.clone(), table);
                if targets.by_name.insert(name.clone(), options).is_some() {
                    table.complain(
                        format!("there are two targets of the name {name:?}"),
                        "rename one of them".to_owned(),
                    );
                }
                notes.place(&format!("targets.{name}"), field.place());
            }
        });
    }
    targets
}

/// One target from its table; the channel that has it inline reads its table here as well.
pub(super) fn target(name: Arc<str>, table: &mut Cursor<'_>) -> Options {
    let kind = table.require("kind", "write kind = \"webhook\"");
    if let Some((kind, word)) = kind
        .and_then(|field| Some((field.string()?, field)))
        .map(|(word, field)| (field, word))
        && word != "webhook"
    {
        kind.complain(
            format!("there is no kind {word:?} of target"),
            "write \"webhook\", the only one so far".to_owned(),
        );
    }
    let url = table
        .require("url", "write the URL that deliveries are sent to")
        .and_then(|field| url(&field))
        .unwrap_or_default();
    let sign = table.take("sign").map(|field| match field.is_list() {
        true => field.list(|item| standard_webhooks(&item)),
        false => standard_webhooks(&field).into_iter().collect(),
    });
    let auth = table
        .take("auth")
        .and_then(|field| field.table(auth))
        .unwrap_or_default();
    let concurrency = table
        .take("concurrency")
        .and_then(|field| field.integer(1..=1024));
    let rate = table.take("rate").and_then(|field| {
        field.parsed(
            "a rate",
            crate::config::scalar::RATE,
            crate::config::scalar::rate,
        )
    });
    let timeout = table
        .take("timeout")
        .and_then(|field| field.duration(Duration::from_millis(10)..=Duration::from_secs(600)));
    let format = table.take("format").and_then(|field| {
        field.one_of(&[
            ("array", webhook::Format::Array),
            ("ndjson", webhook::Format::Ndjson),
        ])
    });
    let egress = table.take("egress").and_then(|field| {
        field.one_of(&[
            ("private", webhook::Egress::Private),
            ("public", webhook::Egress::Public),
        ])
    });
    let webhook = webhook::Options {
        url,
        sign: sign.unwrap_or_default(),
        auth,
        timeout: timeout.unwrap_or(Duration::from_secs(15)),
        batch: 1,
        format: format.unwrap_or_default(),
        egress: egress.unwrap_or_default(),
    };
    let concurrency = concurrency
        .and_then(|requests| usize::try_from(requests).ok())
        .unwrap_or(8);
    Options {
        name,
        concurrency,
        rate,
        kind: Kind::Webhook(webhook),
    }
}

/// A URL in which `{key}` may stand in the path or the query.
fn url(field: &Field<'_>) -> Option<String> {
    let text = field.text(Keep::Key)?;
    let example =
        "write such as \"https://shop.example/weir\" or \"https://shop.example/products/{key}\"";
    let parsed = match Url::parse(&text.replace("{key}", "key")) {
        Ok(url) => url,
        Err(error) => {
            let what = match error {
                url::ParseError::RelativeUrlWithoutBase => {
                    "the URL does not begin with http:// or https://".to_owned()
                }
                error => format!("this is not a URL: {error}"),
            };
            field.complain(what, example.to_owned());
            return None;
        }
    };
    let wrong = if !matches!(parsed.scheme(), "http" | "https") {
        Some((format!("{:?} is not spoken here", parsed.scheme()), example))
    } else if parsed.host_str().is_none_or(str::is_empty) {
        Some(("the URL has no host".to_owned(), example))
    } else if !parsed.username().is_empty() || parsed.password().is_some() {
        Some((
            "the URL holds a user".to_owned(),
            "write auth = { basic = { user = \"…\", password = { env = \"NAME\" } } }",
        ))
    } else if parsed.fragment().is_some() {
        Some((
            "the URL has a fragment, which is never sent".to_owned(),
            "leave out the # and what follows",
        ))
    } else if text
        .split(['/', '?'])
        .take(3)
        .any(|part| part.contains("{key}"))
    {
        Some((
            "{key} stands in the host".to_owned(),
            "it stands in the path or the query",
        ))
    } else {
        None
    };
    match wrong {
        Some((what, help)) => {
            field.complain(what, help.to_owned());
            None
        }
        None => Some(text),
    }
}

fn auth(table: &mut Cursor<'_>) -> webhook::Auth {
    let help = "write one of bearer = { env = \"NAME\" }, basic = { user = \"…\", password = { env = \"NAME\" } }, headers = { X-Api-Key = … }";
    let (bearer, basic, headers) = (
        table.take("bearer"),
        table.take("basic"),
        table.take("headers"),
    );
    if [&bearer, &basic, &headers].into_iter().flatten().count() != 1 {
        table.complain(
            "there must be one of bearer, basic and headers",
            help.to_owned(),
        );
        return webhook::Auth::None;
    }
    let bearer = bearer
        .and_then(|field| header_value(&field))
        .map(webhook::Auth::Bearer);
    let basic = basic.and_then(|field| field.table(user_and_password).flatten());
    let headers = headers.and_then(|field| {
        let headers = field.table(|table| table.all())?;
        let header = |field: Field<'_>| {
            if !is_header(field.key) || is_own(field.key) {
                let help = "write the name of a header that Weir does not send itself".to_owned();
                field.complain_of_key(format!("{:?} cannot be a header here", field.key), help);
            }
            Some((field.key.to_lowercase(), header_value(&field)?))
        };
        Some(webhook::Auth::Headers(
            headers.into_iter().filter_map(header).collect(),
        ))
    });
    bearer.or(basic).or(headers).unwrap_or_default()
}

fn user_and_password(table: &mut Cursor<'_>) -> Option<webhook::Auth> {
    let user = table
        .require("user", "write user = \"…\"")
        .and_then(|field| field.string());
    let password = table
        .require("password", "write password = { env = \"NAME\" }")
        .and_then(|field| plain(&field));
    Some(webhook::Auth::Basic {
        user: user?,
        password: password?,
    })
}

/// A secret that can stand in a header.
fn header_value(field: &Field<'_>) -> Option<Secret> {
    let secret = plain(field)?;
    if secret.0.iter().any(|byte| byte.is_ascii_control()) {
        field.complain_of_secret(
            "the secret holds a line break or another control character",
            "a header cannot carry it".to_owned(),
        );
        return None;
    }
    Some(secret)
}

/// Headers that belong to the delivery itself.
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
