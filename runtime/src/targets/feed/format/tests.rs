//! What each format writes, and what independent readers make of it: Python's `csv` and expat, and xmllint.

use std::process::{Command, Stdio};

use super::super::format::{Delimited, Encoding, Field, Format, Quoting, Writer, Xml};
use crate::model::Payload;
use crate::targets::parts::part;

fn fields(pairs: &[(&str, &str)]) -> Vec<Field> {
    let field = |(name, pointer): &(&str, &str)| Field {
        name: (*name).to_owned(),
        pointer: (*pointer).to_owned(),
    };
    pairs.iter().map(field).collect()
}

fn record(writer: &Writer, body: &str) -> Result<String, String> {
    let (record, _) = writer.record(&Payload::Text(body.to_owned()))?;
    Ok(String::from_utf8(record).expect("UTF-8"))
}

/// A file with these records.
fn file(writer: &Writer, bodies: &[&str]) -> Vec<u8> {
    let mut file = writer.header();
    for body in bodies {
        let body = Payload::Text((*body).to_owned());
        file.extend(writer.record(&body).expect("a record").0);
    }
    file.extend(writer.footer());
    file
}

fn csv(options: Delimited) -> Writer {
    Writer::new(&Format::Csv(options), &fields(&[("a", "/a"), ("b", "/b")]))
}

fn tsv(options: Delimited) -> Writer {
    Writer::new(&Format::Tsv(options), &fields(&[("a", "/a"), ("b", "/b")]))
}

fn xml() -> Xml {
    Xml {
        root: vec!["rss".into(), "channel".into()],
        item: "item".into(),
        namespaces: vec![("g".into(), "http://base.google.com/ns/1.0".into())],
        texts: vec![("title".into(), "A & B".into())],
        cdata: vec!["description".into()],
    }
}

fn of_products(xml: Xml) -> Writer {
    let fields = fields(&[
        ("g:id", "/id"),
        ("title", "/title"),
        ("description", "/text"),
        ("g:price", "/price"),
        ("g:image", "/images"),
        ("g:shipping", "/shipping"),
    ]);
    Writer::new(&Format::Xml(Box::new(xml)), &fields)
}

/// Runs a program with this input; returns what it prints.
fn judge(program: &std::path::Path, arguments: &[&str], input: &[u8]) -> Result<String, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("feed");
    std::fs::write(&path, input).expect("written");
    let output = Command::new(program)
        .args(arguments)
        .arg(&path)
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stderr)),
    }
}

#[test]
fn ndjson_is_one_line_a_record_with_numbers_as_written() {
    let whole = Writer::new(&Format::Ndjson, &[]);
    let body = " {\"price\": 15.00,\n \"name\": \"a\\nb\"}\n";
    assert_eq!(
        record(&whole, body),
        Ok("{\"price\": 15.00,  \"name\": \"a\\nb\"}\n".into())
    );
    let some = Writer::new(&Format::Ndjson, &fields(&[("p", "/price"), ("x", "/none")]));
    assert_eq!(record(&some, body), Ok("{\"p\":15.00}\n".into()));
    assert!(record(&whole, "<xml/>").is_err());
    assert!(whole.record(&Payload::Binary(vec![1])).is_err());
}

#[test]
fn csv_quotes_what_would_be_read_wrongly_and_ends_lines_with_cr_lf() {
    let writer = csv(Delimited::csv());
    assert_eq!(writer.header(), b"a,b\r\n");
    for (body, expected) in [
        (r#"{"a":"x","b":1.50}"#, "x,1.50\r\n"),
        (r#"{"a":"x,y"}"#, "\"x,y\",\r\n"),
        (r#"{"a":"say \"hi\"","b":null}"#, "\"say \"\"hi\"\"\",\r\n"),
        (r#"{"a":"one\rtwo","b":" x"}"#, "\"one\rtwo\",\" x\"\r\n"),
        (r#"{"a":["x","y",3],"b":true}"#, "\"x,y,3\",true\r\n"),
        (r#"{"b":{"c":1}}"#, ",\"{\"\"c\"\":1}\"\r\n"),
        ("{}", ",\r\n"),
    ] {
        assert_eq!(record(&writer, body), Ok(expected.into()), "{body}");
    }
    let semicolons = csv(Delimited {
        delimiter: ';',
        join: "|".into(),
        quoting: Quoting::Always,
        ..Delimited::csv()
    });
    let line = record(&semicolons, r#"{"a":["x","y"],"b":""}"#);
    assert_eq!(line, Ok("\"x|y\";\"\"\r\n".into()));
    let lone = Writer::new(&Format::Csv(Delimited::csv()), &fields(&[("a", "/a")]));
    assert_eq!(
        record(&lone, "{}"),
        Ok("\"\"\r\n".into()),
        "a line is there"
    );
}

#[test]
fn tsv_holds_no_tab_and_no_line_break_in_a_value() {
    let writer = tsv(Delimited::tsv());
    let body = r#"{"a":"one\ttwo\r\nthree\nfour","b":"5\" screen"}"#;
    let expected = "one two three four\t\"5\"\" screen\"\n";
    assert_eq!(record(&writer, body), Ok(expected.into()));
    let never = tsv(Delimited {
        quoting: Quoting::Never,
        ..Delimited::tsv()
    });
    let expected = "one two three four\t5\" screen\n";
    assert_eq!(record(&never, body), Ok(expected.into()));
}

// A leading apostrophe made texts of negative prices.
#[test]
fn formulas_are_guarded_by_option_and_numbers_never() {
    let guarded = csv(Delimited {
        guard_formulas: true,
        ..Delimited::csv()
    });
    for (value, expected) in [
        ("=cmd", "'=cmd"),
        ("@x", "'@x"),
        ("-5.00", "-5.00"),
        ("+49", "+49"),
        ("+49 30 1234", "+49 30 1234"),
        ("-x", "'-x"),
    ] {
        let body = format!("{{\"b\":{value:?}}}");
        let plain = record(&csv(Delimited::csv()), &body);
        assert_eq!(plain, Ok(format!(",{value}\r\n")));
        assert_eq!(record(&guarded, &body), Ok(format!(",{expected}\r\n")));
    }
}

#[test]
fn windows_1252_writes_what_it_has_and_names_what_it_has_not() {
    let writer = csv(Delimited {
        encoding: Encoding::Windows1252,
        ..Delimited::csv()
    });
    let body = Payload::Text(r#"{"a":"Stuhl ß é","b":"5 €"}"#.to_owned());
    let (bytes, _) = writer.record(&body).expect("it can");
    assert_eq!(bytes, b"Stuhl \xdf \xe9,5 \x80\r\n");
    let wrong = record(&writer, r#"{"b":"椅子"}"#).expect_err("it cannot");
    assert!(
        wrong.contains("column b") && wrong.contains("U+6905") && wrong.contains("windows-1252"),
        "{wrong}"
    );
}

#[test]
fn xml_has_elements_in_order_lists_repeated_and_objects_nested() {
    let writer = of_products(xml());
    let body = r#"{"id":"a<b","price":15.00,"images":["x","y"],"text":"1 < 2",
        "shipping":{"country":"DE","price":"3 EUR","not a name":1},"title":null}"#;
    assert_eq!(
        record(&writer, body),
        Ok(concat!(
            "<item><g:id>a&lt;b</g:id><description><![CDATA[1 < 2]]></description>",
            "<g:price>15.00</g:price><g:image>x</g:image><g:image>y</g:image>",
            "<g:shipping><g:country>DE</g:country><g:price>3 EUR</g:price></g:shipping></item>\n"
        )
        .into())
    );
    let atom = Writer::new(
        &Format::Xml(Box::new(Xml {
            root: vec!["feed".into()],
            item: "entry".into(),
            namespaces: vec![(String::new(), "http://www.w3.org/2005/Atom".into())],
            ..xml()
        })),
        &fields(&[("id", "/id")]),
    );
    let expected = concat!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n",
        "<feed xmlns=\"http://www.w3.org/2005/Atom\">\n<title>A &amp; B</title>\n",
        "<entry><id>1</id></entry>\n</feed>\n"
    );
    let written = file(&atom, &[r#"{"id":1}"#]);
    assert_eq!(String::from_utf8(written).expect("UTF-8"), expected);
}

/// Texts with everything that breaks feeds.
const HARD: [&str; 6] = [
    "a]]>b & c &amp; d",
    "tab\there, \"quotes\" and 'these'; <tag>",
    "two\nlines\r\nand\rthree",
    "椅子 كرسي 🛋️ e\u{301} \u{2028} \u{85}",
    "",
    " spaces around ",
];

/// One illegal character made the feeds of ten shops unreadable.
#[test]
fn illegal_characters_are_dropped_and_counted_and_the_rest_comes_back() {
    let writer = of_products(xml());
    let body = |text: &str| serde_json::json!({"id": 1, "title": text, "text": text}).to_string();
    let illegal = "\u{1}a\u{b}b\u{1f}\u{fffe}c";
    let (_, dropped) = writer
        .record(&Payload::Text(body(illegal)))
        .expect("a record");
    assert_eq!(dropped, 8, "four characters in two elements");
    let bodies: Vec<String> = HARD
        .iter()
        .chain([&illegal])
        .map(|text| body(text))
        .collect();
    let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
    let written = file(&writer, &bodies);
    if let Some(xmllint) = part("xmllint", "whether libxml2 reads a feed") {
        assert_eq!(judge(&xmllint, &["--noout"], &written), Ok(String::new()));
    }
    let Some(python) = part("python3", "whether expat reads a feed") else {
        return;
    };
    let program = "
import sys, json, xml.etree.ElementTree as E
items = E.parse(sys.argv[1]).getroot().findall('channel/item')
print(json.dumps([[i.findtext('title') or '', i.findtext('description') or ''] for i in items]))";
    let read = judge(&python, &["-c", program], &written).expect("expat reads it");
    let read: Vec<[String; 2]> = serde_json::from_str(&read).expect("JSON");
    for (read, text) in read.iter().zip(HARD.iter().chain([&"abc"])) {
        assert_eq!(read[0], *text);
        // In CDATA nothing can be written as a reference, so a reader makes LF of each line break.
        assert_eq!(read[1], text.replace("\r\n", "\n").replace('\r', "\n"));
    }
    assert_eq!(read.len(), HARD.len() + 1);
}

#[test]
fn python_reads_csv_and_tsv_as_they_were_meant() {
    let Some(python) = part("python3", "whether Python's csv reads a feed") else {
        return;
    };
    let body = |text: &str| serde_json::json!({"a": text, "b": "end"}).to_string();
    let bodies: Vec<String> = HARD.iter().map(|text| body(text)).collect();
    let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
    let read = |writer: &Writer, how: &str| -> Vec<[String; 2]> {
        let program = format!(
            "import sys, csv, json
print(json.dumps(list(csv.reader(open(sys.argv[1], newline='', encoding='utf-8'), {how}))))"
        );
        let rows = judge(&python, &["-c", &program], &file(writer, &bodies)).expect("it reads");
        serde_json::from_str(&rows).expect("JSON")
    };
    let expected = |change: &dyn Fn(&str) -> String| {
        let rows = HARD.iter().map(|text| [change(text), "end".to_owned()]);
        [["a".to_owned(), "b".to_owned()]]
            .into_iter()
            .chain(rows)
            .collect::<Vec<_>>()
    };
    let same = |text: &str| text.to_owned();
    assert_eq!(
        read(&csv(Delimited::csv()), "delimiter=','"),
        expected(&same)
    );
    let spaced = |text: &str| {
        let text = text.replace("\r\n", " ");
        text.replace(['\t', '\r', '\n'], " ")
    };
    let rows = read(&tsv(Delimited::tsv()), "delimiter='\\t'");
    assert_eq!(rows, expected(&spaced));
    let never = tsv(Delimited {
        quoting: Quoting::Never,
        ..Delimited::tsv()
    });
    let rows = read(&never, "delimiter='\\t', quoting=csv.QUOTE_NONE");
    assert_eq!(rows, expected(&spaced));
}
