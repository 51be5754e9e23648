//! The entities of each type in the order of their keys, for lists.
//!
//! It is made when somebody lists entities, kept up to date as long as somebody does, and given up
//! when nobody has for a while: it costs about 50 bytes for each entity, and nobody lists while
//! events come in.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use super::Index;
use crate::model::EntityId;

/// Calls of [`Index::give_up_order`] after which it is given up, if nobody has listed since: ten
/// minutes, at one a second.
const IDLE_MAX: u32 = 600;

/// The order of keys, as far as it has been made.
#[derive(Debug, Default)]
pub struct Order {
    types: HashMap<Arc<str>, BTreeMap<Arc<str>, u32>>,
    /// All entities with lower ordinals are in it; of the others, those that came since it was begun.
    made_to: u32,
    idle: u32,
}

impl Order {
    /// Adds an entity.
    pub(super) fn add(&mut self, id: &EntityId, ordinal: u32) {
        let keys = match self.types.get_mut(&id.entity_type) {
            Some(keys) => keys,
            None => self.types.entry(id.entity_type.clone()).or_default(),
        };
        keys.insert(id.key.clone(), ordinal);
    }

    /// Removes an entity.
    pub(super) fn remove(&mut self, id: &EntityId) {
        if let Some(keys) = self.types.get_mut(&id.entity_type) {
            keys.remove(&id.key);
        }
    }
}

impl Index {
    /// Makes the order of the next `most` entities. Returns whether it is complete; call it until it
    /// is, and let others have the index in between.
    pub fn make_order(&mut self, most: usize) -> bool {
        let mut order = self.order.take().unwrap_or_default();
        order.idle = 0;
        let mut made = 0;
        for (ordinal, entry) in self.entries_from(order.made_to).take(most) {
            order.add(&entry.id, ordinal);
            (order.made_to, made) = (ordinal + 1, made + 1);
        }
        self.order = Some(order);
        made < most
    }

    /// The entities of a type whose keys begin with `prefix` and are above `after`, by their keys.
    /// None if the order has not been made.
    pub fn in_order<'a>(
        &'a self,
        entity_type: &str,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a Arc<str>, u32)> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let order = self.order.as_ref();
        let keys = order.and_then(|order| order.types.get(entity_type));
        keys.into_iter()
            .flat_map(move |keys| keys.range::<str, _>((from, Bound::Unbounded)))
            .map(|(key, ordinal)| (key, *ordinal))
            .take_while(move |(key, _)| key.starts_with(prefix))
    }

    /// Returns the order, to be dropped, if nobody has listed entities since the last [`IDLE_MAX`]
    /// calls. Dropping it takes a while, so the caller does it where nobody waits.
    pub fn give_up_order(&mut self) -> Option<Order> {
        let order = self.order.as_mut()?;
        order.idle += 1;
        self.order.take_if(|order| order.idle > IDLE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Proposal;
    use crate::model::{Lane, Timestamp};

    fn put(index: &mut Index, entity_type: &str, key: &str) {
        let id = EntityId {
            entity_type: entity_type.into(),
            key: key.into(),
        };
        let proposal = Proposal {
            id: &id,
            facet: &"price".into(),
            owner: &"erp".into(),
            lane: Lane::Normal,
            version: None,
            hash: Some(1),
        };
        index.apply(proposal, None, Timestamp(0));
    }

    #[test]
    fn entities_that_come_while_the_order_is_made_or_afterwards_are_in_it_once() {
        let mut index = Index::default();
        for key in ["d", "b", "bb", "a"] {
            put(&mut index, "product", key);
        }
        assert!(!index.make_order(2));
        put(&mut index, "product", "c");
        put(&mut index, "order", "b");
        while !index.make_order(2) {}
        put(&mut index, "product", "ab");
        let keys = |index: &Index, prefix: &str, after: Option<&str>| {
            let found = index.in_order("product", prefix, after);
            found.map(|(key, _)| key.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(keys(&index, "", None), ["a", "ab", "b", "bb", "c", "d"]);
        assert_eq!(keys(&index, "b", None), ["b", "bb"]);
        assert_eq!(keys(&index, "b", Some("b")), ["bb"]);
        assert_eq!(keys(&index, "b", Some("a")), ["b", "bb"]);
        assert_eq!(keys(&index, "a", Some("b")), [""; 0]);
        assert_eq!(keys(&index, "", Some("bb")), ["c", "d"]);
        for (key, ordinal) in index.in_order("product", "", None) {
            let entry = index.entry(ordinal).expect("an entity");
            assert_eq!(entry.id.key, *key);
        }
        for _ in 0..IDLE_MAX {
            assert!(index.give_up_order().is_none());
        }
        assert!(index.give_up_order().is_some(), "nobody listed for long");
        assert_eq!(keys(&index, "", None), [""; 0]);
    }
}
