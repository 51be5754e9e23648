//! Targets that do not hold any more what they acknowledged: a database was restored, a standby took over
//! without the last seconds, a stream was made anew. And targets that are ahead of Weir, when an operator has
//! decided that Weir is right.
//!
//! A target that has forgotten says so itself when it connects ([`Outcome::Forgot`]), and nothing is sent to it. All of
//! its channels then owe everything again, durably, before the target starts over: if Weir stops in between,
//! the target is still behind its mark and says so again. What a retired channel delivered there is unknown
//! from then on, so that the channel sends it again if it returns.
//!
//! [`Outcome::Forgot`]: crate::targets::Outcome::Forgot

use std::sync::Arc;

use super::memories::keep_foreign;
use super::{Inner, join_all};
use crate::dispatch::{self, TargetHandle};
use crate::model::Sequence;
use crate::server::Problem;
use crate::sync::lock;
use crate::targets::Foreign;

/// The highest sequence that Weir jumps to: its sequences have 48 bits, and this leaves as many as are given out
/// in five years of 100,000 changes a second.
const JUMP_MAX: u64 = (1 << 48) - (1 << 44);

impl Inner {
    /// Begins for each target that has forgotten, unless that has begun.
    pub(super) fn start_over_what_forgot(self: &Arc<Self>) {
        let live = self.live.load_full();
        for (name, target) in &live.targets {
            let Some(reason) = target.forgot() else {
                continue;
            };
            if !lock(&self.forgotten).insert(name.clone()) {
                continue;
            }
            tracing::warn!(
                target_name = &**name,
                reason,
                "the target does not hold any more what it acknowledged; everything is sent to it again"
            );
            let (inner, name, target) = (self.clone(), name.clone(), target.clone());
            tokio::spawn(async move {
                let started = inner.start_over(&name, &target).await;
                // The next look tries it again; after a stop, the next start does.
                if let Err(dispatch::Error::Store(error)) = started {
                    tracing::error!(
                        target_name = &*name,
                        %error,
                        "what the target has forgotten could not be made owed again"
                    );
                }
                lock(&inner.forgotten).remove(&name);
            });
        }
    }

    /// Makes everything owed that the channels of a target have ever delivered to it, and then lets the
    /// target start over. No channel joins or leaves meanwhile.
    async fn start_over(&self, name: &str, target: &TargetHandle) -> Result<(), dispatch::Error> {
        let stopped = self.stopped.lock().await;
        if *stopped {
            return Err(dispatch::Error::Stopped);
        }
        self.store.doubt_retired(target.place()).await?;
        let live = self.live.load_full();
        let channels = live.channels.values();
        let of_it = channels.filter(|channel| *channel.setup().options.target == *name);
        let resynced = join_all(of_it.map(|channel| channel.resync())).await;
        resynced.into_iter().collect::<Result<(), _>>()?;
        target.start_over();
        Ok(())
    }

    /// Settles that a channel's target is ahead: jumps above what was seen there, lets it overwrite what has
    /// a sequence up to that, and makes everything owed again.
    ///
    /// # Errors
    /// The target is not ahead, or further than Weir can jump; or the store's.
    pub(super) async fn overwrite(&self, channel: &str) -> Result<(), Problem> {
        let setup = self.known_channel(channel)?.setup();
        let (name, target) = (setup.options.target.clone(), setup.target.clone());
        let Some(newest) = target.ahead() else {
            let detail = format!("the target of channel `{channel}` is not ahead of Weir");
            return Err(Problem::conflict("not-ahead", detail));
        };
        if newest.0 > JUMP_MAX {
            let detail = format!(
                "the target holds sequence {newest}, and Weir's sequence ends at {JUMP_MAX}; delete such states at the target"
            );
            return Err(Problem::conflict("too-far-ahead", detail));
        }
        let failed = super::backend::failed;
        self.store.jump(newest).await.map_err(failed)?;
        // From the first sequence on: what others have written with one that Weir has reached meanwhile, or
        // had reached already, is not Weir's either. All that Weir gives out from now on is above. What an
        // earlier call has allowed stays allowed, because it may not be overwritten yet.
        let earlier = target.foreign().map_or(newest, |foreign| foreign.last);
        let foreign = Foreign {
            first: Sequence(1),
            last: newest.max(earlier),
        };
        let place = target.place();
        let kept = keep_foreign(&*self.store, &name, place, foreign);
        kept.await.map_err(failed)?;
        let live = self.live.load_full();
        // A reload may have replaced it since.
        let current = live.targets.get(&name).filter(|it| it.place() == place);
        let target = current.cloned().unwrap_or(target);
        target.overwrite(foreign);
        tracing::info!(
            target_name = &*name,
            sequence = foreign.last.0,
            "Weir's sequence is above all that was seen at the target, which was ahead; everything is sent to it again and \
             overwrites what has a sequence up to this one"
        );
        let started = self.start_over(&name, &target).await;
        started.map_err(super::backend::stopped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Sequences follow the time in steps of 10 µs. The first limit of a jump was below today's.
    #[test]
    fn a_jump_may_go_beyond_the_sequences_of_the_next_decades() {
        let year_2050 = 2_524_608_000 * 100_000;
        assert!(JUMP_MAX > year_2050 && JUMP_MAX < 1 << 48);
    }
}
