//! `weir-bench`: how fast this build is on this machine.
//!
//! Each measurement drives the code of `weir run`, with the plugins of this repository built from
//! their source, and prints everything that makes a figure credible: what was sent, what it cost,
//! and how much of that was the measurement itself.
//!
//! The program contains Weir: measurements that need a process to kill start this program again as
//! `weir-bench run`, and that process starts `weir-bench compile`. Both are the product's commands,
//! unchanged, so that a figure belongs to the build that printed it.

mod api;
mod blackfriday;
mod bulk;
#[path = "../../support/bus.rs"]
#[allow(dead_code, reason = "a measurement needs not everything that tests do")]
mod bus;
mod catalogue;
mod churn;
mod clock;
mod coalesce;
mod cycle;
mod documents;
mod drift;
mod events;
mod fan;
mod fanout;
mod feed;
mod hot;
mod ingest;
mod isolation;
#[cfg(feature = "kafka")]
mod kafka;
mod limited;
mod listening;
mod load;
mod nats;
mod open;
mod outage;
mod overhead;
mod pace;
#[path = "../../support/parts.rs"]
mod parts;
mod post;
mod postgres;
#[path = "../../support/postgres.rs"]
#[allow(dead_code)]
mod postgres_server;
mod probes;
mod progress;
mod readers;
mod recorder;
mod report;
mod search;
mod seeing;
mod soak;
mod stage;
mod swap;
mod turns;

#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use weir::inside::author::toolchain;
use weir::inside::cli::{CommandResult, Failure, end};

use bulk::Bulk;
use events::System;

/// The allocator of the product, so that figures are comparable.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The product's commands that are started as processes of their own.
const PRODUCT_COMMANDS: [&str; 2] = ["run", "compile"];

/// Measure this machine.
#[derive(Debug, Parser)]
#[command(name = "weir-bench", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: BenchCommand,
}

/// The measurements.
#[derive(Clone, Debug, Subcommand)]
enum BenchCommand {
    /// Events per second through mappers into the store, each answered after the sync
    Ingest(IngestArgs),
    /// The same mapping native and through the plugin host
    Overhead(OverheadArgs),
    /// One facet of 1.5 million products changes; 18 sites render and get all of it, with urgent
    /// prices in between; then everything again, unchanged
    Cycle(CycleArgs),
    /// 18 sites render 1.5 million products again, and nothing differs
    Again(FullArgs),
    /// Black Friday: 18 shops, a search engine, a feed and a dead channel under steady events with bursts, and
    /// one facet of every product in the middle
    Blackfriday(FridayArgs),
    /// 300,000 changes as fast as they are accepted, while 18 plain channels deliver them
    Fan(FullArgs),
    /// 10 million updates in 20 waves while a channel is paused, which then delivers each of
    /// 500,000 products once
    Coalesce(FullArgs),
    /// 1,093 keys change 26,630 times while a channel walks in batches of 1,000
    Hot(FullArgs),
    /// Processor time of a change with 1, 18 and 108 idle or paused channels
    Fanout(FullArgs),
    /// A target that refuses requests beyond a limit, which changes: the share of it that is used, and
    /// of the requests that it refuses
    Pace(FullArgs),
    /// 50 channels, one with a target that never answers: what the others and memory see of it
    Isolation(FullArgs),
    /// 18 channels, one with a target that falls to a tenth or answers ten times as slowly for half a
    /// minute: requests for each delivery, and how it comes back
    Outage(FullArgs),
    /// 500,000 documents to a search engine, beside bare requests of the same size
    Search(FullArgs),
    /// 500,000 documents to a real nats-server, beside the client library alone
    Nats(FullArgs),
    /// 500,000 documents to Kafka, beside librdkafka alone
    #[cfg(feature = "kafka")]
    Kafka(FullArgs),
    /// 500,000 entities to a table of PostgreSQL, beside `COPY`
    Postgres(FullArgs),
    /// A drift check of 1.5 million entities in PostgreSQL, of which some were changed there
    Drift(FullArgs),
    /// A feed of 1.5 million records is built whole, and again after one in a hundred has changed
    Feed(FullArgs),
    /// What it costs that Weir can be looked at, in pairs of `cycle` and `ingest`, and how long a look takes
    Seeing(FullArgs),
    /// How long the small requests of a source wait while another keeps the writer busy
    Turns(FullArgs),
    /// Start with 1.5 million entities and 18 channels after kill -9 under load, and the number of
    /// repeated deliveries
    Open(FullArgs),
    /// A mapper is replaced 1,000 times under load: swap time, remaining throughput, lost events
    Swap(FullArgs),
    /// Half an hour of mixed load with kills: growth of memory and disk
    Soak(SoakArgs),
}

/// Arguments of `weir-bench ingest`.
#[derive(Clone, Debug, Args)]
struct IngestArgs {
    /// One event per request instead of 500
    #[arg(long)]
    single: bool,
    /// Seconds of measurement, after every entity was sent once and a short warm-up
    #[arg(long, value_name = "N", default_value_t = 20)]
    seconds: u64,
    /// Connections that send at the same time; default: 64 with --single, else 4
    #[arg(long, value_name = "N")]
    connections: Option<usize>,
    /// Entities that the events are about, distributed by zipf 0.99, for example 300k or 1.5M; the
    /// goal applies from 1.5M on
    #[arg(long, value_name = "N", default_value = "200k", value_parser = count)]
    entities: u32,
    /// Share of these entities, for example 0.01 for a quick look
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = scale)]
    scale: f64,
    /// Channels that deliver everything meanwhile, in batches of 64, to a target in this process
    #[arg(long, value_name = "N", default_value_t = 0)]
    channels: u16,
    /// Folder for the store, which is removed again; default: `target` if there is one here, else
    /// the folder for temporary files
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    #[command(flatten)]
    looks: LookArgs,
    #[command(flatten)]
    common: Common,
}

/// Arguments of `weir-bench cycle`.
#[derive(Clone, Debug, Args)]
struct CycleArgs {
    #[command(flatten)]
    full: FullArgs,
    #[command(flatten)]
    looks: LookArgs,
}

/// What is kept for those who look at a running Weir, and how many do. `weir-bench seeing` compares it.
#[derive(Clone, Debug, Args)]
struct LookArgs {
    /// Memory for the bodies that were delivered last, as in `server.bodies`; default: Weir's own
    #[arg(long, value_name = "SIZE")]
    bodies: Option<String>,
    /// Clients that read `/v1/stream` while it is measured
    #[arg(long, value_name = "N", default_value_t = 0)]
    readers: usize,
    /// Follow a source or a channel meanwhile: `sources/NAME` or `channels/NAME`
    #[arg(long, value_name = "NAME")]
    tap: Option<String>,
    /// Record traces, as `[telemetry]` does unless told otherwise, and send them to a collector in this process
    #[arg(long)]
    traces: bool,
}

impl LookArgs {
    /// The collector of the traces, if there are any.
    fn collector(&self) -> Result<Option<Bulk>, Failure> {
        let collector = self.traces.then(|| Bulk::start(Duration::ZERO)).transpose();
        collector.map_err(|error| unreachable("no collector in this process", error))
    }

    fn configure(&self, configuration: &mut serde_json::Value, collector: Option<&Bulk>) {
        if let Some(bodies) = &self.bodies {
            configuration["server"]["bodies"] = bodies.as_str().into();
        }
        if let Some(collector) = collector {
            let endpoint = format!("http://{}", collector.address);
            configuration["telemetry"] = serde_json::json!({ "endpoint": endpoint });
        }
    }

    /// The streams that are read meanwhile.
    fn streams(&self) -> Vec<String> {
        let consoles = (0..self.readers).map(|_| readers::CONSOLE.to_owned());
        let tap = self.tap.iter().map(|name| format!("/v1/tap/{name}"));
        consoles.chain(tap).collect()
    }
}

/// Arguments of `weir-bench overhead`.
#[derive(Clone, Debug, Args)]
struct OverheadArgs {
    /// Seconds of measurement for each side of each mapping
    #[arg(long, value_name = "N", default_value_t = 5)]
    seconds: u64,
    /// Pad JSON events to at least N bytes, with fields that no mapping reads
    #[arg(long, value_name = "N", default_value_t = 0)]
    bytes: usize,
    /// Another component of a mapping (pim-product, erp-product or oms-stock), by hand or in
    /// another language, or the folder of its source; it is measured in turns with the plugin
    #[arg(long = "twin", value_name = "PLUGIN=COMPONENT", value_parser = overhead::Twin::parse)]
    twins: Vec<overhead::Twin>,
    #[command(flatten)]
    common: Common,
}

/// Arguments of the measurements that have a full size.
#[derive(Clone, Debug, Args)]
struct FullArgs {
    /// Share of the full size, for example 0.01 for a quick look; goals apply at 1 only
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = scale)]
    scale: f64,
    /// Folder for the store, which is removed again; default: `target` if there is one here, else
    /// the folder for temporary files
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

/// Arguments of `weir-bench blackfriday`.
#[derive(Clone, Debug, Args)]
struct FridayArgs {
    /// Seconds of load
    #[arg(long, value_name = "N", default_value_t = 180)]
    seconds: u64,
    #[command(flatten)]
    full: FullArgs,
}

/// Arguments of `weir-bench soak`.
#[derive(Clone, Debug, Args)]
struct SoakArgs {
    /// Duration
    #[arg(long, value_name = "N", default_value_t = 30.0, value_parser = positive)]
    minutes: f64,
    /// Seconds between two kills
    #[arg(long, value_name = "N", default_value_t = 60.0, value_parser = positive)]
    kill_every: f64,
    #[command(flatten)]
    full: FullArgs,
}

impl FullArgs {
    /// The number at this scale of `full` at full size; at least 1.
    fn scaled(&self, full: f64) -> usize {
        (full * self.scale).round().max(1.0) as usize
    }
}

/// Parses a share of the full size: more than 0, and at most 5, beyond which keys would get longer.
fn scale(text: &str) -> Result<f64, String> {
    let scale: f64 = text
        .parse()
        .map_err(|_| "it must be a number, such as 0.01".to_owned())?;
    if scale > 0.0 && scale <= 5.0 {
        Ok(scale)
    } else {
        Err("it must be more than 0 and at most 5".to_owned())
    }
}

/// Parses a number of entities, with an optional `k` or `M`. Keys have seven digits, so there are
/// at most nine million.
fn count(text: &str) -> Result<u32, String> {
    let (number, unit) = match text
        .strip_suffix('M')
        .map(|rest| (rest, 1e6))
        .or_else(|| text.strip_suffix('k').map(|rest| (rest, 1e3)))
    {
        Some(whole) => whole,
        None => (text, 1.0),
    };
    let number = number
        .parse::<f64>()
        .map_err(|_| "it must be a number, such as 200000, 300k or 1.5M".to_owned())?
        * unit;
    if (1.0..=9e6).contains(&number) {
        Ok(number.round() as u32)
    } else {
        Err("it must be from 1 to 9M".to_owned())
    }
}

/// Parses a length of time: more than 0, and no more than a week of minutes.
fn positive(text: &str) -> Result<f64, String> {
    let number: f64 = text
        .parse()
        .map_err(|_| "it must be a number, such as 30".to_owned())?;
    if number > 0.0 && number <= 10_080.0 {
        Ok(number)
    } else {
        Err("it must be more than 0 and at most 10080".to_owned())
    }
}

/// The options of all measurements.
#[derive(Clone, Debug, Args)]
struct Common {
    /// Folder with the sources of the plugins; default: `plugins` of this repository
    #[arg(long, value_name = "FOLDER", default_value_os_t = repository_plugins(), hide_default_value = true)]
    plugins: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    use_large_pages();
    let first = std::env::args().nth(1).unwrap_or_default();
    if PRODUCT_COMMANDS.contains(&first.as_str()) {
        return weir::cli::run(std::env::args_os());
    }
    let Cli { command } = Cli::parse();
    end(|out| run(command, out))
}

/// Uses large pages, as the product does.
fn use_large_pages() {
    // SAFETY: sets an option of the allocator, which is initialized before `main`; there is only
    // one thread so far.
    unsafe {
        libmimalloc_sys::mi_option_set_enabled(libmimalloc_sys::mi_option_large_os_pages, true)
    }
}

fn repository_plugins() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins")
}

/// Runs the measurement; progress goes to standard error.
fn run(command: BenchCommand, out: &mut String) -> CommandResult {
    if cfg!(debug_assertions) {
        eprintln!(
            "this is a debug build, so its figures mean nothing; use `cargo run --release -p weir-bench`"
        );
    }
    match command {
        BenchCommand::Ingest(args) => ingest::run(&args, out),
        BenchCommand::Overhead(args) => overhead::run(&args, out),
        BenchCommand::Cycle(args) => cycle::run(&args, out),
        BenchCommand::Again(args) => cycle::run_again(&args, out),
        BenchCommand::Blackfriday(args) => blackfriday::run(&args, out),
        BenchCommand::Fan(args) => fan::run(&args, out),
        BenchCommand::Coalesce(args) => coalesce::run(&args, out),
        BenchCommand::Hot(args) => hot::run(&args, out),
        BenchCommand::Fanout(args) => fanout::run(&args, out),
        BenchCommand::Pace(args) => pace::run(&args, out),
        BenchCommand::Isolation(args) => isolation::run(&args, out),
        BenchCommand::Outage(args) => outage::run(&args, out),
        BenchCommand::Search(args) => search::run(&args, out),
        BenchCommand::Nats(args) => nats::run(&args, out),
        #[cfg(feature = "kafka")]
        BenchCommand::Kafka(args) => kafka::run(&args, out),
        BenchCommand::Postgres(args) => postgres::run(&args, out),
        BenchCommand::Drift(args) => drift::run(&args, out),
        BenchCommand::Feed(args) => feed::run(&args, out),
        BenchCommand::Seeing(args) => seeing::run(&args, out),
        BenchCommand::Turns(args) => turns::run(&args, out),
        BenchCommand::Open(args) => open::run(&args, out),
        BenchCommand::Swap(args) => swap::run(&args, out),
        BenchCommand::Soak(args) => soak::run(&args, out),
    }
}

/// The component of a system's mapper.
fn component(plugins: &Path, system: System) -> Result<PathBuf, Failure> {
    built(plugins, system.plugin())
}

/// The component of a plugin, rebuilt if its source has changed.
fn built(plugins: &Path, plugin: &str) -> Result<PathBuf, Failure> {
    let built = toolchain::build(&plugins.join(plugin), &mut |step| eprintln!("{step}"));
    built
        .map(|built| built.component)
        .map_err(|error| Failure::Unreachable(error.to_string()))
}

fn unreachable(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure::Unreachable(format!("{what}: {error}"))
}

/// A temporary folder for the store, on a real disk, because syncs are measured.
fn folder(given: Option<&Path>) -> Result<tempfile::TempDir, Failure> {
    let target = Path::new("target");
    let parent = given.map(Path::to_path_buf).unwrap_or_else(|| {
        if target.is_dir() {
            target.to_path_buf()
        } else {
            std::env::temp_dir()
        }
    });
    let parent = fs::canonicalize(&parent)
        .map_err(|error| unreachable(&format!("cannot use {}", parent.display()), error))?;
    tempfile::Builder::new()
        .prefix("weir-bench-")
        .tempdir_in(&parent)
        .map_err(|error| unreachable("no folder for the store", error))
}
