//! What the daemon refuses, in which words, and that it touches nothing then; and what it makes do with.

use std::process::Command;

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::programs::{Xdp, XdpMode};
use foobar_tests::artifacts;
use foobar_tests::lb::{Balancer, Config, VIP_NAME};
use foobar_tests::pattern::seed;
use foobar_tests::world::{LB, World};

use crate::story::{assert_says, config, hold, of, reached, traces, world, xdp_on};

/// A program of somebody else, attached as long as it is not dropped.
fn attach_foreign(world: &World, mode: XdpMode) -> Result<Ebpf> {
    world.lb().run(|| {
        let mut object = Ebpf::load_file(artifacts::object("agent")?)?;
        let program: &mut Xdp = object.program_mut("agent").context("no program")?.try_into()?;
        program.load()?;
        program.attach("eth0", mode)?;
        Ok(object)
    })
}

#[test]
fn a_foreign_program_is_never_replaced() -> Result<()> {
    let (world, _servers) = world()?;
    let mut balancer = Balancer::prepare(&world, &config())?;
    for mode in [XdpMode::Driver, XdpMode::Skb] {
        let foreign = attach_foreign(&world, mode)?;
        let id = xdp_on(world.lb(), "eth0")?;
        assert!(id.is_some(), "no foreign program to be replaced");
        let said = balancer.refusal(&[])?;
        assert_says(&said, &["another XDP program is attached to eth0: it stays"]);
        assert_eq!(xdp_on(world.lb(), "eth0")?, id, "{mode:?}");
        assert!(
            balancer.pins().is_err(),
            "a refused start has left its maps pinned"
        );
        drop(foreign);
    }
    // It was the foreign program that made the difference.
    balancer.run()?;
    balancer.wait_owners(&config())?;
    assert_eq!(reached(&world)?, [1, 2]);
    Ok(())
}

#[test]
fn it_needs_its_capabilities_and_no_other() -> Result<()> {
    let (world, _servers) = world()?;
    let mut balancer = Balancer::prepare(&world, &config())?;
    let without = |capabilities: &str| {
        balancer.refusal(&[
            "setpriv",
            "--bounding-set",
            capabilities,
            "--inh-caps",
            capabilities,
        ])
    };
    let said = without("-bpf")?;
    assert_says(&said, &["missing capabilities: CAP_BPF. Run as root"]);
    let said = without("-all")?;
    assert_says(&said, &["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"]);
    assert_eq!(traces(&world)?, [""; 0]);
    assert!(balancer.pins().is_err() && !balancer.socket().exists());

    let exactly = "-all,+bpf,+net_admin,+perfmon,+net_raw";
    balancer.run_under(&["setpriv", "--bounding-set", exactly, "--inh-caps", exactly])?;
    balancer.wait_owners(&config())?;
    assert_eq!(reached(&world)?, [1, 2]);
    let log = balancer.log()?;
    assert!(!log.contains("ERROR") && !log.contains("could not"), "{log}");
    Ok(())
}

/// A bridge has no XDP of its own: the kernel runs the program on what the bridge hands up.
#[test]
fn a_driver_without_xdp_gets_generic_xdp_with_a_warning() -> Result<()> {
    let (world, _servers) = world()?;
    let lb = world.lb();
    let address = format!("{LB}/24");
    lb.ip(&[
        "link",
        "add",
        "br0",
        "type",
        "bridge",
        "stp_state",
        "0",
        "forward_delay",
        "0",
    ])?;
    lb.ip(&["addr", "del", &address, "dev", "eth0"])?;
    lb.ip(&["addr", "add", &address, "dev", "br0"])?;
    lb.ip(&["link", "set", "eth0", "master", "br0"])?;
    lb.ip(&["link", "set", "br0", "up"])?;
    let mut balancer = Balancer::start(
        &world,
        &Config {
            interface: "br0",
            ..config()
        },
    )?;
    balancer.wait("the checks pass", |status| {
        [1, 2].iter().all(|&backend| of(status, backend)["state"] == "up")
    })?;
    assert_eq!(balancer.status()?["mode"], "generic");
    assert_says(&balancer.status_text(&[])?, &["on br0 (generic XDP)"]);
    assert_says(
        &balancer.log()?,
        &["WARN", "falling back to generic XDP", "several times"],
    );
    assert_eq!(reached(&world)?, [1, 2]);
    Ok(())
}

#[test]
fn another_seed_than_the_running_one_is_refused() -> Result<()> {
    let (world, _servers) = world()?;
    let mut balancer = Balancer::start(&world, &config())?;
    let client = hold(&world)?;
    balancer.stop()?;
    balancer.write_seed(!seed())?;
    let said = balancer.refusal(&[])?;
    assert_says(
        &said,
        &[
            "the seed file differs",
            "would move every flow",
            "foobar lb detach",
        ],
    );

    balancer.write_seed(seed())?;
    balancer.run()?;
    let report = client.stop()?;
    assert_eq!(report.failed(), 0, "{report}");
    Ok(())
}

#[test]
fn config_check_tells_good_from_bad_and_where() -> Result<()> {
    let world = World::new(1)?;
    let balancer = Balancer::prepare(&world, &config())?;
    let check = || -> Result<(Option<i32>, String)> {
        let output = Command::new(artifacts::binary()?)
            .args(["config", "check"])
            .arg(balancer.config_file())
            .output()?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8_lossy(&said).into_owned()))
    };
    let (code, said) = check()?;
    assert_eq!(code, Some(0), "{said}");
    assert_says(&said, &["valid", "192.0.2.101:7000/tcp", "2 backends", VIP_NAME]);

    let good = std::fs::read_to_string(balancer.config_file())?;
    let at = good
        .lines()
        .position(|line| line == "weight = 100")
        .context("no weight")?
        + 1;
    let bad = good.replacen("weight = 100", "weight = 257", 1) + "   wieght = 5\n";
    std::fs::write(balancer.config_file(), bad)?;
    let (code, said) = check()?;
    assert_eq!(code, Some(1), "{said}");
    // Both errors in one run, each with its line and column.
    let path = balancer.config_file().display();
    let second = good.lines().count() + 1;
    let places = [format!("{path}:{at}:10"), format!("{path}:{second}:4")];
    assert_says(&said, &[&places[0], "257", &places[1], "wieght"]);
    Ok(())
}
