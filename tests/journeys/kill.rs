//! Weir is killed in the middle of its work, again and again, with 64 clients, and also while it
//! reloads, resyncs, and loses and regains a channel. Everything that was accepted is still there,
//! the accounts of each channel add up, and no channel receives an older state after a newer one.
//!
//! `WEIR_KILLS=500 cargo test --test journeys kill` runs more rounds.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::support::http::{Connection, request};
use crate::support::stage::CATALOG;
use crate::support::{Ends, Ledger, Receiver, Stage, change, deletion, eventually, repeats};

/// The number of lives in a run of all tests.
const ROUNDS: usize = 50;
/// Each client sends rising values of a key of its own, one request after the other.
const CLIENTS: usize = 64;

/// A disturbance during a life, in addition to the changes and the kill.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Meanwhile {
    Nothing,
    /// The shop's channel gets another list of facets, or the previous one again.
    Swap,
    /// The operator reports that the shop has lost its data.
    Resync,
    /// A channel leaves the configuration, or returns to it.
    Remove,
}

/// The current configuration.
#[derive(Clone, Copy, Default)]
struct Config {
    swapped: bool,
    removed: bool,
}

impl Config {
    fn write(self, stage: &Stage, side: &Receiver) {
        // No attempt times out, so a delivery that arrives late comes from an earlier life.
        let guard = "withdraw_max = { share = \"100%\", per = \"1h\", min = 1000000 }\n";
        let mut config = CATALOG.to_owned() + guard;
        if self.swapped {
            config = config.replace(
                "facets = [\"content\", \"price.*\"]",
                "facets = [\"content\"]",
            );
        }
        config += &format!(
            "[targets.side]\nkind = \"webhook\"\nurl = \"{}\"\ntimeout = \"30s\"\n",
            side.url()
        );
        if !self.removed {
            config += "[channels.side]\nentity = \"product\"\nfacets = [\"content\"]\ntarget = \"side\"\n";
            config += guard;
        }
        stage.configure(&config);
    }
}

fn deletes(client: usize, number: u64) -> bool {
    client.is_multiple_of(8) && number.is_multiple_of(5)
}

/// Sends until Weir is gone.
fn send(stage: &Stage, client: usize, ledger: &Ledger, over: &AtomicBool) {
    let Ok(mut connection) = Connection::open(stage.weir().address()) else {
        return;
    };
    let key = format!("c{client}");
    while !over.load(Ordering::SeqCst) {
        let number = ledger.sends(&key, |number| deletes(client, number));
        let change = if deletes(client, number) {
            deletion(&key, "content")
        } else {
            change(&key, "content", json!(number))
        };
        let headers = [("content-type", "application/json")];
        match connection.exchange(
            "POST",
            "/v1/sources/pim/events",
            &headers,
            change.to_string().as_bytes(),
        ) {
            Ok(reply) if reply.status == 202 => ledger.accepted(
                &key,
                number,
                reply.json()["sequence"].as_u64().expect("a sequence"),
            ),
            Ok(reply) => panic!("{} {}", reply.status, reply.text()),
            // Weir was killed.
            Err(_) => return,
        }
    }
}

/// Causes the disturbance, unless Weir ends before.
fn disturb(stage: &Stage, side: &Receiver, meanwhile: Meanwhile, config: &mut Config) {
    let post = |path: &str| drop(request(stage.weir().address(), "POST", path, &[], b""));
    match meanwhile {
        Meanwhile::Nothing => return,
        Meanwhile::Resync => return post("/v1/channels/shop/resync"),
        Meanwhile::Swap => config.swapped = !config.swapped,
        Meanwhile::Remove => config.removed = !config.removed,
    }
    config.write(stage, side);
    post("/v1/reload");
}

#[test]
fn accepted_changes_survive_kills_and_the_accounts_of_each_channel_add_up() {
    let rounds = repeats("WEIR_KILLS", ROUNDS);
    let (mut stage, side, ledger) = (Stage::closed(""), Receiver::start(), Ledger::default());
    let (mut config, mut resyncs) = (Config::default(), 0);
    config.write(&stage, &side);
    stage.start();
    for round in 0..rounds {
        let over = AtomicBool::new(false);
        let life = Duration::from_millis(fastrand::u64(20..=400));
        let meanwhile = [
            Meanwhile::Nothing,
            Meanwhile::Swap,
            Meanwhile::Resync,
            Meanwhile::Remove,
        ][round % 4];
        resyncs += usize::from(meanwhile == Meanwhile::Resync);
        let (running, ledger, stop, config, side) = (&stage, &ledger, &over, &mut config, &side);
        std::thread::scope(|scope| {
            let _ends = Ends(stop);
            let before = ledger.count();
            (0..CLIENTS)
                .for_each(|client| drop(scope.spawn(move || send(running, client, ledger, stop))));
            // A slow disk may take longer for a commit than a life lasts. Half of the lives, with each
            // disturbance, begin when something was accepted; the others may end before.
            if round / 4 % 2 == 0 {
                eventually("changes are accepted", || {
                    (ledger.count() >= before + CLIENTS).then_some(())
                });
            }
            // The disturbance starts before the kill, so that the kill comes at any point of it.
            scope.spawn(move || {
                std::thread::sleep(
                    life.saturating_sub(Duration::from_millis(fastrand::u64(1..60))),
                );
                disturb(running, side, meanwhile, config);
            });
            std::thread::sleep(life);
            running.weir().signal(rustix::process::Signal::KILL);
        });
        stage.kill();
        stage.start();
        let log = stage.weir().log();
        assert!(
            !log.contains("ERROR"),
            "round {round}, {meanwhile:?}, after {life:?}: {log}"
        );
    }

    config.removed = false;
    config.write(&stage, &side);
    assert_eq!(stage.reload_files()["success"], true);
    for (channel, receiver) in [("shop", &stage.shop), ("side", &side)] {
        stage.settles(channel);
        let deliveries = receiver.deliveries();
        let counts = ledger
            .close(&stage, channel, &deliveries)
            .unwrap_or_else(|why| panic!("{channel}: {why}"));
        println!(
            "{rounds} kills, {channel}, {} deliveries: {counts:?}",
            deliveries.len()
        );
        assert!(
            counts.accepted > rounds * CLIENTS / 4,
            "too little was accepted: {counts:?}"
        );
        never_back_in_time(receiver);
    }
    // A start repeats an entity at most once, and so does a resync.
    let repeated = repeated(&stage.shop);
    println!(
        "{repeated} deliveries were repeated, by {rounds} kills and {resyncs} resyncs of {CLIENTS} entities"
    );
    assert!(
        repeated <= (rounds + resyncs) * CLIENTS,
        "{repeated} deliveries were repeated"
    );
}

fn numbers(receiver: &Receiver) -> Vec<(String, u64, u64)> {
    let deliveries = receiver.deliveries();
    let number = |delivery: &crate::support::receiver::Delivery| {
        delivery.json()["facets"]["content"].as_u64()
    };
    deliveries
        .iter()
        .filter_map(|delivery| {
            Some((
                delivery.key().to_owned(),
                delivery.sequence(),
                number(delivery)?,
            ))
        })
        .collect()
}

fn repeated(receiver: &Receiver) -> usize {
    let mut seen = BTreeMap::new();
    numbers(receiver)
        .into_iter()
        .for_each(|(key, _, number)| *seen.entry((key, number)).or_insert(0_usize) += 1);
    seen.values().map(|times| times - 1).sum()
}

/// Checks each entity: in the order of their sequences, values never fall, and within a life of
/// Weir deliveries arrive in that order. A delivery that was under way when a life ended may arrive
/// late, as documented; its sequence shows it: a life begins at least a block above the last, and makes
/// far fewer changes than half a block.
fn never_back_in_time(receiver: &Receiver) {
    let of_an_earlier_life =
        |late: u64, sent: u64| sent - late >= weir::inside::store::SEQUENCE_BLOCK / 2;
    let mut by_key = BTreeMap::<String, Vec<(u64, u64)>>::new();
    numbers(receiver)
        .into_iter()
        .for_each(|(key, sequence, number)| {
            by_key.entry(key).or_default().push((sequence, number))
        });
    for (key, arrived) in by_key {
        for two in arrived.windows(2).filter(|two| two[1].0 < two[0].0) {
            assert!(
                of_an_earlier_life(two[1].0, two[0].0),
                "{key} went back from {:?} to {:?} in one life",
                two[0],
                two[1]
            );
        }
        let mut sent = arrived;
        sent.sort_unstable();
        let back = sent.windows(2).find(|two| two[1].1 < two[0].1);
        assert!(
            back.is_none(),
            "{key}: a higher sequence carries an older value: {back:?}"
        );
    }
}
