//! The contract's objects as JSON: user, profile, article.
//!
//! Nobody can follow or favorite yet (there are no such calls and no such rows), so `following` and
//! `favorited` are false and `favoritesCount` is 0 for everyone.

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::app::store::articles::Article;
use crate::app::store::users::User;

/// `{"user": ...}`, for its owner only.
#[derive(Serialize)]
pub(super) struct UserReply {
    user: UserView,
}

#[derive(Serialize)]
struct UserView {
    email: String,
    token: String,
    username: String,
    bio: Option<String>,
    image: Option<String>,
}

impl UserReply {
    /// The user with the token to go on with.
    pub(super) fn new(user: User, token: String) -> Self {
        let User {
            id: _,
            username,
            email,
            bio,
            image,
        } = user;
        Self {
            user: UserView {
                email,
                token,
                username,
                bio,
                image,
            },
        }
    }
}

/// `{"article": ...}`.
#[derive(Serialize)]
pub(super) struct ArticleReply {
    article: ArticleView,
}

impl From<Article> for ArticleReply {
    fn from(article: Article) -> Self {
        Self {
            article: article.into(),
        }
    }
}

/// `{"articles": [...], "articlesCount": n}`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ArticlesReply {
    articles: Vec<ArticleView>,
    articles_count: i64,
}

impl ArticlesReply {
    /// A page of a list with so many matches in all.
    pub(super) fn new(page: Vec<Article>, total: i64) -> Self {
        Self {
            articles: page.into_iter().map(ArticleView::from).collect(),
            articles_count: total,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ArticleView {
    slug: String,
    title: String,
    description: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    tag_list: Vec<String>,
    #[serde(serialize_with = "iso_8601")]
    created_at: i64,
    #[serde(serialize_with = "iso_8601")]
    updated_at: i64,
    favorited: bool,
    favorites_count: u64,
    author: Profile,
}

#[derive(Serialize)]
struct Profile {
    username: String,
    bio: Option<String>,
    image: Option<String>,
    following: bool,
}

impl From<Article> for ArticleView {
    fn from(article: Article) -> Self {
        Self {
            slug: article.slug,
            title: article.title,
            description: article.description,
            body: article.body,
            tag_list: article.tags,
            created_at: article.created_ms,
            updated_at: article.updated_ms,
            favorited: false,
            favorites_count: 0,
            author: Profile {
                username: article.username,
                bio: article.bio,
                image: article.image,
                following: false,
            },
        }
    }
}

/// Milliseconds since 1970 as `2026-01-31T12:00:00.000Z`.
fn iso_8601<S: Serializer>(milliseconds: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    let time = Timestamp::from_millisecond(*milliseconds).map_err(serde::ser::Error::custom)?;
    serializer.collect_str(&format_args!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn article(body: Option<&str>) -> Article {
        Article {
            id: 1,
            author_id: 2,
            slug: "a".to_owned(),
            title: "A".to_owned(),
            description: "about".to_owned(),
            body: body.map(str::to_owned),
            created_ms: 1_767_268_800_000,
            updated_ms: 1_767_268_800_007,
            username: "alice".to_owned(),
            bio: None,
            image: None,
            tags: vec!["b".to_owned(), "a".to_owned()],
        }
    }

    #[test]
    fn an_article_has_the_contracts_keys_and_times() {
        let json = serde_json::to_value(ArticleReply::from(article(Some("text")))).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"article": {
                "slug": "a", "title": "A", "description": "about", "body": "text",
                "tagList": ["b", "a"],
                "createdAt": "2026-01-01T12:00:00.000Z", "updatedAt": "2026-01-01T12:00:00.007Z",
                "favorited": false, "favoritesCount": 0,
                "author": {"username": "alice", "bio": null, "image": null, "following": false}
            }})
        );
    }

    #[test]
    fn a_list_has_no_bodies() {
        let json = serde_json::to_value(ArticlesReply::new(vec![article(None)], 7)).unwrap();
        assert_eq!(json["articlesCount"], 7);
        assert!(json["articles"][0].get("body").is_none());
    }
}
