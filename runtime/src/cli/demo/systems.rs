//! A simulation of the three systems. Each sends its events over HTTP as a client of its own, one
//! request after the other, and records the facts that it has sent. It includes what real systems
//! do: noise, repeated events, late events, and bursts on a few products.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, Method};
use fastrand::Rng;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::events;
use super::facts::{Content, Facts, LOCATIONS, PRICE_LISTS, amount};
use crate::cli::Failure;
use crate::cli::client::Client;
use crate::server::views::Accepted;
use crate::sync;

/// Interval at which each system sends.
const ERP_EVERY: Duration = Duration::from_millis(200);
const PIM_EVERY: Duration = Duration::from_millis(300);
const OMS_EVERY: Duration = Duration::from_millis(10);
/// Delay before a sender retries a request that was not accepted, and the number of attempts.
const AGAIN_AFTER: Duration = Duration::from_millis(250);
const TRIES: usize = 100;
/// Age of a late event, in milliseconds.
const LATE: i64 = 3_600_000;

/// The results that Weir reported to all systems.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(super) struct Counts {
    pub(super) sent: u64,
    pub(super) filtered: u64,
    pub(super) quarantined: u64,
    pub(super) repeated: u64,
    pub(super) changes: u64,
    pub(super) unchanged: u64,
    pub(super) stale: u64,
    /// Requests that were sent again.
    pub(super) retried: u64,
}

/// State that the systems share.
pub(super) struct Systems {
    pub(super) facts: Mutex<Facts>,
    counts: Mutex<Counts>,
    keys: Vec<String>,
    url: String,
}

/// One system at work.
struct Sender {
    systems: Arc<Systems>,
    source: &'static str,
    client: Client,
    rng: Rng,
    /// The time of the last event, in milliseconds since 1970; it rises with each event.
    clock: i64,
}

impl Systems {
    pub(super) fn new(url: &str) -> Arc<Systems> {
        let facts = Facts::new();
        Arc::new(Systems {
            keys: facts.keys(),
            facts: Mutex::new(facts),
            counts: Mutex::default(),
            url: url.to_owned(),
        })
    }

    pub(super) fn facts(&self) -> MutexGuard<'_, Facts> {
        sync::lock(&self.facts)
    }

    pub(super) fn counts(&self) -> Counts {
        *sync::lock(&self.counts)
    }

    /// Sends events until `stop` is cancelled; returns when the last request has its response.
    ///
    /// # Errors
    /// A request was not accepted in any attempt, so that the facts differ from what Weir has
    /// received.
    pub(super) async fn run(self: Arc<Systems>, stop: CancellationToken) -> Result<(), Failure> {
        let (mut erp, mut pim, mut oms) = (
            self.sender("erp", 1)?,
            self.sender("pim", 2)?,
            self.sender("oms", 3)?,
        );
        tokio::try_join!(erp.erp(&stop), pim.pim(&stop), oms.oms(&stop)).map(|_| ())
    }

    fn sender(self: &Arc<Systems>, source: &'static str, seed: u64) -> Result<Sender, Failure> {
        let client = Client::at(&self.url, None)?;
        Ok(Sender {
            systems: self.clone(),
            source,
            client,
            rng: Rng::with_seed(seed),
            clock: 0,
        })
    }
}

impl Sender {
    /// Sends all materials and prices once, then single prices, and every second a burst on a few
    /// products.
    async fn erp(&mut self, stop: &CancellationToken) -> Result<(), Failure> {
        let keys = self.systems.keys.clone();
        let texts: Vec<_> = keys
            .iter()
            .map(|key| {
                (
                    key,
                    self.systems.facts().content(key).short_text().to_owned(),
                )
            })
            .collect();
        let materials: Vec<_> = texts
            .iter()
            .map(|(key, text)| self.idoc("MATMAS", &events::material(key, text)))
            .collect();
        self.send("application/xml", events::document(&materials), &[])
            .await?;
        let prices: Vec<_> = keys
            .iter()
            .map(|key| self.price_of(key, &PRICE_LISTS))
            .collect();
        self.send("application/xml", events::document(&prices), &[])
            .await?;
        let mut beat = 0_u64;
        while pause(ERP_EVERY, stop).await {
            beat += 1;
            let mut idocs = Vec::new();
            let favourites = [self.some_key(), self.some_key(), self.some_key()];
            for at in 0..if beat.is_multiple_of(5) { 120 } else { 16 } {
                let key = if beat.is_multiple_of(5) {
                    favourites[at % 3].clone()
                } else {
                    self.some_key()
                };
                let list = PRICE_LISTS[self.rng.usize(..PRICE_LISTS.len())];
                idocs.push(self.price_of(&key, &[list]));
            }
            // Noise: a price from a sandbox that was copied from production, and status reports on
            // earlier IDocs.
            idocs.push(events::idoc(
                "COND_A",
                "SBXCLNT200",
                self.clock,
                &events::condition("4711", "de-retail", Some("0.01")),
            ));
            idocs.push(events::idoc(
                "STATUS",
                "PRDCLNT100",
                self.clock,
                "<E1STATS SEGMENT=\"1\"><STATUS>53</STATUS></E1STATS>",
            ));
            self.send("application/xml", events::document(&idocs), &[])
                .await?;
        }
        Ok(())
    }

    /// Sends the whole catalogue once, then editors' changes; now and then it sends a batch twice.
    async fn pim(&mut self, stop: &CancellationToken) -> Result<(), Failure> {
        let keys = self.systems.keys.clone();
        self.systems.facts().introduce();
        for keys in keys.chunks(100) {
            let batch: Vec<Value> = keys.iter().map(|key| self.product(key, None)).collect();
            self.send_batch(&batch).await?;
        }
        while pause(PIM_EVERY, stop).await {
            let mut batch: Vec<Value> = Vec::new();
            for _ in 0..self.rng.usize(4..16) {
                let key = self.some_key();
                let before = self.systems.facts().content(&key);
                let now = match self.rng.usize(..20) {
                    0 => Content {
                        enabled: !before.enabled,
                        ..before
                    },
                    1 => Content {
                        in_french: !before.in_french,
                        ..before
                    },
                    2..4 => before,
                    _ => Content {
                        edition: before.edition + 1,
                        ..before
                    },
                };
                batch.push(self.product(&key, Some(now)));
            }
            batch.push(events::category(self.tick()));
            self.send_batch(&batch).await?;
            if self.rng.usize(..5) == 0 {
                self.send_batch(&batch).await?;
            }
        }
        Ok(())
    }

    /// Sends one webhook for each stock level. Some products sell out and come back; some webhooks
    /// are late, and some are misrouted.
    async fn oms(&mut self, stop: &CancellationToken) -> Result<(), Failure> {
        for (at, key) in self.systems.keys.clone().iter().enumerate() {
            let location = LOCATIONS[at % 2];
            self.level(key, location, 20).await?;
        }
        while pause(OMS_EVERY, stop).await {
            let (key, location) = (self.some_key(), LOCATIONS[self.rng.usize(..2)]);
            match self.rng.usize(..100) {
                0..8 => {
                    self.level(&key, LOCATIONS[0], 0).await?;
                    self.level(&key, LOCATIONS[1], 0).await?;
                }
                8 => {
                    // An hour late and with another number: Weir already has a newer version, so
                    // this one is dropped as stale.
                    self.level(&key, location, 20).await?;
                    let late = events::level(&key, location, 7, self.clock - LATE);
                    self.send(
                        "application/json",
                        late.to_string(),
                        &[("x-shopify-topic", "inventory_levels/update")],
                    )
                    .await?;
                }
                9 if self.rng.usize(..10) == 0 => {
                    let order = events::order(self.tick());
                    self.send(
                        "application/json",
                        order.to_string(),
                        &[("x-shopify-topic", "orders/create")],
                    )
                    .await?;
                }
                _ => {
                    let available = self.rng.i64(0..40);
                    self.level(&key, location, available).await?;
                }
            }
        }
        Ok(())
    }

    async fn level(
        &mut self,
        key: &str,
        location: &'static str,
        available: i64,
    ) -> Result<(), Failure> {
        self.systems.facts().set_stock(key, location, available);
        let level = events::level(key, location, available, self.tick());
        self.send(
            "application/json",
            level.to_string(),
            &[("x-shopify-topic", "inventory_levels/update")],
        )
        .await
    }

    /// An IDoc with a new price for each of these lists, or rarely with the deletion of one.
    fn price_of(&mut self, key: &str, lists: &[&'static str]) -> String {
        let conditions = lists.iter().map(|list| {
            let cents = (lists.len() > 1 || self.rng.usize(..50) > 0)
                .then(|| self.rng.u32(5..500) * 100 + 90);
            self.systems.facts().set_price(key, list, cents);
            events::condition(key, list, cents.map(amount).as_deref())
        });
        let conditions: String = conditions.collect();
        self.idoc("COND_A", &conditions)
    }

    fn idoc(&mut self, message: &str, segments: &str) -> String {
        let serial = self.tick();
        events::idoc(message, "PRDCLNT100", serial, segments)
    }

    fn product(&mut self, key: &str, now: Option<Content>) -> Value {
        let at = self.tick();
        let mut facts = self.systems.facts();
        if let Some(content) = now {
            facts.set_content(key, content);
        }
        events::cloud_event(
            "product.updated",
            at,
            events::product(key, &facts.content(key), at),
        )
    }

    async fn send_batch(&mut self, batch: &[Value]) -> Result<(), Failure> {
        let body = serde_json::to_string(batch).unwrap_or_default();
        self.send("application/cloudevents-batch+json", body, &[])
            .await
    }

    /// Sends a request until it is accepted: at least once, as real systems do.
    async fn send(
        &mut self,
        content_type: &'static str,
        body: String,
        headers: &[(&'static str, &'static str)],
    ) -> Result<(), Failure> {
        let body = bytes::Bytes::from(body);
        let path = format!("/v1/sources/{}/events", self.source);
        let mut all = vec![(CONTENT_TYPE, HeaderValue::from_static(content_type))];
        all.extend(headers.iter().map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        }));
        let mut said = String::new();
        for _ in 0..TRIES {
            match self
                .client
                .request(Method::POST, &path, all.clone(), body.clone())
                .await
            {
                Ok(response) if response.status.is_success() => {
                    self.note(&response.read()?);
                    return Ok(());
                }
                Ok(response) => said = response.problem(),
                Err(failure) => said = failure.to_string(),
            }
            sync::lock(&self.systems.counts).retried += 1;
            tokio::time::sleep(AGAIN_AFTER).await;
        }
        Err(Failure::Failed(format!(
            "the simulated {} could not send an event: {said}",
            self.source
        )))
    }

    fn note(&self, accepted: &Accepted) {
        let mut counts = sync::lock(&self.systems.counts);
        let (events, changes) = (accepted.events, accepted.changes);
        counts.sent += events.accepted + events.filtered + events.quarantined + events.repeated;
        counts.filtered += events.filtered;
        counts.quarantined += events.quarantined;
        counts.repeated += events.repeated;
        counts.changes += changes.committed;
        counts.unchanged += changes.unchanged;
        counts.stale += changes.stale;
    }

    /// A product drawn at random; some are drawn far more often than others.
    fn some_key(&mut self) -> String {
        let at = self.rng.f64().powi(3) * self.systems.keys.len() as f64;
        self.systems.keys[(at as usize).min(self.systems.keys.len() - 1)].clone()
    }

    /// The time of the next event: now, or just after the previous event.
    fn tick(&mut self) -> i64 {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as i64);
        self.clock = now.max(self.clock + 1);
        self.clock
    }
}

/// Waits. Returns false if `stop` was cancelled.
async fn pause(time: Duration, stop: &CancellationToken) -> bool {
    tokio::select! {
        biased;
        () = stop.cancelled() => false,
        () = tokio::time::sleep(time) => true,
    }
}
