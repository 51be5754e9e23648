//! OAuth2 in a configuration: reads how a target's tokens are obtained, and shows it.

use serde_json::{Map, Value, json};

use super::super::Outside;
use super::super::secrets::{SECRET, is_header, plain};
use super::http::{address, is_own, shown_url};
use super::word;
use crate::config::cursor::{Cursor, Field};
use crate::targets::http::{Grant, OAuth2};

#[derive(Clone, Copy, PartialEq)]
pub(in crate::plan) enum Kind {
    ClientCredentials,
    Password,
    RefreshToken,
}

pub(in crate::plan) const GRANTS: [(&str, Kind); 3] = [
    ("client_credentials", Kind::ClientCredentials),
    ("password", Kind::Password),
    ("refresh_token", Kind::RefreshToken),
];
/// Whether the client's id and secret are in the body.
pub(in crate::plan) const CLIENT_AUTH: [(&str, bool); 2] = [("basic", false), ("body", true)];
/// Whether the body is JSON.
pub(in crate::plan) const BODIES: [(&str, bool); 2] = [("form", false), ("json", true)];

/// Reads `oauth2`; `None` after a complaint about a key that it requires.
pub(super) fn read(table: &mut Cursor<'_>) -> Option<OAuth2> {
    let token_url = table
        .require("token_url", "write the URL that gives tokens")
        .and_then(|field| {
            let url = address(&field)?;
            if url.is_keyed() {
                let help = "leave {key} out: a token is the same for all entities";
                field.complain("{key} is in the URL of tokens", help.to_owned());
                return None;
            }
            Some(url)
        });
    let client_id = table
        .require("client_id", "write client_id = \"…\"")
        .and_then(|field| field.string());
    let client_secret = table
        .require("client_secret", "write client_secret = { env = \"NAME\" }")
        .and_then(|field| plain(&field));
    let kind = table
        .take("grant")
        .and_then(|field| field.one_of(&GRANTS))
        .unwrap_or(Kind::ClientCredentials);
    let grant = match kind {
        Kind::ClientCredentials => Some(Grant::ClientCredentials),
        Kind::Password => {
            let username = table
                .require("username", "write username = \"…\"")
                .and_then(|field| field.string());
            let password = table
                .require("password", "write password = { env = \"NAME\" }")
                .and_then(|field| plain(&field));
            username
                .zip(password)
                .map(|(username, password)| Grant::Password { username, password })
        }
        Kind::RefreshToken => table
            .require("refresh_token", "write refresh_token = { env = \"NAME\" }")
            .and_then(|field| plain(&field))
            .map(Grant::RefreshToken),
    };
    let one_of = |field: Option<Field<'_>>, words| field.and_then(|field| field.one_of(words));
    let in_body = one_of(table.take("client_auth"), &CLIENT_AUTH);
    let json = one_of(table.take("body"), &BODIES);
    let scope = table.take("scope").and_then(|field| field.string());
    let extra = table.take("extra").and_then(|field| {
        let fields = field.table(|table| table.all())?;
        let pairs = fields.into_iter();
        Some(
            pairs
                .filter_map(|field| Some((field.key.to_owned(), field.string()?)))
                .collect(),
        )
    });
    let header = table.take("header").and_then(|field| {
        let help = "write the name of a header that Weir does not send itself";
        field.parsed("the name of a header", help, |name| {
            (is_header(name) && !is_own(name)).then(|| name.to_lowercase())
        })
    });
    let prefix = table.take("prefix").and_then(|field| field.string());
    let header = header.unwrap_or_else(|| "authorization".to_owned());
    // A header that is made for tokens carries nothing else.
    let usual = if header == "authorization" {
        "Bearer "
    } else {
        ""
    };
    Some(OAuth2 {
        token_url: token_url?,
        grant: grant?,
        client_id: client_id?,
        client_secret: client_secret?,
        in_body: in_body.unwrap_or(false),
        json: json.unwrap_or(false),
        scope,
        extra: extra.unwrap_or_default(),
        header,
        prefix: prefix.unwrap_or_else(|| usual.to_owned()),
    })
}

/// Shows it as a file would write it, with secrets hidden.
pub(super) fn shown(oauth2: &OAuth2, outside: &Outside) -> Value {
    let (kind, more) = match &oauth2.grant {
        Grant::ClientCredentials => (Kind::ClientCredentials, Map::new()),
        Grant::Password { username, .. } => (
            Kind::Password,
            Map::from_iter([
                ("username".to_owned(), json!(username)),
                ("password".to_owned(), SECRET.into()),
            ]),
        ),
        Grant::RefreshToken(_) => (
            Kind::RefreshToken,
            Map::from_iter([("refresh_token".to_owned(), SECRET.into())]),
        ),
    };
    let extra: Map<String, Value> = oauth2
        .extra
        .iter()
        .map(|(name, value)| {
            // What is not written in the file may be a secret too.
            let hidden = outside.is_in(value);
            let shown = if hidden { SECRET } else { value.as_str() };
            (name.clone(), shown.into())
        })
        .collect();
    let mut shown = json!({
        "token_url": shown_url(&oauth2.token_url, outside),
        "grant": word(&GRANTS, kind),
        "client_id": oauth2.client_id,
        "client_secret": SECRET,
        "client_auth": word(&CLIENT_AUTH, oauth2.in_body),
        "body": word(&BODIES, oauth2.json),
        "scope": oauth2.scope,
        "extra": extra,
        "header": oauth2.header,
        "prefix": oauth2.prefix,
    });
    if let Some(shown) = shown.as_object_mut() {
        shown.extend(more);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::Secret;
    use crate::targets::http::Address;

    #[test]
    fn a_parameter_from_outside_the_file_is_hidden() {
        let assertion = "an assertion of the environment";
        let oauth2 = OAuth2 {
            token_url: Address::parse("http://api.example/token").expect("a URL"),
            grant: Grant::ClientCredentials,
            client_id: "weir".into(),
            client_secret: Secret(b"secret".to_vec()),
            in_body: false,
            json: false,
            scope: None,
            extra: vec![
                ("audience".into(), "shop".into()),
                ("client_assertion".into(), assertion.into()),
            ],
            header: "authorization".into(),
            prefix: "Bearer ".into(),
        };
        let outside = Outside([assertion.to_owned()].into());
        assert_eq!(
            shown(&oauth2, &outside)["extra"],
            json!({"audience": "shop", "client_assertion": SECRET})
        );
    }
}
