//! NATS against a real server: what arrives, what does not, and whose fault it is.

mod cluster;
mod drift;
mod forgotten;
mod guard;
mod secure;
mod trouble;

use async_nats::jetstream::{self, kv, stream as js};
use futures_util::TryStreamExt;

use super::*;
use crate::model::Sequence;
use crate::signature::Secret;
use crate::targets::Foreign;
use crate::targets::bus::Bus;
use crate::targets::http::Egress;
use crate::targets::sample::{HEAD, attempt, item};

fn server(port: u16) -> Server {
    Server {
        host: "127.0.0.1".into(),
        port,
        tls: false,
    }
}

fn options(port: u16, form: Form) -> Options {
    Options {
        servers: vec![server(port)],
        form,
        auth: Auth::None,
        timeout: Duration::from_secs(5),
        egress: Egress::Private,
        tls: Tls::default(),
        inbox: "_INBOX".into(),
    }
}

fn bucket() -> Form {
    Form::Bucket {
        bucket: "catalog".into(),
        key: Template::parse("{key}", Alphabet::Bucket, true).expect("a template"),
    }
}

fn subjects() -> Form {
    Form::Stream {
        stream: None,
        subject: Template::parse("catalog.{entity}.{key}", Alphabet::Subject, true)
            .expect("a template"),
    }
}

fn nats(port: u16, form: Form) -> Nats {
    Nats::open(&options(port, form)).expect("it opens")
}

async fn deliver(nats: &Nats, items: &[Item]) -> Vec<Outcome> {
    let delivery = nats.deliver(attempt(items)).await;
    assert_eq!(delivery.outcomes.len(), items.len());
    delivery.outcomes
}

async fn delivers(nats: &Nats, items: &[Item]) {
    for outcome in deliver(nats, items).await {
        assert_eq!(outcome, Outcome::Delivered);
    }
}

/// The one outcome of an item, as a word and a reason.
async fn outcome(nats: &Nats, item: Item) -> (&'static str, String) {
    word(deliver(nats, &[item]).await.remove(0))
}

fn word(outcome: Outcome) -> (&'static str, String) {
    match outcome {
        Outcome::Delivered => ("delivered", String::new()),
        Outcome::Refused { reason, .. } => ("refused", reason),
        Outcome::Trip { reason } => ("trip", reason),
        Outcome::Forgot { reason } => ("forgot", reason),
        Outcome::Ahead { reason, .. } => ("ahead", reason),
        Outcome::Retry {
            reason,
            maybe_applied: true,
        } => ("unknown", reason),
        Outcome::Retry { reason, .. } => ("retry", reason),
        other => panic!("{other:?}"),
    }
}

/// Whoever makes streams and looks into them.
async fn admin(bus: &Bus) -> jetstream::Context {
    let client = async_nats::connect(bus.url()).await.expect("it connects");
    jetstream::new(client)
}

fn newest_only() -> js::Config {
    js::Config {
        name: "CATALOG".into(),
        subjects: vec!["catalog.>".into()],
        max_messages_per_subject: 1,
        allow_direct: true,
        ..js::Config::default()
    }
}

async fn stream(bus: &Bus, config: js::Config) -> js::Stream {
    let made = admin(bus).await.create_stream(config).await;
    made.expect("a stream")
}

async fn catalog(bus: &Bus) -> kv::Store {
    let config = kv::Config {
        bucket: "catalog".into(),
        history: 1,
        ..kv::Config::default()
    };
    let made = admin(bus).await.create_key_value(config).await;
    made.expect("a bucket")
}

/// What a bucket holds, by key.
async fn values(store: &kv::Store) -> Vec<(String, String)> {
    let keys: Vec<String> = store
        .keys()
        .await
        .expect("keys")
        .try_collect()
        .await
        .expect("keys");
    let mut values = Vec::new();
    for key in keys {
        let value = store.get(&key).await.expect("an answer").expect("a value");
        values.push((key, String::from_utf8_lossy(&value).into_owned()));
    }
    values.sort();
    values
}

#[tokio::test]
async fn a_bucket_holds_what_is_there_now_and_its_readers_see_deletions() {
    let Some(bus) = Bus::start("values of a bucket") else {
        return;
    };
    let store = catalog(&bus).await;
    let nats = nats(bus.port(), bucket());
    let put = |key, sequence, body| item(key, sequence, Some(body));
    delivers(
        &nats,
        &[put("a", 1, "1"), put("b", 2, "1"), put("c", 3, "1")],
    )
    .await;
    delivers(&nats, &[put("a", 4, "2"), item("b", 5, None)]).await;
    let expected = [("a", "2"), ("c", "1")].map(|(key, value)| (key.into(), value.into()));
    assert_eq!(values(&store).await, expected);
    let gone = store
        .entry("b")
        .await
        .expect("an answer")
        .expect("an entry");
    assert_eq!(gone.operation, kv::Operation::Delete);
    // One that was deleted comes back.
    delivers(&nats, &[put("b", 6, "3")]).await;
    assert_eq!(values(&store).await.len(), 3);
}

#[tokio::test]
async fn a_message_of_a_stream_says_which_entity_and_which_state_it_is() {
    let Some(bus) = Bus::start("messages of a stream") else {
        return;
    };
    let stream = stream(&bus, newest_only()).await;
    let nats = nats(bus.port(), subjects());
    delivers(&nats, &[item("a/1", 7, Some("{}")), item("gone", 8, None)]).await;
    let message = stream
        .direct_get_last_for_subject("catalog.product.a%2F1")
        .await
        .expect("a message");
    let header = |name: &str| message.headers.get(name).map(|value| value.as_str());
    assert_eq!(&message.payload[..], b"{}");
    assert_eq!(header("weir-entity"), Some("product/a%2F1"));
    assert_eq!(header("weir-key"), Some("a%2F1"));
    assert_eq!(header("weir-sequence"), Some("7"));
    assert_eq!(header("content-type"), Some("application/json"));
    let digest = format!("{:016x}", xxh3_64(b"{}"));
    assert_eq!(header("weir-digest"), Some(digest.as_str()));
    assert!(header("Nats-Msg-Id").is_some_and(|id| id.starts_with("weir_")));
    let gone = stream
        .direct_get_last_for_subject("catalog.product.gone")
        .await
        .expect("a tombstone");
    assert!(gone.payload.is_empty());
    let deleted = gone.headers.get("weir-deleted").map(|value| value.as_str());
    assert_eq!(deleted, Some("true"));
}

#[tokio::test]
async fn keys_of_any_script_and_length_are_kept_apart_in_both_forms() {
    let Some(bus) = Bus::start("strange keys") else {
        return;
    };
    let store = catalog(&bus).await;
    let mut stream = stream(&bus, newest_only()).await;
    let keys = crate::targets::fixture::strange_keys();
    for form in [bucket(), subjects()] {
        let nats = nats(bus.port(), form);
        let items: Vec<Item> = keys
            .iter()
            .enumerate()
            .map(|(at, key)| item(key, at as u64 + 1, Some(key)))
            .collect();
        delivers(&nats, &items).await;
        let held = nats.compare(&items).await.expect("it compares");
        assert!(held.iter().all(|held| *held == Held::Same), "{held:?}");
    }
    assert_eq!(values(&store).await.len(), keys.len());
    let info = stream.info().await.expect("an answer");
    assert_eq!(info.state.messages, keys.len() as u64);
}

#[tokio::test]
async fn thousands_in_one_attempt_are_in_flight_together() {
    let Some(bus) = Bus::start("an attempt with thousands of items") else {
        return;
    };
    let mut stream = stream(&bus, newest_only()).await;
    let nats = nats(bus.port(), subjects());
    for round in 1..=2 {
        let items: Vec<Item> = (0..5_000)
            .map(|number| item(&format!("e{number}"), round * 10_000 + number, Some("{}")))
            .collect();
        delivers(&nats, &items).await;
    }
    let info = stream.info().await.expect("an answer");
    assert_eq!(
        (info.state.messages, info.state.last_sequence),
        (5_000, 10_000)
    );
}

#[tokio::test]
async fn core_nats_reaches_who_listens_and_is_never_certain() {
    let Some(bus) = Bus::start("core NATS") else {
        return;
    };
    let client = async_nats::connect(bus.url()).await.expect("it connects");
    let mut listener = client.subscribe("prices.>").await.expect("it listens");
    client.flush().await.expect("it is heard");
    let subject = Template::parse("prices.{key}", Alphabet::Subject, false).expect("a template");
    let form = Form::Core { subject };
    let kind = crate::targets::Kind::Nats(Box::new(options(bus.port(), form.clone())));
    assert!(kind.accepts_only());
    let nats = nats(bus.port(), form);
    delivers(&nats, &[item("a", 1, Some("1")), item("b", 2, None)]).await;
    let first = listener.next().await.expect("a message");
    assert_eq!(
        (&*first.subject, &first.payload[..]),
        ("prices.a", &b"1"[..])
    );
    let second = listener.next().await.expect("a message");
    assert_eq!(&*second.subject, "prices.b");
    assert_eq!(nats.mark(), None);
    assert!(nats.compare(&[]).await.is_err());
}
