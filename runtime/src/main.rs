//! Arguments in, error chain and exit code out.

use std::process::ExitCode;

/// Events are made of many small texts that one thread allocates and another frees, which the C
/// library's allocator pays for dearly.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    use_large_pages();
    weir::cli::run(std::env::args_os())
}

/// The index is gigabytes that are read at random, and each reading of a page of 4 KiB has to look
/// up first where it lies. With pages of 2 MiB a repeated cycle takes a tenth less. What the
/// allocator has reserved already, its first GiB, stays as it is: a small Weir stays small.
fn use_large_pages() {
    // SAFETY: sets a number of the allocator, which is in place since before `main`; there is one
    // thread yet.
    unsafe {
        libmimalloc_sys::mi_option_set_enabled(libmimalloc_sys::mi_option_large_os_pages, true)
    }
}
