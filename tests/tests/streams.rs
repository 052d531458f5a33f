//! Streams end to end: what users keep while the balancer's backends change.

use std::net::SocketAddrV4;
use std::time::Duration;

use anyhow::Result;
use foobar_tests::pattern::seed;
use foobar_tests::streams::client::{Client, Load};
use foobar_tests::streams::report::Cause;
use foobar_tests::streams::server::Server;
use foobar_tests::world::{VIP, World, backend_address};

const PORT: u16 = 7000;

/// The harness's own test, without a balancer: streams live by a plain route, and a route that changes under
/// them is seen as resets.
#[test]
fn the_harness_sees_resets() -> Result<()> {
    let world = World::new(2)?;
    let servers = world
        .backends()
        .map(|b| Server::start(&world, b, PORT))
        .collect::<Result<Vec<_>>>()?;
    world.route_vip_via(backend_address(1))?;
    let load = Load {
        held: 200,
        ..Load::new(SocketAddrV4::new(VIP, PORT), seed())
    };
    let client = Client::start(&world, load)?;
    client.wait_held(200, Duration::from_secs(20))?;
    std::thread::sleep(Duration::from_secs(3));
    let before = client.report();
    println!("{before}");
    assert_eq!(before.failed(), 0, "{before}");
    assert_eq!(before.spread.keys().copied().collect::<Vec<_>>(), [1]);
    assert!(before.exchanges > 400, "{before}");

    world.route_vip_via(backend_address(2))?;
    std::thread::sleep(Duration::from_secs(3));
    client.wait_held(200, Duration::from_secs(20))?;
    let after = client.stop()?;
    println!("{after}");
    assert!(after.failed_by(Cause::Reset) >= 200, "{after}");
    assert_eq!(after.failed_by(Cause::Reset), after.failed_on(1), "{after}");
    assert_eq!(after.corrupt_bytes, 0, "{after}");
    assert!(
        servers
            .iter()
            .all(|s| s.seen().corrupt.load(std::sync::atomic::Ordering::Relaxed) == 0)
    );
    Ok(())
}
