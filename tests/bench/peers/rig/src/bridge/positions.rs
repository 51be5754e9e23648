//! Up to where each target has everything, in a file that a crash leaves either old or new.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::Path;

/// A position in the log for each target, by its URL.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Positions(BTreeMap<String, u64>);

impl FromIterator<(String, u64)> for Positions {
    fn from_iter<I: IntoIterator<Item = (String, u64)>>(rows: I) -> Positions {
        Positions(rows.into_iter().collect())
    }
}

impl Positions {
    /// Reads the file; there are no positions without it.
    ///
    /// # Errors
    /// It is there but cannot be read: to start from the beginning would deliver everything again.
    pub fn read(folder: &Path) -> Result<Positions, String> {
        let path = folder.join("positions.json");
        let text = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Positions::default()),
            read => {
                read.map_err(|error| format!("{} could not be read: {error}", path.display()))?
            }
        };
        serde_json::from_slice(&text)
            .map(Positions)
            .map_err(|error| format!("{} is damaged: {error}", path.display()))
    }

    /// The position of a target, if there was one.
    pub fn get(&self, url: &str) -> Option<u64> {
        self.0.get(url).copied()
    }

    /// Replaces the file, and returns when the new one is synced.
    ///
    /// # Errors
    /// The file cannot be written; the old one is still there.
    pub fn write(&self, folder: &Path) -> Result<(), String> {
        let path = folder.join("positions.json");
        let written = || {
            let new = folder.join("positions.new");
            let mut file = File::create(&new)?;
            file.write_all(&serde_json::to_vec(&self.0)?)?;
            file.sync_data()?;
            fs::rename(&new, &path)?;
            File::open(folder)?.sync_all()
        };
        written().map_err(|error| format!("{} could not be written: {error}", path.display()))
    }
}
