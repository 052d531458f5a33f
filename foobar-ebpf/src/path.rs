//! A packet's way through the balancer.
//!
//! The order of the questions keeps the common case short: whose service is it, is the frame ours, which
//! target, rewrite. Only where no service takes a packet is it asked whether its address is a VIP at all; if
//! not, it is the kernel's, whatever is wrong with it.

use foobar_common::address::Address;
use foobar_common::counters::Counter;
use foobar_common::settings::Settings;
use foobar_common::vip::{Vip, VipKey};

use crate::forward::{answer, l2, reset};
use crate::outcome::{Action, Refusal};
use crate::packet::{Frame, arp, ethernet, icmp, ipv4, transport};
use crate::steer::{self, vips};

/// Decides about a frame, and rewrites it accordingly.
#[inline(always)]
pub fn balance(frame: &Frame, settings: &Settings) -> Result<Action, Refusal> {
    let ethernet = ethernet::Header::of(frame).ok_or(Refusal::Pass)?;
    match ethernet.ether_type() {
        ethernet::IPV4 => ipv4_packet(frame, ethernet, settings),
        ethernet::ARP => arp_packet(frame, ethernet, settings),
        _ => Err(Refusal::Pass),
    }
}

#[inline(always)]
fn ipv4_packet(frame: &Frame, ethernet: ethernet::Header, settings: &Settings) -> Result<Action, Refusal> {
    let ip = ipv4::Header::of(frame).ok_or(Refusal::Pass)?;
    let destination = Address::from_ipv4_raw(ip.destination());
    let protocol = ip.protocol();
    let transport = ip.payload(frame).and_then(|payload| match protocol {
        ipv4::TCP => transport::tcp(frame, payload).map(Some),
        ipv4::UDP => transport::udp(frame, payload).map(Some),
        _ => Ok(None),
    });
    if let Ok(Some(transport)) = transport
        && let Some(vip) = vips::find(
            settings,
            &VipKey::service(destination, transport.destination_port_be(), protocol),
        )
    {
        own_frame(ethernet, settings)?;
        return service(frame, ethernet, ip, settings, vip, transport);
    }
    let vip = vips::find(settings, &VipKey::address(destination)).ok_or(Refusal::Pass)?;
    own_frame(ethernet, settings)?;
    match transport {
        Err(reason) => Err(Refusal::Drop(reason)),
        Ok(Some(transport)) => reset::refuse(
            frame,
            ethernet,
            ip,
            settings,
            vip,
            transport,
            Counter::DropNoService,
        ),
        Ok(None) if protocol == ipv4::ICMP => {
            let payload = ip.payload(frame).map_err(Refusal::Drop)?;
            let echo = icmp::Echo::request(frame, payload).ok_or(Refusal::Drop(Counter::DropIcmp))?;
            if !steer::owned(vip) {
                return Err(Refusal::Drop(Counter::DropNotOwner));
            }
            Ok(answer::echo(ethernet, ip, echo, settings))
        }
        Ok(None) => Err(Refusal::Drop(Counter::DropNoService)),
    }
}

/// A frame for a VIP has to be for this machine, and not from a balancer.
#[inline(always)]
fn own_frame(ethernet: ethernet::Header, settings: &Settings) -> Result<(), Refusal> {
    if ethernet.destination() != settings.own_mac {
        return Err(Refusal::Drop(Counter::DropForeignMac));
    }
    let source = ethernet.source();
    if source == settings.own_mac {
        return Err(Refusal::Drop(Counter::DropLoop));
    }
    if settings.peers != 0 {
        for &peer in &settings.peer_macs {
            if source == peer {
                return Err(Refusal::Drop(Counter::DropLoop));
            }
        }
    }
    Ok(())
}

#[inline(always)]
fn service(
    frame: &Frame,
    ethernet: ethernet::Header,
    ip: ipv4::Header,
    settings: &Settings,
    vip: &Vip,
    transport: transport::Transport,
) -> Result<Action, Refusal> {
    let source = Address::from_ipv4_raw(ip.source());
    let member = steer::member(settings, vip, source, transport)?;
    if member == foobar_common::slot::NONE {
        return reset::refuse(
            frame,
            ethernet,
            ip,
            settings,
            vip,
            transport,
            Counter::DropNoMember,
        );
    }
    l2::forward(frame, ethernet, member, transport.segment)
}

#[inline(always)]
fn arp_packet(frame: &Frame, ethernet: ethernet::Header, settings: &Settings) -> Result<Action, Refusal> {
    let arp = arp::Arp::request(frame).ok_or(Refusal::Pass)?;
    let destination = ethernet.destination();
    if destination != ethernet::BROADCAST && destination != settings.own_mac {
        return Err(Refusal::Pass);
    }
    let target = VipKey::address(Address::from_ipv4_raw(arp.target()));
    let vip = vips::find(settings, &target).ok_or(Refusal::Pass)?;
    if !steer::owned(vip) {
        return Err(Refusal::Drop(Counter::DropNotOwner));
    }
    if arp.sender() == arp.target() {
        return Err(Refusal::Drop(Counter::DropConflict));
    }
    Ok(answer::arp(ethernet, arp, settings))
}
