//! The commands. Each that talks to a running Weir is a client of its HTTP interface and lives in a
//! file of its own here; those that work in this process ([`Local`]) are handed back to the caller.
//!
//! Exit codes: 0 fine, 1 the answer is no, 2 wrong usage, 3 could not reach or open something.

mod bench;
mod channel;
pub mod check;
mod client;
mod compile;
mod demo;
mod plugin;
mod quarantine;
mod refused;
mod run;
mod send;
mod show;
mod source;
mod table;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Everything `weir` can be asked.
#[derive(Debug, Parser)]
#[command(
    name = "weir",
    version,
    about = "Takes in events from enterprise systems, maps them with Wasm plugins, and lets each channel draw what is true now.",
    after_help = "Start with `weir demo`. Exit codes: 0 fine, 1 the answer is no, 2 wrong usage, 3 could not reach or open something.",
    max_term_width = 110
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Local(Local),
    #[command(flatten)]
    Remote(RemoteCommand),
}

/// Commands that work in this process.
#[derive(Debug, Subcommand)]
pub enum Local {
    /// Run Weir. SIGTERM or Ctrl-C stops it within 10 s, SIGHUP reads the configuration again
    Run(RunArgs),
    /// Say everything that is wrong with a configuration, with file, line and column
    Check(CheckArgs),
    /// Show what Weir does: three simulated systems, three shops, a search index, no set-up
    Demo(DemoArgs),
    /// Begin, build, try and test plugins, and see those of a running Weir follow
    Plugin {
        /// Which.
        #[command(subcommand)]
        command: plugin::PluginCommand,
    },
    /// Compile one component from the standard input to the standard output
    #[command(hide = true)]
    Compile(compile::CompileArgs),
    /// Measure this machine
    Bench {
        /// What.
        #[command(subcommand)]
        command: bench::BenchCommand,
    },
}

/// Commands that talk to a running Weir.
#[derive(Debug, Subcommand)]
enum RemoteCommand {
    /// Send files as events of a source
    Send(send::SendArgs),
    /// Show an entity: its facets and where it stands on each channel
    Show(show::ShowArgs),
    /// List and operate channels
    Channel {
        #[command(subcommand)]
        command: channel::ChannelCommand,
    },
    /// Entities that a target will not take as they are
    Refused {
        #[command(subcommand)]
        command: refused::RefusedCommand,
    },
    /// Events that a plugin failed on or that name what they may not
    Quarantine {
        #[command(subcommand)]
        command: quarantine::QuarantineCommand,
    },
    /// List sources
    Source {
        #[command(subcommand)]
        command: source::SourceCommand,
    },
}

/// Arguments of `weir run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// The configuration; given several times, keys of later files win
    #[arg(
        short,
        long = "config",
        value_name = "FILE",
        default_value = "weir.toml"
    )]
    pub config: Vec<PathBuf>,
    /// How logs are written
    #[arg(long, value_enum, default_value_t = LogFormat::Text, env = "WEIR_LOG_FORMAT")]
    pub log_format: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or a filter such as
    /// `info,weir::dispatch=debug`
    #[arg(long, value_name = "FILTER", default_value = "info", env = "WEIR_LOG")]
    pub log: String,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Arguments of `weir check`.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// The configuration; given several times, keys of later files win
    #[arg(
        short,
        long = "config",
        value_name = "FILE",
        default_value = "weir.toml"
    )]
    pub config: Vec<PathBuf>,
    /// Do not complain of secrets whose variable or file is missing
    #[arg(long)]
    pub without_secrets: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `weir demo`.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// Stop after so many seconds with a summary; the exit code is 0 only if every channel
    /// converged
    #[arg(long, value_name = "N")]
    pub seconds: Option<u64>,
}

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The answer is no.
    #[error("{0}")]
    No(String),
    /// What was asked makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Weir or a file could not be reached or opened.
    #[error("{0}")]
    Unreachable(String),
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Failure::No(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Unreachable(_) => 3,
        }
    }
}

/// Whether the answer was yes.
type Outcome = Result<bool, Failure>;

/// Reads the arguments (the first is the program's name) and does what they say.
pub fn run<I, A>(args: I) -> ExitCode
where
    I: IntoIterator<Item = A>,
    A: Into<OsString> + Clone,
{
    run_with(args, local)
}

/// The same with another hand for what works in this process.
fn run_with<I, A>(args: I, local: impl FnOnce(Local) -> ExitCode) -> ExitCode
where
    I: IntoIterator<Item = A>,
    A: Into<OsString> + Clone,
{
    let command = match Cli::try_parse_from(args) {
        Ok(cli) => cli.command,
        Err(error) => {
            // Help and version go to the standard output and are fine; nobody is left to tell if
            // that is closed.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match command {
        Command::Local(command) => local(command),
        Command::Remote(command) => end(|out| block_on(remote(command, out))),
    }
}

/// Prints what a command wrote, also when it failed half-way, and says how it ended.
fn end(command: impl FnOnce(&mut String) -> Outcome) -> ExitCode {
    let mut out = String::new();
    let outcome = command(&mut out);
    print(&out);
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(failure) => {
            eprintln!("weir: {failure}");
            ExitCode::from(failure.code())
        }
    }
}

/// Does what works in this process.
fn local(command: Local) -> ExitCode {
    match command {
        Local::Run(args) => run::run(&args),
        Local::Check(args) => {
            check::check(&args.config, args.without_secrets, args.json, components)
        }
        Local::Demo(args) => demo::demo(&args),
        Local::Plugin { command } => end(|out| plugin::run(command, out)),
        Local::Compile(args) => compile::run(&args),
        Local::Bench { command } => end(|out| bench::run(command, out)),
    }
}

/// Loads each component and configures it as each of its uses would, as a start does.
fn components(plan: &crate::plan::Plan) -> Vec<crate::plan::Complaint> {
    let host = match crate::plugin::Host::start(&crate::plugin::Options {
        workers: 1,
        cache: None,
        compiler: compile::apart(),
    }) {
        Ok(host) => host,
        Err(error) => return vec![plan.complaint("plugins", error.to_string(), None)],
    };
    crate::app::load::load(&host, plan, None)
        .err()
        .unwrap_or_default()
}

/// Does the command and writes what is to be printed to `out`, also when it fails half-way.
async fn remote(command: RemoteCommand, out: &mut String) -> Outcome {
    match command {
        RemoteCommand::Send(args) => send::run(args, out).await,
        RemoteCommand::Show(args) => show::run(args, out).await,
        RemoteCommand::Channel { command } => channel::run(command, out).await,
        RemoteCommand::Refused { command } => refused::run(command, out).await,
        RemoteCommand::Quarantine { command } => quarantine::run(command, out).await,
        RemoteCommand::Source { command } => source::run(command, out).await,
    }
}

fn block_on(outcome: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime =
        runtime.map_err(|error| Failure::Unreachable(format!("cannot start: {error}")))?;
    runtime.block_on(outcome)
}

/// A reader that has gone (`weir … | head`) is not an error.
fn print(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().write_all(text.as_bytes());
}
