//! A Weir plugin as one plain function.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use weir_plugin::{version_from_time, Change, Event, Result};
//!
//! #[derive(Deserialize)]
//! struct Settings {
//!     list: String,
//! }
//!
//! #[derive(Deserialize)]
//! struct Article<'a> {
//!     sku: &'a str,
//!     amount: &'a str,
//!     changed: &'a str,
//! }
//!
//! #[derive(Serialize)]
//! struct Price<'a> {
//!     amount: &'a str,
//! }
//!
//! #[weir_plugin::mapper]
//! fn prices(event: &Event, settings: &Settings) -> Result<Vec<Change>> {
//!     let article: Article = event.json()?;
//!     let price = Price { amount: article.amount };
//!     let facet = format!("price.{}", settings.list);
//!     Ok(vec![Change::facet("product", article.sku, facet, &price)?.version(version_from_time(article.changed)?)])
//! }
//!
//! let settings = weir_plugin::settings("prices", r#"{"list": "retail"}"#).unwrap();
//! let event = Event::of(r#"{"sku": "4711", "amount": "9.90", "changed": "2026-11-23T10:00:00Z"}"#);
//! assert_eq!(prices(&event, &settings).unwrap()[0].value.as_deref(), Some(r#"{"amount":"9.90"}"#));
//! ```
//!
//! The attribute states the kind of the plugin: [`event_filter`], [`mapper`], [`entity_filter`] or
//! [`renderer`]. It leaves the function unchanged, so ordinary tests can call it. For WebAssembly
//! it adds the parts that the host needs: handling of batches and settings, and a hook that reports
//! a panic's message. On other targets it only checks types, and no Wasm code is compiled.
//!
//! A plugin has no clock, no files, no network and no memory of earlier calls: the same settings
//! and the same input must give the same output.

mod change;
mod entity;
mod error;
mod event;
#[doc(hidden)]
pub mod guest;
mod json;
pub mod log;
mod rendering;
mod settings;
mod types;

pub use error::Result;
pub use settings::settings;
pub use types::{Change, Entity, Error, Event, Facet, Payload, Rendering};
/// Makes the function the plugin's filter of entities: `fn(&Entity, &Settings) -> Result<bool>`.
/// False means that the entity is not for this channel. [`mapper`] describes the attribute's
/// arguments.
pub use weir_plugin_macros::entity_filter;
/// Makes the function the plugin's filter of events: `fn(&Event, &Settings) -> Result<bool>`. True
/// lets the event pass. [`mapper`] describes the attribute's arguments.
pub use weir_plugin_macros::event_filter;
/// Makes the function the plugin's mapper: `fn(&Event, &Settings) -> Result<Vec<Change>>`.
///
/// The function takes the event by value or by reference, and the settings by reference or not at
/// all. Settings are any type that serde can deserialize; if a setting does not fit, the
/// configuration is rejected with a message that names the field. The error can be any type that
/// converts into [`Error`].
///
/// The attribute has two optional arguments:
///
/// - `#[mapper(settings = Settings::parse)]`: a function of your own reads the settings, for checks
///   that a type cannot express: `fn(&str) -> Result<Settings, impl ToString>`. It can call
///   [`settings()`] for the deserialization.
/// - `#[mapper(filter = accept)]`: the plugin is also an event filter, which runs first. `accept`
///   is a plain function, `fn(&Event, &Settings) -> Result<bool>`, with the same settings, or
///   `fn(&Event) -> Result<bool>` if there are none.
///
/// A crate is one plugin and has one of these attributes. A second one in the same module fails
/// with "the name `a_crate_is_one_weir_plugin` is defined multiple times"; a second one in another
/// module fails when the plugin is built for Wasm.
pub use weir_plugin_macros::mapper;
/// Makes the function the plugin's renderer: `fn(&Entity, &Settings) -> Result<Option<Rendering>>`.
/// `None` means that the entity is not for this channel. [`mapper`] describes the attribute's
/// arguments; `filter` names a filter of entities here.
pub use weir_plugin_macros::renderer;

/// Converts an RFC 3339 time with an offset to milliseconds since 1970, for [`Change::version`]:
/// `2026-11-23T10:00:00Z`, `2026-11-23T11:00:00.250+01:00`. Finer fractions are cut off.
///
/// Fails with `not-a-time` for any other text, and for times before 1970.
#[cfg(feature = "time")]
pub fn version_from_time(time: &str) -> Result<u64> {
    let parsed = time.parse::<jiff::Timestamp>().ok();
    parsed
        .and_then(|time| u64::try_from(time.as_millisecond()).ok())
        .ok_or_else(|| Error::new("not-a-time", format!("`{time}` is not a time since 1970 with an offset, such as 2026-11-23T10:00:00Z")))
}

/// Returns from the function with an [`Error`]. The arguments are a code and a message as for
/// `format!`.
///
/// ```
/// # fn f(sku: &str) -> weir_plugin::Result<()> {
/// if sku.is_empty() {
///     weir_plugin::bail!("missing-field", "the article {sku:?} has no number");
/// }
/// # Ok(()) }
/// # assert_eq!(f("").unwrap_err().code, "missing-field");
/// ```
#[macro_export]
macro_rules! bail {
    ($code:expr, $($message:tt)+) => {
        return ::core::result::Result::Err(::core::convert::Into::into($crate::Error::new($code, ::std::format!($($message)+))))
    };
}

#[cfg(all(test, feature = "time"))]
mod tests {
    use super::version_from_time;

    #[test]
    fn a_time_becomes_milliseconds_since_1970() {
        for (time, version) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-11-23T10:00:00Z", 1_795_428_000_000),
            ("2026-11-23T11:00:00+01:00", 1_795_428_000_000),
            ("2026-11-23T10:00:00.2509Z", 1_795_428_000_250),
        ] {
            assert_eq!(version_from_time(time), Ok(version), "{time}");
        }
    }

    #[test]
    fn a_text_that_is_not_a_time_fails_with_a_code() {
        for time in [
            "",
            "today",
            "2026-11-23",
            "2026-11-23T10:00:00",
            "1969-12-31T23:59:59Z",
            "2026-13-01T00:00:00Z",
            "99999-01-01T00:00:00Z",
        ] {
            let error = version_from_time(time).expect_err(time);
            assert_eq!(error.code, "not-a-time");
            assert!(
                error.message.contains(&format!("`{time}`")),
                "{}",
                error.message
            );
        }
    }
}
