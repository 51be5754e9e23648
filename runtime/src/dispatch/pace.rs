//! The pace of a target: when the next request to it may start. Pure: time is an argument.
//!
//! All channels of a target share its pace. It keeps to the configured rate, to the rate that the
//! target bears (`rate`), to the rate that its answers announce, to the points that it has left
//! (`points`), and to the times that it asks Weir to wait. An urgent request starts before others that
//! wait, but after [`URGENT_IN_A_ROW`] urgent ones it is another's turn.
//!
//! A rate counts units: requests, or their items or KiB. The cost of a request is known only when it
//! has been filled, so it is charged the usual cost when it starts, and the difference afterwards.

mod concurrency;
mod points;
mod rate;

use std::time::Duration;

pub(crate) use self::concurrency::{Answered, BearableConcurrency};
use self::points::Points;
use self::rate::Accepted;
pub(crate) use self::rate::BearableRate;
use crate::targets::PointsLeft;

/// The lowest rate in units per second: below a byte an hour, which is the least that can be configured.
const RATE_MIN: f64 = 1e-7;
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
/// The requests per second that are halved when a target refuses one before it has accepted any.
const UNKNOWN: f64 = 200.0;
/// How long a rate that an answer announced holds.
const ANNOUNCED: Duration = Duration::from_secs(60);
/// The weight of a request in the usual cost.
const USUAL_WEIGHT: f64 = 0.125;

/// What a request was charged when it started.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Charge {
    /// Units of the rate.
    units: f64,
    /// Points of the API.
    points: f64,
}

/// Hands out times at which requests may start. All times are the time since one fixed moment.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    /// Units per second as configured; `None` means unlimited.
    configured: Option<f64>,
    /// The rate that the target bears in units, once it has refused a request.
    bearable: Option<BearableRate>,
    /// The same when the target refused the first request since it last accepted one. The further
    /// refusals of an outage say nothing about the rate.
    before_outage: Option<BearableRate>,
    /// Requests per second that an answer announced, and until when they hold.
    announced: Option<(f64, Duration)>,
    points: Option<Points>,
    /// The cost of a request in units, of the latest ones above all.
    usual_cost: f64,
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
    /// A pace of at most `rate` units per second, and of the rate that the target bore before.
    pub(crate) fn new(rate: Option<f64>, bearable: Option<BearableRate>) -> Pace {
        Pace {
            configured: rate.map(|rate| rate.clamp(RATE_MIN, 1e6)),
            bearable,
            before_outage: None,
            announced: None,
            points: None,
            usual_cost: 1.0,
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
    pub(crate) fn start(&mut self, now: Duration, urgent: bool) -> Result<Charge, Duration> {
        self.announced = self.announced.filter(|(_, until)| *until > now);
        let units = self.usual_cost;
        let interval = self.interval(units);
        let burst = if self.bearable.is_some() {
            BURST_BEARABLE
        } else {
            BURST
        };
        let moment = self.next.max(now.saturating_sub(burst));
        let points = self.points.map(|points| points.wait(now));
        let wait = moment
            .max(self.asked_until)
            .saturating_sub(now)
            .max(points.unwrap_or_default());
        if wait.is_zero() && interval.is_zero() && points.is_none() {
            return Ok(Charge { units, points: 0.0 });
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
        let points = self.points.as_mut().map(|points| points.take(now));
        Ok(Charge {
            units,
            points: points.unwrap_or_default(),
        })
    }

    /// The request that has just been permitted is not made.
    pub(crate) fn give_back(&mut self, charge: Charge) {
        self.next = self.next.saturating_sub(self.interval(charge.units));
        if let Some(points) = &mut self.points {
            points.give_back(charge.points);
        }
    }

    /// A request that has been filled costs this much.
    pub(crate) fn charge(&mut self, charge: Charge, cost: f64) {
        let (charged, due) = (self.interval(charge.units), self.interval(cost));
        self.next = (self.next + due).saturating_sub(charged);
        self.usual_cost += USUAL_WEIGHT * (cost - self.usual_cost);
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

    /// The target accepted a request that cost this much.
    pub(crate) fn accepted(&mut self, now: Duration, cost: f64) {
        self.accepted.count(now, cost);
        self.before_outage = None;
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
        let fallen = if accepted > 0.0 {
            let share = if waits { BELOW_A_WAIT } else { 1.0 };
            accepted.min(before) * share
        } else {
            before.min(UNKNOWN * self.usual_cost) / 2.0
        };
        // Of a usual request, however many units it has.
        let bearable = BearableRate::after_refusal(fallen.max(rate::MIN * self.usual_cost));
        // The first refusal after an acceptance still says something about the rate.
        self.before_outage.get_or_insert(match accepted > 0.0 {
            true => bearable,
            false => self
                .bearable
                .unwrap_or_else(|| BearableRate::after_refusal(UNKNOWN * self.usual_cost)),
        });
        self.bearable = Some(bearable);
        self.fell = now;
        self.next = self.next.max(now);
    }

    /// The target is back after an outage; call this before [`Pace::accepted`]. The rate fell while it
    /// accepted nothing, which said nothing about the rate that it bears; it goes on a little below
    /// that of before.
    pub(crate) fn back(&mut self, now: Duration) {
        if let Some(before) = self.before_outage.take() {
            self.bearable = Some(before.after_outage());
            // The probe was charged at the fallen rate.
            self.next = self.next.min(now + self.interval(self.usual_cost));
        }
    }

    /// At `now`, the target asked Weir to wait until `time`.
    pub(crate) fn wait_until(&mut self, now: Duration, time: Duration) {
        self.silence
            .pass(now, self.asked_until, self.is_waited_for());
        self.asked_until = self.asked_until.max(time);
    }

    /// An answer announced that the target takes so many requests per second.
    pub(crate) fn announced(&mut self, now: Duration, rate: f64) {
        self.announced = Some((rate, now + ANNOUNCED));
    }

    /// An answer said how many points are left; its request was charged `charge`.
    pub(crate) fn points(&mut self, now: Duration, told: &PointsLeft, charge: Charge) {
        // The request itself still counts as unanswered.
        let more = self.silence.unanswered.saturating_sub(1);
        match &mut self.points {
            Some(points) => points.answered(now, told, charge.points, more),
            points => *points = Some(Points::first(now, told, more)),
        }
    }

    /// An answer said nothing about points.
    pub(crate) fn no_points(&mut self, charge: Charge) {
        if let Some(points) = &mut self.points {
            points.give_back(charge.points);
        }
    }

    /// How long requests have waited for the target since it last accepted one: for an answer, or
    /// for the pace. The time in which there was nothing to send does not count, nor that for which
    /// the target asked Weir to wait.
    pub(crate) fn silent_for(&mut self, now: Duration) -> Duration {
        self.silence
            .pass(now, self.asked_until, self.is_waited_for());
        self.silence.lasted
    }

    /// The rate that the target bears in units, if it has refused a request.
    pub(crate) fn bearable(&self) -> Option<BearableRate> {
        self.bearable
    }

    /// What a later pace must know: the rate that the target bears, or that of before an outage, in
    /// which it fell without a reason.
    pub(crate) fn kept(&self) -> Option<BearableRate> {
        let before = self.before_outage.map(BearableRate::after_outage);
        before.or(self.bearable)
    }

    /// How many requests may start within a time; `None` if any number may.
    pub(crate) fn within(&self, now: Duration, time: Duration) -> Option<usize> {
        let points = self.points.map(|points| points.wait(now));
        if self.asked_until.max(now + points.unwrap_or_default()) > now + time {
            return Some(0);
        }
        let interval = self.interval(self.usual_cost);
        (!interval.is_zero()).then(|| (time.as_secs_f64() / interval.as_secs_f64()) as usize)
    }

    /// The lower one of the configured rate and the bearable one, in units.
    fn rate(&self) -> Option<f64> {
        let bearable = self.bearable.and_then(|rate| rate.per_second());
        [self.configured, bearable]
            .into_iter()
            .flatten()
            .min_by(f64::total_cmp)
    }

    /// The time from a request of this cost to the next one; zero if there is no limit.
    fn interval(&self, units: f64) -> Duration {
        let seconds = self.rate().map_or(0.0, |rate| units / rate);
        let announced = self.announced.map_or(0.0, |(rate, _)| 1.0 / rate);
        Duration::from_secs_f64(seconds.max(announced))
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
mod tests;
