//! The settings of a plugin that runs a program.

use crate::{json, Program};
use jaq_json::Val;

/// The program, and the settings that it sees.
pub struct Settings {
    /// `program`, compiled.
    pub program: Program,
    /// All settings except `program`, the value of `$settings`.
    pub others: Val,
}

impl Settings {
    /// Reads the settings of this plugin. The program may use `variables` and, as the last one,
    /// `$settings`. Which settings there are beside `program` is up to the program.
    pub fn parse(plugin: &str, settings: &str, variables: &[&str]) -> Result<Settings, String> {
        let refused = |why: &str| Err(format!("settings of {plugin}: {why}"));
        let Ok(Val::Obj(mut members)) = json::read(settings) else {
            return refused("an object is expected");
        };
        let program = std::sync::Arc::make_mut(&mut members).shift_remove(&crate::text("program"));
        let code = match program {
            Some(Val::TStr(code)) => String::from_utf8_lossy(&code).into_owned(),
            Some(other) => {
                return refused(&format!(
                    "program should be text, but is {}",
                    crate::shown(&other)
                ));
            }
            None => {
                return refused(
                    "`program` is missing: write a jq program, or { file = \"map.jq\" }",
                );
            }
        };
        let all: Vec<&str> = variables.iter().copied().chain(["$settings"]).collect();
        match Program::compile(&code, &all) {
            Ok(program) => Ok(Settings {
                program,
                others: Val::Obj(members),
            }),
            Err(why) => refused(&format!("program, {why}")),
        }
    }
}
