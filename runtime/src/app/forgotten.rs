//! Targets that do not hold any more what they acknowledged: a database was restored, a standby took over
//! without the last seconds, a stream was made anew.
//!
//! Such a target says so itself when it connects ([`Outcome::Forgot`]), and nothing is sent to it. All of
//! its channels then owe everything again, durably, before the target starts over: if Weir stops in between,
//! the target is still behind its mark and says so again.
//!
//! [`Outcome::Forgot`]: crate::targets::Outcome::Forgot

use std::sync::Arc;

use super::{Inner, join_all};
use crate::sync::lock;

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
            let (inner, live, name) = (self.clone(), live.clone(), name.clone());
            tokio::spawn(async move {
                let target = &live.targets[&name];
                let channels = live.channels.values();
                let of_it = channels.filter(|channel| Arc::ptr_eq(&channel.setup().target, target));
                let resynced = join_all(of_it.map(|channel| channel.resync())).await;
                let failed = resynced.into_iter().find_map(Result::err);
                match failed {
                    None => target.start_over(),
                    // The next look tries it again.
                    Some(error) => tracing::error!(
                        target_name = &*name,
                        %error,
                        "what the target has forgotten could not be made owed again"
                    ),
                }
                lock(&inner.forgotten).remove(&name);
            });
        }
    }
}
