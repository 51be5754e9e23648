//! The view of a session: who is signed in.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who is signed in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SessionView {
    /// Whether the admin routes of this listener need a token.
    pub needs_token: bool,
    /// The name of the request's token, if it has one that is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it may do: `read`, `operate`, `plugins` or `admin`; `admin` if no token is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
}
