//! What users do: a command, a browser, many curls. They know the site's name and nothing behind it.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use foobar_tests::artifacts;
use foobar_tests::lab::browser::Browser;
use foobar_tests::lab::{Lab, SITE, VIPS, wait};

pub(super) fn commands_just_work(lab: &Lab) -> Result<String> {
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
        &["dig", "+noall", "+comments", "+answer", "+authority", SITE, "TXT"],
    )?;
    ensure!(
        none.contains("status: NOERROR") && none.contains("ANSWER: 0,"),
        "TXT: {none}"
    );
    ensure!(none.contains("SOA"), "a negative answer without its SOA: {none}");
    let other = lab.exec_ok("client", &["dig", "+noall", "+comments", "www.example.org", "A"])?;
    ensure!(other.contains("status: REFUSED"), "another zone: {other}");
    Ok("HTTPS trusted by the lab's authority alone, 308 from port 80, A rotates".to_owned())
}

pub(super) fn a_browser_publishes(lab: &Lab) -> Result<String> {
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
        "Written in a browser.\nRead from a database: grüße, Ωμέγα.",
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

pub(super) fn curls_are_spread(lab: &Lab) -> Result<String> {
    spread(lab, "-4", "192.0.2.10")
}

/// 200 curls by one family; `client` is the client's address as the access logs have it.
pub(super) fn spread(lab: &Lab, family: &str, client: &str) -> Result<String> {
    const PAGE: &str = "/?spread";
    let visit = format!(" {client} GET / ");
    let lines = |web| -> Result<usize> {
        let log = lab.directory().join(format!("logs/{web}-access.log"));
        let text = std::fs::read_to_string(&log).with_context(|| format!("read {}", log.display()))?;
        Ok(text.lines().filter(|line| line.contains(&visit)).count())
    };
    let before = [lines("web1")?, lines("web2")?];
    let script = format!(
        "seq 200 | xargs -P 50 -I N curl {family} -sS -o /dev/null -w '%{{http_code}} %{{local_port}}\\n' https://{SITE}{PAGE}"
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
