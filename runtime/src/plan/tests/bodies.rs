//! How bodies are read, and what their senders are answered.

use super::*;
use crate::ingest::charset::Charset;
use crate::ingest::form::Form;
use crate::ingest::split::Dialect;

fn source(keys: &str) -> Source {
    let text = format!("config_version = 1\n[sources.erp]\n{keys}\n");
    let mut plan = plan_of(
        &[
            ("weir.toml", &text),
            ("ack.xml", "<?xml version=\"1.0\"?><Ack/>\n"),
        ],
        &["weir.toml"],
    );
    plan.sources.remove("erp").expect("it is there")
}

#[test]
fn csv_and_encodings_are_understood() {
    let of = |keys: &str| source(keys).options;
    let all = of(r#"split = "csv"
csv = { delimiter = ";", quote = "'", encoding = "windows-1252" }"#);
    let dialect = Dialect {
        delimiter: Some(b';'),
        quote: Some(b'\''),
    };
    assert_eq!(all.split, Split::Csv(dialect));
    assert_eq!(all.encoding, Charset::of_label("cp1252"));
    let few =
        of("split = \"csv\"\ncsv = { delimiter = \"\\t\", quote = \"\" }\nencoding = \"cp850\"");
    let dialect = Dialect {
        delimiter: Some(b'\t'),
        quote: None,
    };
    assert_eq!(few.split, Split::Csv(dialect));
    assert_eq!(few.encoding, Some(Charset::Cp850));
    assert_eq!(of("split = \"csv\"").split, Split::Csv(Dialect::default()));
    assert_eq!(of("").encoding, None);
    check(
        r#"config_version = 1
[sources.a]
csv = { delimiter = ";" }
[sources.b]
split = "csv"
csv = { delimiter = ";;", quote = "a", encoding = "cp437" }
[sources.c]
split = "csv"
encoding = "utf-8"
csv = { delimitr = ";", encoding = "utf-8" }
[sources.d]
split = "csv"
csv = { delimiter = "'", quote = "'" }
[sources.e]
encoding = "ebcdic"
"#,
        expect![[r#"
            weir.toml:3:1: sources.a.csv: it says how CSV is written, but the bodies of this source are not cut as CSV; write split = "csv" as well
            weir.toml:6:21: sources.b.csv.delimiter: ";;" is not a delimiter; write one character such as ",", ";", "|" or "\t"; it is no letter, digit or quotation mark
            weir.toml:6:35: sources.b.csv.quote: "a" is not a quote; write one character such as "\"" or "'", or "" if none means that fields are quoted
            weir.toml:6:51: sources.b.csv.encoding: "cp437" is not an encoding that Weir can read; write a name such as "windows-1252", "iso-8859-1", "cp850" or "utf-16le"; Weir reads UTF-8, UTF-16, ISO-8859-1 to -16, Windows-1250 to -1258, cp850 and the other encodings of the web
            weir.toml:10:9: sources.c.csv.delimitr: there is no such key; did you mean "delimiter"?
            weir.toml:10:36: sources.c.csv.encoding: encoding of the source is set as well; write it once
            weir.toml:13:34: sources.d.csv.quote: delimiter and quote are the same character; write quote = "" if fields are not quoted
            weir.toml:15:12: sources.e.encoding: "ebcdic" is not an encoding that Weir can read; write a name such as "windows-1252", "iso-8859-1", "cp850" or "utf-16le"; Weir reads UTF-8, UTF-16, ISO-8859-1 to -16, Windows-1250 to -1258, cp850 and the other encodings of the web
        "#]],
    );
}

#[test]
fn forms_and_unreadable_bodies_are_understood() {
    let form = |keys: &str| source(keys).options.form;
    assert_eq!(form(""), Form::Payload);
    assert_eq!(form("form = \"fields\""), Form::Fields);
    assert_eq!(form("form = \"raw\""), Form::Raw);
    assert_eq!(
        form("form = { field = \"xml\" }"),
        Form::Field("xml".into())
    );
    let kept = |keys: &str| source(keys).options.unreadable;
    assert!(!kept(""));
    assert!(kept("unreadable = \"quarantine\""));
    let github = r#"verify = { kind = "hmac", preset = "github", secret = "one" }"#;
    assert!(kept(github), "GitHub sends nothing again");
    assert!(!kept(&format!("{github}\nunreadable = \"reject\"")));
    check(
        r#"config_version = 1
[sources.a]
form = "json"
unreadable = "keep"
[sources.b]
form = {}
[sources.c]
form = { field = "" }
"#,
        expect![[r#"
            weir.toml:3:8: sources.a.form: "json" is not what the event of a form is; write "payload", "fields", "raw" or { field = "NAME" }
            weir.toml:4:14: sources.a.unreadable: "keep" is not allowed here; write "reject" or "quarantine"
            weir.toml:6:1: sources.b.form: field is missing; write "payload", "fields", "raw" or { field = "NAME" }
            weir.toml:8:18: sources.c.form.field: "" is not the name of a field; write "payload", "fields", "raw" or { field = "NAME" }
        "#]],
    );
}

#[test]
fn a_reply_is_what_a_sender_wants() {
    let reply = |keys: &str| source(keys).reply;
    let with = |status, media_type: &str, text: &str| Reply {
        status,
        body: Some(ReplyBody {
            media_type: media_type.into(),
            text: text.into(),
        }),
    };
    assert_eq!(reply(""), Reply::default());
    assert_eq!(reply("reply = { status = 204 }").status, 204);
    assert_eq!(
        reply(r#"reply = { status = 200, body = "[accepted]" }"#),
        with(200, "text/plain; charset=utf-8", "[accepted]")
    );
    assert_eq!(
        reply(r#"reply = { body = '{"ok": true}' }"#),
        with(202, "application/json", r#"{"ok": true}"#)
    );
    let soap = reply(r#"reply = { status = 200, body = { file = "ack.xml" }, type = "text/xml" }"#);
    assert_eq!(soap.body.expect("a body").media_type, "text/xml");
    check(
        r#"config_version = 1
[sources.a]
accept_status = 200
reply = { status = 200 }
[sources.b]
reply = { status = 204, body = "ok" }
[sources.c]
reply = { status = 500, type = "text/plain" }
[sources.d]
reply = { status = 203, body = "ok", type = "text" }
"#,
        expect![[r#"
            weir.toml:4:1: sources.a.reply: accept_status is set as well; write reply = { status = 200 } in place of accept_status
            weir.toml:6:32: sources.b.reply.body: an answer with status 204 has no body; write status = 200
            weir.toml:8:20: sources.c.reply.status: 500 is out of bounds; write a whole number from 200 to 204
            weir.toml:8:32: sources.c.reply.type: it is the type of a body, and there is none; write body = "…" as well; without a body the answer is a summary of the request in JSON
            weir.toml:10:20: sources.d.reply.status: 203 says that a proxy has changed the answer; write 200, 201, 202 or 204
            weir.toml:10:45: sources.d.reply.type: "text" is not a media type; write it as in a header: "text/plain", "application/xml; charset=utf-8"
        "#]],
    );
}
