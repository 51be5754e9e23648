//! A scripted target. It records each request and responds as the test asks, well or badly.
//!
//! It knows both the requests it received and what a real target would now hold; a request that was
//! applied but not answered counts as held.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::Value;

use super::http::{read_body, read_head};

/// The reaction to a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Responds with this status; a 2xx is applied.
    Answer(u16),
    /// The same with headers.
    With(u16, Vec<(&'static str, String)>),
    /// The same with a body.
    Say(u16, String),
    /// Does not respond until the sender gives up. `true`: the request was applied all the same.
    Hang(bool),
    /// Announces ten bytes, sends five and closes. The request was applied.
    Half,
    /// Closes the connection without a response; nothing was applied.
    Hangup,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub at: Instant,
    /// Whether a complete 2xx response was sent.
    pub acknowledged: bool,
    /// Whether a real target would hold it now.
    pub applied: bool,
}

impl Delivery {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(header, _)| header == name)
            .map(|(_, value)| value.as_str())
    }

    /// The key of the entity from `weir-entity`, percent-encoded.
    pub fn key(&self) -> &str {
        self.header("weir-entity")
            .and_then(|entity| entity.split_once('/'))
            .map_or("", |(_, key)| key)
    }

    pub fn sequence(&self) -> u64 {
        self.header("weir-sequence")
            .and_then(|sequence| sequence.parse().ok())
            .unwrap_or(0)
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The key and the content of each entity in it; `None` for a deletion.
    pub fn entities(&self) -> Vec<(String, Option<Value>)> {
        let body = serde_json::from_slice(&self.body).unwrap_or(Value::Null);
        if self.header("weir-entity").is_some() {
            let gone = self.method == "DELETE" || body["deleted"] == true;
            return vec![(self.key().to_owned(), (!gone).then_some(body))];
        }
        let item = |item: &Value| {
            let content = (item["deleted"] != true).then(|| item["content"].clone());
            (item["key"].as_str().unwrap_or_default().to_owned(), content)
        };
        body.as_array().into_iter().flatten().map(item).collect()
    }
}

type Script = dyn Fn(&Delivery) -> Act + Send + Sync;

/// A target on a port of its own, which is closed when it is dropped.
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    script: Mutex<Arc<Script>>,
    deliveries: Mutex<Vec<Delivery>>,
    in_hand: AtomicUsize,
    most_in_hand: AtomicUsize,
    closed: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Receiver {
    /// Starts one that accepts everything.
    pub fn start() -> Receiver {
        Receiver::on(TcpListener::bind("127.0.0.1:0").expect("a port"))
    }

    pub fn on(listener: TcpListener) -> Receiver {
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            script: Mutex::new(Arc::new(|_: &Delivery| Act::Answer(200))),
            deliveries: Mutex::default(),
            in_hand: AtomicUsize::new(0),
            most_in_hand: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            open: Mutex::default(),
        });
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.closed.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                lock(&accepting.open).extend(stream.try_clone());
                let shared = accepting.clone();
                std::thread::spawn(move || {
                    // The sender may close at any time; that ends only this connection.
                    let _ = shared.serve(stream);
                });
            }
        });
        Receiver { address, shared }
    }

    pub fn url(&self) -> String {
        format!("http://{}/weir", self.address)
    }

    /// Handles requests with this script from now on.
    pub fn does(&self, script: impl Fn(&Delivery) -> Act + Send + Sync + 'static) {
        *lock(&self.shared.script) = Arc::new(script);
    }

    /// Does these acts one after the other, and then accepts everything.
    pub fn does_in_turn(&self, acts: impl IntoIterator<Item = Act>) {
        let acts = Mutex::new(acts.into_iter().collect::<Vec<_>>().into_iter());
        self.does(move |_| lock(&acts).next().unwrap_or(Act::Answer(200)));
    }

    /// All requests, in the order of their arrival.
    pub fn deliveries(&self) -> Vec<Delivery> {
        lock(&self.shared.deliveries).clone()
    }

    /// The requests for one entity.
    pub fn of(&self, key: &str) -> Vec<Delivery> {
        lock(&self.shared.deliveries)
            .iter()
            .filter(|delivery| delivery.key() == key)
            .cloned()
            .collect()
    }

    pub fn count(&self) -> usize {
        lock(&self.shared.deliveries).len()
    }

    /// Forgets all requests.
    pub fn forget(&self) {
        lock(&self.shared.deliveries).clear();
    }

    /// The content of a real target after these requests, by key.
    pub fn holds(&self) -> BTreeMap<String, Value> {
        let mut held = BTreeMap::new();
        for delivery in lock(&self.shared.deliveries)
            .iter()
            .filter(|delivery| delivery.applied)
        {
            for (key, content) in delivery.entities() {
                match content {
                    Some(content) => held.insert(key, content),
                    None => held.remove(&key),
                };
            }
        }
        held
    }

    /// The number of connections that were opened to it.
    pub fn connections(&self) -> usize {
        lock(&self.shared.open).len()
    }

    /// The highest number of requests in progress at the same time.
    pub fn most_in_hand(&self) -> usize {
        self.shared.most_in_hand.load(Ordering::SeqCst)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, so that the port is closed by the time this returns or soon
        // after.
        let _ = TcpStream::connect(self.address);
        for stream in lock(&self.shared.open).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream);
        while let Some((first, headers)) = read_head(&mut reader)? {
            let body = read_body(&mut reader, &headers)?;
            let mut words = first.split(' ').map(str::to_owned);
            let (method, path) = (
                words.next().unwrap_or_default(),
                words.next().unwrap_or_default(),
            );
            let now = self.in_hand.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_in_hand.fetch_max(now, Ordering::SeqCst);
            let delivery = Delivery {
                method,
                path,
                headers,
                body,
                at: Instant::now(),
                acknowledged: false,
                applied: false,
            };
            let stays_open = self.answer(delivery, reader.get_mut());
            self.in_hand.fetch_sub(1, Ordering::SeqCst);
            if !stays_open? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Responds to a request. Returns whether the connection stays open. The delivery is recorded
    /// before the response is sent, so that whoever has received the response finds it here.
    fn answer(&self, mut delivery: Delivery, stream: &mut TcpStream) -> io::Result<bool> {
        let script = lock(&self.script).clone();
        let act = script(&delivery);
        let (status, headers, body) = match act {
            Act::Answer(status) => (status, Vec::new(), String::new()),
            Act::With(status, headers) => (status, headers, String::new()),
            Act::Say(status, body) => (status, Vec::new(), body),
            Act::Hang(applied) => {
                delivery.applied = applied;
                lock(&self.deliveries).push(delivery);
                // No more bytes come; this returns when the sender has closed.
                let _ = stream.read(&mut [0]);
                return Ok(false);
            }
            Act::Half => {
                delivery.applied = true;
                lock(&self.deliveries).push(delivery);
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf.")?;
                stream.shutdown(Shutdown::Both)?;
                return Ok(false);
            }
            Act::Hangup => {
                lock(&self.deliveries).push(delivery);
                stream.shutdown(Shutdown::Both)?;
                return Ok(false);
            }
        };
        delivery.acknowledged = (200..300).contains(&status);
        delivery.applied = delivery.acknowledged;
        lock(&self.deliveries).push(delivery);
        let mut answer = format!(
            "HTTP/1.1 {status} scripted\r\ncontent-length: {}\r\n",
            body.len()
        );
        headers
            .iter()
            .for_each(|(name, value)| answer.push_str(&format!("{name}: {value}\r\n")));
        stream.write_all((answer + "\r\n" + &body).as_bytes())?;
        Ok(true)
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
