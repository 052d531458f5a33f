//! The zone as a caching resolver sees it: unbound on the client's host, with everything on that it checks.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use foobar_tests::lab::{Lab, SITE, VIPS, wait};

const LISTEN: &str = "127.0.0.1";
const PORT: &str = "5353";
const NAME_SERVER: &str = "192.0.2.53";

/// A resolver, for as long as the value is not dropped.
struct Resolver(Child);

impl Drop for Resolver {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The zone is asked for at its own server. Names are asked for in random case, and answers in another case, or with
/// addresses that belong elsewhere, are not believed.
fn configuration() -> String {
    format!(
        "server:\n  interface: {LISTEN}\n  port: {PORT}\n  username: \"\"\n  chroot: \"\"\n  pidfile: \"\"\n  directory: \"/\"\n\
         \x20 use-syslog: no\n  logfile: \"\"\n  do-daemonize: no\n  num-threads: 1\n  root-hints: \"\"\n\
         \x20 module-config: \"iterator\"\n  qname-minimisation: yes\n  use-caps-for-id: yes\n  harden-glue: yes\n\
         \x20 harden-below-nxdomain: yes\n  access-control: 127.0.0.0/8 allow\n  serve-expired: no\n\
         \x20 aggressive-nsec: no\n\
         stub-zone:\n  name: \"{SITE}\"\n  stub-addr: {NAME_SERVER}\n  stub-no-cache: no\n\
         remote-control:\n  control-enable: no\n"
    )
}

fn start(lab: &Lab, file: &Path) -> Result<Resolver> {
    fs::write(file, configuration())?;
    let log = fs::File::create(file.with_extension("log"))?;
    let child = lab.inside("client", || {
        Command::new("unbound")
            .args(["-d", "-c"])
            .arg(file)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("unbound")
    })?;
    Ok(Resolver(child))
}

fn ask(lab: &Lab, words: &[&str]) -> Result<String> {
    let server = format!("@{LISTEN}");
    let fixed = ["dig", &server, "-p", PORT, "+time=2", "+tries=1"];
    lab.exec_ok("client", &[&fixed[..], words].concat())
}

pub(super) fn a_resolver_believes_the_zone(lab: &Lab) -> Result<String> {
    let file = lab.directory().join("configs/unbound.conf");
    let _resolver = start(lab, &file)?;
    let (_, took) = wait(Duration::from_secs(10), || {
        let said = ask(lab, &["+short", SITE, "A"])?;
        ensure!(said.lines().count() == VIPS.len(), "{said}");
        Ok(())
    })
    .with_context(|| fs::read_to_string(file.with_extension("log")).unwrap_or_default())?;
    let mut addresses: Vec<String> = ask(lab, &["+short", SITE, "A"])?
        .lines()
        .map(str::to_owned)
        .collect();
    addresses.sort_unstable();
    ensure!(addresses == VIPS.map(|vip| vip.to_string()), "{addresses:?}");
    let six = ask(lab, &["+short", SITE, "AAAA"])?;
    ensure!(six.lines().count() == 2, "AAAA: {six}");
    // What is not there is not there, for the time that the zone's SOA says.
    let none = ask(
        lab,
        &[
            "+noall",
            "+comments",
            "+authority",
            &format!("nobody.{SITE}"),
            "A",
        ],
    )?;
    ensure!(
        none.contains("status: NXDOMAIN") && none.contains("SOA"),
        "a name that is not there: {none}"
    );
    let negative = ask(lab, &["+noall", "+comments", "+authority", SITE, "MX"])?;
    ensure!(
        negative.contains("status: NOERROR") && negative.contains("SOA"),
        "a type that is not there: {negative}"
    );
    // Cached answers grow old: no more than the zone's ten seconds.
    let answer = ask(lab, &["+noall", "+answer", SITE, "A"])?;
    let ttls: Vec<u32> = answer
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1)?.parse().ok())
        .collect();
    ensure!(ttls.len() == 2 && ttls.iter().all(|ttl| *ttl <= 10), "{answer}");
    Ok(format!(
        "unbound resolves after {:.1} s, both families, and negatively",
        took.as_secs_f32()
    ))
}
