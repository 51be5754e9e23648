//! Kafka against Tansu, a broker that knows repeated batches, behind a proxy that loses answers.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::*;
use crate::signature::Secret;
use crate::targets::kafka::Sasl;
use crate::targets::parts::part;
use crate::targets::proxy::{Proxy, Way};

/// A broker that keeps records in memory and knows repeated batches.
pub(super) struct Tansu(Child);

impl Tansu {
    /// Starts one that names the port of a proxy as its own; `None` if there is no program for it.
    fn start(proves: &str) -> Option<(Tansu, Proxy)> {
        Tansu::with(&[], proves)
    }

    /// The same with more options.
    fn with(options: &[&str], proves: &str) -> Option<(Tansu, Proxy)> {
        let program = part("tansu", proves)?;
        Some(Tansu::listening(&program, options, |port| {
            let proxy = Proxy::before(port);
            let name = format!("tcp://127.0.0.1:{}", proxy.port());
            (name, proxy)
        }))
    }

    /// Starts one that names this address as its own, and returns the port at which it is; `None` if there is no
    /// program for it.
    #[cfg(feature = "kafka-tls")]
    pub(super) fn named(options: &[&str], name: &str, proves: &str) -> Option<(Tansu, u16)> {
        let program = part("tansu", proves)?;
        Some(Tansu::listening(&program, options, |port| {
            (name.to_owned(), port)
        }))
    }

    /// Starts one, and whatever is before it, which gives it its name.
    fn listening<T>(
        program: &Path,
        options: &[&str],
        before: impl Fn(u16) -> (String, T),
    ) -> (Tansu, T) {
        // It takes no port of its own choice. Another test may take it in between; then this one fails to
        // start and tries another.
        for _ in 0..5 {
            let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
            let port = free.local_addr().expect("an address").port();
            drop(free);
            let (name, front) = before(port);
            let child = Command::new(program)
                .args(["broker", "--storage-engine", "memory://weir/"])
                .args(options)
                .args(["--listener-url", &format!("tcp://127.0.0.1:{port}")])
                .args(["--advertised-listener-url", &name])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("tansu runs");
            let mut tansu = Tansu(child);
            let began = Instant::now();
            while began.elapsed() < Duration::from_secs(20) {
                if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return (tansu, front);
                }
                if let Ok(Some(_)) = tansu.0.try_wait() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        panic!("tansu does not listen");
    }
}

impl Drop for Tansu {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Makes the topic, and returns the address of the broker.
async fn topic_behind(proxy: &Proxy) -> String {
    let brokers = format!("127.0.0.1:{}", proxy.port());
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", &brokers)
        .create()
        .expect("an admin");
    let topic = rdkafka::admin::NewTopic::new(TOPIC, 1, rdkafka::admin::TopicReplication::Fixed(1));
    let made = admin.create_topics([&topic], &AdminOptions::new()).await;
    made.expect("an answer")[0].as_ref().expect("a topic");
    brokers
}

#[tokio::test]
async fn a_broker_that_is_silent_is_waited_for_and_an_attempt_always_ends() {
    let Some((_tansu, proxy)) = Tansu::start("a silent broker of Kafka") else {
        return;
    };
    let kafka = Kafka::open(&Options {
        timeout: Duration::from_secs(1),
        ..options(&topic_behind(&proxy).await)
    })
    .expect("it opens");
    // The first record may wait for the first connection.
    let ready = async { while words(&kafka, &items(0..1)).await != ["delivered"] {} };
    let ready = tokio::time::timeout(Duration::from_secs(30), ready).await;
    ready.expect("it is ready");
    proxy.is(Way::Held);
    let began = Instant::now();
    assert_eq!(words(&kafka, &items(1..3)).await, ["unknown"; 2]);
    assert!(began.elapsed() < Duration::from_secs(8));
    proxy.is(Way::Open);
    // The library waits longer after each failure before it connects again.
    let back = async { while words(&kafka, &items(1..3)).await != ["delivered"; 2] {} };
    let back = tokio::time::timeout(Duration::from_secs(30), back).await;
    back.expect("it goes on");
}

#[tokio::test]
async fn an_answer_that_is_lost_stores_no_record_twice() {
    let Some((_tansu, proxy)) = Tansu::start("lost answers of Kafka") else {
        return;
    };
    let brokers = topic_behind(&proxy).await;
    let kafka = Kafka::open(&Options {
        timeout: Duration::from_secs(20),
        ..options(&brokers)
    })
    .expect("it opens");
    assert_eq!(words(&kafka, &items(0..10)).await, ["delivered"; 10]);
    for number in 10..13 {
        let before = proxy.lost();
        proxy.is(Way::NoAnswers);
        let lost = async {
            let began = Instant::now();
            while proxy.lost() == before && began.elapsed() < Duration::from_secs(10) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert!(proxy.lost() > before, "an answer is lost");
            proxy.is(Way::Open);
            proxy.cut();
        };
        let record = items(number..number + 1);
        let (found, ()) = tokio::join!(words(&kafka, &record), lost);
        assert_eq!(found, ["delivered"]);
    }
    let kept = records(&brokers, 1).await;
    let keys: Vec<&str> = kept.iter().map(|record| &*record.key).collect();
    let expected: Vec<String> = (0..13).map(|number| format!("e{number}")).collect();
    assert_eq!(keys, expected);
}

/// A topic that nobody has made is waited for: it refuses nothing, and the reason names it.
#[tokio::test]
async fn a_topic_that_is_not_there_trips_and_the_check_names_it() {
    let Some((_tansu, proxy)) = Tansu::start("a topic that is not there") else {
        return;
    };
    let options = Options {
        timeout: Duration::from_secs(2),
        ..options(&format!("127.0.0.1:{}", proxy.port()))
    };
    let kafka = Kafka::open(&options).expect("it opens");
    let checked = kafka.check().await.expect_err("no topic");
    assert!(checked.contains("\"catalog\""), "{checked}");
    let outcomes = deliver(&kafka, &items(0..2)).await;
    let trips = |outcome: &Outcome| matches!(outcome, Outcome::Trip { reason } if reason.contains("the topic \"catalog\""));
    assert!(outcomes.iter().all(trips), "{outcomes:?}");
    topic_behind(&proxy).await;
    let there = async { while words(&kafka, &items(0..2)).await != ["delivered"; 2] {} };
    let there = tokio::time::timeout(Duration::from_secs(30), there).await;
    there.expect("it goes on");
    let warnings = kafka.check().await.expect("it could deliver");
    assert!(warnings[0].contains("has one copy"), "{warnings:?}");
}

#[tokio::test]
async fn credentials_that_the_broker_does_not_take_trip() {
    let proves = "a broker that asks for credentials";
    let Some((_tansu, proxy)) = Tansu::with(&["--authentication"], proves) else {
        return;
    };
    let auth = Sasl {
        mechanism: Mechanism::Plain,
        user: "weir".into(),
        password: Secret(b"hidden-word".to_vec()),
    };
    let options = Options {
        timeout: Duration::from_secs(2),
        auth: Some(auth),
        ..options(&format!("127.0.0.1:{}", proxy.port()))
    };
    let kafka = Kafka::open(&options).expect("it opens");
    let outcomes = deliver(&kafka, &items(0..2)).await;
    let trips = |outcome: &Outcome| matches!(outcome, Outcome::Trip { reason } if reason.contains("SASL PLAIN"));
    assert!(outcomes.iter().all(trips), "{outcomes:?}");
    let checked = kafka.check().await.expect_err("it may not");
    assert!(!format!("{checked}{outcomes:?}").contains("hidden-word"));
}
