//! The HTTP routes, in one table: the role that each needs, and its handler.
//!
//! This module presents and accepts data; it makes no decisions about events, channels or plugins.
//! It makes four promises of its own: every error is a problem (RFC 9457); a slow, silent or
//! endless client costs a bounded time and memory ([`Limits`]); no body is read before its route
//! and its length have been checked; and no admin route responds without the role that the table
//! names.

mod access;
mod answers;
mod arrivals;
mod backend;
mod body;
mod connection;
mod console;
mod crowd;
mod feeds;
mod intake;
mod jobs;
mod listener;
mod look;
mod openapi;
mod operate;
mod params;
mod plugins;
mod problem;
mod pulse;
mod session;
mod sessions;
mod snapshots;
mod socket;
mod state;
mod stream;
mod tap;
mod viewer;
pub mod views;
mod wire;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
pub(crate) mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::handler::Handler;
use axum::http::{Method, Uri};
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodFilter, MethodRouter, on};
use tokio::net::TcpListener;

use self::access::Access;
use self::answers::Answers;
use self::arrivals::Arrivals;
use self::crowd::Crowd;
use self::listener::{Listeners, Listening};
use self::sessions::Sessions;
use self::state::AppState;
use self::stream::Streams;
use self::tap::Taps;
use crate::budget::Budget;
use crate::plan::{BODY_BYTES_MAX, Front, Role};

pub use axum::http::HeaderMap;

pub use self::backend::{
    Asked, Backend, Challenged, DriftRequest, EntityQuery, Feed, FeedAccess, FeedForm, Generation,
    IngestRequest, Intake, Look, Operate, Operation, Page, QuarantineFilter, ReceiptQuery,
    RedriveRequest, RefusedFilter, Reply, STATES, Settle, Settled, Setup, StateQuery,
};
pub use self::intake::{PREFERS_SUMMARY, Requests};
pub use self::problem::Problem;
#[cfg(test)]
pub(crate) use self::problem::TYPE_PREFIX;

/// How much a client may cost.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Time for a request's head, from its first byte, and for the first byte of a new connection:
    /// 10 s. Half a head cannot hold a socket.
    pub head_time: Duration,
    /// Time for a body, from its head: 30 s. A client that sends a byte per second cannot hold
    /// memory.
    pub body_time: Duration,
    /// Time between requests of a connection: 75 s, longer than the scrape interval of most metrics
    /// collectors.
    pub idle_time: Duration,
    /// Time without progress while a response is written: 30 s. A client that does not read its
    /// response cannot pin it in memory.
    pub write_time: Duration,
    /// Maximum number of connections on the ingest listener: 10,000, or three quarters of the
    /// descriptor limit, so that the store, plugins and targets find descriptors too. For a further
    /// one, the connection is closed that has been idle or slow for longest.
    pub connections_max: usize,
    /// How many of them are kept for the operator if the admin routes are on the same listener: 16.
    /// Requests with events are answered 503 there.
    pub kept_connections: usize,
    /// Maximum number of connections on a separate admin listener: 256. Senders cannot shut the
    /// operator out.
    pub admin_connections_max: usize,
    /// Maximum number of receipts that wait: 512, and a quarter of the connections that admin routes may
    /// have.
    pub waiting_max: usize,
    /// Maximum number of streams to consoles, on both listeners: 64, and a quarter of the connections of the
    /// listener that has the admin routes. The operator and the collector of metrics always get in.
    pub streams_max: usize,
    /// Maximum number of taps, on both listeners: 8, and an eighth of the connections of the listener that has
    /// the admin routes. Each makes copies of what it shows.
    pub taps_max: usize,
    /// Time after which a tap ends: 10 min. Nobody forgets one for ever.
    pub tap_time: Duration,
    /// Time after which a stream that has had nothing to say gives a sign of life: 10 s. Rights are checked
    /// again before it does.
    pub beat_time: Duration,
    /// Maximum length of a body, and of what is discarded behind a last response: 64 MiB, as much
    /// as a source may allow.
    pub body_bytes_max: u64,
    /// Memory for bodies that have arrived in part, whose senders nobody has verified: 64 MiB.
    /// Beyond it those that are slow or hold most give way, with 503.
    pub arriving_bytes_max: u64,
    /// Memory for requests in progress, in bytes: whole bodies, unpacked bodies, and their events;
    /// 256 MiB. Beyond it the response is 503. A source with several requests takes at most as much
    /// as it leaves free.
    pub memory_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            head_time: Duration::from_secs(10),
            body_time: Duration::from_secs(30),
            idle_time: Duration::from_secs(75),
            write_time: Duration::from_secs(30),
            connections_max: listener::connections_max(),
            kept_connections: 16,
            admin_connections_max: 256,
            waiting_max: 512,
            streams_max: 64,
            taps_max: 8,
            tap_time: Duration::from_secs(600),
            beat_time: Duration::from_secs(10),
            body_bytes_max: BODY_BYTES_MAX,
            arriving_bytes_max: 64 << 20,
            memory_bytes_max: 256 << 20,
        }
    }
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}")]
pub struct CannotListen {
    /// The address as configured.
    pub address: SocketAddr,
    /// The system's error.
    #[source]
    pub error: std::io::Error,
}

/// The listeners of a running Weir. Dropping it closes every connection at once; [`Server::stop`]
/// lets them finish.
pub struct Server {
    ingest_addr: SocketAddr,
    admin_addr: SocketAddr,
    listeners: Listeners,
}

impl Server {
    /// Starts listening. Without an address of their own, the admin routes are on the ingest
    /// listener too.
    ///
    /// # Errors
    /// An address cannot be listened on. Then nothing listens.
    pub async fn start(
        listen: SocketAddr,
        admin_listen: Option<SocketAddr>,
        limits: Limits,
        backend: Arc<dyn Backend>,
    ) -> Result<Server, CannotListen> {
        let (ingest, ingest_addr) = bind(listen).await?;
        let admin = match admin_listen.filter(|admin| *admin != listen) {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        let memory = Budget::new(limits.memory_bytes_max);
        let arrivals = Arrivals::new(limits.arriving_bytes_max);
        // The operator must always get in.
        let sessions = Arc::new(Sessions::default());
        let connections_max = match admin {
            Some(_) => limits.admin_connections_max,
            None => limits.connections_max,
        };
        let answers = Arc::new(Answers::new(limits.waiting_max.min(connections_max / 4)));
        let places = limits.streams_max.min((connections_max / 4).max(1));
        let streams = Arc::new(Streams::new(places));
        let taps = Arc::new(Taps::new(limits.taps_max.min((connections_max / 8).max(1))));
        let snapshots = Arc::<snapshots::Snapshots>::default();
        let limits = Arc::new(limits);
        let state = |address: SocketAddr| {
            Arc::new(AppState {
                backend: backend.clone(),
                limits: limits.clone(),
                memory: memory.clone(),
                arrivals: arrivals.clone(),
                answers: answers.clone(),
                sessions: sessions.clone(),
                snapshots: snapshots.clone(),
                streams: streams.clone(),
                taps: taps.clone(),
                loopback: address.ip().is_loopback(),
            })
        };

        let mut listeners = Listeners::new(limits.clone());
        let mut admin_addr = ingest_addr;
        let ingest_side = if admin.is_some() {
            Side::Ingest
        } else {
            Side::Both
        };
        let behind = |address, side, may_have_tls| Listening {
            router: router(state(address), side),
            backend: backend.clone(),
            may_have_tls,
        };
        listeners.add(
            ingest,
            behind(ingest_addr, ingest_side, true),
            Crowd::new(
                limits.connections_max,
                match ingest_side {
                    Side::Both => limits.kept_connections,
                    Side::Ingest | Side::Admin => 0,
                },
            ),
        );
        if let Some((admin, address)) = admin {
            listeners.add(
                admin,
                behind(address, Side::Admin, Front::covers_admin(address)),
                Crowd::new(limits.admin_connections_max, 0),
            );
            admin_addr = address;
        }
        Ok(Server {
            ingest_addr,
            admin_addr,
            listeners,
        })
    }

    /// The address for events, with the port that the system chose if 0 was configured.
    pub fn ingest_addr(&self) -> SocketAddr {
        self.ingest_addr
    }

    /// The address for everything else.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin_addr
    }

    /// Accepts no new connection or request, and returns when those in progress have their response
    /// or `grace` is over.
    pub async fn stop(self, grace: Duration) {
        self.listeners.stop(grace).await;
    }
}

/// The routes that a listener has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Both,
    Ingest,
    Admin,
}

/// A row of the table.
struct Route {
    method: Method,
    path: &'static str,
    access: Access,
    handler: MethodRouter<Arc<AppState>>,
}

/// All routes.
fn table() -> Vec<Route> {
    use Access::{Fetcher, Needs, Open, Page, Sender};
    use Role::{Admin, Operate, Read};
    const GET: Method = Method::GET;
    const POST: Method = Method::POST;
    const DELETE: Method = Method::DELETE;
    vec![
        row(GET, "/healthz", Open, look::health),
        row(GET, "/readyz", Open, look::ready),
        row(GET, "/openapi.json", Open, openapi::openapi),
        row(GET, "/", Page, console::page),
        row(GET, "/console/{digest}/{file}", Page, console::file),
        row(GET, "/v1/session", Page, session::session),
        row(POST, "/v1/session", Page, session::sign_in),
        row(DELETE, "/v1/session", Page, session::sign_out),
        row(GET, "/v1/stream", Needs(Read), stream::stream),
        row(GET, "/v1/tap/sources/{source}", Needs(Read), tap::source),
        row(GET, "/v1/tap/channels/{channel}", Needs(Read), tap::channel),
        row(POST, "/v1/sources/{source}/events", Sender, intake::take),
        row(
            Method::OPTIONS,
            "/v1/sources/{source}/events",
            Sender,
            intake::allow,
        ),
        row(
            GET,
            "/v1/sources/{source}/events",
            Sender,
            intake::challenge,
        ),
        row(
            POST,
            "/v1/sources/{source}/preview",
            Needs(Operate),
            intake::preview,
        ),
        row(GET, "/v1/sources", Needs(Read), look::sources),
        row(GET, "/v1/sources/{source}", Needs(Read), look::source),
        row(
            GET,
            "/v1/sources/{source}/quarantine",
            Needs(Read),
            operate::quarantine,
        ),
        row(
            POST,
            "/v1/sources/{source}/quarantine/redrive",
            Needs(Operate),
            operate::redrive_quarantine,
        ),
        row(
            DELETE,
            "/v1/sources/{source}/quarantine",
            Needs(Operate),
            operate::drop_quarantine,
        ),
        row(
            POST,
            "/v1/sources/{source}/reset-versions",
            Needs(Operate),
            operate::reset_versions,
        ),
        row(GET, "/v1/entities/{type}", Needs(Read), look::entities),
        row(GET, "/v1/entities/{type}/{key}", Needs(Read), look::entity),
        row(GET, "/v1/channels", Needs(Read), look::channels),
        row(GET, "/v1/channels/{channel}", Needs(Read), look::channel),
        row(
            DELETE,
            "/v1/channels/{channel}",
            Needs(Admin),
            operate::forget,
        ),
        row(
            GET,
            "/v1/channels/{channel}/entities",
            Needs(Read),
            look::channel_entities,
        ),
        row(
            GET,
            "/v1/channels/{channel}/preview",
            Needs(Read),
            look::preview,
        ),
        row(
            POST,
            "/v1/channels/{channel}/pause",
            Needs(Operate),
            operate::pause,
        ),
        row(
            POST,
            "/v1/channels/{channel}/resume",
            Needs(Operate),
            operate::resume,
        ),
        row(
            POST,
            "/v1/channels/{channel}/resync",
            Needs(Operate),
            operate::resync,
        ),
        row(
            POST,
            "/v1/channels/{channel}/rerender",
            Needs(Operate),
            operate::rerender,
        ),
        row(
            POST,
            "/v1/channels/{channel}/confirm",
            Needs(Operate),
            operate::confirm,
        ),
        row(
            POST,
            "/v1/channels/{channel}/overwrite",
            Needs(Operate),
            operate::overwrite,
        ),
        row(
            POST,
            "/v1/channels/{channel}/drift",
            Needs(Operate),
            jobs::begin_drift,
        ),
        row(
            POST,
            "/v1/channels/{channel}/resend",
            Needs(Operate),
            jobs::resend,
        ),
        row(GET, "/v1/jobs", Needs(Read), jobs::jobs),
        row(GET, "/v1/jobs/{job}", Needs(Read), jobs::job),
        row(DELETE, "/v1/jobs/{job}", Needs(Operate), jobs::cancel),
        row(
            GET,
            "/v1/channels/{channel}/refused",
            Needs(Read),
            operate::refused,
        ),
        row(
            POST,
            "/v1/channels/{channel}/refused/redrive",
            Needs(Operate),
            operate::redrive_refused,
        ),
        row(
            DELETE,
            "/v1/channels/{channel}/refused",
            Needs(Operate),
            operate::drop_refused,
        ),
        row(GET, "/v1/feeds/{channel}", Fetcher, feeds::feed),
        row(GET, "/v1/plugins", Needs(Read), plugins::plugins),
        row(GET, "/v1/config", Needs(Read), plugins::config),
        row(
            POST,
            "/v1/plugins/{plugin}/confirm",
            Needs(Role::Plugins),
            plugins::confirm,
        ),
        row(POST, "/v1/reload", Needs(Admin), plugins::reload),
        row(POST, "/v1/backup", Needs(Admin), plugins::backup),
        row(GET, "/metrics", Needs(Read), look::metrics),
    ]
}

fn row<H, T>(method: Method, path: &'static str, access: Access, handler: H) -> Route
where
    H: Handler<T, Arc<AppState>>,
    T: 'static,
{
    let filter = MethodFilter::try_from(method.clone()).unwrap_or(MethodFilter::GET);
    Route {
        method,
        path,
        access,
        handler: on(filter, handler),
    }
}

/// The routes of one listener, each behind its guard.
fn router(state: Arc<AppState>, side: Side) -> Router {
    let here = |route: &Route| match (route.access, side) {
        (_, Side::Both)
        | (Access::Open | Access::Fetcher, _)
        | (Access::Sender, Side::Ingest)
        | (Access::Page | Access::Needs(_), Side::Admin) => true,
        (Access::Sender, Side::Admin) | (Access::Page | Access::Needs(_), Side::Ingest) => false,
    };
    let mut router = Router::new();
    for Route {
        method,
        path,
        access,
        handler,
    } in table().into_iter().filter(here)
    {
        debug_assert!(
            MethodFilter::try_from(method).is_ok(),
            "{path} has a method that cannot be routed"
        );
        router = router.route(
            path,
            handler.route_layer(from_fn_with_state((state.clone(), access), access::guard)),
        );
    }
    router
        .fallback(move |method, uri| unknown_route(method, uri, side))
        .with_state(state)
}

async fn unknown_route(method: Method, uri: Uri, side: Side) -> Problem {
    let elsewhere = match side {
        Side::Both => "",
        Side::Ingest => {
            "; this listener takes events and serves feeds only, the other routes are at `server.admin_listen`"
        }
        Side::Admin => "; events are taken at `server.listen`, not here",
    };
    Problem::new(
        axum::http::StatusCode::NOT_FOUND,
        "unknown-route",
        format!("there is no route {method} {}{elsewhere}", uri.path()),
    )
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), CannotListen> {
    let cannot = |error| CannotListen { address, error };
    let listener = TcpListener::bind(address).await.map_err(cannot)?;
    let bound = listener.local_addr().map_err(cannot)?;
    Ok((listener, bound))
}
