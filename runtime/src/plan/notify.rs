//! Who is told of what needs an operator: `[[notify]]`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::notes::Notes;
use super::{Outside, Plan, targets};
use crate::config::cursor::{Cursor, Field, Reader};
use crate::notify::{Kind, Options};

const EXAMPLE: &str = "write [[notify]], with two brackets, and below it url = \"https://…\"";

pub(super) fn receivers(root: &mut Cursor<'_>, notes: &mut Notes<'_>) -> Vec<Options> {
    let Some(field) = root.take("notify") else {
        return Vec::new();
    };
    if !field.is_list() {
        field.complain(
            "each receiver of notices is an item of a list",
            EXAMPLE.to_owned(),
        );
        // Its keys may be right.
        field.table(|table| drop(table.all()));
        return Vec::new();
    }
    let mut receivers = Vec::new();
    for item in field.list(Some) {
        notes.place(item.path(), item.place());
        receivers.extend(item.table(|table| receiver(table, notes)).flatten());
    }
    receivers
}

fn receiver(table: &mut Cursor<'_>, notes: &mut Notes<'_>) -> Option<Options> {
    let webhook = targets::receiver(table);
    let on = table.take("on").map(|field| kinds(&field, notes));
    Some(Options {
        webhook: webhook?,
        on: on.unwrap_or_else(|| Kind::ALL.into()),
    })
}

fn kinds(field: &Field<'_>, notes: &mut Notes<'_>) -> BTreeSet<Kind> {
    notes.place(field.path(), field.place());
    let words = Kind::ALL.map(|kind| (kind.name(), kind));
    let on: BTreeSet<Kind> = field.list(|item| item.one_of(&words)).into_iter().collect();
    if field.is_empty_list() {
        let help = "leave on out, and it is told of everything".to_owned();
        field.complain("the receiver is told of nothing", help);
    }
    // One that is misspelt may be the other one.
    if on.contains(&Kind::Recovered) && field.list(Some).len() == 1 {
        let help = "add the conditions whose end it should hear of: \"tripped\", \"held\", \"silent\" or \"late\"";
        field.complain(
            "recovered is sent only after another notice, and there is none",
            help.to_owned(),
        );
    }
    on
}

/// Warns about conditions that a receiver asks for by name and that can never be there.
pub(super) fn never_told(reader: &Reader<'_>, plan: &Plan) {
    let quiet = plan.sources.values().any(|it| it.options.quiet.is_some());
    let fresh = plan
        .channels
        .values()
        .any(|it| it.options.freshness.is_some());
    for (index, receiver) in plan.notify.iter().enumerate() {
        // Who asks for everything is not told that there is not everything.
        if receiver.on.len() == Kind::ALL.len() {
            continue;
        }
        for (kind, there, what, help) in [
            (
                Kind::Silent,
                quiet,
                "no source has quiet",
                "quiet = \"15m\" to a source",
            ),
            (
                Kind::Late,
                fresh,
                "no channel has freshness",
                "freshness = \"60s\" to a channel",
            ),
        ] {
            if receiver.on.contains(&kind) && !there {
                let path = format!("notify[{index}].on");
                let what = format!("{what}, so {:?} is never told", kind.name());
                reader.warn(plan.complaint(&path, what, format!("write {help}")));
            }
        }
    }
}

/// A receiver as a file would write it, with secrets hidden.
pub(super) fn shown(receiver: &Options, outside: &Outside) -> Value {
    let mut shown = targets::shown_receiver(&receiver.webhook, outside);
    let on = receiver.on.iter().map(|kind| kind.name());
    shown.insert("on".to_owned(), on.collect());
    Value::Object(shown)
}
