//! What a receiver was told, and what it is to be told next. Pure: time is an argument.
//!
//! A condition is told when it begins, at most once a minute, and its end after that. One that comes back
//! soon after its end was told keeps coming and going: from then on its end is told only when it has stayed
//! away for a minute, then for two, and so on up to an hour. So a target that trips each second costs a few
//! notices an hour, each of which says how often.

use std::collections::{BTreeMap, BTreeSet};

use super::board::{Ended, Entries, How};
use super::notice::Notice;
use super::{Condition, Key, Kind};
use crate::model::Timestamp;

const MINUTE_MS: u64 = 60 * 1000;
/// The longest time for which a condition must stay away until its end is told, and the time after which
/// it is forgotten that it was told.
const HOUR_MS: u64 = 60 * MINUTE_MS;
/// A condition that comes back within this time after its end was told keeps coming and going.
const SOON_MS: u64 = 10 * MINUTE_MS;
/// When a condition is told once more that still holds and could not be told.
const AGAIN_MS: u64 = 10 * MINUTE_MS;

/// What a receiver was told.
#[derive(Debug)]
pub(super) struct Told {
    on: BTreeSet<Kind>,
    said: BTreeMap<Key, Said>,
}

/// A condition that a receiver was told of.
#[derive(Debug)]
struct Said {
    condition: Condition,
    /// When.
    at: Timestamp,
    /// When its beginning or, later, its end was told.
    last: Timestamp,
    /// How often it had begun then.
    begun: u64,
    /// Whether the receiver has got it.
    sent: bool,
    /// For how long it must stay away until its end is told.
    calm_ms: u64,
    /// When its end was told, or would have been.
    over: Option<Timestamp>,
}

impl Told {
    /// A receiver that was told nothing and wants to hear of these kinds.
    pub(super) fn new(on: BTreeSet<Kind>) -> Told {
        let said = BTreeMap::new();
        Told { on, said }
    }

    /// What is to be told now: of several notices the one that has waited longest.
    pub(super) fn next(&mut self, board: &Entries, now: Timestamp) -> Option<Notice> {
        self.said.retain(|_, said| {
            said.over
                .is_none_or(|over| now.0 < over.0.saturating_add(HOUR_MS))
        });
        let ended = self.ended(board, now);
        let holds = board.iter().filter(|(key, entry)| {
            entry.ended.is_none() && self.on.contains(&key.0) && self.wants(key, now)
        });
        let holds = holds.map(|(key, entry)| {
            let said = self.said.get(key);
            let back_soon = said.and_then(|said| {
                let soon = now.0 < said.over?.0.saturating_add(SOON_MS);
                soon.then(|| (said.calm_ms * 2).clamp(MINUTE_MS, HOUR_MS))
            });
            let before = said.filter(|said| said.sent);
            Notice {
                condition: entry.condition.clone(),
                ended: None,
                begun: entry.begun,
                times: before.map_or(1, |said| entry.begun - said.begun.min(entry.begun)),
                last: before.map(|said| said.last),
                calm_ms: back_soon.unwrap_or_default(),
            }
        });
        holds.chain(ended).min_by_key(Notice::moment)
    }

    /// The ends that are to be told; those that nobody wants to hear of are passed over.
    fn ended(&mut self, board: &Entries, now: Timestamp) -> Vec<Notice> {
        let mut notices = Vec::new();
        for (key, said) in &mut self.said {
            if said.over.is_some() {
                continue;
            }
            let entry = board.get(key);
            let ended = match entry {
                Some(entry) => entry.ended,
                None => Some(Ended {
                    at: said.at,
                    how: How::Over,
                }),
            };
            let Some(ended) = ended.filter(|it| it.at.0.saturating_add(said.calm_ms) <= now.0)
            else {
                continue;
            };
            if !said.sent || !self.on.contains(&Kind::Recovered) {
                said.over = Some(now);
                continue;
            }
            let begun = entry.map_or(said.begun, |entry| entry.begun);
            notices.push(Notice {
                condition: said.condition.clone(),
                ended: Some(ended),
                begun,
                times: begun - said.begun.min(begun) + 1,
                last: Some(said.last),
                calm_ms: said.calm_ms,
            });
        }
        notices
    }

    /// Whether a condition that holds is to be told.
    fn wants(&self, key: &Key, now: Timestamp) -> bool {
        let Some(said) = self.said.get(key) else {
            return true;
        };
        let wait = match (said.over, said.sent) {
            (Some(_), _) => MINUTE_MS,
            (None, false) => AGAIN_MS,
            (None, true) => return false,
        };
        now.0 >= said.at.0.saturating_add(wait)
    }

    /// Takes down that a notice was sent, or given up.
    pub(super) fn said(&mut self, notice: Notice, sent: bool, now: Timestamp) {
        let key = (notice.condition.kind, notice.condition.subject.clone());
        if notice.ended.is_some() {
            if let Some(said) = self.said.get_mut(&key) {
                said.over = Some(now);
                (said.begun, said.last) = (notice.begun, now);
            }
            return;
        }
        let said = Said {
            condition: notice.condition,
            at: now,
            last: now,
            begun: notice.begun,
            sent,
            calm_ms: notice.calm_ms,
            over: None,
        };
        self.said.insert(key, said);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Board, Subject};
    use super::*;

    const SECOND: u64 = 1000;

    fn tripped(name: &str, since: u64) -> Condition {
        Condition {
            kind: Kind::Tripped,
            subject: Subject::Target(name.into()),
            since: Timestamp(since),
            reason: "the target answered 500".into(),
            remedy: String::new(),
            channels: Vec::new(),
            identity: 1,
        }
    }

    /// A receiver that is told of targets, second by second.
    struct Story {
        board: Board,
        told: Told,
        heard: Vec<String>,
    }

    impl Story {
        fn new(on: &[Kind]) -> Story {
            Story {
                board: Board::default(),
                told: Told::new(on.iter().copied().collect()),
                heard: Vec::new(),
            }
        }

        /// Lets these targets be tripped at this second; the receiver takes what it is told.
        fn second(&mut self, second: u64, tripped_now: &[&str], takes: bool) {
            let now = Timestamp(second * SECOND);
            let holding = tripped_now.iter().map(|name| tripped(name, now.0));
            self.board.look(now, holding.collect(), &|_| Some(1));
            while let Some(notice) = self.told.next(self.board.entries(), now) {
                let (kind, name) = (notice.kind(), notice.condition.subject.name().clone());
                let (times, mark) = (notice.times, if takes { "" } else { " lost" });
                self.heard
                    .push(format!("{second} {} {name} {times}{mark}", kind.name()));
                self.told.said(notice, takes, now);
            }
        }
    }

    #[test]
    fn a_trouble_is_told_when_it_begins_and_when_it_ends() {
        let mut story = Story::new(&Kind::ALL);
        story.second(1, &[], true);
        (2..9).for_each(|second| story.second(second, &["shop"], true));
        (9..99).for_each(|second| story.second(second, &[], true));
        assert_eq!(story.heard, ["2 tripped shop 1", "9 recovered shop 1"]);
    }

    #[test]
    fn the_end_of_what_was_not_told_is_not_told_either() {
        let mut story = Story::new(&Kind::ALL);
        story.second(1, &["shop"], false);
        story.second(2, &[], true);
        assert_eq!(story.heard, ["1 tripped shop 1 lost"]);
        let mut story = Story::new(&[Kind::Recovered, Kind::Held]);
        story.second(1, &["shop"], true);
        story.second(2, &[], true);
        assert_eq!(story.heard, [""; 0]);
        let mut story = Story::new(&[Kind::Tripped]);
        story.second(1, &["shop"], true);
        story.second(2, &[], true);
        story.second(70, &["shop"], true);
        assert_eq!(story.heard, ["1 tripped shop 1", "70 tripped shop 1"]);
    }

    #[test]
    fn what_could_not_be_told_and_still_holds_is_told_after_a_while() {
        let mut story = Story::new(&Kind::ALL);
        story.second(0, &["shop"], false);
        (1..700).for_each(|second| story.second(second, &["shop"], true));
        story.second(700, &[], true);
        assert_eq!(
            story.heard,
            [
                "0 tripped shop 1 lost",
                "600 tripped shop 1",
                "700 recovered shop 1"
            ]
        );
    }

    // A target that trips each second and comes back in the next one was to be told of 3,600 times an hour.
    #[test]
    fn a_target_that_keeps_tripping_is_told_of_a_few_times_with_a_count() {
        let mut story = Story::new(&Kind::ALL);
        for second in 0..3600 {
            let shop: &[&str] = if second % 2 == 0 { &["shop"] } else { &[] };
            story.second(second, shop, true);
        }
        (3600..3800).for_each(|second| story.second(second, &[], true));
        assert_eq!(
            story.heard,
            [
                "0 tripped shop 1",
                "1 recovered shop 1",
                "60 tripped shop 30",
                "3659 recovered shop 1770"
            ]
        );
        // It comes back within ten minutes, and after them.
        story.second(4000, &["shop"], true);
        (4001..4300).for_each(|second| story.second(second, &[], true));
        story.second(9000, &["shop"], true);
        story.second(9001, &[], true);
        assert_eq!(
            story.heard[4..],
            [
                "4000 tripped shop 1",
                "4121 recovered shop 1",
                "9000 tripped shop 1",
                "9001 recovered shop 1"
            ]
        );
    }

    #[test]
    fn one_that_flaps_hides_no_other() {
        let mut story = Story::new(&Kind::ALL);
        for second in 0..30 {
            let all: &[&str] = match second {
                12.. => &["shop", "search"],
                _ if second % 2 == 0 => &["shop"],
                _ => &[],
            };
            story.second(second, all, true);
        }
        assert_eq!(story.heard[2], "12 tripped search 1");
    }

    #[test]
    fn what_a_reload_replaced_or_removed_is_over_in_another_way() {
        for (there, how) in [
            (None, How::Removed),
            (Some(2), How::Replaced),
            (Some(1), How::Over),
        ] {
            let mut board = Board::default();
            board.look(Timestamp(1), vec![tripped("shop", 1)], &|_| Some(1));
            board.look(Timestamp(2), Vec::new(), &|_| there);
            let ended = board
                .entries()
                .values()
                .next()
                .and_then(|entry| entry.ended);
            assert_eq!(ended.map(|ended| ended.how), Some(how));
        }
    }

    #[test]
    fn what_is_long_over_is_forgotten() {
        let mut story = Story::new(&Kind::ALL);
        for name in 0..100 {
            story.second(1, &[&format!("shop-{name}")], true);
        }
        story.second(2, &[], true);
        assert_eq!(story.told.said.len(), 100);
        story.second(9000, &[], true);
        assert_eq!((story.board.entries().len(), story.told.said.len()), (0, 0));
    }
}
