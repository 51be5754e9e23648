//! What taps on a channel are told.

use super::*;
use crate::happenings::Happenings;
use crate::model::Failure;
use crate::signature::Secret;
use crate::tap::story::{DELIVERY_OUTCOMES, DeliveryStory, Story as Told};
use crate::tap::{Listener, Side, Wanted};
use crate::targets::fixture::{self, Fixture};
use crate::targets::http::{self, Address, Auth};
use crate::targets::webhook;

/// A setup whose channel can be tapped, and a tap that takes everything.
fn tapped(setup: Setup) -> (Setup, Listener) {
    let happenings: Arc<Happenings> = Arc::default();
    let recorder = happenings.recorder(Side::Channel, &"shop".into());
    let point = happenings.point(Side::Channel, &"shop".into());
    let wanted = Wanted {
        per_second: 1_000,
        full: true,
        ..Wanted::default()
    };
    let listener = point.listen(wanted);
    let setup = Setup { recorder, ..setup };
    (setup, listener)
}

fn told(listener: &Listener) -> Vec<DeliveryStory> {
    let stories = std::iter::from_fn(|| listener.next());
    let delivery = |(_, story): (u64, Told)| match story {
        Told::Delivery(story) => *story,
        Told::Event(event) => panic!("a channel has no events: {event:?}"),
    };
    stories.map(delivery).collect()
}

#[test]
fn the_words_for_outcomes_are_those_of_metrics() {
    let words = status::DeliveryResult::ALL.map(status::DeliveryResult::name);
    assert_eq!(words, DELIVERY_OUTCOMES);
}

#[tokio::test(start_paused = true)]
async fn each_result_is_told_with_what_led_to_it() {
    let chain = Chain("shop@1", |view: &View| match price(view) {
        "2" => EntityVerdict::Filtered(0),
        "3" => EntityVerdict::NotRendered,
        "4" => EntityVerdict::Failed(crate::plugin::Failed {
            plugin: "shop@1".into(),
            failure: Failure::new("trap", "it divided by zero"),
            fault: true,
        }),
        price => EntityVerdict::Rendering(Rendering {
            key: None,
            content_type: None,
            body: Payload::Text(format!("{{\"facets\":{{\"price\":{price}}}}}")),
        }),
    });
    let knobs = Knobs {
        chain: Some(Arc::new(chain)),
        ..Knobs::default()
    };
    let busy = AtomicBool::new(true);
    let script = Script::new(move |seen: &Seen| match &*seen.items[0].entity.key {
        "busy" if busy.swap(false, Ordering::SeqCst) => Reply::Status(500),
        "wrong" => Reply::Status(400),
        _ => Reply::Status(200),
    });
    let (setup, listener) = tapped(setup(&script, knobs));
    let story = Story::with(Arc::default(), script, setup).await;
    for (key, price, expected) in [
        ("lamp", "1", "delivered"),
        (
            "lamp",
            "3",
            "withdrawn, renderer: the renderer returned nothing for it",
        ),
        ("desk", "2", "withheld, filter: a filter dropped it"),
        (
            "desk",
            "4",
            "refused, plugin: shop@1: trap: it divided by zero",
        ),
        ("wrong", "1", "refused, refused: "),
        (
            "busy",
            "1",
            "parked, parked: answered 500; failed attempts so far: 1",
        ),
    ] {
        story.set(key, "price", price);
        story.quiet().await;
        let told = told(&listener);
        let first = told.first().unwrap_or_else(|| panic!("{key} is told of"));
        let why = first
            .why
            .as_ref()
            .map(|why| format!(", {}: {}", why.code, why.detail));
        let said = format!("{}{}", first.outcome, why.unwrap_or_default());
        assert!(said.starts_with(expected), "{key}={price}: {said}");
        assert_eq!(first.key, key);
        assert_eq!(first.lane, "normal");
        let (is_sent, is_there) = (first.requests.len(), first.rendering.is_some());
        let expected = match first.outcome.as_str() {
            "delivered" | "parked" => (1, true),
            "withdrawn" => (1, false),
            _ if key == "wrong" => (1, true),
            _ => (0, false),
        };
        assert_eq!((is_sent, is_there), expected, "{first:?}");
        let again: Vec<&str> = told[1..].iter().map(|it| &*it.outcome).collect();
        assert_eq!(
            again,
            if key == "busy" {
                &["delivered"][..]
            } else {
                &[]
            }
        );
    }
    story.channel.rerender().await.expect("it sweeps");
    story.quiet().await;
    let told = told(&listener);
    let suppressed = told.iter().find(|it| it.outcome == "suppressed");
    let suppressed = suppressed.unwrap_or_else(|| panic!("{told:?}"));
    assert_eq!((&*suppressed.key, &*suppressed.lane), ("busy", "sweep"));
    drop(listener);
    story.end().await;
}

// Whoever may read a tap is not to read the credentials of targets.
#[tokio::test]
async fn a_request_is_told_with_its_answer_and_without_secrets() {
    const TOKEN: &str = "sk-0123456789abcdef";
    let target = Fixture::start(|asked| {
        let echo = format!(
            "{{\"ok\":true,\"you\":\"{}\"}}",
            asked.headers["authorization"]
        );
        fixture::Reply::Body(200, echo)
    })
    .await;
    let url = target.url("/hooks/T0123456789ABCDEF/{key}?v=1&token=xy12");
    let kind = Kind::Webhook(Box::new(webhook::Options {
        http: http::Options {
            auth: Auth::Bearer(Secret(TOKEN.into())),
            headers: vec![("x-shop".into(), Secret(b"a".to_vec()))],
            ..http::Options::default()
        },
        ..webhook::Options::new(Address::parse(&url).expect("a URL"))
    }));
    let (setup, listener) = tapped(setup_of(kind, Clock::system(), Knobs::default()));
    let nobody = Script::new(|_| Reply::Hang);
    let story = Story::with(Arc::default(), nobody, setup).await;
    story.set("4711", "price", "1");
    story.quiet().await;
    let told = told(&listener);
    let [delivery] = &told[..] else {
        panic!("{told:?}")
    };
    let [request] = &delivery.requests[..] else {
        panic!("{delivery:?}")
    };
    let sent = request.sent.as_ref().expect("it was sent");
    let shown = sent.url.split_once("/hooks").expect("a path").1;
    assert_eq!(
        (&*sent.method, shown),
        ("PUT", "/[secret]/4711?v=[secret]&token=[secret]")
    );
    assert_eq!(sent.bytes, target.asked()[0].body.len() as u64);
    let header = |name: &str| {
        let mut headers = sent.headers.iter();
        headers
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    };
    assert_eq!(header("authorization"), Some("[secret]"));
    assert_eq!(header("x-shop"), Some("[secret]"), "however short it is");
    assert_eq!(header("weir-entity"), Some("product/4711"));
    let answer = request.answer.as_ref().expect("it was answered");
    let body = answer.body.text.as_deref();
    assert_eq!(
        (answer.status, body),
        (200, Some(r#"{"ok":true,"you":"[secret]"}"#))
    );
    assert!(
        !answer.body.cut,
        "it is whole, though it has become shorter"
    );
    let whole = serde_json::to_string(&told).expect("JSON");
    for secret in [TOKEN, "T0123456789ABCDEF", "xy12"] {
        assert!(!whole.contains(secret), "{secret} in {whole}");
    }
    drop(listener);
    story.end().await;
}

#[tokio::test]
async fn a_request_without_an_answer_is_told_with_the_reason() {
    let target = Fixture::start(|_| fixture::Reply::Close).await;
    let kind = Kind::Webhook(Box::new(webhook::Options::new(
        Address::parse(&target.url("/weir")).expect("a URL"),
    )));
    let (setup, listener) = tapped(setup_of(kind, Clock::system(), Knobs::default()));
    let story = Story::with(Arc::default(), Script::new(|_| Reply::Hang), setup).await;
    story.set("a", "price", "1");
    let parked = |_: &Story| listener.figures().seen > 0;
    story.until("told", parked).await;
    let told = told(&listener);
    let request = &told[0].requests[0];
    assert_eq!(
        (&*told[0].outcome, request.answer.is_none()),
        ("parked", true)
    );
    let error = request.error.as_deref().expect("there is a reason");
    assert!(error.starts_with("no response"), "{error}");
    drop(listener);
    story.end().await;
}
