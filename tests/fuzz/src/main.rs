//! Coverage-guided search for input that Weir cannot handle. `./run` builds this with the
//! compiler's coverage counters and lets libFuzzer run one target after the other. The promise of a
//! target is at its function; in addition, no input may cause a panic, an overflow, or take seconds
//! or gigabytes.
//!
//! There is one program for all targets; `WEIR_FUZZ` names the target.

#![no_main]

mod answers;
mod cloudevents;
mod configuration;
mod events;
mod rows;
mod signatures;

use std::sync::LazyLock;

/// The targets by name; `run` reads this list.
const TARGETS: [(&str, fn(&[u8])); 10] = [
    ("events", events::request),
    ("cloudevents", cloudevents::headers),
    ("signatures", signatures::proof),
    ("configuration", configuration::file),
    ("records", rows::record),
    ("rows", rows::load),
    ("answers", answers::answer),
    ("rules", answers::rules),
    ("hints", answers::hints),
    ("engines", answers::engine),
];

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("WEIR_FUZZ").unwrap_or_default();
    let found = TARGETS.into_iter().find(|(known, _)| *known == name);
    found
        .unwrap_or_else(|| panic!("WEIR_FUZZ must name one of the targets, not {name:?}"))
        .1
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| (*TARGET)(data));
