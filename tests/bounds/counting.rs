//! An allocator that counts the bytes that are allocated and the most that ever were, and the socket at
//! which another process asks for them.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, counted.
pub struct Counting;

fn grown(bytes: usize) {
    let live = LIVE.fetch_add(bytes, Relaxed) + bytes;
    PEAK.fetch_max(live, Relaxed);
}

// SAFETY: each call is passed on unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both are there while one is copied into the other.
        grown(size);
        let moved = unsafe { System.realloc(at, layout, size) };
        LIVE.fetch_sub(layout.size(), Relaxed);
        moved
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(at, layout) }
    }
}

/// Answers at this socket, for as long as the process runs. Each answer begins a new peak.
///
/// # Errors
/// The socket cannot be made.
pub fn serve(socket: &Path) -> io::Result<()> {
    // It is left from an earlier process, if it is there.
    let _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket)?;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let live = LIVE.load(Relaxed);
            let peak = PEAK.swap(live, Relaxed);
            // Who asks may have gone.
            let _ = stream.write_all(format!("{live} {peak}").as_bytes());
        }
    });
    Ok(())
}

/// The counts of another process.
pub struct Counts {
    socket: PathBuf,
    peak: Cell<usize>,
}

impl Counts {
    /// Those of the process that serves this socket.
    pub fn of(socket: PathBuf) -> Counts {
        Counts {
            socket,
            peak: Cell::new(0),
        }
    }

    /// The bytes that are allocated now.
    pub fn live(&self) -> usize {
        let mut answer = String::new();
        let mut stream = UnixStream::connect(&self.socket).expect("the process runs");
        stream.read_to_string(&mut answer).expect("an answer");
        let mut numbers = answer
            .split(' ')
            .map(|number| number.parse().expect("a number"));
        let (live, peak) = (numbers.next(), numbers.next());
        self.peak
            .set(self.peak.get().max(peak.expect("two numbers")));
        live.expect("two numbers")
    }

    /// The most bytes that were allocated since the last call.
    pub fn peak(&self) -> usize {
        let live = self.live();
        self.peak.replace(live)
    }
}
