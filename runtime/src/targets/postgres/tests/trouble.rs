//! A database in trouble: locks, slow statements, crashes, read-only servers, poolers, full disks.

use std::time::Instant;

use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn quick(options: &mut Options) {
    options.timeout = Duration::from_millis(1_500);
}

// A report held one row for an hour, and nothing was delivered to the table meanwhile.
#[tokio::test]
async fn a_row_that_somebody_holds_waits_alone() {
    let Some(server) = Server15::shared(PROVES) else {
        return;
    };
    let table = Table::with(server, "locked", CONTENT_TABLE, quick);
    table.takes(&many(0..100, 1)).await;
    let holder = Holder::begin(
        server,
        "SELECT * FROM locked WHERE key = 'e00042' FOR UPDATE",
    );
    // The row is held until the end of this story.
    let items = many(0..100, 2);
    let put = timeout(PATIENCE, table.put(&items)).await;
    let outcomes = put.expect("nobody waits for it");
    is(&outcomes[42], &["retry, maybe false", "55P03"]);
    let others: Vec<Item> = many(0..100, 2)
        .into_iter()
        .filter(|item| &*item.key != "e00042")
        .collect();
    is(&outcomes[41], &["split"]);
    table.takes(&others).await;
    let deletes = [gone("e00042", 3), gone("e00043", 3)];
    let outcomes = table.put(&deletes).await;
    is(&outcomes[0], &["retry, maybe false", "55P03"]);
    is(&outcomes[1], &["split"]);
    drop(holder);
    table.takes(&many(42..43, 2)).await;
    // A row that somebody is about to insert cannot be seen.
    let holder = Holder::begin(server, "INSERT INTO locked VALUES ('new', 1, '1')");
    for outcome in table
        .put(&[row("a", 2, &json!(1)), row("new", 2, &json!(1))])
        .await
    {
        is(&outcome, &["split", "55P03"]);
    }
    table.takes(&[row("a", 2, &json!(1))]).await;
    is(
        &table.one(row("new", 2, &json!(1))).await,
        &["retry, maybe false", "55P03"],
    );
    drop(holder);
    // The whole table.
    let holder = Holder::begin(server, "LOCK TABLE locked");
    for outcome in table.put(&many(0..2, 3)).await {
        is(&outcome, &["retry, maybe false", "55P03"]);
    }
    drop(holder);
    table.takes(&many(0..100, 3)).await;
}

/// A statement that lasts longer than Weir waits is ended by the server, and a smaller one is tried.
#[tokio::test]
async fn a_statement_that_takes_too_long_is_ended_and_not_left_alone() {
    let Some(server) = Server15::shared(PROVES) else {
        return;
    };
    let table = Table::with(server, "slow", CONTENT_TABLE, quick);
    server.sql(
        "CREATE OR REPLACE FUNCTION slow_down() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.1); RETURN NEW; END $$;
         CREATE TRIGGER slowly BEFORE INSERT ON slow FOR EACH ROW EXECUTE FUNCTION slow_down()",
    );
    for outcome in table.put(&many(0..50, 1)).await {
        assert!(
            matches!(&outcome, Outcome::Split { too_long: true, .. }),
            "{outcome:?}"
        );
    }
    assert_eq!(table.rows("count(*)"), "0");
    table.takes(&many(0..5, 1)).await;
    let running = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'weir' AND state = 'active' AND query LIKE '%slow%' AND pid <> pg_backend_pid()";
    assert_eq!(server.sql(running), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_channels_on_one_table_never_wait_for_each_other_in_a_ring() {
    let Some(server) = Server15::shared(PROVES) else {
        return;
    };
    let table = Arc::new(Table::create(server, "shared", CONTENT_TABLE));
    let mut channels = tokio::task::JoinSet::new();
    for channel in 0..4_u64 {
        let table = table.clone();
        channels.spawn(async move {
            for round in 0..8 {
                let mut items = many(0..400, 1 + round * 4 + channel);
                if channel % 2 == 1 {
                    items.reverse();
                }
                for item in items.iter_mut().skip(round as usize).step_by(7) {
                    item.rendering = None;
                }
                // A row that another channel has deleted since it held one back is sent again.
                while !items.is_empty() {
                    let outcomes = table.put(&items).await;
                    let mut outcomes = outcomes.into_iter();
                    items.retain(|_| match outcomes.next() {
                        Some(Outcome::Delivered) => false,
                        Some(
                            Outcome::Split { .. }
                            | Outcome::Refused {
                                after_tries: true, ..
                            },
                        ) => true,
                        other => panic!("{other:?}"),
                    });
                }
            }
        });
    }
    while let Some(ended) = channels.join_next().await {
        ended.expect("no deadlock");
    }
}

#[tokio::test]
async fn a_server_that_becomes_read_only_trips_and_another_connection_is_made() {
    let Some(server) = Server15::start(&[], PROVES) else {
        return;
    };
    let table = Table::create(&server, "guarded", CONTENT_TABLE);
    table.takes(&many(0..3, 1)).await;
    let set = |on: &str| {
        server.sql(&format!(
            "ALTER SYSTEM SET default_transaction_read_only = {on}"
        ));
        server.sql("SELECT pg_reload_conf()");
    };
    set("on");
    // Until the server's processes have read it.
    let began = Instant::now();
    loop {
        let outcome = table.one(row("a", 2, &json!(2))).await;
        if outcome != Outcome::Delivered {
            assert!(matches!(&outcome, Outcome::Trip { .. }), "{outcome:?}");
            break;
        }
        assert!(began.elapsed() < PATIENCE, "it does not trip");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    is(
        &table.one(row("a", 2, &json!(2))).await,
        &["trip", "cannot be written to"],
    );
    server.sql("ALTER SYSTEM RESET default_transaction_read_only");
    server.sql("SELECT pg_reload_conf()");
    let began = Instant::now();
    while table.one(row("a", 2, &json!(2))).await != Outcome::Delivered {
        assert!(began.elapsed() < PATIENCE, "it stays tripped");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

// The standby was away, and what the primary had confirmed went with the primary.
#[tokio::test]
async fn a_commit_that_waits_for_its_standby_is_not_delivered_when_it_is_given_up() {
    let Some(server) = Server15::start(&[], PROVES) else {
        return;
    };
    let table = Table::with(&server, "replicated", CONTENT_TABLE, quick);
    table.takes(&many(0..1, 1)).await;
    server.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    server.sql("SELECT pg_reload_conf()");
    let (began, mut round, mut last) = (Instant::now(), 1, Outcome::Delivered);
    while last == Outcome::Delivered && began.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(20)).await;
        round += 1;
        last = table.one(row(&key(0), round, &json!(round))).await;
    }
    is(&last, &["retry, maybe true", "standby"]);
    server.sql("ALTER SYSTEM RESET synchronous_standby_names");
    server.sql("SELECT pg_reload_conf()");
    becomes(&server, "SHOW synchronous_standby_names", "").await;
    let (began, newest) = (Instant::now(), row(&key(0), round + 1, &json!(50)));
    while table.one(newest.clone()).await != Outcome::Delivered {
        assert!(began.elapsed() < PATIENCE, "it is not delivered");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_crashes_in_the_middle_leaves_all_or_nothing() {
    let Some(mut server) = Server15::start(&[], PROVES) else {
        return;
    };
    let target = {
        let table = Table::create(&server, "crashed", CONTENT_TABLE);
        table.takes(&many(0..10, 1)).await;
        table.target
    };
    for round in 2..6_u64 {
        let (items, target) = (many(0..4_000, round), &target);
        let delivered = deliver(target, &items, 1_000, None);
        let (outcomes, ()) = tokio::join!(delivered, async {
            tokio::time::sleep(Duration::from_millis(5 * round)).await;
            tokio::task::block_in_place(|| server.stop("immediate"));
        });
        let word = said(&outcomes[0]);
        // Nothing is said to be certain that is not.
        let expected: &[&str] = match word.as_str() {
            "delivered" => &["4000"],
            word if word.contains("maybe true") => &["0", "4000"],
            word if word.contains("maybe false") || word.starts_with("trip") => &["0"],
            word => panic!("{word}"),
        };
        server.start_again();
        let written = format!("SELECT count(*) FROM crashed WHERE sequence = {round}");
        let written = server.sql(&written);
        assert!(expected.contains(&written.as_str()), "{word}: {written}");
    }
}

#[tokio::test]
async fn behind_a_pooler_in_transaction_mode_all_is_the_same() {
    let Some(server) = Server15::shared(PROVES) else {
        return;
    };
    let Some(bouncer) = PgBouncer::start(server, PROVES) else {
        return;
    };
    let table = Table::create(server, "pooled", CONTENT_TABLE);
    let opened = || Postgres::open(&options(&bouncer.url(), "pooled")).expect("options");
    let (one, other) = (opened(), opened());
    for round in 1..6 {
        let items = many(0..200, round);
        let (first, second) = tokio::join!(
            deliver(&one, &items, 1_000, None),
            deliver(&other, &items, 1_000, None)
        );
        let wrong = first
            .iter()
            .chain(&second)
            .find(|it| **it != Outcome::Delivered);
        assert_eq!(wrong, None);
    }
    deliver(&one, &[gone(&key(0), 9)], 1_000, None).await;
    assert_eq!(table.rows("count(*), max(sequence)"), "199|5");
    assert!(one.mark().is_some(), "the position can be read through it");
    let held = one.compare(&many(0..2, 5)).await.expect("an answer");
    assert_eq!(held, [Held::Missing, Held::Same]);
    // Nothing that Weir sets stays behind for others.
    let setting = "SELECT setting FROM pg_settings WHERE name = 'lock_timeout'";
    assert_eq!(server.sql(setting), "0");
    assert!(one.check().await.is_ok());
}

/// A proxy that can lose what the server answers, and hang.
async fn proxy(to: u16) -> (u16, tokio::sync::watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (deaf, is_deaf) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let is_deaf = is_deaf.clone();
            tokio::spawn(async move {
                let server = TcpStream::connect(("127.0.0.1", to))
                    .await
                    .expect("the server");
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let up = tokio::io::copy(&mut from_client, &mut to_server);
                let down = async {
                    let mut bytes = [0; 16_384];
                    loop {
                        let count = from_server.read(&mut bytes).await?;
                        if count == 0 {
                            return Ok::<_, std::io::Error>(());
                        }
                        if *is_deaf.borrow() {
                            continue;
                        }
                        to_client.write_all(&bytes[..count]).await?;
                    }
                };
                tokio::select! {
                    _ = up => {}
                    _ = down => {}
                }
            });
        }
    });
    (port, deaf)
}

/// The statement is applied, and nothing of the answer arrives: the attempt ends, and nobody knows.
#[tokio::test]
async fn an_answer_that_is_lost_leaves_the_outcome_unknown_and_the_next_attempt_settles_it() {
    let Some(server) = Server15::shared(PROVES) else {
        return;
    };
    let table = Table::create(server, "unheard", CONTENT_TABLE);
    let (port, deaf) = proxy(server.port()).await;
    let mut options = options(&url(port), "unheard");
    quick(&mut options);
    let target = Postgres::open(&options).expect("options");
    let outcomes = deliver(&target, &many(0..3, 1), 1_000, None).await;
    assert_eq!(outcomes[0], Outcome::Delivered);
    deaf.send(true).expect("the proxy");
    let items = many(0..3, 2);
    let unheard = timeout(PATIENCE, deliver(&target, &items, 1_000, None));
    let outcomes = unheard.await.expect("it ends although no answer comes");
    is(&outcomes[0], &["retry, maybe true"]);
    let outcomes = deliver(&target, &many(0..3, 2), 1_000, None).await;
    is(&outcomes[0], &["trip"]);
    deaf.send(false).expect("the proxy");
    let outcomes = deliver(&target, &many(0..3, 2), 1_000, None).await;
    assert_eq!(outcomes[0], Outcome::Delivered);
    assert_eq!(table.rows("count(*), max(sequence)"), "3|2");
}

#[tokio::test]
async fn too_many_clients_and_a_server_that_is_away_refuse_nothing() {
    let Some(server) = Server15::shared(PROVES) else {
        return;
    };
    let table = Table::create(server, "crowded", CONTENT_TABLE);
    server.sql("DROP ROLE IF EXISTS single; CREATE ROLE single LOGIN PASSWORD 'single-password' CONNECTION LIMIT 1; GRANT ALL ON crowded TO single");
    let url = server
        .url()
        .replace("weir:weir-password", "single:single-password");
    let opened = || Postgres::open(&options(&url, "crowded")).expect("options");
    let (first, second) = (opened(), opened());
    let outcomes = deliver(&first, &many(0..1, 1), 1_000, None).await;
    assert_eq!(outcomes, [Outcome::Delivered]);
    let outcomes = deliver(&second, &many(0..1, 2), 1_000, None).await;
    is(&outcomes[0], &["retry, maybe false", "53300"]);
    let nobody = Postgres::open(&options("postgres://weir@127.0.0.1:1/shop", "crowded"));
    let outcomes = deliver(&nobody.expect("options"), &many(0..1, 2), 1_000, None).await;
    is(&outcomes[0], &["trip", "no connection to 127.0.0.1:1"]);
    assert_eq!(table.rows("sequence"), "1");
}

/// A password was changed: the open connections stay, new ones are refused until Weir has the new one.
#[tokio::test]
async fn a_password_that_was_changed_trips_the_next_connection() {
    let Some(server) = Server15::start(&[], PROVES) else {
        return;
    };
    let table = Table::create(&server, "rotated", CONTENT_TABLE);
    table.takes(&many(0..1, 1)).await;
    server.sql("ALTER ROLE weir PASSWORD 'another-password'");
    table.takes(&many(0..1, 2)).await;
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'weir'");
    let mut last = String::new();
    for _ in 0..100 {
        last = said(&table.one(row("a", 3, &json!(3))).await);
        if last.contains("28P01") {
            break;
        }
    }
    assert!(
        last.starts_with("trip") && !last.contains("weir-password"),
        "{last}"
    );
    let url = server.url().replace("weir-password", "another-password");
    let target = Postgres::open(&options(&url, "rotated")).expect("options");
    let outcomes = deliver(&target, &many(0..1, 3), 1_000, None).await;
    assert_eq!(outcomes, [Outcome::Delivered]);
}

/// Each class of the table in `error.rs`, as a trigger raises it.
#[tokio::test]
async fn each_sqlstate_is_the_fault_of_whom_the_table_says() {
    let Some(server) = Server15::shared(PROVES) else {
        return;
    };
    let table = Table::create(server, "codes", CONTENT_TABLE);
    server.sql(
        "DROP TABLE IF EXISTS code_now; CREATE TABLE code_now (code text); GRANT SELECT ON code_now TO weir;
         CREATE OR REPLACE FUNCTION raises() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE c text; BEGIN
           SELECT code INTO c FROM code_now; RAISE EXCEPTION 'simulated' USING ERRCODE = c; END $$;
         CREATE TRIGGER raises BEFORE INSERT ON codes FOR EACH ROW EXECUTE FUNCTION raises()",
    );
    let classes = [
        (
            "retry, maybe false",
            "retry, maybe false",
            "40001 40P01 53100 53200 53300 53400",
        ),
        (
            "retry, maybe true",
            "retry, maybe true",
            "08006 08003 40003 57P01 57P02 57P03 58030 XX001",
        ),
        ("retry, maybe false", "split", "XX000"),
        (
            "trip",
            "trip",
            "25006 28000 28P01 3D000 3F000 42501 42703 42P01 42P10 428C9 0A000 55000 26000",
        ),
        (
            "refused, after tries false",
            "split",
            "22001 22003 22021 22P02 22P05 23502 44000 54000 54001 P0001 38000",
        ),
        ("refused, after tries true", "split", "23503 23505 23P01"),
    ];
    for (single, among_two, codes) in classes {
        for code in codes.split(' ') {
            server.sql(&format!(
                "DELETE FROM code_now; INSERT INTO code_now VALUES ('{code}')"
            ));
            is(&table.one(row("a", 1, &json!(1))).await, &[single, code]);
            for outcome in table
                .put(&[row("a", 1, &json!(1)), row("b", 1, &json!(1))])
                .await
            {
                is(&outcome, &[among_two, code]);
            }
        }
    }
    assert_eq!(table.rows("count(*)"), "0");
}

// The disk of the database was full for an hour.
#[tokio::test]
async fn a_full_disk_refuses_nothing_and_ends_with_all_rows() {
    let Some(server) = Server15::start(&["autovacuum=off"], PROVES) else {
        return;
    };
    let disk = tempfile::tempdir().expect("a folder");
    let Some(disk) = Small::mount(disk, server.data()) else {
        eprintln!("NOT RUN: no file system can be mounted; not tested: a full disk");
        return;
    };
    let place = disk.0.path().display();
    server.sql(&format!("CREATE TABLESPACE small LOCATION '{place}'; "));
    server.sql("GRANT CREATE ON TABLESPACE small TO weir");
    let table = Table::create(
        &server,
        "full_disk",
        "key text PRIMARY KEY, sequence bigint, content text",
    );
    server.sql("ALTER TABLE full_disk SET TABLESPACE small");
    let long = "x".repeat(1_500);
    let items: Vec<Item> = (0..400)
        .map(|number| row(&key(number), 1, &json!(long)))
        .collect();
    table.takes(&items).await;
    // A file beside those of the server takes all that is left.
    let balloon = disk.0.path().join("balloon");
    let mut file = std::fs::File::create(&balloon).expect("a file");
    while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    let newer: Vec<Item> = (400..2_400)
        .map(|number| row(&key(number), 2, &json!(long)))
        .collect();
    for outcome in table.put(&newer).await {
        is(&outcome, &["retry, maybe false", "53100"]);
    }
    std::fs::remove_file(&balloon).expect("removed");
    drop(file);
    table.takes(&newer).await;
    server.sql("DROP TABLE full_disk");
    server.sql("DROP TABLESPACE small");
}

/// A file system of some megabytes.
struct Small(tempfile::TempDir);

impl Small {
    /// Mounts it for the owner of `like`. `None` if the user or the kernel does not allow it.
    fn mount(folder: tempfile::TempDir, like: &std::path::Path) -> Option<Small> {
        use std::os::unix::fs::MetadataExt;
        let owner = std::fs::metadata(like).ok()?;
        let options = format!("size=8m,mode=700,uid={},gid={}", owner.uid(), owner.gid());
        let mut mount = std::process::Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &options, "none"])
            .arg(folder.path());
        // The way to it must be open to that user as well.
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        mounted.then_some(Small(folder))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let mut unmount = std::process::Command::new("umount");
        let _ = unmount.arg("-l").arg(self.0.path()).output();
    }
}
