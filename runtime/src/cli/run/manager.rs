//! What the service manager is told: systemd's protocol, datagrams to the socket that `NOTIFY_SOCKET` names.
//!
//! A start may take as long as it needs, as long as it gets on: opening a large store or compiling plugins takes
//! minutes. Once it serves, the manager hears of it as long as the store is written and channels run, and no longer.
//! Without a manager nothing happens.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::app::App;
use crate::plain;

/// How much longer the manager waits, each time it is told that the start goes on.
const EXTENSION: Duration = Duration::from_secs(30);
/// How often it is told.
const EXTENDED_EVERY: Duration = Duration::from_secs(5);
/// How long one step of a start may take until the manager is not told any more.
const STEP_MAX: Duration = Duration::from_secs(3600);
/// How long a message may take; the manager reads them at once unless it is in trouble itself.
const SEND_MAX: Duration = Duration::from_secs(1);
/// How often it is looked at what runs.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The service manager, if there is one.
pub(super) struct Manager {
    socket: Option<UnixDatagram>,
    /// If it hears nothing for so long, it ends the process.
    patience: Option<Duration>,
}

impl Manager {
    /// The manager that has started this process, by its environment.
    pub(super) fn of_this_process() -> Manager {
        let variable = |name| std::env::var(name).ok();
        let number = |name| variable(name).and_then(|value| value.parse::<u64>().ok());
        let socket = variable("NOTIFY_SOCKET").and_then(|address| {
            let connected = connect(&address);
            let why = |error: &io::Error| tracing::warn!(%address, %error, "the service manager cannot be told that Weir runs; a unit needs AF_UNIX in RestrictAddressFamilies=");
            connected.inspect_err(why).ok()
        });
        let is_for_another =
            number("WATCHDOG_PID").is_some_and(|pid| pid != u64::from(std::process::id()));
        let patience = number("WATCHDOG_USEC").filter(|_| !is_for_another);
        Manager {
            socket,
            patience: patience.map(Duration::from_micros),
        }
    }

    /// Says how far the start is, and asks for more time, until it is dropped.
    pub(super) async fn is_patient(&self, mut steps: watch::Receiver<String>) {
        if self.socket.is_none() {
            return std::future::pending().await;
        }
        let mut since = Instant::now();
        loop {
            let step = plain::line(&steps.borrow_and_update()).into_owned();
            let mut message = format!("STATUS=Starting: {step}");
            if since.elapsed() < STEP_MAX {
                message += &format!("\nEXTEND_TIMEOUT_USEC={}", EXTENSION.as_micros());
            }
            self.tell(&message);
            match timeout(EXTENDED_EVERY, steps.changed()).await {
                Ok(Ok(())) => since = Instant::now(),
                // Nothing says any more how far the start is.
                Ok(Err(_)) => sleep(EXTENDED_EVERY).await,
                Err(_) => {}
            }
        }
    }

    /// Says that Weir serves.
    pub(super) fn is_ready(&self, app: &App) {
        self.tell(&format!("READY=1\nSTATUS={}", status(app)));
    }

    /// Says that it still does, until this is dropped: what runs, and a sign of life whenever both the store's
    /// writer and the threads of the channels have got on since the last one.
    pub(super) async fn watches(&self, app: &App) {
        if self.socket.is_none() {
            return std::future::pending().await;
        }
        let every = (self.patience.unwrap_or(LOOK_EVERY) / 4).min(LOOK_EVERY);
        let (mut told, mut beats) = (status(app), app.beats());
        loop {
            sleep(every).await;
            let (now, turns) = (status(app), app.beats());
            if now != told {
                self.tell(&format!("STATUS={now}"));
                told = now;
            }
            if turns.iter().zip(beats).all(|(now, before)| *now > before) {
                beats = turns;
                if self.patience.is_some() {
                    self.tell("WATCHDOG=1");
                }
            }
        }
    }

    /// Says that Weir is about to end.
    pub(super) fn is_left(&self) {
        self.tell("STOPPING=1\nSTATUS=Stopping");
    }

    fn tell(&self, message: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(message.as_bytes())
        {
            tracing::debug!(%error, "the service manager does not take a message");
        }
    }
}

/// What runs, in a line.
fn status(app: &App) -> String {
    let refused = match app.has_refused() {
        true => "; the last configuration was refused, the one before is in use",
        false => "",
    };
    format!("Serving {}{refused}", app.summary())
}

/// A socket to this address: a path, or on Linux a name behind an `@`.
fn connect(address: &str) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    match address.strip_prefix('@') {
        #[cfg(target_os = "linux")]
        Some(name) => {
            use std::os::linux::net::SocketAddrExt;
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
            socket.connect_addr(&address)?;
        }
        _ => socket.connect(Path::new(address))?,
    }
    socket.set_write_timeout(Some(SEND_MAX))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 1024];
        let length = socket.recv(&mut bytes).expect("a message");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    /// A manager, and its end of the socket.
    fn manager() -> (Manager, UnixDatagram) {
        let (here, there) = UnixDatagram::pair().expect("sockets");
        // A message that does not come fails the test in place of holding it up.
        let patience = Some(Duration::from_secs(60));
        there.set_read_timeout(patience).expect("it can be set");
        let patience = None;
        (
            Manager {
                socket: Some(here),
                patience,
            },
            there,
        )
    }

    // MariaDB was ended after 90 s while it recovered a large store.
    #[tokio::test(start_paused = true)]
    async fn a_long_step_gets_more_time_before_it_is_over_but_not_for_ever() {
        let (manager, there) = manager();
        let (tell, steps) = watch::channel("opening\nthe store".to_owned());
        let told = async {
            let more = "\nEXTEND_TIMEOUT_USEC=30000000";
            let step = format!("STATUS=Starting: opening\\nthe store{more}");
            // Each within the time that the one before has asked for.
            for _ in 0..STEP_MAX.as_secs() / EXTENDED_EVERY.as_secs() {
                assert_eq!(heard(&there), step);
                sleep(EXTENDED_EVERY).await;
            }
            assert_eq!(heard(&there), "STATUS=Starting: opening\\nthe store");
            tell.send_replace("loading plugins".to_owned());
            sleep(Duration::from_millis(1)).await;
            assert_eq!(
                heard(&there),
                format!("STATUS=Starting: loading plugins{more}")
            );
        };
        tokio::select! {
            biased;
            () = manager.is_patient(steps) => {}
            () = told => {}
        }
    }

    #[test]
    fn the_manager_is_found_by_a_path_and_by_a_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let there = UnixDatagram::bind(&path).expect("bound");
        let socket = connect(&path.to_string_lossy()).expect("connected");
        socket.send(b"by path").expect("sent");
        assert_eq!(heard(&there), "by path");
        #[cfg(target_os = "linux")]
        {
            use std::os::linux::net::SocketAddrExt;
            let name = format!("weir-test-{}", std::process::id());
            let address = std::os::unix::net::SocketAddr::from_abstract_name(&name);
            let there = UnixDatagram::bind_addr(&address.expect("a name")).expect("bound");
            let socket = connect(&format!("@{name}")).expect("connected");
            socket.send(b"by name").expect("sent");
            assert_eq!(heard(&there), "by name");
        }
    }
}
