//! The threads on which channels run. They are separate from the threads that take events in, and
//! have a lower priority.
//!
//! A delivery can wait a moment, and coalesces with later changes meanwhile; a sender waits for its
//! response. Channels also read from disk, which would hold up requests on the same thread.

use std::thread::available_parallelism;

use tokio::runtime::{Builder, Runtime};

/// The niceness of these threads. It gives them a third of the processor share of a thread that
/// takes events in, so that deliveries continue under any load.
const NICENESS: i32 = 5;

/// The runtime of all channels.
pub(super) struct Deliveries(Option<Runtime>);

impl Deliveries {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub(super) fn start() -> std::io::Result<Deliveries> {
        let threads = available_parallelism().map_or(2, usize::from).max(2);
        let mut builder = Builder::new_multi_thread();
        let builder = builder
            .enable_all()
            .worker_threads(threads)
            .thread_name("deliver")
            .on_thread_start(lower_priority);
        builder.build().map(|runtime| Deliveries(Some(runtime)))
    }

    /// Begins `work` on these threads, and does not wait for it.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let runtime = self.0.as_ref().expect("it is there until the drop");
        drop(runtime.spawn(work));
    }

    /// Runs `work`, and all that it spawns, on these threads. A panic in it is passed on.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let runtime = self.0.as_ref().expect("it is there until the drop");
        match runtime.spawn(work).await {
            Ok(done) => done,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

impl Drop for Deliveries {
    /// Does not wait for the threads: all channels have been stopped by now, and a runtime may not
    /// wait inside another one.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

fn lower_priority() {
    // If the system refuses, all threads have the same priority; responses are slower under full
    // load, and nothing worse happens.
    let _ = rustix::process::nice(NICENESS);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_have_a_lower_priority_than_intake() {
        let deliveries = Deliveries::start().expect("threads");
        let niceness = || rustix::process::nice(0).expect("a number");
        let work = async move { tokio::spawn(async move { niceness() }).await };
        let there = deliveries
            .0
            .as_ref()
            .expect("a runtime")
            .block_on(deliveries.run(work))
            .expect("an answer");
        assert_eq!(there, (niceness() + NICENESS).min(19));
    }
}
