//! The server's own small answers: error pages for people, errors of the API's form for programs.

use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};

use super::body::{Body, full};

/// A page for people.
#[must_use]
pub fn html(status: StatusCode) -> Response<Body> {
    let reason = status.canonical_reason().unwrap_or("Error");
    let code = status.as_u16();
    let text = explanation(status);
    let page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{code} {reason}</title></head>\n\
         <body><h1>{code} {reason}</h1><p>{text}</p><p><a href=\"/\">To the front page</a></p></body></html>\n"
    );
    answer(status, "text/html; charset=utf-8", page)
}

/// For a path of the API: a page where the client asks for one, otherwise its `errors` object.
#[must_use]
pub fn for_api(status: StatusCode, request: &HeaderMap) -> Response<Body> {
    let wants_page = request
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"));
    if wants_page {
        return html(status);
    }
    let body = serde_json::json!({ "errors": { "server": [explanation(status)] } });
    answer(status, "application/json; charset=utf-8", body.to_string())
}

/// 405 with the methods that there are.
#[must_use]
pub fn method_not_allowed(allow: &'static str) -> Response<Body> {
    let mut response = html(StatusCode::METHOD_NOT_ALLOWED);
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}

/// A short answer that nobody may keep.
#[must_use]
pub fn answer(status: StatusCode, content_type: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(full(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn explanation(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => "There is nothing at this address.",
        StatusCode::PAYLOAD_TOO_LARGE => "The request is too large.",
        StatusCode::REQUEST_TIMEOUT => "The request did not arrive in time.",
        StatusCode::BAD_GATEWAY => "No app server could be reached. Try again in a moment.",
        StatusCode::GATEWAY_TIMEOUT => "The app server took too long. Try again in a moment.",
        StatusCode::PERMANENT_REDIRECT => "This address has another form.",
        _ if status.is_server_error() => "Something went wrong on this side.",
        _ => "The request could not be answered.",
    }
}
