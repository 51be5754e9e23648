//! Starts that are interrupted: killed at any step in the file system, cut off with the power, with
//! hardly any free disk. The next start has everything that was accepted.
//!
//! A library that is loaded before all others counts the calls that change files, and kills Weir at one
//! of them. A start on a full disk changes nothing, and one with little room serves and accepts nothing.
//! The disks need root and loop mounts; without them that test prints loudly that it did not run.
//!
//! `WEIR_STARTS=1000 cargo test --test journeys starts` kills starts at every single step, and cuts as
//! many.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::disk::{Disk, run};
use crate::support::stage::CATALOG;
use crate::support::weir::PROGRAM;
use crate::support::{Ledger, Stage, change, eventually, repeats};

/// The number of interrupted starts of each kind in a run of all tests.
const STARTS: usize = 12;
/// A start has fewer steps than this.
const STEPS_MAX: usize = 400;
const KEYS: usize = 40;
/// Free disk, in MiB: none, less and more than a start needs, and nearly what Weir keeps free.
const FREE_MIB: [u64; 8] = [0, 1, 8, 15, 17, 24, 40, 63];
/// Free disk that a start needs, in MiB.
const START_MIB: u64 = 16;
const DISK_MIB: u64 = 256;

/// Counts the calls that change files, and ends the process by SIGKILL at the one of this number, or when
/// sled has made the file of a snapshot and has written nothing to it.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static void end(void) { kill(getpid(), SIGKILL); }
static void step(void) {
  static long count;
  const char *at = getenv("END_AT");
  if (at && __sync_add_and_fetch(&count, 1) == atol(at)) end();
}
#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

int rename(const char *from, const char *to) {
  REAL(rename);
  step();
  return real(from, to);
}
int open64(const char *path, int flags, ...) {
  int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, "open64");
  va_list rest;
  va_start(rest, flags);
  mode_t mode = va_arg(rest, mode_t);
  va_end(rest);
  int file = real(path, flags, mode);
  if (getenv("END_AT_SNAPSHOT") && strstr(path, ".generating")) end();
  return file;
}
int unlink(const char *path) { REAL(unlink); step(); return real(path); }
int mkdir(const char *path, mode_t mode) {
  int (*real)(const char *, mode_t) = dlsym(RTLD_NEXT, "mkdir");
  step();
  return real(path, mode);
}
int fsync(int file) { REAL(fsync); step(); return real(file); }
int fdatasync(int file) { REAL(fdatasync); step(); return real(file); }
int ftruncate64(int file, off64_t length) { REAL(ftruncate64); step(); return real(file, length); }
ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t at) {
  REAL(pwrite64);
  step();
  return real(file, bytes, count, at);
}
"#;

/// Builds the library.
fn shim(stage: &Stage) -> PathBuf {
    let (source, library) = (
        stage.place("steps.c", SHIM.as_bytes()),
        stage.folder().join("steps.so"),
    );
    assert!(
        run(Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .arg(&library)
            .arg(source)),
        "no C compiler, although Rust needs one"
    );
    library
}

/// How a start ended.
#[derive(Debug, PartialEq)]
enum Ended {
    Killed,
    /// By itself, with these words.
    Refused(String),
    /// It came to serve, and was killed after that.
    Served,
}

/// Starts Weir with the library and these variables, and returns how it ended.
fn start(stage: &Stage, shim: &Path, variables: &[(&str, &str)]) -> Ended {
    let path = stage.folder().join("start.log");
    let log = File::create(&path).expect("a log file");
    let mut weir = Command::new(PROGRAM)
        .args(["run", "-c", "weir.toml"])
        .current_dir(stage.folder())
        .env("LD_PRELOAD", shim)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a second handle"))
        .stderr(log)
        .spawn()
        .expect("the program starts");
    let said = || std::fs::read_to_string(&path).unwrap_or_default();
    let ended = eventually("the start ends", || {
        match weir.try_wait().expect("a child") {
            Some(status) if status.code().is_some() => Some(Ended::Refused(said())),
            Some(_) => Some(Ended::Killed),
            None => said()
                .contains("listening on http://")
                .then_some(Ended::Served),
        }
    });
    // Unless it has ended already.
    let _ = weir.kill();
    weir.wait().expect("ended");
    ended
}

fn put(stage: &Stage, ledger: &Ledger) {
    for key in (0..KEYS).map(|key| format!("k{key}")) {
        let number = ledger.sends(&key, |_| false);
        let answer = stage.takes("pim", &[change(&key, "content", json!(number))]);
        ledger.accepted(&key, number, answer["sequence"].as_u64().expect("a number"));
    }
}

fn closes(stage: &Stage, ledger: &Ledger, what: &str) {
    stage.settles("shop");
    let closed = ledger.close(stage, "shop", &stage.shop.deliveries());
    let counts = closed.unwrap_or_else(|why| panic!("{what}: {why}"));
    assert_eq!(counts.owed, 0, "{what}: {counts:?}");
}

/// A kill while sled wrote a snapshot left a file, and each later start said that the store was
/// damaged, although nothing was missing.
#[test]
fn a_start_that_was_killed_at_any_step_costs_nothing() {
    let mut stage = Stage::with(CATALOG);
    let (shim, ledger) = (shim(&stage), Ledger::default());
    let store = stage.folder().join("data/store");
    let is_left = || {
        let files = std::fs::read_dir(&store).expect("it can be listed");
        files
            .flatten()
            .any(|file| file.file_name().to_string_lossy().ends_with(".generating"))
    };
    let (starts, mut killed) = (repeats("WEIR_STARTS", STARTS), 0);
    // The first ones early, so that enough are killed however few steps a start has.
    let by_chance = |nth: usize| fastrand::usize(1..(5 * (nth + 1)).min(60));
    let steps: Vec<usize> = match starts < STEPS_MAX {
        true => (0..starts).map(by_chance).collect(),
        false => (1..STEPS_MAX).collect(),
    };
    for step in std::iter::once(None).chain(steps.into_iter().map(Some)) {
        put(&stage, &ledger);
        stage.kill();
        let number = step.map(|step| step.to_string());
        let at = match &number {
            Some(number) => ("END_AT", number.as_str()),
            None => ("END_AT_SNAPSHOT", "1"),
        };
        let ended = start(&stage, &shim, &[at]);
        match (&ended, step) {
            (Ended::Killed, _) => killed += 1,
            (Ended::Served, Some(_)) => {}
            other => panic!("{other:?}"),
        }
        if step.is_none() {
            assert!(is_left(), "a start that is killed there leaves a snapshot");
        }
        stage.start();
        closes(&stage, &ledger, &format!("killed at {at:?}"));
    }
    println!("{killed} starts were killed");
    assert!(
        killed > starts.min(STARTS) / 4,
        "{killed} starts were killed"
    );
}

/// The files of the store, with their bytes.
fn files(stage: &Stage) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = std::fs::read_dir(stage.folder().join("data/store")).expect("it can be listed");
    let mut files: Vec<_> = folder
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), std::fs::read(&path).expect("it can be read")))
        .collect();
    files.sort();
    files
}

/// Fills the disk but for so many MiB.
fn fill(ballast: &Path, free_mib: u64) {
    let file = File::create(ballast).expect("a file");
    let figures = rustix::fs::fstatvfs(&file).expect("figures");
    let free = figures.f_bavail * figures.f_frsize;
    let more = free.saturating_sub(free_mib << 20);
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, more).expect("room");
}

#[test]
fn a_start_with_hardly_any_disk_that_is_killed_or_cut_off_costs_nothing() {
    let mut stage = Stage::closed(CATALOG);
    let Some(disk) = Disk::mount(stage.folder(), DISK_MIB) else {
        return eprintln!(
            "NOT RUN: no root or no loop mounts here; starts on a full disk were not tested"
        );
    };
    let (shim, ledger) = (shim(&stage), Ledger::default());
    let ballast = stage.folder().join("data/ballast");
    stage.start();
    let rounds = repeats("WEIR_STARTS", STARTS).max(FREE_MIB.len());
    for (round, free) in FREE_MIB.into_iter().cycle().take(rounds).enumerate() {
        put(&stage, &ledger);
        stage.kill();
        fill(&ballast, free);
        let before = files(&stage);
        let step = fastrand::usize(1..60).to_string();
        let what = format!("round {round}: {free} MiB free, killed at step {step}");
        let ended = start(&stage, &shim, &[("END_AT", &step)]);
        match ended {
            Ended::Refused(said) => {
                assert!(
                    free < START_MIB && said.contains("opening needs"),
                    "{what}: {said}"
                );
            }
            Ended::Served => assert!(free >= START_MIB, "{what}: it served"),
            Ended::Killed => {}
        }
        if free < START_MIB {
            assert!(files(&stage) == before, "{what}: it has changed files");
        }
        let cut = round % 2 == 0;
        if cut {
            disk.cut();
            disk.unmount();
            assert!(disk.remount(), "the file system does not mount again");
        }
        if free >= START_MIB {
            // After a cut the ballast may not be there.
            fill(&ballast, free);
            // It serves and delivers, and accepts nothing.
            stage.start();
            assert_eq!(stage.weir().get("/readyz").status, 503, "{what}");
            closes(&stage, &ledger, &what);
            stage.kill();
        }
        let _ = std::fs::remove_file(&ballast);
        stage.start();
        closes(&stage, &ledger, &what);
    }
    stage.kill();
}
