//! The view of a feed: the generation that is served, and the next one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;

/// A feed: the generation that is served, and the next one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct FeedView {
    /// The generation that is served; absent before the first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<GenerationView>,
    /// Changes that were delivered to the feed and are in no generation yet, at most.
    pub unpublished: u64,
    /// When the next generation is built; absent if there is nothing to publish, or if something has to
    /// happen first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<Time>,
    /// Why the next generation is not built or not published, or why the file at its path is old.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The generation that is held until it is confirmed, because it has far fewer records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldGenerationView>,
    /// The objects that generations are put to as well; absent without `to`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket: Option<FeedBucketView>,
    /// Characters that were dropped since the start, because the format cannot hold them.
    pub dropped_characters: u64,
}

/// The objects that the generations of a feed are put to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct FeedBucketView {
    /// The number of the generation that is there; absent if it is not known yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// When it was put there or, after a start, found there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Time>,
    /// Why the last generation is not there; absent if nothing is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A generation of a feed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct GenerationView {
    /// Counts the generations whose contents differ.
    pub number: u64,
    /// Its records.
    pub records: u64,
    /// The length of its file.
    pub bytes: u64,
    /// The length of the packed file.
    pub gzip_bytes: u64,
    /// The digest of its file, which is its entity tag.
    pub digest: String,
    /// The newest sequence in it.
    pub sequence: u64,
    /// When it was built.
    pub built: Time,
    /// When the content last changed.
    pub modified: Time,
}

/// A generation that is held because it has shrunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HeldGenerationView {
    /// Its records.
    pub records: u64,
    /// The most records of a generation since an operator confirmed one.
    pub before: u64,
}
