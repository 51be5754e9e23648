//! What a table takes, as one number: its columns with their types, its constraints, indexes and triggers. If it
//! differs from what it was when something was refused, that may be taken now.
//!
//! It is remembered over a restart, because whoever mends a table often restarts what writes it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::sync::lock;
use crate::targets::Memory;

/// The text of all that decides which rows a table takes. Its parameter is the table.
pub(super) const SHAPE: &str = "
SELECT concat_ws(E'\\n',
  (SELECT string_agg(concat_ws(' ', a.attname, a.atttypid::int8, a.atttypmod, a.attnotnull, a.atthasdef), ',' ORDER BY a.attnum)
   FROM pg_attribute AS a WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped),
  (SELECT string_agg(pg_get_constraintdef(c.oid), ',' ORDER BY c.oid) FROM pg_constraint AS c
   WHERE c.conrelid = $1 OR c.contypid IN (SELECT a.atttypid FROM pg_attribute AS a WHERE a.attrelid = $1 AND a.attnum > 0)),
  (SELECT string_agg(e.enumlabel, ',' ORDER BY e.enumtypid, e.enumsortorder) FROM pg_enum AS e
   WHERE e.enumtypid IN (SELECT a.atttypid FROM pg_attribute AS a WHERE a.attrelid = $1 AND a.attnum > 0)),
  (SELECT string_agg(pg_get_indexdef(i.indexrelid), ',' ORDER BY i.indexrelid) FROM pg_index AS i
   WHERE i.indrelid = $1 AND i.indisunique),
  (SELECT string_agg(concat_ws(' ', t.tgname, t.tgenabled, p.prosrc), ',' ORDER BY t.oid)
   FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid WHERE t.tgrelid = $1 AND NOT t.tgisinternal))";

/// The name under which it is remembered.
const MEMORY: &str = "shape";

/// The shape that was seen last.
#[derive(Default)]
pub(super) struct Shape {
    seen: Mutex<Option<u64>>,
    /// It has changed, and nobody has been told.
    changed: AtomicBool,
    memory: Option<Arc<dyn Memory>>,
}

impl Shape {
    /// One that goes on from what an earlier target of this name has seen.
    pub(super) fn recalled(memory: Arc<dyn Memory>) -> Shape {
        // Without it, what was refused is tried again each `retry.refused` all the same.
        let seen = memory.recall(MEMORY).ok().flatten();
        let seen = seen.and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)));
        Shape {
            seen: Mutex::new(seen),
            changed: AtomicBool::new(false),
            memory: Some(memory),
        }
    }

    /// Takes what was found. Returns whether it differs from what was seen before.
    pub(super) async fn take(&self, found: u64) -> bool {
        let before = lock(&self.seen).replace(found);
        if before == Some(found) {
            return false;
        }
        if let Some(memory) = &self.memory {
            // As above.
            let _ = memory
                .remember(MEMORY, Some(found.to_le_bytes().to_vec()))
                .await;
        }
        if before.is_some() {
            self.changed.store(true, Ordering::SeqCst);
        }
        before.is_some()
    }

    /// Whether it has changed since this was asked last.
    pub(super) fn has_changed(&self) -> bool {
        self.changed.swap(false, Ordering::SeqCst)
    }
}
