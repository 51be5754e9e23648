//! Slow clients: five hundred half request heads and two hundred bodies at a byte per second are
//! closed in time, and an honest sender does not notice them. The time limits are those of the
//! released program, so this test waits for them.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Stage, change, http};

const HALF_HEADS: usize = 500;
const SLOW_BODIES: usize = 200;
/// A smaller difference is noise of the disk and the scheduler, because both Weirs run on one
/// machine together with other tests.
const NOISE: Duration = Duration::from_millis(50);
/// Fewer requests say nothing about the slowest twentieth of them.
const REQUESTS_MIN: usize = 100;
/// While the heads are open, and while the bodies are: a machine that is busy needs longer for the requests.
const OPEN: [Duration; 2] = [Duration::from_secs(9), Duration::from_secs(28)];

/// A connection that sends less than it should.
struct Slow {
    stream: TcpStream,
    /// Whether it sends a byte per second.
    drips: bool,
    answer: Vec<u8>,
    /// When the other side had closed it, measured from its opening.
    closed: Option<Duration>,
    opened: Instant,
}

impl Slow {
    fn open(address: SocketAddr, words: &str, drips: bool) -> Slow {
        let mut stream = TcpStream::connect(address).expect("connected");
        stream.write_all(words.as_bytes()).expect("sent");
        stream
            .set_nonblocking(true)
            .expect("a socket can be set to non-blocking");
        Slow {
            stream,
            drips,
            answer: Vec::new(),
            closed: None,
            opened: Instant::now(),
        }
    }

    fn look(&mut self, drip: bool) {
        if drip && self.drips && self.closed.is_none() {
            // It may be closed by now, which the read below notices.
            let _ = self.stream.write(b"x");
        }
        let mut bytes = [0; 1024];
        while self.closed.is_none() {
            match self.stream.read(&mut bytes) {
                Ok(0) => self.closed = Some(self.opened.elapsed()),
                Ok(length) => self.answer.extend_from_slice(&bytes[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.closed = Some(self.opened.elapsed()),
            }
        }
    }
}

/// Continues slowly until all are closed.
fn wait_for_all(mut clients: Vec<Slow>) -> Vec<Slow> {
    let (start, mut dripped) = (Instant::now(), 0);
    while clients.iter().any(|client| client.closed.is_none()) {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "some are still open after a minute"
        );
        let drip = start.elapsed().as_secs() > dripped;
        dripped += u64::from(drip);
        clients.iter_mut().for_each(|client| client.look(drip));
        std::thread::sleep(Duration::from_millis(50));
    }
    clients
}

/// Measures how long a sender waits for its 202, on a connection of its own.
fn sends(stage: &Stage, number: usize) -> Duration {
    let body = change(&format!("p{number}"), "content", json!(number)).to_string();
    let start = Instant::now();
    let headers = [("content-type", "application/json")];
    let reply = http::request(
        stage.weir().address(),
        "POST",
        "/v1/sources/pim/events",
        &headers,
        body.as_bytes(),
    )
    .expect("an answer");
    assert_eq!(reply.status, 202, "{}", reply.text());
    start.elapsed()
}

fn p95(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() * 95 / 100]
}

#[test]
fn slow_clients_are_closed_in_time_and_honest_ones_do_not_notice() {
    // The same requests go in turn to a second Weir without slow clients, so that any other load on
    // the machine affects both.
    let (beset, alone) = (Stage::catalog(), Stage::catalog());
    let address = beset.weir().address();
    let start = Instant::now();
    let head = "POST /v1/sources/pim/events HTTP/1.1\r\nhost: x\r\nx-long: ";
    let body = "POST /v1/sources/pim/events HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{";
    let mut clients: Vec<Slow> = (0..HALF_HEADS)
        .map(|number| Slow::open(address, head, number % 2 == 0))
        .collect();
    clients.extend((0..SLOW_BODIES).map(|_| Slow::open(address, body, true)));
    let waiting = std::thread::spawn(move || wait_for_all(clients));

    let (mut besets, mut alones) = (Vec::new(), Vec::new());
    let enough = |count: usize| start.elapsed() >= OPEN[usize::from(count < REQUESTS_MIN)];
    while !enough(besets.len()) {
        besets.push(sends(&beset, besets.len()));
        alones.push(sends(&alone, alones.len()));
        std::thread::sleep(Duration::from_millis(2));
    }
    let (count, besets, alones) = (besets.len(), p95(besets), p95(alones));
    println!(
        "p95 of {count} requests: {besets:?} with {} slow clients, {alones:?} without",
        HALF_HEADS + SLOW_BODIES
    );
    assert!(
        besets <= alones.max(NOISE) * 2,
        "p95 is {besets:?} with slow clients, but {alones:?} without"
    );

    let clients = waiting.join().expect("no panic");
    let (heads, bodies) = clients.split_at(HALF_HEADS);
    for client in heads {
        let closed = client.closed.expect("it is closed").as_secs();
        assert!(
            (9..29).contains(&closed),
            "10 s are allowed for a head, dripping or not; it took {closed} s"
        );
        assert!(
            client.answer.is_empty(),
            "{}",
            String::from_utf8_lossy(&client.answer)
        );
    }
    for client in bodies {
        let (closed, answer) = (
            client.closed.expect("it is closed").as_secs(),
            String::from_utf8_lossy(&client.answer),
        );
        assert!(
            (29..60).contains(&closed),
            "30 s are allowed for a body; it took {closed} s"
        );
        assert!(
            answer.starts_with("HTTP/1.1 408")
                && answer.contains("the body was not complete after 30 s"),
            "{answer:?}"
        );
    }
    assert_eq!(
        http::request(address, "GET", "/healthz", &[], b"")
            .expect("an answer")
            .status,
        200
    );
    assert!(
        !beset.weir().log().contains("ERROR"),
        "{}",
        beset.weir().log()
    );
}
