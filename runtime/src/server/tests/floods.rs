//! Clients that hold connections, heads, bodies or responses back: what they cost the others.

use super::connections::{HELD, are_under_way, open};
use super::*;

/// Reads one response without a further one behind it.
async fn answer(stream: &mut TcpStream) -> Answered {
    let mut bytes = vec![0; 4096];
    let reading = timeout(PATIENCE, stream.read(&mut bytes));
    let length = reading.await.expect("an answer").unwrap();
    parse(&bytes[..length])
}

fn head_of_events(length: usize, more: &str) -> String {
    format!(
        "POST /v1/sources/erp/events HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {length}\r\n{more}\r\n"
    )
}

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n";

// 768 connections with a request a minute, the usual number of descriptors, shut everybody out for
// as long as they liked, the operator too.
#[tokio::test]
async fn idle_connections_make_room_for_new_ones() {
    let limits = Limits {
        connections_max: 8,
        ..Limits::default()
    };
    let server = start(&Arc::new(Fake::default()), limits).await;
    let mut idle = Vec::new();
    for _ in 0..8 {
        let mut stream = open(&server, HEALTH).await;
        assert_eq!(answer(&mut stream).await.status, 200);
        idle.push(stream);
    }
    for _ in 0..20 {
        let quick = timeout(PATIENCE, get(&server, "/v1/channels"));
        assert_eq!(quick.await.expect("not after an idle time").status, 200);
        // Operators got in, but events were answered 503: few were closed, and the rest was kept.
        let events = ask(&server, "POST", "/v1/sources/erp/events", &[], "{}");
        let events = timeout(PATIENCE, events);
        assert_eq!(events.await.expect("not after an idle time").status, 202);
    }
    let mut end = [0; 16];
    let oldest = timeout(PATIENCE, idle[0].read(&mut end));
    assert_eq!(
        oldest.await.expect("the longest idle is closed").unwrap(),
        0
    );
    idle[7].write_all(HEALTH.as_bytes()).await.unwrap();
    assert_eq!(
        answer(&mut idle[7]).await.status,
        200,
        "no more than needed"
    );
}

// A client that reads a long list was closed before clients that had been idle for as long, because
// its connection counted as idle after the first piece of its response.
#[tokio::test]
async fn a_long_answer_that_is_being_read_does_not_make_room() {
    let limits = Limits {
        connections_max: 2,
        kept_connections: 0,
        ..Limits::default()
    };
    let fake = Arc::new(Fake::default());
    // Far more than the buffers of the sockets hold.
    *fake.config_bytes.lock().unwrap() = 32 << 20;
    let server = start(&fake, limits).await;
    let mut reader = open(
        &server,
        "GET /v1/config HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n",
    )
    .await;
    let mut read = vec![0; 64 << 10];
    let mut length = reader.read(&mut read).await.unwrap();
    let mut idle = open(&server, HEALTH).await;
    assert_eq!(answer(&mut idle).await.status, 200);
    assert_eq!(get(&server, "/healthz").await.status, 200);
    assert_eq!(idle.read(&mut read).await.unwrap_or(0), 0, "it made room");
    loop {
        match reader.read(&mut read).await.expect("it is not cut off") {
            0 => break,
            more => length += more,
        }
    }
    assert!(length > 32 << 20, "{length} bytes");
}

// A sender that went on sending after a refusal kept its place for ten seconds, though it had been
// chosen to make room for another one; until then, nobody else was chosen.
#[tokio::test]
async fn a_connection_that_is_only_read_empty_makes_room_at_once() {
    let limits = Limits {
        connections_max: 1,
        kept_connections: 0,
        ..Limits::default()
    };
    let server = start(&Arc::new(Fake::default()), limits).await;
    let mut refused = open(&server, &head_of_events(1 << 40, "")).await;
    assert_eq!(answer(&mut refused).await.status, 413);
    let sending = tokio::spawn(async move {
        // Often enough not to count as silent.
        while refused.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let other = timeout(Duration::from_secs(9), get(&server, "/healthz"));
    assert_eq!(other.await.expect("not after ten seconds").status, 200);
    let closed = timeout(PATIENCE, sending);
    closed.await.expect("it is closed").unwrap();
}

// All connections are busy, so none makes room. The last places let the operator in, and no events.
#[tokio::test]
async fn the_last_places_are_the_operators() {
    let limits = Limits {
        connections_max: 8,
        kept_connections: 2,
        ..Limits::default()
    };
    let fake = Arc::new(Fake::default());
    let server = start(&fake, limits).await;
    let mut senders = Vec::new();
    for _ in 0..6 {
        senders.push(open(&server, HELD).await);
    }
    are_under_way(&fake, 6).await;
    let mut operator = open(
        &server,
        "GET /v1/channels HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
    )
    .await;
    assert_eq!(answer(&mut operator).await.status, 200);
    let events = ask(&server, "POST", "/v1/sources/erp/events", &[], "{}").await;
    assert_eq!((events.status, events.problem().as_str()), (503, "busy"));
    assert_eq!(events.headers["connection"], "close");
    fake.release(6);
    for sender in &mut senders {
        assert_eq!(answer(sender).await.status, 202);
    }
}

#[tokio::test]
async fn half_a_head_behind_a_request_is_closed_in_time() {
    let limits = Limits {
        idle_time: 2 * PATIENCE,
        ..short()
    };
    let server = start(&Arc::new(Fake::default()), limits).await;
    let mut stream = open(&server, &format!("{HEALTH}GET /heal")).await;
    let mut answers = Vec::new();
    let closed = timeout(PATIENCE, stream.read_to_end(&mut answers));
    closed.await.expect("closed").unwrap();
    assert_eq!(parse(&answers).status, 200);
    let mut both = open(&server, &HEALTH.repeat(2)).await;
    let mut answers = Vec::new();
    let closed = timeout(PATIENCE, both.read_to_end(&mut answers));
    closed.await.expect("closed").unwrap();
    let ok = String::from_utf8_lossy(&answers).matches("200 OK").count();
    assert_eq!(ok, 2, "pipelined requests are served");
}

// The HTTP library refused these by itself, with an empty body.
#[tokio::test]
async fn a_request_that_is_not_understood_gets_a_problem() {
    let server = start(&Arc::new(Fake::default()), Limits::default()).await;
    let long = format!(
        "GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n",
        "x".repeat(300_000)
    );
    let far = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(300_000));
    let many = format!(
        "GET / HTTP/1.1\r\nhost: a\r\n{}\r\n",
        "x: y\r\n".repeat(200)
    );
    let tls = "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}\r\n\r\n";
    for (request, status, code) in [
        ("GET / HTTP/1.1\r\nhost\r\n\r\n", 400, "malformed-request"),
        ("nonsense\r\n\r\n", 400, "malformed-request"),
        (tls, 400, "malformed-request"),
        (&long, 431, "head-too-large"),
        (&many, 431, "head-too-large"),
        ("GET /healthz HTTP/1.1\r\n\r\n", 400, "bad-host"),
        (
            "GET /healthz HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
            400,
            "bad-host",
        ),
    ] {
        let answered = raw(server.ingest_addr(), request.as_bytes()).await;
        let seen = (answered.status, answered.problem());
        let start: String = request.chars().take(40).collect();
        assert_eq!(seen, (status, code.to_owned()), "{start:?}");
        assert_eq!(answered.headers["connection"], "close", "{start:?}");
    }
    // Which of the two limits is met first depends on how the bytes arrive.
    let answered = raw(server.ingest_addr(), far.as_bytes()).await;
    let known = [(414, "uri-too-long"), (431, "head-too-large")];
    let seen = (answered.status, answered.problem());
    assert!(known.contains(&(seen.0, seen.1.as_str())), "{seen:?}");
}

// 32 connections sent 8 MiB each and kept the last byte back: all senders of all sources were
// answered 503 for as long as it went on.
#[tokio::test]
async fn bodies_that_are_held_back_give_way_to_those_that_arrive() {
    let limits = Limits {
        arriving_bytes_max: 1 << 20,
        ..Limits::default()
    };
    let fake = Arc::new(Fake::default());
    let server = start(&fake, limits).await;
    let held_back = head_of_events(90_000, "") + &"[".repeat(89_999);
    let mut hogs = Vec::new();
    for _ in 0..20 {
        hogs.push(open(&server, &held_back).await);
    }
    for _ in 0..20 {
        // Larger than one reading of the socket, so that it arrives in several pieces.
        let body = "x".repeat(95_000);
        let honest = ask(&server, "POST", "/v1/sources/erp/events", &[], &body).await;
        assert_eq!(honest.status, 202, "{}", honest.body);
    }
    let gave_way = answer(&mut hogs[0]).await;
    assert_eq!(
        (gave_way.status, gave_way.problem().as_str()),
        (503, "busy")
    );
    assert_eq!(gave_way.headers["retry-after"], "1");
    assert_eq!(fake.done().len(), 20, "nothing of the others was taken");
}

#[tokio::test]
async fn a_sender_that_cannot_prove_itself_is_refused_before_its_body_is_kept() {
    let fake = Arc::new(Fake::default());
    let server = start(&fake, Limits::default()).await;
    let mut stream = open(
        &server,
        &head_of_events(90_000, "webhook-signature: forged\r\n"),
    )
    .await;
    let refused = answer(&mut stream).await;
    assert_eq!(
        (refused.status, refused.problem().as_str()),
        (401, "not-verified")
    );
}

// After a 413, 20 GB were read in ten seconds.
#[tokio::test]
async fn what_comes_after_a_refusal_is_read_up_to_a_bound() {
    let limits = Limits {
        body_bytes_max: 1 << 20,
        ..Limits::default()
    };
    let server = start(&Arc::new(Fake::default()), limits).await;
    let mut stream = open(&server, &head_of_events(1 << 40, "")).await;
    let piece = vec![b'x'; 1 << 20];
    let mut sent = 0;
    let flood = async {
        while stream.write_all(&piece).await.is_ok() {
            sent += 1;
        }
    };
    let closed = timeout(Duration::from_secs(9), flood).await;
    closed.expect("closed before the time for discarding is over");
    // What the sockets' buffers hold on loopback is a few MiB.
    assert!(sent < 32, "{sent} MiB were taken");
}
