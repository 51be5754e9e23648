//! `weir run`: starts, serves, and stops on a signal, at any moment of the start as well.

mod manager;

use std::process::ExitCode;
use std::time::Duration;

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use self::manager::Manager;
use super::{RunArgs, compile, complain, log};
use crate::app::{App, Options, StartError, Steps};
use crate::exit;
use crate::server::Limits;

/// How long a stop may take, so that the process ends within 10 s even if a disk hangs.
const STOP_MAX: Duration = Duration::from_secs(9);
/// A step of a start that takes longer than this is logged.
const STEP_LONG: Duration = Duration::from_secs(1);
/// Open descriptors that Weir asks for: for 10,000 connections, and a quarter for everything else.
const DESCRIPTORS: u64 = 16_384;

/// Runs until SIGTERM or Ctrl-C; SIGHUP reloads the configuration.
pub(super) fn run(args: &RunArgs) -> ExitCode {
    if let Err(error) = log::start(args.log_format, &args.log) {
        complain(&format!("weir: --log: {error}"));
        return ExitCode::from(exit::USAGE);
    }
    keep_to_this_user();
    raise_descriptor_limit();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("weir: cannot start the serving threads: {error}"));
            return ExitCode::from(exit::UNREACHABLE);
        }
    };
    let code = runtime.block_on(serve(args));
    // Not by a drop, which would wait for a reload that reads or compiles.
    runtime.shutdown_background();
    code
}

/// Makes the files of this process readable by its user alone, and switches off core dumps: the store
/// holds everything that sources sent, and the memory holds secrets.
fn keep_to_this_user() {
    umask(Mode::RWXG | Mode::RWXO);
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "core dumps cannot be switched off; a dump would contain secrets");
    }
}

/// Raises the limit of open descriptors as far as Weir needs it and the system allows it. The usual
/// limit of 1,024 is one that programs may raise by themselves.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = DESCRIPTORS.min(limit.maximum.unwrap_or(DESCRIPTORS));
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let raised = Rlimit {
        current: Some(wanted),
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open descriptors cannot be raised");
    }
}

async fn serve(args: &RunArgs) -> ExitCode {
    // Before anything else, because the first process of a container gets no signal that it does not catch.
    let mut signals = match Signals::catch() {
        Ok(signals) => signals,
        Err(error) => {
            complain(&format!("weir: signals cannot be caught: {error}"));
            return ExitCode::from(exit::UNREACHABLE);
        }
    };
    let (manager, steps) = (Manager::of_this_process(), Steps::default());
    let limits = Limits::default();
    tracing::info!(
        connections = limits.connections_max,
        "connections that senders may have at the same time; it follows the limit of open descriptors"
    );
    // A task of its own, because a start also does what blocks.
    let starting = tokio::spawn(App::start(Options {
        files: args.config.clone(),
        limits,
        compiler: compile::apart(),
        set_aside_damaged: args.set_aside_damaged,
        steps: steps.clone(),
    }));
    let started = tokio::select! {
        started = starting => started.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())),
        () = stop(&mut signals.stop) => {
            // As with a kill, which loses nothing.
            manager.is_left();
            tracing::info!("stopped before the start was complete");
            return ExitCode::SUCCESS;
        }
        () = manager.is_patient(steps.subscribe()) => unreachable!("it has no end"),
        () = says(steps.subscribe(), |step| tracing::info!("starting: {step}")) => unreachable!("it has no end"),
    };
    let app = match started {
        Ok(app) => app,
        Err(error) => {
            complain(error.to_string().trim_end());
            return ExitCode::from(if matches!(error, StartError::Configuration(_)) {
                exit::FAILED
            } else {
                exit::UNREACHABLE
            });
        }
    };
    tracing::info!("configuration in use: {}", app.summary());
    let [ingest, admin] = app.urls();
    if ingest == admin {
        tracing::info!("listening on {ingest}");
    } else {
        tracing::info!("listening for events on {ingest}, for everything else on {admin}");
    }
    manager.is_ready(&app);
    tokio::select! {
        () = stop(&mut signals.stop) => {}
        () = reloads(&app, &mut signals.hangup) => {}
        () = manager.watches(&app) => {}
    }
    manager.is_left();
    tracing::info!("stopping: finishing requests, finishing or parking deliveries in flight");
    if tokio::time::timeout(STOP_MAX, app.stop()).await.is_err() {
        tracing::error!(
            "the stop takes longer than {} s; exiting. What was accepted is safe, and what was delivered meanwhile is delivered once more",
            STOP_MAX.as_secs()
        );
        return ExitCode::from(exit::BROKEN);
    }
    tracing::info!("stopped");
    ExitCode::SUCCESS
}

/// Says what a start is doing whenever a step of it takes long. Nobody waits at a silent terminal for as long as
/// a large plugin compiles.
async fn says(mut steps: watch::Receiver<String>, mut say: impl FnMut(&str)) {
    loop {
        let step = steps.borrow_and_update().clone();
        let mut next = tokio::time::timeout(STEP_LONG, steps.changed()).await;
        if next.is_err() {
            if !step.is_empty() {
                say(&step);
            }
            next = Ok(steps.changed().await);
        }
        if !matches!(next, Ok(Ok(()))) {
            std::future::pending::<()>().await;
        }
    }
}

/// The signals that Weir obeys. One that comes while nobody waits for it is not lost.
struct Signals {
    stop: [Signal; 2],
    hangup: Signal,
}

impl Signals {
    fn catch() -> std::io::Result<Signals> {
        Ok(Signals {
            stop: [
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
            ],
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// Returns when somebody wants Weir to stop.
async fn stop([terminate, interrupt]: &mut [Signal; 2]) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Reloads at each hangup, also at one that came during the start.
async fn reloads(app: &App, hangup: &mut Signal) {
    while hangup.recv().await.is_some() {
        let reload = app.reload();
        // SIGTERM does not wait for it.
        tokio::spawn(async move {
            let view = reload.await;
            if view.success && view.changes.is_empty() {
                tracing::info!("configuration reloaded: nothing has changed");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_step_that_takes_long_is_said_once_and_a_short_one_is_not() {
        let (tell, steps) = watch::channel(String::new());
        let start = async {
            for (step, millis) in [
                ("opening the store", 20),
                ("loading plugin erp (1 of 2)", 5_000),
                ("loading plugin pim (2 of 2)", 999),
                ("starting channels", 1_001),
            ] {
                tell.send_replace(step.to_owned());
                tokio::time::sleep(Duration::from_millis(millis)).await;
            }
        };
        let mut said = Vec::new();
        tokio::select! {
            () = says(steps, |step| said.push(step.to_owned())) => unreachable!("it has no end"),
            () = start => {}
        }
        assert_eq!(said, ["loading plugin erp (1 of 2)", "starting channels"]);
    }
}
