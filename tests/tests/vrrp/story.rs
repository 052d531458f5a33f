//! What the stories share: the world, and servers for the balancers' checks.

use std::net::TcpListener;

use anyhow::{Result, ensure};
use foobar_tests::steady::PORT;
use foobar_tests::vrrp::router;
use foobar_tests::world::{VIP, VIP6, World};
use serde_json::Value;

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

/// The other router was heard, and nothing of what it sent was refused, or contradicted the configuration.
pub(crate) fn assert_understood(status: &Value) -> Result<()> {
    for family in ["ipv4", "ipv6"] {
        let router = router(status, family);
        ensure!(
            router["received"].as_u64() > Some(0)
                && router["invalid"] == serde_json::json!({})
                && router["mismatched"] == serde_json::json!({}),
            "{router:#}"
        );
    }
    Ok(())
}
