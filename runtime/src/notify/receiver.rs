//! The task that tells one receiver: a request at a time, each tried a few times with longer and longer
//! waits, then given up, counted and logged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::notice::Notice;
use super::told::Told;
use super::{Entries, Options};
use crate::model::Timestamp;
use crate::targets::webhook::Webhook;
use crate::targets::{Outcome, Unusable, http};

/// How often a notice is tried before it is given up.
const ATTEMPTS: u32 = 4;
/// The wait after the first attempt; each further wait is four times as long.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait that a receiver can ask for.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// The least time between two notices.
const BETWEEN: Duration = Duration::from_secs(1);

/// The attempts at all receivers since the start, by result.
#[derive(Debug, Default)]
pub struct Counts {
    sent: AtomicU64,
    retried: AtomicU64,
    dropped: AtomicU64,
}

impl Counts {
    /// The counts, as metrics name them: notices that were acknowledged, attempts that failed and were
    /// followed by another one, and notices that were given up.
    pub fn by_result(&self) -> [(&'static str, u64); 3] {
        [
            ("sent", self.sent.load(Relaxed)),
            ("retried", self.retried.load(Relaxed)),
            ("dropped", self.dropped.load(Relaxed)),
        ]
    }
}

/// A receiver that is ready to be told.
pub struct Receiver {
    options: Options,
    webhook: Webhook,
}

/// A receiver that is being told. Dropping it stops that, a request in flight included.
pub struct Running {
    options: Options,
    _stop: DropGuard,
}

impl Running {
    /// The options it was opened with.
    pub fn options(&self) -> &Options {
        &self.options
    }
}

impl Receiver {
    /// Prepares a receiver without opening a connection.
    ///
    /// # Errors
    /// See [`Webhook::open`].
    pub fn open(options: &Options) -> Result<Receiver, Unusable> {
        Ok(Receiver {
            webhook: Webhook::open(&options.webhook)?,
            options: options.clone(),
        })
    }

    /// Opens a connection to it and sends nothing. Returns warnings of what was not tried.
    ///
    /// # Errors
    /// What is wrong, as a phrase.
    pub async fn reach(&self) -> Result<Vec<String>, String> {
        self.webhook.reach().await
    }

    /// Tells it what is on the board, from now on.
    pub fn start(self, board: watch::Receiver<Arc<Entries>>, counts: Arc<Counts>) -> Running {
        let stop = CancellationToken::new();
        let options = self.options.clone();
        let (task, stopped) = (self.run(board, counts), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = task => {}
            }
        });
        Running {
            options,
            _stop: stop.drop_guard(),
        }
    }

    async fn run(self, mut board: watch::Receiver<Arc<Entries>>, counts: Arc<Counts>) {
        let mut told = Told::new(self.options.on.clone());
        let mut failures = 0;
        loop {
            let entries = board.borrow_and_update().clone();
            let Some(notice) = told.next(&entries, now()) else {
                failures = 0;
                if board.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let outcome = self.tell(&notice).await;
            if outcome == Outcome::Delivered {
                counts.sent.fetch_add(1, Relaxed);
                told.said(notice, true, now());
                failures = 0;
                sleep(BETWEEN).await;
                continue;
            }
            let asked = match &outcome {
                Outcome::Throttled { after, .. } => *after,
                _ => None,
            };
            failures += 1;
            if failures < ATTEMPTS {
                counts.retried.fetch_add(1, Relaxed);
                let usual = FIRST_WAIT * 4u32.pow(failures - 1);
                sleep(usual.max(asked.unwrap_or_default().min(WAIT_MAX))).await;
                continue;
            }
            counts.dropped.fetch_add(1, Relaxed);
            tracing::warn!(
                url = self.options.webhook.url.shown("[secret]"),
                notice = notice.kind().name(),
                about = %notice.condition.subject,
                reason = http::reason(outcome),
                "a notice was not accepted by its receiver and is given up; if it still holds in ten minutes, it is tried again"
            );
            told.said(notice, false, now());
            failures = 0;
            sleep(BETWEEN).await;
        }
    }

    async fn tell(&self, notice: &Notice) -> Outcome {
        let body = notice.body(now()).to_string();
        let id = notice.id();
        self.webhook
            .tell(&id, body.into_bytes(), SystemTime::now())
            .await
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Timestamp(since.unwrap_or_default().as_millis() as u64)
}
