//! Targets: where deliveries go.
//!
//! A [`Target`] makes one attempt and returns an [`Outcome`] for each item. It knows nothing about
//! stores, lanes or retries: `dispatch` decides what an outcome means for an entity, and shares one
//! target among the channels that deliver to it.
//!
//! A new kind of target is a file in `targets/`, a line in [`Kind`] with its arm in [`Kind::open`],
//! and a file in `plan/targets/` that reads and shows its configuration. Kinds that speak HTTP use
//! the client in [`http`], which knows none of them.

mod broker;
pub mod bucket;
#[cfg(test)]
#[path = "../../tests/support/bus.rs"]
pub(crate) mod bus;
mod content;
mod difference;
pub mod feed;
pub mod file;
#[cfg(test)]
pub(crate) mod fixture;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
pub mod http;
pub mod kafka;
#[cfg(test)]
#[path = "../../tests/support/moto.rs"]
#[allow(dead_code)]
pub(crate) mod moto;
pub mod names;
pub mod nats;
#[cfg(test)]
#[path = "../../tests/support/parts.rs"]
pub(crate) mod parts;
pub mod postgres;
#[cfg(test)]
#[path = "../../tests/support/postgres.rs"]
#[allow(dead_code)]
pub(crate) mod postgres_server;
#[cfg(test)]
#[path = "../../tests/support/proxy.rs"]
pub(crate) mod proxy;
#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
pub(crate) mod scripted;
pub mod search;
pub mod webhook;

use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::model::{EntityId, Rendering, Sequence, Trace};

/// A target as configured. All channels that deliver to it share its limits.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Its name, for example `shop.de`. An inline target has the name of its channel.
    pub name: Arc<str>,
    /// Maximum number of requests in flight. Default 8; 2 for a search engine with one worker.
    pub concurrency: usize,
    /// Maximum rate: requests, items or bytes per second, as `cost` says; `None` means unlimited.
    pub rate: Option<f64>,
    /// What the target counts, and `rate` with it. Default: requests.
    pub cost: Cost,
    /// The name of the pace that it shares with other targets; concurrency, rate and cost are then
    /// those of the pace.
    pub pace: Option<Arc<str>>,
    /// Its kind, with the options of that kind.
    pub kind: Kind,
}

/// What a target counts when it limits its clients, and with it its rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cost {
    /// Requests, whatever they hold.
    #[default]
    Requests,
    /// Entities.
    Items,
    /// Bytes of the bodies, approximately.
    Bytes,
}

impl Cost {
    /// The words of a configuration.
    pub const WORDS: [(&'static str, Cost); 3] = [
        ("requests", Cost::Requests),
        ("items", Cost::Items),
        ("bytes", Cost::Bytes),
    ];

    /// Its word in a configuration.
    pub fn word(self) -> &'static str {
        let [(requests, _), (items, _), (bytes, _)] = Cost::WORDS;
        match self {
            Cost::Requests => requests,
            Cost::Items => items,
            Cost::Bytes => bytes,
        }
    }

    /// How many of what is counted are a unit of the pace. A rate of a few units has the same meaning
    /// whatever is counted, and a byte is too little to have one.
    pub(crate) fn unit(self) -> f64 {
        match self {
            Cost::Requests | Cost::Items => 1.0,
            Cost::Bytes => 1024.0,
        }
    }

    /// The cost of a request in units.
    pub(crate) fn of(self, items: &[Item]) -> f64 {
        match self {
            Cost::Requests => 1.0,
            Cost::Items => items.len() as f64,
            Cost::Bytes => {
                let bytes: usize = items.iter().map(Item::bytes_in_batch).sum();
                bytes as f64 / self.unit()
            }
        }
    }
}

/// All kinds of target. This is the only list of them.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// HTTP requests to a URL.
    Webhook(Box<webhook::Options>),
    /// Documents in an index of a search engine.
    Search(Box<search::Options>),
    /// Records of Kafka.
    Kafka(Box<kafka::Options>),
    /// Rows of a table in PostgreSQL.
    Postgres(Box<postgres::Options>),
    /// Messages of NATS.
    Nats(Box<nats::Options>),
    /// Objects in a bucket of an object store.
    Bucket(Box<bucket::Options>),
    /// Files in a folder.
    File(Box<file::Options>),
    /// The whole state of a channel as a file that others fetch.
    Feed(Box<feed::Options>),
    /// Outcomes from a script, without a socket.
    #[cfg(test)]
    Scripted(scripted::Options),
}

impl Kind {
    /// Whether a delivery says that the target has accepted an entity, and not that it has applied it.
    pub fn accepts_only(&self) -> bool {
        match self {
            Kind::Webhook(options) => options.answers.accepted_only,
            Kind::Nats(options) => matches!(options.form, nats::Form::Core { .. }),
            _ => false,
        }
    }

    /// Whether what the target holds is read from files of this machine. That is no request that the target's
    /// limits are about, and it may read all lines of a file, for which no delivery should wait.
    pub(crate) fn reads_here(&self) -> bool {
        matches!(self, Kind::File(_) | Kind::Feed(_))
    }

    /// Prepares a target without opening a connection.
    ///
    /// # Errors
    /// [`Unusable`] if these options can never work on this machine.
    pub fn open(&self, opening: &Opening) -> Result<Box<dyn Target>, Unusable> {
        Ok(match self {
            Kind::Webhook(options) => Box::new(webhook::Webhook::open(options)?),
            Kind::Search(options) => Box::new(search::Search::open(options)?),
            Kind::Kafka(options) => kafka::open(options)?,
            Kind::Postgres(options) => {
                let table = postgres::Postgres::open(options)?;
                Box::new(table.remembering(opening.memory.clone()))
            }
            Kind::Nats(options) => Box::new(nats::Nats::open(options)?),
            Kind::Bucket(options) => Box::new(bucket::Bucket::open(options, opening)?),
            Kind::File(options) => Box::new(file::File::open(options)),
            Kind::Feed(options) => Box::new(feed::Feed::open(options, opening)?),
            #[cfg(test)]
            Kind::Scripted(options) => Box::new(scripted::Scripted::open(options)),
        })
    }
}

/// The reason why a target cannot be opened, as a sentence for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(pub String);

/// What a target finds of itself when it opens.
#[derive(Clone)]
pub struct Opening {
    /// The folder for files of its own. It creates the folder when it needs it, and owns all in it.
    pub folder: PathBuf,
    /// Its memory.
    pub memory: Arc<dyn Memory>,
}

/// The durable memory of a target: a few small values by name. It is kept in the store under the name of the
/// target, so it may come from another place ([`Target::place`]), be older than what the target holds
/// because a backup was restored, or be missing.
pub trait Memory: Send + Sync {
    /// The value of this name. Reads the local disk.
    ///
    /// # Errors
    /// Why it cannot be read, as a phrase for the operator.
    fn recall(&self, name: &str) -> Result<Option<Vec<u8>>, String>;

    /// Replaces the value of this name, or removes it. It is durable when the future ends.
    ///
    /// # Errors
    /// Why it cannot be written, as a phrase for the operator.
    fn remember(
        &self,
        name: &str,
        value: Option<Vec<u8>>,
    ) -> BoxFuture<'static, Result<(), String>>;
}

impl Opening {
    /// For a target that is tried and delivers nothing, and for tests: it remembers nothing.
    pub fn empty(folder: PathBuf) -> Opening {
        Opening {
            folder,
            memory: Arc::new(Forgetful),
        }
    }
}

/// The memory of a target that is tried and delivers nothing.
struct Forgetful;

impl Memory for Forgetful {
    fn recall(&self, _name: &str) -> Result<Option<Vec<u8>>, String> {
        Ok(None)
    }

    fn remember(
        &self,
        _name: &str,
        _value: Option<Vec<u8>>,
    ) -> BoxFuture<'static, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }
}

/// How far a target had come when it acknowledged a delivery, in the words of its kind: the timeline and the
/// position of a database, the last sequence of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// What [`Target::mark`] returned.
    pub bytes: Vec<u8>,
    /// Whether it includes all deliveries. If not, Weir did not stop by itself, and up to some seconds of
    /// deliveries came after it.
    pub exact: bool,
}

/// A future that a method of a `dyn` trait can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A target that is ready to deliver.
pub trait Target: Send + Sync + 'static {
    /// The target's requirements for deliveries. This is called often and always returns the same
    /// value.
    fn nature(&self) -> Nature;

    /// A digest of the kind and of the location where the target keeps things (the URL, the index,
    /// the topic). If it changes, it is unknown what the target holds for its channels, so
    /// everything is sent again. The digest is stored, so it must be the same after each start.
    fn place(&self) -> u64;

    /// Credentials that the target's API has given in place of configured ones, for a later one of these
    /// options: without them it could not log in. They are secret. `None` if there are none.
    fn credentials(&self) -> Option<Vec<u8>> {
        None
    }

    /// Takes the credentials that an earlier one has left behind, if they replace the configured ones.
    fn take_credentials(&self, _kept: &[u8]) {}

    /// Tries whether deliveries could be made: the name, TLS, the credentials as far as that is possible
    /// without a delivery, the index. Changes nothing at the target. Returns warnings of what works now
    /// and will probably fail later, each a phrase for the operator with the remedy.
    ///
    /// # Errors
    /// What is wrong, as a phrase for the operator.
    fn check(&self) -> BoxFuture<'_, Result<Vec<String>, String>>;

    /// Makes one attempt. It always returns, whatever the other side does.
    fn deliver<'a>(&'a self, attempt: Attempt<'a>) -> BoxFuture<'a, Delivery>;

    /// How far the target had come at the latest delivery that it acknowledged; `None` if it cannot tell. A
    /// target that finds itself behind it when it connects returns [`Outcome::Forgot`] for all items.
    fn mark(&self) -> Option<Vec<u8>> {
        None
    }

    /// Takes the mark that an earlier one with the same place has left behind.
    fn take_mark(&self, _mark: Mark) {}

    /// All that the target held is owed again: it starts over from what is there now, and forgets its mark.
    fn start_over(&self) {}

    /// Looks whether what the target takes has changed since this was asked last, or since an earlier target of
    /// the same name: then what it has refused may be taken now. Asked only while something is refused.
    fn altered(&self) -> BoxFuture<'_, bool> {
        Box::pin(async { false })
    }

    /// The feed that this target is: dispatch tells it when its channel has met all of its entities, and
    /// users see its generation. `None` for all other kinds.
    fn feed(&self) -> Option<&feed::Feed> {
        None
    }

    /// Compares what the target holds with what it should hold, for a drift check: one result for each item,
    /// in order. An item without a rendering should not be there. Changes nothing at the target.
    ///
    /// # Errors
    /// Why the target cannot be asked, as a phrase for the operator.
    fn compare<'a>(&'a self, _items: &'a [Item]) -> BoxFuture<'a, Result<Vec<Held>, String>> {
        Box::pin(async { Err("this kind of target cannot tell what it holds".to_owned()) })
    }

    /// The keys that the target holds, a page at a time, in an order of its own. `after` is
    /// [`Page::next`] of the page before.
    ///
    /// # Errors
    /// Why the target cannot be asked, as a phrase for the operator.
    fn keys<'a>(&'a self, _after: Option<&'a str>) -> BoxFuture<'a, Result<Page, String>> {
        Box::pin(async { Err("this kind of target cannot list what it holds".to_owned()) })
    }
}

/// What a target holds of an item, beside what it should hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// What it should.
    Same,
    /// Nothing, and it should hold it.
    Missing,
    /// An older state: of this sequence.
    Older(Sequence),
    /// Something else, at these places (JSON pointers, or the names of columns), some of them.
    Different(Vec<String>),
    /// Something, and it should hold nothing.
    Extra,
    /// It could not be found out; a phrase for the operator.
    Unknown(String),
}

/// A page of the keys that a target holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The keys, as [`Item::key`] writes them.
    pub keys: Vec<String>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<String>,
}

/// The result of one attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// One outcome for each item, in order.
    pub outcomes: Vec<Outcome>,
    /// What the answer says about the pace, whatever the outcomes are.
    pub hints: Hints,
}

impl From<Vec<Outcome>> for Delivery {
    fn from(outcomes: Vec<Outcome>) -> Delivery {
        Delivery {
            outcomes,
            hints: Hints::default(),
        }
    }
}

/// What an answer says about the pace of a target. Each of it only makes Weir slower.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Hints {
    /// How long the target asks Weir to wait before the next request.
    pub wait: Option<Duration>,
    /// The requests per second that the target takes.
    pub rate: Option<f64>,
    /// The points that are left, where the API counts them.
    pub points: Option<PointsLeft>,
}

impl From<Option<Duration>> for Hints {
    /// A wait and nothing more.
    fn from(wait: Option<Duration>) -> Hints {
        Hints {
            wait,
            ..Hints::default()
        }
    }
}

/// The points of an API that counts the cost of each request, as an answer tells them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PointsLeft {
    /// Points that had to be there before the request ran.
    pub needed: f64,
    /// Points that it used; 0 if it did not run.
    pub used: f64,
    /// Points that are there now.
    pub left: f64,
    /// Points of a full bucket.
    pub most: f64,
    /// Points that come back in a second; more than 0.
    pub per_second: f64,
}

/// A target's requirements for deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nature {
    /// Whether the target keeps each key as a separate object. Then the previous key of an entity
    /// must be deleted, which dispatch does with separate items before it delivers the entity.
    pub keyed: bool,
    /// Maximum number of items in one attempt, at least 1. It is also 1 if each item needs its own
    /// request.
    pub batch_max: usize,
    /// Whether a request with several items cannot hold a deletion, so that each deletion needs its
    /// own request.
    pub deletes_alone: bool,
    /// Whether it compares the sequence of an item with the one that it holds under the key, and leaves a
    /// newer state as it is. Then the deletion of a key that an entity has left has the sequence of what is
    /// deleted, so that it does not delete what another entity has put there since.
    pub compares: bool,
}

/// One attempt.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The items to deliver: at least one, at most [`Nature::batch_max`], exactly one in
    /// [`Form::Single`].
    pub items: &'a [Item],
    /// The form of the request.
    pub form: Form,
    /// The attempt in traces; its ids are random.
    pub trace: Trace,
    /// The wall clock, for the timestamp that the attempt carries and signs.
    pub now: SystemTime,
    /// The newest sequence that the store has given out: no state of any entity is newer.
    pub head: Sequence,
    /// Sequences that Weir has jumped over: the target may overwrite states that have one of them, because
    /// an operator said so after [`Outcome::Ahead`].
    pub foreign: Option<Foreign>,
}

/// A range of sequences that Weir has jumped over: what has one of them at a target is somebody else's, or is
/// sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// The first one.
    pub first: Sequence,
    /// The last one.
    pub last: Sequence,
}

/// The form in which an attempt's items are written. Each channel has its own, independent of other
/// channels on the same target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One item, as its bare rendering.
    Single,
    /// The batch form, even if there is only one item.
    Batch,
}

/// The id that all attempts at one rendering on one channel share (`webhook-id`), so that a
/// receiver can recognise a repetition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeliveryId(pub u128);

impl DeliveryId {
    /// Appends its text without the allocation and formatting of [`fmt::Display`], because this
    /// runs for each entity.
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

/// Bytes of the envelope of an item in a batch, approximately.
pub(crate) const ENVELOPE_BYTES: usize = 160;

/// One entity to be delivered.
#[derive(Clone, Debug)]
pub struct Item {
    /// The stable id of this rendering on this channel: the same for all attempts at it.
    pub id: DeliveryId,
    /// The entity.
    pub entity: EntityId,
    /// Identifies the state of the entity that is sent: the same until it changes, or is rendered
    /// differently.
    pub state: u64,
    /// The revision (`weir-sequence`).
    pub sequence: Sequence,
    /// The key under which the target keeps it.
    pub key: Arc<str>,
    /// The content to deliver; `None` deletes the entity at the target.
    pub rendering: Option<Arc<Rendering>>,
    /// Name and digest of the plugin that rendered the entity; `None` for the default rendering,
    /// the facets as JSON.
    pub plugin: Option<Arc<str>>,
}

impl Item {
    /// See [`bytes_in_batch`].
    pub(crate) fn bytes_in_batch(&self) -> usize {
        bytes_in_batch(&self.entity, self.rendering.as_deref())
    }
}

/// Bytes that an entity adds to the body of a batch, approximately.
pub(crate) fn bytes_in_batch(entity: &EntityId, rendering: Option<&Rendering>) -> usize {
    let body = rendering.map_or(0, |it| it.body.as_bytes().len());
    body + entity.entity_type.len() + entity.key.len() + ENVELOPE_BYTES
}

/// The result of an attempt at one item. It is not an error: dispatch decides what follows from it.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A complete response acknowledged the item: stored, or deleted for a deletion.
    Delivered,
    /// Done, and to be done once more after a while, because an earlier request without an answer may
    /// still undo it. Neither the entity nor the target has failed.
    Repeat {
        /// Why, as text for users.
        reason: String,
        /// How long the earlier request may still be carried out.
        after: Duration,
    },
    /// Not delivered; a later attempt may succeed.
    Retry {
        /// What happened, as text for users.
        reason: String,
        /// True if the target may have applied it, because the response did not arrive, broke off
        /// or left it open. False if the target certainly did not process it.
        maybe_applied: bool,
    },
    /// Not processed, because the target gets too many requests (429, 503): the pace falls.
    Throttled {
        /// What happened, as text for users.
        reason: String,
        /// How long the target asked Weir to wait.
        after: Option<Duration>,
    },
    /// The target will never accept this entity as it is.
    Refused {
        /// The target's reason, as text for users.
        reason: String,
        /// True for 409 and 422: dispatch refuses the entity only after `retry.attempts`, because a
        /// parent entity may arrive later.
        after_tries: bool,
    },
    /// The cause is the target, not the entity: the breaker trips at once.
    Trip {
        /// What happened, as text for users.
        reason: String,
    },
    /// The target does not hold any more what it acknowledged: it was restored, or has lost its last seconds,
    /// or its data is another's. Nothing was sent. All that it held is owed again, by all channels that
    /// deliver to it.
    Forgot {
        /// What shows it, as text for users.
        reason: String,
    },
    /// The target holds states that are newer than any that Weir has given out, so that it would take none of
    /// Weir's. The breaker trips at once.
    Ahead {
        /// What shows it, as text for users.
        reason: String,
        /// The newest of them that was seen.
        sequence: Sequence,
    },
    /// The target is gone for good (410): the channel is paused.
    Pause {
        /// What happened, as text for users.
        reason: String,
    },
    /// The item was not applied because of other items of the request: dispatch sends it again at once
    /// without those that have another outcome, or in halves if all items have this one.
    Split {
        /// What happened, as text for users.
        reason: String,
        /// Whether the request was too long (413).
        too_long: bool,
    },
}
