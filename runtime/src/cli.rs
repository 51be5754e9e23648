//! The commands. Each one that talks to a running Weir is a client of its HTTP interface and has a
//! file of its own here; those that work in this process ([`Local`]) are passed to a handler.
//!
//! [`exit`] has the exit codes.

mod backup;
mod channel;
mod check;
pub(crate) mod client;
mod compile;
mod completions;
mod demo;
mod entity;
mod init;
mod job;
mod log;
mod moment;
mod plugin;
mod quarantine;
mod refused;
mod reload;
mod run;
mod schema;
mod send;
mod show;
mod source;
mod status;
pub(crate) mod table;
mod tap;
mod top;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::{exit, plain};

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "weir",
    version,
    about = "Takes in events from enterprise systems, maps them with Wasm plugins, and delivers to each channel what is true now, at its own pace.",
    after_help = "Start with `weir demo`, then `weir init`. Exit codes: 0 success, 1 failed or found something wrong, 2 wrong usage, 3 could not reach or open something.",
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
    /// Run Weir. SIGTERM or Ctrl-C stops it within 10 s, SIGHUP reloads the configuration
    Run(RunArgs),
    /// Check a configuration: prints every complaint with file, line and column
    Check(CheckArgs),
    /// Begin a configuration with the files of an example, in a folder
    Init(init::InitArgs),
    /// What a configuration may have
    Config {
        /// The command.
        #[command(subcommand)]
        command: schema::ConfigCommand,
    },
    /// Show what Weir does, without set-up: three simulated systems, three shops, a search index
    Demo(DemoArgs),
    /// Create, build, run and test plugins, and update those of a running Weir
    Plugin {
        /// The command.
        #[command(subcommand)]
        command: plugin::PluginCommand,
    },
    /// Make a store of a backup, where the configuration has it; Weir must not be running
    Restore(backup::RestoreArgs),
    /// Print a script with which a shell completes commands and options
    Completions(completions::CompletionsArgs),
    /// Write a manual page for each command into a folder
    #[command(hide = true)]
    Man(completions::ManArgs),
    /// Compile one component from standard input to standard output
    #[command(hide = true)]
    Compile(compile::CompileArgs),
}

/// Commands that talk to a running Weir.
#[derive(Debug, Subcommand)]
enum RemoteCommand {
    /// Send files as events of a source
    Send(send::SendArgs),
    /// Show an entity: its facets and its state on each channel
    Show(show::ShowArgs),
    /// List entities
    Entity {
        #[command(subcommand)]
        command: entity::EntityCommand,
    },
    /// List and operate channels
    Channel {
        #[command(subcommand)]
        command: channel::ChannelCommand,
    },
    /// List, retry and drop entities that a target refused (dead letters)
    Refused {
        #[command(subcommand)]
        command: refused::RefusedCommand,
    },
    /// List, retry and drop quarantined events: a plugin failed on them, or a check
    Quarantine {
        #[command(subcommand)]
        command: quarantine::QuarantineCommand,
    },
    /// Make a running Weir read its configuration again, and wait for the outcome; if the new one is refused, every
    /// complaint is printed, and the exit code is 1
    Reload(reload::ReloadArgs),
    /// Make a backup of the store of a running Weir, in a file on its disk
    Backup(backup::BackupArgs),
    /// Show what passes a source or a channel, item by item: what came, what plugins made of it, what was sent
    /// and answered
    Tap(tap::TapArgs),
    /// Show whether all is well: what is wrong first, each with the command that helps; exit code 1 if something is
    Status(status::StatusArgs),
    /// Show all channels and sources on one screen, what is wrong first; q ends
    Top(top::TopArgs),
    /// List sources, and forget the versions of an owner's facets
    Source {
        #[command(subcommand)]
        command: source::SourceCommand,
    },
}

/// Arguments of `weir run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// The configuration file; may be repeated, keys of later files win
    #[arg(
        short,
        long = "config",
        value_name = "FILE",
        default_value = "weir.toml"
    )]
    pub config: Vec<PathBuf>,
    /// If the store is damaged, set it aside and go on with what can be read of it; entities that may
    /// be missing are named in the log. A store that is not damaged is used as it is
    #[arg(long)]
    pub set_aside_damaged: bool,
    /// The log format
    #[arg(long, value_enum, default_value_t = LogFormat::Text, env = "WEIR_LOG_FORMAT")]
    pub log_format: LogFormat,
    /// The log level (error, warn, info, debug or trace), or a filter such as
    /// `info,weir::dispatch=debug`
    #[arg(long, value_name = "FILTER", default_value = "info", env = "WEIR_LOG")]
    pub log: String,
}

/// The log format.
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
    /// The configuration file; may be repeated, keys of later files win
    #[arg(
        short,
        long = "config",
        value_name = "FILE",
        default_value = "weir.toml"
    )]
    pub config: Vec<PathBuf>,
    /// Do not complain about secrets whose variable or file is missing
    #[arg(long)]
    pub without_secrets: bool,
    /// Also connect to each target and each receiver of notices: name, TLS, credentials, whether an index
    /// exists and will take the documents. Sends nothing
    #[arg(long)]
    pub connect: bool,
    /// The address of the Weir that is asked what channels leave at their targets that are not in this
    /// configuration. If omitted: WEIR_URL, or where the configuration listens, if the Weir there uses its store
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// A token for it with the role `read`; prefer the environment, where other users cannot read it
    #[arg(long, env = "WEIR_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `weir demo`.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// Stop after N seconds with a summary; the exit code is 0 only if every channel converged
    #[arg(long, value_name = "N")]
    pub seconds: Option<u64>,
    /// Print one JSON object a line: building, started, second (one each second), settling, summary,
    /// compared; each names its `kind`
    #[arg(long)]
    pub json: bool,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It could not be done, in a sentence.
    #[error("{0}")]
    Failed(String),
    /// The arguments are wrong.
    #[error("{0}")]
    Usage(String),
    /// Weir or a file could not be reached or opened.
    #[error("{0}")]
    Unreachable(String),
}

impl Failure {
    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Failure::Failed(_) => exit::FAILED,
            Failure::Usage(_) => exit::USAGE,
            Failure::Unreachable(_) => exit::UNREACHABLE,
        }
    }
}

/// The result of a command that ran: false if it found something wrong.
pub type CommandResult = Result<bool, Failure>;

/// Parses the arguments (the first is the name of the program) and runs the command.
pub fn run<I, A>(args: I) -> ExitCode
where
    I: IntoIterator<Item = A>,
    A: Into<OsString> + Clone,
{
    run_with(args, local)
}

/// The same, with a handler for the commands that work in this process.
fn run_with<I, A>(args: I, local: impl FnOnce(Local) -> ExitCode) -> ExitCode
where
    I: IntoIterator<Item = A>,
    A: Into<OsString> + Clone,
{
    let command = match Cli::try_parse_from(args) {
        Ok(cli) => cli.command,
        Err(error) => {
            // Help and version go to standard output and are a success; if that is closed, there is
            // nobody to report to.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { 0 });
        }
    };
    match command {
        Command::Local(command) => local(command),
        Command::Remote(command) => end(|out| block_on(remote(command, out))),
    }
}

/// Prints the output of a command, even if it failed half-way, and returns its exit code.
pub fn end(command: impl FnOnce(&mut String) -> CommandResult) -> ExitCode {
    let mut out = String::new();
    let outcome = command(&mut out);
    print(&out);
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(exit::FAILED),
        Err(failure) => {
            complain(&format!("weir: {failure}"));
            ExitCode::from(failure.code())
        }
    }
}

/// Runs a command that works in this process.
fn local(command: Local) -> ExitCode {
    match command {
        Local::Run(args) => run::run(&args),
        Local::Check(args) => {
            let (url, token) = (args.url.as_deref(), args.token.as_deref());
            let usual = std::env::var("WEIR_URL").ok();
            check::check(
                &args.config,
                args.without_secrets,
                args.json,
                |plan| {
                    let mut found = components(plan);
                    if found.complaints.is_empty() && args.connect {
                        let tried = check::connect::targets(plan);
                        found.complaints.extend(tried.complaints);
                        found.warnings.extend(tried.warnings);
                    }
                    found
                },
                |plan| check::left_behind::look(plan, url, usual.as_deref(), token),
            )
        }
        Local::Init(args) => end(|out| init::init(&args, out)),
        Local::Config { command } => end(|out| schema::run(&command, out)),
        Local::Demo(args) => demo::demo(&args),
        Local::Plugin { command } => end(|out| plugin::run(command, out)),
        Local::Restore(args) => end(|out| backup::restore(&args, out)),
        Local::Completions(args) => end(|out| completions::completions(&args, out)),
        Local::Man(args) => end(|out| completions::man(&args, out)),
        Local::Compile(args) => compile::run(&args),
    }
}

/// Loads each component and configures it for each of its places, as a start does. Warns of channels whose
/// plugins only filter where a renderer is needed.
fn components(plan: &crate::plan::Plan) -> check::Loaded {
    let wrong = |complaints| check::Loaded {
        complaints,
        warnings: Vec::new(),
    };
    let host = match crate::plugin::Host::start(&crate::plugin::Options {
        workers: 1,
        compiler: compile::apart(),
        ..crate::plugin::Options::default()
    }) {
        Ok(host) => host,
        Err(error) => return wrong(vec![plan.complaint("plugins", error.to_string(), None)]),
    };
    match crate::app::load::load(&host, plan) {
        Ok(loaded) => check::Loaded {
            complaints: Vec::new(),
            warnings: crate::plan::mapped_fields(plan, |channel| {
                !channel.plugins.is_empty() && !loaded.renders(&channel.options.name)
            }),
        },
        Err(complaints) => wrong(complaints),
    }
}

/// Runs the command and writes its output to `out`, even if it fails half-way.
async fn remote(command: RemoteCommand, out: &mut String) -> CommandResult {
    match command {
        RemoteCommand::Send(args) => send::run(args, out).await,
        RemoteCommand::Show(args) => show::run(args, out).await,
        RemoteCommand::Entity { command } => entity::run(command, out).await,
        RemoteCommand::Channel { command } => channel::run(command, out).await,
        RemoteCommand::Refused { command } => refused::run(command, out).await,
        RemoteCommand::Quarantine { command } => quarantine::run(command, out).await,
        RemoteCommand::Reload(args) => reload::run(args, out).await,
        RemoteCommand::Backup(args) => backup::run(args, out).await,
        RemoteCommand::Tap(args) => tap::run(args, &mut std::io::stdout()).await,
        RemoteCommand::Status(args) => status::run(args, out).await,
        RemoteCommand::Top(args) => top::run(args, out).await,
        RemoteCommand::Source { command } => source::run(command, out).await,
    }
}

fn block_on<T>(outcome: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime =
        runtime.map_err(|error| Failure::Unreachable(format!("cannot start: {error}")))?;
    let done = runtime.block_on(outcome);
    // A name that is still being resolved would be waited for.
    runtime.shutdown_background();
    done
}

/// Prints text; a reader that has gone (`weir … | head`) is not an error.
fn print(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().write_all(plain::lines(text).as_bytes());
}

/// Waits until Ctrl-C is pressed, or somebody asks this process to end. A signal counts from this call on, also
/// before the wait begins.
fn ended() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};
    let kinds = [SignalKind::terminate(), SignalKind::interrupt()];
    let [mut terminate, mut interrupt] = kinds.map(|kind| signal(kind).ok());
    async move {
        let first = async |signal: &mut Option<tokio::signal::unix::Signal>| match signal {
            Some(signal) => drop(signal.recv().await),
            None => std::future::pending().await,
        };
        tokio::select! {
            () = first(&mut terminate) => {}
            () = first(&mut interrupt) => {}
        }
    }
}

/// Prints a sentence on standard error.
fn complain(text: &str) {
    eprintln!("{}", plain::lines(text));
}
