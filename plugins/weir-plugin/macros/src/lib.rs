//! The attributes of `weir-plugin`, which documents them.
//!
//! An attribute leaves its function unchanged, reads its signature, and adds the implementation of
//! a role that calls it. The compiler checks the types: the generated code uses the function's
//! argument and result where the role needs them, with the function's own spans, so that errors
//! point at the function.

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
