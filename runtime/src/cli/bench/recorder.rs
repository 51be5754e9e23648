//! A target in this process: takes every delivery at once and counts the entities in it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::sync::oneshot;

/// A target that listens until it is dropped.
pub(super) struct Recorder {
    pub(super) address: SocketAddr,
    entities: Arc<AtomicU64>,
    _stop: oneshot::Sender<()>,
}

impl Recorder {
    /// Listens on loopback, on a thread of its own.
    ///
    /// # Errors
    /// When the address or the thread cannot be had.
    pub(super) fn start() -> std::io::Result<Recorder> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let entities = Arc::new(AtomicU64::new(0));
        let router = Router::new().fallback(take).with_state(entities.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("recorder".into()).spawn(move || {
            runtime.block_on(async move {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
                tokio::select! {
                    _ = serve(listener, router) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Recorder { address, entities, _stop: stop })
    }

    /// Entities taken so far.
    pub(super) fn entities(&self) -> u64 {
        self.entities.load(Ordering::Relaxed)
    }
}

async fn serve(listener: tokio::net::TcpListener, router: Router) {
    while let Ok((stream, _)) = listener.accept().await {
        let service = hyper_util::service::TowerToHyperService::new(router.clone());
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(hyper_util::rt::TokioIo::new(stream), service);
        // A connection that breaks is Weir's to retry.
        tokio::spawn(async move { drop(connection.await) });
    }
}

/// A delivery is one entity or an array of them.
async fn take(State(entities): State<Arc<AtomicU64>>, body: bytes::Bytes) -> StatusCode {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Delivery {
        Several(Vec<IgnoredAny>),
        One(IgnoredAny),
    }
    let count = match serde_json::from_slice(&body) {
        Ok(Delivery::Several(all)) => all.len() as u64,
        Ok(Delivery::One(_)) => 1,
        Err(_) => 0,
    };
    entities.fetch_add(count, Ordering::Relaxed);
    StatusCode::NO_CONTENT
}
