//! GET /tags.

use std::sync::Arc;

use axum::extract::State;

use crate::app::error::{ApiError, Reply};
use crate::app::server::App;
use crate::app::store::articles;

/// Every tag in use.
pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Reply<serde_json::Value>, ApiError> {
    let tags = articles::all_tags(app.database.pool()?).await?;
    Ok(Reply(serde_json::json!({ "tags": tags })))
}
