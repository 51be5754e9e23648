//! The components that were refused last, so that an unchanged file is refused at once.
//!
//! To compile a component may take minutes of processor time, and each reload reads all files again. A
//! refusal is remembered only if the same bytes would be refused again: a compiler that could not be
//! started says nothing about them. The memory is bounded, and ends with the process.

use std::collections::VecDeque;
use std::sync::Mutex;

use crate::plugin::words::Limits;
use crate::sync;

/// The most refusals that are remembered; the oldest ones are forgotten first.
const REMEMBERED_MAX: usize = 64;

/// Why a component cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// A sentence.
    pub(super) why: String,
    /// Whether the same bytes will be refused again.
    lasts: bool,
}

impl Refusal {
    /// A refusal because of the state of the machine.
    pub(super) fn for_now(why: String) -> Refusal {
        Refusal { why, lasts: false }
    }
}

/// A refusal because of the bytes.
impl From<String> for Refusal {
    fn from(why: String) -> Refusal {
        Refusal { why, lasts: true }
    }
}

/// The refusals of a host.
#[derive(Default)]
pub(super) struct Refusals(Mutex<VecDeque<(String, Limits, String)>>);

impl Refusals {
    /// Why these bytes were refused with these limits, if they were.
    pub(super) fn find(&self, sha256: &str, limits: Limits) -> Option<String> {
        let refusals = sync::lock(&self.0);
        let found = refusals
            .iter()
            .find(|(refused, with, _)| refused == sha256 && *with == limits);
        found.map(|(_, _, why)| why.clone())
    }

    /// Remembers a refusal, if it lasts.
    pub(super) fn note(&self, sha256: &str, limits: Limits, refusal: &Refusal) {
        if !refusal.lasts || self.find(sha256, limits).is_some() {
            return;
        }
        let mut refusals = sync::lock(&self.0);
        if refusals.len() == REMEMBERED_MAX {
            refusals.pop_front();
        }
        refusals.push_back((sha256.to_owned(), limits, refusal.why.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::tests::limits;

    #[test]
    fn lasting_refusals_are_remembered_with_their_limits_and_the_oldest_are_forgotten() {
        let refusals = Refusals::default();
        refusals.note("a", limits(), &Refusal::for_now("no process".to_owned()));
        assert_eq!(refusals.find("a", limits()), None);
        refusals.note("a", limits(), &Refusal::from("no Wasm".to_owned()));
        assert_eq!(refusals.find("a", limits()).as_deref(), Some("no Wasm"));
        let wider = Limits {
            memory_bytes: 1 << 30,
            ..limits()
        };
        assert_eq!(refusals.find("a", wider), None);
        for n in 0..REMEMBERED_MAX {
            refusals.note(&n.to_string(), limits(), &Refusal::from("no".to_owned()));
        }
        assert_eq!(refusals.find("a", limits()), None);
        assert!(refusals.find("0", limits()).is_some());
    }
}
