//! A target for tests without a socket: it responds as its script says and records what it was
//! sent. With tokio's paused time, hours of waiting take no time.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use super::http::status::{Answer, Asked, meaning};
use super::{
    Attempt, BoxFuture, Delivery, Foreign, Form, Held, Item, Mark, Nature, Outcome, Page, Target,
};
use crate::sync::lock;

/// A scripted target as configured. Two are equal if they have the same place and the same script.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Its requirements for deliveries.
    pub(crate) nature: Nature,
    /// Takes the role of the URL in other kinds.
    pub(crate) place: u64,
    /// The script that decides its outcomes and records what it was sent.
    pub(crate) script: Script,
}

/// One attempt as the target saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) items: Vec<Item>,
    pub(crate) form: Form,
    pub(crate) now: SystemTime,
    pub(crate) foreign: Option<Foreign>,
}

/// The reaction to an attempt.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// The outcome that an HTTP target derives from a complete response with this status.
    Status(u16),
    /// The same outcome for all items.
    All(Outcome),
    /// One outcome for each item.
    Each(Vec<Outcome>),
    /// One outcome for each item, and a wait.
    Told(Delivery),
    /// The inner reply after a delay.
    After(Duration, Box<Reply>),
    /// No reply, ever.
    Hang,
}

impl Reply {
    /// The reply for an incomplete response: the request may have been applied.
    pub(crate) fn uncertain() -> Reply {
        Reply::All(Outcome::Retry {
            reason: "no complete response".into(),
            maybe_applied: true,
        })
    }
}

/// A script, shared by the test that wrote it and the targets that follow it.
#[derive(Clone)]
pub struct Script(Arc<Play>);

/// What a target holds of an item, for a drift check.
type Look = Box<dyn Fn(&Item) -> Held + Send>;

struct Play {
    reply: Box<dyn Fn(&Seen) -> Reply + Send + Sync>,
    seen: Mutex<Vec<Seen>>,
    /// Whether it forgets what it has seen, because that is large.
    forgets: bool,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
    mark: Mutex<Option<Vec<u8>>>,
    held: Mutex<Option<Look>>,
    keys: Mutex<Option<Vec<String>>>,
}

/// Counts an attempt while it lasts, even if it is aborted.
struct Under<'a>(&'a AtomicUsize);

impl Drop for Under<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Script {
    pub(crate) fn new(reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Script {
        Script::keeping(reply, false)
    }

    /// A script that records nothing.
    pub(crate) fn forgetful(reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Script {
        Script::keeping(reply, true)
    }

    fn keeping(reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static, forgets: bool) -> Script {
        Script(Arc::new(Play {
            reply: Box::new(reply),
            seen: Mutex::default(),
            forgets,
            at_once: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
            mark: Mutex::default(),
            held: Mutex::default(),
            keys: Mutex::default(),
        }))
    }

    /// All attempts so far, in order.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.lock().clone()
    }

    /// The maximum number of attempts that ran at the same time.
    pub(crate) fn most_at_once(&self) -> usize {
        self.0.most_at_once.load(Ordering::SeqCst)
    }

    /// Sets what its target holds, for drift checks, and the keys that it lists.
    pub(crate) fn holds(
        &self,
        held: impl Fn(&Item) -> Held + Send + 'static,
        keys: Option<Vec<String>>,
    ) {
        *lock(&self.0.held) = Some(Box::new(held));
        *lock(&self.0.keys) = keys;
    }

    /// Sets the mark that its target returns.
    pub(crate) fn set_mark(&self, mark: Option<Vec<u8>>) {
        *lock(&self.0.mark) = mark;
    }

    /// The mark that its target returns.
    pub(crate) fn mark(&self) -> Option<Vec<u8>> {
        lock(&self.0.mark).clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Seen>> {
        lock(&self.0.seen)
    }
}

impl PartialEq for Script {
    fn eq(&self, other: &Script) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script")
    }
}

/// A scripted target that is ready to deliver.
pub(crate) struct Scripted(Options);

impl Scripted {
    pub(crate) fn open(options: &Options) -> Scripted {
        Scripted(options.clone())
    }

    async fn attempt(&self, attempt: Attempt<'_>) -> Delivery {
        let (items, nature) = (attempt.items, self.0.nature);
        let most = match attempt.form {
            Form::Single => 1,
            Form::Batch => nature.batch_max,
        };
        assert!(
            (1..=most).contains(&items.len()),
            "{} items in {:?}, at most {most} are right",
            items.len(),
            attempt.form
        );
        let deletes = items.iter().filter(|item| item.rendering.is_none()).count();
        assert!(
            !nature.deletes_alone || deletes == 0 || items.len() == 1,
            "{deletes} deletions among {} items",
            items.len()
        );
        let seen = Seen {
            items: items.to_vec(),
            form: attempt.form,
            now: attempt.now,
            foreign: attempt.foreign,
        };
        let play = &self.0.script.0;
        let at_once = play.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        let _under = Under(&play.at_once);
        play.most_at_once.fetch_max(at_once, Ordering::SeqCst);
        let mut reply = (play.reply)(&seen);
        if !play.forgets {
            self.0.script.lock().push(seen);
        }
        loop {
            reply = match reply {
                Reply::Status(status) => {
                    let asked = Asked {
                        by_key: nature.keyed,
                        delete: nature.keyed && items.iter().all(|item| item.rendering.is_none()),
                        items: items.len(),
                    };
                    let answer = Answer {
                        status,
                        retry_after: None,
                        body: b"",
                    };
                    return vec![meaning(asked, answer); items.len()].into();
                }
                Reply::All(outcome) => return vec![outcome; items.len()].into(),
                Reply::Each(outcomes) => return outcomes.into(),
                Reply::Told(delivery) => return delivery,
                Reply::After(wait, reply) => {
                    tokio::time::sleep(wait).await;
                    *reply
                }
                Reply::Hang => std::future::pending().await,
            };
        }
    }
}

impl Target for Scripted {
    fn nature(&self) -> Nature {
        self.0.nature
    }

    fn place(&self) -> u64 {
        self.0.place
    }

    fn check(&self) -> BoxFuture<'_, Result<Vec<String>, String>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn deliver<'a>(&'a self, attempt: Attempt<'a>) -> BoxFuture<'a, Delivery> {
        Box::pin(self.attempt(attempt))
    }

    fn mark(&self) -> Option<Vec<u8>> {
        self.0.script.mark()
    }

    fn compare<'a>(&'a self, items: &'a [Item]) -> BoxFuture<'a, Result<Vec<Held>, String>> {
        let held = lock(&self.0.script.0.held);
        let held = held.as_ref().map(|held| items.iter().map(held).collect());
        let held = held.ok_or_else(|| "this target cannot tell what it holds".to_owned());
        Box::pin(std::future::ready(held))
    }

    fn keys<'a>(&'a self, after: Option<&'a str>) -> BoxFuture<'a, Result<Page, String>> {
        let keys = lock(&self.0.script.0.keys).clone();
        // Pages of two.
        let from = after.and_then(|after| after.parse().ok()).unwrap_or(0);
        let page = keys.map(|keys| Page {
            next: (from + 2 < keys.len()).then(|| (from + 2).to_string()),
            keys: keys.into_iter().skip(from).take(2).collect(),
        });
        let page = page.ok_or_else(|| "this target cannot list what it holds".to_owned());
        Box::pin(std::future::ready(page))
    }

    fn take_mark(&self, mark: Mark) {
        self.0.script.set_mark(Some(mark.bytes));
    }

    fn start_over(&self) {
        self.0.script.set_mark(None);
    }
}
