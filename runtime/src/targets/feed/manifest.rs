//! Which files of the folder are in use: one small file, replaced as a whole, so that each change of
//! several files happens at one point or not at all.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::failpoint;

const NAME: &str = "manifest";
const NEXT: &str = "manifest.next";
/// The version of the files.
const VERSION: u32 = 1;

/// What the folder holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) version: u32,
    /// Random, new for each start from nothing, so that files of another life are noticed.
    pub(super) epoch: String,
    /// The place of the target that wrote the log, the runs and the base.
    pub(super) place: u64,
    /// The generation that the log and the runs change.
    pub(super) base: Option<Generation>,
    /// The generation that is served; another one than the base after a start from nothing.
    pub(super) visible: Option<Generation>,
    /// Sorted changes since the base, oldest first.
    pub(super) runs: Vec<u64>,
    /// The newest sequence in the runs and the base, and when they were written.
    pub(super) newest: u64,
    pub(super) newest_time: u64,
    /// The changes since the last run.
    pub(super) log: u64,
    /// The number of the next file.
    pub(super) next: u64,
    /// The number of the next generation.
    pub(super) next_generation: u64,
    /// The most records of a generation since an operator confirmed one.
    pub(super) most: u64,
    /// An operator lets the next generation be published, whatever its size is.
    pub(super) confirmed: bool,
}

/// A generation of a feed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Generation {
    /// Counts the generations of this folder.
    pub(super) id: u64,
    /// The number of the file that is served, of its packed form and of the table of its blocks.
    pub(super) data: u64,
    /// The number of its index.
    pub(super) index: u64,
    /// Its records.
    pub(super) records: u64,
    /// What stands before them, in bytes.
    pub(super) header: u64,
    pub(super) bytes: u64,
    /// Digests in hexadecimal digits.
    pub(super) digest: String,
    pub(super) gzip_bytes: u64,
    pub(super) gzip_digest: String,
    pub(super) index_bytes: u64,
    pub(super) index_digest: String,
    pub(super) content_type: String,
    /// The newest sequence in it.
    pub(super) sequence: u64,
    /// When it was built, and when its content last changed, in milliseconds since 1970.
    pub(super) built: u64,
    pub(super) modified: u64,
}

impl Manifest {
    /// The manifest of a folder in which nothing is kept yet.
    pub(super) fn new(place: u64) -> Manifest {
        Manifest {
            version: VERSION,
            epoch: format!("{:032x}", fastrand::u128(..)),
            place,
            log: 1,
            next: 2,
            next_generation: 1,
            ..Manifest::default()
        }
    }

    /// The manifest of a folder; `None` if there is none.
    ///
    /// # Errors
    /// `InvalidData` if it is damaged or of a later version.
    pub(super) fn read(folder: &Path) -> io::Result<Option<Manifest>> {
        let text = match fs::read_to_string(folder.join(NAME)) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let damaged = |why: &str| io::Error::new(ErrorKind::InvalidData, why.to_owned());
        let (checksum, json) = text.split_once('\n').unwrap_or_default();
        if checksum != format!("{:08x}", crc32fast::hash(json.as_bytes())) {
            return Err(damaged("the manifest is damaged"));
        }
        let manifest: Manifest =
            serde_json::from_str(json).map_err(|error| damaged(&error.to_string()))?;
        match manifest.version {
            VERSION => Ok(Some(manifest)),
            _ => Err(damaged("the manifest is of another version of Weir")),
        }
    }

    /// Replaces the manifest of a folder. It is durable when this returns.
    ///
    /// # Errors
    /// The system's; then the old one may still be in use.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        let json = serde_json::to_string(self)?;
        let next = folder.join(NEXT);
        let mut file = File::create(&next)?;
        write!(file, "{:08x}\n{json}", crc32fast::hash(json.as_bytes()))?;
        file.sync_all()?;
        drop(file);
        failpoint::pass("feed.switching");
        fs::rename(&next, folder.join(NAME))?;
        sync_folder(folder)?;
        failpoint::pass("feed.switched");
        Ok(())
    }

    /// Takes the number of a new file.
    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// Whether a file of the folder is in use.
    pub(super) fn uses(&self, name: &str) -> bool {
        let generations = self.base.iter().chain(&self.visible);
        let of_generations = generations.flat_map(|it| {
            [
                data_name(it.data),
                gzip_name(it.data),
                blocks_name(it.data),
                index_name(it.index),
            ]
        });
        let runs = self.runs.iter().map(|number| run_name(*number));
        of_generations
            .chain(runs)
            .chain([log_name(self.log), NAME.to_owned()])
            .any(|used| used == name)
    }
}

/// Makes the names of a folder durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

pub(super) fn log_name(number: u64) -> String {
    format!("log.{number}")
}

pub(super) fn run_name(number: u64) -> String {
    format!("run.{number}")
}

pub(super) fn data_name(number: u64) -> String {
    format!("generation.{number}")
}

pub(super) fn gzip_name(number: u64) -> String {
    format!("generation.{number}.gz")
}

pub(super) fn blocks_name(number: u64) -> String {
    format!("blocks.{number}")
}

pub(super) fn index_name(number: u64) -> String {
    format!("index.{number}")
}

/// Whether a name is one of those that a feed gives its files.
pub(super) fn is_own(name: &str) -> bool {
    let prefixes = ["log.", "run.", "generation.", "blocks.", "index."];
    name == NEXT || prefixes.iter().any(|prefix| name.starts_with(prefix))
}
