//! The keys of the only tree, and why they sort as they do. The meaning of a prefix byte never
//! changes.
//!
//! | key | value |
//! |---|---|
//! | `M` name | format, sums of all rows, sequence ceiling, ordinals, clock, the mark of a restore; `Mnote ` name: a note |
//! | `N` number | a name of the dictionary |
//! | `E` ordinal | an entity record; numbers are big-endian, so a scan meets entities in the order of the sweep |
//! | `P` ordinal sequence part | a piece of a long value; the entity record names the sequence |
//! | `C` channel | a channel: name, subscription, positions |
//! | `B` channel page | pairs of 1,920 ordinals |
//! | `L` channel number | pairs that changed since their page was written, in the order of the saves |
//! | `K` channel ordinal | the key that a renderer chose |
//! | `R` channel ordinal | why an entity was refused |
//! | `Q` source sequence part | a quarantined event |
//! | `I` number | identities of the events of one commit, in the order of the commits |

use crate::index::ChannelId;

/// Format version of the store.
pub(super) const FORMAT: &[u8] = b"Mformat";
/// The sums of all rows, and the number of the last batch.
pub(super) const SUMS: &[u8] = b"Msums";
/// The sequence is below this number; after an opening it continues from here.
pub(super) const CEILING: &[u8] = b"Mceiling";
/// All ordinals below this number are used.
pub(super) const ORDINALS: &[u8] = b"Mordinals";
/// The marks of the clock.
pub(super) const CLOCK: &[u8] = b"Mclock";
/// The highest channel number ever given out.
pub(super) const CHANNELS: &[u8] = b"Mchannels";

/// Whether the store was made of a backup, or of a damaged store, and still trusts what its channels
/// knew then. It is there from the first batch on, and the first opening removes it.
pub(super) const RESTORED: &[u8] = b"Mrestored";

pub(super) const FIGURES: &[u8] = b"M";
pub(super) const NOTE: &[u8] = b"Mnote ";
pub(super) const NAMES: &[u8] = b"N";
pub(super) const ENTITIES: &[u8] = b"E";
pub(super) const PARTS: &[u8] = b"P";
pub(super) const CHANNEL: &[u8] = b"C";
pub(super) const QUARANTINE: &[u8] = b"Q";
pub(super) const IDENTITIES: &[u8] = b"I";

/// Maximum length of a row, in bytes; a longer value is cut into pieces. Sixteen rows share a leaf,
/// which must stay well below a quarter of a 4 MiB segment: sled puts a larger leaf into a file of
/// its own, which is never synced.
pub(super) const ROW_BYTES_MAX: usize = 32 * 1024;

/// Pairs in a base page, which then has 30,720 bytes.
pub(super) const PAGE_PAIRS: u32 = 1_920;
/// Entries in a row of the log of pairs, which then has 32,000 bytes.
pub(super) const LOG_PAIRS: usize = 1_600;

pub(super) fn name(number: u32) -> Vec<u8> {
    [NAMES, &number.to_be_bytes()].concat()
}

pub(super) fn entity(ordinal: u32) -> Vec<u8> {
    [ENTITIES, &ordinal.to_be_bytes()].concat()
}

pub(super) fn note(name: &str) -> Vec<u8> {
    [NOTE, name.as_bytes()].concat()
}

pub(super) fn part(ordinal: u32, sequence: u64, part: u16) -> Vec<u8> {
    [
        PARTS,
        &ordinal.to_be_bytes(),
        &sequence.to_be_bytes(),
        &part.to_be_bytes(),
    ]
    .concat()
}

pub(super) fn channel(id: ChannelId) -> Vec<u8> {
    of_channel(b'C', id)
}

/// The common prefix of all keys of one kind and channel.
pub(super) fn of_channel(kind: u8, id: ChannelId) -> Vec<u8> {
    [&[kind][..], &id.0.to_be_bytes()].concat()
}

pub(super) fn page(id: ChannelId, page: u32) -> Vec<u8> {
    [of_channel(b'B', id), page.to_be_bytes().to_vec()].concat()
}

pub(super) fn log(id: ChannelId, number: u64) -> Vec<u8> {
    [of_channel(b'L', id), number.to_be_bytes().to_vec()].concat()
}

pub(super) fn target_key(id: ChannelId, ordinal: u32) -> Vec<u8> {
    [of_channel(b'K', id), ordinal.to_be_bytes().to_vec()].concat()
}

pub(super) fn refusal(id: ChannelId, ordinal: u32) -> Vec<u8> {
    [of_channel(b'R', id), ordinal.to_be_bytes().to_vec()].concat()
}

pub(super) fn quarantine(source: u32, sequence: u64, part: u16) -> Vec<u8> {
    [
        QUARANTINE,
        &source.to_be_bytes(),
        &sequence.to_be_bytes(),
        &part.to_be_bytes(),
    ]
    .concat()
}

/// The common prefix of the keys of all quarantined events of a source.
pub(super) fn quarantine_of(source: u32) -> Vec<u8> {
    [QUARANTINE, &source.to_be_bytes()].concat()
}

pub(super) fn identities(number: u64) -> Vec<u8> {
    [IDENTITIES, &number.to_be_bytes()].concat()
}

/// The `N` bytes of a key from `from` on; zeros if the key is too short.
pub(super) fn number_at<const N: usize>(key: &[u8], from: usize) -> [u8; N] {
    key.get(from..from + N)
        .and_then(|bytes| bytes.try_into().ok())
        .unwrap_or([0; N])
}
