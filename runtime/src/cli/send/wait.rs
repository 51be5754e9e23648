//! Waits until every channel has settled the entities that were sent, and says who has not and why.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::super::Failure;
use super::super::client::{Client, path, with_query};
use super::super::table::plain;
use crate::config::scalar;
use crate::server::views::{Accepted, ReceiptView};

/// The longest wait of one request.
const WAIT_MAX: Duration = Duration::from_secs(50);
/// How long until it asks again, if it was answered early: too many wait, or Weir stops.
const PAUSE: Duration = Duration::from_secs(1);

/// The entities of all requests, each with its highest sequence.
#[derive(Default)]
pub(super) struct Sent {
    entities: BTreeMap<(String, String), u64>,
    /// A response did not name all of its entities.
    more: bool,
}

impl Sent {
    pub(super) fn add(&mut self, accepted: Accepted) {
        self.more |= accepted.more_entities;
        for entity in accepted.entities {
            let key = (entity.entity_type, entity.key);
            let sequence = self.entities.entry(key).or_default();
            *sequence = entity.sequence.max(*sequence);
        }
    }

    /// Waits for all of them together.
    pub(super) async fn settle(self, client: &Client, most: Duration) -> Result<Receipts, Failure> {
        let deadline = Instant::now() + most;
        let mut receipts = Vec::with_capacity(self.entities.len());
        for ((entity_type, key), sequence) in self.entities {
            let path = path(&["v1", "entities", &entity_type, &key]);
            receipts.extend(receipt(client, &path, sequence, deadline).await?);
        }
        Ok(Receipts {
            receipts,
            more: self.more,
        })
    }
}

/// The receipt of one entity; `None` if it has been forgotten since: then it is gone from every channel.
async fn receipt(
    client: &Client,
    path: &str,
    sequence: u64,
    deadline: Instant,
) -> Result<Option<ReceiptView>, Failure> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let wait = scalar::duration_text(left.min(WAIT_MAX));
        let query = [
            ("sequence", Some(sequence.to_string())),
            ("wait", Some(wait).filter(|_| !left.is_zero())),
        ];
        let query = query
            .each_ref()
            .map(|(name, value)| (*name, value.as_deref()));
        let began = Instant::now();
        let response = client.ask(Method::GET, &with_query(path, &query)).await?;
        match response.status {
            StatusCode::NOT_FOUND if response.is_unknown("entity") => return Ok(None),
            StatusCode::SERVICE_UNAVAILABLE if !left.is_zero() => {}
            status if status.is_success() => {
                let receipt: ReceiptView = response.read()?;
                if receipt.settled || left.is_zero() {
                    return Ok(Some(receipt));
                }
            }
            _ => return Err(Failure::Failed(response.problem())),
        }
        if began.elapsed() < left.min(WAIT_MAX) {
            sleep(PAUSE.min(left)).await;
        }
    }
}

/// The receipts of everything that was sent.
pub(super) struct Receipts {
    receipts: Vec<ReceiptView>,
    more: bool,
}

impl Receipts {
    pub(super) fn all_settled(&self) -> bool {
        !self.more && self.receipts.iter().all(|receipt| receipt.settled)
    }

    /// A line for each entity and channel that is not settled, and a last one for all of them.
    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        for receipt in &self.receipts {
            for channel in receipt.channels.iter().filter(|channel| !channel.settled) {
                let reason = channel.reason.as_deref().unwrap_or(&channel.state);
                let entity = format!("{}/{}", receipt.entity_type, receipt.key);
                let words = [&entity, &channel.channel, reason].map(plain).join(": ");
                text.push_str(&format!("not settled: {words}\n"));
            }
        }
        let settled = self.receipts.iter().filter(|receipt| receipt.settled);
        let (settled, all) = (settled.count(), self.receipts.len());
        text.push_str(&format!("settled: {settled} of {all} entities\n"));
        if self.more {
            text.push_str(
                "the events name more entities than a response lists; send fewer events at once\n",
            );
        }
        text
    }

    pub(super) fn to_json(&self, responses: &[Value]) -> Value {
        json!({
            "responses": responses,
            "receipts": self.receipts,
            "more_entities": self.more,
            "settled": self.all_settled(),
        })
    }
}
