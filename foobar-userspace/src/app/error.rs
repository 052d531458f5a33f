//! Every refusal of the API, and the one shape that all of them are told in:
//! `{"errors": {"<field>": ["<message>", ...]}}`.

use std::collections::BTreeMap;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::store::{StoreError, UniqueKey};

/// Why a request is not served.
#[derive(Debug)]
pub(super) enum ApiError {
    /// No token where one must be
    TokenMissing,
    /// A token that is malformed, forged, expired or of nobody
    TokenInvalid,
    /// Wrong email or password: which of the two is not told
    Credentials,
    /// Somebody else's, named by kind (`article`)
    Forbidden(&'static str),
    /// Does not exist, named by kind
    NotFound(&'static str),
    /// The path exists, but not with this method
    MethodNotAllowed,
    /// A unique value that somebody has already, named by field
    Taken(&'static str),
    /// Content that cannot be taken: field and message
    Invalid(FieldErrors),
    /// A body beyond the limit
    TooLarge,
    /// The database does not answer
    Unavailable,
    /// The request took too long
    TimedOut,
    /// Our own failure, already logged
    Internal,
}

/// Messages by field.
pub(super) type FieldErrors = BTreeMap<String, Vec<String>>;

impl ApiError {
    /// Content refused for one field.
    pub(super) fn invalid(field: &str, message: impl Into<String>) -> Self {
        Self::Invalid(FieldErrors::from([(field.to_owned(), vec![message.into()])]))
    }

    /// Logs a failure of our own and hides it from the client.
    pub(super) fn internal(error: impl std::fmt::Display) -> Self {
        tracing::error!(%error, "request failed");
        Self::Internal
    }

    fn parts(self) -> (StatusCode, FieldErrors) {
        let one =
            |field: &str, message: &str| FieldErrors::from([(field.to_owned(), vec![message.to_owned()])]);
        match self {
            Self::TokenMissing => (StatusCode::UNAUTHORIZED, one("token", "is missing")),
            Self::TokenInvalid => (StatusCode::UNAUTHORIZED, one("token", "is invalid")),
            Self::Credentials => (StatusCode::UNAUTHORIZED, one("credentials", "invalid")),
            Self::Forbidden(kind) => (StatusCode::FORBIDDEN, one(kind, "forbidden")),
            Self::NotFound(kind) => (StatusCode::NOT_FOUND, one(kind, "not found")),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, one("method", "not allowed")),
            Self::Taken(field) => (StatusCode::CONFLICT, one(field, "has already been taken")),
            Self::Invalid(errors) => (StatusCode::UNPROCESSABLE_ENTITY, errors),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, one("body", "is too large")),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, one("database", "is unavailable")),
            Self::TimedOut => (StatusCode::SERVICE_UNAVAILABLE, one("request", "timed out")),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, one("server", "internal error")),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, errors) = self.parts();
        (status, Reply(serde_json::json!({ "errors": errors }))).into_response()
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Duplicate(UniqueKey::Username) => Self::Taken("username"),
            StoreError::Duplicate(UniqueKey::Email) => Self::Taken("email"),
            StoreError::Duplicate(UniqueKey::Slug) => Self::Taken("title"),
            StoreError::Unavailable(why) => {
                tracing::warn!(%why, "the database is unavailable");
                Self::Unavailable
            }
            StoreError::Failed(error) => Self::internal(error),
        }
    }
}

/// A JSON body with the content type that the contract names, charset included.
pub(super) struct Reply<T>(pub(super) T);

impl<T: serde::Serialize> IntoResponse for Reply<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.0).into_response();
        response.headers_mut().insert(
            axum::http::header::CONTENT_TYPE,
            axum::http::HeaderValue::from_static("application/json; charset=utf-8"),
        );
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_the_contracts_status_and_entry() {
        let table = [
            (ApiError::TokenMissing, 401, "token", "is missing"),
            (ApiError::TokenInvalid, 401, "token", "is invalid"),
            (ApiError::Credentials, 401, "credentials", "invalid"),
            (ApiError::Forbidden("article"), 403, "article", "forbidden"),
            (ApiError::NotFound("article"), 404, "article", "not found"),
            (ApiError::Taken("email"), 409, "email", "has already been taken"),
            (
                ApiError::invalid("title", "can't be blank"),
                422,
                "title",
                "can't be blank",
            ),
            (ApiError::Unavailable, 503, "database", "is unavailable"),
        ];
        for (error, status, field, message) in table {
            let (got, errors) = error.parts();
            assert_eq!(got.as_u16(), status);
            assert_eq!(
                errors,
                FieldErrors::from([(field.to_owned(), vec![message.to_owned()])])
            );
        }
    }

    #[test]
    fn replies_name_their_charset() {
        let response = ApiError::Credentials.into_response();
        assert_eq!(
            response.headers()["content-type"],
            "application/json; charset=utf-8"
        );
    }
}
