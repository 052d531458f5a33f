//! What `foobar agent prepare` has changed, in a file: so that `undo` takes back that and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A value that was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Changed<T> {
    /// What it was.
    pub(super) before: T,
    /// What it was set to: one that is another by now is somebody else's.
    pub(super) after: T,
}

/// A route whose MSS was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ChangedRoute {
    /// What it leads to.
    pub(super) destination: IpNet,
    /// Its metric, which tells it from another one there.
    pub(super) metric: Option<u32>,
    /// Its MSS.
    pub(super) advmss: Changed<Option<u32>>,
}

/// All that was changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// Addresses that were added to `lo`.
    pub(super) addresses: BTreeSet<IpAddr>,
    /// Settings, by their path below /proc/sys/net.
    pub(super) settings: BTreeMap<String, Changed<String>>,
    /// Routes.
    pub(super) routes: Vec<ChangedRoute>,
}

impl State {
    /// Reads the file; nothing was changed where there is none.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        serde_json::from_str(&text)
            .with_context(|| format!("{} is not what `foobar agent prepare` writes", path.display()))
    }

    /// Writes the file, as a whole.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let write = || -> io::Result<()> {
            if let Some(directory) = path.parent() {
                fs::create_dir_all(directory)?;
            }
            let fresh = path.with_extension("new");
            fs::write(&fresh, serde_json::to_string_pretty(self)?)?;
            fs::rename(&fresh, path)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    /// Notes a setting; what it was first is what counts.
    pub(super) fn set(&mut self, path: &str, before: &str, after: &str) {
        let changed = self.settings.entry(path.to_owned()).or_insert_with(|| Changed {
            before: before.to_owned(),
            after: after.to_owned(),
        });
        changed.after = after.to_owned();
    }

    /// Notes a route's MSS, likewise.
    pub(super) fn announce(
        &mut self,
        destination: IpNet,
        metric: Option<u32>,
        before: Option<u32>,
        after: u32,
    ) {
        let have = self
            .routes
            .iter_mut()
            .find(|route| (route.destination, route.metric) == (destination, metric));
        match have {
            Some(route) => route.advmss.after = Some(after),
            None => self.routes.push(ChangedRoute {
                destination,
                metric,
                advmss: Changed {
                    before,
                    after: Some(after),
                },
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_first_is_what_is_restored() {
        let mut state = State::default();
        state.set("ipv4/conf/all/arp_ignore", "0", "1");
        state.set("ipv4/conf/all/arp_ignore", "8", "1");
        assert_eq!(state.settings["ipv4/conf/all/arp_ignore"].before, "0");
        let net: IpNet = "192.0.2.0/24".parse().unwrap();
        state.announce(net, None, None, 1_416);
        state.announce(net, None, Some(1_416), 1_372);
        state.announce(net, Some(5), Some(1_000), 900);
        assert_eq!(state.routes.len(), 2);
        assert_eq!(state.routes[0].advmss.before, None);
        assert_eq!(state.routes[0].advmss.after, Some(1_372));
    }
}
