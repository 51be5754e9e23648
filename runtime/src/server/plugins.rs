//! The routes of plugins and of the configuration that names them: showing both, and reloading.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::access::Operator;
use super::params::{Query, Segments, page_of};
use super::problem::Problem;
use super::state::AppState;
use super::views::{ConfigView, List, PluginView, ReloadView};

/// `GET /v1/plugins`
pub(super) async fn plugins(
    State(state): State<Arc<AppState>>,
    mut query: Query,
) -> Result<Json<List<PluginView>>, Problem> {
    let page = query.page()?;
    query.end()?;
    Ok(Json(page_of(state.backend.plugins(), &page, |plugin| {
        &plugin.name
    })))
}

/// `GET /v1/config`
pub(super) async fn config(
    State(state): State<Arc<AppState>>,
    query: Query,
) -> Result<Json<ConfigView>, Problem> {
    query.end()?;
    Ok(Json(state.backend.config()))
}

/// `POST /v1/reload`: 200 if the files are in use now; 422 with every complaint if the previous
/// configuration stays in use; 503 if the new one is in use in part.
pub(super) async fn reload(
    State(state): State<Arc<AppState>>,
    operator: Operator,
    query: Query,
) -> Result<Json<ReloadView>, Problem> {
    query.end()?;
    let reloaded = state.backend.reload().await.and_then(in_use);
    operator.did("reload", "configuration", reloaded).map(Json)
}

/// `POST /v1/plugins/{plugin}/confirm`: the refused version that maps less than the one in use may take
/// over; 409 if none was refused for that, otherwise as a reload.
pub(super) async fn confirm(
    State(state): State<Arc<AppState>>,
    operator: Operator,
    Segments(plugin): Segments<String>,
    query: Query,
) -> Result<Json<ReloadView>, Problem> {
    query.end()?;
    let confirmed = state.backend.confirm_plugin(&plugin).await.and_then(in_use);
    operator.did("confirm", &plugin, confirmed).map(Json)
}

fn in_use(reload: ReloadView) -> Result<ReloadView, Problem> {
    if reload.success {
        return Ok(reload);
    }
    let complaints = serde_json::to_value(&reload.complaints).unwrap_or_default();
    let problem = if reload.partly_applied {
        let why = reload.complaints.iter().map(|complaint| &*complaint.what);
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "configuration-partly-applied",
            why.collect::<Vec<_>>().join("; "),
        )
    } else {
        let count = reload.complaints.len();
        let mistakes = format!("{count} mistake{}", if count == 1 { "" } else { "s" });
        let detail = match &reload.changes[..] {
            [] => format!("the configuration has {mistakes}; the previous one stays in use"),
            changes => format!(
                "new versions of plugins have {mistakes} and their earlier ones stay in use; in use now: {}",
                changes.join("; ")
            ),
        };
        Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "configuration-refused",
            detail,
        )
    };
    Err(problem.with("complaints", complaints))
}
