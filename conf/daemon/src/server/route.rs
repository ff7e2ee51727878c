//! SHELL: the routes of both control sockets. Handlers translate; what they ask for is done in `live` and `operator`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use conf::unit::Interval;
use http::{HeaderMap, Method, StatusCode, header};
use http_body_util::LengthLimitError;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

mod stream;

use super::operator::{Wish, Withdrawal};
use super::peer::Peer;
use super::{CHANGE_TIMEOUT, Shared};
use crate::control::Refused;
use crate::event::Place;
use crate::frame::Exit;
use crate::intent::Target;
use crate::live::Failure;
use crate::{metrics, status};

/// Longest body of a request.
const MAX_BODY: usize = 64 * 1024;
/// Time for the body of a request.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// The header in which a client behind `sudo` says whose command it is.
pub(crate) const ON_BEHALF: &str = "weir-on-behalf-of";

type Context = State<Arc<Shared>>;

/// `ro.sock`: GET only.
pub(super) fn reading(shared: &Arc<Shared>, more: Router) -> Router {
    reading_routes()
        .with_state(Arc::clone(shared))
        .merge(more)
        .fallback(not_found)
        .layer(middleware::from_fn(get_only))
}

/// `ctl.sock`: the same, and changes.
pub(super) fn changing(shared: &Arc<Shared>, more: Router) -> Router {
    reading_routes()
        .route("/v1/plan", post(plan_file))
        .route("/v1/reload", post(reload))
        .route("/v1/apply", post(apply))
        .route("/v1/confirm", post(confirm))
        .route("/v1/rollback", post(rollback))
        .route("/v1/intents", post(set_intent))
        .route("/v1/intents/withdraw", post(withdraw_intent))
        .with_state(Arc::clone(shared))
        .merge(more)
        .fallback(not_found)
        .layer(middleware::from_fn(json_only))
}

/// The monitoring address: metrics and status, nothing that costs much or says how the daemon is configured in detail.
pub(super) fn monitoring(shared: &Arc<Shared>) -> Router {
    Router::new()
        .route("/metrics", get(metrics_text))
        .route("/status", get(status_answer))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(Arc::clone(shared))
        .fallback(not_found)
        .layer(middleware::from_fn(get_only))
}

fn reading_routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/v1/status", get(status_answer))
        .route("/v1/plan", get(plan))
        .route("/v1/intents", get(intents))
        .route("/v1/events", get(events))
        .route("/v1/why", get(why))
        .route("/v1/remaining", get(remaining))
        .route("/schema", get(schema))
        .route("/metrics", get(metrics_text))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
}

/// An answer that is not 200.
#[derive(Debug)]
pub(super) struct Error {
    status: StatusCode,
    failure: Failure,
}

impl Error {
    fn new(status: StatusCode, exit: Exit, reason: impl Into<String>) -> Self {
        Self {
            status,
            failure: Refused::new(exit, reason).into(),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let status = match failure.refused.exit {
            exit if exit == Exit::Usage as u8 => StatusCode::BAD_REQUEST,
            exit if exit == Exit::Config as u8 => StatusCode::UNPROCESSABLE_ENTITY,
            exit if exit == Exit::TimedOut as u8 => StatusCode::GATEWAY_TIMEOUT,
            exit if exit == Exit::Failed as u8 => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::CONFLICT,
        };
        Self { status, failure }
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        Failure::from(refused).into()
    }
}

/// The JSON of an answer that is not 200.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ErrorBody {
    pub(crate) error: String,
    pub(crate) exit: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rendered: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) problems: Vec<Value>,
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let (rendered, problems) = match self.failure.rejected {
            Some(rejected) => (Some(rejected.rendered), rejected.problems),
            None => (None, Vec::new()),
        };
        let body = ErrorBody {
            error: self.failure.refused.reason,
            exit: self.failure.refused.exit,
            rendered,
            problems,
        };
        (self.status, Json(body)).into_response()
    }
}

async fn not_found(request: Request) -> Error {
    let what = format!(
        "there is no {} here; see the daemon's README for the paths",
        request.uri().path()
    );
    Error::new(StatusCode::NOT_FOUND, Exit::Refused, what)
}

/// Nothing can be changed by whoever reads, whatever route a daemon adds.
pub(crate) async fn get_only(request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    let refused = Error::new(
        StatusCode::METHOD_NOT_ALLOWED,
        Exit::Refused,
        "this socket only answers GET; changes go to ctl.sock",
    );
    ([(header::ALLOW, "GET, HEAD")], refused).into_response()
}

/// A browser's form cannot send this type, so no web page can change anything through a forwarded socket.
async fn json_only(request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD) || is_json(request.headers()) {
        return next.run(request).await;
    }
    Error::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Exit::Refused,
        "a change is asked for with `Content-Type: application/json`",
    )
    .into_response()
}

fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// The body as `T`; an empty one as `{}`.
async fn decode<T: DeserializeOwned>(body: Body) -> Result<T, Error> {
    let bytes = match tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, MAX_BODY)).await
    {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) => {
            let large = std::error::Error::source(&error)
                .is_some_and(|source| source.is::<LengthLimitError>());
            let (status, reason) = match large {
                true => (
                    StatusCode::PAYLOAD_TOO_LARGE,
                    format!("the body is longer than {MAX_BODY} bytes"),
                ),
                false => (
                    StatusCode::BAD_REQUEST,
                    format!("the body could not be read: {error}"),
                ),
            };
            return Err(Error::new(status, Exit::Refused, reason));
        }
        Err(_) => {
            return Err(Error::new(
                StatusCode::REQUEST_TIMEOUT,
                Exit::TimedOut,
                "the body did not arrive in time",
            ));
        }
    };
    let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
    serde_json::from_slice(text).map_err(|error| {
        Error::new(
            StatusCode::BAD_REQUEST,
            Exit::Refused,
            format!("the body is not what this path takes: {error}"),
        )
    })
}

/// Carries a change out on a task of its own, so that a caller who goes away does not leave it half done.
async fn finish<T, F>(change: F) -> Result<T, Error>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Error>> + Send + 'static,
{
    let task = tokio::spawn(change);
    match tokio::time::timeout(CHANGE_TIMEOUT, task).await {
        Ok(Ok(result)) => result,
        Ok(Err(error)) => Err(Error::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            Exit::Failed,
            format!("the change ended in a defect of this program: {error}"),
        )),
        Err(_) => Err(Error::new(
            StatusCode::GATEWAY_TIMEOUT,
            Exit::TimedOut,
            "the change is still under way; look at `status` for its result",
        )),
    }
}

fn actor(peer: &Peer, headers: &HeaderMap) -> String {
    let name = headers
        .get(ON_BEHALF)
        .and_then(|value| value.to_str().ok())
        .filter(|name| !name.is_empty() && name.len() <= 64);
    peer.actor(name)
}

async fn status_answer(State(shared): Context) -> Json<Value> {
    Json(status::envelope(&shared).await)
}

async fn intents(State(shared): Context) -> Json<Value> {
    Json(json!({ "intents": shared.operator.list() }))
}

/// Where to begin.
#[derive(Debug, Deserialize)]
struct Since {
    since: Option<String>,
}

async fn events(
    State(shared): Context,
    Query(since): Query<Since>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let place = since
        .since
        .as_deref()
        .map_or(Ok(Place::default()), str::parse);
    let place = place.map_err(|wrong| Error::new(StatusCode::BAD_REQUEST, Exit::Usage, wrong))?;
    if stream::is_wanted(&headers) {
        let place = stream::last_seen(&headers).unwrap_or(place);
        return Ok(stream::events(&shared.events, place));
    }
    let mut lines = String::new();
    for event in shared.events.after(place) {
        if let Ok(line) = serde_json::to_string(&event) {
            lines.push_str(&line);
            lines.push('\n');
        }
    }
    Ok(([(header::CONTENT_TYPE, "application/jsonl")], lines).into_response())
}

/// Which series.
#[derive(Debug, Deserialize)]
struct Series {
    service: Option<String>,
}

async fn metrics_text(
    State(shared): Context,
    Query(series): Query<Series>,
) -> Result<Response, Error> {
    // A collector may ask another thread of the daemon and wait for its answer.
    let text = tokio::task::spawn_blocking(move || metrics::render(&shared.registry));
    let text = text.await.map_err(|error| {
        Error::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            Exit::Failed,
            format!("reading the metrics ended in a defect of this program: {error}"),
        )
    })?;
    let text = match series.service {
        Some(service) => metrics::of_service(&text, &service),
        None => text,
    };
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

async fn healthz(State(shared): Context) -> Response {
    match shared.control.alive().await {
        true => "ok\n".into_response(),
        false => (
            StatusCode::SERVICE_UNAVAILABLE,
            "a loop of the daemon no longer turns\n",
        )
            .into_response(),
    }
}

async fn readyz(State(shared): Context) -> Response {
    match status::not_ready(&shared).await {
        None => "ready\n".into_response(),
        Some(reason) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {reason}\n"),
        )
            .into_response(),
    }
}

/// The format of the platform file, for editors.
async fn schema() -> Json<Value> {
    Json(conf::schema())
}

/// The arguments of `why`, as JSON.
#[derive(Debug, Deserialize)]
struct WhyQuery {
    query: String,
}

async fn why(State(shared): Context, Query(query): Query<WhyQuery>) -> Result<Json<Value>, Error> {
    let query: Value = serde_json::from_str(&query.query).map_err(|error| {
        Error::new(
            StatusCode::BAD_REQUEST,
            Exit::Usage,
            format!("`query` is not JSON: {error}"),
        )
    })?;
    Ok(Json(shared.control.why(&query).await?))
}

/// About what.
#[derive(Debug, Deserialize)]
struct TargetQuery {
    target: Target,
}

async fn remaining(
    State(shared): Context,
    Query(query): Query<TargetQuery>,
) -> Result<Response, Error> {
    match shared.control.remaining(&query.target).await {
        Some(remaining) => Ok(Json(remaining).into_response()),
        None => Err(Refused::new(
            Exit::Usage,
            format!(
                "{} cannot say how many connections `{}` has",
                shared.identity.name, query.target
            ),
        )
        .into()),
    }
}

async fn plan(State(shared): Context) -> Result<Response, Error> {
    Ok(Json(shared.live.plan(None).await?).into_response())
}

/// Which file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileWish {
    file: Option<PathBuf>,
}

async fn plan_file(State(shared): Context, body: Body) -> Result<Response, Error> {
    let wish: FileWish = decode(body).await?;
    Ok(Json(shared.live.plan(wish.file).await?).into_response())
}

/// No arguments.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

async fn reload(
    State(shared): Context,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Error> {
    let Nothing {} = decode(body).await?;
    let who = actor(&peer, &headers);
    finish(async move { Ok(Json(shared.live.reload(&who).await?).into_response()) }).await
}

/// Which file, and how long on trial.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ApplyWish {
    file: Option<PathBuf>,
    /// Such as `5m`.
    confirm: Option<String>,
}

async fn apply(
    State(shared): Context,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Error> {
    let wish: ApplyWish = decode(body).await?;
    let confirm = match wish.confirm.as_deref().map(str::parse::<Interval>) {
        None => None,
        Some(Ok(time)) if !time.is_zero() => Some(time.as_duration()),
        Some(Ok(_)) => {
            return Err(
                Refused::new(Exit::Usage, "the time to confirm must be longer than zero").into(),
            );
        }
        Some(Err(error)) => {
            return Err(Refused::new(Exit::Usage, format!("the time to confirm: {error}")).into());
        }
    };
    let who = actor(&peer, &headers);
    finish(
        async move { Ok(Json(shared.live.apply(wish.file, confirm, &who).await?).into_response()) },
    )
    .await
}

async fn confirm(
    State(shared): Context,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Error> {
    let Nothing {} = decode(body).await?;
    let who = actor(&peer, &headers);
    finish(async move { Ok(Json(shared.live.confirm(&who).await?).into_response()) }).await
}

async fn rollback(
    State(shared): Context,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Error> {
    let Nothing {} = decode(body).await?;
    let who = actor(&peer, &headers);
    finish(async move { Ok(Json(shared.live.rollback(&who).await?).into_response()) }).await
}

async fn set_intent(
    State(shared): Context,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Error> {
    let wish: Wish = decode(body).await?;
    let who = actor(&peer, &headers);
    finish(async move { Ok(Json(shared.operator.set(wish, who).await?).into_response()) }).await
}

async fn withdraw_intent(
    State(shared): Context,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Error> {
    let withdrawal: Withdrawal = decode(body).await?;
    let who = actor(&peer, &headers);
    finish(
        async move { Ok(Json(shared.operator.withdraw(&withdrawal, &who).await?).into_response()) },
    )
    .await
}
