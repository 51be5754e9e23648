//! The meaning of an API's answers where their status does not say it: rules over the body, and the
//! reading of a batch answer item by item.
//!
//! A shop throttles with status 200, a bulk request fails for one item of 500. A target's
//! configuration (or a preset, see `presets`) says how to read its answers:
//!
//! - A *rule* names a place in the body and what follows from the values there. The first rule that
//!   matches decides, before the table of statuses in [`status`].
//! - *Items* say where the answer to a batch lists its items, and how it names them. An item that is
//!   not named is not delivered.
//!
//! What cannot be understood is never a success: it may be applied, and is sent again.

use std::collections::HashMap;

use serde_json::Value;

use super::status::{self, Answer, Asked, uncertain};
use super::{Pointer, Redactor};
use crate::targets::{Item, Outcome};

/// A longer error is quoted as it is, and a message that has grown longer is filled no further.
const FILLED_BYTES_MAX: usize = 4 * 1024;

/// How a target's answers are read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answers {
    /// The preset that the last of the rules come from.
    pub preset: Option<&'static str>,
    /// The first rule that matches decides.
    pub rules: Vec<Rule>,
    /// How a batch answer names its items.
    pub items: Items,
    /// Whether a success says that the API has accepted an item, and not that it has applied it.
    pub accepted_only: bool,
}

/// A rule: if the status and the values at a place of the body are such, then the answer means this.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Its name for users, such as `answer[0]` or `shopify: throttled`.
    pub name: String,
    /// Whether it belongs to a preset.
    pub of_preset: bool,
    /// Whether it reads the entry of each item instead of the whole answer.
    pub of_items: bool,
    /// The statuses that it applies to; empty means all.
    pub status: Vec<u16>,
    /// The place in the body; `None` matches any body.
    pub at: Option<Pointer>,
    /// The values there that match.
    pub is: Test,
    /// What the answer means then.
    pub then: Verdict,
}

/// Which values at the place of a rule match.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// A value that is there and not empty: not `null`, `""`, `[]` or `{}`.
    Filled,
    /// One of these values. A number and its text are the same.
    OneOf(Vec<Value>),
    /// Nothing is there, or only `null`.
    Missing,
}

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Stored, or deleted.
    Delivered,
    /// The target will not accept this entity as it is.
    Refused,
    /// It may succeed later, and may be applied already.
    Retry,
    /// The target gets too many requests; the entity is as good as before.
    Throttled,
    /// The trouble is the target's: nothing is sent to it until a probe succeeds.
    Trip,
}

/// How the answer to a batch speaks of its items.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Items {
    /// `{"items": [{"id", "status", "error"}]}`, if the body has it. Without it, the status holds for
    /// all items.
    #[default]
    Standard,
    /// The API applies all items or none: the status and the rules hold for all of them.
    AllOrNothing,
    /// A list with an entry for each item.
    Results {
        /// Where the list is. A body of JSON lines is one list, at the empty pointer.
        at: Pointer,
        /// How an entry names its item.
        by: Naming,
        /// The status in an entry, if no rule of items decides.
        status: Pointer,
    },
    /// A list of errors. Each names the item that it refuses, and because of it the API has applied no
    /// other item either: the others are sent again at once, without it.
    Errors {
        /// Where the list is.
        at: Pointer,
        /// Where an entry has the number of its item, counted from 0; or a text that is a pointer into
        /// the request, whose first number that is.
        index: Pointer,
    },
}

/// How an entry of a batch answer names its item.
#[derive(Clone, Debug, PartialEq)]
pub enum Naming {
    /// By its place: the answer has as many entries as the request has items.
    Position,
    /// By an id at this place of the entry: the delivery id or the key of the item.
    Id(Pointer),
    /// By a number at this place of the entry, counted from this first number.
    Number(Pointer, u64),
}

/// A complete response.
pub(crate) struct Response<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
    /// How long the target asks Weir to wait.
    pub(crate) wait: Option<std::time::Duration>,
}

impl Answers {
    /// The outcome of each item of a request.
    pub(crate) fn read(
        &self,
        asked: Asked,
        items: &[Item],
        batch: bool,
        response: &Response<'_>,
        redactor: &Redactor,
    ) -> Vec<Outcome> {
        let success = (200..300).contains(&response.status);
        let all = |outcome: Outcome| vec![outcome; items.len()];
        let by_status = || all(by_status(asked, response, redactor));
        let usual = || {
            let ids = items.iter().map(|item| item.id);
            if batch
                && self.items == Items::Standard
                && success
                && let Some(outcomes) = status::item_by_item(ids, response.body, redactor)
            {
                return outcomes;
            }
            by_status()
        };
        let listed = matches!(self.items, Items::Results { .. } | Items::Errors { .. });
        if self.rules.is_empty() && !listed {
            return usual();
        }
        let blank = response.body.trim_ascii().is_empty();
        let body = parse(response.body);
        if let Some(found) = self.rule(false, response.status, body.as_ref()) {
            return all(found.outcome(asked, response, redactor));
        }
        if body.is_none() && !blank && success {
            return all(uncertain(format!(
                "answered {}, and the body is not JSON",
                response.status
            )));
        }
        let list = |at: &Pointer| at.first(body.as_ref()?).and_then(entries_of);
        match &self.items {
            // Another status speaks of the request, whatever its body looks like.
            Items::Results { .. } if !success => by_status(),
            Items::Results { at, by, status } => match list(at) {
                Some(entries) => self.results(items, entries, by, status, response, redactor),
                // One item may have been sent to an address that answers without a list.
                None if batch => all(uncertain(format!(
                    "answered {}, and there is no list of items at {:?}",
                    response.status,
                    at.as_str()
                ))),
                None => by_status(),
            },
            Items::Errors { at, index } => list(at)
                .filter(|entries| !entries.is_empty())
                .and_then(|entries| self.errors(items, entries, index, response, redactor))
                .unwrap_or_else(by_status),
            Items::Standard | Items::AllOrNothing => usual(),
        }
    }

    /// The outcome of each item by the entries of a list.
    fn results(
        &self,
        items: &[Item],
        entries: &[Value],
        by: &Naming,
        status: &Pointer,
        response: &Response<'_>,
        redactor: &Redactor,
    ) -> Vec<Outcome> {
        if *by == Naming::Position && entries.len() != items.len() {
            let reason = format!(
                "answered {} with {} results for {} items",
                response.status,
                entries.len(),
                items.len()
            );
            return vec![uncertain(reason); items.len()];
        }
        let mut index: HashMap<String, Vec<usize>> = HashMap::new();
        if matches!(by, Naming::Id(_)) {
            for (at, item) in items.iter().enumerate() {
                index.entry(item.id.to_string()).or_default().push(at);
                index.entry(item.key.to_string()).or_default().push(at);
            }
        }
        let mut outcomes: Vec<Option<Outcome>> = vec![None; items.len()];
        for (position, entry) in entries.iter().enumerate() {
            let named: Vec<usize> = match by {
                Naming::Position => vec![position],
                Naming::Id(id) => text(id.first(entry))
                    .and_then(|id| index.get(&id).cloned())
                    .unwrap_or_default(),
                Naming::Number(at, first) => number(at.first(entry))
                    .and_then(|number| number.checked_sub(*first))
                    .map(|number| number as usize)
                    .into_iter()
                    .collect(),
            };
            for at in named {
                // Of two entries for an item the one that is no success counts.
                if let Some(slot) = outcomes.get_mut(at)
                    && slot
                        .as_ref()
                        .is_none_or(|known| *known == Outcome::Delivered)
                {
                    *slot = Some(self.entry(entry, status, response, redactor));
                }
            }
        }
        let unnamed = || uncertain("the response does not name this item".into());
        outcomes
            .into_iter()
            .map(|outcome| outcome.unwrap_or_else(unnamed))
            .collect()
    }

    /// The outcome of one item by its entry.
    fn entry(
        &self,
        entry: &Value,
        status: &Pointer,
        response: &Response<'_>,
        redactor: &Redactor,
    ) -> Outcome {
        let one = Asked {
            by_key: false,
            delete: false,
            items: 1,
        };
        if let Some(found) = self.rule(true, response.status, Some(entry)) {
            return found.outcome(one, response, redactor);
        }
        match number(status.first(entry)).and_then(|status| u16::try_from(status).ok()) {
            Some(status) => {
                let quote = entry.to_string();
                status::item_meaning(status, &redactor.redact(quote.as_bytes()))
            }
            None => uncertain("the response names this item without a readable status".into()),
        }
    }

    /// The outcome of each item by a list of errors; `None` if one of them names no item, or if the status
    /// speaks of the target.
    fn errors(
        &self,
        items: &[Item],
        entries: &[Value],
        index: &Pointer,
        response: &Response<'_>,
        redactor: &Redactor,
    ) -> Option<Vec<Outcome>> {
        let one = Asked {
            by_key: false,
            delete: false,
            items: 1,
        };
        let mut outcomes = vec![None; items.len()];
        for entry in entries {
            let at = index.first(entry).and_then(item_number)?;
            let outcome = match self.rule(true, response.status, Some(entry)) {
                Some(found) => found.outcome(one, response, redactor),
                // The target is in trouble, or Weir lacks a right: the item is only the first that met it.
                None if speaks_of_target(response.status) => return None,
                None => Outcome::Refused {
                    reason: status::describe(
                        response.status,
                        &redactor.redact(entry.to_string().as_bytes()),
                    ),
                    after_tries: matches!(response.status, 409 | 422),
                },
            };
            outcomes.get_mut(at)?.get_or_insert(outcome);
        }
        let others = Outcome::Split {
            reason: "another item of the request was refused".into(),
            too_long: false,
        };
        let outcomes = outcomes.into_iter();
        Some(
            outcomes
                .map(|outcome| outcome.unwrap_or_else(|| others.clone()))
                .collect(),
        )
    }

    /// The first rule that matches.
    fn rule<'a>(
        &'a self,
        of_items: bool,
        status: u16,
        document: Option<&'a Value>,
    ) -> Option<Found<'a>> {
        let rules = self.rules.iter().filter(|rule| rule.of_items == of_items);
        rules.into_iter().find_map(|rule| {
            if !rule.status.is_empty() && !rule.status.contains(&status) {
                return None;
            }
            // Errors are filled in those answers too, and not one entity is to blame.
            let any_error = rule.status.is_empty() && rule.is == Test::Filled;
            if any_error && rule.then == Verdict::Refused && speaks_of_target(status) {
                return None;
            }
            let values = match (&rule.at, document) {
                (None, _) => return Some(Found { rule, quote: None }),
                (Some(_), None) => return None,
                (Some(at), Some(document)) => at.find(document),
            };
            let quote = match &rule.is {
                Test::Filled => values.into_iter().find(|value| is_filled(value)),
                Test::OneOf(wanted) => values
                    .into_iter()
                    .find(|value| wanted.iter().any(|wanted| is_same(wanted, value)))
                    .map(|value| match (rule.then, document) {
                        // The value is known from the rule; why it is so stands around it.
                        (Verdict::Refused, Some(document)) => document,
                        _ => value,
                    }),
                Test::Missing if values.iter().all(|value| value.is_null()) => {
                    return Some(Found { rule, quote: None });
                }
                Test::Missing => None,
            };
            quote.map(|quote| Found {
                rule,
                quote: Some(quote),
            })
        })
    }
}

/// A rule that matched, with what is quoted.
struct Found<'a> {
    rule: &'a Rule,
    quote: Option<&'a Value>,
}

impl Found<'_> {
    fn outcome(&self, asked: Asked, response: &Response<'_>, redactor: &Redactor) -> Outcome {
        let quote = self.quote.map(Value::to_string).unwrap_or_default();
        let reason = format!(
            "{} (by the rule {})",
            status::describe(response.status, &redactor.redact(quote.as_bytes())),
            self.rule.name
        );
        match self.rule.then {
            Verdict::Delivered => Outcome::Delivered,
            Verdict::Refused if asked.items > 1 => Outcome::Split {
                reason,
                too_long: false,
            },
            Verdict::Refused => Outcome::Refused {
                reason,
                after_tries: matches!(response.status, 409 | 422),
            },
            Verdict::Retry => uncertain(reason),
            Verdict::Throttled => Outcome::Throttled {
                reason,
                after: response.wait,
            },
            Verdict::Trip => Outcome::Trip { reason },
        }
    }
}

/// The outcome of a request by the table of statuses.
fn by_status(asked: Asked, response: &Response<'_>, redactor: &Redactor) -> Outcome {
    // A successful response is never quoted.
    let body = match response.status {
        200..300 => response.body.into(),
        _ => match filled(response.body) {
            Some(message) => redactor.redact(message.as_bytes()).into_owned().into(),
            None => redactor.redact(response.body),
        },
    };
    let answer = Answer {
        status: response.status,
        retry_after: response.wait,
        body: &body,
    };
    status::meaning(asked, answer)
}

/// The message of an error with its parameters filled in, as Magento gives them: `{"message": "The
/// \"%1\" …", "parameters": ["color"]}`, or by name.
fn filled(body: &[u8]) -> Option<String> {
    if body.len() > FILLED_BYTES_MAX {
        return None;
    }
    memchr::memmem::find(body, b"\"parameters\"")?;
    let body: Value = serde_json::from_slice(body).ok()?;
    let message = body.get("message")?.as_str()?.to_owned();
    let parameters: Vec<(String, &Value)> = match body.get("parameters")? {
        Value::Array(values) => (1..).map(|at: usize| at.to_string()).zip(values).collect(),
        Value::Object(values) => values.iter().map(|(name, it)| (name.clone(), it)).collect(),
        _ => return None,
    };
    // %10 before %1.
    let fill = |message: String, (name, value): (String, &Value)| {
        // Parameters may hold each other.
        if message.len() > FILLED_BYTES_MAX {
            return message;
        }
        let text = text(Some(value)).unwrap_or_else(|| value.to_string());
        message.replace(&format!("%{name}"), &text)
    };
    Some(parameters.into_iter().rev().fold(message, fill))
}

/// The body as JSON; JSON lines are one list.
fn parse(body: &[u8]) -> Option<Value> {
    if let Ok(document) = serde_json::from_slice(body) {
        return Some(document);
    }
    let lines = body
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty());
    let lines: Vec<Value> = lines
        .map(serde_json::from_slice)
        .collect::<Result<_, _>>()
        .ok()?;
    (lines.len() > 1).then_some(Value::Array(lines))
}

/// Whether a status speaks of the target or of Weir's rights, whatever the body says.
fn speaks_of_target(status: u16) -> bool {
    matches!(status, 401 | 403 | 405 | 407 | 408 | 429 | 500..)
}

fn is_filled(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(elements) => !elements.is_empty(),
        Value::Object(members) => !members.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    }
}

fn is_same(wanted: &Value, value: &Value) -> bool {
    wanted == value || text(Some(wanted)).is_some_and(|wanted| Some(wanted) == text(Some(value)))
}

/// The entries of a list; an object where a list of lines is expected is a single line.
fn entries_of(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Array(entries) => Some(entries),
        Value::Object(_) => Some(std::slice::from_ref(value)),
        _ => None,
    }
}

/// A text, or a number as a text.
fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A whole number, or its text.
fn number(value: Option<&Value>) -> Option<u64> {
    match value? {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// The number of an item: a number, or the first one in a pointer such as
/// `/write_data/2/productNumber`.
fn item_number(value: &Value) -> Option<usize> {
    match value {
        Value::Number(number) => number.as_u64().map(|number| number as usize),
        Value::String(pointer) => pointer.split('/').find_map(|token| token.parse().ok()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
