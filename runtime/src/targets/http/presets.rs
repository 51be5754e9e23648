//! What the answers of known APIs mean: their rules and their lists of items, as [`Answers`] that a
//! configuration names (`answers = "shopify"`).
//!
//! Each preset says what the API was seen to answer: throttling with status 200, a daily limit as 403,
//! a lock conflict inside a list. The tests have the answers word for word. There is none for an API that
//! wants the version of what it replaces, which would have to be read first.

use serde_json::{Value, json};

use super::Pointer;
use super::answers::{Answers, Items, Naming, Rule, Test, Verdict};

/// The names of all presets, as a configuration writes them.
pub const PRESETS: [&str; 9] = [
    "shopify",
    "bigcommerce",
    "commercetools",
    "commercetools-import",
    "magento",
    "shopware",
    "akeneo",
    "salesforce",
    "amazon-listings",
];

/// The answers of a preset; `None` if there is no preset with this name.
pub fn preset(name: &str) -> Option<Answers> {
    let answers = match name {
        "shopify" => shopify(),
        "bigcommerce" => bigcommerce(),
        "commercetools" => commercetools(),
        "commercetools-import" => commercetools_import(),
        "magento" => magento(),
        "shopware" => shopware(),
        "akeneo" => akeneo(),
        "salesforce" => salesforce(),
        "amazon-listings" => amazon_listings(),
        _ => return None,
    };
    Some(Answers {
        preset: PRESETS.into_iter().find(|preset| *preset == name),
        ..answers
    })
}

/// GraphQL Admin: every query is answered with 200. With another status `errors` is a text that says the
/// same as the status. A payload of a mutation without `userErrors` that is `null` says nothing.
fn shopify() -> Answers {
    let code = "/errors/*/extensions/code";
    Answers {
        rules: vec![
            rule("shopify: throttled", Verdict::Throttled).at(code, &[json!("THROTTLED")]),
            rule("shopify: cost over the maximum", Verdict::Refused)
                .at(code, &[json!("MAX_COST_EXCEEDED")]),
            rule("shopify: internal error", Verdict::Retry)
                .at(code, &[json!("INTERNAL_SERVER_ERROR")]),
            rule("shopify: access denied", Verdict::Trip).at(code, &[json!("ACCESS_DENIED")]),
            rule("shopify: errors", Verdict::Refused)
                .status(&[200])
                .filled("/errors"),
            rule("shopify: user errors", Verdict::Refused).filled("/data/*/userErrors"),
            rule("shopify: a mutation without a result", Verdict::Retry)
                .status(&[200])
                .at("/data/*", &[Value::Null]),
            rule("shopify: no data", Verdict::Retry)
                .status(&[200])
                .missing("/data"),
        ],
        items: Items::AllOrNothing,
        ..Answers::default()
    }
}

/// 207 is a partial success that does not say of what; a limit may come as 500 with no request left.
fn bigcommerce() -> Answers {
    Answers {
        rules: vec![
            rule("bigcommerce: locked", Verdict::Retry).status(&[423]),
            rule("bigcommerce: the plan is full", Verdict::Trip).status(&[507]),
            rule("bigcommerce: refused in part", Verdict::Refused)
                .status(&[207])
                .filled("/errors"),
        ],
        items: Items::AllOrNothing,
        ..Answers::default()
    }
}

/// Bulk results are listed by position.
fn commercetools() -> Answers {
    let code = "/errors/*/code";
    let conflict = json!("ConcurrentModification");
    Answers {
        rules: vec![
            rule("commercetools: another version", Verdict::Retry)
                .at(code, std::slice::from_ref(&conflict)),
            rule("commercetools: over capacity", Verdict::Throttled)
                .at(code, &[json!("OverCapacity"), json!("PendingOperation")]),
            rule("commercetools: another version", Verdict::Retry)
                .of_items()
                .at(code, &[conflict]),
            rule("commercetools: success", Verdict::Delivered)
                .of_items()
                .at("/status", &[json!("Success")]),
            rule("commercetools: fail", Verdict::Refused)
                .of_items()
                .at("/status", &[json!("Fail")]),
        ],
        items: Items::Results {
            at: pointer("/results"),
            by: Naming::Position,
            status: pointer("/status"),
        },
        ..Answers::default()
    }
}

/// The Import API refuses a request as a whole for one wrong item, and names it by its number. An import
/// that it has accepted is applied within minutes, waits for what it refers to, or fails.
fn commercetools_import() -> Answers {
    Answers {
        rules: vec![
            rule("commercetools-import: not valid", Verdict::Refused)
                .status(&[200, 201])
                .at("/operationStatus/*/state", &[json!("validationFailed")]),
        ],
        items: Items::Errors {
            at: pointer("/errors"),
            index: pointer("/resourceIndex"),
        },
        accepted_only: true,
        ..Answers::default()
    }
}

/// The asynchronous interface accepts each item by its number; `errors` is always false.
fn magento() -> Answers {
    Answers {
        rules: vec![
            rule("magento: accepted", Verdict::Delivered)
                .of_items()
                .at("/status", &[json!("accepted")]),
            rule("magento: rejected", Verdict::Refused)
                .of_items()
                .at("/status", &[json!("rejected")]),
        ],
        items: Items::Results {
            at: pointer("/request_items"),
            by: Naming::Number(pointer("/id"), 0),
            status: pointer("/status"),
        },
        accepted_only: true,
        ..Answers::default()
    }
}

/// `_action/sync` is one transaction; an error points into the request. A deadlock points nowhere.
fn shopware() -> Answers {
    Answers {
        rules: vec![
            rule("shopware: deadlock", Verdict::Retry).at("/errors/*/code", &[json!("1213")]),
        ],
        items: Items::Errors {
            at: pointer("/errors"),
            index: pointer("/source/pointer"),
        },
        ..Answers::default()
    }
}

/// A collection is answered with 200 and a line for each item. 415 speaks of the content type that is
/// configured.
fn akeneo() -> Answers {
    Answers {
        rules: vec![
            rule("akeneo: unsupported content type", Verdict::Trip).status(&[415]),
            rule("akeneo: time-out", Verdict::Retry).status(&[408]),
        ],
        items: Items::Results {
            at: pointer(""),
            by: Naming::Number(pointer("/line"), 1),
            status: pointer("/status_code"),
        },
        ..Answers::default()
    }
}

/// Collections are answered with 200 and a result for each item, by position. With `allOrNone` the items
/// beside a wrong one fail too, and name no fault of theirs. The daily limit is a 403.
fn salesforce() -> Answers {
    Answers {
        rules: vec![
            rule("salesforce: request limit", Verdict::Throttled)
                .status(&[403])
                .at("/*/errorCode", &[json!("REQUEST_LIMIT_EXCEEDED")]),
            rule("salesforce: the row is locked", Verdict::Retry)
                .at("/*/errorCode", &[json!("UNABLE_TO_LOCK_ROW")]),
            rule("salesforce: rolled back with another", Verdict::Retry)
                .of_items()
                .at(
                    "/errors/*/statusCode",
                    &[json!("ALL_OR_NONE_OPERATION_ROLLED_BACK")],
                ),
            rule("salesforce: the row is locked", Verdict::Retry)
                .of_items()
                .at("/errors/*/statusCode", &[json!("UNABLE_TO_LOCK_ROW")]),
            rule("salesforce: success", Verdict::Delivered)
                .of_items()
                .at("/success", &[json!(true)]),
            rule("salesforce: errors", Verdict::Refused)
                .of_items()
                .at("/success", &[json!(false)]),
        ],
        items: Items::Results {
            at: pointer(""),
            by: Naming::Position,
            status: pointer("/status"),
        },
        ..Answers::default()
    }
}

/// A listing that is not valid is refused with 200; one that is accepted may still be found wrong later.
fn amazon_listings() -> Answers {
    Answers {
        rules: vec![
            rule("amazon-listings: not valid", Verdict::Refused).at("/status", &[json!("INVALID")]),
            rule("amazon-listings: no status", Verdict::Retry)
                .status(&[200])
                .missing("/status"),
        ],
        items: Items::AllOrNothing,
        accepted_only: true,
        ..Answers::default()
    }
}

fn rule(name: &str, then: Verdict) -> Rule {
    Rule {
        name: name.to_owned(),
        of_preset: true,
        of_items: false,
        status: Vec::new(),
        at: None,
        is: Test::Filled,
        then,
    }
}

impl Rule {
    fn of_items(self) -> Rule {
        Rule {
            of_items: true,
            ..self
        }
    }

    fn status(self, status: &[u16]) -> Rule {
        Rule {
            status: status.to_vec(),
            ..self
        }
    }

    fn at(self, at: &str, is: &[Value]) -> Rule {
        Rule {
            at: Some(pointer(at)),
            is: Test::OneOf(is.to_vec()),
            ..self
        }
    }

    fn filled(self, at: &str) -> Rule {
        Rule {
            at: Some(pointer(at)),
            is: Test::Filled,
            ..self
        }
    }

    fn missing(self, at: &str) -> Rule {
        Rule {
            at: Some(pointer(at)),
            is: Test::Missing,
            ..self
        }
    }
}

fn pointer(text: &str) -> Pointer {
    Pointer::parse(text).expect("the pointers of presets are valid")
}
