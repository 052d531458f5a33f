//! Notes: which member a flow in an unsettled slot belongs to.
//!
//! A flow's first note is *pending*: an entry in a set-associative array, which a flood can only churn. The
//! flow's next packet that opens nothing promotes it into the array of notes, which is set-associative too, so that a
//! look-up is no call of the kernel's. There each note has its flow's whole key, for two flows must never be taken for
//! one, and two sets that it may be in. Nothing is evicted: where both are full a flow's note stays pending and that is
//! counted, and no noted flow loses its note.
//!
//! Programs on several CPUs and the daemon write to it without a lock. A place is free where its note names no member.
//! Who wants one exchanges the word of the note, by compare and swap, for one that is [`NOTE_CLAIMED`], writes the key,
//! and then the word: nobody else writes to the place meanwhile, and a key is only believed where the word before it
//! was read and the one after it name the same member. What changes a note's member or flags, or frees it, is a
//! compare and swap of the word as it was judged. Only its time is written without one: at worst that of the flow which
//! has just got the place, and which was used in the same moment.

use crate::address::Address;
use crate::slot::{MAX_MEMBER, Member, NONE};
use crate::time::{TICK_SHIFT, Ticks};

/// The key of a note: a flow of one VIP.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// The client's address.
    pub source: Address,
    /// The client's port, network byte order.
    pub source_port_be: u16,
    /// The VIP's port, network byte order.
    pub destination_port_be: u16,
    /// The VIP's id.
    pub vip: u32,
}

impl FlowKey {
    /// The key of a flow, by its source address, the four bytes of its ports as they stand in the packet (source port
    /// first), and the VIP's id.
    ///
    /// It is made of whole words: what is written in parts and at once read whole, as the look-up does, waits until it
    /// has reached the cache.
    #[inline(always)]
    pub const fn new(source: Address, ports_be: u32, vip: u32) -> Self {
        let [first, second] = source.words();
        let tail = (ports_be as u64 | (vip as u64) << 32).to_le();
        // SAFETY: both are 24 plain bytes.
        unsafe { core::mem::transmute::<[u64; 3], Self>([first, second, tail]) }
    }

    /// The key that [`Self::words`] gives.
    pub const fn from_words(words: [u64; 3]) -> Self {
        // SAFETY: both are 24 plain bytes.
        unsafe { core::mem::transmute::<[u64; 3], Self>(words) }
    }

    /// The key as the words that are compared.
    #[inline(always)]
    pub const fn words(self) -> [u64; 3] {
        // SAFETY: both are 24 plain bytes.
        unsafe { core::mem::transmute::<Self, [u64; 3]>(self) }
    }
}

/// The note was written by a SYN over an older one and not confirmed yet.
pub const NOTE_PENDING: u16 = 1 << 0;
/// A FIN or RST from the client was seen: a SYN may take the tuple to another member.
pub const NOTE_ENDED: u16 = 1 << 1;

/// The place is being written to: it holds no note, and is not free.
pub const NOTE_CLAIMED: u16 = 1 << 15;

/// A note, in one word.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// Whose the flow is; [`NONE`] where there is no note.
    pub member: Member,
    /// `NOTE_*` bits.
    pub flags: u16,
    /// When a packet last followed the note.
    pub used: Ticks,
}

impl Note {
    /// The word that the array holds.
    #[inline(always)]
    pub const fn to_word(self) -> u64 {
        self.member as u64 | (self.flags as u64) << 16 | (self.used as u64) << 32
    }

    /// The note that a word stands for.
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self {
            member: word as u16,
            flags: (word >> 16) as u16,
            used: (word >> 32) as u32,
        }
    }

    /// Whether its place is free.
    #[inline(always)]
    pub const fn is_free(self) -> bool {
        self.member == NONE && self.flags & NOTE_CLAIMED == 0
    }
}

/// A place for a note.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoteEntry {
    /// Whose note it is.
    pub key: FlowKey,
    /// The note.
    pub note: Note,
}

/// Places in a set of notes.
pub const NOTE_WAYS: usize = 8;

/// An element of the array of notes.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoteSet {
    /// The set's places.
    pub entries: [NoteEntry; NOTE_WAYS],
}

/// The sets for so many notes: twice as many places, so that no flow finds none in its two sets.
pub const fn note_sets(notes: u32) -> u32 {
    let sets = notes.div_ceil(NOTE_WAYS as u32 / 2);
    if sets == 0 { 1 } else { sets }
}

/// The two sets, of `sets`, that the note of the flow with this hash may be in. A new note gets a place in the first
/// half of one of them, the first one before the second, then in the other half.
#[inline(always)]
pub const fn note_places(hash: u64, sets: u32) -> [u32; 2] {
    let (first, second) = (hash >> 32, hash >> 10 & 0xffff_ffff);
    [
        ((first * sets as u64) >> 32) as u32,
        ((second * sets as u64) >> 32) as u32,
    ]
}

/// Pending notes in a set: a cache line.
pub const PENDING_WAYS: usize = 8;

/// An element of the array of pending notes: [`PendingNote`]s as words, 0 where there is none.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PendingSet {
    /// The set's entries.
    pub words: [u64; PENDING_WAYS],
}

/// Slots that a pending note can tell apart, and with it the most that the slot array can have.
pub const MAX_SLOTS: u32 = 1 << 24;

/// Ticks in a unit of a pending note's time, as a shift: 2^30 ns, about 1.07 s.
pub const PENDING_TIME_SHIFT: u32 = 30 - TICK_SHIFT;

const FINGERPRINT_BITS: u32 = 13;
const TIME_MASK: u64 = 0xfff;

/// A flow's first note, packed into a word: member 15 bits, time 12, fingerprint 13, slot 24.
///
/// The flow is told by its slot, its set and 13 more bits of its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingNote(pub u64);

impl PendingNote {
    /// The note of the flow with this `slot` (index in the slot array) and flow hash.
    #[inline(always)]
    pub const fn new(slot: u32, hash: u64, member: Member, now: Ticks) -> Self {
        Self(Self::identity(slot, hash) | Self::time(now) << 15 | (member & MAX_MEMBER) as u64)
    }

    /// The bits that tell the flow, in their place.
    #[inline(always)]
    pub const fn identity(slot: u32, hash: u64) -> u64 {
        ((slot & (MAX_SLOTS - 1)) as u64) << 40 | (hash >> (64 - FINGERPRINT_BITS)) << 27
    }

    #[inline(always)]
    const fn time(now: Ticks) -> u64 {
        (now >> PENDING_TIME_SHIFT) as u64 & TIME_MASK
    }

    /// Whether the note is the one of the flow with this identity.
    #[inline(always)]
    pub const fn is_of(self, identity: u64) -> bool {
        self.0 >> 27 == identity >> 27 && self.0 != 0
    }

    /// Whose the flow is.
    #[inline(always)]
    pub const fn member(self) -> Member {
        self.0 as u16 & MAX_MEMBER
    }

    /// The flow's slot, as index in the slot array.
    #[inline(always)]
    pub const fn slot(self) -> u32 {
        (self.0 >> 40) as u32
    }

    /// What is known of the flow's hash, for a note of the set with this index: the bits that tell the flow, and
    /// those that led to its set.
    #[inline(always)]
    pub const fn known_hash(self, set: u32) -> u64 {
        ((self.0 >> 27) & ((1 << FINGERPRINT_BITS) - 1)) << (64 - FINGERPRINT_BITS) | (set as u64) << 28
    }

    /// By how many units of 2^[`PENDING_TIME_SHIFT`] ticks the note was used later than at `then`; below 0: earlier.
    #[inline(always)]
    pub const fn later_by(self, then: Ticks) -> i32 {
        let units = (self.0 >> 15).wrapping_sub(Self::time(then)) & TIME_MASK;
        let beyond = if units > TIME_MASK / 2 {
            TIME_MASK as i32 + 1
        } else {
            0
        };
        units as i32 - beyond
    }

    /// How long ago the note was used, in ticks, a unit of 2^[`PENDING_TIME_SHIFT`] too short at most.
    #[inline(always)]
    pub const fn age(self, now: Ticks) -> u32 {
        let units = Self::time(now).wrapping_sub(self.0 >> 15) & TIME_MASK;
        if units > TIME_MASK - 16 {
            return 0; // a moment of the near future: another CPU's clock
        }
        (units.saturating_sub(1) as u32) << PENDING_TIME_SHIFT
    }
}

/// The set that a flow's pending note belongs to, of `sets` (a power of two).
#[inline(always)]
pub const fn pending_set(hash: u64, sets_mask: u32) -> u32 {
    (hash >> 28) as u32 & sets_mask
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn a_pending_note_gives_back_what_went_in() {
        let hash = 0xdead_beef_0bad_cafe;
        let note = PendingNote::new(0x00ab_cdef, hash, 0x7abc, 5 << PENDING_TIME_SHIFT);
        assert_eq!(note.slot(), 0x00ab_cdef);
        assert_eq!(note.member(), 0x7abc);
        assert!(note.is_of(PendingNote::identity(0x00ab_cdef, hash)));
        assert!(!note.is_of(PendingNote::identity(0x00ab_cdee, hash)));
        assert!(!note.is_of(PendingNote::identity(0x00ab_cdef, !hash)));
        assert!(!PendingNote(0).is_of(PendingNote::identity(0, 0)));
        assert_eq!(note.age(5 << PENDING_TIME_SHIFT), 0);
        assert_eq!(note.age(9 << PENDING_TIME_SHIFT), 3 << PENDING_TIME_SHIFT);
        assert_eq!(note.age(4 << PENDING_TIME_SHIFT), 0);
    }

    #[test]
    fn a_notes_word_gives_back_what_went_in() {
        let note = Note {
            member: 0x7abc,
            flags: NOTE_ENDED,
            used: 0xdead_beef,
        };
        assert_eq!(Note::from_word(note.to_word()), note);
        assert!(!note.is_free() && Note::default().is_free());
        let claimed = Note {
            flags: NOTE_CLAIMED,
            ..Note::default()
        };
        assert!(!claimed.is_free());
    }

    #[test]
    fn nearly_every_flow_finds_one_of_its_sets_with_room() {
        const NOTES: u32 = 1 << 14;
        let sets = note_sets(NOTES);
        let mut taken = std::vec![0; sets as usize];
        let mut without = 0;
        for flow in 0..NOTES {
            let source = Address::from_ipv4_raw((0xcb00_7100 | flow >> 8).to_be()).words();
            let hash = crate::flow::flow_hash([3, 5], source, flow & 0xff);
            let places = note_places(hash, sets);
            let place = [NOTE_WAYS / 2, NOTE_WAYS]
                .into_iter()
                .flat_map(|most| places.map(|set| (set as usize, most)))
                .find(|&(set, most)| taken[set] < most);
            match place {
                Some((set, _)) => taken[set] += 1,
                None => without += 1,
            }
        }
        assert!(without < NOTES / 10_000, "{without} of {NOTES} found none");
    }

    #[test]
    fn a_pending_notes_place_and_bits_lead_back_to_them() {
        let (hash, mask) = (0xdead_beef_0bad_cafe, 0xffff);
        let note = PendingNote::new(7, hash, 3, 0);
        let known = note.known_hash(pending_set(hash, mask));
        assert_eq!(pending_set(known, mask), pending_set(hash, mask));
        assert!(note.is_of(PendingNote::identity(7, known)));
    }

    #[test]
    fn pending_notes_tell_which_was_used_later() {
        let unit = 1 << PENDING_TIME_SHIFT;
        let note = PendingNote::new(1, 0, 1, unit * 4095);
        assert_eq!(note.later_by(unit * 4095 + unit - 1), 0);
        assert_eq!(note.later_by(unit * 4096), -1);
        assert_eq!(note.later_by(unit * 4093), 2);
        assert_eq!(PendingNote::new(1, 0, 1, unit * 4097).later_by(unit * 4095), 2);
    }

    #[test]
    fn a_pending_notes_time_wraps() {
        let note = PendingNote::new(1, 0, 1, 4095 << PENDING_TIME_SHIFT);
        assert_eq!(note.age(4099 << PENDING_TIME_SHIFT), 3 << PENDING_TIME_SHIFT);
    }
}
