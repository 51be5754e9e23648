//! Connections: what is said before one is there, and how long one is used.

use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// The port of something that answers each login with an error of this code.
async fn answers(code: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut login = [0; 1_024];
            let _ = client.read(&mut login).await;
            let fields = format!("SFATAL\0VFATAL\0C{code}\0Msimulated\0\0");
            let length = u32::try_from(fields.len() + 4).expect("a short one");
            let message = [b"E", &length.to_be_bytes()[..], fields.as_bytes()].concat();
            let _ = client.write_all(&message).await;
        }
    });
    port
}

// A pooler did not know a parameter of the connection (08P01). Elsewhere that class says that nobody knows whether
// a statement was applied, and entities were sent again for ever.
#[tokio::test]
async fn an_error_at_the_login_refuses_nothing_and_leaves_nothing_unknown() {
    for (code, words) in [
        ("08P01", &["trip", "the pooler before it", "08P01"][..]),
        ("08004", &["trip", "08004"]),
        ("28000", &["trip", "28000"]),
        ("57P03", &["trip", "57P03"]),
        ("53300", &["retry, maybe false", "53300"]),
    ] {
        let url = url(answers(code).await);
        let target = Postgres::open(&options(&url, "anything")).expect("options");
        for outcome in deliver(&target, &many(0..2, 1), 1_000, None).await {
            is(&outcome, words);
        }
    }
}

// A password was changed in the morning, and the connections of the night were used until the evening.
#[tokio::test]
async fn no_connection_is_used_for_longer_than_half_an_hour() {
    let Some(server) = Server15::shared(PROVES) else {
        return;
    };
    let table = Table::create(server, "aged", CONTENT_TABLE);
    table.takes(&many(0..1, 1)).await;
    let pool = &table.target.pool;
    let (conn, is_new) = pool.take().await.expect("a connection");
    assert!(!is_new);
    let since = conn.since;
    pool.give(conn);
    for (minutes, expected) in [(20, false), (31, true)] {
        let (mut conn, _) = pool.take().await.expect("a connection");
        conn.since = since - Duration::from_secs(minutes * 60);
        pool.give(conn);
        let (conn, is_new) = pool.take().await.expect("a connection");
        assert_eq!(is_new, expected, "after {minutes} minutes");
        pool.give(conn);
    }
}
