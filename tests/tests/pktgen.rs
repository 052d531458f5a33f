//! Live frames through the balancer's program on a veth pair: every packet is accounted for at every point, and
//! one that is not would be noticed. Needs root; how fast anything is is not asserted.

use std::process::Command;

use anyhow::{Context as _, Result, bail};
use foobar_common::counters::Counter;
use foobar_tests::netns::PREFIX;
use foobar_tests::pktgen::case::named;
use foobar_tests::pktgen::frames::Fault;
use foobar_tests::pktgen::run::{Outcome, Request, run};

const PACKETS: u64 = 300_000;
const BACKENDS: u32 = 3;

fn request(case: &str) -> Result<Request> {
    Ok(Request {
        case: *named(case).with_context(|| format!("{case} is a case"))?,
        packets: PACKETS,
        flows: 5_000,
        backends: BACKENDS,
        fault: None,
    })
}

fn sound(case: &str) -> Result<Outcome> {
    let outcome = run(request(case)?, |_| Ok(()))?;
    let counts = &outcome.counts;
    println!("{case}: {} of {} received", counts.received(), counts.asked);
    for hop in counts.hops() {
        assert_eq!(hop.unaccounted, 0, "{case}: {hop:?}");
    }
    assert_eq!(counts.astray(), [], "{case}");
    assert_eq!(outcome.misled, None, "{case}");
    assert!(outcome.is_sound(), "{case}");
    assert!(
        counts.asked >= PACKETS && counts.generated == counts.asked,
        "{case}"
    );
    Ok(outcome)
}

/// What the kernel could not take anywhere, and has counted: on a busy machine that may be some.
fn lost(outcome: &Outcome) -> u64 {
    let counts = &outcome.counts;
    let at_ports: u64 = counts
        .backends
        .iter()
        .map(|backend| backend.port.xdp_xmit_errors)
        .sum();
    counts.uplink.xdp_xmit_errors + counts.balancer.xdp_tx_errors + counts.balancer.drops + at_ports
}

#[test]
fn every_packet_for_a_target_arrives_or_is_lost_by_a_name() -> Result<()> {
    for case in [
        "v4-tcp-settled-l2",
        "v6-tcp-settled-l2",
        "v4-udp-settled-l2",
        "v4-tcp-settled-ipip",
        "v6-tcp-settled-gue",
        "v4-tcp-moved-l2",
        "v6-icmp-error-l2",
    ] {
        let outcome = sound(case)?;
        let counts = &outcome.counts;
        assert_eq!(counts.received() + lost(&outcome), counts.asked, "{case}");
        assert_eq!(counts.flows.packets, counts.received(), "{case}");
        assert!(
            counts
                .backends
                .iter()
                .all(|backend| backend.received.of_flows > 0),
            "{case}: {:?}",
            counts.backends
        );
        assert!(counts.flows.seen <= 5_000 && counts.flows.seen > 4_000, "{case}");
    }
    Ok(())
}

#[test]
fn a_flood_whose_flows_come_once_each_arrives_too() -> Result<()> {
    let request = Request {
        flows: PACKETS,
        ..request("v4-syn-flood-moving-l2")?
    };
    let outcome = run(request, |_| Ok(()))?;
    assert!(outcome.is_sound(), "{:?}", outcome.counts.hops());
    assert_eq!(outcome.counts.flows.seen, outcome.counts.received());
    Ok(())
}

#[test]
fn every_packet_for_no_target_ends_by_its_reason() -> Result<()> {
    for (case, reason) in [
        ("v4-udp-no-member", Counter::DropNoMember),
        ("v4-not-vip", Counter::PassNotVip),
        ("v4-tcp-reset", Counter::AnswerReset),
    ] {
        let outcome = sound(case)?;
        let counts = &outcome.counts;
        assert_eq!(
            counts.counters.get(reason) + counts.uplink.xdp_xmit_errors,
            counts.asked,
            "{case}"
        );
        assert_eq!(counts.received(), 0, "{case}");
    }
    Ok(())
}

#[test]
fn a_planted_loss_is_noticed_and_so_is_a_packet_at_the_wrong_backend() -> Result<()> {
    for fault in Fault::ALL {
        let outcome = run(
            Request {
                fault: Some(fault),
                ..request("v4-tcp-settled-l2")?
            },
            |_| Ok(()),
        )?;
        assert!(!outcome.is_sound(), "{fault:?}");
        let counts = &outcome.counts;
        let astray = counts.astray();
        let first = &counts.backends[0];
        assert!(first.switched > 0, "{fault:?}: {first:?}");
        let at = match fault {
            Fault::Unplugged | Fault::Dead => {
                assert_eq!(astray, [], "{fault:?}");
                // What the port's ring did not take would be accounted for, but it was sent nothing or all is lost.
                assert_eq!(counts.unaccounted(), first.switched, "{fault:?}");
                "switch to b1"
            }
            Fault::Crossed => {
                assert_eq!(astray.len(), 1, "{astray:?}");
                assert_eq!(astray[0].what, "frames for another host");
                "backend 2"
            }
        };
        let noticed = counts
            .hops()
            .into_iter()
            .any(|hop| hop.at == at && hop.unaccounted > 0);
        assert!(noticed, "{fault:?}: {:?}", counts.hops());
    }
    Ok(())
}

/// This process's namespaces.
fn namespaces() -> Result<Vec<String>> {
    let own = format!("{PREFIX}{}-", std::process::id());
    let mut names = Vec::new();
    for entry in std::fs::read_dir("/run/netns")? {
        names.extend(entry?.file_name().into_string().ok());
    }
    names.retain(|name| name.starts_with(&own));
    Ok(names)
}

#[test]
fn a_run_that_ends_early_leaves_nothing_behind() -> Result<()> {
    let request = request("v4-tcp-settled-l2")?;
    let mut during = Vec::new();
    let stopped = run(request, |_| {
        during = namespaces()?;
        bail!("that was enough")
    });
    assert_eq!(
        stopped.err().map(|error| error.to_string()).as_deref(),
        Some("that was enough")
    );
    assert!(during.len() >= 3, "{during:?}");
    let after = namespaces()?;
    let left: Vec<_> = during.iter().filter(|name| after.contains(name)).collect();
    assert!(left.is_empty(), "{left:?}");
    Ok(())
}

#[test]
fn the_command_gives_every_point_of_every_case() -> Result<()> {
    let output = Command::new(env!("CARGO_BIN_EXE_foobar-pktgen"))
        .args([
            "--json",
            "--packets",
            "100000",
            "--flows",
            "1000",
            "--backends",
            "2",
        ])
        .args(["--case", "v4-tcp-settled-l2,v4-udp-no-member"])
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let reports: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let reports = reports.as_array().context("a list")?;
    assert_eq!(reports.len(), 2);
    for report in reports {
        assert_eq!(report["sent"], 100_000, "{report}");
        assert_eq!(report["unaccounted"], 0, "{report}");
        assert_eq!(report["backends"].as_array().map(Vec::len), Some(2), "{report}");
    }
    let ends = |report: &serde_json::Value| {
        ["received", "dropped", "lost"]
            .iter()
            .filter_map(|end| report[end].as_u64())
            .sum::<u64>()
    };
    assert_eq!((ends(&reports[0]), ends(&reports[1])), (100_000, 100_000));
    assert!(reports[1]["dropped"].as_u64() > Some(0), "{}", reports[1]);
    Ok(())
}
