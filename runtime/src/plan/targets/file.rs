//! Files in a configuration: reads their keys and shows them.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::super::Outside;
use super::super::secrets::SECRET;
use super::{Configured, keys};
use crate::config::cursor::{Cursor, Field, relative};
use crate::config::row::Keep;
use crate::config::scalar::{duration_text, size_text};
use crate::targets::Kind;
use crate::targets::file::{BATCH_LINES, BATCH_OBJECTS, Form, Options, Rotate, TIMEOUT};
use crate::targets::names::Template;

/// The least size of a file that is rotated: less is a file for each batch.
const BYTES_MIN: u64 = 64 * 1024;

/// Reads the keys of files; `None` after a complaint about one that it requires.
pub(super) fn read(table: &mut Cursor<'_>) -> Option<Kind> {
    let folders = table.take("folders").and_then(|field| field.boolean());
    let help = "write path = \"out/{key}.json\" for a file for each entity, or path = \"out/products.ndjson\" for lines";
    let path = table.require("path", help);
    let rotate = table
        .take("rotate")
        .and_then(|field| Some((field.table(rotate)?, field)));
    let timeout = table
        .take("timeout")
        .and_then(|field| field.duration(Duration::from_millis(10)..=Duration::from_secs(600)));
    let path = path?;
    let (folder, form) = place(&path, folders.unwrap_or(false))?;
    let form = match (form, rotate) {
        (Form::Lines { name, .. }, rotate) => Form::Lines {
            name,
            rotate: rotate.map(|(rotate, _)| rotate).unwrap_or_default(),
        },
        (form, None) => form,
        (form, Some((_, field))) => {
            let help = "leave rotate out, or write a path without {key}".to_owned();
            field.complain_of_key("a file for each entity is not rotated", help);
            form
        }
    };
    Some(Kind::File(Box::new(Options {
        folder,
        form,
        timeout: timeout.unwrap_or(TIMEOUT),
    })))
}

/// Reads a path: the folder before the first placeholder, and what is written in it.
fn place(field: &Field<'_>, folders: bool) -> Option<(std::path::PathBuf, Form)> {
    let text = field.text(Keep::Object)?;
    let wrong = |what: String| {
        let help =
            "write one such as \"out/{entity}/{key}.json\" or \"out/products.ndjson\"".to_owned();
        field.complain(what, help);
        None
    };
    let before = text.split('{').next().unwrap_or_default();
    let (folder, rest) = match before.rfind('/') {
        Some(at) => text.split_at(at + 1),
        None => ("", &*text),
    };
    let folder = match folder {
        "" => relative(field.place(), "."),
        folder => relative(field.place(), folder),
    };
    if text.contains("{key}") {
        return match Template::parse(rest, folders) {
            Ok(template) => Some((folder, Form::Objects(template))),
            Err(bad) => wrong(format!("this is no template of paths: {}", bad.0)),
        };
    }
    if rest.contains('{') {
        return wrong("{entity} names a file for each entity only, together with {key}".to_owned());
    }
    let is_reserved = matches!(rest, "" | "." | "..") || rest.starts_with(".weir-");
    if is_reserved || rest.contains('\0') || rest.len() > 200 {
        return wrong(format!("{rest:?} cannot be the name of a file"));
    }
    let lines = Form::Lines {
        name: rest.to_owned(),
        rotate: Rotate::default(),
    };
    Some((folder, lines))
}

fn rotate(table: &mut Cursor<'_>) -> Rotate {
    let (bytes, every) = (table.take("bytes"), table.take("every"));
    let neither = bytes.is_none() && every.is_none();
    let bytes = bytes.and_then(|field| field.size(BYTES_MIN..=1 << 50));
    let every = every.and_then(|field| {
        field.duration(Duration::from_secs(1)..=Duration::from_secs(366 * 86_400))
    });
    let keep = table
        .take("keep")
        .and_then(|field| field.integer(0..=100_000))
        .and_then(|keep| usize::try_from(keep).ok());
    if neither {
        let help = "write rotate = { bytes = \"100MiB\", every = \"1d\", keep = 7 }".to_owned();
        table.complain("rotate needs bytes or every", help);
    }
    Rotate { bytes, every, keep }
}

impl Configured for Options {
    fn shown(&self, outside: &Outside) -> Map<String, Value> {
        let (name, folders, rotate) = match &self.form {
            Form::Objects(template) => (template.as_str(), template.slashes(), Value::Null),
            Form::Lines { name, rotate } => {
                let rotate = json!({
                    "bytes": rotate.bytes.map(size_text),
                    "every": rotate.every.map(duration_text),
                    "keep": rotate.keep,
                });
                (&**name, false, rotate)
            }
        };
        let path = self.folder.join(name).display().to_string();
        let path = match outside.is_in(&path) {
            true => SECRET.to_owned(),
            false => path,
        };
        keys([
            ("kind", "file".into()),
            ("path", path.into()),
            ("folders", folders.into()),
            ("rotate", rotate),
            ("timeout", duration_text(self.timeout).into()),
        ])
    }

    fn batch(&self) -> (usize, usize) {
        match self.form {
            Form::Objects(_) => BATCH_OBJECTS,
            Form::Lines { .. } => BATCH_LINES,
        }
    }

    /// One batch is written at a time.
    fn concurrency(&self) -> usize {
        1
    }

    fn exclusive(&self) -> Option<(String, &'static str)> {
        Some((
            self.place(),
            "they would overwrite each other's files: give one of the targets a path of its own, or, if they are of different types, write {entity} into a path with {key}",
        ))
    }
}
