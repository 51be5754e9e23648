//! A database that does not hold any more what it acknowledged.

use super::*;

/// Delivers until the server is there again.
async fn delivered_in_the_end(target: &Postgres, items: &[Item]) -> Vec<Outcome> {
    for _ in 0..6_000 {
        let outcomes = deliver(target, items, 1_000, None).await;
        if !matches!(outcomes[0], Outcome::Trip { .. } | Outcome::Retry { .. }) {
            return outcomes;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the server does not come back");
}

fn opened(url: &str) -> Postgres {
    Postgres::open(&options(url, "kept")).expect("options")
}

// A copy of last night was restored, and the shop had the prices of last night until somebody changed them.
#[tokio::test]
async fn a_database_that_was_restored_is_noticed_and_gets_nothing_until_it_starts_over() {
    let Some(mut server) = Server15::start(&[], PROVES) else {
        return;
    };
    server.sql(&format!(
        "SET ROLE weir; CREATE TABLE kept ({CONTENT_TABLE})"
    ));
    let target = opened(&server.url());
    deliver(&target, &many(0..10, 1), 1_000, None).await;
    server.stop("fast");
    let backup = tempfile::tempdir().expect("a folder");
    server.copy_to(&backup.path().join("data"));
    server.start_again();
    let outcomes = delivered_in_the_end(&target, &many(0..20, 2)).await;
    assert_eq!(outcomes[0], Outcome::Delivered);
    let mark = target.mark().expect("a mark");

    server.stop("fast");
    server.restore(&backup.path().join("data"));
    server.start_again();
    let outcomes = delivered_in_the_end(&target, &many(30..31, 3)).await;
    is(&outcomes[0], &["forgot", "bytes before the last delivery"]);
    assert_eq!(
        server.sql("SELECT count(*) FROM kept WHERE sequence > 1"),
        "0"
    );
    // A Weir that was restarted meanwhile notices it too.
    let again = opened(&server.url());
    let exact = true;
    again.take_mark(Mark { bytes: mark, exact });
    let outcomes = deliver(&again, &many(30..31, 3), 1_000, None).await;
    is(&outcomes[0], &["forgot"]);
    for target in [target, again] {
        target.start_over();
        let outcomes = deliver(&target, &many(0..20, 4), 1_000, None).await;
        assert_eq!(outcomes, vec![Outcome::Delivered; 20]);
    }
}

#[tokio::test]
async fn a_table_that_was_created_again_has_forgotten_and_a_server_that_crashed_has_not() {
    let Some(mut server) = Server15::start(&[], PROVES) else {
        return;
    };
    server.sql(&format!(
        "SET ROLE weir; CREATE TABLE kept ({CONTENT_TABLE})"
    ));
    let target = opened(&server.url());
    for round in 0..5 {
        let outcomes = delivered_in_the_end(&target, &many(0..2_000, round + 1)).await;
        assert_eq!(outcomes[0], Outcome::Delivered);
        server.stop("immediate");
        server.start_again();
    }
    let outcomes = delivered_in_the_end(&target, &many(0..1, 9)).await;
    assert_eq!(outcomes, [Outcome::Delivered]);
    server.sql(&format!(
        "SET ROLE weir; DROP TABLE kept; CREATE TABLE kept ({CONTENT_TABLE})"
    ));
    let outcomes = deliver(&target, &many(0..1, 10), 1_000, None).await;
    is(&outcomes[0], &["forgot", "created again"]);
}

/// A standby takes over: with all that was acknowledged, and without the last of it.
#[tokio::test]
async fn a_standby_that_takes_over_has_forgotten_only_what_it_never_got() {
    for loses in [false, true] {
        let Some(mut primary) = Server15::start(&[], PROVES) else {
            return;
        };
        primary.sql(&format!(
            "SET ROLE weir; CREATE TABLE kept ({CONTENT_TABLE})"
        ));
        let standby = primary.standby();
        let hosts = format!("127.0.0.1:{},127.0.0.1:{}", standby.port(), primary.port());
        let both = primary
            .url()
            .replace(&format!("127.0.0.1:{}", primary.port()), &hosts);
        let target = opened(&both);
        let outcomes = deliver(&target, &many(0..10, 1), 1_000, None).await;
        assert_eq!(
            outcomes[0],
            Outcome::Delivered,
            "the standby is passed over"
        );
        let position = "SELECT pg_current_wal_lsn()";
        let until = primary.sql(position);
        let caught_up = format!("SELECT pg_last_wal_replay_lsn() >= '{until}'");
        becomes(&standby, &caught_up, "t").await;
        if loses {
            // The stream stands still, and deliveries go on.
            standby.sql("ALTER SYSTEM SET primary_conninfo = ''");
            standby.sql("SELECT pg_reload_conf()");
            becomes(&primary, "SELECT count(*) FROM pg_stat_replication", "0").await;
            let outcomes = deliver(&target, &many(0..2_000, 2), 1_000, None).await;
            assert_eq!(outcomes[0], Outcome::Delivered);
        }
        let mark = target.mark().expect("a mark");
        primary.stop(if loses { "immediate" } else { "fast" });
        standby.promote();
        let outcomes = delivered_in_the_end(&target, &many(0..10, 3)).await;
        match loses {
            false => assert_eq!(outcomes[0], Outcome::Delivered),
            true => is(&outcomes[0], &["forgot", "bytes before"]),
        }
        // Whoever was killed before does not know how much had come after the mark.
        let killed = opened(&both);
        let exact = false;
        killed.take_mark(Mark { bytes: mark, exact });
        let outcomes = deliver(&killed, &many(0..10, 4), 1_000, None).await;
        is(&outcomes[0], &["forgot"]);
    }
}
