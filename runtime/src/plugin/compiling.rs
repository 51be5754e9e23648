//! The components that are being compiled: each once, and few at a time.
//!
//! A compiler process may take minutes of processor time and gigabytes of memory, so only
//! [`AT_A_TIME`] run at once. Whoever needs a component that somebody else is compiling waits for
//! that, and then finds it in the cache.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex};

use crate::sync;

/// How many components are compiled at a time.
const AT_A_TIME: usize = 2;

/// The digests of the components that are being compiled or wait for it.
#[derive(Default)]
pub(super) struct Compiling {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    wanted: BTreeSet<String>,
    running: BTreeSet<String>,
    /// How many wait for what somebody else compiles.
    waiting: usize,
}

/// The right to compile a component, until it is dropped.
pub(super) struct Turn<'a> {
    compiling: &'a Compiling,
    sha256: String,
}

impl Compiling {
    /// Whether somebody compiles this component, or waits to do so.
    pub(super) fn has(&self, sha256: &str) -> bool {
        sync::lock(&self.state).wanted.contains(sha256)
    }

    /// Waits until this component may be compiled. Blocking. `None` if somebody else has compiled it
    /// meanwhile, or failed to.
    pub(super) fn begin(&self, sha256: &str) -> Option<Turn<'_>> {
        let mut state = sync::lock(&self.state);
        if state.wanted.contains(sha256) {
            state.waiting += 1;
            while state.wanted.contains(sha256) {
                state = sync::unpoisoned(self.ended.wait(state));
            }
            state.waiting -= 1;
            return None;
        }
        state.wanted.insert(sha256.to_owned());
        while state.running.len() >= AT_A_TIME {
            state = sync::unpoisoned(self.ended.wait(state));
        }
        state.running.insert(sha256.to_owned());
        Some(Turn {
            compiling: self,
            sha256: sha256.to_owned(),
        })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = sync::lock(&self.compiling.state);
        state.wanted.remove(&self.sha256);
        state.running.remove(&self.sha256);
        self.compiling.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_component_is_compiled_once_and_few_are_at_a_time() {
        let compiling = Compiling::default();
        let (a, b) = (compiling.begin("a"), compiling.begin("b"));
        assert!(a.is_some() && b.is_some());
        thread::scope(|scope| {
            let again = scope.spawn(|| compiling.begin("a").is_none());
            let third = scope.spawn(|| compiling.begin("c").is_some());
            let waits = || sync::lock(&compiling.state).waiting == 1;
            while !(compiling.has("c") && waits()) {
                thread::yield_now();
            }
            assert!(!third.is_finished() && !again.is_finished());
            drop(a);
            assert!(again.join().expect("no panic"), "it waited for the first");
            assert!(third.join().expect("no panic"));
        });
        assert!(!compiling.has("a") && compiling.has("b") && !compiling.has("c"));
    }
}
