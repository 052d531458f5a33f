//! GET /articles: the query's filter and page.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};

use crate::app::error::{ApiError, FieldErrors, Reply};
use crate::app::routes::view::ArticlesReply;
use crate::app::server::App;
use crate::app::store::listing::{self, Filter};

/// The page's length where none is asked for, and the longest.
const DEFAULT_LIMIT: u32 = 20;
const MAX_LIMIT: u32 = 100;

/// A query's parameters by name.
type Parameters = HashMap<String, String>;

/// Lists articles, newest first.
pub(in crate::app::routes) async fn list(
    State(app): State<Arc<App>>,
    query: Result<Query<Parameters>, QueryRejection>,
) -> Result<Reply<ArticlesReply>, ApiError> {
    let Query(mut parameters) = query.map_err(|_| ApiError::invalid("query", "is malformed"))?;
    let filter = filter(&mut parameters)?;
    let pool = app.database.pool()?;
    // Nobody has a favorite yet, so nothing is anybody's.
    if parameters.contains_key("favorited") {
        return Ok(Reply(ArticlesReply::new(Vec::new(), 0)));
    }
    let page = listing::page(pool, &filter).await?;
    Ok(Reply(ArticlesReply::new(page.articles, page.total)))
}

fn filter(parameters: &mut Parameters) -> Result<Filter, ApiError> {
    let mut errors = FieldErrors::new();
    let mut number = |name: &str, default: u32, min: u32, max: u32| -> u32 {
        let Some(text) = parameters.get(name) else {
            return default;
        };
        match text.parse() {
            Ok(value) if (min..=max).contains(&value) => value,
            _ => {
                errors.insert(
                    name.to_owned(),
                    vec![format!("must be a number from {min} to {max}")],
                );
                default
            }
        }
    };
    let limit = number("limit", DEFAULT_LIMIT, 1, MAX_LIMIT);
    let offset = number("offset", 0, 0, u32::MAX);
    if !errors.is_empty() {
        return Err(ApiError::Invalid(errors));
    }
    Ok(Filter {
        tag: parameters.remove("tag"),
        author: parameters.remove("author"),
        limit,
        offset,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Filter, ApiError> {
        filter(
            &mut pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        )
    }

    #[test]
    fn a_page_has_the_contracts_defaults() {
        assert_eq!(
            parse(&[]).unwrap(),
            Filter {
                tag: None,
                author: None,
                limit: 20,
                offset: 0
            }
        );
        let filter = parse(&[("tag", "a"), ("author", "b"), ("limit", "100"), ("offset", "3")]).unwrap();
        assert_eq!(
            filter,
            Filter {
                tag: Some("a".to_owned()),
                author: Some("b".to_owned()),
                limit: 100,
                offset: 3
            }
        );
    }

    #[test]
    fn numbers_out_of_range_are_all_refused() {
        for limit in ["0", "101", "-1", "x", "", "1.5", "99999999999999999999"] {
            assert!(
                matches!(parse(&[("limit", limit)]), Err(ApiError::Invalid(_))),
                "{limit}"
            );
        }
        let Err(ApiError::Invalid(errors)) = parse(&[("limit", "0"), ("offset", "-1")]) else {
            panic!("taken")
        };
        assert_eq!(errors.keys().collect::<Vec<_>>(), ["limit", "offset"]);
    }
}
