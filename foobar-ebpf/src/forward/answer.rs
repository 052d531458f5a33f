//! Answers that the data plane gives for an owned VIP: ARP, neighbour discovery and ping.

use foobar_common::counters::Counter;
use foobar_common::settings::Settings;

use crate::outcome::Action;
use crate::packet::{arp::Arp, ethernet, icmp, ipv4, ipv6};

/// TTL and hop limit of packets that the balancer itself sends.
pub const TTL: u8 = 64;

/// Turns an ARP request into its reply.
#[inline(always)]
pub fn arp(ethernet: ethernet::Header, arp: Arp, settings: &Settings) -> Action {
    ethernet.answer_from(settings.own_mac);
    arp.reply(settings.own_mac);
    Action::Answer(Counter::AnswerArp)
}

/// Turns an ICMPv4 echo request into its reply.
#[inline(always)]
pub fn echo_v4(
    ethernet: ethernet::Header,
    ip: ipv4::Header,
    echo: icmp::Message,
    settings: &Settings,
) -> Action {
    ethernet.answer_from(settings.own_mac);
    ip.answer(TTL);
    echo.reply(icmp::ECHO_V4);
    Action::Answer(Counter::AnswerEcho)
}

/// Turns an ICMPv6 echo request into its reply: the checksum covers the addresses, but not their order.
#[inline(always)]
pub fn echo_v6(
    ethernet: ethernet::Header,
    ip: ipv6::Header,
    echo: icmp::Message,
    settings: &Settings,
) -> Action {
    ethernet.answer_from(settings.own_mac);
    ip.answer(TTL);
    echo.reply(icmp::ECHO_V6);
    Action::Answer(Counter::AnswerEcho)
}
