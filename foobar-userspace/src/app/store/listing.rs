//! Lists of articles: filtered, newest first, a page at a time, without bodies.

use std::collections::HashMap;

use sqlx::{MySql, MySqlConnection, MySqlPool, QueryBuilder};

use super::StoreError;
use super::articles::{Article, select_article};

/// Which articles, and which page of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::app) struct Filter {
    /// Only those with this tag
    pub(in crate::app) tag: Option<String>,
    /// Only those by the user of this name
    pub(in crate::app) author: Option<String>,
    /// The page's length
    pub(in crate::app) limit: u32,
    /// How many to skip
    pub(in crate::app) offset: u32,
}

/// A page, and how many articles match in all.
pub(in crate::app) struct Page {
    pub(in crate::app) articles: Vec<Article>,
    pub(in crate::app) total: i64,
}

/// Reads page and total from one snapshot, so that they agree.
pub(in crate::app) async fn page(pool: &MySqlPool, filter: &Filter) -> Result<Page, StoreError> {
    let mut snapshot = pool.begin().await?;
    let mut count = QueryBuilder::new("SELECT COUNT(*) FROM articles a JOIN users u ON u.id = a.author_id");
    push_filter(&mut count, filter);
    let total: i64 = count.build_query_scalar().fetch_one(&mut *snapshot).await?;

    let mut query = QueryBuilder::new(select_article!("CAST(NULL AS CHAR) AS body"));
    push_filter(&mut query, filter);
    // The id decides among articles of one millisecond.
    query
        .push(" ORDER BY a.created_at DESC, a.id DESC LIMIT ")
        .push_bind(filter.limit);
    query.push(" OFFSET ").push_bind(filter.offset);
    let mut articles: Vec<Article> = query.build_query_as().fetch_all(&mut *snapshot).await?;
    add_tags(&mut snapshot, &mut articles).await?;
    snapshot.commit().await?;
    Ok(Page { articles, total })
}

fn push_filter(query: &mut QueryBuilder<MySql>, filter: &Filter) {
    query.push(" WHERE TRUE");
    if let Some(tag) = &filter.tag {
        query.push(" AND EXISTS (SELECT 1 FROM article_tags t WHERE t.article_id = a.id AND t.tag = ");
        query.push_bind(tag.clone()).push(")");
    }
    if let Some(author) = &filter.author {
        query.push(" AND u.username = ").push_bind(author.clone());
    }
}

async fn add_tags(connection: &mut MySqlConnection, articles: &mut [Article]) -> Result<(), StoreError> {
    if articles.is_empty() {
        return Ok(());
    }
    let mut query = QueryBuilder::new("SELECT article_id, tag FROM article_tags WHERE article_id IN (");
    let mut ids = query.separated(", ");
    for article in articles.iter() {
        ids.push_bind(article.id);
    }
    query.push(") ORDER BY article_id, position");
    let rows: Vec<(u64, String)> = query.build_query_as().fetch_all(connection).await?;
    let mut by_article: HashMap<u64, Vec<String>> = HashMap::new();
    for (article, tag) in rows {
        by_article.entry(article).or_default().push(tag);
    }
    for article in articles {
        article.tags = by_article.remove(&article.id).unwrap_or_default();
    }
    Ok(())
}
