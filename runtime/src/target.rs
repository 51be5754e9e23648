//! Where deliveries go: what is sent, and what the answer means.
//!
//! A target knows nothing of stores, lanes or retries; it makes one attempt and says what came of
//! it.

mod answer;
mod body;
mod connect;
mod egress;
#[cfg(test)]
pub(crate) mod fixture;
#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub mod fuzz;
mod veil;
pub mod webhook;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A target as configured; its limits are shared by all channels that deliver there.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Its name, for example `shop.de`; of an inline target, the channel's.
    pub name: Arc<str>,
    /// Requests in flight; 8.
    pub concurrency: usize,
    /// Requests a second; none: as many as it takes.
    pub rate: Option<f64>,
    /// What it is.
    pub kind: Kind,
}

/// The kinds of target.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// HTTP requests to a URL.
    Webhook(webhook::Options),
}

/// A target that is ready to deliver.
pub enum Target {
    /// HTTP requests to a URL.
    Webhook(webhook::Webhook),
}

impl Target {
    /// Prepares a target; connects to nobody yet.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn open(kind: &Kind) -> Result<Target, String> {
        match kind {
            Kind::Webhook(options) => webhook::Webhook::open(options).map(Target::Webhook),
        }
    }

    /// Whether it knows each entity by its key alone, so that another key is another thing there
    /// and each request holds one.
    pub fn by_key(&self) -> bool {
        match self {
            Target::Webhook(webhook) => webhook.by_key(),
        }
    }

    /// Makes one attempt and says what came of each item, in order. `batched`: in the form for
    /// several, even if it is one.
    pub async fn deliver(
        &self,
        items: &[Item],
        batched: bool,
        trace: Trace,
        now: SystemTime,
    ) -> Vec<Outcome> {
        match self {
            Target::Webhook(webhook) => webhook.deliver(items, batched, trace, now).await,
        }
    }
}

/// The random ids of one attempt, by which it is found in traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Of the whole trace; not 0.
    pub trace: u128,
    /// Of this attempt; not 0.
    pub span: u64,
}

impl fmt::Display for Trace {
    /// As W3C `traceparent` has it, sampled.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "00-{:032x}-{:016x}-01",
            self.trace.max(1),
            self.span.max(1)
        )
    }
}

/// How all attempts at one rendering on one channel are known, so that a receiver can tell a
/// repetition: `webhook-id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeliveryId(pub u128);

impl DeliveryId {
    /// Appends the text of it, without the allocation and the formatting machinery of
    /// [`fmt::Display`]: it is written for each entity.
    pub(crate) fn write(self, to: &mut Vec<u8>) {
        let mut digits = [0; 32];
        hex::encode_to_slice(self.0.to_be_bytes(), &mut digits).expect("two digits a byte");
        to.extend_from_slice(b"weir_");
        to.extend_from_slice(&digits);
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "weir_{:032x}", self.0)
    }
}

/// One entity to be delivered.
#[derive(Clone, Debug)]
pub struct Item {
    /// The stable id of this rendering on this channel: the same for all attempts at it.
    pub id: DeliveryId,
    /// The entity.
    pub entity: crate::model::EntityId,
    /// The revision, `weir-sequence`.
    pub sequence: crate::model::Sequence,
    /// What the target calls it.
    pub key: Arc<str>,
    /// What to deliver; none: the entity is to be deleted there.
    pub rendering: Option<Arc<crate::model::Rendering>>,
    /// Name and digest of the plugin that rendered it; none if it is what Weir itself makes of
    /// facets, which is JSON, or a deletion.
    pub plugin: Option<Arc<str>>,
}

/// What came of an attempt at one item. Not an error: dispatch decides on it.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A complete answer says that it is there (or gone, for a deletion).
    Delivered,
    /// Not delivered, perhaps later. The answer was complete and a refusal to process (`applied:
    /// false`), or it is not known whether the target applied it (`applied: true` means "may have
    /// been").
    Retry {
        /// What happened, for people.
        reason: String,
        /// The target asked to wait that long.
        after: Option<Duration>,
        /// Whether it may have been applied.
        maybe_applied: bool,
    },
    /// This entity will never be taken as it is.
    Refused {
        /// What the target said, for people.
        reason: String,
        /// True for 409 and 422: refused only after five tries, because a parent may arrive later.
        after_tries: bool,
    },
    /// It speaks of the target, not of the entity: trip the target at once.
    Trip {
        /// What happened, for people.
        reason: String,
    },
    /// The target is gone for good (410): pause the channel.
    Pause {
        /// What happened, for people.
        reason: String,
    },
    /// The batch was refused as a whole: it must be halved until the culprit is alone.
    Split {
        /// What happened, for people.
        reason: String,
    },
}
