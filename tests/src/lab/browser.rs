//! A headless Chromium on the lab's client, driven by WebDriver (W3C, webdriver 1) over plain HTTP.
//!
//! It is a user's browser: a fresh profile and home directory, the lab's name server, and the lab's authority in
//! the home's certificate store as the one thing that is told to it. chromedriver listens on the client's own
//! loopback, so each request is made by a thread inside the client's namespace.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::{Lab, wait};
use crate::netns::{inside, run_command};

const PORT: u16 = 9515;
/// How long the browser may take to start, and a page to show an element.
const PATIENCE: Duration = Duration::from_secs(30);
/// How WebDriver's answers name an element (section 12.1).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with one window.
#[derive(Debug)]
pub struct Browser {
    namespace: String,
    home: PathBuf,
    driver: Child,
    session: String,
}

impl Browser {
    /// Starts a browser that trusts the lab, with an empty profile.
    pub fn start(lab: &Lab) -> Result<Self> {
        let namespace = lab.namespace("client");
        let home = lab.directory().join("browser");
        trust(&home, &lab.authority())?;
        let log = std::fs::File::create(lab.directory().join("logs/chromedriver.log"))?;
        let mut command = Command::new("ip");
        command.args([
            "netns",
            "exec",
            &namespace,
            "chromedriver",
            &format!("--port={PORT}"),
        ]);
        for proxy in [
            "http_proxy",
            "https_proxy",
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "ALL_PROXY",
            "all_proxy",
        ] {
            command.env_remove(proxy);
        }
        let driver = command
            .env("HOME", &home)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start chromedriver")?;
        let mut browser = Self {
            namespace,
            home,
            driver,
            session: String::new(),
        };
        wait(PATIENCE, || browser.request("GET", "/status", None)).context("chromedriver is not ready")?;
        let profile = format!("--user-data-dir={}", browser.home.join("profile").display());
        let arguments = [
            "--headless=new",
            // The browser's own sandbox does not run as root, and this whole host is a sandbox.
            "--no-sandbox",
            &profile,
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1200,900",
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "acceptInsecureCerts": false,
            "goog:chromeOptions": { "args": arguments },
        } } });
        let answer = browser.request("POST", "/session", Some(&wanted))?;
        browser.session = answer["sessionId"]
            .as_str()
            .context("a session without an id")?
            .to_owned();
        Ok(browser)
    }

    /// Opens an address, as typed.
    pub fn open(&self, url: &str) -> Result<()> {
        self.command("POST", "/url", Some(&json!({ "url": url })))
            .map(drop)
    }

    /// The address of what is shown.
    pub fn url(&self) -> Result<String> {
        Ok(self
            .command("GET", "/url", None)?
            .as_str()
            .unwrap_or_default()
            .to_owned())
    }

    /// Clicks on an element, once it is there.
    pub fn click(&self, id: &str) -> Result<()> {
        self.on(id, |element| {
            self.command("POST", &format!("/element/{element}/click"), Some(&json!({})))
        })
        .map(drop)
    }

    /// Types into an element, once it is there.
    pub fn enter(&self, id: &str, text: &str) -> Result<()> {
        let typed = json!({ "text": text });
        self.on(id, |element| {
            self.command("POST", &format!("/element/{element}/value"), Some(&typed))
        })
        .map(drop)
    }

    /// An element's visible text, once it is there and has some.
    pub fn text(&self, id: &str) -> Result<String> {
        self.on(id, |element| {
            let text = self.command("GET", &format!("/element/{element}/text"), None)?;
            let text = text.as_str().unwrap_or_default();
            ensure!(!text.is_empty(), "#{id} is empty");
            Ok(text.to_owned())
        })
    }

    /// The window as a PNG file.
    pub fn screenshot(&self, file: &Path) -> Result<()> {
        let answer = self.command("GET", "/screenshot", None)?;
        let image = base64(answer.as_str().context("no screenshot")?)?;
        if let Some(directory) = file.parent() {
            std::fs::create_dir_all(directory)?;
        }
        std::fs::write(file, image).with_context(|| format!("write {}", file.display()))
    }

    /// Finds an element and does something with it, again and again until that succeeds: pages are drawn late and
    /// redrawn.
    fn on<T>(&self, id: &str, act: impl Fn(&str) -> Result<T>) -> Result<T> {
        let find = json!({ "using": "css selector", "value": format!("#{id}") });
        let tried = wait(PATIENCE, || {
            let found = self.command("POST", "/element", Some(&find))?;
            act(found[ELEMENT].as_str().context("an element without an id")?)
        });
        match tried {
            Ok((result, _)) => Ok(result),
            Err(error) => {
                let shown = self.command("GET", "/source", None).unwrap_or_default();
                Err(error.context(format!("#{id} on {}:\n{shown}", self.url().unwrap_or_default())))
            }
        }
    }

    fn command(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        self.request(method, &format!("/session/{}{path}", self.session), body)
    }

    fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let body = body.map(ToString::to_string).unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost:{PORT}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let (status, answer) = inside(&self.namespace, || exchange(&request))?;
        let answer: Value = serde_json::from_slice(&answer).context("WebDriver's answer is not JSON")?;
        let value = &answer["value"];
        if status != 200 {
            bail!("{method} {path}: {}: {}", value["error"], value["message"]);
        }
        Ok(value.clone())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            // A browser that is gone already is as good.
            let _ = self.command("DELETE", "", None);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Makes a home directory whose certificate store trusts an authority for servers.
fn trust(home: &Path, authority: &Path) -> Result<()> {
    let store = home.join(".pki/nssdb");
    std::fs::create_dir_all(&store).with_context(|| format!("make {}", store.display()))?;
    let store = format!("sql:{}", store.display());
    let certutil = || {
        let mut command = Command::new("certutil");
        command.args(["-d", &store]);
        command
    };
    run_command(certutil().args(["-N", "--empty-password"]))?;
    run_command(
        certutil()
            .args(["-A", "-t", "C,,", "-n", "lab", "-i"])
            .arg(authority),
    )?;
    Ok(())
}

fn exchange(request: &str) -> Result<(u16, Vec<u8>)> {
    let driver = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    let mut stream = TcpStream::connect_timeout(&driver, PATIENCE).context("connect to chromedriver")?;
    stream.set_read_timeout(Some(PATIENCE * 2))?;
    stream.write_all(request.as_bytes())?;
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.with_context(|| format!("not a status line: {line:?}"))?;
    let mut length = 0;
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let field = line.trim().to_ascii_lowercase();
        if field.is_empty() {
            break;
        }
        if let Some(value) = field.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok((status, body))
}

/// Decodes base64 with padding (RFC 4648, section 4).
fn base64(text: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0_u32, 0);
    for letter in text.bytes().filter(|&letter| letter != b'=') {
        let six = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => bail!("{letter} is not a letter of base64"),
        };
        bits = bits << 6 | u32::from(six);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_as_rfc_4648_writes_it() {
        let examples = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, coded) in examples {
            assert_eq!(base64(coded).unwrap(), plain.as_bytes());
        }
        assert_eq!(base64("+/8=").unwrap(), [0xfb, 0xff]);
        assert!(base64("Zg!=").is_err());
    }
}
