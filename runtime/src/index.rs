//! The change index: places, walking, flights and pairs, in memory.

mod sameness;

pub use sameness::value_hash;
