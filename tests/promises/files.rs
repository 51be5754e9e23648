//! The files of the embedded store: what a start finds, what cannot be opened, full disks and syncs that fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use weir::inside::model::{Lane, Timestamp, Track};
use weir::inside::store::{Error, Holds, Queue, Settlement, State, Store, embedded};

use crate::contract::{COMMITTED, change, delivered, event, id, put, subscription, value};
use crate::world::{folder, join, walk};

fn open(path: &std::path::Path) -> Result<embedded::Embedded, Error> {
    embedded::Embedded::open(embedded::Options {
        cache_bytes: 16 << 20,
        ..embedded::Options::new(path)
    })
}

#[test]
fn a_new_start_finds_everything_as_it_was() {
    let folder = folder();
    let store = open(folder.path()).expect("it opens");
    put(&store, "lamp", "price", Some("1"), Some(4));
    let (queue, _) = join(&store, "shop", &subscription(1));
    let mut taken = Vec::new();
    walk(&*queue, Track::Sweep, 10, &mut taken);
    queue.attempt(&[taken[0].ordinal]);
    queue.settle(
        &[delivered(taken[0].ordinal, taken[0].revision)],
        &mut Vec::new(),
    );
    queue.set_paused(true).wait().expect("it is written");
    let before = queue.standing(taken[0].ordinal).expect("it is there");
    for note in [Some(b"old".to_vec()), None, Some(b"150/s".to_vec())] {
        let set = store.set_note("target shop", note.clone()).wait();
        set.expect("it is written");
        assert_eq!(store.note("target shop").expect("it is read"), note);
    }
    for (name, note) in [("mark web", "m"), ("mark website", "s"), ("mark site", "x")] {
        let set = store.set_note(name, Some(note.into())).wait();
        set.expect("it is written");
    }
    let names = |old: &str, new: &str| (old.to_owned(), new.to_owned());
    let renamed = [names("mark web", "mark site"), names("none", "target shop")];
    let renamed = store.rename_notes(&renamed).wait();
    renamed.expect("it is written");
    let marks = |store: &dyn Store| {
        let names = store.notes("mark ").expect("they are read");
        let note = |name: String| {
            let note = store.note(&name).expect("it is read").expect("a note");
            format!("{name} = {}", String::from_utf8_lossy(&note))
        };
        names.into_iter().map(note).collect::<Vec<_>>()
    };
    let moved = ["mark site = m", "mark website = s"];
    assert_eq!(marks(&store), moved);
    store.close().wait().expect("it closes");
    drop((queue, store));

    let store = open(folder.path()).expect("it opens again");
    assert_eq!(marks(&store), moved);
    let (queue, again) = join(&store, "shop", &subscription(1));
    assert_eq!((again.swept, again.paused), (false, true));
    let note = store.note("target shop").expect("it is read");
    assert_eq!(note.as_deref(), Some(&b"150/s"[..]));
    let after = queue.standing(taken[0].ordinal).expect("it is there");
    assert_eq!(
        (after.state, after.holds, after.shape_label),
        (State::Delivered, Holds::Rendering(99), "page 1".to_owned())
    );
    assert_eq!(after.revision, before.revision);
    put(&store, "lamp", "price", Some("2"), Some(5));
    let mut next = Vec::new();
    walk(&*queue, Track::Lane(Lane::Normal), 10, &mut next);
    assert_eq!(next[0].target_key.as_deref(), Some("lamp-key"));
    assert!(
        next[0].revision > before.revision,
        "sequences go on above all that were ever seen"
    );
    assert!(
        join(&store, "shop", &subscription(2)).1.swept,
        "a shape that changed while stopped sweeps"
    );
}

#[test]
fn what_cannot_be_opened_is_said_in_a_sentence() {
    let folder = folder();
    let store = open(folder.path()).expect("it opens");
    let Err(Error::Unavailable(why)) = open(folder.path()) else {
        panic!("two processes must not share a store")
    };
    assert!(why.contains("another process"), "{why}");
    drop(store);

    let (broken, other) = (folder.path().join("broken"), folder.path().join("other"));
    let settings = sled::Config::new().path(&broken).segment_size(1 << 20);
    drop(settings.open().expect("sled opens"));
    let why = open(&broken)
        .err()
        .expect("other settings of sled are refused")
        .to_string();
    assert!(why.contains("broken") && why.len() > 40, "{why}");

    let garbage = folder.path().join("garbage");
    std::fs::create_dir_all(&garbage).expect("a folder");
    let settings = "segment_size: 4194304\nuse_compression: false\nversion: 0.34\nvQ";
    std::fs::write(garbage.join("conf"), settings).expect("a file");
    std::fs::write(garbage.join("db"), vec![7; 9 << 20]).expect("a file");
    let why = open(&garbage).err().expect("garbage is no store");
    assert!(why.to_string().contains("garbage"), "{why}");

    let foreign = sled::Config::new()
        .path(&other)
        .segment_size(4 << 20)
        .open()
        .expect("sled opens");
    foreign.insert("somebody", "else").expect("it is written");
    foreign.flush().expect("it is written");
    drop(foreign);
    let why = open(&other)
        .err()
        .expect("another format is refused")
        .to_string();
    assert!(why.contains("format"), "{why}");
    assert!(open(std::path::Path::new("/proc/weir")).is_err());
}

// A machine lost power while Weir started. From then on every start said that the store was damaged
// and should be restored from a copy, although nothing was missing: sled had been writing a snapshot,
// and took its unfinished file for the newest one.
#[test]
fn a_start_that_was_interrupted_while_it_wrote_a_snapshot_does_not_damage_the_store() {
    let folder = folder();
    let store = open(folder.path()).expect("it opens");
    for number in 0..200 {
        let value = number.to_string();
        put(
            &store,
            &format!("lamp {number}"),
            "price",
            Some(&value),
            None,
        );
    }
    drop(store);
    for leftover in [
        &b""[..],
        b"half of a snapshot, longer than the twelve bytes of its end",
    ] {
        let path = folder.path().join("snap.00000000FFFFFFFF.generating");
        std::fs::write(&path, leftover).expect("it is written");
        let store = open(folder.path()).expect("it opens");
        for number in 0..200 {
            assert!(store.find(&id(&format!("lamp {number}"))).is_some());
        }
        assert!(!path.exists(), "the leftover is gone");
    }
}

// One flipped bit in a file of sled that holds nothing but three settings, which are always the same,
// and every start said that the store was damaged and should be restored from a copy. A start that was
// killed while it wrote this file had the same end.
#[test]
fn a_flipped_bit_in_the_settings_does_not_damage_the_store() {
    let folder = folder();
    let store = open(folder.path()).expect("it opens");
    put(&store, "lamp", "price", Some("1"), None);
    drop(store);
    let path = folder.path().join("conf");
    let right = std::fs::read(&path).expect("sled has written it");
    let flipped = (0..right.len() * 8).step_by(11).map(|bit| {
        let mut wrong = right.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        wrong
    });
    let cut = [1, right.len() / 2, right.len() - 4].map(|end| right[..end].to_vec());
    for wrong in flipped.chain(cut) {
        std::fs::write(&path, &wrong).expect("it is written");
        let store = open(folder.path()).expect("nothing is lost");
        assert!(store.find(&id("lamp")).is_some());
        drop(store);
        assert_eq!(std::fs::read(&path).expect("it is written again"), right);
    }
}

// A start on a full disk ended halfway, and its leftovers kept later starts from succeeding.
#[test]
fn a_start_on_a_full_disk_is_refused_and_changes_nothing() {
    let folder = folder();
    let path = folder.path().join("disk");
    std::fs::create_dir(&path).expect("a folder");
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"])
        .arg(&path)
        .output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        return eprintln!(
            "NOT RUN: no root or no mounts here; a start on a full disk was not tested"
        );
    }
    let refused = open(&path.join("store")).err().map(|why| why.to_string());
    let files =
        |folder: &std::path::Path| std::fs::read_dir(folder).map_or(0, |files| files.count());
    let left = files(&path.join("store"));
    let unmounted = std::process::Command::new("umount")
        .arg("-l")
        .arg(&path)
        .output();
    assert!(unmounted.is_ok());
    let why = refused.expect("a start on a full disk is refused");
    assert!(why.contains("opening needs 16 MiB"), "{why}");
    assert_eq!(left, 0, "nothing was written");
}

#[test]
fn a_full_disk_takes_nothing_and_goes_on_by_itself() {
    let folder = folder();
    let mut options = embedded::Options::new(folder.path());
    options.disk_reserve_bytes = u64::MAX;
    let store = embedded::Embedded::open(options).expect("reading needs no space");
    let answer = store
        .commit(vec![event(vec![change("lamp", "price", Some("1"), None)])])
        .expect("it is looked at");
    let Err(Error::Unavailable(why)) = answer.blocking_recv().expect("it is answered") else {
        panic!("the disk is full")
    };
    assert!(why.contains("disk"), "{why}");
    assert!(store.ready().is_err(), "readiness is red");
    assert_eq!(store.find(&id("lamp")), None);
    drop(store);
    let store = open(folder.path()).expect("it opens");
    assert_eq!(put(&store, "lamp", "price", Some("1"), None), COMMITTED);
}

/// Number of syncs that still succeed before one fails. Only one test uses it.
static SYNCS_LEFT: AtomicI64 = AtomicI64::new(i64::MAX);
static FAILURES_TOLD: AtomicI64 = AtomicI64::new(0);

#[test]
fn whichever_sync_fails_nothing_is_accepted_after_it_and_what_was_answered_is_there() {
    for left in 0..50 {
        let folder = folder();
        let mut options = embedded::Options::new(folder.path());
        options.sync = |file| {
            if SYNCS_LEFT.fetch_sub(1, Ordering::SeqCst) > 0 {
                file.sync_data()
            } else {
                Err(std::io::Error::other("I/O error"))
            }
        };
        options.on_failure = |_| {
            FAILURES_TOLD.fetch_add(1, Ordering::SeqCst);
        };
        SYNCS_LEFT.store(i64::MAX, Ordering::SeqCst);
        let store = embedded::Embedded::open(options).expect("it opens");
        let told = FAILURES_TOLD.load(Ordering::SeqCst);
        SYNCS_LEFT.store(left, Ordering::SeqCst);
        let (mut answered, mut told_delivered) = (Vec::new(), Vec::new());
        let mut joined: Option<Arc<dyn Queue>> = None;
        for n in 0.. {
            assert!(n < 60, "the sync never failed");
            let key = format!("lamp {n}");
            let goes_on = match (n % 5, &joined) {
                (1, None) => store
                    .join("shop", &subscription(1))
                    .wait()
                    .map(|(shop, _)| joined = Some(shop)),
                (3, Some(shop)) => {
                    let mut taken = Vec::new();
                    walk(&**shop, Track::Lane(Lane::Normal), 2, &mut taken);
                    let ends: Vec<Settlement> = taken
                        .iter()
                        .map(|taken| delivered(taken.ordinal, taken.revision))
                        .collect();
                    shop.settle(&ends, &mut Vec::new());
                    told_delivered.extend(ends.into_iter().map(|end| end.ordinal));
                    store.save(Timestamp(0)).wait()
                }
                _ => match store
                    .commit(vec![event(vec![change(&key, "price", Some("1"), None)])])
                    .map(|receipt| receipt.blocking_recv())
                {
                    Ok(Ok(written)) => written.map(|_| answered.push(key)),
                    Ok(Err(_)) => Err(Error::Unavailable("nobody answered: I/O error".into())),
                    Err(not_taken) => Err(not_taken.error),
                },
            };
            if let Err(error) = goes_on {
                assert!(error.to_string().contains("I/O error"), "{error}");
                break;
            }
        }
        assert!(store.ready().is_err(), "readiness is red");
        assert!(
            SYNCS_LEFT.load(Ordering::SeqCst) == -1,
            "a sync that failed is not tried again"
        );
        let again = store.join("shop", &subscription(1)).wait();
        assert!(store.save(Timestamp(0)).wait().is_err() && again.is_err());
        assert!(
            store
                .commit(vec![event(vec![change("vase", "price", Some("1"), None)])])
                .is_err(),
            "nothing is accepted"
        );
        assert_eq!(
            FAILURES_TOLD.load(Ordering::SeqCst) - told,
            1,
            "it is told once"
        );
        let had_joined = joined.is_some();
        drop((joined, again, store));
        let store = open(folder.path()).expect("a new start reads back what is there");
        assert!(
            answered
                .iter()
                .all(|key| value(&store, key, "price").is_some())
        );
        if !had_joined {
            continue;
        }
        let (shop, _) = join(&store, "shop", &subscription(1));
        let mut taken = Vec::new();
        for track in [Track::Sweep, Track::Lane(Lane::Normal)] {
            while walk(&*shop, track, 50, &mut taken) {}
        }
        for key in &answered {
            let ordinal = store.find(&id(key)).expect("it is there");
            let (owed, sent) = (
                taken.iter().any(|taken| taken.ordinal == ordinal),
                told_delivered.contains(&ordinal),
            );
            assert!(
                owed || sent,
                "sync {left}: {key} was never delivered and is owed no more"
            );
        }
    }
}
