//! What an error of PostgreSQL means: whose fault it is, and whether the statement was applied.
//!
//! The five characters of its SQLSTATE decide, never its text. A wrong class would refuse a million
//! entities for a missing right, or send one that can never be stored forever.

use tokio_postgres::error::{DbError, SqlState};

use super::Options;
use crate::targets::Outcome;
use crate::targets::http;

/// The longest part of a message that is quoted, in characters.
const QUOTED_CHARS_MAX: usize = 400;

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Of the moment; nothing was applied.
    Later,
    /// Nobody knows whether it was applied.
    Unknown,
    /// A row is locked by somebody else; nothing was applied.
    Locked,
    /// The statement took too long; nothing was applied.
    TooLong,
    /// The server takes no writes. There is another one that does, or will be.
    ReadOnly,
    /// The table, a right, the login: nothing will be taken until somebody changes it.
    Table,
    /// One row of the statement.
    Row,
    /// One row of the statement, which refers to something that may come later.
    RowLater,
}

/// Why a statement was not carried out.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Failed {
    pub(super) class: Class,
    /// What happened, as text for users.
    pub(super) reason: String,
}

impl Failed {
    pub(super) fn new(class: Class, reason: impl Into<String>) -> Failed {
        Failed {
            class,
            reason: reason.into(),
        }
    }

    /// The outcomes of the items of a statement that failed as a whole.
    pub(super) fn outcome(&self, items: usize) -> Outcome {
        let reason = self.reason.clone();
        let retry = |reason, maybe_applied| Outcome::Retry {
            reason,
            maybe_applied,
        };
        match self.class {
            Class::Later | Class::Locked => retry(reason, false),
            Class::Unknown => retry(reason, true),
            Class::ReadOnly | Class::Table => Outcome::Trip { reason },
            Class::TooLong if items > 1 => Outcome::Split {
                reason,
                too_long: true,
            },
            Class::TooLong => retry(reason, false),
            // It says what is wrong, but not of which row.
            Class::Row | Class::RowLater if items > 1 => Outcome::Split {
                reason,
                too_long: false,
            },
            Class::Row | Class::RowLater => Outcome::Refused {
                reason,
                after_tries: self.class == Class::RowLater,
            },
        }
    }
}

/// The failure of a statement. `written` are the columns that Weir writes.
pub(super) fn failed(
    error: &tokio_postgres::Error,
    options: &Options,
    written: &[String],
) -> Failed {
    let Some(said) = error.as_db_error() else {
        let reason = format!("no answer of the database: {}", http::innermost(error));
        return Failed::new(Class::Unknown, reason);
    };
    Failed::new(class(said, written), described(said, options))
}

/// The class of an error that a server has reported while it ran a statement.
fn class(said: &DbError, written: &[String]) -> Class {
    let code = said.code().code();
    match (said.code(), code.get(..2).unwrap_or(code)) {
        (&SqlState::READ_ONLY_SQL_TRANSACTION, _) => Class::ReadOnly,
        (&SqlState::LOCK_NOT_AVAILABLE, _) => Class::Locked,
        (&SqlState::QUERY_CANCELED, _) => Class::TooLong,
        // One entity twice in a statement, for example "7" and "07" in a column of numbers.
        (&SqlState::CARDINALITY_VIOLATION, _) => Class::Row,
        // A new column that Weir knows nothing of fails each row.
        (&SqlState::NOT_NULL_VIOLATION, _) => {
            let ours = |column: &str| written.iter().any(|written| written == column);
            match said.column().is_some_and(|column| !ours(column)) {
                true => Class::Table,
                false => Class::Row,
            }
        }
        // No partition takes the row. The violation of a check has the name of its constraint.
        (&SqlState::CHECK_VIOLATION, _) if said.constraint().is_none() => Class::Table,
        (&SqlState::CHECK_VIOLATION, _) => Class::Row,
        (
            &SqlState::FOREIGN_KEY_VIOLATION
            | &SqlState::UNIQUE_VIOLATION
            | &SqlState::EXCLUSION_VIOLATION,
            _,
        ) => Class::RowLater,
        // 40003: the outcome of the commit is not known.
        (&SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN, _) => Class::Unknown,
        // 08: connection; 57P: the server stops; 58, XX: I/O and internal errors.
        (_, "08" | "57" | "58" | "XX" | "F0") => Class::Unknown,
        // 22: data; 23: constraints; 27, 38, 39, P0: triggers; 44: a view's condition; 54: limits.
        (_, "22" | "23" | "27" | "38" | "39" | "44" | "54" | "P0" | "2F") => Class::Row,
        // 0A: not supported for this table; 28: login; 3D, 3F: database, schema; 42: names, rights,
        // types; 55: state; 26, 34: a statement that a pooler has lost.
        (_, "0A" | "0L" | "0P" | "26" | "28" | "34" | "3D" | "3F" | "42" | "55") => Class::Table,
        // 40: conflicts of transactions; 53: no room, no memory, too many clients.
        _ => Class::Later,
    }
}

/// What a server said, with its code, without the password.
pub(super) fn described(said: &DbError, options: &Options) -> String {
    let mut text = said.message().to_owned();
    // Only these details name keys; others quote the whole row.
    let names_keys = matches!(
        *said.code(),
        SqlState::FOREIGN_KEY_VIOLATION | SqlState::UNIQUE_VIOLATION
    );
    if let Some(detail) = said.detail().filter(|_| names_keys) {
        text = format!("{text} ({detail})");
    }
    if let Some(hint) = said.hint() {
        text = format!("{text}; {hint}");
    }
    if let Some(cut) = text.char_indices().nth(QUOTED_CHARS_MAX) {
        text.truncate(cut.0);
        text.push('…');
    }
    format!(
        "{} (SQLSTATE {})",
        options.without_password(&text),
        said.code().code()
    )
}
