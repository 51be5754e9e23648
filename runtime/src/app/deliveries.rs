//! The threads on which channels live: apart from those that take events in, and after them where
//! both want the processor.
//!
//! What is owed can wait a moment, and coalesces meanwhile; who sends an event waits for its
//! answer. Channels also read from disk, which would hold up requests on the same thread.

use std::thread::available_parallelism;

use tokio::runtime::{Builder, Runtime};

/// How much later than others these threads get the processor (`nice`): a third of the share of a
/// thread that takes events in, so that deliveries go on under any load.
const NICENESS: i32 = 5;

/// The runtime of all channels.
pub(super) struct Deliveries(Option<Runtime>);

impl Deliveries {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system gives none.
    pub(super) fn start() -> std::io::Result<Deliveries> {
        let threads = available_parallelism().map_or(2, usize::from).max(2);
        let mut builder = Builder::new_multi_thread();
        let builder = builder
            .enable_all()
            .worker_threads(threads)
            .thread_name("deliver")
            .on_thread_start(give_way);
        builder.build().map(|runtime| Deliveries(Some(runtime)))
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
    /// Channels have been stopped by now, and a runtime may not wait for its threads inside
    /// another.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

fn give_way() {
    // Where it is not granted, all threads are equal: slower answers under full load, nothing
    // worse.
    let _ = rustix::process::nice(NICENESS);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_delivered_gives_way_to_what_is_taken_in() {
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
