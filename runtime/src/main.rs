//! Arguments in, error chain and exit code out.

fn main() {}
