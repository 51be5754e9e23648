//! What happens at the edges of connections: closed while idle, TLS that is refused, a proxy.

use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::targets::fixture::{Fixture, Reply};

// Made for a hundred years, by an authority that nobody else trusts.
const CA: &[u8] = include_bytes!("certificates/ca.pem");
const SERVER: (&[u8], &[u8]) = (
    include_bytes!("certificates/server.pem"),
    include_bytes!("certificates/server.key"),
);
const CLIENT: (&[u8], &[u8]) = (
    include_bytes!("certificates/client.pem"),
    include_bytes!("certificates/client.key"),
);
const TIMEOUT: Duration = Duration::from_secs(5);

fn request(url: &str) -> Request<Sent> {
    let mut request = Request::new(Sent::from(Bytes::from_static(b"{}")));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = url.parse().expect("a URI");
    request
}

fn transport(url: &str, connections: &Connections) -> Transport {
    let address = Address::parse(url).expect("a URL");
    Transport::open(connections, TIMEOUT, &address).expect("a transport")
}

/// The status of one request, or what happened instead.
async fn ask(transport: &Transport, url: &str) -> Result<u16, Outcome> {
    match transport.exchange(request(url), TIMEOUT).await {
        Ok((parts, _)) => Ok(parts.status.as_u16()),
        Err(broken) => Err(broken.meaning(TIMEOUT)),
    }
}

// Node.js closes an idle connection after 5 s. A request that is sent at that moment gets no answer,
// and counted as one that may have been applied, for each target in each quiet moment.
#[tokio::test]
async fn a_request_on_a_connection_that_had_been_closed_is_made_again_on_a_new_one() {
    let seen = AtomicUsize::new(0);
    let target = Fixture::start(move |_| match seen.fetch_add(1, Ordering::SeqCst) {
        1 => Reply::Close,
        _ => Reply::Status(200),
    })
    .await;
    let url = target.url("/weir");
    let transport = transport(&url, &Connections::default());
    assert_eq!(ask(&transport, &url).await, Ok(200));
    assert_eq!(
        ask(&transport, &url).await,
        Ok(200),
        "closed, and made again"
    );
    assert_eq!((target.asked().len(), target.connections()), (3, 2));
}

#[tokio::test]
async fn a_new_connection_that_is_closed_without_an_answer_is_no_such_race() {
    let target = Fixture::start(|_| Reply::Close).await;
    let url = target.url("/weir");
    let transport = transport(&url, &Connections::default());
    let outcome = ask(&transport, &url).await;
    assert!(
        matches!(
            outcome,
            Err(Outcome::Retry {
                maybe_applied: true,
                ..
            })
        ),
        "{outcome:?}"
    );
    assert_eq!(target.asked().len(), 1);
}

// A name resolved differently, and under steady traffic the old address was used for days.
#[tokio::test]
async fn connections_are_replaced_now_and_then_under_steady_traffic_too() {
    let target = Fixture::start(|_| Reply::Status(200)).await;
    let url = target.url("/weir");
    let transport = transport(&url, &Connections::default());
    for _ in 0..3 {
        assert_eq!(ask(&transport, &url).await, Ok(200));
    }
    assert_eq!(target.connections(), 1);
    tokio::time::pause();
    tokio::time::advance(AGE_MAX).await;
    tokio::time::resume();
    assert_eq!(ask(&transport, &url).await, Ok(200));
    assert_eq!(target.connections(), 2);
}

/// A server that wants a client certificate of the test authority, and answers 200.
async fn secure_server() -> String {
    let certificates = |pem| {
        CertificateDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .expect("PEM")
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(CA));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots),
        provider.clone(),
    )
    .build()
    .expect("a verifier");
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            certificates(SERVER.0),
            PrivateKeyDer::from_pem_slice(SERVER.1).expect("a key"),
        )
        .expect("a configuration");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                let mut head = [0; 4096];
                if stream.read(&mut head).await.is_ok_and(|bytes| bytes > 0) {
                    let _ = stream
                        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                        .await;
                }
            });
        }
    });
    format!("https://localhost:{port}/weir")
}

fn tls(ca: Option<&[u8]>, identity: Option<(&[u8], &[u8])>) -> Connections {
    Connections {
        tls: Tls {
            ca: ca.map(<[u8]>::to_vec),
            identity: identity.map(|(chain, key)| (chain.to_vec(), Secret(key.to_vec()))),
        },
        ..Connections::default()
    }
}

// With TLS 1.3 a client certificate is refused after the handshake: the request looked as if it had
// been applied perhaps, and each entity failed by itself.
#[tokio::test]
async fn a_certificate_that_is_missing_or_unknown_trips_the_target() {
    let url = secure_server().await;
    let with = transport(&url, &tls(Some(CA), Some(CLIENT)));
    assert_eq!(ask(&with, &url).await, Ok(200));
    for (connections, expected) in [
        (tls(Some(CA), None), "CertificateRequired"),
        (tls(Some(SERVER.0), Some(CLIENT)), "UnknownIssuer"),
    ] {
        let outcome = ask(&transport(&url, &connections), &url).await;
        assert!(
            matches!(&outcome, Err(Outcome::Trip { reason }) if reason.starts_with("TLS: ") && reason.contains(expected)),
            "{outcome:?}"
        );
    }
}

#[test]
fn certificates_that_cannot_be_used_are_refused_in_a_sentence() {
    let address = Address::parse("https://shop.example/").expect("a URL");
    let wrong = |connections: &Connections| {
        Transport::open(connections, TIMEOUT, &address)
            .err()
            .map(|unusable| unusable.to_string())
            .unwrap_or_default()
    };
    assert_eq!(
        wrong(&tls(Some(b"nothing"), None)),
        "tls.ca holds no certificate in PEM"
    );
    assert!(
        wrong(&tls(None, Some((CLIENT.0, CLIENT.0)))).starts_with("tls.key is not a private key")
    );
    assert!(
        wrong(&tls(None, Some((CLIENT.0, SERVER.1))))
            .starts_with("tls.cert and tls.key do not fit")
    );
}

#[tokio::test]
async fn a_proxy_gets_whole_urls_or_is_asked_for_a_tunnel_and_resolves_the_name() {
    let proxy = Fixture::start(|asked| match asked.method.as_str() {
        "CONNECT" => Reply::Status(407),
        _ => Reply::Status(200),
    })
    .await;
    let connections = Connections {
        proxy: Some(Address::parse(&proxy.url("/")).expect("a URL")),
        ..Connections::default()
    };
    let url = "http://nowhere.invalid/weir";
    assert_eq!(ask(&transport(url, &connections), url).await, Ok(200));
    let secure = "https://nowhere.invalid/weir";
    let outcome = ask(&transport(secure, &connections), secure).await;
    let Err(Outcome::Trip { reason }) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(
        reason.ends_with("makes no connection to nowhere.invalid:443: it answered 407"),
        "{reason}"
    );
    let asked: Vec<_> = proxy
        .asked()
        .iter()
        .map(|asked| format!("{} {}", asked.method, asked.path))
        .collect();
    assert_eq!(
        asked,
        [
            "POST http://nowhere.invalid/weir",
            "CONNECT nowhere.invalid:443"
        ]
    );
}
