//! Scripted targets in the configuration of a test. They can be keyed and take batches, which no
//! kind of the product combines yet, and deliver everything.

use serde_json::{Map, Value, json};

use super::super::Outside;
use super::{Configured, keys};
use crate::config::cursor::Cursor;
use crate::targets::scripted::{Options, Reply, Script};
use crate::targets::{Kind, Nature};

/// Reads `keyed` and `batch_max`.
pub(super) fn read(table: &mut Cursor<'_>) -> Option<Kind> {
    let keyed = table.take("keyed").and_then(|field| field.boolean());
    let batch_max = table
        .take("batch_max")
        .and_then(|field| field.integer(1..=1024))
        .and_then(|most| usize::try_from(most).ok());
    Some(Kind::Scripted(Options {
        nature: Nature {
            keyed: keyed.unwrap_or(false),
            batch_max: batch_max.unwrap_or(1),
            deletes_alone: false,
            compares: false,
        },
        place: 0,
        script: Script::new(|_| Reply::Status(200)),
    }))
}

impl Configured for Options {
    fn shown(&self, _: &Outside) -> Map<String, Value> {
        keys([
            ("kind", json!("scripted")),
            ("keyed", json!(self.nature.keyed)),
            ("batch_max", json!(self.nature.batch_max)),
        ])
    }

    fn refuses_batches(&self) -> Option<(&'static str, &'static str)> {
        (self.nature.batch_max == 1).then_some(("it takes one entity a request", "leave batch out"))
    }
}
