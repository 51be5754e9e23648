//! A jq program: compiled once, run for each input.

use crate::natives::{self, Data};
use crate::{mistake, shown, EXCEPTION};
use jaq_core::load::parse::Def;
use jaq_core::load::{parse, Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Exn, Filter, Vars};
use jaq_json::Val;
use weir_plugin::{Error, Result};

/// What programs have in addition to jaq's own definitions.
const PRELUDE: &str = include_str!("prelude.jq");

/// A program that is ready to run.
pub struct Program {
    filter: Filter<Data>,
    /// Which of the variables the program mentions; the others need not be made.
    mentioned: Vec<bool>,
}

impl Program {
    /// Compiles a program, which may use these variables, such as `$event`. The error is a sentence
    /// with the place.
    pub fn compile(code: &str, variables: &[&str]) -> Result<Program, String> {
        let own = parse(PRELUDE, |parser| parser.defs());
        let own = own.expect("the prelude");
        let prelude: Vec<Def<&str>> = natives::definitions().chain(own).collect();
        let arena = Arena::default();
        let modules = Loader::new(prelude)
            .load(&arena, File { code, path: () })
            .map_err(|errors| mistake::of_loading(code, errors))?;
        let filter = Compiler::default()
            .with_funs(natives::functions())
            .with_global_vars(variables.iter().copied())
            .compile(modules)
            .map_err(|errors| mistake::of_compiling(code, errors))?;
        let mentioned = variables.iter().map(|name| code.contains(name)).collect();
        Ok(Program { filter, mentioned })
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
        let context = Ctx::<Data>::new(&self.filter.lut, Vars::new(values.collect::<Vec<_>>()));
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
