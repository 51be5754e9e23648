//! The accept loops: a bounded number of connections, each served by a task of its own.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::connection::serve;
use super::crowd::{Crowd, Place};
use super::socket::Socket;
use super::{Backend, Limits};
use crate::plan::Tls;

/// Delay after a failed accept; the cause is nearly always a lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The shortest time between two warnings that connections cannot be accepted.
const WARNING: Duration = Duration::from_secs(60);

/// Three quarters of the descriptor limit, at most 10,000.
pub(super) fn connections_max() -> usize {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(descriptors / 4 * 3)
        .unwrap_or(usize::MAX)
        .clamp(16, 10_000)
}

/// What is behind a listener.
#[derive(Clone)]
pub(super) struct Listening {
    pub(super) router: Router,
    pub(super) backend: Arc<dyn Backend>,
    /// Whether it speaks TLS as soon as there is a certificate.
    pub(super) may_have_tls: bool,
}

impl Listening {
    /// Serves one connection until it is closed.
    async fn serve(
        self,
        stream: TcpStream,
        address: IpAddr,
        place: &Place,
        limits: &Limits,
        stopping: CancellationToken,
    ) {
        let front = self.backend.front();
        let tls = front.tls.as_ref().filter(|_| self.may_have_tls);
        let tls = tls.and_then(Tls::config);
        let socket = tokio::select! {
            socket = Socket::open(stream, tls, limits) => socket,
            () = place.pulse.closed() => None,
            () = stopping.cancelled() => None,
        };
        if let Some(socket) = socket {
            let (router, backend) = (self.router, self.backend);
            serve(socket, address, place, router, backend, limits, stopping).await;
        }
    }
}

/// Accept loops and their connections.
pub(super) struct Listeners {
    limits: Arc<Limits>,
    tasks: TaskTracker,
    /// Accept nothing new.
    stopping: CancellationToken,
    /// Close everything.
    closing: CancellationToken,
    _close_on_drop: [DropGuard; 2],
}

impl Listeners {
    pub(super) fn new(limits: Arc<Limits>) -> Listeners {
        let (stopping, closing) = (CancellationToken::new(), CancellationToken::new());
        let guards = [stopping.clone().drop_guard(), closing.clone().drop_guard()];
        Listeners {
            limits,
            tasks: TaskTracker::new(),
            stopping,
            closing,
            _close_on_drop: guards,
        }
    }

    /// Starts to accept connections, at most as many at the same time as the crowd has places.
    pub(super) fn add(&mut self, listener: TcpListener, side: Listening, crowd: Arc<Crowd>) {
        let (tasks, stopping, closing) = (
            self.tasks.clone(),
            self.stopping.clone(),
            self.closing.clone(),
        );
        let limits = self.limits.clone();
        self.tasks.spawn(async move {
            let accepting = async {
                let mut warned: Option<Instant> = None;
                loop {
                    let (stream, peer) = match listener.accept().await {
                        Ok(accepted) => accepted,
                        Err(error) => {
                            if warned.is_none_or(|warned| warned.elapsed() >= WARNING) {
                                warned = Some(Instant::now());
                                tracing::warn!(
                                    %error,
                                    "connections cannot be accepted; if descriptors are short, \
                                     raise their limit (`ulimit -n`, LimitNOFILE)"
                                );
                            }
                            sleep(ACCEPT_PAUSE).await;
                            continue;
                        }
                    };
                    let place = crowd.enter(&limits).await;
                    let (side, limits) = (side.clone(), limits.clone());
                    let stopping = stopping.clone();
                    let closing = closing.clone();
                    tasks.spawn(async move {
                        tokio::select! {
                            () = side.serve(stream, peer.ip(), &place, &limits, stopping) => {}
                            () = closing.cancelled() => {}
                        }
                        drop(place);
                    });
                }
            };
            tokio::select! {
                () = accepting => {}
                () = stopping.cancelled() => {}
            }
        });
    }

    /// Returns when all requests in progress have their response, or have been aborted after
    /// `grace`.
    pub(super) async fn stop(self, grace: Duration) {
        self.stopping.cancel();
        self.tasks.close();
        if timeout(grace, self.tasks.wait()).await.is_err() {
            tracing::warn!(
                connections = self.tasks.len(),
                "requests that did not finish before the stop are aborted; their senders get no answer \
                 and send them again"
            );
            self.closing.cancel();
            self.tasks.wait().await;
        }
    }
}
