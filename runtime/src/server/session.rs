//! The routes of signing in: a token is exchanged for a session, whose id a browser keeps in a cookie.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::{CACHE_CONTROL, SET_COOKIE};
use axum::response::{IntoResponse, Response};

use super::access::{Operator, find, needs_token, presented, token_unknown};
use super::body::{Receiving, receive};
use super::connection::Client;
use super::params::Query;
use super::problem::Problem;
use super::sessions::cookie;
use super::state::AppState;
use super::views::SessionView;
use crate::plan::{Role, Token};

/// The longest form with a token, in bytes.
const FORM_BYTES_MAX: u64 = 4 << 10;

/// `GET /v1/session`: whether a token is needed here, and which one the request has.
pub(super) async fn session(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    query: Query,
) -> Result<Response, Problem> {
    query.end()?;
    let tokens = state.backend.tokens();
    if !needs_token(&tokens, &state.reach()) {
        return Ok(answer(SessionView {
            needs_token: false,
            name: None,
            role: Some(Role::Admin.name().to_owned()),
        }));
    }
    let token = presented(&headers, &tokens, &state.sessions).ok();
    Ok(answer(view(token)))
}

/// `POST /v1/session` with a form that has `token=`: signs in.
pub(super) async fn sign_in(
    State(state): State<Arc<AppState>>,
    query: Query,
    request: Request,
) -> Result<Response, Problem> {
    query.end()?;
    let (head, body) = request.into_parts();
    let memory = state.memory.reservation("session");
    let receiving = Receiving {
        limit: FORM_BYTES_MAX,
        time: state.limits.body_time,
        source: "session",
        client: &Client::of(&head.extensions),
        arrivals: &state.arrivals,
        memory: &memory,
    };
    let form = receive(body, &receiving, || Ok(())).await?;
    let mut form = Query::parse(&String::from_utf8_lossy(&form))?;
    let secret = form.required("token")?;
    form.end()?;
    let tokens = state.backend.tokens();
    // Only what succeeds is logged: anybody may fail as often as they like.
    let token = find(&tokens, secret.trim().as_bytes()).ok_or_else(token_unknown)?;
    let no_chance = || Problem::internal("the system has no random numbers");
    let id = state.sessions.begin(token).ok_or_else(no_chance)?;
    Operator::named(&token.name).did("sign-in", "console", Ok(()))?;
    let set = [(SET_COOKIE, cookie(&head.headers, &id))];
    Ok((set, answer(view(Some(token)))).into_response())
}

/// `DELETE /v1/session`: signs out.
pub(super) async fn sign_out(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    query: Query,
) -> Result<Response, Problem> {
    query.end()?;
    state.sessions.end(&headers);
    let set = [(SET_COOKIE, cookie(&headers, ""))];
    Ok((set, answer(view(None))).into_response())
}

fn view(token: Option<&Token>) -> SessionView {
    SessionView {
        needs_token: true,
        name: token.map(|token| token.name.clone()),
        role: token.map(|token| token.role.name().to_owned()),
    }
}

fn answer(view: SessionView) -> Response {
    ([(CACHE_CONTROL, "no-store")], Json(view)).into_response()
}
