//! Sessions with neighbors, from BIRD's answers to `show protocols all` and `show bfd sessions`. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::reply::Reply;
use super::text::protocol_name;
use crate::config::Neighbor;

/// A session with a neighbor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The neighbor.
    pub neighbor: IpAddr,
    /// Its autonomous system.
    pub remote_as: u32,
    /// RFC 4271's state, in small letters; `down` where BIRD does not try, `unknown` where it says nothing.
    pub state: String,
    /// When that began, in seconds since the epoch.
    pub since: Option<u64>,
    /// BFD's state in small letters, where BFD watches over it.
    pub bfd: Option<String>,
    /// Routes that it was told, by family.
    pub exported: BTreeMap<String, u64>,
    /// What ended the last session, or keeps this one from beginning.
    pub last_error: Option<String>,
}

impl Session {
    /// Whether the neighbor is told of routes.
    #[must_use]
    pub fn is_established(&self) -> bool {
        self.state == "established"
    }

    fn unknown(neighbor: &Neighbor) -> Self {
        Self {
            neighbor: neighbor.address,
            remote_as: neighbor.remote_as,
            state: "unknown".to_owned(),
            since: None,
            bfd: neighbor.bfd.then(|| "unknown".to_owned()),
            exported: BTreeMap::new(),
            last_error: None,
        }
    }
}

/// `show protocols all`: one line with columns for each, its details in another with more lines.
const PROTOCOL: u16 = 1_002;
const DETAILS: u16 = 1_006;
/// `show bfd sessions`
const BFD_SESSIONS: u16 = 1_020;

/// The neighbors' sessions, in the configuration's order.
pub(super) fn sessions(neighbors: &[Neighbor], protocols: &Reply, bfd: &Reply) -> Vec<Session> {
    let mut found: BTreeMap<String, Session> = neighbors
        .iter()
        .map(|neighbor| (protocol_name(neighbor.address), Session::unknown(neighbor)))
        .collect();
    let mut current = None;
    let mut family = None;
    for (code, line) in &protocols.lines {
        match *code {
            PROTOCOL => {
                // Name, protocol, table, state, since, and what else there is to say.
                let mut columns = line.split_whitespace();
                current = columns.next().and_then(|name| found.get_mut(name));
                family = None;
                if let Some(session) = &mut current {
                    session.since = columns.nth(3).and_then(|since| since.parse().ok());
                }
            }
            DETAILS => {
                if let Some(session) = &mut current {
                    detail(session, &mut family, line);
                }
            }
            _ => (),
        }
    }
    for line in bfd.of(BFD_SESSIONS) {
        let mut columns = line.split_whitespace();
        let address = columns.next().and_then(|text| text.parse::<IpAddr>().ok());
        // Address, interface, state.
        let state = columns.nth(1).map(str::to_lowercase);
        if let (Some(address), Some(state)) = (address, state)
            && let Some(session) = found.get_mut(&protocol_name(address))
        {
            session.bfd = Some(state);
        }
    }
    let name = |neighbor: &Neighbor| protocol_name(neighbor.address);
    neighbors
        .iter()
        .filter_map(|neighbor| found.remove(&name(neighbor)))
        .collect()
}

fn detail(session: &mut Session, family: &mut Option<String>, line: &str) {
    let line = line.trim();
    if let Some(name) = line.strip_prefix("Channel ") {
        *family = Some(name.to_owned());
        return;
    }
    let Some((key, value)) = line.split_once(':') else {
        return;
    };
    let value = value.trim();
    match key {
        "BGP state" => session.state = value.to_lowercase(),
        "Last error" => session.last_error = Some(value.to_owned()),
        "Routes" => {
            // "0 imported, 1 exported, 0 preferred"
            let exported = value
                .split(", ")
                .find_map(|count| count.strip_suffix(" exported"))
                .and_then(|count| count.parse().ok());
            if let (Some(family), Some(exported)) = (family, exported) {
                session.exported.insert(family.clone(), exported);
            }
        }
        _ => (),
    }
}

#[cfg(test)]
mod tests;
