//! The plug is pulled: a file system of its own under the store, shut down without writing back what it has in memory.
//!
//! A kill proves nothing about syncing, because the page cache survives it. Here the process is stopped first, then the file system is
//! shut down, then the process is killed; what a new mount shows is what the disk had. A control with the sync taken out must lose
//! something: else the rig would see nothing. It needs root and loop mounts; where they are not to be had it says so loudly.

use std::collections::BTreeMap;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::support::http::Connection;
use crate::support::stage::CATALOG;
use crate::support::weir::PROGRAM;
use crate::support::{Stage, change, eventually};

const CUTS: usize = 12;
/// Without the sync some cut of so many must be noticed.
const CUTS_WITHOUT_SYNC: usize = 5;
const SENDERS: usize = 4;
const KEYS: usize = 5;
/// Longer values are kept in rows of their own.
const PADDING_MAX: usize = 6_000;

/// A file system in a file, mounted where the store will be.
struct Disk {
    image: PathBuf,
    mounted_at: PathBuf,
}

impl Disk {
    /// None where this user or this kernel does not allow it.
    fn mount(folder: &Path) -> Option<Disk> {
        let disk = Disk { image: folder.join("disk.img"), mounted_at: folder.join("data") };
        std::fs::create_dir(&disk.mounted_at).ok()?;
        File::create(&disk.image).ok()?.set_len(600 << 20).ok()?;
        let made = run(Command::new("mkfs.ext4").arg("-q").arg("-F").arg(&disk.image));
        (made && disk.remount()).then_some(disk)
    }

    fn remount(&self) -> bool {
        run(Command::new("mount").arg("-o").arg("loop").arg(&self.image).arg(&self.mounted_at))
    }

    /// Shuts the file system down without writing anything back, as when the power goes.
    fn cut(&self) {
        // EXT4_IOC_SHUTDOWN: _IOR('X', 125, __u32), with EXT4_GOING_FLAGS_NOLOGFLUSH.
        const SHUTDOWN: rustix::ioctl::Opcode = 0x8004_587d;
        const NO_LOG_FLUSH: u32 = 2;
        let folder = File::open(&self.mounted_at).expect("it is mounted");
        // SAFETY: the call reads one u32, which `Setter` passes by reference.
        unsafe { rustix::ioctl::ioctl(&folder, rustix::ioctl::Setter::<SHUTDOWN, u32>::new(NO_LOG_FLUSH)) }.expect("shut down");
    }

    fn unmount(&self) {
        assert!(run(Command::new("umount").arg(&self.mounted_at)), "the dead file system can be unmounted");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // After a failure it may be unmounted already.
        run(Command::new("umount").arg("-l").arg(&self.mounted_at));
    }
}

fn run(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

fn loud() {
    eprintln!("NOT RUN: no root or no loop mounts here; whether a power cut loses anything was not looked at");
}

/// Sends rising values of its own keys until Weir does not answer any more; notes what was accepted.
fn send(stage: &Stage, sender: usize, accepted: &Mutex<BTreeMap<String, u64>>, over: &AtomicBool) {
    let Ok(mut connection) = Connection::open(stage.weir().address()) else { return };
    while !over.load(Ordering::SeqCst) {
        let keys: Vec<String> = (0..KEYS).map(|key| format!("{sender}-{key}")).collect();
        let value = accepted.lock().expect("no panic").get(&keys[0]).map_or(1, |value| value + 1);
        let page = |key: &String| change(key, "content", json!([value, "x".repeat(fastrand::usize(..PADDING_MAX))])).to_string();
        let lines: Vec<String> = keys.iter().map(page).collect();
        let headers = [("content-type", "application/x-ndjson")];
        match connection.exchange("POST", "/v1/sources/pim/events", &headers, lines.join("\n").as_bytes()) {
            Ok(reply) if reply.status == 202 => accepted.lock().expect("no panic").extend(keys.into_iter().map(|key| (key, value))),
            _ => return,
        }
    }
}

/// One cut under load, and a new start; answers what was accepted and is not there.
fn round(stage: &mut Stage, disk: &Disk, accepted: &Mutex<BTreeMap<String, u64>>) -> Vec<String> {
    let over = AtomicBool::new(false);
    let (running, stop) = (&*stage, &over);
    std::thread::scope(|scope| {
        (0..SENDERS).for_each(|sender| drop(scope.spawn(move || send(running, sender, accepted, stop))));
        std::thread::sleep(Duration::from_millis(fastrand::u64(100..800)));
        running.weir().signal(Signal::STOP);
        let stat = format!("/proc/{}/stat", running.weir().pid());
        eventually("the process stands still", || {
            let stat = std::fs::read_to_string(&stat).ok()?;
            stat.rsplit_once(") ")?.1.starts_with('T').then_some(())
        });
        disk.cut();
        over.store(true, Ordering::SeqCst);
        running.weir().signal(Signal::KILL);
    });
    stage.kill();
    disk.unmount();
    assert!(disk.remount(), "the file system recovers by its journal");
    stage.start();
    let behind = |(key, value): (&String, &u64)| {
        let there = stage.entity(key)["facets"][0]["value"][0].as_u64().unwrap_or(0);
        (there < *value).then(|| format!("{key} is {there} and {value} was accepted"))
    };
    accepted.lock().expect("no panic").iter().filter_map(behind).collect()
}

#[test]
fn after_a_power_cut_what_was_accepted_is_there() {
    let mut stage = Stage::closed(CATALOG);
    let Some(disk) = Disk::mount(stage.folder()) else { return loud() };
    let accepted = Mutex::default();
    stage.start();
    for cut in 0..CUTS {
        let lost = round(&mut stage, &disk, &accepted);
        assert!(lost.is_empty(), "cut {cut}: {}", lost.join("; "));
    }
    let accepted = accepted.into_inner().expect("no panic");
    assert_eq!(accepted.len(), SENDERS * KEYS, "every sender got something in");
    println!("{CUTS} cuts, {} values of each key accepted at the most, none lost", accepted.values().max().unwrap_or(&0));
    stage.kill();
}

#[test]
fn a_power_cut_is_noticed_when_the_sync_is_taken_out() {
    let mut stage = Stage::closed(CATALOG);
    let Some(disk) = Disk::mount(stage.folder()) else { return loud() };
    let shim = stage.folder().join("nosync.so");
    let source = stage.place("nosync.c", b"int fdatasync(int descriptor) { (void)descriptor; return 0; }\n");
    assert!(run(Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&shim).arg(source)), "a C compiler is there, as Rust needs one");
    let mut command = Command::new(PROGRAM);
    command.env("LD_PRELOAD", &shim);
    stage.start_by(command);
    let accepted = Mutex::default();
    for cut in 1..=CUTS_WITHOUT_SYNC {
        // A store that does not open is noticed too; the round then ends in a panic.
        let lost = catch_unwind(AssertUnwindSafe(|| round(&mut stage, &disk, &accepted)));
        if !matches!(lost, Ok(lost) if lost.is_empty()) {
            println!("noticed at cut {cut}");
            return;
        }
        stage.kill();
        let mut command = Command::new(PROGRAM);
        command.env("LD_PRELOAD", &shim);
        stage.start_by(command);
    }
    panic!("{CUTS_WITHOUT_SYNC} cuts without the sync lost nothing: the rig sees nothing");
}
