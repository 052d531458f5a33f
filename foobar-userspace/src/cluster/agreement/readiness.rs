//! How peers stand to this balancer, and whether it may take VIPs over.

use super::session::Session;
use super::{ALONE_NS, Agreement, Node};
use crate::cluster::name::Service;

/// Whether this balancer may take VIPs over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It may.
    Ready,
    /// It may not, for this reason.
    Waiting(String),
}

/// How a peer stands to this balancer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// There is a session with it.
    pub is_connected: bool,
    /// Its tables and notes are here.
    pub is_complete: bool,
    /// It may take VIPs over.
    pub is_ready: bool,
    /// Its configuration is the same, as far as it has to be.
    pub has_equal_configuration: bool,
    /// The services for which it steers by something else.
    pub differing: Vec<Service>,
    /// Messages sent to it in this session.
    pub sent: u64,
    /// Its messages that were taken in, in order.
    pub received: u64,
}

impl Agreement {
    /// Whether this balancer may take VIPs over: it is alone, or agrees with its peers and has their notes. Once
    /// it may, it goes on to.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        if self.has_joined {
            return Readiness::Ready;
        }
        let reasons = self.peers.iter().filter_map(|(node, peer)| {
            let session = peer.session.as_ref()?;
            self.lacks(session).map(|lack| format!("{node}: {lack}"))
        });
        let reasons: Vec<String> = reasons.collect();
        if reasons.is_empty() {
            Readiness::Waiting("no peer has answered yet".to_owned())
        } else {
            Readiness::Waiting(reasons.join("; "))
        }
    }

    /// What is still to come from a peer before this balancer may take VIPs over.
    fn lacks(&self, session: &Session) -> Option<&'static str> {
        if !session.has_told {
            Some("its reports are not here yet")
        } else if !session.is_complete {
            Some("its tables and notes are not here yet")
        } else if session
            .pulse
            .is_none_or(|pulse| pulse.configuration != self.configuration)
        {
            Some("its configuration is another")
        } else if !self.differing(session).is_empty() {
            Some("its tables differ")
        } else {
            None
        }
    }

    pub(super) fn judge_readiness(&mut self, now_ns: u64) {
        if self.has_joined {
            return;
        }
        let is_alone = self.sessions().next().is_none();
        self.has_joined = if is_alone {
            self.peers.is_empty() || now_ns.saturating_sub(self.started_ns) >= ALONE_NS
        } else {
            self.sessions().all(|session| self.lacks(session).is_none())
        };
    }

    /// The services about which a peer in this session steers by something else.
    fn differing(&self, session: &Session) -> Vec<Service> {
        let own = self.own.iter();
        own.filter(|(service, own)| {
            session
                .reports
                .get(service)
                .is_none_or(|report| report.digest != own.digest)
        })
        .map(|(service, _)| *service)
        .collect()
    }

    /// How each peer stands to this balancer.
    pub fn standings(&self) -> impl Iterator<Item = (&Node, Standing)> {
        self.peers.iter().map(|(node, peer)| {
            let standing = match &peer.session {
                None => Standing::default(),
                Some(session) => Standing {
                    is_connected: true,
                    is_complete: session.is_complete,
                    is_ready: session.pulse.is_some_and(|pulse| pulse.ready),
                    has_equal_configuration: session
                        .pulse
                        .is_some_and(|pulse| pulse.configuration == self.configuration),
                    differing: self.differing(session),
                    sent: session.sent,
                    received: session.inbox.next(),
                },
            };
            (node, standing)
        })
    }
}
