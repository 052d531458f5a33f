//! The site behind a world's VIPs: a web server on each backend, two app servers and a database behind them, all of
//! them what users get; and [`visitors`], whose browsers ask for pages through the whole of it.
//!
//! The app servers (192.0.2.41 and 42) and the database (192.0.2.51) are hosts on the world's segment. Which tier
//! may reach which is the lab's matter, not this one's.

mod database;
pub mod visitors;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

use self::database::Database;
use crate::artifacts;
use crate::lab::https::{Connection, Trust};
use crate::lab::{SITE, wait};
use crate::netns::Namespace;
use crate::process::Process;
use crate::world::{Backend, Family, World};

/// The port of the web tier.
pub const PORT: u16 = 443;
/// The path of the web servers' health.
pub const HEALTH: &str = "/healthz";
/// The app servers.
const APPS: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 41), Ipv4Addr::new(192, 0, 2, 42)];
const APP_PORT: u16 = 8_000;
/// The database.
const DB: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 51);
/// How long the tiers may take until they answer.
const START: Duration = Duration::from_secs(20);
/// What is written once, and read by every visitor: from the database, by way of an app server.
const ARTICLES: &str = "/api/articles";

/// The running site. Dropped, it ends: servers first, then what they ask.
#[derive(Debug)]
pub struct Site {
    webs: Vec<Process>,
    _apps: Vec<Process>,
    _database: Database,
    apps: Vec<Namespace>,
    _db: Namespace,
    certificate: PathBuf,
}

/// The files that servers are told of.
struct Files<'a> {
    directory: &'a Path,
    certificate: PathBuf,
    key: PathBuf,
    secret: PathBuf,
    password: PathBuf,
}

impl Site {
    /// Starts every tier, and writes an article that visitors can read.
    ///
    /// # Errors
    /// Where one does not start.
    pub fn start(world: &World) -> Result<Self> {
        let files = Files::write(world.directory())?;
        let db = world.host("db", DB)?;
        let database = Database::start(&db, files.directory, PASSWORD)?;
        let apps: Vec<_> = (1..)
            .zip(APPS)
            .map(|(number, address)| world.host(&format!("app{number}"), address))
            .collect::<Result<_>>()?;
        let app_servers = apps
            .iter()
            .zip(APPS)
            .map(|(host, address)| files.app(host, address))
            .collect::<Result<_>>()?;
        let webs: Vec<_> = world
            .backends()
            .map(|backend| files.web(world, backend))
            .collect::<Result<_>>()?;
        let site = Self {
            webs,
            _apps: app_servers,
            _database: database,
            apps,
            _db: db,
            certificate: files.certificate,
        };
        let trust = site.trust()?;
        for (backend, web) in world.backends().zip(&site.webs) {
            let asked = || {
                let answer = site.ask(&trust, backend, |connection| connection.get(ARTICLES))?;
                ensure!(answer.status == 200, "{answer:?}");
                Ok(())
            };
            wait(START, asked).with_context(|| format!("the web server of b{backend}\n{}", web.tail()))?;
        }
        site.ask(&trust, 1, write_article)?;
        Ok(site)
    }

    /// Whom visitors trust.
    ///
    /// # Errors
    /// None that can be expected: the certificate was just made.
    pub fn trust(&self) -> Result<Trust> {
        Trust::only(&self.certificate)
    }

    /// Asks a web server itself, without a balancer.
    fn ask<T: Send>(
        &self,
        trust: &Trust,
        backend: Backend,
        work: impl FnOnce(&mut Connection) -> Result<T> + Send,
    ) -> Result<T> {
        let to = SocketAddr::new(Family::V4.backend(backend), PORT);
        let [first, ..] = &self.apps[..] else {
            bail!("there is no app server");
        };
        first.run(|| work(&mut Connection::open(trust, to)?))
    }
}

/// Of a world that is gone in a minute.
const PASSWORD: &str = "of-the-test-only";

fn write_article(connection: &mut Connection) -> Result<()> {
    let user =
        json!({"user": {"username": "writer", "email": "writer@example.org", "password": "written once"}});
    let answer = connection.post("/api/users", None, &user)?;
    ensure!(answer.status == 201, "{answer:?}");
    let user: Value = serde_json::from_str(&answer.body)?;
    let token = user["user"]["token"].as_str().context("a token")?;
    let article =
        json!({"article": {"title": "Read by all", "description": "d", "body": "b", "tagList": ["a", "b"]}});
    let answer = connection.post(ARTICLES, Some(token), &article)?;
    ensure!(answer.status == 201, "{answer:?}");
    Ok(())
}

impl<'a> Files<'a> {
    fn write(directory: &'a Path) -> Result<Self> {
        let file = |name: &str| directory.join(name);
        let files = Self {
            directory,
            certificate: file("site.crt"),
            key: file("site.key"),
            secret: file("jwt.secret"),
            password: file("db.password"),
        };
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new([SITE.to_owned()])?.self_signed(&key)?;
        fs::write(&files.certificate, certificate.pem())?;
        for (file, text) in [
            (&files.key, key.serialize_pem()),
            (
                &files.secret,
                "of-the-test-only, and longer than 32 bytes".to_owned(),
            ),
            (&files.password, PASSWORD.to_owned()),
        ] {
            fs::write(file, text)?;
            fs::set_permissions(file, fs::Permissions::from_mode(0o600))?;
        }
        Ok(files)
    }

    fn app(&self, host: &Namespace, address: Ipv4Addr) -> Result<Process> {
        let text = format!(
            "listen = \"{address}:{APP_PORT}\"\njwt_secret_file = {:?}\n[database]\nhost = \"{DB}\"\n\
             name = \"foobar\"\nuser = \"foobar_app\"\npassword_file = {:?}\n",
            self.secret, self.password
        );
        self.role(host, "app", &format!("app-{address}"), &text)
    }

    fn web(&self, world: &World, backend: Backend) -> Result<Process> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../foobar-userspace/site");
        let upstreams = APPS.map(|app| format!("{app}:{APP_PORT}"));
        let name = format!("web-b{backend}");
        let text = format!(
            "listen_https = [\"0.0.0.0:{PORT}\", \"[::]:{PORT}\"]\nlisten_http = [\"127.0.0.1:80\"]\n\
             certificate = {:?}\nkey = {:?}\nroot = {root:?}\nupstreams = {upstreams:?}\naccess_log = {:?}\n",
            self.certificate,
            self.key,
            self.directory.join(format!("{name}.access"))
        );
        self.role(world.backend(backend)?, "web", &name, &text)
    }

    /// Starts `foobar ROLE` on a host.
    fn role(&self, host: &Namespace, role: &str, name: &str, config: &str) -> Result<Process> {
        let file = self.directory.join(format!("{name}.toml"));
        fs::write(&file, config)?;
        let mut command = Command::new(artifacts::binary()?);
        command.args([role, "--log", "warn", "--config"]).arg(&file);
        Process::start(host, &mut command, &self.directory.join(format!("{name}.log")))
    }
}
