//! The attributes of `weir-plugin`, documented there.
//!
//! An attribute leaves its function as it is, reads its signature, and adds the implementation of a
//! role that calls it. Types are left to the compiler: what the function takes and gives is used in
//! the place where the role needs it, under the function's own spans.

mod role;
mod signature;

use proc_macro::TokenStream;
use role::Role;

/// See `weir_plugin::event_filter`.
#[proc_macro_attribute]
pub fn event_filter(words: TokenStream, function: TokenStream) -> TokenStream {
    role::expand(Role::EventFilter, words.into(), function.into()).into()
}

/// See `weir_plugin::mapper`.
#[proc_macro_attribute]
pub fn mapper(words: TokenStream, function: TokenStream) -> TokenStream {
    role::expand(Role::Mapper, words.into(), function.into()).into()
}

/// See `weir_plugin::entity_filter`.
#[proc_macro_attribute]
pub fn entity_filter(words: TokenStream, function: TokenStream) -> TokenStream {
    role::expand(Role::EntityFilter, words.into(), function.into()).into()
}

/// See `weir_plugin::renderer`.
#[proc_macro_attribute]
pub fn renderer(words: TokenStream, function: TokenStream) -> TokenStream {
    role::expand(Role::Renderer, words.into(), function.into()).into()
}
