//! What balancers say to each other, and its form on the wire: CBOR (RFC 8949), every field under a number, so that
//! a release that knows more fields still understands one that knows fewer, and the other way round.
//!
//! Members are named by address and incarnation, never by an index: an index means something on one balancer
//! only. Times are ages in milliseconds: no two balancers' clocks have to agree.

use std::net::IpAddr;

use minicbor::bytes::ByteArray;
use minicbor::{CborLen, Decode, Encode};

use super::name::{MemberName, Service};

/// The protocol that this release speaks; one that differs in what is required has another number.
pub const VERSION: u16 = if cfg!(feature = "next-release") { 2 } else { 1 };
/// The oldest one that it still understands.
pub const OLDEST_VERSION: u16 = 1;

/// A digest: the first 16 bytes of a SHA-256.
pub type Digest = ByteArray<16>;

/// A message with its number: the first of a session is 0.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, CborLen)]
pub struct Envelope {
    /// The number.
    #[n(0)]
    pub sequence: u64,
    /// What is said.
    #[n(1)]
    pub message: Message,
}

/// What one balancer says to another.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, CborLen)]
pub enum Message {
    /// What it sees of a service; the newest version counts.
    #[n(0)]
    Report(#[n(0)] Report),
    /// Its reports since [`Message::Begin`] are all that it has.
    #[n(1)]
    Told,
    /// Slots that have just begun to move.
    #[n(2)]
    Starts(#[n(0)] Starts),
    /// Notes of flows.
    #[n(3)]
    Notes(#[n(0)] Notes),
    /// A service's slots, all of them.
    #[n(4)]
    Table(#[n(0)] Table),
    /// Its tables and notes since [`Message::Begin`] are all that it has.
    #[n(5)]
    Complete,
    /// A sign of life.
    #[n(6)]
    Pulse(#[n(0)] Pulse),
    /// Messages were lost: all that it has is asked for again.
    #[n(7)]
    Pull,
    /// It stops, and goes on forwarding what it has.
    #[n(8)]
    Bye,
    /// All that it has follows: reports, and once it has those of the other side, tables and notes.
    #[n(9)]
    Begin,
    /// Pending notes, as a balancer that was not there when they were made is told of them.
    #[n(10)]
    Pending(#[n(0)] Pending),
}

/// What a balancer sees of a service.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, CborLen)]
pub struct Report {
    /// The service.
    #[n(0)]
    pub service: Service,
    /// Counts the sender's reports about it.
    #[n(1)]
    pub version: u64,
    /// Its members, by address.
    #[n(2)]
    pub members: Vec<Seen>,
    /// There is no room for the notes of a change that can wait.
    #[n(3)]
    pub crowded: bool,
    /// Digest of what the sender steers by: settings, members, and each slot's current one.
    #[n(4)]
    pub digest: Digest,
}

/// A member, as one balancer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, CborLen)]
pub struct Seen {
    /// Its name.
    #[n(0)]
    pub name: MemberName,
    /// What the sender's own checks say.
    #[n(1)]
    pub observed: Observed,
    /// What operators said.
    #[n(2)]
    pub drain: Drain,
}

/// What a balancer's own checks say of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode, CborLen)]
#[cbor(index_only)]
pub enum Observed {
    /// Nothing yet.
    #[n(0)]
    Unknown,
    /// It serves.
    #[n(1)]
    Up,
    /// Its check fails, its host answers.
    #[n(2)]
    SoftDown,
    /// Nothing but silence.
    #[n(3)]
    HardDown,
}

/// What operators said of a member: the highest count is the last word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, CborLen)]
pub struct Drain {
    /// How often an operator has said something.
    #[n(0)]
    pub count: u64,
    /// Whether it is to take no new flows.
    #[n(1)]
    pub drained: bool,
}

/// Slots of a service that have begun to move.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, CborLen)]
pub struct Starts {
    /// The service.
    #[n(0)]
    pub service: Service,
    /// How long ago.
    #[n(1)]
    pub age_ms: u32,
    /// Which, in runs: the first slot and how many follow it without a gap, itself included.
    #[n(2)]
    pub runs: Vec<(u32, u32)>,
}

/// Notes of flows of a service.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, CborLen)]
pub struct Notes {
    /// The service.
    #[n(0)]
    pub service: Service,
    /// The members that `notes` name by their place here.
    #[n(1)]
    pub members: Vec<MemberName>,
    /// The notes.
    #[n(2)]
    pub notes: Vec<FlowNote>,
}

/// A flow's note.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, CborLen)]
pub struct FlowNote {
    /// The client's address.
    #[n(0)]
    pub source: IpAddr,
    /// The client's port.
    #[n(1)]
    pub source_port: u16,
    /// The service's port.
    #[n(2)]
    pub destination_port: u16,
    /// Whose the flow is: a place in [`Notes::members`].
    #[n(3)]
    pub member: u16,
    /// How long ago a packet last followed it.
    #[n(4)]
    pub age_ms: u32,
    /// What else is known of it.
    #[n(5)]
    pub stage: Stage,
}

/// Pending notes of flows of a service. Nobody knows their addresses and ports any more.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, CborLen)]
pub struct Pending {
    /// The service.
    #[n(0)]
    pub service: Service,
    /// The members that `notes` name by their place here.
    #[n(1)]
    pub members: Vec<MemberName>,
    /// How many sets the sender has for pending notes: so many bits of the hashes are known.
    #[n(2)]
    pub sets: u32,
    /// The notes.
    #[n(3)]
    pub notes: Vec<PendingFlow>,
}

/// A pending note.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, CborLen)]
pub struct PendingFlow {
    /// The flow's slot in the service.
    #[n(0)]
    pub slot: u32,
    /// What is known of the flow's hash, see [`foobar_common::note::PendingNote::known_hash`].
    #[n(1)]
    pub hash: u64,
    /// Whose the flow is: a place in [`Pending::members`].
    #[n(2)]
    pub member: u16,
    /// How long ago it was used.
    #[n(3)]
    pub age_ms: u32,
}

/// How far a noted flow has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode, CborLen)]
#[cbor(index_only)]
pub enum Stage {
    /// Its first packet was seen, and no other.
    #[n(0)]
    Pending,
    /// It goes on.
    #[n(1)]
    Established,
    /// Its client sent FIN or RST.
    #[n(2)]
    Ended,
}

/// A service's slots.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, CborLen)]
pub struct Table {
    /// The service.
    #[n(0)]
    pub service: Service,
    /// The members that slots name by their place here, counted from 1; 0 is nobody.
    #[n(1)]
    pub members: Vec<MemberName>,
    /// The current member of each slot, 16 bits each, low byte first.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub current: Vec<u8>,
    /// The slots that are not settled.
    #[n(3)]
    pub unsettled: Vec<Unsettled>,
}

/// A slot that is not settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, CborLen)]
pub struct Unsettled {
    /// Which.
    #[n(0)]
    pub slot: u32,
    /// Its phase, as [`foobar_common::slot::Phase`] numbers them.
    #[n(1)]
    pub phase: u8,
    /// The owner before the current one: a place in [`Table::members`], 0 for none.
    #[n(2)]
    pub previous: u16,
    /// The owner before that.
    #[n(3)]
    pub older: u16,
    /// How long ago the phase began.
    #[n(4)]
    pub age_ms: u32,
}

/// A sign of life, and what says in short whether two balancers agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, CborLen)]
pub struct Pulse {
    /// Digest of the configuration's part that all balancers of a cluster share.
    #[n(0)]
    pub configuration: Digest,
    /// It may take VIPs over.
    #[n(1)]
    pub ready: bool,
}

/// The messages that fit no frame, or are none.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The bytes are no message.
    #[error("not a message of this protocol: {0}")]
    Nonsense(#[from] minicbor::decode::Error),
    /// Bytes are left behind the message.
    #[error("{0} bytes behind the message")]
    Trailing(usize),
}

/// The bytes of a message.
#[must_use]
pub fn encode(envelope: &Envelope) -> Vec<u8> {
    if cfg!(feature = "next-release") {
        encoded(&Later {
            sequence: envelope.sequence,
            message: &envelope.message,
            more: 5,
        })
    } else {
        encoded(envelope)
    }
}

fn encoded<T: Encode<()> + CborLen<()>>(message: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(minicbor::len(message));
    // A Vec takes all that is written, and no type here refuses to be encoded.
    let done = minicbor::encode(message, &mut bytes);
    debug_assert!(done.is_ok());
    bytes
}

/// An [`Envelope`] of a release that has more to say.
#[derive(Encode, CborLen)]
struct Later<'a> {
    #[n(0)]
    sequence: u64,
    #[n(1)]
    message: &'a Message,
    #[n(2)]
    more: u64,
}

/// The message that these bytes are.
///
/// # Errors
/// Where they are none, or more than one.
pub fn decode(bytes: &[u8]) -> Result<Envelope, WireError> {
    let mut decoder = minicbor::Decoder::new(bytes);
    let envelope = decoder.decode()?;
    match bytes.len() - decoder.position() {
        0 => Ok(envelope),
        trailing => Err(WireError::Trailing(trailing)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn service() -> Service {
        Service {
            address: "2001:db8::101".parse().unwrap(),
            first_port: 443,
            last_port: 443,
            protocol: 6,
        }
    }

    fn name(last: u8) -> MemberName {
        MemberName {
            address: IpAddr::from([192, 0, 2, last]),
            incarnation: u64::from(last) + 7,
        }
    }

    fn messages() -> Vec<Message> {
        vec![
            Message::Report(Report {
                service: service(),
                version: 9,
                members: vec![Seen {
                    name: name(21),
                    observed: Observed::SoftDown,
                    drain: Drain {
                        count: 3,
                        drained: true,
                    },
                }],
                crowded: true,
                digest: Digest::from([7; 16]),
            }),
            Message::Told,
            Message::Starts(Starts {
                service: service(),
                age_ms: 5,
                runs: vec![(0, 1), (65_530, 6)],
            }),
            Message::Notes(Notes {
                service: service(),
                members: vec![name(21), name(22)],
                notes: vec![FlowNote {
                    source: "198.51.100.7".parse().unwrap(),
                    source_port: 40_000,
                    destination_port: 443,
                    member: 1,
                    age_ms: 12,
                    stage: Stage::Ended,
                }],
            }),
            Message::Table(Table {
                service: service(),
                members: vec![name(21)],
                current: vec![1, 0, 0, 0],
                unsettled: vec![Unsettled {
                    slot: 1,
                    phase: 2,
                    previous: 1,
                    older: 0,
                    age_ms: 900_000,
                }],
            }),
            Message::Complete,
            Message::Pulse(Pulse {
                configuration: Digest::from([1; 16]),
                ready: false,
            }),
            Message::Pull,
            Message::Bye,
            Message::Begin,
            Message::Pending(Pending {
                service: service(),
                members: vec![name(22)],
                sets: 32_768,
                notes: vec![PendingFlow {
                    slot: 9,
                    hash: 0xff00_0000_1000_0000,
                    member: 0,
                    age_ms: 1_000,
                }],
            }),
        ]
    }

    #[test]
    fn every_message_comes_back_as_it_went() {
        for (sequence, message) in messages().into_iter().enumerate() {
            let envelope = Envelope {
                sequence: sequence as u64,
                message,
            };
            assert_eq!(decode(&encode(&envelope)).unwrap(), envelope);
        }
    }

    #[test]
    fn what_a_later_release_adds_is_passed_over() {
        let later = Later {
            sequence: 1,
            message: &Message::Pull,
            more: 5,
        };
        let bytes = encoded(&later);
        assert_eq!(decode(&bytes).unwrap().message, Message::Pull);
    }

    #[test]
    fn bytes_behind_a_message_are_refused() {
        let mut bytes = encode(&Envelope {
            sequence: 0,
            message: Message::Pull,
        });
        bytes.push(0);
        assert!(matches!(decode(&bytes), Err(WireError::Trailing(1))));
    }

    proptest! {
        #[test]
        fn nonsense_is_refused_and_no_more(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn a_message_that_was_damaged_is_refused_or_another(which in 0..11_usize, place in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let envelope = Envelope { sequence: 3, message: messages().swap_remove(which) };
            let mut bytes = encode(&envelope);
            let place = place.index(bytes.len());
            bytes[place] ^= 1 << bit;
            let _ = decode(&bytes);
            let _ = decode(&bytes[..place]);
        }
    }
}
