//! `weir demo`: the product-catalog example with simulated systems and a recording target, so that
//! one command shows the whole path.
//!
//! Weir runs here exactly as under `weir run`; the systems and the progress display are clients of
//! its HTTP interface. The expected state, which is compared at the end, is computed without Weir.
//! Everything except the plugins' components goes into a temporary folder.

mod board;
mod events;
mod facts;
mod place;
mod recorder;
mod shown;
mod systems;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::Method;
use tokio_util::sync::CancellationToken;

use self::board::{Board, Channels};
use self::facts::CHANNELS;
use self::recorder::Recorder;
use self::shown::{Compared, Printer, Shown, Started};
use self::systems::Systems;
use super::client::Client;
use super::{DemoArgs, Failure, LogFormat, compile, complain, log};
use crate::app::{App, Options};
use crate::exit;
use crate::server::Limits;

/// Maximum time for the channels to deliver what they owe after the last event.
const SETTLE_MAX: Duration = Duration::from_secs(60);
/// Interval at which their state is polled meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The seconds of each minute during which the French shop is away.
const AWAY: std::ops::Range<u64> = 20..26;
/// Minimum number of seconds that the demo still runs after the shop is back, so that it is seen to
/// catch up.
const AWAY_LEAVES: u64 = 10;
/// Maximum number of differences shown.
const DIFFERENCES_SHOWN: usize = 5;

/// Runs the demo. The exit code is 0 only if every channel holds the expected state at the end.
pub(super) fn demo(args: &DemoArgs) -> ExitCode {
    let filter = std::env::var("WEIR_LOG").unwrap_or_else(|_| "error".to_owned());
    if let Err(error) = log::start(LogFormat::Text, &filter) {
        complain(&format!("weir: WEIR_LOG: {error}"));
        return ExitCode::from(exit::USAGE);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| Failure::Unreachable(format!("cannot start: {error}")));
    match runtime.and_then(|runtime| runtime.block_on(whole(args))) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(exit::FAILED),
        Err(failure) => {
            complain(&format!("weir: {failure}"));
            ExitCode::from(failure.code())
        }
    }
}

/// Runs the whole demo, from building the plugins to the comparison; returns whether all channels
/// converged.
async fn whole(args: &DemoArgs) -> Result<bool, Failure> {
    let cannot =
        |what: &str, error: std::io::Error| Failure::Unreachable(format!("{what}: {error}"));
    let printer = Printer { json: args.json };
    let repository = place::repository().map_err(Failure::Unreachable)?;
    let at = repository.clone();
    let built = tokio::task::spawn_blocking(move || {
        let say = &mut |step: &str| {
            let step = step.to_owned();
            printer.show(&Shown::Building { step });
        };
        place::build(&at, say)
    })
    .await;
    built
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
        .map_err(Failure::Unreachable)?;

    let folder = tempfile::Builder::new()
        .prefix("weir-demo-")
        .tempdir()
        .map_err(|error| cannot("cannot create a temporary folder", error))?;
    let recorder = Recorder::start()
        .await
        .map_err(|error| cannot("cannot start the targets", error))?;
    let address = place::address().map_err(|error| cannot("cannot find a free port", error))?;
    let differences = folder.path().join("demo.toml");
    let written = std::fs::write(
        &differences,
        place::differences(address, &folder.path().join("data"), &recorder.url()),
    );
    written.map_err(|error| cannot("cannot write the configuration", error))?;
    let files = vec![place::configuration(&repository), differences];
    let app = App::start(Options {
        files: files.clone(),
        limits: Limits::default(),
        compiler: compile::apart(),
        set_aside_damaged: false,
        steps: Default::default(),
    })
    .await;
    let app = app.map_err(|error| Failure::Unreachable(error.to_string().trim_end().to_owned()))?;
    printer.show(&Shown::Started(started(&files, &app, &recorder)));

    let verdict = watched(args, printer, &app, &recorder).await;
    app.stop().await;
    verdict
}

/// What runs where.
fn started(files: &[PathBuf], app: &App, recorder: &Recorder) -> Started {
    let weir = format!("http://{}", app.ingest_addr());
    let this = std::env::current_exe().unwrap_or_else(|_| "weir".into());
    let here = std::env::current_dir().unwrap_or_default();
    let command = this.strip_prefix(&here).unwrap_or(&this).display();
    let elsewhere = if app.ingest_addr().port() == 7700 {
        String::new()
    } else {
        format!("WEIR_URL={weir} ")
    };
    let file = files
        .first()
        .map(|file| {
            file.strip_prefix(&here)
                .unwrap_or(file)
                .display()
                .to_string()
        })
        .unwrap_or_default();
    Started {
        weir,
        targets: recorder.url(),
        configuration: file,
        runs: app.summary(),
        channels: CHANNELS,
        products: facts::Facts::new().keys().len(),
        command: format!("{elsewhere}{command}"),
    }
}

/// Shows progress while the systems send, then compares; returns whether all channels converged.
async fn watched(
    args: &DemoArgs,
    printer: Printer,
    app: &App,
    recorder: &Recorder,
) -> Result<bool, Failure> {
    let url = format!("http://{}", app.ingest_addr());
    let client = Client::at(&url, None)?;
    let (systems, stop) = (Systems::new(&url), CancellationToken::new());
    let mut running = tokio::spawn(systems.clone().run(stop.clone()));
    let mut board = Board::new();
    let begun = Instant::now();
    let mut beat = tokio::time::interval_at(
        tokio::time::Instant::now() + Duration::from_secs(1),
        Duration::from_secs(1),
    );
    let mut ended = None;
    for second in 1.. {
        tokio::select! {
            _ = beat.tick() => {}
            result = &mut running => { ended = Some(result); break }
            _ = tokio::signal::ctrl_c() => break,
        }
        let away = AWAY.contains(&(second % 60))
            && args
                .seconds
                .is_none_or(|all| second / 60 * 60 + AWAY.end + AWAY_LEAVES <= all);
        recorder.set_away("storefront.fr", away);
        let channels: Channels = client.get_ok(Method::GET, "/v1/channels").await?.read()?;
        let figures = board.second(second, &systems, recorder, &channels);
        printer.show(&Shown::Second(figures));
        if args.seconds.is_some_and(|all| second >= all) {
            break;
        }
    }
    stop.cancel();
    recorder.set_away("storefront.fr", false);
    let ended = match ended {
        Some(ended) => ended,
        None => running.await,
    };
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
    let sending = begun.elapsed();
    printer.show(&Shown::Settling);
    let quiet = Instant::now();
    let channels = tokio::select! {
        channels = settled(&client) => channels?,
        _ = tokio::signal::ctrl_c() => return Err(Failure::Failed("stopped before the channels had delivered what they owe".into())),
    };
    let summary = board.summary(&systems, recorder, &channels, sending, quiet.elapsed());
    printer.show(&Shown::Summary(summary));
    let compared = compared(&systems, recorder);
    let converged = compared.converged;
    printer.show(&Shown::Compared(compared));
    Ok(converged)
}

/// Waits until no channel owes anything, for at most [`SETTLE_MAX`].
async fn settled(client: &Client) -> Result<Channels, Failure> {
    let until = Instant::now() + SETTLE_MAX;
    loop {
        let channels: Channels = client.get_ok(Method::GET, "/v1/channels").await?.read()?;
        if channels.items.iter().all(board::owes_nothing) || Instant::now() > until {
            return Ok(channels);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Compares every product on every channel with the facts.
fn compared(systems: &Arc<Systems>, recorder: &Recorder) -> Compared {
    let facts = systems.facts();
    let keys = facts.keys();
    let (mut differences, mut older, mut there) = (Vec::new(), 0, 0);
    for channel in CHANNELS {
        let held = recorder.held(channel);
        older += held.older;
        for key in &keys {
            let expected = facts.expected(channel, key, &recorder.url());
            let has = held.entities.get(key).and_then(|(_, body)| body.clone());
            there += usize::from(expected.is_some());
            if expected != has {
                let text = |value: Option<serde_json::Value>| {
                    value.map_or_else(|| "nothing".to_owned(), |value| value.to_string())
                };
                differences.push(format!(
                    "{channel} product/{key}: holds {}, expected {}",
                    text(has),
                    text(expected)
                ));
            }
        }
        let strangers = held.entities.keys().filter(|key| !keys.contains(key));
        differences.extend(
            strangers.map(|key| format!("{channel} product/{key}: no system ever sent it")),
        );
    }
    Compared {
        products: keys.len(),
        channels: CHANNELS.len(),
        expected: there,
        not_expected: keys.len() * CHANNELS.len() - there,
        differences: differences.len(),
        older,
        converged: differences.is_empty() && older == 0,
        first_differences: differences.into_iter().take(DIFFERENCES_SHOWN).collect(),
    }
}
