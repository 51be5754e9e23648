//! Tests with random histories of crashes, lost responses, filters, deletions, changed
//! subscriptions, lost targets, and channels that leave and return.
//!
//! Every history must end with every target correct (the promises of `store.rs`), and the embedded
//! store must behave like the specification at every step. Each rule of the specification must be
//! needed: without it, some history must end wrong.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use weir::inside::store::memory::{Memory, Rule};

use crate::world::{End, Step, Subject, World, embedded_for_histories, folder};

/// Histories in a run of all tests.
const CASES: u32 = 10_000;
/// Maximum number of histories until the lack of a rule must have been detected.
const CASES_WITHOUT: u32 = 20_000;

fn end() -> impl Strategy<Value = End> {
    prop_oneof![5 => Just(End::Delivered), 2 => Just(End::Failed), 2 => Just(End::Uncertain), 1 => Just(End::Refused)]
}

fn step() -> impl Strategy<Value = Step> {
    let channel = || 0u8..4;
    prop_oneof![
        35 => (0u8..5, 0u8..3, 0u8..3, 0u8..4, prop::option::weighted(0.2, 0u8..4))
            .prop_map(|(entity, facet, lane, value, version)| Step::Commit { entity, facet, lane, value, version }),
        33 => (channel(), 0u8..4).prop_map(|(channel, track)| Step::Walk { channel, track }),
        18 => (channel(), 0u8..8, end()).prop_map(|(channel, flight, end)| Step::Finish { channel, flight, end }),
        3 => (channel(), 0u8..8).prop_map(|(channel, parked)| Step::Retry { channel, parked }),
        4 => Just(Step::Save),
        4 => prop_oneof![Just(300), Just(1_500)].prop_map(|ms| Step::Wait { ms }),
        2 => any::<u8>().prop_map(|applied| Step::Crash { applied }),
        1 => (1u8..8, 0u8..6).prop_map(|(facets, filter)| Step::Join { facets, filter }),
        1 => (channel(), 1u8..8, 0u8..6).prop_map(|(channel, facets, filter)| Step::Reshape { channel, facets, filter }),
        1 => channel().prop_map(|channel| Step::LoseTarget { channel }),
        2 => (channel(), 0u8..5).prop_map(|(channel, entity)| Step::Resend { channel, entity }),
        1 => channel().prop_map(|channel| Step::Retire { channel }),
        1 => (channel(), 1u8..8, 0u8..6).prop_map(|(channel, facets, filter)| Step::Return { channel, facets, filter }),
    ]
}

/// One channel that is reshaped, sweeps and crashes often, so that combinations that are rare
/// elsewhere are common here.
fn restless_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0u8..3, 0u8..2, 0u8..4)
            .prop_map(|(entity, facet, value)| Step::Commit { entity, facet, lane: facet, value, version: None }),
        8 => Just(Step::Walk { channel: 0, track: 0 }),
        8 => Just(Step::Walk { channel: 0, track: 1 }),
        25 => Just(Step::Walk { channel: 0, track: 3 }),
        25 => (0u8..8, end()).prop_map(|(flight, end)| Step::Finish { channel: 0, flight, end }),
        4 => (0u8..8).prop_map(|parked| Step::Retry { channel: 0, parked }),
        2 => (0u8..3).prop_map(|entity| Step::Resend { channel: 0, entity }),
        3 => Just(Step::Save),
        3 => prop_oneof![Just(300), Just(1_500)].prop_map(|ms| Step::Wait { ms }),
        8 => any::<u8>().prop_map(|applied| Step::Crash { applied }),
        8 => (1u8..4, 0u8..6).prop_map(|(facets, filter)| Step::Reshape { channel: 0, facets, filter }),
    ]
}

fn restless_history() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(restless_step(), 10..120).prop_map(|steps| {
        [
            vec![Step::Join {
                facets: 3,
                filter: 0,
            }],
            steps,
        ]
        .concat()
    })
}

fn history() -> impl Strategy<Value = Vec<Step>> {
    let join = (1u8..8, 0u8..6).prop_map(|(facets, filter)| Step::Join { facets, filter });
    (
        prop::collection::vec(join, 1..3),
        prop::collection::vec(step(), 10..160),
    )
        .prop_map(|(mut history, steps)| {
            history.extend(steps);
            history
        })
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..Config::default()
    })
}

fn ends_right(history: &[Step], without: Option<Rule>) -> Result<(), String> {
    let mut world = World::new(Subject::Memory(Box::new(Memory::without(without))));
    history.iter().for_each(|step| drop(world.play(*step)));
    world.come_to_rest()
}

#[test]
fn the_embedded_store_does_what_the_specification_does_and_every_target_converges() {
    let folder = folder();
    let embedded = Arc::new(embedded_for_histories(folder.path()));
    let played = runner(CASES).run(
        &prop_oneof![4 => history(), 1 => restless_history()],
        |history| {
            embedded.erase().expect("it can be erased");
            let mut real = World::new(Subject::Embedded(embedded.clone()));
            let mut specified = World::new(Subject::Memory(Box::default()));
            for (number, step) in history.iter().enumerate() {
                prop_assert_eq!(
                    real.play(*step),
                    specified.play(*step),
                    "after step {}: {:?}",
                    number,
                    step
                );
            }
            prop_assert_eq!(real.standings(), specified.standings());
            prop_assert_eq!(specified.come_to_rest(), Ok(()));
            prop_assert_eq!(real.come_to_rest(), Ok(()));
            prop_assert_eq!(real.standings(), specified.standings());
            Ok(())
        },
    );
    played.unwrap_or_else(|failure| panic!("{failure}"));
}

/// Plays histories without a rule until one ends wrong; returns the number of histories that it
/// took.
fn missed_after(rule: Rule) -> Option<u32> {
    let mut runner = TestRunner::deterministic();
    let strategy = prop_oneof![history(), restless_history()];
    (1..=CASES_WITHOUT).find(|_| {
        let history = strategy
            .new_tree(&mut runner)
            .expect("histories can be made")
            .current();
        // Without a rule the store may also panic over an entity that it has forgotten; this counts
        // as a wrong end too.
        let played = std::panic::catch_unwind(|| ends_right(&history, Some(rule)));
        !matches!(played, Ok(Ok(())))
    })
}

#[test]
fn each_rule_of_the_specification_is_needed() {
    for (rule, after) in Rule::ALL.into_iter().map(|rule| (rule, missed_after(rule))) {
        println!("without {rule:?}: wrong after {after:?} histories");
        assert!(
            after.is_some(),
            "{CASES_WITHOUT} histories end right without {rule:?}"
        );
    }
}
