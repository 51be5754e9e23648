//! Size limits of a component and its parts, checked before compiling because they bound its cost.
//!
//! Files that are not Wasm pass this check; the compiler rejects them.

use wasmparser::{Parser, Payload};

use crate::plugin::limits::Size;

/// The size limit of a file, in bytes. The largest real guest, with all of Python, has 19 MB.
pub(crate) const FILE_BYTES_MAX: usize = 48 << 20;
/// The size limit of a function, in bytes of its code, because some compiler passes take quadratic
/// time. The longest functions of real guests, the main loops of interpreters, have a fifth of it.
const FUNCTION_BYTES_MAX: usize = 1 << 20;
/// The most functions in all modules together. A component with all of Python has about thirty
/// thousand.
const FUNCTIONS_MAX: usize = 100_000;
/// The most core modules in a component. One with all of Python has fewer than twenty.
const MODULES_MAX: usize = 200;

/// Checks the sizes of a file and its parts.
///
/// # Errors
/// A sentence that names the part, its size and the limit.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    if bytes.len() > FILE_BYTES_MAX {
        let mib = bytes.len().div_ceil(1 << 20);
        return Err(format!(
            "the file has {mib} MiB; the limit is {}: build it in release mode and strip it",
            Size(FILE_BYTES_MAX)
        ));
    }
    let (mut functions, mut modules) = (0, 0);
    for payload in Parser::new(0).parse_all(bytes) {
        match payload {
            Ok(Payload::CodeSectionEntry(body)) => {
                functions += 1;
                let size = body.range().len();
                if size > FUNCTION_BYTES_MAX {
                    return Err(format!(
                        "function {functions} has {size} bytes of code; the limit is {}",
                        Size(FUNCTION_BYTES_MAX)
                    ));
                }
            }
            Ok(Payload::ModuleSection { .. }) => modules += 1,
            Ok(_) => {}
            Err(_) => break,
        }
        if functions > FUNCTIONS_MAX {
            return Err(format!("it has more than {FUNCTIONS_MAX} functions"));
        }
        if modules > MODULES_MAX {
            return Err(format!("it has more than {MODULES_MAX} core modules"));
        }
    }
    Ok(())
}
