//! `cargo xtask up`: a lab that is healthy, or the reason why it isn't.
//!
//! A first start makes everything, in the order of need. A later one brings a running lab to other
//! numbers: what is new is ready before anybody is told of it, and what goes is drained before it stops.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::roles::{self, Members};
use super::state::{Lock, State};
use super::topology::{Host, Run, Shape};
use super::{certificates, cluster, down, drain, network, publish, report};
use crate::setup::{self, Mode};
use crate::{build, exec, workspace};

/// What `up` was asked for.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) run: Run,
    /// Numbers of servers; those not given stay as they are, two in a new lab.
    pub(crate) web: Option<u8>,
    pub(crate) app: Option<u8>,
    /// Where to open the site on this machine.
    pub(crate) publish: Option<SocketAddr>,
    /// How long a server that goes may keep its connections.
    pub(crate) drain: Duration,
    pub(crate) prepare: Prepare,
}

/// What happens before anything is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prepare {
    /// Set the machine up and build.
    SetupAndBuild,
    /// Nothing: whoever asks has done it.
    Nothing,
}

/// Builds, starts, waits, and says what there is.
pub(crate) fn up(request: &Request) -> Result<()> {
    ensure!(
        exec::is_root(),
        "the lab makes network namespaces, which needs root"
    );
    if let Some(address) = request.publish {
        publish::check(address)?;
    }
    if request.prepare == Prepare::SetupAndBuild {
        setup::run(Mode::Install)?;
        build::build()?;
    }
    let run = &request.run;
    let lock = Lock::take(run)?;
    let old = State::load(run)?;
    let before = old.as_ref().map_or(Shape { web: 2, app: 2 }, |state| state.shape);
    let shape = Shape::new(
        request.web.unwrap_or(before.web),
        request.app.unwrap_or(before.app),
    )?;
    match old {
        Some(mut state) => {
            println!(
                "The lab {run} is there: it had {}, and gets {}",
                words(state.shape),
                words(shape)
            );
            resize(&mut state, shape, request.drain)?;
            finish(&mut state, request)
        }
        None => {
            println!("Starting the lab {run}: {}", words(shape));
            // What an interrupted start has left.
            down::clear(run)?;
            let mut state = State::new(run.clone(), shape);
            let result = start(&mut state).and_then(|()| finish(&mut state, request));
            if result.is_err() {
                clear_failed(run);
                lock.remove();
            }
            result
        }
    }
}

/// A lab that never was healthy is no lab: only its logs stay.
fn clear_failed(run: &Run) {
    match keep_logs(run) {
        Ok(kept) => eprintln!("The start failed; the logs are kept in {kept}"),
        Err(error) => eprintln!("The logs could not be kept: {error:#}"),
    }
    if let Err(error) = down::clear(run) {
        eprintln!("What was started is not all gone: {error:#}");
    }
}

fn words(shape: Shape) -> String {
    format!("{} web and {} app servers", shape.web, shape.app)
}

fn start(state: &mut State) -> Result<()> {
    let directory = state.run.directory();
    for part in ["configs", "logs"] {
        fs::create_dir_all(directory.join(part))
            .with_context(|| format!("cannot make {}", directory.display()))?;
    }
    state.save()?;
    certificates::create(&state.run)?;
    cluster::create(&state.run)?;
    network::create_fabric(&state.run)?;
    let members = Members {
        webs: state.shape.webs().collect(),
        apps: state.shape.apps().collect(),
    };
    for host in state.shape.hosts() {
        add(state, host, &members)?;
    }
    Ok(())
}

fn add(state: &mut State, host: Host, members: &Members) -> Result<()> {
    network::create_host(&state.run, host, state.shape, &workspace::bpf_dir().join("agent"))?;
    roles::ensure_running(state, host, members)
}

/// Brings a running lab to another shape; also starts again what has died.
fn resize(state: &mut State, shape: Shape, limit: Duration) -> Result<()> {
    let old = state.shape;
    let leaving: Vec<_> = old
        .hosts()
        .into_iter()
        .filter(|host| !shape.hosts().contains(host))
        .collect();
    let members = Members {
        webs: shape.webs().collect(),
        apps: shape.apps().collect(),
    };
    // Until all that is new is ready, the record has both: a failure then leaves nothing unrecorded.
    state.shape = Shape {
        web: old.web.max(shape.web),
        app: old.app.max(shape.app),
    };
    state.save()?;
    network::create_fabric(&state.run)?;
    for host in shape.hosts() {
        match host {
            // Told of the change only now that the tier behind it is ready.
            Host::Web(_) | Host::Lb(_) if network::has_host(&state.run, host) => {
                roles::reconfigure(state, host, &members)?;
                add(state, host, &members)?;
            }
            _ => add(state, host, &members)?,
        }
    }
    // Outer tiers first: a web server that leaves still uses the app servers.
    for host in leaving.into_iter().rev() {
        drain::retire(state, host, limit)?;
    }
    state.shape = shape;
    state.save()
}

fn finish(state: &mut State, request: &Request) -> Result<()> {
    if let Some(address) = request.publish {
        publish::open(state, address)?;
    }
    state.save()?;
    exec::say(&report::welcome(state));
    Ok(())
}

/// Copies the logs out of the run's directory, which goes.
fn keep_logs(run: &Run) -> Result<String> {
    let kept = workspace::target_dir().join("lab-logs").join(run.to_string());
    fs::create_dir_all(&kept)?;
    for entry in fs::read_dir(run.directory().join("logs"))? {
        let entry = entry?;
        fs::copy(entry.path(), kept.join(entry.file_name()))?;
    }
    Ok(kept.display().to_string())
}
