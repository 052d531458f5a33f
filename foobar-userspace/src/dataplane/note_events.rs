//! What the program tells of notes, for peers to hear: read from its ring buffer.
//!
//! The program wakes the reader only where it has read all that there was. So the reader, once woken, lets events gather
//! for [`GATHER`] before it reads: a thousand times a second at most somebody is woken, and no packet pays for it
//! meanwhile. What finds no room is counted (`note_untold_pending`, `note_untold`).

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use foobar_common::note::FlowKey;
use foobar_common::note_event::{
    NoteEvent as Record, STAGE_ENDED, STAGE_ESTABLISHED, STAGE_OVERWRITTEN, STAGE_PENDING,
};
use foobar_common::slot::Member;
use foobar_common::time::Ticks;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

use super::load::{DataPlane, Error, take};

/// How long events gather before they are read, at least: the runtime's timers round it up to a millisecond.
pub const GATHER: Duration = Duration::from_micros(200);

/// Events that are read at once, so that a flood of them leaves time for others.
const AT_ONCE: usize = 1 << 16;

/// What has become of a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoteStage {
    /// The flow's first note was written; no other packet was seen yet.
    Pending,
    /// As [`Self::Pending`], in the place of a note that the flow had, of another member or an earlier life.
    Overwritten,
    /// The flow goes on.
    Established,
    /// Its client has sent FIN or RST.
    Ended,
}

/// A note that peers must hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoteEvent {
    /// Whose note it is: address and ports in network byte order, and the VIP's id.
    pub key: FlowKey,
    /// The flow's slot, as index in the slot array.
    pub slot: u32,
    /// Whose the flow is.
    pub member: Member,
    /// What has become of the note.
    pub stage: NoteStage,
    /// When its packet came.
    pub used: Ticks,
}

/// The events of a program, in the order in which it told of them.
pub struct NoteEvents {
    ring: RingBuf<MapData>,
    /// Tells when there is something to be read; made in the runtime that asks first.
    woken: Option<AsyncFd<OwnedFd>>,
    /// Until when events gather, where there are some.
    gathering: Option<Instant>,
}

impl NoteEvents {
    /// Waits until events have come and gathered. May be dropped on the way and called again.
    ///
    /// # Errors
    /// Where the runtime can't watch the ring.
    pub async fn ready(&mut self) -> io::Result<()> {
        let woken = match &mut self.woken {
            Some(woken) => woken,
            none => {
                let fd = self.ring.as_fd().try_clone_to_owned()?;
                // SAFETY: the descriptor is its own, and the same one for as long as it lives.
                none.insert(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
            }
        };
        let until = match self.gathering {
            Some(until) => until,
            None => {
                // Readiness is left as it is: `drain` takes it back.
                drop(woken.readable().await?);
                *self.gathering.insert(Instant::now() + GATHER)
            }
        };
        sleep_until(until).await;
        Ok(())
    }

    /// Appends the events that there are, some 65,536 of them at most.
    pub fn drain(&mut self, out: &mut Vec<NoteEvent>) {
        self.gathering = None;
        let mut left = AT_ONCE;
        if !pull(&mut self.ring, out, &mut left) {
            return;
        }
        if let Some(woken) = &self.woken {
            // What comes behind the last look at the ring makes it ready anew.
            _ = woken.try_io(Interest::READABLE, |_| {
                if pull(&mut self.ring, out, &mut left) {
                    Err(io::Error::from(io::ErrorKind::WouldBlock))
                } else {
                    Ok(())
                }
            });
        }
    }
}

/// Appends what the ring has; says whether that was all, which it is not where there were more than `left`.
fn pull(ring: &mut RingBuf<MapData>, out: &mut Vec<NoteEvent>, left: &mut usize) -> bool {
    while *left > 0 {
        let Some(record) = ring.next() else {
            return true;
        };
        out.extend(event(&record));
        *left -= 1;
    }
    false
}

/// The event that a record is; none where it is of no stage that there is.
fn event(record: &[u8]) -> Option<NoteEvent> {
    let (words, []) = record.as_chunks::<8>() else {
        return None;
    };
    let words: [[u8; 8]; 5] = words.try_into().ok()?;
    let record = Record::from_words(words.map(u64::from_ne_bytes));
    let stage = match record.stage {
        STAGE_PENDING => NoteStage::Pending,
        STAGE_OVERWRITTEN => NoteStage::Overwritten,
        STAGE_ESTABLISHED => NoteStage::Established,
        STAGE_ENDED => NoteStage::Ended,
        _ => return None,
    };
    Some(NoteEvent {
        key: record.key,
        slot: record.slot,
        member: record.member,
        stage,
        used: record.used,
    })
}

impl DataPlane {
    /// The events of notes, of the program as it is loaded now and of those that take its place upon the same maps.
    /// There are none unless it was loaded with [`foobar_common::admission::FEATURE_NOTE_EVENTS`].
    ///
    /// # Errors
    /// Where the ring can't be mapped, or is somebody's already.
    pub fn note_events(&mut self) -> Result<NoteEvents, Error> {
        let ring = take(&mut self.object, "NOTE_EVENTS")?;
        Ok(NoteEvents {
            ring: ring.try_into().map_err(io::Error::other)?,
            woken: None,
            gathering: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use foobar_common::address::Address;

    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_nothing_else_is() {
        let key = FlowKey::new(Address::from_ipv4_raw(0x0101_a8c0), 0x5000_419c, 71);
        let bytes = |stage| -> Vec<u8> {
            let words = Record::words(key.words(), 5, 3, stage, 9);
            words.into_iter().flat_map(u64::to_ne_bytes).collect()
        };
        let expected = NoteEvent {
            key,
            slot: 5,
            member: 3,
            stage: NoteStage::Ended,
            used: 9,
        };
        assert_eq!(event(&bytes(STAGE_ENDED)), Some(expected));
        assert_eq!(event(&bytes(9)), None);
        assert_eq!(event(&bytes(STAGE_ENDED)[..32]), None);
        assert_eq!(event(&bytes(STAGE_ENDED)[..39]), None);
    }
}
