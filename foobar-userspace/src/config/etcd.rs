//! `[etcd]`: where the part of the configuration that a fleet shares comes from, and how it joins a balancer's own file.
//!
//! The value of the key is TOML with some of the file's top-level keys, [`SHARED`]; file and value become one
//! configuration, validated as a file is. Each top-level key is in one of both. Knows no etcd.

use std::fmt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::DeTable;

use super::parse::{self, path};
use super::report::{Problems, Report};
use super::walk::Section;
use super::{Config, load};

/// What the value may have in it; every other key is a machine's own.
pub const SHARED: [&str; 3] = ["limits", "list", "vip"];

const ETCD_KEYS: [&str; 8] = [
    "endpoints",
    "key",
    "copy",
    "ca",
    "certificate",
    "private_key",
    "username",
    "password_file",
];

const ENDPOINTS_MAX: usize = 9;

/// Where the shared part comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Etcd {
    /// The members' client URLs, 1 to 9, unique.
    pub endpoints: Vec<Endpoint>,
    /// The key whose value it is.
    pub key: String,
    /// The file in which the last good value is kept.
    pub copy: PathBuf,
    /// The certificates (PEM) that sign the members'; there where an endpoint is `https`.
    pub ca: Option<PathBuf>,
    /// How this balancer shows who it is.
    pub identity: Option<Identity>,
    /// As whom it logs in.
    pub login: Option<Login>,
}

/// A client's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The file with the certificate and what it is signed by (PEM).
    pub certificate: PathBuf,
    /// The file with its key (PEM).
    pub private_key: PathBuf,
}

/// A user of etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The name.
    pub username: String,
    /// The file whose first line is the password.
    pub password_file: PathBuf,
}

/// A member of the etcd cluster, as clients call it. Written as a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// A name or an address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl Endpoint {
    /// Host and port, an IPv6 address in brackets.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

/// A value, and what reports call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shared<'a> {
    /// `etcd key /foobar/lb`, or the file that it is in.
    pub name: &'a str,
    /// TOML.
    pub text: &'a str,
}

/// Reads the table, if there is one.
pub(super) fn read(root: &Section<'_, '_>, problems: &mut Problems<'_>) -> Option<Etcd> {
    let section = root.table("etcd", &ETCD_KEYS, problems)?;
    section.require("endpoints", "[\"https://192.0.2.50:2379\"]", problems);
    section.require("key", "\"/foobar/lb\", the same on all balancers", problems);
    section.require("copy", "\"/var/lib/foobar/lb.etcd.toml\"", problems);
    let endpoints = endpoints(&section, problems);
    let key = section.string("key", problems);
    if let Some(key) = &key
        && (key.get_ref().is_empty() || key.get_ref().chars().any(char::is_control))
    {
        let hint = "such as \"/foobar/lb\"";
        problems.add(key.span(), format!("{:?} cannot be the key", key.get_ref()), hint);
    }
    let ca = path(&section, "ca", problems);
    tls(&section, &endpoints, problems);
    let login = login(&section, &endpoints, problems);
    let identity = pair(&section, "certificate", "private_key", problems).and_then(|()| {
        Some(Identity {
            certificate: path(&section, "certificate", problems)?,
            private_key: path(&section, "private_key", problems)?,
        })
    });
    Some(Etcd {
        endpoints,
        key: (*key?.get_ref()).to_owned(),
        copy: path(&section, "copy", problems)?,
        ca,
        identity,
        login,
    })
}

fn endpoints(section: &Section<'_, '_>, problems: &mut Problems<'_>) -> Vec<Endpoint> {
    let mut found: Vec<Endpoint> = Vec::new();
    let texts = section.strings("endpoints", problems);
    if texts.is_empty()
        && let Some(span) = section.key("endpoints")
        && problems.is_empty()
    {
        problems.add(span, "endpoints is empty", "the URLs of etcd's members");
    }
    for text in texts {
        if found.len() == ENDPOINTS_MAX {
            let message = format!("endpoints has more than {ENDPOINTS_MAX} entries");
            problems.add(text.span(), message, "some members of a cluster are enough");
            break;
        }
        match endpoint(text.get_ref()) {
            Ok(endpoint) if found.contains(&endpoint) => {
                problems.add(text.span(), format!("{endpoint} is in endpoints twice"), "");
            }
            Ok(endpoint) => found.push(endpoint),
            // The report shows the line that the span is in: not one with a password.
            Err(Wrong::Secret) => problems.add(
                section.span.clone(),
                "an endpoint has a name or a password in it",
                "use `username` and `password_file`",
            ),
            Err(Wrong::Shape) => problems.add(
                text.span(),
                format!("{:?} is not an endpoint", text.get_ref()),
                "\"https://HOST:PORT\" or \"http://HOST:PORT\"; etcd's port for clients is 2379",
            ),
        }
    }
    found
}

enum Wrong {
    Secret,
    Shape,
}

fn endpoint(text: &str) -> Result<Endpoint, Wrong> {
    if text.contains('@') {
        return Err(Wrong::Secret);
    }
    let uri: http::Uri = text.parse().map_err(|_| Wrong::Shape)?;
    let tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(Wrong::Shape),
    };
    let host = uri.host().unwrap_or_default();
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let port = uri.port_u16().filter(|port| *port != 0).ok_or(Wrong::Shape)?;
    let is_bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
    if host.is_empty() || !is_bare {
        return Err(Wrong::Shape);
    }
    Ok(Endpoint {
        tls,
        host: host.to_owned(),
        port,
    })
}

/// Notes keys of TLS where there is none, and an authority that is missing.
fn tls(section: &Section<'_, '_>, endpoints: &[Endpoint], problems: &mut Problems<'_>) {
    if endpoints.iter().any(|endpoint| endpoint.tls) {
        section.require(
            "ca",
            "\"/etc/foobar/etcd-ca.pem\", what etcd's certificates are signed by",
            problems,
        );
    } else if !endpoints.is_empty() {
        for name in ["ca", "certificate", "private_key"] {
            if let Some(span) = section.key(name) {
                let message = format!("`{name}` is there, but no endpoint is https");
                problems.add(span, message, "begin the endpoints with https://, or remove it");
            }
        }
    }
}

fn login(section: &Section<'_, '_>, endpoints: &[Endpoint], problems: &mut Problems<'_>) -> Option<Login> {
    pair(section, "username", "password_file", problems)?;
    if let (Some(clear), Some(span)) = (
        endpoints.iter().find(|endpoint| !endpoint.tls),
        section.key("password_file"),
    ) {
        let message = format!("the password would be sent to {clear} for all to read");
        problems.add(span, message, "with a password every endpoint is https");
    }
    let username = section.string("username", problems)?;
    Some(Login {
        username: (*username.get_ref()).to_owned(),
        password_file: path(section, "password_file", problems)?,
    })
}

/// Whether both keys are there; notes where one of them is alone.
fn pair(section: &Section<'_, '_>, first: &str, second: &str, problems: &mut Problems<'_>) -> Option<()> {
    match (section.key(first), section.key(second)) {
        (Some(_), Some(_)) => Some(()),
        (None, None) => None,
        (Some(span), None) => {
            problems.add(
                span,
                format!("`{first}` is there without `{second}`"),
                "they go together",
            );
            None
        }
        (None, Some(span)) => {
            problems.add(
                span,
                format!("`{second}` is there without `{first}`"),
                "they go together",
            );
            None
        }
    }
}

/// What a file says about etcd; what else is wrong with the file does not count, for without the value it may
/// well not be whole.
///
/// # Errors
/// Where the file can't be read or is no TOML, or what is wrong with its `[etcd]`.
pub fn settings(file: &Path) -> Result<Option<Etcd>, Report> {
    super::load_as(file, |root, _, problems| {
        Some(read(
            &Section::new(root, 0..0, &every_key(root), problems),
            problems,
        ))
    })
}

fn every_key<'t>(root: &'t DeTable<'_>) -> Vec<&'t str> {
    root.keys().map(|key| key.get_ref().as_ref()).collect()
}

/// Reads and validates a configuration file and the part that the fleet shares, as one.
///
/// # Errors
/// Everything that is wrong with both, each with its place.
pub fn load_with(file: &Path, shared: Option<Shared<'_>>) -> Result<Config, Report> {
    let Some(shared) = shared else {
        return load(file);
    };
    match std::fs::read_to_string(file) {
        Ok(text) => parse_with(&file.display().to_string(), &text, shared),
        // It says what is wrong.
        Err(_) => load(file),
    }
}

/// As [`load_with`], of the file's text.
///
/// # Errors
/// Everything that is wrong with both, each with its place.
pub fn parse_with(name: &str, text: &str, shared: Shared<'_>) -> Result<Config, Report> {
    let whole = format!("{text}\n{}", shared.text);
    let begin = text.len() + 1;
    // Behind as many spaces, its spans are those of the whole.
    let moved = format!("{}\n{}", " ".repeat(text.len()), shared.text);
    let mut problems = Problems::of_two(&whole, begin, shared.name);
    let (own, theirs) = match (DeTable::parse(text), DeTable::parse(&moved)) {
        (Ok(own), Ok(theirs)) => (own, theirs),
        (own, theirs) => {
            if let Err(error) = own {
                parse::syntax(&error, text.len(), &mut problems);
            }
            if let Err(error) = theirs {
                parse::syntax(&error, whole.len(), &mut problems);
            }
            return Err(problems.into_report(name));
        }
    };
    let mut root = own.into_inner();
    join(&mut root, theirs, name, &mut problems);
    let directory = Path::new(name).parent().unwrap_or(Path::new(""));
    match parse::read(&root, directory, &mut problems) {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(problems.into_report(name)),
    }
}

/// Adds the shared keys to the file's, and notes those that may not be there.
fn join<'i>(root: &mut DeTable<'i>, theirs: Spanned<DeTable<'i>>, file: &str, problems: &mut Problems<'_>) {
    for (key, value) in theirs.into_inner() {
        let name = key.get_ref().as_ref();
        if parse::KEYS.contains(&name) && !SHARED.contains(&name) {
            let message = format!("`{name}` is a machine's own, a fleet does not share it");
            let hint = format!(
                "set it in each balancer's file; shared may be: {}",
                SHARED.join(", ")
            );
            problems.add(key.span(), message, hint);
        } else if let Some((own, _)) = root.get_key_value(name) {
            let line = problems.line(&own.span());
            let message = format!("`{name}` is here and in {file}");
            let hint = format!("there on line {line}; it must be in one of both");
            problems.add(key.span(), message, hint);
        } else {
            root.insert(key, value);
        }
    }
}
