//! Kafka in a configuration: reads its keys and shows them.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::super::Outside;
use super::super::secrets::{SECRET, plain};
use super::{Configured, brokers, http, keys, word};
use crate::config::cursor::{Cursor, Field};
use crate::config::row::Keep;
use crate::config::scalar::duration_text;
use crate::targets::Kind;
use crate::targets::kafka::{
    BATCH, Compression, Filled, HAS_TLS, IS_THERE, Mechanism, Options, Partitioner, Sasl, TIMEOUT,
};

/// The port of a broker, unless written.
const PORT: u16 = 9092;
/// The attempts in flight, unless configured, of which one is kept for urgent work: the records of an attempt are in
/// flight together already.
const CONCURRENCY: usize = 2;
/// What a build needs for TLS and SCRAM.
const BUILD_TLS: &str = "build one with `cargo build --release --features kafka-tls`";

/// Reads the keys of Kafka; `None` after a complaint about one that it requires.
pub(super) fn read(table: &mut Cursor<'_>) -> Option<Kind> {
    if !IS_THERE {
        let help = "build one with `cargo build --release --features kafka`".to_owned();
        table.complain("this build of Weir has no Kafka", help);
    }
    let found = table
        .require(
            "brokers",
            "write hosts and ports, such as brokers = [\"kafka1.example:9092\", \"kafka2.example:9092\"]",
        )
        .and_then(|field| {
            if field.is_empty_list() {
                let help = "write at least one".to_owned();
                field.complain("brokers is empty", help);
            }
            let brokers = brokers::list(&field, broker);
            (!brokers.is_empty()).then_some(brokers)
        });
    let topic = table
        .require(
            "topic",
            "write the name of the topic, such as topic = \"catalog.{entity}\"",
        )
        .and_then(|field| topic(&field));
    let key = table.take("key").and_then(|field| {
        let text = field.text(Keep::Object)?;
        if !text.contains("{key}") {
            let help = "write one such as \"{entity}/{key}\"".to_owned();
            field.complain(
                "it has no {key}, so that all entities would replace each other",
                help,
            );
            return None;
        }
        if text.contains("{entity}{key}") || text.contains("{key}{entity}") {
            let help = "write one such as \"{entity}/{key}\"".to_owned();
            field.complain(
                "its placeholders touch, so that entities of different types may have one key",
                help,
            );
            return None;
        }
        Some(Filled(text))
    });
    let partitioner = table
        .take("partitioner")
        .and_then(|field| field.one_of(&Partitioner::WORDS));
    let compression = table
        .take("compression")
        .and_then(|field| field.one_of(&Compression::WORDS));
    let tls = table.take("tls").and_then(|field| {
        needs_tls(&field, "TLS");
        // `true` asks for TLS with the roots of the system.
        match field.is_table() {
            true => field.table(http::tls).map(Some),
            false => field.boolean().map(|wanted| wanted.then(Default::default)),
        }
    });
    let auth = table
        .take("auth")
        .and_then(|field| field.table(auth).flatten());
    let timeout = table
        .take("timeout")
        .and_then(|field| field.duration(Duration::from_secs(1)..=Duration::from_secs(600)));
    let egress = table
        .take("egress")
        .and_then(|field| field.one_of(&http::EGRESS));
    Some(Kind::Kafka(Box::new(Options {
        brokers: found?,
        topic: topic?,
        key: key.unwrap_or_else(|| Filled("{key}".to_owned())),
        partitioner: partitioner.unwrap_or(Partitioner::Murmur2),
        compression: compression.unwrap_or(Compression::None),
        auth,
        tls: tls.flatten(),
        timeout: timeout.unwrap_or(TIMEOUT),
        egress: egress.unwrap_or_default(),
    })))
}

fn broker(field: &Field<'_>) -> Option<(String, u16)> {
    let text = field.string()?;
    let found = brokers::host_and_port(&text, PORT);
    if found.is_none() {
        let help = "write a host and a port, such as \"kafka1.example:9092\"".to_owned();
        field.complain("this is not the address of a broker", help);
    }
    found
}

/// Reads the name of a topic.
fn topic(field: &Field<'_>) -> Option<Filled> {
    let text = field.text(Keep::Object)?;
    let rest = text.replace("{entity}", "");
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if text.is_empty() || text.len() > 200 || !rest.bytes().all(fine) {
        let help = "write ASCII letters, digits, -, _, . and {entity}".to_owned();
        field.complain("this cannot be the name of a topic", help);
        return None;
    }
    Some(Filled(text))
}

/// Complains of what needs OpenSSL, in a build without it.
fn needs_tls(field: &Field<'_>, what: &str) {
    if IS_THERE && !HAS_TLS {
        let complaint = format!("this build of Weir has no {what} for Kafka");
        field.complain(complaint, BUILD_TLS.to_owned());
    }
}

fn auth(table: &mut Cursor<'_>) -> Option<Sasl> {
    let help = "write sasl = { mechanism = \"SCRAM-SHA-512\", user = \"…\", password = { env = \"NAME\" } }";
    table.require("sasl", help)?.table(|table| {
        let mechanism = table
            .require(
                "mechanism",
                "write mechanism = \"PLAIN\" or \"SCRAM-SHA-512\"",
            )
            .and_then(|field| {
                let mechanism = field.one_of(&Mechanism::WORDS)?;
                if mechanism != Mechanism::Plain {
                    needs_tls(&field, "SCRAM");
                }
                Some(mechanism)
            });
        let user = table
            .require("user", "write user = \"…\"")
            .and_then(|field| field.string());
        let password = table
            .require("password", "write password = { env = \"NAME\" }")
            .and_then(|field| plain(&field));
        Some(Sasl {
            mechanism: mechanism?,
            user: user?,
            password: password?,
        })
    })?
}

impl Configured for Options {
    fn shown(&self, _: &Outside) -> Map<String, Value> {
        let brokers = self
            .brokers
            .iter()
            .map(|(host, port)| format!("{host}:{port}"));
        let auth = self.auth.as_ref().map(|sasl| {
            json!({"sasl": {
                "mechanism": word(&Mechanism::WORDS, sasl.mechanism),
                "user": sasl.user,
                "password": SECRET,
            }})
        });
        keys([
            ("kind", "kafka".into()),
            ("brokers", brokers.collect::<Vec<_>>().into()),
            ("topic", self.topic.0.clone().into()),
            ("key", self.key.0.clone().into()),
            (
                "partitioner",
                word(&Partitioner::WORDS, self.partitioner).into(),
            ),
            (
                "compression",
                word(&Compression::WORDS, self.compression).into(),
            ),
            ("auth", auth.into()),
            ("tls", self.tls.as_ref().map(http::shown_tls).into()),
            ("timeout", duration_text(self.timeout).into()),
            ("egress", word(&http::EGRESS, self.egress).into()),
        ])
    }

    fn batch(&self) -> (usize, usize) {
        BATCH
    }

    fn concurrency(&self) -> usize {
        CONCURRENCY
    }

    fn exclusive(&self) -> Option<(String, &'static str)> {
        Some((
            self.place(),
            "they would replace each other's records: give one of the targets a topic of its own, or, if they are of different types, write {entity} into topic or key",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::super::inline;
    use crate::plan::redacted;
    use crate::targets::kafka::{HAS_TLS, IS_THERE};

    fn target(keys: &str) -> Result<serde_json::Value, String> {
        let plan = inline(&format!("kind = \"kafka\"\n{keys}"), &[])?;
        Ok(redacted(&plan)["targets"]["a"].clone())
    }

    const FINE: &str = "brokers = \"kafka.example\"\ntopic = \"catalog.{entity}\"";

    #[test]
    fn a_build_without_kafka_says_so_and_one_with_it_reads_the_keys() {
        let plain = target(FINE);
        assert_eq!(plain.is_ok(), IS_THERE, "{plain:?}");
        match plain {
            Ok(shown) => {
                assert_eq!(shown["brokers"][0], "kafka.example:9092");
                assert_eq!(shown["partitioner"], "murmur2");
                assert_eq!(shown["timeout"], "30s");
            }
            Err(complaint) => {
                assert!(
                    complaint.contains("this build of Weir has no Kafka")
                        && complaint.contains("--features kafka"),
                    "{complaint}"
                );
            }
        }
        let tls = target(&format!("{FINE}\ntls = true"));
        let scram = target(&format!(
            "{FINE}\nauth = {{ sasl = {{ mechanism = \"SCRAM-SHA-512\", user = \"u\", password = \"hidden-word\" }} }}"
        ));
        for read in [tls, scram] {
            assert_eq!(read.is_ok(), HAS_TLS, "{read:?}");
            let text = read.map_or_else(|complaint| complaint, |shown| shown.to_string());
            let expected = match (HAS_TLS, IS_THERE) {
                (true, _) => "[",
                (false, true) => "kafka-tls",
                (false, false) => "--features kafka",
            };
            assert!(text.contains(expected), "{text}");
            assert!(!text.contains("hidden-word"), "{text}");
        }
    }

    #[test]
    fn what_cannot_work_is_complained_of() {
        for (keys, said) in [
            ("topic = \"a\"", "brokers"),
            ("brokers = []\ntopic = \"a\"", "brokers is empty"),
            ("brokers = \"a b\"\ntopic = \"a\"", "address of a broker"),
            ("brokers = \"a\"\ntopic = \"a/b\"", "name of a topic"),
            ("brokers = \"a\"\ntopic = \"a.{key}\"", "name of a topic"),
            (&format!("{FINE}\nkey = \"x\""), "no {key}"),
            (&format!("{FINE}\nkey = \"{{entity}}{{key}}\""), "touch"),
            (&format!("{FINE}\nauth = {{}}"), "sasl"),
            (&format!("{FINE}\npartitioner = \"crc\""), "partitioner"),
        ] {
            let complaint = target(keys).expect_err(keys);
            assert!(complaint.contains(said), "{keys}: {complaint}");
        }
    }
}
