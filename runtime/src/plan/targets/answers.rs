//! What the answers of an HTTP target mean, in a configuration: reads `answers`, `answer`, `fail_if`,
//! `items` and `accepted_only`, and shows them.

use serde_json::{Map, Value, json};

use super::word;
use crate::config::cursor::{Cursor, Field};
use crate::targets::http::answers::{Answers, Items, Naming, Rule, Test, Verdict};
use crate::targets::http::{PRESETS, Pointer, preset};

pub(in crate::plan) const VERDICTS: [(&str, Verdict); 5] = [
    ("delivered", Verdict::Delivered),
    ("refused", Verdict::Refused),
    ("retry", Verdict::Retry),
    ("throttled", Verdict::Throttled),
    ("trip", Verdict::Trip),
];

/// How an entry of a list names its item, as a configuration writes it.
#[derive(Clone, Copy, PartialEq)]
pub(in crate::plan) enum By {
    Position,
    Id,
    Line,
    Pointer,
}

pub(in crate::plan) const BY: [(&str, By); 4] = [
    ("position", By::Position),
    ("id", By::Id),
    ("line", By::Line),
    ("pointer", By::Pointer),
];

pub(in crate::plan) const OF: [(&str, bool); 2] = [("answer", false), ("item", true)];

/// Reads the keys of a target that say what its answers mean.
pub(super) fn read(table: &mut Cursor<'_>) -> Answers {
    let mut answers = Answers::default();
    if let Some(field) = table.take("answers")
        && let Some(name) = field.string()
    {
        match preset(&name) {
            Some(known) => answers = known,
            None => {
                let known = PRESETS.map(|name| format!("{name:?}")).join(" or ");
                field.complain(
                    format!("there is no preset {name:?} for answers"),
                    format!("write {known}, or describe the answers with [[…answer]]"),
                );
            }
        }
    }
    let mut own = Vec::new();
    if let Some(field) = table.take("answer") {
        own.extend(field.list(|item| item.table(|table| rule(&item, table)).flatten()));
    }
    if let Some(field) = table.take("fail_if") {
        own.extend(field.list(|item| {
            Some(Rule {
                name: item
                    .path()
                    .rsplit('.')
                    .next()
                    .unwrap_or_default()
                    .to_owned(),
                of_preset: false,
                of_items: false,
                status: Vec::new(),
                at: Some(pointer(&item)?),
                is: Test::Filled,
                then: Verdict::Refused,
            })
        }));
    }
    answers.rules.splice(0..0, own);
    let mut understood = true;
    if let Some(field) = table.take("items") {
        match items(&field) {
            Some(items) => answers.items = items,
            None => understood = false,
        }
    }
    if let Some(accepted_only) = table
        .take("accepted_only")
        .and_then(|field| field.boolean())
    {
        answers.accepted_only = accepted_only;
    }
    let listed = matches!(answers.items, Items::Results { .. } | Items::Errors { .. });
    let of_items = |rule: &Rule| rule.of_items && !rule.of_preset;
    if understood && !listed && answers.rules.iter().any(of_items) {
        table.complain(
            "a rule reads the entry of each item, and nothing says where the answer lists them",
            "write items = { at = \"/results\", by = \"id\" } too, or leave out of = \"item\""
                .to_owned(),
        );
    }
    answers
}

fn rule(field: &Field<'_>, table: &mut Cursor<'_>) -> Option<Rule> {
    let status = table.take("status").map(|field| {
        field.list(|item| {
            let status = item.integer(100..=999)?;
            u16::try_from(status).ok()
        })
    });
    let at = table.take("at").map(|field| pointer(&field));
    let is = table.take("is").map(|field| {
        field.list(|item| {
            let value = item.json()?;
            if matches!(value, Value::Array(_) | Value::Object(_)) {
                item.complain(
                    "a list or a table cannot be compared here",
                    "write a string, a number, true or false".to_owned(),
                );
                return None;
            }
            Some(value)
        })
    });
    let of = table.take("of").and_then(|field| field.one_of(&OF));
    let help = "write one of delivered, refused, retry, throttled, trip";
    let then = table
        .require("then", help)
        .and_then(|field| field.one_of(&VERDICTS));
    if at.is_none() && (status.as_ref().is_none_or(Vec::is_empty) || is.is_some()) {
        table.complain(
            "at is missing: the rule does not say where to look",
            "write at = \"/errors/*/code\", or status = [423] alone".to_owned(),
        );
        return None;
    }
    let is = match is {
        Some(values) => Test::OneOf(values),
        None => Test::Filled,
    };
    Some(Rule {
        name: field
            .path()
            .rsplit('.')
            .next()
            .unwrap_or_default()
            .to_owned(),
        of_preset: false,
        of_items: of.unwrap_or(false),
        status: status.unwrap_or_default(),
        at: match at {
            Some(at) => Some(at?),
            None => None,
        },
        is,
        then: then?,
    })
}

fn items(field: &Field<'_>) -> Option<Items> {
    if !field.is_table() {
        return field
            .one_of(&[("all-or-nothing", ())])
            .map(|()| Items::AllOrNothing);
    }
    field.table(|table| {
        let help = "write at = \"/results\", the place of the list in the answer";
        let at = table.require("at", help).and_then(|field| pointer(&field));
        let by = table
            .require("by", "write one of position, id, line, pointer")
            .and_then(|field| field.one_of(&BY));
        let name = table.take("name").map(|field| pointer(&field));
        let status = table.take("status").map(|field| pointer(&field));
        let or = |given: Option<Option<Pointer>>, default: &str| match given {
            Some(given) => given,
            None => Pointer::parse(default),
        };
        let (at, by) = (at?, by?);
        let status = or(status, "/status")?;
        Some(match by {
            By::Pointer => Items::Errors {
                at,
                index: or(name, "/source/pointer")?,
            },
            By::Position => Items::Results {
                at,
                by: Naming::Position,
                status,
            },
            By::Id => Items::Results {
                at,
                by: Naming::Id(or(name, "/id")?),
                status,
            },
            By::Line => Items::Results {
                at,
                by: Naming::Number(or(name, "/line")?, 1),
                status,
            },
        })
    })?
}

/// Reads a JSON pointer.
fn pointer(field: &Field<'_>) -> Option<Pointer> {
    let help = "write one such as \"/errors/*/code\": each name after a /, * for every element";
    field.parsed("a JSON pointer", help, Pointer::parse)
}

/// Shows what was read, as a file would write it.
pub(super) fn shown(answers: &Answers, into: &mut Map<String, Value>) {
    let own: Vec<Value> = answers
        .rules
        .iter()
        .filter(|rule| !rule.of_preset)
        .map(|rule| {
            let is = match &rule.is {
                Test::OneOf(values) => json!(values),
                Test::Filled | Test::Missing => Value::Null,
            };
            json!({
                "at": rule.at.as_ref().map(Pointer::as_str),
                "status": rule.status,
                "is": is,
                "of": word(&OF, rule.of_items),
                "then": word(&VERDICTS, rule.then),
            })
        })
        .collect();
    let listed = |at: &Pointer, by: By, name: Option<&Pointer>, status: Option<&Pointer>| {
        json!({
            "at": at.as_str(),
            "by": word(&BY, by),
            "name": name.map(Pointer::as_str),
            "status": status.map(Pointer::as_str),
        })
    };
    let items = match &answers.items {
        Items::Standard => Value::Null,
        Items::AllOrNothing => "all-or-nothing".into(),
        Items::Errors { at, index } => listed(at, By::Pointer, Some(index), None),
        Items::Results { at, by, status } => match by {
            Naming::Position => listed(at, By::Position, None, Some(status)),
            Naming::Id(name) => listed(at, By::Id, Some(name), Some(status)),
            Naming::Number(name, _) => listed(at, By::Line, Some(name), Some(status)),
        },
    };
    into.insert("answers".into(), answers.preset.into());
    into.insert("answer".into(), own.into());
    into.insert("items".into(), items);
    into.insert("accepted_only".into(), answers.accepted_only.into());
}

#[cfg(test)]
mod tests {
    use super::super::inline;

    #[test]
    fn a_rule_that_matches_every_answer_or_none_is_refused() {
        let text = r#"kind = "webhook"
url = "http://127.0.0.1:1/"
[[channels.a.target.answer]]
status = []
then = "delivered"
[[channels.a.target.answer]]
at = "/code"
is = ["LOCKED"]
of = "item"
then = "retry"
"#;
        let found = inline(text, &[]).expect_err("two complaints");
        for expected in ["at is missing", "nothing says where the answer lists them"] {
            assert!(found.contains(expected), "{found}");
        }

        // A mistake in `items` is one mistake, not two.
        let text = text.replace(
            "[[channels.a.target.answer]]\nstatus = []\nthen = \"delivered\"\n",
            "items = { at = \"/results\", by = \"key\" }\n",
        );
        let found = inline(&text, &[]).expect_err("a complaint");
        assert_eq!(found.matches("weir.toml:").count(), 1, "{found}");
    }
}
