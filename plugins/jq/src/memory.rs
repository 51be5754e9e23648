//! An allocator for programs: jaq makes and drops many small values, which the standard allocator of
//! WebAssembly spends most of a program's time on.
//!
//! A piece of up to 512 bytes comes from a list of free pieces of its size, and returns there. A module
//! has one thread, so the lists need no lock. Larger pieces are the standard allocator's.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr::null_mut;

/// Sizes are multiples of this, which is also the largest alignment of a small piece.
const STEP: usize = 16;
/// The largest small piece.
const SMALL_MAX: usize = 512;
/// What is taken from the standard allocator at a time.
const CHUNK: usize = 64 * 1024;

struct Pieces {
    /// The first free piece of each size; each holds the address of the next one.
    free: [*mut u8; SMALL_MAX / STEP],
    /// The unused rest of the newest chunk.
    rest: *mut u8,
    left: usize,
}

struct Small(UnsafeCell<Pieces>);

// SAFETY: a module of a plugin has one thread.
unsafe impl Sync for Small {}

#[global_allocator]
static ALLOCATOR: Small = Small(UnsafeCell::new(Pieces {
    free: [null_mut(); SMALL_MAX / STEP],
    rest: null_mut(),
    left: 0,
}));

/// The number of the list for a layout; `None` if it is not a small one.
fn list(layout: Layout) -> Option<usize> {
    let size = layout.size();
    (size <= SMALL_MAX && layout.align() <= STEP).then(|| size.saturating_sub(1) / STEP)
}

// SAFETY: a piece is in use or in one list, never both, and a list has pieces of one size, all of them
// aligned to `STEP`.
unsafe impl GlobalAlloc for Small {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(list) = list(layout) else {
            return System.alloc(layout);
        };
        let pieces = &mut *self.0.get();
        let first = pieces.free[list];
        if !first.is_null() {
            pieces.free[list] = *first.cast::<*mut u8>();
            return first;
        }
        let size = (list + 1) * STEP;
        if pieces.left < size {
            let chunk = System.alloc(Layout::from_size_align_unchecked(CHUNK, STEP));
            if chunk.is_null() {
                return chunk;
            }
            (pieces.rest, pieces.left) = (chunk, CHUNK);
        }
        let piece = pieces.rest;
        pieces.rest = piece.add(size);
        pieces.left -= size;
        piece
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        let Some(list) = list(layout) else {
            return System.dealloc(piece, layout);
        };
        let pieces = &mut *self.0.get();
        *piece.cast::<*mut u8>() = pieces.free[list];
        pieces.free[list] = piece;
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let new = Layout::from_size_align_unchecked(size, layout.align());
        match (list(layout), list(new)) {
            (None, None) => System.realloc(piece, layout, size),
            (Some(old), Some(new)) if old == new => piece,
            _ => {
                let moved = self.alloc(new);
                if !moved.is_null() {
                    moved.copy_from_nonoverlapping(piece, layout.size().min(size));
                    self.dealloc(piece, layout);
                }
                moved
            }
        }
    }
}
