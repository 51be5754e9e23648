//! The HTTP interface of a running Weir: the state of its channels, and bounded waits for them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::http::Method;

use crate::events::FIRST_KEY;
use crate::progress::Progress;
use crate::recorder::Recorder;
use crate::unreachable;
use weir::inside::cli::{Client, Failure, path};
use weir::inside::server::views::{ChannelView, DriftView, JobView, List, PluginView, SwapView};

/// Time without progress after which a wait fails.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// Poll interval; five times longer over HTTP.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// A running Weir, in this process or a child process.
pub(super) struct Api {
    runtime: tokio::runtime::Runtime,
    client: Client,
}

impl Api {
    /// Connects to the Weir at this address.
    ///
    /// # Errors
    /// No client can be made for the address.
    pub(super) fn at(address: SocketAddr) -> Result<Api, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| unreachable("cannot start", error))?;
        Ok(Api {
            runtime,
            client: Client::at(&format!("http://{address}"), None)?,
        })
    }

    /// Whether it reports that it is ready.
    pub(super) fn ready(&self) -> bool {
        self.runtime
            .block_on(self.client.get_ok(Method::GET, "/readyz"))
            .is_ok()
    }

    /// The channels, as it reports them.
    pub(super) fn channels(&self) -> Result<Vec<ChannelView>, Failure> {
        let list: List<ChannelView> =
            self.runtime
                .block_on(self.client.list("/v1/channels", &[], usize::MAX))?;
        Ok(list.items)
    }

    /// Pauses, resumes, … every channel.
    pub(super) fn operate(&self, operation: &str) -> Result<(), Failure> {
        self.channels()?
            .iter()
            .try_for_each(|channel| self.operate_one(&channel.name, operation))
    }

    /// Pauses, resumes, … a channel.
    pub(super) fn operate_one(&self, channel: &str, operation: &str) -> Result<(), Failure> {
        let route = path(&["v1", "channels", channel, operation]);
        self.runtime
            .block_on(self.client.get_ok(Method::POST, &route))
            .map(drop)
    }

    /// Reloads its configuration. Returns the last swap of the plugin with this name.
    ///
    /// # Errors
    /// Something was refused.
    pub(super) fn swapped(&self, plugin: &str) -> Result<Option<SwapView>, Failure> {
        self.runtime.block_on(async {
            self.client.get_ok(Method::POST, "/v1/reload").await?;
            let plugins: List<PluginView> =
                self.client.list("/v1/plugins", &[], usize::MAX).await?;
            Ok(plugins
                .items
                .into_iter()
                .find(|known| known.name == plugin)
                .and_then(|known| known.last_swap))
        })
    }

    /// The number of flights of all channels with this result since the start.
    pub(super) fn counted(&self, result: &str) -> Result<u64, Failure> {
        Ok(self
            .channels()?
            .iter()
            .filter_map(|channel| channel.deliveries.get(result))
            .sum())
    }

    /// Waits until the recorder has counted every expected pair, then checks that each target holds
    /// what is expected.
    ///
    /// # Errors
    /// There was no progress for [`PATIENCE`].
    pub(super) fn converge(&self, recorder: &Recorder, progress: &Progress) -> Result<(), Failure> {
        let held = recorder.held();
        let pairs = held.pairs();
        advance(|| held.reached(), pairs, progress).map_err(|reached| {
            let standing = self.standing();
            Failure::Failed(format!("does not converge: {reached} of {pairs} pairs of target and product are as expected; {standing}"))
        })?;
        match held.missing() {
            0 => Ok(()),
            missing => Err(Failure::Failed(format!(
                "{missing} pairs of target and product are not as expected, though they were counted"
            ))),
        }
    }

    /// Waits until no channel has anything in flight or owed. Returns the number of deliveries
    /// since the start.
    ///
    /// # Errors
    /// The backlog has not shrunk for [`PATIENCE`], or Weir does not respond.
    pub(super) fn wait_until_idle(&self) -> Result<u64, Failure> {
        let (mut least, mut since) = (u64::MAX, Instant::now());
        loop {
            let channels = self.channels()?;
            let before = |channel: &ChannelView| {
                let owed = channel.owed;
                channel.in_flight
                    + channel.parked
                    + owed.urgent
                    + owed.normal
                    + owed.bulk
                    + owed.sweep
            };
            let left: u64 = channels.iter().map(before).sum();
            if left == 0 {
                return Ok(channels
                    .iter()
                    .filter_map(|channel| channel.deliveries.get("delivered"))
                    .sum());
            }
            if left < least {
                (least, since) = (left, Instant::now());
            } else if since.elapsed() > PATIENCE {
                return Err(Failure::Failed(format!(
                    "the channels do not become idle: {}",
                    self.standing()
                )));
            }
            std::thread::sleep(POLL_INTERVAL * 5);
        }
    }

    /// Waits likewise, and checks that the recorder's count and Weir's agree: nothing was lost or
    /// counted twice.
    ///
    /// # Errors
    /// As [`Api::wait_until_idle`], or the counts do not agree.
    pub(super) fn settled(&self, recorder: &Recorder) -> Result<(), Failure> {
        let delivered = self.wait_until_idle()?;
        let (got, strange) = (recorder.held().delivered(), recorder.held().strange());
        if strange == 0 && delivered == got {
            return Ok(());
        }
        Err(Failure::Failed(format!(
            "Weir delivered {delivered}; the targets received {got}, and {strange} items that they did not understand"
        )))
    }

    /// Checks a channel's target for drift, and waits until that is done. `watch` gets the entities compared.
    ///
    /// # Errors
    /// It cannot be checked.
    pub(super) fn drift(&self, channel: &str, watch: impl Fn(u64)) -> Result<DriftView, Failure> {
        let ask = |method, route: &str| -> Result<JobView, Failure> {
            let answer = self.runtime.block_on(self.client.json(method, route))?;
            serde_json::from_value(answer).map_err(|error| unreachable("no job", error))
        };
        let mut job = ask(Method::POST, &path(&["v1", "channels", channel, "drift"]))?;
        while job.state == "running" {
            std::thread::sleep(POLL_INTERVAL);
            job = ask(Method::GET, &path(&["v1", "jobs", &job.id]))?;
            watch(job.done);
        }
        let why = job.error.unwrap_or_default();
        job.drift
            .ok_or_else(|| Failure::Failed(format!("the drift check failed: {why}")))
    }

    /// Weir's view of a product, as JSON: its facets and its state on each channel.
    pub(super) fn entity(&self, product: usize) -> String {
        let route = path(&[
            "v1",
            "entities",
            "product",
            &(FIRST_KEY + product as u64).to_string(),
        ]);
        match self.runtime.block_on(self.client.json(Method::GET, &route)) {
            Ok(entity) => entity.to_string(),
            Err(failure) => failure.to_string(),
        }
    }

    /// The state of the channels, as a sentence for error messages.
    fn standing(&self) -> String {
        let Ok(channels) = self.channels() else {
            return "and Weir does not respond".to_owned();
        };
        let describe = |channel: &ChannelView| {
            let ChannelView {
                name,
                state,
                owed,
                in_flight,
                parked,
                refused,
                reason,
                deliveries,
                ..
            } = channel;
            let reason = reason.as_deref().unwrap_or_default();
            format!(
                "{name} {state} {reason} owed {owed:?} in flight {in_flight} parked {parked} refused {refused} ended {deliveries:?}"
            )
        };
        channels.iter().map(describe).collect::<Vec<_>>().join("; ")
    }
}

/// Waits until a figure that only rises has reached its goal.
///
/// # Errors
/// The last value, if it has not risen for [`PATIENCE`].
pub(super) fn advance(now: impl Fn() -> u64, goal: u64, progress: &Progress) -> Result<(), u64> {
    let (mut best, mut since) = (0, Instant::now());
    loop {
        let figure = now();
        progress.mark().at(figure);
        if figure >= goal {
            return Ok(());
        }
        if figure > best {
            (best, since) = (figure, Instant::now());
        } else if since.elapsed() > PATIENCE {
            return Err(figure);
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}
