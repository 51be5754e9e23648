//! The pace beside targets with limits of several kinds, in a time that the tests move.

use super::*;

/// The charge of a request where requests are counted.
const UNIT: Charge = Charge {
    units: 1.0,
    points: 0.0,
};

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
    pace.give_back(UNIT);
    assert_eq!(
        pace.start(end, false),
        Ok(UNIT),
        "what was not used is there"
    );
}

// The least that can be configured is 1/h, and requests came every 17 minutes.
#[test]
fn a_rate_of_one_an_hour_is_kept() {
    let mut pace = Pace::new(Some(1.0 / 3600.0), None);
    let first = start(&mut pace, SECOND, false);
    let waited = start(&mut pace, first, false) - first;
    assert!(waited > 3590 * SECOND, "{waited:?}");
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

/// A target with a token bucket that another client uses too.
struct Bucket {
    rate: f64,
    others: f64,
    tokens: f64,
    at: f64,
}

impl Bucket {
    fn accepts(&mut self, now: f64) -> bool {
        let most = 1.0 + self.rate / 5.0;
        self.tokens = (self.tokens + (now - self.at) * (self.rate - self.others)).min(most);
        self.at = now;
        let accepts = self.tokens >= 1.0;
        self.tokens -= f64::from(u8::from(accepts));
        accepts
    }
}

/// A channel that always has something to send does so for some seconds; requests take 10 ms. Returns
/// how many the target accepted and refused.
fn run(
    pace: &mut Pace,
    bucket: &mut Bucket,
    now: &mut Duration,
    seconds: usize,
    retry_after: Option<Duration>,
) -> (u32, u32) {
    const TOOK: Duration = Duration::from_millis(10);
    let (mut accepted, mut refused, began) = (0, 0, *now);
    let mut answers: std::collections::VecDeque<(Duration, bool)> = Default::default();
    while *now < began + Duration::from_secs(seconds as u64) {
        while let Some((sent, accepts)) = answers
            .front()
            .copied()
            .filter(|(sent, _)| *sent + TOOK <= *now)
        {
            answers.pop_front();
            if accepts {
                pace.accepted(*now, 1.0);
                accepted += 1;
            } else {
                refused += 1;
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
    (accepted, refused)
}

/// A shop that takes 150 requests a second and answers 429 beyond it was used at a fifth to two
/// fifths of that: each `Retry-After` stopped everything, and then all went at full speed again.
#[test]
fn the_rate_of_a_target_is_found_and_found_again_when_it_changes() {
    for retry_after in [None, Some(Duration::from_secs(1))] {
        let mut pace = Pace::new(None, None);
        let mut bucket = Bucket {
            rate: 150.0,
            others: 0.0,
            tokens: 31.0,
            at: 0.0,
        };
        let mut now = Duration::from_secs(1);
        for (rate, others, settle) in [
            (150.0, 0.0, 10),
            (15.0, 0.0, 20),
            (150.0, 0.0, 45),
            (400.0, 0.0, 45),
            (5.0, 0.0, 30),
            (150.0, 0.0, 60),
            (50.0, 0.0, 20),
            (300.0, 0.0, 60),
            (300.0, 150.0, 10),
        ] {
            (bucket.rate, bucket.others) = (rate, others);
            run(&mut pace, &mut bucket, &mut now, settle, retry_after);
            let (accepted, refused) = run(&mut pace, &mut bucket, &mut now, 60, retry_after);
            let share = f64::from(accepted) / 60.0 / (rate - others);
            let what = format!("of {rate}/s beside {others}/s, Retry-After: {retry_after:?}");
            // Of the first, a second is lost each time that the target asks for it.
            let least = if retry_after.is_some() { 0.915 } else { 0.95 };
            assert!(share >= least, "{share:.3} {what}");
            let refused = f64::from(refused) / f64::from(accepted + refused);
            assert!(refused <= 0.02, "{refused:.3} refused {what}");
        }
    }
}

#[test]
fn a_target_that_never_refuses_is_not_slowed() {
    let mut pace = Pace::new(None, None);
    for micros in 0..10_000 {
        let now = Duration::from_micros(micros);
        assert!(pace.start(now, false).is_ok());
        pace.accepted(now, 1.0);
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
            pace.accepted(now, 1.0);
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
    assert_eq!(pace.start(2 * second, true), Ok(UNIT));
    assert_eq!(pace.start(2 * second, false), Ok(UNIT));
}

/// How many requests start within a time, while there is always one that waits.
fn starts(pace: &mut Pace, now: &mut Duration, time: Duration) -> usize {
    let (end, mut count) = (*now + time, 0);
    while *now < end {
        match pace.start(*now, false) {
            Ok(_) => count += 1,
            Err(wait) => *now += wait,
        }
    }
    count
}

const SECOND: Duration = Duration::from_secs(1);

// A shop was away for a minute and answered 503. The rate had halved with each answer, and took minutes
// to come back; without a rate, a hundred thousand products would have come at once.
#[test]
fn after_an_outage_the_rate_goes_on_where_it_was() {
    let mut pace = Pace::new(None, None);
    let mut now = SECOND;
    for _ in 0..100 {
        pace.accepted(now, 1.0);
        now += Duration::from_millis(10);
    }
    pace.fall(now, now, false);
    for _ in 0..20 {
        now += 3 * SECOND;
        pace.fall(now, now, true);
    }
    let fallen = pace.bearable().and_then(|rate| rate.per_second());
    assert!(fallen < Some(1.0), "{fallen:?}");
    // A stop in the middle of the outage keeps the rate of before.
    let kept = pace.kept().and_then(|rate| rate.per_second());
    assert!(
        kept.is_some_and(|rate| (85.0..95.0).contains(&rate)),
        "{kept:?}"
    );
    // The probe starts at the fallen rate: the next request would be due after 20 seconds.
    assert!(pace.start(now, false).is_ok());
    pace.back(now);
    pace.accepted(now, 1.0);
    // Each of 100,000 waits.
    let first = starts(&mut pace, &mut now, SECOND);
    assert!((80..=95).contains(&first), "{first} in the first second");
    starts(&mut pace, &mut now, 9 * SECOND);
    let tenth = starts(&mut pace, &mut now, SECOND);
    assert!((90..=105).contains(&tenth), "{tenth} in the eleventh");
}

// An API that counted items was away. The rate fell to one item in twenty seconds, and after a request
// of 500 the next one waited for almost three hours.
#[test]
fn no_outage_makes_a_usual_request_wait_for_longer_than_twenty_seconds_or_so() {
    let (mut pace, mut now) = (Pace::new(None, None), SECOND);
    for _ in 0..60 {
        let charge = pace.start(now, false).expect("there is no limit yet");
        pace.charge(charge, 500.0);
    }
    for _ in 0..30 {
        now += SECOND;
        pace.fall(now, now, false);
    }
    let first = start(&mut pace, now, false);
    let waited = start(&mut pace, first, false) - first;
    assert!(waited < 25 * SECOND, "{waited:?}");
}

#[test]
fn a_rate_in_items_is_kept_whatever_the_sizes_of_the_batches() {
    let mut pace = Pace::new(Some(100.0), None);
    let (mut now, mut items) = (SECOND, 0.0);
    for number in 0..400 {
        while let Err(wait) = pace.start(now, false) {
            now += wait;
        }
        let cost = if number % 3 == 0 { 40.0 } else { 5.0 };
        let charge = Charge {
            units: pace.usual_cost,
            points: 0.0,
        };
        pace.charge(charge, cost);
        items += cost;
    }
    let rate = items / (now - SECOND).as_secs_f64();
    assert!((98.0..=102.0).contains(&rate), "{rate} items a second");
}

#[test]
fn an_announced_rate_slows_and_never_speeds_up_and_is_forgotten_when_it_is_not_repeated() {
    let mut now = SECOND;
    for (configured, expected) in [(None, 10), (Some(4.0), 4), (Some(50.0), 10)] {
        let mut pace = Pace::new(configured, None);
        pace.announced(now, 10.0);
        let started = starts(&mut pace, &mut now, 20 * SECOND);
        assert!(started.abs_diff(20 * expected) <= 2, "{started}");
        now += 40 * SECOND;
        if configured == Some(50.0) {
            let started = starts(&mut pace, &mut now, 20 * SECOND);
            assert!(started >= 980, "{started} of 50 a second");
        }
    }
}

/// An API with points, as Shopify has them: a request takes what it needs when it arrives, and gets back
/// what it did not use when it ends.
struct Api {
    left: f64,
    at: Duration,
    /// Points that another client uses in a second.
    others: f64,
}

impl Api {
    const MOST: f64 = 1000.0;
    const RESTORED: f64 = 50.0;
    const NEEDED: f64 = 100.0;
    const USED: f64 = 40.0;

    fn pass(&mut self, now: Duration) {
        let passed = (now - self.at).as_secs_f64();
        self.left = (self.left + passed * (Api::RESTORED - self.others)).clamp(0.0, Api::MOST);
        self.at = now;
    }
}

/// Sends for some seconds with up to eight requests at once; the points that were used, and the
/// requests that were accepted and refused.
fn spend(pace: &mut Pace, api: &mut Api, now: &mut Duration, seconds: u32) -> (f64, u32, u32) {
    const TOOK: Duration = Duration::from_millis(150);
    let (end, mut accepted, mut refused) = (*now + seconds * SECOND, 0, 0);
    let mut flights: std::collections::VecDeque<(Duration, Charge, bool)> = Default::default();
    while *now < end {
        api.pass(*now);
        while let Some((_, charge, ran)) = flights.pop_front_if(|(sent, ..)| *sent + TOOK <= *now) {
            let used = if ran { Api::USED } else { 0.0 };
            if ran {
                api.left += Api::NEEDED - Api::USED;
            }
            (accepted, refused) = (accepted + u32::from(ran), refused + u32::from(!ran));
            let told = PointsLeft {
                needed: Api::NEEDED,
                used,
                left: api.left.floor(),
                most: Api::MOST,
                per_second: Api::RESTORED,
            };
            pace.points(*now, &told, charge);
            pace.answered(*now);
        }
        while flights.len() < 8
            && let Ok(charge) = pace.start(*now, false)
        {
            pace.sent(*now);
            let runs = api.left >= Api::NEEDED;
            api.left -= if runs { Api::NEEDED } else { 0.0 };
            flights.push_back((*now, charge, runs));
        }
        *now += Duration::from_millis(1);
    }
    for (_, charge, _) in flights {
        pace.no_points(charge);
        pace.answered(*now);
        api.left += Api::NEEDED;
    }
    (f64::from(accepted) * Api::USED, accepted, refused)
}

// Each request to a shop asked for a hundred points of a thousand. Eight at a time, every second one was
// throttled.
#[test]
fn requests_to_an_api_with_points_start_when_their_points_are_there() {
    let mut pace = Pace::new(None, None);
    let (mut now, mut api) = (
        SECOND,
        Api {
            left: Api::MOST,
            at: SECOND,
            others: 0.0,
        },
    );
    spend(&mut pace, &mut api, &mut now, 30);
    for (others, least) in [(0.0, 0.95), (25.0, 0.9), (0.0, 0.95)] {
        api.others = others;
        spend(&mut pace, &mut api, &mut now, 20);
        let (used, accepted, refused) = spend(&mut pace, &mut api, &mut now, 60);
        let share = used / (60.0 * (Api::RESTORED - others));
        assert!(share >= least, "{share} beside {others}");
        assert!(
            f64::from(refused) <= 0.02 * f64::from(accepted),
            "{refused} refused, {accepted} accepted beside {others}"
        );
    }
}

// Two answers came at once, and the one that was read first was noted last.
#[test]
fn answers_may_be_noted_in_another_order_than_they_came() {
    let mut pace = Pace::new(None, None);
    let told = PointsLeft {
        needed: 10.0,
        used: 10.0,
        left: 50.0,
        most: 100.0,
        per_second: 5.0,
    };
    for millis in [1_000, 2_000, 1_999, 2_001] {
        let now = Duration::from_millis(millis);
        pace.points(now, &told, UNIT);
        assert!(pace.start(now, false).is_ok());
    }
}

// Eight requests of 752 points were sent at once to a shop that had 1,000. After the first answer Weir
// waited for the points of all, though the shop had refused seven.
#[test]
fn requests_that_find_no_points_take_none() {
    let (mut pace, now) = (Pace::new(None, None), SECOND);
    for _ in 0..8 {
        assert!(pace.start(now, false).is_ok());
        pace.sent(now);
    }
    let told = PointsLeft {
        needed: 752.0,
        used: 752.0,
        left: 248.0,
        most: 1000.0,
        per_second: 50.0,
    };
    pace.points(now, &told, UNIT);
    let wait = pace.start(now, false).expect_err("too few are left");
    assert!(wait < 17 * SECOND, "{wait:?}");
}
