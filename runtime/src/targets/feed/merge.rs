//! Several sorted sequences of entries as one.

use std::io;

use super::frames::Entry;
use super::sorted::Cursor;

/// Several cursors as one: of each key the newest state, in the order of the keys.
pub(super) struct Merge {
    /// Oldest first.
    cursors: Vec<(Cursor, Option<Entry>)>,
}

impl Merge {
    /// The later cursors are the newer ones.
    pub(super) fn new(cursors: Vec<Cursor>) -> io::Result<Merge> {
        let first = |mut cursor: Cursor| {
            let entry = cursor.next()?;
            Ok((cursor, entry))
        };
        let cursors = cursors.into_iter().map(first).collect::<io::Result<_>>()?;
        Ok(Merge { cursors })
    }

    /// The next key with its newest state, deletions included; `None` at the end.
    ///
    /// # Errors
    /// As [`Cursor::next`].
    pub(super) fn next(&mut self) -> io::Result<Option<Entry>> {
        let heads = self.cursors.iter().filter_map(|(_, head)| head.as_ref());
        let Some(least) = heads.map(|head| &head.key).min().cloned() else {
            return Ok(None);
        };
        let mut newest: Option<Entry> = None;
        for (cursor, head) in &mut self.cursors {
            while let Some(entry) = head.take_if(|head| head.key == least) {
                if newest
                    .as_ref()
                    .is_none_or(|it| it.sequence <= entry.sequence)
                {
                    newest = Some(entry);
                }
                *head = cursor.next()?;
            }
        }
        Ok(newest)
    }
}
