//! `foobar agent prepare`, `check` and `undo`: the steps of `preparation`, done, told, or taken back.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use super::preparation::{Seen, Step, mss, plan, settings_of};
use super::state::State;
use crate::config::Forward;
use crate::config::agent::AgentConfig;
use crate::network::{self, XdpMode};

async fn look(config: &AgentConfig) -> Result<Seen> {
    // The interface has to be there: its settings are.
    network::lookup(&config.interface).await?;
    let settings = settings_of(&config.interface)
        .into_iter()
        .filter_map(|path| Some((path.clone(), network::setting(&path)?)));
    Ok(Seen {
        loopback: network::loopback_addresses().await?,
        settings: settings.collect(),
        routes: network::routes_out().await?,
    })
}

/// Does what is to be done; the state file has it before it is done, so that no change is forgotten.
pub(super) async fn prepare(config: &AgentConfig) -> Result<()> {
    let steps = plan(config, &look(config).await?);
    let mut state = State::read(&config.state_file)?;
    for step in &steps {
        match step {
            Step::Address(vip) => {
                state.addresses.insert(*vip);
                state.write(&config.state_file)?;
                network::add_loopback_address(*vip).await?;
                println!("lo: {vip} added");
            }
            Step::Setting { path, from, to, .. } => {
                state.set(path, from, to);
                state.write(&config.state_file)?;
                network::set_setting(path, to)?;
                println!("net.{}: {to}, was {from}", path.replace('/', "."));
            }
            Step::AdvMss { route, to } => {
                state.announce(route.destination, route.metric, route.advmss, *to);
                state.write(&config.state_file)?;
                network::set_advmss(route, Some(*to)).await?;
                println!("route to {}: advmss {to}", route.destination);
            }
        }
    }
    match (steps.is_empty(), mss(config)) {
        (true, _) => println!("nothing to do"),
        (false, Some((v4, v6))) => println!(
            "prepared for tunnels with an MTU of {}: clients are told an MSS of {v4} (IPv4) or {v6} (IPv6)",
            config.mtu
        ),
        (false, None) => println!("prepared"),
    }
    Ok(())
}

/// Takes back what was done and is still as it was left.
pub(super) async fn undo(config: &AgentConfig) -> Result<()> {
    let state = State::read(&config.state_file)?;
    if state == State::default() {
        println!(
            "nothing to undo ({} is not there or empty)",
            config.state_file.display()
        );
        return Ok(());
    }
    for &address in &state.addresses {
        network::remove_loopback_address(address).await?;
        println!("lo: {address} removed");
    }
    for route in network::routes_out().await? {
        let changed = state
            .routes
            .iter()
            .find(|changed| (changed.destination, changed.metric) == (route.destination, route.metric));
        let Some(changed) = changed else { continue };
        if route.advmss == changed.advmss.after {
            network::set_advmss(&route, changed.advmss.before).await?;
            println!("route to {}: advmss as before", route.destination);
        } else {
            println!(
                "route to {}: changed by somebody else, left alone",
                route.destination
            );
        }
    }
    for (path, changed) in &state.settings {
        let name = path.replace('/', ".");
        match network::setting(path) {
            Some(value) if value == changed.after => {
                network::set_setting(path, &changed.before)?;
                println!("net.{name}: {} again", changed.before);
            }
            Some(value) => println!("net.{name}: {value} by somebody else, left alone"),
            None => (),
        }
    }
    std::fs::remove_file(&config.state_file)?;
    Ok(())
}

/// Says what is wrong, and how to mend it.
pub(super) async fn check(config: &AgentConfig, as_json: bool) -> Result<ExitCode> {
    let steps = plan(config, &look(config).await?);
    let mut problems: Vec<(String, String)> = steps
        .iter()
        .map(|step| (step.to_string(), step.remedy()))
        .collect();
    let prepared = problems.len();
    if config.forward != Forward::L2 && network::xdp_mode(&config.interface).await? == XdpMode::None {
        problems.push((
            format!(
                "no XDP program is attached to {}: packets in tunnels are left to the kernel",
                config.interface
            ),
            "foobar agent run --config FILE".to_owned(),
        ));
    }
    if as_json {
        let problems: Vec<_> = problems
            .iter()
            .map(|(problem, remedy)| json!({ "problem": problem, "remedy": remedy }))
            .collect();
        let document = json!({ "ready": problems.is_empty(), "problems": problems });
        println!("{document:#}");
    } else {
        for (problem, remedy) in &problems {
            println!("{problem}\n    {remedy}");
        }
        match problems.len() {
            0 => println!("ready: {} VIPs on {}", config.vips.len(), config.interface),
            count if prepared > 0 => println!("{count} problems; `foobar agent prepare` mends {prepared}"),
            count => println!("{count} problems"),
        }
    }
    Ok(if problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
