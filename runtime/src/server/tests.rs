//! The routes in front of a fake Weir: authorization, error responses, and the cost of a bad
//! client.

mod browsers;
mod connections;
mod floods;
mod secure;
mod streams;
mod taps;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::fake::{BODY_BYTES_MAX, Fake, start, token};
use super::*;

/// A response as received.
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: String,
}

impl Answered {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.body))
    }

    /// The code of the problem, after checking the promises that hold for every problem.
    fn problem(&self) -> String {
        assert_eq!(
            self.headers.get("content-type").map(String::as_str),
            Some("application/problem+json"),
            "{}",
            self.body
        );
        let body = self.json();
        assert_eq!(body["status"], self.status, "{body}");
        assert!(
            body["title"]
                .as_str()
                .is_some_and(|title| !title.is_empty()),
            "{body}"
        );
        assert!(
            body["detail"]
                .as_str()
                .is_some_and(|detail| !detail.is_empty()),
            "{body}"
        );
        let code = body["type"]
            .as_str()
            .and_then(|name| name.strip_prefix(TYPE_PREFIX));
        code.unwrap_or_else(|| panic!("no type in {body}"))
            .to_owned()
    }
}

/// Sends raw bytes and reads until the server closes.
async fn raw(address: SocketAddr, request: &[u8]) -> Answered {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A server that rejects a long body may close before all of it is written.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let reading = async {
        let mut piece = [0; 16 << 10];
        // A stream has no end: its first event is the answer.
        while !(answer.windows(17).any(|it| it == b"text/event-stream")
            && answer.ends_with(b"\n\n\r\n"))
        {
            match stream.read(&mut piece).await.unwrap() {
                0 => break,
                length => answer.extend_from_slice(&piece[..length]),
            }
        }
    };
    timeout(PATIENCE, reading).await.expect("the server closes");
    parse(&answer)
}

fn parse(answer: &[u8]) -> Answered {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("no answer: {text:?}"));
    let mut lines = head.lines();
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|status| status.parse().ok())
        .unwrap();
    let header = |line: &str| {
        line.split_once(": ")
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
    };
    Answered {
        status,
        headers: lines.filter_map(header).collect(),
        body: body.to_owned(),
    }
}

/// One request on a connection of its own.
pub(super) async fn ask(
    server: &Server,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answered {
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    raw(
        server.ingest_addr(),
        format!("{request}\r\n{body}").as_bytes(),
    )
    .await
}

async fn get(server: &Server, path: &str) -> Answered {
    ask(server, "GET", path, &[], "").await
}

/// Longer than anything here takes on a busy machine, and shorter than the time of an idle connection.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

fn short() -> Limits {
    let ms = Duration::from_millis;
    Limits {
        head_time: ms(200),
        body_time: ms(200),
        idle_time: ms(300),
        write_time: ms(300),
        ..Limits::default()
    }
}

/// Fills in the table's paths with names that the fake knows.
pub(super) fn example(path: &str) -> String {
    let path = path
        .replace(
            "{digest}/{file}",
            &format!("{}/console.css", console::digest()),
        )
        .replace("{source}", "erp")
        .replace("{type}", "product")
        .replace("{job}", "1")
        .replace("{key}", "4711");
    let channel = if path == "/v1/channels/{channel}" {
        "old"
    } else {
        "storefront.de"
    };
    let path = path.replace("{channel}", channel);
    match path.rsplit('/').next() {
        Some("preview") if path.starts_with("/v1/channels") => path + "?key=4711",
        Some("entities") if path.starts_with("/v1/channels") => path + "?state=withheld",
        Some("resend") => path + "?type=product&key=4711",
        Some("redrive" | "refused" | "quarantine") => path + "?all=true",
        _ => path,
    }
}

#[tokio::test]
async fn every_route_asks_for_the_role_of_the_table_and_no_other() {
    let fake = Arc::new(Fake::default());
    let all = [Role::Read, Role::Operate, Role::Plugins, Role::Admin];
    *fake.tokens.lock().unwrap() = all.map(token).to_vec();
    let server = start(&fake, Limits::default()).await;
    for Route {
        method,
        path,
        access,
        ..
    } in table()
    {
        // GET has no parameter `all`.
        let path = if method == Method::GET {
            example(path).replace("?all=true", "")
        } else {
            example(path)
        };
        let mut bearers = vec![(None, None), (Some("wrong"), None)];
        bearers.extend(all.map(|role| (Some(role.name()), Some(role))));
        for (bearer, role) in bearers {
            let header = bearer.map(|bearer| format!("Bearer {bearer}"));
            let headers: Vec<_> = header
                .iter()
                .map(|value| ("authorization", value.as_str()))
                .collect();
            let answered = ask(&server, method.as_str(), &path, &headers, "").await;
            let expected = match (access, role) {
                (Access::Needs(_), None) => 401,
                (Access::Needs(needed), Some(role)) if role < needed => 403,
                (Access::Sender, _) if method == Method::POST => 202,
                // The form has no token.
                (Access::Page, _) if method == Method::POST => 400,
                (Access::Needs(_), _) if path.ends_with("/drift") => 202,
                _ => 200,
            };
            assert_eq!(
                answered.status, expected,
                "{method} {path} with {bearer:?}: {}",
                answered.body
            );
            match expected {
                401 => {
                    assert!(
                        answered.headers["www-authenticate"].starts_with("Bearer"),
                        "{method} {path}"
                    );
                    answered.problem();
                }
                403 => assert_eq!(answered.problem(), "role-needed"),
                _ => {}
            }
        }
    }
}

#[tokio::test]
async fn tokens_that_change_hold_from_the_next_request_on() {
    let fake = Arc::new(Fake::default());
    let server = start(&fake, Limits::default()).await;
    assert_eq!(
        get(&server, "/v1/channels").await.status,
        200,
        "none is needed on loopback"
    );
    *fake.tokens.lock().unwrap() = vec![token(Role::Read)];
    assert_eq!(get(&server, "/v1/channels").await.problem(), "token-needed");
    assert_eq!(get(&server, "/healthz").await.status, 200);
    assert_eq!(
        ask(
            &server,
            "GET",
            "/metrics",
            &[("authorization", "bearer read")],
            ""
        )
        .await
        .status,
        200
    );
}

#[tokio::test]
async fn a_listener_that_others_reach_is_never_open() {
    let fake = Arc::new(Fake::default());
    let everywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let server = Server::start(everywhere, None, Limits::default(), fake)
        .await
        .unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], server.ingest_addr().port()));
    let answered = raw(
        address,
        b"GET /v1/channels HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert_eq!(answered.problem(), "token-needed");
    assert!(
        answered.json()["detail"]
            .as_str()
            .unwrap()
            .contains("[tokens]"),
        "{}",
        answered.body
    );
}

#[tokio::test]
async fn a_web_page_is_refused_before_anything_happens() {
    let fake = Arc::new(Fake::default());
    let server = start(&fake, Limits::default()).await;
    let page = [("origin", "https://evil.example")];
    assert_eq!(
        ask(
            &server,
            "POST",
            "/v1/channels/storefront.de/pause",
            &page,
            ""
        )
        .await
        .problem(),
        "foreign-origin"
    );
    assert_eq!(
        ask(&server, "POST", "/v1/sources/erp/events", &page, "{}")
            .await
            .problem(),
        "foreign-origin"
    );
    assert!(fake.done().is_empty());
}

#[tokio::test]
async fn every_error_is_a_problem() {
    let fake = Arc::new(Fake::default());
    let server = start(&fake, Limits::default()).await;
    for (method, path, body, status, code) in [
        ("GET", "/nowhere", "", 404, "unknown-route"),
        ("GET", "/v1/channels/", "", 404, "unknown-route"),
        ("GET", "/v1/channels/nope", "", 404, "unknown-channel"),
        (
            "POST",
            "/v1/channels/nope/pause",
            "",
            404,
            "unknown-channel",
        ),
        ("GET", "/v1/sources/nope", "", 404, "unknown-source"),
        (
            "POST",
            "/v1/sources/nope/events",
            "{}",
            404,
            "unknown-source",
        ),
        (
            "GET",
            "/v1/entities/product/nope",
            "",
            404,
            "unknown-entity",
        ),
        ("GET", "/v1/entities/product/%FF", "", 400, "bad-path"),
        ("GET", "/v1/entities/product?key=", "", 400, "bad-key"),
        ("GET", "/v1/channels?limit=0", "", 400, "bad-parameter"),
        ("GET", "/v1/channels?limit=%FF", "", 400, "bad-parameter"),
        (
            "GET",
            "/v1/channels/storefront.de/preview",
            "",
            400,
            "bad-parameter",
        ),
        (
            "POST",
            "/v1/channels/storefront.de/refused/redrive",
            "",
            400,
            "bad-parameter",
        ),
        (
            "DELETE",
            "/v1/sources/erp/quarantine",
            "",
            400,
            "bad-parameter",
        ),
        (
            "DELETE",
            "/v1/sources/erp/quarantine?sequence=x",
            "",
            400,
            "bad-parameter",
        ),
        (
            "DELETE",
            "/v1/channels/storefront.de",
            "",
            409,
            "channel-live",
        ),
        (
            "POST",
            "/v1/sources/erp/events?lane=fast",
            "{}",
            400,
            "bad-parameter",
        ),
        (
            "POST",
            "/v1/sources/erp/events",
            "malformed",
            400,
            "malformed",
        ),
        (
            "POST",
            "/v1/sources/erp/events",
            "unsigned",
            401,
            "not-verified",
        ),
        ("POST", "/v1/sources/erp/events", "busy", 503, "busy"),
        ("POST", "/v1/sources/erp/events", "broken", 500, "internal"),
        ("POST", "/v1/sources/erp/events", "panic", 500, "internal"),
        ("PUT", "/v1/channels", "", 405, "method-not-allowed"),
        ("POST", "/metrics", "", 405, "method-not-allowed"),
        (
            "BREW",
            "/v1/sources/erp/events",
            "",
            405,
            "method-not-allowed",
        ),
    ] {
        let answered = ask(&server, method, path, &[], body).await;
        assert_eq!(
            (answered.status, answered.problem().as_str()),
            (status, code),
            "{method} {path}: {}",
            answered.body
        );
        for inside in ["/secret/path", "on fire", "panic"] {
            assert!(!answered.body.contains(inside), "{}", answered.body);
        }
        if status == 405 {
            assert!(!answered.headers["allow"].is_empty(), "{method} {path}");
        }
    }
    let long = format!("/v1/entities/product/{}", "k".repeat(4096));
    assert_eq!(get(&server, &long).await.problem(), "bad-key");
    assert_eq!(
        ask(&server, "POST", "/v1/sources/erp/events", &[], "busy")
            .await
            .headers["retry-after"],
        "2"
    );
    let both = ask(&server, "PATCH", "/v1/sources/erp/quarantine", &[], "").await;
    assert_eq!(both.headers["allow"], "GET,HEAD,DELETE");
}

#[tokio::test]
async fn a_panic_costs_one_request() {
    let fake = Arc::new(Fake::default());
    let server = start(&fake, Limits::default()).await;
    for _ in 0..3 {
        assert_eq!(
            ask(&server, "POST", "/v1/sources/erp/events", &[], "panic")
                .await
                .status,
            500
        );
    }
    assert_eq!(
        get(&server, "/healthz").await.json(),
        json!({ "status": "ok" })
    );
}

#[tokio::test]
async fn keys_may_hold_anything() {
    let fake = Arc::new(Fake::default());
    let server = start(&fake, Limits::default()).await;
    for (path, key) in [
        ("/v1/entities/product/a%2Fb", "a/b"),
        ("/v1/entities/product/nul%00", "nul\0"),
        ("/v1/entities/product/%F0%9F%98%80", "😀"),
        ("/v1/entities/product/lamp%207", "lamp 7"),
        ("/v1/entities/product?key=a/b", "a/b"),
        ("/v1/entities/product?key=nul%00", "nul\0"),
        ("/v1/entities/product?key=lamp+7", "lamp 7"),
        ("/v1/channels/storefront.de/preview?key=%F0%9F%98%80", "😀"),
    ] {
        let answered = get(&server, path).await;
        assert_eq!(answered.status, 200, "{path}: {}", answered.body);
        assert_eq!(answered.json()["key"], key, "{path}");
    }
}

#[tokio::test]
async fn lists_come_in_pages() {
    let fake = Arc::new(Fake::default());
    let server = start(&fake, Limits::default()).await;
    let mut seen = Vec::new();
    let mut path = "/v1/entities/product?limit=2".to_owned();
    for _ in 0..10 {
        let page: views::List<views::EntityRow> =
            serde_json::from_str(&get(&server, &path).await.body).unwrap();
        seen.extend(page.items.into_iter().map(|row| row.key));
        let Some(next) = page.next else { break };
        path = format!(
            "/v1/entities/product?limit=2&after={}",
            percent_encoding::utf8_percent_encode(&next, percent_encoding::NON_ALPHANUMERIC)
        );
    }
    assert_eq!(seen, fake::KEYS);
    let channels = get(&server, "/v1/channels?limit=1").await.json();
    assert_eq!(
        (&channels["items"][0]["name"], &channels["next"]),
        (&json!("old"), &json!("old"))
    );
    assert_eq!(
        get(&server, "/v1/entities/product?owed=nope")
            .await
            .problem(),
        "unknown-channel"
    );
}

#[tokio::test]
async fn operations_reach_what_they_name() {
    let fake = Arc::new(Fake::default());
    let server = start(&fake, Limits::default()).await;
    for (method, path, expected, done) in [
        (
            "POST",
            "/v1/channels/storefront.de/resync",
            None,
            "Resync storefront.de",
        ),
        (
            "DELETE",
            "/v1/channels/old",
            Some(json!({ "forgotten": "old" })),
            "Forget old",
        ),
        (
            "POST",
            "/v1/channels/storefront.de/refused/redrive?key=a%2Fb",
            Some(json!({ "redriven": 1 })),
            r#"Redrive refused of storefront.de, key Some("a/b"), code None"#,
        ),
        (
            "DELETE",
            "/v1/channels/storefront.de/refused?all=true",
            Some(json!({ "dropped": 2 })),
            "Drop refused of storefront.de, key None, code None",
        ),
        (
            "POST",
            "/v1/sources/erp/quarantine/redrive?sequence=11",
            Some(json!({ "redriven": 1, "kept": 0 })),
            "Redrive quarantine of erp, sequence Some(11), plugin None",
        ),
        (
            "DELETE",
            "/v1/sources/erp/quarantine?plugin=erp",
            Some(json!({ "dropped": 2 })),
            r#"Drop quarantine of erp, sequence None, plugin Some("erp")"#,
        ),
        (
            "POST",
            "/v1/sources/erp/reset-versions",
            Some(json!({ "reset": 3 })),
            "Reset versions of erp",
        ),
        (
            "POST",
            "/v1/sources/erp/events?lane=bulk",
            None,
            "ingest erp 0 bytes, none, lane bulk, signed false",
        ),
    ] {
        let answered = ask(&server, method, path, &[], "").await;
        assert!(
            (200..300).contains(&answered.status),
            "{method} {path}: {}",
            answered.body
        );
        if let Some(expected) = expected {
            assert_eq!(answered.json(), expected);
        }
        assert_eq!(fake.done(), [done]);
    }
}

#[tokio::test]
async fn a_sender_of_cloudevents_may_ask_first() {
    let server = start(&Arc::new(Fake::default()), Limits::default()).await;
    let path = "/v1/sources/erp/events";
    let asks = [
        ("webhook-request-origin", "events.example"),
        ("webhook-request-rate", "120"),
    ];
    let answered = ask(&server, "OPTIONS", path, &asks, "").await;
    let header = |name: &str| answered.headers.get(name).map(String::as_str);
    assert_eq!(
        (answered.status, header("allow")),
        (200, Some("OPTIONS, POST"))
    );
    assert_eq!(header("webhook-allowed-origin"), Some("events.example"));
    assert_eq!(header("webhook-allowed-rate"), Some("*"));
    let plain = ask(&server, "OPTIONS", path, &[], "").await;
    assert_eq!(plain.status, 200);
    assert!(!plain.headers.contains_key("webhook-allowed-origin"));
    let unknown = ask(&server, "OPTIONS", "/v1/sources/nope/events", &asks, "").await;
    assert_eq!(unknown.problem(), "unknown-source");
}

#[tokio::test]
async fn a_refused_reload_says_every_mistake() {
    let fake = Arc::new(Fake::default());
    let server = start(&fake, Limits::default()).await;
    assert_eq!(
        ask(&server, "POST", "/v1/reload", &[], "").await.json()["success"],
        true
    );
    let complaint = |line| views::ComplaintView {
        file: "weir.toml".into(),
        line,
        column: 1,
        what: "unknown key".into(),
        help: None,
    };
    *fake.complaints.lock().unwrap() = vec![complaint(3), complaint(9)];
    let answered = ask(&server, "POST", "/v1/reload", &[], "").await;
    assert_eq!(
        (answered.status, answered.problem().as_str()),
        (422, "configuration-refused")
    );
    assert_eq!(answered.json()["complaints"][1]["line"], 9);
}

// A store failed after the sources had changed over, and the response said that the old
// configuration stayed active.
#[tokio::test]
async fn a_reload_that_ended_halfway_is_not_called_refused() {
    let fake = Arc::new(Fake::default());
    let server = start(&fake, Limits::default()).await;
    *fake.halfway.lock().unwrap() = true;
    *fake.complaints.lock().unwrap() = vec![views::ComplaintView {
        file: "weir.toml".into(),
        line: 0,
        column: 0,
        what: "applied in part: the store cannot write".into(),
        help: None,
    }];
    let answered = ask(&server, "POST", "/v1/reload", &[], "").await;
    assert_eq!(
        (answered.status, answered.problem().as_str()),
        (503, "configuration-partly-applied")
    );
    let detail = &answered.json()["detail"];
    assert_eq!(detail, "applied in part: the store cannot write");
}

#[tokio::test]
async fn readiness_says_what_stands_in_the_way() {
    let fake = Arc::new(Fake::default());
    let server = start(&fake, Limits::default()).await;
    assert_eq!(get(&server, "/readyz").await.status, 200);
    fake.obstacles
        .lock()
        .unwrap()
        .push("the disk is full".into());
    let answered = get(&server, "/readyz").await;
    assert_eq!(
        (answered.status, answered.problem().as_str()),
        (503, "not-ready")
    );
    assert_eq!(answered.json()["reasons"], json!(["the disk is full"]));
}

// A request with a body that is too long, or with an unknown lane, never reaches the source, but
// the source's metrics must count it all the same. A source that does not exist has no metrics,
// because its name comes from the client.
#[tokio::test]
async fn requests_are_counted_by_status_and_unknown_names_make_no_series() {
    let fake = Arc::new(Fake::default());
    let server = start(&fake, Limits::default()).await;
    let long = "x".repeat(BODY_BYTES_MAX as usize + 1);
    for (path, body) in [
        ("erp/events", "{}"),
        ("erp/events", "{}"),
        ("erp/events", "malformed"),
        ("erp/events?lane=fast", "{}"),
        ("erp/events?line=bulk", "{}"),
        ("erp/events", &long),
        ("stranger/events", "{}"),
    ] {
        ask(&server, "POST", &format!("/v1/sources/{path}"), &[], body).await;
    }
    let open_metrics = [("accept", "application/openmetrics-text")];
    let answered = ask(&server, "GET", "/metrics", &open_metrics, "").await;
    assert_eq!(
        (answered.status, answered.headers["content-type"].as_str()),
        (200, crate::metrics::Format::OpenMetrics.content_type())
    );
    let requests: Vec<&str> = answered
        .body
        .lines()
        .filter_map(|line| line.strip_prefix("weir_ingest_requests_total"))
        .filter(|line| !line.ends_with(" 0"))
        .collect();
    assert_eq!(
        requests,
        [
            r#"{source="erp",status="202"} 2"#,
            r#"{source="erp",status="400"} 3"#,
            r#"{source="erp",status="413"} 1"#
        ],
        "{}",
        answered.body
    );
    assert!(
        !answered.body.contains("stranger"),
        "the stranger's name is no label: {}",
        answered.body
    );
    assert!(answered.body.ends_with("# EOF\n"), "{}", answered.body);
    let plain = get(&server, "/metrics").await;
    assert_eq!(
        (
            plain.headers["content-type"].as_str(),
            plain.headers["vary"].as_str()
        ),
        (crate::metrics::Format::Prometheus.content_type(), "accept")
    );
    assert!(
        plain
            .body
            .contains("# TYPE weir_ingest_requests_total counter\n")
    );
}

#[tokio::test]
async fn two_listeners_share_the_routes_between_them() {
    let fake = Arc::new(Fake::default());
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let other = SocketAddr::from(([127, 0, 0, 2], 0));
    let server = Server::start(anywhere, Some(other), Limits::default(), fake)
        .await
        .unwrap();
    let request = |method: &str, path: &str| {
        format!(
            "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        )
    };
    let (ingest, admin) = (server.ingest_addr(), server.admin_addr());
    for (method, path, on_ingest, on_admin) in [
        ("POST", "/v1/sources/erp/events", 202, 404),
        ("GET", "/v1/channels", 404, 200),
        ("GET", "/metrics", 404, 200),
        ("GET", "/healthz", 200, 200),
        ("GET", "/readyz", 200, 200),
    ] {
        assert_eq!(
            raw(ingest, request(method, path).as_bytes()).await.status,
            on_ingest,
            "{method} {path} on ingest"
        );
        assert_eq!(
            raw(admin, request(method, path).as_bytes()).await.status,
            on_admin,
            "{method} {path} on admin"
        );
    }
    let taken = Server::start(ingest, None, Limits::default(), Arc::new(Fake::default())).await;
    assert!(
        taken
            .err()
            .unwrap()
            .to_string()
            .starts_with(&format!("cannot listen on {ingest}"))
    );
}

const CHUNKED: &str = "POST /v1/sources/erp/events HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
