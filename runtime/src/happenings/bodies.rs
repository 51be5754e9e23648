//! The bodies that were delivered last, as many as a bound of bytes allows.
//!
//! A channel remembers of what it delivered a digest only. While the body is here, a page can show what has
//! changed in a rendering. The bodies are those that were sent: nothing is copied.
//!
//! Many thousand are kept in a second, and hardly one is ever asked for. So they are in the order in which
//! they came, and whoever asks goes through them from the newest on.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use super::{Hash, Who};
use crate::model::Rendering;
use crate::sync::lock;

/// Memory for bodies unless it is configured, in bytes.
pub const BYTES: u64 = 32 << 20;
/// The memory of a body in addition to its bytes.
const OVERHEAD: u64 = 256;

/// What was delivered of an entity; `None` if it was deleted.
pub type Body = Option<Arc<Rendering>>;

/// See the module.
#[derive(Debug)]
pub struct Bodies {
    bytes_max: AtomicU64,
    kept: Mutex<Kept>,
}

impl Default for Bodies {
    fn default() -> Bodies {
        Bodies {
            bytes_max: AtomicU64::new(BYTES),
            kept: Mutex::default(),
        }
    }
}

#[derive(Debug, Default)]
struct Kept {
    /// The oldest first.
    bodies: VecDeque<Delivered>,
    bytes: u64,
}

/// What a channel delivered of an entity.
#[derive(Debug)]
struct Delivered {
    entity: Hash,
    who: Who,
    bytes: u64,
    /// `None` if the body is larger than all that may be kept.
    body: Option<Body>,
}

impl Bodies {
    /// Bounds the memory; 0 keeps nothing.
    pub fn limit(&self, bytes_max: u64) {
        self.bytes_max.store(bytes_max, Relaxed);
        let gone = lock(&self.kept).beyond(bytes_max);
        drop(gone);
    }

    pub(super) fn keep(&self, who: Who, delivered: impl Iterator<Item = (Hash, Body)>) {
        let bytes_max = self.bytes_max.load(Relaxed);
        if bytes_max == 0 {
            return;
        }
        // Channels wait for this lock, so nothing is freed under it.
        let gone = {
            let mut kept = lock(&self.kept);
            for (entity, body) in delivered {
                let length = body.as_ref().map_or(0, |body| body.body.as_bytes().len());
                let bytes = length as u64 + OVERHEAD;
                let fits = bytes <= bytes_max;
                let bytes = if fits { bytes } else { OVERHEAD };
                kept.bytes += bytes;
                kept.bodies.push_back(Delivered {
                    entity,
                    who,
                    bytes,
                    body: fits.then_some(body),
                });
            }
            kept.beyond(bytes_max)
        };
        drop(gone);
    }

    pub(super) fn get(&self, who: Who, entity: Hash) -> Option<Body> {
        let kept = lock(&self.kept);
        let mut newest_first = kept.bodies.iter().rev();
        let found = newest_first.find(|it| it.entity == entity && it.who == who);
        found?.body.clone()
    }
}

impl Kept {
    /// Takes the oldest out, as many as there are too many.
    fn beyond(&mut self, bytes_max: u64) -> Vec<Delivered> {
        let mut gone = Vec::new();
        while self.bytes > bytes_max
            && let Some(oldest) = self.bodies.pop_front()
        {
            self.bytes -= oldest.bytes;
            gone.push(oldest);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Payload;

    fn body(length: usize) -> Body {
        Some(Arc::new(Rendering {
            key: None,
            content_type: None,
            body: Payload::Text("x".repeat(length)),
        }))
    }

    fn length(bodies: &Bodies, entity: u64) -> Option<usize> {
        let body = bodies.get(Who(1), Hash(entity))?;
        Some(body.map_or(0, |body| body.body.as_bytes().len()))
    }

    #[test]
    fn the_newest_bodies_are_kept_within_their_bytes() {
        let bodies = Bodies::default();
        bodies.limit(10_000);
        let keep = |entity, length| bodies.keep(Who(1), [(Hash(entity), body(length))].into_iter());
        keep(1, 4_000);
        keep(2, 4_000);
        assert_eq!(
            (length(&bodies, 1), length(&bodies, 2)),
            (Some(4_000), Some(4_000))
        );
        keep(1, 1_000);
        assert_eq!(length(&bodies, 1), Some(1_000), "the newest of an entity");
        keep(3, 5_000);
        assert_eq!(
            length(&bodies, 1),
            Some(1_000),
            "the older one has gone, not this"
        );
        assert_eq!(length(&bodies, 2), None);
        keep(4, 20_000);
        assert_eq!(
            (length(&bodies, 4), length(&bodies, 3)),
            (None, Some(5_000)),
            "it is too large"
        );
        keep(3, 20_000);
        assert_eq!(
            length(&bodies, 3),
            None,
            "an older one is not what was delivered last"
        );
        bodies.keep(Who(1), [(Hash(5), None)].into_iter());
        assert_eq!(length(&bodies, 5), Some(0), "it was deleted");
        bodies.limit(0);
        keep(6, 1);
        assert_eq!((length(&bodies, 5), length(&bodies, 6)), (None, None));
    }
}
