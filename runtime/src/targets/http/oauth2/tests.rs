//! Tokens against an endpoint and an API on loopback, each with the habits of a real one.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::super::{Auth, Client, Options};
use super::*;
use crate::targets::fixture::{Asked, Fixture, Reply};

const SECRET: &str = "s3cret:with%chars";

fn oauth2(target: &Fixture) -> OAuth2 {
    OAuth2 {
        token_url: Address::parse(&target.url("/token")).expect("a URL"),
        grant: Grant::ClientCredentials,
        client_id: "weir client".into(),
        client_secret: Secret(SECRET.into()),
        in_body: false,
        json: false,
        scope: None,
        extra: Vec::new(),
        header: "authorization".into(),
        prefix: "Bearer ".into(),
    }
}

fn client(target: &Fixture, oauth2: OAuth2) -> Client {
    let options = Options {
        auth: Auth::OAuth2(Box::new(oauth2)),
        timeout: Duration::from_secs(5),
        ..Options::default()
    };
    let address = Address::parse(&target.url("/api")).expect("a URL");
    Client::open(&options, &address, &[]).expect("a client")
}

/// Makes one request and returns its status, or why there is none.
async fn ask(target: &Fixture, client: &Client) -> Result<u16, String> {
    let mut request = Request::new(Sent::from(Bytes::from_static(b"{}")));
    *request.uri_mut() = target.url("/api").parse().expect("a URI");
    *request.headers_mut() = client.headers();
    match client.exchange(request).await {
        Ok(answered) => Ok(answered.parts.status.as_u16()),
        Err(Outcome::Trip { reason }) => Err(reason),
        Err(other) => Err(format!("not a trip: {other:?}")),
    }
}

fn token(name: &str) -> Reply {
    Reply::Body(
        200,
        json!({"access_token": name, "token_type": "bearer", "expires_in": 3600}).to_string(),
    )
}

fn to(target: &Fixture, path: &str) -> Vec<Asked> {
    let asked = target.asked();
    asked
        .into_iter()
        .filter(|asked| asked.path == path)
        .collect()
}

#[tokio::test]
async fn a_token_is_fetched_once_and_carried_by_each_request() {
    let target = Fixture::start(|asked| match asked.path.as_str() {
        "/token" => token("abcdef"),
        _ => Reply::Status(200),
    })
    .await;
    let options = OAuth2 {
        scope: Some("products:write".into()),
        extra: vec![("audience".into(), "https://api".into())],
        ..oauth2(&target)
    };
    let client = client(&target, options);
    for _ in 0..3 {
        assert_eq!(ask(&target, &client).await, Ok(200));
    }
    let tokens = to(&target, "/token");
    assert_eq!(tokens.len(), 1);
    assert_eq!(
        tokens[0].text(),
        "grant_type=client_credentials&scope=products%3Awrite&audience=https%3A%2F%2Fapi"
    );
    let basic = STANDARD.encode("weir+client:s3cret%3Awith%25chars");
    assert_eq!(tokens[0].headers["authorization"], format!("Basic {basic}"));
    for asked in to(&target, "/api") {
        assert_eq!(asked.headers["authorization"], "Bearer abcdef");
    }
}

// Akeneo wants a password and JSON; Shopify and Amazon a header of their own.
#[tokio::test]
async fn each_grant_has_its_parameters_and_a_token_its_header() {
    let target = Fixture::start(|asked| match asked.path.as_str() {
        "/token" => Reply::Body(
            200,
            json!({"access_token": "abcdef", "refresh_token": "second", "expires_in": "1"})
                .to_string(),
        ),
        _ => Reply::Status(200),
    })
    .await;
    let password = OAuth2 {
        grant: Grant::Password {
            username: "u".into(),
            password: Secret("p".into()),
        },
        json: true,
        ..oauth2(&target)
    };
    assert_eq!(ask(&target, &client(&target, password)).await, Ok(200));
    let refresh = OAuth2 {
        grant: Grant::RefreshToken(Secret("first".into())),
        in_body: true,
        header: "x-amz-access-token".into(),
        prefix: String::new(),
        ..oauth2(&target)
    };
    let client = client(&target, refresh);
    assert_eq!(ask(&target, &client).await, Ok(200));
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(2)).await;
    tokio::time::resume();
    assert_eq!(ask(&target, &client).await, Ok(200));
    let tokens: Vec<String> = to(&target, "/token").iter().map(Asked::text).collect();
    let secret = encoded(SECRET);
    assert_eq!(
        tokens,
        [
            r#"{"grant_type":"password","password":"p","username":"u"}"#.to_owned(),
            format!(
                "grant_type=refresh_token&refresh_token=first&client_id=weir+client&client_secret={secret}"
            ),
            format!(
                "grant_type=refresh_token&refresh_token=second&client_id=weir+client&client_secret={secret}"
            ),
        ],
        "a replaced refresh token is used from then on"
    );
    let api = to(&target, "/api");
    assert_eq!(api[2].headers["x-amz-access-token"], "abcdef");
}

// Eighteen shops were configured with the token of one app. Each renewal ended the token of the others.
#[tokio::test]
async fn targets_with_the_same_refresh_token_replace_it_for_each_other() {
    let given = AtomicUsize::new(0);
    let target = Fixture::start(move |asked| {
        let now = given.load(Ordering::SeqCst);
        match asked.path.as_str() {
            "/token"
                if asked
                    .text()
                    .contains(&format!("refresh_token=refreshing-{now}")) =>
            {
                let next = given.fetch_add(1, Ordering::SeqCst) + 1;
                let answer = json!({
                    "access_token": "abcdef",
                    "refresh_token": format!("refreshing-{next}"),
                    "expires_in": 100,
                });
                Reply::Body(200, answer.to_string())
            }
            "/token" => Reply::Body(400, json!({"error": "invalid_grant"}).to_string()),
            _ => Reply::Status(200),
        }
    })
    .await;
    let refresh = || OAuth2 {
        grant: Grant::RefreshToken(Secret("refreshing-0".into())),
        ..oauth2(&target)
    };
    let clients = [(); 5].map(|()| client(&target, refresh()));
    let [a, b, c, d, e] = &clients;
    for _ in 0..2 {
        let all = [a, b, c, d, e].map(|client| ask(&target, client));
        for answer in futures_join(all).await {
            assert_eq!(answer, Ok(200));
        }
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(90)).await;
        tokio::time::resume();
    }
    assert_eq!(to(&target, "/token").len(), 10);

    // After a restart the one that was kept is used, unless another one is configured.
    let kept = a.credentials().expect("it was replaced");
    drop(clients);
    let again = client(&target, refresh());
    again.take_credentials(&kept);
    assert_eq!(ask(&target, &again).await, Ok(200));
    let other = OAuth2 {
        grant: Grant::RefreshToken(Secret("from somebody who logged in".into())),
        ..oauth2(&target)
    };
    let other = client(&target, other);
    other.take_credentials(&kept);
    assert_eq!(other.credentials(), None);
    let refused = ask(&target, &other).await.expect_err("not a valid one");
    assert!(refused.contains("get a new one and write it"), "{refused}");
    assert_eq!(
        to(&target, "/token").pop().expect("it was asked").text(),
        "grant_type=refresh_token&refresh_token=from+somebody+who+logged+in"
    );
}

// A shop left the configuration for a season. When it was back after a restart, the token that it had kept
// took the place of the newer one of the others, and somebody had to log in again.
#[tokio::test]
async fn of_two_refresh_tokens_that_were_kept_the_newer_one_is_used() {
    let target = Fixture::start(|_| Reply::Status(200)).await;
    let options = OAuth2 {
        grant: Grant::RefreshToken(Secret("first".into())),
        ..oauth2(&target)
    };
    let open = || Replaced::of(&options).expect("a refresh token");
    let shown = |replaced: &Replaced| replaced.token().map(|token| token.0);
    let before = open();
    before.replace("second");
    let older = before.to_bytes().expect("it was replaced");
    before.replace("third");
    let newer = before.to_bytes().expect("it was replaced");
    before.replace("third");
    assert_eq!(before.to_bytes().as_ref(), Some(&newer), "the same again");
    drop(before);
    for kept in [[&older, &newer], [&newer, &older]] {
        let after = open();
        assert_eq!(shown(&after), None);
        for kept in kept {
            after.take(kept);
        }
        assert_eq!(shown(&after), Some(b"third".to_vec()));
        after.replace("fourth");
        after.take(&newer);
        assert_eq!(shown(&after), Some(b"fourth".to_vec()));
    }
}

// A channel was stopped while its delivery waited for a token. The endpoint had replaced the refresh token,
// and nobody read its answer.
#[tokio::test]
async fn a_renewal_ends_though_its_delivery_was_given_up() {
    let used = AtomicUsize::new(0);
    let target = Fixture::start(move |asked| {
        let answer = |next: &str| {
            let answer = json!({"access_token": "abcdef", "refresh_token": next});
            Reply::Body(200, answer.to_string())
        };
        let first = asked.text().contains("refresh_token=first");
        match asked.path.as_str() {
            "/token" if first && used.fetch_add(1, Ordering::SeqCst) == 0 => {
                Reply::After(Duration::from_secs(1), Box::new(answer("second")))
            }
            "/token" if first => Reply::Body(400, json!({"error": "invalid_grant"}).to_string()),
            "/token" => answer("third"),
            _ => Reply::Status(200),
        }
    })
    .await;
    let refresh = OAuth2 {
        grant: Grant::RefreshToken(Secret("first".into())),
        ..oauth2(&target)
    };
    let client = client(&target, refresh);
    let stopped = tokio::time::timeout(Duration::from_millis(50), ask(&target, &client)).await;
    assert!(stopped.is_err(), "{stopped:?}");
    assert_eq!(ask(&target, &client).await, Ok(200));
}

// An endpoint that gives none in place of it had the key in its answers nevertheless, with an empty text.
#[tokio::test]
async fn an_empty_refresh_token_replaces_nothing() {
    let target = Fixture::start(|asked| match asked.path.as_str() {
        "/token" => Reply::Body(
            200,
            json!({"access_token": "abcdef", "refresh_token": ""}).to_string(),
        ),
        _ => Reply::Status(200),
    })
    .await;
    let refresh = OAuth2 {
        grant: Grant::RefreshToken(Secret("only".into())),
        ..oauth2(&target)
    };
    let client = client(&target, refresh);
    assert_eq!(ask(&target, &client).await, Ok(200));
    assert_eq!(client.credentials(), None);
}

// A check before the first start exchanged the token. The one in its place ended with the check, and nobody
// could log in any more.
#[tokio::test]
async fn a_check_does_not_use_up_a_refresh_token() {
    let target = Fixture::start(|_| token("abcdef")).await;
    let address = Address::parse(&target.url("/api")).expect("a URL");
    let refresh = OAuth2 {
        grant: Grant::RefreshToken(Secret("unused".into())),
        ..oauth2(&target)
    };
    let warnings = client(&target, refresh).reach(&address).await;
    let warnings = warnings.expect("both can be reached");
    assert!(
        warnings.len() == 1 && warnings[0].contains("was not tried"),
        "{warnings:?}"
    );
    assert_eq!(target.asked().len(), 0);
    let warnings = client(&target, oauth2(&target)).reach(&address).await;
    assert_eq!(warnings, Ok(Vec::new()));
    assert_eq!(to(&target, "/token").len(), 1);
}

/// An API that accepts one token only, the newest.
fn newest_only(refusal: u16) -> impl Fn(&Asked) -> Reply + Send + Sync + 'static {
    let given = AtomicUsize::new(0);
    let from = AtomicUsize::new(1);
    move |asked| match asked.path.as_str() {
        "/token" => token(&format!(
            "token-{}",
            given.fetch_add(1, Ordering::SeqCst) + 1
        )),
        // The first token ends after the first request.
        _ if asked.headers["authorization"]
            == format!("Bearer token-{}", from.load(Ordering::SeqCst)) =>
        {
            from.store(given.load(Ordering::SeqCst).max(2), Ordering::SeqCst);
            Reply::Status(200)
        }
        _ => Reply::Status(refusal),
    }
}

// Five requests met the expiry at once, three of them renewed the token, and each renewal ended the one
// before: four requests were lost.
#[tokio::test]
async fn of_many_requests_that_meet_the_expiry_one_renews_and_all_succeed() {
    for refusal in [401, 403] {
        let target = Fixture::start(newest_only(refusal)).await;
        let client = client(&target, oauth2(&target));
        assert_eq!(ask(&target, &client).await, Ok(200), "{refusal}");
        let all = [(); 5].map(|()| ask(&target, &client));
        for answer in futures_join(all).await {
            assert_eq!(answer, Ok(200), "{refusal}");
        }
        assert_eq!(to(&target, "/token").len(), 2, "{refusal}");
    }
}

async fn futures_join<T>(all: [impl Future<Output = T>; 5]) -> Vec<T> {
    let [a, b, c, d, e] = all;
    let (a, b, c, d, e) = tokio::join!(a, b, c, d, e);
    vec![a, b, c, d, e]
}

#[tokio::test]
async fn a_403_before_the_token_has_worked_speaks_of_a_missing_right() {
    let target = Fixture::start(|asked| match asked.path.as_str() {
        "/token" => token("abcdef"),
        _ => Reply::Status(403),
    })
    .await;
    let client = client(&target, oauth2(&target));
    assert_eq!(ask(&target, &client).await, Ok(403));
    assert_eq!(to(&target, "/token").len(), 1);
}

// Keycloak gives tokens of five minutes, and a margin of ten meant a token request for each call.
#[tokio::test]
async fn a_token_is_renewed_a_fifth_of_its_life_before_it_expires() {
    let target = Fixture::start(|asked| match asked.path.as_str() {
        "/token" => Reply::Body(
            200,
            json!({"access_token": "abcdef", "expires_in": 100}).to_string(),
        ),
        _ => Reply::Status(200),
    })
    .await;
    let client = client(&target, oauth2(&target));
    for (seconds, tokens) in [(0, 1), (79, 1), (2, 2)] {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(seconds)).await;
        tokio::time::resume();
        assert_eq!(ask(&target, &client).await, Ok(200));
        assert_eq!(
            to(&target, "/token").len(),
            tokens,
            "after {seconds} s more"
        );
    }
}

// The largest number there is, for a token that never expires.
#[tokio::test]
async fn a_life_beyond_all_clocks_lasts_until_the_token_is_refused() {
    let target = Fixture::start(|asked| match asked.path.as_str() {
        "/token" => Reply::Body(
            200,
            json!({"access_token": "abcdef", "expires_in": i64::MAX}).to_string(),
        ),
        _ => Reply::Status(200),
    })
    .await;
    let client = client(&target, oauth2(&target));
    for _ in 0..2 {
        assert_eq!(ask(&target, &client).await, Ok(200));
    }
    assert_eq!(to(&target, "/token").len(), 1);
}

#[tokio::test]
async fn while_the_endpoint_is_down_a_token_is_used_as_long_as_it_is_valid() {
    let given = AtomicUsize::new(0);
    let target = Fixture::start(move |asked| match asked.path.as_str() {
        "/token" if given.fetch_add(1, Ordering::SeqCst) == 0 => Reply::Body(
            200,
            json!({"access_token": "abcdef", "expires_in": 100}).to_string(),
        ),
        "/token" => Reply::Body(500, "maintenance".into()),
        _ => Reply::Status(200),
    })
    .await;
    let client = client(&target, oauth2(&target));
    let after = async |seconds| {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(seconds)).await;
        tokio::time::resume();
        ask(&target, &client).await
    };
    assert_eq!(after(0).await, Ok(200));
    assert_eq!(after(90).await, Ok(200), "it is valid for 10 s more");
    let held = after(11).await.expect_err("it has expired");
    assert!(
        held.contains("no token from http://127.0.0.1")
            && held.contains("answered 500: maintenance"),
        "{held}"
    );
    // The endpoint has a wait of its own, however many deliveries ask.
    let tokens = to(&target, "/token").len();
    assert_eq!(after(0).await.expect_err("held"), held);
    assert_eq!(to(&target, "/token").len(), tokens);
    assert!(after(60).await.is_err());
    assert_eq!(to(&target, "/token").len(), tokens + 1);
}

#[tokio::test]
async fn a_refusal_of_the_endpoint_is_shown_without_our_secrets_and_with_a_remedy() {
    let target = Fixture::start(|asked| match asked.path.as_str() {
        "/token" => Reply::Body(
            401,
            json!({
                "asked": asked.headers["authorization"],
                "error": "invalid_client",
                "hint": SECRET,
            })
            .to_string(),
        ),
        _ => Reply::Status(200),
    })
    .await;
    let client = client(&target, oauth2(&target));
    let held = ask(&target, &client).await.expect_err("no token");
    assert!(
        held.contains("invalid_client") && held.contains("try client_auth = \"body\""),
        "{held}"
    );
    let basic = STANDARD.encode("weir+client:s3cret%3Awith%25chars");
    assert!(!held.contains(SECRET) && !held.contains(&basic), "{held}");
    assert!(to(&target, "/api").is_empty());
}

#[tokio::test]
async fn an_echoed_token_is_hidden() {
    let target = Fixture::start(|asked| match asked.path.as_str() {
        "/token" => token("a-token-that-is-secret"),
        _ => Reply::Body(400, "Bearer a-token-that-is-secret is fine".into()),
    })
    .await;
    let client = client(&target, oauth2(&target));
    let mut request = Request::new(Sent::from(Bytes::new()));
    *request.uri_mut() = target.url("/api").parse().expect("a URI");
    let answered = client.exchange(request).await.expect("an answer");
    let shown = client
        .redactor(&answered)
        .redact(&answered.body)
        .into_owned();
    assert_eq!(String::from_utf8_lossy(&shown), "Bearer [secret] is fine");
}
