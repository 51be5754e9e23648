//! Errors: a stable code and a sentence, created by the author or by `?`.
//!
//! Errors of parsers that `?` converts get one of the codes `broken-json`, `broken-xml`,
//! `broken-csv`, `not-a-number` and `not-utf-8`. To give your own errors a code, write `impl
//! From<MyError> for weir_plugin::Error`.

use crate::Error;
use std::fmt::{self, Display};

/// The result of a plugin's function for one item.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Makes an error with a stable code for machines (`missing-field`) and a message for people.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Error {
            code: code.into(),
            message: message.into(),
        }
    }

    /// Puts the subject in front of the message: `the price of 4711: expected value at line 1
    /// column 1`.
    pub fn about(mut self, subject: impl Display) -> Self {
        self.message = format!("{subject}: {}", self.message);
        self
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for Error {}

macro_rules! from {
    ($($(#[$when:meta])* $error:ty => $code:literal, $what:literal;)+) => {
        $($(#[$when])* impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Error::new($code, format!(concat!($what, "{}"), error))
            }
        })+
    };
}

from! {
    serde_json::Error => "broken-json", "the JSON is not as expected: ";
    #[cfg(feature = "xml")] quick_xml::DeError => "broken-xml", "the XML is not as expected: ";
    #[cfg(feature = "xml")] quick_xml::Error => "broken-xml", "the XML cannot be read: ";
    #[cfg(feature = "csv")] csv::Error => "broken-csv", "the CSV is not as expected: ";
    std::num::ParseIntError => "not-a-number", "";
    std::num::ParseFloatError => "not-a-number", "";
    std::str::Utf8Error => "not-utf-8", "";
    std::string::FromUtf8Error => "not-utf-8", "";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_mark_gives_a_code() {
        fn whole(text: &str) -> Result<u32> {
            Ok(text.parse::<u32>()?)
        }
        fn listed(text: &str) -> Result<Vec<u32>> {
            Ok(serde_json::from_str(text)?)
        }
        assert_eq!(
            whole("x").map_err(|error| error.code),
            Err("not-a-number".into())
        );
        let error = listed("[1,")
            .map_err(|error| error.about("the list"))
            .expect_err("half a list");
        assert_eq!(error.code, "broken-json");
        assert!(
            error
                .message
                .starts_with("the list: the JSON is not as expected: EOF"),
            "{error}"
        );
    }

    #[test]
    fn bail_leaves_with_code_and_message() {
        fn refused(name: &str) -> Result<()> {
            crate::bail!("missing-field", "{name} has no price");
        }
        assert_eq!(
            refused("4711"),
            Err(Error::new("missing-field", "4711 has no price"))
        );
    }
}
