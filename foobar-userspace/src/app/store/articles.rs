//! Rows of `articles` with their tags and authors, one at a time. Lists are in [`super::listing`].

use sqlx::{MySql, MySqlConnection, MySqlPool, Transaction};

use super::StoreError;

/// Columns of an article and its author; times as milliseconds since 1970, whatever the session's zone.
/// `{}` stands for the body's column, which lists leave out.
macro_rules! select_article {
    ($body:literal) => {
        concat!(
            "SELECT a.id, a.author_id, a.slug, a.title, a.description, ",
            $body,
            ", TIMESTAMPDIFF(MICROSECOND, '1970-01-01', a.created_at) DIV 1000 AS created_ms, \
               TIMESTAMPDIFF(MICROSECOND, '1970-01-01', a.updated_at) DIV 1000 AS updated_ms, \
               u.username, u.bio, u.image \
             FROM articles a JOIN users u ON u.id = a.author_id"
        )
    };
}
pub(super) use select_article;

/// An article with its author. Tags are read apart.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(in crate::app) struct Article {
    /// Primary key
    pub(in crate::app) id: u64,
    /// Whose it is
    pub(in crate::app) author_id: u64,
    /// Unique
    pub(in crate::app) slug: String,
    pub(in crate::app) title: String,
    pub(in crate::app) description: String,
    /// Nothing in lists
    pub(in crate::app) body: Option<String>,
    /// Milliseconds since 1970
    pub(in crate::app) created_ms: i64,
    /// Milliseconds since 1970
    pub(in crate::app) updated_ms: i64,
    /// The author's name
    pub(in crate::app) username: String,
    /// The author's
    pub(in crate::app) bio: Option<String>,
    /// The author's
    pub(in crate::app) image: Option<String>,
    /// In the order given
    #[sqlx(skip)]
    pub(in crate::app) tags: Vec<String>,
}

/// A new article's content.
pub(in crate::app) struct Draft {
    pub(in crate::app) title: String,
    pub(in crate::app) description: String,
    pub(in crate::app) body: String,
    pub(in crate::app) tags: Vec<String>,
}

/// Changes to an article: `None` keeps.
#[derive(Default)]
pub(in crate::app) struct Change {
    pub(in crate::app) slug: Option<String>,
    pub(in crate::app) title: Option<String>,
    pub(in crate::app) description: Option<String>,
    pub(in crate::app) body: Option<String>,
    pub(in crate::app) tags: Option<Vec<String>>,
}

/// The article with this slug.
pub(in crate::app) async fn by_slug(pool: &MySqlPool, slug: &str) -> Result<Option<Article>, StoreError> {
    let mut connection = pool.acquire().await?;
    let article = sqlx::query_as(concat!(select_article!("a.body"), " WHERE a.slug = ?"))
        .bind(slug)
        .fetch_optional(&mut *connection)
        .await?;
    with_tags(&mut connection, article).await
}

async fn by_id(connection: &mut MySqlConnection, id: u64) -> Result<Option<Article>, StoreError> {
    let article = sqlx::query_as(concat!(select_article!("a.body"), " WHERE a.id = ?"))
        .bind(id)
        .fetch_optional(&mut *connection)
        .await?;
    with_tags(connection, article).await
}

async fn with_tags(
    connection: &mut MySqlConnection,
    article: Option<Article>,
) -> Result<Option<Article>, StoreError> {
    let Some(mut article) = article else {
        return Ok(None);
    };
    article.tags = sqlx::query_scalar("SELECT tag FROM article_tags WHERE article_id = ? ORDER BY position")
        .bind(article.id)
        .fetch_all(connection)
        .await?;
    Ok(Some(article))
}

/// Adds an article under a slug.
///
/// # Errors
/// [`StoreError::Duplicate`] where the slug is taken.
pub(in crate::app) async fn insert(
    pool: &MySqlPool,
    author: u64,
    slug: &str,
    draft: &Draft,
) -> Result<Article, StoreError> {
    let mut transaction = pool.begin().await?;
    let id = sqlx::query(
        "INSERT INTO articles (author_id, slug, title, description, body, created_at, updated_at) \
         SELECT ?, ?, ?, ?, ?, now, now FROM (SELECT UTC_TIMESTAMP(3) AS now) AS clock",
    )
    .bind(author)
    .bind(slug)
    .bind(&draft.title)
    .bind(&draft.description)
    .bind(&draft.body)
    .execute(&mut *transaction)
    .await?
    .last_insert_id();
    insert_tags(&mut transaction, id, &draft.tags).await?;
    let article = by_id(&mut transaction, id).await?;
    transaction.commit().await?;
    article.ok_or(StoreError::Failed(sqlx::Error::RowNotFound))
}

/// Changes an article and reads the outcome; nothing where it has gone meanwhile. The time of update grows
/// even within one millisecond.
///
/// # Errors
/// [`StoreError::Duplicate`] where the new slug is taken.
pub(in crate::app) async fn update(
    pool: &MySqlPool,
    id: u64,
    change: &Change,
) -> Result<Option<Article>, StoreError> {
    let mut transaction = pool.begin().await?;
    sqlx::query(
        "UPDATE articles SET \
           slug = COALESCE(?, slug), title = COALESCE(?, title), \
           description = COALESCE(?, description), body = COALESCE(?, body), \
           updated_at = GREATEST(UTC_TIMESTAMP(3), updated_at + INTERVAL 1000 MICROSECOND) \
         WHERE id = ?",
    )
    .bind(&change.slug)
    .bind(&change.title)
    .bind(&change.description)
    .bind(&change.body)
    .bind(id)
    .execute(&mut *transaction)
    .await?;
    let Some(mut article) = by_id(&mut transaction, id).await? else {
        return Ok(None);
    };
    if let Some(tags) = &change.tags {
        sqlx::query("DELETE FROM article_tags WHERE article_id = ?")
            .bind(id)
            .execute(&mut *transaction)
            .await?;
        insert_tags(&mut transaction, id, tags).await?;
        article.tags.clone_from(tags);
    }
    transaction.commit().await?;
    Ok(Some(article))
}

async fn insert_tags(
    transaction: &mut Transaction<'_, MySql>,
    article: u64,
    tags: &[String],
) -> Result<(), StoreError> {
    if tags.is_empty() {
        return Ok(());
    }
    let mut query = sqlx::QueryBuilder::new("INSERT INTO article_tags (article_id, position, tag) ");
    query.push_values(tags.iter().zip(0_u16..), |mut row, (tag, position)| {
        row.push_bind(article).push_bind(position).push_bind(tag);
    });
    query.build().execute(&mut **transaction).await?;
    Ok(())
}

/// Removes an article with its tags; false where it has gone already.
pub(in crate::app) async fn delete(pool: &MySqlPool, id: u64) -> Result<bool, StoreError> {
    let done = sqlx::query("DELETE FROM articles WHERE id = ?")
        .bind(id)
        .execute(pool)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Every tag that an article has, in alphabetical order.
pub(in crate::app) async fn all_tags(pool: &MySqlPool) -> Result<Vec<String>, StoreError> {
    Ok(
        sqlx::query_scalar("SELECT DISTINCT tag FROM article_tags ORDER BY tag")
            .fetch_all(pool)
            .await?,
    )
}
