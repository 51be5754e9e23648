//! How long changes take from acceptance to delivery, by lane, over the last minute, hour and day.
//!
//! The ages are counted in logarithmic buckets from 1 ms to 7 days, in rings of slots: spans are merged by
//! adding their buckets, so a percentile of a day is one of all its deliveries. A percentile is the upper
//! bound of its bucket, at most 40 % above the true value; the maximum is exact. What is not delivered is
//! in none of them: that is what `overdue` and the oldest owed entities are for.
//!
//! Only changes count, whether their lane or a sweep meets them first. What was there before the channel, or
//! before it subscribed to it, may be years old, and counts as no change of the channel.

use std::sync::LazyLock;

use crate::model::{Lane, Timestamp};

/// The upper bounds of the buckets, in milliseconds; a last bucket has what is above them.
static BOUNDS: LazyLock<[u64; BOUNDED]> = LazyLock::new(|| {
    let week = 7.0 * 24.0 * 3600.0 * 1000.0;
    let mut last = 0;
    std::array::from_fn(|at| {
        let exact = f64::powf(week, at as f64 / (BOUNDED - 1) as f64);
        last = (exact.round() as u64).max(last + 1);
        last
    })
});
const BOUNDED: usize = 64;
const BUCKETS: usize = BOUNDED + 1;

/// The rings, from the finest: the width of a slot in milliseconds, and how many of them are a span.
const RINGS: [(u64, usize); 3] = [(10_000, 6), (300_000, 12), (3_600_000, SLOTS_MAX)];
const SLOTS_MAX: usize = 24;
/// The rings that are kept over a restart; the first one would be over.
const KEPT: std::ops::Range<usize> = 1..3;
/// The most bytes that are kept of a channel: a row of the store has to be shorter than 32 KiB. Slots of an
/// hour go first.
const KEPT_BYTES_MAX: usize = 30 * 1024;
/// A difference between the wall clock and the time elapsed that is a step of the wall clock, in
/// milliseconds, and not its drift.
const STEP_MS: i64 = 1_000;

/// The latencies of a channel.
#[derive(Debug, Default)]
pub struct Latencies {
    lanes: [Rings; 3],
    wall: Wall,
    /// Ages that were negative, because the wall clock had been set back. They count as 0.
    negative: u64,
}

/// The latencies of one lane in one span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// Deliveries of changes.
    pub count: u64,
    /// Half of them took at most this long, in milliseconds.
    pub p50: u64,
    /// 99 of 100 took at most this long, in milliseconds.
    pub p99: u64,
    /// The longest took exactly this long, in milliseconds.
    pub max: u64,
}

/// Two clocks read at the same moment.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The time that never runs backwards.
    pub now: Timestamp,
    /// The wall clock, by which the store stamps changes.
    pub wall: Timestamp,
}

impl Latencies {
    /// Counts the delivery of a change that was committed at this time.
    pub fn count(&mut self, lane: Lane, committed: Timestamp, at: Moment) {
        let age = self.wall.age(committed, at);
        self.negative += u64::from(age < 0);
        self.lanes[lane.index()].count(age.max(0) as u64, at.now);
    }

    /// Notices when the wall clock has been set. Call it about once a second.
    pub fn look_at_clock(&mut self, at: Moment) {
        self.wall.look(at);
    }

    /// The latencies of a lane over the last minute, hour and day.
    pub fn of(&self, lane: Lane, now: Timestamp) -> [Latency; RINGS.len()] {
        let rings = &self.lanes[lane.index()].0;
        std::array::from_fn(|ring| rings[ring].merged(ring, now).summary())
    }

    /// The number of deliveries whose age was negative.
    pub fn negative(&self) -> u64 {
        self.negative
    }

    /// What is kept over a restart; `None` if nothing was delivered.
    pub fn memory(&self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        for ring in KEPT.rev() {
            for (lane, rings) in self.lanes.iter().enumerate() {
                for (epoch, slot) in rings.0[ring].slots.iter().flatten() {
                    let before = bytes.len();
                    bytes.extend([lane as u8, ring as u8]);
                    slot.write(*epoch, &mut bytes);
                    if bytes.len() > KEPT_BYTES_MAX {
                        bytes.truncate(before);
                    }
                }
            }
        }
        Some(bytes).filter(|bytes| !bytes.is_empty())
    }

    /// Takes back what [`Latencies::memory`] returned before a restart. Bytes of another version are left.
    pub fn recall(&mut self, mut bytes: &[u8]) {
        while let Some((lane, ring, epoch, slot)) = read_slot(&mut bytes) {
            let rings = self.lanes.get_mut(lane).map(|rings| &mut rings.0);
            let ring = rings.and_then(|rings| Some((rings.get_mut(ring)?, RINGS.get(ring)?)));
            if let Some((ring, (_, length))) = ring {
                ring.put(epoch, *length, slot);
            }
        }
    }
}

/// How far the wall clock is ahead of the time elapsed, and its last step.
#[derive(Debug, Default)]
struct Wall {
    ahead: Option<i64>,
    /// When a step was noticed, and by how many milliseconds it set the clock forward.
    step: Option<(Timestamp, i64)>,
}

impl Wall {
    fn look(&mut self, at: Moment) {
        let ahead = at.wall.0 as i64 - at.now.0 as i64;
        let stepped = self.ahead.map_or(0, |before| ahead - before);
        if stepped.abs() > STEP_MS {
            self.step = Some((at.now, stepped));
        }
        self.ahead = Some(ahead);
    }

    /// The age of what was stamped with this time. If the wall clock was set meanwhile, as if it had not
    /// been.
    fn age(&mut self, stamped: Timestamp, at: Moment) -> i64 {
        self.look(at);
        let age = at.wall.0 as i64 - stamped.0 as i64;
        let Some((noticed, forward)) = self.step else {
            return age;
        };
        let since_step = at.now.0 as i64 - noticed.0 as i64 + STEP_MS;
        match (0..=since_step).contains(&age) {
            true => age,
            false => age - forward,
        }
    }
}

/// The rings of a lane.
#[derive(Debug, Default)]
struct Rings([Ring; RINGS.len()]);

impl Rings {
    fn count(&mut self, age: u64, now: Timestamp) {
        for (ring, (width, length)) in self.0.iter_mut().zip(RINGS) {
            ring.slot(now.0 / width, length).count(age);
        }
    }
}

/// The slots of a span, each with the number of its time. They are made when something is counted, and there
/// are no more than the span has.
#[derive(Debug, Default)]
struct Ring {
    slots: [Option<(u64, Box<Slot>)>; SLOTS_MAX],
}

impl Ring {
    fn slot(&mut self, epoch: u64, length: usize) -> &mut Slot {
        let place = &mut self.slots[(epoch % length as u64) as usize];
        match place {
            Some((of, slot)) if *of != epoch => {
                *of = epoch;
                **slot = Slot::default();
            }
            Some(_) => {}
            None => *place = Some((epoch, Box::default())),
        }
        &mut place.as_mut().expect("it was just made").1
    }

    /// Takes back what was counted in a time, unless the place has that of a later one.
    fn put(&mut self, epoch: u64, length: usize, slot: Slot) {
        let place = &self.slots[(epoch % length as u64) as usize];
        if place.as_ref().is_none_or(|(of, _)| *of <= epoch) {
            *self.slot(epoch, length) = slot;
        }
    }

    /// All slots of the span that ends now.
    fn merged(&self, ring: usize, now: Timestamp) -> Slot {
        let (width, length) = RINGS[ring];
        let current = now.0 / width;
        let mut merged = Slot::default();
        for (epoch, slot) in self.slots.iter().flatten() {
            if *epoch <= current && *epoch + length as u64 > current {
                merged.add(slot);
            }
        }
        merged
    }
}

/// The ages that were counted in some time.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Slot {
    counts: [u32; BUCKETS],
    max: u64,
}

impl Default for Slot {
    fn default() -> Slot {
        Slot {
            counts: [0; BUCKETS],
            max: 0,
        }
    }
}

impl Slot {
    fn count(&mut self, age: u64) {
        let count = &mut self.counts[BOUNDS.partition_point(|bound| *bound < age)];
        *count = count.saturating_add(1);
        self.max = self.max.max(age);
    }

    fn add(&mut self, other: &Slot) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count = count.saturating_add(more);
        }
        self.max = self.max.max(other.max);
    }

    fn summary(&self) -> Latency {
        let count = self.counts.iter().map(|count| u64::from(*count)).sum();
        Latency {
            count,
            p50: self.percentile(count.div_ceil(2)),
            p99: self.percentile((count * 99).div_ceil(100)),
            max: self.max,
        }
    }

    /// The age that this many are at most.
    fn percentile(&self, rank: u64) -> u64 {
        let mut seen = 0;
        let reached = self.counts.iter().position(|count| {
            seen += u64::from(*count);
            seen >= rank.max(1)
        });
        let bound = reached.and_then(|bucket| BOUNDS.get(bucket));
        bound.copied().unwrap_or(self.max).min(self.max)
    }

    fn write(&self, epoch: u64, bytes: &mut Vec<u8>) {
        put_number(epoch, bytes);
        put_number(self.max, bytes);
        let filled = || {
            self.counts
                .iter()
                .enumerate()
                .filter(|(_, count)| **count > 0)
        };
        bytes.push(filled().count() as u8);
        for (bucket, count) in filled() {
            bytes.push(bucket as u8);
            put_number(u64::from(*count), bytes);
        }
    }
}

/// A slot with its lane, its ring and the number of its time.
fn read_slot(bytes: &mut &[u8]) -> Option<(usize, usize, u64, Slot)> {
    let (lane, ring) = (take_byte(bytes)?, take_byte(bytes)?);
    let epoch = take_number(bytes)?;
    let mut slot = Slot {
        max: take_number(bytes)?,
        ..Slot::default()
    };
    for _ in 0..take_byte(bytes)? {
        let bucket = take_byte(bytes)?;
        let count = take_number(bytes)?;
        *slot.counts.get_mut(usize::from(bucket))? = u32::try_from(count).ok()?;
    }
    Some((lane.into(), ring.into(), epoch, slot))
}

/// Seven bits a byte, the lowest first; the highest bit says that there are more.
fn put_number(mut number: u64, bytes: &mut Vec<u8>) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = take_byte(bytes)?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn take_byte(bytes: &mut &[u8]) -> Option<u8> {
    let (first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_795_000_000_000;
    const HOUR: i64 = 3_600_000;

    /// A moment so many milliseconds after the start, with a wall clock that is so far ahead.
    fn moment(after: u64, ahead: i64) -> Moment {
        let now = START + after;
        Moment {
            now: Timestamp(now),
            wall: Timestamp((now as i64 + ahead) as u64),
        }
    }

    fn counted(ages: &[u64]) -> Latencies {
        let mut latencies = Latencies::default();
        let at = moment(0, 0);
        for age in ages {
            latencies.count(Lane::Normal, Timestamp(at.wall.0 - age), at);
        }
        latencies
    }

    fn minute(latencies: &Latencies, at: Moment) -> Latency {
        latencies.of(Lane::Normal, at.now)[0]
    }

    #[test]
    fn percentiles_are_those_of_all_deliveries_and_the_maximum_is_exact() {
        let ages: Vec<u64> = (1..=1000).collect();
        let latency = minute(&counted(&ages), moment(0, 0));
        assert_eq!((latency.count, latency.max), (1000, 1000));
        assert!((500..=700).contains(&latency.p50), "{latency:?}");
        assert!((990..=1000).contains(&latency.p99), "{latency:?}");
        assert_eq!(minute(&counted(&[]), moment(0, 0)), Latency::default());
        let one = minute(&counted(&[42]), moment(0, 0));
        assert_eq!((one.p50, one.p99, one.max), (42, 42, 42));
        assert!(BOUNDS.is_sorted() && BOUNDS[0] == 1 && BOUNDS[63] == 7 * 24 * 3_600_000);
    }

    // A histogram of a fixed range ended a process when it met a value beyond it.
    #[test]
    fn a_delay_of_eight_days_is_counted_and_shown() {
        let days = 8 * 24 * 3_600_000;
        let latency = minute(&counted(&[5, days]), moment(0, 0));
        assert_eq!((latency.count, latency.max, latency.p99), (2, days, days));
        assert_eq!(minute(&counted(&[0]), moment(0, 0)).max, 0);
    }

    // Averages of percentiles mean nothing.
    #[test]
    fn spans_merge_as_if_everything_had_been_counted_at_once() {
        let (mut apart, mut whole) = (Latencies::default(), Slot::default());
        for second in 0..600 {
            let (at, age) = (moment(second * 1000, 0), second * second % 7_919);
            apart.count(Lane::Urgent, Timestamp(at.wall.0 - age), at);
            whole.count(age);
        }
        let end = moment(599_000, 0).now;
        let [minute, hour, day] = apart.of(Lane::Urgent, end);
        assert_eq!((hour, day), (whole.summary(), whole.summary()));
        assert!((50..=60).contains(&minute.count), "{minute:?}");
        assert_eq!(apart.of(Lane::Bulk, end), [Latency::default(); 3]);
        let later = |hours: u64| apart.of(Lane::Urgent, Timestamp(end.0 + hours * HOUR as u64));
        assert_eq!(later(2).map(|it| it.count), [0, 0, 600]);
        assert_eq!(later(25).map(|it| it.count), [0, 0, 0]);
    }

    // The ring of a minute kept a slot of each of the last 24 times, and that of an hour too.
    #[test]
    fn the_memory_of_a_channel_is_that_of_its_spans() {
        let mut latencies = Latencies::default();
        for minute in 0..3 * 24 * 60 {
            for second in 0..60 {
                let at = moment((minute * 60 + second) * 1000, 0);
                let lane = Lane::ALL[second as usize % 3];
                latencies.count(lane, at.wall, at);
            }
        }
        let rings = latencies.lanes.iter().flat_map(|lane| &lane.0);
        let slots = rings.flat_map(|ring| &ring.slots).flatten().count();
        assert_eq!(slots, 3 * (6 + 12 + 24));
        let bytes = slots * size_of::<Slot>() + size_of::<Latencies>();
        assert!(bytes <= 38 << 10, "{bytes} bytes");
    }

    #[test]
    fn a_clock_that_is_set_does_not_change_how_long_a_delivery_took() {
        for ahead in [-HOUR, HOUR] {
            let mut latencies = Latencies::default();
            latencies.look_at_clock(moment(0, 0));
            // Committed 5 s before the clock is set, delivered 2 s after.
            latencies.count(Lane::Normal, Timestamp(START - 5_000), moment(2_000, ahead));
            // Committed and delivered after it.
            let at = moment(10_000, ahead);
            latencies.count(Lane::Normal, Timestamp(at.wall.0 - 3_000), at);
            let latency = minute(&latencies, at);
            assert_eq!(
                (latency.count, latency.max),
                (2, 7_000),
                "{ahead}: {latency:?}"
            );
            assert_eq!(latencies.negative(), 0);
        }
        // A commit that seems to come from the future counts as new.
        let mut latencies = Latencies::default();
        let at = moment(0, 0);
        latencies.count(Lane::Normal, Timestamp(at.wall.0 + 60_000), at);
        assert_eq!((minute(&latencies, at).max, latencies.negative()), (0, 1));
    }

    #[test]
    fn hours_and_days_are_kept_over_a_restart_and_fit_into_a_row() {
        let mut latencies = Latencies::default();
        for step in 0..200_000u64 {
            let (at, age) = (moment(step * 400, 0), step * step % 700_000_000);
            let lane = Lane::ALL[step as usize % 3];
            latencies.count(lane, Timestamp(at.wall.0 - age), at);
        }
        let end = moment(200_000 * 400, 0).now;
        let memory = latencies.memory().expect("something was counted");
        assert!(memory.len() <= KEPT_BYTES_MAX, "{}", memory.len());
        let mut restarted = Latencies::default();
        restarted.recall(&memory);
        for lane in Lane::ALL {
            let [before, after] = [&latencies, &restarted].map(|it| it.of(lane, end));
            assert_eq!(before[1..], after[1..]);
            assert_eq!(after[0], Latency::default());
        }
        assert_eq!(Latencies::default().memory(), None);
        for cut in 0..memory.len() {
            Latencies::default().recall(&memory[..cut]);
        }
        Latencies::default().recall(&[0xff; 200]);
    }
}
