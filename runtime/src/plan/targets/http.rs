//! What all targets that speak HTTP have in common in a configuration: reads their credentials, headers,
//! timeout and connections, and shows them.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::super::Outside;
use super::super::secrets::{SECRET, is_header, plain};
use super::{keys, oauth2, word};
use crate::config::cursor::{Cursor, Field};
use crate::config::row::Keep;
use crate::config::scalar::duration_text;
use crate::signature::Secret;
use crate::targets::http::{Address, Auth, BadAddress, Connections, Egress, Options, Tls};

/// The longest file of certificates.
pub(in crate::plan) const PEM_BYTES_MAX: u64 = 1024 * 1024;
/// Whether bodies are compressed.
pub(in crate::plan) const COMPRESS: [(&str, bool); 2] = [("none", false), ("gzip", true)];
pub(in crate::plan) const EGRESS: [(&str, Egress); 2] =
    [("private", Egress::Private), ("public", Egress::Public)];

/// Reads the keys that all of these targets have.
pub(in crate::plan) fn read(table: &mut Cursor<'_>, usual_timeout: Duration) -> Options {
    let auth = table.take("auth").and_then(|field| field.table(auth));
    let headers = table.take("headers").map(|field| headers(&field));
    let timeout = table
        .take("timeout")
        .and_then(|field| field.duration(Duration::from_millis(10)..=Duration::from_secs(600)));
    let gzip = table
        .take("compress")
        .and_then(|field| field.one_of(&COMPRESS));
    Options {
        auth: auth.unwrap_or_default(),
        headers: headers.unwrap_or_default(),
        timeout: timeout.unwrap_or(usual_timeout),
        gzip: gzip.unwrap_or(false),
        connections: connections(table),
    }
}

/// Shows what was read, as a file would write it.
pub(in crate::plan) fn shown(options: &Options, outside: &Outside, into: &mut Map<String, Value>) {
    let auth = match &options.auth {
        Auth::None => Value::Null,
        Auth::Bearer(_) => json!({"bearer": SECRET}),
        Auth::Basic { user, .. } => json!({"basic": {"user": user, "password": SECRET}}),
        Auth::Headers(headers) => json!({"headers": hidden(headers)}),
        Auth::OAuth2(auth) => json!({"oauth2": oauth2::shown(auth, outside)}),
    };
    let shown = [
        ("auth", auth),
        ("headers", hidden(&options.headers)),
        ("timeout", duration_text(options.timeout).into()),
        ("compress", word(&COMPRESS, options.gzip).into()),
    ];
    into.extend(keys(shown));
    shown_connections(&options.connections, outside, into);
}

/// Shows how connections are made.
pub(super) fn shown_connections(
    connections: &Connections,
    outside: &Outside,
    into: &mut Map<String, Value>,
) {
    let Connections { egress, tls, proxy } = connections;
    let shown = [
        ("egress", word(&EGRESS, *egress).into()),
        (
            "proxy",
            proxy.as_ref().map(|it| shown_url(it, outside)).into(),
        ),
        ("tls", shown_tls(tls)),
    ];
    into.extend(keys(shown));
}

/// Reads the keys that say how connections are made.
pub(super) fn connections(table: &mut Cursor<'_>) -> Connections {
    let egress = table.take("egress").and_then(|field| field.one_of(&EGRESS));
    let tls = table.take("tls").and_then(|field| field.table(tls));
    let proxy = table.take("proxy").and_then(|field| {
        let address = address(&field)?;
        if address.is_keyed() || !address.as_str().starts_with("http://") {
            let help = "write one such as \"http://proxy.example:3128\"";
            field.complain("this is not the address of a proxy", help.to_owned());
            return None;
        }
        Some(address)
    });
    Connections {
        egress: egress.unwrap_or_default(),
        tls: tls.unwrap_or_default(),
        proxy,
    }
}

/// Reads certificates. The files are watched like all that a configuration names, so the target is
/// opened again with new ones.
pub(super) fn tls(table: &mut Cursor<'_>) -> Tls {
    let pem = |field: Field<'_>| field.file_content(PEM_BYTES_MAX);
    let ca = table.take("ca").and_then(pem);
    let (cert, key) = (table.take("cert"), table.take("key"));
    if cert.is_some() != key.is_some() {
        table.complain(
            "cert and key belong together: the certificate of the client, and its key",
            "write cert = \"client.pem\", key = { file = \"client.key\" }".to_owned(),
        );
    }
    let (cert, key) = (cert.and_then(pem), key.and_then(|field| plain(&field)));
    Tls {
        ca,
        identity: cert.zip(key),
    }
}

/// Shows that there are certificates.
pub(super) fn shown_tls(tls: &Tls) -> Value {
    let identity = tls.identity.as_ref();
    json!({
        "ca": tls.ca.as_ref().map(|_| "[certificates]"),
        "cert": identity.map(|_| "[certificates]"),
        "key": identity.map(|_| SECRET),
    })
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

/// Shows a URL without the parts that may be secret: many receivers take no other credentials than
/// a segment of the path or a value in the query. If the URL contains a text from outside the file,
/// it is cut after its origin.
pub(in crate::plan) fn shown_url(address: &Address, outside: &Outside) -> String {
    let text = address.as_str();
    match url::Url::parse(text) {
        Ok(url) if outside.is_in(text) => {
            format!("{}/{SECRET}", url.origin().ascii_serialization())
        }
        _ => address.shown(SECRET),
    }
}

/// Reads a URL, which may have `{key}` in the path or the query.
pub(in crate::plan) fn address(field: &Field<'_>) -> Option<Address> {
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
    let help = "write one of bearer = { env = \"NAME\" }, basic = { user = \"…\", password = { env = \"NAME\" } }, headers = { X-Api-Key = … }, oauth2 = { token_url = \"…\", client_id = \"…\", client_secret = { env = \"NAME\" } }";
    let (bearer, basic, headers, oauth2) = (
        table.take("bearer"),
        table.take("basic"),
        table.take("headers"),
        table.take("oauth2"),
    );
    let given = [&bearer, &basic, &headers, &oauth2];
    if given.into_iter().flatten().count() != 1 {
        table.complain(
            "exactly one of bearer, basic, headers and oauth2 is needed",
            help.to_owned(),
        );
        return Auth::None;
    }
    let bearer = bearer
        .and_then(|field| header_value(&field))
        .map(Auth::Bearer);
    let basic = basic.and_then(|field| field.table(user_and_password).flatten());
    let headers = headers.map(|field| Auth::Headers(self::headers(&field)));
    let oauth2 = oauth2
        .and_then(|field| field.table(oauth2::read).flatten())
        .map(|oauth2| Auth::OAuth2(Box::new(oauth2)));
    bearer.or(basic).or(headers).or(oauth2).unwrap_or_default()
}

pub(super) fn user_and_password(table: &mut Cursor<'_>) -> Option<Auth> {
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
pub(super) fn is_own(name: &str) -> bool {
    let name = name.to_lowercase();
    let own = [
        "host",
        "content-length",
        "content-type",
        "content-encoding",
        "transfer-encoding",
        "connection",
        "traceparent",
    ];
    own.contains(&name.as_str()) || name.starts_with("webhook-") || name.starts_with("weir-")
}
