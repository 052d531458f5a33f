//! What operators read, and that the lab's end is an end.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use foobar_tests::lab::{Lab, traces};
use foobar_tests::netns::run_command;
use serde_json::Value;

pub(super) fn operators_can_read(lab: &Lab) -> Result<String> {
    let text = lab.exec_ok("lb1", &["foobar", "status"])?;
    for word in [
        "native XDP",
        "site-a",
        "192.0.2.101:443/tcp",
        "192.0.2.21",
        "192.0.2.22",
        "pins",
        "slots 65536",
    ] {
        ensure!(text.contains(word), "the status does not say {word:?}:\n{text}");
    }
    let json = lab.exec_ok("lb1", &["foobar", "status", "--json"])?;
    let status: Value = serde_json::from_str(&json).context("the status is not JSON")?;
    let vip = &status["vips"][0];
    ensure!(vip["name"] == "site-a" && vip["owned"] == true, "{vip}");
    ensure!(
        vip["connections"].as_u64() > Some(50),
        "fewer connections than curls: {vip}"
    );
    let slots = vip["backends"]
        .as_array()
        .context("no backends")?
        .iter()
        .map(|backend| backend["slots"].as_u64());
    ensure!(
        slots.flatten().sum::<u64>() == 65536,
        "not every slot has an owner: {vip}"
    );

    let pins = status["pins"].as_str().context("nothing is pinned")?;
    let bpftool = |words: &[&str], map: &str, rest: &[&str]| {
        let pin = format!("{pins}/{map}");
        run_command(Command::new("bpftool").args(words).arg(pin).args(rest))
    };
    let zero = ["key", "0", "0", "0", "0"];
    let readings = [
        (
            bpftool(&["map", "dump", "pinned"], "SETTINGS", &[])?,
            &["flow_seed", "own_mac"][..],
        ),
        (
            bpftool(&["map", "dump", "pinned"], "TARGETS", &[])?,
            &["destination_mac", "weight", "address"][..],
        ),
        (
            bpftool(&["map", "lookup", "pinned"], "VIPS", &zero)?,
            &["port_be", "slot_base", "slot_mask"][..],
        ),
        (
            bpftool(&["map", "lookup", "pinned"], "COLD_SLOTS", &zero)?,
            &["current", "previous", "phase"][..],
        ),
        (
            bpftool(&["map", "lookup", "pinned"], "HOT_SLOTS", &zero)?,
            &["lanes"][..],
        ),
    ];
    for (reading, fields) in &readings {
        for field in *fields {
            ensure!(
                reading.contains(&format!("\"{field}\"")),
                "no field {field}: {reading:.400}"
            );
        }
    }
    Ok(format!(
        "two forms of status, fields of {} maps below {pins}",
        readings.len()
    ))
}

pub(super) fn nothing_is_left(lab: &Lab) -> Result<String> {
    let before = traces::of(lab)?;
    let kinds = [
        "/run/netns/",
        "/etc/netns/",
        "/run/foobar-lab/",
        "mount ",
        "process ",
    ];
    for kind in kinds {
        ensure!(
            before.iter().any(|trace| trace.starts_with(kind)),
            "no {kind} while it runs: {before:?}"
        );
    }
    lab.down()?;
    let after = traces::of(lab)?;
    ensure!(after.is_empty(), "left behind: {after:#?}");
    let again = lab.down().context("a second down")?;
    ensure!(again.contains("no lab"), "{again}");
    Ok(format!(
        "{} traces before, none after; a second down is harmless",
        before.len()
    ))
}
