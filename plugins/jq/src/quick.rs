//! Makes a parsed program cheaper: `.name` and the words `null`, `true` and `false` are what mappings consist
//! of, and jaq makes the name's text and a path anew each time.
//!
//! A member by a name that is written in the program becomes a call of a function that knows the name, and
//! the words become variables. The program does the same as before; one that cannot be rewritten stays as it is.

use jaq_core::box_iter::box_once;
use jaq_core::data::HasLut;
use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Term};
use jaq_core::native::{bome, v, Fun};
use jaq_core::path::{Opt, Part, Path};
use jaq_core::{Ctx, DataT, Exn, Lut, Native, ValT as _};
use jaq_json::Val;

/// The values that programs work on.
pub(crate) struct Data;

/// What functions see of a program that runs.
#[derive(Clone, Copy)]
pub(crate) struct Running<'a> {
    pub(crate) lut: &'a Lut<Data>,
    /// The names of members in the program.
    pub(crate) members: &'a [Val],
}

impl DataT for Data {
    type V<'a> = Val;
    type Data<'a> = Running<'a>;
}

impl<'a> HasLut<'a, Data> for Running<'a> {
    fn lut(&self) -> &'a Lut<Data> {
        self.lut
    }
}

/// Words that have a value, and the variables that stand for them. No program can have such a name.
pub(crate) const WORDS: [(&str, &str); 3] = [
    ("null", "$the null"),
    ("true", "$the true"),
    ("false", "$the false"),
];

/// The values of the words.
pub(crate) fn values() -> [Val; 3] {
    [Val::Null, Val::Bool(true), Val::Bool(false)]
}

macro_rules! members {
    ($($number:literal)*) => {
        /// The names of the functions. A program with more different names has the rest as paths.
        const MEMBERS: &[&str] = &[$(concat!("member ", $number)),*];

        /// One function for each name that a program may have.
        pub(crate) fn functions() -> Box<[Fun<Data>]> {
            Box::new([$(member::<$number>()),*])
        }
    };
}

members!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31
    32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47);

/// `.name`, with the name at a place in the list.
fn member<const AT: usize>() -> Fun<Data> {
    let native = Native::<Data>::new(|cv| bome(cv.1.index(name(&cv.0, AT))))
        .with_paths(|(context, (value, path))| {
            let name = name(&context, AT);
            let member = value.index(name);
            box_once(match member {
                Ok(member) => Ok((member, path.cons(name.clone()))),
                Err(error) => Err(Exn::from(error)),
            })
        })
        .with_update(|(context, value), update| {
            let name = name(&context, AT);
            box_once(value.map_index(name, Opt::Essential, update))
        });
    (MEMBERS[AT], v(0), native)
}

fn name<'a>(context: &Ctx<'a, Data>, at: usize) -> &'a Val {
    &context.data().members[at]
}

/// Rewrites a program; returns the names of its members.
pub(crate) fn rewrite(program: &mut Term<&str>) -> Vec<Val> {
    let mut rewriting = Rewriting {
        members: Vec::new(),
        words: !defines_a_word(program),
    };
    rewriting.term(program);
    let members = rewriting.members.into_iter();
    members.map(crate::text).collect()
}

struct Rewriting<'s> {
    members: Vec<&'s str>,
    /// Whether the words mean what they always mean.
    words: bool,
}

impl<'s> Rewriting<'s> {
    fn term(&mut self, term: &mut Term<&'s str>) {
        match term {
            Term::Path(..) => self.path(term),
            Term::Call(word, arguments) if arguments.is_empty() && self.words => {
                let mut words = WORDS.iter();
                if let Some((_, variable)) = words.find(|(known, _)| known == word) {
                    *term = Term::Var(variable);
                }
            }
            Term::Obj(entries) => {
                for (name, value) in entries {
                    if value.is_none() {
                        // `{name}` is short for `{name: .name}`, and `{$name}` stays as it is.
                        *value = written(name).map(|name| {
                            let index = Term::Str(None, vec![StrPart::Str(name)]);
                            Term::Path(Box::default(), Path::from(Part::Index(index)))
                        });
                    }
                    if let Some(value) = value {
                        self.term(name);
                        self.term(value);
                    }
                }
            }
            other => children(other, &mut |child| self.term(child)),
        }
    }

    /// The first steps of a path, as far as they are names, become calls.
    fn path(&mut self, term: &mut Term<&'s str>) {
        let Term::Path(start, Path(parts)) = term else {
            return;
        };
        self.term(start);
        let mut calls = Vec::new();
        for part in &*parts {
            let call = match part {
                (Part::Index(index), Opt::Essential) => {
                    written(index).and_then(|name| self.member(name))
                }
                _ => None,
            };
            match call {
                Some(call) => calls.push(call),
                None => break,
            }
        }
        parts.drain(..calls.len());
        // What is left is evaluated for the input of the whole path, as it was.
        for (part, _) in &mut *parts {
            match part {
                Part::Index(index) => self.term(index),
                Part::Range(from, to) => from.iter_mut().chain(to).for_each(|it| self.term(it)),
            }
        }
        for call in calls {
            let before = std::mem::take(&mut **start);
            **start = match before {
                Term::Id => call,
                before => Term::BinOp(Box::new(before), BinaryOp::Pipe(None), Box::new(call)),
            };
        }
        if parts.is_empty() {
            *term = std::mem::take(&mut **start);
        }
    }

    fn member(&mut self, name: &'s str) -> Option<Term<&'s str>> {
        let known = self.members.iter().position(|known| *known == name);
        let at = known.unwrap_or(self.members.len());
        let function = MEMBERS.get(at)?;
        if known.is_none() {
            self.members.push(name);
        }
        Some(Term::Call(function, Vec::new()))
    }
}

/// The text that a term is, if it is written without escapes and nothing is inserted.
fn written<'s>(term: &Term<&'s str>) -> Option<&'s str> {
    match term {
        Term::Str(None, parts) => match parts[..] {
            [StrPart::Str(text)] => Some(text),
            _ => None,
        },
        _ => None,
    }
}

/// Whether a program defines one of the words anew.
fn defines_a_word(term: &mut Term<&str>) -> bool {
    let mut found = match term {
        Term::Def(definitions, _) => definitions.iter().any(|definition| {
            let mut names = definition.args.iter().chain([&definition.name]);
            names.any(|name| WORDS.iter().any(|(word, _)| word == name))
        }),
        _ => false,
    };
    children(term, &mut |child| found |= defines_a_word(child));
    found
}

/// Calls a function with each part of a term that is a term, except those in patterns.
fn children<'s>(term: &mut Term<&'s str>, each: &mut dyn FnMut(&mut Term<&'s str>)) {
    match term {
        Term::Id | Term::Recurse | Term::Num(_) | Term::Break(_) | Term::Var(_) => {}
        Term::Str(_, parts) => {
            for part in parts {
                if let StrPart::Term(term) = part {
                    each(term);
                }
            }
        }
        Term::Arr(items) => {
            if let Some(items) = items {
                each(items);
            }
        }
        Term::Obj(entries) => {
            for (name, value) in entries {
                each(name);
                if let Some(value) = value {
                    each(value);
                }
            }
        }
        Term::Neg(term) | Term::Label(_, term) => each(term),
        Term::BinOp(left, _, right) => {
            each(left);
            each(right);
        }
        Term::Fold(_, stream, _, arguments) => {
            each(stream);
            arguments.iter_mut().for_each(each);
        }
        Term::TryCatch(term, catch) => {
            each(term);
            if let Some(catch) = catch {
                each(catch);
            }
        }
        Term::IfThenElse(cases, otherwise) => {
            for (condition, then) in cases {
                each(condition);
                each(then);
            }
            if let Some(otherwise) = otherwise {
                each(otherwise);
            }
        }
        Term::Def(definitions, term) => {
            for definition in definitions {
                each(&mut definition.body);
            }
            each(term);
        }
        Term::Call(_, arguments) => arguments.iter_mut().for_each(each),
        Term::Path(start, Path(parts)) => {
            each(start);
            for (part, _) in parts {
                match part {
                    Part::Index(index) => each(index),
                    Part::Range(from, to) => from.iter_mut().chain(to).for_each(&mut *each),
                }
            }
        }
    }
}
