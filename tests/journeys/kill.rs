//! Killed in the middle of its work, again and again: what was accepted is there, and no channel is led back in time.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::http::Connection;
use crate::support::stage::CATALOG;
use crate::support::{Stage, change, within};

const ROUNDS: usize = 30;
const SENDERS: usize = 4;
const KEYS: usize = 8;

/// What one sender has sent and had accepted: the highest value of all its keys.
#[derive(Clone, Copy, Default)]
struct Progress {
    sent: u64,
    accepted: u64,
}

/// Sends rising values of its own keys, a request after the other, until Weir is gone.
fn send(stage: &Stage, sender: usize, progress: &Mutex<[Progress; SENDERS]>, over: &AtomicBool) {
    let note = |change: &dyn Fn(&mut Progress)| change(&mut progress.lock().expect("no panic")[sender]);
    let Ok(mut connection) = Connection::open(stage.weir().address()) else { return };
    while !over.load(Ordering::SeqCst) {
        let value = progress.lock().expect("no panic")[sender].sent + 1;
        note(&|progress| progress.sent = value);
        let lines: Vec<String> = (0..KEYS).map(|key| change(&format!("{sender}-{key}"), "content", json!(value)).to_string()).collect();
        let headers = [("content-type", "application/x-ndjson")];
        match connection.exchange("POST", "/v1/sources/pim/events", &headers, lines.join("\n").as_bytes()) {
            Ok(reply) if reply.status == 202 => note(&|progress| progress.accepted = value),
            Ok(reply) => panic!("{} {}", reply.status, reply.text()),
            // It was killed.
            Err(_) => return,
        }
    }
}

#[test]
fn what_was_accepted_survives_being_killed_and_channels_converge() {
    // No attempt is given up on a busy machine: what arrives late then is from a life that has ended.
    let mut stage = Stage::with(&CATALOG.replace("timeout = \"1s\"", "timeout = \"30s\""));
    let progress = Mutex::new([Progress::default(); SENDERS]);
    for round in 0..ROUNDS {
        let over = AtomicBool::new(false);
        let life = Duration::from_millis(fastrand::u64(20..=400));
        let (running, progress, stop) = (&stage, &progress, &over);
        std::thread::scope(|scope| {
            (0..SENDERS).for_each(|sender| drop(scope.spawn(move || send(running, sender, progress, stop))));
            std::thread::sleep(life);
            running.weir().signal(rustix::process::Signal::KILL);
            over.store(true, Ordering::SeqCst);
        });
        stage.kill();
        stage.start();
        assert!(!stage.weir().log().contains("ERROR"), "round {round}, after {life:?}: {}", stage.weir().log());
    }

    let progress = progress.into_inner().expect("no panic");
    assert!(progress.iter().all(|progress| progress.accepted > 0), "every sender got something in");
    let value = |page: Option<&Value>| page.and_then(|page| page["facets"]["content"].as_u64()).unwrap_or(0);
    within(Duration::from_secs(10), "the channel holds all that was accepted", || {
        let shop = stage.shop.holds();
        let behind = (0..SENDERS).flat_map(|sender| (0..KEYS).map(move |key| (sender, format!("{sender}-{key}"))));
        (behind.filter(|(sender, key)| value(shop.get(key)) < progress[*sender].accepted).count() == 0).then_some(())
    });
    stage.settles("shop");
    for (key, page) in stage.shop.holds() {
        let sender: usize = key[..1].parse().expect("a sender");
        let (value, Progress { sent, accepted }) = (value(Some(&page)), progress[sender]);
        assert!((accepted..=sent).contains(&value), "{key} is {value}, accepted {accepted}, sent {sent}");
        assert_eq!(stage.entity(&key)["facets"][0]["value"], value, "what the shop holds is what is stored");
    }
    never_back_in_time(&stage);
}

/// By entity: in the order of their sequences values never fall; within a life of Weir deliveries arrive in that order too; and a restart
/// repeats an entity once at the most. What was on its way when a life ended may arrive late, as the documentation says: its
/// sequence tells.
fn never_back_in_time(stage: &Stage) {
    let life = |sequence: u64| sequence / weir::store::SEQUENCE_BLOCK;
    let (mut by_key, mut seen) = (BTreeMap::<String, Vec<(u64, u64)>>::new(), BTreeMap::new());
    for delivery in stage.shop.deliveries() {
        let value = delivery.json()["facets"]["content"].as_u64().expect("a value");
        by_key.entry(delivery.key().to_owned()).or_default().push((delivery.sequence(), value));
        *seen.entry((delivery.key().to_owned(), value)).or_insert(0_usize) += 1;
    }
    let mut late = 0;
    for (key, arrived) in by_key {
        for two in arrived.windows(2).filter(|two| two[1].0 < two[0].0) {
            assert!(life(two[1].0) < life(two[0].0), "{key} went back from {:?} to {:?} in one life", two[0], two[1]);
            late += 1;
        }
        let mut sent = arrived;
        sent.sort_unstable();
        let back = sent.windows(2).find(|two| two[1].1 < two[0].1);
        assert!(back.is_none(), "{key}: a higher sequence carries an older value: {back:?}");
    }
    println!("{late} deliveries of a life that had ended arrived late");
    let repeated: usize = seen.values().map(|times| times - 1).sum();
    assert!(repeated <= ROUNDS * SENDERS * KEYS, "{repeated} deliveries were repeated");
    println!("{} deliveries, {repeated} of them repeated", stage.shop.count());
}
