//! The API's server.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::Request;

type Requests = mpsc::Sender<Request>;

/// The running server; dropping it ends it and removes the socket.
#[derive(Debug)]
pub struct Server {
    task: JoinHandle<()>,
    path: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        // Gone already is as good.
        drop(fs::remove_file(&self.path));
    }
}

/// Listens on a unix socket (mode 0660), and hands requests to `requests`.
///
/// # Errors
/// Where another daemon listens there, or the socket can't be made.
pub fn serve(path: &Path, requests: Requests) -> Result<Server> {
    let router = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/drain", post(drain_balancer))
        .route("/v1/undrain", post(undrain_balancer))
        .route("/v1/cluster/reload", post(reload_cluster))
        .route("/v1/vips/{vip}/backends/{backend}/drain", post(drain))
        .route("/v1/vips/{vip}/backends/{backend}/undrain", post(undrain))
        .with_state(requests);
    serve_router(path, router)
}

/// Serves an API on a unix socket (mode 0660).
///
/// # Errors
/// Where another daemon listens there, or the socket can't be made.
pub(crate) fn serve_router(path: &Path, router: Router) -> Result<Server> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)
            .with_context(|| format!("admin_socket: cannot make {}", directory.display()))?;
    }
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {
            if UnixStream::connect(path).is_ok() {
                bail!("admin_socket: another daemon listens on {}", path.display());
            }
            fs::remove_file(path)?;
        }
        Ok(_) => bail!("admin_socket: {} is there and is no socket", path.display()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (),
        Err(error) => return Err(error).with_context(|| format!("admin_socket {}", path.display())),
    }
    let listener = UnixListener::bind(path).with_context(|| format!("admin_socket {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    let task = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the admin API has ended");
        }
    });
    Ok(Server {
        task,
        path: path.to_owned(),
    })
}

fn failed(status: StatusCode, error: impl ToString) -> Response {
    (status, Json(serde_json::json!({ "error": error.to_string() }))).into_response()
}

async fn status(State(requests): State<Requests>) -> Response {
    let (reply, answer) = oneshot::channel();
    if requests.send(Request::Status(reply)).await.is_err() {
        return failed(StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping");
    }
    match answer.await {
        Ok(Ok(status)) => Json(status).into_response(),
        Ok(Err(error)) => failed(StatusCode::INTERNAL_SERVER_ERROR, error),
        Err(_) => failed(StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping"),
    }
}

async fn drain_balancer(State(requests): State<Requests>) -> Response {
    set_balancer_drained(requests, true).await
}

async fn undrain_balancer(State(requests): State<Requests>) -> Response {
    set_balancer_drained(requests, false).await
}

async fn set_balancer_drained(requests: Requests, drained: bool) -> Response {
    let (reply, answer) = oneshot::channel();
    let sent = requests.send(Request::DrainBalancer { drained, reply }).await;
    if sent.is_err() || answer.await.is_err() {
        return failed(StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping");
    }
    Json(serde_json::json!({ "drained": drained })).into_response()
}

async fn reload_cluster(State(requests): State<Requests>) -> Response {
    let (reply, answer) = oneshot::channel();
    if requests.send(Request::ReloadCluster(reply)).await.is_err() {
        return failed(StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping");
    }
    match answer.await {
        Ok(Ok(())) => Json(serde_json::json!({ "reloaded": true })).into_response(),
        Ok(Err(refusal)) => failed(StatusCode::CONFLICT, refusal),
        Err(_) => failed(StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping"),
    }
}

async fn drain(
    State(requests): State<Requests>,
    UrlPath((vip, backend)): UrlPath<(String, String)>,
) -> Response {
    set_drained(requests, vip, &backend, true).await
}

async fn undrain(
    State(requests): State<Requests>,
    UrlPath((vip, backend)): UrlPath<(String, String)>,
) -> Response {
    set_drained(requests, vip, &backend, false).await
}

async fn set_drained(requests: Requests, vip: String, backend: &str, drained: bool) -> Response {
    let Ok(backend) = backend.parse::<IpAddr>() else {
        return failed(StatusCode::BAD_REQUEST, format!("{backend:?} is no IP address"));
    };
    let (reply, answer) = oneshot::channel();
    if requests
        .send(Request::Drain {
            vip,
            backend,
            drained,
            reply,
        })
        .await
        .is_err()
    {
        return failed(StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping");
    }
    match answer.await {
        Ok(Ok(())) => Json(serde_json::json!({ "backend": backend, "drained": drained })).into_response(),
        Ok(Err(refusal)) => failed(StatusCode::NOT_FOUND, refusal),
        Err(_) => failed(StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping"),
    }
}
