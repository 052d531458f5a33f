//! The whole path end to end: what `cargo xtask up` starts, used by a browser, by curls, and by an operator who
//! breaks things.
//!
//! One lab serves all stages, in order. Each says what it claims and how long it took; one that fails does not
//! keep the others from running, and the lab goes in any case.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use foobar_tests::artifacts;
use foobar_tests::lab::browser::Browser;
use foobar_tests::lab::held::{Fate, Held};
use foobar_tests::lab::https::{Answer, Connection, Trust};
use foobar_tests::lab::{Lab, SITE, VIPS, traces, wait};
use foobar_tests::netns::run_command;
use nix::sys::signal::Signal;
use serde_json::Value;

/// Bounds the time from a server's death until no new connection is sent to it: three checks missed, twice.
const DETECTION: Duration = Duration::from_secs(10);
/// Bounds the time from the database's return until the site writes and reads again.
const RECOVERY: Duration = Duration::from_secs(20);

type Stage = (&'static str, fn(&Lab) -> Result<String>);

const STAGES: [Stage; 9] = [
    ("a command on the client just works", commands_just_work),
    ("a browser signs up and publishes an article", a_browser_publishes),
    (
        "200 parallel curls are spread over both web servers",
        curls_are_spread,
    ),
    ("nothing on the edge reaches app or database", tiers_are_isolated),
    ("status and maps are readable", operators_can_read),
    (
        "a killed web server is left out, the other's connections stay",
        a_web_server_dies,
    ),
    ("the database goes and comes back", the_database_returns),
    (
        "the lab grows and shrinks without breaking a connection",
        the_lab_is_scaled,
    ),
    ("down leaves nothing behind", nothing_is_left),
];

#[test]
fn the_whole_path() -> Result<()> {
    let start = Instant::now();
    let lab = Lab::start().context("the lab does not start")?;
    println!(
        "the lab {} is up after {:.1} s",
        lab.run(),
        start.elapsed().as_secs_f32()
    );
    let mut failed = Vec::new();
    for (name, stage) in STAGES {
        let start = Instant::now();
        let result = stage(&lab);
        let took = start.elapsed().as_secs_f32();
        match result {
            Ok(report) => println!("ok     {name} ({took:.1} s): {report}"),
            Err(error) => {
                println!("FAILED {name} ({took:.1} s): {error:#}");
                failed.push(name);
            }
        }
    }
    assert!(failed.is_empty(), "failed: {failed:#?}");
    Ok(())
}

fn commands_just_work(lab: &Lab) -> Result<String> {
    let page = lab.exec_ok("client", &["curl", "-sS", "--fail", &format!("https://{SITE}/")])?;
    ensure!(
        page.contains("<title>") && page.contains("foobar"),
        "not the site: {page}"
    );
    // The authority is what makes it work: without it the same command must fail.
    let words = [
        "env",
        "-u",
        "CURL_CA_BUNDLE",
        "-u",
        "SSL_CERT_FILE",
        "curl",
        "-sS",
        "-o",
        "/dev/null",
    ];
    let url = format!("https://{SITE}/");
    let distrusted = lab.exec("client", &[&words[..], &[url.as_str()]].concat())?;
    ensure!(
        distrusted.status.code() == Some(60),
        "trusted by everybody: {distrusted:?}"
    );

    let asked = format!("http://{SITE}/some/page?x=1");
    let told = lab.exec_ok(
        "client",
        &[
            "curl",
            "-sS",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code} %{redirect_url}",
            &asked,
        ],
    )?;
    ensure!(
        told == format!("308 https://{SITE}/some/page?x=1"),
        "port 80 says {told}"
    );

    let first = |_| -> Result<String> {
        let answer = lab.exec_ok("client", &["dig", "+short", SITE, "A"])?;
        let addresses: BTreeSet<String> = answer.lines().map(str::to_owned).collect();
        ensure!(
            addresses == VIPS.map(|vip| vip.to_string()).into(),
            "A is {answer}"
        );
        Ok(answer.lines().next().unwrap_or_default().to_owned())
    };
    let firsts = (0..4).map(first).collect::<Result<BTreeSet<_>>>()?;
    ensure!(firsts.len() == 2, "{firsts:?} always comes first");
    let none = lab.exec_ok(
        "client",
        &[
            "dig",
            "+noall",
            "+comments",
            "+answer",
            "+authority",
            SITE,
            "AAAA",
        ],
    )?;
    ensure!(
        none.contains("status: NOERROR") && none.contains("ANSWER: 0,"),
        "AAAA: {none}"
    );
    ensure!(none.contains("SOA"), "a negative answer without its SOA: {none}");
    let other = lab.exec_ok("client", &["dig", "+noall", "+comments", "www.example.org", "A"])?;
    ensure!(other.contains("status: REFUSED"), "another zone: {other}");
    Ok("HTTPS trusted by the lab's authority alone, 308 from port 80, A rotates".to_owned())
}

fn a_browser_publishes(lab: &Lab) -> Result<String> {
    let browser = Browser::start(lab)?;
    browser.open(&format!("https://{SITE}/"))?;
    browser.click("signup")?;
    browser.enter("signup-username", "ada")?;
    browser.enter("signup-email", "ada@example.org")?;
    browser.enter("signup-password", "correct horse battery")?;
    browser.click("signup-submit")?;
    let user = browser.text("current-user")?;
    ensure!(user == "ada", "logged in as {user:?}");

    let (title, body) = (
        "Packets, steered",
        "Written in a browser.\nRead from a database: grüße, 你好.",
    );
    browser.click("new-article")?;
    browser.enter("article-title", title)?;
    browser.enter("article-description", "What a balancer does all day")?;
    browser.enter("article-body", body)?;
    browser.enter("article-tags", "xdp, lab")?;
    browser.click("article-publish")?;
    let heading = browser.text("article-heading")?;
    ensure!(heading == title, "the heading is {heading:?}");
    let text = browser.text("article-text")?;
    ensure!(text == body, "the text is {text:?}");
    let url = browser.url()?;
    let slug = url
        .strip_prefix(&format!("https://{SITE}/#/article/"))
        .with_context(|| format!("the article is at {url}"))?;
    let file = artifacts::target_directory()?.join("e2e/article.png");
    browser.screenshot(&file)?;
    let image = std::fs::read(&file)?;
    ensure!(
        image.starts_with(b"\x89PNG") && image.len() > 5000,
        "{} bytes of screenshot",
        image.len()
    );

    let row = lab.query(&format!(
        "SELECT u.username, u.email, a.title, a.description, HEX(a.body), \
         (SELECT GROUP_CONCAT(tag ORDER BY position) FROM article_tags WHERE article_id = a.id) \
         FROM articles a JOIN users u ON u.id = a.author_id WHERE a.slug = '{slug}'"
    ))?;
    let hex: String = body.bytes().map(|byte| format!("{byte:02X}")).collect();
    let expected = format!("ada\tada@example.org\t{title}\tWhat a balancer does all day\t{hex}\txdp,lab");
    ensure!(row == expected, "the row is {row:?}");
    Ok(format!("row of {slug} in the database, {} kept", file.display()))
}

fn curls_are_spread(lab: &Lab) -> Result<String> {
    const PAGE: &str = "/?spread";
    let lines = |web| -> Result<usize> {
        let log = lab.directory().join(format!("logs/{web}-access.log"));
        let text = std::fs::read_to_string(&log).with_context(|| format!("read {}", log.display()))?;
        Ok(text
            .lines()
            .filter(|line| line.contains(" 192.0.2.10 GET / "))
            .count())
    };
    let before = [lines("web1")?, lines("web2")?];
    let script = format!(
        "seq 200 | xargs -P 50 -I N curl -sS -o /dev/null -w '%{{http_code}} %{{local_port}}\\n' https://{SITE}{PAGE}"
    );
    let said = lab.exec_ok("client", &["sh", "-c", &script])?;
    let good = said.lines().filter(|line| line.starts_with("200 ")).count();
    let ports: BTreeSet<&str> = said.lines().collect();
    ensure!(good == 200, "{good} of 200 were answered with 200: {said}");
    ensure!(ports.len() > 150, "only {} source ports", ports.len());
    let counted = wait(Duration::from_secs(10), || {
        let now = [lines("web1")? - before[0], lines("web2")? - before[1]];
        ensure!(now[0] + now[1] == 200, "the access logs have {now:?}");
        Ok(now)
    });
    let (shares, _) = counted?;
    ensure!(
        shares.iter().all(|&share| share >= 40),
        "shares {shares:?} of 200"
    );
    Ok(format!("web1 {}, web2 {} of 200", shares[0], shares[1]))
}

fn tiers_are_isolated(lab: &Lab) -> Result<String> {
    let app = SocketAddr::from((Ipv4Addr::new(198, 51, 100, 31), 8000));
    let database = SocketAddr::from((Ipv4Addr::new(203, 0, 113, 41), 3306));
    // A web server's own inner address, where its port 443 listens too.
    let inner = SocketAddr::from((Ipv4Addr::new(198, 51, 100, 21), 443));
    let edge = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 21), 443));
    let probe = |host: &str, to: SocketAddr| {
        lab.inside(host, || {
            Ok(TcpStream::connect_timeout(&to, Duration::from_millis(1500)).map(drop))
        })
    };
    // The same probe where it must succeed: it is able to.
    for (host, to) in [
        ("web1", app),
        ("app1", database),
        ("web1", inner),
        ("client", edge),
    ] {
        probe(host, to)?.with_context(|| format!("control: {host} does not reach {to}"))?;
    }
    let mut tried = 0;
    for host in ["client", "dns1", "lb1"] {
        let namespace = lab.namespace(host);
        let route = |word: &str, network: &str, gateway: &str| {
            run_command(Command::new("ip").args(["-n", &namespace, "route", word, network, "via", gateway]))
        };
        for gateway in [None, Some("192.0.2.21"), Some("192.0.2.22")] {
            for network in ["198.51.100.0/24", "203.0.113.0/24"] {
                gateway
                    .map(|gateway| route("replace", network, gateway))
                    .transpose()?;
            }
            for to in [app, database, inner] {
                match (probe(host, to)?, gateway) {
                    (Ok(()), _) => bail!("{host} reaches {to} via {gateway:?}"),
                    // Sent, and not answered: with a route nothing shorter than that proves a filter.
                    (Err(error), Some(_)) => ensure!(
                        matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::HostUnreachable),
                        "{host} to {to} via {gateway:?}: {error}"
                    ),
                    (Err(_), None) => {}
                }
                tried += 1;
            }
        }
        for network in ["198.51.100.0/24", "203.0.113.0/24"] {
            route("del", network, "192.0.2.22")?;
        }
    }
    Ok(format!(
        "{tried} attempts from client, dns1 and lb1, none got through; 4 controls did"
    ))
}

fn operators_can_read(lab: &Lab) -> Result<String> {
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

/// Opens a connection from the client, asks once and leaves.
fn visit(trust: &Trust, vip: Ipv4Addr, path: &str) -> Result<Answer> {
    Connection::open(trust, SocketAddr::from((vip, 443)))?.get(path)
}

fn a_web_server_dies(lab: &Lab) -> Result<String> {
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

fn the_database_returns(lab: &Lab) -> Result<String> {
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
        "503 after {:.1} s, 200 {:.1} s after `up` with the same app processes",
        noticed.as_secs_f32(),
        recovered.as_secs_f32()
    ))
}

fn the_lab_is_scaled(lab: &Lab) -> Result<String> {
    let trust = Trust::only(&lab.authority())?;
    let held = Held::start(lab, &trust, 12, "/api/tags")?;
    let (stop, visits) = (AtomicBool::new(false), AtomicU64::new(0));
    let broken = std::thread::scope(|scope| -> Result<Vec<String>> {
        let visitor = scope.spawn(|| {
            lab.inside("client", || {
                let mut broken = Vec::new();
                while !stop.load(Ordering::Relaxed) {
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
    ensure!(visits > 100, "only {visits} visits");
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

fn nothing_is_left(lab: &Lab) -> Result<String> {
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
