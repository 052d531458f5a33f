//! User space is told of the notes that peers must hear of: a record of each in a ring buffer.

use aya_ebpf::bindings::BPF_RB_AVAIL_DATA;
use aya_ebpf::helpers::generated::bpf_ringbuf_query;
use foobar_common::counters::Counter;
use foobar_common::note_event::{NOTE_EVENT_RING_CROWDED, STAGE_PENDING};

use crate::forward::count;
use crate::maps::NOTE_EVENTS;

/// Tells of a note, by the words of [`foobar_common::note_event::NoteEvent`]; what finds no room is counted.
///
/// The reader is woken only if it has read all that there was before, and lets events gather for a moment: so one packet
/// a moment pays for waking it. A function of its own, for the common way has no place for what it keeps.
#[inline(never)]
pub fn tell(first: u64, second: u64, tail: u64, what: u64, used: u64) {
    if (what >> 48) as u16 == STAGE_PENDING {
        let ring = (&raw const NOTE_EVENTS).cast_mut().cast();
        // SAFETY: a ring buffer, and a question that changes nothing.
        let unread = unsafe { bpf_ringbuf_query(ring, u64::from(BPF_RB_AVAIL_DATA)) };
        if unread > u64::from(NOTE_EVENT_RING_CROWDED) {
            return count(Counter::NoteUntoldPending);
        }
    }
    // Not written here first and then copied: there is hardly any stack left where this is called from.
    let Some(mut record) = NOTE_EVENTS.reserve(0) else {
        return count(Counter::NoteUntold);
    };
    record.write([first, second, tail, what, used]);
    record.submit(0);
}
