//! Large objects: equal parts, nothing to be seen before the whole, and nothing left of what failed.

use super::*;

/// Waits until no upload is unfinished, and none is remembered as such.
async fn until_aborted(fake: &Fake, memory: &Remembered) {
    let began = std::time::Instant::now();
    while !fake.with(|state| state.uploads.is_empty()) || !lock(&memory.0).is_empty() {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "it is not aborted"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_large_file_goes_in_equal_parts_and_appears_when_it_is_whole() {
    let fake = Fake::start().await;
    let memory = Arc::new(Remembered::default());
    let store = Store::open(&place(&fake.url()), memory.clone()).expect("it opens");
    let body = large(20 * 1024 * 1024);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("all.xml");
    std::fs::write(&file, &body).expect("it is written");
    let (file, bytes) = (
        std::fs::File::open(&file).expect("it opens"),
        body.len() as u64,
    );
    let put = store.put_file(object(), Arc::new(file), bytes).await;
    assert_eq!(put, Outcome::Delivered);
    let kept = fake.with(|state| state.objects["feeds/all.xml"].clone());
    assert!(kept.body == body, "the bytes are those of the file");
    assert_eq!(kept.headers["content-type"], "application/xml");
    assert_eq!(kept.headers["x-amz-meta-weir-digest"], "d1");
    let asked = fake.fixture.asked();
    let part = |number: u32| {
        let wanted = format!("partNumber={number}&");
        asked
            .iter()
            .find(|asked| asked.path.contains(&wanted))
            .map(|asked| asked.body.len())
    };
    let sizes = [part(1), part(2), part(3)];
    assert_eq!(sizes, [Some(8 << 20), Some(8 << 20), Some(4 << 20)]);
    assert!(lock(&memory.0).is_empty(), "nothing is left to abort");
}

#[tokio::test]
async fn an_upload_that_fails_leaves_nothing_behind_and_is_not_published() {
    let fake = Fake::start().await;
    let memory = Arc::new(Remembered::default());
    let store = Store::open(&place(&fake.url()), memory.clone()).expect("it opens");
    let body = large(17 * 1024 * 1024);
    fake.with(|state| state.faults.push_back(Fault::Error(503, "SlowDown")));
    says(&store.put(object(), body.clone()).await, "Throttled");
    // A success with an error in it, of a kind that nobody expects, and one that breaks off.
    for reply in [
        error(200, "InternalError"),
        error(200, "SomethingNew"),
        Reply::Body(200, "  \n".into()),
        Reply::Half(200),
    ] {
        fake.with(|state| state.completions.push_back(reply));
        says(
            &store.put(object(), body.clone()).await,
            "maybe_applied: true",
        );
    }
    assert!(fake.with(|state| state.objects.is_empty() && state.uploads.is_empty()));
    assert!(lock(&memory.0).is_empty());
}

// The store was too busy to remove the parts, and they stayed until a restart.
#[tokio::test]
async fn parts_that_could_not_be_removed_are_removed_with_the_next_large_object() {
    let fake = Fake::start().await;
    let memory = Arc::new(Remembered::default());
    let store = Store::open(&place(&fake.url()), memory.clone()).expect("it opens");
    let body = large(17 * 1024 * 1024);
    fake.with(|state| {
        state.keeps_uploads = true;
        state.faults.push_back(Fault::Error(503, "SlowDown"));
    });
    says(&store.put(object(), body.clone()).await, "Throttled");
    assert_eq!(fake.with(|state| state.uploads.len()), 1);
    fake.with(|state| state.keeps_uploads = false);
    assert_eq!(store.put(object(), body).await, Outcome::Delivered);
    until_aborted(&fake, &memory).await;
}

#[tokio::test]
async fn an_upload_that_a_crash_has_left_is_aborted_at_the_next_start() {
    let fake = Fake::start().await;
    let memory = Arc::new(Remembered::default());
    {
        // The store stops to answer in the middle, and then Weir is gone.
        let runtime = std::thread::spawn({
            let (url, memory) = (fake.url(), memory.clone());
            fake.with(|state| state.completions.push_back(Reply::Hang));
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime");
                runtime.block_on(async {
                    let store = Store::open(&place(&url), memory).expect("it opens");
                    let put = store.put(object(), large(17 * 1024 * 1024));
                    let _ = tokio::time::timeout(Duration::from_millis(400), put).await;
                });
                runtime.shutdown_background();
            }
        });
        tokio::task::spawn_blocking(|| runtime.join())
            .await
            .expect("it ran")
            .expect("it ran");
    }
    if fake.with(|state| state.uploads.is_empty()) {
        // It was aborted while it was given up, which is as good.
        return;
    }
    assert!(lock(&memory.0).contains_key("uploads"));
    let _store = Store::open(&place(&fake.url()), memory.clone()).expect("it opens");
    until_aborted(&fake, &memory).await;
}

/// 300 MB at 20 Mbit/s take two minutes: a transfer ends when nothing moves, and not after the timeout.
#[tokio::test]
async fn a_slow_transfer_is_not_a_dead_one_and_a_dead_one_ends() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    let reader = tokio::spawn(async move {
        for stalls in [false, true] {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut read = 0;
            let mut piece = vec![0; 256 * 1024];
            while read < 16 << 20 {
                let got = stream.read(&mut piece).await.expect("bytes");
                if got == 0 {
                    break;
                }
                read += got;
                if stalls && read > 1 << 20 {
                    // It keeps the connection, and reads no more.
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(Duration::from_millis(60)).await;
            }
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\netag: \"1\"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                .await;
        }
    });
    let slow = Place {
        timeout: Duration::from_secs(3),
        ..place(&format!("http://{address}"))
    };
    let store = Store::open(&slow, opening().memory).expect("it opens");
    let began = std::time::Instant::now();
    let whole = large(16 << 20);
    assert_eq!(store.put(object(), whole.clone()).await, Outcome::Delivered);
    assert!(
        began.elapsed() > slow.timeout,
        "it took only {:?}",
        began.elapsed()
    );
    let dead = tokio::time::timeout(Duration::from_secs(60), store.put(object(), whole));
    let outcome = dead.await.expect("it ends although the reader never does");
    says(&outcome, "maybe_applied: true");
    reader.abort();
}
