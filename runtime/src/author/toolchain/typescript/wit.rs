//! Generates the interface's TypeScript types from the WIT, as componentize-qjs passes the values,
//! and checks that they equal the kit's `wit.ts`.
//!
//! After a change of `wit/plugin.wit`: `UPDATE_EXPECT=1 cargo test -p weir --lib typescript::wit`.

use std::fmt::Write as _;

use expect_test::expect_file;
use wit_parser::{Docs, Function, Interface, Resolve, Type, TypeDef, TypeDefKind};

use crate::author::toolchain::WIT;

const HEAD: &str = "/** The interface `wit/plugin.wit` in TypeScript: made from it, so change nothing here. */\n\n\
                    export type Result<T, E> = { tag: \"ok\"; val: T } | { tag: \"err\"; val: E };\n";

#[test]
fn the_kit_has_the_types_of_the_interface() {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("plugin.wit", WIT).expect("the interface");
    let mut text = String::from(HEAD);
    for interface in resolve.packages[package].interfaces.values() {
        declare(&resolve, &resolve.interfaces[*interface], &mut text);
    }
    expect_file!["../../../../assets/templates/typescript/common/weir/wit.ts"].assert_eq(&text);
}

fn declare(resolve: &Resolve, interface: &Interface, text: &mut String) {
    for (name, id) in &interface.types {
        let defined = &resolve.types[*id];
        // Types used from another interface are declared there.
        if !matches!(defined.kind, TypeDefKind::Type(_)) {
            text.push('\n');
            doc(&defined.docs, "", text);
            define(resolve, &camel(name, true), defined, text);
        }
    }
    if !interface.functions.is_empty() {
        text.push('\n');
        doc(&interface.docs, "", text);
        let _ = writeln!(
            text,
            "export interface {} {{",
            camel(interface.name.as_deref().unwrap_or_default(), true)
        );
        interface
            .functions
            .values()
            .for_each(|function| method(resolve, function, text));
        text.push_str("}\n");
    }
}

fn define(resolve: &Resolve, name: &str, defined: &TypeDef, text: &mut String) {
    match &defined.kind {
        TypeDefKind::Record(record) => {
            let _ = writeln!(text, "export interface {name} {{");
            for field in &record.fields {
                doc(&field.docs, "  ", text);
                let _ = writeln!(
                    text,
                    "  {}: {};",
                    camel(&field.name, false),
                    of(resolve, &field.ty)
                );
            }
            text.push_str("}\n");
        }
        TypeDefKind::Variant(variant) => {
            let case = |name: &str, of: String| format!("{{ tag: \"{name}\"; val: {of} }}");
            let cases = variant.cases.iter().map(|each| {
                case(
                    &each.name,
                    each.ty
                        .as_ref()
                        .map_or("undefined".into(), |ty| of(resolve, ty)),
                )
            });
            let _ = writeln!(
                text,
                "export type {name} = {};",
                cases.collect::<Vec<_>>().join(" | ")
            );
        }
        TypeDefKind::Enum(cases) => {
            let cases: Vec<String> = cases
                .cases
                .iter()
                .map(|case| format!("\"{}\"", case.name))
                .collect();
            let _ = writeln!(text, "export type {name} = {};", cases.join(" | "));
        }
        other => panic!("the interface has a kind of type that is new here: {other:?}"),
    }
}

/// A function that returns a `result` throws on failure.
fn method(resolve: &Resolve, function: &Function, text: &mut String) {
    doc(&function.docs, "  ", text);
    let given: Vec<String> = function
        .params
        .iter()
        .map(|given| format!("{}: {}", camel(&given.name, false), of(resolve, &given.ty)))
        .collect();
    let result = match &function.result {
        None => "void".to_owned(),
        Some(Type::Id(id)) => match &resolve.types[*id].kind {
            TypeDefKind::Result(result) => result
                .ok
                .as_ref()
                .map_or("void".into(), |ok| of(resolve, ok)),
            _ => of(resolve, &Type::Id(*id)),
        },
        Some(plain) => of(resolve, plain),
    };
    let _ = writeln!(
        text,
        "  {}({}): {result};",
        camel(&function.name, false),
        given.join(", ")
    );
}

fn of(resolve: &Resolve, ty: &Type) -> String {
    let Type::Id(id) = ty else {
        return match ty {
            Type::String => "string".into(),
            Type::Bool => "boolean".into(),
            Type::U64 => "number".into(),
            other => panic!("the interface has a type that is new here: {other:?}"),
        };
    };
    let defined = &resolve.types[*id];
    if let Some(name) = &defined.name {
        return camel(name, true);
    }
    match &defined.kind {
        TypeDefKind::List(Type::U8) => "Uint8Array".into(),
        TypeDefKind::List(each) => match of(resolve, each) {
            each if each.contains('|') => format!("({each})[]"),
            each => format!("{each}[]"),
        },
        TypeDefKind::Option(some) => format!("{} | null", of(resolve, some)),
        TypeDefKind::Tuple(tuple) => format!(
            "[{}]",
            tuple
                .types
                .iter()
                .map(|ty| of(resolve, ty))
                .collect::<Vec<_>>()
                .join(", ")
        ),
        TypeDefKind::Result(result) => {
            let side = |side: &Option<Type>| {
                side.as_ref()
                    .map_or("undefined".into(), |ty| of(resolve, ty))
            };
            format!("Result<{}, {}>", side(&result.ok), side(&result.err))
        }
        other => panic!("the interface has a kind of type that is new here: {other:?}"),
    }
}

fn doc(docs: &Docs, indent: &str, text: &mut String) {
    if let Some(said) = &docs.contents {
        let _ = writeln!(
            text,
            "{indent}/** {} */",
            said.trim().replace('\n', &format!("\n{indent} * "))
        );
    }
}

/// `event-type` as `eventType` or `EventType`.
fn camel(name: &str, big: bool) -> String {
    let mut upper = big;
    let letter = |letter: char| match (letter, std::mem::replace(&mut upper, letter == '-')) {
        ('-', _) => None,
        (letter, true) => Some(letter.to_ascii_uppercase()),
        (letter, false) => Some(letter),
    };
    name.chars().filter_map(letter).collect()
}
