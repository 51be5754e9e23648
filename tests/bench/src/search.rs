//! `weir-bench search`: a search engine gets half a million documents in `_bulk` requests. How close does
//! Weir come to a client that only sends requests of the same size, made beforehand?
//!
//! Each is measured with an engine whose worker takes 20 µs for a document, 50,000/s, and with one that takes
//! no time. There Weir reads, renders and writes each document while the other client only copies bytes, and
//! both compete with the engine for the processor; so that ratio has no aim. The channel is paused while the
//! documents come in.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::bulk::{Bulk, Got};
use crate::clock::{Phase, round};
use crate::documents;
use crate::progress::Progress;
use crate::report::Report;
use crate::{FullArgs, unreachable};
use weir::inside::cli::{CommandResult, Failure};

/// Documents at full size.
const DOCUMENTS: f64 = 500_000.0;
/// The engines: their names in figures, and the time that a document takes.
const ENGINES: [(&str, Duration); 2] = [
    ("engine_of_50000_a_second", Duration::from_micros(20)),
    ("engine_without_a_limit", Duration::ZERO),
];
/// The longest that all documents may take.
const PATIENCE: Duration = Duration::from_secs(600);

pub(super) fn run(args: &FullArgs, out: &mut String) -> CommandResult {
    let mut report = Report::new("search", args.scale);
    let documents = args.scaled(DOCUMENTS);
    report.figure("documents", documents);
    for (name, takes) in ENGINES {
        let engine =
            || Bulk::start(takes).map_err(|error| unreachable("no engine in this process", error));
        let (weirs, bare) = (engine()?, engine()?);
        let target = json!({
            "kind": "search",
            "dialect": "elasticsearch",
            "url": format!("http://{}", weirs.address),
            "index": "products",
        });
        let stage = documents::owing(args, &target, documents)?;
        let (phase, progress) = (Phase::start(), Progress::begin(name, documents as u64));
        let began = Instant::now();
        stage.api().operate("resume")?;
        while weirs.got().documents < documents as u64 {
            progress.mark().at(weirs.got().documents);
            if began.elapsed() > PATIENCE {
                return Err(Failure::Failed("the deliveries take too long".into()));
            }
            sleep(Duration::from_millis(1));
        }
        let by_weir = documents as f64 / began.elapsed().as_secs_f64();
        drop(progress);
        report.usage(name, &phase.end(Duration::ZERO));
        let delivered = stage.api().wait_until_idle()?;
        stage.stop();

        let got = weirs.got();
        let bare_rate = send(bare.address, got).map_err(Failure::Failed)?;
        let a_request = got.documents as f64 / got.requests.max(1) as f64;
        let mut figure = |what: &str, value: f64| {
            report.figure(&format!("{name}_{what}"), value);
        };
        figure("documents_a_request", round(a_request, 1));
        figure(
            "bytes_a_request",
            round(got.bytes as f64 / got.requests.max(1) as f64, 0),
        );
        figure("most_requests_at_once", got.most_at_once as f64);
        figure("documents_per_second", round(by_weir, 0));
        figure("documents_per_second_of_bare_requests", round(bare_rate, 0));
        let (ratio, name_of_it) = (by_weir / bare_rate, format!("{name}_ratio"));
        match takes.is_zero() {
            true => report.figure(&name_of_it, round(ratio, 2)),
            false => report.at_least(&name_of_it, ratio, 0.8),
        }
        report.exactly(&format!("{name}_delivered"), delivered, documents as u64);
    }
    report.end(args.common.json, out)
}

/// Sends an engine as many documents as another one got, in as many requests of the same length, as many
/// at once. Returns the documents per second.
fn send(to: SocketAddr, like: Got) -> Result<f64, String> {
    let requests = like.requests.max(1);
    let (lines, bytes) = (
        (like.documents / requests).max(1) as usize,
        (like.bytes / requests) as usize,
    );
    // The engine counts lines: that of the action, and that of the document.
    let line = (bytes / lines / 2).max(2) - 1;
    let body = [vec![b'x'; line], vec![b'\n']].concat().repeat(2 * lines);
    let head = format!(
        "POST /products/_bulk HTTP/1.1\r\nhost: bench\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let request = [head.into_bytes(), body].concat();
    let generator = std::thread::Builder::new()
        .name("generator".into())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| error.to_string())?;
            let connections = like.most_at_once.max(1);
            let began = Instant::now();
            let sent = runtime.block_on(async {
                let mut open = tokio::task::JoinSet::new();
                for number in 0..connections {
                    let count = requests / connections + u64::from(number < requests % connections);
                    let request = request.clone();
                    open.spawn(async move { connection(to, &request, count).await });
                }
                open.join_all().await.into_iter().collect::<Result<(), _>>()
            });
            sent.map_err(|error| error.to_string())?;
            let sent = requests * lines as u64;
            Ok(sent as f64 / began.elapsed().as_secs_f64())
        });
    generator
        .map_err(|error| error.to_string())?
        .join()
        .map_err(|_| "the load generator panicked".to_owned())?
}

/// Makes a request a number of times on one connection.
async fn connection(to: SocketAddr, request: &[u8], count: u64) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let mut answer = Vec::new();
    for _ in 0..count {
        stream.write_all(request).await?;
        answer.clear();
        // An answer ends with the list of results, and nothing comes after it.
        while !answer.ends_with(b"]}") {
            if stream.read_buf(&mut answer).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
    Ok(())
}
