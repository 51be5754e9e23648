//! Turns files into a plan: loads them, reads all sections, and checks the plan as a whole.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::notes::Notes;
use super::{
    Cause, Complaint, Named, Outside, Plan, basics, channels, checks, listeners, notify, sources,
    targets, telemetry, uses,
};
use crate::config;
use crate::config::cursor::{Cursor, Environment, Reader};

/// Options for reading files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadOptions {
    /// If false, a missing secret is not a complaint; for checks on a machine that has no secrets.
    pub secrets: bool,
}

impl Default for ReadOptions {
    fn default() -> ReadOptions {
        ReadOptions { secrets: true }
    }
}

/// A plan with its warnings, or all complaints, in the order of the files.
pub type Understood = Result<(Plan, Vec<Complaint>), Vec<Complaint>>;

/// Reads files, merging later ones over earlier ones. Returns the plan and the warnings.
///
/// # Errors
/// All complaints, in the order of the files; at least one.
pub fn read(files: &[PathBuf], environment: Environment<'_>, options: ReadOptions) -> Understood {
    read_named(files, environment, options).1
}

/// The same, and what the files name, also if there are complaints: a mistake may be mended in any of
/// the files.
pub fn read_named(
    files: &[PathBuf],
    environment: Environment<'_>,
    options: ReadOptions,
) -> (Named, Understood) {
    let mut document = config::load(files);
    let reader = Reader::new(environment, options.secrets);
    let mut plan = understand(&reader, &document);
    let gathered = reader.finish();
    let mut complaints = std::mem::take(&mut document.complaints);
    // If a file could not be read completely, what seems to be missing may well be in it, and
    // complaints about a broken line would be about the parser's guess.
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
    plan.files.extend(gathered.files);
    let named = plan.named();
    let tidy = |complaints| tidy(complaints, &document.files);
    if !complaints.is_empty() {
        return (named, Err(tidy(complaints)));
    }
    plan.outside = Outside(gathered.outside);
    plan.places.extend(gathered.settings);
    plan.texts = gathered.texts;
    let warnings = tidy([document.warnings, gathered.warnings].concat());
    (named, Ok((plan, warnings)))
}

/// The tables that are read in files, by their paths, each with the keys that are asked for.
#[cfg(test)]
pub(super) fn asked(files: &[PathBuf]) -> Vec<(String, Vec<String>)> {
    let (document, nothing) = (config::load(files), |_: &str| None);
    let reader = Reader::new(&nothing, false);
    understand(&reader, &document);
    reader.finish().asked
}

/// Sorts complaints by file and place and removes duplicates: a table is read once for each row, so
/// its complaints repeat.
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
    // Rows are read first, because later sections are filled from them.
    let rows = basics::rows(&mut Cursor::root(
        reader,
        &document.root,
        document.place.clone(),
    ));
    let root = Cursor::root(reader, &document.root, document.place.clone());
    root.read(|root| {
        // These keys are already removed from the document. They are taken here so that they are
        // suggested for misspelt keys.
        for key in ["config_version", "include", "each"] {
            root.take(key);
        }
        let server = listeners::server(root);
        let tokens = basics::tokens(root);
        let (store_path, forget, sequence_min) = basics::store(root);
        let shares = basics::lanes(root);
        let mut notes = Notes {
            rows: &rows,
            places: BTreeMap::new(),
        };
        let telemetry = telemetry::telemetry(root, &mut notes);
        let entities = basics::entities(root, &mut notes);
        let plugins = uses::plugins(root, &mut notes);
        let sources = sources::sources(root, &mut notes, &plugins);
        let targets = targets::targets(root, &mut notes);
        let (channels, targets) =
            channels::channels(root, &mut notes, &entities, &plugins, targets);
        let receivers = notify::receivers(root, &mut notes);
        let plan = Plan {
            server: server.value,
            tokens,
            telemetry,
            store_path,
            forget,
            sequence_min,
            shares,
            entities,
            plugins,
            sources,
            renamed_targets: targets.former_names(),
            targets: targets.usable(),
            channels,
            notify: receivers,
            files: document.files.clone(),
            folders: document.folders.clone(),
            places: notes.places,
            texts: BTreeMap::new(),
            outside: Outside::default(),
        };
        checks::check(reader, &plan, &server.places);
        plan
    })
}
