//! Stories of the log: what a restart finds, what damage does, and that both kinds behave alike.

use super::*;

fn event(number: u32) -> Bytes {
    Bytes::from(format!(
        "{{\"number\":{number},\"note\":\"{}\"}}",
        "x".repeat(80)
    ))
}

fn events(numbers: std::ops::Range<u32>) -> Vec<Bytes> {
    numbers.map(event).collect()
}

fn all(log: &Log, mut from: u64, bytes: usize) -> Vec<Bytes> {
    let mut found = Vec::new();
    while from < log.end() {
        let entries = log.read(from, bytes);
        from = entries.last().expect("there is more").1;
        found.extend(entries.into_iter().map(|(event, _)| event));
    }
    found
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).expect("it is there").flatten();
    let mut files: Vec<PathBuf> = files.map(|entry| entry.path()).collect();
    files.sort();
    files
}

#[tokio::test]
async fn events_are_read_in_their_order_whatever_a_read_may_take() {
    let folder = tempfile::tempdir().expect("there is room");
    let disk = Log::open(folder.path(), 1 << 20).expect("it opens");
    for log in [disk, Log::in_memory(1 << 20)] {
        for start in (0..90).step_by(3) {
            assert_eq!(log.append(events(start..start + 3)).await, Appended::Done);
        }
        for bytes in [1, 150, 700, 1 << 20] {
            assert_eq!(
                all(&log, log.start(), bytes),
                events(0..90),
                "{bytes} bytes a read"
            );
        }
        let (_, second) = log.read(0, 1)[0];
        assert_eq!(all(&log, second, 500), events(1..90));
    }
}

#[tokio::test]
async fn what_all_have_is_let_go_and_a_log_that_is_full_takes_nothing() {
    let folder = tempfile::tempdir().expect("there is room");
    let disk = Log::open(folder.path(), 3_000).expect("it opens");
    for log in [disk, Log::in_memory(3_000)] {
        while log.append(events(0..2)).await == Appended::Done {}
        let end = log.end();
        assert!((2_500..=3_000).contains(&end), "{end}");
        assert_eq!(log.append(events(0..2)).await, Appended::Full);
        assert_eq!(log.end(), end, "none of it was taken");
        log.forget(end);
        assert!(log.start() > 0);
        assert_eq!(log.append(events(7..9)).await, Appended::Done);
        assert_eq!(all(&log, end, 1 << 20), events(7..9));
    }
    assert!(files(folder.path()).len() < 3, "old segments are gone");
}

#[tokio::test]
async fn a_restart_finds_everything_and_cuts_a_record_that_a_crash_left_half_written() {
    let folder = tempfile::tempdir().expect("there is room");
    let log = Log::open(folder.path(), 1 << 20).expect("it opens");
    for number in 0..40 {
        log.append(events(number..number + 1)).await;
    }
    let end = log.end();
    drop(log);
    let last = files(folder.path()).pop().expect("there is a segment");
    let half = &records(&events(99..100))[..30];
    let write = |bytes: &[u8]| {
        let mut file = OpenOptions::new()
            .append(true)
            .open(&last)
            .expect("it opens");
        file.write_all(bytes).expect("it can be written");
    };
    // Zeros are what some file systems leave of a write that a power cut interrupted.
    for torn in [half, &[0; 64][..]] {
        write(torn);
        let log = Log::open(folder.path(), 1 << 20).expect("it opens");
        assert_eq!(log.end(), end);
        assert_eq!(all(&log, 0, 1 << 20), events(0..40));
    }
    let log = Log::open(folder.path(), 1 << 20).expect("it opens");
    log.append(events(40..41)).await;
    assert_eq!(all(&log, 0, 1 << 20), events(0..41));
}

#[tokio::test]
async fn damage_before_the_end_is_an_error_and_nothing_is_cut() {
    let folder = tempfile::tempdir().expect("there is room");
    let log = Log::open(folder.path(), 1 << 20).expect("it opens");
    for number in 0..40 {
        log.append(events(number..number + 1)).await;
    }
    drop(log);
    let first = &files(folder.path())[0];
    let mut content = fs::read(first).expect("it is there");
    content[500] ^= 1;
    fs::write(first, &content).expect("it can be written");
    let error = Log::open(folder.path(), 1 << 20)
        .err()
        .expect("it is damaged");
    assert!(error.contains("the segment at 0 is damaged"), "{error}");
    assert_eq!(fs::read(first).expect("it is there").len(), content.len());
}
