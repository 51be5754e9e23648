//! The route that takes events in.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use super::Door;
use super::backend::IngestRequest;
use super::body::receive;
use super::params::{Query, Segments};
use super::problem::Problem;
use crate::failpoint;
use crate::model::Lane;

/// `POST /v1/sources/{source}/events[?lane=]`: answered when it is durable, counted by its status.
pub(super) async fn take(
    State(door): State<Arc<Door>>,
    Segments(source): Segments<String>,
    query: Query,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    // The unknown source is not counted: its name is the client's, and would be a label.
    let limit = door
        .backend
        .body_bytes_max(&source)
        .ok_or_else(|| Problem::unknown("source", &source))?;
    let answer = take_known(&door, &source, limit, query, headers, body).await;
    let status = answer
        .as_ref()
        .map_or_else(Problem::status, Response::status);
    door.backend.answered(&source, status);
    answer
}

async fn take_known(
    door: &Door,
    source: &str,
    limit: u64,
    mut query: Query,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let lane = query.take("lane").map(|name| lane(&name)).transpose()?;
    query.end()?;
    let limits = &door.limits;
    let received = receive(
        body,
        limit.min(limits.body_bytes_max),
        limits.body_time,
        &door.bodies,
    )
    .await?;
    let request = IngestRequest {
        headers,
        body: received.bytes.clone(),
        lane,
    };
    let accepted = door.backend.ingest(source, request).await?;
    failpoint::pass("ingest.answering");
    Ok((StatusCode::ACCEPTED, axum::Json(accepted)).into_response())
}

fn lane(name: &str) -> Result<Lane, Problem> {
    Lane::parse(name).ok_or_else(|| {
        let lanes = Lane::ALL.map(Lane::name).join("`, `");
        Problem::bad_parameter("lane", format!("must be one of `{lanes}`, not `{name}`"))
    })
}
