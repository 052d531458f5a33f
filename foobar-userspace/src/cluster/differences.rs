//! Peers that steer by something else than this balancer, and for how long they have.

use std::collections::BTreeMap;

use super::agreement::{Agreement, Node};
use super::name::Service;

/// A difference from a peer that lasts for so long is told, and the peer is asked for all that it has.
const LASTING_NS: u64 = 10_000_000_000;

/// What is known of such peers.
#[derive(Debug, Default)]
pub struct Differences(BTreeMap<Node, Difference>);

#[derive(Clone, Copy, Debug)]
struct Difference {
    /// Since when it is so, or since the peer was last asked for what it has.
    since_ns: u64,
    /// It was asked, in vain.
    is_lasting: bool,
}

/// What has come of a comparison.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Peers that steer as this balancer again.
    pub over: Vec<Node>,
    /// Peers that are to be asked for all that they have, each with the services for which it steers by something else.
    /// They are asked again as often as that lasts.
    pub lasting: Vec<(Node, Vec<Service>)>,
}

impl Differences {
    /// Compares with the peers whose tables are here.
    pub fn look(&mut self, agreement: &Agreement, now_ns: u64) -> Compared {
        let complete = agreement.standings().filter(|(_, standing)| standing.is_complete);
        let mut compared = Compared::default();
        for (node, standing) in complete {
            if standing.differing.is_empty() {
                if self.0.remove(node).is_some() {
                    compared.over.push(node.clone());
                }
                continue;
            }
            let difference = self.0.entry(node.clone()).or_insert(Difference {
                since_ns: now_ns,
                is_lasting: false,
            });
            if now_ns.saturating_sub(difference.since_ns) >= LASTING_NS {
                *difference = Difference {
                    since_ns: now_ns,
                    is_lasting: true,
                };
                compared.lasting.push((node.clone(), standing.differing));
            }
        }
        compared
    }

    /// Nothing is known of a peer any more: the session with it is over.
    pub fn forget(&mut self, node: &str) {
        self.0.remove(node);
    }

    /// Whether a peer has steered by something else for long.
    pub fn is_lasting(&self) -> bool {
        self.0.values().any(|difference| difference.is_lasting)
    }
}
