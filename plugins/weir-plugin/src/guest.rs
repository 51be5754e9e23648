//! Connects the component's exports with the author's function: splits batches, reads the settings
//! once, and logs the message of a panic.
//!
//! Each attribute implements [`Plugin`] and one or two of the roles for a type of its own, which
//! [`bindings`] exports for Wasm. Nothing here is for authors.

#[cfg(target_arch = "wasm32")]
pub mod bindings;

use crate::{Change, Entity, Error, Event, Rendering, Result};
use std::sync::OnceLock;

/// The settings, which every plugin has.
pub trait Plugin: 'static {
    /// The type of the settings.
    type Settings: Send + Sync + 'static;

    /// Reads the settings. An error rejects the configuration and is shown to the operator.
    fn read(json: &str) -> Result<Self::Settings, String>;

    /// The place that stores the settings of this instance.
    fn kept() -> &'static OnceLock<Self::Settings>;
}

/// A plugin that filters events.
pub trait EventFilter: Plugin {
    /// Returns true if the event passes.
    fn accept(event: Event, settings: &Self::Settings) -> Result<bool>;
}

/// A plugin that maps events.
pub trait Mapper: Plugin {
    /// Returns the event's changes.
    fn transform(event: Event, settings: &Self::Settings) -> Result<Vec<Change>>;
}

/// A plugin that filters entities.
pub trait EntityFilter: Plugin {
    /// Returns true if the entity is for the channel.
    fn accept(entity: Entity, settings: &Self::Settings) -> Result<bool>;
}

/// A plugin that renders entities.
pub trait Renderer: Plugin {
    /// Returns the rendering, or `None` if the entity is not for the channel.
    fn render(entity: Entity, settings: &Self::Settings) -> Result<Option<Rendering>>;
}

/// Reads and stores the settings of this instance.
pub fn configure<P: Plugin>(json: &str) -> Result<(), String> {
    // A panic ends the instance, and the host would not see its message; the hook logs it first.
    #[cfg(target_arch = "wasm32")]
    std::panic::set_hook(Box::new(|panic| crate::log::error(panic)));
    P::kept()
        .set(P::read(json)?)
        .map_err(|_| "the instance is already configured".into())
}

/// Returns one result for each item, in the same order.
pub fn each<P: Plugin, I, O>(
    items: Vec<I>,
    call: impl Fn(I, &P::Settings) -> Result<O>,
) -> Vec<Result<O>> {
    match P::kept().get() {
        Some(settings) => items.into_iter().map(|item| call(item, settings)).collect(),
        None => items
            .iter()
            .map(|_| {
                Err(Error::new(
                    "not-configured",
                    "the plugin was called before it was configured",
                ))
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Doubling;

    impl Plugin for Doubling {
        type Settings = u32;

        fn read(json: &str) -> Result<u32, String> {
            crate::settings("doubling", json)
        }

        fn kept() -> &'static OnceLock<u32> {
            static KEPT: OnceLock<u32> = OnceLock::new();
            &KEPT
        }
    }

    #[test]
    fn an_instance_is_configured_once_and_before_it_is_called() {
        let double = || each::<Doubling, _, _>(vec![1, 2], |item, settings| Ok(item * settings));
        assert!(double().iter().all(|result| result
            .as_ref()
            .is_err_and(|error| error.code == "not-configured")));
        assert!(configure::<Doubling>("\"two\"")
            .expect_err("no number")
            .starts_with("settings of doubling"));
        assert_eq!(configure::<Doubling>("2"), Ok(()));
        assert_eq!(double(), [Ok(2), Ok(4)]);
        assert!(configure::<Doubling>("3").is_err());
    }
}
