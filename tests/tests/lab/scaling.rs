//! A lab that gets other numbers of servers while it is used.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use foobar_tests::lab::held::{Fate, Held};
use foobar_tests::lab::https::Trust;
use foobar_tests::lab::{Lab, VIPS, wait};

use crate::failures::visit;

/// Visits that are made at least, however fast the lab is scaled and however slow the machine is.
const ENOUGH: u64 = 200;

pub(super) fn the_lab_is_scaled(lab: &Lab) -> Result<String> {
    let trust = Trust::only(&lab.authority())?;
    let held = Held::start(lab, &trust, 12, "/api/tags")?;
    let (stop, visits) = (AtomicBool::new(false), AtomicU64::new(0));
    let broken = std::thread::scope(|scope| -> Result<Vec<String>> {
        let visitor = scope.spawn(|| {
            lab.inside("client", || {
                let mut broken = Vec::new();
                while !stop.load(Ordering::Relaxed) || visits.load(Ordering::Relaxed) < ENOUGH {
                    let number = visits.fetch_add(1, Ordering::Relaxed) as usize;
                    match visit(&trust, VIPS[number % 2], "/api/articles") {
                        Ok(answer) if answer.status == 200 => {}
                        other => broken.push(format!("{other:?}")),
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
                Ok(broken)
            })
        });
        let scaled = scale(lab);
        stop.store(true, Ordering::Relaxed);
        let broken = visitor
            .join()
            .map_err(|_| anyhow::anyhow!("the visitor panicked"))?;
        scaled?;
        broken
    })?;
    let fates = held.stop()?;
    let ended: Vec<&Fate> = fates.iter().filter(|fate| fate.broken.is_some()).collect();
    ensure!(ended.is_empty(), "held connections: {ended:?}");
    ensure!(
        fates.iter().all(|fate| fate.answers > 10),
        "hardly asked: {fates:?}"
    );
    ensure!(broken.is_empty(), "{} visits failed: {broken:?}", broken.len());
    let answers: u64 = fates.iter().map(|fate| fate.answers).sum();
    let visits = visits.into_inner();
    Ok(format!(
        "0 of {visits} visits and 0 of {} held connections ({answers} answers) broken",
        fates.len()
    ))
}

/// Grows both tiers to three and shrinks them again, once the new servers have served somebody.
fn scale(lab: &Lab) -> Result<()> {
    lab.up(&["--web", "3", "--app", "3"])?;
    let log = lab.directory().join("logs/web3-access.log");
    wait(Duration::from_secs(20), || {
        let text = std::fs::read_to_string(&log)?;
        let served = text.lines().filter(|line| line.contains(" 192.0.2.10 GET /api/"));
        ensure!(served.clone().count() > 0, "web3 serves nobody");
        ensure!(
            served.clone().any(|line| line.contains("198.51.100.33:8000")),
            "nobody asks app3"
        );
        Ok(())
    })?;
    lab.up(&["--web", "2", "--app", "2", "--drain", "30"])?;
    let status = lab.status()?;
    ensure!(
        status["web"] == 2 && status["app"] == 2 && status["healthy"] == true,
        "{status}"
    );
    for host in ["web3", "app3"] {
        ensure!(lab.pid(host).is_err(), "{host} is still there");
    }
    Ok(())
}
