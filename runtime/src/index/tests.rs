//! Stories of the index alone: what the specification, in which a change is decided and written in one moment, cannot show.

use super::*;
use crate::model::{Ordinal, Track};

fn index_with_a_channel() -> Index {
    let mut index = Index::default();
    let subscription = Subscription {
        entity_type: "product".into(),
        facets: vec!["price".into()],
        shape: 1,
        shape_label: String::new(),
        target: 1,
    };
    let mut channel = Channel::new("shop", subscription.clone());
    channel.reshape(subscription, false, 0);
    index.put_channel(ChannelId(1), channel);
    index
}

fn price(index: &mut Index, hash: u64) -> u64 {
    let id = EntityId { entity_type: "product".into(), key: "4711".into() };
    let (facet, owner) = ("price".into(), "erp".into());
    let change = Proposal { id: &id, facet: &facet, owner: &owner, lane: Lane::Urgent, version: None, hash: Some(hash) };
    assert_eq!(index.apply(change, None, Timestamp(0)), Applied::Committed(1));
    index.sequence
}

fn delivered(index: &mut Index, revision: u64, watermark: u64) -> Vec<Taken> {
    let outcome = Outcome::Delivered { digest: 7, target_key: None };
    let (ends, mut again) = ([Finish { ordinal: Ordinal(1), revision: Sequence(revision), outcome }], Vec::new());
    index.finish(ChannelId(1), &ends, watermark, Timestamp(0), &mut again);
    again
}

fn walk(index: &mut Index, watermark: u64) -> Vec<Taken> {
    let mut taken = Vec::new();
    index.walk(ChannelId(1), Track::Lane(Lane::Urgent), 10, watermark, &mut taken);
    taken
}

#[test]
fn a_change_that_is_decided_but_not_written_when_its_place_is_read_is_delivered_all_the_same() {
    let mut index = index_with_a_channel();
    let written = price(&mut index, 1);
    // It waits at the place of the first one, which nobody has read.
    let decided = price(&mut index, 2);
    let taken = walk(&mut index, written);
    assert_eq!(taken.len(), 1);
    // The entity was read before the writer wrote it: all up to `written` was in it.
    let again = delivered(&mut index, written, decided);
    assert_eq!(again.len(), 1, "its only place has been read, so it must be taken again here");
    assert_eq!(delivered(&mut index, decided, decided), [], "and once it is delivered that is all");
    assert_eq!(walk(&mut index, decided), []);
}

#[test]
fn a_reading_that_had_the_change_already_is_not_repeated() {
    let mut index = index_with_a_channel();
    let written = price(&mut index, 1);
    let decided = price(&mut index, 2);
    assert_eq!(walk(&mut index, written).len(), 1);
    assert_eq!(delivered(&mut index, decided, decided), []);
}
