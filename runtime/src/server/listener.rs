//! The accept loop and the lifecycle of a connection; each of its steps is bounded in time.
//!
//! A connection is in one of four phases: it waits for a request (`idle_time`), receives a head
//! (`head_time`), is served (the handler bounds the body), or writes a response (`write_time`
//! without progress). hyper has only one timer for the first two, so the phases are tracked here,
//! by watching the socket's reads and writes.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::Limits;
use super::problem::{self, Problem};
use crate::sync::lock;

/// Maximum length of a request's head, in bytes. Beyond it, hyper itself responds 431; it checks
/// between reads, so a head that arrives in one piece may be somewhat longer.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// How long bytes that a client still sends after its response are read and discarded. Closing a
/// socket with unread bytes resets the connection, and the client may then lose the response that
/// gives the reason (413).
const LINGER: Duration = Duration::from_secs(10);
/// The same, if the client sends nothing.
const LINGER_SILENT: Duration = Duration::from_secs(2);
/// Delay after a failed accept; the cause is nearly always a lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Three quarters of the descriptor limit, at most 10,000.
pub(super) fn connections_max() -> usize {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(descriptors / 4 * 3)
        .unwrap_or(usize::MAX)
        .clamp(16, 10_000)
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

    /// Starts to accept connections, at most `connections_max` at the same time.
    pub(super) fn add(&mut self, listener: TcpListener, router: Router, connections_max: usize) {
        let slots = Arc::new(Semaphore::new(connections_max));
        let (tasks, stopping, closing) = (
            self.tasks.clone(),
            self.stopping.clone(),
            self.closing.clone(),
        );
        let limits = self.limits.clone();
        self.tasks.spawn(async move {
            let accepting = async {
                loop {
                    let Ok(slot) = slots.clone().acquire_owned().await else {
                        return;
                    };
                    let stream = match listener.accept().await {
                        Ok((stream, _)) => stream,
                        Err(error) => {
                            tracing::warn!(%error, "cannot accept a connection");
                            sleep(ACCEPT_PAUSE).await;
                            continue;
                        }
                    };
                    let connection =
                        serve(stream, router.clone(), limits.clone(), stopping.clone());
                    let closing = closing.clone();
                    tasks.spawn(async move {
                        tokio::select! {
                            () = connection => {}
                            () = closing.cancelled() => {}
                        }
                        drop(slot);
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
                "stopping: aborting requests that did not finish in time"
            );
            self.closing.cancel();
            self.tasks.wait().await;
        }
    }
}

async fn serve(
    stream: TcpStream,
    router: Router,
    limits: Arc<Limits>,
    stopping: CancellationToken,
) {
    // Responses are small and written at once; Nagle's algorithm would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    let pulse = Arc::new(Pulse::new(limits));
    let io = TokioIo::new(Watched {
        stream,
        pulse: pulse.clone(),
    });
    let beat = pulse.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        beat.set(Phase::Serving);
        let (router, beat) = (router.clone(), beat.clone());
        let answering: Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>> =
            Box::pin(async move {
                let response = answer(router, request).await;
                beat.set(Phase::Answering);
                Ok(response)
            });
        answering
    });
    let mut connection = http1::Builder::new();
    let mut connection = connection
        .header_read_timeout(None)
        .max_buf_size(HEAD_BYTES_MAX)
        .pipeline_flush(false)
        .serve_connection(io, service);

    let mut alarm = pin!(sleep_until(pulse.due().unwrap_or_else(Instant::now)));
    let mut stop = pin!(stopping.cancelled());
    let mut stop_told = false;
    let finished = poll_fn(|cx| {
        if let Poll::Ready(end) = connection.poll_without_shutdown(cx) {
            return Poll::Ready(end.is_ok());
        }
        if !stop_told && stop.as_mut().poll(cx).is_ready() {
            stop_told = true;
            if pulse.is_waiting() {
                return Poll::Ready(false);
            }
            Pin::new(&mut connection).graceful_shutdown();
            if let Poll::Ready(end) = connection.poll_without_shutdown(cx) {
                return Poll::Ready(end.is_ok());
            }
        }
        let Some(due) = pulse.due() else {
            return Poll::Pending;
        };
        if due != alarm.deadline() {
            alarm.as_mut().reset(due);
        }
        alarm.as_mut().poll(cx).map(|()| false)
    })
    .await;

    if finished && !stopping.is_cancelled() {
        linger(connection.into_parts().io.into_inner().stream).await;
    }
}

/// The router's response; a panic affects only this request.
async fn answer(router: Router, request: Request<Incoming>) -> Response {
    let mut answering = pin!(router.oneshot(request));
    let caught =
        poll_fn(
            |cx| match catch_unwind(AssertUnwindSafe(|| answering.as_mut().poll(cx))) {
                Ok(poll) => poll.map(Ok),
                Err(panic) => Poll::Ready(Err(panic)),
            },
        );
    match caught.await {
        Ok(Ok(response)) => problem::ensure(response),
        Ok(Err(never)) => match never {},
        Err(panic) => {
            let message = panic
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            Problem::internal(format!(
                "a handler panicked: {}",
                message.unwrap_or("without a message")
            ))
            .into_response()
        }
    }
}

/// Closes our half of the connection, then reads and discards for a while.
async fn linger(mut stream: TcpStream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let discard = async {
        let mut waste = vec![0; 16 << 10];
        while let Ok(Ok(1..)) = timeout(LINGER_SILENT, stream.read(&mut waste)).await {}
    };
    // Either the client has closed its half too, or its time is up.
    let _ = timeout(LINGER, discard).await;
}

/// The phase of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Between requests.
    Idle,
    /// Part of a head has arrived, or nothing yet on a new connection.
    Head,
    /// A handler is running.
    Serving,
    /// A response is being written.
    Answering,
}

/// The phase of a connection and when it must be over.
struct Pulse {
    limits: Arc<Limits>,
    phase: Mutex<(Phase, Option<Instant>)>,
}

impl Pulse {
    fn new(limits: Arc<Limits>) -> Pulse {
        let pulse = Pulse {
            limits,
            phase: Mutex::new((Phase::Head, None)),
        };
        pulse.set(Phase::Head);
        pulse
    }

    fn set(&self, phase: Phase) {
        self.change(|_| Some(phase));
    }

    /// When to close the connection if nothing happens.
    fn due(&self) -> Option<Instant> {
        lock(&self.phase).1
    }

    /// Whether no request is in progress.
    fn is_waiting(&self) -> bool {
        matches!(lock(&self.phase).0, Phase::Idle | Phase::Head)
    }

    /// Enters the phase that `next` names; the time of a phase starts when it is entered, also when
    /// it is entered again.
    fn change(&self, next: impl FnOnce(Phase) -> Option<Phase>) {
        let mut phase = lock(&self.phase);
        let Some(next) = next(phase.0) else { return };
        let time = match next {
            Phase::Idle => Some(self.limits.idle_time),
            Phase::Head => Some(self.limits.head_time),
            Phase::Serving => None,
            Phase::Answering => Some(self.limits.write_time),
        };
        *phase = (next, time.map(|time| Instant::now() + time));
    }
}

/// A socket that reports its activity to its pulse.
struct Watched {
    stream: TcpStream,
    pulse: Arc<Pulse>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.pulse
                .change(|phase| (phase == Phase::Idle).then_some(Phase::Head));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.pulse
            .change(|phase| (phase == Phase::Answering).then_some(Phase::Answering));
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bytes))?;
        self.pulse
            .change(|phase| (phase == Phase::Answering).then_some(Phase::Answering));
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes when it has written everything, so the response is out.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.pulse
            .change(|phase| (phase == Phase::Answering).then_some(Phase::Idle));
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
