//! Isolation: something slow, hanging or hostile costs at most its own share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::http;
use crate::support::stage::CATALOG;
use crate::support::{Act, Ends, Receiver, Stage, becomes, change, guests};

#[test]
fn a_hanging_target_does_not_delay_another_channel() {
    let dead = Receiver::start();
    dead.does(|_| Act::Hang(false));
    // Whoever waited for it would wait for longer than this story has patience.
    let stage = Stage::with(&format!(
        "{CATALOG}[targets.dead]\nkind = \"webhook\"\nurl = {:?}\ntimeout = \"10m\"\n[channels.dead]\nentity = \"product\"\nfacets = [\"content\"]\ntarget = \"dead\"\n",
        dead.url()
    ));
    let changes: Vec<Value> = (0..500)
        .map(|number| change(&format!("p{number}"), "content", json!(1)))
        .collect();
    stage.takes("pim", &changes);
    becomes("the other channel has all", 500, || {
        stage.shop.holds().len()
    });
    assert_eq!(stage.shop.count(), 500, "each once");
    assert!(
        dead.count() > 0 && dead.holds().is_empty(),
        "the dead target got no request, or answered one"
    );
    assert!(
        dead.most_in_hand() <= 8,
        "more than `concurrency` requests wait for it: {}",
        dead.most_in_hand()
    );
    assert_eq!(
        stage.channel("dead")["owed"]["normal"]
            .as_u64()
            .zip(stage.channel("dead")["in_flight"].as_u64())
            .map(|(a, b)| a + b > 0),
        Some(true)
    );
}

#[test]
fn a_looping_plugin_does_not_stop_another_source() {
    let config = format!(
        "{}[plugins.guest]\npath = \"guest.wasm\"\nlimits = {{ time = \"300ms\" }}\n[plugins.mapper]\npath = \"mapper.wasm\"\n[sources.loop]\nowner = \"erp\"\nplugins = [\"guest\"]\n",
        CATALOG
            .replace("price.*", "base")
            .replace("[sources.erp]\n", "[sources.erp]\nplugins = [\"mapper\"]\n")
    );
    let mut stage = Stage::closed(&config);
    stage.place("guest.wasm", &guests::hostile::mapper());
    stage.place("mapper.wasm", &guests::versioned::mapper(1));
    stage.start();
    // The same requests go in turn to a Weir without such a plugin, which waits for the same processors.
    let spared = Stage::catalog();
    let over = AtomicBool::new(false);
    let event = |id: &str, kind: &str| json!({"specversion": "1.0", "id": id, "source": "x", "type": kind, "data": 1});
    let headers = [("content-type", "application/cloudevents-batch+json")];
    std::thread::scope(|scope| {
        let (stage, over, event, headers) = (&stage, &over, &event, &headers);
        for sender in 0..16 {
            scope.spawn(move || {
                let mut number = 0;
                while !over.load(Ordering::SeqCst) {
                    number += 1;
                    let batch = json!([event(&format!("l{sender}-{number}"), "loop")]).to_string();
                    let path = "/v1/sources/loop/events";
                    let address = stage.weir().address();
                    // What loops is slowed down by itself: its senders may wait for long.
                    if let Ok(reply) =
                        http::request(address, "POST", path, headers, batch.as_bytes())
                    {
                        assert_eq!(reply.json()["events"]["quarantined"], 1, "{}", reply.text());
                    }
                }
            });
        }
        let ends = Ends(over);
        let (begin, mut number) = (Instant::now(), 0);
        let (mut slowest, mut elsewhere) = (Duration::ZERO, Duration::ZERO);
        while begin.elapsed() < Duration::from_secs(2) {
            let start = Instant::now();
            let reply = stage.send(
                "erp",
                headers,
                json!([event(&format!("e{number}"), "good")])
                    .to_string()
                    .as_bytes(),
            );
            assert_eq!(reply.json()["events"]["accepted"], 1, "{}", reply.text());
            slowest = slowest.max(start.elapsed());
            let other = [change(&format!("p{number}"), "content", json!(1))];
            stage.takes("pim", &other);
            let start = Instant::now();
            spared.takes("pim", &other);
            elsewhere = elsewhere.max(start.elapsed());
            number += 1;
            std::thread::sleep(Duration::from_millis(20));
        }
        // If each looping plugin had a fair turn before it, that would be 16 times 600 ms more.
        println!(
            "the slowest of {number} events of the other source took {slowest:?}, elsewhere {elsewhere:?}"
        );
        assert!(
            slowest < 2 * elsewhere + Duration::from_secs(5),
            "an event of another source waited {slowest:?}, elsewhere {elsewhere:?}"
        );
        drop(ends);
        becomes("all of the others arrive", 2 * number, || {
            stage.shop.holds().len()
        });
    });
}

#[test]
fn it_stops_within_ten_seconds_under_load_and_loses_nothing() {
    let dead = Receiver::start();
    dead.does(|_| Act::Hang(false));
    let mut stage = Stage::with(&format!(
        "{CATALOG}[targets.dead]\nkind = \"webhook\"\nurl = {:?}\ntimeout = \"60s\"\n[channels.dead]\nentity = \"product\"\nfacets = [\"content\"]\ntarget = \"dead\"\n",
        dead.url()
    ));
    let address = stage.weir().address();
    let senders: Vec<_> = (0..4)
        .map(|sender| {
            std::thread::spawn(move || {
                let mut accepted = Vec::new();
                for number in 0.. {
                    let key = format!("{sender}-{number}");
                    let body = change(&key, "content", json!(number)).to_string();
                    match http::request(
                        address,
                        "POST",
                        "/v1/sources/pim/events",
                        &[("content-type", "application/json")],
                        body.as_bytes(),
                    ) {
                        Ok(reply) if reply.status == 202 => accepted.push(key),
                        // Weir is stopping, so this request was not accepted.
                        Ok(reply) if reply.status == 503 => return accepted,
                        Ok(reply) => panic!("{} {}", reply.status, reply.text()),
                        Err(_) => return accepted,
                    }
                }
                accepted
            })
        })
        .collect();
    becomes("deliveries hang", true, || {
        dead.count() > 0 && stage.shop.count() > 20
    });
    // It gives up at 9 s, which is no success. Whoever waited for the target would need a minute.
    let time = stage.stop();
    assert!(time < Duration::from_secs(30), "{time:?}");
    let mut accepted: Vec<String> = senders
        .into_iter()
        .flat_map(|sender| sender.join().expect("no panic"))
        .collect();
    accepted.sort();
    assert!(accepted.len() > 20, "{}", accepted.len());

    dead.does(|_| Act::Answer(200));
    stage.start();
    let missing = |shop: &Receiver| {
        accepted
            .iter()
            .filter(|key| !shop.holds().contains_key(*key))
            .count()
    };
    becomes("the shop has all that was accepted", 0, || {
        missing(&stage.shop)
    });
    becomes(
        "and so has the other target, now that it responds",
        0,
        || missing(&dead),
    );
}

/// A renderer whose instances hold 58 MB served 12 channels. Each worker kept an instance for each
/// of them: 5.4 GB.
#[test]
fn a_plugin_with_much_state_in_many_channels_stays_within_the_bound_of_memory() {
    let channels: String = (0..12)
        .map(|n| {
            format!(
                "[channels.shop-{n}]\nentity = \"product\"\nfacets = [\"content\"]\nplugins = [\"page\"]\nsettings = {{ n = {n} }}\ntarget = \"shop\"\nbatch = 50\n"
            )
        })
        .collect();
    let mut stage = Stage::closed(&format!(
        "{}[plugins.page]\npath = \"page.wasm\"\n{channels}",
        CATALOG.split("[channels").next().expect("a beginning")
    ));
    stage.place("page.wasm", &guests::versioned::large_renderer(1, 58 << 20));
    stage.start();
    let changes: Vec<Value> = (0..60)
        .map(|number| change(&format!("p{number}"), "content", json!(1)))
        .collect();
    stage.takes("pim", &changes);
    for n in 0..12 {
        stage.settles(&format!("shop-{n}"));
    }
    let peak = stage.weir().peak_mib();
    println!("peak of resident memory with 12 channels of 58 MB: {peak} MiB");
    // 512 MiB of idle instances, at most 14 in use, and the rest of Weir.
    assert!(peak < 1536, "{peak} MiB");
}
