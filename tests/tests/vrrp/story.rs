//! What the stories share: the world, and servers for the balancers' checks.

use std::net::TcpListener;

use anyhow::Result;
use foobar_tests::steady::PORT;
use foobar_tests::world::{VIP, VIP6, World};

/// A world of two balancers' hosts and one backend, of both families.
pub(crate) fn world() -> Result<World> {
    let mut world = World::new(1)?;
    world.add_balancer()?;
    world.add_ipv6()?;
    Ok(world)
}

/// The backend accepts connections to both VIPs, for as long as the value is not dropped.
pub(crate) fn listen(world: &World) -> Result<Vec<TcpListener>> {
    world.backend(1)?.run(|| {
        Ok(vec![
            TcpListener::bind((VIP, PORT))?,
            TcpListener::bind((VIP6, PORT))?,
        ])
    })
}
