//! XML: one element a record, as a template of the fields.
//!
//! One illegal character makes a file unreadable for everybody, so those are dropped and counted. The code
//! checks them itself, because XML libraries do not.

use serde_json::value::RawValue;

use super::super::pick::{Shown, shown};
use super::Field;

/// How deep an object becomes elements in elements.
const DEPTH_MAX: usize = 16;

/// The file around the records, and their form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xml {
    /// The elements around the records, outermost first, for example `rss`, `channel`. An element `rss`
    /// has the attribute `version="2.0"`.
    pub root: Vec<String>,
    /// The element of a record.
    pub item: String,
    /// Prefixes with their URIs, declared on the outermost element; an empty prefix is the default
    /// namespace.
    pub namespaces: Vec<(String, String)>,
    /// Elements with a fixed text before the first record: name and text.
    pub texts: Vec<(String, String)>,
    /// The fields that are written as CDATA.
    pub cdata: Vec<String>,
}

impl Xml {
    pub(super) fn description(&self) -> String {
        let header = String::from_utf8_lossy(&self.header()).into_owned();
        format!("{header} {} {}", self.item, self.cdata.join(","))
    }

    pub(super) fn header(&self) -> Vec<u8> {
        let mut out = b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_vec();
        for (at, element) in self.root.iter().enumerate() {
            out.push(b'<');
            out.extend_from_slice(element.as_bytes());
            if element == "rss" {
                out.extend_from_slice(b" version=\"2.0\"");
            }
            for (prefix, uri) in self.namespaces.iter().filter(|_| at == 0) {
                out.extend_from_slice(b" xmlns");
                if !prefix.is_empty() {
                    out.push(b':');
                    out.extend_from_slice(prefix.as_bytes());
                }
                out.extend_from_slice(b"=\"");
                escape(uri, &mut out);
                out.push(b'"');
            }
            out.extend_from_slice(b">\n");
        }
        for (name, text) in &self.texts {
            open(name, &mut out);
            escape(text, &mut out);
            close(name, &mut out);
            out.push(b'\n');
        }
        out
    }

    pub(super) fn footer(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for element in self.root.iter().rev() {
            close(element, &mut out);
            out.push(b'\n');
        }
        out
    }

    pub(super) fn record(
        &self,
        fields: &[Field],
        values: &[Option<&RawValue>],
        out: &mut Vec<u8>,
    ) -> u64 {
        let mut dropped = 0;
        open(&self.item, out);
        for (field, value) in fields.iter().zip(values) {
            if let Some(value) = value {
                let cdata = self.cdata.contains(&field.name);
                dropped += element(&field.name, value, cdata, out, 0);
            }
        }
        close(&self.item, out);
        out.push(b'\n');
        dropped
    }
}

/// Writes a value as an element: a list as repeated ones, an object as elements in it. Returns the number
/// of characters that were dropped.
fn element(name: &str, value: &RawValue, cdata: bool, out: &mut Vec<u8>, depth: usize) -> u64 {
    let text = |text: &str, out: &mut Vec<u8>| {
        open(name, out);
        let dropped = match cdata {
            true => in_cdata(text, out),
            false => escape(text, out),
        };
        close(name, out);
        dropped
    };
    match shown(value) {
        None => 0,
        Some(Shown::Text(value)) => text(&value, out),
        Some(Shown::Plain(value)) => text(value, out),
        Some(Shown::List(items)) if depth < DEPTH_MAX => items
            .into_iter()
            .map(|item| element(name, item, cdata, out, depth + 1))
            .sum(),
        Some(Shown::Object(members)) if depth < DEPTH_MAX => {
            open(name, out);
            let prefix = name.split_once(':').map(|(prefix, _)| prefix);
            let mut dropped = 0;
            for (member, value) in members.iter().filter(|(member, _)| is_local(member)) {
                let name = match prefix {
                    Some(prefix) => format!("{prefix}:{member}"),
                    None => member.clone(),
                };
                dropped += element(&name, value, cdata, out, depth + 1);
            }
            close(name, out);
            dropped
        }
        Some(Shown::List(_) | Shown::Object(_)) => text(value.get(), out),
    }
}

fn open(name: &str, out: &mut Vec<u8>) {
    out.push(b'<');
    out.extend_from_slice(name.as_bytes());
    out.push(b'>');
}

fn close(name: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"</");
    out.extend_from_slice(name.as_bytes());
    out.push(b'>');
}

/// Whether XML 1.0 may hold a character, even as a reference.
fn is_legal(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// Writes a text and returns the number of characters that were dropped.
fn escape(text: &str, out: &mut Vec<u8>) -> u64 {
    let mut dropped = 0;
    for character in text.chars() {
        match character {
            '&' => out.extend_from_slice(b"&amp;"),
            '<' => out.extend_from_slice(b"&lt;"),
            '>' => out.extend_from_slice(b"&gt;"),
            '"' => out.extend_from_slice(b"&quot;"),
            // A reader takes a bare one for a line feed.
            '\r' => out.extend_from_slice(b"&#13;"),
            legal if is_legal(legal) => {
                out.extend_from_slice(legal.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => dropped += 1,
        }
    }
    dropped
}

/// Writes a text as CDATA, cut where it would end it, and returns the number of characters that were
/// dropped.
fn in_cdata(text: &str, out: &mut Vec<u8>) -> u64 {
    let legal: String = text.chars().filter(|it| is_legal(*it)).collect();
    out.extend_from_slice(b"<![CDATA[");
    out.extend_from_slice(legal.replace("]]>", "]]]]><![CDATA[>").as_bytes());
    out.extend_from_slice(b"]]>");
    (text.chars().count() - legal.chars().count()) as u64
}

/// Whether a text is the name of an element, with a prefix or without.
pub(crate) fn is_name(text: &str) -> bool {
    match text.split_once(':') {
        Some((prefix, local)) => is_local(prefix) && is_local(local),
        None => is_local(text),
    }
}

fn is_local(text: &str) -> bool {
    // The ranges of the specification without the colon; a name of a rendering becomes an element, and a
    // wrong one would make the file unreadable.
    let first = |it: char| {
        matches!(it, 'A'..='Z' | 'a'..='z' | '_' | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}'
            | '\u{f8}'..='\u{2ff}' | '\u{370}'..='\u{37d}' | '\u{37f}'..='\u{1fff}'
            | '\u{200c}'..='\u{200d}' | '\u{2070}'..='\u{218f}' | '\u{2c00}'..='\u{2fef}'
            | '\u{3001}'..='\u{d7ff}' | '\u{f900}'..='\u{fdcf}' | '\u{fdf0}'..='\u{fffd}'
            | '\u{10000}'..='\u{effff}')
    };
    let later = |it: char| {
        first(it)
            || matches!(it, '0'..='9' | '-' | '.' | '\u{b7}' | '\u{300}'..='\u{36f}'
                | '\u{203f}'..='\u{2040}')
    };
    text.starts_with(first) && text.chars().all(later)
}
