//! A jq program: compiled once, run for each input.

use crate::quick::{self, Data, Running, WORDS};
use crate::{mistake, natives, shown, EXCEPTION};
use jaq_core::load::parse::{Def, Term};
use jaq_core::load::{parse, Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Exn, Filter, Vars};
use jaq_json::Val;
use weir_plugin::{Error, Result};

/// What programs have in addition to jaq's own definitions.
const PRELUDE: &str = include_str!("prelude.jq");
/// The name of a rewritten program, which is a definition.
const REWRITTEN: &str = "weir_program";

/// A program that is ready to run.
pub struct Program {
    filter: Filter<Data>,
    /// The names of members that it asks for.
    members: Vec<Val>,
    /// Which of the variables the program mentions; the others need not be made.
    mentioned: Vec<bool>,
}

impl Program {
    /// Compiles a program, which may use these variables, such as `$event`. The error is a sentence
    /// with the place.
    pub fn compile(code: &str, variables: &[&str]) -> Result<Program, String> {
        let Some(mut term) = parse(code, |parser| parser.term()) else {
            // What cannot be parsed as a term but compiles begins as a module does. Variables that are
            // imported would have no values.
            filter(code, [], variables)?;
            return Err("line 1, column 1: a program cannot import modules or data".to_owned());
        };
        let members = quick::rewrite(&mut term);
        let (filter, members) = match filter(REWRITTEN, [definition(term)], variables) {
            Ok(filter) => (filter, members),
            // A mistake is described as it is in the program that was written.
            Err(_) => (filter(code, [], variables)?, Vec::new()),
        };
        let mentioned = variables.iter().map(|name| code.contains(name)).collect();
        Ok(Program {
            filter,
            members,
            mentioned,
        })
    }

    /// Runs the program. `variable` makes the value of the variable with this number, in the order
    /// in which they were given. An output can fail; after that there are no more.
    pub fn run(
        &self,
        input: Val,
        variable: impl Fn(usize) -> Val,
    ) -> impl Iterator<Item = Result<Val>> + '_ {
        let values = self
            .mentioned
            .iter()
            .enumerate()
            .map(|(at, mentioned)| match mentioned {
                true => variable(at),
                false => Val::Null,
            });
        let values = values.chain(quick::values());
        let running = Running {
            lut: &self.filter.lut,
            members: &self.members,
        };
        let context = Ctx::<Data>::new(running, Vars::new(values.collect::<Vec<_>>()));
        let mut outputs = Some(self.filter.id.run((context, input)));
        std::iter::from_fn(move || {
            let output = outputs.as_mut()?.next()?;
            Some(output.map_err(|exception| {
                outputs = None;
                failure(exception)
            }))
        })
    }
}

/// A program as a definition.
fn definition(body: Term<&str>) -> Def<&str> {
    Def {
        name: REWRITTEN,
        args: Vec::new(),
        body,
    }
}

/// Compiles code that may use these definitions in addition to the prelude.
fn filter<'s>(
    code: &'s str,
    more: impl IntoIterator<Item = Def<&'s str>>,
    variables: &[&'s str],
) -> Result<Filter<Data>, String> {
    let own = parse(PRELUDE, |parser| parser.defs());
    let own = natives::definitions().chain(own.expect("the prelude"));
    let mut definitions: Vec<Def<&'s str>> = own.collect::<Vec<_>>();
    definitions.extend(more);
    let arena = Arena::default();
    let modules = Loader::new(definitions)
        .load(&arena, File { code, path: () })
        .map_err(|errors| mistake::of_loading(code, errors))?;
    let variables = variables.iter().copied();
    Compiler::default()
        .with_funs(natives::functions())
        .with_global_vars(variables.chain(WORDS.map(|(_, variable)| variable)))
        .compile(modules)
        .map_err(|errors| mistake::of_compiling(code, errors))
}

/// The failure of a program. An error that is an object with `code` and `message` was raised for
/// Weir; any other is an exception.
fn failure(exception: Exn<'_, Val>) -> Error {
    let exception = match exception.get_halt() {
        Ok(_) => {
            return Error::new(
                EXCEPTION,
                "the program called `halt`, which a plugin cannot",
            )
        }
        Err(exception) => exception,
    };
    let Ok(error) = exception.get_err() else {
        return Error::new(
            EXCEPTION,
            "the program broke out of a label that is not there",
        );
    };
    let value = error.into_val();
    let member = |name: &str| {
        let (_, text) = crate::members(&value)?.find(|(member, _)| member == name)?;
        crate::as_text(text).map(str::to_owned)
    };
    match (&value, member("code"), member("message")) {
        (_, Some(code), Some(message)) => Error::new(code, message),
        (Val::TStr(bytes), ..) => Error::new(EXCEPTION, String::from_utf8_lossy(bytes)),
        (Val::Null, ..) => Error::new(EXCEPTION, "the program raised an error without a message"),
        (value, ..) => Error::new(EXCEPTION, shown(value)),
    }
}
