//! The same stories with a table of PostgreSQL, which is no engine on HTTP: a real server plays it.

use super::*;
use crate::targets::http::{Egress, Tls};
use crate::targets::postgres::{self, Delete, Mode, Name, Server};
use crate::targets::postgres_server::Postgres;

const PROVES: &str = "channels that deliver to PostgreSQL";

/// A table, in which each row that goes back to a lower price is counted. A price that is no number does not
/// fit.
fn create(server: &Postgres, name: &str) {
    server.sql(&format!(
        "SET ROLE weir; DROP TABLE IF EXISTS {name}; DROP TABLE IF EXISTS {name}_fell;
         CREATE TABLE {name} (key text PRIMARY KEY, sequence bigint NOT NULL, price int, content text);
         CREATE TABLE {name}_fell (key text);
         CREATE OR REPLACE FUNCTION {name}_notes() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           IF new.price < old.price THEN INSERT INTO {name}_fell VALUES (new.key); END IF;
           RETURN new; END $$;
         CREATE TRIGGER notes BEFORE UPDATE ON {name} FOR EACH ROW EXECUTE FUNCTION {name}_notes()"
    ));
}

fn kind(url: &str, name: &str) -> Kind {
    let value = |name: &str, pointer: &str| postgres::Value::new(name, pointer).expect("a pointer");
    Kind::Postgres(Box::new(postgres::Options {
        server: Server::parse(url).expect("a URL"),
        table: Name::parse(name).expect("a name"),
        key: "key".into(),
        sequence: "sequence".into(),
        columns: vec![
            value("price", "/facets/price"),
            value("content", "/facets/content"),
        ],
        delete: Delete::Row,
        mode: Mode::Disable,
        tls: Tls::default(),
        timeout: Duration::from_secs(5),
        egress: Egress::Private,
    }))
}

async fn story(server: &Postgres, name: &str, store: Arc<Memory>) -> Story {
    let knobs = Knobs {
        options: Options {
            batch: 500,
            ..options()
        },
        ..Knobs::default()
    };
    let setup = setup_of(kind(&server.url(), name), Clock::system(), knobs);
    let nobody = Script::new(|_| Reply::Hang);
    Story::with(store, nobody, setup).await
}

/// Waits until nothing is owed, and compares the table.
async fn settles(story: &Story, server: &Postgres, name: &str, expected: &str, refused: u64) {
    story.quiet_within(LONG).await;
    let held =
        format!("SELECT count(*), sum(price), (SELECT count(*) FROM {name}_fell) FROM {name}");
    assert_eq!(server.sql(&held), format!("{expected}|0"));
    assert_eq!(story.channel.status().owed.refused, refused);
}

#[tokio::test]
async fn what_is_put_changed_deleted_and_refused_is_there_as_it_is_now() {
    let Some(server) = Postgres::shared(PROVES) else {
        return;
    };
    create(server, "story_now");
    let story = story(server, "story_now", Arc::default()).await;
    (0..60).for_each(|number| story.set(&key(number), "price", "1"));
    story.set("e33", "price", "\"bad\"");
    settles(&story, server, "story_now", "59|59", 1).await;
    story.set("e33", "price", "2");
    (0..5).for_each(|number| story.set(&key(number), "price", "2"));
    (5..10).for_each(|number| story.delete(&key(number)));
    settles(&story, server, "story_now", "55|61", 0).await;
    story.set("e7", "price", "3");
    settles(&story, server, "story_now", "56|64", 0).await;
    story.end().await;
}

#[tokio::test]
async fn keys_and_values_in_any_script_and_of_any_length_arrive_as_they_are() {
    let Some(server) = Postgres::shared(PROVES) else {
        return;
    };
    create(server, "story_keys");
    let story = story(server, "story_keys", Arc::default()).await;
    let text = "Stuhl «ß» 椅子 كرسي כיסא καρέκλα 🛋️ e\u{301} \u{2028} \\ \" </script>";
    let (keys, long) = (strange_keys(), "x".repeat(256 * 1024));
    for key in &keys {
        story.set(key, "price", "1");
        story.set(key, "content", &json!(text).to_string());
    }
    story.set("long", "price", "1");
    story.set("long", "content", &json!(long).to_string());
    let count = keys.len() + 1;
    settles(&story, server, "story_keys", &format!("{count}|{count}"), 0).await;
    let same = server.sql("SELECT count(DISTINCT content), max(length(content)) FROM story_keys");
    assert_eq!(same, format!("2|{}", long.len()));
    assert_eq!(
        server.sql("SELECT content FROM story_keys WHERE key = 'a/b'"),
        text
    );
    keys.iter().for_each(|key| story.delete(key));
    story.delete("long");
    settles(&story, server, "story_keys", "0|", 0).await;
    story.end().await;
}

/// The server crashes, refuses the login, and Weir is started again, while prices rise.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_in_trouble_ends_with_the_newest_state_and_never_goes_back() {
    let Some(mut server) = Postgres::start(&[], PROVES) else {
        return;
    };
    create(&server, "story_trouble");
    let store = Arc::<Memory>::default();
    let mut now = story(&server, "story_trouble", store.clone()).await;
    for round in 1..=4_u64 {
        let prices = round.to_string();
        (0..200).for_each(|number| now.set(&key(number), "price", &prices));
        let some = format!("SELECT count(*) > 0 FROM story_trouble WHERE price = {round}");
        while server.sql(&some) != "t" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        match round {
            1 => {
                tokio::task::block_in_place(|| server.stop("immediate"));
                (0..100).for_each(|number| now.set(&key(number), "price", &prices));
                tokio::task::block_in_place(|| server.start_again());
            }
            2 => {
                server.sql("ALTER ROLE weir NOLOGIN; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'weir'");
                now.set("e0", "price", "3");
                let tripped =
                    |story: &Story| story.channel.status().state != status::State::Flowing;
                now.until("tripped", tripped).await;
                server.sql("ALTER ROLE weir LOGIN");
            }
            3 => {
                now.channel.stop(Duration::from_millis(100)).await;
                store.save(Timestamp(0)).await.expect("it saves");
                store.crash();
                now = story(&server, "story_trouble", store.clone()).await;
            }
            _ => {}
        }
    }
    settles(&now, &server, "story_trouble", "200|800", 0).await;
    now.end().await;
}

/// On the embedded store, because the one in memory looks through everything at each step.
#[tokio::test(flavor = "multi_thread")]
async fn many_entities_arrive_in_few_statements() {
    let Some(server) = Postgres::shared(PROVES) else {
        return;
    };
    create(server, "story_many");
    let given = std::env::var("WEIR_ENTITIES").ok();
    let many = given.map_or(MANY, |given| given.parse().expect("a number"));
    let began = std::time::Instant::now();
    let folder = tempfile::tempdir().expect("a folder");
    let store = embedded::Embedded::open(embedded::Options {
        cache_bytes: 32 << 20,
        ..embedded::Options::new(folder.path())
    });
    let store = Arc::new(store.expect("it opens"));
    let knobs = Knobs {
        options: Options {
            batch: 5_000,
            batch_bytes: 8 << 20,
            ..options()
        },
        ..Knobs::default()
    };
    let setup = setup_of(kind(&server.url(), "story_many"), Clock::system(), knobs);
    let (channel, _) = Channel::start(setup, store.clone(), CancellationToken::new())
        .await
        .expect("it joins");
    channel.pause().await.expect("it pauses");
    for first in (0..many).step_by(500) {
        let last = many.min(first + 500);
        let changes = (first..last).map(|number| price_change(Lane::Normal, &key(number), 1));
        let event = Commit {
            source: "erp".into(),
            identity: None,
            arrival: None,
            effect: Effect::Changes(changes.collect()),
        };
        let receipt = store.commit(vec![event]).expect("room");
        receipt.await.expect("an answer").expect("it is written");
    }
    channel.resume().await.expect("it goes on");
    let most = LONG + Duration::from_millis(many as u64);
    while channel.queue().owed().total() > 0 {
        assert!(began.elapsed() < most, "{:?}", channel.status());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let held =
        server.sql("SELECT count(*), count(DISTINCT xmin::text) < count(*) / 100 FROM story_many");
    assert_eq!(held, format!("{many}|t"), "in few statements");
    println!("postgres: {many} entities in {:?}", began.elapsed());
    channel.stop(Duration::from_secs(1)).await;
    store.close().await.expect("it closes");
}
