//! The routes of jobs: what takes long is begun by one request, which answers at once, and asked for by
//! others.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::access::Operator;
use super::backend::DriftRequest;
use super::params::{Query, Segments, entity_id, page_of};
use super::problem::Problem;
use super::state::AppState;
use super::views::{JobView, List};

type Shared = State<Arc<AppState>>;
type Name = Segments<String>;

/// `POST /v1/channels/{channel}/drift?sample=&repair=`: begins a drift check. 202 with its job.
pub(super) async fn begin_drift(
    State(state): Shared,
    operator: Operator,
    Segments(channel): Name,
    mut query: Query,
) -> Result<Response, Problem> {
    let request = DriftRequest {
        sample: query.number("sample", 1..=u64::MAX)?,
        repair: query.flag("repair")?,
    };
    query.end()?;
    let job = state.backend.begin_drift(&channel, request);
    let job = operator.did("drift", &format!("channel {channel}"), job)?;
    Ok(begun(&job))
}

/// 202: a job that was begun, and where to ask for it.
pub(super) fn begun(job: &JobView) -> Response {
    let mut response = (StatusCode::ACCEPTED, Json(job)).into_response();
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/jobs/{}", job.id)) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// `GET /v1/jobs`: those that are running, and the last ones that ended.
pub(super) async fn jobs(
    State(state): Shared,
    mut query: Query,
) -> Result<Json<List<JobView>>, Problem> {
    let page = query.page()?;
    query.end()?;
    let jobs = state.backend.jobs();
    Ok(Json(page_of(jobs, &page, |job| &job.id)))
}

/// `GET /v1/jobs/{job}`
pub(super) async fn job(
    State(state): Shared,
    Segments(job): Name,
    query: Query,
) -> Result<Json<JobView>, Problem> {
    query.end()?;
    state.backend.job(&job).map(Json)
}

/// `DELETE /v1/jobs/{job}`: cancels it; one that has ended stays as it is.
pub(super) async fn cancel(
    State(state): Shared,
    operator: Operator,
    Segments(job): Name,
    query: Query,
) -> Result<Json<JobView>, Problem> {
    query.end()?;
    let cancelled = state.backend.cancel_job(&job);
    operator
        .did("cancel", &format!("job {job}"), cancelled)
        .map(Json)
}

/// `POST /v1/channels/{channel}/resend?type=&key=`: sends one entity once more.
pub(super) async fn resend(
    State(state): Shared,
    operator: Operator,
    Segments(channel): Name,
    mut query: Query,
) -> Result<Json<Value>, Problem> {
    let entity_type = query.required("type")?;
    let key = query.required("key")?;
    query.end()?;
    let id = entity_id(&entity_type, &key)?;
    let resent = state.backend.resend(&channel, &id).await;
    operator.did("resend", &format!("{id} to channel {channel}"), resent)?;
    Ok(Json(json!({ "resent": 1 })))
}
