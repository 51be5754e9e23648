//! Requests that grow with the backlog: a change on an idle channel is sent at once and alone, and a
//! backlog goes in few and full requests.

use super::*;
use crate::targets::search;

/// An index of a search engine, with the usual size of its requests unless `batch` says otherwise.
fn index(batch: usize, concurrency: usize) -> Knobs {
    Knobs {
        nature: Nature {
            keyed: true,
            batch_max: usize::MAX,
            deletes_alone: false,
            compares: false,
        },
        options: Options {
            batch,
            batch_bytes: search::BATCH.1,
            ..options()
        },
        concurrency,
        ..Knobs::default()
    }
}

/// The target takes as long as a real engine.
fn slowly(_: &Seen) -> Reply {
    Reply::After(Duration::from_millis(200), Box::new(Reply::Status(200)))
}

fn backlog(story: &Story, entities: usize) {
    for number in 0..entities {
        story.set(&format!("e{number}"), "price", "1");
    }
}

/// The number of entities in each request.
fn sizes(story: &Story) -> Vec<usize> {
    let seen = story.script.seen();
    seen.iter().map(|seen| seen.items.len()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_change_of_an_idle_channel_is_sent_alone_and_does_not_wait_for_others() {
    let story = Story::begin(index(10_000, 2), fine).await;
    for number in 1..=3 {
        let began = tokio::time::Instant::now();
        story.set(&format!("e{number}"), "price", "1");
        story
            .until("delivered", |story| story.script.seen().len() == number)
            .await;
        let took = began.elapsed();
        // A commit may be looked at up to 40 ms later, but no time passes to fill the request.
        assert!(took <= Duration::from_millis(50), "{took:?}");
        story.quiet().await;
    }
    assert_eq!(sizes(&story), [1, 1, 1]);
    story.end().await;
}

// Meilisearch makes a task of each request, and works on one at a time: 100,000 products in requests of
// a few dozen kept it busy for an hour. And with room for 1,024 entities in all, a second request held 24.
#[tokio::test(start_paused = true)]
async fn a_backlog_goes_in_full_requests_and_two_of_them_are_in_flight() {
    let story = Story::begin(index(search::BATCH.0, 8), slowly).await;
    story.channel.pause().await.expect("it runs");
    backlog(&story, 4_000);
    story.channel.resume().await.expect("it runs");
    story.quiet_within(Duration::from_secs(60)).await;
    let sizes = sizes(&story);
    assert_eq!(sizes.iter().sum::<usize>(), 4_000);
    // The first goes out before it is full, because the channel does not know how long renderings are.
    assert!(sizes.len() <= 6 && sizes.contains(&1_000), "{sizes:?}");
    assert_eq!(story.script.most_at_once(), 2);
    story.end().await;
}

// A product that somebody waits for came after the thousands that a long request was filled with.
#[tokio::test(start_paused = true)]
async fn what_is_urgent_does_not_wait_until_a_long_request_is_full() {
    let chain: Arc<dyn Render> = Arc::new(Slow);
    let knobs = Knobs {
        chain: Some(chain),
        ..index(10_000, 8)
    };
    let story = Story::begin(knobs, fine).await;
    story.channel.pause().await.expect("it runs");
    backlog(&story, 2_000);
    story.channel.resume().await.expect("it runs");
    tokio::time::sleep(Duration::from_millis(30)).await;
    let began = tokio::time::Instant::now();
    story.set_in(Lane::Urgent, "urgent", "price", "2");
    story
        .until("sent", |story| {
            story.seen().iter().any(|line| line == "urgent=2")
        })
        .await;
    assert!(began.elapsed() <= Duration::from_millis(60));
    story.quiet().await;
    story.end().await;
}

// A request that had all the bytes it may have waited for 200 ms until it had ten thousand entities, which
// it could never have.
#[tokio::test(start_paused = true)]
async fn a_request_that_is_full_by_its_bytes_does_not_wait() {
    let chain: Arc<dyn Render> = Arc::new(Slow);
    let usual = index(10_000, 8);
    let knobs = Knobs {
        chain: Some(chain),
        options: Options {
            batch_bytes: 8 * 1024,
            ..usual.options
        },
        ..index(10_000, 8)
    };
    let story = Story::begin(knobs, fine).await;
    story.channel.pause().await.expect("it runs");
    backlog(&story, 4_000);
    story.channel.resume().await.expect("it runs");
    let began = tokio::time::Instant::now();
    let first = |story: &Story| !story.script.seen().is_empty();
    story.until("sent", first).await;
    assert!(began.elapsed() <= Duration::from_millis(150));
    story.quiet_within(Duration::from_secs(60)).await;
    story.end().await;
}

/// A renderer that takes its time, so that there is always more to come.
struct Slow;

impl Render for Slow {
    fn render<'a>(
        &'a self,
        views: Arc<Vec<View>>,
        _: Priority,
        _: &'a Arc<Room>,
    ) -> BoxFuture<'a, Vec<EntityVerdict>> {
        let made = |view: &View| {
            let price = price(view);
            EntityVerdict::Rendering(Rendering {
                key: None,
                content_type: None,
                body: Payload::Text(format!("{{\"facets\":{{\"price\":{price}}}}}")),
            })
        };
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            views.iter().map(made).collect()
        })
    }

    fn label(&self) -> Arc<str> {
        "slow".into()
    }
}
