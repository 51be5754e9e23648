//! The packed form of a feed: gzip members by block of records. A block that the last generation had too
//! is copied as it is packed there.
//!
//! The ends of blocks follow from the keys of records, so that an added record changes one block and not
//! all behind it. A block is short: with one record in a hundred changed, most of those of 16 KiB are still
//! the same, and few of those of 256 KiB.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_128};

use super::manifest::{blocks_name, gzip_name};

/// A block ends behind a record of whose key's digest so many low bits are 0, if it is long enough, and at
/// the greatest length in any case.
const BLOCK_BYTES_MIN: usize = 8 << 10;
const BLOCK_BYTES_MAX: usize = 64 << 10;
const CUT_BITS: u64 = 0b1111;
/// Bytes of a line of the table: digest, offset, length, checksum.
const LINE: usize = 16 + 8 + 4 + 4;
/// Level 4 takes about half the time of level 6 for 3 % more bytes.
const LEVEL: u32 = 4;

/// The packed blocks of a generation, by the digest of what is in them.
struct Blocks {
    file: File,
    at: HashMap<u128, (u64, u32, u32)>,
}

/// Writes the packed form of a generation.
pub(super) struct Packer {
    out: BufWriter<File>,
    table: BufWriter<File>,
    before: Option<Blocks>,
    block: Vec<u8>,
    digest: Xxh3,
    written: u64,
    /// Blocks that were copied, and all.
    pub(super) reused: u64,
    pub(super) blocks: u64,
}

impl Packer {
    /// Into the files of this number; the blocks of generation `before` are used again.
    pub(super) fn create(folder: &Path, number: u64, before: Option<u64>) -> io::Result<Packer> {
        let create = |name: String| File::create(folder.join(name)).map(BufWriter::new);
        // Without the table, all blocks are packed again.
        let before = before.and_then(|number| Blocks::open(folder, number).ok());
        Ok(Packer {
            out: create(gzip_name(number))?,
            table: create(blocks_name(number))?,
            before,
            block: Vec::with_capacity(2 * BLOCK_BYTES_MAX),
            digest: Xxh3::new(),
            written: 0,
            reused: 0,
            blocks: 0,
        })
    }

    /// Adds a record, or with an empty key what stands before and after them.
    pub(super) fn add(&mut self, key: &[u8], bytes: &[u8]) -> io::Result<()> {
        self.block.extend_from_slice(bytes);
        let ends = self.block.len() >= BLOCK_BYTES_MIN && xxh3_64(key) & CUT_BITS == 0;
        match ends || self.block.len() >= BLOCK_BYTES_MAX {
            true => self.end_block(),
            false => Ok(()),
        }
    }

    fn end_block(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let digest = xxh3_128(&self.block);
        let kept = self.before.as_ref().and_then(|before| before.get(digest));
        self.blocks += 1;
        self.reused += u64::from(kept.is_some());
        let packed = match kept {
            Some(packed) => packed,
            None => {
                let mut packer = GzEncoder::new(Vec::new(), Compression::new(LEVEL));
                packer.write_all(&self.block)?;
                packer.finish()?
            }
        };
        self.out.write_all(&packed)?;
        self.digest.update(&packed);
        let line = [
            &digest.to_le_bytes()[..],
            &self.written.to_le_bytes(),
            &(packed.len() as u32).to_le_bytes(),
            &crc32fast::hash(&packed).to_le_bytes(),
        ];
        self.table.write_all(&line.concat())?;
        self.written += packed.len() as u64;
        self.block.clear();
        Ok(())
    }

    /// Makes it durable; returns its length and its digest.
    pub(super) fn finish(mut self) -> io::Result<(u64, u128)> {
        self.end_block()?;
        if self.written == 0 {
            // An empty file is no gzip.
            let packed = GzEncoder::new(Vec::new(), Compression::new(LEVEL)).finish()?;
            self.out.write_all(&packed)?;
            self.digest.update(&packed);
            self.written += packed.len() as u64;
        }
        for file in [self.out, self.table] {
            let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.sync_all()?;
        }
        Ok((self.written, self.digest.digest128()))
    }
}

impl Blocks {
    fn open(folder: &Path, number: u64) -> io::Result<Blocks> {
        let file = File::open(folder.join(gzip_name(number)))?;
        let mut table = BufReader::new(File::open(folder.join(blocks_name(number)))?);
        let (mut at, mut line) = (HashMap::new(), [0; LINE]);
        loop {
            match table.read_exact(&mut line) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(error),
            }
            let (digest, rest) = line.split_first_chunk().unwrap_or((&[0; 16], &[]));
            let (offset, rest) = rest.split_first_chunk().unwrap_or((&[0; 8], &[]));
            let (length, rest) = rest.split_first_chunk().unwrap_or((&[0; 4], &[]));
            let checksum = rest.first_chunk().unwrap_or(&[0; 4]);
            let place = (
                u64::from_le_bytes(*offset),
                u32::from_le_bytes(*length),
                u32::from_le_bytes(*checksum),
            );
            at.insert(u128::from_le_bytes(*digest), place);
        }
        Ok(Blocks { file, at })
    }

    /// The packed block with this content, if it is there and whole.
    fn get(&self, digest: u128) -> Option<Vec<u8>> {
        let (offset, length, checksum) = *self.at.get(&digest)?;
        // A damaged table must not make Weir allocate gigabytes.
        let length = usize::try_from(length).ok().filter(|it| *it < 1 << 30)?;
        let mut packed = vec![0; length];
        self.file.read_exact_at(&mut packed, offset).ok()?;
        (crc32fast::hash(&packed) == checksum).then_some(packed)
    }
}
