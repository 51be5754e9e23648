//! The behaviour of a channel whose target is a feed: a generation is built when all entities were met, and
//! never of half of them.

use super::*;
use crate::targets::feed::{Feed, Format};

fn setup_at(folder: &std::path::Path, chain: Option<Arc<dyn Render>>) -> Setup {
    let of_feed = targets::feed::Options {
        format: Format::Ndjson,
        fields: Vec::new(),
        interval: Duration::from_millis(10),
        shrink_max: 0.2,
        path: None,
        to: None,
        serve: None,
    };
    let knobs = Knobs {
        options: Options {
            batch: 10,
            ..options()
        },
        chain,
        ..Knobs::default()
    };
    setup_in(
        folder,
        Kind::Feed(Box::new(of_feed)),
        Clock::system(),
        knobs,
    )
}

fn feed(story: &Story) -> Arc<Setup> {
    story.channel.setup()
}

fn of(setup: &Setup) -> &Feed {
    setup.target.feed().expect("a feed")
}

/// What is published: the number of records, and how many of them have this text.
fn published(story: &Story, text: &str) -> Option<(usize, usize)> {
    let setup = feed(story);
    let published = of(&setup).published()?;
    let mut content = vec![0; published.plain.length as usize];
    std::os::unix::fs::FileExt::read_exact_at(&*published.plain.file, &mut content, 0)
        .expect("whole");
    let content = String::from_utf8(content).expect("UTF-8");
    let with = content.lines().filter(|line| line.contains(text)).count();
    Some((content.lines().count(), with))
}

/// Changes twenty prices again and again, until so many records are published.
async fn is_published_while_prices_change(story: &Story, least: usize) {
    let (began, mut price) = (tokio::time::Instant::now(), 1);
    while published(story, "").is_none_or(|(records, _)| records < least) {
        price += 1;
        (0..20).for_each(|at| story.set(&format!("e{at:02}"), "price", &price.to_string()));
        let status = || (story.channel.status(), of(&feed(story)).status());
        assert!(
            began.elapsed() < PATIENCE,
            "nothing is published: {:?}",
            status()
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A renderer that writes a word, and waits at the last entity until it may go on.
struct Waits(&'static str, Arc<tokio::sync::Semaphore>);

impl Render for Waits {
    fn render<'a>(
        &'a self,
        views: Arc<Vec<View>>,
        _: Priority,
        _: &'a Arc<Room>,
    ) -> BoxFuture<'a, Vec<EntityVerdict>> {
        Box::pin(async move {
            if views.iter().any(|view| &*view.id.key == "e99") {
                self.1.acquire().await.expect("it is open").forget();
            }
            let rendering = |view: &View| {
                EntityVerdict::Rendering(Rendering {
                    key: None,
                    content_type: None,
                    body: Payload::Text(format!(
                        "{{\"key\":\"{}\",\"is\":\"{}\"}}",
                        view.id.key, self.0
                    )),
                })
            };
            views.iter().map(rendering).collect()
        })
    }

    fn label(&self) -> Arc<str> {
        self.0.into()
    }
}

// A new renderer was half through the catalogue when the feed was due, and the file had half of the
// products in each form.
#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_in_progress_never_reaches_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Arc::new(Memory::default());
    let nobody = Script::new(|_| Reply::Hang);
    let story = Story::with(store, nobody, setup_at(folder.path(), None)).await;
    (0..100).for_each(|at| story.set(&format!("e{at:02}"), "price", "1"));
    story
        .until("published", |story| {
            published(story, "\"price\":1") == Some((100, 100))
        })
        .await;

    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let chain: Arc<dyn Render> = Arc::new(Waits("new", gate.clone()));
    let replaced = setup_at(folder.path(), Some(chain));
    let mark = feed(&story).target.mark().expect("a mark");
    replaced.target.take_mark(targets::Mark {
        bytes: mark,
        exact: true,
    });
    // It comes between the opening of the new one and the end of the old one.
    story.set("e00", "price", "1.0");
    story.quiet().await;
    story.channel.replace(replaced).await.expect("it can");
    story
        .until("some are there in the new form", |story| {
            // As many as 64 wait together with the last one.
            of(&feed(story)).status().unpublished >= 30
        })
        .await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(
        published(&story, "\"price\":1"),
        Some((100, 100)),
        "all are the old ones"
    );
    let reason = of(&feed(&story)).status().reason.expect("a reason");
    assert!(reason.contains("not met all"), "{reason}");
    gate.add_permits(1_000);
    story
        .until("published", |story| {
            published(story, "\"new\"") == Some((100, 100))
        })
        .await;

    // A resync, in the middle of which one waits.
    story.channel.pause().await.expect("it can");
    story.channel.resync().await.expect("it can");
    story.set("e00", "price", "2");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(published(&story, "\"new\""), Some((100, 100)));
    story.channel.resume().await.expect("it can");
    story.quiet().await;
    story
        .until("published", |story| {
            of(&feed(story)).status().unpublished == 0 && of(&feed(story)).status().reason.is_none()
        })
        .await;
    assert_eq!(published(&story, "\"new\""), Some((100, 100)));
    story.end().await;
}

/// Prices never stand still, so something is always owed: the feed is published all the same.
#[tokio::test(flavor = "multi_thread")]
async fn changes_without_end_do_not_keep_a_feed_from_being_published() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Arc::new(Memory::default());
    let nobody = Script::new(|_| Reply::Hang);
    let story = Story::with(store, nobody, setup_at(folder.path(), None)).await;
    let keeps_time = story.keep_time();
    (0..20).for_each(|at| story.set(&format!("e{at:02}"), "price", "1"));
    is_published_while_prices_change(&story, 20).await;
    keeps_time.abort();
    story.end().await;
}

// Files of a feed beside a new, empty store: everything was owed again, which was nothing, and the feed was never
// told again that all was met.
#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_starts_over_beside_an_empty_store_is_published_all_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Arc::new(Memory::default());
    let nobody = Script::new(|_| Reply::Hang);
    let story = Story::with(store, nobody, setup_at(folder.path(), None)).await;
    let all_met = |story: &Story| {
        let reason = of(&feed(story)).status().reason;
        reason.is_none_or(|reason| !reason.contains("not met all"))
    };
    story.until("nothing is to be met", all_met).await;
    story.channel.resync().await.expect("it can");
    story.until("nothing is to be met again", all_met).await;
    feed(&story).target.start_over();
    story.set("a", "price", "1");
    story
        .until("published", |story| {
            published(story, "\"price\":1") == Some((1, 1))
        })
        .await;
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_only_counts_publishes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Arc::new(Memory::default());
    let nobody = Script::new(|_| Reply::Hang);
    let mut setup = setup_at(folder.path(), None);
    setup.options.deliver = false;
    let story = Story::with(store, nobody, setup).await;
    story.set("a", "price", "1");
    story.quiet().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(published(&story, ""), None);
    let reason = of(&feed(&story)).status().reason.expect("a reason");
    assert!(reason.contains("not met all"), "{reason}");
    story.end().await;
}

// Two products were held by the guard, which is an operator's business and may take days. Prices never stand
// still, so a feed that had started over was not published for as long.
#[tokio::test(flavor = "multi_thread")]
async fn withdrawals_that_are_held_keep_no_feed_from_being_published() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Arc::new(Memory::default());
    let nobody = Script::new(|_| Reply::Hang);
    let chain = Chain("priced", |view: &View| match price(view) {
        "0" => EntityVerdict::Filtered(0),
        price => EntityVerdict::Rendering(Rendering {
            key: None,
            content_type: None,
            body: Payload::Text(format!("{{\"key\":\"{}\",\"price\":{price}}}", view.id.key)),
        }),
    });
    let mut setup = setup_at(folder.path(), Some(Arc::new(chain)));
    (
        setup.options.withdraw_max.share,
        setup.options.withdraw_max.min,
    ) = (0.0, 0);
    let story = Story::with(store, nobody, setup).await;
    let keeps_time = story.keep_time();
    story.set("held", "price", "1");
    let records = |story: &Story| published(story, "").map(|(records, _)| records);
    story
        .until("published", |story| records(story) == Some(1))
        .await;
    story.set("held", "price", "0");
    story
        .until("held", |story| story.channel.status().owed.held == 1)
        .await;
    story.channel.resync().await.expect("it can");
    is_published_while_prices_change(&story, 21).await;
    assert_eq!(story.channel.status().owed.held, 1, "it stays as it is");
    keeps_time.abort();
    story.end().await;
}
