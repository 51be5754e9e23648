//! What a connection costs: bodies that are too long, clients that stall or do not read, places, and a stop.

use super::*;

/// Opens a connection and sends this.
pub(super) async fn open(server: &Server, sent: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.ingest_addr()).await.unwrap();
    stream.write_all(sent.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_whether_announced_or_not() {
    let fake = Arc::new(Fake::default());
    let server = start(&fake, Limits::default()).await;
    let fits = "x".repeat(BODY_BYTES_MAX as usize);
    assert_eq!(
        ask(&server, "POST", "/v1/sources/erp/events", &[], &fits)
            .await
            .status,
        202
    );
    // Most clients send the whole body before they read. The rest must be received, or a reset may
    // cost them the response.
    let mut stream = TcpStream::connect(server.ingest_addr()).await.unwrap();
    let head = format!(
        "POST /v1/sources/erp/events HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {}\r\n\r\n",
        10 << 20
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
        .write_all(&vec![b'x'; 10 << 20])
        .await
        .expect("the rest is read and thrown away");
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .expect("closed")
        .unwrap();
    let announced = parse(&answer);
    assert_eq!(
        (announced.status, announced.problem().as_str()),
        (413, "body-too-large")
    );
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let chunked = raw(
        server.ingest_addr(),
        format!("{CHUNKED}{}0\r\n\r\n", chunk.repeat(160)).as_bytes(),
    )
    .await;
    assert_eq!(
        (chunked.status, chunked.problem().as_str()),
        (413, "body-too-large")
    );
    assert_eq!(fake.done().len(), 1, "only the one that fits was taken");
}

#[tokio::test]
async fn a_chunked_body_is_refused_soon_after_its_limit() {
    let fake = Arc::new(Fake::default());
    let server = start(&fake, Limits::default()).await;
    let mut stream = TcpStream::connect(server.ingest_addr()).await.unwrap();
    stream.write_all(CHUNKED.as_bytes()).await.unwrap();
    // Only the limit and 64 KiB more are ever sent; the response must arrive without the rest.
    for _ in 0..(BODY_BYTES_MAX + (64 << 10)) / 4096 {
        stream
            .write_all(format!("1000\r\n{}\r\n", "x".repeat(4096)).as_bytes())
            .await
            .unwrap();
    }
    let mut answer = vec![0; 4096];
    let length = timeout(PATIENCE, stream.read(&mut answer))
        .await
        .expect("an answer before the end")
        .unwrap();
    assert_eq!(parse(&answer[..length]).status, 413);
}

#[tokio::test]
async fn clients_that_stall_are_closed_in_time() {
    let fake = Arc::new(Fake::default());
    let server = start(&fake, short()).await;
    let half_body =
        "POST /v1/sources/erp/events HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhalf";
    for (sent, status) in [
        ("", None),
        ("GET /heal", None),
        ("GET /healthz HTTP/1.1\r\nhost: x\r\n", None),
        (half_body, Some(408)),
    ] {
        let begin = Instant::now();
        let mut stream = TcpStream::connect(server.ingest_addr()).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut answer))
            .await
            .expect("closed")
            .unwrap();
        assert!(
            begin.elapsed() >= Duration::from_millis(190),
            "{sent:?} had its time"
        );
        match status {
            None => assert!(answer.is_empty(), "{sent:?}"),
            Some(status) => {
                let answered = parse(&answer);
                assert_eq!(
                    (answered.status, answered.problem().as_str()),
                    (status, "body-timeout")
                );
            }
        }
    }
    assert!(fake.done().is_empty());
}

#[tokio::test]
async fn a_byte_now_and_then_does_not_prolong_a_head() {
    let server = start(&Arc::new(Fake::default()), short()).await;
    let mut stream = TcpStream::connect(server.ingest_addr()).await.unwrap();
    let drips = async {
        while stream.write_all(b"G").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    // Its bytes would never end.
    timeout(PATIENCE, drips).await.expect("it is closed");
}

#[tokio::test]
async fn a_connection_serves_many_requests_and_is_closed_when_idle() {
    let limits = Limits {
        idle_time: Duration::from_secs(5),
        ..short()
    };
    let server = start(&Arc::new(Fake::default()), limits).await;
    let mut stream = TcpStream::connect(server.ingest_addr()).await.unwrap();
    let mut answer = vec![0; 4096];
    for _ in 0..3 {
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        let length = stream.read(&mut answer).await.unwrap();
        assert_eq!(parse(&answer[..length]).status, 200);
        // Longer than a head may take: an idle connection has a limit of its own.
        tokio::time::sleep(Duration::from_millis(220)).await;
    }
    let end = timeout(PATIENCE, stream.read(&mut answer))
        .await
        .expect("closed when idle");
    assert_eq!(end.unwrap(), 0);
}

#[tokio::test]
async fn who_does_not_read_its_answers_is_closed() {
    let server = start(&Arc::new(Fake::default()), short()).await;
    let mut stream = TcpStream::connect(server.ingest_addr()).await.unwrap();
    // Far more responses than the socket's buffers hold.
    let requests = "GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".repeat(100);
    let flood = async { while stream.write_all(requests.as_bytes()).await.is_ok() {} };
    timeout(PATIENCE, flood)
        .await
        .expect("the server gives up on it");
}

/// A request that is under way until the fake releases it.
pub(super) const HELD: &str =
    "POST /v1/sources/erp/events HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 4\r\n\r\nheld";

/// Waits until the fake has got this many requests.
pub(super) async fn are_under_way(fake: &Fake, requests: usize) {
    let mut got = 0;
    let all = async {
        while got < requests {
            got += fake.done().len();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, all).await.expect("they are under way");
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_for_those_that_are_served() {
    let limits = Limits {
        connections_max: 2,
        kept_connections: 0,
        ..Limits::default()
    };
    let fake = Arc::new(Fake::default());
    let server = start(&fake, limits).await;
    let mut served = Vec::new();
    for _ in 0..2 {
        served.push(open(&server, HELD).await);
    }
    are_under_way(&fake, 2).await;
    let mut beyond = Box::pin(get(&server, "/healthz"));
    let early = timeout(Duration::from_millis(200), &mut beyond).await;
    assert!(early.is_err(), "it waits");
    fake.release(2);
    assert_eq!(beyond.await.status, 200);
    for stream in &mut served {
        let mut answer = vec![0; 4096];
        let length = stream.read(&mut answer).await.unwrap();
        assert_eq!(parse(&answer[..length]).status, 202, "it was not cut off");
    }
}

#[tokio::test]
async fn a_stop_answers_what_is_under_way_and_takes_nothing_new() {
    let fake = Arc::new(Fake::default());
    let server = start(&fake, Limits::default()).await;
    let address = server.ingest_addr();
    let mut idle = TcpStream::connect(address).await.unwrap();
    let under_way = tokio::spawn(async move { raw(address, HELD.as_bytes()).await });
    are_under_way(&fake, 1).await;
    let mut stop = Box::pin(server.stop(Duration::from_secs(600)));
    let early = timeout(Duration::from_millis(200), &mut stop).await;
    assert!(early.is_err(), "it waits for the request");
    fake.release(1);
    timeout(PATIENCE, stop)
        .await
        .expect("an idle connection holds nothing up");
    assert_eq!(under_way.await.unwrap().status, 202);
    assert_eq!(idle.read(&mut [0; 16]).await.unwrap_or(0), 0);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_stop_ends_in_time_whatever_clients_do() {
    let server = start(&Arc::new(Fake::default()), Limits::default()).await;
    let half = "POST /v1/sources/erp/events HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhalf";
    let _half = open(&server, half).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    // The body would have half a minute.
    let stop = server.stop(Duration::from_millis(300));
    let ended = timeout(Duration::from_secs(25), stop).await;
    ended.expect("it ends in time");
}
