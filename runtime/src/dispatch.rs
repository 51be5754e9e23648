//! A channel's life: walk, read as it is now, filter, render, suppress, deliver, settle.

pub mod breaker;
pub mod retry;

use std::sync::Arc;
use std::time::Duration;

/// A channel as configured, one for each row where it has `for_each`.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Its name, for example `storefront.de`.
    pub name: Arc<str>,
    /// The entity type it consumes.
    pub entity_type: Arc<str>,
    /// Facet patterns it subscribes to, columns filled in.
    pub facets: Vec<String>,
    /// Patterns of which each must match a facet that is there; else the entity is withheld, or withdrawn.
    pub needs: Vec<String>,
    /// The name of its target in the plan.
    pub target: Arc<str>,
    /// Entities in one request.
    pub batch: usize,
    /// False: walk, filter, render and count, send nothing.
    pub deliver: bool,
    /// False: send also what the target certainly holds.
    pub suppress: bool,
    /// The objective for the age of the oldest change owed.
    pub freshness: Option<Duration>,
    /// When a failed delivery is tried again.
    pub retry: retry::Options,
    /// How much may be withdrawn.
    pub withdraw_max: WithdrawMax,
    /// The name it had before.
    pub was: Option<String>,
}

/// The guard against mass withdrawal: a bug must not empty a shop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WithdrawMax {
    /// Of what the channel holds, 0 to 1; 0.02.
    pub share: f64,
    /// Within this time; 1 h.
    pub per: Duration,
    /// So many are always let through; 100.
    pub min: u64,
}
