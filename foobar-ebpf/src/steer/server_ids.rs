//! Server ids of QUIC connection ids: whose they are, and whether they count.

use foobar_common::admission::PLANTED_DEAD_SERVER_ID;
use foobar_common::counters::Counter;
use foobar_common::quic::ServerIdKey;
use foobar_common::settings::Settings;
use foobar_common::slot::{Member, NONE};
use foobar_common::steering::Segment;
use foobar_common::target::{TARGET_CUT, TARGET_DOWN, TARGET_GONE, TARGET_TAKES_NO_NEW};
use foobar_common::vip::Vip;

use super::{admission, features, target_flags};
use crate::forward::count;
use crate::maps::SERVER_IDS;
use crate::packet::Frame;
use crate::packet::datagram::Packet;
use crate::packet::quic::{Follows, connection_id};

/// The member that a datagram's connection id names; [`NONE`] where it names none that counts, so that the slot
/// decides.
#[inline(always)]
pub fn member(settings: &Settings, frame: &Frame, packet: &Packet, vip: &Vip) -> Member {
    // Who is not let in is refused where its slot is asked for.
    if admission::refusal(settings, vip, packet.source.words(), Segment::Datagram).is_some() {
        return NONE;
    }
    let Some(id) = connection_id(frame, packet.payload(), vip.server_id_length) else {
        return NONE;
    };
    if id.config != vip.quic_config {
        return NONE;
    }
    let Some(found) = SERVER_IDS.get_ptr(ServerIdKey::new(vip.id, id.server_id)) else {
        return NONE;
    };
    // SAFETY: a pointer to a live element; the member is written as one. An element that the daemon deletes
    // meanwhile may be another's by now: that costs one packet's steering.
    let member = unsafe { core::ptr::addr_of!((*found).member).read_volatile() };
    let unfit = match id.follows {
        Follows::Living => TARGET_DOWN | TARGET_GONE | TARGET_CUT,
        Follows::TakingNew => TARGET_TAKES_NO_NEW,
    };
    let is_unfit = target_flags(member) & unfit != 0 && !features::planted(PLANTED_DEAD_SERVER_ID);
    if member == NONE || is_unfit {
        return NONE;
    }
    count(Counter::QuicServerId);
    member
}
