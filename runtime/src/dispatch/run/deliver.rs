//! Prepares what was taken, and starts requests.
//!
//! A request first gets its permit, and is filled then, with what is ready at that moment. What has
//! changed since it was read is not sent: it is read and rendered again while the permit is kept.

use std::time::Duration;

use hashbrown::HashMap;
use tokio::time::Instant;

use super::super::BYTES_MAX;
use super::super::flight::Ready;
use super::super::handle::{Asked, Permit};
use super::super::prepare::{Memory, RENDER_MAX, prepare};
use super::super::send::{SendContext, send};
use super::super::traced::Sending;
use super::super::turns::TRACKS;
use super::{Done, Job, Run};
use crate::model::Ordinal;
use crate::store::Lease;

/// Concurrent preparations for each channel: half the plugin threads, because other channels have
/// entities too. Urgent work may have one more.
const PREPARATIONS_MAX: usize = 4;
/// Maximum number of entities in one preparation of a channel without plugins.
const PLAIN_MAX: usize = 512;
/// The bytes that are reserved for a preparation, of [`BYTES_MAX`]: at least so many if there are, so
/// that sizes may vary, and at most so many for more than one entity. Of the latter a third is read
/// in one go.
const RESERVED_BYTES_MIN: usize = 4 * 1024 * 1024;
const RESERVED_BYTES_MAX: usize = 24 * 1024 * 1024;
/// How long a permit is kept while what it was asked for is read again. Other channels of the target
/// may wait for it.
const PERMIT_KEPT: Duration = Duration::from_millis(100);

/// A permit that has come and is not used yet.
pub(super) struct Kept {
    permit: Permit,
    /// Given up at this instant.
    pub(super) until: Instant,
    /// The entities that are read again and that it is kept for, with their track.
    kept_for: Option<(usize, Vec<Ordinal>)>,
}

impl Kept {
    pub(super) fn new(permit: Permit) -> Kept {
        Kept {
            permit,
            until: Instant::now() + PERMIT_KEPT,
            kept_for: None,
        }
    }

    /// These entities need no request any more, or are in one.
    fn release(&mut self, ordinals: &[Ordinal]) {
        if let Some((_, members)) = &mut self.kept_for {
            members.retain(|member| !ordinals.contains(member));
        }
        self.kept_for.take_if(|(_, members)| members.is_empty());
    }
}

impl Run {
    /// Starts preparations, of no more entities than may be rendered ahead.
    pub(super) fn prepare(&mut self) {
        let ahead = self.ahead();
        // Without plugins, larger pieces mean fewer tasks, and they take no plugin thread from other
        // channels.
        let most = if self.setup.chain.is_some() {
            RENDER_MAX
        } else {
            PLAIN_MAX
        };
        loop {
            let room: [usize; TRACKS] = std::array::from_fn(|track| {
                let there = self.preparing[track] + self.ready[track].len();
                // A permit is kept for what is read again, whatever else is ready.
                ahead.saturating_sub(there).max(self.to_reread(track))
            });
            let open: [bool; TRACKS] = std::array::from_fn(|track| {
                !self.taken[track].is_empty()
                    && room[track] > 0
                    && self.preparations < PREPARATIONS_MAX + usize::from(track == 0)
            });
            // Nothing else goes first, or a large entity would wait for ever.
            if (0..TRACKS).any(|track| open[track] && self.fitting(track, 1).0 == 0) {
                return;
            }
            let Some(track) = self.rendering.pick(open) else {
                return;
            };
            let (count, memory) = self.fitting(track, most.min(room[track]));
            let taken: Vec<Lease> = self.taken[track].drain(..count).collect();
            self.preparations += 1;
            self.preparing[track] += count;
            let members: Vec<_> = taken.iter().map(|taken| taken.ordinal).collect();
            for ordinal in &members {
                self.hold(*ordinal, memory.bytes / count);
            }
            let preparation = prepare(
                self.setup.clone(),
                self.store.clone(),
                self.store.watermark(),
                taken,
                memory,
            );
            let task = self
                .tasks
                .spawn(async move { Done::Prepared(preparation.await) });
            let job = Job {
                track,
                prepares: true,
                members,
            };
            self.jobs.insert(task.id(), job);
        }
    }

    /// The entities at the head of a track that are to be read again.
    fn to_reread(&self, track: usize) -> usize {
        if self.rereads == 0 {
            return 0;
        }
        let reread = |taken: &&Lease| {
            let flight = self.flights.get(&taken.ordinal);
            flight.is_some_and(|flight| flight.reread)
        };
        self.taken[track].iter().take_while(reread).count()
    }

    /// How many of the first entities of a track fit into the memory of the channel, and what is
    /// reserved for them; one at least if the channel has nothing in memory, however large it may be.
    fn fitting(&self, track: usize, most: usize) -> (usize, Memory) {
        let (free, alone) = (BYTES_MAX.saturating_sub(self.bytes), self.bytes == 0);
        let (mut count, mut bytes) = (0, 0);
        for taken in self.taken[track].iter().take(most) {
            let flight = self.flights.get(&taken.ordinal);
            let needs = flight.map_or(0, |flight| flight.needs);
            let with = bytes + needs.max(self.assumed_bytes);
            let fits = if count == 0 {
                alone || with <= free
            } else {
                with <= free.min(RESERVED_BYTES_MAX)
            };
            if !fits {
                break;
            }
            (count, bytes) = (count + 1, with);
        }
        let bytes = bytes.max(RESERVED_BYTES_MIN.min(free));
        (count, Memory { bytes, alone })
    }

    /// Records how many bytes an entity in flight has in memory.
    pub(super) fn hold(&mut self, ordinal: Ordinal, bytes: usize) {
        if let Some(flight) = self.flights.get_mut(&ordinal) {
            self.bytes = self.bytes - flight.bytes + bytes;
            flight.bytes = bytes;
        }
    }

    /// Starts as many requests as there are permits and renderings for them.
    pub(super) fn send(&mut self) {
        while let Some(ripe) = self.ripe() {
            let Some(mut kept) = self.take_permit(ripe) else {
                return;
            };
            let part = self.fill(&kept, ripe);
            let track = part.first().map(|ready| ready.prepared.taken.track.index());
            let members = part.iter().map(|ready| ready.prepared.taken.ordinal);
            let kept_for = track.map(|track| (track, members.collect()));
            let part = self.still_current(part);
            if part.is_empty() {
                self.permits.push(Kept {
                    kept_for,
                    ..Kept::new(kept.permit)
                });
                // What has changed is read at once.
                self.prepare();
                continue;
            }
            let ordinals: Vec<_> = part
                .iter()
                .map(|ready| ready.prepared.taken.ordinal)
                .collect();
            self.queue.attempt(&ordinals);
            self.release_permits(&ordinals);
            for ready in &part {
                // From here on the target may hold it under this key, even if the attempt is lost.
                if let Some(flight) = self.flights.get_mut(&ready.prepared.taken.ordinal) {
                    flight.tried = Some(ready.tried.clone());
                }
            }
            self.record_sent(&part, kept.permit.trace);
            let settles = part.iter().filter_map(|ready| {
                let prepared = &ready.prepared;
                let flight = self.flights.get(&prepared.taken.ordinal)?;
                let entity = flight.recorded.entity?;
                Some((entity, prepared.taken.settled, prepared.revision))
            });
            let sending = Sending::begin(&self.setup, &mut kept.permit, settles);
            let context = SendContext {
                sending,
                counters: self.shared.counters.clone(),
                batch: self.batch(),
                watermark: self.store.watermark(),
                watched: self.is_watched(&part),
            };
            let sending = send(context, kept.permit, part);
            let task = self.tasks.spawn(async move {
                let (sent, requests) = sending.await;
                Done::Sent(sent, requests)
            });
            let job = Job {
                track: 0,
                prepares: false,
                members: ordinals,
            };
            self.jobs.insert(task.id(), job);
            // There is room now for what comes next.
            self.unfinished |= self.more.contains(&true);
        }
    }

    /// By track, whether a request may start for it: it has renderings, and they fill a request, or
    /// no more are coming, or the oldest has waited for them. `None` if there is no such track.
    fn ripe(&self) -> Option<[bool; TRACKS]> {
        let coming = self.preparations > 0 || self.taken.iter().any(|taken| !taken.is_empty());
        let (full, now) = (!coming || self.fills_a_request(), Instant::now());
        let ripe: [bool; TRACKS] = std::array::from_fn(|track| {
            let waited =
                self.ready_since[track].is_none_or(|since| since + self.linger(track) <= now);
            !self.ready[track].is_empty() && (full || waited)
        });
        ripe.contains(&true).then_some(ripe)
    }

    /// Whether the renderings that are ready fill a request, by their number or by their bytes.
    fn fills_a_request(&self) -> bool {
        let ready: usize = self.ready.iter().map(|ready| ready.len()).sum();
        let (most, mut bytes) = (self.request_bytes_max(), 0);
        ready >= self.batch()
            || self.ready.iter().flatten().any(|ready| {
                bytes += ready.bytes_in_batch();
                bytes > most
            })
    }

    /// The most bytes of a request with several entities.
    fn request_bytes_max(&self) -> usize {
        (self.setup.options.batch_bytes).min(self.setup.target.request_bytes_max())
    }

    /// A permit for one of the tracks that are ripe. If there is none, it is asked for; more than one
    /// is asked for only if some of the work is urgent.
    fn take_permit(&mut self, ripe: [bool; TRACKS]) -> Option<Kept> {
        let usable = |kept: &Kept| match &kept.kept_for {
            Some((track, _)) => self.ready[*track]
                .front()
                .is_some_and(|ready| self.was_reread(ready)),
            None => !kept.permit.urgent || ripe[0],
        };
        if let Some(index) = self.permits.iter().position(usable) {
            return Some(self.permits.swap_remove(index));
        }
        for urgent in [false, true] {
            let place = &mut self.asking[usize::from(urgent)];
            if place.is_some() || (urgent && !ripe[0]) {
                continue;
            }
            match self.setup.target.try_permit(urgent) {
                Asked::Granted(permit) => return Some(Kept::new(permit)),
                Asked::Later => *place = Some(Box::pin(self.setup.target.clone().permit(urgent))),
                // The next turn sees that the target does not flow.
                Asked::Denied => {
                    self.unfinished = true;
                    return None;
                }
            }
        }
        None
    }

    fn was_reread(&self, ready: &Ready) -> bool {
        let flight = || self.flights.get(&ready.prepared.taken.ordinal);
        self.rereads > 0 && flight().is_some_and(|flight| flight.reread)
    }

    /// Fills a request: first from the track whose turn it is, then from the others.
    fn fill(&mut self, kept: &Kept, ripe: [bool; TRACKS]) -> Vec<Ready> {
        let first = match &kept.kept_for {
            Some((track, _)) => Some(*track),
            None if kept.permit.urgent => {
                self.sending.charge(0, ripe);
                Some(0)
            }
            None => self.sending.pick(ripe),
        };
        let (batch, bytes_max) = (self.batch(), self.request_bytes_max());
        let (mut part, mut bytes): (Vec<Ready>, _) = (Vec::new(), 0);
        for track in first.into_iter().chain(0..TRACKS) {
            let before = part.len();
            while let Some(ready) = self.ready[track].pop_front_if(|ready| {
                bytes += ready.bytes_in_batch();
                part.is_empty() || (part.len() < batch && bytes <= bytes_max)
            }) {
                part.push(ready);
            }
            if part.len() > before {
                self.ready_since[track] = (!self.ready[track].is_empty()).then_some(Instant::now());
            }
        }
        part
    }

    /// Keeps what is still as it was read. The rest is taken anew, ahead of the others; its next
    /// rendering will be sent even if it changes once more.
    fn still_current(&mut self, part: Vec<Ready>) -> Vec<Ready> {
        let read: Vec<_> = part
            .iter()
            .filter(|ready| !self.was_reread(ready))
            .map(|ready| (ready.prepared.taken.ordinal, ready.prepared.newest))
            .collect();
        let changed: HashMap<_, _> = self.queue.changed(&read).into_iter().collect();
        if changed.is_empty() {
            return part;
        }
        let mut current = Vec::with_capacity(part.len());
        for ready in part {
            let mut taken = ready.prepared.taken.clone();
            let Some(newest) = changed.get(&taken.ordinal) else {
                current.push(ready);
                continue;
            };
            // The change may not be durable yet, and must be when the entity is read.
            taken.revision = taken.revision.max(*newest);
            self.hold(taken.ordinal, 0);
            if let Some(flight) = self.flights.get_mut(&taken.ordinal) {
                flight.reread = true;
                self.rereads += 1;
                self.taken[flight.track].push_front(taken);
            }
        }
        current
    }

    /// Frees the permits that were kept for these entities, for any other work.
    pub(super) fn release_permits(&mut self, ordinals: &[Ordinal]) {
        self.permits.iter_mut().for_each(|it| it.release(ordinals));
    }

    /// Gives up the permits that nothing here can use soon, so that other channels of the target get
    /// them.
    pub(super) fn give_up_permits(&mut self) {
        let now = Instant::now();
        let urgent_waits = self.waiting(0) > 0;
        let any_waits = (0..TRACKS).any(|track| self.waiting(track) > 0);
        self.permits.retain(|kept| {
            let waits = if kept.permit.urgent {
                urgent_waits
            } else {
                any_waits
            };
            kept.until > now && waits
        });
    }

    /// Gives up the permits and those asked for, so that other channels of the target get them.
    pub(super) fn hand_back_permits(&mut self) {
        self.permits.clear();
        self.asking = Default::default();
    }
}
