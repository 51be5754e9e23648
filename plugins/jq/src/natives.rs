//! Functions of jq that are written in Rust here: those that a plugin cannot have, which fail by
//! name, and those that jaq has in another form than a plugin needs.

use crate::json;
use jaq_core::box_iter::box_once;
use jaq_core::data::JustLut;
use jaq_core::load::parse::Def;
use jaq_core::native::{bome, run, v, Filter, Fun};
use jaq_core::{Error, Native, RunPtr, ValR, ValT as _, ValXs};
use jaq_json::{Num, Val};
use weir_plugin::log::Level;

/// The values that programs work on.
pub(crate) type Data = JustLut<Val>;

/// What jaq defines in its own language and programs use all the time. Written in Rust they cost a tenth.
const QUICK: [&str; 10] = [
    "empty",
    "null",
    "true",
    "false",
    "not",
    "isboolean",
    "isnumber",
    "isstring",
    "isarray",
    "isobject",
];

/// All functions.
pub(crate) fn functions() -> impl Iterator<Item = Fun<Data>> {
    let own: Vec<_> = own().into_vec().into_iter().chain(quick()).collect();
    let names: Vec<&str> = own.iter().map(|(name, ..)| *name).collect();
    let of_jaq = jaq_core::funs()
        .chain(jaq_std::funs())
        .chain(jaq_json::funs());
    let of_jaq = of_jaq.filter(move |(name, ..)| !names.contains(name));
    let own = own.into_iter().map(run::<Data>);
    own.chain([empty()]).chain(of_jaq)
}

/// jaq's definitions, without those that are functions here.
pub(crate) fn definitions() -> impl Iterator<Item = Def<&'static str>> {
    let of_jaq = jaq_core::defs()
        .chain(jaq_std::defs())
        .chain(jaq_json::defs());
    of_jaq.filter(|def| !(def.args.is_empty() && QUICK.contains(&def.name)))
}

fn empty() -> Fun<Data> {
    let native = Native::<Data>::new(|_| Box::new(std::iter::empty()))
        .with_paths(|_| Box::new(std::iter::empty()))
        .with_update(|cv, _| box_once(Ok(cv.1)));
    ("empty", v(0), native)
}

fn quick() -> [Filter<RunPtr<Data>>; 9] {
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
