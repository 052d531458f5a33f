//! When is a host ready: a real question asked inside its namespace, again and again up to a deadline.

use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::configs::APP_PORT;
use super::topology::{Host, Run, SITE, Segment, VIPS, Vip};
use super::{certificates, database, lb_status, network, roles};
use crate::exec;

/// How long a host may take. A deadline, not a delay: what is ready sooner is waited for no longer.
const LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

/// Asks until the answer is good; `gone` ends the waiting early, with the reason.
pub(crate) fn wait_until(
    question: impl Fn() -> Result<()>,
    gone: impl Fn() -> Option<String>,
) -> Result<Duration> {
    let start = Instant::now();
    loop {
        let Err(answer) = question() else {
            return Ok(start.elapsed());
        };
        if let Some(reason) = gone() {
            bail!("{reason}");
        }
        if start.elapsed() > LIMIT {
            bail!(
                "not ready after {} s; the last answer was: {answer:#}",
                LIMIT.as_secs()
            );
        }
        std::thread::sleep(PAUSE);
    }
}

/// Asks a host once.
pub(crate) fn ask(run: &Run, host: Host) -> Result<()> {
    match host {
        Host::Db => database::answers(run),
        Host::App(_) => app(run, host),
        Host::Web(_) => web(run, host),
        Host::Lb(_) => lb_status::all_up(run, host),
        Host::Dns => name_server(run),
        Host::Client => site(run),
    }
}

fn app(run: &Run, host: Host) -> Result<()> {
    let address = roles::address(host, Segment::App)?;
    curl(run, host, &[&format!("http://{address}:{APP_PORT}/healthz")])
}

fn web(run: &Run, host: Host) -> Result<()> {
    let resolve = format!("{SITE}:443:{}", roles::address(host, Segment::Edge)?);
    curl(
        run,
        host,
        &["--resolve", &resolve, &format!("https://{SITE}/healthz")],
    )
}

/// What a web server says of the app servers that it knows, as JSON; also when none can be reached.
pub(crate) fn web_health(run: &Run, host: Host) -> Result<String> {
    let resolve = format!("{SITE}:443:{}", roles::address(host, Segment::Edge)?);
    let url = format!("https://{SITE}/healthz");
    exec::output(
        network::in_namespace(&run.namespace(host))
            .args([
                "curl",
                "--silent",
                "--show-error",
                "--max-time",
                "2",
                "--resolve",
                &resolve,
                "--cacert",
            ])
            .arg(certificates::authority(run))
            .arg(&url),
    )
}

/// The whole path, through each VIP.
fn site(run: &Run) -> Result<()> {
    for address in VIPS.iter().flat_map(Vip::addresses) {
        let resolve = match address {
            IpAddr::V4(address) => format!("{SITE}:443:{address}"),
            IpAddr::V6(address) => format!("{SITE}:443:[{address}]"),
        };
        curl(
            run,
            Host::Client,
            &["--resolve", &resolve, &format!("https://{SITE}/healthz")],
        )?;
    }
    for vip in VIPS {
        lb_status::owns(run, vip.owner, vip.name)?;
        lb_status::agrees(run, vip.owner)?;
    }
    // And by name, as a user comes.
    curl(run, Host::Client, &[&format!("https://{SITE}/")])
}

fn name_server(run: &Run) -> Result<()> {
    let server = format!("@{}", roles::address(Host::Dns, Segment::Edge)?);
    let mut answer = String::new();
    for record_type in ["A", "AAAA"] {
        answer += &exec::output(network::in_namespace(&run.namespace(Host::Dns)).args([
            "dig",
            "+short",
            "+time=1",
            "+tries=1",
            &server,
            SITE,
            record_type,
        ]))?;
        answer.push('\n');
    }
    for address in VIPS.iter().flat_map(Vip::addresses) {
        if !answer.lines().any(|line| line == address.to_string()) {
            bail!("{address} is not among the addresses of {SITE}: {answer:?}");
        }
    }
    Ok(())
}

fn curl(run: &Run, host: Host, words: &[&str]) -> Result<()> {
    let mut command: Command = network::in_namespace(&run.namespace(host));
    command.args([
        "curl",
        "--silent",
        "--show-error",
        "--fail",
        "--max-time",
        "2",
        "--output",
        "/dev/null",
    ]);
    command
        .arg("--cacert")
        .arg(certificates::authority(run))
        .args(words);
    exec::output(&mut command).map(drop)
}
