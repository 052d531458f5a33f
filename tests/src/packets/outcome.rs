//! What became of a frame, and what a test claims about it: verdict, every byte, every counter.

use foobar::dataplane::Verdict;
use foobar_common::counters::Counter;
use foobar_common::slot::Member;

use super::frame::OWN;
use super::rig::backend_mac;

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
const XDP_REDIRECT: u32 = 4;

const SYN: u8 = 0x02;
const SYN_ACK_RST_FIN: u8 = 0x17;

/// By how much a target's counters moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The target.
    pub member: Member,
    /// Frames.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those that open a connection.
    pub connections: u64,
}

/// What became of a frame.
#[derive(Clone, Debug)]
#[must_use]
pub struct Outcome {
    /// The frame as it was sent.
    pub frame: Vec<u8>,
    /// The verdict, and the frame afterwards.
    pub verdict: Verdict,
    /// The counters that moved, and by how much.
    pub counters: Vec<(&'static str, u64)>,
    /// The targets whose counters moved.
    pub targets: Vec<Sent>,
}

impl Outcome {
    /// It went back out of its interface to the target's MAC address, with nothing else changed; besides the
    /// target's counters just these moved, by one each.
    #[track_caller]
    pub fn forwarded_to(&self, member: Member, counters: &[Counter]) {
        self.has(XDP_TX, &self.rewritten(member), counters);
        assert_eq!(self.targets, [self.sent_to(member)], "target counters");
    }

    /// As [`Self::forwarded_to`], by another interface.
    #[track_caller]
    pub fn redirected_to(&self, member: Member, counters: &[Counter]) {
        self.has(XDP_REDIRECT, &self.rewritten(member), counters);
        assert_eq!(self.targets, [self.sent_to(member)], "target counters");
    }

    /// The kernel gets it as it came.
    #[track_caller]
    pub fn passed(&self) {
        self.has(XDP_PASS, &self.frame, &[Counter::PassNotVip]);
        assert_eq!(self.targets, [], "target counters");
    }

    /// It was dropped; just these counters moved, by one each.
    #[track_caller]
    pub fn dropped(&self, counters: &[Counter]) {
        self.has(XDP_DROP, &self.frame, counters);
        assert_eq!(self.targets, [], "target counters");
    }

    /// It was turned into this answer; just this counter moved, by one.
    #[track_caller]
    pub fn answered(&self, counter: Counter, answer: &[u8]) {
        self.has(XDP_TX, answer, &[counter]);
        assert_eq!(self.targets, [], "target counters");
    }

    #[track_caller]
    fn has(&self, action: u32, frame: &[u8], counters: &[Counter]) {
        let mut moved = self.counters.clone();
        let mut expected: Vec<_> = counters.iter().map(|counter| (counter.name(), 1)).collect();
        moved.sort_unstable();
        expected.sort_unstable();
        assert_eq!(
            (self.verdict.action, moved),
            (action, expected),
            "action and counters for {}",
            hex(&self.frame)
        );
        assert_eq!(hex(&self.verdict.frame), hex(frame), "bytes");
    }

    /// The frame with the MAC addresses of the way to a target.
    pub fn rewritten(&self, member: Member) -> Vec<u8> {
        [&backend_mac(member)[..], &OWN, &self.frame[12..]].concat()
    }

    /// What a target's counters count for this frame.
    pub fn sent_to(&self, member: Member) -> Sent {
        Sent {
            member,
            packets: 1,
            bytes: self.frame.len() as u64,
            connections: u64::from(self.opens()),
        }
    }

    /// Whether the frame is a SYN, by its own bytes.
    fn opens(&self) -> bool {
        let header = usize::from(self.frame[14] & 0x0f) * 4;
        self.frame[23] == 6 && self.frame[14 + header + 13] & SYN_ACK_RST_FIN == SYN
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .chunks(16)
        .map(|row| {
            let octets: Vec<_> = row.iter().map(|byte| format!("{byte:02x}")).collect();
            octets.join(" ")
        })
        .collect::<Vec<_>>()
        .join("\n")
}
