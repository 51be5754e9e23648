//! Entries with checksums, one after the other: what the log and the sorted runs of a feed are made of.

use std::io::{self, BufReader, ErrorKind, Read};

/// The longest entry that is believed; a longer one is damage.
const FRAME_BYTES_MAX: usize = 1 << 30;
/// Length and checksum.
const HEAD: usize = 8;
/// Sequence, time, flag, length of the key.
const FIXED: usize = 8 + 8 + 1 + 4;

/// The newest state of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: Box<[u8]>,
    pub(super) sequence: u64,
    /// When it was written, in milliseconds since 1970; 0 in a run.
    pub(super) time: u64,
    /// Its record; `None` if it is deleted.
    pub(super) record: Option<Box<[u8]>>,
}

/// Bytes that an entry takes in a file.
pub(super) fn length(key: &[u8], record: Option<&[u8]>) -> usize {
    HEAD + FIXED + key.len() + record.map_or(0, <[u8]>::len)
}

/// Appends an entry.
pub(super) fn write(
    key: &[u8],
    sequence: u64,
    time: u64,
    record: Option<&[u8]>,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD]);
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(&time.to_le_bytes());
    out.push(u8::from(record.is_some()));
    out.extend_from_slice(&(key.len() as u32).to_le_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(record.unwrap_or_default());
    let payload = &out[start + HEAD..];
    let (length, checksum) = (payload.len() as u32, crc32fast::hash(payload));
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..start + HEAD].copy_from_slice(&checksum.to_le_bytes());
}

/// Reads entries.
pub(super) struct Reader<R> {
    from: BufReader<R>,
    /// Behind the last entry that was read.
    pub(super) position: u64,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(from: R, buffer: usize, position: u64) -> Reader<R> {
        Reader {
            from: BufReader::with_capacity(buffer, from),
            position,
        }
    }

    /// The next entry; `None` at the end.
    ///
    /// # Errors
    /// `InvalidData` if the file is damaged here, or ends within an entry.
    pub(super) fn next(&mut self) -> io::Result<Option<Entry>> {
        let damaged = || {
            let what = format!("it is damaged at byte {}", self.position);
            io::Error::new(ErrorKind::InvalidData, what)
        };
        let mut head = [0; HEAD];
        match fill(&mut self.from, &mut head)? {
            0 => return Ok(None),
            HEAD => {}
            _ => return Err(damaged()),
        }
        let [a, b, c, d, e, f, g, h] = head;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if !(FIXED..=FRAME_BYTES_MAX).contains(&length) {
            return Err(damaged());
        }
        let mut payload = Vec::new();
        // Not allocated at once: the length may be what is damaged.
        let read = (&mut self.from)
            .take(length as u64)
            .read_to_end(&mut payload)?;
        if read != length || crc32fast::hash(&payload) != u32::from_le_bytes([e, f, g, h]) {
            return Err(damaged());
        }
        let parsed = parse(&payload).ok_or_else(damaged)?;
        self.position += (HEAD + length) as u64;
        Ok(Some(parsed))
    }
}

fn parse(payload: &[u8]) -> Option<Entry> {
    let (sequence, rest) = payload.split_first_chunk()?;
    let (time, rest) = rest.split_first_chunk()?;
    let (flag, rest) = rest.split_first()?;
    let (key_length, rest) = rest.split_first_chunk()?;
    let (key, record) = rest.split_at_checked(u32::from_le_bytes(*key_length) as usize)?;
    Some(Entry {
        key: key.into(),
        sequence: u64::from_le_bytes(*sequence),
        time: u64::from_le_bytes(*time),
        record: (*flag == 1).then(|| record.into()),
    })
}

/// Reads until the buffer is full or the file ends; returns how much was read.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_as_written_and_any_changed_byte_is_noticed() {
        let mut bytes = Vec::new();
        write(b"a", 1, 2, Some(b"record"), &mut bytes);
        let first = bytes.len();
        write(b"", u64::MAX, 0, None, &mut bytes);
        assert_eq!(first, length(b"a", Some(b"record")));
        let all = |bytes: &[u8]| {
            let mut reader = Reader::new(bytes, 16, 0);
            let mut read = Vec::new();
            while let Some(entry) = reader.next()? {
                read.push(entry);
            }
            Ok::<_, io::Error>(read)
        };
        let read = all(&bytes).expect("whole");
        assert_eq!((read.len(), read[1].sequence), (2, u64::MAX));
        assert_eq!(read[0].record.as_deref(), Some(&b"record"[..]));
        assert_eq!(read[1].record, None);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x40;
            assert!(all(&changed).is_err(), "byte {at}");
        }
        for end in (1..bytes.len()).filter(|end| *end != first) {
            assert!(all(&bytes[..end]).is_err(), "cut at {end}");
        }
    }
}
