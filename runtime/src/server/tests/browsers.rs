//! The console's page and files, and signing in.

use super::*;

const PAGE: (&str, &str) = ("origin", "http://127.0.0.1");

#[tokio::test]
async fn the_page_is_asked_for_each_time_and_its_files_never_again() {
    let server = start(&Arc::new(Fake::default()), Limits::default()).await;
    let page = get(&server, "/?view=channel&name=a%2Fb").await;
    assert_eq!(
        (page.status, &*page.headers["cache-control"]),
        (200, "no-cache")
    );
    let policy = &page.headers["content-security-policy"];
    let expected = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
                    form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";
    assert_eq!(policy, expected);
    // It would be inline, and need a hash of its own.
    assert!(!page.body.contains("importmap"), "{}", page.body);
    let known = [("if-none-match", &*page.headers["etag"])];
    let again = ask(&server, "GET", "/", &known, "").await;
    assert_eq!((again.status, &*again.body), (304, ""));
    let other = [("if-none-match", "\"older\"")];
    assert_eq!(ask(&server, "GET", "/", &other, "").await.status, 200);

    let mut sizes = page.body.len(); // It is not packed.
    let files: Vec<&str> = page
        .body
        .split('"')
        .filter(|text| text.starts_with("console/"))
        .collect();
    // All at once: a module that is found in another one only comes a round trip later.
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/console"));
    let others = folder.unwrap().count() - 1;
    assert_eq!(files.len(), others, "{}", page.body);
    for file in files {
        let answered = get(&server, &format!("/{file}")).await;
        assert_eq!(answered.status, 200, "{file}");
        assert!(answered.headers["cache-control"].contains("immutable"));
        assert!(!answered.headers.contains_key("content-encoding"));
        let gzip = [("accept-encoding", "gzip, deflate, br")];
        let packed = ask(&server, "GET", &format!("/{file}"), &gzip, "").await;
        assert_eq!(packed.headers["content-encoding"], "gzip", "{file}");
        sizes += packed.headers["content-length"].parse::<usize>().unwrap();
    }
    // The first view is these, their heads, and the first event of the stream.
    assert!(sizes < 45_000, "{sizes} bytes");
    let old = get(&server, "/console/0123456789abcdef/main.js").await;
    assert_eq!(
        (old.status, old.problem()),
        (404, "unknown-file".to_owned())
    );
    assert_eq!(
        get(
            &server,
            &format!("/console/{}/%2e%2e%2findex.html", console::digest())
        )
        .await
        .status,
        404
    );
}

#[tokio::test]
async fn a_name_that_was_rebound_shows_no_console() {
    let server = start(&Arc::new(Fake::default()), Limits::default()).await;
    for path in [
        "/",
        "/v1/session",
        "/v1/stream",
        "/v1/tap/channels/storefront.de",
        &example("/console/{digest}/{file}"),
    ] {
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n");
        let answered = raw(server.ingest_addr(), request.as_bytes()).await;
        assert_eq!(answered.problem(), "foreign-host", "{path}");
    }
}

#[tokio::test]
async fn a_token_is_exchanged_for_a_session_that_ends_with_it() {
    let fake = Arc::new(Fake::default());
    *fake.tokens.lock().unwrap() = vec![token(Role::Operate)];
    let server = start(&fake, Limits::default()).await;
    let who = get(&server, "/v1/session").await.json();
    assert_eq!(who, json!({ "needs_token": true }));
    let wrong = ask(&server, "POST", "/v1/session", &[PAGE], "token=nobody").await;
    assert_eq!(wrong.problem(), "token-unknown");
    assert!(!wrong.headers.contains_key("set-cookie"));
    let signed_in = ask(&server, "POST", "/v1/session", &[PAGE], "token=operate").await;
    let expected = json!({ "needs_token": true, "name": "operate-token", "role": "operate" });
    assert_eq!(
        (signed_in.status, signed_in.json()),
        (200, expected.clone())
    );
    let set = &signed_in.headers["set-cookie"];
    assert!(
        set.contains("HttpOnly") && set.contains("SameSite=Strict"),
        "{set}"
    );
    assert!(!set.contains("=operate"), "an opaque id: {set}");
    let cookie = ("cookie", set.split(';').next().unwrap());

    let asks = async |method, path, headers: &[(&str, &str)]| {
        ask(&server, method, path, headers, "").await
    };
    let pause = "/v1/channels/storefront.de/pause";
    assert_eq!(asks("GET", "/v1/session", &[cookie]).await.json(), expected);
    assert_eq!(asks("GET", "/v1/channels", &[cookie]).await.status, 200);
    assert_eq!(asks("POST", pause, &[cookie, PAGE]).await.status, 200);
    assert_eq!(
        asks("POST", pause, &[cookie]).await.problem(),
        "foreign-origin"
    );
    let other_port = ("origin", "http://127.0.0.1:9999");
    assert_eq!(
        asks("POST", pause, &[cookie, other_port]).await.problem(),
        "foreign-origin"
    );
    assert_eq!(
        asks("POST", "/v1/reload", &[cookie, PAGE]).await.problem(),
        "role-needed"
    );
    assert_eq!(
        asks("GET", "/v1/channels?token=operate", &[]).await.status,
        401
    );

    let out = asks("DELETE", "/v1/session", &[cookie, PAGE]).await;
    assert!(out.headers["set-cookie"].contains("Max-Age=0"));
    assert_eq!(asks("GET", "/v1/channels", &[cookie]).await.status, 401);

    let again = ask(&server, "POST", "/v1/session", &[PAGE], "token=operate").await;
    let cookie = (
        "cookie",
        again.headers["set-cookie"].split(';').next().unwrap(),
    );
    assert_eq!(asks("GET", "/v1/channels", &[cookie]).await.status, 200);
    *fake.tokens.lock().unwrap() = vec![token(Role::Admin)];
    assert_eq!(asks("GET", "/v1/channels", &[cookie]).await.status, 401);
}

#[tokio::test]
async fn a_form_of_another_page_signs_nobody_in() {
    let fake = Arc::new(Fake::default());
    *fake.tokens.lock().unwrap() = vec![token(Role::Read)];
    let server = start(&fake, Limits::default()).await;
    let foreign = [("origin", "http://evil.example")];
    let answered = ask(&server, "POST", "/v1/session", &foreign, "token=read").await;
    assert_eq!(answered.problem(), "foreign-origin");
    let long = format!("token={}", "x".repeat(5000));
    assert_eq!(
        ask(&server, "POST", "/v1/session", &[PAGE], &long)
            .await
            .status,
        413
    );
}
