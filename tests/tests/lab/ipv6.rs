//! The same path by IPv6: names, pings, pages, and the spread over both web servers.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use foobar_tests::lab::{Lab, SITE, VIPS6};

use crate::visitors::spread;

pub(super) fn ipv6_works_throughout(lab: &Lab) -> Result<String> {
    let addresses: BTreeSet<String> = VIPS6.map(|vip| vip.to_string()).into();
    for server in ["@192.0.2.53", "@2001:db8:0:1::53"] {
        let answer = lab.exec_ok("client", &["dig", "+short", server, SITE, "AAAA"])?;
        let found: BTreeSet<String> = answer.lines().map(str::to_owned).collect();
        ensure!(found == addresses, "AAAA by {server} is {answer}");
    }
    for vip in &addresses {
        lab.exec_ok("client", &["ping", "-6", "-c", "2", "-W", "2", vip])?;
        let resolve = format!("{SITE}:443:[{vip}]");
        let url = format!("https://{SITE}/api/tags");
        let words = ["curl", "-6", "-sS", "--fail", "--resolve", &resolve, &url];
        let tags = lab.exec_ok("client", &words)?;
        ensure!(tags.contains("tags"), "by {vip}: {tags}");
    }
    let page = lab.exec_ok(
        "client",
        &["curl", "-6", "-sS", "--fail", &format!("https://{SITE}/")],
    )?;
    ensure!(page.contains("<title>"), "not the site: {page}");
    let asked = format!("http://{SITE}/x");
    let words = [
        "curl",
        "-6",
        "-sS",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        &asked,
    ];
    let told = lab.exec_ok("client", &words)?;
    ensure!(told == "308", "port 80 says {told}");
    spread(lab, "-6", "2001:db8:0:1::10")
}
