//! From files to a plan: loads, reads every section, checks what holds between them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{
    Cause, Complaint, Outside, Place, Plan, basics, channels, checks, sources, targets, uses,
};
use crate::config;
use crate::config::cursor::{Cursor, Environment, Field, Reader};
use crate::config::row::Row;
use crate::model::NAME_BYTES_MAX;

/// How files are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadOptions {
    /// False: a secret that is not there is no complaint; for checks on a machine that has none.
    pub secrets: bool,
}

impl Default for ReadOptions {
    fn default() -> ReadOptions {
        ReadOptions { secrets: true }
    }
}

/// Reads and understands files, later ones over earlier ones; with the plan come warnings.
///
/// # Errors
/// Every complaint, in the order of the files; at least one.
pub fn read(
    files: &[PathBuf],
    environment: Environment<'_>,
    options: ReadOptions,
) -> Result<(Plan, Vec<Complaint>), Vec<Complaint>> {
    let mut document = config::load(files);
    let reader = Reader::new(environment, options.secrets);
    let mut plan = understand(&reader, &document);
    let gathered = reader.finish();
    let mut complaints = std::mem::take(&mut document.complaints);
    // Where a file could not be read, or not wholly, what seems to be missing may well be there;
    // and what was made of a broken line is nobody's mistake.
    let blind = complaints
        .iter()
        .any(|complaint| matches!(complaint.cause, Cause::Unreadable | Cause::Syntax));
    let broken = |complaint: &Complaint| {
        document
            .broken
            .iter()
            .any(|(file, lines)| *file == complaint.file && lines.contains(&complaint.line))
    };
    complaints.extend(
        gathered
            .complaints
            .into_iter()
            .filter(|one| !(broken(one) || blind && one.cause == Cause::Missing)),
    );
    let tidy = |complaints| tidy(complaints, &document.files);
    if !complaints.is_empty() {
        return Err(tidy(complaints));
    }
    plan.files.extend(gathered.files);
    plan.outside = Outside(gathered.outside);
    Ok((plan, tidy([document.warnings, gathered.warnings].concat())))
}

/// In the order of the files, each once: rows read the same table once each, so the same complaint
/// comes once each.
fn tidy(mut complaints: Vec<Complaint>, files: &[PathBuf]) -> Vec<Complaint> {
    complaints.sort_by_key(|complaint| {
        let file = files.iter().position(|file| *file == complaint.file);
        (file, complaint.line, complaint.column)
    });
    let mut each_once: Vec<Complaint> = Vec::with_capacity(complaints.len());
    for complaint in complaints {
        let here =
            |other: &&Complaint| (other.line, other.column) == (complaint.line, complaint.column);
        if !each_once
            .iter()
            .rev()
            .take_while(here)
            .any(|other| *other == complaint)
        {
            each_once.push(complaint);
        }
    }
    each_once
}

fn understand(reader: &Reader<'_>, document: &config::Document) -> Plan {
    // Rows are read first, because what is read after them is filled from them.
    let rows = basics::rows(&mut Cursor::root(
        reader,
        &document.root,
        document.place.clone(),
    ));
    let root = Cursor::root(reader, &document.root, document.place.clone());
    root.read(|root| {
        // These are gone from the document by now, and are named here for those who misspell them.
        for key in ["config_version", "include", "each"] {
            root.take(key);
        }
        let server = basics::server(root);
        let tokens = basics::tokens(root);
        let (store_path, forget) = basics::store(root);
        let shares = basics::lanes(root);
        let mut notes = Notes {
            rows: &rows,
            places: BTreeMap::new(),
        };
        let entities = basics::entities(root, &mut notes);
        let plugins = uses::plugins(root, &mut notes);
        let sources = sources::sources(root, &mut notes, &plugins);
        let targets = targets::targets(root, &mut notes);
        let (channels, targets) =
            channels::channels(root, &mut notes, &entities, &plugins, targets);
        let plan = Plan {
            server: server.value,
            tokens,
            store_path,
            forget,
            shares,
            entities,
            plugins,
            sources,
            targets,
            channels,
            files: document.files.clone(),
            folders: document.folders.clone(),
            places: notes.places,
            outside: Outside::default(),
        };
        checks::check(reader, &plan, &server.places);
        plan
    })
}

/// What sections leave for each other.
pub(super) struct Notes<'r> {
    /// Rows by their table.
    pub(super) rows: &'r BTreeMap<String, Vec<Row>>,
    /// See [`Plan::places`].
    pub(super) places: BTreeMap<String, Place>,
}

impl<'r> Notes<'r> {
    /// Remembers where something stands.
    pub(super) fn place(&mut self, path: &str, place: &Place) {
        self.places.insert(path.to_owned(), place.clone());
    }

    /// The rows of `for_each`, or a single none.
    pub(super) fn rows_of(&self, table: &mut Cursor<'_>) -> Vec<Option<&'r Row>> {
        let Some(field) = table.take("for_each") else {
            return vec![None];
        };
        let Some(name) = field.string() else {
            return Vec::new();
        };
        let rows: &'r BTreeMap<String, Vec<Row>> = self.rows;
        match rows.get(&name) {
            Some(rows) => {
                if rows.is_empty() {
                    // Nothing will be read, and no key is to blame for that.
                    table.all();
                }
                rows.iter().map(Some).collect()
            }
            None => {
                table.all();
                let help = config::text::suggestion(&name, rows.keys().map(String::as_str));
                let help = help.unwrap_or_else(|| format!("write a row: [each.{name}.NAME]"));
                field.complain_of_missing(format!("there is no table of rows [each.{name}]"), help);
                Vec::new()
            }
        }
    }
}

/// The fields of a section whose keys are names. Those with wrong names are complained of and read
/// all the same, so that nobody who refers to them is blamed.
pub(super) fn named<'a>(root: &mut Cursor<'a>, section: &str) -> Vec<Field<'a>> {
    let fields = root
        .take(section)
        .and_then(|field| field.table(|table| table.all()))
        .unwrap_or_default();
    fields.iter().for_each(right_name);
    fields
}

/// Complains of a key that cannot be a name.
pub(super) fn right_name(field: &Field<'_>) {
    if !is_name(field.key) {
        let help = format!(
            "names are lower-case letters, digits, \".\", \"_\" and \"-\", begin with a letter or digit, and are at most {NAME_BYTES_MAX} long"
        );
        field.complain_of_key(format!("{:?} cannot be a name", field.key), help);
    }
}

/// `[a-z0-9][a-z0-9._-]*`, short enough.
pub(super) fn is_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.bytes().next().is_some_and(inner)
        && name
            .bytes()
            .all(|byte| inner(byte) || b"._-".contains(&byte))
        && name.len() <= NAME_BYTES_MAX
}

/// The name of a row's channel or target: `storefront.de`.
pub(super) fn expanded(name: &str, row: Option<&Row>) -> String {
    row.map_or_else(|| name.to_owned(), |row| format!("{name}.{}", row.name))
}
