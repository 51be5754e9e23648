//! The bytes of a plugin's file, read and hashed once.

use std::fmt;
use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::files;
use crate::plugin::sizes::FILE_BYTES_MAX;

/// The number of digits of a SHA-256 in the short name of a version.
const VERSION_DIGITS: usize = 12;

/// The bytes of a plugin's file and their SHA-256, which only this type computes.
#[derive(Clone)]
pub struct Binary {
    bytes: Vec<u8>,
    sha256: String,
}

impl Binary {
    /// Hashes these bytes.
    pub fn new(bytes: Vec<u8>) -> Binary {
        let sha256 = hex::encode(Sha256::digest(&bytes));
        Binary { bytes, sha256 }
    }

    /// Reads and hashes a file. Blocking.
    ///
    /// # Errors
    /// When the file cannot be read or is longer than a component may be.
    pub fn read(path: &Path) -> io::Result<Binary> {
        files::read(path, FILE_BYTES_MAX as u64).map(Binary::new)
    }

    /// The bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of the bytes, 64 lower-case hex digits.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}

impl fmt::Debug for Binary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Binary")
            .field("sha256", &self.sha256)
            .finish_non_exhaustive()
    }
}

/// The short name of a version: the first 12 digits of its SHA-256.
pub fn version(sha256: &str) -> &str {
    sha256.get(..VERSION_DIGITS).unwrap_or(sha256)
}
