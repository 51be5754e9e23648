//! Generates the implementation of a role from a function.

use crate::signature::Signature;
use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::parse::Parser;
use syn::spanned::Spanned;
use syn::{Ident, ItemFn, Path, Result};

/// The roles of a plugin.
#[derive(Clone, Copy)]
pub(crate) enum Role {
    EventFilter,
    Mapper,
    EntityFilter,
    Renderer,
}

/// The arguments of an attribute.
#[derive(Default)]
struct Words {
    /// The function that reads the settings.
    settings: Option<Path>,
    /// The function that filters before this one maps or renders.
    filter: Option<Path>,
}

/// Returns the function with the code that makes it a plugin, or with a compile error.
pub(crate) fn expand(role: Role, words: TokenStream, function: TokenStream) -> TokenStream {
    let parsed = syn::parse2::<ItemFn>(function.clone());
    let added = match parsed {
        Ok(parsed) => added(role, words, &parsed),
        Err(error) => Err(syn::Error::new(
            error.span(),
            format!(
                "the attribute must be on a function such as `{}`",
                role.usage()
            ),
        )),
    };
    // A wrong function stays too; otherwise every use of it would be another error.
    let added = added.unwrap_or_else(|error| error.to_compile_error());
    quote!(#function #added)
}

fn added(role: Role, words: TokenStream, function: &ItemFn) -> Result<TokenStream> {
    let words = Words::read(role, words)?;
    let signature = Signature::read(function, role.usage())?;
    let settings = signature
        .settings
        .as_ref()
        .filter(|settings| !is_unit(settings));
    let settings_type = settings.map_or_else(|| quote!(()), |settings| quote!(#settings));
    let read = match (&words.settings, settings) {
        (Some(path), _) => {
            quote_spanned!(path.span()=> #path(json).map_err(|error| ::std::string::ToString::to_string(&error)))
        }
        (None, Some(settings)) => {
            quote_spanned!(settings.span()=> ::weir_plugin::settings::<#settings>(::core::env!("CARGO_PKG_NAME"), json))
        }
        (None, None) => quote!({
            let _ = json;
            ::core::result::Result::Ok(())
        }),
    };
    let own = role_implemented(role, &signature);
    let filter = words
        .filter
        .as_ref()
        .map(|path| filter_implemented(role, path, signature.settings.is_some()));
    let mut parts = vec![format_ident!("settings"), role.part()];
    parts.extend(words.filter.as_ref().map(|_| role.filter().part()));
    Ok(quote! {
        // A second attribute in the same module defines the name again, and the compiler says so.
        #[doc(hidden)]
        #[allow(dead_code, non_camel_case_types)]
        enum a_crate_is_one_weir_plugin {}

        #[allow(clippy::useless_conversion, clippy::needless_question_mark)]
        const _: () = {
            struct Plugin;

            // Natively it can happen that only tests call the function. This value makes the
            // compiler treat the function as used, so that it does not warn.
            let _ = Plugin;

            impl ::weir_plugin::guest::Plugin for Plugin {
                type Settings = #settings_type;

                fn read(json: &str) -> ::core::result::Result<#settings_type, ::std::string::String> {
                    #read
                }

                fn kept() -> &'static ::std::sync::OnceLock<#settings_type> {
                    static KEPT: ::std::sync::OnceLock<#settings_type> = ::std::sync::OnceLock::new();
                    &KEPT
                }
            }

            #own
            #filter

            #(
                #[cfg(target_arch = "wasm32")]
                ::weir_plugin::guest::bindings::#parts::export!(Plugin with_types_in ::weir_plugin::guest::bindings::#parts);
            )*
        };
    })
}

fn role_implemented(role: Role, signature: &Signature) -> TokenStream {
    let Signature {
        name,
        item,
        by_reference,
        settings,
        output,
    } = signature;
    let (interface, method, given) = role.interface();
    let argument = match by_reference {
        true => quote_spanned!(item.span()=> &item),
        false => quote_spanned!(item.span()=> item),
    };
    let call = match settings {
        Some(_) => quote_spanned!(output.span()=> #name(#argument, settings)),
        None => quote_spanned!(output.span()=> #name(#argument)),
    };
    let unused = settings.is_none().then(|| quote!(let _ = settings;));
    let result =
        quote_spanned!(output.span()=> let result: ::core::result::Result<#given, _> = #call;);
    let taken = role.item();
    quote! {
        impl ::weir_plugin::guest::#interface for Plugin {
            fn #method(
                item: #taken,
                settings: &<Self as ::weir_plugin::guest::Plugin>::Settings,
            ) -> ::weir_plugin::Result<#given> {
                #unused
                #result
                result.map_err(::core::convert::Into::into)
            }
        }
    }
}

/// The filter is known only by its name, so its signature is fixed: it takes a reference, and the
/// settings if the main function takes them.
fn filter_implemented(role: Role, path: &Path, with_settings: bool) -> TokenStream {
    let (interface, method, given) = role.filter().interface();
    let taken = role.item();
    let call = match with_settings {
        true => quote_spanned!(path.span()=> #path(&item, settings)),
        false => quote_spanned!(path.span()=> #path(&item)),
    };
    let unused = (!with_settings).then(|| quote!(let _ = settings;));
    quote! {
        impl ::weir_plugin::guest::#interface for Plugin {
            fn #method(
                item: #taken,
                settings: &<Self as ::weir_plugin::guest::Plugin>::Settings,
            ) -> ::weir_plugin::Result<#given> {
                #unused
                let result: ::core::result::Result<#given, _> = #call;
                result.map_err(::core::convert::Into::into)
            }
        }
    }
}

impl Role {
    fn usage(self) -> &'static str {
        match self {
            Role::EventFilter => "fn accept(event: &Event, settings: &Settings) -> Result<bool>",
            Role::Mapper => {
                "fn transform(event: &Event, settings: &Settings) -> Result<Vec<Change>>"
            }
            Role::EntityFilter => "fn accept(entity: &Entity, settings: &Settings) -> Result<bool>",
            Role::Renderer => {
                "fn render(entity: &Entity, settings: &Settings) -> Result<Option<Rendering>>"
            }
        }
    }

    /// The role's trait in `weir_plugin::guest`, its method, and the method's result.
    fn interface(self) -> (TokenStream, TokenStream, TokenStream) {
        match self {
            Role::EventFilter => (quote!(EventFilter), quote!(accept), quote!(bool)),
            Role::Mapper => (
                quote!(Mapper),
                quote!(transform),
                quote!(::std::vec::Vec<::weir_plugin::Change>),
            ),
            Role::EntityFilter => (quote!(EntityFilter), quote!(accept), quote!(bool)),
            Role::Renderer => (
                quote!(Renderer),
                quote!(render),
                quote!(::core::option::Option<::weir_plugin::Rendering>),
            ),
        }
    }

    fn item(self) -> TokenStream {
        match self {
            Role::EventFilter | Role::Mapper => quote!(::weir_plugin::Event),
            Role::EntityFilter | Role::Renderer => quote!(::weir_plugin::Entity),
        }
    }

    /// The module of the role's bindings in `weir_plugin::guest::bindings`.
    fn part(self) -> Ident {
        format_ident!(
            "{}",
            match self {
                Role::EventFilter => "event_filter",
                Role::Mapper => "mapper",
                Role::EntityFilter => "entity_filter",
                Role::Renderer => "renderer",
            }
        )
    }

    /// The filter that can be in the same plugin.
    fn filter(self) -> Self {
        match self {
            Role::EventFilter | Role::Mapper => Role::EventFilter,
            Role::EntityFilter | Role::Renderer => Role::EntityFilter,
        }
    }
}

impl Words {
    fn read(role: Role, words: TokenStream) -> Result<Self> {
        let mut read = Words::default();
        let parser = syn::meta::parser(|word| {
            if word.path.is_ident("settings") {
                read.settings = Some(word.value()?.parse()?);
            } else if word.path.is_ident("filter") && matches!(role, Role::Mapper | Role::Renderer)
            {
                read.filter = Some(word.value()?.parse()?);
            } else {
                return Err(word.error(match role {
                    Role::Mapper | Role::Renderer => {
                        "the attribute takes `settings = PATH` and `filter = PATH`"
                    }
                    Role::EventFilter | Role::EntityFilter => {
                        "the attribute takes `settings = PATH`"
                    }
                }));
            }
            Ok(())
        });
        parser.parse2(words)?;
        Ok(read)
    }
}

fn is_unit(settings: &syn::Type) -> bool {
    matches!(settings, syn::Type::Tuple(tuple) if tuple.elems.is_empty())
}
