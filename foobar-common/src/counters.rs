//! The data plane's counters, per CPU: what became of every packet that did not simply go to a target.

/// Defines an enum of counters, and the map's element that has a field for each.
macro_rules! counters {
    ($counter:ident, $counters:ident; $($(#[$doc:meta])* $variant:ident => $field:ident,)+) => {
        #[doc = concat!("A counter's place in [`", stringify!($counters), "`].")]
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $counter {
            $($(#[$doc])* $variant,)+
        }

        impl $counter {
            /// All of them, in the order of their places.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The field's name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($field),)+
                }
            }
        }

        /// The only element of the per-CPU array of counters.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $counters {
            $($(#[$doc])* pub $field: u64,)+
        }

        impl $counters {
            /// A counter's value.
            pub const fn get(&self, counter: $counter) -> u64 {
                match counter {
                    $($counter::$variant => self.$field,)+
                }
            }

            /// Adds another CPU's counters to these.
            pub const fn add(&mut self, other: &Self) {
                $(self.$field = self.$field.wrapping_add(other.$field);)+
            }
        }
    };
}
pub(crate) use counters;

counters! {
    Counter, Counters;
    /// Not for a VIP: to the kernel, untouched.
    PassNotVip => pass_not_vip,
    /// Answered: an ARP request for an owned VIP.
    AnswerArp => answer_arp,
    /// Answered: a neighbour solicitation for an owned VIP.
    AnswerNeighbour => answer_neighbour,
    /// Answered: a ping to an owned VIP.
    AnswerEcho => answer_echo,
    /// Answered: a TCP segment that nobody can own, with RST.
    AnswerReset => answer_reset,
    /// Answered: a packet too big for the tunnel, with fragmentation needed or packet too big.
    AnswerTooBig => answer_too_big,
    /// Steered by a slot that is open.
    SlotOpen => slot_open,
    /// Steered by a slot that is moving.
    SlotMoving => slot_moving,
    /// Steered by a slot that has moved.
    SlotMoved => slot_moved,
    /// Steered by a slot that keeps earlier owners as candidates.
    SlotKept => slot_kept,
    /// Steered by the server id in a QUIC connection id.
    QuicServerId => quic_server_id,
    /// An ICMP error, steered by the packet that it quotes.
    IcmpSteered => icmp_steered,
    /// A first fragment was noted.
    FragmentNoted => fragment_noted,
    /// A later fragment followed its first one.
    FragmentFollowed => fragment_followed,
    /// A note was followed.
    NoteFollowed => note_followed,
    /// A first note was written.
    NotePending => note_pending,
    /// A pending note of another flow had to go for it.
    NotePendingEvicted => note_pending_evicted,
    /// A pending note was promoted.
    NotePromoted => note_promoted,
    /// A SYN took a noted tuple to another member.
    NoteOverwritten => note_overwritten,
    /// A note found no room.
    NoteFull => note_full,
    /// A first note that peers were not told of: the ring of events was half full.
    NoteUntoldPending => note_untold_pending,
    /// Another note that peers were not told of: the ring of events was full.
    NoteUntold => note_untold,
    /// Dropped: shorter than its headers say.
    DropTruncated => drop_truncated,
    /// Dropped: a header whose fields contradict each other.
    DropMalformed => drop_malformed,
    /// Dropped: an IPv4 header with a wrong checksum.
    DropChecksum => drop_checksum,
    /// Dropped: a source address that no host on the way can have.
    DropMartian => drop_martian,
    /// Dropped: a later fragment whose first one is not known.
    DropFragment => drop_fragment,
    /// Dropped: more IPv6 extension headers than are looked at, or one that is not known.
    DropExtension => drop_extension,
    /// Dropped: for a VIP, but the frame is for another host's MAC.
    DropForeignMac => drop_foreign_mac,
    /// Dropped: a VIP frame from a balancer's MAC.
    DropLoop => drop_loop,
    /// Dropped: no service of the VIP takes the protocol or port.
    DropNoService => drop_no_service,
    /// Dropped: ARP, neighbour discovery or ping for a VIP that another balancer owns.
    DropNotOwner => drop_not_owner,
    /// Dropped: the VIP has no member.
    DropNoMember => drop_no_member,
    /// Dropped: the flow is not known, and the VIP takes only those that are (`tracking = "all"`).
    DropNoNote => drop_no_note,
    /// Dropped: the target's next hop is not known.
    DropNoNextHop => drop_no_next_hop,
    /// Dropped: the interface that leads to the target cannot be reached by XDP.
    DropRedirect => drop_redirect,
    /// Dropped: ICMP to a VIP that is neither echo nor an error about a flow.
    DropIcmp => drop_icmp,
    /// Dropped: somebody else claims a VIP by ARP or neighbour discovery.
    DropConflict => drop_conflict,
    /// Dropped: too big for the tunnel, and not to be answered (no DF, or answered too often already).
    DropTooBig => drop_too_big,
    /// Dropped: the source is denied.
    DropDenied => drop_denied,
    /// Dropped: a SYN above its VIP's limit.
    DropSynLimit => drop_syn_limit,
    /// Dropped: a SYN above its source's limit.
    DropSourceLimit => drop_source_limit,
    /// Dropped: a map is not as the program knows it.
    DropInternal => drop_internal,
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn a_counters_place_is_its_fields_place() {
        for (place, &counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(counter as usize, place);
            let mut words = [0u64; size_of::<Counters>() / 8];
            words[place] = 7;
            // SAFETY: `Counters` is plain u64s, `repr(C)`, and of the same size.
            let counters: Counters = unsafe { core::mem::transmute(words) };
            assert_eq!(counters.get(counter), 7, "{}", counter.name());
        }
        assert_eq!(Counter::ALL.len() * 8, size_of::<Counters>());
    }
}
