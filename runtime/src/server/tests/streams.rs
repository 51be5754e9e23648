//! The stream to consoles: what it says and when, who may read it, and what many readers cost.

use std::sync::atomic::Ordering;

use super::*;

/// An open stream, read event by event.
pub(super) struct Reader {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Reader {
    async fn open(server: &Server, headers: &str) -> Reader {
        Reader::open_at(server, "/v1/stream", headers).await
    }

    pub(super) async fn open_at(server: &Server, path: &str, headers: &str) -> Reader {
        let mut stream = TcpStream::connect(server.ingest_addr()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        Reader {
            stream,
            read: Vec::new(),
        }
    }

    /// The name and the data of the next event; `None` at the end.
    pub(super) async fn event(&mut self) -> Option<(String, Value)> {
        let mut piece = [0; 16 << 10];
        loop {
            let find = |from: usize, wanted: &[u8]| {
                memchr::memmem::find(&self.read[from..], wanted).map(|at| from + at)
            };
            if let Some(begin) = find(0, b"event: ")
                && let Some(end) = find(begin, b"\n\n")
            {
                let event: Vec<u8> = self.read.drain(..end).skip(begin).collect();
                let event = String::from_utf8(event).unwrap();
                let (name, data) = event.split_once("\ndata: ").expect("a line of data");
                let name = name.strip_prefix("event: ").unwrap().to_owned();
                return Some((name, serde_json::from_str(data).unwrap()));
            }
            // The last chunk: the connection may go on.
            if self.read.ends_with(b"\r\n0\r\n\r\n") {
                return None;
            }
            let reading = timeout(PATIENCE, self.stream.read(&mut piece));
            match reading.await.expect("an event or the end") {
                Ok(0) | Err(_) => return None,
                Ok(length) => self.read.extend_from_slice(&piece[..length]),
            }
        }
    }

    pub(super) async fn named(&mut self, wanted: &str) -> Value {
        loop {
            let (name, data) = self.event().await.expect("it goes on");
            if name == wanted {
                return data;
            }
        }
    }
}

pub(super) fn often() -> Limits {
    Limits {
        beat_time: Duration::from_millis(50),
        ..Limits::default()
    }
}

#[tokio::test]
async fn a_stream_begins_with_everything_and_says_only_what_changes() {
    let fake = Arc::new(Fake::default());
    let server = start(&fake, often()).await;
    let head = get(&server, "/v1/stream").await;
    assert_eq!(head.headers["content-type"], "text/event-stream");
    assert_eq!(head.headers["cache-control"], "no-cache, no-transform");
    assert_eq!(head.headers["x-accel-buffering"], "no");
    let mut reader = Reader::open(&server, "").await;
    let (name, whole) = reader.event().await.unwrap();
    assert_eq!(name, "snapshot");
    for member in ["boot", "build", "time"] {
        assert!(whole[member].is_string(), "{member} is not in {whole}");
    }
    let channel = &whole["channels"]["storefront.de"];
    assert_eq!(
        (&channel["state"], &channel["owed.bulk"]),
        (&json!("flowing"), &json!("0"))
    );
    assert_eq!(
        whole["sources"]["erp"]["quarantined"], "2",
        "whole numbers are texts"
    );
    assert!(channel["freshness_seconds"].is_null(), "times, not ages");
    // Ages grow meanwhile, and nothing is said but signs of life.
    for _ in 0..30 {
        assert_eq!(reader.event().await, Some(("beat".to_owned(), json!({}))));
    }
    *fake.owed.lock().unwrap() = 5;
    let mut changes = reader.named("changes").await;
    assert!(changes["time"].take().is_string());
    let expected = json!({
        "time": null, "channels": {"storefront.de": {"owed.bulk": "5"}}, "lanes": {"bulk": {"owed": "5"}},
    });
    assert_eq!(changes, expected);
    let later = Reader::open(&server, "").await.named("snapshot").await;
    assert_eq!(later["lanes"]["bulk"]["owed"], "5");
    assert_eq!(later["boot"], whole["boot"]);
}

#[tokio::test]
async fn nothing_is_looked_at_while_nobody_looks_and_once_for_all_who_do() {
    let fake = Arc::new(Fake::default());
    let server = start(&fake, often()).await;
    assert_eq!(fake.looks.load(Ordering::Relaxed), 0);
    let mut readers = Vec::new();
    for _ in 0..10 {
        readers.push(Reader::open(&server, "").await);
    }
    let began = Instant::now();
    for reader in &mut readers {
        reader.named("snapshot").await;
    }
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap();
    let looks = fake.looks.load(Ordering::Relaxed);
    assert!(
        looks <= 2 + seconds,
        "{looks} looks for ten readers in {seconds} s"
    );
    // Whoever closes its stream is noticed at the next sign of life at the latest.
    drop(readers);
    let places = async { while get(&server, "/v1/stream").await.status != 200 {} };
    timeout(PATIENCE, places).await.unwrap();
    let mut before = fake.looks.load(Ordering::Relaxed);
    let quiet = async {
        loop {
            tokio::time::sleep(LOOK_AND_A_HALF).await;
            let now = fake.looks.load(Ordering::Relaxed);
            if std::mem::replace(&mut before, now) == now {
                break;
            }
        }
    };
    timeout(PATIENCE, quiet).await.expect("nobody looks");
}

/// Longer than a moment of the stream.
const LOOK_AND_A_HALF: Duration = Duration::from_millis(1500);

#[tokio::test]
async fn a_token_that_is_removed_sees_nothing_more() {
    let fake = Arc::new(Fake::default());
    *fake.tokens.lock().unwrap() = vec![token(Role::Read), token(Role::Admin)];
    let server = start(&fake, often()).await;
    let mut reader = Reader::open(&server, "authorization: Bearer read\r\n").await;
    let mut other = Reader::open(&server, "authorization: Bearer admin\r\n").await;
    reader.named("snapshot").await;
    other.named("snapshot").await;
    *fake.tokens.lock().unwrap() = vec![token(Role::Admin)];
    *fake.owed.lock().unwrap() = 7;
    let mut after = Vec::new();
    let reading = async {
        while let Some((name, data)) = reader.event().await {
            after.push((name, data));
        }
    };
    timeout(PATIENCE, reading).await.expect("it ends");
    let bye = ("bye".to_owned(), json!({ "why": "token-unknown" }));
    assert_eq!(after.last(), Some(&bye));
    assert!(after.iter().all(|(name, _)| name != "changes"), "{after:?}");
    assert_eq!(other.named("changes").await["lanes"]["bulk"]["owed"], "7");
}

// A queue for each client grows while one does not read, or drops what it then never learns.
#[tokio::test]
async fn who_did_not_read_for_a_while_gets_the_newest_state() {
    let fake = Arc::new(Fake::default());
    let server = start(&fake, often()).await;
    let mut slow = Reader::open(&server, "").await;
    slow.named("snapshot").await;
    let mut quick = Reader::open(&server, "").await;
    quick.named("snapshot").await;
    for owed in 1..=3 {
        *fake.owed.lock().unwrap() = owed;
        let newest = json!(owed.to_string());
        while quick.named("changes").await["lanes"]["bulk"]["owed"] != newest {}
    }
    let mut events = 0;
    while slow.named("changes").await["channels"]["storefront.de"]["owed.bulk"] != "3" {
        events += 1;
    }
    assert!(events < 3, "at most one for each moment");
}

#[tokio::test]
async fn however_many_channels_there_are_a_stream_carries_20_kb_a_second() {
    let fake = Arc::new(Fake::default());
    *fake.more_channels.lock().unwrap() = 1000;
    let server = start(&fake, often()).await;
    let mut reader = Reader::open(&server, "").await;
    reader.named("snapshot").await;
    reader.named("changes").await;
    let (begin, mut bytes) = (Instant::now(), 0);
    for _ in 0..2 {
        let changes = reader.named("changes").await;
        bytes += changes.to_string().len();
    }
    // The pause after an event is as long as its length, so that the last one is not paid for yet.
    let paid = Duration::from_secs_f64(bytes as f64 / 2.0 / 20_000.0);
    assert!(bytes > 60_000, "{bytes} bytes");
    assert!(
        begin.elapsed() > paid,
        "{bytes} bytes in {:?}",
        begin.elapsed()
    );
}

// A browser that is suspended never reads, and never closes.
#[tokio::test]
async fn who_never_reads_loses_the_place() {
    let fake = Arc::new(Fake::default());
    // More than the system takes for a client that reads nothing.
    *fake.more_channels.lock().unwrap() = 30_000;
    let limits = Limits {
        streams_max: 1,
        ..short()
    };
    let server = start(&fake, limits).await;
    let ask = async || {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(server.ingest_addr()).await.unwrap();
        let request = b"GET /v1/stream HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n";
        stream.write_all(request).await.unwrap();
        stream
    };
    let _silent = ask().await;
    let taken = async {
        while fake.looks.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(20), taken).await.unwrap();
    let freed = async {
        loop {
            let mut status = [0; 12];
            ask().await.read_exact(&mut status).await.unwrap();
            if status.ends_with(b"200") {
                break;
            }
            assert!(status.ends_with(b"503"));
        }
    };
    timeout(Duration::from_secs(30), freed)
        .await
        .expect("its place is free again");
}

// The first event of 108 channels was 100 kB, most of it of no use to a page that shows all of them.
#[tokio::test]
async fn the_first_event_of_108_channels_is_short() {
    let fake = Arc::new(Fake::default());
    *fake.more_channels.lock().unwrap() = 106;
    let server = start(&fake, often()).await;
    let snapshot = Reader::open(&server, "").await.named("snapshot").await;
    assert_eq!(snapshot["channels"].as_object().unwrap().len(), 108);
    let bytes = snapshot.to_string().len();
    assert!(bytes < 40_000, "{bytes} bytes");
}

#[tokio::test]
async fn readers_of_streams_do_not_keep_the_operator_out() {
    let fake = Arc::new(Fake::default());
    let limits = Limits {
        connections_max: 32,
        ..often()
    };
    let server = start(&fake, limits).await;
    let mut readers = Vec::new();
    for _ in 0..8 {
        let mut reader = Reader::open(&server, "").await;
        reader.named("snapshot").await;
        readers.push(reader);
    }
    for _ in 0..20 {
        let none = get(&server, "/v1/stream").await;
        assert_eq!((none.status, none.problem()), (503, "busy".to_owned()));
        assert!(none.headers.contains_key("retry-after"));
    }
    assert_eq!(get(&server, "/metrics").await.status, 200);
    let pause = "/v1/channels/storefront.de/pause";
    assert_eq!(ask(&server, "POST", pause, &[], "").await.status, 200);
    for reader in &mut readers {
        assert!(reader.event().await.is_some(), "they go on");
    }
    readers.pop();
    let freed = async { while get(&server, "/v1/stream").await.status != 200 {} };
    timeout(PATIENCE, freed)
        .await
        .expect("a place is free again");
}

// Streams held a stop up to its limit of ten seconds.
#[tokio::test]
async fn a_stop_ends_streams_at_once() {
    let server = start(&Arc::new(Fake::default()), Limits::default()).await;
    let mut readers = Vec::new();
    for _ in 0..50 {
        let mut reader = Reader::open(&server, "").await;
        reader.named("snapshot").await;
        readers.push(reader);
    }
    let stop = server.stop(Duration::from_secs(600));
    timeout(PATIENCE, stop).await.expect("nobody waits");
    for reader in &mut readers {
        assert_eq!(reader.event().await, None);
    }
}

// A stream was cut 75 s after its first event, however often it wrote; and one that nobody read, too late.
#[tokio::test]
async fn a_stream_outlives_the_time_of_idle_connections() {
    let limits = Limits {
        beat_time: Duration::from_millis(50),
        ..short()
    };
    let (write_time, idle_time) = (limits.write_time, limits.idle_time);
    let server = start(&Arc::new(Fake::default()), limits).await;
    let mut reader = Reader::open(&server, "").await;
    let begin = Instant::now();
    while begin.elapsed() < 4 * write_time.max(idle_time) {
        assert!(reader.event().await.is_some(), "it is not cut off");
    }
}
