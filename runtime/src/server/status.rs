//! The routes that only look: sources, entities, channels, plugins, configuration, health, metrics.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::Door;
use super::backend::EntityQuery;
use super::params::{Query, Segments, entity_id, page_of};
use super::problem::Problem;
use super::views::{
    ChannelView, ConfigView, EntityView, List, PluginView, PreviewView, SourceView,
};
use crate::metrics;

/// `GET /healthz`: the process answers.
pub(super) async fn health() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// `GET /readyz`: events can be taken in, or 503 and what stands in the way.
pub(super) async fn ready(State(door): State<Arc<Door>>) -> Result<Json<Value>, Problem> {
    match door.backend.ready() {
        Ok(()) => Ok(Json(json!({ "status": "ready" }))),
        Err(reasons) => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "not-ready",
            reasons.join("; "),
        )
        .with("reasons", reasons)),
    }
}

/// `GET /metrics`
pub(super) async fn metrics(State(door): State<Arc<Door>>) -> Result<Response, Problem> {
    let text = metrics::render(door.backend.snapshot())
        .map_err(|error| Problem::internal(format!("metrics: {error}")))?;
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

/// `GET /v1/sources`
pub(super) async fn sources(
    State(door): State<Arc<Door>>,
    mut query: Query,
) -> Result<Json<List<SourceView>>, Problem> {
    let page = query.page()?;
    query.end()?;
    Ok(Json(page_of(door.backend.sources(), &page, |source| {
        &source.name
    })))
}

/// `GET /v1/sources/{source}`
pub(super) async fn source(
    State(door): State<Arc<Door>>,
    Segments(source): Segments<String>,
    query: Query,
) -> Result<Json<SourceView>, Problem> {
    query.end()?;
    door.backend.source(&source).map(Json)
}

/// `GET /v1/entities/{type}?prefix=&owed=`, or with `key=` the one entity.
pub(super) async fn entities(
    State(door): State<Arc<Door>>,
    Segments(entity_type): Segments<String>,
    mut query: Query,
) -> Result<Response, Problem> {
    if let Some(key) = query.take("key") {
        query.end()?;
        return one_entity(&door, &entity_type, &key)
            .await
            .map(IntoResponse::into_response);
    }
    let page = query.page()?;
    let wanted = EntityQuery {
        entity_type,
        prefix: query.take("prefix").unwrap_or_default(),
        owed: query.take("owed"),
    };
    query.end()?;
    door.backend
        .entities(&wanted, &page)
        .await
        .map(|list| Json(list).into_response())
}

/// `GET /v1/entities/{type}/{key}`
pub(super) async fn entity(
    State(door): State<Arc<Door>>,
    Segments((entity_type, key)): Segments<(String, String)>,
    query: Query,
) -> Result<Json<EntityView>, Problem> {
    query.end()?;
    one_entity(&door, &entity_type, &key).await
}

async fn one_entity(
    door: &Door,
    entity_type: &str,
    key: &str,
) -> Result<Json<EntityView>, Problem> {
    let id = entity_id(entity_type, key)?;
    door.backend.entity(&id).await.map(Json)
}

/// `GET /v1/channels`
pub(super) async fn channels(
    State(door): State<Arc<Door>>,
    mut query: Query,
) -> Result<Json<List<ChannelView>>, Problem> {
    let page = query.page()?;
    query.end()?;
    Ok(Json(page_of(door.backend.channels(), &page, |channel| {
        &channel.name
    })))
}

/// `GET /v1/channels/{channel}`
pub(super) async fn channel(
    State(door): State<Arc<Door>>,
    Segments(channel): Segments<String>,
    query: Query,
) -> Result<Json<ChannelView>, Problem> {
    query.end()?;
    door.backend.channel(&channel).map(Json)
}

/// `GET /v1/channels/{channel}/preview?key=`
pub(super) async fn preview(
    State(door): State<Arc<Door>>,
    Segments(channel): Segments<String>,
    mut query: Query,
) -> Result<Json<PreviewView>, Problem> {
    let key = query.take("key").filter(|key| !key.is_empty());
    query.end()?;
    let key = key.ok_or_else(|| Problem::bad_parameter("key", "say which entity to preview"))?;
    door.backend.preview(&channel, &key).await.map(Json)
}

/// `GET /v1/plugins`
pub(super) async fn plugins(
    State(door): State<Arc<Door>>,
    mut query: Query,
) -> Result<Json<List<PluginView>>, Problem> {
    let page = query.page()?;
    query.end()?;
    Ok(Json(page_of(door.backend.plugins(), &page, |plugin| {
        &plugin.name
    })))
}

/// `GET /v1/config`
pub(super) async fn config(
    State(door): State<Arc<Door>>,
    query: Query,
) -> Result<Json<ConfigView>, Problem> {
    query.end()?;
    Ok(Json(door.backend.config()))
}
