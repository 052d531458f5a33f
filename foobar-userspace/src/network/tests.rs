//! This module against the real kernel, in network namespaces that each test makes. Needs root.

mod announce;
mod check_route;
mod groups;
mod interface;
mod resolver;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::neighbour::NeighbourState;
use rtnetlink::packet_route::route::RouteMessage;
use tokio::sync::mpsc::Receiver;

use super::neighbours::{self, Entry};
use super::next_hops::Neighbour;
use super::testnet::{Cable, DEADLINE, LB_MAC, WEB_MAC, address, frame_where, on_a_cable};
use super::*;

const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
const NEW_MAC: MacAddress = [0x02, 0, 0, 0, 0, 0x99];
const MARK: MarkedWay = MarkedWay::of_checks(CheckMark(0xf00b));

/// What the kernel knows of a neighbour.
async fn entry(cable: &Cable, of: &str) -> Option<Entry> {
    let entries = neighbours::list(&cable.lb).await.unwrap();
    entries.into_iter().find(|entry| entry.address == address(of))
}
