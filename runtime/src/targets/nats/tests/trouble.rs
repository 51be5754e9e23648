//! What a server, a stream or an account does not allow: it trips the target and refuses no entity.

use std::time::Instant;

use super::*;
use crate::targets::proxy::{Proxy, Way};

/// An account with one user that may not do something.
fn may_not(denied: &str) -> String {
    format!(
        r#"
accounts {{
  SHOP {{ jetstream: enabled, users: [
    {{ user: admin, password: admin }}
    {{ user: weir, password: weir, permissions: {{ publish: {{ deny: ["{denied}"] }} }} }}
  ] }}
}}
no_auth_user: admin
"#
    )
}

const SILENCE: Duration = Duration::from_secs(60);

fn as_weir(port: u16, form: Form) -> Nats {
    let auth = Auth::User {
        user: "weir".into(),
        password: Secret(b"weir".to_vec()),
    };
    Nats::open(&Options {
        auth,
        // Whoever waited for an answer would wait for this long.
        timeout: SILENCE,
        ..options(port, form)
    })
    .expect("it opens")
}

#[tokio::test]
async fn a_full_stream_trips_and_refuses_nothing_until_it_has_room() {
    let Some(bus) = Bus::start("a full stream") else {
        return;
    };
    let room = js::Config {
        discard: js::DiscardPolicy::New,
        ..newest_only()
    };
    let full = [
        (
            "maximum messages exceeded",
            js::Config {
                max_messages: 2,
                ..room.clone()
            },
        ),
        (
            "maximum bytes exceeded",
            js::Config {
                max_bytes: 1_200,
                ..room.clone()
            },
        ),
        (
            "maximum messages per subject exceeded",
            js::Config {
                discard_new_per_subject: true,
                ..room.clone()
            },
        ),
    ];
    for (said, full) in full {
        let js = admin(&bus).await;
        stream(&bus, full).await;
        let nats = nats(bus.port(), subjects());
        delivers(&nats, &[item("a", 1, Some("1")), item("b", 2, Some("1"))]).await;
        let long = "x".repeat(400);
        let items = [item("a", 3, Some(&long)), item("c", 4, Some(&long))];
        let outcomes = deliver(&nats, &items).await.into_iter().map(word);
        let outcomes: Vec<_> = outcomes.collect();
        let tripped = |(word, reason): &(&str, String)| *word == "trip" && reason.contains(said);
        assert!(outcomes.iter().any(tripped), "{said}: {outcomes:?}");
        let refused = outcomes.iter().any(|(word, _)| *word == "refused");
        assert!(!refused, "{said}: {outcomes:?}");
        js.update_stream(room.clone()).await.expect("it is updated");
        delivers(&nats, &items).await;
        js.delete_stream("CATALOG").await.expect("it is deleted");
    }
}

#[tokio::test]
async fn no_stream_and_a_sealed_one_and_two_of_them_trip() {
    let Some(bus) = Bus::start("streams that are not there") else {
        return;
    };
    let nats = nats(bus.port(), subjects());
    let (word, reason) = outcome(&nats, item("a", 1, Some("1"))).await;
    assert_eq!(word, "trip", "{reason}");
    assert!(
        reason.contains("no stream captures catalog.*.*"),
        "{reason}"
    );
    let (word, reason) = outcome(&super::nats(bus.port(), bucket()), item("a", 1, None)).await;
    assert_eq!(word, "trip", "{reason}");
    assert!(reason.contains("nats kv add catalog"), "{reason}");

    stream(&bus, newest_only()).await;
    delivers(&nats, &[item("a", 1, Some("1"))]).await;
    let sealed = js::Config {
        sealed: true,
        ..newest_only()
    };
    let updated = admin(&bus).await.update_stream(sealed).await;
    updated.expect("it is updated");
    let (word, reason) = outcome(&nats, item("a", 2, Some("2"))).await;
    assert_eq!(word, "trip", "{reason}");
    assert!(reason.contains("sealed"), "{reason}");
}

#[tokio::test]
async fn a_stream_that_goes_away_under_a_connection_is_waited_for() {
    let Some(bus) = Bus::start("a stream that goes away") else {
        return;
    };
    stream(&bus, newest_only()).await;
    let nats = nats(bus.port(), subjects());
    delivers(&nats, &[item("a", 1, Some("1"))]).await;
    let js = admin(&bus).await;
    js.delete_stream("CATALOG").await.expect("it is deleted");
    let (word, reason) = outcome(&nats, item("a", 2, Some("2"))).await;
    assert_eq!(word, "retry", "{reason}");
    let (word, reason) = outcome(&nats, item("a", 2, Some("2"))).await;
    assert_eq!(word, "trip", "{reason}");
}

#[tokio::test]
async fn a_stream_that_captures_something_else_trips() {
    let Some(bus) = Bus::start("another stream") else {
        return;
    };
    stream(&bus, newest_only()).await;
    let other = js::Config {
        name: "OTHER".into(),
        subjects: vec!["other.>".into()],
        ..js::Config::default()
    };
    stream(&bus, other).await;
    let Form::Stream { subject, .. } = subjects() else {
        panic!("a stream");
    };
    let form = Form::Stream {
        stream: Some("OTHER".into()),
        subject,
    };
    let (word, reason) = outcome(&nats(bus.port(), form), item("a", 1, Some("1"))).await;
    assert_eq!(word, "trip", "{reason}");
    assert!(reason.contains("10060"), "{reason}");
}

// The right to publish was missing. The server says so once, beside the answers, and never answers the
// message: each attempt ended in a time-out, and nobody read why.
#[tokio::test]
async fn a_right_that_is_missing_trips_at_once_with_what_the_server_said() {
    let denied = [
        ("catalog.product.>", "Publish to \"catalog.product.a\""),
        ("$JS.API.STREAM.NAMES", "STREAM.NAMES"),
        ("$JS.API.STREAM.INFO.>", "STREAM.INFO"),
    ];
    for (denied, said) in denied {
        let Some(bus) = Bus::with(&may_not(denied), "missing rights") else {
            return;
        };
        stream(&bus, newest_only()).await;
        let nats = as_weir(bus.port(), subjects());
        let began = Instant::now();
        let (word, reason) = outcome(&nats, item("a", 1, Some("1"))).await;
        assert_eq!(word, "trip", "{denied}: {reason}");
        assert!(reason.contains(said), "{denied}: {reason}");
        assert!(began.elapsed() < SILENCE, "{denied}");
        let checked = nats.check().await;
        let is_read = denied.starts_with("$JS");
        assert_eq!(checked.is_err(), is_read, "{denied}: {checked:?}");
    }
}

#[tokio::test]
async fn core_nats_without_the_right_trips() {
    let Some(bus) = Bus::with(&may_not("prices.>"), "missing rights of core NATS") else {
        return;
    };
    let subject = Template::parse("prices.{key}", Alphabet::Subject, false).expect("a template");
    let nats = as_weir(bus.port(), Form::Core { subject });
    let (word, reason) = outcome(&nats, item("a", 1, Some("1"))).await;
    assert_eq!(word, "trip", "{reason}");
}

#[tokio::test]
async fn a_message_that_is_too_long_is_refused_and_costs_no_other() {
    let Some(bus) = Bus::with("max_payload: 20000", "long messages") else {
        return;
    };
    let limited = js::Config {
        max_message_size: 9_000,
        ..newest_only()
    };
    stream(&bus, limited).await;
    let nats = nats(bus.port(), subjects());
    let (long, longer) = ("x".repeat(10_000), "x".repeat(30_000));
    let items = [
        item("a", 1, Some("1")),
        item("b", 2, Some(&long)),
        item("c", 3, Some(&longer)),
        item("d", 4, Some("1")),
    ];
    let outcomes = deliver(&nats, &items).await;
    assert_eq!(outcomes[0], Outcome::Delivered);
    let (word_of_stream, reason) = word(outcomes[1].clone());
    assert_eq!(word_of_stream, "refused", "{reason}");
    assert!(reason.contains("10054"), "{reason}");
    let (word_of_server, reason) = word(outcomes[2].clone());
    assert_eq!(word_of_server, "refused", "{reason}");
    assert!(
        reason.contains("30") && reason.contains("20000"),
        "{reason}"
    );
    assert_eq!(outcomes[3], Outcome::Delivered);
}

#[tokio::test]
async fn a_server_that_is_silent_for_ten_seconds_costs_no_state_and_doubles_none() {
    let Some(bus) = Bus::start("a silent server") else {
        return;
    };
    let config = js::Config {
        max_messages_per_subject: -1,
        ..newest_only()
    };
    let mut stream = stream(&bus, config).await;
    let proxy = Proxy::before(bus.port());
    let nats = Nats::open(&Options {
        timeout: Duration::from_secs(2),
        ..options(proxy.port(), subjects())
    })
    .expect("it opens");
    delivers(&nats, &[item("a", 1, Some("1"))]).await;
    proxy.is(Way::Held);
    let began = Instant::now();
    let mut words = Vec::new();
    while began.elapsed() < Duration::from_secs(10) {
        let item = item("a", 2, Some("2"));
        let returned = tokio::time::timeout(SILENCE, outcome(&nats, item)).await;
        words.push(returned.expect("it always returns").0);
        // A target that is away is asked from time to time.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(words[0], "unknown");
    assert!(words[1..].iter().all(|word| *word == "retry"), "{words:?}");
    proxy.is(Way::Open);
    delivers(&nats, &[item("a", 2, Some("2"))]).await;
    delivers(&nats, &[item("a", 3, Some("3"))]).await;
    let info = stream.info().await.expect("an answer");
    assert_eq!(info.state.messages, 3);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_waited_for_and_another_is_used_meanwhile() {
    let Some(bus) = Bus::start("several servers") else {
        return;
    };
    stream(&bus, newest_only()).await;
    // One that accepts connections and says nothing, and one where nobody listens.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = (silent.local_addr().expect("an address").port(), silent);
    let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let gone = gone.local_addr().map(|it| it.port()).expect("an address");
    for port in [silent.0, gone] {
        let (word, reason) = outcome(&nats(port, subjects()), item("a", 1, Some("1"))).await;
        assert_eq!(word, "retry", "{reason}");
    }
    let both = Nats::open(&Options {
        servers: vec![server(silent.0), server(gone), server(bus.port())],
        ..options(gone, subjects())
    })
    .expect("it opens");
    delivers(&both, &[item("a", 1, Some("1"))]).await;
}

#[tokio::test]
async fn a_check_names_what_will_eat_state() {
    let Some(bus) = Bus::start("warnings of a check") else {
        return;
    };
    let nats = nats(bus.port(), subjects());
    let missing = nats.check().await.expect_err("no stream");
    assert!(missing.contains("no stream captures"), "{missing}");
    let greedy = js::Config {
        max_age: Duration::from_secs(3600),
        max_messages: 100,
        discard: js::DiscardPolicy::Old,
        max_messages_per_subject: -1,
        max_message_size: 1000,
        storage: js::StorageType::Memory,
        allow_direct: false,
        ..newest_only()
    };
    stream(&bus, greedy).await;
    let warnings = nats.check().await.expect("it could deliver").join("\n");
    for word in [
        "max_age",
        "discard new",
        "max-msgs-per-subject 1",
        "max_msg_size",
        "allow_direct",
        "memory",
    ] {
        assert!(warnings.contains(word), "{word}: {warnings}");
    }
    // It reads through the leader then.
    delivers(&nats, &[item("a", 1, Some("1"))]).await;
    let after = super::nats(bus.port(), subjects());
    delivers(&after, &[item("a", 2, Some("2"))]).await;
    assert_eq!(
        after
            .compare(&[item("a", 2, Some("2"))])
            .await
            .expect("it compares"),
        [Held::Same]
    );
    catalog(&bus).await;
    let fine = super::nats(bus.port(), bucket()).check().await;
    assert_eq!(fine, Ok(Vec::new()));
}
