//! The memory of bodies that have arrived in part, and which of them gives way when it is short.
//!
//! Nobody has verified the sender of a body that is not complete, so these bytes have a small budget
//! of their own: they can crowd out each other, but no request that is being processed, and no body
//! that arrives in one piece. Memory is taken as bytes arrive, whatever length was announced.
//!
//! When a body needs more than is free, others give way, so that an honest sender gets in whatever
//! the rest does:
//!
//! 1. first the slow ones: silent for a second, or slower than [`RATE_MIN`];
//! 2. then those of the group that holds most, the one first that has been silent longest. A group
//!    is one peer address at one source; of IPv6 its /64 network.
//!
//! What gives way is freed at once, by the one that needs it.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::sync::lock;

/// Bytes per second below which a body is slow: 32 KiB/s. Slow bodies are welcome as long as there
/// is memory.
const RATE_MIN: f64 = 32.0 * 1024.0;
/// Time after which a silent body is slow, and the shortest time over which a rate is measured.
const WINDOW: Duration = Duration::from_secs(1);
/// How often slow bodies are searched for while memory is short.
const SEARCH_EVERY: Duration = Duration::from_millis(100);
/// The smallest buffer; a body of one byte takes this much.
const BUFFER_BYTES_MIN: usize = 512;

/// The bodies of all listeners that have arrived in part.
#[derive(Clone, Debug)]
pub(super) struct Arrivals(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bytes_max: u64,
    table: Mutex<Table>,
}

/// A body gave way to another one, or does not fit beside those that are faster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GaveWay;

impl Arrivals {
    /// A budget of `bytes_max` bytes.
    pub(super) fn new(bytes_max: u64) -> Arrivals {
        Arrivals(Arc::new(Shared {
            bytes_max,
            table: Mutex::default(),
        }))
    }

    /// A body of which nothing is kept yet. `announced` is the length that its sender announced, or
    /// 0.
    pub(super) fn body(&self, source: &str, peer: IpAddr, announced: u64) -> Arrival {
        let partial = Arc::new(Partial {
            buffer: Mutex::new(Some(Vec::new())),
            gave_way: Notify::new(),
        });
        let group = Arc::new((source.into(), network(peer)));
        Arrival {
            id: lock(&self.0.table).add(group, partial.clone(), Instant::now()),
            arrivals: self.0.clone(),
            announced,
            partial,
        }
    }

    /// Bytes that all bodies hold.
    #[cfg(test)]
    fn held(&self) -> u64 {
        lock(&self.0.table).held
    }
}

/// The address that stands for a sender: of IPv6 the network, since a sender has all of it.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        v4 => v4,
    }
}

/// A body that is arriving. Dropping it returns its memory.
#[derive(Debug)]
pub(super) struct Arrival {
    arrivals: Arc<Shared>,
    id: u64,
    announced: u64,
    partial: Arc<Partial>,
}

/// The bytes of a body. They can be taken away by another body.
#[derive(Debug)]
struct Partial {
    /// `None` after it gave way.
    buffer: Mutex<Option<Vec<u8>>>,
    gave_way: Notify,
}

impl Arrival {
    /// Keeps the next bytes.
    ///
    /// # Errors
    /// If it gave way; then nothing of it is kept.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), GaveWay> {
        let (length, capacity) = match &*lock(&self.partial.buffer) {
            Some(buffer) => (buffer.len(), buffer.capacity()),
            None => return Err(GaveWay),
        };
        let capacity = capacity_for(length + bytes.len(), capacity, self.announced);
        lock(&self.arrivals.table).grant(
            self.id,
            (bytes.len() as u64, capacity as u64),
            self.arrivals.bytes_max,
            Instant::now(),
        )?;
        // It may have given way since.
        let mut buffer = lock(&self.partial.buffer);
        let buffer = buffer.as_mut().ok_or(GaveWay)?;
        buffer.reserve_exact(capacity - length);
        buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Returns when the body has given way.
    pub(super) async fn gave_way(&self) {
        self.partial.gave_way.notified().await;
    }

    /// The whole body. Its memory counts here until the arrival is dropped.
    ///
    /// # Errors
    /// If it gave way.
    pub(super) fn take(&mut self) -> Result<Bytes, GaveWay> {
        let taken = lock(&self.partial.buffer).take();
        taken.map(Bytes::from).ok_or(GaveWay)
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        lock(&self.arrivals.table).remove(self.id);
    }
}

/// The capacity of a buffer that must hold `length` bytes. It doubles, but does not exceed the
/// announced length before that has arrived.
fn capacity_for(length: usize, capacity: usize, announced: u64) -> usize {
    if length <= capacity {
        return capacity;
    }
    let doubled = length.max(2 * capacity).max(BUFFER_BYTES_MIN);
    match usize::try_from(announced) {
        Ok(announced) if announced >= length => doubled.min(announced),
        _ => doubled,
    }
}

/// One peer address at one source.
type Group = Arc<(Box<str>, IpAddr)>;

/// The accounts of all bodies. Pure: the time is an argument.
///
/// A full budget is met by each piece that arrives, so finding the body that gives way must not cost
/// a look at all of them: the order of groups and of the bodies in each is kept up to date, and the
/// search for slow bodies, which needs a look at all, is made once in [`SEARCH_EVERY`].
#[derive(Debug, Default)]
struct Table {
    held: u64,
    last: u64,
    bodies: HashMap<u64, Entry>,
    groups: HashMap<Group, Members>,
    /// The groups by the bytes that they hold.
    by_size: BTreeSet<(u64, Group)>,
    /// The slow bodies that the last search found, the slowest last, and when that was.
    slow: Vec<u64>,
    searched: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    group: Group,
    held: u64,
    pace: Pace,
    partial: Arc<Partial>,
}

/// The bodies of a group that hold anything.
#[derive(Debug, Default)]
struct Members {
    held: u64,
    /// By the time at which something of them arrived last.
    by_silence: BTreeSet<(Instant, u64)>,
}

impl Table {
    fn add(&mut self, group: Group, partial: Arc<Partial>, now: Instant) -> u64 {
        self.last += 1;
        let entry = Entry {
            group,
            held: 0,
            pace: Pace::new(now),
            partial,
        };
        self.bodies.insert(self.last, entry);
        self.last
    }

    /// Notes that `arrived` bytes of a body have arrived, and grants it `capacity` bytes in all.
    /// Others give way if that is needed.
    fn grant(
        &mut self,
        id: u64,
        (arrived, capacity): (u64, u64),
        bytes_max: u64,
        now: Instant,
    ) -> Result<(), GaveWay> {
        let entry = self.bodies.get_mut(&id).ok_or(GaveWay)?;
        let before = entry.pace.last;
        entry.pace.arrived(arrived, now);
        let more = capacity.saturating_sub(entry.held);
        if entry.held > 0
            && let Some(members) = self.groups.get_mut(&entry.group)
        {
            members.by_silence.remove(&(before, id));
            members.by_silence.insert((entry.pace.last, id));
        }
        if more > bytes_max.saturating_sub(self.held) {
            self.make_room(more, bytes_max, now);
        }
        // The body itself may have been the one to give way.
        let entry = self.bodies.get(&id).ok_or(GaveWay)?;
        if more > bytes_max - self.held {
            self.give_way(id);
            return Err(GaveWay);
        }
        let held = entry.held + more;
        self.hold(id, held);
        Ok(())
    }

    /// Frees at least `more` bytes, if bodies hold as many.
    fn make_room(&mut self, more: u64, bytes_max: u64, now: Instant) {
        if self.searched.is_none_or(|at| now - at >= SEARCH_EVERY) {
            self.search(now);
        }
        // One round for an eighth of the budget, so that a flood of small bodies costs few rounds.
        let enough = |table: &Table, spare| more + spare <= bytes_max - table.held;
        while !enough(self, bytes_max / 8)
            && let Some(slow) = self.slow.pop()
        {
            let entry = self.bodies.get(&slow);
            if entry.is_some_and(|entry| entry.held > 0 && entry.pace.is_slow(now)) {
                self.give_way(slow);
            }
        }
        while !enough(self, 0)
            && let Some((_, group)) = self.by_size.last()
        {
            let members = self.groups.get(group);
            let silent = members.and_then(|members| members.by_silence.first());
            let Some((_, silent)) = silent.copied() else {
                return;
            };
            self.give_way(silent);
        }
    }

    /// Looks for the bodies that are slow.
    fn search(&mut self, now: Instant) {
        let mut slow: Vec<(f64, u64)> = self
            .bodies
            .iter()
            .filter(|(_, entry)| entry.held > 0 && entry.pace.is_slow(now))
            .map(|(id, entry)| (entry.pace.rate(now), *id))
            .collect();
        slow.sort_by(|a, b| b.0.total_cmp(&a.0));
        self.slow = slow.into_iter().map(|(_, id)| id).collect();
        self.searched = Some(now);
    }

    /// Frees the body's memory and wakes its connection.
    fn give_way(&mut self, id: u64) {
        if let Some(partial) = self.remove(id) {
            lock(&partial.buffer).take();
            partial.gave_way.notify_one();
        }
    }

    fn remove(&mut self, id: u64) -> Option<Arc<Partial>> {
        self.hold(id, 0);
        self.bodies.remove(&id).map(|entry| entry.partial)
    }

    /// Records how many bytes a body holds.
    fn hold(&mut self, id: u64, bytes: u64) {
        let Some(entry) = self.bodies.get_mut(&id).filter(|entry| entry.held != bytes) else {
            return;
        };
        let before = std::mem::replace(&mut entry.held, bytes);
        self.held = self.held - before + bytes;
        let members = self.groups.entry(entry.group.clone()).or_default();
        self.by_size.remove(&(members.held, entry.group.clone()));
        members.held = members.held - before + bytes;
        if bytes > 0 {
            members.by_silence.insert((entry.pace.last, id));
        } else {
            members.by_silence.remove(&(entry.pace.last, id));
        }
        if members.held > 0 {
            self.by_size.insert((members.held, entry.group.clone()));
        } else {
            self.groups.remove(&entry.group);
        }
    }
}

/// How fast a body arrives: measured over the time since the window before the present one began.
#[derive(Clone, Copy, Debug)]
struct Pace {
    before: Window,
    present: Window,
    last: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    start: Instant,
    bytes: u64,
}

impl Pace {
    fn new(now: Instant) -> Pace {
        let window = Window {
            start: now,
            bytes: 0,
        };
        Pace {
            before: window,
            present: window,
            last: now,
        }
    }

    fn arrived(&mut self, bytes: u64, now: Instant) {
        if now - self.present.start >= WINDOW {
            self.before = self.present;
            self.present = Window {
                start: now,
                bytes: 0,
            };
        }
        self.present.bytes += bytes;
        self.last = now;
    }

    /// Bytes per second.
    fn rate(&self, now: Instant) -> f64 {
        let both = if self.before.start == self.present.start {
            self.present.bytes
        } else {
            self.before.bytes + self.present.bytes
        };
        both as f64 / (now - self.before.start).as_secs_f64().max(0.001)
    }

    fn is_slow(&self, now: Instant) -> bool {
        let measured = now - self.before.start >= WINDOW;
        now - self.last >= WINDOW || (measured && self.rate(now) < RATE_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;

    fn peer(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    async fn seconds(count: u64) {
        tokio::time::advance(Duration::from_secs(count)).await;
    }

    // 2,000 connections that announced 1 MiB and sent two bytes held 2.3 GB, and 4,096 with a byte
    // of body each took the whole budget.
    #[tokio::test(start_paused = true)]
    async fn memory_is_taken_as_bytes_arrive_whatever_was_announced() {
        let arrivals = Arrivals::new(64 << 20);
        let mut bodies: Vec<Arrival> = (0..4096)
            .map(|_| arrivals.body("erp", peer(1), 1 << 20))
            .collect();
        for body in &mut bodies {
            body.push(b"[").unwrap();
            body.push(b"[").unwrap();
        }
        assert_eq!(arrivals.held(), 4096 * BUFFER_BYTES_MIN as u64);
        let mut honest = arrivals.body("erp", peer(1), 1 << 20);
        (0..16).for_each(|_| honest.push(&[b' '; 64 * KIB]).unwrap());
        assert_eq!(honest.take().unwrap().len(), 1 << 20);
        drop((bodies, honest));
        assert_eq!(arrivals.held(), 0);
        assert!(lock(&arrivals.0.table).groups.is_empty());
    }

    // 32 connections sent 8 MiB each and kept the last byte back. All other senders were answered
    // 503, though this one could not even sign.
    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_held_back_gives_way() {
        let arrivals = Arrivals::new(64 * KIB as u64);
        let mut held_back: Vec<Arrival> =
            (0..8).map(|_| arrivals.body("erp", peer(1), 0)).collect();
        for body in &mut held_back {
            body.push(&[0; 8 * KIB]).unwrap();
        }
        seconds(2).await;
        let mut honest = arrivals.body("erp", peer(1), 0);
        honest.push(&[0; 8 * KIB]).expect("a silent one gives way");
        assert_eq!(arrivals.held(), 56 * KIB as u64);
        let gone = held_back.iter_mut().map(Arrival::take);
        let gone = gone.filter(Result::is_err).count();
        assert_eq!(gone, 2, "one for it, and an eighth to spare");
        assert!(honest.take().is_ok());
    }

    // All of them are fast, so speed does not tell the flood from the others.
    #[tokio::test(start_paused = true)]
    async fn the_group_that_holds_most_gives_way() {
        let arrivals = Arrivals::new(64 * KIB as u64);
        let mut others = arrivals.body("pim", peer(1), 0);
        others.push(&[0; 8 * KIB]).unwrap();
        let mut flood: Vec<Arrival> = (0..7).map(|_| arrivals.body("erp", peer(1), 0)).collect();
        for body in &mut flood {
            body.push(&[0; 8 * KIB]).unwrap();
        }
        let mut honest = arrivals.body("erp", peer(2), 0);
        honest
            .push(&[0; 16 * KIB])
            .expect("another peer at the same source");
        others
            .push(&[0; 8 * KIB])
            .expect("the same peer at another source");
        let left = flood.iter_mut().map(Arrival::take).filter(Result::is_ok);
        assert_eq!(left.count(), 4);
        let mut more = arrivals.body("erp", peer(1), 0);
        drop((honest, others));
        let gave_way = flood[0].gave_way();
        more.push(&[0; 60 * KIB])
            .expect("its own group gives way to it");
        tokio::time::timeout(Duration::from_secs(1), gave_way)
            .await
            .expect("its connection is told");
        assert!(more.push(&[0; 64 * KIB]).is_err(), "more than all there is");
    }

    /// Each piece that arrived at a full budget cost a look at all bodies, and at all groups for each
    /// body that gave way.
    #[tokio::test(start_paused = true)]
    async fn a_flood_of_fast_bodies_costs_no_look_at_all_of_them() {
        const BODIES: usize = 20_000;
        let arrivals = Arrivals::new((BODIES * BUFFER_BYTES_MIN) as u64);
        let body = |number: usize| {
            let peer = IpAddr::from((number as u32).to_be_bytes());
            let mut body = arrivals.body("erp", peer, 0);
            body.push(b"[").map(|()| body)
        };
        let begun = std::time::Instant::now();
        let bodies: Vec<_> = (0..3 * BODIES).map(body).collect();
        // It takes 0.3 s without optimisation; it took minutes.
        assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
        assert!(bodies.iter().all(Result::is_ok), "each gets in");
        assert_eq!(arrivals.held(), (BODIES * BUFFER_BYTES_MIN) as u64);
        drop(bodies);
        let table = lock(&arrivals.0.table);
        assert_eq!(
            (table.held, table.groups.len(), table.by_size.len()),
            (0, 0, 0)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickle_after_a_burst_is_slow_and_a_steady_sender_is_not() {
        let start = Instant::now();
        let (mut trickle, mut steady) = (Pace::new(start), Pace::new(start));
        trickle.arrived(8 << 20, start);
        for half in 1..=10 {
            let now = start + Duration::from_millis(500) * half;
            trickle.arrived(1, now);
            steady.arrived(20 << 10, now);
            assert!(!steady.is_slow(now), "after {half} halves of a second");
            assert_eq!(
                trickle.is_slow(now),
                half > 3,
                "after {half} halves of a second"
            );
        }
        assert!(
            steady.is_slow(start + Duration::from_secs(6)),
            "it fell silent"
        );
    }

    #[test]
    fn a_buffer_grows_with_what_has_arrived() {
        for (length, capacity, announced, expected) in [
            (1, 0, 0, 512),
            (1, 0, 1 << 20, 512),
            (1, 0, 100, 100),
            (513, 512, 1 << 20, 1024),
            (900, 512, 1000, 1000),
            (5000, 512, 1 << 20, 5000),
            (1001, 1000, 1000, 2000),
            (700, 1000, 0, 1000),
        ] {
            assert_eq!(capacity_for(length, capacity, announced), expected);
        }
    }

    #[test]
    fn a_sender_is_its_address_or_its_network() {
        let network = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(network("192.0.2.7"), "192.0.2.7");
    }
}
