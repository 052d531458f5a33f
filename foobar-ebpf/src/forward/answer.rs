//! Answers that the data plane gives for an owned VIP: ARP and ping.

use foobar_common::counters::Counter;
use foobar_common::settings::Settings;

use crate::outcome::Action;
use crate::packet::{arp::Arp, ethernet, icmp, ipv4};

/// TTL of packets that the balancer itself sends.
pub const TTL: u8 = 64;

/// Turns an ARP request into its reply.
#[inline(always)]
pub fn arp(ethernet: ethernet::Header, arp: Arp, settings: &Settings) -> Action {
    ethernet.answer_from(settings.own_mac);
    arp.reply(settings.own_mac);
    Action::Answer(Counter::AnswerArp)
}

/// Turns an echo request into its reply.
#[inline(always)]
pub fn echo(ethernet: ethernet::Header, ip: ipv4::Header, echo: icmp::Echo, settings: &Settings) -> Action {
    ethernet.answer_from(settings.own_mac);
    ip.answer(TTL);
    echo.reply();
    Action::Answer(Counter::AnswerEcho)
}
