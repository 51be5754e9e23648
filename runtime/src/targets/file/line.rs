//! A line of a file: `{"type", "key", "sequence", "deleted", "content"}`, in this order.
//!
//! Lines are read by their shape and not as JSON: a file may have millions of them, and whatever stands in a
//! string cannot look like what is between the members, because quotation marks are escaped there.

use memchr::memmem;

use crate::targets::{Item, content};

const SEQUENCE: &[u8] = b",\"sequence\":";
const DELETED: &[u8] = b",\"deleted\":";

/// Appends the line of an item, with its line break.
pub(super) fn write(item: &Item, to: &mut Vec<u8>) {
    let from = to.len();
    let text = |text: &str, to: &mut Vec<u8>| {
        serde_json::to_writer(to, text).expect("strings always serialise");
    };
    to.extend_from_slice(b"{\"type\":");
    text(&item.entity.entity_type, to);
    to.extend_from_slice(b",\"key\":");
    text(&item.key, to);
    to.extend_from_slice(SEQUENCE);
    to.extend_from_slice(item.sequence.0.to_string().as_bytes());
    to.extend_from_slice(DELETED);
    match &item.rendering {
        None => to.extend_from_slice(b"true}"),
        Some(rendering) => {
            to.extend_from_slice(b"false,\"content\":");
            content::write(rendering, item.plugin.is_none(), to);
            to.push(b'}');
        }
    }
    // A line break that is not escaped can only be white space between tokens.
    to[from..]
        .iter_mut()
        .filter(|byte| matches!(byte, b'\n' | b'\r'))
        .for_each(|byte| *byte = b' ');
    to.push(b'\n');
}

/// A line that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// Type and key, as they are written.
    pub(super) entity: &'a [u8],
    pub(super) sequence: u64,
    /// Whether it is deleted, and the content.
    pub(super) rest: &'a [u8],
}

impl<'a> Line<'a> {
    /// Reads a line without its line break. `None` if it is not one of ours.
    pub(super) fn read(line: &'a [u8]) -> Option<Line<'a>> {
        if !line.starts_with(b"{\"type\":") {
            return None;
        }
        let at = memmem::find(line, SEQUENCE)?;
        let after = &line[at + SEQUENCE.len()..];
        let end = memmem::find(after, DELETED)?;
        let sequence = str::from_utf8(&after[..end]).ok()?.parse().ok()?;
        Some(Line {
            entity: &line[..at],
            sequence,
            rest: &after[end..],
        })
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.rest.starts_with(b",\"deleted\":true")
    }

    /// The key.
    pub(super) fn key(&self) -> Option<String> {
        let whole = [self.entity, b"}"].concat();
        let value: serde_json::Value = serde_json::from_slice(&whole).ok()?;
        Some(value["key"].as_str()?.to_owned())
    }
}
