//! `weir bench`: how fast this build is on this machine.
//!
//! Each measurement drives what `weir run` runs, with the plugins of this repository built from
//! their source, and prints everything that a figure needs to be believed: what was sent, what it
//! cost, and how much of that was the measuring itself.

mod api;
mod catalogue;
mod churn;
mod clock;
mod coalesce;
mod cycle;
mod documents;
mod events;
mod fan;
mod fanout;
mod hot;
mod ingest;
mod load;
mod open;
mod overhead;
mod post;
mod progress;
mod recorder;
mod report;
mod soak;
mod stage;
mod swap;

#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::{Failure, Outcome};
use crate::plugin::toolchain;
use events::System;

/// What can be measured.
#[derive(Clone, Debug, Subcommand)]
pub enum BenchCommand {
    /// Events a second through mappers into the store, answered after the sync
    Ingest(IngestArgs),
    /// The same mapping native and through the plugin host
    Overhead(OverheadArgs),
    /// One facet of 1.5 million products changes; 18 sites render and take all of it, urgent prices
    /// in between; then again, unchanged
    Cycle(FullArgs),
    /// 18 sites render 1.5 million products again and nothing differs
    Again(FullArgs),
    /// 300,000 changes as fast as they are taken, while 18 plain channels deliver them
    Fan(FullArgs),
    /// 10 million updates in 20 waves while a channel is paused, which then delivers each of
    /// 500,000 products once
    Coalesce(FullArgs),
    /// 1,093 keys change 26,630 times while a channel walks in batches of 1,000
    Hot(FullArgs),
    /// Processor time of a change with 1, 18 and 108 idle or paused channels
    Fanout(FullArgs),
    /// Start of 1.5 million entities and 18 channels after kill -9 under load, and what is sent
    /// again
    Open(FullArgs),
    /// A mapper is replaced 1,000 times under load: how fast, how much throughput is left, and is
    /// anything lost?
    Swap(FullArgs),
    /// Half an hour of mixed load with kills: are memory and disk flat?
    Soak(SoakArgs),
}

/// Arguments of `weir bench ingest`.
#[derive(Clone, Debug, Args)]
pub struct IngestArgs {
    /// One event a request instead of 500
    #[arg(long)]
    single: bool,
    /// For how long to measure, after every entity was sent once and a short warm-up
    #[arg(long, value_name = "N", default_value_t = 20)]
    seconds: u64,
    /// Connections that send at the same time; 64 with --single, else 4
    #[arg(long, value_name = "N")]
    connections: Option<usize>,
    /// Entities that the events are about, by zipf 0.99, for example 300k or 1.5M; the aim is
    /// judged from 1.5M on
    #[arg(long, value_name = "N", default_value = "200k", value_parser = count)]
    entities: u32,
    /// How much of these entities, for example 0.01 for a quick look
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = scale)]
    scale: f64,
    /// Channels that deliver all of it meanwhile, in batches of 64, to a target in this process
    #[arg(long, value_name = "N", default_value_t = 0)]
    channels: u16,
    /// Where the store is put and removed again; default: `target` if there is one here, else the
    /// folder for temporary files
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

/// Arguments of `weir bench overhead`.
#[derive(Clone, Debug, Args)]
pub struct OverheadArgs {
    /// For how long to measure each side of each mapping
    #[arg(long, value_name = "N", default_value_t = 5)]
    seconds: u64,
    /// Make events of JSON at least so long, by fields that no mapping reads
    #[arg(long, value_name = "N", default_value_t = 0)]
    bytes: usize,
    /// Another component of a mapping, by hand or in another language, or the folder of its source;
    /// it takes its turns with the plugin: pim-product, erp-product or oms-stock
    #[arg(long = "twin", value_name = "PLUGIN=COMPONENT", value_parser = overhead::Twin::parse)]
    twins: Vec<overhead::Twin>,
    #[command(flatten)]
    common: Common,
}

/// Arguments of the measurements that have a full size.
#[derive(Clone, Debug, Args)]
pub struct FullArgs {
    /// How much of the full size, for example 0.01 for a quick look; aims are judged at 1 only
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = scale)]
    scale: f64,
    /// Where the store is put and removed again; default: `target` if there is one here, else the
    /// folder for temporary files
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

/// Arguments of `weir bench soak`.
#[derive(Clone, Debug, Args)]
pub struct SoakArgs {
    /// For how long
    #[arg(long, value_name = "N", default_value_t = 30.0, value_parser = positive)]
    minutes: f64,
    /// Seconds between two kills
    #[arg(long, value_name = "N", default_value_t = 60.0, value_parser = positive)]
    kill_every: f64,
    #[command(flatten)]
    full: FullArgs,
}

impl FullArgs {
    /// So many at full size, as many as that is here; at least one.
    fn scaled(&self, full: f64) -> usize {
        (full * self.scale).round().max(1.0) as usize
    }
}

/// A share of the full size: more than nothing, and not so much that keys get longer.
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

/// A number of entities, with `k` or `M` behind it or not. Keys have seven digits, so there are at
/// most nine million.
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

/// A length of time: more than nothing, and no more than a week of minutes.
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

/// What all of them take.
#[derive(Clone, Debug, Args)]
struct Common {
    /// Where the sources of the plugins are
    #[arg(long, value_name = "FOLDER", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugins"))]
    plugins: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Does the command; what it is at is told on the standard error.
pub(super) fn run(command: BenchCommand, out: &mut String) -> Outcome {
    if cfg!(debug_assertions) {
        eprintln!(
            "this is a build for development: its figures say nothing; use `cargo run --release`"
        );
    }
    match command {
        BenchCommand::Ingest(args) => ingest::run(&args, out),
        BenchCommand::Overhead(args) => overhead::run(&args, out),
        BenchCommand::Cycle(args) => cycle::run(&args, out),
        BenchCommand::Again(args) => cycle::run_again(&args, out),
        BenchCommand::Fan(args) => fan::run(&args, out),
        BenchCommand::Coalesce(args) => coalesce::run(&args, out),
        BenchCommand::Hot(args) => hot::run(&args, out),
        BenchCommand::Fanout(args) => fanout::run(&args, out),
        BenchCommand::Open(args) => open::run(&args, out),
        BenchCommand::Swap(args) => swap::run(&args, out),
        BenchCommand::Soak(args) => soak::run(&args, out),
    }
}

/// The component of a system's mapper.
fn component(plugins: &Path, system: System) -> Result<PathBuf, Failure> {
    built(plugins, system.plugin())
}

/// The component of a plugin, built anew if its source has changed.
fn built(plugins: &Path, plugin: &str) -> Result<PathBuf, Failure> {
    let built = toolchain::build(&plugins.join(plugin), &mut |step| eprintln!("{step}"));
    built
        .map(|built| built.component)
        .map_err(|error| Failure::Unreachable(error.to_string()))
}

fn unreachable(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure::Unreachable(format!("{what}: {error}"))
}

/// Where to put the store: a real disk is what a sync is measured on.
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
