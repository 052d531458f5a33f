//! The maps of the agent, the XDP program on a backend, and the rule by which it passes a flow on.
//!
//! The agent decapsulates packets from balancers that it trusts, for VIPs that it is configured with. One with
//! candidates ([`crate::gue`]) it keeps only if its kernel owns the flow; [`course`] says what else becomes of it.

use crate::address::Address;
use crate::counters::counters;
use crate::gue::{OPTION_DROP, OPTION_RETURNED, OPTION_WAITER, OPTION_WAITER_SHIFT};

/// Prefixes of outer sources that can be trusted.
pub const MAX_TRUSTED: usize = 16;
/// Addresses of its own that the agent can be told.
pub const MAX_ADDRESSES: usize = 8;
/// VIPs that the agent can be configured with.
pub const MAX_AGENT_VIPS: u32 = 4_096;

/// A prefix of addresses, in the words of [`Address::words`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prefix {
    /// The prefix's own bits; the others are 0.
    pub address: [u64; 2],
    /// The bits that count.
    pub mask: [u64; 2],
}

impl Prefix {
    /// Whether an address has the prefix.
    #[inline(always)]
    pub const fn holds(&self, address: [u64; 2]) -> bool {
        (address[0] & self.mask[0]) ^ self.address[0] | (address[1] & self.mask[1]) ^ self.address[1] == 0
    }

    /// The prefix of the first `bits` bits of an address, which is IPv4-mapped for IPv4: there 96 more than of
    /// the IPv4 prefix.
    pub fn new(address: Address, bits: u32) -> Self {
        let mask = u128::MAX.checked_shl(128 - bits.min(128)).unwrap_or(0);
        let mask = Address {
            bytes: mask.to_be_bytes(),
        }
        .words();
        let words = address.words();
        Self {
            address: [words[0] & mask[0], words[1] & mask[1]],
            mask,
        }
    }
}

/// What the agent has to know besides VIPs and next hops. Of the two elements one is in force.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AgentSettings {
    /// The interface's own MAC address, as [`crate::settings::mac_word`] packs it.
    pub own_mac: u64,
    /// Where outer headers may come from.
    pub trusted: [Prefix; MAX_TRUSTED],
    /// The addresses that outer headers may go to, as [`Address::words`].
    pub addresses: [[u64; 2]; MAX_ADDRESSES],
    /// How many of `trusted` are set. None: nothing is decapsulated.
    pub trusted_count: u32,
    /// How many of `addresses` are set. None: any will do.
    pub address_count: u32,
    /// The destination port of GUE, network byte order.
    pub gue_port_be: u16,
    /// Unused.
    pub reserved: [u16; 3],
}

/// The way to another backend: a value of the map of next hops.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NextHop {
    /// The MAC address of the backend, or of the router on the way to it.
    pub destination_mac: [u8; 6],
    /// The MAC address of the interface that leads there.
    pub source_mac: [u8; 6],
    /// The interface that leads there; 0: the one that packets come in by.
    pub ifindex: u32,
}

/// What a host's kernel says about a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It has the flow's socket, or the packet completes a handshake by a SYN cookie of its own.
    Owned,
    /// It has the flow's socket in TIME_WAIT.
    Waiting,
    /// It does not know the flow.
    Foreign,
}

/// What becomes of a packet with candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// Decapsulated here: it is this host's.
    Keep,
    /// Decapsulated here though nobody owns its flow: the kernel answers.
    Last,
    /// To the next candidate, with these options.
    Onward {
        /// The options that it goes with.
        options: u8,
    },
    /// Back to a candidate that had its turn, with these options.
    Back {
        /// The candidate's place in the list.
        place: u8,
        /// The options that it goes with.
        options: u8,
    },
    /// Dropped: nobody owns its flow.
    Drop,
}

/// What becomes of a packet of which `next` of `count` listed candidates have had their turn.
#[inline(always)]
pub const fn course(finding: Finding, next: u8, count: u8, options: u8) -> Course {
    let waiter = (options & OPTION_WAITER) >> OPTION_WAITER_SHIFT;
    if matches!(finding, Finding::Owned) || options & OPTION_RETURNED != 0 {
        Course::Keep
    } else if next < count {
        // The exchange of addresses will put this host where the next one stands now.
        let found = matches!(finding, Finding::Waiting) && waiter == 0;
        let mark = if found {
            (next + 1) << OPTION_WAITER_SHIFT
        } else {
            0
        };
        Course::Onward {
            options: options | mark,
        }
    } else if waiter != 0 && waiter <= count {
        Course::Back {
            place: waiter - 1,
            options: options | OPTION_RETURNED,
        }
    } else if matches!(finding, Finding::Waiting) {
        Course::Keep
    } else if options & OPTION_DROP != 0 {
        Course::Drop
    } else {
        Course::Last
    }
}

counters! {
    AgentCounter, AgentCounters;
    /// Not a packet in a tunnel: to the kernel, untouched.
    PassOther => pass_other,
    /// In a tunnel, but a fragment: to the kernel, untouched.
    PassFragment => pass_fragment,
    /// In a tunnel, but the frame is for another host's MAC: to the kernel, which drops it.
    PassForeignMac => pass_foreign_mac,
    /// In a tunnel from a source that is not trusted: to the kernel, untouched.
    PassUntrusted => pass_untrusted,
    /// In a tunnel to an address that is not this host's: to the kernel, untouched.
    PassNotOwn => pass_not_own,
    /// GUE of a version or with flags that are not known: to the kernel, untouched.
    PassUnknownGue => pass_unknown_gue,
    /// In a tunnel for an address that is no VIP here: to the kernel, untouched.
    PassNotVip => pass_not_vip,
    /// Taken out of an IP packet and given to the kernel.
    DecapsulatedIpip => decapsulated_ipip,
    /// Taken out of GUE and given to the kernel.
    DecapsulatedGue => decapsulated_gue,
    /// Congestion that the outer header told of was noted in the packet.
    CongestionNoted => congestion_noted,
    /// Kept with candidates left: it opens a connection.
    KeptOpening => kept_opening,
    /// Kept with candidates left: nothing that a socket could be asked for.
    KeptUnjudged => kept_unjudged,
    /// Kept: the kernel has the flow's socket.
    KeptOwned => kept_owned,
    /// Kept: it completes a handshake by a SYN cookie.
    KeptCookie => kept_cookie,
    /// Kept: it came back, or this host has the socket in TIME_WAIT, and nobody else owns the flow.
    KeptWaiting => kept_waiting,
    /// Kept by the last candidate: nobody owns the flow, and the kernel answers.
    KeptLast => kept_last,
    /// Given to the next candidate.
    GivenOn => given_on,
    /// Sent back to the candidate that has the socket in TIME_WAIT.
    SentBack => sent_back,
    /// Dropped: shorter than its headers say.
    DropTruncated => drop_truncated,
    /// Dropped: a header whose fields contradict each other.
    DropMalformed => drop_malformed,
    /// Dropped: congestion on the way, and a packet that cannot be told so.
    DropCongestion => drop_congestion,
    /// Dropped: nobody owns the flow, and the VIP does not answer such packets.
    DropNobody => drop_nobody,
    /// Dropped: the way to the next candidate is not known.
    DropNoNextHop => drop_no_next_hop,
    /// Dropped: the outer header's TTL is used up.
    DropTtl => drop_ttl,
    /// Dropped: the interface that leads to the next candidate cannot be reached by XDP.
    DropRedirect => drop_redirect,
    /// Dropped: a map is not as the program knows it.
    DropInternal => drop_internal,
}

#[cfg(test)]
mod tests {
    use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::*;

    const WAITER_0: u8 = 1 << OPTION_WAITER_SHIFT;
    const WAITER_1: u8 = 2 << OPTION_WAITER_SHIFT;

    #[test]
    fn a_prefix_holds_what_it_should() {
        let v4 = |last: [u8; 4]| Address::from(Ipv4Addr::from(last)).words();
        let prefix = Prefix::new(Ipv4Addr::new(192, 0, 2, 77).into(), 96 + 24);
        assert!(prefix.holds(v4([192, 0, 2, 1])));
        assert!(!prefix.holds(v4([192, 0, 3, 1])));
        let all_v4 = Prefix::new(Ipv4Addr::UNSPECIFIED.into(), 96);
        let v6 = Address::from(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)));
        assert!(all_v4.holds(v4([8, 8, 8, 8])) && !all_v4.holds(v6.words()));
        assert!(Prefix::new(v6, 128).holds(v6.words()));
        assert!(Prefix::new(v6, 0).holds(v4([1, 2, 3, 4])));
    }

    #[test]
    fn an_owner_keeps_and_so_does_who_gets_it_back() {
        for next in 0..=2 {
            assert_eq!(course(Finding::Owned, next, 2, WAITER_0), Course::Keep);
            assert_eq!(course(Finding::Foreign, next, 2, OPTION_RETURNED), Course::Keep);
        }
    }

    #[test]
    fn the_first_that_waits_is_remembered() {
        let onward = |options| Course::Onward { options };
        assert_eq!(course(Finding::Foreign, 0, 2, OPTION_DROP), onward(OPTION_DROP));
        assert_eq!(course(Finding::Waiting, 0, 2, 0), onward(WAITER_0));
        assert_eq!(course(Finding::Waiting, 1, 2, 0), onward(WAITER_1));
        assert_eq!(course(Finding::Waiting, 1, 2, WAITER_0), onward(WAITER_0));
    }

    #[test]
    fn the_last_one_sends_back_drops_or_keeps() {
        let back = |place, options| Course::Back {
            place,
            options: options | OPTION_RETURNED,
        };
        assert_eq!(course(Finding::Foreign, 2, 2, WAITER_1), back(1, WAITER_1));
        assert_eq!(course(Finding::Waiting, 2, 2, WAITER_0), back(0, WAITER_0));
        assert_eq!(course(Finding::Waiting, 1, 1, OPTION_DROP), Course::Keep);
        assert_eq!(course(Finding::Foreign, 1, 1, OPTION_DROP), Course::Drop);
        assert_eq!(course(Finding::Foreign, 1, 1, 0), Course::Last);
        assert_eq!(
            course(Finding::Foreign, 0, 0, WAITER_0),
            Course::Last,
            "no such candidate"
        );
    }
}
