//! Chooses the next track by weighted round robin, and limits the requests per second. Pure: time
//! is an argument.

use std::time::Duration;

use crate::model::Track;

/// Tracks, by [`Track::index`]: urgent, normal, bulk, sweep.
pub(crate) const TRACKS: usize = Track::ALL.len();
/// Idle time that a rate limiter makes up for, so that a small burst does not wait.
const BURST: Duration = Duration::from_millis(100);

/// Weighted round robin: each track that has work gets its share of the turns, evenly spread, and
/// none starves. Tracks without work are skipped.
#[derive(Clone, Debug)]
pub(crate) struct WeightedRoundRobin {
    weights: [i64; TRACKS],
    credit: [i64; TRACKS],
}

impl WeightedRoundRobin {
    /// Takes the shares of the three lanes. The sweep has the share of bulk. A share of 0 counts as
    /// 1, so that no track starves.
    pub(crate) fn new(shares: [u32; 3]) -> WeightedRoundRobin {
        let weight = |share: u32| i64::from(share.max(1));
        WeightedRoundRobin {
            weights: [
                weight(shares[0]),
                weight(shares[1]),
                weight(shares[2]),
                weight(shares[2]),
            ],
            credit: [0; TRACKS],
        }
    }

    /// Returns the next track among those with work; `None` if there is no work.
    pub(crate) fn pick(&mut self, work: [bool; TRACKS]) -> Option<usize> {
        let mut total = 0;
        for track in (0..TRACKS).filter(|track| work[*track]) {
            self.credit[track] += self.weights[track];
            total += self.weights[track];
        }
        let chosen = (0..TRACKS)
            .rev()
            .filter(|track| work[*track])
            .max_by_key(|track| self.credit[*track])?;
        self.credit[chosen] -= total;
        Some(chosen)
    }
}

/// A rate limiter: hands out evenly spaced times at which requests may be made.
#[derive(Clone, Debug)]
pub(crate) struct RateLimiter {
    every: Duration,
    next: Duration,
}

impl RateLimiter {
    /// A limiter to `rate` requests per second.
    pub(crate) fn new(rate: f64) -> RateLimiter {
        RateLimiter {
            every: Duration::from_secs_f64(1.0 / rate.clamp(0.001, 1e6)),
            next: Duration::ZERO,
        }
    }

    /// Takes the next slot and returns the time until then. `now` is the time since any fixed
    /// moment.
    pub(crate) fn wait(&mut self, now: Duration) -> Duration {
        let moment = self.next.max(now.saturating_sub(BURST));
        self.next = moment + self.every;
        moment.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(
        shares: &mut WeightedRoundRobin,
        work: [bool; TRACKS],
        rounds: usize,
    ) -> [usize; TRACKS] {
        let mut turns = [0; TRACKS];
        for _ in 0..rounds {
            if let Some(track) = shares.pick(work) {
                turns[track] += 1;
            }
        }
        turns
    }

    #[test]
    fn turns_are_given_by_share_and_nobody_starves() {
        let mut shares = WeightedRoundRobin::new([16, 4, 1]);
        assert_eq!(turns(&mut shares, [true; 4], 220), [160, 40, 10, 10]);
        assert_eq!(
            turns(&mut shares, [false, true, true, false], 50),
            [0, 40, 10, 0]
        );
        assert_eq!(
            turns(&mut shares, [false, false, false, true], 3),
            [0, 0, 0, 3]
        );
        assert_eq!(turns(&mut shares, [false; 4], 3), [0; 4]);
        assert_eq!(
            turns(
                &mut WeightedRoundRobin::new([10, 0, 0]),
                [true, true, false, false],
                110
            ),
            [100, 10, 0, 0]
        );
    }

    #[test]
    fn a_rate_is_kept_and_a_quiet_time_saves_up_little() {
        let mut rate = RateLimiter::new(100.0);
        let mut now = Duration::from_secs(5);
        let burst = (0..).take_while(|_| rate.wait(now).is_zero()).count();
        assert_eq!(
            burst, 11,
            "a tenth of a second's worth, and the one that is due"
        );
        let began = now;
        for _ in 0..100 {
            now += rate.wait(now);
        }
        let took = (now - began).as_millis();
        assert!(
            (990..=1_020).contains(&took),
            "100 requests at 100/s took {took} ms"
        );
    }
}
