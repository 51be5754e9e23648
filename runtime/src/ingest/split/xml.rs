//! Cuts XML: each element with a given name becomes a document.
//!
//! The text of an element is kept as written. Namespace declarations that it inherits are written
//! into its start tag if it uses them, so that it keeps its meaning. A document type is passed over:
//! nothing is fetched, and entities are never expanded, because they can expand a kilobyte to a
//! gigabyte. One that declares something itself is rejected, because the text would mean something
//! else without it.

use quick_xml::XmlVersion;
use quick_xml::events::attributes::AttrError;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use super::{Rejection, Sink, json, no_events};
use crate::ingest::envelope::excerpt;
use crate::model::Failure;

/// Maximum depth of elements; IDocs and catalogues stay below 20.
const DEPTH_MAX: usize = 256;
/// Maximum number of attributes per element: the check for duplicates takes quadratic time.
const ATTRIBUTES_MAX: usize = 256;
/// Maximum number of namespaces in scope: each piece is searched for each of them.
const NAMESPACES_MAX: usize = 64;

/// Passes on each element called `element`, outermost ones only.
///
/// # Errors
/// `Malformed` if it is not XML, or has no such element.
pub(super) fn cut(element: &str, text: &str, sink: &mut Sink<'_>) -> Result<(), Rejection> {
    let mut walk = Walk {
        element,
        text,
        scopes: Vec::new(),
        open: None,
        roots: 0,
        found: false,
    };
    let mut reader = Reader::from_str(text);
    loop {
        let start = position(reader.buffer_position());
        let event = reader
            .read_event()
            .map_err(|error| invalid(text, position(reader.error_position()), error))?;
        let end = position(reader.buffer_position());
        match event {
            Event::Start(tag) => walk.enter(&tag, start)?,
            Event::Empty(tag) => {
                walk.enter(&tag, start)?;
                walk.leave(end, sink)?;
            }
            Event::End(_) => walk.leave(end, sink)?,
            Event::Text(content) => walk.between(content.trim_ascii().is_empty(), start)?,
            Event::CData(_) => walk.between(false, start)?,
            Event::GeneralRef(name) if name.is_char_ref() => {
                walk.between(false, start)?;
                name.resolve_char_ref()
                    .map_err(|error| invalid(text, start, error))?;
            }
            Event::GeneralRef(name) => {
                walk.between(false, start)?;
                if !matches!(&*name, "lt" | "gt" | "amp" | "apos" | "quot") {
                    return Err(invalid(
                        text,
                        start,
                        format!("the entity `&{};` is not defined", excerpt(&name)),
                    )
                    .into());
                }
            }
            Event::DocType(written) => walk.document_type(&written, start)?,
            Event::Decl(_) if start != 0 => {
                return Err(invalid(
                    text,
                    start,
                    "an XML declaration is only at the very beginning",
                )
                .into());
            }
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            Event::Eof => return walk.end(end),
        }
    }
}

struct Walk<'a> {
    element: &'a str,
    text: &'a str,
    /// The namespace declarations of each open element: prefix (empty for the default) and URI as
    /// written.
    scopes: Vec<Vec<(String, String)>>,
    /// The element being cut out: the offset of its start tag, and its depth.
    open: Option<(usize, usize)>,
    roots: usize,
    found: bool,
}

impl Walk<'_> {
    fn enter(&mut self, tag: &BytesStart<'_>, start: usize) -> Result<(), Failure> {
        if self.scopes.is_empty() {
            self.roots += 1;
            if self.roots > 1 {
                return Err(invalid(
                    self.text,
                    start,
                    "a document has one element around all others",
                ));
            }
        }
        if self.scopes.len() >= DEPTH_MAX {
            let sentence = format!(
                "more than {DEPTH_MAX} elements are open at {}",
                json::place(self.text, start)
            );
            return Err(Failure::new("too-deep", sentence));
        }
        let name = tag.name();
        let wanted = name.0 == self.element
            || (!self.element.contains(':') && name.local_name().as_ref() == self.element);
        if wanted && self.open.is_none() {
            self.open = Some((start, self.scopes.len()));
        }
        self.scopes.push(self.declarations(tag, start)?);
        Ok(())
    }

    /// The namespaces that an element declares; also checks its other attributes.
    fn declarations(
        &self,
        tag: &BytesStart<'_>,
        start: usize,
    ) -> Result<Vec<(String, String)>, Failure> {
        let mut declared = Vec::new();
        for (count, attribute) in tag.attributes().enumerate() {
            if count >= ATTRIBUTES_MAX {
                return Err(invalid(
                    self.text,
                    start,
                    format!("more than {ATTRIBUTES_MAX} attributes are in the element"),
                ));
            }
            let attribute = attribute.map_err(|error| match error {
                AttrError::Duplicated(..) => invalid(
                    self.text,
                    start,
                    "an attribute is there twice in the element",
                ),
                _ => invalid(
                    self.text,
                    start,
                    "an attribute is not written as `name=\"value\"` in the element",
                ),
            })?;
            if attribute.value.contains(['&', '<']) {
                if attribute.value.contains('<') {
                    return Err(invalid(
                        self.text,
                        start,
                        "an attribute has a bare `<` (write `&lt;`) in the element",
                    ));
                }
                let undefined = "an attribute has an undefined entity or a bare `&` (write `&amp;`) in the element";
                attribute
                    .normalized_value(XmlVersion::Implicit1_0)
                    .map_err(|_| invalid(self.text, start, undefined))?;
            }
            match attribute.key.0.split_once(':') {
                None if attribute.key.0 == "xmlns" => {
                    declared.push((String::new(), attribute.value.into_owned()))
                }
                Some(("xmlns", prefix)) => {
                    declared.push((prefix.to_owned(), attribute.value.into_owned()))
                }
                _ => {}
            }
        }
        if declared.len() + self.scopes.iter().map(Vec::len).sum::<usize>() > NAMESPACES_MAX {
            return Err(invalid(
                self.text,
                start,
                format!("more than {NAMESPACES_MAX} namespaces are in scope"),
            ));
        }
        Ok(declared)
    }

    fn document_type(&self, written: &str, start: usize) -> Result<(), Failure> {
        let mut quote = None;
        let declares = written.chars().any(|character| {
            match (quote, character) {
                (None, '"' | '\'') => quote = Some(character),
                (Some(open), _) if open == character => quote = None,
                _ => {}
            }
            quote.is_none() && character == '['
        });
        if declares {
            return Err(invalid(
                self.text,
                start,
                "a document type (DOCTYPE) with declarations of its own (`[…]`) is not accepted; leave them out",
            ));
        }
        if self.roots > 0 {
            return Err(invalid(
                self.text,
                start,
                "a document type (DOCTYPE) is only before the first element",
            ));
        }
        Ok(())
    }

    fn leave(&mut self, end: usize, sink: &mut Sink<'_>) -> Result<(), Rejection> {
        let own = self.scopes.pop().unwrap_or_default();
        let Some((start, depth)) = self.open else {
            return Ok(());
        };
        if depth != self.scopes.len() {
            return Ok(());
        }
        self.open = None;
        self.found = true;
        let piece = self.alone(&self.text[start..end], &own);
        sink(Ok(piece))
    }

    /// The text of an element with the declarations it inherits and uses written into its start
    /// tag.
    fn alone(&self, element: &str, own: &[(String, String)]) -> String {
        let mut known: Vec<&str> = own.iter().map(|(prefix, _)| prefix.as_str()).collect();
        let mut inherited = String::new();
        for (prefix, uri) in self.scopes.iter().rev().flatten() {
            if known.contains(&prefix.as_str()) {
                continue;
            }
            known.push(prefix);
            // Text that only looks like a use adds a needless declaration, which changes nothing.
            let used = if prefix.is_empty() {
                !uri.is_empty()
            } else {
                element.contains(&format!("{prefix}:"))
            };
            if used {
                let (colon, quote) = (
                    if prefix.is_empty() { "" } else { ":" },
                    if uri.contains('"') { '\'' } else { '"' },
                );
                inherited.push_str(&format!(" xmlns{colon}{prefix}={quote}{uri}{quote}"));
            }
        }
        let name_ends = element.find(|character: char| {
            character.is_ascii_whitespace() || matches!(character, '/' | '>')
        });
        let (tag, rest) = element.split_at(name_ends.unwrap_or(element.len()));
        format!("{tag}{inherited}{rest}")
    }

    /// Checks that only white space is outside of all elements.
    fn between(&self, blank: bool, start: usize) -> Result<(), Failure> {
        if blank || !self.scopes.is_empty() {
            return Ok(());
        }
        Err(invalid(
            self.text,
            start,
            "there is text outside of the document's element",
        ))
    }

    fn end(&self, end: usize) -> Result<(), Rejection> {
        if !self.scopes.is_empty() {
            return Err(invalid(
                self.text,
                end,
                format!(
                    "the document ends while {} elements are open",
                    self.scopes.len()
                ),
            )
            .into());
        }
        if self.roots == 0 {
            return Err(invalid(self.text, end, "there is no element in the document").into());
        }
        if !self.found {
            return Err(no_events(format!(
                "the document has no element `{}`, of which each is an event",
                excerpt(self.element)
            ))
            .into());
        }
        Ok(())
    }
}

fn invalid(text: &str, offset: usize, what: impl std::fmt::Display) -> Failure {
    Failure::new(
        "invalid-xml",
        format!("{what} at {}", json::place(text, offset)),
    )
}

fn position(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// The pieces of a document that is cut at the element `IDOC`, one per line.
    fn check(document: &str, expected: Expect) {
        let mut seen = String::new();
        let result = cut("IDOC", document, &mut |piece| {
            seen.push_str(&format!("{}\n", piece.unwrap()));
            Ok(())
        });
        if let Err(rejection) = result {
            seen.push_str(&format!("{}: {rejection}\n", rejection.code()));
        }
        expected.assert_eq(&seen);
    }

    #[test]
    fn each_element_is_an_event_with_all_that_is_in_it() {
        check(
            "<?xml version=\"1.0\"?>\n<!-- two --><COND_A02>\n  <IDOC BEGIN=\"1\"><KSCHL>PR00 &amp; &#252;<![CDATA[<IDOC>]]></KSCHL></IDOC>\n  <IDOC/><other/>\n</COND_A02>\n",
            expect![[r#"
                <IDOC BEGIN="1"><KSCHL>PR00 &amp; &#252;<![CDATA[<IDOC>]]></KSCHL></IDOC>
                <IDOC/>
            "#]],
        );
    }

    #[test]
    fn an_element_within_its_like_belongs_to_it() {
        check(
            "<a><IDOC>1<IDOC>2</IDOC></IDOC></a>",
            expect![[r#"
            <IDOC>1<IDOC>2</IDOC></IDOC>
        "#]],
        );
        check(
            "<IDOC>alone</IDOC>",
            expect![[r#"
            <IDOC>alone</IDOC>
        "#]],
        );
    }

    #[test]
    fn inherited_namespaces_go_along_if_they_are_used() {
        check(
            r#"<r xmlns="urn:d" xmlns:p="urn:outer" xmlns:q="urn:q" xmlns:u="urn:unused"><m xmlns:p="urn:p"><p:IDOC q:x="1"><p:y/></p:IDOC><IDOC xmlns=""/></m></r>"#,
            expect![[r#"
                <p:IDOC xmlns:p="urn:p" xmlns="urn:d" xmlns:q="urn:q" q:x="1"><p:y/></p:IDOC>
                <IDOC xmlns=""/>
            "#]],
        );
    }

    #[test]
    fn broken_xml_is_refused_with_its_place() {
        check(
            "<a>\n  <IDOC><b></IDOC>\n</a>",
            expect![[r#"
            invalid-xml: ill-formed document: expected `</b>`, but `</IDOC>` was found at line 2 column 12
        "#]],
        );
        check(
            "<a><IDOC/>",
            expect![[r#"
            <IDOC/>
            invalid-xml: the document ends while 1 elements are open at line 1 column 11
        "#]],
        );
        check(
            "<a/><IDOC/>",
            expect![[r#"
            invalid-xml: a document has one element around all others at line 1 column 5
        "#]],
        );
        check(
            "IDOC",
            expect![[r#"
            invalid-xml: there is text outside of the document's element at line 1 column 1
        "#]],
        );
        check(
            "",
            expect![[r#"
            invalid-xml: there is no element in the document at line 1 column 1
        "#]],
        );
        check(
            "<a><IDOC x='1' x='2'/></a>",
            expect![[r#"
            invalid-xml: an attribute is there twice in the element at line 1 column 4
        "#]],
        );
        check(
            "<a><IDOC x/></a>",
            expect![[r#"
            invalid-xml: an attribute is not written as `name="value"` in the element at line 1 column 4
        "#]],
        );
        check(
            "<a><b/></a>",
            expect![[r#"
            no-events: the document has no element `IDOC`, of which each is an event
        "#]],
        );
    }

    #[test]
    fn nothing_expands() {
        // Twelve of the 37 example files of GS1 name a document type, and were refused.
        check(
            "<?xml version='1.0'?><!DOCTYPE a PUBLIC '-//X//DTD [1]//EN' \"a.dtd\">\n<a><IDOC>1</IDOC></a>",
            expect![[r#"
                <IDOC>1</IDOC>
            "#]],
        );
        check(
            "<a><!DOCTYPE a><IDOC/></a>",
            expect![[r#"
            invalid-xml: a document type (DOCTYPE) is only before the first element at line 1 column 4
        "#]],
        );
        let bomb = r#"<!DOCTYPE a [<!ENTITY x "aaaaaaaa"><!ENTITY y "&x;&x;&x;">]><a><IDOC>&y;</IDOC></a>"#;
        check(
            bomb,
            expect![[r#"
                invalid-xml: a document type (DOCTYPE) with declarations of its own (`[…]`) is not accepted; leave them out at line 1 column 1
            "#]],
        );
        check(
            "<a><IDOC>&y;</IDOC></a>",
            expect![[r#"
            invalid-xml: the entity `&y;` is not defined at line 1 column 10
        "#]],
        );
        check(
            "<a><IDOC b='&y;'/></a>",
            expect![[r#"
            invalid-xml: an attribute has an undefined entity or a bare `&` (write `&amp;`) in the element at line 1 column 4
        "#]],
        );
        check(
            &"<a>".repeat(100_000),
            expect![[r#"
            too-deep: more than 256 elements are open at line 1 column 769
        "#]],
        );
    }
}
