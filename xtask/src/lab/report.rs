//! What a person (or a program, by `--json`) is told of a lab. Pure, but for asking which processes live.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use serde_json::{Value, json};

use super::state::State;
use super::topology::{Host, Run, SITE, VIPS};
use super::{certificates, lb_status, network};
use crate::exec;

/// The topology, the addresses, and what to try.
pub(crate) fn welcome(state: &State) -> String {
    let run = &state.run;
    let directory = run.directory();
    let mut text = String::from("\n");
    text += "  client -> dns1 -> lb1 | lb2 -> web -> app -> db1      (web answers the client directly)\n\n";
    text += &hosts(state);
    for vip in VIPS {
        let _ = writeln!(
            text,
            "  {:<7} {:<15} {}  {}'s while it lives",
            vip.name, vip.address, vip.ipv6, vip.owner
        );
    }
    let _ = writeln!(text, "\n  logs  {}", directory.join("logs").display());
    let _ = writeln!(text, "  CA    {}", certificates::authority(run).display());
    if let Some(address) = state.published {
        let _ = writeln!(
            text,
            "  site  https://{address}/ on this machine (trust the CA above)"
        );
    }
    let name = name_option(run);
    let _ = write!(
        text,
        "\nTry\n\
         \x20 cargo xtask exec{name} client -- curl https://{SITE}/\n\
         \x20 cargo xtask exec{name} client -- curl https://{SITE}/api/tags\n\
         \x20 cargo xtask exec{name} client -- dig {SITE}\n\
         \x20 cargo xtask exec{name} lb1 -- foobar status\n\
         \x20 cargo xtask up{name} --web {}\n\
         and `cargo xtask down{name}` at the end.\n",
        if state.shape.web < 9 {
            state.shape.web + 1
        } else {
            2
        },
    );
    text
}

/// As it must be typed: nothing for the lab without a name.
fn name_option(run: &Run) -> String {
    let name = run.to_string();
    if name == super::DEFAULT_RUN {
        String::new()
    } else {
        format!(" --name {name}")
    }
}

fn hosts(state: &State) -> String {
    let mut text = String::new();
    for host in state.shape.hosts().into_iter().rev() {
        let addresses: Vec<_> = host
            .interfaces()
            .iter()
            .map(|i| {
                let addresses: Vec<_> = i.addresses().iter().map(ToString::to_string).collect();
                format!("{} ({})", addresses.join(" "), i.segment)
            })
            .collect();
        let _ = writeln!(text, "  {:<7} {}", host.to_string(), addresses.join(", "));
    }
    text
}

/// `cargo xtask status`: what runs and what has died; exit code 1 if something has, or nothing runs.
pub(crate) fn status(run: &Run, as_json: bool) -> Result<ExitCode> {
    let state = State::load(run)?;
    exec::say(&match &state {
        Some(state) if as_json => format!("{:#}\n", describe(state)),
        None if as_json => format!("{:#}\n", json!({ "run": run, "up": false })),
        Some(state) => table(state),
        None => format!("There is no lab {run}\n"),
    });
    let well = state.is_some_and(|state| state.dead().next().is_none());
    Ok(if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn table(state: &State) -> String {
    let mut text = hosts(state);
    text.push('\n');
    for process in &state.processes {
        let alive = if process.is_alive() { "runs" } else { "HAS DIED" };
        let _ = writeln!(
            text,
            "  {:<9} {:<9} pid {:<8} {alive:<9} {}",
            process.host,
            process.role,
            process.pid,
            process.log.display()
        );
    }
    text.push('\n');
    for (host, owned) in owners(state) {
        let said = match owned {
            None => "does not answer".to_owned(),
            Some(owned) if owned.is_empty() => "owns no VIP".to_owned(),
            Some(owned) => format!("owns {}", owned.join(", ")),
        };
        let _ = writeln!(text, "  {:<9} {said}", host.to_string());
    }
    for process in state.dead() {
        let _ = writeln!(
            text,
            "\nThe end of {}:\n{}",
            process.log.display(),
            process.log_tail(10)
        );
    }
    text
}

/// Which VIPs each balancer answers for now.
fn owners(state: &State) -> Vec<(Host, Option<Vec<String>>)> {
    let balancers = state
        .shape
        .hosts()
        .into_iter()
        .filter(|host| matches!(host, Host::Lb(_)));
    balancers
        .map(|host| (host, lb_status::owned(&state.run, host)))
        .collect()
}

fn describe(state: &State) -> Value {
    let run = &state.run;
    let hosts: Vec<_> = state
        .shape
        .hosts()
        .into_iter()
        .map(|host| describe_host(state, host))
        .collect();
    let others: Vec<_> = state
        .processes
        .iter()
        .filter(|process| process.host.parse::<Host>().is_err())
        .map(|process| json!({ "role": process.role, "pid": process.pid, "running": process.is_alive() }))
        .collect();
    json!({
        "run": run,
        "up": true,
        "healthy": state.dead().next().is_none(),
        "web": state.shape.web,
        "app": state.shape.app,
        "directory": run.directory(),
        "logs": run.directory().join("logs"),
        "ca": certificates::authority(run),
        "site": SITE,
        "published": state.published,
        "fabric": run.fabric(),
        "vips": VIPS.map(|vip| json!({
            "name": vip.name, "address": vip.address, "ipv6": vip.ipv6, "owner": vip.owner.to_string(),
        })),
        "owned": owners(state)
            .into_iter()
            .map(|(host, owned)| (host.to_string(), json!(owned)))
            .collect::<serde_json::Map<_, _>>(),
        "hosts": hosts,
        "others": others,
    })
}

fn describe_host(state: &State, host: Host) -> Value {
    let interfaces: Vec<_> = host
        .interfaces()
        .iter()
        .map(|i| json!({ "name": i.name, "segment": i.segment.to_string(), "address": i.address, "ipv6": i.ipv6, "mac": i.mac() }))
        .collect();
    let processes: Vec<_> = state
        .of(host)
        .map(|p| json!({ "role": p.role, "pid": p.pid, "running": p.is_alive(), "log": p.log }))
        .collect();
    json!({
        "name": host.to_string(),
        "namespace": state.run.namespace(host),
        "present": network::has_host(&state.run, host),
        "interfaces": interfaces,
        "processes": processes,
    })
}

#[cfg(test)]
mod tests {
    use super::super::topology::Shape;
    use super::*;

    #[test]
    fn the_welcome_names_every_host_and_five_things_to_try() {
        let state = State::new("lab".parse().unwrap(), Shape::new(2, 2).unwrap());
        let text = welcome(&state);
        for host in state.shape.hosts() {
            assert!(text.contains(&format!("\n  {host}")), "{host} in {text}");
        }
        let tries = text.split("\nTry\n").nth(1).unwrap();
        assert_eq!(
            tries
                .lines()
                .filter(|line| line.starts_with("  cargo xtask"))
                .count(),
            5,
            "{text}"
        );
        assert!(!text.contains("--name"));
    }

    #[test]
    fn a_named_lab_is_named_in_what_to_type() {
        let state = State::new("other".parse().unwrap(), Shape::new(1, 1).unwrap());
        assert!(welcome(&state).contains("cargo xtask down --name other"));
    }
}
