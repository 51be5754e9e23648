//! `weir compile`: from Wasm on the standard input to code on the standard output, within bounds. A
//! running Weir starts it for each component that it has not compiled before; nobody else needs it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::plugin::Apart;
use crate::plugin::compile::answer;

/// The program that runs, also when its file was replaced since.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// What the command is called.
const NAME: &str = "compile";

/// Arguments of `weir compile`.
#[derive(Clone, Debug, Args)]
pub struct CompileArgs {
    /// How guest memories are laid out: wide or narrow
    #[arg(long, default_value = "wide")]
    layout: String,
    /// Memory that it may take
    #[arg(long, value_name = "N", default_value_t = 2 << 30)]
    memory_bytes: u64,
    /// Processor time that it may take
    #[arg(long, value_name = "N", default_value_t = 120)]
    seconds: u64,
}

/// Compiles one component.
pub(super) fn run(args: &CompileArgs) -> ExitCode {
    let (input, output) = (std::io::stdin().lock(), std::io::stdout().lock());
    match answer(&args.layout, args.memory_bytes, args.seconds, input, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir compile: {error}");
            ExitCode::from(3)
        }
    }
}

/// This program as a compiler apart; none where it cannot be started again.
pub(super) fn apart() -> Option<Apart> {
    let this = Path::new(THIS_PROGRAM);
    let program = if this.exists() {
        PathBuf::from(this)
    } else {
        std::env::current_exe().ok()?
    };
    Some(Apart::new(program, vec![NAME.into()]))
}
