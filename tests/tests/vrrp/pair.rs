//! Two foobar balancers with 100 ms advertisements.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Result, ensure};
use foobar_tests::lb::Balancer;
use foobar_tests::steady::PORT;
use foobar_tests::vrrp::{Pings, Place, config, wait_state, who_has};
use foobar_tests::world::{Lb, VIP, VIP6, World};

use crate::story::{listen, world};

struct Pair<'a> {
    first: Balancer<'a>,
    second: Balancer<'a>,
    macs: [String; 2],
}

impl<'a> Pair<'a> {
    /// The first is active, the second its backup.
    fn start(world: &'a World, places: [Place; 2]) -> Result<Self> {
        let [first, second] = places.map(|place| config(place, true, 1));
        let mut first = Balancer::start_on(world, Lb::First, &first)?;
        wait_state(&mut first, "active")?;
        let mut second = Balancer::start_on(world, Lb::Second, &second)?;
        wait_state(&mut second, "backup")?;
        Ok(Self {
            first,
            second,
            macs: [Lb::First, Lb::Second].map(|lb| {
                let host = world.balancer(lb).expect("there are two");
                host.mac_of("eth0").expect("it has an interface")
            }),
        })
    }
}

const BOTH: [Place; 2] = [Place::of(200), Place::of(100)];

#[test]
fn a_clean_stop_hands_over_without_a_lost_ping_and_a_return_preempts() -> Result<()> {
    let world = world()?;
    let _servers = listen(&world)?;
    let mut pair = Pair::start(&world, BOTH)?;
    assert_eq!(who_has(world.client())?, [pair.macs[0].clone()]);
    let pings = [VIP.into(), VIP6.into()].map(|vip| Pings::start(&world, vip, 10));
    pair.first.stop()?;
    wait_state(&mut pair.second, "active")?;
    assert_eq!(who_has(world.client())?, [pair.macs[1].clone()]);
    pair.first.run()?;
    wait_state(&mut pair.first, "active")?;
    wait_state(&mut pair.second, "backup")?;
    assert_eq!(who_has(world.client())?, [pair.macs[0].clone()]);
    for pings in pings {
        let answers = pings?.stop()?;
        println!(
            "{} of {}, longest gap {:?}",
            answers.at.len(),
            answers.sent,
            answers.longest_gap()
        );
        ensure!(answers.sent - answers.at.len() as u64 <= 1, "{answers:?}");
    }
    Ok(())
}

#[test]
fn a_killed_daemons_data_plane_stops_answering_and_goes_on_forwarding() -> Result<()> {
    let world = world()?;
    let _servers = listen(&world)?;
    let mut pair = Pair::start(&world, BOTH)?;
    let pings = Pings::start(&world, VIP.into(), 5)?;
    pair.first.kill()?;
    wait_state(&mut pair.second, "active")?;
    assert_eq!(who_has(world.client())?, [pair.macs[1].clone()]);
    println!("longest gap {:?}", pings.stop()?.longest_gap());
    let client = world.client();
    for mac in &pair.macs {
        client.ip(&[
            "neigh",
            "replace",
            &VIP.to_string(),
            "lladdr",
            mac,
            "dev",
            "eth0",
            "nud",
            "permanent",
        ])?;
        let to = SocketAddr::from((VIP, PORT));
        client.run(|| Ok(TcpStream::connect_timeout(&to, Duration::from_secs(2))?))?;
    }
    Ok(())
}
