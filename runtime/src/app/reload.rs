//! Reloads: the files are read again, and what is right in them takes over.
//!
//! A changed configuration takes over whole or not at all. New bytes of a component are no part of
//! it: they take over plugin by plugin. One whose new bytes are refused keeps its earlier version, and
//! everything else goes on. Compiling, which may take minutes, happens before the turn of a reload, so
//! that no other reload waits for it; what happens within a turn is bounded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::{mpsc, oneshot};

use super::apply::{self, Live};
use super::load::{self, Loaded, Loading, Objection, Outcome, Prepared};
use super::rollouts::{Rollouts, TakenOver};
use super::trial::Before;
use super::{Inner, aside, blocking, now, read_plan};
use crate::plan::{self, Complaint};
use crate::plugin::Binary;
use crate::server::views::{ComplaintView, ReloadView};
use crate::sync;

/// The outcome of a reload with complaints about the configuration.
const REJECTED: &str = "the new configuration was rejected; the current one stays active";
/// The outcome of a reload with complaints about components alone.
pub(super) const HELD_BACK: &str =
    "new versions of plugins were refused; their earlier ones stay active, and all else is in use";
/// The outcome of a reload during which the store or a target failed.
const INCOMPLETE: &str =
    "the new configuration was not applied completely; the applied part stays active";

/// A request for a reload, and where its outcome goes.
pub(super) type Request = oneshot::Sender<ReloadView>;

/// Serves the requests for reloads until Weir stops. Each is a task of its own: whoever asked for it
/// may go away without leaving it half done.
pub(super) async fn serve(inner: Arc<Inner>, mut requests: mpsc::UnboundedReceiver<Request>) {
    loop {
        let reply = tokio::select! {
            request = requests.recv() => match request {
                Some(reply) => reply,
                None => return,
            },
            () = inner.stopping.cancelled() => return,
        };
        let inner = inner.clone();
        tokio::spawn(async move {
            // An error here means that nobody waits any more.
            let _ = reply.send(inner.reload_files().await);
        });
    }
}

impl Inner {
    /// Reads the configuration again and applies it. Returns the outcome.
    pub(super) async fn reload(&self) -> ReloadView {
        let (reply, outcome) = oneshot::channel();
        let _ = self.reloads.send(reply);
        outcome.await.unwrap_or_else(|_| ReloadView {
            time: now().into(),
            complaints: vec![ComplaintView {
                what: "Weir is stopping".to_owned(),
                ..ComplaintView::default()
            }],
            ..ReloadView::default()
        })
    }

    async fn reload_files(&self) -> ReloadView {
        let prepared = self.prepare().await;
        let _turn = self.reloading.lock().await;
        let view = self.reload_prepared(prepared).await;
        *sync::lock(&self.last_reload) = view.clone();
        view
    }

    /// Compiles what is new in the files.
    async fn prepare(&self) -> BTreeMap<Arc<str>, Prepared> {
        let (files, host, live) = (self.files.clone(), self.host.clone(), self.live.load_full());
        aside(move || match read_plan(&files) {
            Ok((plan, _)) => load::prepare(&host, &plan, &live.loaded),
            // Said in the reload's turn, which reads the files again.
            Err(_) => BTreeMap::new(),
        })
        .await
    }

    async fn reload_prepared(&self, prepared: BTreeMap<Arc<str>, Prepared>) -> ReloadView {
        let files = self.files.clone();
        let plan = match blocking(move || read_plan(&files)).await {
            Ok((plan, warnings)) => {
                warnings
                    .iter()
                    .for_each(|warning| tracing::warn!("{warning}"));
                plan
            }
            Err(complaints) => {
                let live = self.live.load();
                let rollouts = Rollouts::refused(live.loaded.plugins(), &complaints, now());
                return self.rejected(rollouts, complaints);
            }
        };
        let live = self.live.load_full();
        let before = Before::of(&live);
        let loading = Loading::new(self.host.clone(), plan, &live.loaded)
            .replacing(&live.plan)
            .with(prepared);
        drop(live);
        match self.settle(loading, &before).await {
            Ok((outcome, loaded, held_back)) => self.activate(outcome, loaded, held_back).await,
            Err((rollouts, complaints)) => self.rejected(rollouts, complaints),
        }
    }

    /// Loads and tries the plan, and holds back the plugins that are refused.
    ///
    /// # Errors
    /// All complaints, if there are some that holding back does not help against.
    pub(super) async fn settle(
        &self,
        mut loading: Loading,
        before: &Before,
    ) -> Result<(Outcome, Loaded, Vec<Objection>), (Rollouts, Vec<Complaint>)> {
        let mut held_back = Vec::new();
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
                objections = self.try_out(&mut loading, &loaded, before).await;
            }
            if objections.is_empty() {
                return Ok((loading.outcome(), loaded, held_back));
            }
            let helps = loading.hold_back(&objections);
            held_back.extend(objections);
            if !helps {
                return Err((loading.rollouts, complaints(held_back)));
            }
        }
    }

    async fn activate(
        &self,
        outcome: Outcome,
        loaded: Loaded,
        held_back: Vec<Objection>,
    ) -> ReloadView {
        let Outcome {
            plan,
            refused,
            rollouts,
            binaries,
        } = outcome;
        let old = self.live.load_full();
        let changes = apply::changes(&old, &plan, &loaded);
        let mut taken_over = TakenOver::default();
        if !changes.is_empty() || self.halfway.load(Relaxed) {
            match self.take_over(plan, loaded).await {
                Ok(done) => taken_over = done,
                Err(halted) => return self.halted(rollouts, &halted),
            }
        }
        changes
            .iter()
            .for_each(|change| tracing::info!("reload: {change}"));
        let live = self.live.load();
        self.note_held_back(&live, &held_back);
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
        ReloadView {
            success: complaints.is_empty(),
            time: now().into(),
            changes,
            complaints: complaints.into_iter().map(complaint_view).collect(),
            ..ReloadView::default()
        }
    }

    /// Keeps the components that have taken over, for the next start.
    pub(super) async fn keep(&self, binaries: BTreeMap<Arc<str>, Binary>) {
        let (kept, live) = (self.kept.clone(), self.live.load_full());
        blocking(move || {
            for (plugin, binary) in &binaries {
                kept.keep(plugin, binary);
            }
            kept.retain(|plugin| live.loaded.components.contains_key(plugin));
        })
        .await;
    }

    /// Remembers which plugins serve an earlier version than their file has, and why.
    pub(super) fn note_held_back(&self, live: &Live, objections: &[Objection]) {
        let mut held_back = BTreeMap::new();
        for objection in objections {
            for plugin in &objection.plugins {
                if let Some(component) = live.loaded.components.get(plugin) {
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

    fn halted(&self, rollouts: Rollouts, halted: &apply::Halted) -> ReloadView {
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

pub(super) fn complaints(objections: Vec<Objection>) -> Vec<Complaint> {
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
