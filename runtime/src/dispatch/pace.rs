//! The pace of a target: when the next request to it may start. Pure: time is an argument.
//!
//! All channels of a target share its pace. It keeps to the configured rate, to the rate that the
//! target bears (`rate`), and to the times that the target asks Weir to wait. An urgent request
//! starts before others that wait, but after [`URGENT_IN_A_ROW`] urgent ones it is another's turn.

mod rate;

use std::time::Duration;

use self::rate::Accepted;
pub(crate) use self::rate::BearableRate;

/// Idle time that is made up for, so that a small burst does not wait.
const BURST: Duration = Duration::from_millis(100);
/// The same with a rate that a target has taught: many of them count from moment to moment. It makes
/// up for timers that are late.
const BURST_BEARABLE: Duration = Duration::from_millis(20);
/// How long a request that has to let another class go first waits before it asks again.
const AFTER_YOU: Duration = Duration::from_millis(1);
/// Urgent requests that may start while others wait.
const URGENT_IN_A_ROW: u32 = 4;
/// The rate falls once in this time, because several requests meet the same shortage.
const FALL_EVERY: Duration = Duration::from_millis(100);
/// The share of the accepted rate that the rate returns to if the target also asked Weir to wait. Each
/// such refusal stops everything for that time, so it must come less often.
const BELOW_A_WAIT: f64 = 0.95;
/// The rate that is halved when a target refuses a request before it has accepted any.
const UNKNOWN: f64 = 200.0;

/// Hands out times at which requests may start. All times are the time since one fixed moment.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    /// Requests per second as configured; `None` means unlimited.
    configured: Option<f64>,
    /// The rate that the target bears, once it has refused a request.
    bearable: Option<BearableRate>,
    accepted: Accepted,
    silence: Silence,
    /// When the rate last fell.
    fell: Duration,
    /// When the next request may start.
    next: Duration,
    /// The target asked Weir to wait until then.
    asked_until: Duration,
    /// Whether an urgent request waits, and whether another one does.
    urgent_waits: bool,
    others_wait: bool,
    /// Urgent requests that started since the last other one.
    urgent_in_a_row: u32,
}

impl Pace {
    /// A pace of at most `rate` requests per second, and of the rate that the target bore before.
    pub(crate) fn new(rate: Option<f64>, bearable: Option<BearableRate>) -> Pace {
        Pace {
            configured: rate.map(|rate| rate.clamp(0.001, 1e6)),
            bearable,
            accepted: Accepted::default(),
            silence: Silence::default(),
            fell: Duration::ZERO,
            next: Duration::ZERO,
            asked_until: Duration::ZERO,
            urgent_waits: false,
            others_wait: false,
            urgent_in_a_row: 0,
        }
    }

    /// Starts a request at `now`.
    ///
    /// # Errors
    /// How long to wait before asking again, if none may start now.
    pub(crate) fn start(&mut self, now: Duration, urgent: bool) -> Result<(), Duration> {
        let interval = self.interval().unwrap_or_default();
        let burst = if self.bearable.is_some() {
            BURST_BEARABLE
        } else {
            BURST
        };
        let moment = self.next.max(now.saturating_sub(burst));
        let wait = moment.max(self.asked_until).saturating_sub(now);
        if wait.is_zero() && interval.is_zero() {
            return Ok(());
        }
        let others_turn = self.urgent_in_a_row >= URGENT_IN_A_ROW;
        let after_another = if urgent {
            self.others_wait && others_turn
        } else {
            self.urgent_waits && !others_turn
        };
        if !wait.is_zero() || after_another {
            self.set_waits(now, urgent, true);
            return Err(wait.max(AFTER_YOU));
        }
        let waited = *self.waits(urgent);
        self.set_waits(now, urgent, false);
        if let Some(bearable) = self.bearable.as_mut().filter(|_| waited) {
            bearable.rise(interval);
            if bearable.per_second().is_none() {
                self.bearable = None;
            }
        }
        self.urgent_in_a_row = if urgent {
            self.urgent_in_a_row.saturating_add(1)
        } else {
            0
        };
        self.next = moment + interval;
        Ok(())
    }

    /// The request that has just been permitted is not made.
    pub(crate) fn give_back(&mut self) {
        self.next = self
            .next
            .saturating_sub(self.interval().unwrap_or_default());
    }

    /// Nobody waits any more for a request of this class.
    pub(crate) fn leave(&mut self, now: Duration, urgent: bool) {
        self.set_waits(now, urgent, false);
    }

    /// A request is on its way.
    pub(crate) fn sent(&mut self, now: Duration) {
        self.silence
            .pass(now, self.asked_until, self.is_waited_for());
        self.silence.unanswered += 1;
    }

    /// A request has its answer, or will get none.
    pub(crate) fn answered(&mut self, now: Duration) {
        self.silence
            .pass(now, self.asked_until, self.is_waited_for());
        self.silence.unanswered = self.silence.unanswered.saturating_sub(1);
    }

    /// The target accepted a request.
    pub(crate) fn accepted(&mut self, now: Duration) {
        self.accepted.count(now);
        self.silence.pass(now, self.asked_until, false);
        self.silence.lasted = Duration::ZERO;
    }

    /// The target refused a request because there are too many; it had been sent at `sent`. The rate
    /// falls, unless it has since the request was sent. `waits` says whether the target also asked
    /// Weir to wait.
    pub(crate) fn fall(&mut self, now: Duration, sent: Duration, waits: bool) {
        if self.bearable.is_some() && sent < self.fell + FALL_EVERY {
            return;
        }
        let accepted = self.accepted.per_second(now);
        let before = self.rate().unwrap_or(f64::INFINITY);
        let bearable = if accepted > 0.0 {
            accepted.min(before) * if waits { BELOW_A_WAIT } else { 1.0 }
        } else {
            before.min(UNKNOWN) / 2.0
        };
        self.bearable = Some(BearableRate::after_refusal(bearable));
        self.fell = now;
        self.next = self.next.max(now);
    }

    /// At `now`, the target asked Weir to wait until `time`.
    pub(crate) fn wait_until(&mut self, now: Duration, time: Duration) {
        self.silence
            .pass(now, self.asked_until, self.is_waited_for());
        self.asked_until = self.asked_until.max(time);
    }

    /// How long requests have waited for the target since it last accepted one: for an answer, or
    /// for the pace. The time in which there was nothing to send does not count, nor that for which
    /// the target asked Weir to wait.
    pub(crate) fn silent_for(&mut self, now: Duration) -> Duration {
        self.silence
            .pass(now, self.asked_until, self.is_waited_for());
        self.silence.lasted
    }

    /// The rate that the target bears, if it has refused a request.
    pub(crate) fn bearable(&self) -> Option<BearableRate> {
        self.bearable
    }

    /// How many requests may start within a time; `None` if any number may.
    pub(crate) fn within(&self, now: Duration, time: Duration) -> Option<usize> {
        if self.asked_until > now + time {
            return Some(0);
        }
        self.rate().map(|rate| (rate * time.as_secs_f64()) as usize)
    }

    /// The lower one of the configured rate and the bearable one.
    fn rate(&self) -> Option<f64> {
        let bearable = self.bearable.and_then(|rate| rate.per_second());
        [self.configured, bearable]
            .into_iter()
            .flatten()
            .min_by(f64::total_cmp)
    }

    fn interval(&self) -> Option<Duration> {
        self.rate().map(|rate| Duration::from_secs_f64(1.0 / rate))
    }

    fn waits(&mut self, urgent: bool) -> &mut bool {
        if urgent {
            &mut self.urgent_waits
        } else {
            &mut self.others_wait
        }
    }

    fn set_waits(&mut self, now: Duration, urgent: bool, waits: bool) {
        if *self.waits(urgent) != waits {
            self.silence
                .pass(now, self.asked_until, self.is_waited_for());
            *self.waits(urgent) = waits;
        }
    }

    fn is_waited_for(&self) -> bool {
        self.silence.unanswered > 0 || self.urgent_waits || self.others_wait
    }
}

/// How long requests have waited for a target since it last accepted one.
#[derive(Clone, Debug, Default)]
struct Silence {
    lasted: Duration,
    /// Up to when it has been counted.
    counted: Duration,
    /// Requests that are on their way.
    unanswered: u32,
}

impl Silence {
    /// Time passes up to `now`. It counts if a request waited, from `asked_until` on.
    fn pass(&mut self, now: Duration, asked_until: Duration, waited: bool) {
        if waited {
            self.lasted += now.saturating_sub(self.counted.max(asked_until));
        }
        self.counted = self.counted.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts a request as soon as it may, and returns the time.
    fn start(pace: &mut Pace, mut now: Duration, urgent: bool) -> Duration {
        while let Err(wait) = pace.start(now, urgent) {
            now += wait;
        }
        now
    }

    #[test]
    fn a_rate_is_kept_and_a_quiet_time_saves_up_little() {
        let mut pace = Pace::new(Some(100.0), None);
        let began = Duration::from_secs(5);
        let burst = (0..)
            .take_while(|_| pace.start(began, false).is_ok())
            .count();
        assert_eq!(
            burst, 11,
            "a tenth of a second's worth, and the one that is due"
        );
        let end = (0..100).fold(began, |now, _| start(&mut pace, now, false));
        let took = (end - began).as_millis();
        assert!(
            (990..=1_020).contains(&took),
            "100 requests at 100/s took {took} ms"
        );
        pace.give_back();
        assert_eq!(pace.start(end, false), Ok(()), "what was not used is there");
    }

    #[test]
    fn an_urgent_request_goes_first_and_others_do_not_starve() {
        let mut pace = Pace::new(Some(10.0), None);
        let mut now = Duration::from_secs(5);
        while pace.start(now, false).is_ok() {}
        let mut order = String::new();
        for _ in 0..20_000 {
            now += Duration::from_micros(500);
            for (urgent, word) in [(false, '-'), (true, 'u')] {
                if pace.start(now, urgent).is_ok() {
                    order.push(word);
                }
            }
        }
        assert!((99..=100).contains(&order.len()), "{order}");
        assert!(order.starts_with("uuuu-uuuu-uuuu-"), "{order}");
    }

    /// A target with a token bucket, and a channel that always has something to send. Requests take
    /// 10 ms; returns how many the target accepted and refused between two times.
    struct Bucket {
        rate: f64,
        tokens: f64,
        at: f64,
    }

    impl Bucket {
        fn accepts(&mut self, now: f64) -> bool {
            let most = 1.0 + self.rate / 5.0;
            self.tokens = (self.tokens + (now - self.at) * self.rate).min(most);
            self.at = now;
            let accepts = self.tokens >= 1.0;
            self.tokens -= f64::from(u8::from(accepts));
            accepts
        }
    }

    /// Sends for some seconds; the accepted requests of each second.
    fn run(
        pace: &mut Pace,
        bucket: &mut Bucket,
        now: &mut Duration,
        seconds: usize,
        retry_after: Option<Duration>,
    ) -> Vec<u32> {
        const TOOK: Duration = Duration::from_millis(10);
        let (mut accepted, began) = (vec![0; seconds], *now);
        let mut answers: std::collections::VecDeque<(Duration, bool)> = Default::default();
        while *now < began + Duration::from_secs(seconds as u64) {
            while let Some((sent, accepts)) = answers
                .front()
                .copied()
                .filter(|(sent, _)| *sent + TOOK <= *now)
            {
                answers.pop_front();
                if accepts {
                    pace.accepted(*now);
                    accepted[(*now - began).as_secs() as usize] += 1;
                } else {
                    pace.fall(*now, sent, retry_after.is_some());
                    if let Some(after) = retry_after {
                        pace.wait_until(*now, *now + after);
                    }
                }
            }
            while answers.len() < 8 && pace.start(*now, false).is_ok() {
                answers.push_back((*now, bucket.accepts(now.as_secs_f64())));
            }
            *now += Duration::from_micros(500);
        }
        accepted
    }

    /// A shop that takes 150 requests a second and answers 429 beyond it was used at a fifth to two
    /// fifths of that: each `Retry-After` stopped everything, and then all went at full speed again.
    #[test]
    fn the_rate_of_a_target_is_found_and_found_again_when_it_changes() {
        for retry_after in [None, Some(Duration::from_secs(1))] {
            let mut pace = Pace::new(None, None);
            let mut bucket = Bucket {
                rate: 150.0,
                tokens: 31.0,
                at: 0.0,
            };
            let mut now = Duration::from_secs(1);
            let mut share = |rate: f64, settle: usize| {
                bucket.rate = rate;
                run(&mut pace, &mut bucket, &mut now, settle, retry_after);
                let accepted: u32 = run(&mut pace, &mut bucket, &mut now, 60, retry_after)
                    .iter()
                    .sum();
                f64::from(accepted) / 60.0 / rate
            };
            for (rate, settle) in [(150.0, 10), (15.0, 20), (150.0, 45), (400.0, 45), (5.0, 30)] {
                let share = share(rate, settle);
                // Of the first, a second is lost each time that the target asks for it.
                let least = if retry_after.is_some() { 0.915 } else { 0.95 };
                assert!(
                    share >= least,
                    "{share:.3} of {rate}/s, Retry-After: {retry_after:?}"
                );
            }
        }
    }

    #[test]
    fn a_target_that_never_refuses_is_not_slowed() {
        let mut pace = Pace::new(None, None);
        for micros in 0..10_000 {
            let now = Duration::from_micros(micros);
            assert_eq!(pace.start(now, false), Ok(()));
            pace.accepted(now);
        }
        assert_eq!(pace.bearable(), None);
    }

    // A shop had nothing to take for an hour. Then five products came at once, more than it took; it
    // counted as silent for an hour, and was tripped.
    #[test]
    fn time_in_which_nothing_was_to_be_sent_is_not_silence() {
        let (mut pace, second) = (Pace::new(Some(1.0), None), Duration::from_secs(1));
        let (mut now, took) = (3600 * second, Duration::from_millis(10));
        let mut exchange = |pace: &mut Pace, accepts: bool| {
            pace.sent(now);
            now += took;
            pace.answered(now);
            if accepts {
                pace.accepted(now);
            }
            now += 3600 * second;
            pace.silent_for(now)
        };
        assert_eq!(exchange(&mut pace, false), took);
        assert_eq!(exchange(&mut pace, false), 2 * took);
        assert_eq!(exchange(&mut pace, true), Duration::ZERO);
        assert_eq!(exchange(&mut pace, false), took);
        // A request that waits for the pace is something to send.
        while pace.start(now, false).is_ok() {}
        assert_eq!(pace.silent_for(now + 2 * second), 2 * second + took);
        pace.wait_until(now + 2 * second, now + 60 * second);
        assert_eq!(
            pace.silent_for(now + 61 * second),
            3 * second + took,
            "the target asked for the minute"
        );
        pace.leave(now + 61 * second, false);
        assert_eq!(pace.silent_for(now + 3600 * second), 3 * second + took);
    }

    #[test]
    fn a_wait_that_the_target_asks_for_holds_for_all_requests() {
        let (mut pace, second) = (Pace::new(None, None), Duration::from_secs(1));
        pace.wait_until(second, 2 * second);
        assert_eq!(pace.start(second, true), Err(second));
        assert_eq!(pace.within(second, second / 2), Some(0));
        assert_eq!(pace.start(2 * second, true), Ok(()));
        assert_eq!(pace.start(2 * second, false), Ok(()));
    }
}
