//! Rows of a store, damaged in any way.

use weir::inside::store::embedded::fuzz;

/// An entity record is read as it was written, or rejected.
pub fn record(input: &[u8]) {
    fuzz::record(input);
}

/// Rows with any content are loaded, or the load reports what is damaged. It never panics, and
/// never allocates memory for data that is not there.
///
/// The input is a sequence of pieces: one byte for the kind of row, one for its number, two for the
/// length, and the row.
pub fn load(mut input: &[u8]) {
    let mut rows = Vec::new();
    while let [kind, number, low, high, rest @ ..] = input {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (row, after) = rest.split_at(length);
        rows.push((*kind, *number, row));
        input = after;
    }
    fuzz::load(&rows);
}
