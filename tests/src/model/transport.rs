//! Packets for a VIP by their protocol: TCP and UDP to a member, ICMP elsewhere, all else to nobody.

use etherparse::{IpNumber, TcpHeaderSlice, UdpHeaderSlice};
use foobar_common::counters::Counter;

use super::answer;
use super::fragment::Piece;
use super::icmp;
use super::ip::{Packet, Shape};
use super::link::Link;
use super::quic;
use super::steering::{Flow, Owners, Segment, Steered};
use super::verdict::{Delivery, Fate, Kind};
use super::world::World;

/// A packet's ports, and what it says of its flow.
struct Transport<'a> {
    source: u16,
    destination: u16,
    segment: Segment,
    /// The TCP header, and the bytes behind it.
    tcp: Option<(TcpHeaderSlice<'a>, usize)>,
}

impl World {
    /// What becomes of a packet for a VIP whose IP header is right.
    pub(super) fn deliver(
        &mut self,
        link: &Link<'_>,
        packet: &Packet<'_>,
        counted: &mut Vec<Counter>,
    ) -> Fate {
        if icmp::is_icmp(packet) {
            return match packet.piece {
                Piece::Whole => icmp::judge(self, link, packet, counted),
                Piece::First(_) | Piece::Later(_) => Fate::Drop(Counter::DropFragment),
            };
        }
        if let Piece::Later(datagram) = packet.piece {
            return self.follow(packet, datagram, counted);
        }
        let transport = match parse(packet) {
            Ok(transport) => transport,
            Err(reason) => return Fate::Drop(reason),
        };
        let protocol = packet.protocol.0;
        let Some(service) = self
            .service(packet.destination, transport.destination, protocol)
            .cloned()
        else {
            return self.refuse(link, packet, &transport, Counter::DropNoService);
        };
        let flow = Flow {
            client: packet.source,
            client_port: transport.source,
            port: transport.destination,
        };
        let opens = transport.segment == Segment::Open;
        if let Some(reason) = self.turns_away(&service, packet.source, opens) {
            return Fate::Drop(reason);
        }
        let steered = match quic::named(self, &service, packet) {
            Some(member) => {
                counted.push(Counter::QuicServerId);
                Steered::Member(Owners::alone(member, self.chance(&service)))
            }
            None => self.steer(&service, &flow, transport.segment, counted),
        };
        let Steered::Member(owners) = steered else {
            return self.refuse(link, packet, &transport, steered.reason());
        };
        if let Piece::First(datagram) = packet.piece {
            counted.push(Counter::FragmentNoted);
            self.fragments.insert(datagram, owners);
        }
        Fate::Forward(Delivery {
            owners,
            kind: if opens { Kind::Opening } else { Kind::Other },
            varies: self.placing(&service, flow.client, flow.client_port, flow.port),
        })
    }

    /// A packet that nobody can own: dropped, or of TCP answered with RST.
    fn refuse(
        &self,
        link: &Link<'_>,
        packet: &Packet<'_>,
        transport: &Transport<'_>,
        reason: Counter,
    ) -> Fate {
        match &transport.tcp {
            Some((tcp, data))
                if self.resets(packet.destination)
                    && packet.shape == Shape::Plain
                    && packet.piece == Piece::Whole
                    && !tcp.rst() =>
            {
                Fate::Answer(
                    Counter::AnswerReset,
                    answer::reset(self.own, link, packet, tcp, *data),
                )
            }
            _ => Fate::Drop(reason),
        }
    }
}

fn parse<'a>(packet: &Packet<'a>) -> Result<Transport<'a>, Counter> {
    let payload = packet.payload;
    match packet.protocol {
        IpNumber::TCP => {
            if payload.len() < 20 {
                return Err(Counter::DropTruncated);
            }
            let beyond = header_length(payload) > payload.len();
            let header = match TcpHeaderSlice::from_slice(payload) {
                Ok(header) => header,
                // The header has to be whole in a first fragment.
                Err(_) if beyond && packet.piece != Piece::Whole => return Err(Counter::DropTruncated),
                Err(_) => return Err(Counter::DropMalformed),
            };
            Ok(Transport {
                source: header.source_port(),
                destination: header.destination_port(),
                segment: if header.fin() || header.rst() {
                    Segment::End
                } else if header.syn() && !header.ack() {
                    Segment::Open
                } else {
                    Segment::Data
                },
                tcp: Some((header, payload.len() - header_length(payload))),
            })
        }
        IpNumber::UDP => {
            let header = UdpHeaderSlice::from_slice(payload).map_err(|_| Counter::DropTruncated)?;
            let length = usize::from(header.length());
            let whole = matches!(packet.piece, Piece::Whole);
            if length < 8 || (whole && length > payload.len()) {
                return Err(Counter::DropMalformed);
            }
            Ok(Transport {
                source: header.source_port(),
                destination: header.destination_port(),
                segment: Segment::Datagram,
                tcp: None,
            })
        }
        _ => Err(Counter::DropNoService),
    }
}

fn header_length(tcp: &[u8]) -> usize {
    usize::from(tcp[12] >> 4) * 4
}
