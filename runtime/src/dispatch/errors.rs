//! A bounded ring of errors: the channel's last one, and the last one of each parked entity as far
//! as the bound allows.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::model::{Ordinal, Timestamp};

/// Number of errors kept for each channel; about 2 MB at 200 bytes each.
const ERRORS_MAX: usize = 10_000;

/// The newest errors by entity.
#[derive(Debug, Default)]
pub(crate) struct Errors {
    texts: HashMap<Ordinal, (u64, Arc<str>)>,
    order: VecDeque<(u64, Ordinal)>,
    number: u64,
    newest: Option<(Timestamp, Arc<str>)>,
}

impl Errors {
    /// Keeps the error of an entity, and drops the oldest errors above the bound.
    pub(crate) fn keep(&mut self, ordinal: Ordinal, text: Arc<str>, now: Timestamp) {
        self.note(text.clone(), now);
        self.number += 1;
        self.texts.insert(ordinal, (self.number, text));
        self.order.push_back((self.number, ordinal));
        while self.order.len() > ERRORS_MAX {
            if let Some((number, oldest)) = self.order.pop_front()
                && self
                    .texts
                    .get(&oldest)
                    .is_some_and(|(newest, _)| *newest == number)
            {
                self.texts.remove(&oldest);
            }
        }
    }

    /// Records an error as the channel's newest, without an entity.
    pub(crate) fn note(&mut self, text: Arc<str>, now: Timestamp) {
        self.newest = Some((now, text));
    }

    /// The newest error of the channel since it started.
    pub(crate) fn newest(&self) -> Option<(Timestamp, Arc<str>)> {
        self.newest.clone()
    }

    /// Forgets an entity's error, because it has been settled.
    pub(crate) fn clear(&mut self, ordinal: Ordinal) {
        self.texts.remove(&ordinal);
    }

    /// The last error of an entity, if it is still kept.
    pub(crate) fn last(&self, ordinal: Ordinal) -> Option<Arc<str>> {
        self.texts.get(&ordinal).map(|(_, text)| text.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_errors_are_kept_and_no_more() {
        let mut errors = Errors::default();
        for number in 0..ERRORS_MAX as u32 + 5 {
            errors.keep(
                Ordinal(number),
                format!("error {number}").into(),
                Timestamp(1),
            );
        }
        assert_eq!(errors.last(Ordinal(4)), None);
        assert_eq!(errors.last(Ordinal(5)).as_deref(), Some("error 5"));
        for _ in 0..2 * ERRORS_MAX {
            errors.keep(Ordinal(1), "again".into(), Timestamp(2));
        }
        assert_eq!(
            (errors.texts.len(), errors.last(Ordinal(1)).as_deref()),
            (1, Some("again"))
        );
        errors.clear(Ordinal(1));
        assert_eq!(errors.last(Ordinal(1)), None);
        errors.note("refused".into(), Timestamp(3));
        assert_eq!(errors.newest(), Some((Timestamp(3), "refused".into())));
    }
}
