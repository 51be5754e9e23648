//! A disk that is full: during a build, and while changes come in.

use std::process::Command;

use super::*;

/// A small file system in memory; unmounted when it is dropped.
struct Small(tempfile::TempDir);

impl Small {
    /// `None` if the user or the kernel does not allow it, after a line that says what was not tested.
    fn mount(mebibytes: u64) -> Option<Small> {
        let folder = tempfile::tempdir().expect("a folder");
        let size = format!("size={mebibytes}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(folder.path())
            .output();
        if mounted.is_ok_and(|it| it.status.success()) {
            return Some(Small(folder));
        }
        eprintln!("NOT RUN: mounting needs root; not tested: a feed on a full disk");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Fills it but for some bytes. The file that does so is to be removed.
    fn fill_but(&self, bytes: usize) -> PathBuf {
        let path = self.path().join("ballast");
        let free = rustix::fs::statvfs(self.path()).expect("a file system");
        let free = (free.f_bavail * free.f_frsize) as usize;
        std::fs::write(&path, vec![1; free.saturating_sub(bytes)]).expect("room");
        path
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Nothing else can be done if it fails.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// Long records, so that a few fill a disk.
fn long(key: u64, sequence: u64) -> Item {
    let mut item = item(
        &format!("{}{}", name(key), "x".repeat(2_000)),
        sequence,
        Some(1),
    );
    item.sequence = Sequence(sequence);
    item
}

#[tokio::test]
async fn a_disk_that_is_full_during_a_build_costs_no_generation() {
    let Some(disk) = Small::mount(8) else { return };
    let feed = open(&disk.path().join("feed"), &options());
    let items: Vec<Item> = (0..500).map(|key| long(key, 1)).collect();
    deliver(&feed, &items).await;
    let first = published(&feed).await;
    feed.walked(false);
    let files = |prefix: &str| {
        let files = std::fs::read_dir(disk.path().join("feed")).expect("a folder");
        let names = files
            .flatten()
            .map(|it| it.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with(prefix)).count()
    };
    until("the runs are removed", || {
        (files("run.") == 0).then_some(())
    })
    .await;
    deliver(&feed, &[item("new", 2, Some(2))]).await;
    let ballast = disk.fill_but(400_000);
    feed.walked(true);
    let why = until("a reason", || feed.status().reason).await;
    assert!(why.contains("No space left"), "{why}");
    assert_eq!(
        content(&feed.published().expect("the last one")),
        content(&first)
    );
    feed.walked(false);
    until("removed", || {
        (files("generation.") == 2 && files("index.") == 1).then_some(())
    })
    .await;
    std::fs::remove_file(ballast).expect("removed");
    assert_eq!(published(&feed).await.records, 501);
}

#[tokio::test]
async fn a_disk_that_is_full_while_changes_come_in_loses_none_that_was_acknowledged() {
    let Some(disk) = Small::mount(8) else { return };
    let feed = open(&disk.path().join("feed"), &options());
    assert_eq!(
        deliver(&feed, &[item("first", 1, Some(1))]).await,
        [Outcome::Delivered]
    );
    let ballast = disk.fill_but(300_000);
    let mut acknowledged = Vec::new();
    let tripped = loop {
        let key = acknowledged.len() as u64;
        assert!(key < 1_000, "it is never full");
        match deliver(&feed, &[long(key, 2)]).await.pop() {
            Some(Outcome::Delivered) => acknowledged.push(long(key, 2).key),
            other => break other,
        }
    };
    assert!(
        matches!(&tripped, Some(Outcome::Trip { reason }) if reason.contains("No space left")),
        "{tripped:?}"
    );
    assert!(acknowledged.len() > 50);
    // A process that dies now has them all.
    let mark = marked(&feed, false);
    std::fs::remove_file(ballast).expect("removed");
    drop(feed);
    let feed = open(&disk.path().join("feed"), &options());
    feed.take_mark(mark);
    assert_eq!(
        deliver(&feed, &[item("last", 3, Some(1))]).await,
        [Outcome::Delivered]
    );
    let last = published(&feed).await;
    let all = records(&content(&last));
    let missing = acknowledged.iter().find(|key| !all.contains_key(&***key));
    assert_eq!(missing, None);
    assert!(all.contains_key("first") && all.contains_key("last"));
}

#[tokio::test]
async fn a_path_on_a_full_disk_keeps_its_last_file_and_gets_the_newest_when_there_is_room() {
    let Some(disk) = Small::mount(8) else { return };
    let own = tempfile::tempdir().expect("a folder");
    let path = disk.path().join("feed.csv");
    let options = Options {
        path: Some(path.clone()),
        ..options()
    };
    let feed = open(own.path(), &options);
    let items: Vec<Item> = (0..500).map(|key| long(key, 1)).collect();
    deliver(&feed, &items).await;
    let first = published(&feed).await;
    let first = content(&first);
    let read = || std::fs::read_to_string(&path).expect("the file");
    assert!(read() == first);
    let ballast = disk.fill_but(400_000);
    deliver(&feed, &[item("new", 2, Some(2))]).await;
    let why = until("a reason", || feed.status().reason).await;
    assert!(why.contains("its path is not up to date"), "{why}");
    assert!(why.contains("No space left"), "{why}");
    assert!(read() == first, "whoever reads it there gets a whole one");
    // Whoever fetches it gets the new one.
    let second = feed.published().expect("a generation");
    assert_eq!(second.records, 501);
    let names = std::fs::read_dir(disk.path()).expect("a folder").count();
    assert_eq!(names, 3, "nothing is left of what could not be written");
    std::fs::remove_file(ballast).expect("removed");
    published(&feed).await;
    assert!(read() == content(&second), "the newest is there");
}
