//! A cache of recently read entities: decoded once, and shared by all channels at about the same
//! position.
//!
//! Without it, eighteen channels that walk the same changes would read and decode each entity
//! eighteen times. A reading is returned only if the index shows that the record has not changed
//! since, so it is always the entity as it is now.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::index::Meta;
use crate::model::Entity;

/// Approximate size, in bytes, of a reading without its values.
const ENTITY_BYTES: usize = 200;
const FACET_BYTES: usize = 96;

/// The cache, by ordinal.
pub(super) struct Readings(Cache<u32, (Mark, Arc<Entity>), Weight>);

/// Identifies the state of a record: a hash over sequence, version and owner of each facet,
/// independent of their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark(u64);

impl Mark {
    /// The mark of a record with these facets.
    pub(super) fn of<'a>(facets: impl Iterator<Item = &'a Meta>) -> Mark {
        // Multipliers that spread bits (splitmix64); sums do not depend on the order.
        let of_one = |meta: &Meta| {
            let version = meta.version().map_or(0, |version| version.wrapping_add(1));
            let mixed = meta.sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15)
                ^ version.wrapping_mul(0xbf58_476d_1ce4_e5b9);
            (mixed ^ u64::from(meta.owner)).wrapping_mul(0x94d0_49bb_1331_11eb)
        };
        Mark(facets.map(of_one).fold(0, u64::wrapping_add))
    }
}

#[derive(Clone)]
struct Weight;

impl Weighter<u32, (Mark, Arc<Entity>)> for Weight {
    fn weight(&self, _: &u32, (_, entity): &(Mark, Arc<Entity>)) -> u64 {
        let values = entity
            .facets
            .iter()
            .map(|facet| FACET_BYTES + facet.value.as_ref().map_or(0, |value| value.len()));
        (ENTITY_BYTES + values.sum::<usize>()) as u64
    }
}

impl Readings {
    /// An empty cache for about this many bytes.
    pub(super) fn new(bytes_max: u64) -> Readings {
        Readings(Cache::with_weighter(
            (bytes_max / 1024) as usize,
            bytes_max,
            Weight,
        ))
    }

    /// The cached reading of an entity whose record has this mark, if any.
    pub(super) fn get(&self, ordinal: u32, mark: Mark) -> Option<Arc<Entity>> {
        self.0
            .get(&ordinal)
            .filter(|(of, _)| *of == mark)
            .map(|(_, entity)| entity)
    }

    /// Caches a reading of a record that had this mark.
    pub(super) fn put(&self, ordinal: u32, mark: Mark, entity: &Arc<Entity>) {
        self.0.insert(ordinal, (mark, entity.clone()));
    }

    /// Empties the cache.
    pub(super) fn clear(&self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Lane;

    #[test]
    fn any_change_of_a_record_changes_its_mark_and_the_order_of_facets_does_not() {
        let meta = |name, sequence, version, owner| {
            Meta::new(name, owner, sequence, 0, Lane::Bulk, false).with_version(version)
        };
        let mark = |metas: &[Meta]| Mark::of(metas.iter());
        let (a, b) = (meta(1, 7, None, 1), meta(2, 9, Some(3), 1));
        assert_eq!(mark(&[a, b]), mark(&[b, a]));
        for other in [
            meta(2, 10, Some(3), 1),
            meta(2, 9, Some(4), 1),
            meta(2, 9, None, 1),
            meta(2, 9, Some(3), 2),
        ] {
            assert_ne!(mark(&[a, b]), mark(&[a, other]), "{other:?}");
        }
        assert_ne!(mark(&[a, b]), mark(&[a]));
    }
}
