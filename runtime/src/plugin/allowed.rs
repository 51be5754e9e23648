//! Whether the system lets this process run compiled code at all.
//!
//! A sandbox around Weir can take away what every plugin needs. The compiler and the engine then fail on the first
//! component, with an error that reads as if the component were at fault; so the process is tried before.

use std::ptr;

use rustix::io::Errno;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

/// The length of the memory with which it is tried: a page.
const PAGE: usize = 4096;

/// Tries what every compiled plugin needs.
///
/// # Errors
/// What is forbidden, and which setting does that, in a sentence.
pub(super) fn to_run_code() -> Result<(), String> {
    if let Err(error) = executable_memory() {
        return Err(format!(
            "this process may not make memory executable ({error}), without which no plugin runs; in a unit of systemd \
             leave MemoryDenyWriteExecute= out, under SELinux allow execmem"
        ));
    }
    #[cfg(target_os = "linux")]
    if let Err(error) = file_in_memory() {
        return Err(format!(
            "this process may not use the system call memfd_create ({error}), without which no plugin runs; in a unit of \
             systemd add it to SystemCallFilter=, in a container allow it in the seccomp profile"
        ));
    }
    Ok(())
}

/// Makes a page executable that was written before, as the engine does with code.
fn executable_memory() -> Result<(), Errno> {
    let writable = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new page at a place that the system chooses; nobody else knows of it, and it is gone in the end.
    unsafe {
        let page = mmap_anonymous(ptr::null_mut(), PAGE, writable, MapFlags::PRIVATE)?;
        let made = mprotect(page, PAGE, MprotectFlags::READ | MprotectFlags::EXEC);
        munmap(page, PAGE)?;
        only_forbidden(made)
    }
}

/// Makes a file without a name, as the engine does for the memory of instances.
#[cfg(target_os = "linux")]
fn file_in_memory() -> Result<(), Errno> {
    let made = rustix::fs::memfd_create("weir", rustix::fs::MemfdFlags::CLOEXEC);
    only_forbidden(made.map(drop))
}

/// Errors that a sandbox gives; anything else, such as too many open files, passes and is found where it happens.
fn only_forbidden(tried: Result<(), Errno>) -> Result<(), Errno> {
    tried.or_else(|error| match error {
        Errno::ACCESS | Errno::PERM | Errno::NOSYS => Err(error),
        _ => Ok(()),
    })
}
