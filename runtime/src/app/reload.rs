//! Reloads: the files are read again, and what is right in them takes over.
//!
//! A changed configuration takes over whole or not at all. New bytes of a component are no part of
//! it: they take over plugin by plugin. One whose new bytes are refused keeps its earlier version, and
//! everything else goes on. Compiling may take minutes: a reload that finds something to compile gives up
//! its turn meanwhile, so that no other reload waits for it. What happens within a turn is bounded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::apply::{self, Halted, Live};
use super::load::{Loaded, Loading, Objection, Outcome};
use super::prepare::{AllPrepared, Unprepared};
use super::rollouts::{Rollouts, TakenOver};
use super::trial::{self, Before};
use super::{Inner, aside, blocking, now, read_named};
use crate::plan::{self, Complaint, Named};
use crate::plugin::{Binary, Component};
use crate::server::views::{ComplaintView, ReloadView};
use crate::sync;

/// The outcome of a reload with complaints about the configuration.
const REJECTED: &str = "the new configuration was rejected; the current one stays active";
/// The outcome of a reload with complaints about components alone.
const HELD_BACK: &str =
    "new versions of plugins were refused; their earlier ones stay active, and all else is in use";
/// The outcome of a reload during which the store or a target failed.
const INCOMPLETE: &str =
    "the new configuration was not applied completely; the applied part stays active";
/// How many reloads may be in progress: one that has the turn, or waits for it, and those that compile.
/// While there are as many, further requests wait, and one reload serves them all.
const IN_PROGRESS_MAX: usize = 8;

/// A request for a reload, and where its outcome goes.
pub(super) type Request = oneshot::Sender<ReloadView>;

/// No other reload begins before this is dropped.
pub(super) type Held = oneshot::Sender<()>;

/// What a reload has read, whether it was accepted or not.
pub(super) struct LastRead {
    pub(super) named: Named,
    /// When it began to read.
    pub(super) began: SystemTime,
}

/// How a turn ended.
enum Turn {
    /// With the outcome of the reload.
    Over(ReloadView),
    /// Something has to be compiled first; some may be at hand already.
    Compile(Vec<Unprepared>, AllPrepared),
}

/// A plan that was loaded and tried, and what speaks against the versions that it leaves out.
pub(super) struct Settled {
    outcome: Outcome,
    loaded: Loaded,
    held_back: Vec<Objection>,
}

/// What was put into use.
pub(super) struct Activated {
    /// The changes, one line each.
    changes: Vec<String>,
    /// Why plugins were held back.
    complaints: Vec<Complaint>,
}

/// Serves the requests for reloads until Weir stops. Those that arrive while a reload is held are served
/// together by the next one, which reads the files after the last of them. Each reload is a task of its
/// own: whoever asked for it may go away without leaving it half done.
pub(super) async fn serve<R>(
    mut requests: mpsc::UnboundedReceiver<Request>,
    stopping: CancellationToken,
    reload: impl Fn(Held) -> R,
) where
    R: Future<Output = ReloadView> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(IN_PROGRESS_MAX));
    let serving = async {
        while let Ok(place) = places.clone().acquire_owned().await
            && let Some(first) = requests.recv().await
        {
            let mut waiting = vec![first];
            while let Ok(another) = requests.try_recv() {
                waiting.push(another);
            }
            let (held, given_up) = oneshot::channel();
            let outcome = reload(held);
            tokio::spawn(async move {
                let view = outcome.await;
                drop(place);
                for reply in waiting {
                    // An error here means that this one does not wait any more.
                    let _ = reply.send(view.clone());
                }
            });
            // It never sends anything; the error says that it is dropped.
            let _ = given_up.await;
        }
    };
    tokio::select! {
        () = serving => {}
        () = stopping.cancelled() => {}
    }
}

impl Inner {
    /// Reads the configuration again and applies it. Returns the outcome.
    pub(super) async fn reload(&self) -> ReloadView {
        let (reply, outcome) = oneshot::channel();
        let _ = self.reloads.send(reply);
        outcome.await.unwrap_or_else(|_| {
            let what = match self.stopping.is_cancelled() {
                true => "Weir is stopping",
                false => "the reload ended without an outcome; this is a defect of Weir",
            };
            ReloadView {
                time: now().into(),
                complaints: vec![ComplaintView {
                    what: what.to_owned(),
                    ..ComplaintView::default()
                }],
                ..ReloadView::default()
            }
        })
    }

    /// Asks for a reload without waiting for it.
    pub(super) fn ask_for_reload(&self) {
        let (reply, _) = oneshot::channel();
        let _ = self.reloads.send(reply);
    }

    /// Reloads, in as many turns as there is something new to compile.
    pub(super) async fn reload_files(self: Arc<Self>, held: Held) -> ReloadView {
        let (mut held, mut prepared) = (Some(held), AllPrepared::default());
        loop {
            let whole = self.reloading.lock().await;
            let (read, turn) = self.turn(prepared).await;
            self.read.send_replace(read);
            match turn {
                Turn::Over(view) => {
                    *sync::lock(&self.last_reload) = view.clone();
                    return view;
                }
                Turn::Compile(unprepared, at_hand) => {
                    drop((whole, held.take()));
                    let host = self.host.clone();
                    let prepare = move || {
                        let mut prepared = at_hand;
                        prepared.add(&host, unprepared);
                        prepared
                    };
                    prepared = aside(prepare).await;
                }
            }
        }
    }

    /// Reads the files and applies them, unless there is something to compile.
    async fn turn(&self, prepared: AllPrepared) -> (LastRead, Turn) {
        let (files, began) = (self.files.clone(), SystemTime::now());
        let (named, understood) = blocking(move || read_named(&files)).await;
        let read = LastRead { named, began };
        let live = self.live.load_full();
        let (plan, warnings) = match understood {
            Ok(understood) => understood,
            Err(complaints) => {
                let rollouts = Rollouts::refused(live.loaded.plugins(), &complaints, now());
                return (read, Turn::Over(self.rejected(rollouts, complaints)));
            }
        };
        let mut loading = Loading::new(self.host.clone(), plan, &live.loaded)
            .replacing(&live.plan)
            .with(prepared);
        let (loading, unprepared) = aside(move || {
            let unprepared = loading.unprepared();
            (loading, unprepared)
        })
        .await;
        if !unprepared.is_empty() {
            return (read, Turn::Compile(unprepared, loading.into_prepared()));
        }
        warnings
            .iter()
            .for_each(|warning| tracing::warn!("{warning}"));
        let before = Before::of(&live);
        drop(live);
        let view = match self.settle(loading, &before).await {
            Ok(settled) => match self.activate(settled).await {
                Ok(activated) => activated.view(),
                Err((rollouts, halted)) => self.halted(rollouts, &halted),
            },
            Err((rollouts, complaints)) => self.rejected(rollouts, complaints),
        };
        (read, Turn::Over(view))
    }

    /// Loads and tries the plan, and holds back the plugins that are refused.
    ///
    /// # Errors
    /// All complaints, if there are some that holding back does not help against.
    pub(super) async fn settle(
        &self,
        mut loading: Loading,
        before: &Before,
    ) -> Result<Settled, (Rollouts, Vec<Complaint>)> {
        let mut held_back = Vec::new();
        let mut trials_end = None;
        loop {
            let kept = self.kept.clone();
            let (after, loaded, mut objections) = aside(move || {
                let (loaded, objections) = loading.attempt();
                loading.fall_back(&kept, &objections);
                (loading, loaded, objections)
            })
            .await;
            loading = after;
            if objections.is_empty() {
                let end = *trials_end.get_or_insert_with(trial::end);
                objections = self.try_out(&mut loading, &loaded, before, end).await;
            }
            if objections.is_empty() {
                return Ok(Settled {
                    outcome: loading.outcome(),
                    loaded,
                    held_back,
                });
            }
            let helps = loading.hold_back(&objections);
            held_back.extend(objections);
            if !helps {
                return Err((loading.rollouts, complaints(held_back)));
            }
        }
    }

    /// Puts a plan into use, at a start and at a reload, and records what became of its plugins.
    ///
    /// # Errors
    /// What keeps it from being applied, with the rollouts that therefore did not end.
    pub(super) async fn activate(&self, settled: Settled) -> Result<Activated, (Rollouts, Halted)> {
        let Settled {
            outcome,
            loaded,
            held_back,
        } = settled;
        let Outcome {
            plan,
            refused,
            rollouts,
            binaries,
        } = outcome;
        let changes = apply::changes(&self.live.load(), &plan, &loaded);
        let mut taken_over = TakenOver::default();
        if !changes.is_empty() || self.halfway.load(Relaxed) {
            match self.take_over(plan, loaded).await {
                Ok(done) => taken_over = done,
                Err(halted) => return Err((rollouts, halted)),
            }
        }
        let live = self.live.load_full();
        self.note_held_back(&live, &refused, &held_back);
        self.keep(binaries).await;
        let complaints = complaints(held_back);
        let mut history = self.history();
        history.taken_over(rollouts, taken_over);
        history.refused(refused, &first(&complaints));
        history.keep(|plugin| live.loaded.components.contains_key(plugin));
        drop(history);
        if !complaints.is_empty() {
            tracing::error!("{HELD_BACK}:\n{}", plan::render(&complaints));
        }
        Ok(Activated {
            changes,
            complaints,
        })
    }

    /// Keeps those of these components that have taken over, for the next start. One may be of an earlier
    /// turn of the reload, and its file has changed back since.
    async fn keep(&self, binaries: BTreeMap<Arc<str>, Binary>) {
        let (kept, live) = (self.kept.clone(), self.live.load_full());
        blocking(move || {
            for (plugin, binary) in &binaries {
                let component = live.loaded.components.get(plugin);
                if component.is_some_and(|component| component.sha256() == binary.sha256()) {
                    kept.keep(plugin, binary);
                }
            }
            kept.retain(|plugin| live.loaded.components.contains_key(plugin));
        })
        .await;
    }

    /// Remembers which plugins serve an earlier version than their file has, and why.
    fn note_held_back(&self, live: &Live, refused: &Rollouts, objections: &[Objection]) {
        let mut held_back = BTreeMap::new();
        for objection in objections {
            for plugin in &objection.plugins {
                // Of others only the settings are new.
                let is_earlier =
                    |component: &&Arc<Component>| refused.is_of_another(plugin, component.sha256());
                let component = live.loaded.components.get(plugin);
                if let Some(component) = component.filter(is_earlier) {
                    held_back.entry(plugin.clone()).or_insert_with(|| {
                        format!(
                            "plugin {plugin} serves its earlier version {}, because its file was refused: {}",
                            component.version(),
                            objection.complaint.what
                        )
                    });
                }
            }
        }
        *sync::lock(&self.held_back) = held_back;
    }

    fn rejected(&self, rollouts: Rollouts, complaints: Vec<Complaint>) -> ReloadView {
        self.not_applied(rollouts, complaints, false)
    }

    fn halted(&self, rollouts: Rollouts, halted: &Halted) -> ReloadView {
        let what = match halted.partly_applied {
            true => "the configuration is applied in part; sources use it, some channels do not",
            false => "the configuration could not be applied",
        };
        let complaint = Complaint::of_file(
            &self.files[0],
            format!("{what}: {halted}"),
            "remove the cause, then reload again or restart Weir".to_owned(),
        );
        self.not_applied(rollouts, vec![complaint], halted.partly_applied)
    }

    /// Logs and records that a configuration is not in use, or only in part.
    fn not_applied(
        &self,
        rollouts: Rollouts,
        complaints: Vec<Complaint>,
        partly_applied: bool,
    ) -> ReloadView {
        self.history().refused(rollouts, &first(&complaints));
        let outcome = if partly_applied { INCOMPLETE } else { REJECTED };
        tracing::error!("{outcome}:\n{}", plan::render(&complaints));
        ReloadView {
            success: false,
            time: now().into(),
            changes: Vec::new(),
            partly_applied,
            complaints: complaints.into_iter().map(complaint_view).collect(),
        }
    }
}

impl Activated {
    /// Logs the changes and returns the outcome of the reload that made them.
    fn view(self) -> ReloadView {
        let Activated {
            changes,
            complaints,
        } = self;
        changes
            .iter()
            .for_each(|change| tracing::info!("reload: {change}"));
        ReloadView {
            success: complaints.is_empty(),
            time: now().into(),
            changes,
            complaints: complaints.into_iter().map(complaint_view).collect(),
            ..ReloadView::default()
        }
    }
}

fn complaints(objections: Vec<Objection>) -> Vec<Complaint> {
    let complaints = objections.into_iter();
    complaints.map(|objection| objection.complaint).collect()
}

fn first(complaints: &[Complaint]) -> String {
    let first = complaints.first();
    first
        .map(|complaint| complaint.what.clone())
        .unwrap_or_default()
}

fn complaint_view(complaint: Complaint) -> ComplaintView {
    ComplaintView {
        file: complaint.file.display().to_string(),
        line: complaint.line,
        column: complaint.column,
        what: if complaint.path.is_empty() {
            complaint.what
        } else {
            format!("{}: {}", complaint.path, complaint.what)
        },
        help: complaint.help,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reload in progress, and where its outcome comes from.
    type Running = (Held, oneshot::Sender<ReloadView>);

    /// The outcome of the reload with this number.
    fn outcome(number: usize) -> ReloadView {
        ReloadView {
            changes: vec![number.to_string()],
            ..ReloadView::default()
        }
    }

    /// Serves requests with reloads that end when the test wants it.
    fn served() -> (
        mpsc::UnboundedSender<Request>,
        mpsc::UnboundedReceiver<Running>,
    ) {
        let (requests, received) = mpsc::unbounded_channel();
        let (running, began) = mpsc::unbounded_channel();
        let reload = move |held| {
            let (end, ended) = oneshot::channel();
            let _ = running.send((held, end));
            async move { ended.await.unwrap_or_default() }
        };
        tokio::spawn(serve(received, CancellationToken::new(), reload));
        (requests, began)
    }

    // Each of the requests that arrived during a reload led to another reload: 40 saved files became 40
    // trials of the same plugins.
    #[tokio::test]
    async fn requests_that_arrive_during_a_reload_are_served_by_one_more() {
        let (requests, mut began) = served();
        let ask = || {
            let (reply, outcome) = oneshot::channel();
            requests.send(reply).expect("it is served");
            outcome
        };
        let first = ask();
        let (held, end) = began.recv().await.expect("it begins");
        let others: Vec<_> = (0..5).map(|_| ask()).collect();
        end.send(outcome(1)).expect("it ends");
        assert_eq!(first.await.expect("an outcome"), outcome(1));
        assert!(began.try_recv().is_err(), "the first is still held");
        drop(held);
        let (held, end) = began.recv().await.expect("one more begins");
        let last = ask();
        end.send(outcome(2)).expect("it ends");
        drop(held);
        // One that was left over would not get an outcome: nobody ends its reload.
        for mut other in others {
            let patience = std::time::Duration::from_secs(10);
            let answer = tokio::time::timeout(patience, &mut other).await;
            let answer = answer.expect("it is answered by the second");
            assert_eq!(answer.expect("an outcome"), outcome(2));
        }
        let (_held, end) = began.recv().await.expect("the last one begins");
        end.send(outcome(3)).expect("it ends");
        assert_eq!(last.await.expect("an outcome"), outcome(3));
    }

    #[tokio::test]
    async fn reloads_that_compile_hold_up_no_other_and_their_number_is_bounded() {
        let (requests, mut began) = served();
        let mut compiling = Vec::new();
        for _ in 0..IN_PROGRESS_MAX {
            requests.send(oneshot::channel().0).expect("it is served");
            let (held, end) = began.recv().await.expect("it begins");
            drop(held);
            compiling.push(end);
        }
        let (reply, answer) = oneshot::channel();
        requests.send(reply).expect("it is served");
        tokio::task::yield_now().await;
        assert!(
            began.try_recv().is_err(),
            "there are as many as there may be"
        );
        drop(compiling.pop());
        let (_held, end) = began.recv().await.expect("it begins");
        end.send(outcome(9)).expect("it ends");
        assert_eq!(answer.await.expect("an outcome"), outcome(9));
    }
}
