//! What the balancer's program tells user space of a note that peers must hear of: a record in a ring buffer. It is
//! there only where the program was loaded with [`crate::admission::FEATURE_NOTE_EVENTS`].
//!
//! Told is what only a packet knows: a note that is new, one that its flow has confirmed or ended, one that has another
//! member now. That a note is used goes on without a word, and shows when the notes are swept.

use crate::note::FlowKey;
use crate::slot::Member;
use crate::time::Ticks;

/// A record. All of it is native, but for the ports and addresses of the key.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoteEvent {
    /// Whose note it is.
    pub key: FlowKey,
    /// The flow's slot, as index in the slot array.
    pub slot: u32,
    /// Whose the flow is.
    pub member: Member,
    /// `STAGE_*`.
    pub stage: u16,
    /// When the packet came.
    pub used: Ticks,
    /// Unused.
    pub reserved: u32,
}

/// No event: nothing that peers would have to hear of.
pub const STAGE_NONE: u16 = 0;
/// The flow's first note was written.
pub const STAGE_PENDING: u16 = 1;
/// The note that there was has another member now, or a new life, and is pending.
pub const STAGE_OVERWRITTEN: u16 = 2;
/// A packet that opens nothing has confirmed the note.
pub const STAGE_ESTABLISHED: u16 = 3;
/// The client has sent FIN or RST.
pub const STAGE_ENDED: u16 = 4;

/// The ring's size in bytes: a power of two of pages. A record takes eight bytes more than it has, so that 87,381 of
/// them fit.
pub const NOTE_EVENT_RING_BYTES: u32 = 1 << 22;

/// With more unread bytes than these, first notes are not told of any more: a flood is of nothing else.
pub const NOTE_EVENT_RING_CROWDED: u32 = NOTE_EVENT_RING_BYTES / 2;

impl NoteEvent {
    /// The words that a record is written as.
    #[inline(always)]
    pub const fn words(key: [u64; 3], slot: u32, member: Member, stage: u16, used: Ticks) -> [u64; 5] {
        let [first, second, tail] = key;
        let what = slot as u64 | (member as u64) << 32 | (stage as u64) << 48;
        [first, second, tail, what, used as u64]
    }

    /// The record that these words are.
    pub const fn from_words(words: [u64; 5]) -> Self {
        // SAFETY: both are 40 plain bytes.
        unsafe { core::mem::transmute::<[u64; 5], Self>(words) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Address;

    #[test]
    fn a_records_words_give_back_what_went_in() {
        let key = FlowKey::new(Address::from_ipv4_raw(0x0101_a8c0), 0x5000_419c, 71);
        let words = NoteEvent::words(key.words(), 0x00ab_cdef, 0x7abc, STAGE_ENDED, 0xdead_beef);
        let expected = NoteEvent {
            key,
            slot: 0x00ab_cdef,
            member: 0x7abc,
            stage: STAGE_ENDED,
            used: 0xdead_beef,
            reserved: 0,
        };
        assert_eq!(NoteEvent::from_words(words), expected);
    }
}
