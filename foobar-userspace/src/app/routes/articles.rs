//! GET and POST /articles; GET, PUT and DELETE /articles/{slug}.

mod listing;
mod slug;

use std::sync::Arc;

use axum::extract::{FromRequestParts, Path, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;

pub(super) use listing::list;

use super::payload::Form;
use super::view::ArticleReply;
use crate::app::auth::Caller;
use crate::app::error::{ApiError, Reply};
use crate::app::server::App;
use crate::app::store::articles::{self, Article, Change, Draft};
use crate::app::store::{StoreError, UniqueKey};

/// The longest values, in characters; the columns' widths, but for the body, which the request's own limit
/// keeps below its column's.
const MAX_TITLE: usize = 255;
const MAX_DESCRIPTION: usize = 1000;
const MAX_BODY: usize = 1 << 20;
/// How many slugs are tried for one title.
const SLUG_TRIES: usize = 5;

/// The path's slug; one that cannot be decoded names no article.
pub(super) struct Slug(String);

impl FromRequestParts<Arc<App>> for Slug {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let Path(slug) = Path::<String>::from_request_parts(parts, app)
            .await
            .map_err(|_| ApiError::NotFound("article"))?;
        Ok(Self(slug))
    }
}

/// Reads one.
pub(super) async fn read(
    State(app): State<Arc<App>>,
    Slug(slug): Slug,
) -> Result<Reply<ArticleReply>, ApiError> {
    let article = find(&app, &slug).await?;
    Ok(Reply(article.into()))
}

/// Publishes one.
pub(super) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    request: Request,
) -> Result<(StatusCode, Reply<ArticleReply>), ApiError> {
    let mut form = Form::read(request, "article").await?;
    let draft = Draft {
        title: form.text("title", MAX_TITLE),
        description: form.text("description", MAX_DESCRIPTION),
        body: form.text("body", MAX_BODY),
        tags: form.tags("tagList").unwrap_or_default(),
    };
    form.done()?;
    let pool = app.database.pool()?;
    let mut slug = slug::plain(&draft.title);
    for _ in 1..SLUG_TRIES {
        match articles::insert(pool, caller.user.id, &slug, &draft).await {
            Err(StoreError::Duplicate(UniqueKey::Slug)) => slug = slug::distinct(&draft.title),
            done => return Ok((StatusCode::CREATED, Reply(done?.into()))),
        }
    }
    let article = articles::insert(pool, caller.user.id, &slug, &draft).await?;
    Ok((StatusCode::CREATED, Reply(article.into())))
}

/// Changes one's own: only the fields given.
pub(super) async fn update(
    State(app): State<Arc<App>>,
    caller: Caller,
    Slug(slug): Slug,
    request: Request,
) -> Result<Reply<ArticleReply>, ApiError> {
    let article = find_own(&app, &caller, &slug).await?;
    let mut form = Form::read(request, "article").await?;
    let mut change = Change {
        slug: None,
        title: form.text_if_given("title", MAX_TITLE),
        description: form.text_if_given("description", MAX_DESCRIPTION),
        body: form.text_if_given("body", MAX_BODY),
        tags: form.tags("tagList"),
    };
    form.done()?;
    // A title that makes the same slug, such as one in another case, keeps its place.
    let new_title = change
        .title
        .clone()
        .filter(|title| slug::plain(title) != slug::plain(&article.title));
    change.slug = new_title.as_deref().map(slug::plain);
    let pool = app.database.pool()?;
    let mut outcome = articles::update(pool, article.id, &change).await;
    for _ in 1..SLUG_TRIES {
        let (Err(StoreError::Duplicate(UniqueKey::Slug)), Some(title)) = (&outcome, &new_title) else {
            break;
        };
        change.slug = Some(slug::distinct(title));
        outcome = articles::update(pool, article.id, &change).await;
    }
    let article = outcome?.ok_or(ApiError::NotFound("article"))?;
    Ok(Reply(article.into()))
}

/// Removes one's own.
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    Slug(slug): Slug,
) -> Result<StatusCode, ApiError> {
    let article = find_own(&app, &caller, &slug).await?;
    if articles::delete(app.database.pool()?, article.id).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::NotFound("article"))
    }
}

async fn find(app: &App, slug: &str) -> Result<Article, ApiError> {
    // Slugs are ASCII; other text has no place in the column's character set.
    if !slug.is_ascii() {
        return Err(ApiError::NotFound("article"));
    }
    articles::by_slug(app.database.pool()?, slug)
        .await?
        .ok_or(ApiError::NotFound("article"))
}

/// Existence comes before ownership.
async fn find_own(app: &App, caller: &Caller, slug: &str) -> Result<Article, ApiError> {
    let article = find(app, slug).await?;
    if article.author_id == caller.user.id {
        Ok(article)
    } else {
        Err(ApiError::Forbidden("article"))
    }
}
