//! Reads IDocs from XML, one at a time, so that a document with ten thousand IDocs needs only the
//! memory of one.
//!
//! An [`Element`] is a segment or a field in SAP's form: fields are elements with text, segments
//! contain fields and further segments. Segments that no mapping uses are skipped. A document that
//! ends early is an error even after complete IDocs, because the IDocs that are missing would
//! otherwise go unnoticed.

use quick_xml::events::{BytesStart, Event};
use quick_xml::Reader;
use weir_plugin::{Error, Result};

/// The segments that the mappings read.
const WANTED: [&str; 7] = [
    "EDI_DC40", "E1KOMG", "E1KONH", "E1KONP", "E1MARAM", "E1MAKTM", "E1MARCM",
];

/// The IDocs of one document.
pub(crate) struct Idocs<'a> {
    reader: Reader<&'a [u8]>,
    /// The number of open elements around the IDoc, such as the document's root.
    around: usize,
}

/// One IDoc.
pub(crate) struct Idoc {
    root: Element,
}

/// A segment or a field.
#[derive(Default)]
pub(crate) struct Element {
    name: String,
    text: String,
    children: Vec<Element>,
}

impl<'a> Idocs<'a> {
    pub(crate) fn of(document: &'a str) -> Self {
        Idocs {
            reader: Reader::from_str(document),
            around: 0,
        }
    }

    /// Returns the next IDoc, or `None` at the end of the document.
    pub(crate) fn next(&mut self) -> Result<Option<Idoc>> {
        // A list instead of recursion: the sender chooses the depth and must not exhaust the stack.
        let mut open: Vec<Element> = Vec::new();
        loop {
            let event = self
                .reader
                .read_event()
                .map_err(|error| broken(&self.reader, &error))?;
            let closed = match event {
                Event::Start(start) => {
                    let name = local_name(&start);
                    if open.is_empty() && name != "IDOC" {
                        self.around += 1;
                    } else if is_segment(&start)
                        && !WANTED.contains(&name.as_str())
                        && !open.is_empty()
                    {
                        self.reader
                            .read_to_end(start.name())
                            .map_err(|error| broken(&self.reader, &error))?;
                    } else {
                        open.push(Element {
                            name,
                            ..Element::default()
                        });
                    }
                    None
                }
                Event::Empty(start) if !open.is_empty() || local_name(&start) == "IDOC" => {
                    Some(Element {
                        name: local_name(&start),
                        ..Element::default()
                    })
                }
                Event::End(_) => {
                    let closed = open.pop();
                    if closed.is_none() {
                        self.around = self.around.saturating_sub(1);
                    }
                    closed
                }
                Event::Text(text) => {
                    let text = text
                        .decode()
                        .map_err(|error| broken(&self.reader, &error))?;
                    append(&mut open, &text);
                    None
                }
                Event::CData(text) => {
                    let text = text
                        .decode()
                        .map_err(|error| broken(&self.reader, &error))?;
                    append(&mut open, &text);
                    None
                }
                Event::GeneralRef(reference) => {
                    let name = reference
                        .decode()
                        .map_err(|error| broken(&self.reader, &error))?;
                    match reference
                        .resolve_char_ref()
                        .map_err(|error| broken(&self.reader, &error))?
                    {
                        Some(character) => append(&mut open, character.encode_utf8(&mut [0; 4])),
                        None => match quick_xml::escape::resolve_xml_entity(&name) {
                            Some(text) => append(&mut open, text),
                            None => {
                                return Err(broken(
                                    &self.reader,
                                    &format!("the entity &{name}; is not declared"),
                                ))
                            }
                        },
                    }
                    None
                }
                Event::Eof => {
                    return match open.last().map(|element| element.name.as_str()) {
                        Some(name) => Err(broken(
                            &self.reader,
                            &format!("the document ends inside {name}"),
                        )),
                        None if self.around > 0 => Err(broken(
                            &self.reader,
                            &"the document ends before its root element does",
                        )),
                        None => Ok(None),
                    };
                }
                _ => None,
            };
            if let Some(closed) = closed {
                match open.last_mut() {
                    Some(parent) => parent.children.push(closed),
                    None => return Ok(Some(Idoc { root: closed })),
                }
            }
        }
    }
}

impl Idoc {
    /// The segments with this name directly below the IDoc.
    pub(crate) fn segments<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> + 'a {
        self.root.segments(name)
    }

    /// The name of this IDoc in messages.
    pub(crate) fn label(&self) -> String {
        match self.control("DOCNUM") {
            Some(number) => format!("IDoc {number}"),
            None => "an IDoc without a number".into(),
        }
    }

    /// The day on which the IDoc was created, as `20261123`.
    pub(crate) fn day(&self) -> Option<&str> {
        self.control("CREDAT")
    }

    /// `SERIAL` if the sender serialises, otherwise the second in which the IDoc was created.
    ///
    /// A serial number has up to 20 digits and a version at most 19, so the last digit of a
    /// 20-digit number is cut off. Two IDocs that differ only in that digit count as equally old,
    /// and the one that arrives last wins.
    pub(crate) fn version(&self) -> Result<Option<u64>> {
        let digits = match (self.control("SERIAL"), self.control("CREDAT")) {
            (Some(serial), _) => serial.to_owned(),
            (None, Some(day)) => format!("{day}{}", self.control("CRETIM").unwrap_or("000000")),
            (None, None) => return Ok(None),
        };
        let version = match digits.bytes().all(|byte| byte.is_ascii_digit()) {
            true => digits[..digits.len().min(19)].parse().ok(),
            false => None,
        };
        version.map(Some).ok_or_else(|| {
            Error::new(
                "not-a-version",
                format!(
                    "{} has `{digits}` for SERIAL or CREDAT and CRETIM, which must consist of digits",
                    self.label()
                ),
            )
        })
    }

    fn control(&self, field: &str) -> Option<&str> {
        self.segments("EDI_DC40").next()?.field(field)
    }
}

impl Element {
    /// The segments with this name directly below this one.
    pub(crate) fn segments<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> + 'a {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// A field's text. A blank field counts as absent, because SAP pads fields with blanks.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let text = self
            .children
            .iter()
            .find(|child| child.name == name)?
            .text
            .trim();
        (!text.is_empty()).then_some(text)
    }

    /// A field that the mapping requires.
    pub(crate) fn needed(&self, name: &str, idoc: &Idoc) -> Result<&str> {
        self.field(name).ok_or_else(|| {
            Error::new(
                "missing-field",
                format!(
                    "{}/{name} is missing or empty in {}",
                    self.name,
                    idoc.label()
                ),
            )
        })
    }

    /// The material number: the long one of newer systems if it exists. Leading zeros are only
    /// padding and are removed.
    pub(crate) fn material_number(&self, idoc: &Idoc) -> Result<&str> {
        let number = match self.field("MATNR_LONG") {
            Some(long) => long,
            None => self.needed("MATNR", idoc)?,
        };
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(number);
        }
        let stripped = number.trim_start_matches('0');
        Ok(if stripped.is_empty() { "0" } else { stripped })
    }

    /// Returns true if a flag is set; SAP writes `X`.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.field(name)
            .is_some_and(|text| text.eq_ignore_ascii_case("x"))
    }
}

fn append(open: &mut [Element], text: &str) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(text);
    }
}

fn local_name(start: &BytesStart<'_>) -> String {
    String::from_utf8_lossy(start.local_name().as_ref()).into_owned()
}

fn is_segment(start: &BytesStart<'_>) -> bool {
    start
        .attributes()
        .flatten()
        .any(|attribute| attribute.key.as_ref() == b"SEGMENT")
}

fn broken(reader: &Reader<&[u8]>, error: &dyn std::fmt::Display) -> Error {
    Error::new(
        "broken-xml",
        format!(
            "the XML cannot be read past byte {}: {error}",
            reader.buffer_position()
        ),
    )
}
