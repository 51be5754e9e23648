//! Buckets against a store that fails as a script says; against real servers: `servers`.

use std::sync::Arc;

use super::fake::{Fake, Fault, error};
use super::meaning::Verb;
use super::*;
use crate::model::{Payload, Rendering};
use crate::signature::Secret;
use crate::targets::fixture::Reply;
use crate::targets::http::{Address, Connections};
use crate::targets::sample::{attempt, item};
use crate::targets::{Foreign, Memory};

mod servers;
mod upload;

pub(in crate::targets) fn place(endpoint: &str) -> Place {
    Place {
        cloud: Cloud::S3,
        bucket: "shop".into(),
        region: None,
        endpoint: Some(Address::parse(endpoint).expect("a URL")),
        auth: Auth::Key {
            key: "the-key".into(),
            secret: Secret(b"the-secret".to_vec()),
            token: None,
        },
        checksum: None,
        timeout: Duration::from_secs(30),
        connections: Connections::default(),
    }
}

pub(super) fn options(endpoint: &str) -> Options {
    Options {
        place: place(endpoint),
        name: Template::parse("p/{key}.json", false).expect("a template"),
        precondition: false,
        spacing: Duration::ZERO,
    }
}

/// The same for a store that is silent, or from which a write may arrive late.
fn impatient(endpoint: &str) -> Options {
    let mut options = options(endpoint);
    options.place.timeout = Duration::from_secs(2);
    options
}

fn opening() -> Opening {
    Opening::empty("/nowhere".into())
}

pub(super) fn bucket(options: &Options) -> Bucket {
    let bucket = Bucket::open(options, &opening()).expect("it opens");
    bucket.inner.looks.store(0, Ordering::Relaxed);
    bucket
}

pub(super) async fn deliver(bucket: &Bucket, item: &Item) -> Outcome {
    deliver_with(bucket, item, 1_000, None).await
}

async fn deliver_with(
    bucket: &Bucket,
    item: &Item,
    head: u64,
    foreign: Option<Foreign>,
) -> Outcome {
    let attempt = Attempt {
        form: Form::Single,
        head: Sequence(head),
        foreign,
        ..attempt(std::slice::from_ref(item))
    };
    bucket.deliver(attempt).await.outcomes.remove(0)
}

#[track_caller]
fn says(outcome: &Outcome, expected: &str) {
    let text = format!("{outcome:?}");
    assert!(text.contains(expected), "{text}");
}

#[tokio::test]
async fn an_object_has_its_content_its_type_and_what_weir_compares_it_by() {
    let fake = Fake::start().await;
    let bucket = bucket(&options(&fake.url()));
    let written = item("a/b ä", 7, Some("{\"price\":1}"));
    assert_eq!(deliver(&bucket, &written).await, Outcome::Delivered);
    let kept = fake.with(|state| state.objects["p/a%2Fb%20%C3%A4.json"].clone());
    assert_eq!(kept.body, b"{\"price\":1}");
    let headers: Vec<_> = kept.headers.into_iter().collect();
    let expected = [
        ("content-type", "application/json".to_owned()),
        (
            "x-amz-meta-weir-digest",
            digest_of(&written).expect("a digest"),
        ),
        ("x-amz-meta-weir-key", "a%2Fb%20%C3%A4".to_owned()),
        ("x-amz-meta-weir-sequence", "7".to_owned()),
    ];
    let expected: Vec<_> = expected
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    assert_eq!(headers, expected);

    let gone = item("a/b ä", 8, None);
    assert_eq!(deliver(&bucket, &gone).await, Outcome::Delivered);
    // What is not there is deleted as well.
    assert_eq!(deliver(&bucket, &gone).await, Outcome::Delivered);
    assert!(fake.with(|state| state.objects.is_empty()));
    // Each write was one request, and nothing was looked at.
    assert_eq!(fake.with(|state| (state.writes, state.looked)), (3, 0));
}

// Whoever looked at the channel of a bucket saw deliveries without a request.
#[tokio::test]
async fn whoever_looks_sees_the_requests_without_secrets() {
    let fake = Fake::start().await;
    let mut options = options(&fake.url());
    options.place.auth = Auth::Key {
        key: "the-key".into(),
        secret: Secret(b"the-secret".to_vec()),
        token: Some(Secret(b"the-session-token".to_vec())),
    };
    let bucket = bucket(&options);
    let written = item("4711", 7, Some("{\"price\":1}"));
    let (outcome, seen) = http::witness(deliver(&bucket, &written)).await;
    assert_eq!(outcome, Outcome::Delivered);
    let [put] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!((put.method(), put.bytes()), ("PUT", 11));
    assert!(put.url().ends_with("/shop/p/4711.json"), "{}", put.url());
    let headers = put.headers();
    let header = |name: &str| {
        let mut headers = headers.iter();
        let found = headers.find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    };
    assert_eq!(header("x-amz-meta-weir-sequence"), Some("7"));
    assert_eq!(header("authorization"), Some("[secret]"));
    assert_eq!(header("x-amz-security-token"), Some("[secret]"));
    let answer = put.answer().expect("an answer");
    assert_eq!(answer.status(), 200);

    fake.with(|state| state.faults.push_back(Fault::Error(403, "AccessDenied")));
    let (_, seen) = http::witness(deliver(&bucket, &item("4711", 8, Some("{}")))).await;
    let answer = seen[0].answer().expect("an answer");
    let said = String::from_utf8_lossy(&answer.beginning).into_owned();
    assert!(
        answer.status() == 403 && said.contains("says the test"),
        "{said}"
    );
    fake.with(|state| state.faults.push_back(Fault::Half));
    let (_, seen) = http::witness(deliver(&bucket, &item("4711", 9, Some("{}")))).await;
    assert!(seen[0].answer().is_err(), "{seen:?}");
}

// The address of a shared access signature has its parts in every request.
#[test]
fn the_signature_of_an_account_is_no_part_of_what_is_shown() {
    let proof = AccountProof::Sas(Secret(b"sv=2022&sig=ab%2Bcd%3Def".to_vec()));
    let auth = Auth::Account {
        account: "shop".into(),
        proof,
    };
    let address = Address::parse("https://shop.example").expect("a URL");
    let redactor = http::Redactor::of_secrets(&auth.secrets(), &address);
    let shown = redactor.redact_text(b"/shop/p/1?sig=ab%2Bcd%3Def&sv=2022 ab+cd=ef");
    assert_eq!(shown, "/shop/p/1?sig=[secret]&sv=2022 [secret]");
}

#[tokio::test]
async fn an_error_is_read_by_its_code_and_nothing_is_tried_twice() {
    let fake = Fake::start().await;
    let bucket = bucket(&options(&fake.url()));
    for (status, code, expected) in [
        (503, "SlowDown", "Throttled"),
        (429, "SlowDown", "Throttled"),
        (
            403,
            "RequestTimeTooSkewed",
            "correct the clock of this machine",
        ),
        (400, "ExpiredToken", "Trip"),
        (404, "NoSuchBucket", "there is no such bucket"),
        (301, "PermanentRedirect", "another region"),
        (403, "AccessDenied", "Trip"),
        (400, "KeyTooLongError", "Refused"),
        (500, "InternalError", "maybe_applied: true"),
        (400, "RequestTimeout", "maybe_applied: false"),
    ] {
        let before = fake.with(|state| {
            state.faults.push_back(Fault::Error(status, code));
            state.writes
        });
        let outcome = deliver(&bucket, &item(code, 1, Some("{}"))).await;
        says(&outcome, expected);
        assert_eq!(fake.with(|state| state.writes), before + 1, "{code}");
    }
}

#[tokio::test]
async fn a_wait_that_the_store_asks_for_is_kept_to() {
    let reply = "HTTP/1.1 503 Slow\r\nretry-after: 9\r\ncontent-length: 40\r\n\r\n<Error><Code>SlowDown</Code></Error>    ";
    let fixture = crate::targets::fixture::Fixture::start(move |_| Reply::Raw(reply)).await;
    let bucket = bucket(&options(&fixture.url("")));
    let outcome = deliver(&bucket, &item("a", 1, Some("{}"))).await;
    says(&outcome, "after: Some(9s)");
    assert_eq!(fixture.asked().len(), 1);
}

// A proxy held a request for a minute and passed it on when two newer states were there. The object had the
// older price until it changed again.
#[tokio::test]
async fn a_write_that_arrives_after_its_successor_is_noticed_and_undone() {
    let fake = Fake::start().await;
    let bucket = bucket(&impatient(&fake.url()));
    fake.with(|state| state.faults.push_back(Fault::Held));
    says(
        &deliver(&bucket, &item("a", 5, Some("old"))).await,
        "maybe_applied: true",
    );
    let newer = item("a", 7, Some("new"));
    let Outcome::Repeat { after, .. } = deliver(&bucket, &newer).await else {
        panic!("it is to be looked at again");
    };
    assert_eq!(fake.body("p/a.json").as_deref(), Some("new"));
    fake.release();
    assert_eq!(fake.body("p/a.json").as_deref(), Some("old"));
    tokio::time::sleep(after).await;
    // It is written once more, and then certain.
    assert_eq!(deliver(&bucket, &newer).await, Outcome::Delivered);
    assert_eq!(fake.body("p/a.json").as_deref(), Some("new"));
    let looked = fake.with(|state| state.looked);
    assert_eq!(
        deliver(&bucket, &item("a", 8, Some("newer"))).await,
        Outcome::Delivered
    );
    assert_eq!(fake.with(|state| state.looked), looked);
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_found_and_not_made_again() {
    let fake = Fake::start().await;
    let bucket = bucket(&impatient(&fake.url()));
    for fault in [Fault::Lost, Fault::Half] {
        let applied = matches!(fault, Fault::Lost);
        let before = fake.with(|state| {
            state.objects.clear();
            state.faults.push_back(fault);
            state.writes
        });
        let item = item("a", 5, Some("new"));
        says(&deliver(&bucket, &item).await, "maybe_applied: true");
        assert!(matches!(
            deliver(&bucket, &item).await,
            Outcome::Repeat { .. }
        ));
        let writes = fake.with(|state| state.writes) - before;
        assert_eq!(writes, if applied { 1 } else { 2 });
        assert_eq!(fake.body("p/a.json").as_deref(), Some("new"));
        tokio::time::sleep(bucket.inner.late()).await;
        assert_eq!(deliver(&bucket, &item).await, Outcome::Delivered);
    }
}

#[tokio::test]
async fn a_store_that_is_ahead_is_noticed_after_a_start_and_overwritten_only_on_request() {
    let fake = Fake::start().await;
    let bucket = Bucket::open(&options(&fake.url()), &opening()).expect("it opens");
    let write = |sequence, body| item("a", sequence, Some(body));
    assert_eq!(
        deliver(&bucket, &write(900, "theirs")).await,
        Outcome::Delivered
    );
    // A newer state of ours.
    assert_eq!(
        deliver(&bucket, &write(800, "older")).await,
        Outcome::Delivered
    );
    assert_eq!(fake.body("p/a.json").as_deref(), Some("theirs"));
    // A backup was restored: Weir has given out no more than 500.
    let outcome = deliver_with(&bucket, &write(400, "ours"), 500, None).await;
    assert!(
        matches!(
            outcome,
            Outcome::Ahead {
                sequence: Sequence(900),
                ..
            }
        ),
        "{outcome:?}"
    );
    let foreign = Foreign {
        first: Sequence(501),
        last: Sequence(1_000),
    };
    let outcome = deliver_with(&bucket, &write(400, "ours"), 500, Some(foreign)).await;
    assert_eq!(outcome, Outcome::Delivered);
    assert_eq!(fake.body("p/a.json").as_deref(), Some("ours"));
}

#[tokio::test]
async fn whoever_may_only_write_writes() {
    let fake = Fake::start().await;
    let bucket = Bucket::open(&options(&fake.url()), &opening()).expect("it opens");
    fake.with(|state| state.looks = Some(Reply::Status(403)));
    let written = deliver(&bucket, &item("a", 1, Some("x"))).await;
    assert_eq!(written, Outcome::Delivered);
    assert_eq!(fake.body("p/a.json").as_deref(), Some("x"));
}

// A reload replaced the target while a request was on its way, and the new one knew nothing of it.
#[tokio::test]
async fn what_was_unanswered_is_known_to_the_next_target_too() {
    let fake = Fake::start().await;
    let before = bucket(&impatient(&fake.url()));
    assert_eq!(before.mark(), Some(Vec::new()));
    fake.with(|state| state.faults.push_back(Fault::Half));
    says(
        &deliver(&before, &item("a", 5, Some("old"))).await,
        "maybe_applied: true",
    );
    // A delivery that is given up is as uncertain as one without an answer.
    fake.with(|state| state.faults.push_back(Fault::Held));
    let given_up = item("b", 5, Some("old"));
    let arrived = async {
        while fake.with(|state| state.held.is_empty()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        outcome = deliver(&before, &given_up) => panic!("{outcome:?}"),
        () = arrived => {}
    }

    let after = bucket(&impatient(&fake.url()));
    let bytes = before.mark().expect("a mark");
    after.take_mark(Mark { bytes, exact: true });
    for key in ["a", "b"] {
        let outcome = deliver(&after, &item(key, 7, Some("new"))).await;
        assert!(matches!(outcome, Outcome::Repeat { .. }), "{outcome:?}");
    }
    let outcome = deliver(&after, &item("c", 7, Some("new"))).await;
    assert_eq!(outcome, Outcome::Delivered);
}

// HEAD is answered without a body. An expired token was taken for an object that the store does not like,
// and a bucket that was gone for an object that is deleted.
#[tokio::test]
async fn what_a_look_cannot_tell_is_told_by_the_write() {
    let fake = Fake::start().await;
    let bucket = Bucket::open(&options(&fake.url()), &opening()).expect("it opens");
    for (status, code, body, expected) in [
        (400, "ExpiredToken", Some("x"), "Trip"),
        (404, "NoSuchBucket", None, "there is no such bucket"),
        (404, "NoSuchBucket", Some("x"), "there is no such bucket"),
    ] {
        fake.with(|state| {
            state.looks = Some(Reply::Status(status));
            state.faults.push_back(Fault::Error(status, code));
        });
        says(&deliver(&bucket, &item("a", 1, body)).await, expected);
    }
    assert_eq!(fake.with(|state| state.looked), 3);
    let precondition = Bucket::open(
        &Options {
            precondition: true,
            ..options(&fake.url())
        },
        &opening(),
    );
    fake.with(|state| state.looks = Some(Reply::Status(400)));
    let precondition = precondition.expect("it opens");
    says(
        &deliver(&precondition, &item("a", 1, Some("x"))).await,
        "Trip",
    );
}

// After a restart, an object whose renderer had changed nothing but the type of its content kept the old one.
#[tokio::test]
async fn another_type_of_content_is_another_object() {
    let fake = Fake::start().await;
    let bucket = Bucket::open(&options(&fake.url()), &opening()).expect("it opens");
    let plain = item("a", 1, Some("x"));
    let mut html = plain.clone();
    html.rendering = Some(Arc::new(Rendering {
        key: None,
        content_type: Some("text/html".into()),
        body: Payload::Text("x".to_owned()),
    }));
    for written in [&plain, &html, &html] {
        assert_eq!(deliver(&bucket, written).await, Outcome::Delivered);
    }
    let kept = fake.with(|state| state.objects["p/a.json"].headers["content-type"].clone());
    assert_eq!(kept, "text/html");
    // What no header can hold is the fault of this entity, and not of the store.
    let mut broken = html.clone();
    broken.rendering = Some(Arc::new(Rendering {
        key: None,
        content_type: Some("text/html\r\nx: y".into()),
        body: Payload::Text("y".to_owned()),
    }));
    says(&deliver(&bucket, &broken).await, "Refused");
    // The last one was there.
    assert_eq!(fake.with(|state| state.writes), 2);
    let held = bucket.compare(&[plain]).await.expect("it is compared");
    assert_eq!(held, [Held::Different(vec!["weir-digest".into()])]);
}

#[tokio::test]
async fn with_a_precondition_nothing_is_overwritten_unseen() {
    let fake = Fake::start().await;
    let bucket = bucket(&Options {
        precondition: true,
        ..options(&fake.url())
    });
    assert_eq!(
        deliver(&bucket, &item("a", 1, Some("x"))).await,
        Outcome::Delivered
    );
    assert_eq!(
        deliver(&bucket, &item("a", 2, Some("y"))).await,
        Outcome::Delivered
    );
    let asked = fake.fixture.asked();
    let puts: Vec<_> = asked.iter().filter(|asked| asked.method == "PUT").collect();
    assert_eq!(puts[0].headers["if-none-match"], "*");
    assert_eq!(puts[1].headers["if-match"], "\"1\"");
    fake.with(|state| {
        state
            .faults
            .push_back(Fault::Error(412, "PreconditionFailed"))
    });
    says(
        &deliver(&bucket, &item("a", 3, Some("z"))).await,
        "maybe_applied: false",
    );
}

#[tokio::test]
async fn two_writes_of_an_object_keep_the_distance_that_the_store_asks_for() {
    let fake = Fake::start().await;
    let spacing = Duration::from_millis(300);
    let bucket = bucket(&Options {
        spacing,
        ..options(&fake.url())
    });
    let began = std::time::Instant::now();
    for sequence in 1..=3 {
        let outcome = deliver(&bucket, &item("a", sequence, Some("x"))).await;
        assert_eq!(outcome, Outcome::Delivered);
    }
    assert!(began.elapsed() >= 2 * spacing);
    // Another object does not wait for it.
    let hour = Duration::from_secs(3_600);
    let bucket = self::bucket(&Options {
        spacing: hour,
        ..options(&fake.url())
    });
    for key in ["c", "d"] {
        let item = item(key, 1, Some("x"));
        let written = tokio::time::timeout(hour / 60, deliver(&bucket, &item)).await;
        assert_eq!(written, Ok(Outcome::Delivered));
    }
}

/// A memory that survives its target.
#[derive(Default)]
pub(in crate::targets) struct Remembered(Mutex<HashMap<String, Vec<u8>>>);

impl Memory for Remembered {
    fn recall(&self, name: &str) -> Result<Option<Vec<u8>>, String> {
        Ok(lock(&self.0).get(name).cloned())
    }

    fn remember(
        &self,
        name: &str,
        value: Option<Vec<u8>>,
    ) -> BoxFuture<'static, Result<(), String>> {
        match value {
            Some(value) => lock(&self.0).insert(name.to_owned(), value),
            None => lock(&self.0).remove(name),
        };
        Box::pin(async { Ok(()) })
    }
}

fn large(bytes: usize) -> Bytes {
    (0..bytes)
        .map(|at| (at / 1000) as u8)
        .collect::<Vec<u8>>()
        .into()
}

fn object() -> Object {
    Object {
        name: "feeds/all.xml".into(),
        content_type: "application/xml".into(),
        metadata: vec![("weir-digest", "d1".into())],
        condition: Condition::Any,
    }
}

#[tokio::test]
async fn drift_is_found_and_all_keys_are_listed() {
    let fake = Fake::start().await;
    let bucket = bucket(&options(&fake.url()));
    let long = "ü".repeat(300);
    for key in ["same", "older", "other", "extra", "gone", "size", &long] {
        let outcome = deliver(&bucket, &item(key, 5, Some("{\"price\":1}"))).await;
        assert_eq!(outcome, Outcome::Delivered);
    }
    fake.with(|state| {
        state.objects.remove("p/gone.json");
        let object = state.objects.get_mut("p/size.json").expect("it is there");
        object.body.push(b' ');
        state
            .objects
            .insert("p/not ours.json".into(), Default::default());
        state
            .objects
            .insert("q/elsewhere.json".into(), Default::default());
    });
    let expected = [
        (item("same", 5, Some("{\"price\":1}")), Held::Same),
        (
            item("older", 6, Some("{\"price\":2}")),
            Held::Older(Sequence(5)),
        ),
        (
            item("other", 5, Some("{\"price\":2}")),
            Held::Different(vec!["weir-digest".into()]),
        ),
        (item("extra", 6, None), Held::Extra),
        (item("gone", 5, Some("{\"price\":1}")), Held::Missing),
        (
            item("size", 5, Some("{\"price\":1}")),
            Held::Different(vec!["size".into()]),
        ),
        (item("never", 5, None), Held::Same),
        (item(&long, 5, Some("{\"price\":1}")), Held::Same),
    ];
    let (items, expected): (Vec<_>, Vec<_>) = expected.into_iter().unzip();
    assert_eq!(bucket.compare(&items).await, Ok(expected));

    let many: Vec<String> = (0..2_500).map(|number| format!("k{number:04}")).collect();
    fake.with(|state| {
        for key in &many {
            state
                .objects
                .insert(format!("p/{key}.json"), Default::default());
        }
    });
    let (mut keys, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = bucket.keys(after.as_deref()).await.expect("a page");
        assert!(page.keys.len() <= 1_000);
        keys.extend(page.keys);
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let mut expected = many;
    expected.extend(["same", "older", "other", "extra", "size", &long].map(str::to_owned));
    keys.sort_unstable();
    expected.sort_unstable();
    let differs = keys.iter().zip(&expected).find(|(one, other)| one != other);
    assert_eq!((differs, keys.len(), pages), (None, expected.len(), 3));
}

#[tokio::test]
async fn a_check_says_what_is_wrong_or_will_be() {
    let answers = |reply: Reply| async move {
        let fixture = crate::targets::fixture::Fixture::start(move |_| reply.clone()).await;
        bucket(&options(&fixture.url(""))).check().await
    };
    let fine = Reply::Body(200, "<ListBucketResult></ListBucketResult>".into());
    assert_eq!(answers(fine).await, Ok(vec![]));
    let warned = answers(error(403, "AccessDenied"))
        .await
        .expect("a warning");
    assert!(warned[0].contains("may not list the bucket"), "{warned:?}");
    for (status, code, expected) in [
        (404, "NoSuchBucket", "there is no such bucket"),
        (403, "SignatureDoesNotMatch", "SignatureDoesNotMatch"),
        (403, "RequestTimeTooSkewed", "correct the clock"),
        (301, "PermanentRedirect", "another region"),
    ] {
        let wrong = answers(error(status, code)).await.expect_err(code);
        assert!(wrong.contains(expected), "{wrong}");
    }
    let date = "Mon, 01 Jan 2024 00:00:00 GMT".to_owned();
    let skewed = answers(Reply::Header(403, "date", date))
        .await
        .expect("warnings");
    assert!(skewed[0].contains("the clocks differ"), "{skewed:?}");
}

// The metadata service gives credentials to whoever can connect to it.
#[tokio::test]
async fn the_metadata_service_is_not_asked_unless_the_configuration_says_so() {
    let wrong = Options {
        place: Place {
            auth: Auth::Account {
                account: "x".into(),
                proof: AccountProof::Key(Secret(b"eA==".to_vec())),
            },
            ..place("http://127.0.0.1:1")
        },
        ..options("http://127.0.0.1:1")
    };
    let outcome = deliver(&bucket(&wrong), &item("a", 1, Some("x"))).await;
    says(&outcome, "169.254.169.254 is not allowed");
}

/// What a bucket of Google Cloud Storage gets, for which there is no server to test with: the requests, as
/// its XML interface is documented.
#[cfg(feature = "gcp")]
#[tokio::test]
async fn a_bucket_of_google_gets_its_own_names_of_metadata() {
    let fixture = crate::targets::fixture::Fixture::start(|asked| match &*asked.method {
        "HEAD" => Reply::Head(
            2,
            "etag: \"1\"\r\nlast-modified: Mon, 30 Nov 2026 20:00:00 GMT\r\nx-goog-meta-weir-sequence: 9\r\n".into(),
        ),
        "PUT" if asked.path.contains("slow") => error(429, "SlowDown"),
        "DELETE" => error(404, "NoSuchKey"),
        _ => Reply::Header(200, "etag", "\"1\"".into()),
    })
    .await;
    let google = Options {
        place: Place {
            cloud: Cloud::Gcs,
            auth: Auth::Anonymous { account: None },
            ..place(&fixture.url(""))
        },
        ..options(&fixture.url(""))
    };
    let bucket = bucket(&google);
    let written = deliver(&bucket, &item("a/b", 7, Some("{}"))).await;
    assert_eq!(written, Outcome::Delivered);
    let asked = fixture.asked().remove(0);
    assert_eq!(asked.path, "/shop/p%2Fa%252Fb%2Ejson");
    assert_eq!(asked.headers["x-goog-meta-weir-sequence"], "7");
    assert_eq!(asked.headers["content-type"], "application/json");
    says(
        &deliver(&bucket, &item("slow", 7, Some("{}"))).await,
        "Throttled",
    );
    assert_eq!(
        deliver(&bucket, &item("a", 8, None)).await,
        Outcome::Delivered
    );
    let held = bucket
        .compare(&[item("a/b", 10, Some("{\"price\":1}"))])
        .await;
    assert_eq!(held, Ok(vec![Held::Older(Sequence(9))]));
}

// Credentials of the cloud are asked for at the metadata service, by its own policy of addresses: nothing
// that a store says leads there.
#[tokio::test]
async fn a_redirect_is_not_followed() {
    let fixture = crate::targets::fixture::Fixture::start(|_| {
        Reply::Header(307, "location", "http://169.254.169.254/latest".into())
    })
    .await;
    let bucket = bucket(&options(&fixture.url("")));
    let outcome = deliver(&bucket, &item("a", 1, Some("x"))).await;
    says(&outcome, "another region");
    assert_eq!(fixture.asked().len(), 1);
}

// Many stores refuse a checksum, and buckets with Object Lock refuse what has none.
#[tokio::test]
async fn a_checksum_is_sent_where_it_is_configured_and_nowhere_else() {
    for (checksum, name) in [
        (None, ""),
        (Some(Checksum::Sha256), "x-amz-checksum-sha256"),
        (Some(Checksum::Crc64), "x-amz-checksum-crc64nvme"),
    ] {
        let fake = Fake::start().await;
        let place = Place {
            checksum,
            ..place(&fake.url())
        };
        let store = Store::open(&place, opening().memory).expect("it opens");
        let whole = store.put(object(), Bytes::from_static(b"x")).await;
        assert_eq!(whole, Outcome::Delivered);
        let in_parts = store.put(object(), large(17 << 20)).await;
        assert_eq!(in_parts, Outcome::Delivered);
        let asked = fake.fixture.asked();
        let sent = asked.iter().filter(|asked| asked.method == "PUT");
        let mut seen = 0;
        for request in sent {
            let names = request.headers.keys();
            let checksums: Vec<&str> = names
                .map(|name| &**name)
                .filter(|name| name.starts_with("x-amz-checksum-") && !name.ends_with("-algorithm"))
                .collect();
            let expected: &[&str] = if name.is_empty() { &[] } else { &[name] };
            assert_eq!(checksums, expected, "{}", request.path);
            seen += 1;
        }
        assert_eq!(seen, 4, "one object, and three parts of another");
    }
}

// The role of a machine gave credentials for an hour. After it each object was refused, with a 400.
#[tokio::test]
async fn credentials_of_the_cloud_that_have_expired_are_renewed_once() {
    use object_store::client::{HttpRequest, HttpRequestBody, HttpService as _};
    let key = place("http://127.0.0.1:1").auth;
    let instance = || Auth::Instance { account: None };
    for (auth, replies, requests, expected) in [
        (instance(), vec![error(400, "ExpiredToken")], 2, "Ok"),
        (
            instance(),
            vec![error(400, "ExpiredToken"); 2],
            2,
            "the credentials have expired",
        ),
        (instance(), vec![error(403, "AccessDenied")], 1, "Trip"),
        // Those of the configuration cannot be renewed.
        (
            key,
            vec![error(400, "ExpiredToken")],
            1,
            "the credentials have expired",
        ),
    ] {
        let replies = Mutex::new(replies);
        let fixture = crate::targets::fixture::Fixture::start(move |_| {
            lock(&replies).pop().unwrap_or(Reply::Status(200))
        })
        .await;
        let url = fixture.url("");
        let place = Place {
            auth,
            ..place(&url)
        };
        let store = Store::open(&place, opening().memory).expect("it opens");
        let ended = store
            .run(Verb::Put, |_| {
                let (carrier, url) = (store.carrier.clone(), url.clone());
                Box::pin(async move {
                    let mut request = HttpRequest::new(HttpRequestBody::empty());
                    *request.uri_mut() = url.parse().expect("a URL");
                    let answered = carrier.call(request).await.expect("an answer");
                    match answered.status().is_success() {
                        true => Ok(()),
                        false => Err(object_store::Error::NotImplemented {
                            operation: "this".into(),
                            implementer: "a store".into(),
                        }),
                    }
                })
            })
            .await;
        let text = format!("{ended:?}");
        assert!(text.contains(expected), "{text}");
        assert_eq!(fixture.asked().len(), requests);
    }
}
