//! `peers-rig`: the parts of the comparison that are the same for every system, and the plain bridge.
//!
//! `load` posts events whose states can be recognised later, as fast as they are taken, and `day` posts them
//! at the times at which they are due. `sink` stands for all sites and notes what reached it, and `bridge` is the simplest system that could stand between them: each event to each
//! target, in the order of arrival. None of it uses code of Weir.

mod bridge;
mod day;
mod events;
mod load;
mod sender;
mod sink;

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Parser, Subcommand};

/// The rig of the comparison of Weir with other systems.
#[derive(Debug, Parser)]
#[command(name = "peers-rig", max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Post events as NDJSON in a closed loop; prints one line of JSON at the end
    Load(load::Options),
    /// Post events at the times at which they are due, with bursts, and a change of every product beside
    /// them; prints one line of JSON at the end
    Day(day::Options),
    /// Stand for all sites: count what is delivered by path, and compare it with what was sent
    Sink(sink::Options),
    /// The plain bridge: each event to each target, first in, first out
    Bridge(bridge::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Load(options) => load::run(options).await,
        Command::Day(options) => day::run(options).await,
        Command::Sink(options) => sink::run(options).await,
        Command::Bridge(options) => bridge::run(options).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("peers-rig: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}
