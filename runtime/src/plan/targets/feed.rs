//! Feeds in a configuration: reads their keys and shows them.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::super::Outside;
use super::super::secrets::SECRET;
use super::{Configured, bucket, http, word};
use crate::config::cursor::{Cursor, Field};
use crate::config::scalar;
use crate::targets::Kind;
use crate::targets::bucket::Cloud;
use crate::targets::feed::{
    self, BATCH, Delimited, Encoding, Format, Options, Quoting, Serve, To, Xml, is_name,
};

/// The formats, by the word in `format`.
#[derive(Clone, Copy, PartialEq)]
pub(in crate::plan) enum Word {
    Ndjson,
    Csv,
    Tsv,
    Xml,
}

pub(in crate::plan) const FORMATS: [(&str, Word); 4] = [
    ("ndjson", Word::Ndjson),
    ("csv", Word::Csv),
    ("tsv", Word::Tsv),
    ("xml", Word::Xml),
];
pub(in crate::plan) const QUOTINGS: [(&str, Quoting); 3] = [
    ("needed", Quoting::Needed),
    ("always", Quoting::Always),
    ("never", Quoting::Never),
];
pub(in crate::plan) const ENCODINGS: [(&str, Encoding); 2] = [
    ("utf-8", Encoding::Utf8),
    ("windows-1252", Encoding::Windows1252),
];
pub(in crate::plan) const FORMULAS: [(&str, bool); 2] = [("plain", false), ("guarded", true)];

/// Where Google Merchant Center has the elements `g:…`.
const GOOGLE: &str = "http://base.google.com/ns/1.0";

/// Shorter intervals would only rewrite the file; longer ones are most likely mistakes.
const INTERVALS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(7 * 24 * 3600);

/// Columns or elements at most.
const FIELDS_MAX: usize = 1_000;

/// Reads the keys of a feed; `None` after a complaint about one that it requires.
pub(super) fn read(table: &mut Cursor<'_>) -> Option<Kind> {
    let format = table
        .require(
            "format",
            "write format = \"xml\", \"csv\", \"tsv\" or \"ndjson\"",
        )
        .and_then(|field| field.one_of(&FORMATS));
    let fields = table.take("fields");
    if fields.is_none() && format.is_some_and(|format| format != Word::Ndjson) {
        let help = "write fields = { id = \"/sku\", title = \"/name\" }: names, and JSON pointers into the rendering";
        table.complain("fields is missing", help.to_owned());
    }
    let fields = fields.map(|field| read_fields(&field)).unwrap_or_default();
    let (delimited, xml) = (
        read_delimited(table, format),
        read_xml(table, format, &fields),
    );
    for field in &fields {
        if let Err(character) = delimited.can_write(&field.name) {
            let what = format!(
                "the name {:?} has the character {character:?}, which the encoding lacks",
                field.name
            );
            table.complain(
                what,
                "write another name, or encoding = \"utf-8\"".to_owned(),
            );
        }
    }
    if let Err(character) = delimited.can_write(&delimited.join) {
        let what = format!("join has the character {character:?}, which the encoding lacks");
        table.complain(
            what,
            "write another text, or encoding = \"utf-8\"".to_owned(),
        );
    }
    let interval = table
        .take("interval")
        .and_then(|field| field.duration(INTERVALS));
    let shrink_max = table
        .take("shrink_max")
        .and_then(|field| field.parsed("a percentage", scalar::SHARE, scalar::share));
    let path = table.take("path").and_then(|field| field.file_path());
    let to = table.take("to").and_then(|field| read_to(table, &field));
    let serve = table.take("serve").and_then(|field| read_serve(&field));
    let format = match format? {
        Word::Ndjson => Format::Ndjson,
        Word::Csv => Format::Csv(delimited),
        Word::Tsv => Format::Tsv(delimited),
        Word::Xml => Format::Xml(Box::new(xml)),
    };
    Some(Kind::Feed(Box::new(Options {
        format,
        fields,
        interval: interval.unwrap_or(Options::INTERVAL),
        shrink_max: shrink_max.unwrap_or(Options::SHRINK_MAX),
        path,
        to,
        serve,
    })))
}

fn read_fields(field: &Field<'_>) -> Vec<feed::Field> {
    let all = field.table(|table| table.all()).unwrap_or_default();
    if all.is_empty() && field.is_table() {
        field.complain(
            "a feed without a field has nothing to show",
            "write fields = { id = \"/sku\" }".to_owned(),
        );
    }
    if all.len() > FIELDS_MAX {
        let what = format!("there are more than {FIELDS_MAX} fields");
        field.complain(what, "leave some out".to_owned());
    }
    let read = |field: Field<'_>| {
        let help = "write where the value is in the rendering, such as \"/price/text\"";
        let pointer = field.parsed("a JSON pointer", help, |text| {
            let fine = text.is_empty() || text.starts_with('/');
            fine.then(|| text.to_owned())
        })?;
        Some(feed::Field {
            name: field.key.to_owned(),
            pointer,
        })
    };
    all.into_iter().filter_map(read).collect()
}

/// Takes a key that only some formats have.
fn only<'a>(
    table: &mut Cursor<'a>,
    key: &str,
    format: Option<Word>,
    formats: &[Word],
) -> Option<Field<'a>> {
    let field = table.take(key)?;
    let format = format?;
    if formats.contains(&format) {
        return Some(field);
    }
    let known: Vec<String> = FORMATS
        .iter()
        .filter(|(_, word)| formats.contains(word))
        .map(|(word, _)| format!("{word:?}"))
        .collect();
    let what = format!("{key} belongs to format = {}", known.join(" or "));
    field.complain_of_key(what, "leave it out".to_owned());
    None
}

fn read_delimited(table: &mut Cursor<'_>, format: Option<Word>) -> Delimited {
    let both = [Word::Csv, Word::Tsv];
    let mut options = match format {
        Some(Word::Tsv) => Delimited::tsv(),
        _ => Delimited::csv(),
    };
    if let Some(quoting) = only(table, "quoting", format, &both).and_then(|it| it.one_of(&QUOTINGS))
    {
        options.quoting = quoting;
    }
    let encoding = only(table, "encoding", format, &both);
    if let Some(encoding) = encoding.and_then(|it| it.one_of(&ENCODINGS)) {
        options.encoding = encoding;
    }
    let delimiter = only(table, "delimiter", format, &[Word::Csv]).and_then(|field| {
        let help = "write one character, such as \";\"";
        field.parsed("a delimiter", help, |text| {
            let mut characters = text.chars();
            let one = characters.next().filter(|_| characters.next().is_none())?;
            let fine = !matches!(one, '"' | '\r' | '\n' | '\0' | '\t') && one.is_ascii();
            fine.then_some(one)
        })
    });
    if let Some(delimiter) = delimiter {
        options.delimiter = delimiter;
    }
    if let Some(join) = only(table, "join", format, &both).and_then(|it| it.string()) {
        options.join = join;
    }
    if let Some(guarded) =
        only(table, "formulas", format, &both).and_then(|it| it.one_of(&FORMULAS))
    {
        options.guard_formulas = guarded;
    }
    options
}

fn read_xml(table: &mut Cursor<'_>, format: Option<Word>, fields: &[feed::Field]) -> Xml {
    let only_xml = [Word::Xml];
    let element = |field: &Field<'_>| {
        field.parsed(
            "the name of an element",
            "write one such as \"item\"",
            |text| is_name(text).then(|| text.to_owned()),
        )
    };
    let root = only(table, "root", format, &only_xml).and_then(|field| {
        let help = "write the elements around the records, such as \"rss/channel\"";
        field.parsed("a path of elements", help, |text| {
            let names: Vec<String> = text.split('/').map(str::to_owned).collect();
            names.iter().all(|name| is_name(name)).then_some(names)
        })
    });
    let item = only(table, "item", format, &only_xml).and_then(|field| element(&field));
    let namespaces = only(table, "namespaces", format, &only_xml).map(|field| texts(&field));
    let fixed = only(table, "texts", format, &only_xml).map(|field| texts(&field));
    let cdata = only(table, "cdata", format, &only_xml);
    let cdata = cdata.map(|field| {
        field.list(|item| {
            let name = item.string()?;
            let known = fields.iter().any(|field| field.name == name);
            if !known {
                item.complain(format!("there is no field {name:?}"), None);
            }
            known.then_some(name)
        })
    });
    let xml = Xml {
        root: root.unwrap_or_else(|| vec!["rss".to_owned(), "channel".to_owned()]),
        item: item.unwrap_or_else(|| "item".to_owned()),
        namespaces: namespaces.unwrap_or_else(|| vec![("g".to_owned(), GOOGLE.to_owned())]),
        texts: fixed.unwrap_or_default(),
        cdata: cdata.unwrap_or_default(),
    };
    if format != Some(Word::Xml) {
        return xml;
    }
    for (prefix, uri) in &xml.namespaces {
        let fine = prefix.is_empty() || is_name(prefix) && !prefix.contains(':');
        if !fine || ["xml", "xmlns"].contains(&prefix.as_str()) {
            table.complain(
                format!("{prefix:?} cannot be the prefix of a namespace"),
                "write letters and digits, beginning with a letter, or \"\" for the default namespace"
                    .to_owned(),
            );
        } else if uri.is_empty() && !prefix.is_empty() {
            table.complain(
                format!("the namespace of the prefix {prefix:?} is empty"),
                "write its URI".to_owned(),
            );
        }
    }
    let names = fields.iter().map(|field| &field.name);
    let names = names.chain(xml.texts.iter().map(|(name, _)| name));
    for name in names.chain(&xml.root).chain([&xml.item]) {
        let prefix = name.split_once(':').map(|(prefix, _)| prefix);
        let declared = |prefix: &str| xml.namespaces.iter().any(|(known, _)| known == prefix);
        if !is_name(name) {
            table.complain(
                format!("{name:?} cannot be the name of an element"),
                "write letters, digits, _, - and ., beginning with a letter, with a prefix or without"
                    .to_owned(),
            );
        } else if let Some(prefix) = prefix.filter(|prefix| !declared(prefix)) {
            table.complain(
                format!("the prefix of {name:?} is not declared"),
                format!("write namespaces = {{ {prefix} = \"…\" }} with its URI"),
            );
        }
    }
    xml
}

/// Names with texts, in order.
fn texts(field: &Field<'_>) -> Vec<(String, String)> {
    let all = field.table(|table| table.all()).unwrap_or_default();
    let read = |field: Field<'_>| Some((field.key.to_owned(), field.string()?));
    all.into_iter().filter_map(read).collect()
}

/// Reads the object that a feed is put to: its URL, and the keys that say where its bucket is.
fn read_to(table: &mut Cursor<'_>, field: &Field<'_>) -> Option<To> {
    let (place, name) = bucket::place(table, Some(field));
    let name = name?;
    // The packed one has `.gz` behind it.
    let most = Cloud::NAME_BYTES_MAX - 3;
    let odd = |segment: &str| matches!(segment, "" | "." | "..");
    let plain = |letter: char| !letter.is_control() && !matches!(letter, '\\' | '{' | '}');
    if name.split('/').any(odd) || !name.chars().all(plain) || name.len() > most {
        let what = "this is not the URL of an object";
        let help =
            "write the whole name, such as \"s3://bucket/feeds/google.xml\": a feed is one object";
        field.complain(what, help.to_owned());
        return None;
    }
    Some(To {
        place: place?,
        name,
    })
}

fn read_serve(field: &Field<'_>) -> Option<Serve> {
    if !field.is_table() {
        return field.one_of(&[("open", ())]).map(|()| Serve::Open);
    }
    let credentials = field.table(|table| {
        let help = "write serve = { basic = { user = \"…\", password = { env = \"NAME\" } } }, or \"open\"";
        let basic = table.require("basic", help)?;
        basic.table(http::user_and_password).flatten()
    });
    match credentials.flatten()? {
        crate::targets::http::Auth::Basic { user, password } => {
            if user.contains(':') {
                field.complain(
                    "the user contains a colon",
                    "write another name: a colon ends it in a request".to_owned(),
                );
            }
            Some(Serve::Basic { user, password })
        }
        _ => None,
    }
}

impl Configured for Options {
    fn shown(&self, outside: &Outside) -> Map<String, Value> {
        let names = |pairs: &[(String, String)]| -> Value {
            let pairs = pairs
                .iter()
                .map(|(name, text)| (name.clone(), text.clone().into()));
            Value::Object(pairs.collect())
        };
        let fields: Map<String, Value> = self
            .fields
            .iter()
            .map(|field| (field.name.clone(), field.pointer.clone().into()))
            .collect();
        let serve = match &self.serve {
            None => Value::Null,
            Some(Serve::Open) => "open".into(),
            Some(Serve::Basic { user, .. }) => {
                json!({"basic": {"user": user, "password": SECRET}})
            }
        };
        let mut shown: Map<String, Value> = Map::new();
        let mut show = |key: &str, value: Value| drop(shown.insert(key.to_owned(), value));
        show("kind", "feed".into());
        show("fields", fields.into());
        show("interval", scalar::duration_text(self.interval).into());
        show("shrink_max", scalar::share_text(self.shrink_max).into());
        let path = self.path.as_ref().map(|path| path.display().to_string());
        show("path", path.into());
        let to = self.to.as_ref();
        let url = to.map(|to| bucket::shown_url(&to.place, &to.name, outside));
        show("to", url.into());
        show("serve", serve);
        let format = match &self.format {
            Format::Ndjson => "ndjson",
            Format::Csv(_) => "csv",
            Format::Tsv(_) => "tsv",
            Format::Xml(_) => "xml",
        };
        show("format", format.into());
        match &self.format {
            Format::Ndjson => {}
            Format::Csv(options) | Format::Tsv(options) => {
                if let Format::Csv(_) = &self.format {
                    show("delimiter", options.delimiter.to_string().into());
                }
                show("quoting", word(&QUOTINGS, options.quoting).into());
                show("encoding", word(&ENCODINGS, options.encoding).into());
                show("join", options.join.clone().into());
                show("formulas", word(&FORMULAS, options.guard_formulas).into());
            }
            Format::Xml(options) => {
                show("root", options.root.join("/").into());
                show("item", options.item.clone().into());
                show("namespaces", names(&options.namespaces));
                show("texts", names(&options.texts));
                show("cdata", options.cdata.clone().into());
            }
        }
        if let Some(to) = to {
            bucket::shown_place(&to.place, outside, &mut shown);
        }
        shown
    }

    fn batch(&self) -> (usize, usize) {
        BATCH
    }

    /// One delivery at a time is written; another is prepared meanwhile.
    fn concurrency(&self) -> usize {
        2
    }
}

#[cfg(test)]
mod tests;
