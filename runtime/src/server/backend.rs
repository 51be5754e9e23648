//! The interface between the routes and the rest of Weir: the application implements these traits,
//! and the tests of this module use a fake.
//!
//! Plain data goes in and comes out; the routes know no store, no channel and no plugin. A
//! method that can wait (for a commit, a plugin, a disk) returns a [`Reply`]; one that only looks
//! something up returns at once. For an unknown name each returns [`Problem::unknown`].

use std::fmt;
use std::fs::File;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::http::HeaderMap;
use bytes::Bytes;

use super::intake::Requests;
use super::problem::Problem;
use super::views::{
    Accepted, BackupView, ChannelEntitiesView, ChannelView, ConfigView, EntityRow, EntityView,
    JobView, List, PluginView, PreviewView, QuarantineView, ReceiptView, RefusedView, ReloadView,
    RequestPreviewView, SourceView,
};
use crate::budget::Reservation;
use crate::metrics::Snapshot;
use crate::model::{EntityId, Lane, Sequence, Timestamp};
use crate::plan::{Front, Token};
use crate::tap::{Point, Side};

/// A result that may take a while.
pub type Reply<'a, T> = Pin<Box<dyn Future<Output = Result<T, Problem>> + Send + 'a>>;

/// A running Weir, as its routes see it.
pub trait Backend: Look + Operate + Setup {
    /// The tokens that are valid now.
    fn tokens(&self) -> Arc<[Token]>;
    /// How clients reach the listeners now.
    fn front(&self) -> Arc<Front>;
    /// The way into a source: looked up once a request, so that a reload in the middle of one
    /// changes nothing for it. `None` if there is no such source.
    fn intake(&self, source: &str) -> Option<Arc<dyn Intake>>;
}

/// The way into one source.
pub trait Intake: Send + Sync {
    /// The longest body that the source takes, in bytes.
    fn body_bytes_max(&self) -> u64;
    /// The response to a request that was taken, as the source's senders want it.
    fn reply(&self) -> &crate::plan::Reply;
    /// Checks what the headers and the path with its query alone can prove, before a body is received that
    /// takes time.
    ///
    /// # Errors
    /// The sender cannot be verified, whatever the body is.
    fn admit(&self, target: &str, headers: &HeaderMap) -> Result<(), Problem>;
    /// Whether a parameter of the query is for the source: its proof or its handshake reads it.
    fn reads(&self, parameter: &str) -> bool {
        let _ = parameter;
        false
    }
    /// The answer to a request that is no event: its sender asks whether somebody is there.
    ///
    /// # Errors
    /// The sender cannot be verified.
    fn challenged(&self, asked: Asked<'_>) -> Result<Option<Challenged>, Problem> {
        let _ = asked;
        Ok(None)
    }
    /// Takes a request; returns when it is durable. If the future is dropped, the sender has gone
    /// and got no response.
    fn accept(&self, request: IngestRequest) -> Reply<'_, Accepted>;
    /// The source's requests by status. The counts survive a reload and include requests that never
    /// reached [`Intake::accept`] because its body was too long or too slow, or its query was
    /// wrong.
    fn requests(&self) -> &Requests;
}

/// Read-only views of sources, entities, channels and figures.
pub trait Look: Send + Sync + 'static {
    /// All sources.
    fn sources(&self) -> Vec<SourceView>;
    /// One source.
    fn source(&self, name: &str) -> Result<SourceView, Problem>;
    /// An entity with its facets and its state on each channel.
    fn entity<'a>(&'a self, id: &'a EntityId) -> Reply<'a, EntityView>;
    /// Whether every channel has settled an entity; waits until it is so, or for as long as is asked.
    fn receipt<'a>(&'a self, id: &'a EntityId, query: ReceiptQuery) -> Reply<'a, ReceiptView>;
    /// Entities in the order of their keys.
    fn entities<'a>(&'a self, query: &'a EntityQuery, page: &'a Page)
    -> Reply<'a, List<EntityRow>>;
    /// All channels, retired ones included.
    fn channels(&self) -> Vec<ChannelView>;
    /// One channel.
    fn channel(&self, name: &str) -> Result<ChannelView, Problem>;
    /// The entities of a channel that are in a state, in the order of their keys.
    fn channel_entities<'a>(
        &'a self,
        channel: &'a str,
        query: &'a StateQuery,
        page: &'a Page,
    ) -> Reply<'a, ChannelEntitiesView>;
    /// The rendering that the channel would deliver now for the entity with that key.
    fn preview<'a>(&'a self, channel: &'a str, key: &'a str) -> Reply<'a, PreviewView>;
    /// What a source would make of a request, without taking it.
    fn preview_events<'a>(
        &'a self,
        source: &'a str,
        request: IngestRequest,
    ) -> Reply<'a, RequestPreviewView>;
    /// The feed of a channel, as it may be fetched now.
    fn feed(&self, channel: &str) -> Result<Feed, Problem> {
        Err(Problem::unknown("feed", channel))
    }
    /// Where a source or a channel is tapped.
    fn point(&self, side: Side, name: &str) -> Result<Arc<Point>, Problem>;
    /// Whether events can be taken in.
    ///
    /// # Errors
    /// The reasons why they cannot, one sentence each.
    fn ready(&self) -> Result<(), Vec<String>>;
    /// What works, but not as its operator wants it, one sentence each.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
    /// All figures at this moment.
    fn snapshot(&self) -> Snapshot;
}

/// Operations on channels, refused entities and quarantined events.
pub trait Operate: Send + Sync + 'static {
    /// Performs an operation on a channel; repeating it changes nothing more.
    fn operate<'a>(&'a self, channel: &'a str, operation: Operation) -> Reply<'a, ()>;
    /// Entities refused on a channel.
    fn refused<'a>(
        &'a self,
        channel: &'a str,
        filter: &'a RefusedFilter,
        page: &'a Page,
    ) -> Reply<'a, List<RefusedView>>;
    /// Redrives or drops refused entities; returns how many.
    fn settle_refused<'a>(
        &'a self,
        channel: &'a str,
        filter: &'a RefusedFilter,
        settle: Settle,
    ) -> Reply<'a, u64>;
    /// Events of a source in quarantine, oldest first.
    fn quarantine<'a>(
        &'a self,
        source: &'a str,
        filter: &'a QuarantineFilter,
        page: &'a Page,
    ) -> Reply<'a, List<QuarantineView>>;
    /// Redrives events in quarantine through their source's plugins, or drops them.
    fn settle_quarantine<'a>(
        &'a self,
        source: &'a str,
        filter: &'a QuarantineFilter,
        settle: Settle,
    ) -> Reply<'a, Settled>;
    /// Forgets the versions of the facets that the source's owner wrote; returns their number.
    fn reset_versions<'a>(&'a self, source: &'a str) -> Reply<'a, u64>;
    /// Sends one entity to a channel once more.
    fn resend<'a>(&'a self, channel: &'a str, id: &'a EntityId) -> Reply<'a, ()>;
    /// Begins a drift check of a channel's target, and returns its job.
    fn begin_drift(&self, channel: &str, request: DriftRequest) -> Result<JobView, Problem>;
    /// Begins to redrive what was set aside, and returns the job.
    fn begin_redrive(&self, request: RedriveRequest) -> Result<JobView, Problem>;
    /// The jobs that are running, and the last ones that ended.
    fn jobs(&self) -> Vec<JobView>;
    /// One job.
    fn job(&self, id: &str) -> Result<JobView, Problem>;
    /// Cancels a job; one that has ended stays as it is.
    fn cancel_job(&self, id: &str) -> Result<JobView, Problem>;
}

/// How Weir is set up.
pub trait Setup: Send + Sync + 'static {
    /// The plugins in use.
    fn plugins(&self) -> Vec<PluginView>;
    /// The configuration in use, without secrets.
    fn config(&self) -> ConfigView;
    /// Reads the configuration again and applies it; the result says whether it is in use now, and
    /// if not, why.
    fn reload(&self) -> Reply<'_, ReloadView>;
    /// Lets the version of a plugin take over that was refused because it maps less than the one in
    /// use; then as a reload.
    fn confirm_plugin<'a>(&'a self, name: &'a str) -> Reply<'a, ReloadView>;

    /// Makes a backup of the store in a new file; returns when it is complete.
    fn backup(&self) -> Reply<'_, BackupView>;
}

/// A request that may be a challenge.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its path and query, as sent.
    pub target: &'a str,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its body; `None` if it is a GET.
    pub body: Option<&'a [u8]>,
}

/// The answer to a challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenged {
    /// Its media type.
    pub content_type: &'static str,
    /// Its body.
    pub body: String,
}

/// A request to a source, complete and within its limit.
#[derive(Debug)]
pub struct IngestRequest {
    /// Its path and query, as sent.
    pub target: String,
    /// As sent.
    pub headers: HeaderMap,
    /// The raw bytes; verification looks at these.
    pub body: Bytes,
    /// `?lane=`: the lane for all changes of this request that name none themselves.
    pub lane: Option<Lane>,
    /// `?receipt=true`: the response names the entities.
    pub receipt: bool,
    /// The memory that was reserved for the body.
    pub memory: Reservation,
}

/// A feed, as it may be fetched.
#[derive(Debug)]
pub struct Feed {
    /// Who may fetch it.
    pub access: FeedAccess,
    /// Its last complete generation; `None` before the first.
    pub generation: Option<Generation>,
    /// When to ask again if there is none.
    pub retry_after: Duration,
}

/// Who may fetch a feed.
#[derive(Clone, PartialEq, Eq)]
pub enum FeedAccess {
    /// Programs on this machine.
    Local,
    /// Anybody.
    Open,
    /// Whoever has these credentials.
    Basic {
        /// User name.
        user: String,
        /// Password.
        password: Vec<u8>,
    },
}

impl fmt::Debug for FeedAccess {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FeedAccess::Local => "Local",
            FeedAccess::Open => "Open",
            FeedAccess::Basic { .. } => "Basic",
        })
    }
}

/// A complete generation of a feed.
#[derive(Clone, Debug)]
pub struct Generation {
    /// The file as it is.
    pub plain: FeedForm,
    /// The same, packed with gzip.
    pub gzip: FeedForm,
    /// When its content last changed.
    pub modified: SystemTime,
    /// The media type of the plain file.
    pub content_type: String,
}

/// A form of a generation.
#[derive(Clone, Debug)]
pub struct FeedForm {
    /// Its bytes, which never change.
    pub file: Arc<File>,
    /// Its length in bytes.
    pub length: u64,
    /// Its entity tag, with quotes: a digest of its bytes.
    pub etag: String,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// At most this many items, 1 to 1000.
    pub limit: usize,
    /// The `next` of the page before.
    pub after: Option<String>,
}

/// A query for a list of entities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityQuery {
    /// Of this type.
    pub entity_type: String,
    /// Only keys that start with this; may be empty.
    pub prefix: String,
    /// Only those that this channel still owes.
    pub owed: Option<String>,
}

/// The states that an entity may have on a channel, as `GET /v1/entities/{type}/{key}` names them.
pub const STATES: [&str; 9] = [
    "owed",
    "waiting",
    "parked",
    "refused",
    "held",
    "withheld",
    "withdrawn",
    "delivered",
    "suppressed",
];

/// A query for the entities of a channel that are in a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateQuery {
    /// One of [`STATES`].
    pub state: String,
    /// Only keys that start with this; may be empty.
    pub prefix: String,
    /// Whether all of them are counted by reason.
    pub reasons: bool,
}

/// What a receipt is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiptQuery {
    /// All changes up to this one must be settled.
    pub sequence: Sequence,
    /// How long to wait for that.
    pub wait: Duration,
}

/// What a drift check is asked to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriftRequest {
    /// About how many entities are compared, chosen at random; `None` means all.
    pub sample: Option<u64>,
    /// Whether what differs is sent again.
    pub repair: bool,
}

/// An operation on a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Deliver nothing until resumed; also after a restart.
    Pause,
    /// Deliver again.
    Resume,
    /// Send everything, deletions included: the content of the target is not certain any more.
    Resync,
    /// Render everything and send the differences.
    Rerender,
    /// Release withdrawals that the guard holds.
    Confirm,
    /// Jump above what the target holds, and send everything: for a target that is ahead; for any other the
    /// problem is 409.
    Overwrite,
    /// Forget a retired channel and all it delivered; for a live one the problem is 409.
    Forget,
}

impl Operation {
    /// The name in logs.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Pause => "pause",
            Operation::Resume => "resume",
            Operation::Resync => "resync",
            Operation::Rerender => "rerender",
            Operation::Confirm => "confirm",
            Operation::Overwrite => "overwrite",
            Operation::Forget => "forget",
        }
    }
}

/// Refused entities that match all of these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefusedFilter {
    /// With this key.
    pub key: Option<String>,
    /// For this reason.
    pub code: Option<String>,
}

/// Events in quarantine that match all of these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuarantineFilter {
    /// This one.
    pub sequence: Option<u64>,
    /// For this reason.
    pub code: Option<String>,
    /// Because of this plugin: its name in the configuration, or with its version,
    /// `erp@3fa9c1b2d0e4`.
    pub plugin: Option<String>,
    /// With this CloudEvents type.
    pub event_type: Option<String>,
    /// That came at this time or later.
    pub since: Option<Timestamp>,
    /// That came earlier than this.
    pub before: Option<Timestamp>,
}

/// What a job is asked to redrive, up to `limit` of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedriveRequest {
    /// Events in quarantine.
    Quarantined {
        /// Of this source.
        source: String,
        /// Which ones.
        filter: QuarantineFilter,
        /// At most so many.
        limit: usize,
    },
    /// Refused entities.
    Refused {
        /// On this channel.
        channel: String,
        /// Which ones.
        filter: RefusedFilter,
        /// At most so many.
        limit: usize,
    },
}

/// The result of settling refused entities or quarantined events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Redriven and gone from there, or dropped.
    pub settled: u64,
    /// Redriven and failed again: they stay, with the new reason.
    pub kept: u64,
}

/// How refused entities or quarantined events are settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settle {
    /// Try again.
    Redrive,
    /// Drop.
    Drop,
}

impl Settle {
    /// The name in logs.
    pub fn name(self) -> &'static str {
        match self {
            Settle::Redrive => "redrive",
            Settle::Drop => "drop",
        }
    }
}
