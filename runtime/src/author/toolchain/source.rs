//! Stamps a component with a digest of its source and its compiler, in a custom section.
//!
//! The compilers of some languages produce different bytes each time, and take seconds. A component
//! whose source has not changed is kept: same bytes, same version, no swap.

use std::borrow::Cow;

use wasm_encoder::{ComponentSection, CustomSection};
use wasmparser::{BinaryReader, Result};

/// The section's name.
const SECTION: &str = "weir:source";
/// The length of magic number and version.
const HEADER: usize = 8;

/// Adds the digest to a component that has none yet.
pub(super) fn stamped(mut component: Vec<u8>, digest: &str) -> Vec<u8> {
    CustomSection {
        name: SECTION.into(),
        data: Cow::Borrowed(digest.as_bytes()),
    }
    .append_to_component(&mut component);
    component
}

/// The digest in a component; `None` if it has none or is truncated.
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

/// Reads the section at the start of `rest`: its content if it is this kind of section, and its
/// length.
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
            "a truncated file has no digest"
        );
        assert_eq!(stamp(b"no wasm"), None);
    }
}
