//! The read-only routes: sources, entities, channels, health, metrics.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_DISPOSITION, CONTENT_TYPE, VARY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::backend::{EntityQuery, STATES, StateQuery};
use super::params::{Query, Segments, entity_id, page_of};
use super::problem::Problem;
use super::state::AppState;
use super::views::{ChannelEntitiesView, ChannelView, Cutter, List, RenderingView, SourceView};
use crate::metrics;

/// `GET /healthz`: the process responds.
pub(super) async fn health() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// `GET /readyz`: events can be taken in, or 503 with the reasons why not. `warnings` says what works,
/// but not as its operator wants it.
pub(super) async fn ready(State(state): State<Arc<AppState>>) -> Result<Json<Value>, Problem> {
    match state.backend.ready() {
        Ok(()) => Ok(Json(match &state.backend.warnings()[..] {
            [] => json!({ "status": "ready" }),
            warnings => json!({ "status": "ready", "warnings": warnings }),
        })),
        Err(reasons) => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "not-ready",
            reasons.join("; "),
        )
        .with("reasons", reasons)),
    }
}

/// `GET /metrics`: OpenMetrics for those who ask for it, the text of Prometheus for all others. The figures
/// are at most a second old.
pub(super) async fn metrics(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = metrics::Format::wanted(accept);
    let snapshot = state.snapshots.get(&*state.backend, Instant::now());
    let text = metrics::render(&snapshot, format)
        .map_err(|error| Problem::internal(format!("metrics: {error}")))?;
    let head = [(CONTENT_TYPE, format.content_type()), (VARY, "accept")];
    Ok((head, text).into_response())
}

/// `GET /v1/sources`
pub(super) async fn sources(
    State(state): State<Arc<AppState>>,
    mut query: Query,
) -> Result<Json<List<SourceView>>, Problem> {
    let page = query.page()?;
    query.end()?;
    Ok(Json(page_of(state.backend.sources(), &page, |source| {
        &source.name
    })))
}

/// `GET /v1/sources/{source}`
pub(super) async fn source(
    State(state): State<Arc<AppState>>,
    Segments(source): Segments<String>,
    query: Query,
) -> Result<Json<SourceView>, Problem> {
    query.end()?;
    state.backend.source(&source).map(Json)
}

/// `GET /v1/entities/{type}?prefix=&owed=`, or with `key=` the one entity.
pub(super) async fn entities(
    State(state): State<Arc<AppState>>,
    Segments(entity_type): Segments<String>,
    mut query: Query,
) -> Result<Response, Problem> {
    if let Some(key) = query.take("key") {
        return one_entity(&state, &entity_type, &key, query).await;
    }
    let page = query.page()?;
    let wanted = EntityQuery {
        entity_type,
        prefix: query.take("prefix").unwrap_or_default(),
        owed: query.take("owed"),
    };
    query.end()?;
    let _turn = state.answers.turn_to_read().await?;
    state
        .backend
        .entities(&wanted, &page)
        .await
        .map(|list| Json(list).into_response())
}

/// `GET /v1/entities/{type}/{key}`, with `sequence=&wait=` its receipt.
pub(super) async fn entity(
    State(state): State<Arc<AppState>>,
    Segments((entity_type, key)): Segments<(String, String)>,
    query: Query,
) -> Result<Response, Problem> {
    one_entity(&state, &entity_type, &key, query).await
}

/// An entity, or with `sequence=` its receipt.
async fn one_entity(
    state: &AppState,
    entity_type: &str,
    key: &str,
    mut query: Query,
) -> Result<Response, Problem> {
    let receipt = query.receipt()?;
    let (is_cut, facet) = (query.flag("cut")?, query.take("facet"));
    query.end()?;
    let id = entity_id(entity_type, key)?;
    let Some(receipt) = receipt else {
        let mut entity = state.backend.entity(&id).await?;
        if let Some(name) = facet {
            let mut facets = entity.facets.into_iter();
            let value = facets.find(|it| it.name == name).and_then(|it| it.value);
            let value = value.ok_or_else(|| Problem::unknown("facet", &name))?;
            return Ok(saved(&format!("{name}.json"), value.get().to_owned()));
        }
        if is_cut {
            let mut cutter = Cutter::default();
            entity.facets.iter_mut().for_each(|it| it.cut(&mut cutter));
        }
        return Ok(Json(entity).into_response());
    };
    let _place = match receipt.wait {
        Duration::ZERO => None,
        _ => Some(state.answers.place_to_wait()?),
    };
    let receipt = state.backend.receipt(&id, receipt).await?;
    Ok(Json(receipt).into_response())
}

/// `GET /v1/channels`
pub(super) async fn channels(
    State(state): State<Arc<AppState>>,
    mut query: Query,
) -> Result<Json<List<ChannelView>>, Problem> {
    let page = query.page()?;
    query.end()?;
    Ok(Json(page_of(state.backend.channels(), &page, |channel| {
        &channel.name
    })))
}

/// `GET /v1/channels/{channel}`
pub(super) async fn channel(
    State(state): State<Arc<AppState>>,
    Segments(channel): Segments<String>,
    query: Query,
) -> Result<Json<ChannelView>, Problem> {
    query.end()?;
    state.backend.channel(&channel).map(Json)
}

/// `GET /v1/channels/{channel}/entities?state=&prefix=`, with `reasons=true` counted by reason.
pub(super) async fn channel_entities(
    State(state): State<Arc<AppState>>,
    Segments(channel): Segments<String>,
    mut query: Query,
) -> Result<Json<ChannelEntitiesView>, Problem> {
    let page = query.page()?;
    let wanted = StateQuery {
        state: query.required("state")?,
        prefix: query.take("prefix").unwrap_or_default(),
        reasons: query.flag("reasons")?,
    };
    query.end()?;
    if !STATES.contains(&&*wanted.state) {
        let known = STATES.map(|state| format!("`{state}`")).join(", ");
        let detail = format!("must be one of {known}, not `{}`", wanted.state);
        return Err(Problem::bad_parameter("state", detail));
    }
    let _turn = state.answers.turn_to_read().await?;
    let found = state
        .backend
        .channel_entities(&channel, &wanted, &page)
        .await;
    found.map(Json)
}

/// `GET /v1/channels/{channel}/preview?key=`, with `body=rendering` or `body=delivered` that body alone.
pub(super) async fn preview(
    State(state): State<Arc<AppState>>,
    Segments(channel): Segments<String>,
    mut query: Query,
) -> Result<Response, Problem> {
    let key = query.take("key").filter(|key| !key.is_empty());
    let (is_cut, body) = (query.flag("cut")?, query.take("body"));
    query.end()?;
    let key = key.ok_or_else(|| Problem::bad_parameter("key", "say which entity to preview"))?;
    let mut preview = state.backend.preview(&channel, &key).await?;
    if let Some(which) = body {
        let body = match &*which {
            "rendering" => preview.rendering,
            "delivered" => preview.delivered,
            _ => {
                let detail = format!("must be `rendering` or `delivered`, not `{which}`");
                return Err(Problem::bad_parameter("body", detail));
            }
        };
        let body = body.and_then(RenderingView::into_bytes);
        let body = body.ok_or_else(|| Problem::unknown("body", &which))?;
        return Ok(saved("rendering", body));
    }
    if is_cut {
        let mut cutter = Cutter::default();
        let bodies = preview.rendering.iter_mut().chain(&mut preview.delivered);
        bodies.for_each(|it| it.cut(&mut cutter));
    }
    Ok(Json(preview).into_response())
}

/// What is saved as a file and never shown: it is from others, and a browser must not run it.
pub(super) fn saved(name: &str, body: impl Into<Body>) -> Response {
    // Only what every system takes in the name of a file.
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let name: String = name
        .chars()
        .map(|c| if plain(c) { c } else { '_' })
        .collect();
    let head = [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (
            CONTENT_DISPOSITION,
            format!("attachment; filename=\"{name}\""),
        ),
    ];
    (head, body.into()).into_response()
}
