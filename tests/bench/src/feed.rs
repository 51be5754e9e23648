//! `weir-bench feed`: a feed gets 1.5 million records of about 700 bytes and is built whole; then one record
//! in a hundred changes, and it is built again. How long does each take, and how much memory?
//!
//! The feed is delivered to directly, without a store and channels, so that the memory of these is not in
//! the figures. The time of a build begins when the last change is acknowledged and ends when its generation
//! can be fetched.

use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use crate::clock::{Phase, round};
use crate::report::Report;
use crate::{FullArgs, documents, folder, unreachable};
use weir::inside::cli::{CommandResult, Failure};
use weir::inside::model::{EntityId, Payload, Rendering, Sequence, Trace};
use weir::inside::targets::feed::{BATCH, Feed, Field, Format, Options, Xml};
use weir::inside::targets::{Attempt, DeliveryId, Form, Item, Opening, Outcome, Target};

/// Records at full size.
const RECORDS: f64 = 1_500_000.0;
/// One record of so many changes.
const CHANGED: usize = 100;
/// The longest that a build may take.
const PATIENCE: Duration = Duration::from_secs(600);

pub(super) fn run(args: &FullArgs, out: &mut String) -> CommandResult {
    let mut report = Report::new("feed", args.scale);
    let records = args.scaled(RECORDS);
    report.figure("records", records);
    let folder = folder(args.folder.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| unreachable("cannot start", error))?;
    let opening = Opening::empty(folder.path().join("feed"));
    let feed = Feed::open(&options(), &opening);
    let feed = feed.map_err(|error| unreachable("the feed does not open", error))?;
    let before = Phase::start().end(Duration::ZERO).rss_mib;
    let mut measure = |name: &str, keys: Vec<usize>, number: u32| {
        let phase = Phase::start();
        runtime.block_on(deliver(&feed, &keys, number))?;
        let delivered = phase.end(Duration::ZERO);
        let (phase, began) = (Phase::start(), Instant::now());
        runtime.block_on(async { feed.walked(true) });
        let built = until_published(&feed, u64::from(number), began)?;
        runtime.block_on(async { feed.walked(false) });
        let usage = phase.end(Duration::ZERO);
        report.usage(&format!("{name}_build"), &usage);
        report.figure(
            &format!("{name}_deliver_seconds"),
            round(delivered.seconds, 2),
        );
        let aim = if keys.len() == records { 30.0 } else { 10.0 };
        report.at_most(&format!("{name}_build_seconds"), round(built, 2), aim);
        let peak = delivered.rss_peak_mib.max(usage.rss_peak_mib) - before;
        report.at_most(&format!("{name}_memory_mib"), round(peak, 0), 256.0);
        Ok::<(), Failure>(())
    };
    measure("whole", (0..records).collect(), 1)?;
    measure("changed", (0..records).step_by(CHANGED).collect(), 2)?;
    let published = feed.published();
    let published = published.ok_or_else(|| Failure::Failed("nothing is published".into()))?;
    report.figure("bytes", published.plain.length);
    report.figure("gzip_bytes", published.gzip.length);
    report.exactly("records_published", published.records, records as u64);
    report.end(args.common.json, out)
}

fn options() -> Options {
    let field = |name: &str, pointer: &str| Field {
        name: name.to_owned(),
        pointer: pointer.to_owned(),
    };
    Options {
        format: Format::Xml(Box::new(Xml {
            root: vec!["rss".into(), "channel".into()],
            item: "item".into(),
            namespaces: vec![("g".into(), "http://base.google.com/ns/1.0".into())],
            texts: vec![("title".into(), "Shop".into())],
            cdata: Vec::new(),
        })),
        fields: vec![
            field("g:id", "/value/sku"),
            field("g:mpn", "/value/number"),
            field("g:description", "/value/text"),
        ],
        interval: Duration::from_millis(100),
        shrink_max: 0.2,
        path: None,
        to: None,
        serve: None,
    }
}

/// Delivers these records in batches, as a channel does.
async fn deliver(feed: &Feed, keys: &[usize], number: u32) -> Result<(), Failure> {
    for keys in keys.chunks(BATCH.0) {
        let items: Vec<Item> = keys.iter().map(|key| item(*key, number)).collect();
        let attempt = Attempt {
            items: &items,
            form: Form::Batch,
            trace: Trace {
                trace: 1,
                span: 1,
                sampled: true,
            },
            now: SystemTime::now(),
            head: Sequence(u64::from(number)),
            foreign: None,
        };
        let delivery = feed.deliver(attempt).await;
        let wrong = delivery
            .outcomes
            .iter()
            .find(|it| **it != Outcome::Delivered);
        if let Some(wrong) = wrong {
            return Err(Failure::Failed(format!("a delivery fails: {wrong:?}")));
        }
    }
    Ok(())
}

fn item(key: usize, number: u32) -> Item {
    let mut body = Vec::with_capacity(1_024);
    documents::line(&mut body, key, number);
    let key: Arc<str> = format!("{key:08}").into();
    Item {
        id: DeliveryId(1),
        entity: EntityId {
            entity_type: "product".into(),
            key: key.clone(),
        },
        state: u64::from(number),
        sequence: Sequence(u64::from(number)),
        key,
        rendering: Some(Arc::new(Rendering {
            key: None,
            content_type: None,
            body: Payload::from_bytes(body),
        })),
        plugin: None,
    }
}

/// Waits until a generation with this sequence can be fetched; returns the seconds since `began`.
fn until_published(feed: &Feed, sequence: u64, began: Instant) -> Result<f64, Failure> {
    loop {
        let there = feed.published().is_some_and(|it| it.sequence >= sequence);
        if there {
            return Ok(began.elapsed().as_secs_f64());
        }
        if began.elapsed() > PATIENCE {
            let status = feed.status();
            return Err(Failure::Failed(format!("no generation: {status:?}")));
        }
        sleep(Duration::from_millis(5));
    }
}
