//! Targets: where deliveries go.
//!
//! A [`Target`] makes one attempt and reports an [`Outcome`] for each item. It knows nothing of
//! stores, lanes or retries: `dispatch` decides what an outcome means for an entity, and shares one
//! target among the channels that deliver there.
//!
//! A new kind of target is a file in `targets/`, a line in [`Kind`] with its arm in [`Kind::open`],
//! and a file in `plan/targets/` that reads and shows its configuration. Kinds that speak HTTP use
//! the client in [`http`], which knows none of them.

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub mod fuzz;
pub mod http;
#[cfg(test)]
pub(crate) mod scripted;
pub mod webhook;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::model::{EntityId, Rendering, Sequence};

/// A target as configured; its limits are shared by all channels that deliver there.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Its name, for example `shop.de`; an inline target has the name of its channel.
    pub name: Arc<str>,
    /// Requests in flight; 8.
    pub concurrency: usize,
    /// Requests a second; `None`: unlimited.
    pub rate: Option<f64>,
    /// Its kind, with what only that kind needs.
    pub kind: Kind,
}

/// The kinds of target: the one list.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// HTTP requests to a URL.
    Webhook(webhook::Options),
    /// Outcomes by a script, without a socket.
    #[cfg(test)]
    Scripted(scripted::Options),
}

impl Kind {
    /// Prepares a target; connects to nobody yet.
    ///
    /// # Errors
    /// [`Unusable`] if no attempt could ever be made with these options on this machine.
    pub fn open(&self) -> Result<Box<dyn Target>, Unusable> {
        Ok(match self {
            Kind::Webhook(options) => Box::new(webhook::Webhook::open(options)?),
            #[cfg(test)]
            Kind::Scripted(options) => Box::new(scripted::Scripted::open(options)),
        })
    }
}

/// Why a target cannot be opened: a sentence for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(pub String);

/// A future that can be returned by a method of a `dyn` trait.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A target that is ready to deliver.
pub trait Target: Send + Sync + 'static {
    /// What deliveries must look like; asked again and again, never changes.
    fn nature(&self) -> Nature;

    /// A digest of the kind and of where things are kept (the URL, the index, the topic). Another
    /// place makes all that a channel holds there unknown, so that it is sent again; it is stored,
    /// so it must be the same after each start.
    fn place(&self) -> u64;

    /// Makes one attempt and returns one outcome for each item, in their order. It ends by itself,
    /// whatever the other side does.
    fn deliver<'a>(&'a self, attempt: Attempt<'a>) -> BoxFuture<'a, Vec<Outcome>>;
}

/// What a kind of target demands of deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nature {
    /// Another key is another thing there, so the key that an entity had before must be deleted:
    /// dispatch does it with items of their own, before it delivers the entity.
    pub keyed: bool,
    /// The most items in one attempt, at least 1; 1 also where each item has a request of its own.
    pub batch_max: usize,
}

/// One attempt.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// What to deliver: at least one, at most [`Nature::batch_max`]; exactly one in
    /// [`Form::Single`].
    pub items: &'a [Item],
    /// How it is written.
    pub form: Form,
    /// The ids under which the attempt is found in traces.
    pub trace: Trace,
    /// The wall clock, which stamps and signs the attempt.
    pub now: SystemTime,
}

/// How the items of an attempt are written. It is the channel's, whatever others on its target do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One item, as its bare rendering.
    Single,
    /// In the form for several, even if there is only one.
    Batch,
}

/// The random ids of one attempt, by which it is found in traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The id of the whole trace; not 0.
    pub trace: u128,
    /// The id of this attempt; not 0.
    pub span: u64,
}

impl fmt::Display for Trace {
    /// As W3C `traceparent` writes it, with the flag `sampled`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "00-{:032x}-{:016x}-01",
            self.trace.max(1),
            self.span.max(1)
        )
    }
}

/// The id that all attempts at one rendering on one channel share, so that a receiver recognises a
/// repetition: `webhook-id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeliveryId(pub u128);

impl DeliveryId {
    /// Appends its text without the allocation and the formatting machinery of [`fmt::Display`]:
    /// this runs for each entity.
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
    pub entity: EntityId,
    /// The revision, `weir-sequence`.
    pub sequence: Sequence,
    /// The key under which the target knows it.
    pub key: Arc<str>,
    /// The content to deliver; `None`: the entity is to be deleted there.
    pub rendering: Option<Arc<Rendering>>,
    /// Name and digest of the plugin that rendered the entity; `None` for the default rendering,
    /// which is JSON of the facets.
    pub plugin: Option<Arc<str>>,
}

/// The result of an attempt at one item. Not an error: dispatch decides what follows from it.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A complete response says that it is there (or gone, for a deletion).
    Delivered,
    /// Not delivered, perhaps later.
    Retry {
        /// What happened, for people.
        reason: String,
        /// How long the target asked to wait.
        after: Option<Duration>,
        /// True if the target may have applied it: the response did not come, broke off, or does
        /// not say. False if a complete response declined to process it.
        maybe_applied: bool,
    },
    /// The target will never take this entity as it is.
    Refused {
        /// What the target said, for people.
        reason: String,
        /// True for 409 and 422: dispatch refuses it only after five attempts, because a parent
        /// entity may arrive later.
        after_tries: bool,
    },
    /// The trouble is the target's, not the entity's: trip the target at once.
    Trip {
        /// What happened, for people.
        reason: String,
    },
    /// The target is gone for good (410): pause the channel.
    Pause {
        /// What happened, for people.
        reason: String,
    },
    /// The batch was refused as a whole: dispatch halves it until the culprit is alone.
    Split {
        /// What happened, for people.
        reason: String,
    },
}
