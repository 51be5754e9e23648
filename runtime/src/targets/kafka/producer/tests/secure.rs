//! Kafka by TLS: Tansu behind a front that speaks TLS, since the broker of the package takes no certificate.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::tansu::Tansu;
use super::*;
use crate::signature::Secret;
use crate::targets::http::Tls;
use crate::targets::kafka::Sasl;

macro_rules! certificate {
    ($name:literal) => {
        include_bytes!(concat!("../../../http/transport/certificates/", $name))
    };
}

const CA: &[u8] = certificate!("ca.pem");
const SERVER: [&[u8]; 2] = [certificate!("server.pem"), certificate!("server.key")];
const CLIENT: [&[u8]; 2] = [certificate!("client.pem"), certificate!("client.key")];

fn chain(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    let certificates: Result<_, _> = CertificateDer::pem_slice_iter(pem).collect();
    certificates.expect("PEM")
}

/// What the front shows, and whether it asks clients for a certificate of the same authority.
fn acceptor(asks: bool) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone());
    let builder = builder
        .with_safe_default_protocol_versions()
        .expect("versions");
    let builder = match asks {
        false => builder.with_no_client_auth(),
        true => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(chain(CA));
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        }
    };
    let key = PrivateKeyDer::from_pem_slice(SERVER[1]).expect("a key");
    let config = builder.with_single_cert(chain(SERVER[0]), key);
    TlsAcceptor::from(Arc::new(config.expect("they fit")))
}

/// A broker whose only address is that of a front with TLS; `None` if there is no program for it.
async fn broker(asks: bool, options: &[&str], proves: &str) -> Option<(Tansu, String)> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let front = listener.local_addr().expect("an address").port();
    let (tansu, port) = Tansu::named(options, &format!("tcp://localhost:{front}"), proves)?;
    let acceptor = acceptor(asks);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                let Ok(mut behind) = TcpStream::connect(("127.0.0.1", port)).await else {
                    return;
                };
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut behind).await;
            });
        }
    });
    Some((tansu, format!("localhost:{front}")))
}

fn secure(brokers: &str, ca: &[u8], identity: Option<[&[u8]; 2]>) -> Options {
    Options {
        tls: Some(Tls {
            ca: Some(ca.to_vec()),
            identity: identity.map(|[cert, key]| (cert.to_vec(), Secret(key.to_vec()))),
        }),
        timeout: Duration::from_secs(5),
        ..options(brokers)
    }
}

/// Makes the topic by TLS.
async fn topic(options: &Options) {
    let admin: AdminClient<DefaultClientContext> = config(options).create().expect("an admin");
    let topic = rdkafka::admin::NewTopic::new(TOPIC, 1, rdkafka::admin::TopicReplication::Fixed(1));
    let made = admin.create_topics([&topic], &AdminOptions::new()).await;
    made.expect("an answer")[0].as_ref().expect("a topic");
}

/// Delivers until it is delivered: the first record may wait for the first connection.
async fn arrives(options: &Options) {
    topic(options).await;
    let kafka = Kafka::open(options).expect("it opens");
    let arrived = async { while words(&kafka, &items(0..1)).await != ["delivered"] {} };
    let arrived = tokio::time::timeout(Duration::from_secs(30), arrived).await;
    arrived.expect("it arrives");
}

/// What became of a record that did not arrive, with the reason. A broker that cannot be spoken to is one that is not
/// there, for the library: records wait for it until their time is over.
async fn fails(options: &Options) -> String {
    let kafka = Kafka::open(options).expect("it opens");
    let outcomes = deliver(&kafka, &items(0..1)).await;
    assert!(!matches!(outcomes[0], Outcome::Delivered));
    format!("{:?}", outcomes[0])
}

#[tokio::test]
async fn records_arrive_by_tls_if_the_authority_is_known_and_no_other_way() {
    let Some((_tansu, brokers)) = broker(false, &[], "Kafka by TLS").await else {
        return;
    };
    arrives(&secure(&brokers, CA, None)).await;
    let unknown = fails(&secure(&brokers, CLIENT[0], None)).await;
    assert!(unknown.contains("certificate verify failed"), "{unknown}");
    let plain = Kafka::open(&Options {
        timeout: Duration::from_secs(2),
        ..options(&brokers)
    });
    let plain = deliver(&plain.expect("it opens"), &items(0..1)).await;
    assert!(!matches!(plain[0], Outcome::Delivered), "{plain:?}");
}

#[tokio::test]
async fn a_port_without_tls_is_told_from_one_with_it() {
    let cluster = cluster(1);
    let reason = fails(&secure(&cluster.bootstrap_servers(), CA, None)).await;
    assert!(reason.contains("SSL_HANDSHAKE"), "{reason}");
}

#[tokio::test]
async fn a_broker_that_asks_for_a_certificate_gets_that_of_the_configuration() {
    let Some((_tansu, brokers)) = broker(true, &[], "certificates of clients of Kafka").await
    else {
        return;
    };
    arrives(&secure(&brokers, CA, Some(CLIENT))).await;
    let without = Kafka::open(&secure(&brokers, CA, None)).expect("it opens");
    let without = deliver(&without, &items(0..1)).await;
    assert!(!matches!(without[0], Outcome::Delivered), "{without:?}");
}

/// The broker has no such user. That the mechanism is in the build, and is spoken by TLS, shows in its answer.
#[tokio::test]
async fn scram_is_spoken_by_tls_and_its_failure_trips() {
    let proves = "SCRAM of Kafka by TLS";
    let Some((_tansu, brokers)) = broker(false, &["--authentication"], proves).await else {
        return;
    };
    for mechanism in [Mechanism::ScramSha256, Mechanism::ScramSha512] {
        let options = Options {
            auth: Some(Sasl {
                mechanism,
                user: "weir".into(),
                password: Secret(b"hidden-word".to_vec()),
            }),
            ..secure(&brokers, CA, None)
        };
        let reason = fails(&options).await;
        assert!(reason.starts_with("Trip"), "{reason}");
        assert!(
            reason.contains("SASL SCRAM") && reason.contains("unknown-user"),
            "{reason}"
        );
        assert!(!reason.contains("hidden-word"), "{reason}");
    }
}
