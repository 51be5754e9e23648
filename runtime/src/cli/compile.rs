//! `weir compile`: from Wasm on standard input to code on standard output, within bounds.
//!
//! `weir run`, `weir check` and `weir demo` start it for each component that is not in the cache of
//! compiled code. It is hidden, because it is of no use to people.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::exit;
use crate::plugin::compile::{Apart, serve_request};

/// The running program, even if its file was replaced since.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// The name of the command.
const NAME: &str = "compile";

/// Arguments of `weir compile`.
#[derive(Clone, Debug, Args)]
pub struct CompileArgs {
    /// The layout of guest memories: wide or narrow
    #[arg(long, default_value = "wide")]
    layout: String,
    /// Memory limit, in bytes
    #[arg(long, value_name = "N", default_value_t = 2 << 30)]
    memory_bytes: u64,
    /// Limit of processor time
    #[arg(long, value_name = "N", default_value_t = 120)]
    seconds: u64,
}

/// Compiles one component.
pub(super) fn run(args: &CompileArgs) -> ExitCode {
    let (input, output) = (std::io::stdin().lock(), std::io::stdout().lock());
    match serve_request(&args.layout, args.memory_bytes, args.seconds, input, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir compile: {error}");
            ExitCode::from(exit::UNREACHABLE)
        }
    }
}

/// This program as a separate compiler; `None` if it cannot be started again.
pub(super) fn apart() -> Option<Apart> {
    let this = Path::new(THIS_PROGRAM);
    let program = if this.exists() {
        PathBuf::from(this)
    } else {
        std::env::current_exe().ok()?
    };
    Some(Apart::new(program, vec![NAME.into()]))
}
