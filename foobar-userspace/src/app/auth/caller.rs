//! The extractor for calls that need a log-in: `Authorization: Token <JWT>` becomes a user who exists.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;

use crate::app::error::ApiError;
use crate::app::server::App;
use crate::app::store::users::{self, User};

/// The user who makes the request, and the token that says so.
pub(in crate::app) struct Caller {
    /// The user as stored now
    pub(in crate::app) user: User,
    /// The token as presented
    pub(in crate::app) token: String,
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let token = bearer(&parts.headers)?;
        let id = app.tokens.user(token).ok_or(ApiError::TokenInvalid)?;
        let user = users::by_id(app.database.pool()?, id)
            .await?
            .ok_or(ApiError::TokenInvalid)?;
        Ok(Self {
            user,
            token: token.to_owned(),
        })
    }
}

fn bearer(headers: &HeaderMap) -> Result<&str, ApiError> {
    let value = headers.get(AUTHORIZATION).ok_or(ApiError::TokenMissing)?;
    let text = value.to_str().map_err(|_| ApiError::TokenInvalid)?.trim();
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    // Schemes are compared without regard to case (RFC 9110 section 11.1).
    if !scheme.eq_ignore_ascii_case("Token") {
        return Err(if text.is_empty() {
            ApiError::TokenMissing
        } else {
            ApiError::TokenInvalid
        });
    }
    match token.trim_start() {
        "" => Err(ApiError::TokenMissing),
        token => Ok(token),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: Option<&str>) -> Result<String, ApiError> {
        let mut headers = HeaderMap::new();
        if let Some(value) = value {
            headers.insert(AUTHORIZATION, value.parse().unwrap());
        }
        bearer(&headers).map(str::to_owned)
    }

    #[test]
    fn the_token_follows_its_scheme() {
        assert_eq!(read(Some("Token abc")).unwrap(), "abc");
        assert_eq!(read(Some("token  abc")).unwrap(), "abc");
        for missing in [None, Some(""), Some("Token"), Some("Token ")] {
            assert!(
                matches!(read(missing), Err(ApiError::TokenMissing)),
                "{missing:?}"
            );
        }
        for invalid in ["Bearer abc", "Basic dTpw", "abc"] {
            assert!(
                matches!(read(Some(invalid)), Err(ApiError::TokenInvalid)),
                "{invalid}"
            );
        }
    }
}
