//! Stories of the plain bridge: events in over HTTP, deliveries out at a target that can fail.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;

use axum::http::Uri;
use axum::routing::any;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::*;

/// A server for all targets, that notes what it takes and can be out of order.
#[derive(Clone, Default)]
struct Sites {
    broken: Arc<AtomicBool>,
    taken: Arc<Mutex<Vec<(String, String)>>>,
}

impl Sites {
    async fn serve(&self) -> SocketAddr {
        let take = |State(sites): State<Sites>, uri: Uri, body: String| async move {
            if sites.broken.load(Relaxed) && uri.path() == "/s1" {
                return StatusCode::SERVICE_UNAVAILABLE;
            }
            let mut taken = sites.taken.lock().unwrap_or_else(PoisonError::into_inner);
            taken.push((uri.path().to_owned(), body));
            StatusCode::OK
        };
        let router = Router::new().fallback(any(take)).with_state(self.clone());
        serve(router).await
    }

    fn at(&self, path: &str) -> Vec<String> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let here = taken.iter().filter(|(at, _)| at == path);
        here.map(|(_, body)| body.clone()).collect()
    }
}

async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port is free");
    let address = listener.local_addr().expect("it has an address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn options(sites: SocketAddr, folder: Option<PathBuf>) -> Options {
    Options {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        targets: vec![format!("http://{sites}/s1"), format!("http://{sites}/s2")],
        memory: folder.is_none(),
        folder,
        concurrency: 1,
        timeout_ms: 5_000,
        retry_ms: 5,
        retry_ms_max: 20,
        backlog_mib_max: 1,
    }
}

/// Starts a bridge, and returns it and the URL for events.
async fn start(options: Options) -> (Arc<Bridge>, String) {
    let bridge = Bridge::open(options).expect("it opens");
    tokio::spawn(bridge.clone().deliver());
    let address = serve(bridge.router()).await;
    (bridge, format!("http://{address}/events"))
}

async fn send(url: &str, body: &str) -> u16 {
    let request = Client::new().post(url).body(body.to_owned());
    request.send().await.expect("it answers").status().as_u16()
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
    waited.unwrap_or_else(|_| panic!("not within 20 s: {what}"));
}

const THREE: &str = "{\"n\":1}\n{\"n\":2}\n{\"n\":1}\n";
const ALL: [&str; 3] = ["{\"n\":1}", "{\"n\":2}", "{\"n\":1}"];

#[tokio::test]
async fn each_target_gets_each_event_in_order_and_a_broken_one_holds_up_only_itself() {
    let folder = tempfile::tempdir().expect("there is room");
    for folder in [None, Some(folder.path().to_owned())] {
        let sites = Sites::default();
        sites.broken.store(true, Relaxed);
        let (bridge, url) = start(options(sites.serve().await, folder)).await;
        assert_eq!(send(&url, THREE).await, 202);
        eventually("the second target has all", || sites.at("/s2") == ALL).await;
        eventually("the first was asked again", || {
            bridge.stats().targets[0].repeated > 2
        })
        .await;
        assert!(sites.at("/s1").is_empty());
        assert!(bridge.stats().targets[0].waiting_bytes > 0);
        sites.broken.store(false, Relaxed);
        eventually("the first target has all", || sites.at("/s1") == ALL).await;
        eventually("nothing waits", || {
            bridge.stats().targets[0].waiting_bytes == 0
        })
        .await;
        let stats = bridge.stats();
        assert_eq!((stats.accepted, stats.targets[0].delivered), (3, 3));
    }
}

#[tokio::test]
async fn a_batch_is_taken_as_a_whole_or_not_at_all() {
    let sites = Sites::default();
    let (bridge, url) = start(options(sites.serve().await, None)).await;
    assert_eq!(send(&url, "{\"n\":1}\n{\"n\":\n").await, 400);
    let much = format!("{{\"n\":\"{}\"}}\n", "x".repeat(600_000));
    assert_eq!(send(&url, &(much.clone() + &much)).await, 503);
    assert_eq!(bridge.log.end(), 0);
    assert_eq!(send(&url, "").await, 202);
}

// A bridge that started from the beginning would send a whole day again, and one that started at the end
// would lose what waited.
#[test]
fn a_restart_goes_on_where_each_target_was() {
    let folder = tempfile::tempdir().expect("there is room");
    let sites = Sites::default();
    let servers = Runtime::new().expect("a runtime starts");
    let address = servers.block_on(sites.serve());
    sites.broken.store(true, Relaxed);
    let first = Runtime::new().expect("a runtime starts");
    first.block_on(async {
        let (_, url) = start(options(address, Some(folder.path().to_owned()))).await;
        assert_eq!(send(&url, THREE).await, 202);
        let written = || {
            let positions = Positions::read(folder.path()).expect("it can be read");
            positions.get(&format!("http://{address}/s2")) > Some(0) && sites.at("/s2") == ALL
        };
        eventually("the position of the second target is written", written).await;
    });
    first.shutdown_timeout(Duration::from_secs(5));
    sites.broken.store(false, Relaxed);
    let second = Runtime::new().expect("a runtime starts");
    second.block_on(async {
        let (_, url) = start(options(address, Some(folder.path().to_owned()))).await;
        eventually("the first target has all", || sites.at("/s1") == ALL).await;
        assert_eq!(send(&url, "{\"n\":4}").await, 202);
        eventually("the new event is there", || {
            sites
                .at("/s2")
                .last()
                .is_some_and(|last| last == "{\"n\":4}")
        })
        .await;
        let second = sites.at("/s2");
        assert!(
            second.len() <= 7,
            "at most the last moments are repeated: {second:?}"
        );
    });
}
