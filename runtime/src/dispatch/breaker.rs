//! The breaker of a target, with the states Flowing, Tripped and Probing. It is pure: time and
//! chance are arguments.
//!
//! This is a circuit breaker: Flowing is the closed state, Tripped the open one, Probing the
//! half-open one. It trips when the failures are the target's and not those of a few entities,
//! waits longer each time, and then lets one attempt through. Only the outcome of that probe
//! decides whether deliveries flow again.
//!
//! A few entities that a target cannot process, because of a bug in its code or in their data, fail
//! at each retry and must not stop all others. So an entity counts once until it changes, and
//! several distinct entities must fail before the target is in doubt.

use std::collections::VecDeque;
use std::time::Duration;

use hashbrown::HashMap;

use crate::model::Timestamp;

/// When a breaker trips and how long it waits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Maximum wait before the first probe. Default 1 s.
    pub first: Duration,
    /// Maximum wait before any probe. Default 60 s, so that a target that has recovered is found
    /// within a minute.
    pub cap: Duration,
    /// Distinct entities that must fail without a delivery in between to trip the breaker.
    /// Default 5.
    pub failures_max: u32,
    /// Refusals, each of another entity or another state of it, without a delivery in between that
    /// trip the breaker. Default 20: that many in a row may mean a wrong renderer or a wrong target.
    /// When a probe finds that they did not, more are tolerated for a while ([`TOLERANCE_MAX`]).
    pub refusals_max: u32,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            first: Duration::from_secs(1),
            cap: Duration::from_secs(60),
            failures_max: 5,
            refusals_max: 20,
        }
    }
}

/// The state of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Deliveries flow.
    Flowing,
    /// Nothing is sent before `until`.
    Tripped {
        /// When a probe may be sent.
        until: Timestamp,
    },
    /// One attempt, the probe, is in progress; its outcome decides.
    Probing,
}

/// Whether an attempt may be made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Attempts may be made, as many as there are slots.
    Flowing,
    /// One attempt may be made, as a probe.
    Probe,
    /// No attempt before this time; `None` means not before the current probe has ended.
    Wait(Option<Timestamp>),
}

/// The entity and the state of it that an outcome is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// A digest of the entity's type and key.
    pub entity: u64,
    /// Identifies the state that was sent: the same for all attempts at it, another one after the
    /// entity has changed.
    pub state: u64,
}

/// A target that asks Weir to wait for longer than this trips, so that people see it.
const LONG_WAIT: Duration = Duration::from_secs(60);

/// By how much a wait that a target asks for is prolonged at most: its other clients were asked for the
/// same, and all would return at once.
pub(crate) const JITTER: f64 = 0.1;

/// A response that asks for fewer requests.
#[derive(Clone, Copy, Debug)]
pub struct Throttling<'a> {
    /// What happened, as text for users.
    pub reason: &'a str,
    /// How long the target asked Weir to wait.
    pub after: Option<Duration>,
    /// Whether the target has accepted nothing for some time.
    pub silent: bool,
}

/// After refusals tripped the breaker and a probe was delivered, twice as many in a row are tolerated as
/// there were, up to this many times [`Options::refusals_max`]: rows with the same mistake often lie
/// together, and must not stop the others again and again.
const TOLERANCE_MAX: u32 = 64;
/// How long, in milliseconds, that is remembered while deliveries flow.
const TOLERANCE_MS: u64 = 10 * 60 * 1000;

/// Entities whose last failure or refusal is remembered, for each target. Beyond it the oldest are
/// forgotten and count again: with so many in trouble, the trouble is the target's.
const SUBJECTS_MAX: usize = 4_096;

/// The entities that failed or were refused lately, each with its state then.
#[derive(Clone, Debug, Default)]
struct Recent {
    states: HashMap<u64, u64>,
    order: VecDeque<u64>,
}

impl Recent {
    /// Whether this is the first failure or refusal of this state; remembers it.
    fn is_first(&mut self, subject: Subject) -> bool {
        match self.states.insert(subject.entity, subject.state) {
            Some(known) => known != subject.state,
            None => {
                self.order.push_back(subject.entity);
                if self.order.len() > SUBJECTS_MAX
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.states.remove(&oldest);
                }
                true
            }
        }
    }
}

/// A breaker.
#[derive(Clone, Debug)]
pub struct Breaker {
    options: Options,
    state: State,
    since: Timestamp,
    reason: String,
    recent: Recent,
    /// The entities that failed since the last delivery.
    failing: Vec<u64>,
    /// The entities that were answered only that there are too many requests since then, as many as
    /// would trip it. They fail if the target turns out to be silent.
    throttled: Vec<u64>,
    refusals: u32,
    /// Refusals in a row that trip it now.
    tolerance: u32,
    trips: u32,
    tripped_by_refusals: bool,
}

impl Breaker {
    /// A breaker that lets deliveries flow.
    pub fn new(options: Options, now: Timestamp) -> Breaker {
        Breaker {
            tolerance: options.refusals_max,
            options,
            state: State::Flowing,
            since: now,
            reason: String::new(),
            recent: Recent::default(),
            failing: Vec::new(),
            throttled: Vec::new(),
            refusals: 0,
            trips: 0,
            tripped_by_refusals: false,
        }
    }

    /// The current state.
    pub fn state(&self) -> State {
        self.state
    }

    /// When it entered this state.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// Probes that have failed since it tripped.
    pub fn failed_probes(&self) -> u32 {
        self.trips.saturating_sub(1)
    }

    /// Why it tripped; empty while it flows.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Whether an attempt may be made at `now`.
    pub fn admits(&self, now: Timestamp) -> Admission {
        match self.state {
            State::Flowing => Admission::Flowing,
            State::Tripped { until } if until <= now => Admission::Probe,
            State::Tripped { until } => Admission::Wait(Some(until)),
            State::Probing => Admission::Wait(None),
        }
    }

    /// Records that the probe has started.
    pub fn begin_probe(&mut self) {
        debug_assert!(
            matches!(self.state, State::Tripped { .. }),
            "only a tripped target is probed"
        );
        self.state = State::Probing;
    }

    /// The next probe may start at once.
    pub fn probe_at_once(&mut self, now: Timestamp) {
        if let State::Tripped { until } = &mut self.state {
            *until = now;
        }
    }

    /// Records that the probe ended without an outcome. The next one may start at once.
    pub fn abandon_probe(&mut self, now: Timestamp) {
        if self.state == State::Probing {
            self.state = State::Tripped { until: now };
        }
    }

    /// Records a delivery.
    pub fn delivered(&mut self, now: Timestamp, probe: bool) {
        // A request sent before the trip may still succeed, which says nothing about the target
        // now.
        if probe || self.state == State::Flowing {
            self.flow(now);
        }
    }

    /// Records a failed attempt whose cause may be the target or the entity. Returns whether it is the
    /// first failure of this state; an entity that always fails says nothing about the target.
    pub fn failed(
        &mut self,
        now: Timestamp,
        probe: bool,
        subject: Subject,
        reason: &str,
        chance: f64,
    ) -> bool {
        if probe {
            self.trip(now, probe, reason, None, chance);
            return false;
        }
        let first = self.recent.is_first(subject);
        if first {
            self.count_failure(now, subject.entity, reason, chance);
        }
        first
    }

    /// Records that the target did not process a request because it gets too many. That is no
    /// trouble: the pace falls. It is a failure, with those before it, if the target is `silent`,
    /// which means that it has accepted nothing for some time, and the target trips if it asked Weir
    /// to wait for longer than [`LONG_WAIT`]. Returns whether it is the first failure of this state;
    /// an entity that is always answered so says nothing about the pace.
    pub fn throttled(
        &mut self,
        now: Timestamp,
        probe: bool,
        subject: Subject,
        throttling: &Throttling<'_>,
        chance: f64,
    ) -> bool {
        let first = self.recent.is_first(subject);
        let Throttling {
            reason,
            after,
            silent,
        } = *throttling;
        if first && self.throttled.len() < self.options.failures_max as usize {
            self.throttled.push(subject.entity);
        }
        if probe || after.is_some_and(|after| after > LONG_WAIT) {
            self.trip(now, probe, reason, after, chance);
        } else if silent {
            for entity in std::mem::take(&mut self.throttled) {
                self.count_failure(now, entity, reason, chance);
            }
        }
        first
    }

    fn count_failure(&mut self, now: Timestamp, entity: u64, reason: &str, chance: f64) {
        if self.state != State::Flowing || self.failing.contains(&entity) {
            return;
        }
        self.failing.push(entity);
        let failing = self.failing.len();
        if failing >= self.options.failures_max as usize {
            self.trip(
                now,
                false,
                &format!("{failing} entities failed with no delivery between; the last: {reason}"),
                None,
                chance,
            );
        }
    }

    /// Whether refusals tripped it. Then it is in doubt whether the target refuses everything, and the
    /// probes should be entities that differ from those that were refused.
    pub fn doubts_entities(&self) -> bool {
        self.tripped_by_refusals
    }

    /// Records that the target refused an entity. If this was a probe, the refusal proves that the
    /// target is alive, unless refusals tripped the breaker. The first probe after such a trip does not
    /// wait for long, because a target that refuses is not overloaded.
    pub fn refused(
        &mut self,
        now: Timestamp,
        probe: bool,
        subject: Subject,
        reason: &str,
        chance: f64,
    ) {
        self.failing.clear();
        self.throttled.clear();
        let flows = self.state == State::Flowing;
        if flows && now.0.saturating_sub(self.since.0) > TOLERANCE_MS {
            self.tolerance = self.options.refusals_max;
        }
        self.refusals += u32::from(self.recent.is_first(subject));
        if probe && !self.tripped_by_refusals {
            return self.flow(now);
        }
        if probe || (flows && self.refusals >= self.tolerance) {
            let chance = if flows { 0.0 } else { chance };
            self.trip(
                now,
                probe,
                &format!(
                    "{} refusals without a delivery in between; the last: {reason}",
                    self.refusals
                ),
                None,
                chance,
            );
            self.tripped_by_refusals = true;
        }
    }

    /// Trips at once, because the cause is the target. Outcomes of requests sent before the trip do
    /// not prolong the wait.
    pub fn trip(
        &mut self,
        now: Timestamp,
        probe: bool,
        reason: &str,
        after: Option<Duration>,
        chance: f64,
    ) {
        if !probe && self.state != State::Flowing {
            return;
        }
        let longest = self
            .options
            .first
            .saturating_mul(1 << self.trips.min(20))
            .min(self.options.cap);
        // Full jitter, with a minimum so that a dead target is not probed in a tight loop.
        let wait = longest
            .mul_f64(chance.clamp(0.0, 1.0))
            .max(self.options.first / 10)
            .max(after.unwrap_or_default().mul_f64(1.0 + JITTER * chance));
        if self.state == State::Flowing {
            self.since = now;
        }
        self.reason = reason.to_owned();
        self.trips += 1;
        self.tripped_by_refusals = false;
        self.state = State::Tripped {
            until: Timestamp(now.0.saturating_add(wait.as_millis() as u64)),
        };
    }

    fn flow(&mut self, now: Timestamp) {
        if self.tripped_by_refusals {
            let most = self.options.refusals_max.saturating_mul(TOLERANCE_MAX);
            self.tolerance = self.refusals.saturating_mul(2).clamp(self.tolerance, most);
        }
        if self.state != State::Flowing {
            (self.state, self.since) = (State::Flowing, now);
            self.reason.clear();
        }
        self.failing.clear();
        self.throttled.clear();
        (self.refusals, self.trips, self.tripped_by_refusals) = (0, 0, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays a story of one word for each event, one second apart, and compares the states after
    /// each event with `expected`. `ok`, `no`, `fail`, `less`, `silent`, `wait` and `trip` are outcomes of attempts;
    /// the prefix `probe-` makes the attempt a probe. Each event is
    /// about an entity of its own, unless a letter names one: `fail:a`, or `fail:a2` for its second state.
    fn check(story: &str, expected: &str) {
        let options = Options {
            failures_max: 3,
            refusals_max: 2,
            ..Options::default()
        };
        let mut breaker = Breaker::new(options, Timestamp(0));
        let mut states = Vec::new();
        for (second, word) in story.split_whitespace().enumerate() {
            let now = Timestamp(second as u64 * 1000);
            let (probe, word) = word
                .strip_prefix("probe-")
                .map_or((false, word), |word| (true, word));
            let (word, name) = word.split_once(':').unwrap_or((word, ""));
            let subject = match name.as_bytes() {
                [] => Subject {
                    entity: 1_000 + second as u64,
                    state: 1,
                },
                [entity] => Subject {
                    entity: u64::from(*entity),
                    state: 1,
                },
                [entity, state, ..] => Subject {
                    entity: u64::from(*entity),
                    state: u64::from(*state),
                },
            };
            if probe {
                assert_eq!(
                    breaker.admits(now),
                    Admission::Probe,
                    "{story}: second {second}, {:?}",
                    breaker.state()
                );
                breaker.begin_probe();
                assert_eq!(
                    breaker.admits(now),
                    Admission::Wait(None),
                    "one probe at a time"
                );
            }
            match word {
                "ok" => breaker.delivered(now, probe),
                "no" => breaker.refused(now, probe, subject, "no", 1.0),
                "fail" => drop(breaker.failed(now, probe, subject, "fail", 1.0)),
                "less" | "silent" | "wait" => {
                    let throttling = Throttling {
                        reason: word,
                        after: (word == "wait").then_some(Duration::from_secs(90)),
                        silent: word == "silent",
                    };
                    breaker.throttled(now, probe, subject, &throttling, 1.0);
                }
                "trip" => breaker.trip(now, probe, "trip", None, 1.0),
                "lost" => breaker.abandon_probe(now),
                "-" => {}
                other => panic!("unknown word {other}"),
            }
            states.push(match breaker.state() {
                State::Flowing => "flowing".to_owned(),
                State::Tripped { until } => format!("{}", until.0 / 1000),
                State::Probing => "probing".to_owned(),
            });
        }
        assert_eq!(states.join(" "), expected, "{story}");
    }

    #[test]
    fn failures_in_a_row_trip_and_a_delivery_between_them_does_not() {
        check(
            "fail fail ok fail fail fail",
            "flowing flowing flowing flowing flowing 6",
        );
        check(
            "fail fail no fail fail",
            "flowing flowing flowing flowing flowing",
        );
    }

    // A shop answered 500 to two products, because of a bug in its code. In a quiet hour their
    // retries were five failures in a row; the shop counted as down, and 520 good products waited
    // for ever.
    #[test]
    fn few_entities_never_trip_however_often_they_fail() {
        check(
            &"fail:a fail:b ".repeat(50),
            "flowing ".repeat(100).trim_end(),
        );
        check(
            "fail:a fail:b fail:a2 fail:b2 fail:a3",
            "flowing flowing flowing flowing flowing",
        );
        check(&"no:a ".repeat(20), "flowing ".repeat(20).trim_end());
        check("fail:a fail:b fail:c", "flowing flowing 3");
    }

    #[test]
    fn what_speaks_of_the_target_trips_at_once() {
        check("trip", "1");
        // With the longest jitter.
        check("wait", "99");
    }

    #[test]
    fn too_many_requests_are_no_trouble_while_the_target_accepts_some() {
        check(&"less ".repeat(50), "flowing ".repeat(50).trim_end());
        check("silent silent silent", "flowing flowing 3");
        // Those that were asked before count as well: later, the pace is so low that none follows.
        check("less less less silent:a", "flowing flowing flowing 4");
        check(
            "less less ok silent silent",
            "flowing flowing flowing flowing flowing",
        );
        check("trip probe-less", "1 3");
    }

    #[test]
    fn refusals_without_a_delivery_trip_and_a_refused_probe_is_then_no_sign_of_life() {
        check(
            "no ok no no - probe-no - probe-ok",
            "flowing flowing flowing 3 3 7 7 flowing",
        );
        check("trip probe-no", "1 flowing");
    }

    // 200 bad rows in a row tripped a database ten times, each time for up to a minute.
    #[test]
    fn refusals_that_a_probe_has_found_harmless_trip_only_after_twice_as_many() {
        check(
            "no no probe-ok no no no no probe-ok no no no no no no no no",
            "flowing 1 flowing flowing flowing flowing 6 flowing flowing flowing flowing flowing \
             flowing flowing flowing 15",
        );
        let long = "- ".repeat(600);
        let flowing = "flowing ".repeat(602);
        check(
            &format!("no no probe-ok {long}no no"),
            &format!("flowing 1 {flowing}604"),
        );
    }

    #[test]
    fn each_failed_probe_waits_longer_and_the_first_success_lets_everything_flow() {
        check(
            "trip probe-fail - probe-trip - - - probe-ok trip",
            "1 3 3 7 7 7 7 flowing 9",
        );
    }

    #[test]
    fn what_was_sent_before_the_trip_changes_nothing() {
        check("trip trip ok fail no", "1 1 1 1 1");
        check("trip probe-lost probe-ok", "1 1 flowing");
    }

    #[test]
    fn waits_are_jittered_capped_and_never_nothing() {
        let wait = |trips: u32, chance: f64| {
            let mut breaker = Breaker::new(Options::default(), Timestamp(0));
            breaker.trip(Timestamp(0), false, "", None, chance);
            for _ in 0..trips {
                breaker.trip(Timestamp(0), true, "", None, chance);
            }
            match breaker.state() {
                State::Tripped { until } => until.0,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((wait(0, 0.0), wait(0, 0.5), wait(0, 1.0)), (100, 500, 1000));
        assert_eq!((wait(3, 0.5), wait(40, 1.0)), (4000, 60_000));
    }
}
