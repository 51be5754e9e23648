//! Targets in trouble, and answers that break off: what each means for the entity.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// The outcome of each kind of response: `delivered`, `wait` (with Retry-After), `uncertain`,
/// `retry`, `trip`, and so on.
#[tokio::test]
async fn each_trouble_of_a_target_is_told_from_the_others() {
    let script = |asked: &fixture::Asked| match asked.path.as_str() {
        "/half" => Reply::Half(200),
        "/hang" => Reply::Hang,
        "/close" => Reply::Close,
        "/endless" => Reply::Endless,
        "/half-a-line" => Reply::Raw("HTTP/1.1 2"),
        "/half-a-head" => Reply::Raw("HTTP/1.1 200 OK\r\ncontent-le"),
        "/no-http" => Reply::Raw("+OK ready\r\n\r\n"),
        "/reset" => Reply::Reset(""),
        "/reset-later" => Reply::Reset("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"),
        "/drip" => Reply::Drip,
        "/html" => Reply::Raw(
            "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 11\r\n\r\n<p>Fine</p>",
        ),
        "/partly" => Reply::Status(207),
        "/not-modified" => Reply::Status(304),
        "/maintenance" => Reply::Body(404, "Be right back".into()),
        "/moved" => Reply::Header(302, "location", "/fine".into()),
        "/busy" => Reply::Header(429, "retry-after", "7".into()),
        "/large" => Reply::Body(200, "x".repeat(200_000)),
        "/no" => Reply::Body(422, "no price".into()),
        "/who" => Reply::Status(401),
        _ => Reply::Status(200),
    };
    let target = Fixture::start(script).await;
    let word = |outcome: &Outcome| match outcome {
        Outcome::Delivered => "delivered".to_owned(),
        Outcome::Throttled {
            after: Some(after), ..
        } => format!("wait {after:?}"),
        Outcome::Retry {
            maybe_applied: true,
            ..
        } => "uncertain".to_owned(),
        Outcome::Retry { .. } => "retry".to_owned(),
        Outcome::Refused { reason, .. } => format!("refused {reason}"),
        Outcome::Trip { .. } => "trip".to_owned(),
        Outcome::Forgot { .. } => "forgot".to_owned(),
        Outcome::Ahead { .. } => "ahead".to_owned(),
        other => format!("{other:?}"),
    };
    for (path, expected) in [
        ("/fine", "delivered"),
        ("/large", "delivered"),
        ("/half", "uncertain"),
        ("/hang", "uncertain"),
        ("/close", "uncertain"),
        ("/endless", "uncertain"),
        ("/half-a-line", "uncertain"),
        ("/half-a-head", "uncertain"),
        ("/no-http", "uncertain"),
        ("/reset", "uncertain"),
        ("/reset-later", "uncertain"),
        ("/drip", "uncertain"),
        ("/html", "delivered"),
        ("/partly", "delivered"),
        ("/not-modified", "retry"),
        ("/maintenance", "trip"),
        ("/moved", "retry"),
        ("/busy", "wait 7s"),
        ("/no", "refused answered 422: no price"),
        ("/who", "trip"),
    ] {
        let mut options = options(target.url(path));
        if ["/hang", "/drip"].contains(&path) {
            options.http.timeout = Duration::from_millis(400);
        }
        let outcomes = deliver(&options, &[item("a", Some("{}"))], Form::Single).await;
        assert_eq!(word(&outcomes[0]), expected, "{path}: {outcomes:?}");
    }
    assert!(
        target
            .asked()
            .iter()
            .all(|asked| asked.path != "/fine" || asked.method == "POST")
    );
    assert_eq!(
        target
            .asked()
            .iter()
            .filter(|asked| asked.path == "/fine")
            .count(),
        1,
        "a redirect is not followed"
    );

    let secure = target.url("/fine").replace("http:", "https:");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .expect("a port that is free again");
    let metadata = "http://169.254.169.254/latest".to_owned();
    for (url, expected) in [
        (secure, "trip"),
        (format!("http://{nobody}/"), "trip"),
        (metadata, "trip"),
    ] {
        let outcomes = deliver(
            &options(url.clone()),
            &[item("a", Some("{}"))],
            Form::Single,
        )
        .await;
        assert_eq!(word(&outcomes[0]), expected, "{url}: {outcomes:?}");
    }
}

// A server that has read the head closes without reading the body. The sender was still writing, so it
// cannot know what became of the request.
#[tokio::test]
async fn a_connection_that_is_reset_while_the_body_is_sent_leaves_the_request_uncertain() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // What is left unread makes the system reset the connection.
            let _ = stream.read(&mut [0; 64]).await;
        }
    });
    let mut options = options(format!("http://{address}/weir"));
    options.http.timeout = Duration::from_secs(5);
    let body = "x".repeat(8 * 1024 * 1024);
    let outcomes = deliver(&options, &[item("a", Some(&body))], Form::Single).await;
    assert!(
        matches!(
            &outcomes[0],
            Outcome::Retry { maybe_applied: true, reason } if reason.starts_with("no response: ")
        ),
        "{outcomes:?}"
    );
}

// A gateway refuses a long body by its announced length and reads the rest without a look at it.
#[tokio::test]
async fn an_answer_that_comes_before_the_body_is_sent_counts() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut read = [0; 64 * 1024];
            let _ = stream.read(&mut read).await;
            let answer =
                b"HTTP/1.1 413 Too Large\r\ncontent-length: 8\r\nconnection: close\r\n\r\ntoo long";
            let _ = stream.write_all(answer).await;
            while stream.read(&mut read).await.is_ok_and(|bytes| bytes > 0) {}
        }
    });
    let mut options = options(format!("http://{address}/weir"));
    options.http.timeout = Duration::from_secs(5);
    let body = "x".repeat(8 * 1024 * 1024);
    let outcomes = deliver(&options, &[item("a", Some(&body))], Form::Single).await;
    assert!(
        matches!(
            &outcomes[0],
            Outcome::Refused { reason, .. } if reason == "answered 413: too long"
        ),
        "{outcomes:?}"
    );
}

#[tokio::test]
async fn a_207_without_a_content_type_is_read_item_by_item() {
    let target = Fixture::start(|asked| {
        let items = asked.json();
        let entry =
            |at: usize, status: u16| format!(r#"{{"id":{},"status":{status}}}"#, items[at]["id"]);
        let body = format!(r#"{{"items":[{},{}]}}"#, entry(0, 200), entry(1, 422));
        Reply::Body(207, body)
    })
    .await;
    let options = options(target.url("/weir"));
    let items = [item("a", Some("{}")), item("b", Some("{}"))];
    let outcomes = deliver(&options, &items, Form::Batch).await;
    assert!(
        matches!(
            &outcomes[..],
            [
                Outcome::Delivered,
                Outcome::Refused {
                    after_tries: true,
                    ..
                }
            ]
        ),
        "{outcomes:?}"
    );
}
