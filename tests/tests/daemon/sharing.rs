//! VIPs of one pool of backends read their hot slots in one table while nothing changes, and only then.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use foobar_tests::lb::{Balancer, Config};
use foobar_tests::steady::SERVICE;
use foobar_tests::world::VIP;
use serde_json::Value;

use crate::story::{PATIENCE, STREAMS, config, hold, of, reached, serve, world};

/// A second VIP of the same backends, in another order, and one of other slots.
const OTHERS: &str = r#"
[[vip]]
name = "twin"
address = "192.0.2.101"
port = 7100
slots = 256
idle_timeout = "2s"
check = { kind = "tcp", interval = "300ms", doubt_interval = "100ms", down_interval = "300ms", timeout = "500ms", fall = 2, rise = 2, hard_after = "1s" }
backend = [{ address = "192.0.2.22" }, { address = "192.0.2.21" }]

[[vip]]
name = "other"
address = "192.0.2.101"
port = 7200
slots = 512
idle_timeout = "2s"
check.kind = "none"
backend = [{ address = "192.0.2.21" }, { address = "192.0.2.22" }]
"#;

const TWIN: u16 = 7100;

fn sharing(status: &Value) -> [bool; 3] {
    [0, 1, 2].map(|vip| status["vips"][vip]["shares_slots"] == true)
}

#[test]
fn vips_of_one_pool_share_their_slots_until_something_changes() -> Result<()> {
    let (world, _servers) = world()?;
    let _twins = serve(&world, TWIN)?;
    let mut wanted = Config {
        idle_timeout: Some(Duration::from_secs(2)),
        ..config()
    };
    wanted.further = format!("{OTHERS}{}", wanted.further);
    let mut balancer = Balancer::start(&world, &wanted)?;
    let twin = SocketAddr::from((VIP, TWIN));
    balancer.wait("twins share", |status| sharing(status) == [true, true, false])?;
    let pins = balancer.pins()?;
    for service in [SocketAddr::V4(SERVICE), twin] {
        assert!(pins.is_sharing(pins.range_of(service)?), "{service}");
    }
    assert_eq!(reached(&world)?, [1, 2]);

    // Only the one that changes reads its own.
    let client = hold(&world)?;
    balancer.drain(2)?;
    let status = balancer.wait("one of them moves", |status| {
        status["vips"][0]["phases"]["moving"] != 0 || status["vips"][1]["phases"]["moving"] != 0
    })?;
    assert!(
        status["vips"]
            .as_array()
            .into_iter()
            .flatten()
            .all(|vip| vip["phases"]["moving"] == 0 || vip["shares_slots"] == false),
        "{status:#}"
    );
    client.wait_held(STREAMS, PATIENCE)?;
    balancer.undrain(2)?;
    let report = client.stop()?;
    assert_eq!(report.failed(), 0, "{report}");
    balancer.wait("settled again, they share again", |status| {
        sharing(status) == [true, true, false]
    })?;

    // A daemon that comes after one that was killed knows no shared table.
    let client = hold(&world)?;
    balancer.kill()?;
    balancer.run()?;
    balancer.wait("they share again", |status| {
        sharing(status) == [true, true, false]
    })?;

    // Without a backend that has died, its heirs have it all; the twin's too.
    let target = of(&balancer.status()?, 2)["target"].clone();
    world.backend(2)?.ip(&["link", "set", "eth0", "down"])?;
    balancer.wait("backend 2 is given up", |status| {
        of(status, 2)["target"] != target
    })?;
    balancer.wait("all slots are backend 1's", |status| {
        sharing(status) == [true, true, false] && of(status, 1)["slots"] == 256
    })?;
    // Streams that live would keep slots from settling.
    client.stop()?;
    world.backend(2)?.ip(&["link", "set", "eth0", "up"])?;
    balancer.wait("both share what both serve", |status| {
        sharing(status) == [true, true, false]
            && of(status, 2)["slots"] != 0
            && of(status, 2)["state"] == "up"
    })?;
    assert_eq!(reached(&world)?, [1, 2]);
    Ok(())
}
