//! The routes of the operator: channels, refused entities and quarantined events. Repeating a
//! request changes nothing more. Many are redriven by a job (`?job=true`), which is answered at once.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::access::Operator;
use super::backend::{Operation, QuarantineFilter, RedriveRequest, RefusedFilter, Settle, Settled};
use super::jobs::begun;
use super::look::saved;
use super::params::{Query, Segments};
use super::problem::Problem;
use super::state::AppState;
use super::views::{ChannelView, Cutter, List, RefusedView};

type Shared = State<Arc<AppState>>;
type Name = Segments<String>;

/// `POST /v1/channels/{channel}/pause`
pub(super) async fn pause(
    state: Shared,
    operator: Operator,
    channel: Name,
    query: Query,
) -> Result<Json<ChannelView>, Problem> {
    operate(state, operator, channel, query, Operation::Pause).await
}

/// `POST /v1/channels/{channel}/resume`
pub(super) async fn resume(
    state: Shared,
    operator: Operator,
    channel: Name,
    query: Query,
) -> Result<Json<ChannelView>, Problem> {
    operate(state, operator, channel, query, Operation::Resume).await
}

/// `POST /v1/channels/{channel}/resync`
pub(super) async fn resync(
    state: Shared,
    operator: Operator,
    channel: Name,
    query: Query,
) -> Result<Json<ChannelView>, Problem> {
    operate(state, operator, channel, query, Operation::Resync).await
}

/// `POST /v1/channels/{channel}/rerender`
pub(super) async fn rerender(
    state: Shared,
    operator: Operator,
    channel: Name,
    query: Query,
) -> Result<Json<ChannelView>, Problem> {
    operate(state, operator, channel, query, Operation::Rerender).await
}

/// `POST /v1/channels/{channel}/confirm`
pub(super) async fn confirm(
    state: Shared,
    operator: Operator,
    channel: Name,
    query: Query,
) -> Result<Json<ChannelView>, Problem> {
    operate(state, operator, channel, query, Operation::Confirm).await
}

/// `POST /v1/channels/{channel}/overwrite`
pub(super) async fn overwrite(
    state: Shared,
    operator: Operator,
    channel: Name,
    query: Query,
) -> Result<Json<ChannelView>, Problem> {
    operate(state, operator, channel, query, Operation::Overwrite).await
}

/// Performs the operation and shows the channel as it is after it.
async fn operate(
    State(state): Shared,
    operator: Operator,
    Segments(channel): Name,
    query: Query,
    operation: Operation,
) -> Result<Json<ChannelView>, Problem> {
    query.end()?;
    perform(&state, &operator, &channel, operation).await?;
    state.backend.channel(&channel).map(Json)
}

async fn perform(
    state: &AppState,
    operator: &Operator,
    channel: &str,
    operation: Operation,
) -> Result<(), Problem> {
    let done = state.backend.operate(channel, operation).await;
    operator.did(operation.name(), &format!("channel {channel}"), done)
}

/// `DELETE /v1/channels/{channel}`: forgets a retired one.
pub(super) async fn forget(
    State(state): Shared,
    operator: Operator,
    Segments(channel): Name,
    query: Query,
) -> Result<Json<Value>, Problem> {
    query.end()?;
    perform(&state, &operator, &channel, Operation::Forget).await?;
    Ok(Json(json!({ "forgotten": channel })))
}

/// `GET /v1/channels/{channel}/refused?key=&code=`
pub(super) async fn refused(
    State(state): Shared,
    Segments(channel): Name,
    mut query: Query,
) -> Result<Json<List<RefusedView>>, Problem> {
    let page = query.page()?;
    let filter = query.refused_filter();
    query.end()?;
    let _turn = state.answers.turn_to_read().await?;
    state
        .backend
        .refused(&channel, &filter, &page)
        .await
        .map(Json)
}

/// `POST /v1/channels/{channel}/refused/redrive?key=&code=`, or `?all=true`; with `job=true` as a job of at most
/// `limit` entities
pub(super) async fn redrive_refused(
    state: Shared,
    operator: Operator,
    Segments(channel): Name,
    mut query: Query,
) -> Result<Response, Problem> {
    let Some(limit) = query.as_job()? else {
        let settled = settle_refused(state, operator, Segments(channel), query, Settle::Redrive);
        return settled.await.map(IntoResponse::into_response);
    };
    let filter = query.refused_filter();
    query.means_it(filter != RefusedFilter::default())?;
    query.end()?;
    let subject = format!("refused entities of channel {channel}");
    let request = RedriveRequest::Refused {
        channel,
        filter,
        limit,
    };
    let job = state.backend.begin_redrive(request);
    let job = operator.did(Settle::Redrive.name(), &subject, job)?;
    Ok(begun(&job))
}

/// `DELETE /v1/channels/{channel}/refused?key=&code=`, or `?all=true`
pub(super) async fn drop_refused(
    state: Shared,
    operator: Operator,
    channel: Name,
    query: Query,
) -> Result<Json<Value>, Problem> {
    settle_refused(state, operator, channel, query, Settle::Drop).await
}

async fn settle_refused(
    State(state): Shared,
    operator: Operator,
    Segments(channel): Name,
    mut query: Query,
    settle: Settle,
) -> Result<Json<Value>, Problem> {
    let filter = query.refused_filter();
    query.means_it(filter != RefusedFilter::default())?;
    query.end()?;
    let _turn = state.answers.turn_to_settle().await?;
    let done = state
        .backend
        .settle_refused(&channel, &filter, settle)
        .await;
    let subject = format!("refused entities of channel {channel}");
    operator
        .did(settle.name(), &subject, done)
        .map(|count| settled(settle, count))
}

/// `GET /v1/sources/{source}/quarantine?sequence=&code=&plugin=&type=&since=&before=`, with `data=true` the data
/// of the first of them alone.
pub(super) async fn quarantine(
    State(state): Shared,
    Segments(source): Name,
    mut query: Query,
) -> Result<Response, Problem> {
    let mut page = query.page()?;
    let filter = query.quarantine_filter()?;
    let (is_cut, data) = (query.flag("cut")?, query.flag("data")?);
    query.end()?;
    if data {
        page.limit = 1;
    }
    let _turn = state.answers.turn_to_read().await?;
    let mut list = state.backend.quarantine(&source, &filter, &page).await?;
    if data {
        let first = list.items.into_iter().next();
        let event = first.and_then(|it| it.event.event());
        let event = event.ok_or_else(|| {
            let detail = format!("no event like this is in the quarantine of source `{source}`");
            Problem::new(StatusCode::NOT_FOUND, "unknown-event", detail)
        })?;
        return Ok(saved("event", event.data.as_bytes().to_vec()));
    }
    if is_cut {
        let mut cutter = Cutter::default();
        list.items
            .iter_mut()
            .for_each(|it| it.event.cut(&mut cutter));
    }
    Ok(Json(list).into_response())
}

/// `POST /v1/sources/{source}/quarantine/redrive?sequence=&code=&plugin=&type=&since=&before=`, or
/// `?all=true`; with `job=true` as a job of at most `limit` events
pub(super) async fn redrive_quarantine(
    state: Shared,
    operator: Operator,
    Segments(source): Name,
    mut query: Query,
) -> Result<Response, Problem> {
    let Some(limit) = query.as_job()? else {
        let settled = settle_quarantine(state, operator, Segments(source), query, Settle::Redrive);
        return settled.await.map(IntoResponse::into_response);
    };
    let filter = query.quarantine_filter()?;
    query.means_it(filter != QuarantineFilter::default())?;
    query.end()?;
    let subject = format!("quarantine of source {source}");
    let request = RedriveRequest::Quarantined {
        source,
        filter,
        limit,
    };
    let job = state.backend.begin_redrive(request);
    let job = operator.did(Settle::Redrive.name(), &subject, job)?;
    Ok(begun(&job))
}

/// `DELETE /v1/sources/{source}/quarantine?sequence=&code=&plugin=&type=&since=&before=`, or
/// `?all=true`
pub(super) async fn drop_quarantine(
    state: Shared,
    operator: Operator,
    source: Name,
    query: Query,
) -> Result<Json<Value>, Problem> {
    settle_quarantine(state, operator, source, query, Settle::Drop).await
}

async fn settle_quarantine(
    State(state): Shared,
    operator: Operator,
    Segments(source): Name,
    mut query: Query,
    settle: Settle,
) -> Result<Json<Value>, Problem> {
    let filter = query.quarantine_filter()?;
    query.means_it(filter != QuarantineFilter::default())?;
    query.end()?;
    let _turn = state.answers.turn_to_settle().await?;
    let done = state
        .backend
        .settle_quarantine(&source, &filter, settle)
        .await;
    let Settled {
        settled: count,
        kept,
    } = operator.did(
        settle.name(),
        &format!("quarantine of source {source}"),
        done,
    )?;
    Ok(match settle {
        Settle::Redrive => Json(json!({ "redriven": count, "kept": kept })),
        Settle::Drop => settled(settle, count),
    })
}

/// `POST /v1/sources/{source}/reset-versions`: after the source was restored from a copy.
pub(super) async fn reset_versions(
    State(state): Shared,
    operator: Operator,
    Segments(source): Name,
    query: Query,
) -> Result<Json<Value>, Problem> {
    query.end()?;
    let done = state.backend.reset_versions(&source).await;
    let subject = format!("versions of source {source}");
    let count = operator.did("reset", &subject, done)?;
    Ok(Json(json!({ "reset": count })))
}

fn settled(settle: Settle, count: u64) -> Json<Value> {
    match settle {
        Settle::Redrive => Json(json!({ "redriven": count })),
        Settle::Drop => Json(json!({ "dropped": count })),
    }
}
