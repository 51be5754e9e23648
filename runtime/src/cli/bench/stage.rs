//! A Weir in this process, in a folder of its own that is removed again, and waiting for it with an end.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::Method;
use serde_json::Value;
use tempfile::TempDir;

use super::progress::Progress;
use super::recorder::Recorder;
use super::{folder, unreachable};
use crate::app::{App, Options};
use crate::cli::Failure;
use crate::cli::client::{Client, path};
use crate::server::Limits;
use crate::server::views::{ChannelView, List};
use crate::store::Store;

/// When nothing has arrived for so long, it will not.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How often something that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// A running Weir.
pub(super) struct Stage {
    runtime: tokio::runtime::Runtime,
    app: App,
    client: Client,
    folder: TempDir,
}

impl Stage {
    /// Starts it with that configuration, below the folder given or where [`folder`] puts it.
    ///
    /// # Errors
    /// When it does not start.
    pub(super) fn start(parent: Option<&Path>, configuration: &Value) -> Result<Stage, Failure> {
        let folder = folder(parent)?;
        let file = folder.path().join("weir.toml");
        write(&file, configuration)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("serve").build();
        let runtime = runtime.map_err(|error| unreachable("cannot start", error))?;
        let app = runtime.block_on(App::start(Options { files: vec![file], limits: Limits::default() }));
        let app = app.map_err(|error| unreachable("Weir does not start", error))?;
        let client = Client::at(&format!("http://{}", app.admin_addr()), None)?;
        Ok(Stage { runtime, app, client, folder })
    }

    /// Where events are taken in.
    pub(super) fn address(&self) -> SocketAddr {
        self.app.ingest_addr()
    }

    /// Its store.
    pub(super) fn store(&self) -> Arc<dyn Store> {
        self.app.store()
    }

    /// How its channels stand.
    pub(super) fn channels(&self) -> Result<Vec<ChannelView>, Failure> {
        let list: List<ChannelView> = self.runtime.block_on(self.client.list("/v1/channels", &[], usize::MAX))?;
        Ok(list.items)
    }

    /// Pauses, resumes, … every channel.
    pub(super) fn operate(&self, operation: &str) -> Result<(), Failure> {
        for channel in self.channels()? {
            let route = path(&["v1", "channels", &channel.name, operation]);
            self.runtime.block_on(self.client.ask(Method::POST, &route))?;
        }
        Ok(())
    }

    /// How many flights of all channels have ended that way since the start.
    pub(super) fn counted(&self, way: &str) -> Result<u64, Failure> {
        Ok(self.channels()?.iter().filter_map(|channel| channel.deliveries.get(way)).sum())
    }

    /// Waits until each of the recorder's targets holds what is expected, and looks at each of them.
    ///
    /// # Errors
    /// When nothing has come nearer for [`PATIENCE`], or what came is not what Weir says that it sent.
    pub(super) fn converge(&self, recorder: &Recorder, progress: &Progress) -> Result<(), Failure> {
        let held = recorder.held();
        let pairs = held.pairs();
        advance(|| held.reached().min(pairs), pairs, progress).map_err(|reached| {
            let standing = self.standing();
            Failure::No(format!("does not converge: {reached} of {pairs} pairs of target and product are as expected; {standing}"))
        })?;
        match held.missing() {
            0 => Ok(()),
            missing => Err(Failure::No(format!("{missing} pairs of target and product are not as expected, though they were counted"))),
        }
    }

    /// Waits until no channel has anything in flight or before it, and checks that the recorder's count and Weir's agree.
    ///
    /// # Errors
    /// When they do not come to rest within [`PATIENCE`], or do not agree.
    pub(super) fn rest(&self, recorder: &Recorder) -> Result<Vec<ChannelView>, Failure> {
        let until = Instant::now() + PATIENCE;
        loop {
            let channels = self.channels()?;
            let at_rest = |channel: &ChannelView| {
                let owed = channel.owed;
                channel.in_flight + channel.parked + owed.urgent + owed.normal + owed.bulk + owed.sweep == 0
            };
            if channels.iter().all(at_rest) {
                let held = recorder.held();
                let told: u64 = channels.iter().filter_map(|channel| channel.deliveries.get("delivered")).sum();
                let (got, strange) = (held.delivered(), held.strange());
                if strange > 0 || told != got {
                    return Err(Failure::No(format!("Weir delivered {told}, the targets got {got}, and did not understand {strange}")));
                }
                return Ok(channels);
            }
            if Instant::now() > until {
                return Err(Failure::No(format!("the channels do not come to rest within {} s: {}", PATIENCE.as_secs(), self.standing())));
            }
            std::thread::sleep(LOOK * 5);
        }
    }

    /// How the channels stand, in a sentence for whoever looks for what went wrong.
    fn standing(&self) -> String {
        let Ok(channels) = self.channels() else { return "and Weir does not answer".to_owned() };
        let of = |channel: &ChannelView| {
            let ChannelView { name, state, owed, in_flight, parked, refused, reason, .. } = channel;
            let reason = reason.as_deref().unwrap_or_default();
            format!("{name} {state} {reason} owed {owed:?} in flight {in_flight} parked {parked} refused {refused}")
        };
        channels.iter().map(of).collect::<Vec<_>>().join("; ")
    }

    /// Stops it; its folder goes with it.
    pub(super) fn stop(self) {
        self.runtime.block_on(self.app.stop());
        drop(self.folder);
    }

    /// The folder that its own is in, as a report shows it.
    pub(super) fn parent(&self) -> String {
        self.folder.path().parent().unwrap_or(self.folder.path()).display().to_string()
    }
}

/// Waits until a figure that only rises is there.
///
/// # Errors
/// Where it stayed, if it has not risen for [`PATIENCE`].
pub(super) fn advance(now: impl Fn() -> u64, goal: u64, progress: &Progress) -> Result<(), u64> {
    let (mut best, mut since) = (0, Instant::now());
    loop {
        let figure = now();
        progress.mark().at(figure);
        if figure >= goal {
            return Ok(());
        }
        if figure > best {
            (best, since) = (figure, Instant::now());
        } else if since.elapsed() > PATIENCE {
            return Err(figure);
        }
        std::thread::sleep(LOOK);
    }
}

/// Writes a configuration.
pub(super) fn write(file: &Path, configuration: &Value) -> Result<(), Failure> {
    let text = toml::to_string(configuration).map_err(|error| unreachable("no configuration", error))?;
    fs::write(file, text).map_err(|error| unreachable("no configuration", error))
}
