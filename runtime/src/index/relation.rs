//! How a change relates to what is stored of its facet: whether it is older, the same, or new.

use crate::model::Arrival;

/// What is stored of the facet that a change is about.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    /// The sequence of its last change.
    pub sequence: u64,
    /// Its version, if the owner of the change gave it.
    pub version: Option<u64>,
    /// Whether it is already as the change says: of the same value, or deleted.
    pub same: bool,
}

/// How a change relates to what is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// It is older.
    Stale,
    /// It brings nothing but perhaps a version.
    Same,
    /// It brings something new.
    New,
}

/// Compares a change with what is stored of its facet. `arrival` is that of a redriven event.
pub fn relation(
    stored: Option<Stored>,
    version: Option<u64>,
    deletes: bool,
    arrival: Option<&Arrival>,
) -> Relation {
    let Some(stored) = stored else {
        // A deletion that arrives before the value it deletes must be remembered if it has a version to
        // be recognised by.
        return match deletes && version.is_none() {
            true => Relation::Same,
            false => Relation::New,
        };
    };
    let overtaken = arrival.is_some_and(|arrival| arrival.is_overtaken(stored.sequence));
    let older = version
        .zip(stored.version)
        .is_some_and(|(new, known)| new < known);
    match stored.same {
        _ if overtaken || older => Relation::Stale,
        true => Relation::Same,
        false => Relation::New,
    }
}
