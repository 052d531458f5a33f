//! What the kernel has counted at an end of a veth pair (drivers/net/veth.c), all queues together.

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use crate::netns::Namespace;

/// Statistics of one end. Those of what it takes in are by the XDP program that is attached to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Statistics {
    /// Frames that the program was run on.
    pub xdp_packets: u64,
    /// Frames that the driver could not handle after the program, or before it.
    pub drops: u64,
    /// Frames that the program redirected.
    pub xdp_redirect: u64,
    /// Frames that the program dropped.
    pub xdp_drops: u64,
    /// Frames that the program sent back, and the other end's ring took.
    pub xdp_tx: u64,
    /// Frames that the program sent back when the other end's ring was full.
    pub xdp_tx_errors: u64,
    /// Frames that were redirected to this end, and the other end's ring took.
    pub xdp_xmit: u64,
    /// Frames that were redirected to this end when the other end's ring was full.
    pub xdp_xmit_errors: u64,
}

impl Statistics {
    /// Of an interface in a namespace.
    ///
    /// # Errors
    /// Where the kernel does not count something.
    pub fn of(namespace: &Namespace, interface: &str) -> Result<Self> {
        Self::parse(&namespace.command("ethtool", &["-S", interface])?)
            .with_context(|| format!("the statistics of {interface}"))
    }

    /// From what `ethtool -S` says.
    fn parse(text: &str) -> Result<Self> {
        let mut statistics = Self::default();
        for (name, field) in [
            ("xdp_packets", &mut statistics.xdp_packets),
            ("drops", &mut statistics.drops),
            ("xdp_redirect", &mut statistics.xdp_redirect),
            ("xdp_drops", &mut statistics.xdp_drops),
            ("xdp_tx", &mut statistics.xdp_tx),
            ("xdp_tx_errors", &mut statistics.xdp_tx_errors),
            ("xdp_xmit", &mut statistics.xdp_xmit),
            ("xdp_xmit_errors", &mut statistics.xdp_xmit_errors),
        ] {
            let values: Vec<u64> = text
                .lines()
                .filter_map(|line| line.trim().split_once(": "))
                .filter(|(of_queue, _)| counted_by(of_queue) == Some(name))
                .map(|(_, value)| value.parse())
                .collect::<Result<_, _>>()?;
            ensure!(!values.is_empty(), "this kernel does not count {name}");
            *field = values.iter().sum();
        }
        Ok(statistics)
    }
}

/// The name of a queue's statistic without its queue: `rx_queue_0_xdp_drops` is `xdp_drops`.
fn counted_by(of_queue: &str) -> Option<&str> {
    let numbered = of_queue
        .strip_prefix("rx_queue_")
        .or_else(|| of_queue.strip_prefix("tx_queue_"))?;
    Some(numbered.split_once('_')?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE_QUEUE: &str = "NIC statistics:\n     peer_ifindex: 201\n     rx_queue_0_xdp_packets: 10\n     \
        rx_queue_0_xdp_bytes: 640\n     rx_queue_0_drops: 1\n     rx_queue_0_xdp_redirect: 2\n     \
        rx_queue_0_xdp_drops: 3\n     rx_queue_0_xdp_tx: 4\n     rx_queue_0_xdp_tx_errors: 5\n     \
        tx_queue_0_xdp_xmit: 6\n     tx_queue_0_xdp_xmit_errors: 7\n";

    #[test]
    fn every_queue_counts() -> Result<()> {
        let one = Statistics::parse(ONE_QUEUE)?;
        let expected = Statistics {
            xdp_packets: 10,
            drops: 1,
            xdp_redirect: 2,
            xdp_drops: 3,
            xdp_tx: 4,
            xdp_tx_errors: 5,
            xdp_xmit: 6,
            xdp_xmit_errors: 7,
        };
        assert_eq!(one, expected);
        let two = Statistics::parse(&format!("{ONE_QUEUE}     rx_queue_11_xdp_drops: 100\n"))?;
        assert_eq!(two.xdp_drops, 103);
        Ok(())
    }

    #[test]
    fn what_is_not_counted_is_not_taken_for_nothing() {
        let without = ONE_QUEUE.replace("xdp_tx_errors", "something_else");
        let error = Statistics::parse(&without).expect_err("it is missing");
        assert_eq!(error.to_string(), "this kernel does not count xdp_tx_errors");
    }
}
