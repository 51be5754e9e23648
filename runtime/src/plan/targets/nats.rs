//! NATS in a configuration: reads its keys and shows them.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::super::Outside;
use super::super::secrets::{SECRET, plain};
use super::{Configured, brokers, http, keys, word};
use crate::config::cursor::{Cursor, Field};
use crate::config::row::Keep;
use crate::config::scalar::duration_text;
use crate::targets::Kind;
use crate::targets::nats::{Alphabet, Auth, BATCH, Form, Options, Server, TIMEOUT, Template};

/// The port of a server, unless its URL says otherwise.
const PORT: u16 = 4222;
/// The longest credentials file, bytes.
const CREDS_BYTES_MAX: u64 = 64 * 1024;
/// The requests in flight, unless configured, of which one is kept for urgent work: the messages of a request are
/// in flight together already.
const CONCURRENCY: usize = 3;

/// Reads the keys of NATS; `None` after a complaint about one that it requires.
pub(super) fn read(table: &mut Cursor<'_>) -> Option<Kind> {
    let servers = table
        .require(
            "url",
            "write the URL of a server, such as \"nats://bus.example:4222\", or a list of those of a cluster",
        )
        .and_then(|field| {
            if field.is_empty_list() {
                let help = "write at least one URL".to_owned();
                field.complain("url has no server in it", help);
            }
            let servers = brokers::list(&field, server);
            (!servers.is_empty()).then_some(servers)
        });
    let form = form(table);
    let auth = table.take("auth").and_then(|field| field.table(auth));
    let timeout = table
        .take("timeout")
        .and_then(|field| field.duration(Duration::from_millis(100)..=Duration::from_secs(600)));
    let egress = table
        .take("egress")
        .and_then(|field| field.one_of(&http::EGRESS));
    let tls = table.take("tls").and_then(|field| field.table(http::tls));
    let inbox = table.take("inbox").and_then(|field| {
        let help = "write the beginning of subjects that the account may subscribe to, such as inbox = \"_INBOX_weir\"";
        field.parsed("the beginning of subjects", help, |text| {
            Template::parse(text, Alphabet::Subject, false)
                .is_ok()
                .then(|| text.to_owned())
        })
    });
    Some(Kind::Nats(Box::new(Options {
        servers: servers?,
        form: form?,
        auth: auth.unwrap_or_default(),
        timeout: timeout.unwrap_or(TIMEOUT),
        egress: egress.unwrap_or_default(),
        tls: tls.unwrap_or_default(),
        inbox: inbox.unwrap_or_else(|| "_INBOX".to_owned()),
    })))
}

/// Reads the URL of a server.
fn server(field: &Field<'_>) -> Option<Server> {
    let text = field.string()?;
    let (tls, rest) = match text.split_once("://") {
        Some(("nats", rest)) => (false, rest),
        Some(("tls", rest)) => (true, rest),
        _ => {
            let help =
                "write one such as \"nats://bus.example:4222\" or \"tls://bus.example:4222\"";
            field.complain(
                "the URL starts with neither nats:// nor tls://",
                help.to_owned(),
            );
            return None;
        }
    };
    let rest = rest.trim_end_matches('/');
    if rest.contains('@') {
        let help = "write auth = { user = \"…\", password = { env = \"NAME\" } }";
        field.complain("the URL contains a user", help.to_owned());
        return None;
    }
    let Some((host, port)) = brokers::host_and_port(rest, PORT) else {
        let help = "write a host and a port, such as \"nats://bus.example:4222\"";
        field.complain("this is not the URL of a server", help.to_owned());
        return None;
    };
    Some(Server { host, port, tls })
}

/// Reads what is written, and where.
fn form(table: &mut Cursor<'_>) -> Option<Form> {
    let bucket = table.take("kv");
    let subject = table.take("subject");
    let key = table.take("key");
    let stream = table.take("stream");
    let core = table.take("core").and_then(|field| field.boolean());
    let core = core.unwrap_or(false);
    let help = "write kv = \"catalog\" for a key-value bucket, or subject = \"catalog.{entity}.{key}\" for a stream";
    match (bucket, subject) {
        (Some(bucket), None) => {
            if core {
                let help = "leave core out".to_owned();
                table.complain("a bucket is a stream, and core NATS has none", help);
            }
            if let Some(stream) = stream {
                let help = "leave stream out".to_owned();
                stream.complain_of_key("the stream of a bucket is KV_ and its name", help);
            }
            let help = "write ASCII letters, digits, - and _";
            let bucket = bucket.parsed("the name of a bucket", help, name)?;
            let key = match key {
                Some(field) => template(&field, Alphabet::Bucket, true)?,
                None => Template::parse("{key}", Alphabet::Bucket, true).ok()?,
            };
            Some(Form::Bucket { bucket, key })
        }
        (None, Some(subject)) => {
            if let Some(key) = key {
                let help = "write {key} into the subject".to_owned();
                key.complain_of_key("only a bucket has keys", help);
            }
            let subject = template(&subject, Alphabet::Subject, !core)?;
            let stream = match stream {
                Some(field) if core => {
                    let help = "leave stream or core out".to_owned();
                    field.complain_of_key("core NATS has no stream", help);
                    return None;
                }
                Some(field) => {
                    let help = "write ASCII letters, digits, - and _";
                    Some(field.parsed("the name of a stream", help, name)?)
                }
                None => None,
            };
            Some(match core {
                true => Form::Core { subject },
                false => Form::Stream { stream, subject },
            })
        }
        _ => {
            table.complain("exactly one of kv and subject is needed", help.to_owned());
            None
        }
    }
}

fn name(text: &str) -> Option<String> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let fine = !text.is_empty() && text.len() <= 200 && text.bytes().all(fine);
    fine.then(|| text.to_owned())
}

fn template(field: &Field<'_>, alphabet: Alphabet, keyed: bool) -> Option<Template> {
    let text = field.text(Keep::Object)?;
    Template::parse(&text, alphabet, keyed)
        .map_err(|wrong| {
            let help = match alphabet {
                Alphabet::Subject => "write one such as \"catalog.{entity}.{key}\"",
                Alphabet::Bucket => "write one such as \"{key}\" or \"{entity}.{key}\"",
            };
            field.complain(format!("{text:?} cannot be used: {wrong}"), help.to_owned());
        })
        .ok()
}

fn auth(table: &mut Cursor<'_>) -> Auth {
    let (user, token) = (table.take("user"), table.take("token"));
    let (creds, nkey) = (table.take("creds"), table.take("nkey"));
    let given = [&user, &token, &creds, &nkey];
    if given.into_iter().flatten().count() != 1 {
        let help = "write one of user = \"…\" with password = { env = \"NAME\" }, token = { env = \"NAME\" }, creds = \"weir.creds\", nkey = { file = \"weir.nk\" }";
        table.complain(
            "exactly one of user, token, creds and nkey is needed",
            help.to_owned(),
        );
        return Auth::None;
    }
    if let Some(user) = user {
        let user = user.string();
        let password = table
            .require("password", "write password = { env = \"NAME\" }")
            .and_then(|field| plain(&field));
        let both = user.zip(password);
        return both.map_or(Auth::None, |(user, password)| Auth::User { user, password });
    }
    let token = token.and_then(|field| plain(&field)).map(Auth::Token);
    let nkey = nkey.and_then(|field| plain(&field)).map(Auth::Nkey);
    let creds = creds
        .and_then(|field| field.file_content(CREDS_BYTES_MAX))
        .map(|content| Auth::Creds(crate::signature::Secret(content)));
    token.or(nkey).or(creds).unwrap_or_default()
}

impl Configured for Options {
    fn shown(&self, _: &Outside) -> Map<String, Value> {
        let servers: Vec<String> = self.servers.iter().map(ToString::to_string).collect();
        let auth = match &self.auth {
            Auth::None => Value::Null,
            Auth::User { user, .. } => json!({"user": user, "password": SECRET}),
            Auth::Token(_) => json!({"token": SECRET}),
            Auth::Creds(_) => json!({"creds": SECRET}),
            Auth::Nkey(_) => json!({"nkey": SECRET}),
        };
        let mut shown = vec![
            ("kind", "nats".into()),
            ("url", servers.into()),
            ("auth", auth),
            ("timeout", duration_text(self.timeout).into()),
            ("egress", word(&http::EGRESS, self.egress).into()),
            ("tls", http::shown_tls(&self.tls)),
            ("inbox", self.inbox.clone().into()),
        ];
        match &self.form {
            Form::Bucket { bucket, key } => {
                shown.extend([("kv", bucket.clone().into()), ("key", key.text().into())]);
            }
            Form::Stream { stream, subject } => {
                let stream = stream.clone().into();
                shown.extend([("subject", subject.text().into()), ("stream", stream)]);
            }
            Form::Core { subject } => {
                shown.extend([("subject", subject.text().into()), ("core", true.into())]);
            }
        }
        keys(shown)
    }

    fn batch(&self) -> (usize, usize) {
        BATCH
    }

    fn concurrency(&self) -> usize {
        CONCURRENCY
    }

    fn never_suppresses(&self) -> Option<&'static str> {
        let core = matches!(self.form, Form::Core { .. });
        core.then_some(
            "core NATS does not say what became of a message, so that nobody knows what subscribers hold",
        )
    }

    fn exclusive(&self) -> Option<(String, &'static str)> {
        // Of core NATS nothing is kept that could be replaced.
        (!matches!(self.form, Form::Core { .. })).then(|| {
            (
                self.place(),
                "they would replace each other's messages: write {entity} into key or subject, or give one of the targets a place of its own",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::inline;
    use crate::plan::redacted;

    /// Reads a target of these keys, and returns what the plan shows of it, or the complaints.
    fn target(keys: &str) -> Result<serde_json::Value, String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let creds = folder.path().join("weir.creds");
        std::fs::write(&creds, "a JWT and a seed").expect("a file");
        let keys = keys.replace("weir.creds", &creds.display().to_string());
        let plan = inline(&format!("kind = \"nats\"\n{keys}"), &[])?;
        Ok(redacted(&plan)["targets"]["a"].clone())
    }

    #[test]
    fn what_is_written_is_shown_without_its_secrets() {
        let url = "url = [\"nats://a.example\", \"tls://[::1]:5\"]\n";
        let shown = target(&format!("{url}kv = \"catalog\"")).expect("it is right");
        assert_eq!(shown["url"][0], "nats://a.example:4222");
        assert_eq!(shown["url"][1], "tls://::1:5");
        assert_eq!(
            (&shown["kv"], &shown["key"]),
            (&"catalog".into(), &"{key}".into())
        );
        assert_eq!(shown["timeout"], "10s");
        assert_eq!(shown["concurrency"], 3);
        for auth in [
            "{ user = \"u\", password = \"hidden-word\" }",
            "{ token = \"hidden-word\" }",
            "{ nkey = \"hidden-word\" }",
            "{ creds = \"weir.creds\" }",
        ] {
            let keys = format!("{url}subject = \"c.{{entity}}.{{key}}\"\nauth = {auth}");
            let shown = target(&keys).expect("it is right").to_string();
            assert!(shown.contains("[secret]"), "{shown}");
            assert!(
                !shown.contains("hidden-word") && !shown.contains("a JWT"),
                "{shown}"
            );
        }
    }

    #[test]
    fn what_cannot_work_is_complained_of() {
        let url = "url = \"nats://a.example\"";
        for (keys, said) in [
            ("kv = \"catalog\"", "url"),
            (url, "exactly one of kv and subject"),
            (
                &format!("{url}\nkv = \"a\"\nsubject = \"b.{{key}}\""),
                "exactly one of kv and subject",
            ),
            (&format!("{url}\nkv = \"a.b\""), "name of a bucket"),
            (&format!("{url}\nkv = \"a\"\nkey = \"x\""), "no {key}"),
            (&format!("{url}\nkv = \"a\"\nstream = \"x\""), "KV_"),
            (
                &format!("{url}\nkv = \"a\"\ncore = true"),
                "core NATS has none",
            ),
            (&format!("{url}\nsubject = \"a.*.{{key}}\""), "letter '*'"),
            (&format!("{url}\nsubject = \"a.{{sku}}\""), "{sku}"),
            (
                &format!("{url}\nsubject = \"a.{{key}}\"\nstream = \"x\"\ncore = true"),
                "no stream",
            ),
            (
                &format!("{url}\nsubject = \"a.{{key}}\"\nauth = {{}}"),
                "exactly one of user",
            ),
            (
                "url = \"http://a.example\"\nkv = \"a\"",
                "neither nats:// nor tls://",
            ),
            (
                "url = \"nats://u:p@a.example\"\nkv = \"a\"",
                "contains a user",
            ),
            ("url = []\nkv = \"a\"", "url"),
        ] {
            let complaint = target(keys).expect_err(keys);
            assert!(complaint.contains(said), "{keys}: {complaint}");
        }
    }
}
