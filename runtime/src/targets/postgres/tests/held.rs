//! What the table holds, as a drift check sees it.

use super::*;

#[tokio::test]
async fn rows_are_compared_in_the_database_with_the_casts_of_the_upsert() {
    let Some(server) = Server15::shared(PROVES) else {
        return;
    };
    let table = Table::with(
        server,
        "drifting",
        "key text PRIMARY KEY, sequence bigint, price numeric(10,2), data jsonb, plain json, at timestamptz(0), name varchar(5), deleted boolean",
        |options| {
            options.columns = columns(&[
                ("price", "/price"),
                ("data", "/data"),
                ("plain", "/plain"),
                ("at", "/at"),
                ("name", "/name"),
            ]);
            options.delete = Delete::Flag("deleted".into());
        },
    );
    let content = json!({"price": 9.999, "data": {"b": 1e3, "a": 1.0}, "plain": {"b": 1}, "at": "2026-11-30T12:00:00.7+01:00", "name": "lamp"});
    let items: Vec<Item> = ["same", "older", "newer", "changed", "missing", "flagged"]
        .iter()
        .zip(10..)
        .map(|(key, sequence)| row(key, sequence, &content))
        .collect();
    table.takes(&items).await;
    table
        .takes(&[row("extra", 20, &content), row("gone", 21, &content)])
        .await;
    table.takes(&[gone("gone", 22)]).await;
    server.sql(
        "UPDATE drifting SET sequence = 3, price = 1 WHERE key = 'older';
         UPDATE drifting SET sequence = 30 WHERE key = 'newer';
         UPDATE drifting SET price = 1, name = NULL WHERE key = 'changed';
         UPDATE drifting SET deleted = true WHERE key = 'flagged';
         DELETE FROM drifting WHERE key = 'missing'",
    );
    let mut asked = items;
    asked.extend([gone("extra", 23), gone("gone", 23), gone("never", 23)]);
    asked.push(item("odd", 24, Some(r#"{"price": "x"}"#)));
    let before = table.rows("*");
    let held = table.target.compare(&asked).await.expect("an answer");
    let different = Held::Different(vec!["price".into(), "name".into()]);
    let expected = [
        Held::Same,
        Held::Older(Sequence(3)),
        Held::Same,
        different,
        Held::Missing,
        Held::Missing,
        Held::Extra,
        Held::Same,
        Held::Same,
    ];
    assert_eq!(held[..9], expected);
    assert!(
        matches!(&held[9], Held::Unknown(reason) if reason.contains("22P02")),
        "{:?}",
        held[9]
    );
    assert_eq!(table.rows("*"), before, "a comparison changes nothing");
}

#[tokio::test]
async fn keys_are_listed_a_page_at_a_time_in_the_order_of_the_server() {
    let Some(server) = Server15::shared(PROVES) else {
        return;
    };
    let table = Table::with(server, "listed", FLAG_TABLE, |options| {
        options.delete = Delete::Flag("deleted".into());
    });
    server.sql(
        "INSERT INTO listed SELECT 'k' || n, n, NULL, n = 5 FROM generate_series(1, 12345) AS n",
    );
    let (mut keys, mut after, mut pages) = (std::collections::BTreeSet::new(), None, 0);
    loop {
        let page = table.target.keys(after.as_deref()).await.expect("a page");
        keys.extend(page.keys);
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((keys.len(), pages), (12_344, 3));
    assert!(!keys.contains("k5"));
}
