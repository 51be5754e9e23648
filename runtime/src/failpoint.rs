//! Fail points: named places in the code where a test can make this process die, panic or stall, to
//! check that a crash between two steps loses nothing.
//!
//! `WEIR_FAIL="store.written=kill@30"` kills the process on the 30th pass of that place; the other
//! actions are `panic`, `wait` and `hang`, and without a number the first pass triggers. Fail points exist
//! only in builds with debug assertions; in a release build the function is empty. Existing crates
//! for this need a feature to be chosen at build time and a registry to be set up and torn down,
//! and all that is needed is this one function.

/// All fail points, in the order in which an event passes them.
pub const POINTS: [&str; 9] = [
    "store.written",
    "store.synced",
    "ingest.answering",
    "dispatch.attempting",
    "dispatch.sent",
    "dispatch.withdrawn",
    "store.saving",
    "app.swapping",
    "dispatch.swapping",
];

/// Those that only a feed passes, from a delivery to the generation that holds it.
pub const POINTS_OF_FEEDS: [&str; 4] = [
    "feed.appended",
    "feed.building",
    "feed.switching",
    "feed.switched",
];

/// Triggers the action configured for this fail point, if there is one.
#[inline]
pub(crate) fn pass(point: &'static str) {
    #[cfg(debug_assertions)]
    armed::pass(point);
    #[cfg(not(debug_assertions))]
    let _ = point;
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    /// How long `wait` stalls.
    const WAIT: Duration = Duration::from_millis(400);

    struct Armed {
        point: String,
        action: String,
        /// The number of passes until it triggers.
        left: AtomicU32,
    }

    fn armed() -> Option<&'static Armed> {
        static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
        let read = || {
            let (point, rest) = std::env::var("WEIR_FAIL")
                .ok()?
                .split_once('=')
                .map(|(point, rest)| (point.to_owned(), rest.to_owned()))?;
            let (action, times) = rest.split_once('@').unwrap_or((&rest, "1"));
            Some(Armed {
                point,
                action: action.to_owned(),
                left: AtomicU32::new(times.parse().ok()?),
            })
        };
        ARMED.get_or_init(read).as_ref()
    }

    pub(super) fn pass(point: &'static str) {
        debug_assert!(
            super::POINTS.contains(&point) || super::POINTS_OF_FEEDS.contains(&point),
            "{point} is in no list"
        );
        let Some(armed) = armed().filter(|armed| armed.point == point) else {
            return;
        };
        let before = armed
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            });
        if before != Ok(1) {
            return;
        }
        eprintln!("fail point {point}: {}", armed.action);
        match &*armed.action {
            "kill" => {
                // Dies at once, as with kill -9 from outside: no destructor runs and no request is
                // answered.
                let _ = rustix::process::kill_process(
                    rustix::process::getpid(),
                    rustix::process::Signal::KILL,
                );
                std::thread::sleep(Duration::from_secs(60));
            }
            "hang" => loop {
                std::thread::park();
            },
            "panic" => panic!("fail point {point}"),
            _ => std::thread::sleep(WAIT),
        }
    }
}
