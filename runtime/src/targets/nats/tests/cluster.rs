//! A cluster of three servers: leaders that go away, and what is left when most of them are gone.

use std::time::Instant;

use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

/// A stream with a copy on each server, once the cluster has found itself.
async fn replicated(cluster: &[Bus]) -> js::Stream {
    let config = js::Config {
        num_replicas: 3,
        max_messages_per_subject: -1,
        ..newest_only()
    };
    let began = Instant::now();
    loop {
        match admin(&cluster[0]).await.create_stream(config.clone()).await {
            Ok(stream) => return stream,
            Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn states(sequence: u64) -> Vec<Item> {
    let state = |number| item(&format!("e{number}"), sequence + number, Some("{}"));
    (0..50).map(state).collect()
}

/// Delivers until the cluster has taken all. Meanwhile nothing is refused, and nothing counts as forgotten.
async fn takes(nats: &Nats, items: &[Item]) {
    let began = Instant::now();
    loop {
        let outcomes = deliver(nats, items).await;
        if outcomes.iter().all(|it| *it == Outcome::Delivered) {
            return;
        }
        waits(&outcomes);
        assert!(began.elapsed() < PATIENCE, "{outcomes:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[track_caller]
fn waits(outcomes: &[Outcome]) {
    let waits = |outcome: &Outcome| {
        matches!(
            outcome,
            Outcome::Delivered | Outcome::Retry { .. } | Outcome::Trip { .. }
        )
    };
    assert!(outcomes.iter().all(waits), "{outcomes:?}");
}

// The leader of a stream was restarted for an update. What it had acknowledged stays acknowledged, what it had not
// goes to the next leader, and nobody had to do anything.
#[tokio::test]
async fn a_leader_that_goes_away_costs_no_state_and_doubles_none() {
    let Some(mut cluster) = Bus::cluster("a cluster of NATS") else {
        return;
    };
    let mut stream = replicated(&cluster).await;
    let nats = Nats::open(&Options {
        servers: cluster.iter().map(|bus| server(bus.port())).collect(),
        timeout: Duration::from_secs(2),
        ..options(cluster[0].port(), subjects())
    })
    .expect("it opens");
    takes(&nats, &states(100)).await;

    let info = stream.info().await.expect("an answer");
    let leader = info.cluster.as_ref().and_then(|it| it.leader.clone());
    let leader = leader.expect("a leader");
    let leads = cluster.iter().position(|bus| bus.name() == leader);
    let leads = leads.expect("one of the three");
    cluster[leads].kill();
    takes(&nats, &states(200)).await;

    // The one that is left may not store anything.
    let next = (leads + 1) % cluster.len();
    cluster[next].kill();
    let outcomes = deliver(&nats, &states(300)).await;
    waits(&outcomes);
    let delivered = outcomes.contains(&Outcome::Delivered);
    assert!(!delivered, "{outcomes:?}");

    cluster[next].restart();
    takes(&nats, &states(300)).await;
    cluster[leads].restart();
    takes(&nats, &states(400)).await;
    let compared = nats.compare(&states(400)).await.expect("it compares");
    assert!(
        compared.iter().all(|held| *held == Held::Same),
        "{compared:?}"
    );
    // A server that was started again may not answer for some time.
    let info = async {
        loop {
            let stream = admin(&cluster[leads]).await.get_stream("CATALOG").await;
            if let Ok(stream) = stream
                && let Ok(info) = stream.get_info().await
            {
                break info;
            }
        }
    };
    let info = tokio::time::timeout(PATIENCE, info).await;
    let info = info.expect("an answer");
    assert_eq!(info.state.messages, 200, "four states of 50 entities");
}
