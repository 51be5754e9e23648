//! Coverage-guided search for bytes that Weir cannot stand: `./run` builds this with the compiler's
//! coverage counters and lets libFuzzer loose on one target after the other. What a target promises
//! stands at its function; besides, nothing may panic, overflow, take seconds or take gigabytes.
//!
//! One program for all: `WEIR_FUZZ` names the target.

#![no_main]

mod answers;
mod cloudevents;
mod configuration;
mod events;
mod rows;
mod signatures;

use std::sync::LazyLock;

/// The targets by name; `run` reads this list.
const TARGETS: [(&str, fn(&[u8])); 7] = [
    ("events", events::request),
    ("cloudevents", cloudevents::headers),
    ("signatures", signatures::proof),
    ("configuration", configuration::file),
    ("records", rows::record),
    ("rows", rows::load),
    ("answers", answers::answer),
];

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("WEIR_FUZZ").unwrap_or_default();
    let found = TARGETS.into_iter().find(|(known, _)| *known == name);
    found
        .unwrap_or_else(|| panic!("WEIR_FUZZ names one of the targets, not {name:?}"))
        .1
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| (*TARGET)(data));
