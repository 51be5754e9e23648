//! The output of `weir tap`, its questions and its ends.

use std::sync::Arc;

use clap::Parser;

use super::*;
use crate::plan::Role;
use crate::server::fake::{Fake, start, token};
use crate::server::{Limits, Server};
use crate::tap::story::{
    AnswerStory, BodyStory, ChangeStory, PluginStory, ReceivedStory, RequestStory, SentStory,
    StoreStory, Story, WhyStory,
};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: TapArgs,
}

fn args(server: &Server, arguments: &[&str]) -> TapArgs {
    let url = format!("http://{}", server.ingest_addr());
    let all = [&["tap"], arguments, &["--url", &url]].concat();
    Line::try_parse_from(all)
        .unwrap_or_else(|error| panic!("{error}"))
        .args
}

/// A server whose taps end after a moment.
async fn running(fake: &Arc<Fake>) -> Server {
    let limits = Limits {
        tap_time: Duration::from_millis(500),
        beat_time: Duration::from_millis(50),
        ..Limits::default()
    };
    start(fake, limits).await
}

fn body(text: &str) -> BodyStory {
    BodyStory {
        content_type: Some("application/json".into()),
        bytes: text.len() as u64,
        text: Some(text.into()),
        ..BodyStory::default()
    }
}

fn event_story() -> EventStory {
    EventStory {
        time: "2026-11-18T11:06:40.120Z".into(),
        outcome: "changed".into(),
        event: Some(ReceivedStory {
            id: "e-1".into(),
            event_type: "product.changed".into(),
            attributes: vec![("x-shop".into(), "de".into())],
            data: body("{\"sku\": 4711}"),
            ..ReceivedStory::default()
        }),
        plugins: vec![PluginStory {
            plugin: "erp@3fa9c1b2d0e4".into(),
            role: "mapper".into(),
            verdict: "mapped".into(),
            log: vec!["info: one\u{1b}[2Jline".into()],
        }],
        changes: vec![ChangeStory {
            entity_type: "product".into(),
            key: "47\n11".into(),
            facet: "stock".into(),
            lane: "urgent".into(),
            version: Some("7".into()),
            value: Some(body("5")),
        }],
        store: Some(StoreStory {
            committed: 1,
            sequence: "42".into(),
            ..StoreStory::default()
        }),
        ..EventStory::default()
    }
}

fn delivery_story() -> DeliveryStory {
    DeliveryStory {
        time: "2026-11-18T11:06:40.120Z".into(),
        outcome: "refused".into(),
        why: Some(WhyStory::new("refused", "no such category")),
        entity_type: "product".into(),
        key: "4711".into(),
        sequence: "42".into(),
        lane: "normal".into(),
        age_ms: Some(250),
        rendering: Some(body("{\n  \"sku\": 4711\n}")),
        requests: vec![RequestStory {
            items: 1,
            took_ms: 12,
            sent: Some(SentStory {
                method: "PUT".into(),
                url: "http://shop/p/4711?token=[secret]".into(),
                headers: vec![("authorization".into(), "[secret]".into())],
                bytes: 17,
            }),
            answer: Some(AnswerStory {
                status: 422,
                headers: vec![("x-request-id".into(), "r1".into())],
                body: body("no such\u{202e} category"),
            }),
            error: None,
        }],
        ..DeliveryStory::default()
    }
}

#[test]
fn an_event_is_a_block_that_nobody_can_forge() {
    let expected = "\
11:06:40.120Z  changed      product.changed  e-1
  data      13 bytes  application/json  {\"sku\": 4711}
  plugin    erp@3fa9c1b2d0e4  mapper  mapped
      info: one\\u001b[2Jline
  change  product/47\\n11 stock version 7 (urgent)  1 byte  application/json  5
  store     1 committed; sequence 42
";
    assert_eq!(block::event(&event_story(), false), expected);
}

#[test]
fn a_delivery_is_told_with_headers_and_lines_if_all_is_wanted() {
    let short = "\
11:06:40.120Z  refused      product/4711  normal  sequence 42  0.25 s after the change
  why       refused: no such category
  rendered  17 bytes  application/json  {\\n  \"sku\": 4711\\n}
  request   PUT http://shop/p/4711?token=[secret]  17 bytes
  answer    422 in 12 ms  19 bytes  application/json  no such\\u202e category
";
    assert_eq!(block::delivery(&delivery_story(), false), short);
    let full = "\
11:06:40.120Z  refused      product/4711  normal  sequence 42  0.25 s after the change
  why       refused: no such category
  rendered  17 bytes  application/json
      {
        \"sku\": 4711
      }
  request   PUT http://shop/p/4711?token=[secret]  17 bytes
      authorization: [secret]
  answer    422 in 12 ms  19 bytes  application/json
      no such\\u202e category
      x-request-id: r1
";
    assert_eq!(block::delivery(&delivery_story(), true), full);
}

/// Offers stories as long as a tap is open.
fn passing(fake: &Arc<Fake>) -> tokio::task::JoinHandle<()> {
    let fake = fake.clone();
    tokio::spawn(async move {
        use crate::tap::Side;
        loop {
            let of = |side, name: &str| fake.points.of(side, &name.into()).open();
            if let Some(open) = of(Side::Source, "erp") {
                open.offer(
                    "changed",
                    |_| true,
                    |_| Story::Event(Box::new(event_story())),
                );
            }
            if let Some(open) = of(Side::Channel, "storefront.de") {
                let story = |_| Story::Delivery(Box::new(delivery_story()));
                open.offer("refused", |_| true, story);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
}

#[tokio::test]
async fn a_tap_shows_items_and_what_is_left_out_until_its_time_is_over() {
    let fake = Arc::new(Fake::default());
    let server = running(&fake).await;
    let passing = passing(&fake);
    let mut out = Vec::new();
    let ended = run(args(&server, &["erp", "--sample", "2"]), &mut out).await;
    assert!(matches!(ended, Ok(true)), "{ended:?}");
    let text = String::from_utf8(out).expect("text");
    assert!(
        text.starts_with("11:06:40.120Z  changed      product.changed"),
        "{text}"
    );
    let mut out = Vec::new();
    let ended = run(args(&server, &["storefront.de", "--json"]), &mut out).await;
    assert!(matches!(ended, Ok(true)), "{ended:?}");
    let text = String::from_utf8(out).expect("text");
    let first: Value = serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
    assert_eq!(
        (&first["key"], &first["outcome"]),
        (&json!("4711"), &json!("refused"))
    );
    assert!(
        text.lines()
            .all(|line| serde_json::from_str::<Value>(line).is_ok()),
        "{text}"
    );
    passing.abort();
}

#[tokio::test]
async fn what_cannot_be_tapped_is_said() {
    let fake = Arc::new(Fake::default());
    let server = running(&fake).await;
    for (arguments, code, words) in [
        (&["nope"][..], 1, "there is no source and no channel `nope`"),
        (&["nope", "--channel"], 1, "no channel"),
        (&["erp", "--outcome", "delivered"], 1, "`quarantined`"),
        (&["erp", "--sample", "1000"], 1, "from 1 to 100"),
    ] {
        let failure = run(args(&server, arguments), &mut Vec::new()).await;
        let failure = failure.expect_err("it cannot be tapped");
        assert_eq!(failure.code(), code, "{failure}");
        assert!(failure.to_string().contains(words), "{failure}");
    }
    *fake.tokens.lock().unwrap() = vec![token(Role::Read)];
    let failure = run(args(&server, &["erp"]), &mut Vec::new())
        .await
        .expect_err("no token");
    assert!(failure.to_string().contains("WEIR_TOKEN"), "{failure}");
}

/// A reader that goes away after the first item.
struct Gone;

impl Write for Gone {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_reader_that_has_gone_is_no_error() {
    let fake = Arc::new(Fake::default());
    let server = start(&fake, Limits::default()).await;
    let passing = passing(&fake);
    let ended = run(args(&server, &["erp"]), &mut Gone).await;
    assert!(matches!(ended, Ok(true)), "{ended:?}");
    passing.abort();
}

// Whoever watches a restart sees what comes after it.
#[tokio::test]
async fn a_lost_connection_is_made_again() {
    let fake = Arc::new(Fake::default());
    let first = start(&fake, Limits::default()).await;
    let address = first.ingest_addr();
    let passing = passing(&fake);
    let args = args(&first, &["erp", "--sample", "100", "--json"]);
    let restarted = fake.clone();
    let restart = async move {
        while restarted
            .points
            .of(crate::tap::Side::Source, &"erp".into())
            .open()
            .is_none()
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        first.stop(Duration::ZERO).await;
        let limits = Limits {
            tap_time: Duration::from_millis(500),
            ..Limits::default()
        };
        Server::start(address, None, limits, restarted)
            .await
            .expect("the same port")
    };
    let mut out = Vec::new();
    let (ended, _second) = tokio::join!(run(args, &mut out), restart);
    assert!(matches!(ended, Ok(true)), "{ended:?}");
    assert!(!out.is_empty());
    passing.abort();
}
