//! CSV as systems and spreadsheets write it.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::ingest::charset::{Charset, Claims};
use crate::ingest::http;

const SEMICOLON: Dialect = Dialect {
    delimiter: Some(b';'),
    quote: Some(b'"'),
};
const WITHOUT_QUOTES: Dialect = Dialect {
    delimiter: Some(b';'),
    quote: None,
};

/// The records of a text, one per line, with problems in brackets.
fn seen(dialect: Dialect, text: Text<'_>) -> String {
    let mut seen = String::new();
    let result = cut(dialect, text, &mut |piece| {
        seen.push_str(&shown(piece));
        Ok(())
    });
    if let Err(rejection) = result {
        seen.push_str(&format!("{}: {rejection}\n", http::status(&rejection)));
    }
    seen
}

fn shown(piece: Result<String, Spoilt>) -> String {
    let piece = piece.unwrap_or_else(|spoilt| {
        let bytes = String::from_utf8_lossy(&spoilt.bytes);
        format!("[{}: {bytes:?}]", spoilt.failure)
    });
    format!("{piece}\n")
}

fn check(dialect: Dialect, body: &[u8], expected: Expect) {
    expected.assert_eq(&seen(dialect, Text::utf8(body)));
}

#[test]
fn records_become_objects() {
    check(
        Dialect::default(),
        "\u{feff}sku,name\n4711,\"Lamp, \"\"small\"\"\"\n4712\n4713,\"two\nlines\"\n4714,15\" screen\n"
            .as_bytes(),
        expect![[r#"
            {"sku":"4711","name":"Lamp, \"small\""}
            [invalid-csv: in line 3: the record has 1 fields and the first line 2: "sku,name\n4712\n"]
            {"sku":"4713","name":"two\nlines"}
            {"sku":"4714","name":"15\" screen"}
        "#]],
    );
    check(Dialect::default(), b"sku,name\n", expect![""]);
    check(Dialect::default(), b"", expect![""]);
    check(
        Dialect::default(),
        b"sku,sku\n1,2\n",
        expect![[r#"
            400 Bad Request: the first line names "sku" twice
        "#]],
    );
    check(
        Dialect::default(),
        b"sku,name\r\n\r\n1,a\r\n2\r\n\r\n3,c",
        expect![[r#"
            {"sku":"1","name":"a"}
            [invalid-csv: in line 4: the record has 1 fields and the first line 2: "sku,name\n2\n"]
            {"sku":"3","name":"c"}
        "#]],
    );
    check(
        Dialect::default(),
        b"sku,name\n1,\"a\" ,\n2,\"\"\n3,\xff\n",
        expect![[r#"
            {"sku":"1","name":"a"}
            {"sku":"2","name":""}
            [invalid-utf-8: in line 4: a value is not valid UTF-8; send UTF-8, or write at the source what it is, such as encoding = "windows-1252": "sku,name\n3,�\n"]
        "#]],
    );
}

// One stray quote made a field of the 998 records behind it, which were gone behind a 202.
#[test]
fn a_stray_quote_names_its_record_and_nothing_of_the_body_is_taken() {
    let what_helps = "; write a quote inside a quoted field twice (\"\"), or csv = { quote = \"\" } at the source if its quotes are plain characters";
    let check = |body: &[u8], expected: Expect| {
        let seen = seen(Dialect::default(), Text::utf8(body));
        assert!(seen.contains(what_helps), "{seen}");
        expected.assert_eq(&seen.replace(what_helps, ""));
    };
    check(
        b"sku,name\n1,Lamp\n2,\"Bowl\n3,Cup\n4,Jug\n",
        expect![[r#"
            {"sku":"1","name":"Lamp"}
            400 Bad Request: record 2, which begins in line 3, opens a quote that is never closed, so it is unknown where the next record begins, and nothing of this body was taken
        "#]],
    );
    check(
        b"sku,name\n1,Lamp\n2,\"Bowl\n3,Cup\n4,\"Jug, large\"\n",
        expect![[r#"
            {"sku":"1","name":"Lamp"}
            400 Bad Request: record 2, which begins in line 3, has text after the quote that closes a field, so it is unknown where the next record begins, and nothing of this body was taken
        "#]],
    );
    check(
        b"sku,\"name\n1,Lamp\n",
        expect![[r#"
            400 Bad Request: the line of names opens a quote that is never closed, so it is unknown where the next record begins, and nothing of this body was taken
        "#]],
    );
    let long = format!(
        "sku,name\n1,Lamp\n2,\"Bowl\n{}4,\",x\n",
        "3,Cup\n".repeat(1001)
    );
    check(
        long.as_bytes(),
        expect![[r#"
            {"sku":"1","name":"Lamp"}
            400 Bad Request: record 2, which begins in line 3, has a field in quotes of more than 1000 lines, whose quote was probably left open, so it is unknown where the next record begins, and nothing of this body was taken
        "#]],
    );
}

// `1;"Rest;9,90` opens a quote for a reader of CSV. The system that writes it has no quotes at all.
#[test]
fn where_quotes_are_plain_characters_no_record_is_lost() {
    check(
        WITHOUT_QUOTES,
        b"sku;name;price\n1;\"Rest;9,90\n2;x;y\n",
        expect![[r#"
            {"sku":"1","name":"\"Rest","price":"9,90"}
            {"sku":"2","name":"x","price":"y"}
        "#]],
    );
    let single = Dialect {
        quote: Some(b'\''),
        ..SEMICOLON
    };
    check(
        single,
        b"sku;name\n1;'it''s; \"new\"'\n",
        expect![[r#"
            {"sku":"1","name":"it's; \"new\""}
        "#]],
    );
    let tab = Dialect {
        delimiter: Some(b'\t'),
        ..SEMICOLON
    };
    check(
        tab,
        b"sku\tname\n1\t\"a\tb\"\n2\t\n",
        expect![[r#"
            {"sku":"1","name":"a\tb"}
            {"sku":"2","name":""}
        "#]],
    );
}

// Four files as spreadsheets and old systems write them.
#[test]
fn what_programs_add_to_a_file_is_passed_over() {
    // Delimiters behind the last column, in some lines.
    check(
        SEMICOLON,
        b"sku;name;;\n1;Lamp\n2;Bowl;\n3;Cup;;;\n4;Jug;x\n",
        expect![[r#"
            {"sku":"1","name":"Lamp"}
            {"sku":"2","name":"Bowl"}
            {"sku":"3","name":"Cup"}
            [invalid-csv: in line 5: the record has 3 fields and the first line 2: "sku;name;;\n4;Jug;x\n"]
        "#]],
    );
    // A first line that says what stands between fields.
    for dialect in [Dialect::default(), SEMICOLON] {
        check(
            dialect,
            b"sep=;\r\nsku;name\r\n1;Lamp\r\n2\r\n",
            expect![[r#"
                {"sku":"1","name":"Lamp"}
                [invalid-csv: in line 4: the record has 1 fields and the first line 2: "sep=;\nsku;name\n2\n"]
            "#]],
        );
    }
    check(
        Dialect::default(),
        b"\"SEP=|\"\nsku|name\n1|Lamp",
        expect![[r#"
            {"sku":"1","name":"Lamp"}
        "#]],
    );
    // Ctrl-Z, with which DOS ends a text.
    for end in ["\u{1a}", "\r\n\u{1a}", "\r\n\u{1a}\u{1a}"] {
        let body = format!("sku;name\r\n1;\"Lamp\"{end}");
        check(
            SEMICOLON,
            body.as_bytes(),
            expect![[r#"
                {"sku":"1","name":"Lamp"}
            "#]],
        );
    }
    // Two columns of one name: which of them is meant is unknown.
    check(
        SEMICOLON,
        b"sku;name;name\n1;Lamp;Lampe\n",
        expect![[r#"
            400 Bad Request: the first line names "name" twice
        "#]],
    );
}

#[test]
fn a_delimiter_that_is_not_configured_is_named() {
    check(
        Dialect::default(),
        b"sku;name\n1;Lamp\n",
        expect![[r#"
            400 Bad Request: the first line names one column, "sku;name"; if `;` stands between columns, write csv = { delimiter = ";" } at the source
        "#]],
    );
    check(
        Dialect::default(),
        b"sku\tname\n1\tLamp\n",
        expect![[r#"
            400 Bad Request: the first line names one column, "sku�name"; if `\t` stands between columns, write csv = { delimiter = "\t" } at the source
        "#]],
    );
    check(
        SEMICOLON,
        b"sku,name\n1\n",
        expect![[r#"
            {"sku,name":"1"}
        "#]],
    );
}

#[test]
fn a_text_in_another_encoding_is_cut_while_it_is_decoded() {
    let claims = Claims {
        setting: Charset::of_label("cp850"),
        ..Claims::default()
    };
    // Python: "Größe;Preis\n…".encode("cp850")
    let body = b"Gr\x94\xe1e;Preis\n\"T\x81r; wei\xe1\";9,90\n1\n\x1a";
    let text = Text::of(body, claims).expect("an encoding");
    expect![[r#"
        {"Größe":"Tür; weiß","Preis":"9,90"}
        [invalid-csv: in line 3: the record has 1 fields and the first line 2: "Größe;Preis\n1\n"]
    "#]]
    .assert_eq(&seen(SEMICOLON, text));
    let mut utf16 = vec![0xff, 0xfe];
    utf16.extend(
        "Größe;Preis\r\n1;\"x\r\ny\"\r\n\u{1a}"
            .encode_utf16()
            .flat_map(u16::to_le_bytes),
    );
    let text = Text::of(&utf16, Claims::default()).expect("an encoding");
    expect![[r#"
        {"Größe":"1","Preis":"x\r\ny"}
    "#]]
    .assert_eq(&seen(SEMICOLON, text));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    // Where a text is cut into pieces depends on its encoding only by chance.
    #[test]
    fn a_text_in_pieces_has_the_same_records(
        body in "(sep=;\n)?[ab;,]{1,4}[\r\n]{1,2}([ab;,\"\" \r\n]|\"\"|\"a\nb\"){0,40}",
        cuts in prop::collection::vec(0usize..50, 0..8),
        dialect in prop_oneof![Just(Dialect::default()), Just(SEMICOLON), Just(WITHOUT_QUOTES)],
    ) {
        let whole = seen(dialect, Text::utf8(body.as_bytes()));
        let mut pieces = String::new();
        let mut sink = |piece: Result<String, Spoilt>| -> Result<(), Rejection> {
            pieces.push_str(&shown(piece));
            Ok(())
        };
        let mut cutter = Cutter::new(dialect, false, &mut sink);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|at| at.min(body.len())).collect();
        cuts.sort_unstable();
        cuts.push(body.len());
        let mut begin = 0;
        let mut result = Ok(());
        for end in cuts {
            result = result.and_then(|()| cutter.push(&body.as_bytes()[begin..end]));
            begin = end;
        }
        let result = result.and_then(|()| cutter.finish());
        if let Err(rejection) = result {
            pieces.push_str(&format!("{}: {rejection}\n", http::status(&rejection)));
        }
        prop_assert_eq!(whole, pieces);
    }
}
