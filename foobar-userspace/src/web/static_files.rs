//! Static files: index, content type, validators, conditional and range requests, HEAD.
//!
//! Every answer is made from one opened file, so that length, tag and bytes belong together. Knows nothing
//! of compression but that a client that takes it and asks for a range gets the plain bytes.

use std::fs::{File, Metadata};
use std::io::{self, SeekFrom};
use std::sync::Arc;
use std::time::SystemTime;

use futures_util::TryStreamExt as _;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use super::body::{Body, empty};
use super::compression::{self, Coding};
use super::pages;
use super::preconditions::{self, Outcome, Validators};
use super::range::{self, Selection};
use super::site_path::{self, BadPath, Root, SitePath};

/// Bytes read from a file at once.
const CHUNK: usize = 64 * 1024;

/// Answers a request for a file. `least` is the size from which an answer is compressed.
pub async fn serve(
    root: &Arc<Root>,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    least: u64,
) -> Response<Body> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return pages::method_not_allowed("GET, HEAD");
    }
    let path = match SitePath::parse(uri.path()) {
        Ok(path) => path,
        Err(BadPath::Encoding) => return pages::html(StatusCode::BAD_REQUEST),
        Err(BadPath::Segment) => return pages::html(StatusCode::NOT_FOUND),
    };
    let name = path.file();
    match open(root, name.clone()).await {
        Ok((file, metadata)) if metadata.is_file() => {
            let request = FileRequest {
                method,
                headers,
                least,
            };
            request
                .answer(&name, file, &metadata)
                .await
                .unwrap_or_else(|error| {
                    tracing::warn!(%name, %error, "a file cannot be sent");
                    pages::html(StatusCode::INTERNAL_SERVER_ERROR)
                })
        }
        Ok((_, metadata)) if metadata.is_dir() && !path.is_directory_form() => to_directory(uri),
        Ok(_) => pages::html(StatusCode::NOT_FOUND),
        Err(error) => {
            if site_path::is_missing(&error) {
                return pages::html(StatusCode::NOT_FOUND);
            }
            tracing::warn!(%name, %error, "a file cannot be opened");
            pages::html(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

async fn open(root: &Arc<Root>, name: String) -> io::Result<(File, Metadata)> {
    let root = Arc::clone(root);
    let opened = tokio::task::spawn_blocking(move || {
        let file = root.open_beneath(&name)?;
        let metadata = file.metadata()?;
        Ok((file, metadata))
    });
    opened.await.map_err(io::Error::other)?
}

/// A directory without its slash: relative links in its index would lead elsewhere.
fn to_directory(uri: &Uri) -> Response<Body> {
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut response = pages::html(StatusCode::PERMANENT_REDIRECT);
    match HeaderValue::try_from(format!("{}/{query}", uri.path())) {
        Ok(location) => {
            response.headers_mut().insert(header::LOCATION, location);
            response
        }
        Err(_) => pages::html(StatusCode::NOT_FOUND),
    }
}

struct FileRequest<'a> {
    method: &'a Method,
    headers: &'a HeaderMap,
    least: u64,
}

impl FileRequest<'_> {
    async fn answer(&self, name: &str, file: File, metadata: &Metadata) -> io::Result<Response<Body>> {
        let length = metadata.len();
        let content_type = content_type(name);
        let modified = metadata.modified()?;
        let validators = Validators {
            etag: etag(modified, length),
            modified,
        };

        let mut response = Response::new(empty());
        let to = response.headers_mut();
        to.insert(header::CONTENT_TYPE, header_value(&content_type)?);
        to.insert(
            header::CACHE_CONTROL,
            HeaderValue::from_static(cache_control(&content_type)),
        );
        to.insert(
            header::LAST_MODIFIED,
            header_value(&httpdate::fmt_http_date(modified.min(SystemTime::now())))?,
        );
        to.insert(header::ETAG, header_value(&validators.etag)?);
        to.insert(header::CONTENT_LENGTH, length.into());
        to.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));

        let accepted = Coding::accepted(self.headers);
        match preconditions::evaluate(self.headers, &validators) {
            Outcome::Failed => return Ok(pages::html(StatusCode::PRECONDITION_FAILED)),
            Outcome::NotModified => {
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                // The tag must be the one of the form that a 200 would have had.
                let mut response = compression::apply(accepted, self.least, response);
                for name in [
                    header::CONTENT_TYPE,
                    header::CONTENT_LENGTH,
                    header::CONTENT_ENCODING,
                ] {
                    response.headers_mut().remove(name);
                }
                return Ok(response);
            }
            Outcome::Proceed => (),
        }

        match self.selection(length, &validators) {
            Selection::Whole if self.method == Method::HEAD => {
                Ok(compression::apply(accepted, self.least, response))
            }
            Selection::Whole => {
                *response.body_mut() = content(file, 0, length).await?;
                Ok(compression::apply(accepted, self.least, response))
            }
            Selection::Part { first, last } => {
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                let to = response.headers_mut();
                to.insert(
                    header::CONTENT_RANGE,
                    header_value(&format!("bytes {first}-{last}/{length}"))?,
                );
                to.insert(header::CONTENT_LENGTH, (last - first + 1).into());
                if compression::is_compressible(&content_type) {
                    to.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
                }
                *response.body_mut() = content(file, first, last - first + 1).await?;
                Ok(response)
            }
            Selection::Unsatisfiable => {
                let mut response = pages::html(StatusCode::RANGE_NOT_SATISFIABLE);
                let to = response.headers_mut();
                to.insert(header::CONTENT_RANGE, header_value(&format!("bytes */{length}"))?);
                Ok(response)
            }
        }
    }

    fn selection(&self, length: u64, validators: &Validators) -> Selection {
        let range = self
            .headers
            .get(header::RANGE)
            .and_then(|range| range.to_str().ok());
        match range {
            Some(range)
                if self.method == Method::GET
                    && preconditions::range_applies(self.headers, validators, SystemTime::now()) =>
            {
                range::select(range, length)
            }
            _ => Selection::Whole,
        }
    }
}

async fn content(file: File, first: u64, length: u64) -> io::Result<Body> {
    let mut file = tokio::fs::File::from_std(file);
    if first > 0 {
        file.seek(SeekFrom::Start(first)).await?;
    }
    let stream = ReaderStream::with_capacity(file.take(length), CHUNK);
    Ok(StreamBody::new(stream.map_ok(Frame::data).map_err(Into::into)).boxed_unsync())
}

/// A strong tag: it differs whenever a change moved the clock of the file system or the length.
fn etag(modified: SystemTime, length: u64) -> String {
    let nanoseconds = modified
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos());
    format!("\"{nanoseconds:x}-{length:x}\"")
}

fn content_type(name: &str) -> String {
    let guess = mime_guess::from_path(name).first_or_octet_stream();
    let textual = guess.type_() == mime_guess::mime::TEXT || guess.subtype() == mime_guess::mime::JAVASCRIPT;
    if textual {
        format!("{}; charset=utf-8", guess.essence_str())
    } else {
        guess.essence_str().to_owned()
    }
}

/// Pages, styles and scripts belong together and have no version in their names: they are checked each
/// time, which costs a 304. Pictures and fonts may be kept.
fn cache_control(content_type: &str) -> &'static str {
    if content_type.starts_with("image/") || content_type.starts_with("font/") {
        "public, max-age=86400"
    } else {
        "no-cache"
    }
}

fn header_value(text: &str) -> io::Result<HeaderValue> {
    HeaderValue::from_str(text).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_a_site() {
        for (name, expected) in [
            ("index.html", "text/html; charset=utf-8"),
            ("a/app.js", "text/javascript; charset=utf-8"),
            ("style.css", "text/css; charset=utf-8"),
            ("mark.svg", "image/svg+xml"),
            ("data.json", "application/json"),
            ("what", "application/octet-stream"),
        ] {
            assert_eq!(content_type(name), expected);
        }
        assert_eq!(cache_control("text/html; charset=utf-8"), "no-cache");
        assert_eq!(cache_control("image/svg+xml"), "public, max-age=86400");
    }
}
