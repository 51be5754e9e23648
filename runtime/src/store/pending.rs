//! The result of a call that waits for the writer and its sync.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use super::Error;

/// A call whose work has been queued and whose result can be awaited.
///
/// The call itself queues the work, in the order of the calls. Dropping this discards the result;
/// the work is done anyway. It needs no particular runtime.
#[must_use = "await it; dropping it ignores how the call ended"]
pub struct Pending<T>(Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>);

impl<T> Pending<T> {
    /// The pending result of work that has been queued already.
    pub fn new(end: impl Future<Output = Result<T, Error>> + Send + 'static) -> Pending<T> {
        Pending(Box::pin(end))
    }

    /// A result that is available at once.
    pub fn done(result: Result<T, Error>) -> Pending<T>
    where
        T: Send + 'static,
    {
        Pending::new(std::future::ready(result))
    }

    /// Blocks this thread until the result arrives. For opening, tools and tests; never on a thread
    /// that serves others.
    ///
    /// # Errors
    /// The errors of the call.
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
