//! A case of the table: plain data, and the words it is written with.

use foobar_common::counters::Counter;
use foobar_common::slot::{Member, Slot};
use foobar_tests::packets::rig::Policy;

use crate::outer::{Outside, Way};

/// What is done before the frame is sent.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A slot is written.
    Slot(u32, Slot),
    /// A target that is resolved gets these flags besides.
    Flags(Member, u16),
    /// A target's next hop is not known any more.
    Unresolved(Member),
    /// A target is reached by the interface of this index.
    Behind(Member, u32),
    /// A lease gets this end.
    Lease(u32, u64),
    /// A target is reached in this way.
    Way(Member, Way),
    /// Outer headers come from prefixes, not from single addresses.
    Sources,
    /// A frame is sent, whatever becomes of it.
    Frame(Vec<u8>),
}

/// What becomes of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The kernel gets it as it came.
    Passed,
    /// It is dropped.
    Dropped,
    /// It leaves by its interface with the target's MAC address and the balancer's, else as it came; the target
    /// is counted so many connections.
    Forwarded(Member, u64),
    /// As [`Self::Forwarded`], by another interface.
    Redirected(Member, u64),
    /// As [`Self::Forwarded`], to the member that this frame goes to.
    ForwardedAs(Vec<u8>, u64),
    /// It goes to the target inside of another packet; the target is counted so many connections.
    Encapsulated(Member, u64, Outside),
    /// As [`Self::Encapsulated`], by another interface.
    EncapsulatedElsewhere(Member, u64, Outside),
    /// It leaves by its interface as these bytes.
    Answered(Vec<u8>),
}

/// All that a case claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    /// What becomes of the frame.
    pub(crate) fate: Fate,
    /// The counters that move, each by one; no other does.
    pub(crate) counters: Vec<Counter>,
}

impl Expected {
    /// These counters move as well.
    pub(crate) fn and(mut self, counters: &[Counter]) -> Self {
        self.counters.extend(counters);
        self
    }
}

/// It is the kernel's.
pub(crate) fn passes() -> Expected {
    Expected {
        fate: Fate::Passed,
        counters: vec![Counter::PassNotVip],
    }
}

/// It is dropped as this.
pub(crate) fn dropped(reason: Counter) -> Expected {
    Expected {
        fate: Fate::Dropped,
        counters: vec![reason],
    }
}

/// It goes to a member.
pub(crate) const fn goes_to(member: Member) -> Expected {
    Expected {
        fate: Fate::Forwarded(member, 0),
        counters: Vec::new(),
    }
}

/// It goes to a member, and counts there as a new connection.
pub(crate) const fn opens(member: Member) -> Expected {
    Expected {
        fate: Fate::Forwarded(member, 1),
        counters: Vec::new(),
    }
}

/// It goes to a member by another interface, and counts there as so many new connections.
pub(crate) const fn redirected(member: Member, connections: u64) -> Expected {
    Expected {
        fate: Fate::Redirected(member, connections),
        counters: Vec::new(),
    }
}

/// It goes to the member that another frame goes to, and counts there as so many new connections.
pub(crate) const fn goes_where(other: Vec<u8>, connections: u64) -> Expected {
    Expected {
        fate: Fate::ForwardedAs(other, connections),
        counters: Vec::new(),
    }
}

/// It goes to the member that another frame goes to, as an ICMP error about that flow.
pub(crate) fn goes_where_as_error(other: Vec<u8>) -> Expected {
    goes_where(other, 0).and(&[Counter::IcmpSteered])
}

/// It goes to a member inside of another packet.
pub(crate) const fn encapsulated(member: Member, connections: u64, outside: Outside) -> Expected {
    Expected {
        fate: Fate::Encapsulated(member, connections, outside),
        counters: Vec::new(),
    }
}

/// It is turned into this answer.
pub(crate) fn answered(counter: Counter, answer: Vec<u8>) -> Expected {
    Expected {
        fate: Fate::Answered(answer),
        counters: vec![counter],
    }
}

/// A case.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// What is sent / in which circumstances / what becomes of it.
    pub(crate) name: String,
    /// What the VIPs do with packets that nobody can own.
    pub(crate) policy: Policy,
    /// What happened before.
    pub(crate) setup: Vec<Step>,
    /// The frame that is sent.
    pub(crate) frame: Vec<u8>,
    /// What becomes of it.
    pub(crate) expected: Expected,
}

impl Case {
    /// A case of VIPs that drop what nobody can own, all slots settled at member 1, all addresses owned.
    pub(crate) fn new(name: impl Into<String>, frame: Vec<u8>, expected: Expected) -> Self {
        Self {
            name: name.into(),
            policy: Policy::Drop,
            setup: Vec::new(),
            frame,
            expected,
        }
    }

    /// The VIPs reset what nobody can own.
    pub(crate) fn resetting(mut self) -> Self {
        self.policy = Policy::Reset;
        self
    }

    /// This happened before.
    pub(crate) fn given(mut self, steps: impl IntoIterator<Item = Step>) -> Self {
        self.setup.extend(steps);
        self
    }
}
