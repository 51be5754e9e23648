//! Tests a disk without a single free byte, because another process was faster than the reserve.
//! The store stops; once there is room again, everything that it had acknowledged is there, and
//! nothing is damaged. The test needs root, to mount a disk in memory; without root it prints that
//! it was not run.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use weir::inside::index::value_hash;
use weir::inside::model::{EntityId, Lane};
use weir::inside::store::embedded::{Embedded, Options};
use weir::inside::store::{Commit, Effect, Error, FacetChange, Store};

use crate::world::folder;

/// A few segments of sled's; with less it does not open.
const DISK_MIB: u32 = 24;

struct Disk<'a>(&'a Path);

impl Disk<'_> {
    fn mount(&self, options: &str) -> bool {
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(self.0)
            .output();
        mount.is_ok_and(|output| output.status.success())
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        // If it is not mounted, the error does not matter.
        let _ = Command::new("umount").arg("-l").arg(self.0).output();
    }
}

fn open(path: &Path) -> Result<Embedded, Error> {
    Embedded::open(Options {
        cache_bytes: 16 << 20,
        disk_reserve_bytes: 0,
        ..Options::new(path)
    })
}

fn put(store: &Embedded, number: usize) -> Result<(), Error> {
    let id = EntityId {
        entity_type: "product".into(),
        key: format!("p{number}").into(),
    };
    let value: Arc<str> = format!("\"{number} {}\"", "x".repeat(3_000)).into();
    let (facet, hash) = ("content".into(), value_hash(&value));
    let change = FacetChange {
        id,
        facet,
        owner: "pim".into(),
        lane: Lane::Normal,
        version: None,
        value: Some(value),
        hash,
    };
    let commit = Commit {
        source: "pim".into(),
        identity: None,
        arrival: None,
        effect: Effect::Changes(vec![change]),
    };
    let receipt = store.commit(vec![commit])?.blocking_recv();
    receipt
        .map_err(|_| Error::Unavailable("nobody answered".into()))?
        .map(|_| ())
}

#[test]
fn without_a_byte_left_the_store_ends_and_what_was_answered_is_there_when_there_is_room_again() {
    let folder = folder();
    let path = folder.path().join("disk");
    std::fs::create_dir(&path).expect("a folder");
    let disk = Disk(&path);
    if !disk.mount(&format!("size={DISK_MIB}m")) {
        return eprintln!(
            "NOT RUN: this test needs root and mounts; the behaviour on a full disk was not tested"
        );
    }
    let store_path = path.join("store");
    let store = open(&store_path).expect("it opens");
    let answered = (0..60_000)
        .find(|number| put(&store, *number).is_err())
        .expect("the disk fills up");
    assert!(answered > 100, "{answered} were answered");
    assert!(
        store.ready().is_err() && put(&store, 0).is_err(),
        "after a write that failed nothing is accepted"
    );
    drop(store);

    assert!(
        disk.mount(&format!("remount,size={}m", 4 * DISK_MIB)),
        "there is room again"
    );
    let store = open(&store_path).expect("it opens again");
    let entities = (0..answered).map(|number| {
        store.find(&EntityId {
            entity_type: "product".into(),
            key: format!("p{number}").into(),
        })
    });
    let ordinals: Vec<_> = entities
        .map(|found| found.expect("what was answered is there"))
        .collect();
    for (number, entity) in store
        .read(&ordinals)
        .expect("all can be read")
        .into_iter()
        .enumerate()
    {
        let value = entity
            .and_then(|entity| entity.facets[0].value.clone())
            .expect("it has a value");
        assert!(
            value.starts_with(&format!("\"{number} ")),
            "{number} is as it was"
        );
    }
    put(&store, answered).expect("it goes on");
    println!(
        "{answered} changes were acknowledged before the disk was full, and all of them are there"
    );
}
