//! A target for tests: an HTTP server on loopback that responds as its script says and records the
//! requests.
//!
//! It uses bare sockets, because it must also do what a well-behaved server cannot: hang, close
//! early, send half a response.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::sync::lock;

/// A request from a client.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Header names are in lower case.
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }
}

/// The response that the script asks for.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Status(u16),
    Header(u16, &'static str, String),
    Body(u16, String),
    /// The answer to a HEAD: the length of a body that does not follow, and headers, each with its line break.
    Head(usize, String),
    /// The status line and a part of the body; then the connection closes.
    Half(u16),
    /// The inner reply after a delay.
    After(Duration, Box<Reply>),
    /// Nothing, until the client disconnects.
    Hang,
    /// The connection closes without a response.
    Close,
    /// A response that never ends.
    Endless,
    /// Exactly this; then the connection closes.
    Raw(&'static str),
    /// Exactly this; then the connection is reset.
    Reset(&'static str),
    /// The status line, and then a byte of the body every few milliseconds.
    Drip,
}

/// The server; it stops when dropped.
pub(crate) struct Fixture {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    connections: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Fixture {
    pub(crate) async fn start(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Fixture {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port on loopback");
        Fixture::serve(listener, script)
    }

    pub(crate) fn serve(
        listener: TcpListener,
        script: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Fixture {
        let address = listener.local_addr().expect("an address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (seen, script) = (asked.clone(), Arc::new(script));
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let serving = tokio::spawn(async move {
            let mut clients = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let (seen, script) = (seen.clone(), script.clone());
                clients.spawn(async move {
                    let mut stream = BufReader::new(stream);
                    while let Some(request) = read(&mut stream).await {
                        lock(&seen).push(request.clone());
                        let mut reply = script(&request);
                        while let Reply::After(delay, then) = reply {
                            tokio::time::sleep(delay).await;
                            reply = *then;
                        }
                        if write(&mut stream, reply).await.is_none() {
                            break;
                        }
                    }
                });
            }
        });
        Fixture {
            address,
            asked,
            connections,
            serving,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        lock(&self.asked).clone()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.to_owned()),
            None => break,
        };
    }
    let length = headers
        .get("content-length")
        .and_then(|value| value.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Asked {
        method,
        path,
        headers,
        body,
    })
}

/// Returns `None` if the connection must be closed.
async fn write(stream: &mut BufReader<TcpStream>, reply: Reply) -> Option<()> {
    let whole = |status: u16, header: String, body: &str| {
        format!(
            "HTTP/1.1 {status} Scripted\r\ncontent-length: {}\r\n{header}\r\n{body}",
            body.len()
        )
    };
    let (text, stays) = match reply {
        Reply::Status(204) => ("HTTP/1.1 204 No Content\r\n\r\n".to_owned(), true),
        Reply::Status(status) => (whole(status, String::new(), ""), true),
        Reply::Header(status, name, value) => {
            (whole(status, format!("{name}: {value}\r\n"), ""), true)
        }
        Reply::Body(status, body) => (whole(status, String::new(), &body), true),
        Reply::Head(length, headers) => (
            format!("HTTP/1.1 200 Scripted\r\ncontent-length: {length}\r\n{headers}\r\n"),
            true,
        ),
        Reply::Half(status) => (
            format!("HTTP/1.1 {status} Scripted\r\ncontent-length: 100\r\n\r\nhalf"),
            false,
        ),
        Reply::Close => (String::new(), false),
        Reply::Raw(text) => (text.to_owned(), false),
        Reply::Reset(text) => {
            stream.write_all(text.as_bytes()).await.ok()?;
            stream.get_ref().set_zero_linger().ok()?;
            return None;
        }
        Reply::Drip => {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
                .await
                .ok()?;
            loop {
                stream.write_all(b"x").await.ok()?;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        Reply::After(..) | Reply::Hang => {
            let _ = stream.read_u8().await;
            return None;
        }
        Reply::Endless => {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
                .await
                .ok()?;
            loop {
                stream.write_all(&[b'x'; 16384]).await.ok()?;
            }
        }
    };
    stream.write_all(text.as_bytes()).await.ok()?;
    stream.flush().await.ok()?;
    stays.then_some(())
}

/// Keys that mean something in a path, a query, a JSON string or an id, and keys that are long.
pub(crate) fn strange_keys() -> Vec<String> {
    let mut keys: Vec<String> = [
        "a/b",
        "a.b",
        "A_B",
        "a_b",
        "a b",
        "a%20b",
        "a%2Fb",
        ".",
        "..",
        "../a",
        "%",
        "+",
        "?",
        "#",
        "&a=1",
        "\"",
        "'",
        "\\",
        "[a]",
        "{key}",
        "a:b",
        "a,b",
        "*",
        "-",
        "_",
        "0",
        "00",
        "true",
        "ä",
        "Ä",
        "日本",
        "العربية",
        "עברית",
        "ελ",
        "🛋️",
        "👩‍👩‍👧",
        "e\u{301}",
        "é",
    ]
    .map(str::to_owned)
    .into();
    keys.push("ü".repeat(300));
    keys.push(format!("{}v", "ü".repeat(299)));
    keys
}
