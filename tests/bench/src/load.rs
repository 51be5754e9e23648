//! The load of `weir-bench ingest`: events of three systems in turn, either one about each product
//! or about drawn products for a given time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use crate::events::{Products, System};
use crate::post::{Request, Tally, post};

/// The destination and the events of a load.
pub(super) struct Load {
    pub(super) address: SocketAddr,
    pub(super) products: Arc<Products>,
    pub(super) connections: usize,
    /// Events per request.
    pub(super) batch: usize,
    /// Numbers events, so that versions rise over all phases.
    pub(super) numbers: AtomicU64,
}

/// The events to send.
#[derive(Clone, Copy)]
pub(super) enum Work {
    /// One event about each product from each system.
    Each,
    /// Events about drawn products, for this long.
    Drawn(Duration),
}

impl Load {
    /// Sends on a new thread and waits until it ends.
    ///
    /// # Errors
    /// The first response that is not a `202` for all events.
    pub(super) fn send(self: &Arc<Load>, work: Work) -> Result<Tally, String> {
        let (load, started) = (self.clone(), Instant::now());
        post(
            self.address,
            self.connections,
            move |turn, connection, request| load.write(work, started, turn, connection, request),
        )
    }

    /// The next request of this load, if there is one.
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
