//! Texts in each encoding, as the codecs of Python 3 write them.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

/// `"Größe;Preis\n"` and so on, by `str.encode` of Python.
const WRITTEN: [(&str, &[u8]); 6] = [
    ("iso-8859-1", b"Gr\xf6\xdfe;Preis\n\"T\xfcr, wei\xdf\";9,90\n"),
    ("windows-1252", b"Gr\xf6\xdfe;Preis\n\"T\xfcr, wei\xdf\";9,90\n"),
    ("iso-8859-15", b"Gr\xf6\xdfe;Preis\n\"T\xfcr, wei\xdf\";9,90\n"),
    ("cp850", b"Gr\x94\xe1e;Preis\n\"T\x81r, wei\xe1\";9,90\n"),
    (
        "utf-16le",
        b"G\0r\0\xf6\0\xdf\0e\0;\0P\0r\0e\0i\0s\0\n\0\"\0T\0\xfc\0r\0,\0 \0w\0e\0i\0\xdf\0\"\0;\x009\0,\x009\x000\0\n\0",
    ),
    (
        "utf-16be",
        b"\0G\0r\0\xf6\0\xdf\0e\0;\0P\0r\0e\0i\0s\0\n\0\"\0T\0\xfc\0r\0,\0 \0w\0e\0i\0\xdf\0\"\0;\x009\0,\x009\x000\0\n",
    ),
];
const TEXT: &str = "Größe;Preis\n\"Tür, weiß\";9,90\n";

fn whole(text: Text<'_>) -> Result<String, Rejection> {
    in_pieces_of(PIECE, text)
}

fn in_pieces_of(bytes: usize, text: Text<'_>) -> Result<String, Rejection> {
    let mut whole = String::new();
    text.decode_in(bytes, &mut |piece| {
        whole.push_str(piece);
        Ok(())
    })?;
    Ok(whole)
}

fn read(bytes: &[u8], content_type: Option<&str>, setting: Option<&str>) -> String {
    let setting = setting.map(|label| Charset::of_label(label).expect("an encoding"));
    let claims = Claims {
        content_type,
        setting,
    };
    let read = Text::of(bytes, claims).and_then(|text| {
        let name = text.charset.name();
        whole(text).map(|whole| format!("{name}: {whole}"))
    });
    read.unwrap_or_else(|rejection| format!("{}: {rejection}", rejection.code()))
}

#[test]
fn each_encoding_is_read_wherever_it_is_said() {
    for (label, bytes) in WRITTEN {
        let name = Charset::of_label(label).expect(label).name();
        let expected = format!("{name}: {TEXT}");
        assert_eq!(read(bytes, Some(label), None), expected, "{label}");
        assert_eq!(read(bytes, None, Some(label)), expected, "{label}");
    }
    // Every byte of cp850, by Python's codec.
    let all: Vec<u8> = (0x80..=0xff).collect();
    let upper = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜø£Ø×ƒáíóúñÑªº¿®¬½¼¡«»░▒▓│┤ÁÂÀ©╣║╗╝¢¥┐└┴┬├─┼ãÃ╚╔╩╦╠═╬¤ðÐÊËÈıÍÎÏ┘┌█▄¦Ì▀ÓßÔÒõÕµþÞÚÛÙýÝ¯´\u{ad}±‗¾¶§÷¸°¨·¹³²■\u{a0}";
    assert_eq!(read(&all, None, Some("IBM850")), format!("cp850: {upper}"));
}

// One document, and everything that can be said about it. Each time the first of mark, Content-Type, declaration
// and setting decides, and where nothing is said, it is UTF-8.
#[test]
fn the_first_that_says_something_decides() {
    let document =
        |encoding: &str| format!("<?xml version='1.0' encoding=\"{encoding}\"?><a>ö</a>");
    let latin = |text: &str| -> Vec<u8> { text.chars().map(|it| it as u8).collect() };
    let declared = latin(&document("ISO-8859-2"));
    let claims: [(&[u8], Option<&str>, &str); 5] = [
        (&declared, Some("windows-1252"), "windows-1252"),
        (&declared, None, "ISO-8859-2"),
        (&latin("<a>ö</a>"), None, "cp850"),
        (
            b"\xef\xbb\xbf<?xml encoding='cp850'?>",
            Some("windows-1252"),
            "UTF-8",
        ),
        (b"\xfe\xff\0<\0a\0/\0>", Some("utf-8"), "UTF-16BE"),
    ];
    for (bytes, content_type, name) in claims {
        let seen = read(bytes, content_type, Some("cp850"));
        assert!(seen.starts_with(&format!("{name}: ")), "{name}: {seen}");
    }
    assert!(read("ö".as_bytes(), None, None).starts_with("UTF-8: ö"));
    // A wrong claim is believed; nothing is guessed.
    assert_eq!(
        read("Größe".as_bytes(), Some("latin1"), None),
        "windows-1252: GrÃ¶ÃŸe"
    );
    // What declares UTF-16 and can be read without it was written into a string by a library.
    let wrong = document("utf-16");
    assert_eq!(
        read(wrong.as_bytes(), None, None),
        format!("UTF-8: {wrong}")
    );
    let wide: Vec<u8> = wrong.encode_utf16().flat_map(u16::to_be_bytes).collect();
    assert_eq!(read(&wide, None, None), format!("UTF-16BE: {wrong}"));
    assert_eq!(
        read(&wide, Some("UTF-16"), None),
        format!("UTF-16BE: {wrong}")
    );
}

#[test]
fn every_label_is_known_or_refused() {
    let known = |label: &str| Charset::of_label(label).map(Charset::name);
    for (label, name) in [
        ("UTF8", "UTF-8"),
        ("us-ascii", "UTF-8"),
        ("ISO-8859-1", "windows-1252"),
        ("latin1", "windows-1252"),
        (" Windows-1252 ", "windows-1252"),
        ("cp1252", "windows-1252"),
        ("ISO_8859-15", "ISO-8859-15"),
        ("850", "cp850"),
        ("CP850", "cp850"),
        ("utf-16", "UTF-16"),
        ("UTF-16LE", "UTF-16LE"),
        ("utf-16be", "UTF-16BE"),
        ("shift_jis", "Shift_JIS"),
        ("macintosh", "macintosh"),
    ] {
        assert_eq!(known(label), Some(name), "{label}");
    }
    for label in [
        "cp437",
        "ibm437",
        "cp500",
        "ebcdic-cp-us",
        "utf-32",
        "utf-7",
        "x-user-defined",
        "iso-2022-kr",
        "latin",
        "",
    ] {
        assert_eq!(known(label), None, "{label}");
    }
}

fn check(bytes: &[u8], content_type: Option<&str>, setting: Option<&str>, expected: Expect) {
    expected.assert_eq(&read(bytes, content_type, setting));
}

#[test]
fn a_text_that_is_not_in_its_encoding_is_told_with_the_place_and_who_says_so() {
    check(
        b"ab\n\xff",
        Some("utf-8"),
        Some("cp850"),
        expect![
            "invalid-utf-8: byte 3 (counted from 0) in line 2 is not valid UTF-8, as the charset of its Content-Type says; send it so, or name the encoding that it has"
        ],
    );
    check(
        b"\xff\xfea\0\n\0\0\xdcb\0",
        None,
        None,
        expect![
            "invalid-encoding: byte 6 (counted from 0) in line 2 is not valid UTF-16LE, as its byte order mark says; send it as one or the other"
        ],
    );
    check(
        b"\xff\xfea\0b",
        None,
        None,
        expect![
            "invalid-encoding: byte 4 (counted from 0) in line 1 is not valid UTF-16LE, as its byte order mark says; send it as one or the other"
        ],
    );
    check(
        b"a\xae",
        None,
        Some("iso-8859-7"),
        expect![
            "invalid-encoding: byte 1 (counted from 0) in line 1 is not valid ISO-8859-7, as `encoding` of this source says; write there the encoding that it has"
        ],
    );
    check(
        b"a",
        Some("cp437"),
        None,
        expect![
            "unsupported-media-type: the Content-Type says charset=cp437, which is not understood; Weir reads UTF-8, UTF-16, ISO-8859-1 to -16, Windows-1250 to -1258, cp850 and the other encodings of the web"
        ],
    );
    check(
        b"<?xml version='1.0' encoding = 'klingon' ?>",
        None,
        None,
        expect![
            "unsupported-media-type: the XML declaration says encoding=klingon, which is not understood; Weir reads UTF-8, UTF-16, ISO-8859-1 to -16, Windows-1250 to -1258, cp850 and the other encodings of the web"
        ],
    );
    check(
        b"\xff\xfe\0\0a\0\0\0",
        None,
        None,
        expect![
            "unsupported-media-type: the text begins with the byte order mark of UTF-32, which is not understood; send UTF-8"
        ],
    );
    check(
        "ŠŠ"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect::<Vec<u8>>()
            .as_slice(),
        Some("utf-16"),
        None,
        expect![
            "unsupported-media-type: the text is UTF-16, as the charset of its Content-Type says, but in which byte order is unknown; begin it with a byte order mark, or say utf-16le or utf-16be"
        ],
    );
}

#[test]
fn a_document_that_was_decoded_declares_so() {
    let after = |document: &str| declared_as_utf8(document.to_owned());
    for encoding in ["encoding=\"ISO-8859-1\"", "encoding = 'ISO-8859-1'"] {
        let before = format!("<?xml version=\"1.0\" {encoding} standalone='no'?><a encoding='x'/>");
        let decoded = after(&before);
        assert_eq!(decoded, before.replace("ISO-8859-1", "UTF-8"));
    }
    for untouched in [
        "<a encoding='x'/>",
        "<?xml version='1.0'?><a encoding='x'/>",
        "<?xml",
        "",
    ] {
        assert_eq!(after(untouched), untouched);
    }
}

fn any_charset() -> impl Strategy<Value = Charset> {
    let labels = [
        "utf-8",
        "windows-1252",
        "cp850",
        "iso-8859-7",
        "utf-16le",
        "utf-16be",
        "shift_jis",
        "gb18030",
        "euc-kr",
    ];
    prop::sample::select(labels.to_vec())
        .prop_map(|label| Charset::of_label(label).expect("a label"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn decoding_in_pieces_is_decoding_at_once(
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..60),
            "[aö€😀\n漢]{0,20}".prop_map(String::into_bytes),
            "[aö€😀\n漢]{0,20}".prop_map(|text| text.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ],
        piece in 1usize..9,
        charset in any_charset(),
    ) {
        let text = Text { bytes: &bytes, mark: 0, charset, by: By::Setting };
        let (whole, pieces) = (whole(text), in_pieces_of(piece, text));
        match whole {
            // Where a sequence of several bytes begins that is not valid is said by the decoder, which does not
            // always know it any more when the rest of it comes in another piece.
            Err(_) => prop_assert!(pieces.is_err()),
            whole => prop_assert_eq!(whole, pieces),
        }
    }

    #[test]
    fn any_bytes_with_any_claim_are_read_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..60),
        label in "(utf-16|utf-8|cp850|latin1|x)?",
    ) {
        let claims = Claims { content_type: Some(label.as_str()).filter(|it| !it.is_empty()), setting: None };
        if let Ok(text) = Text::of(&bytes, claims) {
            let _ = whole(text.without_end_mark());
        }
    }
}
