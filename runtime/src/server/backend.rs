//! What the routes need from the rest of Weir, as one trait: the application implements it, the
//! tests of this room fake it.
//!
//! Plain data goes in and comes out; the routes know no store, no channel and no plugin. What can
//! wait (a commit, a plugin, a disk) answers with an [`Answer`]; what is only looked up answers at
//! once.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;

use super::problem::Problem;
use super::views::{
    Accepted, ChannelView, ConfigView, EntityRow, EntityView, List, PluginView, PreviewView,
    QuarantineView, RefusedView, ReloadView, SourceView,
};
use crate::metrics::Snapshot;
use crate::model::{EntityId, Lane, Timestamp};
use crate::plan::Token;

/// An answer that may take a while.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Problem>> + Send + 'a>>;

/// A running Weir as its routes see it. Names that are not known are answered with
/// [`Problem::unknown`].
pub trait Backend: Send + Sync + 'static {
    /// The tokens in force.
    fn tokens(&self) -> Arc<[Token]>;

    /// The longest body a source takes, in bytes; none if there is no such source.
    fn body_bytes_max(&self, source: &str) -> Option<u64>;
    /// Takes in what a source sent; answers when it is durable. If the answer is dropped, the
    /// sender has gone and was told nothing.
    fn ingest<'a>(&'a self, source: &'a str, request: IngestRequest) -> Answer<'a, Accepted>;
    /// Counts a request of a source that was answered with that status, also one that never came to
    /// [`Backend::ingest`] because its body was too long, too slow or broken off, or its query was
    /// wrong.
    fn answered(&self, source: &str, status: StatusCode);
    /// All sources.
    fn sources(&self) -> Vec<SourceView>;
    /// One source.
    fn source(&self, name: &str) -> Result<SourceView, Problem>;

    /// An entity with its facets and where it stands.
    fn entity<'a>(&'a self, id: &'a EntityId) -> Answer<'a, EntityView>;
    /// Entities in the order of their keys.
    fn entities<'a>(
        &'a self,
        query: &'a EntityQuery,
        page: &'a Page,
    ) -> Answer<'a, List<EntityRow>>;

    /// All channels, retired ones included.
    fn channels(&self) -> Vec<ChannelView>;
    /// One channel.
    fn channel(&self, name: &str) -> Result<ChannelView, Problem>;
    /// What the channel would make of the entity with that key now.
    fn preview<'a>(&'a self, channel: &'a str, key: &'a str) -> Answer<'a, PreviewView>;
    /// Does something to a channel; doing it twice is doing it once.
    fn operate<'a>(&'a self, channel: &'a str, operation: Operation) -> Answer<'a, ()>;

    /// Entities refused on a channel.
    fn refused<'a>(
        &'a self,
        channel: &'a str,
        filter: &'a RefusedFilter,
        page: &'a Page,
    ) -> Answer<'a, List<RefusedView>>;
    /// Tries refused entities again, or drops them; answers how many.
    fn settle_refused<'a>(
        &'a self,
        channel: &'a str,
        filter: &'a RefusedFilter,
        settle: Settle,
    ) -> Answer<'a, u64>;
    /// Events of a source in quarantine, oldest first.
    fn quarantine<'a>(
        &'a self,
        source: &'a str,
        filter: &'a QuarantineFilter,
        page: &'a Page,
    ) -> Answer<'a, List<QuarantineView>>;
    /// Gives events in quarantine to their source's plugins again, or drops them.
    fn settle_quarantine<'a>(
        &'a self,
        source: &'a str,
        filter: &'a QuarantineFilter,
        settle: Settle,
    ) -> Answer<'a, Settled>;

    /// Plugins in force.
    fn plugins(&self) -> Vec<PluginView>;
    /// The configuration in force, without secrets.
    fn config(&self) -> ConfigView;
    /// Reads the configuration again and makes it true, or leaves the old one in force and says
    /// why.
    fn reload(&self) -> Answer<'_, ReloadView>;

    /// Whether events can be taken in.
    ///
    /// # Errors
    /// What stands in the way, a sentence each.
    fn ready(&self) -> Result<(), Vec<String>>;
    /// All figures at this moment.
    fn snapshot(&self) -> Snapshot;
}

/// What a source sent, complete and within its limit.
#[derive(Clone, Debug)]
pub struct IngestRequest {
    /// As sent.
    pub headers: HeaderMap,
    /// The raw bytes; verification looks at these.
    pub body: Bytes,
    /// `?lane=`: the lane for all changes of this request that name none themselves.
    pub lane: Option<Lane>,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// At most so many items, 1 to 1000.
    pub limit: usize,
    /// The `next` of the page before.
    pub after: Option<String>,
}

/// Which entities to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityQuery {
    /// Of this type.
    pub entity_type: String,
    /// With keys that start so; may be empty.
    pub prefix: String,
    /// Only those that this channel still owes.
    pub owed: Option<String>,
}

/// What can be done to a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Deliver nothing until resumed; also after a restart.
    Pause,
    /// Deliver again.
    Resume,
    /// Send everything, deletions included: what the target holds is not certain any more.
    Resync,
    /// Render everything and send what differs.
    Rerender,
    /// Release withdrawals that the guard holds.
    Confirm,
    /// Forget a retired channel and all it delivered; a live one answers 409.
    Forget,
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

/// What became of things that were set aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Tried again and no longer set aside, or dropped.
    pub settled: u64,
    /// Tried again and failed again: they stay, with the new reason.
    pub kept: u64,
}

/// What to do with what was set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settle {
    /// Try again.
    Redrive,
    /// Drop.
    Drop,
}
