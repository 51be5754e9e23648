//! Changes by path, as jq has them: what is missing is made, and what is not there is deleted without an
//! error. jaq has them in its own language, where each step of a path is an update and a deletion changes
//! the order of an object's members.

use crate::texts::{kind, named};
use jaq_core::path::Opt;
use jaq_core::{Error, Exn, ValR, ValT as _};
use jaq_json::{Map, Val};
use jaq_std::ValT as _;
use std::sync::Arc;

/// Maximum length of a path, as in jq.
const STEPS_MAX: usize = 10_000;
/// The largest index that a list can be extended to, as in jq.
const INDEX_MAX: f64 = 536_870_911.0;

/// `setpath`: the value with another value at the path.
pub(crate) fn set(mut at: Val, path: &Val, value: Val) -> ValR<Val> {
    let path = steps(path, "Path must be specified as an array")?;
    // A loop, because a path may be longer than the stack is deep.
    let mut around = Vec::with_capacity(path.len());
    for step in path {
        let (rest, member) = take(at, step)?;
        around.push((rest, step));
        at = member;
    }
    around
        .into_iter()
        .rev()
        .try_fold(value, |value, (rest, step)| put(rest, step, value))
}

/// `delpaths`: the value without what the paths lead to.
pub(crate) fn delete(value: Val, paths: &Val) -> ValR<Val> {
    let paths = steps(paths, "Paths must be specified as an array")?;
    let mut paths: Vec<&[Val]> = paths
        .iter()
        .map(|path| steps(path, "Path must be specified as an array"))
        .collect::<Result<_, _>>()?;
    paths.sort();
    match paths.first() {
        Some([]) => Ok(Val::Null),
        _ => delete_below(value, &paths, 0),
    }
}

fn steps<'a>(path: &'a Val, wrong: &str) -> Result<&'a [Val], Error<Val>> {
    match path {
        Val::Arr(steps) if steps.len() > STEPS_MAX => Err(Error::str("Path too deep")),
        Val::Arr(steps) => Ok(steps),
        _ => Err(Error::str(wrong)),
    }
}

/// Deletes by sorted paths that are longer than `depth`, and equal up to there.
fn delete_below(mut value: Val, mut paths: &[&[Val]], depth: usize) -> ValR<Val> {
    let mut whole = Vec::new();
    while let (Some(first), false) = (paths.first(), matches!(value, Val::Null)) {
        let step = &first[depth];
        let same = paths.iter().take_while(|path| path[depth] == *step);
        let (group, others) = paths.split_at(same.count());
        paths = others;
        // The shortest path of the group is its first.
        if first.len() == depth + 1 {
            whole.push(step);
            continue;
        }
        let (rest, member) = take(value, step)?;
        value = match member {
            Val::Null => rest,
            member => put(rest, step, delete_below(member, group, depth + 1)?)?,
        };
    }
    without(value, &whole)
}

/// The value without these members.
fn without(mut value: Val, steps: &[&Val]) -> ValR<Val> {
    match &mut value {
        Val::Arr(items) if !steps.is_empty() => {
            let mut kept = vec![true; items.len()];
            for step in steps {
                kept[doomed(items.len(), step)?].fill(false);
            }
            let mut kept = kept.into_iter();
            Arc::make_mut(items).retain(|_| kept.next().unwrap_or(true));
        }
        Val::Obj(members) if !steps.is_empty() => {
            let members = Arc::make_mut(members);
            for step in steps {
                match step {
                    Val::TStr(_) => members.shift_remove(*step),
                    _ => return Err(cannot_delete(step, "object")),
                };
            }
        }
        Val::Null | Val::Arr(_) | Val::Obj(_) => {}
        other => {
            if let Some(step) = steps.first() {
                return Err(cannot_delete(step, kind(other)));
            }
        }
    }
    Ok(value)
}

/// Which items of a list a step means.
fn doomed(length: usize, step: &Val) -> Result<std::ops::Range<usize>, Error<Val>> {
    let all = length as f64;
    let absolute = |index: f64| if index < 0.0 { index + all } else { index };
    let clipped = |index: f64| absolute(index).clamp(0.0, all) as usize;
    match step {
        Val::Num(_) => {
            let index = absolute(step.as_f64().unwrap_or(f64::NAN).floor());
            // Not a number is not within any range.
            let at = (0.0..all).contains(&index).then_some(index as usize);
            Ok(at.map_or(0..0, |at| at..at + 1))
        }
        Val::Obj(range) => {
            let bound = |name: &str| range.get(&crate::text(name)).and_then(Val::as_f64);
            let start = bound("start").map_or(0, |start| clipped(start.floor()));
            let end = bound("end").map_or(length, |end| clipped(end.ceil()));
            Ok(start..end.max(start))
        }
        _ => Err(cannot_delete(step, "array")),
    }
}

fn cannot_delete(step: &Val, from: &str) -> Error<Val> {
    let by = match step {
        Val::TStr(_) => "object",
        _ => "array",
    };
    Error::str(format_args!("Cannot delete field at {by} index of {from}"))
}

/// Takes a member out of a value: the value without it, and the member, `null` if there is none.
fn take(mut value: Val, step: &Val) -> Result<(Val, Val), Error<Val>> {
    let member = match (&mut value, step) {
        (Val::Null, Val::TStr(_) | Val::Num(_)) => Val::Null,
        (Val::Null, Val::Obj(_)) => {
            value = Val::Arr(Arc::default());
            Val::Arr(Arc::default())
        }
        (Val::Obj(members), Val::TStr(_)) => {
            let member = Arc::make_mut(members).get_mut(step);
            member.map(std::mem::take).unwrap_or_default()
        }
        (Val::Arr(items), Val::Num(_)) => match doomed(items.len(), step)?.next() {
            Some(index) => std::mem::take(&mut Arc::make_mut(items)[index]),
            None => Val::Null,
        },
        (Val::Arr(_), Val::Obj(_)) => value.clone().index(step)?,
        (Val::Arr(_), Val::Arr(_)) => {
            return Err(Error::str("Cannot update field at array index of array"));
        }
        (other, step) => {
            let (kind, step) = (kind(other), named(step));
            return Err(Error::str(format_args!("Cannot index {kind} with {step}")));
        }
    };
    Ok((value, member))
}

/// Puts a member where [`take`] took it.
fn put(mut value: Val, step: &Val, member: Val) -> ValR<Val> {
    if matches!(value, Val::Null) {
        value = match step {
            Val::TStr(_) => Val::obj(Map::default()),
            _ => Val::Arr(Arc::default()),
        };
    }
    match (&mut value, step) {
        (Val::Obj(members), _) => {
            Arc::make_mut(members).insert(step.clone(), member);
            Ok(value)
        }
        (Val::Arr(items), Val::Num(_)) => {
            let index = step.as_f64().unwrap_or(f64::NAN).floor();
            let index = match index {
                index if index < 0.0 => index + items.len() as f64,
                index => index,
            };
            if index.is_nan() {
                return Err(Error::str("Cannot set array element at NaN index"));
            }
            if index < 0.0 {
                return Err(Error::str("Out of bounds negative array index"));
            }
            if index > INDEX_MAX {
                return Err(Error::str("Array index too large"));
            }
            let (items, index) = (Arc::make_mut(items), index as usize);
            if index >= items.len() {
                items.resize(index + 1, Val::Null);
            }
            items[index] = member;
            Ok(value)
        }
        _ if !matches!(member, Val::Arr(_)) => Err(Error::str(
            "A slice of an array can only be assigned another array",
        )),
        _ => {
            let put = |_| std::iter::once(Ok(member.clone()));
            let changed = value.map_index(step, Opt::Essential, put);
            changed.map_err(|exception: Exn<'_, Val>| {
                let error = exception.get_err().ok();
                error.unwrap_or_else(|| Error::str("the slice cannot be changed"))
            })
        }
    }
}
