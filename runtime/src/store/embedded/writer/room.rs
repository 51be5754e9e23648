//! Whether the store has room for an event. The time is linear in the changes of the event: the
//! writer is held meanwhile, and with it every other source.

use std::sync::Arc;

use hashbrown::HashSet;

use crate::index::{Entry, Index};
use crate::model::FACETS_MAX;
use crate::store::{FacetChange, NoRoom};

/// Checks that there is room for all changes of one event. `entities_max` has the most entities of
/// each type.
///
/// # Errors
/// The first limit that the event would exceed.
pub(super) fn check(
    index: &Index,
    entities_max: &[(Arc<str>, u64)],
    changes: &[FacetChange],
) -> Result<(), NoRoom> {
    if !index.names.has_room_for(changes.len() * 3) {
        return Err(NoRoom::Facets);
    }
    let mut new = Vec::new();
    // The deletion of a family adds nothing.
    let mut adding: Vec<&FacetChange> = changes
        .iter()
        .filter(|change| change.deleted_family().is_none())
        .collect();
    if adding.windows(2).all(|pair| pair[0].id == pair[1].id) {
        check_entity(index, &adding, &mut new)?;
    } else {
        adding.sort_by(|a, b| a.id.cmp(&b.id));
        for of_entity in adding.chunk_by(|a, b| a.id == b.id) {
            check_entity(index, of_entity, &mut new)?;
        }
    }
    for of_type in new.chunk_by(|a, b| a == b) {
        let most = entities_max.iter().find(|(name, _)| name == of_type[0]);
        if most.is_some_and(|(name, most)| index.count(name) + of_type.len() as u64 > *most) {
            return Err(NoRoom::Entities);
        }
    }
    Ok(())
}

/// Checks the facets of one entity. Adds its type to `new` if there is no such entity yet.
fn check_entity<'a>(
    index: &Index,
    changes: &[&'a FacetChange],
    new: &mut Vec<&'a Arc<str>>,
) -> Result<(), NoRoom> {
    let Some(first) = changes.first() else {
        return Ok(());
    };
    let entry = index
        .find(&first.id)
        .and_then(|ordinal| index.entry(ordinal));
    if entry.is_none() {
        new.push(&first.id.entity_type);
    }
    let there = entry.map_or(0, |entry| entry.facets.len());
    if there + changes.len() <= FACETS_MAX {
        return Ok(());
    }
    let added: HashSet<&str> = changes
        .iter()
        .map(|change| &*change.facet)
        .filter(|facet| !entry.is_some_and(|entry| has(index, entry, facet)))
        .collect();
    if there + added.len() > FACETS_MAX {
        return Err(NoRoom::Facets);
    }
    Ok(())
}

fn has(index: &Index, entry: &Entry, facet: &str) -> bool {
    let number = index.names.find(facet);
    number.is_some_and(|number| {
        entry
            .facets
            .iter()
            .any(|meta| u32::from(meta.name) == number)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Proposal;
    use crate::model::{EntityId, Lane, Timestamp};

    fn change(key: &str, facet: &str) -> FacetChange {
        FacetChange {
            id: EntityId {
                entity_type: "product".into(),
                key: key.into(),
            },
            facet: facet.into(),
            owner: "erp".into(),
            lane: Lane::Normal,
            version: None,
            value: Some("1".into()),
            hash: 1,
        }
    }

    fn index_with(changes: &[FacetChange]) -> Index {
        let mut index = Index::default();
        for change in changes {
            let proposal = Proposal {
                id: &change.id,
                facet: &change.facet,
                owner: &change.owner,
                lane: change.lane,
                version: None,
                hash: Some(change.hash),
            };
            index.apply(proposal, None, Timestamp(0));
        }
        index
    }

    fn facets(key: &str, numbers: std::ops::Range<usize>) -> Vec<FacetChange> {
        numbers
            .map(|n| change(key, &format!("price.{n}")))
            .collect()
    }

    #[test]
    fn an_entity_takes_facets_up_to_the_limit_whatever_else_the_event_changes() {
        let index = index_with(&facets("full", 0..FACETS_MAX));
        let checked = |changes: &[FacetChange]| check(&index, &[], changes);
        let again = vec![facets("full", 0..FACETS_MAX); 8].concat();
        assert_eq!(checked(&again), Ok(()), "it has all of these");
        assert_eq!(
            checked(&facets("full", 511..513)),
            Err(NoRoom::Facets),
            "one is new"
        );
        assert_eq!(checked(&facets("new", 0..FACETS_MAX)), Ok(()));
        assert_eq!(
            checked(&facets("new", 0..FACETS_MAX + 1)),
            Err(NoRoom::Facets)
        );
        let mixed: Vec<_> = (0..FACETS_MAX)
            .flat_map(|n| [change("a", &format!("price.{n}")), change("b", "content")])
            .collect();
        assert_eq!(checked(&mixed), Ok(()));
        let over = [mixed, vec![change("a", "content")]].concat();
        assert_eq!(checked(&over), Err(NoRoom::Facets));
    }

    #[test]
    fn new_entities_count_once_each() {
        let index = index_with(&[change("known", "content")]);
        let checked = |most: u64, changes: &[FacetChange]| {
            check(&index, &[("product".into(), most)], changes)
        };
        let changes = [
            change("a", "content"),
            change("b", "content"),
            change("a", "stock"),
            change("known", "stock"),
        ];
        assert_eq!(checked(3, &changes), Ok(()));
        assert_eq!(checked(2, &changes), Err(NoRoom::Entities));
        assert_eq!(checked(1, &changes[3..]), Ok(()));
    }

    /// One request with 7 MB of changes of one entity held the writer for 16 to 31 seconds, because
    /// each of its changes was compared with all others.
    #[test]
    fn the_time_grows_with_the_changes_and_not_with_their_square() {
        let index = index_with(&facets("lamp", 0..300));
        let event = vec![facets("lamp", 200..500); 14].concat();
        let begun = std::time::Instant::now();
        for _ in 0..20 {
            assert_eq!(check(&index, &[], &event[..4_096]), Ok(()));
        }
        // It takes 0.1 s without optimisation; it took 100 s.
        assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
    }
}
