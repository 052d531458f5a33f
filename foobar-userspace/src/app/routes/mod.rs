//! The API's paths, and what every request passes: the log, the time limit, the size limit.

mod articles;
mod payload;
mod tags;
mod users;
mod view;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};

use super::error::{ApiError, Reply};
use super::server::App;

/// The largest body taken, in bytes.
const MAX_BODY: usize = 1 << 20;

/// All paths, with what surrounds them.
pub(super) fn router(app: Arc<App>) -> Router {
    let api = Router::new()
        .route("/users", post(users::register))
        .route("/users/login", post(users::login))
        .route("/user", get(users::current).put(users::update))
        .route("/articles", get(articles::list).post(articles::create))
        .route(
            "/articles/{slug}",
            get(articles::read).put(articles::update).delete(articles::delete),
        )
        .route("/tags", get(tags::list));
    Router::new()
        .nest("/api", api)
        .route("/healthz", get(healthz))
        .fallback(async || ApiError::NotFound("path"))
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn_with_state(Arc::clone(&app), limit_time))
        .layer(from_fn(log))
        .with_state(app)
}

async fn healthz(State(app): State<Arc<App>>) -> Response {
    let (status, database) = if app.health.check(&app.database).await {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
    };
    (status, Reply(serde_json::json!({ "database": database }))).into_response()
}

async fn limit_time(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    tokio::time::timeout(app.request_timeout, next.run(request))
        .await
        .unwrap_or_else(|_| ApiError::TimedOut.into_response())
}

/// Method, path, status and time. Headers, queries and bodies hold tokens and passwords, and stay out.
async fn log(request: Request, next: Next) -> Response {
    let start = Instant::now();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    let elapsed = start.elapsed();
    if path == "/healthz" {
        tracing::debug!(%method, path, status, ?elapsed, "request");
    } else {
        tracing::info!(%method, path, status, ?elapsed, "request");
    }
    response
}
