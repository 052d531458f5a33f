//! Servers and balancers that go and come back: who notices, for how long, and who does not.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use foobar_tests::lab::held::{Fate, Held};
use foobar_tests::lab::https::{Answer, Connection, Trust};
use foobar_tests::lab::{Lab, VIPS, wait};
use nix::sys::signal::Signal;

/// Bounds the time from a server's death until no new connection is sent to it: three checks missed, twice.
const DETECTION: Duration = Duration::from_secs(10);
/// Bounds the time from the database's return until the site writes and reads again.
const RECOVERY: Duration = Duration::from_secs(20);

/// Opens a connection from the client, asks once and leaves.
pub(super) fn visit(trust: &Trust, vip: Ipv4Addr, path: &str) -> Result<Answer> {
    Connection::open(trust, SocketAddr::from((vip, 443)))?.get(path)
}

pub(super) fn a_web_server_dies(lab: &Lab) -> Result<String> {
    let trust = Trust::only(&lab.authority())?;
    let held = Held::start(lab, &trust, 24, "/")?;
    let servers = held.by_server(lab, &["web1", "web2"])?;
    let (on_dead, on_other) = (&servers["web1"], &servers["web2"]);
    ensure!(!on_dead.is_empty() && !on_other.is_empty(), "held on {servers:?}");
    ensure!(on_dead.len() + on_other.len() == 24, "held on {servers:?}");
    lab.end("web1", Signal::SIGKILL)?;
    let death = Instant::now();
    let (visits, refused, last_refusal) = lab.inside("client", || {
        let (mut visits, mut refused, mut last) = (0, 0, Duration::ZERO);
        let mut in_a_row = 0;
        // Half of all connections would still go to the dead one: 60 good ones in a row are no chance.
        while in_a_row < 60 {
            ensure!(
                death.elapsed() < DETECTION * 2,
                "after {:?} still refused",
                death.elapsed()
            );
            visits += 1;
            match visit(&trust, VIPS[visits % 2], "/healthz") {
                Ok(answer) if answer.status == 200 => in_a_row += 1,
                _ => (refused, last, in_a_row) = (refused + 1, death.elapsed(), 0),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok((visits, refused, last))
    })?;
    ensure!(refused > 0, "nobody noticed that a server died");
    ensure!(
        last_refusal < DETECTION,
        "refused up to {last_refusal:?} after the death"
    );
    let before = held.fewest_answers(on_other);
    wait(Duration::from_secs(10), || {
        ensure!(
            held.fewest_answers(on_other) >= before + 3,
            "held connections are not answered"
        );
        Ok(())
    })?;
    let fates = held.stop()?;
    let broken: Vec<&Fate> = fates.iter().filter(|fate| fate.broken.is_some()).collect();
    let touched = broken.iter().filter(|fate| on_other.contains(&fate.port)).count();
    ensure!(touched == 0, "connections of the other server: {broken:?}");
    ensure!(broken.len() == on_dead.len(), "those of the dead one: {broken:?}");
    lab.up(&[])?;
    lab.pid("web1")?;
    Ok(format!(
        "refused for {:.1} s ({refused} of {visits} new connections), {} held ones untouched, {} died with it",
        last_refusal.as_secs_f32(),
        on_other.len(),
        on_dead.len()
    ))
}

/// Bounds the time until the VIPs are where they are wanted, by the balancers' own words.
const MOVE: Duration = Duration::from_secs(10);

/// Waits until a balancer answers for a VIP, by its own words.
fn owns(lab: &Lab, balancer: &str, vip: &str) -> Result<()> {
    wait(MOVE, || {
        let json = lab.exec_ok(balancer, &["foobar", "status", "--json"])?;
        let status: serde_json::Value = serde_json::from_str(&json)?;
        let vips = status["vips"].as_array().context("no VIPs")?;
        let held = vips
            .iter()
            .find(|held| held["name"] == vip)
            .context("no such VIP")?;
        ensure!(held["owned"] == true, "{balancer} does not own {vip}");
        Ok(())
    })?;
    Ok(())
}

pub(super) fn a_balancer_dies(lab: &Lab) -> Result<String> {
    let trust = Trust::only(&lab.authority())?;
    owns(lab, "lb1", "site-a")?;
    owns(lab, "lb2", "site-b")?;
    let held = Held::start(lab, &trust, 24, "/")?;
    let all: Vec<u16> = held
        .by_server(lab, &["web1", "web2"])?
        .into_values()
        .flatten()
        .collect();
    lab.end("lb1", Signal::SIGKILL)?;
    owns(lab, "lb2", "site-a")?;
    owns(lab, "lb2", "site-a-v6")?;
    for vip in VIPS {
        let answer = lab.inside("client", || visit(&trust, vip, "/healthz"))?;
        ensure!(answer.status == 200, "{vip}: {answer:?}");
    }
    let before = held.fewest_answers(&all);
    lab.up(&[])?;
    owns(lab, "lb1", "site-a")?;
    wait(Duration::from_secs(10), || {
        ensure!(
            held.fewest_answers(&all) >= before + 3,
            "held connections are not answered"
        );
        Ok(())
    })?;
    let fates = held.stop()?;
    let broken: Vec<&Fate> = fates.iter().filter(|fate| fate.broken.is_some()).collect();
    ensure!(broken.is_empty(), "connections broke: {broken:?}");
    Ok(format!(
        "its VIP went to the other balancer and came back, {} held connections untouched",
        fates.len()
    ))
}

pub(super) fn the_database_returns(lab: &Lab) -> Result<String> {
    const PATH: &str = "/api/articles";
    let trust = Trust::only(&lab.authority())?;
    let ask = |expected: u16| {
        for vip in VIPS {
            let answer = lab.inside("client", || visit(&trust, vip, PATH))?;
            ensure!(
                answer.status == expected,
                "{vip}: {answer:?} instead of {expected}"
            );
        }
        Ok(())
    };
    let apps = [lab.pid("app1")?, lab.pid("app2")?];
    wait(RECOVERY, || ask(200)).context("before")?;
    lab.end("db1", Signal::SIGTERM)?;
    let (_, noticed) = wait(Duration::from_secs(10), || ask(503)).context("without a database")?;
    let page = lab.inside("client", || visit(&trust, VIPS[0], "/"))?;
    ensure!(page.status == 200, "the pages go with the database: {page:?}");
    lab.up(&[]).context("start the database again")?;
    let (_, recovered) = wait(RECOVERY, || ask(200)).context("with the database again")?;
    let articles = lab.inside("client", || visit(&trust, VIPS[1], PATH))?;
    ensure!(
        articles.body.contains("packets-steered"),
        "the article is lost: {articles:?}"
    );
    ensure!(
        apps == [lab.pid("app1")?, lab.pid("app2")?],
        "an app server was started again"
    );
    Ok(format!(
        "both VIPs say 503 within {:.1} s, 200 again {:.1} s after `up` with the same app processes",
        noticed.as_secs_f32(),
        recovered.as_secs_f32()
    ))
}
