//! What a commit would do, without doing it: for people who try an event out.
//!
//! Changes are compared with the entities as they are now, and with what earlier changes would have made
//! of them. No sequence is used, and no identity is looked up or remembered. Limits of the store (entities of
//! a type, facets of an entity) are not looked at.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Error, FacetChange, Store};
use crate::index::{Relation, Stored, relation, value_hash};
use crate::model::{EntityId, Facet, Sequence, Timestamp};

/// What would become of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreseen {
    /// It would get a sequence.
    Committed,
    /// It equals the stored value.
    Unchanged,
    /// It is older than the stored version.
    Stale,
}

impl Foreseen {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Foreseen::Committed => "committed",
            Foreseen::Unchanged => "unchanged",
            Foreseen::Stale => "stale",
        }
    }
}

/// The entities as they would be.
pub struct Foresight<'a> {
    store: &'a dyn Store,
    entities: BTreeMap<EntityId, Vec<Facet>>,
}

impl<'a> Foresight<'a> {
    /// Looks at what this store has.
    pub fn new(store: &'a dyn Store) -> Foresight<'a> {
        Foresight {
            store,
            entities: BTreeMap::new(),
        }
    }

    /// What would become of a change after those before. Of the facets of a family that a change deletes, the
    /// result is that of any that would be committed. Reads the local disk.
    ///
    /// # Errors
    /// `Damaged` if its entity cannot be read.
    pub fn of(&mut self, change: &FacetChange) -> Result<Foreseen, Error> {
        if !self.entities.contains_key(&change.id) {
            let facets = self.facets(&change.id)?;
            self.entities.insert(change.id.clone(), facets);
        }
        let facets = self.entities.entry(change.id.clone()).or_default();
        let Some(prefix) = change.deleted_family() else {
            return Ok(apply(facets, change));
        };
        let written = |facet: &&Facet| {
            let of_family = facet.name.len() > prefix.len() && facet.name.starts_with(prefix);
            of_family && facet.value.is_some() && facet.owner == change.owner
        };
        let members: Vec<Arc<str>> = facets
            .iter()
            .filter(written)
            .map(|facet| facet.name.clone())
            .collect();
        let results: Vec<Foreseen> = members
            .into_iter()
            .map(|member| apply(facets, &change.of_member(member)))
            .collect();
        let any = |result: Foreseen| results.contains(&result).then_some(result);
        let result = any(Foreseen::Committed).or(any(Foreseen::Stale));
        Ok(result.unwrap_or(Foreseen::Unchanged))
    }

    fn facets(&self, id: &EntityId) -> Result<Vec<Facet>, Error> {
        let Some(ordinal) = self.store.find(id) else {
            return Ok(Vec::new());
        };
        let entity = self.store.read(&[ordinal])?.pop().flatten();
        // Its ordinal may have gone to another one meanwhile.
        let entity = entity.filter(|entity| entity.id == *id);
        Ok(entity.map_or_else(Vec::new, |entity| entity.facets.clone()))
    }
}

fn apply(facets: &mut Vec<Facet>, change: &FacetChange) -> Foreseen {
    let at = facets.iter().position(|facet| facet.name == change.facet);
    let known = at.map(|at| &facets[at]);
    let known_version = known
        .filter(|facet| facet.owner == change.owner)
        .and_then(|facet| facet.version);
    let stored = known.map(|facet| Stored {
        sequence: facet.sequence.0,
        version: known_version,
        same: match (&facet.value, &change.value) {
            (Some(value), Some(_)) => value_hash(value) == change.hash,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        },
    });
    match relation(stored, change.version, change.value.is_none(), None) {
        Relation::Stale => return Foreseen::Stale,
        Relation::Same if stored.is_none() || change.version.is_none() => {
            return Foreseen::Unchanged;
        }
        Relation::Same | Relation::New => {}
    }
    let same = stored.is_some_and(|stored| stored.same);
    let facet = Facet {
        name: change.facet.clone(),
        owner: change.owner.clone(),
        version: change.version.or(known_version),
        sequence: known.map_or(Sequence(u64::MAX), |facet| facet.sequence),
        time: known.map_or(Timestamp(0), |facet| facet.time),
        value: change.value.clone(),
    };
    match at {
        Some(at) => facets[at] = facet,
        None => facets.push(facet),
    }
    match same {
        true => Foreseen::Unchanged,
        false => Foreseen::Committed,
    }
}
