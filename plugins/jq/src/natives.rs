//! Functions of jq that are written in Rust here: those that a plugin cannot have, which fail by
//! name, and those that jaq has in another form than jq or a plugin needs.

use crate::quick::{self, Data};
use crate::{json, paths, texts};
use jaq_core::box_iter::box_once;
use jaq_core::load::parse::Def;
use jaq_core::native::{bome, run, unary, v, Filter, Fun};
use jaq_core::{Bind, Error, Native, RunPtr, ValR, ValT as _, ValXs};
use jaq_json::{Num, Val};
use weir_plugin::log::Level;

/// What jaq defines in its own language and is written in Rust here, with the number of arguments: what programs
/// use all the time costs a tenth then, and the rest behaves as in jq.
const DEFINED: [(&str, usize); 15] = [
    ("empty", 0),
    ("null", 0),
    ("true", 0),
    ("false", 0),
    ("not", 0),
    ("isboolean", 0),
    ("isnumber", 0),
    ("isstring", 0),
    ("isarray", 0),
    ("isobject", 0),
    ("setpath", 2),
    ("delpaths", 1),
    ("join", 1),
    ("tonumber", 0),
    ("toboolean", 0),
];

/// All functions.
pub(crate) fn functions() -> impl Iterator<Item = Fun<Data>> {
    let own = own().into_vec().into_iter().chain(as_in_jq().into_vec());
    let own: Vec<_> = own.chain(simple()).collect();
    let names: Vec<&str> = own.iter().map(|(name, ..)| *name).collect();
    let of_jaq = jaq_core::funs()
        .chain(jaq_std::funs())
        .chain(jaq_json::funs());
    let of_jaq = of_jaq.filter(move |(name, ..)| !names.contains(name));
    let own = own.into_iter().map(run::<Data>);
    let own = own.chain([empty(), is_in()]).chain(of_jaq);
    own.chain(quick::functions().into_vec())
}

/// jaq's definitions, without those that are functions here.
pub(crate) fn definitions() -> impl Iterator<Item = Def<&'static str>> {
    let of_jaq = jaq_core::defs()
        .chain(jaq_std::defs())
        .chain(jaq_json::defs());
    of_jaq.filter(|def| {
        let named = |(name, arity): &(&str, usize)| *name == def.name && *arity == def.args.len();
        !DEFINED.iter().any(named)
    })
}

fn empty() -> Fun<Data> {
    let native = Native::<Data>::new(|_| Box::new(std::iter::empty()))
        .with_paths(|_| Box::new(std::iter::empty()))
        .with_update(|cv, _| box_once(Ok(cv.1)));
    ("empty", v(0), native)
}

/// `IN(list)`: whether the input is one of the outputs.
fn is_in() -> Fun<Data> {
    let native = Native::<Data>::new(|mut cv| {
        let (list, context) = cv.0.pop_fun();
        for item in list.run((context, cv.1.clone())) {
            match item {
                Ok(item) if item == cv.1 => return is(true),
                Ok(_) => {}
                Err(error) => return box_once(Err(error)),
            }
        }
        is(false)
    });
    ("IN", Box::new([Bind::Fun(())]), native)
}

fn simple() -> [Filter<RunPtr<Data>>; 9] {
    [
        ("null", v(0), |_| bome(Ok(Val::Null))),
        ("true", v(0), |_| bome(Ok(Val::Bool(true)))),
        ("false", v(0), |_| bome(Ok(Val::Bool(false)))),
        ("not", v(0), |cv| bome(Ok(Val::Bool(!cv.1.as_bool())))),
        ("isboolean", v(0), |cv| is(matches!(cv.1, Val::Bool(_)))),
        ("isnumber", v(0), |cv| is(matches!(cv.1, Val::Num(_)))),
        ("isstring", v(0), |cv| {
            is(matches!(cv.1, Val::TStr(_) | Val::BStr(_)))
        }),
        ("isarray", v(0), |cv| is(matches!(cv.1, Val::Arr(_)))),
        ("isobject", v(0), |cv| is(matches!(cv.1, Val::Obj(_)))),
    ]
}

fn is<'a>(truth: bool) -> ValXs<'a, Val> {
    bome(Ok(Val::Bool(truth)))
}

fn own() -> Box<[Filter<RunPtr<Data>>]> {
    Box::new([
        ("now", v(0), |_| {
            bome(absent("now", "take the time from the event"))
        }),
        ("env", v(0), |_| bome(absent("env", "use $settings"))),
        ("input", v(0), |_| {
            bome(absent("input", "its only input is `.`"))
        }),
        ("inputs", v(0), |_| {
            bome(absent("inputs", "its only input is `.`"))
        }),
        ("fromjson", v(0), |cv| bome(from_json(&cv.1))),
        ("version_from_time", v(0), |cv| bome(version(&cv.1))),
        ("debug_empty", v(0), |cv| {
            weir_plugin::log::write(Level::Debug, &cv.1.to_string());
            Box::new(std::iter::empty())
        }),
        ("stderr_empty", v(0), |cv| {
            weir_plugin::log::write(Level::Warn, &cv.1.to_string());
            Box::new(std::iter::empty())
        }),
    ])
}

/// Functions that differ from jq in jaq.
fn as_in_jq() -> Box<[Filter<RunPtr<Data>>]> {
    const TRIM: &str = "trim input must be a string";
    Box::new([
        ("setpath", v(2), |mut cv| {
            let value = cv.0.pop_var();
            let path = cv.0.pop_var();
            bome(paths::set(cv.1, &path, value))
        }),
        ("delpaths", v(1), |cv| {
            unary(cv, |value, paths| paths::delete(value, &paths))
        }),
        ("join", v(1), |cv| {
            unary(cv, |list, between| texts::join(&list, &between))
        }),
        ("tonumber", v(0), |cv| bome(texts::number(&cv.1))),
        ("toboolean", v(0), |cv| bome(texts::boolean(&cv.1))),
        ("utf8bytelength", v(0), |cv| bome(texts::length(&cv.1))),
        ("implode", v(0), |cv| bome(texts::implode(&cv.1))),
        ("trim", v(0), |cv| bome(texts::part(&cv.1, str::trim, TRIM))),
        ("ltrim", v(0), |cv| {
            bome(texts::part(&cv.1, str::trim_start, TRIM))
        }),
        ("rtrim", v(0), |cv| {
            bome(texts::part(&cv.1, str::trim_end, TRIM))
        }),
        ("ltrimstr", v(1), |cv| {
            unary(cv, |text, part| texts::trimmed(&text, &part, true, false))
        }),
        ("rtrimstr", v(1), |cv| {
            unary(cv, |text, part| texts::trimmed(&text, &part, false, true))
        }),
        ("trimstr", v(1), |cv| {
            unary(cv, |text, part| texts::trimmed(&text, &part, true, true))
        }),
    ])
}

fn absent(name: &str, instead: &str) -> ValR<Val> {
    Err(Error::str(format_args!(
        "a plugin has no `{name}`: the same input must give the same output; {instead}"
    )))
}

/// jaq's own reads a superset of JSON, and of a text with something behind the value it returns the
/// value and then errors without end.
fn from_json(value: &Val) -> ValR<Val> {
    let text = as_text(value)?;
    json::read(text).map_err(|why| Error::str(format_args!("{text:?} is not JSON: {why}")))
}

/// Milliseconds since 1970, for the version of a change.
fn version(value: &Val) -> ValR<Val> {
    match weir_plugin::version_from_time(as_text(value)?) {
        Ok(version) => Ok(Val::Num(Num::from_integral(version))),
        Err(error) => Err(Error::new(Val::obj(
            [("code", error.code), ("message", error.message)]
                .into_iter()
                .map(|(name, value)| (crate::text(name), crate::text(&value)))
                .collect(),
        ))),
    }
}

fn as_text(value: &Val) -> Result<&str, Error<Val>> {
    let error = || Error::str(format_args!("cannot use {} as text", crate::shown(value)));
    crate::as_text(value).ok_or_else(error)
}
