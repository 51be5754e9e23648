//! A target with the limits that its channels share (`quota`), and its breaker.
//!
//! An attempt needs a [`Permit`]: a slot, the moment at which the pace lets a request start, and the
//! breaker's admission. A channel takes one before it decides what to send, so that nothing that it
//! has chosen waits for any of the three. The outcome of each attempt reaches the breaker, whatever
//! the channel does with it. If there are two or more slots, one is reserved for urgent work. Time
//! and chance come from outside.

mod judge;
mod permit;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, watch};

use self::judge::Before;
pub(crate) use self::permit::Permit;
use super::breaker::{self, Admission, Breaker, State};
use super::clock::Clock;
use super::lock;
use super::pace::{Charge, Pace};
use super::quota::Quota;
use super::request_size::RequestSize;
use crate::model::{Sequence, Timestamp};
use crate::targets::feed::Feed;
use crate::targets::{Foreign, Held, Item, Mark, Nature, Opening, Options, Page, Target, Unusable};

/// What can be sent within this time may be rendered ahead, so that a fast target never waits for a
/// renderer. It is short beside anything that people notice.
const AHEAD: Duration = Duration::from_millis(20);

/// A target, its limits and its breaker, shared by the channels that deliver to it.
pub struct TargetHandle {
    options: Options,
    target: Box<dyn Target>,
    nature: Nature,
    clock: Clock,
    dice: Mutex<fastrand::Rng>,
    breaker: Mutex<Breaker>,
    quota: Arc<Quota>,
    /// What its 413s have taught.
    request_size: Mutex<RequestSize>,
    /// The mean duration of an attempt in microseconds; 0 before the first has ended.
    attempt_micros: AtomicU64,
    /// What shows that the target has forgotten what it held, until all of it is owed again.
    forgot: Mutex<Option<String>>,
    /// The newest sequence that was seen at the target when it tripped because it is ahead of Weir; 0 if it
    /// is not.
    ahead: AtomicU64,
    /// The sequences up to the one that Weir has jumped to because an operator said so: states that have one
    /// of them may be overwritten.
    foreign: Mutex<Option<Foreign>>,
    changed: watch::Sender<()>,
}

/// The answer to a request for a permit that does not wait.
pub(crate) enum Asked {
    /// An attempt may be made now.
    Granted(Permit),
    /// Not now: await [`TargetHandle::permit`].
    Later,
    /// The breaker admits no attempt.
    Denied,
}

/// The status of a target, for users.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetStatus {
    /// Flowing, tripped or probing.
    pub state: State,
    /// When it entered this state.
    pub since: Timestamp,
    /// Why it does not flow; empty if it flows.
    pub reason: String,
    /// Whether it holds states that are newer than any of Weir's.
    pub ahead: bool,
    /// The rate that it bears, if it has refused requests because there were too many: requests, items
    /// or bytes per second, whatever its `cost` is.
    pub bears_per_second: Option<f64>,
    /// The requests that it bears at the same time, if they are fewer than its `concurrency`.
    pub bears_in_flight: Option<usize>,
}

impl TargetHandle {
    /// Prepares a target without opening a connection. The clock must be the one that all targets
    /// share. The dice spread the waits and generate trace ids. `memory` is what an earlier handle of
    /// it left behind ([`TargetHandle::memory`]). `quota` is that of the other targets of its pace, if
    /// it shares one.
    ///
    /// # Errors
    /// See [`Unusable`].
    pub fn open(
        options: Options,
        breaker: breaker::Options,
        clock: Clock,
        dice: fastrand::Rng,
        memory: Option<&[u8]>,
        quota: Option<Arc<Quota>>,
        opening: Opening,
    ) -> Result<Arc<TargetHandle>, Unusable> {
        let target = options.kind.open(&opening)?;
        // Elsewhere, another rate may be right.
        let (request_size, taught) = memory
            .and_then(|memory| memory.strip_prefix(&target.place().to_le_bytes()))
            .and_then(|memory| memory.split_first_chunk())
            .map(|(size, taught)| (RequestSize::from_bytes(*size), Some(taught)))
            .unwrap_or_default();
        Ok(Arc::new(TargetHandle {
            nature: target.nature(),
            target,
            breaker: Mutex::new(Breaker::new(breaker, clock.now())),
            clock,
            dice: Mutex::new(dice),
            quota: quota.unwrap_or_else(|| Quota::new(&options, taught)),
            request_size: Mutex::new(request_size),
            attempt_micros: AtomicU64::new(0),
            forgot: Mutex::default(),
            ahead: AtomicU64::new(0),
            foreign: Mutex::default(),
            changed: watch::Sender::new(()),
            options,
        }))
    }

    /// The options it was opened with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The current status.
    pub fn status(&self) -> TargetStatus {
        let breaker = self.breaker();
        TargetStatus {
            state: breaker.state(),
            since: breaker.since(),
            reason: breaker.reason().to_owned(),
            ahead: self.ahead().is_some(),
            bears_per_second: self.bears_per_second(),
            bears_in_flight: Some(self.quota.allowed())
                .filter(|allowed| *allowed < self.quota.concurrency),
        }
    }

    /// What a later handle of the same target must know: the length of the requests that it takes and,
    /// if it shares no pace, what its quota remembers. `None` if it has taught nothing.
    pub fn memory(&self) -> Option<Vec<u8>> {
        let size = *lock(&self.request_size);
        let own = self.options.pace.is_none();
        let quota = own.then(|| self.quota.memory()).flatten();
        let taught = quota.is_some() || size.most() != usize::MAX;
        let quota = quota.unwrap_or_default();
        taught.then(|| [&self.place().to_le_bytes()[..], &size.to_bytes(), &quota].concat())
    }

    /// See [`Target::credentials`].
    pub fn credentials(&self) -> Option<Vec<u8>> {
        self.target.credentials()
    }

    /// See [`Target::take_credentials`].
    pub fn take_credentials(&self, kept: &[u8]) {
        self.target.take_credentials(kept);
    }

    /// See [`Target::take_mark`].
    pub fn take_mark(&self, mark: Mark) {
        self.target.take_mark(mark);
    }

    /// See [`Target::mark`].
    pub fn mark(&self) -> Option<Vec<u8>> {
        self.target.mark()
    }

    /// See [`Target::altered`].
    pub async fn altered(&self) -> bool {
        self.target.altered().await
    }

    /// See [`Target::compare`]. Waits for a slot and for the pace, as a delivery does, unless that is read on
    /// this machine ([`Kind::reads_here`]). It does not disturb the breaker: while the target is in trouble it
    /// returns at once.
    ///
    /// [`Kind::reads_here`]: crate::targets::Kind::reads_here
    ///
    /// # Errors
    /// As a phrase for the operator.
    pub(crate) async fn compare(self: &Arc<Self>, items: &[Item]) -> Result<Vec<Held>, String> {
        let mut permit = self.permit_to_look().await?;
        permit.iter_mut().for_each(|permit| permit.spend(items));
        self.target.compare(items).await
    }

    /// See [`Target::keys`]. Waits and fails as [`TargetHandle::compare`] does.
    ///
    /// # Errors
    /// As a phrase for the operator.
    pub(crate) async fn keys(self: &Arc<Self>, after: Option<&str>) -> Result<Page, String> {
        let mut permit = self.permit_to_look().await?;
        permit.iter_mut().for_each(|permit| permit.spend(&[]));
        self.target.keys(after).await
    }

    /// A permit for a request that changes nothing at the target, and is no probe; `None` if it needs none.
    async fn permit_to_look(self: &Arc<Self>) -> Result<Option<Permit>, String> {
        let flows = self.admits() == Admission::Flowing;
        if flows && self.options.kind.reads_here() {
            return Ok(None);
        }
        let permit = match flows {
            true => self.clone().permit(false).await,
            false => None,
        };
        let permit = permit.filter(|permit| !permit.probe).ok_or_else(|| {
            let reason = self.forgot();
            let reason = reason.unwrap_or_else(|| self.breaker().reason().to_owned());
            format!("the target is in trouble: {reason}")
        });
        permit.map(Some)
    }

    /// What shows that the target does not hold any more what it acknowledged. Nothing is sent to it until
    /// [`TargetHandle::start_over`].
    pub fn forgot(&self) -> Option<String> {
        let of_feed = || self.feed()?.forgot();
        lock(&self.forgot).clone().or_else(of_feed)
    }

    /// See [`Target::feed`].
    pub fn feed(&self) -> Option<&Feed> {
        self.target.feed()
    }

    /// The newest sequence that was seen at the target, if it is ahead of Weir.
    pub fn ahead(&self) -> Option<Sequence> {
        let newest = self.ahead.load(Ordering::Relaxed);
        Some(Sequence(newest)).filter(|newest| newest.0 > 0)
    }

    /// The sequences of states that the target may overwrite, though they are newer.
    pub fn foreign(&self) -> Option<Foreign> {
        *lock(&self.foreign)
    }

    /// Lets the target overwrite states that have these sequences. Weir has jumped above them.
    pub fn overwrite(&self, foreign: Foreign) {
        *lock(&self.foreign) = Some(foreign);
        self.ahead.store(0, Ordering::Relaxed);
    }

    /// All that the target held is owed again, by all of its channels: it is tried again at once.
    pub fn start_over(&self) {
        self.target.start_over();
        *lock(&self.forgot) = None;
        self.breaker().probe_at_once(self.clock.now());
        self.changed.send_replace(());
    }

    /// The most bytes that a batch should have.
    pub(crate) fn request_bytes_max(&self) -> usize {
        lock(&self.request_size).most()
    }

    /// See [`Target::place`].
    pub fn place(&self) -> u64 {
        self.target.place()
    }

    /// The target's requirements for deliveries.
    pub(crate) fn nature(&self) -> Nature {
        self.nature
    }

    /// The clock that all targets share.
    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    /// Forks the dice for a channel, so that it does not have to share these.
    pub(crate) fn fork_dice(&self) -> fastrand::Rng {
        lock(&self.dice).fork()
    }

    /// Whether attempts may be made.
    pub(crate) fn admits(&self) -> Admission {
        match self.forgot() {
            Some(_) => Admission::Wait(None),
            None => self.breaker().admits(self.clock.now()),
        }
    }

    /// See [`Breaker::doubts_entities`].
    pub(crate) fn doubts_entities(&self) -> bool {
        self.breaker().doubts_entities()
    }

    /// Returns a receiver that is notified when [`TargetHandle::admits`] may have changed.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Trips the breaker for a reason that no single attempt shows.
    pub(crate) fn trip(&self, reason: &str) {
        let mut breaker = self.breaker();
        let before = Before::of(&breaker);
        breaker.trip(self.clock.now(), false, reason, None, self.chance());
        self.log_change(&before, &breaker, None);
        drop(breaker);
        self.changed.send_replace(());
    }

    /// The number of requests that could start within [`AHEAD`], by free slots, by the duration of
    /// attempts and by the pace. May be 0.
    pub(crate) fn soon(&self) -> usize {
        let freed = match self.attempt_micros.load(Ordering::Relaxed) {
            0 => 0,
            micros => self.quota.allowed() as u64 * AHEAD.as_micros() as u64 / micros,
        };
        let slots = self.quota.general.available_permits() + freed as usize;
        self.pace()
            .within(self.clock.elapsed(), AHEAD)
            .map_or(slots, |requests| requests.min(slots))
    }

    /// Takes a permit if one is there.
    pub(crate) fn try_permit(self: &Arc<Self>, urgent: bool) -> Asked {
        let kept = self.quota.urgent.as_ref().filter(|_| urgent);
        let slot = [Some(&self.quota.general), kept]
            .into_iter()
            .flatten()
            .find_map(|slots| slots.clone().try_acquire_owned().ok());
        let Some(slot) = slot else {
            return Asked::Later;
        };
        // Whoever waits for the pace goes first.
        let Ok(line) = self.quota.line(urgent).try_lock() else {
            return Asked::Later;
        };
        let mut pace = self.pace();
        let Ok(charge) = pace.start(self.clock.elapsed(), urgent) else {
            pace.leave(self.clock.elapsed(), urgent);
            return Asked::Later;
        };
        drop((pace, line));
        self.admit(slot, charge, urgent)
            .map_or(Asked::Denied, Asked::Granted)
    }

    /// Waits for a permit. Returns `None` if the breaker admits no attempt when its time has come.
    pub(crate) async fn permit(self: Arc<Self>, urgent: bool) -> Option<Permit> {
        let slot = match &self.quota.urgent {
            Some(kept) if urgent => tokio::select! {
                biased;
                slot = self.quota.general.clone().acquire_owned() => slot,
                slot = kept.clone().acquire_owned() => slot,
            },
            _ => self.quota.general.clone().acquire_owned().await,
        };
        let slot = slot.expect("slots are never closed");
        let charge = self.keep_pace(urgent).await;
        self.admit(slot, charge, urgent)
    }

    /// Waits until the pace lets another request start.
    async fn keep_pace(&self, urgent: bool) -> Charge {
        let _line = self.quota.line(urgent).lock().await;
        let _leave = Leave(self, urgent);
        loop {
            // Made first, so that it wakes for all that happens after this look.
            let sooner = self.quota.sooner().notified();
            let started = self.pace().start(self.clock.elapsed(), urgent);
            match started {
                Ok(charge) => return charge,
                Err(wait) => tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = sooner => {}
                },
            }
        }
    }

    /// The last step to a permit: the breaker's admission.
    fn admit(
        self: &Arc<Self>,
        slot: OwnedSemaphorePermit,
        charge: Charge,
        urgent: bool,
    ) -> Option<Permit> {
        let admission = self.admits();
        let mut breaker = self.breaker();
        let probe = match admission {
            Admission::Flowing => false,
            Admission::Probe => true,
            Admission::Wait(_) => {
                self.pace().give_back(charge);
                self.quota.sooner().notify_waiters();
                self.quota.give_back(slot);
                return None;
            }
        };
        if probe {
            breaker.begin_probe();
        }
        drop(breaker);
        Some(Permit::new(self.clone(), urgent, probe, charge, slot))
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.quota.pace()
    }

    /// The limits, for other targets of its pace.
    pub fn quota(&self) -> &Arc<Quota> {
        &self.quota
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        lock(&self.breaker)
    }

    fn bears_per_second(&self) -> Option<f64> {
        let units = self.pace().bearable()?.per_second()?;
        Some(units * self.options.cost.unit())
    }

    fn chance(&self) -> f64 {
        lock(&self.dice).f64()
    }
}

/// Leaves the line for the pace, also when the one who waited gives up.
struct Leave<'a>(&'a TargetHandle, bool);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.pace().leave(self.0.clock.elapsed(), self.1);
    }
}
