//! What the receivers of notices are told: looks once a second which conditions hold, and lets each receiver
//! follow.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::apply::Live;
use super::{Inner, now};
use crate::dispatch::{Channel, TargetHandle, breaker};
use crate::model::Timestamp;
use crate::notify::{Board, Condition, Counts, Entries, Kind, Options, Receiver, Running, Subject};
use crate::server::views::Time;
use crate::store;
use crate::sync::lock;

/// The least time between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// The longest time between two looks, however long they take.
const SLOWEST: Duration = Duration::from_secs(10);
/// Looking takes at most this share of a processor: one of so many parts.
const SHARE: u32 = 100;

/// The receivers, and what they are told.
#[derive(Default)]
pub(super) struct Notices {
    board: watch::Sender<Arc<Entries>>,
    running: Mutex<Vec<Running>>,
    counts: Arc<Counts>,
}

impl Notices {
    /// Prepares the receivers that are not running yet.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub(super) fn open(&self, receivers: &[Options]) -> Result<Vec<Receiver>, store::Error> {
        let running = lock(&self.running);
        let is_new =
            |options: &&Options| !running.iter().any(|running| running.options() == *options);
        let open = |options: &Options| {
            Receiver::open(options).map_err(|why| {
                let url = options.webhook.url.shown("[secret]");
                store::Error::Unavailable(format!("notices to {url}: {why}"))
            })
        };
        receivers.iter().filter(is_new).map(open).collect()
    }

    /// Stops the receivers that are not among these, and starts the new ones. The others go on, and know what
    /// they were told.
    pub(super) fn follow(&self, receivers: &[Options], new: Vec<Receiver>) {
        let mut running = lock(&self.running);
        running.retain(|running| receivers.contains(running.options()));
        for receiver in new {
            running.push(receiver.start(self.board.subscribe(), self.counts.clone()));
        }
    }

    /// Tells nobody anything any more.
    pub(super) fn stop(&self) {
        lock(&self.running).clear();
    }

    /// The attempts so far.
    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }
}

impl Inner {
    /// Looks which conditions hold until Weir stops, as long as there is somebody to be told.
    pub(super) async fn look_for_notices(self: Arc<Self>) {
        let mut board = Board::default();
        loop {
            let began = Instant::now();
            if lock(&self.notices.running).is_empty() {
                board = Board::default();
            } else {
                let (live, now) = (self.live.load_full(), now());
                board.look(now, conditions(&live, now), &|subject| {
                    there(&live, subject)
                });
                let entries = Arc::new(board.entries().clone());
                self.notices.board.send_replace(entries);
            }
            let wait = (began.elapsed() * SHARE).clamp(EVERY, SLOWEST);
            tokio::select! {
                () = self.leaving.cancelled() => return,
                () = self.stopping.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }
}

/// The conditions that hold.
fn conditions(live: &Live, now: Timestamp) -> Vec<Condition> {
    let targets = live.targets.iter();
    let tripped = targets.filter_map(|(name, target)| tripped(live, name, target));
    let channels = live.channels.iter();
    let waiting = channels.flat_map(|(name, channel)| of_channel(name, channel, now));
    let silent = live.sources.iter().filter_map(|(name, intake)| {
        let since = intake.silent_since(now)?;
        let quiet = intake.source.options().quiet?;
        Some(Condition {
            kind: Kind::Silent,
            subject: Subject::Source(name.clone()),
            since,
            reason: format!("no event for longer than its quiet, {quiet:?}"),
            remedy:
                "Look at the system that sends, and at what it is answered: `weir source list`."
                    .to_owned(),
            channels: Vec::new(),
            identity: 0,
        })
    });
    tripped.chain(waiting).chain(silent).collect()
}

/// A target that gets no deliveries.
fn tripped(live: &Live, name: &Arc<str>, target: &Arc<TargetHandle>) -> Option<Condition> {
    let status = target.status();
    if status.state == breaker::State::Flowing {
        return None;
    }
    let channels = live.channels.iter().filter(|(_, channel)| {
        let setup = channel.setup();
        setup.options.deliver && setup.options.target == *name
    });
    let channels: Vec<Arc<str>> = channels.map(|(name, _)| name.clone()).collect();
    let first = channels.first()?;
    let remedy = match status.ahead {
        true => format!(
            "If Weir is right, `weir channel overwrite {first}` sends everything over what the target holds."
        ),
        false => format!(
            "It is tried again until it is back; `weir channel show {first}` shows what is owed."
        ),
    };
    Some(Condition {
        kind: Kind::Tripped,
        subject: Subject::Target(name.clone()),
        since: status.since,
        reason: status.reason,
        remedy,
        channels,
        identity: identity(target),
    })
}

/// What a channel holds back, and that it is late.
fn of_channel(name: &Arc<str>, channel: &Channel, now: Timestamp) -> Vec<Condition> {
    let (status, setup) = (channel.status(), channel.setup());
    let condition = |kind, since, reason, remedy| Condition {
        kind,
        subject: Subject::Channel(name.clone()),
        since,
        reason,
        remedy,
        channels: Vec::new(),
        identity: 0,
    };
    let shrank = setup.target.feed().and_then(|feed| feed.status().shrank);
    let held = match (status.owed.held, shrank) {
        (0, None) => None,
        (0, Some((before, records))) => Some(format!(
            "the next generation of its feed would have {records} records instead of {before}"
        )),
        (held, _) => Some(format!("{held} deletions are more than its withdraw_max")),
    };
    let held = held.map(|reason| {
        let remedy = format!(
            "`weir channel show {name}` shows what it owes; if it is right, `weir channel confirm {name}` releases it."
        );
        condition(Kind::Held, now, reason, remedy)
    });
    let objective = status.freshness_objective;
    let late = objective
        .filter(|objective| status.overdue > *objective)
        .map(|objective| {
            let late = (status.overdue - objective).as_millis() as u64;
            let oldest = status.owed.oldest_time.unwrap_or(now);
            let mut reason = format!(
                "its oldest change is of {}, and its freshness is {objective:?}",
                Time(oldest)
            );
            let why = match status.reason.is_empty() {
                false => Some(status.reason.clone()),
                true => channel.last_failure().map(|(_, why)| why.to_string()),
            };
            if let Some(why) = why.filter(|_| status.owed.parked > 0 || !status.reason.is_empty()) {
                reason = format!("{reason}; {why}");
            }
            let remedy = format!("`weir channel show {name}` names the oldest, with their errors.");
            condition(
                Kind::Late,
                Timestamp(now.0.saturating_sub(late)),
                reason,
                remedy,
            )
        });
    held.into_iter().chain(late).collect()
}

/// Whether a subject is in the configuration in use, and which one of its name it is.
fn there(live: &Live, subject: &Subject) -> Option<usize> {
    match subject {
        Subject::Target(name) => live.targets.get(name).map(identity),
        Subject::Channel(name) => live.channels.get(name).map(|_| 0),
        Subject::Source(name) => live.sources.get(name).map(|_| 0),
    }
}

fn identity(target: &Arc<TargetHandle>) -> usize {
    Arc::as_ptr(target) as usize
}
