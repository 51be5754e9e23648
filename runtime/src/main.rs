//! Arguments in, error chain and exit code out.

use std::process::ExitCode;

/// Events are made of many small texts that one thread allocates and another frees, which the C library's allocator pays for dearly.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    weir::cli::run(std::env::args_os())
}
