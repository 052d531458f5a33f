//! Port 80: everything is sent on to HTTPS, at a host that is well formed.

use http::header::{self, HeaderValue};
use http::{Response, StatusCode, Uri};

use super::body::Body;
use super::host::Host;
use super::pages;

/// The port that `https` means without saying it.
const HTTPS_PORT: u16 = 443;

/// 308 to the same path and query on the TLS listener's port, so that a POST stays a POST.
#[must_use]
pub fn to_https(host: &Host, uri: &Uri, https_port: u16) -> Response<Body> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let path = if path.starts_with('/') { path } else { "/" };
    let port = if https_port == HTTPS_PORT {
        String::new()
    } else {
        format!(":{https_port}")
    };
    match HeaderValue::try_from(format!("https://{}{port}{path}", host.name())) {
        Ok(location) => {
            let mut response = pages::html(StatusCode::PERMANENT_REDIRECT);
            response.headers_mut().insert(header::LOCATION, location);
            response
        }
        Err(_) => pages::html(StatusCode::BAD_REQUEST),
    }
}
