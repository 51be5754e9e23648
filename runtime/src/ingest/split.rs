//! One body, many events.

/// How a body that is no CloudEvent is cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Split {
    /// The body is one event.
    #[default]
    Whole,
    /// Each element of this name, with all that is in it, is one event.
    Xml(String),
    /// Each item of the array at this JSON pointer.
    Json(String),
    /// Each record, as a JSON object by the names of the first line.
    Csv,
    /// Each line that is not empty.
    Lines,
}
