//! Reads a function's signature: how it takes its item, and which settings it takes.

use syn::{Error, FnArg, GenericParam, Ident, ItemFn, Result, ReturnType, Type};

/// A plain function that can become a plugin.
pub(crate) struct Signature {
    pub(crate) name: Ident,
    /// The item's type, without the reference if there is one.
    pub(crate) item: Type,
    pub(crate) by_reference: bool,
    /// The settings' type, without the reference, if the function takes settings.
    pub(crate) settings: Option<Type>,
    pub(crate) output: Type,
}

impl Signature {
    /// Reads a signature. Errors quote `usage`, an example of a correct one.
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
                    "a plugin's function takes one item and, optionally, the settings",
                )
            }
        };
        let (item, by_reference) = match item {
            Type::Reference(reference) if reference.mutability.is_some() => {
                return wrong(item, "the item cannot be taken by mutable reference")
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
                    "all calls share the settings, so they must be taken by shared reference",
                )
            }
        };
        let ReturnType::Type(_, output) = &signature.output else {
            return wrong(&signature.ident, "a plugin's function must return a Result");
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
