//! From a request's path to a file below the site's root, and never to one outside of it.
//!
//! Two walls: the path is decoded once and refused if any of its segments is more than a plain name; then
//! the kernel resolves it *beneath* the root (`openat2(2)`, `RESOLVE_BENEATH`), so that neither a symbolic
//! link nor a rename at the wrong moment leads out.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;

/// How often a resolution is tried again that the kernel gave up because of a rename meanwhile.
const ATTEMPTS: usize = 8;

/// Why a path names no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// A percent sign without two hexadecimal digits, or bytes that are no UTF-8.
    #[error("the path is not well encoded")]
    Encoding,
    /// A segment that names no file of a site: empty, `.`, `..`, hidden, or with a separator or NUL in it.
    #[error("the path has a forbidden segment")]
    Segment,
}

/// A path below the root: plain names, no leading slash; ends with a slash where the request's did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SitePath(String);

impl SitePath {
    /// Decodes and checks the path of a request (RFC 3986; without the query).
    ///
    /// # Errors
    /// Where it is badly encoded or names something that is no file of a site.
    pub fn parse(path: &str) -> Result<Self, BadPath> {
        let decoded = percent_decode(path)?;
        let inner = decoded.strip_prefix('/').ok_or(BadPath::Segment)?;
        let names = inner.strip_suffix('/').unwrap_or(inner);
        if inner == "/" || (!names.is_empty() && !names.split('/').all(is_plain)) {
            return Err(BadPath::Segment);
        }
        // A slash that was encoded is part of a name, and no name of ours has one.
        if decoded.matches('/').count() != path.matches('/').count() {
            return Err(BadPath::Segment);
        }
        Ok(Self(inner.to_owned()))
    }

    /// True for a path that names a directory by its form: the root, or a trailing slash.
    #[must_use]
    pub fn is_directory_form(&self) -> bool {
        self.0.is_empty() || self.0.ends_with('/')
    }

    /// The file to open: the path itself, or the directory's index.
    #[must_use]
    pub fn file(&self) -> String {
        if self.is_directory_form() {
            format!("{}index.html", self.0)
        } else {
            self.0.clone()
        }
    }
}

fn is_plain(segment: &str) -> bool {
    let hidden = segment.starts_with('.') && segment != ".well-known";
    !segment.is_empty() && !hidden && !segment.contains(['\0', '\\'])
}

/// Decodes percent-encoding (RFC 3986, section 2.1), once.
///
/// # Errors
/// A broken escape, or bytes that are no UTF-8.
pub fn percent_decode(text: &str) -> Result<String, BadPath> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16));
        decoded.push(match byte {
            b'%' => {
                let (high, low) = digit().zip(digit()).ok_or(BadPath::Encoding)?;
                u8::try_from(high * 16 + low).map_err(|_| BadPath::Encoding)?
            }
            plain => plain,
        });
    }
    String::from_utf8(decoded).map_err(|_| BadPath::Encoding)
}

/// The site's root directory, held open.
#[derive(Debug)]
pub struct Root(OwnedFd);

impl Root {
    /// Opens the directory.
    ///
    /// # Errors
    /// Where it is none, or may not be read.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self(open(path, flags, Mode::empty())?))
    }

    /// Opens a file or directory beneath the root, for reading. Blocks on the file system only: a pipe or
    /// a device does not hold it up.
    ///
    /// # Errors
    /// Where there is none, where it may not be read, or where a link on the way leads out of the root.
    pub fn open_beneath(&self, path: &str) -> io::Result<File> {
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let mut result = Err(Errno::EAGAIN);
        for _ in 0..ATTEMPTS {
            result = openat2(&self.0, path, how);
            if !matches!(result, Err(Errno::EAGAIN)) {
                break;
            }
        }
        Ok(File::from(result?))
    }
}

/// True for an error of [`Root::open_beneath`] that means "there is no such file for you".
#[must_use]
pub fn is_missing(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(
        code,
        Some(
            Errno::ENOENT
                | Errno::ENOTDIR
                | Errno::EACCES
                | Errno::EXDEV
                | Errno::ELOOP
                | Errno::ENAMETOOLONG
                | Errno::ENXIO
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_paths_are_taken() {
        for (path, file) in [
            ("/", "index.html"),
            ("/app.js", "app.js"),
            ("/a/b/", "a/b/index.html"),
            ("/a%20b.txt", "a b.txt"),
            ("/.well-known/security.txt", ".well-known/security.txt"),
        ] {
            assert_eq!(SitePath::parse(path).expect(path).file(), file);
        }
    }

    #[test]
    fn every_way_up_or_around_is_refused() {
        for path in [
            "/../x",
            "/a/../b",
            "/a/..",
            "/./a",
            "/%2e%2e/x",
            "/%2E%2e%2fx",
            "/a%2fb",
            "//x",
            "/a//b",
            "//",
            "/.git/config",
            "/a/.env",
            "/a\\..\\b",
            "/%5c..%5cx",
            "/a%00.html",
            "x",
            "/..%5c",
            "/%2e",
        ] {
            assert_eq!(SitePath::parse(path), Err(BadPath::Segment), "{path}");
        }
        for path in ["/%", "/%2", "/%zz", "/%c0%ae%c0%ae/", "/%ff"] {
            assert_eq!(SitePath::parse(path), Err(BadPath::Encoding), "{path}");
        }
    }

    #[test]
    fn a_double_encoding_is_decoded_once_only() {
        assert_eq!(SitePath::parse("/%252e%252e").expect("a name").file(), "%2e%2e");
    }

    #[test]
    fn the_kernel_refuses_a_link_out_of_the_root_and_follows_one_inside() {
        let base = std::env::temp_dir().join(format!("foobar-web-root-{}", std::process::id()));
        let site = base.join("site");
        std::fs::create_dir_all(&site).expect("made");
        std::fs::write(base.join("secret"), "s").expect("written");
        std::fs::write(site.join("a.txt"), "a").expect("written");
        for (target, link) in [
            ("../secret", "out"),
            ("a.txt", "in"),
            ("/etc", "abs"),
            ("..", "up"),
        ] {
            std::os::unix::fs::symlink(target, site.join(link)).expect("linked");
        }
        let root = Root::open(&site).expect("opened");
        assert!(root.open_beneath("a.txt").is_ok());
        assert!(root.open_beneath("in").is_ok());
        for path in ["out", "abs/hostname", "up/secret", "../secret"] {
            let error = root.open_beneath(path).expect_err(path);
            assert_eq!(error.raw_os_error(), Some(Errno::EXDEV as i32), "{path}");
        }
        std::fs::remove_dir_all(base).expect("removed");
    }
}
