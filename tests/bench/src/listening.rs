//! A server on loopback with a thread of its own, so that its processor time can be told from Weir's.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// A server that listens until this is dropped.
pub(super) struct Listening {
    pub(super) address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

impl Listening {
    /// Listens on any port. Each connection is given to `serve`, all of them on the thread of this name.
    ///
    /// # Errors
    /// The system provides no address or no thread.
    pub(super) fn start<F>(
        thread: &str,
        serve: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> io::Result<Listening>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let accept = async move {
            let Ok(listener) = TcpListener::from_std(listener) else {
                return;
            };
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        };
        std::thread::Builder::new()
            .name(thread.into())
            .spawn(move || {
                runtime.block_on(async move {
                    tokio::select! {
                        () = accept => {}
                        _ = stopped => {}
                    }
                });
            })?;
        Ok(Listening {
            address,
            _stop: stop,
        })
    }
}
