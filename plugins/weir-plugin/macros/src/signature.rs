//! What a function's signature says: how it takes its item, which settings it wants.

use syn::{Error, FnArg, GenericParam, Ident, ItemFn, Result, ReturnType, Type};

/// A plain function that a plugin can be made of.
pub(crate) struct Signature {
    pub(crate) name: Ident,
    /// The item's type, without the reference if it is taken by one.
    pub(crate) item: Type,
    pub(crate) by_reference: bool,
    /// The type behind the settings' reference, if it takes settings.
    pub(crate) settings: Option<Type>,
    pub(crate) output: Type,
}

impl Signature {
    /// Reads a signature; `usage` is how it should look, for whoever wrote it otherwise.
    pub(crate) fn read(function: &ItemFn, usage: &str) -> Result<Self> {
        let signature = &function.sig;
        let wrong = |at: &dyn quote::ToTokens, what: &str| {
            Err(Error::new_spanned(
                at,
                format!("{what}; it should look like `{usage}`"),
            ))
        };
        if let Some(word) = &signature.asyncness {
            return wrong(word, "a plugin's function cannot be async");
        }
        if let Some(generic) = signature
            .generics
            .params
            .iter()
            .find(|generic| !matches!(generic, GenericParam::Lifetime(_)))
        {
            return wrong(generic, "a plugin's function cannot be generic");
        }
        let mut inputs = Vec::new();
        for input in &signature.inputs {
            match input {
                FnArg::Typed(input) => inputs.push(&*input.ty),
                FnArg::Receiver(receiver) => {
                    return wrong(receiver, "a plugin's function cannot be a method")
                }
            }
        }
        let (item, settings) = match inputs[..] {
            [item] => (item, None),
            [item, settings] => (item, Some(settings)),
            _ => {
                return wrong(
                    &signature.ident,
                    "a plugin's function takes one item and, if it wants them, the settings",
                )
            }
        };
        let (item, by_reference) = match item {
            Type::Reference(reference) if reference.mutability.is_some() => {
                return wrong(item, "the item cannot be changed in place")
            }
            Type::Reference(reference) => (&*reference.elem, true),
            item => (item, false),
        };
        let settings = match settings {
            None => None,
            Some(Type::Reference(reference)) if reference.mutability.is_none() => {
                Some((*reference.elem).clone())
            }
            Some(other) => {
                return wrong(
                    other,
                    "the settings are shared by all calls and taken by reference",
                )
            }
        };
        let ReturnType::Type(_, output) = &signature.output else {
            return wrong(&signature.ident, "a plugin's function gives a Result");
        };
        Ok(Signature {
            name: signature.ident.clone(),
            item: item.clone(),
            by_reference,
            settings,
            output: (**output).clone(),
        })
    }
}
