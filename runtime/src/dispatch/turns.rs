//! Chooses the next track by weighted round robin.

use crate::model::Track;

/// Tracks, by [`Track::index`]: urgent, normal, bulk, sweep.
pub(crate) const TRACKS: usize = Track::ALL.len();

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
        let total = self.earn(work);
        let chosen = (0..TRACKS)
            .rev()
            .filter(|track| work[*track])
            .max_by_key(|track| self.credit[*track])?;
        self.credit[chosen] -= total;
        Some(chosen)
    }

    /// Records that a track had a turn out of order; the next turns of the others make up for it.
    pub(crate) fn charge(&mut self, track: usize, work: [bool; TRACKS]) {
        let total = self.earn(work);
        self.credit[track] -= total;
    }

    fn earn(&mut self, work: [bool; TRACKS]) -> i64 {
        let mut total = 0;
        for track in (0..TRACKS).filter(|track| work[*track]) {
            self.credit[track] += self.weights[track];
            total += self.weights[track];
        }
        total
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
    fn a_turn_out_of_order_is_made_up_for() {
        let (mut shares, work) = (WeightedRoundRobin::new([16, 4, 1]), [true; 4]);
        let mut turns = [0; TRACKS];
        for number in 0..220 {
            if number % 2 == 0 {
                shares.charge(0, work);
                turns[0] += 1;
            } else if let Some(track) = shares.pick(work) {
                turns[track] += 1;
            }
        }
        assert_eq!(turns, [160, 40, 10, 10]);
    }
}
