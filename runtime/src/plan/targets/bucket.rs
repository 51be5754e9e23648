//! Buckets of object stores in a configuration: reads their keys and shows them.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::super::Outside;
use super::super::secrets::{SECRET, plain};
use super::{Configured, http, keys, word};
use crate::config::cursor::{Cursor, Field};
use crate::config::row::Keep;
use crate::config::scalar::duration_text;
use crate::targets::Kind;
use crate::targets::bucket::{
    AccountProof, Auth, CONCURRENCY, Checksum, Cloud, Options, Place, SPACING, TIMEOUT,
};
use crate::targets::names::Template;

/// Reads the keys of a bucket with an object for each entity; `None` after a complaint about one that it
/// requires.
pub(super) fn read(table: &mut Cursor<'_>) -> Option<Kind> {
    let slashes = table.take("folders").and_then(|field| field.boolean());
    let url = table.require("url", "write url = \"s3://bucket/folder/{key}.json\"");
    let (place, name) = place(table, url.as_ref());
    let name = url.zip(name).and_then(|(field, name)| {
        Template::parse(&name, slashes.unwrap_or(false))
            .map_err(|wrong| {
                let help = "write one such as \"s3://bucket/products/{key}.json\"".to_owned();
                field.complain(format!("this is no template of names: {}", wrong.0), help);
            })
            .ok()
    });
    let precondition = table.take("precondition").and_then(|field| field.boolean());
    let spacing = table
        .take("spacing")
        .and_then(|field| field.duration(Duration::ZERO..=Duration::from_secs(60)));
    let place = place?;
    let slow = match place.is_slow_for_one_object() {
        true => SPACING,
        false => Duration::ZERO,
    };
    Some(Kind::Bucket(Box::new(Options {
        place,
        name: name?,
        precondition: precondition.unwrap_or(false),
        spacing: spacing.unwrap_or(slow),
    })))
}

/// Reads the keys that say where a bucket is, of which `url` is read here and was taken before. Returns the
/// bucket and the name in it, which may have `{key}` and `{entity}`.
pub(super) fn place(
    table: &mut Cursor<'_>,
    url: Option<&Field<'_>>,
) -> (Option<Place>, Option<String>) {
    let location = url.and_then(location);
    let cloud = location.as_ref().map(|(cloud, ..)| *cloud);
    let region = table.take("region").and_then(|field| {
        let help = "write one such as \"eu-central-1\"";
        field.parsed("a region", help, |text| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            (!text.is_empty() && text.bytes().all(plain)).then(|| text.to_owned())
        })
    });
    let endpoint = table.take("endpoint").and_then(|field| {
        let address = http::address(&field)?;
        if address.is_keyed() || address.as_str().contains('?') {
            let help = "write the URL of the store without a bucket".to_owned();
            field.complain("this is not the address of a store", help);
            return None;
        }
        Some(address)
    });
    let auth = auth(table, cloud);
    let checksum = table
        .take("checksum")
        .and_then(|field| Some((field.one_of(&Checksum::WORDS)?, field)));
    if let Some((_, field)) = &checksum
        && cloud.is_some_and(|cloud| cloud != Cloud::S3)
    {
        let help = "leave checksum out".to_owned();
        field.complain_of_key("only a bucket of S3 takes a checksum", help);
    }
    let timeout = table
        .take("timeout")
        .and_then(|field| field.duration(Duration::from_millis(10)..=Duration::from_secs(600)));
    let connections = http::connections(table);
    if cloud == Some(Cloud::S3) && region.is_none() && endpoint.is_none() {
        let help = "write region = \"eu-central-1\", or the endpoint of another store".to_owned();
        table.complain("a bucket of Amazon S3 needs its region", help);
    }
    let Some((cloud, bucket, name)) = location else {
        return (None, None);
    };
    let place = auth.map(|auth| Place {
        cloud,
        bucket,
        region,
        endpoint,
        auth,
        checksum: checksum.map(|(checksum, _)| checksum),
        timeout: timeout.unwrap_or(TIMEOUT),
        connections,
    });
    let missing = place.as_ref().and_then(Place::missing_feature);
    if let Some((url, feature)) = url.zip(missing) {
        let what = "this build of Weir cannot use this bucket with these credentials";
        let help = format!("use one that was built with `cargo build --features {feature}`");
        url.complain(what, help);
    }
    (place, Some(name))
}

/// Reads the URL of a bucket.
fn location(field: &Field<'_>) -> Option<(Cloud, String, String)> {
    let text = field.text(Keep::Object)?;
    let found = Place::split(&text)
        .map(|(cloud, bucket, name)| (cloud, bucket.to_owned(), name.to_owned()));
    if found.is_none() {
        let help =
            "write one such as \"s3://bucket/products/{key}.json\", \"gs://…\" or \"az://…\""
                .to_owned();
        field.complain("this is not the URL of a bucket", help);
    }
    found
}

/// Reads the credentials: in `auth`, or `credentials = "instance"`.
fn auth(table: &mut Cursor<'_>, cloud: Option<Cloud>) -> Option<Auth> {
    let from = table.take("credentials");
    let account = table.take("account").and_then(|field| field.string());
    let auth = table.take("auth");
    match (from, auth) {
        (Some(_), Some(field)) => {
            let help = "leave one of them out".to_owned();
            field.complain_of_key("the target has auth and credentials", help);
            None
        }
        (Some(field), None) => {
            let help = "write { key, secret } into auth, or credentials = \"instance\" to use what the cloud gives this machine, or \"none\"";
            let auth = field.parsed("a place of credentials", help, |text| match text {
                "instance" => Some(Auth::Instance {
                    account: account.clone(),
                }),
                "none" => Some(Auth::Anonymous {
                    account: account.clone(),
                }),
                _ => None,
            });
            if cloud == Some(Cloud::Azure) && account.is_none() {
                let help = "write account = \"…\"".to_owned();
                table.complain("a container of Azure needs the name of its account", help);
            }
            auth
        }
        (None, Some(field)) => field
            .table(|table| match cloud {
                Some(Cloud::Azure) => azure(table),
                Some(Cloud::Gcs) => google(table),
                Some(Cloud::S3) => key(table),
                // Which keys are right depends on the cloud.
                None => {
                    table.all();
                    None
                }
            })
            .flatten(),
        (None, None) => {
            let help = match cloud {
                Some(Cloud::Azure) => {
                    "write auth = { account = \"…\", key = { env = \"NAME\" } }, or sas in place of key; or credentials = \"instance\""
                }
                Some(Cloud::Gcs) => {
                    "write auth = { service_account = { file = \"key.json\" } }, or { key, secret } of an HMAC key; or credentials = \"instance\""
                }
                Some(Cloud::S3) | None => {
                    "write auth = { key = \"…\", secret = { env = \"NAME\" } }; or credentials = \"instance\" to use what the cloud gives this machine"
                }
            };
            table.complain("the target has no credentials", help.to_owned());
            None
        }
    }
}

fn key(table: &mut Cursor<'_>) -> Option<Auth> {
    let key = table.require("key", "write key = \"…\", the id of the access key");
    let secret = table.require("secret", "write secret = { env = \"NAME\" }");
    let key = key.and_then(|field| field.string());
    let secret = secret.and_then(|field| plain(&field));
    let token = table.take("token").and_then(|field| plain(&field));
    Some(Auth::Key {
        key: key?,
        secret: secret?,
        token,
    })
}

fn google(table: &mut Cursor<'_>) -> Option<Auth> {
    match table.take("service_account") {
        Some(field) => plain(&field).map(Auth::ServiceAccount),
        None => key(table),
    }
}

fn azure(table: &mut Cursor<'_>) -> Option<Auth> {
    let account = table.require("account", "write account = \"…\"");
    let account = account.and_then(|field| field.string());
    let (key, sas) = (table.take("key"), table.take("sas"));
    if key.is_some() == sas.is_some() {
        let help = "write key = { env = \"NAME\" }, or sas = { env = \"NAME\" }".to_owned();
        table.complain("exactly one of key and sas is needed", help);
        return None;
    }
    let key = key.and_then(|field| plain(&field)).map(AccountProof::Key);
    let sas = sas.and_then(|field| plain(&field)).map(AccountProof::Sas);
    Some(Auth::Account {
        account: account?,
        proof: key.or(sas)?,
    })
}

/// Shows where a bucket is, as a file would write it.
pub(super) fn shown_place(place: &Place, outside: &Outside, into: &mut Map<String, Value>) {
    let text = |text: &str| match outside.is_in(text) {
        true => SECRET.to_owned(),
        false => text.to_owned(),
    };
    let (auth, credentials, account) = match &place.auth {
        Auth::Key { key, token, .. } => {
            let token = token.as_ref().map(|_| SECRET);
            let auth = json!({"key": text(key), "secret": SECRET, "token": token});
            (auth, Value::Null, None)
        }
        Auth::Account { account, proof } => {
            let word = match proof {
                AccountProof::Key(_) => "key",
                AccountProof::Sas(_) => "sas",
            };
            let auth = json!({"account": text(account), word: SECRET});
            (auth, Value::Null, None)
        }
        Auth::ServiceAccount(_) => (json!({"service_account": SECRET}), Value::Null, None),
        Auth::Instance { account } => (Value::Null, "instance".into(), account.as_deref()),
        Auth::Anonymous { account } => (Value::Null, "none".into(), account.as_deref()),
    };
    let endpoint = place.endpoint.as_ref();
    let checksum = place.checksum.and_then(|it| word(&Checksum::WORDS, it));
    let shown = [
        ("region", place.region.clone().into()),
        (
            "endpoint",
            endpoint.map(|it| http::shown_url(it, outside)).into(),
        ),
        ("auth", auth),
        ("credentials", credentials),
        ("account", account.map(text).into()),
        ("checksum", checksum.into()),
        ("timeout", duration_text(place.timeout).into()),
    ];
    into.extend(keys(shown));
    http::shown_connections(&place.connections, outside, into);
}

/// The URL of a name in a bucket, as a file would write it.
pub(super) fn shown_url(place: &Place, name: &str, outside: &Outside) -> String {
    let cloud = place.cloud.scheme();
    let url = format!("{cloud}://{}/{name}", place.bucket);
    match outside.is_in(&url) {
        true => format!("{cloud}://{SECRET}"),
        false => url,
    }
}

impl Configured for Options {
    fn shown(&self, outside: &Outside) -> Map<String, Value> {
        let url = shown_url(&self.place, self.name.as_str(), outside);
        let mut shown = keys([
            ("kind", "bucket".into()),
            ("url", url.into()),
            ("folders", self.name.slashes().into()),
            ("precondition", self.precondition.into()),
            ("spacing", duration_text(self.spacing).into()),
        ]);
        shown_place(&self.place, outside, &mut shown);
        shown
    }

    fn refuses_batches(&self) -> Option<(&'static str, &'static str)> {
        Some((
            "each entity is an object of its own there, so there are no batches",
            "leave batch out; concurrency says how many objects are written at the same time",
        ))
    }

    fn concurrency(&self) -> usize {
        CONCURRENCY
    }

    fn exclusive(&self) -> Option<(String, &'static str)> {
        Some((
            self.place(),
            "they would overwrite each other's objects: give one of the targets a folder of its own, or, if they are of different types, write {entity} into the url",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{inline, shown};
    use super::*;
    use crate::plan::redacted;

    #[test]
    fn a_target_that_could_not_work_is_refused_with_what_would_be_right() {
        let auth = "auth = { key = \"k\", secret = \"a-secret\" }";
        let s3 = "kind = \"bucket\"\nurl = \"s3://shop/{key}.json\"";
        for (keys, expected) in [
            (format!("{s3}\n{auth}"), "needs its region"),
            (
                format!("{s3}\nregion = \"eu\""),
                "the target has no credentials",
            ),
            (
                format!("{s3}\nregion = \"eu\"\n{auth}\ncredentials = \"instance\""),
                "has auth and credentials",
            ),
            (
                format!("kind = \"bucket\"\nurl = \"s3://shop/all.json\"\nregion = \"eu\"\n{auth}"),
                "there is no {key} in it",
            ),
            (
                format!("kind = \"bucket\"\nurl = \"https://shop/{{key}}\"\n{auth}"),
                "this is not the URL of a bucket",
            ),
            (
                "kind = \"bucket\"\nurl = \"az://shop/{key}\"\nauth = { account = \"a\" }".into(),
                "exactly one of key and sas",
            ),
            (
                "kind = \"bucket\"\nurl = \"az://shop/{key}\"\ncredentials = \"instance\"".into(),
                "needs the name of its account",
            ),
            (
                format!(
                    "kind = \"bucket\"\nurl = \"gs://shop/{{key}}\"\nchecksum = \"sha256\"\n{auth}"
                ),
                "only a bucket of S3 takes a checksum",
            ),
            (
                format!(
                    "{s3}\nregion = \"eu\"\n{auth}\n[channels.b]\nentity = \"product\"\nfacets = [\"content\"]\n[channels.b.target]\n{s3}\nregion = \"eu\"\n{auth}"
                ),
                "delivers to the same place",
            ),
            (
                "kind = \"file\"\npath = \"out/../{key}\"".into(),
                "there is no folder",
            ),
            (
                "kind = \"file\"\npath = \"out/{entity}.ndjson\"".into(),
                "{entity} names a file",
            ),
            (
                "kind = \"file\"\npath = \"out/\"".into(),
                "cannot be the name of a file",
            ),
            (
                "kind = \"file\"\npath = \"out/{key}\"\nrotate = { every = \"1d\" }".into(),
                "is not rotated",
            ),
            (
                "kind = \"file\"\npath = \"out/a.ndjson\"\nrotate = { keep = 3 }".into(),
                "rotate needs bytes or every",
            ),
        ] {
            match inline(&keys, &[]) {
                // A folder above is the operator's choice; whether it is there is seen by a check.
                Ok(_) => assert_eq!(expected, "there is no folder", "{keys}"),
                Err(found) => assert!(found.contains(expected), "{keys}: {found}"),
            }
        }
    }

    #[test]
    fn a_build_without_a_cloud_says_so() {
        let feed = "kind = \"feed\"\nformat = \"ndjson\"\nto";
        let bucket = "kind = \"bucket\"\nurl";
        for (kind, name) in [(feed, "all"), (bucket, "{key}")] {
            for (scheme, keys, has, feature) in [
                (
                    "s3",
                    "region = \"eu\"\ncredentials = \"none\"",
                    cfg!(feature = "aws"),
                    "aws",
                ),
                (
                    "gs",
                    "auth = { key = \"k\", secret = \"a-secret\" }",
                    cfg!(feature = "aws"),
                    "aws",
                ),
                ("gs", "credentials = \"none\"", cfg!(feature = "gcp"), "gcp"),
                (
                    "az",
                    "account = \"a\"\ncredentials = \"none\"",
                    cfg!(feature = "azure"),
                    "azure",
                ),
            ] {
                let read = inline(&format!("{kind} = \"{scheme}://shop/{name}\"\n{keys}"), &[]);
                assert_eq!(read.is_ok(), has, "{scheme}");
                if let Err(wrong) = read {
                    assert!(wrong.contains(&format!("--features {feature}")), "{wrong}");
                }
            }
        }
    }

    // A misspelt URL got a complaint about each key of its credentials, too.
    #[test]
    fn a_wrong_url_is_one_mistake() {
        let keys = "kind = \"bucket\"\nurl = \"azure://shop/{key}\"\nauth = { account = \"a\", sas = \"a-secret\" }";
        let wrong = inline(keys, &[]).expect_err("no such cloud");
        assert!(wrong.contains("this is not the URL of a bucket"), "{wrong}");
        assert_eq!(wrong.matches("weir.toml:").count(), 1, "{wrong}");
    }

    #[test]
    fn what_is_understood_is_shown_without_its_secrets() {
        let key = |keys: &str, name: &str| {
            let plan = inline(keys, &[]).unwrap_or_else(|wrong| panic!("{wrong}"));
            let shown = shown(
                plan.targets.values().next().expect("a target"),
                &Outside::default(),
            );
            assert!(!redacted(&plan).to_string().contains("a-secret"));
            shown[name].clone()
        };
        let auth = "auth = { key = \"k\", secret = \"a-secret\", token = \"a-secret-too\" }";
        let r2 = format!(
            "kind = \"bucket\"\nurl = \"s3://shop/{{entity}}/{{key}}.json\"\nendpoint = \"https://x.r2.cloudflarestorage.com\"\n{auth}"
        );
        assert_eq!(key(&r2, "url"), "s3://shop/{entity}/{key}.json");
        assert_eq!(key(&r2, "spacing"), "1s");
        assert_eq!(key(&r2, "concurrency"), 32);
        assert_eq!(
            key(&r2, "auth"),
            json!({"key": "k", "secret": "[secret]", "token": "[secret]"})
        );
        let azure = "kind = \"bucket\"\nurl = \"az://shop/{key}\"\nauth = { account = \"acc\", sas = \"a-secret\" }";
        assert_eq!(
            key(azure, "auth"),
            json!({"account": "acc", "sas": "[secret]"})
        );
        assert_eq!(key(azure, "spacing"), "0ms");
        let google = "kind = \"bucket\"\nurl = \"gs://shop/{key}\"\ncredentials = \"instance\"";
        assert_eq!(key(google, "credentials"), "instance");
        let lines =
            "kind = \"file\"\npath = \"out/a.ndjson\"\nrotate = { bytes = \"1MiB\", keep = 3 }";
        assert_eq!(
            key(lines, "rotate"),
            json!({"bytes": "1MiB", "every": null, "keep": 3})
        );
        assert_eq!(key(lines, "concurrency"), 1);
    }
}
