//! Samples from a running Weir: a quarantined event by its sequence, or an entity as it is now.

use std::sync::Arc;

use axum::http::Method;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::client::{Client, path, with_query};
use super::super::{Failure, block_on};
use crate::author::harness::Input;
use crate::model::{EntityId, Event, Payload, View};
use crate::server::views::{EntityView, EventView, List, QuarantineView, SourceView};

/// How a quarantined event is named: `quarantine:4711`.
const QUARANTINE: &str = "quarantine:";

/// Fetches what `names` name, all events or all entities.
///
/// # Errors
/// When Weir does not answer or does not have it, and when events and entities are mixed.
pub(super) fn fetch(client: &Client, names: &[String]) -> Result<Input, Failure> {
    let (mut events, mut views) = (Vec::new(), Vec::new());
    block_on(async {
        for name in names {
            match name.strip_prefix(QUARANTINE) {
                Some(sequence) => events.push(quarantined(client, sequence).await?),
                None => views.push(entity(client, name).await?),
            }
        }
        Ok(true)
    })?;
    match (events.is_empty(), views.is_empty()) {
        (false, false) => Err(Failure::Usage(
            "--from names events and entities; a plugin takes either".to_owned(),
        )),
        (false, true) => Ok(Input::Events(events)),
        (true, _) => Ok(Input::Entities(views)),
    }
}

/// The quarantined event with this sequence. Sequences are unique, so any source may have it.
async fn quarantined(client: &Client, sequence: &str) -> Result<Event, Failure> {
    let number: u64 = sequence.parse().map_err(|_| {
        let what =
            "is not a sequence, such as quarantine:4711; `weir quarantine list SOURCE` shows them";
        Failure::Usage(format!("`{QUARANTINE}{sequence}` {what}"))
    })?;
    let before = number.saturating_sub(1).to_string();
    let sources: List<SourceView> = client
        .list(&path(&["v1", "sources"]), &[], usize::MAX)
        .await?;
    for source in &sources.items {
        let events = path(&["v1", "sources", &source.name, "quarantine"]);
        let query = [("limit", Some("1")), ("after", Some(before.as_str()))];
        let page: List<QuarantineView> = client
            .get_ok(Method::GET, &with_query(&events, &query))
            .await?
            .read()?;
        let found = page.items.into_iter().find(|kept| kept.sequence == number);
        if let Some(kept) = found {
            return event(kept.event);
        }
    }
    Err(Failure::Failed(format!(
        "no source has a quarantined event with the sequence {number}"
    )))
}

/// The event as it was given to the plugins of its source.
fn event(view: EventView) -> Result<Event, Failure> {
    let data = match (view.data, view.data_base64) {
        (Some(text), _) => Payload::Text(text),
        (None, Some(encoded)) => {
            let bytes = STANDARD.decode(encoded).map_err(|error| {
                Failure::Failed(format!("the event's data is not base64: {error}"))
            })?;
            Payload::Binary(bytes)
        }
        (None, None) => Payload::Text(String::new()),
    };
    let mut event = Event::plain(view.content_type.as_deref(), data);
    event.id = view.id;
    event.origin = view.source;
    event.event_type = view.event_type;
    event.subject = view.subject;
    event.time = view.time;
    event.attributes = view.attributes.into_iter().collect();
    Ok(event)
}

/// An entity with all its facets.
async fn entity(client: &Client, name: &str) -> Result<View, Failure> {
    let Some((entity_type, key)) = name.split_once('/') else {
        return Err(Failure::Usage(format!(
            "`{name}` is neither {QUARANTINE}SEQUENCE nor TYPE/KEY, such as product/4711"
        )));
    };
    let entity: EntityView = client
        .get_ok(Method::GET, &path(&["v1", "entities", entity_type, key]))
        .await?
        .read()?;
    let facets = entity
        .facets
        .into_iter()
        .filter_map(|facet| Some((facet.name.into(), Arc::from(facet.value?.get()))))
        .collect();
    Ok(View {
        id: EntityId {
            entity_type: entity.entity_type.into(),
            key: entity.key.into(),
        },
        facets,
    })
}
