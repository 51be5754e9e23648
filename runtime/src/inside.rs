//! The items that this repository's tests and benchmarks use: `tests/promises`, `tests/journeys`,
//! `tests/fuzz` and `tests/bench` are crates of their own. Named after the rooms, one list each.

/// Starting Weir in the same process (bench).
pub mod app {
    pub use crate::app::{App, Options};
}

/// Building and running plugins (promises, journeys, bench).
pub mod author {
    /// Cases.
    pub mod cases {
        pub use crate::author::cases::{Case, Item, Output, embed, read};
    }
    /// The test harness.
    pub mod harness {
        pub use crate::author::harness::{Harness, Input, Report};
    }
    /// Building components.
    pub mod toolchain {
        pub use crate::author::toolchain::{Error, build};
    }
}

/// The HTTP client and the output of commands (bench).
pub mod cli {
    pub use crate::cli::client::{Client, path, pretty};
    pub use crate::cli::table::table;
    pub use crate::cli::{CommandResult, Failure, end};
}

/// The places where a test can interrupt Weir (journeys).
pub mod failpoint {
    pub use crate::failpoint::{POINTS, POINTS_OF_FEEDS};
}

/// The hash by which the index compares values (promises).
pub mod index {
    pub use crate::index::value_hash;
}

/// The memory budget for requests in progress (fuzz).
pub mod budget {
    pub use crate::budget::Budget;
}

/// Accepting events (fuzz).
pub mod ingest {
    pub use crate::ingest::{Activity, Headers, Incoming, Options, Rejection, Source};
    /// Requests.
    pub mod http {
        pub use crate::ingest::http::*;
    }
    /// Reading CloudEvents.
    pub mod envelope {
        pub use crate::ingest::envelope::{ATTRIBUTES_MAX, open};
    }
    /// Encodings.
    pub mod charset {
        pub use crate::ingest::charset::Charset;
    }
    /// Forms.
    pub mod form {
        pub use crate::ingest::form::Form;
    }
    /// The ids and types of events.
    pub mod naming {
        pub use crate::ingest::naming::Naming;
    }
    /// Splitting bodies.
    pub mod split {
        pub use crate::ingest::split::{Dialect, Split};
    }
    /// Verifying senders.
    pub mod verify {
        pub use crate::ingest::verify::{Options, Place, presets, verify};
    }
}

/// The values (all).
pub mod model {
    pub use crate::model::{
        Arrival, Change, Entity, EntityId, EntityType, Event, FACETS_MAX, Facet, FacetRule,
        Failure, Lane, Ordinal, Payload, Redrive, Rendering, Sequence, Timestamp, Trace, Track,
        View,
    };
}

/// Reading configuration (fuzz).
pub mod plan {
    pub use crate::plan::{ReadOptions, difference, read, redacted, render};
}

/// Running plugins (promises, bench).
pub mod plugin {
    pub use crate::plugin::{
        Binary, Binding, EventVerdict, Fault, Host, Limits, Options, Priority, Role, SourceChain,
    };
}

/// The format of responses (bench).
pub mod server {
    pub use crate::server::Limits;
    /// Responses.
    pub mod views {
        pub use crate::server::views::{
            Accepted, ChannelView, DriftView, JobView, List, PluginView, SwapView,
        };
    }
}

/// Signing requests (journeys, fuzz).
pub mod signature {
    pub use crate::signature::{Secret, SigningKey, VerifyingKey, sign};
}

/// The stores (promises, bench, fuzz).
pub mod store {
    pub use crate::store::{
        Commit, Committed, Content, Debounce, Effect, Ending, Error, FacetChange, Foreseen,
        Foresight, Holds, Identity, Joined, Lease, Limits, ListQuery, NoRoom, Owed, Pending,
        Quarantined, Queue, Receipt, Remembered, SEQUENCE_BLOCK, Settlement, Standing, State,
        Store, Subscription, Verdict, Walked, digest, remove_unfinished_backups,
    };
    /// The embedded store. Its methods `crash`, `erase` and `commits` exist for tests only.
    pub mod embedded {
        #[cfg(feature = "fuzz")]
        pub use crate::store::embedded::fuzz;
        pub use crate::store::embedded::{Embedded, Options, rescue, restore};
    }
    /// The specification.
    pub mod memory {
        pub use crate::store::memory::{Memory, Rule, SWEEP_AHEAD};
    }
}

/// Understanding responses of targets (fuzz), and feeds without a channel (bench).
pub mod targets {
    #[cfg(feature = "fuzz")]
    pub use crate::targets::fuzz;
    pub use crate::targets::{
        Attempt, Delivery, DeliveryId, Form, Item, Opening, Outcome, Target, Unusable,
    };
    /// Feeds.
    pub mod feed {
        pub use crate::targets::feed::*;
    }
}
