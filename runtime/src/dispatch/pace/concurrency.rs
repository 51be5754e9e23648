//! How many requests a target bears at the same time, found by trying: the second gate, beside the
//! rate. Pure: time is an argument.
//!
//! It falls when most requests fail, or when answers take more than twice as long as they usually do.
//! It rises while all slots are in use, answers come as they usually do and few requests fail. Latency
//! alone therefore only brakes, and to a quarter at most: it may be the network's, or that of this machine. A target that
//! has become slow for good is used fully again once that is usual.
//! Refusals because there are too many requests are the business of the rate.
//!
//! A long body takes longer than a short one, so a request is compared with earlier ones of about the
//! same length. A failure says nothing about how long answers take.

use std::time::Duration;

/// A decision needs this much time and this many answers.
const WINDOW: Duration = Duration::from_millis(500);
const ANSWERS_MIN: u32 = 4;
/// Answers that take this many times as long as usual brake. Less is noise: 25 ms instead of 20.
const SLOW: f64 = 2.0;
/// A target that answers within twice this time, in seconds, is not slow: a busy machine alone adds tens
/// of milliseconds.
const QUICK: f64 = 0.025;
/// The share of the slots that latency leaves.
const LATENCY_LEAVES: f64 = 0.25;
/// Below this it may rise.
const AS_USUAL: f64 = 1.5;
/// It falls to at least and at most this share, by how slow the answers are.
const BRAKE: (f64, f64) = (0.5, 0.9);
/// An answer counts as this many times as long as usual at most, so that all must be so slow for the
/// strongest brake, and a third of them for any. A few that are much slower, because a packet or a
/// connection was lost, say nothing about the rest.
const SLOWEST: f64 = SLOW / BRAKE.0;
/// It rises only while less than this share of the requests fail. A few entities that a target cannot
/// process are no sign that it has too much to do.
const FEW: f64 = 0.25;
/// It rises by this factor, and by one at least.
const RISE: f64 = 1.25;
/// The time over which answers become usual. A target that is ten times as slow for good is braked for
/// about half of it.
const USUAL: Duration = Duration::from_secs(30);
/// Lengths of bodies, by powers of four.
const LENGTHS: usize = 16;

/// A number of requests in flight with what it was learned from.
#[derive(Clone, Debug)]
pub(crate) struct BearableConcurrency {
    most: usize,
    allowed: f64,
    usual: [Usual; LENGTHS],
    window: Window,
    /// Requests that were sent before belong to another number in flight.
    counts_from: Duration,
}

/// An answered request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    /// When it was sent.
    pub(crate) sent: Duration,
    /// Bytes of its body, approximately.
    pub(crate) bytes: usize,
    /// Whether all slots were in use.
    pub(crate) full: bool,
}

impl BearableConcurrency {
    /// At most `most` requests at the same time, at first as many as the target bore before.
    pub(crate) fn new(most: usize, before: Option<usize>) -> BearableConcurrency {
        let most = most.max(1);
        BearableConcurrency {
            most,
            allowed: before.unwrap_or(most).clamp(1, most) as f64,
            usual: Default::default(),
            window: Window::default(),
            counts_from: Duration::ZERO,
        }
    }

    /// The requests that may be in flight: from 1 to the maximum.
    pub(crate) fn allowed(&self) -> usize {
        (self.allowed as usize).clamp(1, self.most)
    }

    /// The maximum.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// The target accepted a request.
    pub(crate) fn accepted(&mut self, now: Duration, answered: Answered) {
        let took = now.saturating_sub(answered.sent);
        let length = answered.bytes.max(1).ilog2() as usize / 2;
        let slowness = self.usual[length.min(LENGTHS - 1)].compare(now, took);
        if answered.sent >= self.counts_from {
            self.window.answers += 1;
            self.window.slowness += slowness.min(SLOWEST);
            self.window.full |= answered.full;
            self.decide(now);
        }
    }

    /// A request that was sent at `sent` failed, and its entity had not failed before.
    pub(crate) fn failed(&mut self, now: Duration, sent: Duration) {
        if sent >= self.counts_from {
            self.window.failures += 1;
            self.decide(now);
        }
    }

    fn decide(&mut self, now: Duration) {
        let window = &self.window;
        let answers = window.answers + window.failures;
        if answers < ANSWERS_MIN || now < window.began + WINDOW {
            return;
        }
        let slowness = window.slowness / f64::from(window.answers.max(1));
        let few = f64::from(window.failures) < FEW * f64::from(answers);
        let before = self.allowed();
        if 2 * window.failures > answers {
            self.allowed *= BRAKE.0;
        } else if slowness > SLOW {
            let braked = self.allowed * (SLOW / slowness).clamp(BRAKE.0, BRAKE.1);
            let least = (self.most as f64 * LATENCY_LEAVES).ceil();
            self.allowed = self.allowed.min(braked.max(least));
        } else if window.full && few && slowness < AS_USUAL {
            self.allowed = (self.allowed * RISE).max(self.allowed + 1.0);
        }
        self.allowed = self.allowed.clamp(1.0, self.most as f64);
        if self.allowed() != before {
            self.counts_from = now;
        }
        self.window = Window {
            began: now,
            ..Window::default()
        };
    }
}

/// The answers since the last decision.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    began: Duration,
    answers: u32,
    failures: u32,
    /// The sum of how many times as long as usual each answer took, up to [`SLOWEST`].
    slowness: f64,
    full: bool,
}

/// How long answers usually take.
#[derive(Clone, Copy, Debug, Default)]
struct Usual {
    /// Seconds.
    mean: f64,
    answers: u32,
    at: Duration,
}

impl Usual {
    /// Returns how many times as long as usual an answer took, and counts it.
    fn compare(&mut self, now: Duration, took: Duration) -> f64 {
        let took = took.as_secs_f64().max(1e-6);
        let slowness = match self.answers {
            0 => 1.0,
            _ => took / self.mean.max(QUICK),
        };
        self.answers = self.answers.saturating_add(1);
        let passed = now.saturating_sub(self.at).as_secs_f64() / USUAL.as_secs_f64();
        let weight = passed.min(0.5).max(1.0 / f64::from(self.answers));
        self.mean += weight * (took - self.mean);
        self.at = now;
        slowness
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A target that answers after a time that may depend on the length of the body and on how many
    /// requests it has at the same time, and a channel that always has something to send.
    struct Load {
        gate: BearableConcurrency,
        now: Duration,
        dice: fastrand::Rng,
        /// When each request in flight was sent and ends, its bytes, and whether it fails.
        flights: Vec<(Duration, Duration, usize, bool)>,
        answered: u32,
    }

    impl Load {
        fn new(most: usize, before: Option<usize>) -> Load {
            Load {
                gate: BearableConcurrency::new(most, before),
                now: Duration::from_secs(1),
                dice: fastrand::Rng::with_seed(4),
                flights: Vec::new(),
                answered: 0,
            }
        }

        /// Sends for some seconds; `request` returns how long an answer takes in milliseconds, its
        /// bytes, and whether it is a failure. Returns the lowest and the last number of requests.
        fn run(
            &mut self,
            seconds: u64,
            mut request: impl FnMut(&mut fastrand::Rng, usize) -> (f64, usize, bool),
        ) -> (usize, usize) {
            let (end, mut lowest) = (self.now + Duration::from_secs(seconds), usize::MAX);
            while self.now < end {
                while self.flights.len() < self.gate.allowed() {
                    let (took, bytes, fails) = request(&mut self.dice, self.flights.len() + 1);
                    let took = Duration::from_secs_f64(took / 1000.0);
                    self.flights.push((self.now, self.now + took, bytes, fails));
                }
                self.now += Duration::from_millis(1);
                let full = self.flights.len() >= self.gate.allowed();
                while let Some(at) = self.flights.iter().position(|it| it.1 <= self.now) {
                    let (sent, ended, bytes, fails) = self.flights.swap_remove(at);
                    if fails {
                        self.gate.failed(ended, sent);
                        continue;
                    }
                    self.answered += 1;
                    let answered = Answered { sent, bytes, full };
                    self.gate.accepted(ended, answered);
                }
                lowest = lowest.min(self.gate.allowed());
            }
            (lowest, self.gate.allowed())
        }
    }

    /// From 15 ms to 25 ms.
    fn about_20(dice: &mut fastrand::Rng) -> f64 {
        15.0 + 10.0 * dice.f64()
    }

    // An adaptive limit of another proxy cut a fifth of the requests when answers took 25 ms instead
    // of 20.
    #[test]
    fn noise_cuts_nothing() {
        let mut load = Load::new(16, None);
        load.run(60, |dice, _| (about_20(dice), 400, false));
        let more = load.run(60, |dice, _| (about_20(dice) * 1.25, 400, false));
        assert_eq!(more, (16, 16));
    }

    #[test]
    fn tenfold_latency_brakes_and_comes_back() {
        let mut load = Load::new(16, None);
        load.run(60, |dice, _| (about_20(dice), 400, false));
        let (lowest, last) = load.run(10, |dice, _| (about_20(dice) * 10.0, 400, false));
        assert_eq!((lowest, last), (4, 4), "a quarter");
        let (_, last) = load.run(10, |dice, _| (about_20(dice), 400, false));
        assert_eq!(last, 16, "ten seconds after it is as fast as before");
        // It becomes slow for good: after a while that is usual.
        let (lowest, last) = load.run(45, |dice, _| (about_20(dice) * 10.0, 400, false));
        assert_eq!((lowest, last), (4, 16));
    }

    // A machine with too much to do needed 40 ms for answers that had come within 2. Nothing was wrong with
    // the targets, and all of them got less.
    #[test]
    fn a_busy_machine_does_not_brake() {
        let mut load = Load::new(8, None);
        load.run(30, |_, _| (2.0, 400, false));
        let busy = load.run(30, |dice, _| (2.0 * about_20(dice), 400, false));
        assert_eq!(busy, (8, 8));
    }

    // A target with one worker: the more requests it has, the longer each takes. Fewer of them lose
    // nothing.
    #[test]
    fn requests_that_only_wait_at_the_target_wait_here() {
        let mut load = Load::new(64, Some(1));
        let queueing = |_: &mut fastrand::Rng, at_once: usize| (10.0 * at_once as f64, 400, false);
        load.run(5, queueing);
        let before = load.answered;
        load.run(20, queueing);
        let rate = (load.answered - before) / 20;
        assert!(rate >= 90, "{rate} a second of a target that takes 100");
    }

    // Batches of 500 documents take 600 ms, single ones 20. In whatever order they come, the target is
    // as fast as ever.
    #[test]
    fn two_lengths_of_bodies_do_not_brake() {
        let mut load = Load::new(8, None);
        let long = |dice: &mut fastrand::Rng| (30.0 * about_20(dice), 500_000, false);
        let short = |dice: &mut fastrand::Rng| (about_20(dice), 900, false);
        assert_eq!(load.run(20, |dice, _| short(dice)), (8, 8));
        assert_eq!(load.run(20, |dice, _| long(dice)), (8, 8));
        let mixed = load.run(60, |dice, _| match dice.u32(..50) {
            0 => long(dice),
            _ => short(dice),
        });
        assert_eq!(mixed, (8, 8));
    }

    // Timeouts of 15 s among answers of 20 ms are failures, and no sign that answers take long; nor do
    // the failures of a few entities slow the others.
    #[test]
    fn failures_are_no_latency_and_few_of_them_cut_nothing() {
        let mut load = Load::new(8, None);
        let tenth = load.run(60, |dice, _| match dice.u32(..10) {
            0 => (15_000.0, 400, true),
            _ => (about_20(dice), 400, false),
        });
        assert_eq!(tenth, (8, 8));
        let (lowest, _) = load.run(60, |dice, _| (about_20(dice), 400, dice.u32(..10) > 2));
        assert_eq!(lowest, 1, "most fail");
        let (_, last) = load.run(10, |dice, _| (about_20(dice), 400, false));
        assert_eq!(last, 8);
    }

    // One answer of 25 took two seconds, because a packet was lost on the way. Half of the slots were
    // withheld from a target that was as fast as ever.
    #[test]
    fn a_few_slow_answers_cut_nothing() {
        let mut gate = BearableConcurrency::new(8, None);
        for number in 0..3_000 {
            let now = Duration::from_millis(10_000 + 10 * number);
            let lost = number >= 2_000 && number % 25 == 0;
            let answered = Answered {
                sent: now - Duration::from_millis(if lost { 2_000 } else { 20 }),
                bytes: 400,
                full: false,
            };
            gate.accepted(now, answered);
            assert_eq!(gate.allowed(), 8, "after {number} answers");
        }
    }

    // A target had been away. Afterwards one in ten products had an error of its own, and it got one
    // request at a time for as long as there were such products.
    #[test]
    fn it_rises_though_a_few_requests_fail() {
        let mut load = Load::new(8, Some(1));
        let (_, last) = load.run(20, |dice, _| (about_20(dice), 400, dice.u32(..10) == 0));
        assert_eq!(last, 8);
    }

    // After each restart an adaptive limit began at 1, and took minutes to climb.
    #[test]
    fn it_starts_from_what_is_known_and_climbs_in_seconds() {
        assert_eq!(Load::new(64, None).gate.allowed(), 64);
        assert_eq!(Load::new(8, Some(40)).gate.allowed(), 8);
        let mut load = Load::new(64, Some(1));
        let (_, last) = load.run(15, |dice, _| (about_20(dice), 400, false));
        assert_eq!(last, 64);
    }

    // What does not use the slots says nothing about more of them.
    #[test]
    fn it_does_not_rise_while_slots_are_free() {
        let mut gate = BearableConcurrency::new(8, Some(3));
        for millis in (0..60_000).step_by(50) {
            let sent = Duration::from_millis(millis);
            let answered = Answered {
                sent,
                bytes: 400,
                full: false,
            };
            gate.accepted(sent + Duration::from_millis(20), answered);
        }
        assert_eq!(gate.allowed(), 3);
    }
}
