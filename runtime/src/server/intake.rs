//! The route that takes events in, its handshake, and the counts of its requests by status.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use axum::extract::{Request, State};
use axum::http::header::{ALLOW, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::backend::{Asked, Challenged, IngestRequest, Intake};
use super::body::{Receiving, receive};
use super::connection::Client;
use super::params::{Query, Segments};
use super::problem::Problem;
use super::state::AppState;
use super::views::{Accepted, RequestPreviewView};
use crate::failpoint;
use crate::model::Lane;
use crate::plan::Reply;

/// The longest body of a request that is only looked at.
const PREVIEW_BYTES_MAX: u64 = 1 << 20;

/// Every status that the response to a source's request can have.
const STATUSES: [StatusCode; 13] = [
    StatusCode::OK,
    StatusCode::CREATED,
    StatusCode::ACCEPTED,
    StatusCode::NO_CONTENT,
    StatusCode::BAD_REQUEST,
    StatusCode::UNAUTHORIZED,
    StatusCode::REQUEST_TIMEOUT,
    StatusCode::PAYLOAD_TOO_LARGE,
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
    StatusCode::TOO_MANY_REQUESTS,
    StatusCode::INTERNAL_SERVER_ERROR,
    StatusCode::SERVICE_UNAVAILABLE,
    StatusCode::INSUFFICIENT_STORAGE,
];

/// The requests of one source by response status; each count only rises.
#[derive(Debug, Default)]
pub struct Requests([AtomicU64; STATUSES.len()]);

impl Requests {
    /// Counts one response with this status.
    fn count(&self, status: StatusCode) {
        if let Some(at) = STATUSES.iter().position(|known| *known == status) {
            self.0[at].fetch_add(1, Relaxed);
        }
    }

    /// The statuses, with the number of responses for each.
    pub fn counts(&self) -> Vec<(u16, u64)> {
        let counts = self.0.iter().map(|count| count.load(Relaxed));
        STATUSES
            .iter()
            .map(|status| status.as_u16())
            .zip(counts)
            .collect()
    }
}

/// `POST /v1/sources/{source}/events[?lane=&receipt=]`: responds when everything is durable; each response
/// is counted by its status.
pub(super) async fn take(
    State(state): State<Arc<AppState>>,
    Segments(source): Segments<String>,
    query: Query,
    request: Request,
) -> Result<Response, Problem> {
    // An unknown source is not counted: its name is the client's, and would become a label.
    let intake = known(&state, &source)?;
    let answered = take_known(&state, &source, &*intake, query, request).await;
    let status = answered
        .as_ref()
        .map_or_else(Problem::status, Response::status);
    intake.requests().count(status);
    answered
}

/// `OPTIONS /v1/sources/{source}/events`: the handshake of CloudEvents webhooks, in which a sender
/// asks whether it may send here and how fast. A source is there because an operator configured it,
/// so the answer is yes; what is sent is verified as always.
pub(super) async fn allow(
    State(state): State<Arc<AppState>>,
    Segments(source): Segments<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    known(&state, &source)?;
    let mut response = axum::Json(json!({ "allowed": ["OPTIONS", "POST"] })).into_response();
    let answer = response.headers_mut();
    answer.insert(ALLOW, HeaderValue::from_static("OPTIONS, POST"));
    if let Some(origin) = headers.get("webhook-request-origin") {
        answer.insert("webhook-allowed-origin", origin.clone());
        if headers.contains_key("webhook-request-rate") {
            // No limit in advance: 429 and 503 say when it is too fast.
            answer.insert("webhook-allowed-rate", HeaderValue::from_static("*"));
        }
    }
    Ok(response)
}

/// `GET /v1/sources/{source}/events`: the handshake of senders that ask by GET, for a source that is configured
/// for one of them.
pub(super) async fn challenge(
    State(state): State<Arc<AppState>>,
    Segments(source): Segments<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let intake = known(&state, &source)?;
    let asked = Asked {
        target: &target(&uri),
        headers: &headers,
        body: None,
    };
    let answer = intake.challenged(asked)?;
    Ok(answer.map_or_else(not_allowed, IntoResponse::into_response))
}

fn not_allowed() -> Response {
    let allow = [(ALLOW, "POST,OPTIONS")];
    (StatusCode::METHOD_NOT_ALLOWED, allow).into_response()
}

impl IntoResponse for Challenged {
    /// What is repeated is a sender's text, which no browser may take for a page.
    fn into_response(self) -> Response {
        let headers = [
            (CONTENT_TYPE, self.content_type),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ];
        (headers, self.body).into_response()
    }
}

/// The path and query of a request.
fn target(uri: &Uri) -> String {
    let target = uri.path_and_query().map(ToString::to_string);
    target.unwrap_or_default()
}

/// The path and query that a request would be sent to, of the one for its preview: some senders sign them.
fn as_sent(target: &str) -> String {
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let source = path.strip_suffix("/preview").unwrap_or(path);
    format!("{source}/events{query}")
}

/// The way into a source.
///
/// # Errors
/// There is no such source.
fn known(state: &AppState, source: &str) -> Result<Arc<dyn Intake>, Problem> {
    let intake = state.backend.intake(source);
    intake.ok_or_else(|| Problem::unknown("source", source))
}

async fn take_known(
    state: &AppState,
    source: &str,
    intake: &dyn Intake,
    mut query: Query,
    request: Request,
) -> Result<Response, Problem> {
    let lane = query.take("lane").map(|name| lane(&name)).transpose()?;
    let receipt = query.flag("receipt")?;
    query.end_but(|name| intake.reads(name))?;
    let (head, body) = request.into_parts();
    let target = target(&head.uri);
    let (limits, memory) = (&state.limits, state.memory.reservation(source));
    let receiving = Receiving {
        limit: intake.body_bytes_max().min(limits.body_bytes_max),
        time: limits.body_time,
        source,
        client: &Client::of(&head.extensions),
        arrivals: &state.arrivals,
        memory: &memory,
    };
    let body = receive(body, &receiving, || intake.admit(&target, &head.headers)).await?;
    let asked = Asked {
        target: &target,
        headers: &head.headers,
        body: Some(&body),
    };
    if let Some(answer) = intake.challenged(asked)? {
        return Ok(answer.into_response());
    }
    let summary = receipt || prefers_summary(&head.headers);
    let accepted = intake
        .accept(IngestRequest {
            target,
            headers: head.headers,
            body,
            lane,
            receipt,
            memory,
        })
        .await?;
    failpoint::pass("ingest.answering");
    Ok(answer(intake.reply(), accepted, summary))
}

/// The response to a request that was taken. A client that reads it, such as `weir send`, gets the `summary` also
/// where the source's senders want something else.
fn answer(reply: &Reply, accepted: Accepted, summary: bool) -> Response {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::ACCEPTED);
    match (&reply.body, status) {
        (_, StatusCode::NO_CONTENT) if summary => axum::Json(accepted).into_response(),
        (_, StatusCode::NO_CONTENT) => status.into_response(),
        (Some(body), _) if !summary => {
            let media_type = HeaderValue::from_str(&body.media_type);
            let media_type = media_type.unwrap_or(HeaderValue::from_static("text/plain"));
            (status, [(CONTENT_TYPE, media_type)], body.text.clone()).into_response()
        }
        _ => (status, axum::Json(accepted)).into_response(),
    }
}

/// Whether a client asks for the whole response (RFC 7240).
fn prefers_summary(headers: &HeaderMap) -> bool {
    headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|preference| preference.trim().eq_ignore_ascii_case(PREFERS_SUMMARY))
}

/// The value of the header `prefer` with which a client gets the summary of its request whatever the source's
/// `reply` is.
pub const PREFERS_SUMMARY: &str = "return=representation";

/// `POST /v1/sources/{source}/preview[?lane=]`: what the source would make of the request. Nothing of it is
/// kept or counted. A role is needed in place of the sender's proof, because plugins run on what is sent.
pub(super) async fn preview(
    State(state): State<Arc<AppState>>,
    Segments(source): Segments<String>,
    mut query: Query,
    request: Request,
) -> Result<axum::Json<RequestPreviewView>, Problem> {
    let intake = known(&state, &source)?;
    let lane = query.take("lane").map(|name| lane(&name)).transpose()?;
    query.end_but(|name| intake.reads(name))?;
    let (head, body) = request.into_parts();
    let memory = state.memory.reservation(&*source);
    let receiving = Receiving {
        limit: intake.body_bytes_max().min(PREVIEW_BYTES_MAX),
        time: state.limits.body_time,
        source: &source,
        client: &Client::of(&head.extensions),
        arrivals: &state.arrivals,
        memory: &memory,
    };
    let body = receive(body, &receiving, || Ok(())).await?;
    let target = as_sent(&target(&head.uri));
    let request = IngestRequest {
        target,
        headers: head.headers,
        body,
        lane,
        receipt: false,
        memory,
    };
    let view = state.backend.preview_events(&source, request).await?;
    Ok(axum::Json(view))
}

fn lane(name: &str) -> Result<Lane, Problem> {
    Lane::parse(name).ok_or_else(|| {
        let lanes = Lane::ALL.map(Lane::name).join("`, `");
        Problem::bad_parameter("lane", format!("must be one of `{lanes}`, not `{name}`"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // A source may have the name of a route.
    #[test]
    fn a_preview_is_of_a_request_to_the_source() {
        for (asked, sent) in [
            ("/v1/sources/erp/preview", "/v1/sources/erp/events"),
            (
                "/v1/sources/preview/preview?lane=bulk&a=/preview",
                "/v1/sources/preview/events?lane=bulk&a=/preview",
            ),
        ] {
            assert_eq!(as_sent(asked), sent);
        }
    }
}
