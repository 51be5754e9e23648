//! A listener with a certificate: who gets in, who is told what, and what a reload changes.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::plan::Front;

const FOLDER: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/src/targets/http/transport/certificates"
);

/// A front with the certificate of a server of the tests.
fn secure(name: &str) -> Arc<Front> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("weir.toml");
    let config = format!(
        "config_version = 1\n[server]\ntls = {{ cert = \"{FOLDER}/{name}.pem\", key = {{ file = \"{FOLDER}/{name}.key\" }} }}\n"
    );
    std::fs::write(&file, config).expect("written");
    let read = crate::plan::read(
        &[file],
        &|_| None,
        crate::plan::ReadOptions { secrets: true },
    );
    let (plan, _) = read.unwrap_or_else(|complaints| panic!("{complaints:?}"));
    plan.server.front.clone()
}

async fn with_tls(fake: &Arc<Fake>, limits: Limits) -> Server {
    *fake.front.lock().unwrap() = secure("server");
    start(fake, limits).await
}

/// Shakes hands; the error is the client's.
async fn shake(server: &Server) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(format!("{FOLDER}/ca.pem")).expect("PEM");
    roots.add(ca).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(server.ingest_addr()).await?;
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

/// Writes a request, and reads all until the end.
async fn ask(
    mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    request: &str,
) -> String {
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut response = Vec::new();
    let reading = stream.read_to_end(&mut response);
    timeout(PATIENCE, reading)
        .await
        .expect("an end")
        .expect("read");
    String::from_utf8(response).expect("text")
}

const GET: &str = "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn requests_and_large_answers_go_through_tls_and_end_with_its_own_end() {
    let fake = Arc::new(Fake::default());
    let server = with_tls(&fake, Limits::default()).await;
    let stream = shake(&server).await.expect("hands are shaken");
    // An end without a `close_notify` would be an error here.
    let health = ask(stream, GET).await;
    assert!(health.starts_with("HTTP/1.1 200 "), "{health}");
    let stream = shake(&server).await.expect("hands are shaken");
    let described = "GET /openapi.json HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let described = ask(stream, described).await;
    let (_, body) = described.split_once("\r\n\r\n").expect("a body");
    assert!(body.len() > 64 << 10, "{} bytes", body.len());
    serde_json::from_str::<Value>(body).expect("it is whole");
}

// A client that spoke HTTP to the port read garbage, or waited.
#[tokio::test]
async fn who_speaks_http_without_tls_is_told_to_write_https() {
    let fake = Arc::new(Fake::default());
    let server = with_tls(&fake, Limits::default()).await;
    let stream = TcpStream::connect(server.ingest_addr())
        .await
        .expect("connected");
    let told = ask(stream, GET).await;
    assert!(told.starts_with("HTTP/1.1 400 "), "{told}");
    assert!(
        told.contains("needs-tls") && told.contains("https://"),
        "{told}"
    );
}

#[tokio::test]
async fn half_a_handshake_holds_no_place_for_ever() {
    let fake = Arc::new(Fake::default());
    let limits = Limits {
        head_time: Duration::from_millis(50),
        ..Limits::default()
    };
    let server = with_tls(&fake, limits).await;
    for begins in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01"] {
        let mut stream = TcpStream::connect(server.ingest_addr())
            .await
            .expect("connected");
        stream.write_all(begins).await.expect("written");
        let mut rest = Vec::new();
        let closed = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        closed.expect("Weir closes it").ok();
    }
}

#[tokio::test]
async fn a_renewed_certificate_holds_from_the_next_connection_on() {
    let fake = Arc::new(Fake::default());
    let server = with_tls(&fake, Limits::default()).await;
    let shown = |stream: &TlsStream<TcpStream>| {
        let (_, session) = stream.get_ref();
        session.peer_certificates().expect("a certificate")[0].clone()
    };
    let mut before = shake(&server).await.expect("hands are shaken");
    // That of a client has no name of a host, which is enough to be another one.
    *fake.front.lock().unwrap() = secure("client");
    let refused = shake(&server).await.expect_err("it is not for localhost");
    assert!(refused.to_string().contains("certificate"), "{refused}");
    *fake.front.lock().unwrap() = secure("server");
    let after = shake(&server).await.expect("hands are shaken");
    assert_eq!(shown(&before), shown(&after));
    // The connection from before goes on meanwhile.
    before.write_all(GET.as_bytes()).await.expect("written");
    let mut response = [0; 12];
    before.read_exact(&mut response).await.expect("read");
    assert_eq!(&response, b"HTTP/1.1 200");
    *fake.front.lock().unwrap() = Arc::default();
    assert_eq!(get(&server, "/healthz").await.status, 200, "without TLS");
}

// Behind a proxy on the same machine all requests came from loopback, and anybody was an operator.
#[tokio::test]
async fn a_listener_on_loopback_behind_a_proxy_is_not_private() {
    let fake = Arc::new(Fake::default());
    let server = start(&fake, Limits::default()).await;
    assert_eq!(get(&server, "/v1/channels").await.status, 200);
    *fake.front.lock().unwrap() = Arc::new(Front {
        public_origin: Some("https://weir.example".to_owned()),
        ..Front::default()
    });
    assert_eq!(get(&server, "/v1/channels").await.status, 401);
}
