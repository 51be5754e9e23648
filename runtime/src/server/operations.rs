//! The routes of the operator: what was refused or quarantined, channels, reload. Each is
//! idempotent by nature.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::Door;
use super::backend::{Operation, QuarantineFilter, RefusedFilter, Settle, Settled};
use super::params::{Query, Segments};
use super::problem::Problem;
use super::views::{ChannelView, List, QuarantineView, RefusedView, ReloadView};

type Shared = State<Arc<Door>>;
type Name = Segments<String>;

/// `POST /v1/channels/{channel}/pause`
pub(super) async fn pause(
    door: Shared,
    channel: Name,
    query: Query,
) -> Result<Json<ChannelView>, Problem> {
    operate(door, channel, query, Operation::Pause).await
}

/// `POST /v1/channels/{channel}/resume`
pub(super) async fn resume(
    door: Shared,
    channel: Name,
    query: Query,
) -> Result<Json<ChannelView>, Problem> {
    operate(door, channel, query, Operation::Resume).await
}

/// `POST /v1/channels/{channel}/resync`
pub(super) async fn resync(
    door: Shared,
    channel: Name,
    query: Query,
) -> Result<Json<ChannelView>, Problem> {
    operate(door, channel, query, Operation::Resync).await
}

/// `POST /v1/channels/{channel}/rerender`
pub(super) async fn rerender(
    door: Shared,
    channel: Name,
    query: Query,
) -> Result<Json<ChannelView>, Problem> {
    operate(door, channel, query, Operation::Rerender).await
}

/// `POST /v1/channels/{channel}/confirm`
pub(super) async fn confirm(
    door: Shared,
    channel: Name,
    query: Query,
) -> Result<Json<ChannelView>, Problem> {
    operate(door, channel, query, Operation::Confirm).await
}

/// Does it and shows the channel as it is then.
async fn operate(
    State(door): Shared,
    Segments(channel): Name,
    query: Query,
    operation: Operation,
) -> Result<Json<ChannelView>, Problem> {
    query.end()?;
    door.backend.operate(&channel, operation).await?;
    door.backend.channel(&channel).map(Json)
}

/// `DELETE /v1/channels/{channel}`: forgets a retired one.
pub(super) async fn forget(
    State(door): Shared,
    Segments(channel): Name,
    query: Query,
) -> Result<Json<Value>, Problem> {
    query.end()?;
    door.backend.operate(&channel, Operation::Forget).await?;
    Ok(Json(json!({ "forgotten": channel })))
}

/// `GET /v1/channels/{channel}/refused?key=&code=`
pub(super) async fn refused(
    State(door): Shared,
    Segments(channel): Name,
    mut query: Query,
) -> Result<Json<List<RefusedView>>, Problem> {
    let page = query.page()?;
    let filter = query.refused_filter();
    query.end()?;
    door.backend
        .refused(&channel, &filter, &page)
        .await
        .map(Json)
}

/// `POST /v1/channels/{channel}/refused/redrive?key=&code=`, or `?all=true`
pub(super) async fn redrive_refused(
    door: Shared,
    channel: Name,
    query: Query,
) -> Result<Json<Value>, Problem> {
    settle_refused(door, channel, query, Settle::Redrive).await
}

/// `DELETE /v1/channels/{channel}/refused?key=&code=`, or `?all=true`
pub(super) async fn drop_refused(
    door: Shared,
    channel: Name,
    query: Query,
) -> Result<Json<Value>, Problem> {
    settle_refused(door, channel, query, Settle::Drop).await
}

async fn settle_refused(
    State(door): Shared,
    Segments(channel): Name,
    mut query: Query,
    settle: Settle,
) -> Result<Json<Value>, Problem> {
    let filter = query.refused_filter();
    query.means_it(filter != RefusedFilter::default())?;
    query.end()?;
    door.backend
        .settle_refused(&channel, &filter, settle)
        .await
        .map(|count| settled(settle, count))
}

/// `GET /v1/sources/{source}/quarantine?sequence=&code=&plugin=&type=&since=&before=`
pub(super) async fn quarantine(
    State(door): Shared,
    Segments(source): Name,
    mut query: Query,
) -> Result<Json<List<QuarantineView>>, Problem> {
    let page = query.page()?;
    let filter = query.quarantine_filter()?;
    query.end()?;
    door.backend
        .quarantine(&source, &filter, &page)
        .await
        .map(Json)
}

/// `POST /v1/sources/{source}/quarantine/redrive?sequence=&code=&plugin=&type=&since=&before=`, or
/// `?all=true`
pub(super) async fn redrive_quarantine(
    door: Shared,
    source: Name,
    query: Query,
) -> Result<Json<Value>, Problem> {
    settle_quarantine(door, source, query, Settle::Redrive).await
}

/// `DELETE /v1/sources/{source}/quarantine?sequence=&code=&plugin=&type=&since=&before=`, or
/// `?all=true`
pub(super) async fn drop_quarantine(
    door: Shared,
    source: Name,
    query: Query,
) -> Result<Json<Value>, Problem> {
    settle_quarantine(door, source, query, Settle::Drop).await
}

async fn settle_quarantine(
    State(door): Shared,
    Segments(source): Name,
    mut query: Query,
    settle: Settle,
) -> Result<Json<Value>, Problem> {
    let filter = query.quarantine_filter()?;
    query.means_it(filter != QuarantineFilter::default())?;
    query.end()?;
    let Settled {
        settled: count,
        kept,
    } = door
        .backend
        .settle_quarantine(&source, &filter, settle)
        .await?;
    Ok(match settle {
        Settle::Redrive => Json(json!({ "redriven": count, "kept": kept })),
        Settle::Drop => settled(settle, count),
    })
}

fn settled(settle: Settle, count: u64) -> Json<Value> {
    match settle {
        Settle::Redrive => Json(json!({ "redriven": count })),
        Settle::Drop => Json(json!({ "dropped": count })),
    }
}

/// `POST /v1/reload`: 200 when the files are in force, 422 with every complaint when the old
/// configuration serves on.
pub(super) async fn reload(State(door): Shared, query: Query) -> Result<Json<ReloadView>, Problem> {
    query.end()?;
    let reload = door.backend.reload().await?;
    if reload.success {
        return Ok(Json(reload));
    }
    let count = reload.complaints.len();
    let detail = format!(
        "the configuration has {count} mistake{}; the old one serves on",
        if count == 1 { "" } else { "s" }
    );
    let complaints = serde_json::to_value(&reload.complaints).unwrap_or_default();
    Err(Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "configuration-refused",
        detail,
    )
    .with("complaints", complaints))
}
