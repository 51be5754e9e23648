//! What trying an event out says of a change is what the store then does, in random histories on each store.

use std::sync::Arc;

use weir::inside::index::value_hash;
use weir::inside::model::{EntityId, Lane};
use weir::inside::store::memory::Memory;
use weir::inside::store::{Commit, Effect, FacetChange, Foreseen, Foresight, Store, Verdict};

use crate::world::{commit_all, embedded_in, folder};

/// A change of few entities, facets, owners, values and versions, so that they meet.
fn change(random: &mut fastrand::Rng) -> FacetChange {
    let facets = ["content", "price.a", "price.b", "price.*"];
    let facet = facets[random.usize(..facets.len())];
    let value = ["1", "1.0", "{\"a\":2}"][random.usize(..3)];
    let value = (facet != "price.*" && random.u8(..4) > 0).then_some(value);
    FacetChange {
        id: EntityId {
            entity_type: "product".into(),
            key: ["lamp", "desk"][random.usize(..2)].into(),
        },
        facet: facet.into(),
        owner: ["erp", "erp", "pim"][random.usize(..3)].into(),
        lane: Lane::Normal,
        version: random.bool().then(|| random.u64(..4)),
        value: value.map(Arc::from),
        hash: value.map_or(0, value_hash),
    }
}

fn check(store: &dyn Store, random: &mut fastrand::Rng) {
    for _ in 0..300 {
        // Later changes of an event meet what earlier ones would have made.
        let changes: Vec<FacetChange> = (0..random.usize(1..4)).map(|_| change(random)).collect();
        let mut foresight = Foresight::new(store);
        let foreseen: Vec<Foreseen> = changes
            .iter()
            .map(|change| foresight.of(change).expect("it can be read"))
            .collect();
        for (change, foreseen) in changes.into_iter().zip(foreseen) {
            let what = format!("{change:?}");
            let commit = Commit {
                source: "erp".into(),
                identity: None,
                arrival: None,
                effect: Effect::Changes(vec![change]),
            };
            let done = match commit_all(store, vec![commit]).verdicts[..] {
                [Verdict::Accepted { committed: 1.., .. }] => Foreseen::Committed,
                [Verdict::Accepted { stale: 1.., .. }] => Foreseen::Stale,
                [Verdict::Accepted { .. }] => Foreseen::Unchanged,
                ref other => panic!("{other:?}"),
            };
            assert_eq!(foreseen, done, "{what}");
        }
    }
}

#[test]
fn what_is_foreseen_is_what_happens() {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..10 {
        check(&Memory::default(), &mut random);
    }
    let folder = folder();
    check(&embedded_in(folder.path()), &mut random);
}
