//! Balancers that have their VIPs from a key in etcd, each claim told as a story with the real etcd.

use std::fs;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use foobar_tests::etcd::{Access, Etcd};
use foobar_tests::lb::{Balancer, Config, VIP_NAME};
use foobar_tests::steady::{PORT, SERVICE};
use foobar_tests::streams::client::{Client, Load};
use foobar_tests::streams::server::Server;
use foobar_tests::vrrp::until;
use foobar_tests::world::{Backend, World, backend_address};
use serde_json::Value;

const BACKENDS: Backend = 2;
/// The host beside the backends that etcd is on.
const ETCD: Backend = 3;
const STREAMS: usize = 40;

fn world() -> Result<(World, Vec<Server>)> {
    let world = World::new(ETCD)?;
    let serve = |backend| Server::start(&world, backend, PORT);
    let servers = (1..=BACKENDS).map(serve).collect::<Result<_>>()?;
    Ok((world, servers))
}

fn copy(world: &World) -> PathBuf {
    world.directory().join("kept/lb.etcd.toml")
}

/// A balancer whose VIP is in etcd: its file, and with [`Config::shared`] the value.
fn config(world: &World, etcd: &Etcd<'_>, lines: &str) -> Config {
    Config {
        vip_lines: vec!["slots = 256"],
        check_lines: vec!["interval = \"300ms\"", "doubt_interval = \"100ms\""],
        etcd: Some(etcd.table(&copy(world), lines)),
        ..Config::new(PORT, 1..=BACKENDS, 7)
    }
}

/// The value with one backend only, which has this weight.
fn alone(config: &Config, weight: u16) -> String {
    let mut less = config.clone();
    less.backends.remove(&2);
    let line = format!("address = \"{}\"\nweight = ", backend_address(1));
    let shared = less.shared();
    let (before, _) = shared.split_once(&line).unwrap_or((&shared, ""));
    format!("{before}{line}{weight}\n")
}

fn hold(world: &World) -> Result<Client> {
    let client = Client::start(
        world,
        Load {
            held: STREAMS,
            short_rate: 5,
            gap: (Duration::from_millis(50), Duration::from_millis(300)),
            longest_gap: Duration::from_millis(500),
            ..Load::new(SERVICE, 5)
        },
    )?;
    client.wait_held(STREAMS, Duration::from_secs(20))?;
    Ok(client)
}

/// How many of the backends of a status are members and not on their way out.
fn members(status: &Value) -> usize {
    let backends = status["vips"][0]["backends"].as_array();
    let is_member = |backend: &&Value| backend["removed"] == false;
    backends.map_or(0, |backends| backends.iter().filter(is_member).count())
}

fn said(status: &Value, field: &str) -> String {
    status["etcd"][field].as_str().unwrap_or_default().to_owned()
}

fn is_in_force(revision: i64) -> impl Fn(&Value) -> bool {
    move |status| status["etcd"]["revision"] == revision && status["etcd"]["from_copy"] == false
}

/// Waits until the copy is of this revision; gives it whole.
fn wait_copy(world: &World, revision: i64) -> Result<String> {
    let file = copy(world);
    let text = || fs::read_to_string(&file).unwrap_or_default();
    until("the copy is written", || {
        let text = text();
        let head = text.lines().next().unwrap_or_default();
        Ok(head.ends_with(&format!("revision {revision}")))
    })?;
    Ok(text())
}

#[test]
fn a_balancer_has_its_vips_from_etcd_and_follows_a_change() -> Result<()> {
    let (world, _servers) = world()?;
    let etcd = Etcd::start(&world, ETCD, Access::Open)?;
    let config = config(&world, &etcd, "");
    let first = etcd.put(&config.shared())?;
    let mut balancer = Balancer::start(&world, &config)?;
    let status = balancer.wait("it is in force", is_in_force(first))?;
    ensure!(said(&status, "endpoint") == etcd.url(), "{status:#}");
    ensure!(
        members(&status) == 2 && status["last_reload_error"].is_null(),
        "{status:#}"
    );
    let text = balancer.status_text(&[])?;
    let told = format!("etcd     /foobar/lb  {}  revision {first} in force", etcd.url());
    ensure!(text.contains(&told), "{text}");
    let kept = wait_copy(&world, first)?;
    ensure!(kept.ends_with(&config.shared()), "{kept}");
    let mode = fs::metadata(copy(&world))?.permissions().mode();
    ensure!(mode & 0o777 == 0o600, "mode {mode:o}");

    let client = hold(&world)?;
    let second = etcd.put(&alone(&config, 100))?;
    let status = balancer.wait("the change is in force", is_in_force(second))?;
    ensure!(members(&status) == 1, "{status:#}");
    wait_copy(&world, second)?;

    // Without the key everything stays.
    etcd.delete()?;
    let status = balancer.wait("the key is missed", |status| status["etcd"]["missing"] == true)?;
    ensure!(
        is_in_force(second)(&status) && members(&status) == 1,
        "{status:#}"
    );
    ensure!(balancer.status_text(&[])?.contains("THE KEY IS NOT THERE"));
    wait_copy(&world, second)?;
    let third = etcd.put(&config.shared())?;
    let status = balancer.wait("it is there again", is_in_force(third))?;
    ensure!(
        members(&status) == 2 && status["etcd"]["missing"] == false,
        "{status:#}"
    );
    let report = client.stop()?;
    ensure!(report.failed() == 0 && report.corrupt_bytes == 0, "{report}");
    Ok(())
}

#[test]
fn a_bad_value_changes_nothing_and_is_shown() -> Result<()> {
    let (world, _servers) = world()?;
    let etcd = Etcd::start(&world, ETCD, Access::Open)?;
    let config = config(&world, &etcd, "");
    let good = etcd.put(&config.shared())?;
    let mut balancer = Balancer::start(&world, &config)?;
    let refused = |revision: i64| move |status: &Value| status["etcd"]["refused_revision"] == revision;

    let bad = etcd.put(&config.shared().replace("port = 7000", "port = 0"))?;
    let status = balancer.wait("it is refused", refused(bad))?;
    let why = said(&status, "refused");
    ensure!(
        why.contains("etcd key /foobar/lb:4:") && why.contains("port is out of range"),
        "{why}"
    );
    ensure!(is_in_force(good)(&status) && members(&status) == 2, "{status:#}");
    let text = balancer.status_text(&[])?;
    ensure!(text.contains(&format!("REVISION {bad} REFUSED")), "{text}");
    wait_copy(&world, good)?;

    // One that the file has already, and one that is a machine's own.
    let more = etcd.put(&format!(
        "interface = \"eth9\"\n[limits]\ntargets = 512\n{}",
        alone(&config, 100)
    ))?;
    let status = balancer.wait("it is refused", refused(more))?;
    let why = said(&status, "refused");
    for part in [
        "`interface` is a machine's own",
        "`limits` is here and in ",
        "lb.toml",
    ] {
        ensure!(why.contains(part), "{part} is not told: {why}");
    }
    ensure!(is_in_force(good)(&status) && members(&status) == 2, "{status:#}");

    // A value that is bad because of the file is good once the file is.
    let shared = config.shared().replace("owned = true", "vrrp = \"a\"");
    let early = etcd.put(&shared)?;
    let status = balancer.wait("it is refused", refused(early))?;
    ensure!(
        said(&status, "refused").contains("there is no [[vrrp]] named \"a\""),
        "{status:#}"
    );
    let mut grouped = config.clone();
    let group = "[[vrrp]]\nname = \"a\"\nrouter_id = 51\n";
    grouped.etcd = Some(etcd.table(&copy(&world), group));
    balancer.reload(&grouped)?;
    let status = balancer.wait("it is in force", is_in_force(early))?;
    ensure!(
        status["etcd"]["refused"].is_null() && status["vrrp"][0]["name"] == "a",
        "{status:#}"
    );

    // The file cannot go back under it.
    balancer.reload(&config)?;
    let status = balancer.wait("the file is refused", |status| {
        !status["last_reload_error"].is_null()
    })?;
    ensure!(
        is_in_force(early)(&status) && status["vrrp"][0]["name"] == "a",
        "{status:#}"
    );
    let last = etcd.put(&config.shared())?;
    let status = balancer.wait("a value that goes with it", is_in_force(last))?;
    ensure!(
        status["last_reload_error"].is_null() && members(&status) == 2,
        "{status:#}"
    );
    Ok(())
}

#[test]
fn etcd_dies_and_returns_and_nobody_notices() -> Result<()> {
    let (world, _servers) = world()?;
    let mut etcd = Etcd::start(&world, ETCD, Access::Open)?;
    let config = config(&world, &etcd, "");
    let first = etcd.put(&config.shared())?;
    let mut balancer = Balancer::start(&world, &config)?;
    balancer.wait("it is in force", is_in_force(first))?;
    let client = hold(&world)?;

    etcd.kill()?;
    let status = balancer.wait("etcd is missed", |status| status["etcd"]["endpoint"].is_null())?;
    ensure!(said(&status, "trouble").contains(etcd.url()), "{status:#}");
    ensure!(balancer.status_text(&[])?.contains("NOT CONNECTED"));
    let before = client.report().exchanges;
    until("streams go on", || Ok(client.report().exchanges > before + 200))?;
    let status = balancer.status()?;
    ensure!(is_in_force(first)(&status) && members(&status) == 2, "{status:#}");

    // What is changed before it is heard of is found, even where the way there is compacted.
    etcd.run()?;
    etcd.put("nonsense")?;
    let second = etcd.put(&alone(&config, 100))?;
    etcd.compact(second)?;
    let status = balancer.wait("the change arrives", is_in_force(second))?;
    ensure!(
        members(&status) == 1 && said(&status, "endpoint") == etcd.url(),
        "{status:#}"
    );
    ensure!(
        status["etcd"]["trouble"].is_null() && status["etcd"]["refused"].is_null(),
        "{status:#}"
    );

    // One that is there but says nothing is given up, and heard again.
    etcd.freeze()?;
    let status = balancer.wait("its silence is noticed", |status| {
        status["etcd"]["endpoint"].is_null()
    })?;
    ensure!(is_in_force(second)(&status), "{status:#}");
    etcd.thaw()?;
    let third = etcd.put(&config.shared())?;
    let status = balancer.wait("the next change arrives", is_in_force(third))?;
    ensure!(members(&status) == 2, "{status:#}");
    let report = client.stop()?;
    ensure!(report.failed() == 0 && report.corrupt_bytes == 0, "{report}");
    Ok(())
}

#[test]
fn without_etcd_a_daemon_serves_from_its_copy_and_without_that_it_does_not_run() -> Result<()> {
    let (world, _servers) = world()?;
    let mut etcd = Etcd::start(&world, ETCD, Access::Open)?;
    let config = config(&world, &etcd, "");
    let mut balancer = Balancer::prepare(&world, &config)?;
    let refused = balancer.refusal(&[])?;
    for part in ["nothing to serve", "etcd has no key /foobar/lb"] {
        ensure!(refused.contains(part), "{part} is not told: {refused}");
    }
    let first = etcd.put(&config.shared())?;
    balancer.run()?;
    balancer.wait("it is in force", is_in_force(first))?;
    balancer.wait_owners(&config)?;
    wait_copy(&world, first)?;
    let client = hold(&world)?;

    etcd.kill()?;
    balancer.kill()?;
    balancer.run()?;
    let status = balancer.wait("the copy is served", |status| status["etcd"]["from_copy"] == true)?;
    ensure!(
        status["etcd"]["revision"] == first && members(&status) == 2,
        "{status:#}"
    );
    ensure!(balancer.status_text(&[])?.contains("FROM THE COPY"));
    // As the operator's check sees it.
    let checked = foobar_tests::etcd::check(balancer.config_file(), None)?;
    ensure!(
        checked.contains("with etcd's value in") && checked.contains(VIP_NAME),
        "{checked}"
    );

    // etcd's word is newer than the copy.
    etcd.run()?;
    balancer.wait("etcd confirms it", is_in_force(first))?;
    let second = etcd.put(&alone(&config, 100))?;
    let status = balancer.wait("the change arrives", is_in_force(second))?;
    ensure!(members(&status) == 1, "{status:#}");
    wait_copy(&world, second)?;

    // Neither etcd nor copy: the daemon leaves the data plane as it is.
    etcd.kill()?;
    balancer.stop()?;
    fs::remove_file(copy(&world))?;
    let refused = balancer.refusal(&[])?;
    ensure!(
        refused.contains("nothing to serve") && refused.contains(etcd.url()),
        "{refused}"
    );
    let before = client.report().exchanges;
    until("streams go on", || Ok(client.report().exchanges > before + 200))?;
    let report = client.stop()?;
    ensure!(report.failed() == 0 && report.corrupt_bytes == 0, "{report}");
    Ok(())
}

#[test]
fn a_value_can_be_checked_before_it_is_put() -> Result<()> {
    let (world, _servers) = world()?;
    let etcd = Etcd::start(&world, ETCD, Access::Open)?;
    let config = config(&world, &etcd, "");
    let balancer = Balancer::prepare(&world, &config)?;
    let file = world.directory().join("fleet.toml");
    let check = |text: &str| -> Result<String> {
        fs::write(&file, text)?;
        foobar_tests::etcd::check(balancer.config_file(), Some(&file))
    };
    let said = check(&config.shared())?;
    ensure!(
        said.contains("valid; 1 VIPs") && said.contains("2 backends"),
        "{said}"
    );
    let said = format!("{:#}", check("interface = \"eth9\"\n").expect_err("refused"));
    ensure!(
        said.contains("fleet.toml:1:1") && said.contains("a machine's own"),
        "{said}"
    );
    let said = foobar_tests::etcd::check(balancer.config_file(), None)?;
    ensure!(said.contains("WITHOUT etcd's value"), "{said}");
    Ok(())
}

#[test]
fn certificates_on_both_sides_and_a_password_are_enough_and_needed() -> Result<()> {
    const PASSWORD: &str = "c0rrect horse";
    let (world, _servers) = world()?;
    let etcd = Etcd::start(&world, ETCD, Access::Closed)?;
    let password = world.directory().join("etcd.password");
    let lines = format!("username = \"balancer\"\npassword_file = {password:?}");
    let config = config(&world, &etcd, &lines);
    let first = etcd.put(&config.shared())?;
    etcd.require_login("balancer", PASSWORD)?;

    let mut balancer = Balancer::prepare(&world, &config)?;
    let refused = |text: &str, mode: u32| -> Result<String> {
        write(&password, text, mode)?;
        balancer.refusal(&[])
    };
    let said = refused("wrong\n", 0o600)?;
    ensure!(said.contains("authentication failed"), "{said}");
    let said = refused(&format!("{PASSWORD}\n"), 0o644)?;
    ensure!(said.contains("others can read or write it"), "{said}");
    write(&password, &format!("{PASSWORD}\n"), 0o600)?;
    balancer.run()?;
    balancer.wait("it is in force", is_in_force(first))?;
    balancer.wait_owners(&config)?;
    let (log, text) = (balancer.log()?, balancer.status_text(&["--json"])?);
    ensure!(
        !log.contains(PASSWORD) && !text.contains(PASSWORD),
        "the password is told"
    );
    balancer.stop()?;

    // A certificate of somebody else, and none.
    let without = config.etcd.clone().unwrap_or_default();
    let is_identity = |line: &&str| line.starts_with("certificate") || line.starts_with("private_key");
    let lines: Vec<&str> = without.lines().filter(|line| !is_identity(line)).collect();
    let anonymous = Config {
        etcd: Some(lines.join("\n")),
        ..config.clone()
    };
    fs::remove_file(copy(&world))?;
    balancer.configure(&anonymous)?;
    let said = balancer.refusal(&[])?;
    ensure!(
        said.contains("nothing to serve") && said.to_lowercase().contains("certificate"),
        "{said}"
    );
    Ok(())
}

fn write(file: &Path, text: &str, mode: u32) -> Result<()> {
    // One that was there has its mode.
    let _ = fs::remove_file(file);
    let mut options = fs::File::options();
    let mut file = options.write(true).create_new(true).mode(mode).open(file)?;
    Ok(std::io::Write::write_all(&mut file, text.as_bytes())?)
}

/// Of three members: one that is followed dies, or still answers and hears nothing of the others. A change that the
/// rest has taken comes all the same.
#[test]
fn a_lost_leader_and_a_member_that_is_cut_off_are_left_for_another_member() -> Result<()> {
    let world = World::new(ETCD + 2)?;
    let serve = |backend| Server::start(&world, backend, PORT);
    let _servers: Vec<_> = (1..=BACKENDS).map(serve).collect::<Result<_>>()?;
    let mut etcd = Etcd::start_members(&world, ETCD..ETCD + 3, Access::Open)?;
    let config = config(&world, &etcd, "");
    let first = etcd.put(&config.shared())?;
    let mut balancer = Balancer::start(&world, &config)?;
    balancer.wait("it is in force", is_in_force(first))?;
    let client = hold(&world)?;

    let dead = etcd.kill_leader()?;
    let second = etcd.put(&alone(&config, 100))?;
    let status = balancer.wait("the change is in force", is_in_force(second))?;
    ensure!(
        members(&status) == 1 && said(&status, "endpoint") != dead,
        "{status:#}"
    );

    // Back to three, or without a further one nobody would lead.
    etcd.kill()?;
    etcd.run()?;
    let is_followed = |status: &Value| !said(status, "endpoint").is_empty();
    let status = balancer.wait("etcd is followed again", is_followed)?;
    let lonely = said(&status, "endpoint");
    etcd.cut_off(&lonely)?;
    let third = etcd.put(&config.shared())?;
    let status = balancer.wait("the change is in force", is_in_force(third))?;
    ensure!(
        members(&status) == 2 && said(&status, "endpoint") != lonely,
        "{status:#}"
    );
    let report = client.stop()?;
    ensure!(report.failed() == 0 && report.corrupt_bytes == 0, "{report}");
    Ok(())
}
