//! What a component was made of, written into it: a digest over its source and its compiler, in a
//! custom section.
//!
//! The compilers of some languages give other bytes each time, and take seconds. A component whose
//! source is the same as before stays as it is: same digest, same version, nothing to swap.

use std::borrow::Cow;

use wasm_encoder::{ComponentSection, CustomSection};
use wasmparser::{BinaryReader, Result};

/// The section's name.
const SECTION: &str = "weir:source";
/// Magic number and version.
const HEADER: usize = 8;

/// The component with the digest inside, which it does not have yet.
pub(super) fn stamped(mut component: Vec<u8>, digest: &str) -> Vec<u8> {
    CustomSection {
        name: SECTION.into(),
        data: Cow::Borrowed(digest.as_bytes()),
    }
    .append_to_component(&mut component);
    component
}

/// The digest in a component; none if it has none or is not whole.
pub(super) fn stamp(component: &[u8]) -> Option<&str> {
    let mut at = HEADER;
    while let Some(rest) = component.get(at..).filter(|rest| !rest.is_empty()) {
        let (found, length) = section(rest, at).ok()?;
        if let Some(found) = found {
            return std::str::from_utf8(found).ok();
        }
        at += length;
    }
    None
}

/// What is in the section at the beginning of `rest`, if it is this one, and the section's length.
fn section(rest: &[u8], at: usize) -> Result<(Option<&[u8]>, usize)> {
    let mut reader = BinaryReader::new(rest, at);
    let (number, length) = (reader.read_u8()?, reader.read_var_u32()?);
    let content = reader.read_bytes(length as usize)?;
    let mut content = BinaryReader::new(content, at);
    let ours = number == 0 && content.read_string()? == SECTION;
    let found = if ours {
        Some(content.read_bytes(content.bytes_remaining())?)
    } else {
        None
    };
    Ok((found, reader.original_position() - at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_says_what_it_was_made_of() {
        let component = wat::parse_str("(component (core module))").expect("a component");
        assert_eq!(stamp(&component), None);
        let stamped = stamped(component, "5ea1");
        assert_eq!(stamp(&stamped), Some("5ea1"));
        assert_eq!(
            stamp(&stamped[..stamped.len() - 1]),
            None,
            "half a file says nothing"
        );
        assert_eq!(stamp(b"no wasm"), None);
    }
}
