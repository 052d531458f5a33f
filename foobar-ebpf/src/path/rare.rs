//! The way of every packet that is not a common one: all questions, in the order in which they are counted.
//!
//! It goes in steps, each a function of its own that finds the [`Job`] as the step before left it. The words
//! that a step reads from there are any words to the verifier, which so has one state to follow from there
//! on, instead of one for every way in which headers can be combined; and the stack is that of one step.

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::helpers::generated::bpf_xdp_get_buff_len;
use foobar_common::address::Address;
use foobar_common::admission::{FEATURE_QUIC, FEATURE_TUNNELS};
use foobar_common::bench::JOB_WORDS;
use foobar_common::counters::Counter;
use foobar_common::flow::flow_hash;
use foobar_common::settings::Settings;
use foobar_common::slot::{NONE, Slot};
use foobar_common::steering::Segment;
use foobar_common::vip::{VIP_QUIC, Vip, VipKey};

use super::{neighbour, own_frame};
use crate::forward::{answer, count, fragments, l2, reset, tunnel};
use crate::maps::JOBS;
use crate::outcome::{Action, Refusal, conclude, drop};
use crate::packet::datagram::{Packet, Version};
use crate::packet::transport::{self, Transport};
use crate::packet::{Frame, Payload, Piece, arp, ethernet, icmp, ipv4, ipv6, quote};
use crate::steer::{self, Owner, Place, admission, features, opens, vips};

/// What is known about the packet on its way.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    packet: Packet,
    /// The host whose flow it is of: of an ICMP error not its sender.
    client: Address,
    /// Ports and segment as the client's packets show them.
    transport: Transport,
    owner: Owner,
    /// The `VIP_*` bits of its service, or of its address where it has none.
    flags: u32,
    /// What the step before returned.
    step: u32,
    /// Where the flow's slot is, if the step before was [`PLACED`].
    place: Place,
    /// The flow's hash.
    hash: u64,
    /// Where it goes, as a slot's word: the owner is `current`. Not a [`Slot`], for what is written in parts and soon
    /// read whole waits until it has reached the cache.
    slot: u64,
    /// The place of its address's entry, later of its service's, in the VIP array.
    vip: u32,
}

const _: () = assert!(size_of::<Job>() == JOB_WORDS * 8);

/// What a step returns where another one follows; else the packet's verdict.
pub const ON: u32 = 16;
/// As [`ON`], of a plain packet whose slot is known: all of its frame is in the first buffer.
pub const PLACED: u32 = 19;
/// As [`ON`], but the owner is already known.
pub const DECIDED: u32 = 17;
/// The way to the owner is a tunnel.
pub const TUNNELLED: u32 = 18;

/// This CPU's job.
#[inline(always)]
pub fn job() -> Option<*mut Job> {
    JOBS.get_ptr_mut(0)
}

/// Goes on from what a step returned, until there is a verdict: each step has one place that it is called
/// from, so that the verifier goes through it once.
///
/// # Safety
/// As [`Frame::of_context`]; frames made before are not used any more.
#[inline(always)]
pub unsafe fn go_on(context: *mut xdp_md, settings: &Settings, mut step: u32) -> u32 {
    let Some(job) = job() else {
        return drop(context, Counter::DropInternal);
    };
    // SAFETY: the caller's. The job is this CPU's element, which no other packet uses before this one's end.
    let job = unsafe { &mut *job };
    if features::has(FEATURE_QUIC) && step == ON {
        // SAFETY: as above.
        step = unsafe { named(context, settings, job) };
    }
    if step == ON || step == PLACED {
        // SAFETY: as above.
        step = unsafe { steer(context, settings, job, step) };
    }
    if step == DECIDED {
        // SAFETY: as above.
        step = unsafe { finish(context, settings, job) };
    }
    if features::has(FEATURE_TUNNELS) && step == TUNNELLED {
        let load = tunnel::Load {
            hash: job.hash,
            slot: job.slot,
            offset: job.packet.offset(),
            segment: job.transport.segment,
            flags: job.flags,
        };
        // SAFETY: as above.
        step = unsafe { tunnel::forward(context, settings, load) };
    }
    step
}

/// Reads a packet that is not a plain one: a verdict, or a step that follows.
///
/// # Safety
/// As [`Frame::of_context`]; frames made before are not used any more.
#[inline(always)]
pub unsafe fn begin(context: *mut xdp_md, settings: &Settings) -> u32 {
    let Some(job) = job() else {
        return drop(context, Counter::DropInternal);
    };
    // SAFETY: as in `go_on`.
    unsafe {
        let step = network(context, settings, &mut *job);
        if step == ON {
            transport(context, settings, &mut *job)
        } else {
            step
        }
    }
}

impl Job {
    /// What the common way knows about a plain packet of the service at a place in the VIP array, when it finds
    /// that the slot alone does not decide.
    #[inline(always)]
    pub fn lay_down(&mut self, packet: &Packet, transport: Transport, vip: u32, place: Place) {
        self.packet = *packet;
        self.client = packet.source;
        self.transport = transport;
        self.vip = vip;
        self.place = place;
    }

    /// What it knows when it finds that the packet is nobody's.
    #[inline(always)]
    pub fn lay_down_unowned(&mut self, packet: &Packet, segment: Segment, flags: u32, owner: Owner) {
        self.packet = *packet;
        self.transport.segment = segment;
        self.flags = flags;
        self.owner = owner;
    }

    /// What it knows when it finds that the way to the slot's owner is a tunnel.
    #[inline(always)]
    pub fn lay_down_tunnelled(
        &mut self,
        packet: &Packet,
        segment: Segment,
        flags: u32,
        hash: u64,
        slot: Slot,
    ) {
        self.packet.set_offset(packet);
        self.transport.segment = segment;
        self.flags = flags;
        self.hash = hash;
        self.slot = slot.to_word();
    }
}

/// Ethernet and IP: is it for a VIP address, ours, and sound?
///
/// # Safety
/// As [`Frame::of_context`].
#[inline(never)]
unsafe fn network(context: *mut xdp_md, settings: &Settings, job: &mut Job) -> u32 {
    // SAFETY: the caller's.
    match unsafe { sound(context, settings) } {
        Ok((packet, address)) => {
            job.packet = packet;
            job.vip = address;
            ON
        }
        // SAFETY: the caller's.
        Err(outcome) => unsafe { conclude(context, outcome) },
    }
}

/// The packet in a frame and the place of its address's entry.
///
/// # Safety
/// As [`Frame::of_context`].
#[inline(always)]
unsafe fn sound(context: *mut xdp_md, settings: &Settings) -> Result<(Packet, u32), Result<Action, Refusal>> {
    // SAFETY: the caller's.
    let frame = &unsafe { Frame::of_context(context) };
    let ethernet = ethernet::Header::of(frame).ok_or(PASS)?;
    let (ether_type, offset) = ethernet.network(frame).ok_or(PASS)?;
    let (packet, address) = match ether_type {
        ethernet::IPV4 => {
            let ip = ipv4::Header::at(frame, offset).ok_or(PASS)?;
            let destination = Address::from_ipv4_raw(ip.destination());
            let address = vips::position(settings, &VipKey::address(destination)).ok_or(PASS)?;
            own_frame(ethernet, settings).map_err(Err)?;
            let room = room(context, frame, offset + ip.total());
            (Packet::v4(frame, ip, offset, room), address)
        }
        ethernet::IPV6 => {
            let ip = ipv6::Header::at(frame, offset).ok_or(PASS)?;
            if neighbour::is_solicitation(frame, ip, offset) {
                // SAFETY: the caller's; the frame is not used any more.
                return Err(unsafe { neighbour::solicitation(context, settings, offset) }.into());
            }
            let destination = ip.destination();
            if ipv6::is_mapped(destination) {
                return Err(PASS);
            }
            let key = VipKey::address(ipv6::address(destination));
            let address = vips::position(settings, &key).ok_or(PASS)?;
            own_frame(ethernet, settings).map_err(Err)?;
            let room = room(context, frame, offset + ipv6::LENGTH + ip.payload_length());
            (Packet::v6(frame, ip, offset, room), address)
        }
        ethernet::ARP => return Err(arp_packet(frame, ethernet, offset, settings)),
        _ => return Err(PASS),
    };
    match packet {
        Ok(packet) => Ok((packet, address)),
        Err(reason) => Err(Err(Refusal::Drop(reason))),
    }
}

/// The kernel's.
const PASS: Result<Action, Refusal> = Err(Refusal::Pass);

/// The frame's length in bytes: of one in several buffers it is asked for only if the first one does not
/// hold the `wanted` bytes.
#[inline(always)]
fn room(context: *mut xdp_md, frame: &Frame, wanted: usize) -> usize {
    if wanted > frame.len() {
        whole(context)
    } else {
        frame.len()
    }
}

#[inline(always)]
fn whole(context: *mut xdp_md) -> usize {
    // SAFETY: the context is the kernel's.
    unsafe { bpf_xdp_get_buff_len(context) as usize }
}

/// Fragments, TCP, UDP and ICMP: which service is it for, or which answer does it get?
///
/// # Safety
/// As [`Frame::of_context`].
#[inline(never)]
unsafe fn transport(context: *mut xdp_md, settings: &Settings, job: &mut Job) -> u32 {
    let address = vips::at(job.vip);
    // SAFETY: the caller's.
    let frame = &unsafe { Frame::of_context(context) };
    let packet = &job.packet;
    let (payload, piece) = (packet.payload(), packet.piece());
    let is_icmp = match packet.version() {
        Version::V4 => packet.protocol == ipv4::ICMP,
        Version::V6 => packet.protocol == ipv6::ICMP,
    };
    if is_icmp && !matches!(piece, Piece::Whole) {
        return drop(context, Counter::DropFragment);
    }
    if matches!(piece, Piece::Later) {
        let Some((slot, flags)) = fragments::followed(packet) else {
            return drop(context, Counter::DropFragment);
        };
        (job.owner, job.slot, job.flags) = (Owner::of(slot.current), slot.to_word(), flags);
        job.hash = flow_hash(
            settings.flow_seed,
            packet.source.words(),
            packet.identification_be,
        );
        job.transport.segment = Segment::Data;
        return DECIDED;
    }
    let (client, transport, protocol) = match packet.protocol {
        ipv4::TCP => match transport::tcp(frame, payload, piece) {
            Ok(transport) => (packet.source, transport, ipv4::TCP),
            Err(reason) => return drop(context, reason),
        },
        ipv4::UDP => match transport::udp(frame, payload, piece) {
            Ok(transport) => (packet.source, transport, ipv4::UDP),
            Err(reason) => return drop(context, reason),
        },
        _ if is_icmp => {
            let Some(message) = icmp::Message::of(frame, payload) else {
                return drop(context, Counter::DropIcmp);
            };
            if let Some(answer) = echo(frame, packet, message, address, settings) {
                // SAFETY: the caller's.
                return unsafe { conclude(context, answer) };
            }
            match error(frame, packet, message) {
                Some(of) => of,
                None => return drop(context, Counter::DropIcmp),
            }
        }
        _ => return drop(context, Counter::DropNoService),
    };
    job.client = client;
    job.transport = transport;
    match vips::service(settings, address, transport.destination_port_be(), protocol) {
        Some(vip) => {
            job.vip = vip;
            ON
        }
        None => {
            (job.owner, job.flags) = (Owner::NO_SERVICE, address.flags);
            DECIDED
        }
    }
}

/// The connection id of a QUIC packet: does it name whose it is?
///
/// # Safety
/// As [`Frame::of_context`].
#[inline(never)]
unsafe fn named(context: *mut xdp_md, settings: &Settings, job: &mut Job) -> u32 {
    let vip = vips::at(job.vip);
    // Of an ICMP error the packet is not the client's.
    if vip.flags & VIP_QUIC == 0 || !matches!(job.transport.segment, Segment::Datagram) {
        return ON;
    }
    // SAFETY: the caller's.
    let frame = &unsafe { Frame::of_context(context) };
    let member = steer::server_ids::member(settings, frame, &job.packet, vip);
    if member == NONE {
        return ON;
    }
    (job.owner, job.slot, job.flags) = (Owner::of(member), Slot::settled(member).to_word(), vip.flags);
    job.hash = steer::placing(settings, vip, job.client.words(), job.transport.ports_be);
    DECIDED
}

/// Admission, slots and notes: whose is it, if it is let in? A plain packet for a plain target is sent at once.
///
/// # Safety
/// As [`Frame::of_context`].
#[inline(never)]
unsafe fn steer(context: *mut xdp_md, settings: &Settings, job: &mut Job, step: u32) -> u32 {
    (job.owner, job.step) = (Owner::INTERNAL, step);
    let vip = vips::at(job.vip);
    job.flags = vip.flags;
    let (source, transport) = (&job.client, job.transport);
    if let Some(reason) = admission::refusal(settings, vip, source.words(), transport.segment) {
        job.owner = Owner::refused(reason);
        return DECIDED;
    }
    if step != PLACED {
        match steer::place(settings, vip, source.words(), transport.ports_be) {
            Some(place) => job.place = place,
            None => return DECIDED,
        }
    }
    // SAFETY: a place in a live job. Volatile, so that what follows is there once, whichever way led to it.
    let place = unsafe { (&raw const job.place).read_volatile() };
    job.hash = place.hash;
    let (owner, slot) = steer::owner(settings, vip, place, source, transport);
    // SAFETY: as above, and so is the step.
    if unsafe { (&raw const job.step).read_volatile() } == PLACED
        && let Ok(member) = owner.member()
    {
        // SAFETY: the caller's.
        let frame = &unsafe { Frame::of_context(context) };
        if let Some(ethernet) = ethernet::Header::of(frame)
            && l2::rewrite(ethernet, settings, member)
        {
            l2::sent(member, opens(transport.segment), frame.len() as u64);
            return xdp_action::XDP_TX;
        }
    }
    (job.owner, job.slot) = (owner, slot.to_word());
    DECIDED
}

/// Sends the packet to its owner, or refuses it.
///
/// # Safety
/// As [`Frame::of_context`].
#[inline(never)]
unsafe fn finish(context: *mut xdp_md, settings: &Settings, job: &Job) -> u32 {
    // SAFETY: the caller's.
    let frame = &unsafe { Frame::of_context(context) };
    let Some(ethernet) = ethernet::Header::of(frame) else {
        return drop(context, Counter::DropInternal);
    };
    let segment = job.transport.segment;
    let outcome = match job.owner.member() {
        Ok(member) => {
            if matches!(segment, Segment::Error) {
                count(Counter::IcmpSteered);
            }
            if matches!(job.packet.piece(), Piece::First) {
                fragments::note(&job.packet, Slot::from_word(job.slot), job.flags);
            }
            let Some(target) = l2::target(member) else {
                return drop(context, Counter::DropInternal);
            };
            if tunnel::leads_to(target) {
                return TUNNELLED;
            }
            l2::forward(ethernet, target, member, segment, whole(context))
        }
        // Who is not let in is told nothing.
        Err(
            reason @ (Counter::DropInternal
            | Counter::DropDenied
            | Counter::DropSynLimit
            | Counter::DropSourceLimit),
        ) => Err(Refusal::Drop(reason)),
        Err(reason) => reset::refuse(frame, &job.packet, settings, job.flags, reason),
    };
    // SAFETY: the caller's.
    unsafe { conclude(context, outcome) }
}

/// The answer to an echo request, if the message is one.
#[inline(always)]
fn echo(
    frame: &Frame,
    packet: &Packet,
    message: icmp::Message,
    address: &Vip,
    settings: &Settings,
) -> Option<Result<Action, Refusal>> {
    let types = match packet.version() {
        Version::V4 => icmp::ECHO_V4,
        Version::V6 => icmp::ECHO_V6,
    };
    if !message.is_echo(types) {
        return None;
    }
    if !steer::owned(address) {
        return Some(Err(Refusal::Drop(Counter::DropNotOwner)));
    }
    let ethernet = ethernet::Header::of(frame)?;
    let action = match packet.version() {
        Version::V4 => {
            let ip = ipv4::Header::at(frame, packet.offset())?;
            answer::echo_v4(ethernet, ip, message, settings)
        }
        Version::V6 => {
            let ip = ipv6::Header::at(frame, packet.offset())?;
            answer::echo_v6(ethernet, ip, message, settings)
        }
    };
    Some(Ok(action))
}

/// The flow that an ICMP error is about, as its client's packets show it: client, ports, protocol.
#[inline(always)]
fn error(frame: &Frame, packet: &Packet, message: icmp::Message) -> Option<(Address, Transport, u8)> {
    let place = Payload {
        offset: packet.payload().offset + icmp::LENGTH,
        length: packet.payload().length - icmp::LENGTH,
    };
    let quote = match packet.version() {
        Version::V4 if icmp::is_error_v4(message.kind()) => quote::v4(frame, place)?,
        Version::V6 if icmp::is_error_v6(message.kind()) => quote::v6(frame, place)?,
        Version::V4 | Version::V6 => return None,
    };
    if quote.source.words() != packet.destination.words() {
        return None;
    }
    let transport = Transport {
        ports_be: quote.ports_be.rotate_right(16),
        segment: Segment::Error,
    };
    Some((quote.destination, transport, quote.protocol))
}

#[inline(always)]
fn arp_packet(
    frame: &Frame,
    ethernet: ethernet::Header,
    offset: usize,
    settings: &Settings,
) -> Result<Action, Refusal> {
    let arp = arp::Arp::request(frame, offset).ok_or(Refusal::Pass)?;
    let destination = ethernet.destination();
    if destination != ethernet::BROADCAST && destination != settings.own_mac {
        return Err(Refusal::Pass);
    }
    let target = VipKey::address(Address::from_ipv4_raw(arp.target()));
    let (_, vip) = vips::find(settings, &target).ok_or(Refusal::Pass)?;
    if !steer::owned(vip) {
        return Err(Refusal::Drop(Counter::DropNotOwner));
    }
    if arp.sender() == arp.target() {
        return Err(Refusal::Drop(Counter::DropConflict));
    }
    Ok(answer::arp(ethernet, arp, settings))
}
