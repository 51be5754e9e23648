//! Channels that have left the configuration. What they delivered stays at their targets, and nothing
//! updates it: that is said when they leave, and shown with each entity.

use crate::model::Ordinal;
use crate::server::views::StandingView;
use crate::store::{Holds, Remembered, Store};

/// Says what remains at the target of a channel that has just left, and what to do about it. A renamed
/// channel, or a renamed row of `for_each`, looks like one that left and another that is new.
pub(super) fn warn(channel: &Remembered) {
    let (name, holding) = (&channel.name, channel.holding);
    if holding == 0 {
        return;
    }
    tracing::warn!(
        channel = name,
        holding,
        "the channel has left the configuration, and its target still holds what was delivered, which \
         nothing updates or deletes now; {}",
        remedy(name, true)
    );
}

/// What to do about a channel that has left the configuration and left something at its target. Before
/// it leaves, it can still be renamed. Once it is `retired`, its new name may be in use as another
/// channel, which has to be forgotten first.
pub fn remedy(name: &str, retired: bool) -> String {
    let renamed = if retired {
        "if it has another name now, go back to the former one, run `weir channel forget` for the other, \
         and rename it with the former name as `was` in the channel or in its row of [each]"
    } else {
        "if it has another name now, write the former one as `was` in the channel or in its row of [each]"
    };
    format!(
        "{renamed}; otherwise delete at the target what it holds, then run `weir channel forget {name}`"
    )
}

/// What the targets of retired channels hold of an entity, or may hold.
pub(super) fn standings(store: &dyn Store, ordinal: Ordinal) -> Vec<StandingView> {
    store
        .retired_standings(ordinal)
        .into_iter()
        .filter(|(_, standing)| standing.holds != Holds::Nothing)
        .map(|(channel, standing)| StandingView {
            channel,
            state: "retired".to_owned(),
            sequence: Some(standing.revision.0).filter(|revision| *revision > 0),
            plugin: Some(standing.shape_label).filter(|label| !label.is_empty()),
            ..StandingView::default()
        })
        .collect()
}
