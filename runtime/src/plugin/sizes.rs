//! How large a component may be, whole and in its parts, looked at before it is compiled: each
//! bound is one on what compiling may cost.
//!
//! What is no Wasm at all passes here; whoever compiles it says so.

use wasmparser::{Parser, Payload};

use crate::plugin::limits::Size;

/// The largest file that is compiled. The largest real guest, a whole Python, has 19 MB.
pub(crate) const FILE_BYTES_MAX: usize = 48 << 20;
/// The longest function, in bytes of its code: some passes of a compiler take time by the square of
/// it. The longest of real guests, the main loops of interpreters, have a fifth of it.
const FUNCTION_BYTES_MAX: usize = 1 << 20;
/// Functions in all modules together. A whole Python has some thirty thousand.
const FUNCTIONS_MAX: usize = 100_000;
/// Core modules in a component. A whole Python has less than twenty.
const MODULES_MAX: usize = 200;

/// Whether a file may be compiled.
///
/// # Errors
/// A sentence that names the part, its size and the bound.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    if bytes.len() > FILE_BYTES_MAX {
        let mib = bytes.len().div_ceil(1 << 20);
        return Err(format!(
            "the file has {mib} MiB, the most is {}; build it for release and stripped",
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
                        "function {functions} has {size} bytes of code, the most is {}",
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
