//! Credentials, TLS, and the addresses that may be connected to.

use super::*;

const CA: &[u8] = include_bytes!("../../http/transport/certificates/ca.pem");

fn with_auth(port: u16, auth: Auth) -> Nats {
    Nats::open(&Options {
        auth,
        ..options(port, bucket())
    })
    .expect("it opens")
}

fn secret(text: &str) -> Secret {
    Secret(text.as_bytes().to_vec())
}

#[tokio::test]
async fn each_kind_of_credentials_is_taken_and_wrong_ones_trip() {
    // A key of NATS that was made for this test.
    let seed = "SUAMZ2GY2UXKTPFAIVAYFRVJAP6TG65QGV5GPS6M3IJZGO2ABK6KMTK6PM";
    let public = "UBOBQBI4GC7IRBOAL4FR47KG4254ZVPWVGNLWTZNRWJJPMXCSWCWJX7Q";
    let cases = [
        (
            "authorization { user: weir, password: right }".to_owned(),
            Auth::User {
                user: "weir".into(),
                password: secret("right"),
            },
            Auth::User {
                user: "weir".into(),
                password: secret("wrong"),
            },
        ),
        (
            "authorization { token: right }".to_owned(),
            Auth::Token(secret("right")),
            Auth::None,
        ),
        (
            format!("authorization {{ users: [{{ nkey: {public} }}] }}"),
            Auth::Nkey(secret(seed)),
            Auth::Nkey(secret("not a seed")),
        ),
    ];
    for (configuration, right, wrong) in cases {
        let Some(bus) = Bus::with(&configuration, "credentials") else {
            return;
        };
        // It is let in, and there is no bucket.
        let (word, reason) = outcome(&with_auth(bus.port(), right), item("a", 1, None)).await;
        assert_eq!(word, "trip", "{configuration}: {reason}");
        assert!(reason.contains("no bucket"), "{configuration}: {reason}");
        let (word, reason) = outcome(&with_auth(bus.port(), wrong), item("a", 1, None)).await;
        assert_eq!(word, "trip", "{configuration}: {reason}");
        assert!(reason.contains("credentials"), "{configuration}: {reason}");
        assert!(!reason.contains("wrong") && !reason.contains("not a seed"));
    }
    let broken = with_auth(1, Auth::Creds(secret("no JWT")));
    let (word, reason) = outcome(&broken, item("a", 1, None)).await;
    assert_eq!(word, "trip", "{reason}");
    assert!(reason.contains("auth.creds"), "{reason}");
}

#[tokio::test]
async fn tls_checks_the_name_of_the_configuration() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/targets/http/transport/certificates");
    let configuration = format!(
        "tls {{ cert_file: {:?}, key_file: {:?} }}",
        folder.join("server.pem"),
        folder.join("server.key")
    );
    let Some(bus) = Bus::with(&configuration, "TLS of NATS") else {
        return;
    };
    let with = |host: &str, ca: Option<&[u8]>, tls| {
        let server = Server {
            host: host.into(),
            port: bus.port(),
            tls,
        };
        Nats::open(&Options {
            servers: vec![server],
            tls: Tls {
                ca: ca.map(<[u8]>::to_vec),
                identity: None,
            },
            ..options(bus.port(), bucket())
        })
        .expect("it opens")
    };
    for host in ["localhost", "127.0.0.1"] {
        for tls in [true, false] {
            let (word, reason) = outcome(&with(host, Some(CA), tls), item("a", 1, None)).await;
            assert_eq!(word, "trip", "{host}: {reason}");
            assert!(reason.contains("no bucket"), "{host}: {reason}");
        }
    }
    // Nobody on this machine trusts the authority of the tests.
    let (word, reason) = outcome(&with("localhost", None, true), item("a", 1, None)).await;
    assert_eq!(word, "trip", "{reason}");
    assert!(
        reason.contains("TLS") || reason.contains("root certificates"),
        "{reason}"
    );
    // A name that resolves to the same address, and that the certificate does not have.
    let other = with("localhost.localdomain", Some(CA), true);
    let (word, reason) = outcome(&other, item("a", 1, None)).await;
    assert_eq!(word, "trip", "{reason}");
}

#[tokio::test]
async fn an_address_that_the_policy_refuses_is_not_connected_to() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    for host in ["127.0.0.1", "localhost"] {
        let nats = Nats::open(&Options {
            egress: Egress::Public,
            servers: vec![Server {
                host: host.into(),
                port,
                tls: false,
            }],
            ..options(port, bucket())
        })
        .expect("it opens");
        let (word, reason) = outcome(&nats, item("a", 1, None)).await;
        assert_eq!(word, "trip", "{reason}");
        assert!(reason.contains("not allowed"), "{reason}");
    }
    listener.set_nonblocking(true).expect("it is set");
    assert!(listener.accept().is_err(), "nobody has connected");
    let metadata = Nats::open(&Options {
        servers: vec![Server {
            host: "169.254.169.254".into(),
            port: 4222,
            tls: false,
        }],
        ..options(port, bucket())
    })
    .expect("it opens");
    let (word, reason) = outcome(&metadata, item("a", 1, None)).await;
    assert_eq!(word, "trip");
    assert!(reason.contains("metadata"), "{reason}");
}
