//! The result of a call that waits for the writer and its sync.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use super::Error;

/// A call whose work has begun and whose end can be awaited.
///
/// The call itself hands the work over, in the order of the calls; dropping this gives up the
/// answer and never the work. It needs no particular runtime.
#[must_use = "await it; dropping it ignores how the call ended"]
pub struct Pending<T>(Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>);

impl<T> Pending<T> {
    /// The end of work that has been handed over already.
    pub fn new(end: impl Future<Output = Result<T, Error>> + Send + 'static) -> Pending<T> {
        Pending(Box::pin(end))
    }

    /// Work that is done.
    pub fn done(result: Result<T, Error>) -> Pending<T>
    where
        T: Send + 'static,
    {
        Pending::new(std::future::ready(result))
    }

    /// Blocks this thread until the end: for opening, tools and tests, never on a thread that
    /// serves others.
    ///
    /// # Errors
    /// Those of the call.
    pub fn wait(mut self) -> Result<T, Error> {
        struct Unpark(Thread);
        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        loop {
            match self.0.as_mut().poll(&mut context) {
                Poll::Ready(result) => return result,
                Poll::Pending => thread::park(),
            }
        }
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(context)
    }
}
