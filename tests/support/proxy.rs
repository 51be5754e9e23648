//! A proxy between a client and a server on loopback, which hands bytes on, holds them back, swallows answers,
//! or cuts connections.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// They go through.
    Open,
    /// They wait in both directions until the way is open.
    Held,
    /// What the client sends goes through, and what the server sends is lost.
    NoAnswers,
}

/// A proxy. It ends with its owner.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    way: Way,
    to: u16,
    ended: bool,
    connections: Vec<TcpStream>,
    /// Bytes that were lost.
    lost: usize,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Proxy {
    /// Starts one before a port of loopback.
    pub fn before(port: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port on loopback");
        let here = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                way: Way::Open,
                to: port,
                ended: false,
                connections: Vec::new(),
                lost: 0,
            }),
            changed: Condvar::new(),
        });
        let serving = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let to = serving.state().to;
                if serving.state().ended {
                    break;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else {
                    continue;
                };
                join(&serving, client, server);
            }
        });
        Proxy { port: here, shared }
    }

    /// Where it listens on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes what becomes of bytes.
    pub fn is(&self, way: Way) {
        self.shared.state().way = way;
        self.shared.changed.notify_all();
    }

    /// Bytes of answers that were lost.
    pub fn lost(&self) -> usize {
        self.shared.state().lost
    }

    /// Ends all connections.
    pub fn cut(&self) {
        for connection in self.shared.state().connections.drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
        self.shared.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.state().ended = true;
        self.is(Way::Open);
        self.cut();
        // The listener waits for a connection before it looks.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// Hands bytes on between two connections.
fn join(shared: &Arc<Shared>, client: TcpStream, server: TcpStream) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ends = [
        (client.try_clone(), server.try_clone(), false),
        (server.try_clone(), client.try_clone(), true),
    ];
    shared.state().connections.extend([client, server]);
    for (from, to, answers) in ends {
        let (Ok(from), Ok(to)) = (from, to) else {
            return;
        };
        let shared = shared.clone();
        std::thread::spawn(move || hand_on(&shared, from, to, answers));
    }
}

fn hand_on(shared: &Shared, mut from: TcpStream, mut to: TcpStream, answers: bool) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let mut state = shared.state();
        while state.way == Way::Held && !state.ended {
            state = shared
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if state.way == Way::NoAnswers && answers {
            state.lost += count;
            continue;
        }
        drop(state);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
