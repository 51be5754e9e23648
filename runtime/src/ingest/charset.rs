//! Which encoding a text is in, and its characters as UTF-8.
//!
//! Senders say it in several places, and the places may contradict each other. The first of these that says
//! something decides (RFC 7303): a byte order mark, the `charset` of the `Content-Type`, the XML declaration, the
//! `encoding` of the source. Where none does, the text is UTF-8, and nothing is guessed from its bytes: each
//! byte is a character in Windows-1252, so a wrong guess would only show in the shop.
//!
//! Labels are those of the WHATWG Encoding Standard, and `cp850`. In that standard `iso-8859-1` means
//! Windows-1252, which has printable characters in place of control characters. A text is decoded in pieces of
//! [`PIECE`] bytes, so that a large one need not be in memory twice.

mod cp850;

use encoding_rs::{DecoderResult, Encoding, UTF_8, UTF_16BE, UTF_16LE, X_USER_DEFINED};

use super::Rejection;
use super::media::Media;
use crate::model::Failure;

/// Bytes that are decoded at once.
const PIECE: usize = 16 * 1024;
/// The most bytes of an XML declaration.
const DECLARATION_BYTES_MAX: usize = 256;
/// Names of code page 850.
const CP850: [&str; 6] = [
    "cp850",
    "cp-850",
    "ibm850",
    "ibm-850",
    "850",
    "cspc850multilingual",
];
/// Names of ASCII. In the Encoding Standard they mean Windows-1252; here a byte beyond ASCII is a mistake.
const ASCII: [&str; 4] = ["us-ascii", "ascii", "ansi_x3.4-1968", "iso646-us"];

/// An encoding of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charset {
    /// UTF-8, the default.
    Utf8,
    /// UTF-16 whose byte order the text itself must show.
    Utf16,
    /// Code page 850.
    Cp850,
    /// One of the Encoding Standard.
    Standard(&'static Encoding),
}

impl Charset {
    /// The encoding with this label; `None` if there is none, or it cannot be decoded here (EBCDIC, `cp437`).
    pub fn of_label(label: &str) -> Option<Charset> {
        let label = label.trim().to_ascii_lowercase();
        if CP850.contains(&label.as_str()) {
            return Some(Charset::Cp850);
        }
        if ASCII.contains(&label.as_str()) {
            return Some(Charset::Utf8);
        }
        match Encoding::for_label_no_replacement(label.as_bytes())? {
            encoding if encoding == UTF_8 => Some(Charset::Utf8),
            encoding if encoding == X_USER_DEFINED => None,
            encoding if encoding == UTF_16LE && label != "utf-16le" => Some(Charset::Utf16),
            encoding => Some(Charset::Standard(encoding)),
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Charset::Utf8 => "UTF-8",
            Charset::Utf16 => "UTF-16",
            Charset::Cp850 => "cp850",
            Charset::Standard(encoding) => encoding.name(),
        }
    }
}

/// What says in which encoding a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Mark,
    ContentType,
    Declaration,
    Setting,
    Default,
}

impl By {
    /// The second half of a sentence about a text that is not in its encoding.
    fn sentence(self) -> &'static str {
        match self {
            By::Mark => "as its byte order mark says; send it as one or the other",
            By::ContentType => {
                "as the charset of its Content-Type says; send it so, or name the encoding that it has"
            }
            By::Declaration => {
                "as its XML declaration says; send it so, or declare the encoding that it has"
            }
            By::Setting => {
                "as `encoding` of this source says; write there the encoding that it has"
            }
            By::Default => "and nothing says that it is in another encoding",
        }
    }
}

/// What is said about the encoding of a text, besides what it says itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Claims<'a> {
    /// The `charset` of its media type.
    pub(super) content_type: Option<&'a str>,
    /// The source's setting.
    pub(super) setting: Option<Charset>,
}

impl<'a> Claims<'a> {
    pub(super) fn of(media: Option<&'a Media>, setting: Option<Charset>) -> Claims<'a> {
        Claims {
            content_type: media.and_then(|media| media.charset.as_deref()),
            setting,
        }
    }
}

/// A text as it was received, without its byte order mark, and the encoding it is in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'a> {
    bytes: &'a [u8],
    /// The length of its byte order mark.
    mark: usize,
    charset: Charset,
    by: By,
}

impl<'a> Text<'a> {
    /// A text of which is known that it is UTF-8.
    pub(super) fn utf8(bytes: &'a [u8]) -> Text<'a> {
        let mark = match bytes {
            [0xef, 0xbb, 0xbf, ..] => 3,
            _ => 0,
        };
        Text {
            bytes: &bytes[mark..],
            mark,
            charset: Charset::Utf8,
            by: By::Default,
        }
    }

    /// The text with its encoding.
    ///
    /// # Errors
    /// `UnsupportedMediaType` if the encoding that decides is none that is understood.
    pub(super) fn of(bytes: &'a [u8], claims: Claims<'_>) -> Result<Text<'a>, Rejection> {
        let (mark, charset) = match bytes {
            [0xef, 0xbb, 0xbf, ..] => (3, Charset::Utf8),
            [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => return Err(utf32()),
            [0xff, 0xfe, ..] => (2, Charset::Standard(UTF_16LE)),
            [0xfe, 0xff, ..] => (2, Charset::Standard(UTF_16BE)),
            _ => return Text::without_mark(bytes, claims),
        };
        Ok(Text {
            bytes: &bytes[mark..],
            mark,
            charset,
            by: By::Mark,
        })
    }

    fn without_mark(bytes: &'a [u8], claims: Claims<'_>) -> Result<Text<'a>, Rejection> {
        let known = |label: &str, what: &str| {
            Charset::of_label(label).ok_or_else(|| not_understood(label, what))
        };
        let (charset, by) = if let Some(label) = claims.content_type {
            (
                known(label, "the Content-Type says charset=")?,
                By::ContentType,
            )
        } else if let Some(order) = wide_declaration(bytes) {
            (Charset::Standard(order), By::Declaration)
        } else if let Some(label) = declared(bytes)
            // The declaration could be read, so it is wrong: libraries that write into a string declare this.
            && !label.to_ascii_lowercase().starts_with("utf-16")
        {
            let what = "the XML declaration says encoding=";
            (known(label, what)?, By::Declaration)
        } else if let Some(charset) = claims.setting {
            (charset, By::Setting)
        } else {
            (Charset::Utf8, By::Default)
        };
        let charset = match (charset, bytes) {
            (Charset::Utf16, [0, _, ..]) => Charset::Standard(UTF_16BE),
            (Charset::Utf16, [_, 0, ..] | []) => Charset::Standard(UTF_16LE),
            (Charset::Utf16, _) => return Err(order_unknown(by)),
            (charset, _) => charset,
        };
        Ok(Text {
            bytes,
            mark: 0,
            charset,
            by,
        })
    }

    /// Whether its bytes are UTF-8, if they are text at all.
    pub(super) fn is_utf8(&self) -> bool {
        self.charset == Charset::Utf8
    }

    /// Its bytes as they were received.
    pub(super) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The text without the mark with which DOS ended a file (Ctrl-Z).
    pub(super) fn without_end_mark(self) -> Text<'a> {
        const MARK: u8 = 0x1a;
        let mut bytes = self.bytes;
        loop {
            let before = match (self.charset, bytes) {
                (Charset::Standard(order), [before @ .., MARK, 0]) if order == UTF_16LE => before,
                (Charset::Standard(order), [before @ .., 0, MARK]) if order == UTF_16BE => before,
                (Charset::Standard(order), _) if order == UTF_16LE || order == UTF_16BE => break,
                (_, [before @ .., MARK]) => before,
                _ => break,
            };
            bytes = before;
        }
        Text { bytes, ..self }
    }

    /// Passes on its characters as UTF-8, in pieces; a text that is UTF-8 already in one piece and unchecked.
    ///
    /// # Errors
    /// `Malformed` if it is not in its encoding, with the place; or the error of `take`.
    pub(super) fn pieces(
        &self,
        take: &mut dyn FnMut(&[u8]) -> Result<(), Rejection>,
    ) -> Result<(), Rejection> {
        if self.is_utf8() {
            return take(self.bytes);
        }
        self.decode_in(PIECE, &mut |piece| take(piece.as_bytes()))
    }

    /// Passes on its characters in pieces.
    ///
    /// # Errors
    /// As [`Text::pieces`].
    pub(super) fn decode(
        &self,
        take: &mut dyn FnMut(&str) -> Result<(), Rejection>,
    ) -> Result<(), Rejection> {
        self.decode_in(PIECE, take)
    }

    /// All of its characters, where nobody counts the memory that they take.
    ///
    /// # Errors
    /// `Malformed` if it is not in its encoding, with the place.
    pub(super) fn decoded(&self) -> Result<String, Rejection> {
        let mut whole = String::new();
        self.decode(&mut |piece| {
            whole.push_str(piece);
            Ok(())
        })?;
        Ok(whole)
    }

    fn decode_in(
        &self,
        bytes: usize,
        take: &mut dyn FnMut(&str) -> Result<(), Rejection>,
    ) -> Result<(), Rejection> {
        let mut decoder = Decoder::new(self.charset);
        let mut pieces = self.bytes.chunks(bytes).peekable();
        let (mut decoded, mut lines) = (String::new(), 0);
        while let Some(piece) = pieces.next() {
            decoded.clear();
            let result = decoder.push(piece, pieces.peek().is_none(), &mut decoded);
            lines += memchr::memchr_iter(b'\n', decoded.as_bytes()).count();
            if let Err(at) = result {
                return Err(self.malformed(at, lines + 1).into());
            }
            take(&decoded)?;
        }
        Ok(())
    }

    fn malformed(&self, at: usize, line: usize) -> Failure {
        let (at, name) = (at + self.mark, self.charset.name());
        let why = self.by.sentence();
        let code = match self.charset {
            Charset::Utf8 => "invalid-utf-8",
            _ => "invalid-encoding",
        };
        Failure::new(
            code,
            format!("byte {at} (counted from 0) in line {line} is not valid {name}, {why}"),
        )
    }
}

fn utf32() -> Rejection {
    Rejection::UnsupportedMediaType {
        detail: "the text begins with the byte order mark of UTF-32, which is not understood; send UTF-8"
            .to_owned(),
    }
}

fn not_understood(label: &str, what: &str) -> Rejection {
    Rejection::UnsupportedMediaType {
        detail: format!(
            "{what}{}, which is not understood; Weir reads {UNDERSTOOD}",
            super::envelope::excerpt(label)
        ),
    }
}

fn order_unknown(by: By) -> Rejection {
    let what = match by {
        By::ContentType => "the charset of its Content-Type",
        By::Declaration => "its XML declaration",
        By::Setting | By::Mark | By::Default => "`encoding` of this source",
    };
    Rejection::UnsupportedMediaType {
        detail: format!(
            "the text is UTF-16, as {what} says, but in which byte order is unknown; begin it with a byte order mark, or say utf-16le or utf-16be"
        ),
    }
}

/// The encodings that are understood, for messages.
pub const UNDERSTOOD: &str = "UTF-8, UTF-16, ISO-8859-1 to -16, Windows-1250 to -1258, cp850 and the other encodings of the web";

/// The `encoding` of an XML declaration in a text whose ASCII characters are one byte each.
fn declared(bytes: &[u8]) -> Option<&str> {
    let rest = bytes.strip_prefix(b"<?xml")?;
    let head = &rest[..rest.len().min(DECLARATION_BYTES_MAX)];
    let end = memchr::memmem::find(head, b"?>")?;
    let inside = std::str::from_utf8(&head[..end]).ok()?;
    Some(&inside[encoding_in(inside)?])
}

/// Where the value of `encoding` is in the inside of an XML declaration.
fn encoding_in(declaration: &str) -> Option<std::ops::Range<usize>> {
    let name = declaration.find("encoding")?;
    let after = declaration[name + "encoding".len()..].trim_start();
    let value = after.strip_prefix('=')?.trim_start();
    let quote = value.chars().next().filter(|it| matches!(it, '"' | '\''))?;
    let value = &value[1..];
    let length = value.find(quote)?;
    let from = declaration.len() - value.len();
    Some(from..from + length)
}

/// The byte order of an XML declaration in UTF-16 (XML 1.0, appendix F).
fn wide_declaration(bytes: &[u8]) -> Option<&'static Encoding> {
    match bytes {
        [b'<', 0, b'?', 0, ..] => Some(UTF_16LE),
        [0, b'<', 0, b'?', ..] => Some(UTF_16BE),
        _ => None,
    }
}

/// A document that was decoded, with an XML declaration that says so: some parsers refuse one that declares
/// another encoding than they are given.
pub(super) fn declared_as_utf8(mut document: String) -> String {
    const OPENS: &str = "<?xml";
    let Some(inside) = document.strip_prefix(OPENS) else {
        return document;
    };
    let found = inside
        .find("?>")
        .filter(|end| *end <= DECLARATION_BYTES_MAX)
        .and_then(|end| encoding_in(&inside[..end]));
    if let Some(range) = found {
        document.replace_range(OPENS.len() + range.start..OPENS.len() + range.end, "UTF-8");
    }
    document
}

/// Decodes a text that comes in pieces.
struct Decoder {
    /// `None` for code page 850, in which each byte is a character.
    standard: Option<encoding_rs::Decoder>,
    /// Bytes of the pieces before.
    before: usize,
}

impl Decoder {
    fn new(charset: Charset) -> Decoder {
        let encoding = match charset {
            Charset::Cp850 => None,
            Charset::Utf8 => Some(UTF_8),
            Charset::Utf16 => Some(UTF_16LE),
            Charset::Standard(encoding) => Some(encoding),
        };
        Decoder {
            standard: encoding.map(Encoding::new_decoder_without_bom_handling),
            before: 0,
        }
    }

    /// Adds the characters of the next piece to a text; `last` says that no other follows. The error is the
    /// offset of a byte that is not valid.
    fn push(&mut self, piece: &[u8], last: bool, text: &mut String) -> Result<(), usize> {
        let Some(decoder) = &mut self.standard else {
            cp850::decode(piece, text);
            return Ok(());
        };
        let mut read = 0;
        loop {
            let rest = &piece[read..];
            let most = decoder.max_utf8_buffer_length_without_replacement(rest.len());
            text.reserve(most.unwrap_or(4 * rest.len() + 16));
            let (result, more) = decoder.decode_to_string_without_replacement(rest, text, last);
            read += more;
            match result {
                DecoderResult::InputEmpty => break,
                DecoderResult::OutputFull => {}
                DecoderResult::Malformed(length, after) => {
                    let end = self.before + read - usize::from(after);
                    return Err(end.saturating_sub(usize::from(length)));
                }
            }
        }
        self.before += piece.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
