//! The rule by which a packet of an unsettled slot is steered: pure, the same code in the data plane and in
//! the daemon's simulation. (A settled slot needs no rule: its packets go to `current`.)

use crate::slot::{Member, NONE, Phase, Slot};

/// What a packet says about its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// TCP: SYN without ACK, RST or FIN: a new connection, or its SYN once more.
    Open,
    /// TCP: belongs to a connection.
    Data,
    /// TCP: FIN or RST.
    End,
    /// UDP: may open a flow or belong to one.
    Datagram,
    /// An ICMP error about a flow: follows it, and says nothing about it.
    Error,
}

/// Which flows of a VIP are noted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tracking {
    /// Those in slots that are not settled.
    #[default]
    Transitions,
    /// All of them: the classic flow table. A TCP segment that opens nothing and has no note gets a note
    /// where its slot says it belongs.
    All,
    /// All of them, and a TCP segment that opens nothing and has no note is nobody's.
    AllStrict,
    /// None, ever.
    None,
}

impl Segment {
    /// The segment that TCP flags (the header's 14th byte, RFC 9293 section 3.1) stand for.
    #[inline(always)]
    pub const fn of_tcp_flags(flags: u8) -> Self {
        const FIN: u8 = 1;
        const SYN: u8 = 2;
        const RST: u8 = 4;
        const ACK: u8 = 16;
        if flags & (FIN | RST) != 0 {
            Self::End
        } else if flags & (SYN | ACK) == SYN {
            Self::Open
        } else {
            Self::Data
        }
    }
}

/// What is noted about a packet's flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing.
    Nothing,
    /// A note that doesn't count any more: idle for too long, or its member is gone.
    Stale,
    /// A note that its flow has not confirmed yet. A SYN does not follow it to a member that is down: a client that
    /// has no answer from a dead server goes on with SYNs of the same flow, and would be led there for as long as it
    /// asks.
    Pending(Member),
    /// A note.
    Noted(Member),
    /// A note that a SYN need not follow: its flow was seen to end, or its member is down.
    Ended(Member),
}

/// What becomes of the flow's note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// Nothing.
    Keep,
    /// A pending note is written; there is none.
    Write,
    /// The note that there is now names the member, pending.
    Overwrite,
    /// The note is used: renewed, and promoted where it is pending.
    Use,
    /// The note is used by a SYN: renewed, not promoted.
    Renew,
    /// The note is used, and its flow ends.
    End,
}

/// Where a packet goes, and what is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The member that gets the packet; [`NONE`] where the VIP has none.
    pub member: Member,
    /// What becomes of the flow's note.
    pub record: Record,
}

impl Decision {
    /// Nobody is never written down: the note would outlast the want of members.
    #[inline(always)]
    const fn new(member: Member, record: Record) -> Self {
        if member == NONE {
            Self {
                member,
                record: Record::Keep,
            }
        } else {
            Self { member, record }
        }
    }
}

/// Steers a packet of a slot that is not settled, or of a VIP that notes all flows.
///
/// `is_down` tells whether a member is down (its check fails, or it is silent); it is asked at most once: for
/// datagrams, and for a SYN whose note is pending.
#[inline(always)]
pub fn decide(
    slot: Slot,
    segment: Segment,
    known: Known,
    tracking: Tracking,
    is_down: impl FnOnce(Member) -> bool,
) -> Decision {
    let phase = match (slot.phase(), tracking) {
        (Phase::Settled | Phase::Kept, Tracking::Transitions) | (_, Tracking::None) => {
            return Decision::new(slot.current, Record::Keep);
        }
        // Every slot notes new flows, for good.
        (
            Phase::Settled | Phase::Kept | Phase::Open | Phase::Fresh | Phase::Moved,
            Tracking::All | Tracking::AllStrict,
        ) => Phase::Open,
        (phase, _) => phase,
    };
    match (segment, known) {
        (Segment::Error, Known::Pending(member) | Known::Noted(member) | Known::Ended(member)) => {
            Decision::new(member, Record::Keep)
        }
        (Segment::Open, Known::Pending(member)) => {
            if is_down(member) {
                Decision::new(slot.current, Record::Overwrite)
            } else {
                Decision::new(member, Record::Renew)
            }
        }
        (Segment::Open, Known::Noted(member)) => Decision::new(member, Record::Renew),
        (Segment::Open, Known::Ended(_) | Known::Stale) => Decision::new(slot.current, Record::Overwrite),
        (Segment::Open, Known::Nothing) => Decision::new(
            slot.current,
            match phase {
                Phase::Open | Phase::Moving | Phase::Fresh => Record::Write,
                Phase::Moved | Phase::Settled | Phase::Kept => Record::Keep,
            },
        ),
        (Segment::End, Known::Pending(member) | Known::Noted(member) | Known::Ended(member)) => {
            Decision::new(member, Record::End)
        }
        (
            Segment::Data | Segment::Datagram,
            Known::Pending(member) | Known::Noted(member) | Known::Ended(member),
        ) => Decision::new(member, Record::Use),
        (Segment::End | Segment::Error, Known::Nothing | Known::Stale) => Decision::new(
            match (phase, tracking) {
                (Phase::Moving, _) => slot.unnoted_owner(),
                (_, Tracking::AllStrict) => NONE,
                _ => slot.current,
            },
            Record::Keep,
        ),
        (Segment::Data, Known::Nothing | Known::Stale) => match (phase, tracking) {
            (Phase::Moving, _) => Decision::new(slot.unnoted_owner(), written(known)),
            (_, Tracking::AllStrict) => Decision::new(NONE, Record::Keep),
            (_, Tracking::All) => Decision::new(slot.current, written(known)),
            (_, Tracking::Transitions | Tracking::None) => Decision::new(slot.current, Record::Keep),
        },
        (Segment::Datagram, Known::Nothing | Known::Stale) => match (phase, tracking) {
            (Phase::Moving, _) => {
                let owner = slot.unnoted_owner();
                let member = if owner != NONE && !is_down(owner) {
                    owner
                } else {
                    slot.current
                };
                Decision::new(member, written(known))
            }
            (Phase::Fresh, _) | (_, Tracking::All | Tracking::AllStrict) => {
                Decision::new(slot.current, written(known))
            }
            (_, Tracking::Transitions | Tracking::None) => Decision::new(slot.current, Record::Keep),
        },
    }
}

/// How a first note is written where there is nothing, or a stale note in its place.
#[inline(always)]
const fn written(known: Known) -> Record {
    match known {
        Known::Stale => Record::Overwrite,
        Known::Nothing | Known::Pending(_) | Known::Noted(_) | Known::Ended(_) => Record::Write,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: fn(Member) -> bool = |_| false;

    fn slot(phase: Phase) -> Slot {
        Slot {
            current: 1,
            previous: 2,
            older: 3,
            phase: phase as u16,
        }
    }

    fn steer(phase: Phase, segment: Segment, known: Known) -> (Member, Record) {
        let decision = decide(slot(phase), segment, known, Tracking::Transitions, UP);
        (decision.member, decision.record)
    }

    #[test]
    fn a_settled_slot_looks_at_nothing() {
        assert_eq!(
            steer(Phase::Settled, Segment::Data, Known::Noted(9)),
            (1, Record::Keep)
        );
    }

    #[test]
    fn old_flows_stay_with_the_unnoted_owner_while_moving() {
        assert_eq!(
            steer(Phase::Moving, Segment::Data, Known::Nothing),
            (3, Record::Write)
        );
        assert_eq!(
            steer(Phase::Moving, Segment::End, Known::Nothing),
            (3, Record::Keep)
        );
        for phase in [Phase::Open, Phase::Fresh, Phase::Moved] {
            assert_eq!(steer(phase, Segment::Data, Known::Nothing), (1, Record::Keep));
        }
    }

    #[test]
    fn new_connections_go_to_current_and_are_noted_until_a_second_after_moving() {
        for phase in [Phase::Open, Phase::Moving, Phase::Fresh] {
            assert_eq!(steer(phase, Segment::Open, Known::Nothing), (1, Record::Write));
        }
        assert_eq!(
            steer(Phase::Moved, Segment::Open, Known::Nothing),
            (1, Record::Keep)
        );
    }

    #[test]
    fn a_syn_on_a_noted_tuple_follows_it_unless_the_old_flow_is_over() {
        assert_eq!(
            steer(Phase::Moved, Segment::Open, Known::Pending(9)),
            (9, Record::Renew)
        );
        assert_eq!(
            steer(Phase::Moved, Segment::Open, Known::Noted(9)),
            (9, Record::Renew)
        );
        assert_eq!(
            steer(Phase::Moved, Segment::Open, Known::Ended(9)),
            (1, Record::Overwrite)
        );
        assert_eq!(
            steer(Phase::Moved, Segment::Open, Known::Stale),
            (1, Record::Overwrite)
        );
    }

    #[test]
    fn a_syn_without_an_answer_does_not_stay_with_a_member_that_goes_down() {
        let known = Known::Pending(9);
        let steer = |segment, down| {
            let tracking = Tracking::Transitions;
            let decision = decide(slot(Phase::Moved), segment, known, tracking, |member| {
                member == down
            });
            (decision.member, decision.record)
        };
        assert_eq!(steer(Segment::Open, 9), (1, Record::Overwrite));
        assert_eq!(steer(Segment::Open, 1), (9, Record::Renew));
        // Its other packets do: they show that there was an answer.
        assert_eq!(steer(Segment::Data, 9), (9, Record::Use));
    }

    #[test]
    fn notes_are_followed_in_every_unsettled_phase() {
        for phase in [Phase::Open, Phase::Moving, Phase::Fresh, Phase::Moved] {
            assert_eq!(steer(phase, Segment::Data, Known::Noted(9)), (9, Record::Use));
            assert_eq!(steer(phase, Segment::Data, Known::Ended(9)), (9, Record::Use));
            assert_eq!(steer(phase, Segment::End, Known::Noted(9)), (9, Record::End));
            assert_eq!(
                steer(phase, Segment::Datagram, Known::Pending(9)),
                (9, Record::Use)
            );
        }
    }

    #[test]
    fn a_member_that_is_down_is_not_the_unnoted_owner_of_datagrams() {
        let down = |member| member == 3;
        let decision = decide(
            slot(Phase::Moving),
            Segment::Datagram,
            Known::Nothing,
            Tracking::Transitions,
            down,
        );
        assert_eq!((decision.member, decision.record), (1, Record::Write));
        assert_eq!(
            steer(Phase::Moving, Segment::Datagram, Known::Nothing),
            (3, Record::Write)
        );
    }

    #[test]
    fn an_icmp_error_follows_its_flow_and_writes_nothing() {
        for phase in [Phase::Open, Phase::Moving, Phase::Fresh, Phase::Moved] {
            for known in [Known::Pending(9), Known::Noted(9), Known::Ended(9)] {
                assert_eq!(steer(phase, Segment::Error, known), (9, Record::Keep));
            }
        }
        assert_eq!(
            steer(Phase::Moving, Segment::Error, Known::Nothing),
            (3, Record::Keep)
        );
        assert_eq!(
            steer(Phase::Moved, Segment::Error, Known::Stale),
            (1, Record::Keep)
        );
    }

    #[test]
    fn a_vip_that_notes_all_flows_notes_them_in_every_phase() {
        let phases = [
            Phase::Settled,
            Phase::Open,
            Phase::Fresh,
            Phase::Moved,
            Phase::Kept,
        ];
        let all = |phase, segment, known, tracking| {
            let decision = decide(slot(phase), segment, known, tracking, UP);
            (decision.member, decision.record)
        };
        for phase in phases {
            for tracking in [Tracking::All, Tracking::AllStrict] {
                assert_eq!(
                    all(phase, Segment::Open, Known::Nothing, tracking),
                    (1, Record::Write)
                );
                assert_eq!(
                    all(phase, Segment::Datagram, Known::Nothing, tracking),
                    (1, Record::Write)
                );
                assert_eq!(
                    all(phase, Segment::Data, Known::Noted(9), tracking),
                    (9, Record::Use)
                );
            }
            assert_eq!(
                all(phase, Segment::Data, Known::Nothing, Tracking::All),
                (1, Record::Write)
            );
            for segment in [Segment::Data, Segment::End, Segment::Error] {
                assert_eq!(
                    all(phase, segment, Known::Nothing, Tracking::AllStrict),
                    (NONE, Record::Keep)
                );
            }
        }
        for tracking in [Tracking::All, Tracking::AllStrict] {
            assert_eq!(
                all(Phase::Moving, Segment::Data, Known::Nothing, tracking),
                (3, Record::Write),
                "the owner before a change is known without a note"
            );
        }
    }

    #[test]
    fn a_vip_without_notes_goes_by_current_alone() {
        for phase in [Phase::Settled, Phase::Moving, Phase::Moved, Phase::Kept] {
            for segment in [Segment::Open, Segment::Data, Segment::End, Segment::Datagram] {
                let decision = decide(slot(phase), segment, Known::Noted(9), Tracking::None, UP);
                assert_eq!((decision.member, decision.record), (1, Record::Keep));
            }
        }
    }

    #[test]
    fn nobody_is_never_noted() {
        let empty = Slot {
            current: NONE,
            previous: NONE,
            older: NONE,
            phase: Phase::Moving as u16,
        };
        for segment in [Segment::Open, Segment::Data, Segment::Datagram] {
            for known in [Known::Nothing, Known::Stale] {
                assert_eq!(
                    decide(empty, segment, known, Tracking::Transitions, UP),
                    Decision {
                        member: NONE,
                        record: Record::Keep
                    }
                );
            }
        }
    }

    #[test]
    fn flags_are_read_as_the_rfc_names_them() {
        assert_eq!(Segment::of_tcp_flags(0x02), Segment::Open);
        assert_eq!(Segment::of_tcp_flags(0xc2), Segment::Open, "SYN with ECE and CWR");
        assert_eq!(
            Segment::of_tcp_flags(0x12),
            Segment::Data,
            "SYN+ACK opens nothing here"
        );
        assert_eq!(Segment::of_tcp_flags(0x03), Segment::End, "SYN+FIN opens nothing");
        assert_eq!(Segment::of_tcp_flags(0x11), Segment::End);
        assert_eq!(Segment::of_tcp_flags(0x14), Segment::End);
        assert_eq!(Segment::of_tcp_flags(0x10), Segment::Data);
    }
}
