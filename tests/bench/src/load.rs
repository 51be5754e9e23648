//! The load of `weir-bench ingest`: events of three systems in turn, each about every product once
//! or about drawn ones for a time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use crate::events::{Products, System};
use crate::post::{Request, Tally, post};

/// Where to send what.
pub(super) struct Load {
    pub(super) address: SocketAddr,
    pub(super) products: Arc<Products>,
    pub(super) connections: usize,
    /// Events in a request.
    pub(super) batch: usize,
    /// Numbers events, so that versions rise over all phases.
    pub(super) numbers: AtomicU64,
}

/// What to send.
#[derive(Clone, Copy)]
pub(super) enum Work {
    /// Each product once by each system.
    Each,
    /// Drawn products, for so long.
    Drawn(Duration),
}

impl Load {
    /// Sends on a new thread and waits for it.
    ///
    /// # Errors
    /// What the server answered other than that all was taken.
    pub(super) fn send(self: &Arc<Load>, work: Work) -> Result<Tally, String> {
        let (load, started) = (self.clone(), Instant::now());
        post(
            self.address,
            self.connections,
            move |turn, connection, request| load.write(work, started, turn, connection, request),
        )
    }

    /// The next request of this work, if there is one.
    fn write(
        &self,
        work: Work,
        started: Instant,
        turn: usize,
        connection: usize,
        request: &mut Request,
    ) -> bool {
        let products = &self.products;
        // Connections start with different systems and take them in turn.
        let (system, first, events) = match work {
            Work::Each => {
                let first = turn / 3 * self.batch;
                (
                    turn % 3,
                    first,
                    self.batch.min(products.count().saturating_sub(first)),
                )
            }
            Work::Drawn(time) if started.elapsed() >= time => return false,
            Work::Drawn(_) => ((turn + connection) % 3, turn * self.batch, self.batch),
        };
        if events == 0 {
            return false;
        }
        let system = System::ALL[system];
        let key = |n: usize| match work {
            Work::Each => products.key(n),
            Work::Drawn(_) => products.drawn(n),
        };
        system.write(
            (first..first + events).map(key),
            &self.numbers,
            &mut request.body,
        );
        (request.source, request.content_type, request.events) = (
            system.name(),
            system.content_type(self.batch > 1),
            events as u64,
        );
        true
    }
}
