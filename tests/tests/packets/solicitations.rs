//! Neighbour solicitations that only look as if they were for a VIP.

use std::net::{IpAddr, Ipv6Addr};

use anyhow::Result;
use foobar_common::counters::Counter;
use foobar_tests::packets::frame::{IP, VIP};
use foobar_tests::packets::frame_v6::{Solicitation, VIP6};
use foobar_tests::packets::rig::{LEASE, Rig};

/// The VIP of IPv4 is none of IPv6, whatever form its address is written in.
#[test]
fn a_solicitation_to_an_ipv4_vips_mapped_address_is_the_kernels_sound_or_not() -> Result<()> {
    let mut rig = Rig::new()?;
    let mapped: Ipv6Addr = VIP.to_ipv6_mapped();
    let sound = Solicitation::unicast(mapped);
    let nowhere = Solicitation {
        hop_limit: 64,
        ..sound.clone()
    };
    for solicitation in [sound, nowhere] {
        rig.send(&solicitation.frame()).passed();
    }
    Ok(())
}

#[test]
fn a_solicitation_in_a_packet_of_another_version_is_malformed() -> Result<()> {
    let mut rig = Rig::new()?;
    let services = [rig.address(IpAddr::V6(VIP6), LEASE)];
    rig.plane.set_services(&services)?;
    let mut frame = Solicitation::unicast(VIP6).frame();
    frame[IP] = 0x40;
    rig.send(&frame).dropped(&[Counter::DropMalformed]);
    let mut group = Solicitation::of(VIP6).frame();
    group[IP] = 0x70;
    rig.send(&group).passed();
    Ok(())
}
