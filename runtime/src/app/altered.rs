//! Targets that have been altered after they had refused something: a column was widened, a check was dropped. What
//! they refused is tried again once.
//!
//! Without this it would be tried when it changes, or each `retry.refused`, or when somebody redrives it: most
//! often long after whoever altered the table has looked whether it helped.

use std::sync::Arc;
use std::time::Duration;

use super::Inner;
use crate::dispatch::{Channel, REFUSED};
use crate::model::Ordinal;
use crate::sync::lock;

/// The refused entities that are tried again at once, and the pause until the next ones.
const PIECE: usize = 500;
const PAUSE: Duration = Duration::from_secs(1);

impl Inner {
    /// Begins a look at each target that has refused something, unless one is in progress.
    pub(super) fn look_for_altered(self: &Arc<Self>) {
        let live = self.live.load_full();
        for (name, target) in &live.targets {
            let of_it = |channel: &&Arc<Channel>| channel.setup().options.target == *name;
            let has_refused =
                |channel: &&Arc<Channel>| !channel.queue().refused(None, 1).is_empty();
            let channels = live.channels.values().filter(of_it).filter(has_refused);
            let channels: Vec<Arc<Channel>> = channels.cloned().collect();
            if channels.is_empty() || !lock(&self.looking).insert(name.clone()) {
                continue;
            }
            let (inner, name, target) = (self.clone(), name.clone(), target.clone());
            tokio::spawn(async move {
                if target.altered().await {
                    tracing::info!(
                        target_name = &*name,
                        "the target was altered; what it has refused is tried again"
                    );
                    for channel in &channels {
                        try_again(channel).await;
                    }
                }
                lock(&inner.looking).remove(&name);
            });
        }
    }
}

/// Tries all that the target of a channel has refused by now, each entity once. Ends when the channel stops.
async fn try_again(channel: &Channel) {
    let mut after: Option<Ordinal> = None;
    loop {
        let refused = channel.queue().refused(after, PIECE);
        let Some(last) = refused.last() else { return };
        after = Some(last.ordinal);
        // Not those that failed in a plugin.
        let by_target = refused.iter().filter(|it| it.failure.code == REFUSED);
        let ordinals = by_target.map(|it| it.ordinal).collect();
        if channel.redrive(ordinals).await.is_err() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}
