//! A running Weir as an operator sees it, over HTTP: how its channels stand, and waiting for them
//! with an end.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::http::Method;

use super::events::FIRST_KEY;
use super::progress::Progress;
use super::recorder::Recorder;
use super::unreachable;
use crate::cli::Failure;
use crate::cli::client::{Client, path};
use crate::server::views::{ChannelView, List, PluginView, SwapView};

/// When nothing has arrived for so long, it will not.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How often something that is waited for is looked at; asking over HTTP is dearer, so a fifth as
/// often.
const LOOK: Duration = Duration::from_millis(100);

/// A running Weir, this one or a child.
pub(super) struct Api {
    runtime: tokio::runtime::Runtime,
    client: Client,
}

impl Api {
    /// The Weir that listens there.
    ///
    /// # Errors
    /// When no request could ever be made.
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

    /// Whether it says that it is ready.
    pub(super) fn ready(&self) -> bool {
        self.runtime
            .block_on(self.client.ask(Method::GET, "/readyz"))
            .is_ok()
    }

    /// How its channels stand.
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
            .block_on(self.client.ask(Method::POST, &route))
            .map(drop)
    }

    /// Has it read its configuration again. Answers how the plugin with that name came into force.
    ///
    /// # Errors
    /// When something was refused.
    pub(super) fn swapped(&self, plugin: &str) -> Result<Option<SwapView>, Failure> {
        self.runtime.block_on(async {
            self.client.ask(Method::POST, "/v1/reload").await?;
            let plugins: List<PluginView> =
                self.client.list("/v1/plugins", &[], usize::MAX).await?;
            Ok(plugins
                .items
                .into_iter()
                .find(|known| known.name == plugin)
                .and_then(|known| known.last_swap))
        })
    }

    /// How many flights of all channels have ended that way since the start.
    pub(super) fn counted(&self, way: &str) -> Result<u64, Failure> {
        Ok(self
            .channels()?
            .iter()
            .filter_map(|channel| channel.deliveries.get(way))
            .sum())
    }

    /// Waits until each of the recorder's targets holds what is expected, and looks at each of
    /// them.
    ///
    /// # Errors
    /// When nothing has come nearer for [`PATIENCE`].
    pub(super) fn converge(&self, recorder: &Recorder, progress: &Progress) -> Result<(), Failure> {
        let held = recorder.held();
        let pairs = held.pairs();
        advance(|| held.reached(), pairs, progress).map_err(|reached| {
            let standing = self.standing();
            Failure::No(format!("does not converge: {reached} of {pairs} pairs of target and product are as expected; {standing}"))
        })?;
        match held.missing() {
            0 => Ok(()),
            missing => Err(Failure::No(format!(
                "{missing} pairs of target and product are not as expected, though they were counted"
            ))),
        }
    }

    /// Waits until no channel has anything in flight or before it. Answers how many they have
    /// delivered since the start.
    ///
    /// # Errors
    /// When less and less is before them no more for [`PATIENCE`], or Weir cannot be asked.
    pub(super) fn rest(&self) -> Result<u64, Failure> {
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
                return Err(Failure::No(format!(
                    "the channels do not come to rest: {}",
                    self.standing()
                )));
            }
            std::thread::sleep(LOOK * 5);
        }
    }

    /// The same, and checks that the recorder's count and Weir's agree: nothing was lost on the way
    /// or counted twice.
    ///
    /// # Errors
    /// As [`Api::rest`], or when they do not agree.
    pub(super) fn settled(&self, recorder: &Recorder) -> Result<(), Failure> {
        let told = self.rest()?;
        let (got, strange) = (recorder.held().delivered(), recorder.held().strange());
        if strange == 0 && told == got {
            return Ok(());
        }
        Err(Failure::No(format!(
            "Weir delivered {told}; the targets got {got}, and {strange} that they did not understand"
        )))
    }

    /// How it sees a product: its facets and where it stands on each channel, as it answers.
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

    /// How the channels stand, in a sentence for whoever looks for what went wrong.
    fn standing(&self) -> String {
        let Ok(channels) = self.channels() else {
            return "and Weir does not answer".to_owned();
        };
        let of = |channel: &ChannelView| {
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
        channels.iter().map(of).collect::<Vec<_>>().join("; ")
    }
}

/// Waits until a figure that only rises is there.
///
/// # Errors
/// Where it stayed, if it has not risen for [`PATIENCE`].
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
        std::thread::sleep(LOOK);
    }
}
