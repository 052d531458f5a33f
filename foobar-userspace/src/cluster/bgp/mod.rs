//! Announcing VIPs to routers by BGP, watched over by BFD: by BIRD 2, which runs as the daemon's child.
//!
//! `text` makes BIRD's configuration, `reply` reads what it answers on its control socket and `sessions` what that
//! says of sessions, all three pure; `files` is the private directory, `control` the socket, and `supervision` the
//! thread that starts BIRD, tells it what is wanted, and starts it again when it ends or hangs. `supervisor` is the
//! daemon's end of that thread: what is wanted goes in, what there is to tell comes out, and nothing of it waits for BIRD.
//!
//! BIRD has no part in the kernel's routes: it takes none from a neighbor, gives none to the kernel, and lets out the
//! VIPs' alone. Which VIPs are announced is the daemon's to say. If the daemon dies, however, the kernel kills BIRD, and
//! its neighbors withdraw what it announced: nobody announces a VIP that nobody watches over.

mod backoff;
mod control;
mod files;
mod process;
mod reply;
mod sessions;
mod supervision;
mod supervisor;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

pub use sessions::Session;
pub use supervisor::{StartError, Supervisor, Teller, Told};

use crate::config::{Attributes, Bgp};

/// What routers are to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What the configuration says.
    pub config: Bgp,
    /// The neighbors' passwords, in their order.
    pub passwords: Vec<Option<Password>>,
    /// All addresses that may ever be announced under this configuration, and what their routes have.
    pub vips: BTreeMap<IpAddr, Attributes>,
    /// Those of them that are.
    pub announced: BTreeSet<IpAddr>,
}

/// The password of TCP MD5 signatures. It is shown to nobody but BIRD.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

/// Why something can't be a password.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a password has 1 to {PASSWORD_MAX} printable ASCII characters, none of them a quotation mark")]
pub struct BadPassword;

/// As the kernel has room for (TCP_MD5SIG_MAXKEYLEN).
const PASSWORD_MAX: usize = 80;

impl Password {
    /// Takes the text of a password file: a line feed at its end does not count.
    ///
    /// # Errors
    /// Where BIRD or the kernel could not take it.
    pub fn new(text: &str) -> Result<Self, BadPassword> {
        let text = text.trim_end_matches(['\r', '\n']);
        let is_good = |c: char| c.is_ascii_graphic() && c != '"' || c == ' ';
        if text.is_empty() || text.len() > PASSWORD_MAX || !text.chars().all(is_good) {
            return Err(BadPassword);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_what_kernel_and_bird_can_take_and_is_never_shown() {
        let password = Password::new("s3cret word\n").expect("a good one");
        assert_eq!(password, Password("s3cret word".to_owned()));
        assert!(!format!("{password:?}").contains("s3cret"));
        for bad in ["", "\n", "a\"b", "a\nb", "ä", &"x".repeat(81)] {
            assert_eq!(Password::new(bad), Err(BadPassword), "{bad:?}");
        }
        assert!(Password::new(&"x".repeat(80)).is_ok());
    }
}
