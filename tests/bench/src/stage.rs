//! The environment of a measurement: a folder that is removed at the end, and a Weir in it, in this
//! process or as a child process.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::api::Api;
use crate::{folder, unreachable};
use weir::inside::app::{App, Options};
use weir::inside::cli::Failure;
use weir::inside::server::Limits;
use weir::inside::store::Store;

/// Maximum time for a child to become ready.
const UP_MAX: Duration = Duration::from_secs(300);
/// Interval of polling whether a child is ready; it is the resolution of start times.
const UP_LOOK: Duration = Duration::from_millis(5);
/// The log message with which a running Weir reports its address.
const LISTENING: &str = "listening on http://";

/// A Weir in this process.
pub(super) struct Stage {
    runtime: tokio::runtime::Runtime,
    app: App,
    api: Api,
    folder: TempDir,
}

impl Stage {
    /// Starts Weir with this configuration, in a new folder below the given one, or below the
    /// default of [`folder`].
    ///
    /// # Errors
    /// It does not start.
    pub(super) fn start(parent: Option<&Path>, configuration: &Value) -> Result<Stage, Failure> {
        let folder = folder(parent)?;
        let file = folder.path().join("weir.toml");
        write(&file, configuration)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_name("serve")
            .build();
        let runtime = runtime.map_err(|error| unreachable("cannot start", error))?;
        let app = runtime.block_on(App::start(Options {
            files: vec![file],
            limits: Limits::default(),
            compiler: None,
            set_aside_damaged: false,
            steps: Default::default(),
        }));
        let app = app.map_err(|error| unreachable("Weir does not start", error))?;
        let api = Api::at(app.admin_addr())?;
        Ok(Stage {
            runtime,
            app,
            api,
            folder,
        })
    }

    /// The address for events.
    pub(super) fn address(&self) -> SocketAddr {
        self.app.ingest_addr()
    }

    /// Its HTTP interface.
    pub(super) fn api(&self) -> &Api {
        &self.api
    }

    /// Its store.
    pub(super) fn store(&self) -> Arc<dyn Store> {
        self.app.store()
    }

    /// Disk space of its folder, in bytes.
    pub(super) fn disk_bytes(&self) -> u64 {
        disk_bytes(&self.folder.path().join("data").join("store"))
    }

    /// Stops it and removes its folder.
    pub(super) fn stop(self) {
        self.runtime.block_on(self.app.stop());
        drop(self.folder);
    }

    /// The folder that its own is in, as a report shows it.
    pub(super) fn parent(&self) -> String {
        shown_parent(&self.folder)
    }
}

/// A Weir in a child process: this program with the command `run`. It is killed when this is
/// dropped.
pub(super) struct Child {
    folder: TempDir,
    process: Option<std::process::Child>,
    address: SocketAddr,
    api: Api,
    /// Time from the start of the process until it first reported that it is ready.
    pub(super) ready_after: Duration,
}

impl Child {
    /// Starts a child with this configuration, in its own folder.
    ///
    /// # Errors
    /// It does not become ready; with the end of its log.
    pub(super) fn start(parent: Option<&Path>, configuration: &Value) -> Result<Child, Failure> {
        let folder = folder(parent)?;
        write(&folder.path().join("weir.toml"), configuration)?;
        let (process, address, api, ready_after) = spawn(folder.path())?;
        Ok(Child {
            folder,
            process: Some(process),
            address,
            api,
            ready_after,
        })
    }

    /// Kills it, as `kill -9` does.
    pub(super) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // This can only fail if it has ended already.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Starts it again in the same folder, at another address.
    ///
    /// # Errors
    /// As [`Child::start`].
    pub(super) fn start_again(&mut self) -> Result<(), Failure> {
        self.kill();
        let (process, address, api, ready_after) = spawn(self.folder.path())?;
        (self.process, self.address, self.api, self.ready_after) =
            (Some(process), address, api, ready_after);
        Ok(())
    }

    /// Its address.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its HTTP interface.
    pub(super) fn api(&self) -> &Api {
        &self.api
    }

    /// Its process id, as in `/proc`; `None` while it is not running.
    pub(super) fn process(&self) -> Option<String> {
        self.process
            .as_ref()
            .map(|process| process.id().to_string())
    }

    /// Disk space of its folder, in bytes.
    pub(super) fn disk_bytes(&self) -> u64 {
        disk_bytes(&self.folder.path().join("data").join("store"))
    }

    /// The folder that its own is in, as a report shows it.
    pub(super) fn parent(&self) -> String {
        shown_parent(&self.folder)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts this program with `run` in a folder that holds its configuration, and waits until it is
/// ready.
fn spawn(folder: &Path) -> Result<(std::process::Child, SocketAddr, Api, Duration), Failure> {
    let log = folder.join("log");
    let file = File::create(&log).map_err(|error| unreachable("no log for the child", error))?;
    let program = std::env::current_exe()
        .map_err(|error| unreachable("this program cannot be started again", error))?;
    let mut command = Command::new(program);
    command
        .args(["run", "--log", "info", "--log-format", "text", "-c"])
        .arg(folder.join("weir.toml"));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(file);
    let started = Instant::now();
    let mut process = command
        .spawn()
        .map_err(|error| unreachable("no child", error))?;
    let up = come_up(&mut process, &log, started);
    match up {
        Ok((address, api)) => Ok((process, address, api, started.elapsed())),
        Err(failure) => {
            let _ = process.kill();
            let _ = process.wait();
            Err(failure)
        }
    }
}

fn come_up(
    process: &mut std::process::Child,
    log: &Path,
    started: Instant,
) -> Result<(SocketAddr, Api), Failure> {
    let mut listens: Option<(SocketAddr, Api)> = None;
    loop {
        if let Some((address, api)) = listens.take() {
            if api.ready() {
                return Ok((address, api));
            }
            listens = Some((address, api));
        } else if let Some(address) = listening(&fs::read_to_string(log).unwrap_or_default()) {
            listens = Some((address, Api::at(address)?));
            continue;
        }
        let ended = process.try_wait().ok().flatten();
        if ended.is_some() || started.elapsed() > UP_MAX {
            let told = fs::read_to_string(log).unwrap_or_default();
            let end: Vec<&str> = told.lines().rev().take(5).collect();
            return Err(Failure::Unreachable(format!(
                "the child does not become ready: {}",
                end.into_iter().rev().collect::<Vec<_>>().join("\n")
            )));
        }
        std::thread::sleep(UP_LOOK);
    }
}

/// The address that a log reports.
fn listening(log: &str) -> Option<SocketAddr> {
    let rest = &log[log.find(LISTENING)? + LISTENING.len()..];
    rest[..rest.find('\n')?].trim().parse().ok()
}

/// Disk space of the files below a folder, in bytes: their allocated blocks, not their lengths.
fn disk_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = entries.filter_map(|entry| entry.metadata().ok().map(|about| (entry, about)));
    bytes
        .map(|(entry, about)| {
            if about.is_dir() {
                disk_bytes(&entry.path())
            } else {
                about.blocks() * 512
            }
        })
        .sum()
}

fn shown_parent(folder: &TempDir) -> String {
    folder
        .path()
        .parent()
        .unwrap_or(folder.path())
        .display()
        .to_string()
}

fn write(file: &Path, configuration: &Value) -> Result<(), Failure> {
    let text =
        toml::to_string(configuration).map_err(|error| unreachable("no configuration", error))?;
    fs::write(file, text).map_err(|error| unreachable("no configuration", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_the_log_once_its_line_is_whole() {
        let log = "2026-11-23T10:00:00Z  INFO weir::cli::run: listening on http://127.0.0.1:4711\n";
        assert_eq!(listening(log), Some(([127, 0, 0, 1], 4711).into()));
        assert_eq!(listening(&log[..log.len() - 2]), None);
    }
}
