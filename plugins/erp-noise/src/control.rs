//! Reads the control record of an IDoc, without the rest of the document.

use quick_xml::events::Event;
use quick_xml::Reader;
use weir_plugin::{Error, Result};

/// The fields of `EDI_DC40` that identify noise.
#[derive(Debug, Default)]
pub(crate) struct Control {
    pub(crate) message_type: Option<String>,
    pub(crate) sender: Option<String>,
    pub(crate) test: bool,
}

impl Control {
    /// Reads up to the end of the first control record. If a segment comes before it, there is no
    /// control record.
    pub(crate) fn read(document: &str) -> Result<Control> {
        let mut reader = Reader::from_str(document);
        let mut control = None;
        let mut text = String::new();
        loop {
            let event = reader
                .read_event()
                .map_err(|error| broken(&reader, &error))?;
            match (event, &mut control) {
                (Event::Start(start), None) => match start.local_name().as_ref() {
                    b"EDI_DC40" => control = Some(Control::default()),
                    name if name.starts_with(b"E1")
                        || name.starts_with(b"E2")
                        || name.starts_with(b"Z1") =>
                    {
                        return Err(absent())
                    }
                    _ => {}
                },
                (Event::Start(_), Some(_)) => text.clear(),
                (Event::Text(part), Some(_)) => {
                    text.push_str(&part.decode().map_err(|error| broken(&reader, &error))?)
                }
                (Event::CData(part), Some(_)) => {
                    text.push_str(&part.decode().map_err(|error| broken(&reader, &error))?)
                }
                (Event::GeneralRef(part), Some(_)) => {
                    let name = part.decode().map_err(|error| broken(&reader, &error))?;
                    match part
                        .resolve_char_ref()
                        .map_err(|error| broken(&reader, &error))?
                    {
                        Some(character) => text.push(character),
                        None => {
                            text.push_str(quick_xml::escape::resolve_xml_entity(&name).ok_or_else(
                                || broken(&reader, &format!("the entity &{name}; is not declared")),
                            )?)
                        }
                    }
                }
                (Event::End(end), Some(open)) => {
                    let value = text.trim();
                    match end.local_name().as_ref() {
                        b"EDI_DC40" => return Ok(std::mem::take(open)),
                        b"MESTYP" if !value.is_empty() => {
                            open.message_type = Some(value.to_owned())
                        }
                        b"SNDPRN" if !value.is_empty() => open.sender = Some(value.to_owned()),
                        b"TEST" => open.test = value.eq_ignore_ascii_case("x"),
                        _ => {}
                    }
                    text.clear();
                }
                (Event::Eof, None) => return Err(absent()),
                (Event::Eof, Some(_)) => {
                    return Err(broken(&reader, &"the document ends inside EDI_DC40"))
                }
                _ => {}
            }
        }
    }
}

fn absent() -> Error {
    Error::new(
        "no-control-record",
        "the event does not start with an IDoc's control record, EDI_DC40: does an XML IDoc port feed this source?",
    )
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
