//! Makes a store of what can be read of a damaged one, which is set aside as it is.
//!
//! It is a restore from a worse copy: all rows that can be read and understood are copied into a new
//! store, what channels knew is left out, and the first opening doubts everything, so each channel
//! sends everything again. Which rows are missing, nobody knows for certain; the entities that can be
//! named are named, because only their sources can send them again. What they send must not count as
//! repeated, so the identities of events are left out too. An entity that is kept may have a state from
//! before, where sled went back to an older page.
//!
//! Nothing is removed. The new store is made beside the old one and takes its place in one step.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_64_with_seed};

use super::open::{self, Opened};
use super::sums::{Rows, Sums, batch};
use super::{Options, pairs, quarantine, record, witness};
use crate::model::EntityId;
use crate::store::record::Value;
use crate::store::{Error, Rescued, SEQUENCE_BLOCK, keys};

/// The file with the names of the entities that may be missing, in the folder of the damaged store.
pub const MISSING: &str = "missing-entities.txt";
/// The caches of both stores; rows are read in the order of their keys.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;
/// The most that is written at once.
const ROWS_AT_ONCE: usize = 512;
const BYTES_AT_ONCE: usize = 1024 * 1024;
/// How often a stretch that cannot be read is halved in search of rows in the middle of it.
const HALVINGS: u32 = 6;
/// How much of sled's file is searched for names at once, and left out if the disk cannot read it.
const SEARCHED_AT_ONCE: usize = 64 * 1024;

/// Sets a damaged store aside and puts one in its place that has everything that can be read.
///
/// # Errors
/// `Damaged` if nothing can be read; `Unavailable` if the new store cannot be written, for example
/// because the disk is full, or cannot take the place of the old one, which is then where it was.
pub fn rescue(options: &Options) -> Result<Rescued, Error> {
    let path = &options.path;
    let time = jiff::Timestamp::from_millisecond((options.now)().0 as i64).unwrap_or_default();
    let aside = format!("damaged-{}", time.strftime("%Y-%m-%dT%H%M%S%.3fZ"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let made = path.with_file_name(format!("{name}-rescued"));
    let cannot = |what: &Path, error: &dyn std::fmt::Display| {
        Error::Unavailable(format!("{}: {error}", what.display()))
    };
    if made.exists() {
        // Not `exists`, which also says no if the disk cannot be read, and then the damaged store would go.
        let exchanged = made.join(MISSING).try_exists();
        if exchanged.map_err(|error| cannot(&made, &error))? {
            // An earlier rescue was killed after the exchange: this is the damaged store.
            let earlier = path.with_file_name(format!("{aside}-earlier"));
            std::fs::rename(&made, &earlier).map_err(|error| cannot(&made, &error))?;
        } else {
            // An earlier rescue was killed while it copied: nothing is here that the store does not have.
            std::fs::remove_dir_all(&made).map_err(|error| cannot(&made, &error))?;
        }
    }
    let scratch = path.with_file_name(format!("{name}-rescued-log"));
    let copied = open::guarded(|| copy(options, &made, &scratch));
    // It is not there, or has copies of files.
    let _ = std::fs::remove_dir_all(&scratch);
    let mut rescued = copied.map_err(|error| {
        let _ = std::fs::remove_dir_all(&made); // it has nothing but what was just written
        match error {
            Error::Damaged(what) => Error::Damaged(format!(
                "{}: {what}, so nothing is kept. Move the directory aside and restore it from a copy, \
                 or start with an empty one and let the sources send again",
                path.display()
            )),
            other => other,
        }
    })?;
    let aside = path.with_file_name(aside);
    let names: String = rescued.missing.iter().map(|name| line(name)).collect();
    let exchange = || -> std::io::Result<()> {
        // Before the new store is in use: whatever interrupts this, the names are there.
        let mut file = File::create(path.join(MISSING))?;
        file.write_all(names.as_bytes())?;
        file.sync_all()?;
        open::sync_directories(path)?;
        renameat_with(CWD, path, CWD, &made, RenameFlags::EXCHANGE)?;
        Ok(())
    };
    exchange().map_err(|error| {
        let _ = std::fs::remove_dir_all(&made); // as above
        let what = format!("the new store cannot take its place: {error}");
        cannot(path, &what)
    })?;
    // From here on a start finds the new store, whatever happens.
    std::fs::rename(&made, &aside).map_err(|error| cannot(&made, &error))?;
    open::sync_directories(path).map_err(|error| cannot(path, &error))?;
    rescued.aside = aside;
    Ok(rescued)
}

/// A name as a line: characters that would end it, and the backslash, as in a JSON string.
fn line(name: &str) -> String {
    let mut line = String::with_capacity(name.len() + 1);
    for letter in name.chars() {
        match letter {
            '\\' | '\n' | '\r' => line.extend(letter.escape_default()),
            '\u{85}' | '\u{2028}' | '\u{2029}' => {
                line.push_str(&format!("\\u{:04x}", u32::from(letter)));
            }
            _ => line.push(letter),
        }
    }
    line.push('\n');
    line
}

/// Opens the damaged store. sled refuses a log that is damaged in the segment that it wrote last. Then a
/// copy of the files is opened without sled's snapshots, which has everything from before the damage:
/// sled overwrites what comes after it.
fn open_old(options: &Options, scratch: &Path) -> Result<sled::Db, Error> {
    let path = &options.path;
    let witnessed = path.join(witness::NAME).exists();
    match open::guarded(|| open::sled_at(options, witnessed)) {
        Err(Error::Damaged(_)) => {}
        opened => return opened,
    }
    let _ = std::fs::remove_dir_all(scratch); // of a rescue that was killed
    std::fs::create_dir(scratch).map_err(failed)?;
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if entry.path().is_file() && !name.to_string_lossy().starts_with("snap.") {
            let bytes = entry.metadata().map_err(failed)?.len();
            open::has_disk_for(options, bytes)?;
            std::fs::copy(entry.path(), scratch.join(name)).map_err(failed)?;
        }
    }
    let scratch = Options {
        path: scratch.to_owned(),
        ..options.clone()
    };
    open::sled_at(&scratch, witnessed)
}

/// Copies what can be read into a new store at `made`. Leaves files at `scratch`.
fn copy(options: &Options, made: &Path, scratch: &Path) -> Result<Rescued, Error> {
    let small = |path: &Path| Options {
        path: path.to_owned(),
        cache_bytes: CACHE_BYTES,
        ..options.clone()
    };
    let old = open_old(&small(&options.path), scratch)?;
    let new = open::open(&small(made))?;
    let written = attempt(|| old.get(keys::SUMS)).flatten();
    let mut copy = Copy::begin(options, &new)?;
    let (mut names, mut seen) = (Names::default(), Kept::default());
    let mut rescued = Rescued::default();

    copy.kind(&old, keys::NAMES, |copy, key, value| {
        let number = u32::from_be_bytes(keys::number_at(key, 1));
        if let (Ok(number), Ok(name)) = (u16::try_from(number), std::str::from_utf8(value)) {
            names.put(number, name);
            copy.put(key, value)?;
        }
        Ok(())
    })?;
    let mut long = LongValues::default();
    copy.kind(&old, keys::PARTS, |_, key, piece| {
        long.add(key, piece);
        Ok(())
    })?;
    copy.kind(&old, keys::ENTITIES, |copy, key, value| {
        let ordinal = u32::from_be_bytes(keys::number_at(key, 1));
        let understood = names.understand(&long, ordinal, value);
        // A page of before may have an entity under another number.
        match understood.filter(|(id, _)| !seen.has(id)) {
            Some((id, newest)) => {
                seen.add(ordinal, &id, newest);
                copy.put(key, value)
            }
            None => {
                let head = record::head(value);
                let id = head.and_then(|(of_type, key)| names.id(of_type, key));
                let name = id.map_or(format!("entity number {ordinal}"), |id| id.to_string());
                rescued.missing.insert(name);
                Ok(())
            }
        }
    })?;
    drop(long);
    copy.kind(&old, keys::PARTS, |copy, key, value| {
        let ordinal = u32::from_be_bytes(keys::number_at(key, 1));
        match seen.ordinals.contains(&ordinal) {
            true => copy.put(key, value),
            false => Ok(()),
        }
    })?;
    let (mut channels, mut highest) = (HashSet::new(), 0);
    copy.kind(&old, keys::CHANNEL, |copy, key, value| {
        let id = u16::from_be_bytes(keys::number_at(key, 1));
        highest = highest.max(id);
        if !pairs::is_channel(value) {
            return Ok(());
        }
        channels.insert(id);
        copy.put(key, value)
    })?;
    copy.kind(&old, b"K", |copy, key, value| {
        let id = u16::from_be_bytes(keys::number_at(key, 1));
        let ordinal = u32::from_be_bytes(keys::number_at(key, 3));
        let known = channels.contains(&id) && seen.ordinals.contains(&ordinal);
        match known && std::str::from_utf8(value).is_ok() {
            true => copy.put(key, value),
            false => Ok(()),
        }
    })?;
    // Only counted: what channels knew is doubted anyway, and an event whose change is lost must be
    // taken when its source sends it again.
    for kind in [b"B".as_slice(), b"L", b"R", keys::IDENTITIES] {
        copy.kind(&old, kind, |_, _, _| Ok(()))?;
    }
    let mut event = Pieces::default();
    copy.kind(&old, keys::QUARANTINE, |copy, key, value| {
        let source = u32::from_be_bytes(keys::number_at(key, 1));
        if !names.has(source) {
            return Ok(());
        }
        if !event.continues(key) {
            event.leave(copy)?;
        }
        event.rows.push((key.to_vec(), value.to_vec()));
        Ok(())
    })?;
    event.leave(&mut copy)?;
    let (mut ceiling, mut given_out) = (seen.newest + SEQUENCE_BLOCK, 0);
    copy.kind(&old, keys::FIGURES, |copy, key, value| {
        let number = || value.try_into().map(u64::from_le_bytes);
        match key {
            keys::CEILING => ceiling = ceiling.max(number().unwrap_or_default()),
            keys::ORDINALS => given_out = number().unwrap_or_default(),
            keys::CHANNELS => highest = highest.max(u16::from_le_bytes(keys::number_at(value, 0))),
            keys::CLOCK if value.len().is_multiple_of(16) => copy.put(key, value)?,
            _ if key.starts_with(keys::NOTE) => copy.put(key, value)?,
            _ => {}
        }
        Ok(())
    })?;
    let given_out = given_out.min(u64::from(u32::MAX));
    copy.put(keys::CEILING, &ceiling.to_le_bytes())?;
    copy.put(keys::ORDINALS, &given_out.to_le_bytes())?;
    copy.put(keys::CHANNELS, &highest.to_le_bytes())?;
    let found = copy.found.clone();
    if found == Sums::default() {
        return Err(Error::Damaged("no row can be read".into()));
    }
    copy.end()?;

    rescued.entities = seen.ordinals.len() as u64;
    rescued.differs = match written.and_then(|row| Sums::decode(&row)) {
        Some(written) => written
            .differs_from(&found)
            .unwrap_or_else(|| "no row of the state that can be read is missing".into()),
        None => "it is not known how many rows there were".into(),
    };
    drop((old, new));
    let in_log = names.in_log(&options.path.join("db"), &seen);
    rescued.missing.extend(in_log.map_err(failed)?);
    Ok(rescued)
}

/// The new store while it is written.
struct Copy<'a> {
    options: &'a Options,
    new: &'a Opened,
    rows: Rows,
    waiting: (usize, usize),
    /// The sums of what is written.
    sums: Sums,
    /// The sums of everything that could be read of the old store.
    found: Sums,
}

impl<'a> Copy<'a> {
    fn begin(options: &'a Options, new: &'a Opened) -> Result<Copy<'a>, Error> {
        let sums = new.db.get(keys::SUMS).map_err(failed)?;
        let sums = sums.and_then(|row| Sums::decode(&row)).unwrap_or_default();
        let mut copy = Copy {
            options,
            new,
            rows: Rows::default(),
            waiting: (0, 0),
            sums,
            found: Sums::default(),
        };
        copy.put(keys::RESTORED, &[])?;
        Ok(copy)
    }

    /// Passes on the rows of one kind that can be read, in order.
    fn kind(
        &mut self,
        old: &sled::Db,
        prefix: &[u8],
        mut row: impl FnMut(&mut Self, &[u8], &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut after = prefix.to_vec();
        if let Some(last) = after.last_mut() {
            *last += 1;
        }
        let mut readable = Vec::new();
        search(old, (prefix.to_vec(), after), HALVINGS, &mut readable);
        for (from, to) in readable {
            let mut rows = old.range(from..to);
            // sled may report an error after the last row, because it looks into the next page.
            while let Some(Some((key, value))) = attempt(|| rows.next().transpose()) {
                self.found.add(&key, &value);
                row(self, &key, &value)?;
            }
        }
        Ok(())
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.rows.swap(key.to_vec(), None, Some(value.to_vec()));
        self.waiting.0 += 1;
        self.waiting.1 += key.len() + value.len();
        match self.waiting.0 >= ROWS_AT_ONCE || self.waiting.1 >= BYTES_AT_ONCE {
            true => self.write(),
            false => Ok(()),
        }
    }

    fn write(&mut self) -> Result<(), Error> {
        open::has_disk_for(self.options, 0)?;
        let rows = std::mem::take(&mut self.rows).seal(&mut self.sums);
        self.waiting = (0, 0);
        self.new.db.apply_batch(batch(rows)).map_err(failed)
    }

    fn end(mut self) -> Result<(), Error> {
        self.write()?;
        self.new.db.flush().map_err(failed)?;
        (self.options.sync)(&self.new.file).map_err(failed)
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Unavailable(format!("the damaged store cannot be copied: {error}"))
}

/// Keys from the first to before the second.
type Stretch = (Vec<u8>, Vec<u8>);

/// What sled returns; `None` if it cannot, or panics.
fn attempt<T>(read: impl FnOnce() -> sled::Result<T>) -> Option<T> {
    catch_unwind(AssertUnwindSafe(read)).ok()?.ok()
}

/// The parts of a stretch whose rows can be read, in order. A page of sled's that cannot be read stops
/// a walk, so a stretch is walked from both ends, and what is left in the middle is halved.
fn search(db: &sled::Db, (from, to): Stretch, halvings: u32, readable: &mut Vec<Stretch>) {
    let (mut rows, mut next) = (db.range(from.clone()..to.clone()), from.clone());
    loop {
        match attempt(|| rows.next().transpose()) {
            Some(Some((key, _))) => next = [&key, &[0][..]].concat(),
            Some(None) => return readable.push((from, to)),
            None => break,
        }
    }
    let (mut rows, mut last) = (db.range(next.clone()..to.clone()), to.clone());
    while let Some(Some((key, _))) = attempt(|| rows.next_back().transpose()) {
        last = key.to_vec();
    }
    readable.push((from, next.clone()));
    if let Some(middle) = middle(&next, &last).filter(|_| halvings > 0) {
        search(db, (next, middle.clone()), halvings - 1, readable);
        search(db, (middle, last.clone()), halvings - 1, readable);
    }
    readable.push((last, to));
}

/// A key between two others, if there is one in their first 16 bytes.
fn middle(from: &[u8], to: &[u8]) -> Option<Vec<u8>> {
    let number = |key: &[u8]| {
        let mut bytes = [0; 16];
        let length = key.len().min(16);
        bytes[..length].copy_from_slice(&key[..length]);
        u128::from_be_bytes(bytes)
    };
    let (from, to) = (number(from), number(to));
    let middle = from + to.saturating_sub(from) / 2;
    (middle > from).then(|| middle.to_be_bytes().to_vec())
}

/// The entities that are kept.
#[derive(Default)]
struct Kept {
    ordinals: HashSet<u32>,
    /// Hashes of types and keys.
    ids: HashSet<u64>,
    /// The newest sequence of any of their facets.
    newest: u64,
}

impl Kept {
    fn add(&mut self, ordinal: u32, id: &EntityId, newest: u64) {
        self.ordinals.insert(ordinal);
        self.ids.insert(Kept::hash(id));
        self.newest = self.newest.max(newest);
    }

    fn has(&self, id: &EntityId) -> bool {
        self.ids.contains(&Kept::hash(id))
    }

    fn hash(id: &EntityId) -> u64 {
        xxh3_64_with_seed(id.key.as_bytes(), xxh3_64(id.entity_type.as_bytes()))
    }
}

/// The long values that can be read from their first piece on.
#[derive(Default)]
struct LongValues {
    /// The number of their pieces and the hash of these, by ordinal and sequence.
    read: HashMap<(u32, u64), (u16, u64)>,
    /// The hash of the last one.
    hash: Xxh3,
}

impl LongValues {
    /// Takes the next piece, in the order of the keys.
    fn add(&mut self, key: &[u8], piece: &[u8]) {
        let ordinal = u32::from_be_bytes(keys::number_at(key, 1));
        let sequence = u64::from_be_bytes(keys::number_at(key, 5));
        let part = u16::from_be_bytes(keys::number_at(key, 13));
        if part == 0 {
            self.hash = Xxh3::new();
        }
        let read = self.read.get(&(ordinal, sequence));
        if read.map_or(0, |(parts, _)| *parts) == part {
            self.hash.update(piece);
            let with = (part.saturating_add(1), self.hash.digest());
            self.read.insert((ordinal, sequence), with);
        }
    }
}

/// The names that can be read.
#[derive(Default)]
struct Names(HashMap<u32, Arc<str>>);

impl Names {
    fn put(&mut self, number: u16, name: &str) {
        self.0.insert(number.into(), name.into());
    }

    fn has(&self, number: u32) -> bool {
        self.0.contains_key(&number)
    }

    fn id(&self, of_type: u32, key: &str) -> Option<EntityId> {
        Some(EntityId {
            entity_type: self.0.get(&of_type)?.clone(),
            key: key.into(),
        })
    }

    /// The entity of a record, and its newest sequence; `None` if not everything in it is known, or a
    /// long value is not whole.
    fn understand(&self, long: &LongValues, ordinal: u32, bytes: &[u8]) -> Option<(EntityId, u64)> {
        let record = record::decode(bytes)?;
        let known = |row: &record::Row<'_>| {
            let text = match &row.value {
                Value::Here(value) => std::str::from_utf8(value).is_ok(),
                Value::Parts(parts, _, hash) => {
                    let read = long.read.get(&(ordinal, row.meta.sequence));
                    read == Some(&(*parts, *hash))
                }
                _ => true,
            };
            text && self.has(row.meta.name.into()) && self.has(row.meta.owner.into())
        };
        if !record.facets.iter().all(known) {
            return None;
        }
        let newest = record.facets.iter().map(|row| row.meta.sequence).max();
        Some((
            self.id(record.entity_type, record.key)?,
            newest.unwrap_or(0),
        ))
    }

    /// The entities of which sled's file has a record, and which are not kept. Some may have been
    /// deleted long before: the file has their records until their place is used again.
    fn in_log(&self, log: &Path, kept: &Kept) -> std::io::Result<BTreeSet<String>> {
        let (file, mut found) = (File::open(log)?, BTreeSet::new());
        let length = file.metadata()?.len();
        // A head may continue in what is searched next.
        let mut bytes = vec![0_u8; SEARCHED_AT_ONCE + record::HEAD_BYTES_MAX];
        for from in (0..length).step_by(SEARCHED_AT_ONCE) {
            let read = file.read_at(&mut bytes, from).unwrap_or(0);
            for at in 0..read.min(SEARCHED_AT_ONCE) {
                if let Some((of_type, key)) = record::head(&bytes[at..read])
                    && let Some(id) = self.id(of_type, key)
                    && !kept.has(&id)
                {
                    found.insert(id.to_string());
                }
            }
        }
        Ok(found)
    }
}

/// The rows of one quarantined event.
#[derive(Default)]
struct Pieces {
    rows: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Pieces {
    /// Whether this is the key of the next row of the same event.
    fn continues(&self, key: &[u8]) -> bool {
        let event = |key: &[u8]| (keys::number_at::<12>(key, 1), keys::number_at::<2>(key, 13));
        let part = u16::from_be_bytes(event(key).1);
        match self.rows.last() {
            Some((last, _)) => {
                let before = u16::from_be_bytes(event(last).1);
                event(last).0 == event(key).0 && before.checked_add(1) == Some(part)
            }
            None => part == 0,
        }
    }

    /// Copies the event if it is whole.
    fn leave(&mut self, copy: &mut Copy<'_>) -> Result<(), Error> {
        let rows = std::mem::take(&mut self.rows);
        let first = rows
            .first()
            .map_or(1, |(key, _)| u16::from_be_bytes(keys::number_at(key, 13)));
        let text: Vec<u8> = rows.iter().flat_map(|(_, value)| value).copied().collect();
        if first != 0 || !quarantine::is_event(&text) {
            return Ok(());
        }
        rows.iter()
            .try_for_each(|(key, value)| copy.put(key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A key with a line break in it was listed as two entities, none of which there was.
    #[test]
    fn each_name_is_one_line_and_no_two_are_the_same() {
        let names = [
            "product/a",
            "product/a\nb",
            "product/a\\nb",
            "product/ü\u{2028}\r",
        ];
        let lines: Vec<String> = names.iter().map(|name| line(name)).collect();
        assert_eq!(
            lines,
            [
                "product/a\n",
                "product/a\\nb\n",
                "product/a\\\\nb\n",
                "product/ü\\u2028\\r\n"
            ]
        );
    }
}
